//! What `lvsadm status` says of services, real servers and their agents.

use std::fmt::{self, Write};

use crate::core::judgement::{Afterwards, DrainView};
use crate::core::view::{AgentView, CheckView, ReportsView, ServerView, ServiceView};

/// Services with their servers; then the checks, if there are any, and the agents, if somebody listens to them.
pub fn report(
    services: &[ServiceView],
    checks: &[CheckView],
    agents: &[AgentView],
    reports: Option<&ReportsView>,
) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_services(&mut text, services);
    let _ = write_checks(&mut text, checks);
    if let Some(reports) = reports {
        let _ = write_agents(&mut text, agents, reports);
    }
    text
}

fn write_services(text: &mut String, services: &[ServiceView]) -> fmt::Result {
    writeln!(text, "services")?;
    if services.is_empty() {
        writeln!(text, "  none")?;
    }
    for service in services {
        writeln!(text, "  {} {}", service.spec.key, service.spec.scheduler)?;
        for server in &service.servers {
            write_server(text, server)?;
        }
    }
    Ok(())
}

fn write_server(text: &mut String, view: &ServerView) -> fmt::Result {
    let (key, health) = (view.spec.key.to_string(), view.health.name());
    write!(
        text,
        "    {key:<21} {health:<8}  weight {}",
        view.effective_weight
    )?;
    if view.effective_weight != view.spec.weight {
        write!(text, " (configured {})", view.spec.weight)?;
    }
    write!(text, ", {} active, {} inactive", view.active, view.inactive)?;
    if view.persistent > 0 {
        write!(text, ", {} persistent", view.persistent)?;
    }
    writeln!(text)?;
    if let Some(reason) = &view.reason {
        writeln!(text, "      {reason}")?;
    }
    if let Some(drain) = &view.drain {
        writeln!(text, "      {}", progress(drain))?;
    }
    Ok(())
}

fn progress(drain: &DrainView) -> String {
    let by = if drain.ordered { "lvsadm" } else { "its agent" };
    let mut text = format!(
        "drained by {by} for {} s: {} of {} left",
        drain.secs, drain.left, drain.held
    );
    match drain.estimate_secs {
        Some(0) if drain.left == 0 => text.push_str(", done"),
        Some(secs) => text.push_str(&format!(", some {secs} s to go")),
        None => {}
    }
    if let Some(secs) = drain.deadline_secs {
        let then = match drain.then {
            Afterwards::Keep => "kept",
            Afterwards::Reset => "reset",
        };
        text.push_str(&format!(
            ", deadline in {secs} s, what is left then is {then}"
        ));
    }
    text
}

fn write_checks(text: &mut String, checks: &[CheckView]) -> fmt::Result {
    if !checks.is_empty() {
        writeln!(text, "checks")?;
    }
    for view in checks {
        let CheckView { check, secs, .. } = view;
        let health = if view.up { "up" } else { "down" };
        write!(text, "  {check:<32} {health} for {secs} s")?;
        match &view.failure {
            Some(failure) if view.up => write!(text, ", and tried again: {failure}")?,
            Some(failure) => write!(text, ": {failure}")?,
            None if view.checked => {}
            None => write!(text, ", not made yet")?,
        }
        writeln!(text)?;
    }
    Ok(())
}

fn write_agents(text: &mut String, agents: &[AgentView], reports: &ReportsView) -> fmt::Result {
    writeln!(text, "agents")?;
    if agents.is_empty() {
        writeln!(text, "  none has reported")?;
    }
    for agent in agents {
        write_agent(text, agent)?;
    }
    writeln!(text, "reports")?;
    writeln!(text, "  {:<32} {}", "good", reports.good)?;
    for ignored in &reports.ignored {
        writeln!(text, "  {:<32} {}", ignored.reason, ignored.packets)?;
    }
    Ok(())
}

fn write_agent(text: &mut String, view: &AgentView) -> fmt::Result {
    let load = view.run_queue_thousandths;
    write!(
        text,
        "  {:<15} {} {}, {} ms ago, CPU {} %, load {}.{:02}, {} waiting, {} connections",
        view.address,
        view.identity,
        view.state,
        view.age_ms,
        view.cpu_percent,
        load / 1000,
        load % 1000 / 10,
        view.listen_queue,
        view.connections
    )?;
    if let Some(weight) = view.wanted_weight {
        write!(text, ", wants weight {weight}")?;
    }
    writeln!(text)?;
    let mut note = |note: &str| writeln!(text, "      {note}");
    if view.servers == 0 {
        note("it judges no real server of a service")?;
    }
    if !view.arp_suppressed {
        note("ARP is not suppressed")?;
    }
    for vip in &view.missing_vips {
        note(&format!("the VIP {vip} is missing"))?;
    }
    for check in &view.failed_checks {
        note(&format!("its check of {check} fails"))?;
    }
    for fault in &view.faults {
        note(fault)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shared::addr::Protocol;

    use super::*;
    use crate::core::judgement::Health;
    use crate::core::operation::{ForwardMethod, ServerSpec, ServiceKey, ServiceSpec};
    use crate::core::view::{DropView, StatsView};

    #[test]
    fn services_servers_and_agents_are_in_one_screen() {
        let server = |host, weight| {
            let address = Ipv4Addr::new(10, 1, 0, host);
            ServerView::new(ServerSpec::new(address, 80, ForwardMethod::Direct, weight))
        };
        let key = ServiceKey::new(Protocol::TCP, Ipv4Addr::new(10, 0, 0, 100), 80);
        let services = [ServiceView {
            guard: None,
            spec: ServiceSpec::new(key, "wrr"),
            stats: StatsView::default(),
            servers: vec![
                ServerView {
                    active: 12,
                    inactive: 3,
                    effective_weight: 40,
                    ..server(11, 1)
                },
                ServerView {
                    health: Health::Down,
                    effective_weight: 0,
                    reason: Some("ARP is not suppressed: arp_ignore of eth0 is 0".to_owned()),
                    ..server(12, 1)
                },
                ServerView {
                    health: Health::Draining,
                    effective_weight: 0,
                    persistent: 2,
                    drain: Some(DrainView {
                        ordered: true,
                        secs: 60,
                        held: 40,
                        left: 10,
                        estimate_secs: Some(20),
                        deadline_secs: Some(540),
                        then: Afterwards::Reset,
                    }),
                    ..server(13, 1)
                },
            ],
        }];
        let agents = [AgentView {
            address: Ipv4Addr::new(10, 1, 0, 12).into(),
            identity: "rs2".to_owned(),
            state: "ready".to_owned(),
            age_ms: 120,
            interval_ms: 200,
            healthy: false,
            arp_suppressed: false,
            missing_vips: vec![Ipv4Addr::new(10, 0, 0, 101).into()],
            failed_checks: vec!["nginx".to_owned()],
            faults: vec!["arp_ignore of eth0 is 0".to_owned()],
            wanted_weight: Some(100),
            cpu_percent: 37,
            run_queue_thousandths: 1259,
            listen_queue: 3,
            connections: 812,
            servers: 0,
        }];
        let reports = ReportsView {
            good: 100,
            ignored: vec![DropView {
                reason: "forged".to_owned(),
                packets: 2,
            }],
        };
        let check = |check: &str, up, failure: Option<&str>| CheckView {
            check: check.to_owned(),
            kind: "tcp".to_owned(),
            servers: Vec::new(),
            up,
            checked: failure.is_some(),
            secs: 7,
            failure: failure.map(str::to_owned),
        };
        let checks = [
            check("http 10.1.0.11:80 /healthz", true, None),
            check("tcp 10.1.0.12:80", false, Some("refused")),
            check("ping 10.1.0.13", true, Some("refused")),
        ];
        let expected = "\
services
  TCP 10.0.0.100:80 wrr
    10.1.0.11:80          up        weight 40 (configured 1), 12 active, 3 inactive
    10.1.0.12:80          down      weight 0 (configured 1), 0 active, 0 inactive
      ARP is not suppressed: arp_ignore of eth0 is 0
    10.1.0.13:80          draining  weight 0 (configured 1), 0 active, 0 inactive, 2 persistent
      drained by lvsadm for 60 s: 10 of 40 left, some 20 s to go, deadline in 540 s, what is left then is reset
checks
  http 10.1.0.11:80 /healthz       up for 7 s, not made yet
  tcp 10.1.0.12:80                 down for 7 s: refused
  ping 10.1.0.13                   up for 7 s, and tried again: refused
agents
  10.1.0.12       rs2 ready, 120 ms ago, CPU 37 %, load 1.25, 3 waiting, 812 connections, wants weight 100
      it judges no real server of a service
      ARP is not suppressed
      the VIP 10.0.0.101 is missing
      its check of nginx fails
      arp_ignore of eth0 is 0
reports
  good                             100
  forged                           2
";
        assert_eq!(
            report(&services, &checks, &agents, Some(&reports)),
            expected
        );
        assert_eq!(report(&[], &[], &[], None), "services\n  none\n");
    }
}
