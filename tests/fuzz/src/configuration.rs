//! The configuration file: no text panics, every fault lies inside of the file, and a file without
//! faults can be carried out: by an empty director, and by one that another file was carried out by.
//!
//! The bytes are text: one file, or two with a line `%%%` in between.

use std::collections::BTreeMap;

use director::config::plan::plan;
use director::config::{Config, Faults};
use director::control::session::Backend;
use director::core::operation::{Operation, OperationError, ServerKey, ServerSpec, ServiceKey};

use crate::lockstep::Lockstep;

/// The first file at the start, the second one as a reload.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once("\n%%%\n").unwrap_or((&text, ""));
    let (Some(first), Some(second)) = (read(first), read(second)) else {
        return;
    };
    let mut table = Lockstep::default();
    carry_out(&mut table, &first.operations());
    check(&table, &first);
    let change = plan(&first, &second, &table.services(), &first.local_addresses);
    carry_out(&mut table, &change);
    check(&table, &second);
    for config in [&first, &second] {
        let none = plan(config, config, &table.services(), &config.local_addresses);
        assert!(none.is_empty(), "nothing changed, and yet: {none:?}");
    }
}

fn read(text: &str) -> Option<Config> {
    match Config::parse(text, "file") {
        Ok(config) => Some(config),
        Err(faults) => {
            places_are_inside(text, &faults);
            None
        }
    }
}

fn places_are_inside(text: &str, faults: &Faults) {
    assert!(!faults.faults.is_empty(), "refused without a reason");
    assert!(faults.faults.is_sorted(), "{faults}");
    let lines: Vec<&str> = text.split('\n').collect();
    for fault in &faults.faults {
        let line = fault.line.checked_sub(1).and_then(|at| lines.get(at));
        let length = line.expect("a line of the file").chars().count();
        assert!(
            (1..=length + 1).contains(&fault.column),
            "{faults}: the line has {length} characters"
        );
        assert!(!fault.text.is_empty());
    }
}

/// What the checks of the file let through the kernel must not refuse.
fn carry_out(table: &mut Lockstep, operations: &[Operation]) {
    for operation in operations {
        match table.apply(operation) {
            Ok(()) | Err(OperationError::NotYet(_)) => {}
            Err(error) => panic!("{operation:?}: {error}"),
        }
    }
}

/// What runs is what the file says.
fn check(table: &Lockstep, config: &Config) {
    type Servers = BTreeMap<ServerKey, ServerSpec>;
    let servers = |specs: Vec<ServerSpec>| -> Servers {
        specs.into_iter().map(|spec| (spec.key, spec)).collect()
    };
    let running: BTreeMap<ServiceKey, _> = table
        .services()
        .into_iter()
        .map(|view| {
            let specs = view.servers.into_iter().map(|server| server.spec).collect();
            (view.spec.key, (view.spec, servers(specs)))
        })
        .collect();
    let written: BTreeMap<ServiceKey, _> = config
        .services
        .iter()
        .map(|service| {
            let specs = servers(service.servers.clone());
            (service.spec.key, (service.spec.clone(), specs))
        })
        .collect();
    assert_eq!(running, written);
    assert_eq!(table.timeouts(), config.timeouts);
}
