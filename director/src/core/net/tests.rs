use super::*;

const ETH0: u32 = 2;
const ETH1: u32 = 3;
const CLIENT_SIDE: PortId = PortId(0);
const SERVER_SIDE: PortId = PortId(1);

fn addr(text: &str) -> Addr {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(addr(address), length.parse().unwrap())
}

fn port(ifindex: u32, last: u8) -> Port {
    Port {
        ifindex,
        name: format!("eth{last}"),
        mac: Mac([2, 0, 0, 0, 0, last]),
        mtu: 1500,
        up: true,
    }
}

fn route(destination: &str, ifindex: u32, gateway: Option<&str>, metric: u32) -> RouteInfo {
    RouteInfo {
        destination: prefix(destination),
        table: 254,
        metric,
        kind: RouteKind::Unicast {
            ifindex,
            gateway: gateway.map(addr),
        },
        mtu: None,
        source: None,
    }
}

/// Clients on eth0 (10.0.0.0/24, default gateway 10.0.0.254), servers on eth1 (10.1.0.0/24).
fn network() -> Network {
    let mut network = Network::default();
    for event in [
        NetworkEvent::Link(port(ETH0, 0)),
        NetworkEvent::Link(port(ETH1, 1)),
        NetworkEvent::Address {
            ifindex: ETH0,
            prefix: prefix("10.0.0.1/24"),
        },
        NetworkEvent::Address {
            ifindex: ETH0,
            prefix: prefix("10.0.0.100/32"),
        },
        NetworkEvent::Address {
            ifindex: ETH1,
            prefix: prefix("10.1.0.1/24"),
        },
        NetworkEvent::Route(route("10.0.0.0/24", ETH0, None, 0)),
        NetworkEvent::Route(route("10.1.0.0/24", ETH1, None, 0)),
        NetworkEvent::Route(route("0.0.0.0/0", ETH0, Some("10.0.0.254"), 100)),
    ] {
        network.apply(event);
    }
    network
}

fn hop(network: &mut Network, to: &str) -> Hop {
    match network.resolve(&mut CachedHop::default(), addr(to), None) {
        Route::Via(hop) => *hop,
        other => panic!("{to}: {other:?}"),
    }
}

#[test]
fn the_longest_prefix_wins_and_then_the_lowest_metric() {
    let mut network = network();
    assert_eq!(hop(&mut network, "10.1.0.9").port, SERVER_SIDE);
    assert_eq!(hop(&mut network, "192.0.2.1").port, CLIENT_SIDE);
    network.apply(NetworkEvent::Route(route(
        "192.0.2.0/24",
        ETH1,
        Some("10.1.0.254"),
        50,
    )));
    network.apply(NetworkEvent::Route(route(
        "192.0.2.0/24",
        ETH0,
        Some("10.0.0.254"),
        60,
    )));
    assert_eq!(hop(&mut network, "192.0.2.1").port, SERVER_SIDE);
    network.apply(NetworkEvent::RouteGone(route(
        "192.0.2.0/24",
        ETH1,
        Some("10.1.0.254"),
        50,
    )));
    assert_eq!(hop(&mut network, "192.0.2.1").port, CLIENT_SIDE);
}

/// Two routers that advertise themselves, with one metric: when one of them goes, the other is there.
#[test]
fn routes_of_ipv6_are_beside_each_other() {
    let mut network = network();
    let by = |gateway| route("::/0", ETH0, Some(gateway), 1024);
    let (first, second, third) = (by("fe80::1"), by("fe80::2"), by("fe80::3"));
    let gateway = |network: &mut Network| {
        let asked = match network.resolve(&mut CachedHop::default(), addr("2001:db8::1"), None) {
            Route::Via(_) => network.take_asks(),
            _ => return None,
        };
        asked.first().map(|(_, ask)| ask.address)
    };
    network.apply(NetworkEvent::Route(first));
    network.apply(NetworkEvent::Route(second));
    assert_eq!(gateway(&mut network), Some(addr("fe80::1")));
    network.apply(NetworkEvent::RouteGone(first));
    assert_eq!(gateway(&mut network), Some(addr("fe80::2")));
    network.apply(NetworkEvent::Route(first));
    network.apply(NetworkEvent::RouteReplaced(third));
    assert_eq!(gateway(&mut network), Some(addr("fe80::3")));
    network.apply(NetworkEvent::RouteGone(third));
    assert_eq!(
        gateway(&mut network),
        None,
        "those that it replaced are gone"
    );
}

/// The way to an address that was looked for before is the one that would be found now.
#[test]
fn what_was_found_before_is_not_believed_longer() {
    let mut network = network();
    let client = addr("10.0.0.9");
    let from = |mac: u8| Some((CLIENT_SIDE, Mac([2, 0, 0, 0, 9, mac])));
    let look = |network: &mut Network, seen| match network.resolve(
        &mut CachedHop::default(),
        client,
        seen,
    ) {
        Route::Via(hop) => hop.destination,
        other => panic!("{other:?}"),
    };
    assert_eq!(look(&mut network, from(1)), Some(from(1).unwrap().1));
    assert_eq!(look(&mut network, from(1)), Some(from(1).unwrap().1));
    // It has another card now.
    assert_eq!(look(&mut network, from(2)), Some(from(2).unwrap().1));
    assert!(network.take_asks().is_empty());
    // It became a real server: from now on the kernel is asked, and frames are not believed.
    assert_eq!(look(&mut network, None), Some(from(2).unwrap().1));
    assert_eq!(network.take_asks().len(), 1);
    assert_eq!(look(&mut network, from(3)), Some(from(2).unwrap().1));
    assert!(network.take_asks().is_empty());
    network.apply(NetworkEvent::Route(route("10.0.0.9/32", ETH1, None, 0)));
    assert_eq!(look(&mut network, from(3)), None);
}

#[test]
fn routes_by_one_gateway_keep_their_own_mtu() {
    let mut network = network();
    let narrow = RouteInfo {
        mtu: Some(1400),
        ..route("192.0.2.0/24", ETH0, Some("10.0.0.254"), 0)
    };
    network.apply(NetworkEvent::Route(narrow));
    let mut cached = [CachedHop::default(); 2];
    for _ in 0..2 {
        for (cached, (to, mtu)) in cached
            .iter_mut()
            .zip([("192.0.2.1", 1400), ("198.51.100.1", 1500)])
        {
            match network.resolve(cached, addr(to), None) {
                Route::Via(hop) => assert_eq!(hop.mtu, mtu, "{to}"),
                other => panic!("{to}: {other:?}"),
            }
        }
    }
    let mac = Mac([2, 0, 0, 0, 9, 9]);
    let address = addr("10.0.0.254");
    let ifindex = ETH0;
    network.apply(NetworkEvent::Neighbour {
        ifindex,
        address,
        mac,
    });
    for to in ["192.0.2.1", "198.51.100.1"] {
        assert_eq!(hop(&mut network, to).destination, Some(mac));
    }
}

#[test]
fn own_addresses_and_dead_ends() {
    let mut network = network();
    let mut cached = CachedHop::default();
    assert_eq!(
        network.resolve(&mut cached, addr("10.0.0.100"), None),
        Route::Local
    );
    assert_eq!(
        network.resolve(&mut cached, addr("127.0.0.9"), None),
        Route::Local
    );
    assert_eq!(
        network.resolve(&mut cached, addr("2001:db8::1"), None),
        Route::Unreachable
    );
    network.apply(NetworkEvent::Route(RouteInfo {
        kind: RouteKind::Unreachable,
        ..route("198.51.100.0/24", ETH0, None, 0)
    }));
    assert_eq!(
        network.resolve(&mut cached, addr("198.51.100.1"), None),
        Route::Unreachable
    );
    network.apply(NetworkEvent::Link(Port {
        up: false,
        ..port(ETH1, 1)
    }));
    assert_eq!(
        network.resolve(&mut cached, addr("10.1.0.9"), None),
        Route::Unreachable
    );
    assert_eq!(cached, CachedHop::default());
}

#[test]
fn a_cached_hop_follows_the_routes_and_the_neighbours() {
    let mut network = network();
    let mut cached = CachedHop::default();
    let server = addr("10.1.0.11");
    let mac = Mac([2, 1, 1, 1, 1, 1]);
    let Route::Via(hop) = network.resolve(&mut cached, server, None) else {
        panic!()
    };
    assert_eq!(hop.destination, None);
    network.apply(NetworkEvent::Neighbour {
        ifindex: ETH1,
        address: server,
        mac,
    });
    let Route::Via(hop) = network.resolve(&mut cached, server, None) else {
        panic!()
    };
    assert_eq!(
        (hop.destination, hop.source),
        (Some(mac), Mac([2, 0, 0, 0, 0, 1]))
    );
    let other = Mac([2, 9, 9, 9, 9, 9]);
    network.apply(NetworkEvent::Neighbour {
        ifindex: ETH1,
        address: server,
        mac: other,
    });
    network.apply(NetworkEvent::Link(Port {
        mac: mac_of(7),
        ..port(ETH1, 1)
    }));
    let Route::Via(hop) = network.resolve(&mut cached, server, None) else {
        panic!()
    };
    assert_eq!((hop.destination, hop.source), (Some(other), mac_of(7)));
    network.apply(NetworkEvent::Route(route(
        "10.1.0.11/32",
        ETH0,
        Some("10.0.0.9"),
        0,
    )));
    let Route::Via(hop) = network.resolve(&mut cached, server, None) else {
        panic!()
    };
    assert_eq!((hop.port, hop.destination), (CLIENT_SIDE, None));
    network.apply(NetworkEvent::LinkGone { ifindex: ETH0 });
    assert_eq!(
        network.resolve(&mut cached, server, None),
        Route::Unreachable
    );
}

#[test]
fn a_client_on_the_link_is_known_by_its_own_frame() {
    let mut network = network();
    let mac = mac_of(5);
    let seen = Some((CLIENT_SIDE, mac));
    let mut cached = CachedHop::default();
    let Route::Via(hop) = network.resolve(&mut cached, addr("10.0.0.10"), seen) else {
        panic!()
    };
    assert_eq!(hop.destination, Some(mac));
    assert!(network.take_asks().is_empty());
    // Behind a gateway the frame's address is the gateway's, which the kernel must tell.
    let mut cached = CachedHop::default();
    let Route::Via(hop) = network.resolve(&mut cached, addr("192.0.2.1"), seen) else {
        panic!()
    };
    assert_eq!(hop.destination, None);
    assert_eq!(network.take_asks().len(), 1);
}

/// Anybody can write a source address.
#[test]
fn a_frame_does_not_take_over_a_known_server() {
    let mut network = network();
    let server = addr("10.0.0.50");
    let mut cached = CachedHop::default();
    network.resolve(&mut cached, server, None);
    network.apply(NetworkEvent::Neighbour {
        ifindex: ETH0,
        address: server,
        mac: mac_of(50),
    });
    let seen = Some((CLIENT_SIDE, mac_of(66)));
    let Route::Via(hop) = network.resolve(&mut CachedHop::default(), server, seen) else {
        panic!()
    };
    assert_eq!(hop.destination, Some(mac_of(50)));
}

#[test]
fn frames_wait_for_their_neighbour() {
    let mut network = network();
    let server = addr("10.1.0.11");
    let id = hop(&mut network, "10.1.0.11").id;
    assert_eq!(
        network.take_asks(),
        vec![(
            ETH1,
            Ask {
                port: SERVER_SIDE,
                address: server
            }
        )]
    );
    network.hold(id, vec![0; 60]);
    network.hold(id, vec![1; 60]);
    assert!(network.take_ready().is_empty());
    let mac = mac_of(8);
    network.apply(NetworkEvent::Neighbour {
        ifindex: ETH1,
        address: server,
        mac,
    });
    let ready = network.take_ready();
    assert_eq!(ready.len(), 2);
    let (port, frame) = &ready[0];
    assert_eq!(*port, SERVER_SIDE);
    assert_eq!(frame[10..16], mac.0);
    assert_eq!(frame[16..22], [2, 0, 0, 0, 0, 1]);
    assert_eq!((frame[22], ready[1].1[22]), (0, 1));
    assert_eq!(network.take_lost(), 0);
}

#[test]
fn frames_for_a_silent_neighbour_are_counted_and_it_is_asked_again() {
    let mut network = network();
    let server = addr("10.1.0.11");
    let id = hop(&mut network, "10.1.0.11").id;
    network.take_asks();
    for _ in 0..100 {
        network.hold(id, vec![0; 60]);
    }
    assert_eq!(network.take_lost(), 36);
    assert!(network.take_asks().is_empty());
    network.apply(NetworkEvent::NeighbourFailed {
        ifindex: ETH1,
        address: server,
    });
    assert_eq!(network.take_lost(), 64);
    network.hold(id, vec![0; 60]);
    assert_eq!(network.take_asks().len(), 1);
}

#[test]
fn only_neighbours_in_use_are_kept_fresh() {
    let mut network = network();
    let mut cached = CachedHop::default();
    let server = addr("10.1.0.11");
    network.resolve(&mut cached, server, None);
    let event = NetworkEvent::Neighbour {
        ifindex: ETH1,
        address: server,
        mac: mac_of(8),
    };
    network.apply(event);
    assert_eq!(network.take_asks().len(), 1);
    network.refresh();
    assert_eq!(network.take_asks().len(), 1);
    let gone = NetworkEvent::NeighbourGone {
        ifindex: ETH1,
        address: server,
    };
    network.resolve(&mut cached, server, None);
    network.apply(gone.clone());
    assert_eq!(network.take_asks().len(), 1);
    let Route::Via(hop) = network.resolve(&mut cached, server, None) else {
        panic!()
    };
    assert_eq!(hop.destination, Some(mac_of(8)));
    network.refresh();
    network.take_asks();
    network.refresh();
    assert!(network.take_asks().is_empty());
    network.apply(gone);
    let Route::Via(hop) = network.resolve(&mut cached, server, None) else {
        panic!()
    };
    assert_eq!(hop.destination, None);
}

#[test]
fn the_host_answers_with_an_address_of_the_right_network() {
    let network = network();
    assert_eq!(
        network.source_for(Some(CLIENT_SIDE), addr("10.0.0.10")),
        Some(addr("10.0.0.1"))
    );
    assert_eq!(
        network.source_for(Some(SERVER_SIDE), addr("10.1.0.11")),
        Some(addr("10.1.0.1"))
    );
    assert_eq!(
        network.source_for(Some(SERVER_SIDE), addr("192.0.2.1")),
        Some(addr("10.1.0.1"))
    );
    assert_eq!(
        network.source_for(Some(SERVER_SIDE), addr("2001:db8::1")),
        None
    );
}

#[test]
fn all_links_and_addresses_anew_drop_what_is_missing() {
    let mut network = network();
    network.apply(NetworkEvent::Links(vec![port(ETH0, 0)]));
    assert_eq!(network.port_of(ETH1), None);
    assert_eq!(network.port_of(ETH0), Some(CLIENT_SIDE));
    network.apply(NetworkEvent::Addresses(vec![(ETH0, prefix("10.0.0.1/24"))]));
    assert!(network.is_local(addr("10.0.0.1")));
    assert!(!network.is_local(addr("10.0.0.100")));
}

#[test]
fn all_routes_anew_keeps_what_is_equal() {
    let mut network = network();
    let mut cached = CachedHop::default();
    network.resolve(&mut cached, addr("10.1.0.11"), None);
    let before = cached;
    let routes = vec![
        route("0.0.0.0/0", ETH0, Some("10.0.0.254"), 100),
        route("10.1.0.0/24", ETH1, None, 0),
        route("10.0.0.0/24", ETH0, None, 0),
    ];
    network.apply(NetworkEvent::Routes(routes));
    network.resolve(&mut cached, addr("10.1.0.11"), None);
    assert_eq!(cached, before);
    network.apply(NetworkEvent::Routes(Vec::new()));
    assert_eq!(
        network.resolve(&mut cached, addr("10.1.0.11"), None),
        Route::Unreachable
    );
}

fn mac_of(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}
