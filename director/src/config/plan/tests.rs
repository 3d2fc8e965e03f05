//! A plan applied to a model of the director gives what the file says now, and leaves the rest.

use proptest::prelude::*;

use super::*;
use crate::config::{Checks, Guarding};
use crate::core::operation::ForwardMethod;
use crate::core::view::{ServerView, StatsView};
use shared::addr::Protocol;

/// What runs: services and their servers, with the kernel's refusals of what is there or is not.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model(BTreeMap<ServiceKey, (ServiceSpec, BTreeMap<ServerKey, ServerSpec>)>);

impl Model {
    fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        let refusal = || Err(format!("{operation:?}"));
        match operation {
            Operation::AddService(spec) if !self.0.contains_key(&spec.key) => {
                self.0.insert(spec.key, (spec.clone(), BTreeMap::new()));
            }
            Operation::EditService(spec) => match self.0.get_mut(&spec.key) {
                Some((running, _)) => *running = spec.clone(),
                None => return refusal(),
            },
            Operation::DeleteService(key) if self.0.contains_key(key) => {
                self.0.remove(key);
            }
            Operation::AddServer(key, spec) => match self.0.get_mut(key) {
                Some((_, servers)) if !servers.contains_key(&spec.key) => {
                    servers.insert(spec.key, spec.clone());
                }
                _ => return refusal(),
            },
            Operation::EditServer(key, spec) => {
                match self.0.get_mut(key).and_then(|(_, s)| s.get_mut(&spec.key)) {
                    Some(running) => *running = spec.clone(),
                    None => return refusal(),
                }
            }
            Operation::DeleteServer(key, server) => {
                match self.0.get_mut(key).and_then(|(_, s)| s.remove(server)) {
                    Some(_) => {}
                    None => return refusal(),
                }
            }
            _ => return refusal(),
        }
        Ok(())
    }

    fn views(&self) -> Vec<ServiceView> {
        let server = |spec: &ServerSpec| ServerView::new(spec.clone());
        self.0
            .values()
            .map(|(spec, servers)| ServiceView {
                guard: None,
                spec: spec.clone(),
                stats: StatsView::default(),
                servers: servers.values().map(server).collect(),
            })
            .collect()
    }

    /// What the two files do not speak of in this service, or speak of in the same way.
    fn server(&self, service: ServiceKey, server: ServerKey) -> Option<&ServerSpec> {
        self.0.get(&service)?.1.get(&server)
    }

    fn service(&self, service: ServiceKey) -> Option<&ServiceSpec> {
        Some(&self.0.get(&service)?.0)
    }
}

impl From<&Config> for Model {
    fn from(config: &Config) -> Model {
        let mut model = Model::default();
        for operation in config.operations() {
            model.apply(&operation).expect("no service or server twice");
        }
        model
    }
}

fn service_key(n: u8) -> ServiceKey {
    ServiceKey::new(Protocol::TCP, [192, 0, 2, n], 80)
}

fn server_spec(n: u8, weight: i32) -> ServerSpec {
    ServerSpec::new([10, 0, 0, n], 80, ForwardMethod::Nat, weight)
}

fn service(n: u8) -> impl Strategy<Value = Service> {
    let servers = prop::collection::btree_map(1..4u8, 0..3i32, 0..4);
    (prop::sample::select(vec!["rr", "wlc"]), servers).prop_map(move |(scheduler, servers)| {
        Service {
            spec: ServiceSpec::new(service_key(n), scheduler),
            servers: servers
                .into_iter()
                .map(|(n, weight)| server_spec(n, weight))
                .collect(),
            checks: Checks::default(),
            guarding: Guarding::default(),
        }
    })
}

fn config() -> impl Strategy<Value = Config> {
    let services = (1..4u8)
        .map(|n| prop::option::of(service(n)))
        .collect::<Vec<_>>();
    services.prop_map(|services| Config {
        services: services.into_iter().flatten().collect(),
        ..Config::default()
    })
}

proptest! {
    /// `runs` is drawn apart from the files: `lvsadm` can have made anything of the old file.
    #[test]
    fn a_plan_brings_what_changed_and_touches_nothing_else(
        old in config(),
        new in config(),
        runs in config(),
    ) {
        let before = Model::from(&runs);
        let mut after = before.clone();
        for operation in plan(&old, &new, &before.views(), &[]) {
            prop_assert_eq!(after.apply(&operation), Ok(()));
        }
        let (was, is) = (Model::from(&old), Model::from(&new));
        for key in (1..4).map(service_key) {
            if was.service(key) != is.service(key) {
                prop_assert_eq!(after.service(key), is.service(key), "{}", key);
            } else if before.service(key).is_some() {
                prop_assert_eq!(after.service(key), before.service(key), "{}", key);
            }
            let removed = was.service(key).is_some() && is.service(key).is_none();
            let came_back = before.service(key).is_none() && after.service(key).is_some();
            for server in (1..4).map(|n| server_spec(n, 1).key) {
                let (was, is) = (was.server(key, server), is.server(key, server));
                let expected = if removed {
                    None
                } else if was != is || came_back {
                    is
                } else {
                    before.server(key, server)
                };
                prop_assert_eq!(after.server(key, server), expected, "{} {}", key, server);
            }
        }
    }

    #[test]
    fn an_unchanged_file_changes_nothing(file in config(), runs in config()) {
        prop_assert_eq!(plan(&file, &file, &Model::from(&runs).views(), &[]), vec![]);
    }
}

#[test]
fn timeouts_that_the_file_did_not_change_are_kept() {
    let old = Config::default();
    let mut new = old.clone();
    new.timeouts.udp = 60;
    assert_eq!(
        plan(&old, &new, &[], &[]),
        vec![Operation::SetTimeouts(TimeoutChange {
            tcp: 0,
            tcp_fin: 0,
            udp: 60,
        })]
    );
    assert_eq!(old.operations(), vec![]);
}

/// A file with one service of these servers.
fn file_with(servers: &[u8]) -> Config {
    Config {
        services: vec![Service {
            spec: ServiceSpec::new(service_key(1), "rr"),
            servers: servers.iter().map(|&n| server_spec(n, 1)).collect(),
            checks: Checks::default(),
            guarding: Guarding::default(),
        }],
        ..Config::default()
    }
}

#[test]
fn a_service_that_lvsadm_deleted_comes_back_only_when_the_file_brings_something() {
    let both = file_with(&[1, 2]);
    assert_eq!(
        plan(&both, &file_with(&[1]), &[], &[]),
        vec![],
        "a server less"
    );
    assert_eq!(plan(&file_with(&[1]), &both, &[], &[]), both.operations());
}

#[test]
fn local_addresses_that_lvsadm_added_or_removed_stay_so() {
    let file = |numbers: &[u8]| Config {
        local_addresses: numbers.iter().map(|&n| [10, 9, 0, n].into()).collect(),
        ..Config::default()
    };
    let addresses = |numbers: &[u8]| file(numbers).local_addresses;
    let add = |number: u8| Operation::AddLocalAddress {
        address: [10, 9, 0, number].into(),
        interface: None,
    };
    let delete = |number: u8| Operation::DeleteLocalAddress([10, 9, 0, number].into());
    for (before, after, running, expected) in [
        (&[1, 2][..], &[1, 2][..], &[2, 7][..], vec![]),
        (&[1, 2], &[2, 3], &[1, 2, 7], vec![add(3), delete(1)]),
        (&[1, 2], &[2], &[2, 7], vec![]),
        (&[], &[7], &[7], vec![add(7)]),
    ] {
        let operations = plan(&file(before), &file(after), &[], &addresses(running));
        assert_eq!(operations, expected, "{before:?} {after:?} {running:?}");
    }
}

#[test]
fn a_sorry_server_is_not_in_the_way_of_a_real_one() {
    let (old, new) = (file_with(&[1]), file_with(&[1, 2]));
    let mut running = Model::from(&old).views();
    let mut sorry = ServerView::new(server_spec(2, 1));
    sorry.sorry = true;
    running[0].servers.push(sorry);
    let added = Operation::AddServer(service_key(1), server_spec(2, 1));
    assert_eq!(plan(&old, &new, &running, &[]), [added]);
}
