//! What is beside what should be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shared::host::netlink::{Netlink, OUR_PROTOCOL};
use shared::host::sysctl::{Sysctl, SysctlError};

use crate::apply::AgentError;
use crate::config::{Config, Mode};
use crate::finding::{About, Findings};
use crate::plan::{ARP_SETTINGS, ArpSetting, Facts, Place, Plan, PlanError};
use crate::plan::{direct_routing, gateways};
use crate::state::State;
use crate::tunnel;
use crate::tunnel::filters::TunnelError;

/// What is and what should be: of the VIPs that are asked for, else of all of ours.
pub(crate) fn compare(
    config: &Config,
    state: &State,
    facts: &Facts,
    netlink: &mut Netlink,
) -> Result<Findings, AgentError> {
    let mut findings = Findings::default();
    if config.mode == Mode::Nat {
        compare_gateways(&config.vips, facts, &mut findings)?;
        return Ok(findings);
    }
    let vips = asked_or_ours(config, state, facts);
    if vips.is_empty() {
        findings.wrong(About::Host, "no VIP is here, and none is asked for");
        return Ok(findings);
    }
    let config = Config {
        vips: vips.iter().copied().collect(),
        ..config.clone()
    };
    let plan = match direct_routing(&vips, &config.interfaces, facts) {
        Err(error @ (PlanError::OnTheLan { .. } | PlanError::Network(_))) => {
            findings.wrong(About::Arp, error);
            return Ok(findings);
        }
        plan => plan?,
    };
    if plan.needs_arp_settings() {
        compare_settings(&plan, &mut findings)?;
    }
    let (is, should_be) = match plan.lo_is_down {
        true => ("down", Err("up")),
        false => ("up", Ok(())),
    };
    findings.line(About::Host, ("lo", is), should_be, || {
        "ip link set dev lo up".to_owned()
    });
    for vip in &plan.vips {
        let what = format!("{} on lo", vip.prefix);
        let (is, should_be) = match vip.place {
            Place::Absent(_) => ("absent", Err("there")),
            Place::Ours => ("there", Ok(())),
            Place::Unmarked => ("there, without our mark", Ok(())),
        };
        let about = About::Vip(vip.prefix.address);
        findings.line(about, (&what, is), should_be, || config.start_again());
    }
    match tunnel::apply::compare(&config, state, facts, netlink, &mut findings) {
        Err(TunnelError::Plan(error)) => findings.wrong(About::Host, error),
        outcome => outcome?,
    }
    Ok(findings)
}

/// The VIPs that were given on the command line; else those of the file, those that were started, and
/// those on lo with our mark.
pub(crate) fn asked_or_ours(config: &Config, state: &State, facts: &Facts) -> BTreeSet<IpAddr> {
    if config.these_alone {
        return config.vips.iter().copied().collect();
    }
    let marked = facts.addresses.iter().filter(|known| {
        let mut loopbacks = facts.links.iter().filter(|link| link.loopback);
        known.protocol == OUR_PROTOCOL && loopbacks.any(|lo| lo.index == known.link)
    });
    let marked = marked.map(|known| known.prefix.address);
    let known = config.vips.iter().chain(state.vips.keys()).copied();
    known.chain(marked).collect()
}

fn compare_settings(plan: &Plan, findings: &mut Findings) -> Result<(), SysctlError> {
    for setting in &ARP_SETTINGS {
        let should_be = |value: &str| match setting.is_met_by(value) {
            true => Ok(()),
            false => Err(setting.value),
        };
        let sysctl = Sysctl::ipv4_conf("all", setting.name);
        let all = sysctl.read()?;
        let here = (sysctl.path(), all.as_str());
        findings.line(About::Arp, here, should_be(&all), || setting.cure("all"));
        for (interface, why) in &plan.interfaces {
            let own = Sysctl::ipv4_conf(interface, setting.name).read()?;
            let in_force = ArpSetting::in_force(&all, &own);
            let what = format!("{} in force on {interface} ({why})", setting.name);
            let cure = || match setting.is_met_by(&all) {
                true => setting.cure(interface),
                false => [setting.cure("all"), setting.cure(interface)].join(" && "),
            };
            findings.line(About::Arp, (&what, in_force), should_be(in_force), cure);
        }
    }
    Ok(())
}

/// NAT: nothing is set up, but the replies must find their way.
fn compare_gateways(
    vips: &[IpAddr],
    facts: &Facts,
    findings: &mut Findings,
) -> Result<(), AgentError> {
    match gateways(vips, facts) {
        Err(error @ PlanError::NoGateway(_)) => findings.wrong(About::Host, error),
        gateways => {
            for (gateway, interface) in gateways? {
                let what = gateway_on(gateway, &interface);
                let here = (what.as_str(), "it must be the director");
                findings.line(About::Host, here, Ok(()), String::new);
            }
        }
    }
    Ok(())
}

/// A gateway, for people.
pub(crate) fn gateway_on(gateway: IpAddr, interface: &str) -> String {
    format!("default gateway {gateway} on {interface}")
}
