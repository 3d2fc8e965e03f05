//! Which server the kernel gave each connection, replayed: with connections that stay, connections
//! that are closed at once, UDP, and changes of weights and servers on the way.

use super::*;

#[test]
fn connections_go_where_the_kernel_sent_them() {
    let transcript = include_str!("../../../../tests/golden/sched/sched.out");
    let mut lab = Laboratory::new();
    let mut compared = 0;
    let mut known = false;
    let mut closing = false;
    let mut client_port = 1024;
    for (number, line) in transcript.lines().enumerate() {
        let at = format!("line {}: {line}", number + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["#", "====", scheduler, ..] => {
                // The other schedulers and one-packet scheduling are not there yet.
                known = ["rr", "wrr", "wlc"].contains(scheduler) && !line.contains("one packet");
                closing = line.contains("closed before the next");
            }
            _ if !known => {}
            ["$", "ipvsadm", "-Ln"] => {}
            ["$", "ipvsadm", command @ ..] => {
                if command[0] == "-A" {
                    // Each service was alone.
                    lab = Laboratory::new();
                    lab.balancer.sysctl_mut().expire_nodest_conn = true;
                }
                lab.ipvsadm(&command.join(" "));
                lab.pass(Duration::from_millis(1));
            }
            [">", _, "x", protocol, service, "->", picks @ ..] => {
                for pick in picks {
                    client_port += 1;
                    let client = format!("10.0.0.10:{client_port}");
                    let got = match *protocol {
                        "udp" => destination(lab.udp(&client, service), &lab),
                        _ => connect(&mut lab, &client, service, closing),
                    };
                    assert_eq!(got, *pick, "{at}");
                    compared += 1;
                }
            }
            ["|", "->", server, "Masq", _, active, inactive] => {
                let services = lab.balancer.services();
                let view = services[0]
                    .servers
                    .iter()
                    .find(|s| s.spec.key == server_key(server));
                let view = view.expect(&at);
                assert_eq!(
                    [view.active.to_string(), view.inactive.to_string()],
                    [*active, *inactive],
                    "{at}"
                );
            }
            _ => {}
        }
    }
    assert!(compared > 400, "only {compared} picks were compared");
}

/// Opens a connection, and closes it again.
fn connect(lab: &mut Laboratory, client: &str, service: &str, closing: bool) -> String {
    let class = lab.tcp("S", client, service);
    let name = destination(class, lab);
    if let Class::Request(id) = class {
        let server = lab.balancer.connection(id).destination();
        let server = format!("{}:{}", server.address, server.port);
        lab.tcp("SA", &server, client);
        lab.tcp("A", client, service);
        if closing {
            lab.tcp("FA", client, service);
            lab.tcp("FA", &server, client);
            lab.tcp("A", client, service);
        }
    }
    name
}

/// `r3` for 10.1.0.13, as the servers of the transcript name themselves.
fn destination(class: Class, lab: &Laboratory) -> String {
    match class {
        Class::Request(id) => {
            let [.., host] = lab
                .balancer
                .connection(id)
                .destination()
                .address
                .to_v4_bytes();
            format!("r{}", host - 10)
        }
        Class::NoServer => "ECONNREFUSED".to_owned(),
        other => format!("{other:?}"),
    }
}
