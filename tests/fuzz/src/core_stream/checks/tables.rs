//! Lists and counts agree with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use director::core::balancer::Direction;
use director::core::director::Director;
use director::core::operation::{ForwardMethod, ServerKey, ServiceKey};
use director::core::view::ConnectionView;
use shared::addr::{FlowKey, Protocol};
use shared::time::Time;

use super::super::MOST;
use super::super::script::Scene;

/// What must hold of all connections together.
pub(in super::super) fn tables(director: &Director, now: Time, scene: Scene) {
    let balancer = &director.balancer;
    let (connections, rest) = balancer.connections(now, 0, usize::MAX);
    assert_eq!(rest, None);
    assert_eq!(connections.len(), balancer.connection_count());
    assert!(
        !scene.small || connections.len() <= MOST,
        "more than may be"
    );
    let mut counted = BTreeMap::<_, (u32, u32)>::new();
    for view in &connections {
        if is_template(director, now, view) {
            continue;
        }
        if !awaits_its_client(view) {
            is_found(director, now, view, scene);
        }
        let service = (view.protocol.0, view.virtual_address, view.virtual_port);
        let counts = counted
            .entry((service, view.destination, view.destination_port))
            .or_default();
        if ACTIVE.contains(&view.state.as_str()) {
            counts.0 += 1;
        } else {
            counts.1 += 1;
        }
    }
    if !scene.tells_servers() {
        return;
    }
    for service in balancer.services() {
        let ServiceKey::Address {
            protocol,
            address,
            port,
        } = service.spec.key
        else {
            continue;
        };
        for server in &service.servers {
            let ServerKey {
                address: at,
                port: to,
            } = server.spec.key;
            let key = ((protocol.0, address, port), at, to);
            let counted = counted.get(&key).copied().unwrap_or_default();
            let shown = (server.active, server.inactive);
            assert_eq!(shown, counted, "active and inactive of {}", server.spec.key);
        }
    }
}

/// Who has connections to an address that no service has, as those of deleted ones are, and to whom they lead. No
/// packet makes one for anybody else: what a control connection of FTP says is for its own ends.
pub(in super::super) fn strangers(
    director: &Director,
    now: Time,
) -> BTreeSet<(IpAddr, IpAddr, IpAddr)> {
    let balancer = &director.balancer;
    let (connections, _) = balancer.connections(now, 0, usize::MAX);
    let served = |view: &&ConnectionView| balancer.serves_at(view.virtual_address.into());
    let strange = connections.iter().filter(|view| !served(view));
    let ends = |view: &ConnectionView| (view.client, view.virtual_address, view.destination);
    strange.map(ends).collect()
}

/// No packet belongs to a template, which has no client's port; one in a state of that name may be of a connection.
fn is_template(director: &Director, now: Time, view: &ConnectionView) -> bool {
    let looks_so = TEMPLATE.contains(&view.state.as_str()) && view.client_port == 0;
    let found = director.balancer.find(&request(view)).map(|(id, _)| id);
    looks_so && found.is_none_or(|id| director.balancer.connection_view(now, id) != *view)
}

/// A data connection of FTP whose client has not come yet, and with it its port, is found by no packet.
fn awaits_its_client(view: &ConnectionView) -> bool {
    (view.state.as_str(), view.client_port) == ("LISTEN", 0)
}

fn request(view: &ConnectionView) -> FlowKey {
    key(
        view.protocol,
        (view.client, view.client_port),
        (view.virtual_address, view.virtual_port),
    )
}

/// A connection that is listed is found by the packets of both its ends.
fn is_found(director: &Director, now: Time, view: &ConnectionView, scene: Scene) {
    let found = director.balancer.find(&request(view));
    let (id, direction) = found.expect("a connection is found by its client's packets");
    assert_eq!(direction, Direction::Request);
    let found = director.balancer.connection_view(now, id);
    // A real server may call a client that speaks with another one from the same port.
    if scene.applications && view.protocol == Protocol::UDP && found != *view {
        return;
    }
    assert_eq!(found, *view);
    let connection = director.balancer.connection(id);
    let client = match connection.forward() {
        ForwardMethod::Nat => (view.client, view.client_port),
        ForwardMethod::FullNat => {
            let local = director.balancer.local_end(connection);
            (local.address.ip(), local.port)
        }
        _ => return,
    };
    let server = (view.destination, view.destination_port);
    let found = director.balancer.find(&key(view.protocol, server, client));
    match connection.forward() {
        // Nobody else has that port.
        ForwardMethod::FullNat => assert_eq!(found, Some((id, Direction::Reply)), "{view:?}"),
        // Perhaps another one between the same ends, for another VIP: nobody can tell them apart.
        _ => assert!(found.is_some(), "nor by its server's: {view:?}"),
    }
}

fn key(protocol: Protocol, source: (IpAddr, u16), destination: (IpAddr, u16)) -> FlowKey {
    FlowKey {
        protocol,
        source: source.0.into(),
        source_port: source.1,
        destination: destination.0.into(),
        destination_port: destination.1,
    }
}

/// After time has passed: what was due is done.
pub(in super::super) fn nothing_is_overdue(director: &Director, now: Time) {
    let (connections, _) = director.balancer.connections(now - SLACK, 0, usize::MAX);
    for view in &connections {
        assert!(view.expires_ms > 0, "overdue: {view:?}");
    }
    let waits = director.poll_at().is_some();
    assert!(waits || connections.is_empty(), "nobody will look");
}

/// What a tick of the timer wheel may be late.
const SLACK: Duration = Duration::from_secs(1);
const TEMPLATE: [&str; 2] = ["NONE", "ASSURED"];
const ACTIVE: [&str; 4] = ["ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK"];
