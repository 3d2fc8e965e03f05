//! Makes the host what the plan says, and undoes it.
//!
//! What is about to be changed is stored before it is changed, so that `stop` finds it whatever
//! happens in between. Each step is printed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use shared::addr::Family;
use shared::host::netlink::{Netlink, NetlinkError, NewAddress, OUR_PROTOCOL, Prefix, Scope};
use shared::host::sysctl::{Sysctl, SysctlError};

use crate::compare::{asked_or_ours, compare, gateway_on};
use crate::config::{Config, Mode};
use crate::log::Log;
use crate::plan::{ARP_SETTINGS, ArpSetting, Facts, Place, Plan, PlanError, Vip};
use crate::plan::{direct_routing, gateways};
use crate::presence::Presence;
use crate::state::{Condition, Owner, State, StateError, Store};
use crate::tunnel;
use crate::tunnel::filters::TunnelError;

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
    #[error("no VIP is given: add --vip ADDRESS, or vips = [\"ADDRESS\"] in the configuration")]
    NoVip,
    #[error("`rsagent run' is at work here and did not end within {} s", END.as_secs())]
    StillRunning,
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

/// `start`: of what is asked for. A `run` that is at work looks after it from then on.
pub(crate) fn start(config: &Config) -> Result<Outcome, AgentError> {
    let (mut netlink, facts) = look()?;
    if config.mode == Mode::Nat {
        for (gateway, interface) in gateways(&config.vips, &facts)? {
            println!(
                "{}: it must be the director",
                gateway_on(gateway, &interface)
            );
        }
        return Ok(Outcome::Done);
    }
    if config.vips.is_empty() {
        return Err(AgentError::NoVip);
    }
    let mut opened = Store::open()?;
    set_up(config, &facts, &mut netlink, &mut opened, Log::Steps)?;
    Ok(Outcome::Done)
}

/// Settings first, since an address without them is announced to the network; then the VIPs; then
/// tunnels end here.
pub(crate) fn set_up(
    config: &Config,
    facts: &Facts,
    netlink: &mut Netlink,
    (store, state): &mut (Store, State),
    log: Log,
) -> Result<(), AgentError> {
    let vips = config.vips.iter().copied().collect();
    let plan = direct_routing(&vips, &config.interfaces, facts)?;
    let tunnels = match config.mode {
        Mode::Tun => Some(tunnel::apply::plan(config, state, facts, netlink)?),
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
    store.save(state)?;
    for (name, why) in &plan.interfaces {
        log.was(format_args!("interface {name}: {why}"));
    }
    for (sysctl, value) in changes {
        sysctl.write(value)?;
        log.did(format_args!("{} = {value}", sysctl.path()));
    }
    if plan.lo_is_down {
        netlink.set_link_up(plan.lo)?;
        log.did("lo is up");
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
        if state.vips.insert(address, owner) != Some(owner) {
            store.save(state)?;
        }
        add(vip, owner, plan.lo, netlink, log)?;
    }
    if let Some(tunnels) = tunnels {
        tunnels.run(config, facts, netlink, (state, store), log)?;
    }
    Ok(())
}

/// `stop`: of what is asked for. If that is everything, a `run` that is at work ends.
pub(crate) fn stop(config: &Config) -> Result<Outcome, AgentError> {
    if !config.these_alone {
        end_run()?;
    }
    let (mut netlink, facts) = look()?;
    if config.mode == Mode::Nat {
        println!("nat: nothing was set up");
        return Ok(Outcome::Done);
    }
    let mut opened = Store::open()?;
    let vips = asked_or_ours(config, &opened.1, &facts);
    take_down(&vips, &facts, &mut netlink, &mut opened, Log::Steps)?;
    Ok(Outcome::Done)
}

/// Asks a `run` that is at work to end, and waits for that: it tells its directors first.
fn end_run() -> Result<(), AgentError> {
    let (store, mut state) = Store::open()?;
    if Presence::claim()?.is_some() {
        return Ok(());
    }
    state.leaving = true;
    store.save(&state)?;
    drop(store);
    if Presence::claim_within(END)?.is_none() {
        return Err(AgentError::StillRunning);
    }
    println!("rsagent run has ended");
    Ok(())
}

/// The tunnels first, then the VIPs, then, with the last one, the settings.
pub(crate) fn take_down(
    vips: &BTreeSet<IpAddr>,
    facts: &Facts,
    netlink: &mut Netlink,
    (store, state): &mut (Store, State),
    log: Log,
) -> Result<(), AgentError> {
    tunnel::apply::stop(vips, facts, netlink, (state, store), log)?;
    for vip in vips {
        let owner = state.vips.get(vip).copied();
        remove(Prefix::host(*vip), owner, facts, netlink, log)?;
        state.vips.remove(vip);
        store.save(state)?;
    }
    if state.vips.is_empty() && !state.settings.is_empty() {
        let restored = state.settings.restore();
        store.save(state)?;
        restored?;
        log.did("no VIP is left: settings are what they were");
    }
    Ok(())
}

/// `drain`, `maintenance` and `ready`: kept until another one is asked for; `run` reports it.
pub(crate) fn set_condition(condition: Condition) -> Result<Outcome, AgentError> {
    let (store, mut state) = Store::open()?;
    state.condition = condition;
    store.save(&state)?;
    if !Presence::is_there()? {
        println!("no `rsagent run' is at work here: the next one will report it");
    }
    Ok(Outcome::Done)
}

/// Prints line by line what is and what should be.
pub(crate) fn status(config: &Config) -> Result<Outcome, AgentError> {
    let (mut netlink, facts) = look()?;
    let (_, state) = Store::open()?;
    let mut findings = compare(config, &state, &facts, &mut netlink)?;
    let run = match Presence::is_there()? {
        true => "at work",
        false => "not at work",
    };
    findings.note(format_args!("rsagent run: {run}, {}", state.condition));
    print!("{}", findings.status());
    Ok(match findings.are_right() {
        true => Outcome::Done,
        false => Outcome::NotRunning,
    })
}

/// What there is on the host.
pub(crate) fn look() -> Result<(Netlink, Facts), NetlinkError> {
    let mut netlink = Netlink::open()?;
    let facts = facts(&mut netlink)?;
    Ok((netlink, facts))
}

/// The same by a socket that is open.
pub(crate) fn facts(netlink: &mut Netlink) -> Result<Facts, NetlinkError> {
    let mut routes = netlink.routes(Family::V4)?;
    routes.extend(netlink.routes(Family::V6)?);
    Ok(Facts {
        links: netlink.links()?,
        addresses: netlink.addresses()?,
        routes,
    })
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

fn add(
    vip: &Vip,
    owner: Owner,
    lo: u32,
    netlink: &mut Netlink,
    log: Log,
) -> Result<(), NetlinkError> {
    let prefix = vip.prefix;
    let Place::Absent(label) = &vip.place else {
        match owner {
            Owner::Agent => log.was(format_args!("{prefix} is on lo already")),
            Owner::Administrator => log.was(format_args!(
                "{prefix} is on lo already, not by rsagent: it stays there at stop"
            )),
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
    log.did(format_args!("{prefix} is on {}", label.unwrap_or("lo")));
    Ok(())
}

fn remove(
    vip: Prefix,
    owner: Option<Owner>,
    facts: &Facts,
    netlink: &mut Netlink,
    log: Log,
) -> Result<(), NetlinkError> {
    let los = facts.links.iter().filter(|link| link.loopback);
    let lo = los.map(|link| link.index).next();
    let mut addresses = facts.addresses.iter();
    let Some(found) = addresses.find(|known| Some(known.link) == lo && known.prefix == vip) else {
        log.was(format_args!("{vip} is not on lo"));
        return Ok(());
    };
    // A killed rsagent's state may be lost; its mark is on the address.
    if owner != Some(Owner::Agent) && found.protocol != OUR_PROTOCOL {
        log.was(format_args!(
            "{vip} stays on lo: rsagent has not put it there"
        ));
        return Ok(());
    }
    match netlink.delete_address(found.link, vip) {
        Err(error) if !error.is_missing() => Err(error),
        _ => {
            log.did(format_args!("{vip} is gone from lo"));
            Ok(())
        }
    }
}

/// `run` ends at once but for its last report; other verbs may hold it up for a moment.
const END: Duration = Duration::from_secs(10);
