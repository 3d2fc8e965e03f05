//! The reference table and the real balancer side by side: what the balancer accepts or refuses must
//! be what the kernel does, but for what it does not have yet, which it must refuse by that name.

use std::collections::{BTreeMap, BTreeSet};

use director::control::session::Backend;
use director::core::balancer::{Balancer, Settings};
use director::core::operation::{ForwardMethod, Operation, OperationError, ServiceKey};
use director::core::view::{
    ConnectionView, InfoView, ServiceView, StatsView, StatusView, SysctlView, TimeoutsView,
};
use shared::time::Time;

use crate::reference::Table;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Lockstep {
    table: Table,
    balancer: Balancer,
    /// Services that are not the same in both, since something about them is not there yet.
    apart: BTreeSet<ServiceKey>,
    /// Changes that both made or refused alike.
    pub(crate) agreed: usize,
    /// Changes that the balancer cannot make yet.
    pub(crate) not_yet: usize,
}

impl Default for Lockstep {
    fn default() -> Lockstep {
        Lockstep {
            table: Table::default(),
            balancer: Balancer::new(Settings::default(), [1, 2]),
            apart: BTreeSet::new(),
            agreed: 0,
            not_yet: 0,
        }
    }
}

impl Lockstep {
    /// Every service that both have is the same in both, servers in the same order.
    fn compare(&self) {
        let both = |views: Vec<ServiceView>| -> BTreeMap<ServiceKey, ServiceView> {
            let views = views.into_iter().map(|view| (view.spec.key, view));
            views.filter(|(key, _)| !self.apart.contains(key)).collect()
        };
        assert_eq!(both(self.balancer.services()), both(self.table.services()));
    }
}

impl Backend for Lockstep {
    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        let expected = self.table.apply(operation);
        let got = self.balancer.apply(NOW, operation);
        let key = service(operation);
        let apart = key.is_some_and(|key| self.apart.contains(&key));
        match (&got, key) {
            (Err(OperationError::NotYet(_)), Some(key)) => {
                assert!(is_beyond(operation), "{operation:?}: {got:?}");
                self.not_yet += 1;
                if expected.is_ok() {
                    self.apart.insert(key);
                }
            }
            _ if apart => {}
            _ => {
                // The same error; its words are each one's own.
                let kind = |outcome: &Result<(), OperationError>| {
                    outcome.as_ref().map_err(std::mem::discriminant).copied()
                };
                assert_eq!(kind(&got), kind(&expected), "{operation:?}: {got:?}");
                self.agreed += 1;
            }
        }
        match operation {
            Operation::DeleteService(key) if expected.is_ok() => {
                self.apart.remove(key);
            }
            Operation::Flush => self.apart.clear(),
            _ => {}
        }
        self.compare();
        expected
    }

    fn services(&self) -> Vec<ServiceView> {
        self.table.services()
    }

    fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        let expected = self.table.service(key);
        if !self.apart.contains(key) {
            assert_eq!(self.balancer.service(key), expected, "{key}");
        }
        expected
    }

    fn connections(&self, cursor: usize, most: usize) -> (Vec<ConnectionView>, Option<usize>) {
        self.table.connections(cursor, most)
    }

    fn timeouts(&self) -> TimeoutsView {
        assert_eq!(self.balancer.timeouts(), self.table.timeouts());
        self.table.timeouts()
    }

    fn totals(&self) -> StatsView {
        self.balancer.totals()
    }

    fn sysctls(&self) -> Vec<SysctlView> {
        self.balancer.sysctls()
    }

    fn info(&self) -> InfoView {
        self.table.info()
    }

    fn status(&self) -> StatusView {
        self.table.status()
    }
}

/// Whether a change asks for something that is not there yet.
fn is_beyond(operation: &Operation) -> bool {
    let of_service = |key: &ServiceKey| match key {
        ServiceKey::Address { address, .. } => !address.is_ipv4(),
        ServiceKey::Mark { .. } => true,
    };
    match operation {
        Operation::AddService(spec) | Operation::EditService(spec) => of_service(&spec.key),
        Operation::AddServer(key, spec) | Operation::EditServer(key, spec) => {
            of_service(key)
                || !spec.key.address.is_ipv4()
                || ![ForwardMethod::Nat, ForwardMethod::Direct].contains(&spec.forward)
        }
        _ => false,
    }
}

fn service(operation: &Operation) -> Option<ServiceKey> {
    match operation {
        Operation::AddService(spec) | Operation::EditService(spec) => Some(spec.key),
        Operation::DeleteService(key)
        | Operation::AddServer(key, _)
        | Operation::EditServer(key, _)
        | Operation::DeleteServer(key, _) => Some(*key),
        Operation::Zero(key) => *key,
        Operation::Flush
        | Operation::SetTimeouts(_)
        | Operation::SetSysctl { .. }
        | Operation::SetDeny(_)
        | Operation::SetMarks(_)
        | Operation::SetLocalClients(_)
        | Operation::Drain { .. }
        | Operation::Ready { .. }
        | Operation::AddLocalAddress { .. }
        | Operation::DeleteLocalAddress(_) => None,
    }
}

const NOW: Time = Time::from_secs(1000);
