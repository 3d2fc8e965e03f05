//! What IPVS has not: what becomes of connections of removed servers, timeouts per service, slow start,
//! denied sources, the budget for half-open connections.

use super::*;
use crate::core::operation::{Beyond, DenyRule, ServerGone};

const WEB: &str = "10.0.0.100:80";

/// TCP and UDP on port 80, each with these servers behind NAT.
fn lab(scheduler: &str, servers: &[u8], beyond: Beyond) -> Laboratory {
    let mut lab = Laboratory::new();
    for protocol in ["-t", "-u"] {
        lab.ipvsadm(&format!("-A {protocol} {WEB} -s {scheduler}"));
        tell(&mut lab, protocol, scheduler, beyond).unwrap();
        for host in servers {
            lab.ipvsadm(&format!("-a {protocol} {WEB} -r 10.1.0.{host}:80 -m"));
        }
    }
    lab
}

fn tell(
    lab: &mut Laboratory,
    protocol: &str,
    scheduler: &str,
    mut beyond: Beyond,
) -> Result<(), OperationError> {
    if protocol == "-u" && beyond.server_gone == Some(ServerGone::Reset) {
        beyond.server_gone = None;
    }
    let command = format!("-E {protocol} {WEB} -s {scheduler}");
    let Operation::EditService(mut spec) = operation(&command) else {
        panic!("{command}");
    };
    spec.beyond = beyond;
    lab.apply(&Operation::EditService(spec))
}

fn gone(way: ServerGone) -> Beyond {
    Beyond {
        server_gone: Some(way),
        ..Beyond::default()
    }
}

fn client(port: u16) -> String {
    format!("10.0.0.10:{port}")
}

fn establish(lab: &mut Laboratory, port: u16) -> String {
    lab.tcp("S", &client(port), WEB);
    let server = lab.went.unwrap();
    let server = format!("{}:{}", server.address, server.port);
    lab.tcp("SA", &server, &client(port));
    lab.tcp("A", &client(port), WEB);
    server
}

fn to(lab: &Laboratory) -> String {
    lab.went
        .map_or_else(String::new, |end| end.address.to_string())
}

#[test]
fn connections_are_kept_by_a_removed_server() {
    let mut lab = lab("rr", &[11, 12], gone(ServerGone::Keep));
    lab.sysctl("expire_nodest_conn", 1);
    let server = establish(&mut lab, 1000);
    lab.ipvsadm(&format!("-d -t {WEB} -r {server}"));
    lab.secs(1);
    assert!(matches!(
        lab.tcp("A", &client(1000), WEB),
        Class::Request(_)
    ));
    assert!(server.starts_with(&to(&lab)));
    // New ones go elsewhere, and a deleted service keeps its connections as well.
    establish(&mut lab, 1001);
    assert!(!server.starts_with(&to(&lab)));
    lab.ipvsadm(&format!("-D -t {WEB}"));
    assert!(matches!(
        lab.tcp("A", &client(1000), WEB),
        Class::Request(_)
    ));
    assert!(matches!(
        lab.tcp("A", &client(1001), WEB),
        Class::Request(_)
    ));
}

#[test]
fn connections_are_rescheduled_with_their_next_packet() {
    let mut lab = lab("rr", &[11, 12], gone(ServerGone::Reschedule));
    lab.udp(&client(1000), WEB);
    let first = to(&lab);
    lab.ipvsadm(&format!("-d -u {WEB} -r {first}:80"));
    assert!(matches!(lab.udp(&client(1000), WEB), Class::Request(_)));
    assert_ne!(to(&lab), first);
    assert_eq!(lab.connections().len(), 1);
    // TCP too, whatever packet it is: the other server will refuse it.
    let server = establish(&mut lab, 2000);
    lab.ipvsadm(&format!("-d -t {WEB} -r {server}"));
    assert!(matches!(
        lab.tcp("A", &client(2000), WEB),
        Class::Request(_)
    ));
    assert!(!server.starts_with(&to(&lab)));
    // With nobody left the client is told so.
    for key in lab.balancer.services() {
        for server in key.servers {
            let (service, server) = (key.spec.key, server.spec.key);
            lab.apply(&Operation::DeleteServer(service, server))
                .unwrap();
        }
    }
    assert_eq!(lab.udp(&client(1000), WEB), Class::NoServer);
    assert_eq!(lab.tcp("A", &client(2000), WEB), Class::NoServer);
    assert_eq!(lab.connections().len(), 0);
}

#[test]
fn connections_are_reset_at_once() {
    let mut lab = lab("rr", &[11, 12], gone(ServerGone::Reset));
    let mut servers = Vec::new();
    for port in 1000..1600 {
        servers.push(establish(&mut lab, port));
    }
    let Class::Request(id) = lab.tcp("A", &client(1000), WEB) else {
        panic!("no connection");
    };
    assert!(lab.balancer.connection(id).is_followed());
    for (from_client, next, acknowledged) in [(true, 101, 501), (false, 700, 101)] {
        let acknowledged = Some(acknowledged);
        let progress = Progress { next, acknowledged };
        lab.balancer.follow(id, from_client, progress);
    }
    lab.ipvsadm(&format!("-d -t {WEB} -r {}", servers[0]));
    // Before the old connection has been closed, a new one from its port is one.
    let class = lab.tcp("S", &client(1002), WEB);
    assert!(matches!(class, Class::Request(_)), "{class:?}");
    assert_ne!(format!("{}:80", to(&lab)), servers[0]);
    lab.pass(Duration::from_millis(1));
    let resets = lab.balancer.take_resets();
    assert_eq!(resets.len(), 299);
    let position = Position {
        client_next: 101,
        server_next: 700,
    };
    assert_eq!(resets[0].client.port, 1000);
    assert_eq!(resets[0].position, position);
    // What the client still sends is answered, and a new connection from its port is one.
    assert_eq!(lab.tcp("A", &client(1000), WEB), Class::Over(id));
    assert!(matches!(
        lab.tcp("A", &client(1001), WEB),
        Class::Request(_)
    ));
    assert!(matches!(
        lab.tcp("S", &client(1000), WEB),
        Class::Request(_)
    ));
    assert_ne!(format!("{}:80", to(&lab)), servers[0]);
    lab.secs(11);
    assert_eq!(lab.connections().len(), 302);
    assert_eq!(lab.balancer.take_resets(), []);
    let refused = tell(&mut lab, "-t", "rr", gone(ServerGone::Reset));
    refused.unwrap();
    let Operation::EditService(mut spec) = operation(&format!("-E -u {WEB} -s rr")) else {
        panic!("no edit");
    };
    spec.beyond = gone(ServerGone::Reset);
    let refused = lab.apply(&Operation::EditService(spec)).unwrap_err();
    assert!(
        refused.to_string().contains("write reschedule"),
        "{refused}"
    );
}

#[test]
fn timeouts_of_a_service_come_before_the_general_ones() {
    let own = TimeoutChange {
        tcp: 30,
        tcp_fin: 0,
        udp: 7,
    };
    let beyond = Beyond {
        timeouts: own,
        ..Beyond::default()
    };
    let mut lab = lab("rr", &[11], beyond);
    lab.ipvsadm("-A -u 10.0.0.100:53 -s rr");
    lab.ipvsadm("-a -u 10.0.0.100:53 -r 10.1.0.11:53 -m");
    let expires = |lab: &Laboratory, port: u16| {
        let connections = lab.connections();
        let found = connections.iter().find(|c| c.client_port == port);
        found.map(|c| c.expires_ms / 1000)
    };
    lab.udp(&client(1), WEB);
    lab.udp(&client(2), "10.0.0.100:53");
    let server = establish(&mut lab, 3);
    assert_eq!(
        [1, 2, 3].map(|port| expires(&lab, port)),
        [Some(7), Some(300), Some(30)]
    );
    lab.ipvsadm("--set 100 50 40");
    lab.udp(&client(1), WEB);
    lab.udp(&client(2), "10.0.0.100:53");
    lab.tcp("FA", &server, &client(3));
    assert_eq!(
        [1, 2, 3].map(|port| expires(&lab, port)),
        [Some(7), Some(40), Some(50)]
    );
    // Packets from now on have the general one again.
    tell(&mut lab, "-u", "rr", Beyond::default()).unwrap();
    assert_eq!(expires(&lab, 1), Some(7));
    lab.udp(&client(1), WEB);
    assert_eq!(expires(&lab, 1), Some(40));
}

#[test]
fn the_share_of_a_new_server_rises_to_its_weight() {
    let beyond = Beyond {
        slow_start_secs: 10,
        ..Beyond::default()
    };
    for scheduler in ["wrr", "wlc", "sed"] {
        let mut lab = lab(scheduler, &[11], beyond);
        lab.secs(20);
        lab.ipvsadm(&format!("-a -t {WEB} -r 10.1.0.12:80 -m"));
        let mut port = 1000;
        let mut share = |lab: &mut Laboratory| {
            (0..100)
                .filter(|_| {
                    port += 1;
                    establish(lab, port);
                    let new = to(lab) == "10.1.0.12";
                    // Nothing stays, or the counts would catch up.
                    lab.tcp("R", &client(port), WEB);
                    lab.pass(Duration::from_millis(1));
                    new
                })
                .count()
        };
        if scheduler == "wrr" {
            assert!(share(&mut lab) <= 10);
            lab.secs(5);
            assert!((25..45).contains(&share(&mut lab)));
            lab.secs(6);
            assert!((49..=51).contains(&share(&mut lab)));
        }
        lab.secs(12);
        let weights: Vec<i32> = lab
            .balancer
            .servers
            .iter()
            .map(|(_, s)| s.weight())
            .collect();
        assert!(weights.iter().all(|&weight| weight == 10), "{weights:?}");
        assert_eq!(lab.balancer.warm_at(), None);
        // In listings the weight is what was asked for; without slow start it is in force again.
        assert_eq!(lab.server(tcp_service(WEB), "10.1.0.12:80").spec.weight, 1);
        tell(&mut lab, "-t", scheduler, Beyond::default()).unwrap();
        assert!(
            lab.balancer
                .servers
                .iter()
                .any(|(_, server)| server.weight() == 1)
        );
    }
    let mut lab = lab("wrr", &[11], beyond);
    let refused = tell(&mut lab, "-t", "sh", beyond).unwrap_err();
    assert!(
        refused.to_string().contains("shares by weight"),
        "{refused}"
    );
}

#[test]
fn denied_sources_are_not_heard_and_their_connections_end() {
    let mut lab = lab("rr", &[11], Beyond::default());
    establish(&mut lab, 1000);
    lab.udp(&client(1000), WEB);
    lab.tcp("S", "10.0.1.10:1000", WEB);
    let rule = |service| DenyRule {
        source: [10, 0, 0, 0].into(),
        length: 24,
        service,
    };
    lab.apply(&Operation::SetDeny(vec![rule(Some(tcp_service(WEB)))]))
        .unwrap();
    lab.pass(Duration::from_millis(1));
    assert_eq!(lab.connections().len(), 2);
    for flags in ["A", "S", "R"] {
        let denied = Class::Drop(Reason::Denied);
        assert_eq!(lab.tcp(flags, &client(1000), WEB), denied, "{flags}");
    }
    assert!(matches!(lab.udp(&client(1000), WEB), Class::Request(_)));
    assert!(matches!(
        lab.tcp("S", "10.0.1.10:1001", WEB),
        Class::Request(_)
    ));
    // What is no service's is the host's affair.
    assert_eq!(lab.tcp("S", &client(1000), "10.0.0.100:81"), Class::NotOurs);
    lab.apply(&Operation::SetDeny(vec![rule(None)])).unwrap();
    lab.pass(Duration::from_millis(1));
    assert_eq!(lab.udp(&client(1000), WEB), Class::Drop(Reason::Denied));
    lab.apply(&Operation::SetDeny(Vec::new())).unwrap();
    establish(&mut lab, 1000);
}

#[test]
fn half_open_connections_make_room_for_each_other_only() {
    let mut lab = Laboratory::with(Settings {
        most_connections: 1000,
        most_half_open: 100,
        ..Settings::default()
    });
    lab.ipvsadm(&format!("-A -t {WEB} -s rr -p 60"));
    lab.ipvsadm(&format!("-a -t {WEB} -r 10.1.0.11:80 -m"));
    for port in 1000..1050 {
        establish(&mut lab, port);
    }
    let spoofed = |n: u32| format!("172.16.{}.{}:{}", n / 250, n % 250, 1024 + n % 60_000);
    for n in 0..10_000 {
        assert!(matches!(lab.tcp("S", &spoofed(n), WEB), Class::Request(_)));
        assert!(lab.balancer.half_open() <= 100);
        if n % 50 == 0 {
            // An honest client has its handshake before a hundred others begin theirs.
            let port = 2000 + (n / 50) as u16;
            lab.tcp("S", &client(port), WEB);
            for other in 0..90 {
                lab.tcp("S", &spoofed(20_000 + n + other), WEB);
            }
            lab.tcp("SA", "10.1.0.11:80", &client(port));
            assert!(matches!(
                lab.tcp("A", &client(port), WEB),
                Class::Request(_)
            ));
        }
    }
    assert_eq!(lab.balancer.half_open(), 100);
    // 50 and 200 are established, 100 half-open with a template each, and one template is the others'.
    assert_eq!(lab.connections().len(), 250 + 200 + 1);
    assert!(lab.balancer.pushed_out() > 9_000);
    for port in (1000..1050).chain(2000..2200) {
        assert!(
            matches!(lab.tcp("A", &client(port), WEB), Class::Request(_)),
            "{port}"
        );
    }
    lab.secs(61);
    assert_eq!(lab.balancer.half_open(), 0);
}

/// Without a flood nobody has to go, however many connections have begun since.
#[test]
fn a_slow_handshake_is_not_pushed_out_without_need() {
    let mut lab = Laboratory::with(Settings {
        most_half_open: 100,
        ..Settings::default()
    });
    lab.ipvsadm(&format!("-A -t {WEB} -s rr"));
    lab.ipvsadm(&format!("-a -t {WEB} -r 10.1.0.11:80 -m"));
    lab.tcp("S", &client(999), WEB);
    for port in 1000..9000 {
        establish(&mut lab, port);
    }
    assert_eq!(
        (lab.balancer.half_open(), lab.balancer.pushed_out()),
        (1, 0)
    );
    assert!(matches!(lab.tcp("A", &client(999), WEB), Class::Request(_)));
}

/// The queue is full of the very connection that is replaced, or that opens once more.
#[test]
fn a_connection_does_not_push_out_itself() {
    let small = Settings {
        most_half_open: 1,
        ..Settings::default()
    };
    let mut lab = Laboratory::with(small);
    lab.ipvsadm(&format!("-A -t {WEB} -s rr"));
    tell(&mut lab, "-t", "rr", gone(ServerGone::Reschedule)).unwrap();
    for host in [11, 12] {
        lab.ipvsadm(&format!("-a -t {WEB} -r 10.1.0.{host}:80 -m"));
    }
    lab.tcp("S", &client(1000), WEB);
    let first = to(&lab);
    lab.ipvsadm(&format!("-d -t {WEB} -r {first}:80"));
    assert!(matches!(
        lab.tcp("S", &client(1000), WEB),
        Class::Request(_)
    ));
    assert_ne!(to(&lab), first);
    assert_eq!((lab.connections().len(), lab.balancer.half_open()), (1, 1));

    let mut lab = Laboratory::with(small);
    lab.sysctl("conn_reuse_mode", 0);
    lab.ipvsadm(&format!("-A -t {WEB} -s rr"));
    lab.ipvsadm(&format!("-a -t {WEB} -r 10.1.0.11:80 -m"));
    let server = establish(&mut lab, 1000);
    for (flags, from, to) in [
        ("FA", client(1000), WEB.to_owned()),
        ("FA", server, client(1000)),
        ("S", client(1000), WEB.to_owned()),
    ] {
        assert_ne!(lab.tcp(flags, &from, &to), Class::NotOurs, "{flags}");
    }
    assert_eq!((lab.connections().len(), lab.balancer.half_open()), (1, 1));
}
