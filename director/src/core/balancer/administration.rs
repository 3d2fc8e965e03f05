//! What an administrator changes. The checks and their order are the kernel's (`ip_vs_ctl.c`): an
//! operation that fails has changed nothing.

use std::net::IpAddr;

use shared::time::Time;

use super::{Balancer, Destination};
use crate::core::deny::Deny;
use crate::core::marks::Marks;
use crate::core::operation::{
    MarkRule, Operation, OperationError, ServerGone, ServerKey, ServerSpec, ServiceKey,
    ServiceSpec, TimeoutChange,
};
use crate::core::scheduler::Pool;
use crate::core::server::{self, Role, Server, ServerId};
use crate::core::service::{self, Presence, Service, ServiceId};
use crate::core::stats;

impl Balancer {
    /// Does what the administrator asks, or says why not.
    pub fn apply(&mut self, now: Time, operation: &Operation) -> Result<(), OperationError> {
        match operation {
            Operation::AddService(spec) => self.add_service(now, spec),
            Operation::EditService(spec) => self.edit_service(now, spec),
            Operation::DeleteService(key) => self.delete_service(now, key),
            Operation::Flush => {
                while let Some(key) = self.by_key.keys().next().copied() {
                    self.delete_service(now, &key)?;
                }
                Ok(())
            }
            Operation::AddServer(key, spec) => self.add_server(now, key, spec),
            Operation::EditServer(key, spec) => self.edit_server(now, key, spec),
            Operation::DeleteServer(key, server) => self.delete_server(now, key, server),
            Operation::Zero(Some(key)) => {
                let id = self.id_of(key)?;
                self.zero_service(id);
                Ok(())
            }
            Operation::Zero(None) => {
                let ids: Vec<ServiceId> = self.by_key.values().copied().collect();
                for id in ids {
                    self.zero_service(id);
                }
                self.estimator.zero(&self.traffic);
                Ok(())
            }
            Operation::SetTimeouts(change) => self.set_timeouts(change),
            Operation::SetDeny(rules) => {
                self.deny = Deny::new(rules);
                self.sweep_at = Some(0);
                Ok(())
            }
            Operation::SetMarks(rules) => {
                self.set_marks(rules);
                Ok(())
            }
            Operation::SetLocalClients(on) => {
                self.captures.set_local_clients(*on);
                Ok(())
            }
            Operation::AddLocalAddress { address, .. } => self.add_local_address(*address),
            Operation::DeleteLocalAddress(address) => self.delete_local_address(*address),
            Operation::Drain {
                address,
                port,
                deadline_secs,
                then,
            } => self.drain(now, *address, *port, *deadline_secs, *then),
            Operation::Ready { address, port } => self.undrain(now, *address, *port),
            Operation::SetSysctl { name, value } => {
                self.settings.sysctl.set(name, *value)?;
                self.expiration = self.settings.sysctl.expiration();
                self.switch_defence(now);
                Ok(())
            }
        }
    }

    fn add_service(&mut self, now: Time, spec: &ServiceSpec) -> Result<(), OperationError> {
        if self.by_key.contains_key(&spec.key) {
            return Err(OperationError::ServiceExists(spec.key));
        }
        let mut scheduler = service::check(spec)?;
        self.check_is_not_local(spec)?;
        scheduler.init(&Pool::new(&[], &self.servers));
        self.services_added += 1;
        let mut service = Service::new(spec.clone(), scheduler, self.services_added);
        service.settle_timeouts(&self.settings.timeouts);
        let id = self.services.insert(service);
        self.by_key.insert(spec.key, id);
        self.engines += u32::from(spec.persistence_engine.is_some());
        self.new_services.push(spec.key);
        if let Some(destination) = destination(&spec.key) {
            self.by_destination.insert(destination, id);
        }
        self.settle_service(id);
        self.estimate_at.get_or_insert(now + stats::PERIOD);
        Ok(())
    }

    fn edit_service(&mut self, now: Time, spec: &ServiceSpec) -> Result<(), OperationError> {
        let id = self.id_of(&spec.key)?;
        let mut scheduler = service::check(spec)?;
        self.check_one_packet(id, spec)?;
        let service = &mut self.services[id];
        let former = std::mem::replace(&mut service.spec, spec.clone());
        self.engines -= u32::from(former.persistence_engine.is_some());
        self.engines += u32::from(spec.persistence_engine.is_some());
        service.settle_timeouts(&self.settings.timeouts);
        if former.beyond.slow_start_secs != spec.beyond.slow_start_secs {
            for at in 0..self.services[id].servers.len() {
                self.weigh(now, self.services[id].servers[at]);
            }
        }
        let service = &mut self.services[id];
        let pool = Pool::new(&service.servers, &self.servers);
        // With the same scheduler its state stays.
        if former.scheduler != spec.scheduler {
            scheduler.init(&pool);
            service.scheduler = scheduler;
        } else if former.beyond.slow_start_secs != spec.beyond.slow_start_secs {
            service.scheduler.updated(&pool);
        }
        if former.beyond.server_gone != spec.beyond.server_gone {
            self.settle_failures(id);
        }
        self.settle_service(id);
        Ok(())
    }

    fn delete_service(&mut self, now: Time, key: &ServiceKey) -> Result<(), OperationError> {
        let id = self.id_of(key)?;
        for server in std::mem::take(&mut self.services[id].servers) {
            self.withdraw(now, server);
        }
        self.by_key.remove(key);
        if let Some(destination) = destination(key) {
            self.by_destination.remove(&destination);
        }
        let service = &mut self.services[id];
        service.presence = Presence::Deleted;
        self.engines -= u32::from(service.spec.persistence_engine.is_some());
        self.settle_service(id);
        Ok(())
    }

    fn add_server(
        &mut self,
        now: Time,
        key: &ServiceKey,
        spec: &ServerSpec,
    ) -> Result<(), OperationError> {
        let service_id = self.id_of(key)?;
        self.insert_server(now, key, spec, Role::Real)?;
        self.settle_guard(now, service_id);
        Ok(())
    }

    /// Adds a server, whatever it is there for.
    pub(super) fn insert_server(
        &mut self,
        now: Time,
        key: &ServiceKey,
        spec: &ServerSpec,
        role: Role,
    ) -> Result<(), OperationError> {
        let service_id = self.id_of(key)?;
        check_families(key, spec)?;
        server::check_numbers(spec)?;
        let there = self.position_of(service_id, &spec.key);
        let there = there.map(|at| &self.servers[self.services[service_id].servers[at]]);
        let stands_in = there.is_some_and(Server::is_sorry);
        if there.is_some() && !stands_in {
            return Err(OperationError::ServerExists(*key, spec.key));
        }
        server::check_address(spec)?;
        server::check_known(key, spec)?;
        self.check_full_nat(service_id, spec)?;
        if stands_in {
            // The administrator has not added that one.
            self.dismiss(now, service_id);
        }
        let id = match self.trash.take(*key, spec.key) {
            Some(id) => {
                self.bring_back(id, service_id, spec);
                id
            }
            None => {
                self.services[service_id].server_objects += 1;
                self.servers.insert(Server::new(service_id, spec.clone()))
            }
        };
        self.servers[id].set_role(role);
        self.weigh(now, id);
        let service = &mut self.services[service_id];
        service.servers.insert(0, id);
        let pool = Pool::new(&service.servers, &self.servers);
        service.scheduler.added(&pool);
        self.settle_server(id);
        Ok(())
    }

    fn edit_server(
        &mut self,
        now: Time,
        key: &ServiceKey,
        spec: &ServerSpec,
    ) -> Result<(), OperationError> {
        let service_id = self.id_of(key)?;
        check_families(key, spec)?;
        server::check_numbers(spec)?;
        let Some(position) = self.position_of(service_id, &spec.key) else {
            return Err(OperationError::NoSuchServer(*key, spec.key));
        };
        server::check_known(key, spec)?;
        self.check_full_nat(service_id, spec)?;
        let id = self.services[service_id].servers[position];
        self.servers[id].restate(spec.clone());
        self.weigh(now, id);
        let service = &mut self.services[service_id];
        let pool = Pool::new(&service.servers, &self.servers);
        service.scheduler.updated(&pool);
        self.settle_server(id);
        self.settle_guard(now, service_id);
        Ok(())
    }

    fn delete_server(
        &mut self,
        now: Time,
        key: &ServiceKey,
        server: &ServerKey,
    ) -> Result<(), OperationError> {
        let service_id = self.id_of(key)?;
        let Some(position) = self.position_of(service_id, server) else {
            return Err(OperationError::NoSuchServer(*key, *server));
        };
        self.take_out(now, service_id, position);
        self.settle_guard(now, service_id);
        Ok(())
    }

    /// Takes the server at a position out of its service's list.
    pub(super) fn take_out(&mut self, now: Time, service_id: ServiceId, position: usize) {
        let service = &mut self.services[service_id];
        let id = service.servers.remove(position);
        let pool = Pool::new(&service.servers, &self.servers);
        service.scheduler.deleted(&pool, position);
        self.withdraw(now, id);
    }

    fn zero_service(&mut self, id: ServiceId) {
        let service = &mut self.services[id];
        service.estimator.zero(&service.traffic);
        for &server in &service.servers {
            let server = &mut self.servers[server];
            server.estimator.zero(&server.traffic);
        }
    }

    fn set_marks(&mut self, rules: &[MarkRule]) {
        let marks = Marks::new(rules);
        marks.keys().for_each(|key| self.captures.acquire(key));
        let former = std::mem::replace(&mut self.marks, marks);
        former.keys().for_each(|key| self.captures.release(key));
        let services: Vec<ServiceId> = self.by_key.values().copied().collect();
        for id in services {
            self.settle_service(id);
        }
    }

    fn set_timeouts(&mut self, change: &TimeoutChange) -> Result<(), OperationError> {
        if let Some(secs) = too_long(change) {
            return Err(OperationError::Invalid(format!(
                "timeout {secs} is above {MOST_TIMEOUT_SECS} seconds"
            )));
        }
        self.settings.timeouts.change(change);
        for service in self.services.values_mut() {
            service.settle_timeouts(&self.settings.timeouts);
        }
        Ok(())
    }

    /// A server that has left its service's list. Its connections stay, and with them its key.
    fn withdraw(&mut self, now: Time, id: ServerId) {
        self.servers[id].withdraw();
        self.settle_server(id);
        let server = &self.servers[id];
        let service = &self.services[server.service].spec;
        self.trash.put(now, service.key, server.spec().key, id);
        let resets = service.beyond.server_gone == Some(ServerGone::Reset);
        if self.settings.sysctl.expire_nodest_conn != 0 || resets {
            self.sweep_at = Some(0);
        }
    }

    /// Makes a removed server one of this service, with its connections. Its counters stay only if
    /// the service is the one it was removed from, and not another of the same name.
    fn bring_back(&mut self, id: ServerId, service_id: ServiceId, spec: &ServerSpec) {
        let server = &mut self.servers[id];
        let before = server.service;
        if before != service_id {
            server.estimator.zero(&server.traffic);
            server.service = service_id;
            let moved = server.total();
            let former = &mut self.services[before];
            former.server_objects -= 1;
            former.connections -= moved;
            let service = &mut self.services[service_id];
            service.server_objects += 1;
            service.connections += moved;
            self.settle_service(before);
        }
        self.servers[id].restate(spec.clone());
    }

    pub(super) fn id_of(&self, key: &ServiceKey) -> Result<ServiceId, OperationError> {
        let id = self.by_key.get(key).copied();
        id.ok_or(OperationError::NoSuchService(*key))
    }

    pub(super) fn position_of(&self, service: ServiceId, key: &ServerKey) -> Option<usize> {
        let servers = &self.services[service].servers;
        servers
            .iter()
            .position(|&id| self.servers[id].spec().key == *key)
    }
}

/// Where packets of a service go; none if they are known by a mark.
fn destination(key: &ServiceKey) -> Option<Destination> {
    match *key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => Some((address.into(), port, protocol.0)),
        ServiceKey::Mark { .. } => None,
    }
}

/// From one family to the other lead tunnels, as with the kernel, and FULLNAT, which it has not.
fn check_families(key: &ServiceKey, spec: &ServerSpec) -> Result<(), OperationError> {
    let same = match spec.key.address {
        IpAddr::V4(_) => key.family() == shared::addr::Family::V4,
        IpAddr::V6(_) => key.family() == shared::addr::Family::V6,
    };
    if same || spec.forward.may_change_family() {
        return Ok(());
    }
    Err(OperationError::Invalid(format!(
        "real server {} of service {key} is of another address family and needs a tunnel",
        spec.key
    )))
}

/// A timeout that is above what there may be.
fn too_long(change: &TimeoutChange) -> Option<u32> {
    let TimeoutChange { tcp, tcp_fin, udp } = *change;
    [tcp, tcp_fin, udp]
        .into_iter()
        .find(|&secs| secs > MOST_TIMEOUT_SECS)
}

/// The kernel's limit with 250 ticks per second, 99 days; what the timer wheel reaches is more.
const MOST_TIMEOUT_SECS: u32 = i32::MAX as u32 / 250;
