//! What administrators do, and what becomes of connections then.

use super::*;
use crate::core::capture::CaptureKey;
use crate::core::operation::{Tunnel, TunnelChecksum};

const WEB: &str = "10.0.0.100:80";
const CLIENT: &str = "10.0.0.10:40000";
const R1: &str = "10.1.0.11:8080";
const R2: &str = "10.1.0.12:8080";

fn web() -> Laboratory {
    let mut lab = Laboratory::new();
    lab.ipvsadm("-A -t 10.0.0.100:80 -s rr");
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m");
    lab
}

fn establish(lab: &mut Laboratory, client: &str) {
    assert!(matches!(lab.tcp("S", client, WEB), Class::Request(_)));
    assert!(matches!(lab.tcp("A", client, WEB), Class::Request(_)));
}

fn refused(lab: &mut Laboratory, command: &str) -> OperationError {
    lab.apply(&operation(command)).expect_err(command)
}

fn reply_key() -> CaptureKey {
    CaptureKey::Reply {
        protocol: Protocol::TCP,
        address: Addr::from_v4_bytes([10, 1, 0, 11]),
        port: 8080,
    }
}

fn service_key() -> CaptureKey {
    CaptureKey::Service {
        protocol: Protocol::TCP,
        address: Addr::v4(VIP),
        port: 80,
    }
}

#[test]
fn errors_come_in_the_kernels_order() {
    let mut lab = web();
    let (web, r1) = (tcp_service(WEB), server_key(R1));
    let mut expect = |command: &str, error: OperationError| {
        assert_eq!(refused(&mut lab, command), error, "{command}");
    };
    let elsewhere = tcp_service("10.0.0.100:81");
    expect(
        "-A -t 10.0.0.100:80 -s nonsense",
        OperationError::ServiceExists(web),
    );
    expect(
        "-A -t 10.0.0.100:81 -s nonsense",
        OperationError::NoSuchScheduler("nonsense".into()),
    );
    expect(
        "-E -t 10.0.0.100:81 -s nonsense",
        OperationError::NoSuchService(elsewhere),
    );
    expect(
        "-D -t 10.0.0.100:81",
        OperationError::NoSuchService(elsewhere),
    );
    expect(
        "-Z -t 10.0.0.100:81",
        OperationError::NoSuchService(elsewhere),
    );
    expect(
        "-a -t 10.0.0.100:81 -r 10.1.0.11:8080 -w -1",
        OperationError::NoSuchService(elsewhere),
    );
    expect(
        "-a -t 10.0.0.100:80 -r 10.1.0.11:8080",
        OperationError::ServerExists(web, r1),
    );
    expect(
        "-e -t 10.0.0.100:80 -r 10.1.0.12:8080",
        OperationError::NoSuchServer(web, server_key(R2)),
    );
    expect(
        "-d -t 10.0.0.100:80 -r 10.1.0.12:8080",
        OperationError::NoSuchServer(web, server_key(R2)),
    );
    for out_of_range in [
        "-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -x 50 -y 100",
        "-a -t 10.0.0.100:80 -r 0.0.0.0:80 -y 10",
    ] {
        assert!(matches!(
            refused(&mut lab, out_of_range),
            OperationError::OutOfRange(_)
        ));
    }
    for address in ["0.0.0.0:80", "224.1.1.1:80", "255.255.255.255:80"] {
        let command = format!("-a -t 10.0.0.100:80 -r {address}");
        assert!(matches!(
            refused(&mut lab, &command),
            OperationError::Invalid(_)
        ));
    }
    let negative = ServerSpec::new([10, 1, 0, 11], 8080, ForwardMethod::Tunnel, -1);
    let error = lab.apply(&Operation::AddServer(web, negative)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "weight -1 of real server 10.1.0.11:8080 is out of range"
    );
    assert_eq!(lab.balancer.services().len(), 1);
    assert_eq!(lab.balancer.services()[0].servers.len(), 1);
}

#[test]
fn what_is_not_there_yet_is_named() {
    let mut lab = web();
    let mut service = |change: fn(&mut ServiceSpec)| {
        let mut spec = ServiceSpec::new(ServiceKey::new(Protocol::TCP, [10, 0, 0, 1], 80), "rr");
        change(&mut spec);
        lab.apply(&Operation::AddService(spec))
            .unwrap_err()
            .to_string()
    };
    let link_local = |s: &mut ServiceSpec| {
        let address = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        s.key = ServiceKey::new(Protocol::TCP, address, 80);
    };
    assert_eq!(
        service(link_local),
        "a service at a link-local address (TCP [fe80::1]:80) is not there yet"
    );
    assert_eq!(
        service(|s| s.key = ServiceKey::new(Protocol(99), [10, 0, 0, 1], 80)),
        "service protocol 99 10.0.0.1:80 is of protocol 99, not of TCP, UDP or SCTP"
    );
    assert_eq!(
        service(|s| s.persistence_engine = Some("pips".to_owned())),
        "there is no persistence engine `pips'"
    );
    let mut server = |forward, tunnel| {
        let mut spec = ServerSpec::new([10, 1, 0, 9], 80, forward, 1);
        spec.tunnel = tunnel;
        let operation = Operation::AddServer(tcp_service(WEB), spec);
        lab.apply(&operation).unwrap_err().to_string()
    };
    let gue = Tunnel::Gue {
        port: 0,
        checksum: TunnelChecksum::None,
    };
    assert_eq!(
        server(ForwardMethod::Tunnel, gue),
        "real server 10.1.0.9:80 needs a GUE port other than 0"
    );
}

#[test]
fn packets_of_nobody_are_the_hosts() {
    let mut lab = web();
    lab.ipvsadm("-A -t 10.0.0.100:0 -s rr");
    lab.ipvsadm("-a -t 10.0.0.100:0 -r 10.1.0.11:0 -m");
    assert_eq!(lab.tcp("A", CLIENT, WEB), Class::NotOurs);
    assert_eq!(lab.tcp("SR", CLIENT, WEB), Class::NotOurs);
    assert_eq!(lab.tcp("S", "10.0.0.10:20", WEB), Class::NotOurs);
    assert_eq!(lab.udp(CLIENT, WEB), Class::NotOurs);
    assert_eq!(lab.tcp("S", CLIENT, "10.0.0.101:80"), Class::NotOurs);
    // Without persistence a service for all ports takes none.
    assert_eq!(lab.tcp("S", CLIENT, "10.0.0.100:81"), Class::NoServer);
    lab.ipvsadm("-e -t 10.0.0.100:80 -r 10.1.0.11:8080 -m -w 0");
    assert_eq!(lab.tcp("S", CLIENT, WEB), Class::NoServer);
}

#[test]
fn a_removed_server_drops_requests_and_still_answers() {
    let mut lab = web();
    establish(&mut lab, CLIENT);
    lab.ipvsadm("-d -t 10.0.0.100:80 -r 10.1.0.11:8080");
    lab.secs(100);
    let counted = lab.balancer.totals();
    assert_eq!(
        lab.tcp("PA", CLIENT, WEB),
        Class::Drop(Reason::ServerRemoved)
    );
    assert_eq!(lab.connections()[0].expires_ms, 800_000);
    assert!(matches!(lab.tcp("PA", R1, CLIENT), Class::Reply(_)));
    assert_eq!(lab.connections()[0].expires_ms, 900_000);
    assert_eq!(lab.balancer.totals().in_packets, counted.in_packets);
    assert_eq!(lab.balancer.totals().out_packets, counted.out_packets);
}

#[test]
fn a_server_comes_back_with_its_connections_and_counters() {
    let mut lab = web();
    establish(&mut lab, CLIENT);
    lab.ipvsadm("-d -t 10.0.0.100:80 -r 10.1.0.11:8080");
    lab.secs(100);
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m -w 5");
    let server = lab.server(tcp_service(WEB), R1);
    assert_eq!(
        (server.spec.weight, server.active, server.inactive),
        (5, 1, 0)
    );
    assert_eq!((server.stats.connections, server.stats.in_packets), (1, 2));
    assert!(matches!(lab.tcp("PA", CLIENT, WEB), Class::Request(_)));
    assert_eq!(lab.server(tcp_service(WEB), R1).stats.in_packets, 3);
}

#[test]
fn a_service_made_again_has_its_servers_connections_but_not_their_counters() {
    let mut lab = web();
    establish(&mut lab, CLIENT);
    lab.ipvsadm("-C");
    lab.ipvsadm("-A -t 10.0.0.100:80 -s wlc");
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m");
    let server = lab.server(tcp_service(WEB), R1);
    assert_eq!((server.active, server.stats.in_packets), (1, 0));
    assert!(matches!(lab.tcp("PA", CLIENT, WEB), Class::Request(_)));
    assert_eq!(lab.balancer.services()[0].stats.in_packets, 1);
}

#[test]
fn an_idle_removed_server_is_forgotten_after_two_minutes() {
    for (secs, kept) in [(170, 1), (190, 0)] {
        let mut lab = web();
        establish(&mut lab, CLIENT);
        lab.tcp("R", CLIENT, WEB);
        lab.secs(20);
        lab.ipvsadm("-d -t 10.0.0.100:80 -r 10.1.0.11:8080");
        lab.secs(secs);
        lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m");
        assert_eq!(
            lab.server(tcp_service(WEB), R1).stats.connections,
            kept,
            "{secs}"
        );
    }
}

#[test]
fn with_expire_nodest_conn_connections_end_with_their_server() {
    let mut lab = web();
    lab.sysctl("expire_nodest_conn", 1);
    establish(&mut lab, CLIENT);
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.12:8080 -m");
    lab.ipvsadm("-d -t 10.0.0.100:80 -r 10.1.0.11:8080");
    assert_eq!(lab.tcp("PA", CLIENT, WEB), Class::NotOurs);
    assert_eq!(lab.connections(), []);

    establish(&mut lab, CLIENT);
    lab.ipvsadm("-d -t 10.0.0.100:80 -r 10.1.0.12:8080");
    lab.pass(Duration::from_millis(1));
    assert_eq!(lab.connections(), []);
}

#[test]
fn a_syn_on_an_old_connection_is_scheduled_anew() {
    for (mode, anew) in [(0, false), (1, true)] {
        let mut lab = web();
        lab.sysctl("conn_reuse_mode", mode);
        establish(&mut lab, CLIENT);
        lab.tcp("FA", CLIENT, WEB);
        lab.tcp("FA", R1, CLIENT);
        assert_eq!(lab.connections()[0].state, "TIME_WAIT");
        lab.ipvsadm("-e -t 10.0.0.100:80 -r 10.1.0.11:8080 -m -w 0");
        lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.12:8080 -m");
        lab.tcp("S", CLIENT, WEB);
        let expected = server_key(if anew { R2 } else { R1 });
        assert_eq!(lab.connections().len(), 1);
        assert_eq!(lab.connections()[0].destination, expected.address);
    }
}

#[test]
fn a_full_table_refuses_new_connections_and_keeps_the_old() {
    let mut lab = Laboratory::with(Settings {
        most_connections: 1,
        ..Settings::default()
    });
    lab.ipvsadm("-A -t 10.0.0.100:80 -s rr");
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -g");
    establish(&mut lab, CLIENT);
    let other = "10.0.0.10:40001";
    assert_eq!(lab.tcp("S", other, WEB), Class::Drop(Reason::TableFull));
    assert!(matches!(lab.tcp("A", CLIENT, WEB), Class::Request(_)));
    lab.tcp("R", CLIENT, WEB);
    lab.secs(11);
    assert!(matches!(lab.tcp("S", other, WEB), Class::Request(_)));
}

#[test]
fn thresholds_keep_connections_away() {
    let mut lab = Laboratory::new();
    lab.ipvsadm("-A -t 10.0.0.100:80 -s rr");
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m -x 2 -y 1");
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.12:8080 -m -x 2 -y 1");
    let got: Vec<bool> = (1..=6)
        .map(|port| lab.tcp("S", &format!("10.0.0.10:{port}"), WEB) != Class::NoServer)
        .collect();
    assert_eq!(got, [true, true, true, true, false, false]);
}

#[test]
fn keys_stay_as_long_as_somebody_uses_them() {
    let mut lab = web();
    assert!(lab.balancer.captures().contains(service_key()));
    assert!(lab.balancer.captures().contains(reply_key()));
    establish(&mut lab, CLIENT);
    // The connection is behind NAT, whatever its server is now.
    lab.ipvsadm("-e -t 10.0.0.100:80 -r 10.1.0.11:8080 -g");
    assert!(lab.balancer.captures().contains(reply_key()));
    lab.ipvsadm("-C");
    assert!(lab.balancer.captures().contains(service_key()));
    assert!(lab.balancer.captures().contains(reply_key()));
    lab.secs(901);
    assert!(!lab.balancer.captures().contains(service_key()));
    assert!(!lab.balancer.captures().contains(reply_key()));
}

#[test]
fn zeroing_clears_counters_and_not_connections() {
    let mut lab = web();
    establish(&mut lab, CLIENT);
    lab.secs(2);
    lab.ipvsadm("-Z -t 10.0.0.100:80");
    let view = &lab.balancer.services()[0];
    assert_eq!(view.stats, crate::core::view::StatsView::default());
    assert_eq!(view.servers[0].stats, view.stats);
    assert_eq!(view.servers[0].active, 1);
    assert_eq!(lab.balancer.totals().connections, 1);
    lab.ipvsadm("-Z");
    assert_eq!(lab.balancer.totals(), view.stats);
}

#[test]
fn services_are_listed_newest_first_in_a_bucket_and_servers_newest_first() {
    let mut lab = web();
    lab.ipvsadm("-a -t 10.0.0.100:80 -r 10.1.0.12:8080 -m");
    // The same bucket: the address and the port differ in the same bit.
    lab.ipvsadm("-A -t 10.0.0.101:81");
    let keys: Vec<ServiceKey> = lab.balancer.services().iter().map(|s| s.spec.key).collect();
    assert_eq!(keys, [tcp_service("10.0.0.101:81"), tcp_service(WEB)]);
    let servers = lab.balancer.services()[1].servers.clone();
    let servers: Vec<ServerKey> = servers.iter().map(|s| s.spec.key).collect();
    assert_eq!(servers, [server_key(R2), server_key(R1)]);
}

#[test]
fn a_timeout_of_zero_keeps_the_present_one() {
    let mut lab = web();
    lab.ipvsadm("--set 0 0 7");
    let timeouts = lab.balancer.timeouts();
    assert_eq!(
        (timeouts.tcp, timeouts.tcp_fin, timeouts.udp),
        (900, 120, 7)
    );
    assert!(matches!(
        refused(&mut lab, "--set 4294967295 0 0"),
        OperationError::Invalid(_)
    ));
}
