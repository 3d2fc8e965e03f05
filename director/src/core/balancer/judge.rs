//! Real servers that are judged or drained. Both take new connections away from a server and leave alone
//! those that it has; what is configured stays as it is.
//!
//! No template leads to a server that is down or draining, as if its weight were 0 with
//! `expire_quiescent_template`, whatever that switch says: a client that comes again and again would keep
//! a drain from ending, and would be sent to a server that is down.

use std::net::IpAddr;
use std::time::Duration;

use shared::time::Time;

use super::Balancer;
use crate::core::guard::Change;
use crate::core::judgement::{Afterwards, Judge, Judgement, Order};
use crate::core::operation::{OperationError, ServerKey, ServiceKey};
use crate::core::server::{Fitness, ServerId};

impl Balancer {
    /// A judge has looked at a real server. Without one that is configured nothing happens.
    pub fn judge_server(
        &mut self,
        now: Time,
        service: &ServiceKey,
        server: &ServerKey,
        judge: Judge,
        judgement: Judgement,
    ) {
        let Ok(service) = self.id_of(service) else {
            return;
        };
        let Some(position) = self.position_of(service, server) else {
            return;
        };
        let id = self.services[service].servers[position];
        if self.servers[id].has_judgement(judge, &judgement) {
            return;
        }
        let key = self.services[service].spec.key;
        match self.servers[id].set_judgement(now, judge, judgement) {
            Some(Fitness::Fit) => self.changes.push(Change::Up(key, *server)),
            Some(Fitness::Unfit) => self.changes.push(Change::Down(key, *server)),
            None => {}
        }
        self.settle_drain(id);
        self.reweigh(now, id);
        self.settle_guard(now, service);
        // Now it is known whether it is believed.
        self.settle_failure(id);
    }

    /// `lvsadm drain`: of all services.
    pub(super) fn drain(
        &mut self,
        now: Time,
        address: IpAddr,
        port: Option<u16>,
        deadline_secs: Option<u32>,
        then: Afterwards,
    ) -> Result<(), OperationError> {
        let deadline = deadline_secs.map(|secs| now + Duration::from_secs(secs.into()));
        self.order(now, address, port, Some(Order { deadline, then }))?;
        self.drain_at = self.drain_at.into_iter().chain(deadline).min();
        if then == Afterwards::Reset {
            // What is there has to be followed.
            self.sweep_at = Some(0);
        }
        Ok(())
    }

    /// `lvsadm ready`: takes a drain back.
    pub(super) fn undrain(
        &mut self,
        now: Time,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<(), OperationError> {
        self.order(now, address, port, None)
    }

    fn order(
        &mut self,
        now: Time,
        address: IpAddr,
        port: Option<u16>,
        order: Option<Order>,
    ) -> Result<(), OperationError> {
        let all = self
            .by_key
            .values()
            .flat_map(|&id| &self.services[id].servers);
        let meant = all.copied().filter(|&id| {
            let key = self.servers[id].spec().key;
            key.address == address && port.is_none_or(|port| key.port == port)
        });
        let meant: Vec<ServerId> = meant.collect();
        if meant.is_empty() {
            let port = port.map_or_else(String::new, |port| format!(" at port {port}"));
            return Err(OperationError::Unfit(format!(
                "no service has the real server {address}{port}"
            )));
        }
        for id in meant {
            self.servers[id].set_order(now, order);
            self.settle_drain(id);
            self.reweigh(now, id);
            self.settle_guard(now, self.servers[id].service);
        }
        Ok(())
    }

    /// Says so once when a drain has come to its end.
    pub(super) fn settle_drain(&mut self, id: ServerId) {
        let server = &mut self.servers[id];
        if server.has_drained() {
            let service = self.services[server.service].spec.key;
            let change = Change::Drained(service, server.spec().key);
            self.changes.push(change);
        }
    }

    /// What a drain whose deadline has come does with the connections that are left.
    pub(super) fn end_drains(&mut self, now: Time) {
        if self.drain_at.is_none_or(|at| at > now) {
            return;
        }
        self.drain_at = None;
        for server in self.servers.values_mut() {
            let Some(Order {
                deadline: Some(deadline),
                then,
            }) = server.order()
            else {
                continue;
            };
            if deadline > now {
                self.drain_at = self.drain_at.into_iter().chain([deadline]).min();
            } else if then == Afterwards::Reset && !server.is_cut() {
                server.cut();
                self.sweep_at = Some(0);
            }
        }
    }

    /// A server's full weight may be another one now.
    fn reweigh(&mut self, now: Time, id: ServerId) {
        let before = self.servers[id].weight();
        self.weigh(now, id);
        let server = &self.servers[id];
        if server.weight() != before {
            self.tell_scheduler(server.service);
        }
    }
}
