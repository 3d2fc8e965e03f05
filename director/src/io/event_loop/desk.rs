//! What lvsadm asks of everything that runs.

use shared::host::netlink::Netlink;
use shared::time::Time;

use crate::control::session::Backend;
use crate::core::director::Director;
use crate::core::operation::{Operation, OperationError, ServiceKey};
use crate::core::view::{
    AgentView, CheckView, ConnectionView, DropView, InfoView, InterfaceView, ServiceView,
    StatsView, StatusView, SysctlView, TimeoutsView,
};
use crate::io::agents::AgentsDesk;
use crate::io::announce::{Announcer, Source};
use crate::io::checks::ChecksDesk;
use crate::io::local_addresses::LocalAddresses;
use crate::io::rivals::Lookout;
use crate::io::routing::Routing;

/// Answers lvsadm.
pub(super) struct Desk<'a> {
    pub(super) now: Time,
    pub(super) started: Time,
    pub(super) director: &'a mut Director,
    pub(super) announcer: &'a mut Announcer,
    pub(super) locals: &'a mut LocalAddresses,
    pub(super) routing: &'a mut Routing,
    pub(super) agents: &'a AgentsDesk,
    pub(super) checks: &'a ChecksDesk,
    pub(super) lookout: &'a Lookout,
    pub(super) rewatch: &'a mut bool,
    pub(super) netlink: &'a mut Netlink,
    pub(super) interfaces: Vec<InterfaceView>,
    pub(super) capture_keys: u64,
    pub(super) given_back: u64,
    pub(super) table_size: u32,
}

impl Backend for Desk<'_> {
    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        if let Operation::AddService(spec) = operation
            && let ServiceKey::Mark { family, mark } = spec.key
            && !self.director.balancer.marks(mark, family)
        {
            let prepared = self.routing.prepare(family, self.netlink);
            prepared.map_err(|error| {
                OperationError::Unfit(format!("the host cannot route {} here: {error}", spec.key))
            })?;
        }
        let (director, netlink) = (&mut *self.director, &mut *self.netlink);
        if let Err(error) = self.locals.apply(director, self.now, operation, netlink) {
            // It may have been prepared in vain.
            self.routing.settle(self.netlink);
            return Err(error);
        }
        *self.rewatch = true;
        self.announcer.done(operation, Source::Command);
        Ok(())
    }

    fn services(&self) -> Vec<ServiceView> {
        self.director.balancer.services()
    }

    fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.director.balancer.service(key)
    }

    fn connections(&self, cursor: usize, most: usize) -> (Vec<ConnectionView>, Option<usize>) {
        self.director.balancer.connections(self.now, cursor, most)
    }

    fn timeouts(&self) -> TimeoutsView {
        self.director.balancer.timeouts()
    }

    fn totals(&self) -> StatsView {
        self.director.balancer.totals()
    }

    fn sysctls(&self) -> Vec<SysctlView> {
        self.director.balancer.sysctls()
    }

    fn agents(&self) -> Vec<AgentView> {
        self.agents.views(self.now)
    }

    fn checks(&self) -> Vec<CheckView> {
        self.checks.views(self.now)
    }

    fn info(&self) -> InfoView {
        InfoView {
            version: VERSION.to_owned(),
            table_size: self.table_size,
        }
    }

    fn status(&self) -> StatusView {
        let drops = self
            .director
            .drops()
            .iter()
            .filter(|(_, packets)| *packets != 0);
        StatusView {
            version: VERSION.to_owned(),
            uptime_secs: self.now.since(self.started).as_secs(),
            interfaces: self.interfaces.clone(),
            connections: self.director.balancer.connection_count() as u64,
            half_open: u64::from(self.director.balancer.half_open()),
            pushed_out: self.director.balancer.pushed_out(),
            unnamed_clients: self.director.balancer.unnamed_clients(),
            local_addresses: self.director.balancer.local_addresses(),
            reports: self.agents.reports(),
            rivals: self.lookout.views(&self.director.network),
            capture_keys: self.capture_keys,
            given_back: self.given_back,
            drops: drops
                .map(|(reason, packets)| DropView {
                    reason: reason.name().to_owned(),
                    packets,
                })
                .collect(),
        }
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
