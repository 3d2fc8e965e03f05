//! What has changed by judgements and quorums: for the log, and for the programs that are to be told.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::checks::ChecksDesk;
use crate::config::{Config, Notices, Service};
use crate::core::balancer::Balancer;
use crate::core::guard::{Change, Guard};
use crate::core::operation::{ServerKey, ServiceKey};

/// What is demanded of each service: of those whose servers are judged, or that demand anything.
pub(super) fn guards(config: &Config) -> BTreeMap<ServiceKey, Guard> {
    let guarded = config.services.iter().filter(|service| {
        let judged = service.checks.all().any(|judges| !judges.is_empty());
        judged || service.guarding.guard != Guard::default()
    });
    let guards = guarded.map(|service| (service.spec.key, service.guarding.guard.clone()));
    guards.collect()
}

/// Says what has changed to the log and to programs.
pub(super) fn tell(changes: Vec<Change>, config: &Config, checks: &mut ChecksDesk) {
    for change in changes {
        log(&change);
        let Some(key) = service_of(&change) else {
            continue;
        };
        let service = |service: &&Service| service.spec.key == key;
        let Some(service) = config.services.iter().find(service) else {
            continue;
        };
        if let Some((words, environment)) = notice(&change, key, &service.guarding.notices) {
            checks.notify(words, environment);
        }
    }
}

/// Programs that were told of the end, and still run.
#[must_use = "they may be killed with the process that does not wait for them"]
pub(super) struct GoodBye(Vec<Child>);

/// keepalived's `omega`: everything that is up counts as down at the end.
pub(super) fn say_good_bye(config: &Config, balancer: &Balancer) -> GoodBye {
    let mut told = Vec::new();
    for service in &config.services {
        let (key, notices) = (service.spec.key, &service.guarding.notices);
        if !notices.omega {
            continue;
        }
        let Some(view) = balancer.service(&key) else {
            continue;
        };
        let up = view
            .servers
            .iter()
            .filter(|server| server.effective_weight > 0);
        let mut changes: Vec<Change> = up
            .map(|server| Change::Down(key, server.spec.key))
            .collect();
        if view.guard.is_some_and(|guard| guard.has_quorum) {
            changes.push(Change::QuorumLost {
                service: key,
                weight: 0,
                quorum: service.guarding.guard.quorum,
                sorry: None,
            });
        }
        for change in changes {
            if let Some((words, environment)) = notice(&change, key, notices) {
                told.extend(start(&words, environment));
            }
        }
    }
    GoodBye(told)
}

impl GoodBye {
    /// Waits until they have ended, but not for long: a service manager kills what a service leaves behind.
    pub(super) fn wait(mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.0.is_empty() && Instant::now() < until {
            self.0
                .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            thread::sleep(LOOK_AGAIN);
        }
        if !self.0.is_empty() {
            let left = self.0.len();
            warn!("{left} programs that were told of the end still run, and may be killed");
        }
    }
}

fn start(words: &[String], environment: Environment) -> Option<Child> {
    let (program, arguments) = words.split_first()?;
    let started = Command::new(program)
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::null())
        .spawn();
    let failed = |error: &io::Error| warn!("{program} was not told of the end: {error}");
    started.inspect_err(failed).ok()
}

type Environment = Vec<(&'static str, String)>;

/// Who is told of a change, and what.
fn notice(
    change: &Change,
    service: ServiceKey,
    notices: &Notices,
) -> Option<(Vec<String>, Environment)> {
    let (words, state, server) = match change {
        Change::Up(_, server) => (notices.server_up.get(server), "up", Some(server)),
        Change::Down(_, server) => (notices.server_down.get(server), "down", Some(server)),
        Change::QuorumGained { .. } => (notices.quorum_up.as_ref(), "up", None),
        Change::QuorumLost { .. } => (notices.quorum_down.as_ref(), "down", None),
        _ => return None,
    };
    let mut environment = vec![
        ("LVS_SERVICE", service.to_string()),
        ("LVS_STATE", state.to_owned()),
    ];
    environment.extend(server.map(|server: &ServerKey| ("LVS_SERVER", server.to_string())));
    Some((words?.clone(), environment))
}

fn service_of(change: &Change) -> Option<ServiceKey> {
    match change {
        Change::Up(service, _)
        | Change::Down(service, _)
        | Change::QuorumLost { service, .. }
        | Change::QuorumGained { service, .. } => Some(*service),
        _ => None,
    }
}

fn log(change: &Change) {
    match change {
        // Their judges have said so, and why.
        Change::Up(..) | Change::Down(..) => {}
        Change::Drained(service, server) => {
            info!("{server} is drained, for {service}: no connection is left");
        }
        Change::QuorumLost {
            service,
            weight,
            quorum,
            sorry,
        } => match sorry {
            Some(sorry) => warn!(
                "{service} has lost its quorum, weight {weight} of {quorum}: sorry server {sorry} serves"
            ),
            None => warn!("{service} has lost its quorum, weight {weight} of {quorum}"),
        },
        Change::QuorumGained {
            service,
            weight,
            quorum,
            sorry,
        } => match sorry {
            Some(sorry) => info!(
                "{service} has its quorum, weight {weight} of {quorum}: sorry server {sorry} is out of service"
            ),
            None => info!("{service} has its quorum, weight {weight} of {quorum}"),
        },
        Change::NoSorry { service, reason } => {
            error!("the sorry server of {service} cannot serve: {reason}");
        }
        Change::Panic {
            service,
            failed,
            all,
        } => error!(
            "{failed} of {all} real servers of {service} have failed at once, which is not believed: all stay \
             in service; look at the network between them and the director"
        ),
        Change::PanicOver(service) => {
            info!("failures of real servers of {service} are believed again");
        }
    }
}

/// For the programs that are told of the end.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
