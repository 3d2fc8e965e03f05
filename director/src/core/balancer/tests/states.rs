//! What the kernel's connections did after every single packet, replayed.

use super::*;

#[test]
fn nat_connections_move_as_the_kernels() {
    replay(include_str!("../../../../tests/golden/states/nat.out"), 145);
}

#[test]
fn direct_routing_connections_move_as_the_kernels() {
    replay(include_str!("../../../../tests/golden/states/dr.out"), 150);
}

#[test]
fn tunnelled_connections_move_as_the_kernels() {
    replay(include_str!("../../../../tests/golden/states/tun.out"), 150);
}

/// `packet_ms` is about what a packet and its listings took when this was recorded.
fn replay(transcript: &str, packet_ms: u64) {
    let packet_time = Duration::from_millis(packet_ms);
    let mut lab = Laboratory::new();
    let mut compared = 0;
    let mut client = String::new();
    for (number, line) in transcript.lines().enumerate() {
        let at = format!("line {}: {line}", number + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // The rest is listings of the end, whose times depend on how long the recording took.
            ["$", "ipvsadm", "-Lnc"] => break,
            ["$", "ipvsadm", "-L", ..] => {}
            ["$", "ipvsadm", command @ ..] => lab.ipvsadm(&command.join(" ")),
            ["$", "sysctl", "-w", setting] => {
                let setting = setting.strip_prefix("net.ipv4.vs.").expect(&at);
                let (name, value) = setting.split_once('=').expect(&at);
                lab.sysctl(name, value.parse().expect(&at));
            }
            [">", who, "sends", "TCP", flags, from, ">", to] => {
                lab.pass(packet_time);
                client = if *who == "c" { *from } else { *to }.to_owned();
                lab.tcp(flags, from, to);
            }
            [">", who, "sends", "UDP", from, ">", to, ..] => {
                lab.pass(packet_time);
                client = if *who == "c" { *from } else { *to }.to_owned();
                lab.udp(from, to);
            }
            [">", secs, "s", "later"] => lab.pass(Duration::from_secs_f64(secs.parse().unwrap())),
            ["|", "active/inactive", "TCP", tcp, "UDP", udp] => {
                lab.pass(Duration::from_millis(30));
                let services = lab.balancer.services();
                let of = |protocol| {
                    let wanted = |key| matches!(key, ServiceKey::Address { protocol: p, .. } if p == protocol);
                    let service = services.iter().find(|s| wanted(s.spec.key)).unwrap();
                    let server = &service.servers[0];
                    [server.active as i32, server.inactive as i32]
                };
                assert_eq!(of(Protocol::TCP), counts(tcp), "{at}");
                assert_eq!(of(Protocol::UDP), counts(udp), "{at}");
                compared += 1;
            }
            ["|", "(no", "entry)"] => {
                let present = connection_of(&lab, &client);
                assert!(present.is_none_or(|c| c.expires_ms == 0), "{at}");
            }
            [
                "|",
                protocol @ ("TCP" | "UDP"),
                expires,
                state,
                from,
                to,
                destination,
            ] => {
                let c = connection_of(&lab, &client).expect(&at);
                let secs = c.expires_ms.saturating_sub(30) / 1000;
                assert_eq!(
                    format!("{:02}:{:02}", secs / 60, secs % 60),
                    *expires,
                    "{at}"
                );
                assert_eq!(c.state, *state, "{at}");
                let text = |address, port| format!("{address}:{port}");
                assert_eq!(c.protocol.to_string(), *protocol, "{at}");
                assert_eq!(text(c.client, c.client_port), *from, "{at}");
                assert_eq!(text(c.virtual_address, c.virtual_port), *to, "{at}");
                assert_eq!(
                    text(c.destination, c.destination_port),
                    *destination,
                    "{at}"
                );
                compared += 1;
            }
            _ => {}
        }
    }
    assert!(compared > 130, "only {compared} lines were compared");
}

fn connection_of(lab: &Laboratory, client: &str) -> Option<ConnectionView> {
    lab.connections()
        .into_iter()
        .find(|c| format!("{}:{}", c.client, c.client_port) == client)
}

fn counts(text: &str) -> [i32; 2] {
    let (active, inactive) = text.split_once('/').unwrap();
    [active, inactive].map(|n| n.parse().unwrap())
}
