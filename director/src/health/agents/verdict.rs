//! What a report means for a real server, and the sentence for the log.

use std::net::IpAddr;

use shared::agent::{Report, State};
use shared::time::Time;

use super::{Health, Judgement, ServerKey, ServiceKey, Watch, Watched};
use crate::core::operation::ForwardMethod;
use crate::core::view::AgentView;

/// A judgement that is another one than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of which service.
    pub service: ServiceKey,
    /// Which server.
    pub server: ServerKey,
    /// What is said of it now.
    pub judgement: Judgement,
    /// What was said before, if anything was.
    before: Option<Judgement>,
}

impl Verdict {
    pub(super) fn new(watch: &Watch, before: Option<Judgement>, judgement: Judgement) -> Verdict {
        Verdict {
            service: watch.service,
            server: watch.server,
            judgement,
            before,
        }
    }

    /// A server that nobody judges any more.
    pub(super) fn freed(watch: &Watch) -> Verdict {
        Verdict::new(watch, None, Judgement::default())
    }

    /// For the log; none if only the weight or the details of the reason are others.
    pub fn sentence(&self) -> Option<String> {
        let Judgement { health, reason, .. } = &self.judgement;
        if self.before.as_ref().map(gist) == Some(gist(&self.judgement)) {
            return None;
        }
        let because = reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        let (server, service) = (self.server, self.service);
        Some(format!(
            "{server} is {}, for {service}{because}",
            health.name()
        ))
    }
}

/// What faults an agent names may change with each report.
fn gist(judgement: &Judgement) -> (Health, Option<&str>) {
    let reason = judgement.reason.as_deref();
    let first = reason.map(|reason| reason.split_once(": ").map_or(reason, |(first, _)| first));
    (judgement.health, first)
}

/// What is to be said of a server whose agent sent this report last, or none at all.
pub(super) fn judge(now: Time, watch: &Watch, heard: Option<(&Report, Time)>) -> Judgement {
    let Some((report, arrived)) = heard else {
        return down("its agent has not reported yet".to_owned());
    };
    match report.state {
        State::Leaving => return down("its agent has stopped".to_owned()),
        State::Maintenance => return down("its agent says maintenance".to_owned()),
        State::Ready | State::Drain => {}
    }
    let patience = watch.check.patience(report);
    if arrived + patience <= now {
        let millis = patience.as_millis();
        return down(format!("its agent has not reported for {millis} ms"));
    }
    if let Some(reason) = unfit(watch, report) {
        return down(reason);
    }
    let drains = report.state == State::Drain;
    Judgement {
        health: if drains { Health::Draining } else { Health::Up },
        weight: watch.check.weight(report),
        change: 0,
        reason: drains.then(|| "its agent drains it".to_owned()),
    }
}

fn down(reason: String) -> Judgement {
    Judgement {
        health: Health::Down,
        weight: None,
        change: 0,
        reason: Some(reason),
    }
}

/// What keeps a server from being sent traffic.
fn unfit(watch: &Watch, report: &Report) -> Option<String> {
    let direct = watch.forward == ForwardMethod::Direct;
    // By other methods packets come to the real server's own address.
    let takes_vip = direct || watch.forward == ForwardMethod::Tunnel;
    if direct && !report.arp_suppressed {
        return Some(with_faults("ARP is not suppressed", report));
    }
    if let (ServiceKey::Address { address, .. }, true) = (watch.service, takes_vip) {
        let vip = report.vips.iter().find(|vip| vip.address == address);
        match vip.map(|vip| vip.present) {
            Some(true) => {}
            Some(false) => {
                return Some(with_faults(
                    &format!("it does not have the VIP {address}"),
                    report,
                ));
            }
            None => return Some(format!("its agent does not know the VIP {address}")),
        }
    }
    if !report.healthy {
        let failed = report.checks.iter().filter(|check| !check.ok);
        let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
        let what = match &failed[..] {
            [] => "its agent says that it is not well".to_owned(),
            names => format!("its own check of {} fails", names.join(", ")),
        };
        return Some(with_faults(&what, report));
    }
    None
}

fn with_faults(what: &str, report: &Report) -> String {
    match &report.faults[..] {
        [] => what.to_owned(),
        faults => format!("{what}: {}", faults.join("; ")),
    }
}

pub(super) fn view(
    now: Time,
    address: IpAddr,
    report: &Report,
    arrived: Time,
    servers: Option<&Vec<Watched>>,
) -> AgentView {
    let servers = servers.into_iter().flatten();
    let failed = report.checks.iter().filter(|check| !check.ok);
    let missing = report.vips.iter().filter(|vip| !vip.present);
    AgentView {
        address,
        identity: report.identity.clone(),
        state: report.state.to_string(),
        age_ms: now.since(arrived).as_millis() as u64,
        interval_ms: report.interval,
        healthy: report.healthy,
        arp_suppressed: report.arp_suppressed,
        missing_vips: missing.map(|vip| vip.address).collect(),
        failed_checks: failed.map(|check| check.name.clone()).collect(),
        faults: report.faults.clone(),
        wanted_weight: report.weight,
        cpu_percent: report.load.cpu_percent,
        run_queue_thousandths: report.load.run_queue,
        listen_queue: report.load.listen_queue,
        connections: report.load.connections,
        servers: servers.count() as u64,
    }
}
