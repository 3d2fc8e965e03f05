//! Reload by difference: what the file changed, and nothing else.
//!
//! Three states meet at a reload: what the file said before, what it says now, and what runs, which
//! `lvsadm` may have changed in between. Only what differs between the two files is touched:
//!
//! * what `lvsadm` added stays, and what it edited stays as long as the file says the same as before;
//! * what the file adds and what runs already is edited, if it differs at all;
//! * what the file removes and what is gone already needs nothing;
//! * what the file changes and what is gone comes back, a service with all its servers.
//!
//! A service that the file removes goes with all its servers, also those that `lvsadm` added.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Config, Service};
use crate::core::operation::{
    Operation, ServerKey, ServerSpec, ServiceKey, ServiceSpec, TimeoutChange,
};
use crate::core::view::{ServiceView, TimeoutsView};

/// The operations that bring a running director from one configuration to another, in an order in
/// which none is in the way of the next: `running` are its services, `locals` the local addresses that give
/// ports. Two equal configurations need none.
pub fn plan(
    old: &Config,
    new: &Config,
    running: &[ServiceView],
    locals: &[IpAddr],
) -> Vec<Operation> {
    let before: BTreeMap<ServiceKey, &Service> = by_key(&old.services);
    let after: BTreeMap<ServiceKey, &Service> = by_key(&new.services);
    let running: BTreeMap<ServiceKey, Running<'_>> = running
        .iter()
        .map(|view| (view.spec.key, Running::new(view)))
        .collect();

    let mut operations: Vec<Operation> = switches(old, new).collect();
    operations.extend(timeouts(old.timeouts, new.timeouts));
    if old.deny != new.deny {
        operations.push(Operation::SetDeny(new.deny.clone()));
    }
    if old.marks != new.marks {
        operations.push(Operation::SetMarks(new.marks.clone()));
    }
    if old.local_clients != new.local_clients {
        operations.push(Operation::SetLocalClients(new.local_clients));
    }
    // Before those who need them. Those that go are in nobody's way then, unless they are the last.
    let fresh = not_in(&new.local_addresses, &old.local_addresses);
    operations.extend(fresh.map(|address| Operation::AddLocalAddress {
        address,
        interface: None,
    }));
    let gone = not_in(&old.local_addresses, &new.local_addresses);
    let gone = gone.filter(|address| locals.contains(address));
    let gone = gone.map(Operation::DeleteLocalAddress);
    let (first, last): (Vec<Operation>, Vec<Operation>) =
        gone.partition(|_| !new.local_addresses.is_empty());
    operations.extend(first);
    operations.extend(
        old.services
            .iter()
            .map(|service| service.spec.key)
            .filter(|key| !after.contains_key(key) && running.contains_key(key))
            .map(Operation::DeleteService),
    );
    for service in &new.services {
        let key = service.spec.key;
        let before = before.get(&key).copied();
        match running.get(&key) {
            Some(running) => change(&mut operations, before, service, running),
            None if brings_anything(before, service) => add(&mut operations, service),
            None => {}
        }
    }
    operations.extend(last);
    operations
}

/// What runs of one service.
struct Running<'a> {
    spec: &'a ServiceSpec,
    servers: BTreeMap<ServerKey, &'a ServerSpec>,
}

impl<'a> Running<'a> {
    fn new(view: &'a ServiceView) -> Running<'a> {
        // A sorry server comes and goes by itself.
        let servers = view.servers.iter().filter(|server| !server.sorry);
        let servers = servers.map(|server| &server.spec);
        Running {
            spec: &view.spec,
            servers: servers.map(|spec| (spec.key, spec)).collect(),
        }
    }
}

fn not_in<'a>(these: &'a [IpAddr], those: &'a [IpAddr]) -> impl Iterator<Item = IpAddr> + 'a {
    let these = these.iter().copied();
    these.filter(|address| !those.contains(address))
}

fn by_key(services: &[Service]) -> BTreeMap<ServiceKey, &Service> {
    services
        .iter()
        .map(|service| (service.spec.key, service))
        .collect()
}

/// What stays keeps what `lvsadm sysctl` said.
fn switches(old: &Config, new: &Config) -> impl Iterator<Item = Operation> {
    let both = old.sysctl.all().zip(new.sysctl.all());
    both.filter(|(old, new)| old != new)
        .map(|(_, (name, value))| {
            let name = name.to_owned();
            Operation::SetSysctl { name, value }
        })
}

/// A value that stays is 0, which keeps what `lvsadm --set` said.
fn timeouts(old: TimeoutsView, new: TimeoutsView) -> Option<Operation> {
    let changed = |old: u32, new: u32| if old == new { 0 } else { new };
    (old != new).then(|| {
        Operation::SetTimeouts(TimeoutChange {
            tcp: changed(old.tcp, new.tcp),
            tcp_fin: changed(old.tcp_fin, new.tcp_fin),
            udp: changed(old.udp, new.udp),
        })
    })
}

/// A service that runs.
fn change(
    operations: &mut Vec<Operation>,
    before: Option<&Service>,
    after: &Service,
    running: &Running<'_>,
) {
    let key = after.spec.key;
    if before.is_none_or(|before| before.spec != after.spec) && *running.spec != after.spec {
        operations.push(Operation::EditService(after.spec.clone()));
    }
    let gone = before
        .into_iter()
        .flat_map(|before| &before.servers)
        .map(|server| server.key)
        .filter(|server| !after.servers.iter().any(|after| after.key == *server));
    operations.extend(
        gone.filter(|server| running.servers.contains_key(server))
            .map(|server| Operation::DeleteServer(key, server)),
    );
    for server in after.servers.iter().filter(|server| is_new(before, server)) {
        match running.servers.get(&server.key) {
            Some(running) if **running == *server => {}
            Some(_) => operations.push(Operation::EditServer(key, server.clone())),
            None => operations.push(Operation::AddServer(key, server.clone())),
        }
    }
}

/// A service that does not run, with all its servers.
fn add(operations: &mut Vec<Operation>, service: &Service) {
    operations.push(Operation::AddService(service.spec.clone()));
    let servers = service.servers.iter().cloned();
    operations.extend(servers.map(|server| Operation::AddServer(service.spec.key, server)));
}

/// Whether the file adds or changes something in a service; removing does not count.
fn brings_anything(before: Option<&Service>, after: &Service) -> bool {
    before.is_none_or(|before| before.spec != after.spec)
        || after.servers.iter().any(|server| is_new(before, server))
}

/// Whether the file says something about a server that it did not say before.
fn is_new(before: Option<&Service>, server: &ServerSpec) -> bool {
    before.is_none_or(|before| !before.servers.contains(server))
}

#[cfg(test)]
mod tests;
