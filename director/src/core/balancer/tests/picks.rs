//! Which server the kernel gave each connection, replayed: with connections that stay, connections
//! that are closed at once, UDP, and changes of weights and servers on the way.

use super::*;

#[test]
fn connections_go_where_the_kernel_sent_them() {
    let compared = replay(include_str!("../../../../tests/golden/sched/sched.out"));
    assert_eq!(compared, 1394);
}

/// The clients of 40 addresses, or of 40 ports; and with firewall marks, 40 destinations.
#[test]
fn hashed_clients_go_where_the_kernel_sent_them() {
    let compared = replay(include_str!("../../../../tests/golden/sched/hash.out"));
    assert_eq!(compared, 6224);
}

fn replay(transcript: &str) -> usize {
    let mut lab = Laboratory::new();
    let mut compared = 0;
    let mut service = "";
    let mut closing = false;
    let mut client_port = 1024;
    for (number, line) in transcript.lines().enumerate() {
        let at = format!("line {}: {line}", number + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["#", "====", ..] => closing = line.contains("closed before the next"),
            ["$", "ipvsadm", "-Ln"] => {}
            ["$", "ipvsadm", command @ ..] => {
                service = command[2];
                if command[0] == "-A" {
                    // Each service was alone.
                    lab = Laboratory::new();
                    lab.sysctl("expire_nodest_conn", 1);
                    lab.mark = match command[1] {
                        "-f" => service.parse().expect(&at),
                        _ => UNMARKED,
                    };
                }
                lab.ipvsadm(&command.join(" "));
                lab.pass(Duration::from_millis(1));
            }
            [">", _, "x", protocol, service, "->", picks @ ..] => {
                for pick in picks {
                    client_port += 1;
                    let client = format!("10.0.0.10:{client_port}");
                    let got = match *protocol {
                        "udp" => {
                            let class = lab.udp(&client, service);
                            destination(class, &lab)
                        }
                        _ => connect(&mut lab, &client, service, closing),
                    };
                    assert_eq!(got, *pick, "{at}");
                    compared += 1;
                }
            }
            [">", "destinations", "10.3.0.1..40:", picks @ ..] => {
                for (host, pick) in (1..).zip(picks) {
                    client_port += 1;
                    let client = format!("10.0.0.10:{client_port}");
                    let service = format!("10.3.0.{host}:80");
                    assert_eq!(connect(&mut lab, &client, &service, closing), *pick, "{at}");
                    compared += 1;
                }
            }
            [
                ">",
                "sources",
                "10.0.0.101..140,",
                "source",
                "port",
                port,
                picks @ ..,
            ] => {
                for (host, pick) in (101..).zip(picks) {
                    let client = format!("10.0.0.{host}:{}", port.trim_end_matches(':'));
                    assert_eq!(connect(&mut lab, &client, service, false), *pick, "{at}");
                    compared += 1;
                }
            }
            [
                ">",
                "source",
                client,
                "source",
                "ports",
                "30000..30039:",
                picks @ ..,
            ] => {
                for (port, pick) in (30000..).zip(picks) {
                    let client = format!("{}:{port}", client.trim_end_matches(','));
                    assert_eq!(connect(&mut lab, &client, service, false), *pick, "{at}");
                    compared += 1;
                }
            }
            // The answers come from the servers themselves, which a connected socket does not take.
            [">", "2", "x", "udp", "connected", "socket", ..] => {
                for port in [901, 902] {
                    lab.udp(&format!("10.0.0.10:{port}"), service);
                }
            }
            [
                ">",
                _,
                "x",
                "udp",
                "unconnected",
                "socket",
                "->",
                picks @ ..,
            ] => {
                for pick in picks.iter().filter_map(|pick| pick.split_once("(from")) {
                    let class = lab.udp("10.0.0.10:903", service);
                    assert!(matches!(class, Class::Once(..)), "{at}");
                    assert_eq!(destination(class, &lab), pick.0, "{at}");
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
    compared
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
    match (class, lab.went) {
        (Class::Request(_) | Class::Once(..), Some(server)) => {
            let [.., host] = server.address.to_v4_bytes();
            format!("r{}", host - 10)
        }
        (Class::NoServer, _) => "ECONNREFUSED".to_owned(),
        (other, _) => format!("{other:?}"),
    }
}
