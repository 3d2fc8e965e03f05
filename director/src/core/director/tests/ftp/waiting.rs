//! Data connections whose client or server has not come yet.

use super::*;
use crate::core::operation::{Beyond, ServerGone, ServerKey};

/// As the kernel lists them (6.1).
#[test]
fn what_is_expected_is_listed() {
    let mut director = lab();
    server_says(&mut director, (7001, 1001), PASSIVE);
    client_says(&mut director, (1001, 7001), "PORT 10,0,0,10,156,65\r\n");
    let listed = |director: &Director, now| {
        let (all, _) = director.balancer.connections(now, 0, usize::MAX);
        let listen = all.into_iter().filter(|it| it.state == "LISTEN");
        let lines = listen.map(|it| {
            let ports = (it.client_port, it.virtual_port, it.destination_port);
            (ports, it.expires_ms)
        });
        lines.collect::<Vec<_>>()
    };
    let expected = [((0, 40000, 40000), 120_000), ((40001, 20, 20), 120_000)];
    assert_eq!(listed(&director, NOW), expected);
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 21);
    let servers = |director: &Director| {
        let service = director.balancer.service(&key).unwrap();
        (service.servers[0].active, service.servers[0].inactive)
    };
    assert_eq!(servers(&director), (1, 2));
    // No packet finds the first one by what it lacks.
    let data = segment(((CLIENT, 0), (VIP, 40000)), ACK, (50, 0), &[], b"");
    assert_eq!(from_client(&mut director, &data).verdict, Verdict::Local);
    let data = segment(((CLIENT, 5555), (VIP, 40000)), SYN, (50, 0), &[], b"");
    from_client(&mut director, &data);
    assert_eq!(listed(&director, NOW), expected[1..]);
    assert_eq!(servers(&director), (2, 1));
}

/// The method of its server may be another one by then.
#[test]
fn data_go_as_their_control_connection_does() {
    let mut director = lab();
    server_says(&mut director, (7001, 1001), PASSIVE);
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 21);
    let server = ServerSpec::new(
        std::net::Ipv4Addr::from(SERVER),
        21,
        ForwardMethod::Direct,
        1,
    );
    let change = Operation::EditServer(key, server);
    director.apply(NOW, &change).unwrap();
    let data = segment(((CLIENT, 5555), (VIP, 40000)), SYN, (50, 0), &[], b"");
    let there = from_client(&mut director, &data);
    assert_eq!(read(&there.packet), ((CLIENT, 5555), (SERVER, 40000)));
    let mut later = NOW;
    for _ in 0..3 {
        later = later + std::time::Duration::from_secs(4000);
        director.handle_timeout(later, &mut Outbox::default());
    }
    assert_eq!(director.balancer.connection_count(), 0);
}

#[test]
fn nothing_is_left_of_what_has_not_come() {
    let mut director = lab();
    client_says(&mut director, (1001, 7001), "PORT 10,0,0,10,156,65\r\n");
    server_says(&mut director, (7001, 1001), PASSIVE);
    assert_eq!(taken(&mut director).len(), 4);
    let later = NOW + std::time::Duration::from_secs(130);
    let mut outbox = Outbox::default();
    director.handle_timeout(later, &mut outbox);
    director.handle_timeout(later, &mut outbox);
    let changes = taken(&mut director);
    for key in keys(20, 20).into_iter().chain(keys(40000, 40000)) {
        assert!(changes.contains(&CaptureChange::Remove(key)), "{changes:?}");
    }
    assert_eq!(director.balancer.connection_count(), 1);
}

#[test]
fn a_port_may_be_expected_again_while_data_flows() {
    let mut director = lab();
    server_says(&mut director, (7001, 1001), PASSIVE);
    let data = segment(((CLIENT, 5555), (VIP, 40000)), SYN, (50, 0), &[], b"");
    from_client(&mut director, &data);
    server_says(&mut director, (7001, 1001), PASSIVE);
    taken(&mut director);
    // The server does not want the first one.
    let answer = (((SERVER, 40000), (CLIENT, 5555)), (0, 51));
    let reset = segment(answer.0, 0x14, answer.1, &[], b"");
    from_server(&mut director, &reset);
    let later = NOW + std::time::Duration::from_secs(60);
    director.handle_timeout(later, &mut Outbox::default());
    assert_eq!(director.balancer.connection_count(), 2);
    assert_eq!(taken(&mut director), []);
    let data = segment(((CLIENT, 5556), (VIP, 40000)), SYN, (50, 0), &[], b"");
    let there = from_client(&mut director, &data);
    assert_eq!(read(&there.packet), ((CLIENT, 5556), (SERVER, 40000)));
}

/// Nobody is there who could be told.
#[test]
fn what_waits_ends_with_its_server() {
    let mut director = lab();
    server_says(&mut director, (7001, 1001), PASSIVE);
    client_says(&mut director, (1001, 7001), "PORT 10,0,0,10,156,65\r\n");
    let service = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 21);
    let spec = ServiceSpec {
        beyond: Beyond {
            server_gone: Some(ServerGone::Reset),
            ..Beyond::default()
        },
        ..ServiceSpec::new(service, "rr")
    };
    let server = ServerKey {
        address: std::net::Ipv4Addr::from(SERVER).into(),
        port: 21,
    };
    for operation in [
        Operation::EditService(spec),
        Operation::DeleteServer(service, server),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    let mut outbox = Outbox::default();
    director.handle_timeout(NOW, &mut outbox);
    // The client of the control connection, of which no numbers are known.
    assert_eq!(outbox.drain().count(), 1);
    assert_eq!(director.balancer.connection_count(), 1);
}
