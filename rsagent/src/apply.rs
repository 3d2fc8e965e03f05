//! Makes the host what the plan says, undoes it, and compares the two.
//!
//! What is about to be changed is stored before it is changed, so that `stop` finds it whatever
//! happens in between. Each step is printed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use shared::addr::Family;
use shared::host::netlink::{Netlink, NetlinkError, NewAddress, OUR_PROTOCOL, Prefix, Scope};
use shared::host::sysctl::{Sysctl, SysctlError};

use crate::plan::{ARP_SETTINGS, ArpSetting, Facts, Place, Plan, PlanError, Vip};
use crate::plan::{direct_routing, gateways};
use crate::state::{Owner, State, StateError, Store};
use crate::tunnel;
use crate::tunnel::filters::TunnelError;
use crate::{Mode, Options};

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is as it was asked for.
    Done,
    /// Something is not as it should be.
    NotRunning,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("no VIP is given: add --vip ADDRESS")]
    NoVip,
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// Settings first, since an address without them is announced to the network; then the VIPs; then
/// tunnels end here.
pub(crate) fn start(options: &Options) -> Result<Outcome, AgentError> {
    let (mut netlink, facts) = look()?;
    if options.mode == Mode::Nat {
        print_gateways(&options.vips, &facts)?;
        return Ok(Outcome::Done);
    }
    if options.vips.is_empty() {
        return Err(AgentError::NoVip);
    }
    let vips = options.vips.iter().copied().collect();
    let (store, mut state) = Store::open()?;
    let plan = direct_routing(&vips, &options.interfaces, &facts)?;
    let tunnels = match options.mode {
        Mode::Tun => Some(tunnel::apply::plan(options, &state, &facts, &mut netlink)?),
        Mode::Dr | Mode::Nat => None,
    };

    let mut changes = Vec::new();
    for (sysctl, setting) in settings(&plan) {
        if !setting.is_met_by(&sysctl.read()?) {
            changes.push((sysctl, setting.value));
        }
    }
    if let Some(tunnels) = &tunnels {
        changes.extend(tunnels.settings()?);
    }
    for (sysctl, value) in &changes {
        state.settings.note(sysctl, value)?;
    }
    store.save(&state)?;
    for (name, why) in &plan.interfaces {
        println!("interface {name}: {why}");
    }
    for (sysctl, value) in changes {
        sysctl.write(value)?;
        println!("{} = {value}", sysctl.path());
    }
    if plan.lo_is_down {
        netlink.set_link_up(plan.lo)?;
        println!("lo is up");
    }
    for vip in &plan.vips {
        let address = vip.prefix.address;
        let owner = match vip.place {
            Place::Absent(_) | Place::Ours => Owner::Agent,
            Place::Unmarked => {
                let known = state.vips.get(&address).copied();
                known.unwrap_or(Owner::Administrator)
            }
        };
        state.vips.insert(address, owner);
        store.save(&state)?;
        add(vip, owner, plan.lo, &mut netlink)?;
    }
    if let Some(tunnels) = tunnels {
        tunnels.run(options, &facts, &mut netlink, &mut state, &store)?;
    }
    Ok(Outcome::Done)
}

/// The tunnels first, then the VIPs, then the settings.
pub(crate) fn stop(options: &Options) -> Result<Outcome, AgentError> {
    let (mut netlink, facts) = look()?;
    if options.mode == Mode::Nat {
        println!("nat: nothing was set up");
        return Ok(Outcome::Done);
    }
    let (store, mut state) = Store::open()?;
    let vips = asked_or_ours(options, &state, &facts);
    let inside: Vec<Ipv4Addr> = vips.iter().filter_map(v4).collect();
    tunnel::apply::stop(&inside, &facts, &mut netlink, &mut state, &store)?;
    for vip in vips {
        let owner = state.vips.get(&vip).copied();
        remove(Prefix::host(vip), owner, &facts, &mut netlink)?;
        state.vips.remove(&vip);
        store.save(&state)?;
    }
    if state.vips.is_empty() && !state.settings.is_empty() {
        let restored = state.settings.restore();
        store.save(&state)?;
        restored?;
        println!("no VIP is left: settings are what they were");
    }
    Ok(Outcome::Done)
}

/// Prints line by line what is and what should be.
pub(crate) fn status(options: &Options) -> Result<Outcome, AgentError> {
    let (mut netlink, facts) = look()?;
    if options.mode == Mode::Nat {
        return match print_gateways(&options.vips, &facts) {
            Err(AgentError::Plan(PlanError::NoGateway(family))) => {
                println!("wrong  no default gateway for {family}, should be the director");
                Ok(Outcome::NotRunning)
            }
            outcome => outcome.map(|()| Outcome::Done),
        };
    }
    let (_, state) = Store::open()?;
    let vips = asked_or_ours(options, &state, &facts);
    if vips.is_empty() {
        println!("wrong  no VIP is here, and none is asked for");
        return Ok(Outcome::NotRunning);
    }
    let plan = match direct_routing(&vips, &options.interfaces, &facts) {
        Err(error @ (PlanError::OnTheLan { .. } | PlanError::Network(_))) => {
            println!("wrong  {error}");
            return Ok(Outcome::NotRunning);
        }
        plan => plan?,
    };
    let mut report = Report(Outcome::Done);
    if plan.needs_arp_settings() {
        compare_settings(&plan, &mut report)?;
    }
    let lo = if plan.lo_is_down { "down" } else { "up" };
    report.line("lo", lo, "up", !plan.lo_is_down);
    for vip in &plan.vips {
        let what = format!("{} on lo", vip.prefix);
        match vip.place {
            Place::Absent(_) => report.line(&what, "absent", "there", false),
            Place::Ours => report.line(&what, "there", "there", true),
            Place::Unmarked => report.line(&what, "there, without our mark", "there", true),
        }
    }
    match tunnel::apply::status(options, &state, &facts, &mut netlink, &mut report) {
        Err(TunnelError::Plan(error)) => {
            println!("wrong  {error}");
            Ok(Outcome::NotRunning)
        }
        outcome => {
            outcome?;
            Ok(report.0)
        }
    }
}

/// Whether all lines were right so far.
pub(crate) struct Report(Outcome);

impl Report {
    /// One line: what is, and, if that is not right, what should be.
    pub(crate) fn line(&mut self, what: &str, is: &str, should_be: &str, right: bool) {
        if right {
            println!("ok     {what}: {is}");
        } else {
            println!("wrong  {what}: {is}, should be {should_be}");
            self.0 = Outcome::NotRunning;
        }
    }
}

fn compare_settings(plan: &Plan, report: &mut Report) -> Result<(), SysctlError> {
    for setting in &ARP_SETTINGS {
        let sysctl = Sysctl::ipv4_conf("all", setting.name);
        let all = sysctl.read()?;
        let right = setting.is_met_by(&all);
        report.line(sysctl.path(), &all, setting.value, right);
        for (interface, why) in &plan.interfaces {
            let own = Sysctl::ipv4_conf(interface, setting.name).read()?;
            let in_force = ArpSetting::in_force(&all, &own);
            let what = format!("{} in force on {interface} ({why})", setting.name);
            let right = setting.is_met_by(in_force);
            report.line(&what, in_force, setting.value, right);
        }
    }
    Ok(())
}

/// NAT: nothing is set up, but the replies must find their way.
fn print_gateways(vips: &[IpAddr], facts: &Facts) -> Result<(), AgentError> {
    for (gateway, interface) in gateways(vips, facts)? {
        println!("ok     default gateway {gateway} on {interface}: it must be the director");
    }
    Ok(())
}

fn v4(vip: &IpAddr) -> Option<Ipv4Addr> {
    match vip {
        IpAddr::V4(vip) => Some(*vip),
        IpAddr::V6(_) => None,
    }
}

/// The VIPs that were given; else those that were started, and those on lo with our mark.
fn asked_or_ours(options: &Options, state: &State, facts: &Facts) -> BTreeSet<IpAddr> {
    if !options.vips.is_empty() {
        return options.vips.iter().copied().collect();
    }
    let marked = facts.addresses.iter().filter(|known| {
        let mut loopbacks = facts.links.iter().filter(|link| link.loopback);
        known.protocol == OUR_PROTOCOL && loopbacks.any(|lo| lo.index == known.link)
    });
    let marked = marked.map(|known| known.prefix.address);
    state.vips.keys().copied().chain(marked).collect()
}

fn look() -> Result<(Netlink, Facts), NetlinkError> {
    let mut netlink = Netlink::open()?;
    let mut routes = netlink.routes(Family::V4)?;
    routes.extend(netlink.routes(Family::V6)?);
    let facts = Facts {
        links: netlink.links()?,
        addresses: netlink.addresses()?,
        routes,
    };
    Ok((netlink, facts))
}

/// The settings of `all` and of each interface.
fn settings(plan: &Plan) -> impl Iterator<Item = (Sysctl, &'static ArpSetting)> {
    let all = plan.needs_arp_settings().then_some("all");
    let interfaces = plan.interfaces.iter().map(|(name, _)| name.as_str());
    all.into_iter().chain(interfaces).flat_map(|interface| {
        ARP_SETTINGS
            .iter()
            .map(move |setting| (Sysctl::ipv4_conf(interface, setting.name), setting))
    })
}

fn add(vip: &Vip, owner: Owner, lo: u32, netlink: &mut Netlink) -> Result<(), NetlinkError> {
    let prefix = vip.prefix;
    let Place::Absent(label) = &vip.place else {
        match owner {
            Owner::Agent => println!("{prefix} is on lo already"),
            Owner::Administrator => {
                println!("{prefix} is on lo already, not by rsagent: it stays there at stop");
            }
        }
        return Ok(());
    };
    let label = label.as_deref();
    netlink.add_address(&NewAddress {
        link: lo,
        prefix,
        label,
        scope: Scope::Universe,
        protocol: OUR_PROTOCOL,
    })?;
    println!("{prefix} is on {}", label.unwrap_or("lo"));
    Ok(())
}

fn remove(
    vip: Prefix,
    owner: Option<Owner>,
    facts: &Facts,
    netlink: &mut Netlink,
) -> Result<(), NetlinkError> {
    let los = facts.links.iter().filter(|link| link.loopback);
    let lo = los.map(|link| link.index).next();
    let mut addresses = facts.addresses.iter();
    let Some(found) = addresses.find(|known| Some(known.link) == lo && known.prefix == vip) else {
        println!("{vip} is not on lo");
        return Ok(());
    };
    // A killed rsagent's state may be lost; its mark is on the address.
    if owner != Some(Owner::Agent) && found.protocol != OUR_PROTOCOL {
        println!("{vip} stays on lo: rsagent has not put it there");
        return Ok(());
    }
    match netlink.delete_address(found.link, vip) {
        Err(error) if !error.is_missing() => Err(error),
        _ => {
            println!("{vip} is gone from lo");
            Ok(())
        }
    }
}
