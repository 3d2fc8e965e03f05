//! Large frames that go into their tunnel whole.

use super::laboratory::*;
use super::tunnels::tunnelling;
use crate::core::director::Director;
use crate::core::operation::{
    ForwardMethod, Operation, ServerSpec, ServiceKey, Tunnel, TunnelChecksum,
};
use crate::core::verdict::Verdict;
use shared::addr::Protocol;

const GUE: Tunnel = Tunnel::Gue {
    port: 6080,
    checksum: TunnelChecksum::None,
};

fn large(fragment: u16) -> Sketch {
    Sketch {
        payload: vec![7; 5000],
        fragment,
        ..tcp((CLIENT, 40001), (VIP, 80), ACK | SYN)
    }
}

fn offer(director: &mut Director, sketch: &Sketch) -> Outcome {
    let (vnet, packet) = sketch.partial(1400);
    offered(director, vnet, &packet)
}

fn syn(fragment: u16) -> Sketch {
    Sketch {
        kind: Kind::Tcp(SYN),
        ..large(fragment)
    }
}

/// The kernel does what it is asked.
fn obey(director: &mut Director) -> usize {
    let requests = director.take_tunnel_requests();
    for request in &requests {
        director.tunnel_ready(request);
    }
    requests.len()
}

const DF: u16 = shared::wire::ipv4::DF;

#[test]
fn the_kernel_is_asked_once_and_then_gets_frames_whole() {
    let mut director = tunnelling(GUE);
    for _ in 0..3 {
        assert_eq!(offer(&mut director, &syn(DF)).verdict, Verdict::Consumed);
    }
    assert_eq!(obey(&mut director), 1);
    let out = offer(&mut director, &syn(DF));
    assert!(matches!(out.verdict, Verdict::Encapsulate(INSIDE, _)));
    assert_eq!(out.ethernet, (SERVER_MAC, INSIDE_MAC));
    // It is as it came, but for its time to live.
    let (vnet, packet) = Sketch { ttl: 63, ..syn(DF) }.partial(1400);
    assert_eq!((out.vnet, out.packet), (vnet, packet));
    assert_eq!(obey(&mut director), 0);
}

#[test]
fn what_the_kernel_could_not_do_right_the_director_does() {
    // The sum outside covers what is inside.
    for tunnel in [
        Tunnel::Gue {
            port: 6080,
            checksum: TunnelChecksum::Full,
        },
        Tunnel::Gre {
            checksum: TunnelChecksum::Full,
        },
    ] {
        let mut director = tunnelling(tunnel);
        offer(&mut director, &syn(DF));
        assert_eq!(obey(&mut director), 0);
        assert_eq!(offer(&mut director, &syn(DF)).verdict, Verdict::Consumed);
    }
    let mut director = tunnelling(GUE);
    offer(&mut director, &syn(DF));
    obey(&mut director);
    // Fragments of outer packets are told apart by an identification that only the director counts.
    assert_eq!(offer(&mut director, &syn(0)).verdict, Verdict::Consumed);
    // Segments of UDP.
    let datagrams = Sketch {
        payload: vec![7; 5000],
        fragment: DF,
        ..udp((CLIENT, 40001), (VIP, 53))
    };
    assert_eq!(offer(&mut director, &datagrams).verdict, Verdict::Consumed);
    // With the header it would be longer than a packet can be.
    let longest = Sketch {
        payload: vec![7; 65_470],
        ..syn(DF)
    };
    assert_eq!(offer(&mut director, &longest).verdict, Verdict::Consumed);
}

#[test]
fn another_tunnel_another_route_and_an_interface_that_went_are_asked_for_again() {
    let mut director = tunnelling(GUE);
    let whole = |director: &mut Director| {
        let verdict = offer(director, &syn(DF)).verdict;
        matches!(verdict, Verdict::Encapsulate(..))
    };
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 80);
    let address = std::net::Ipv4Addr::from(SERVER);
    let mut server = ServerSpec::new(address, 80, ForwardMethod::Tunnel, 1);
    server.tunnel = Tunnel::Ipip;
    let edit = Operation::EditServer(key, server);
    let changes: [&dyn Fn(&mut Director); 4] = [
        &|_| {},
        &|director| director.apply(NOW, &edit).unwrap(),
        &|director| {
            let other = route([192, 0, 2, 0], 24, 1, None);
            director.network_changed(other, &mut Default::default());
        },
        &Director::tunnels_unready,
    ];
    for change in changes {
        change(&mut director);
        assert!(!whole(&mut director));
        // An answer to a question before the last one is none.
        let stale = director.take_tunnel_requests();
        director.tunnels_unready();
        stale
            .iter()
            .for_each(|request| director.tunnel_ready(request));
        assert!(!whole(&mut director));
        assert_eq!(obey(&mut director), 1);
        assert!(whole(&mut director));
    }
}
