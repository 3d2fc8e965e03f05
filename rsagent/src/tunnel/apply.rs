//! Makes tunnels end on the host, undoes it, and compares.

use std::collections::BTreeSet;
use std::net::IpAddr;

use shared::host::netlink::{Link, Netlink, NetlinkError};
use shared::host::sysctl::{Sysctl, SysctlError};

use super::filters::{self, Standing, TunnelError, wanted};
use super::plan::{End, end, ends, own_addresses};
use super::{Ipip, Tunnels, device};
use crate::config::{Config, Mode};
use crate::finding::{About, Findings};
use crate::log::Log;
use crate::plan::{ArpSetting, Facts, PlanError};
use crate::state::{State, Store, Tunnelled};

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Start {
    tunnels: Tunnels,
    ends: Vec<End>,
    device: Option<Link>,
}

/// What is asked for, together with what an earlier start left. Only the kernel's module is loaded by this.
///
/// # Errors
/// [`PlanError`]s of [`plan`](super::plan), and what netlink says.
pub(crate) fn plan(
    config: &Config,
    state: &State,
    facts: &Facts,
    netlink: &mut Netlink,
) -> Result<Start, TunnelError> {
    let mut vips: BTreeSet<IpAddr> = config.vips.iter().copied().collect();
    vips.extend(state.tunnels.iter().flat_map(|known| &known.vips));
    let own = own_addresses(&vips, facts)?;
    let ends = ends(&config.interfaces, facts)?;
    let device = device::find(netlink)?;
    Ok(Start {
        tunnels: Tunnels {
            vips,
            own,
            port: config.tunnel_port,
            ipip: if device.is_some() {
                Ipip::Kernel
            } else {
                Ipip::Program
            },
        },
        ends,
        device,
    })
}

impl Start {
    /// Reverse path filtering that would drop what comes out of a tunnel, and the value it is to have:
    /// by the kernel's device no client is reached, and by an interface without a default route few.
    ///
    /// # Errors
    /// A setting cannot be read.
    pub(crate) fn settings(&self) -> Result<Vec<(Sysctl, &'static str)>, SysctlError> {
        let names = self.device.iter().map(|link| &link.name);
        let apart = self.ends.iter().filter(|end| !end.is_way_back);
        let mut settings = Vec::new();
        for name in names.chain(apart.map(|end| &end.name)) {
            if is_strict(name)? {
                settings.push((Sysctl::ipv4_conf(name, REVERSE_PATH), LOOSE));
            }
        }
        Ok(settings)
    }

    /// Makes it so, when the VIPs are there.
    ///
    /// # Errors
    /// [`TunnelError`], and the state cannot be stored.
    pub(crate) fn run(
        &self,
        config: &Config,
        facts: &Facts,
        netlink: &mut Netlink,
        (state, store): (&mut State, &Store),
        log: Log,
    ) -> Result<(), TunnelError> {
        let known = state.tunnels.get_or_insert_default();
        known.vips.clone_from(&self.tunnels.vips);
        known.interfaces.clone_from(&config.interfaces);
        known.port = self.tunnels.port;
        let device = self.device.as_ref();
        known.device_was_down = device.map(|link| known.device_was_down.unwrap_or(!link.up));
        store.save(state)?;
        if let Some(link) = &self.device {
            device::set_up(link, netlink)?;
            log.was(format_args!("IPIP ends at {}", link.name));
        }
        for end in &self.ends {
            attach(end, &self.tunnels, netlink, (state, store), log)?;
        }
        // An earlier start may have been asked for other interfaces.
        let is_end = |link: &&Link| self.ends.iter().any(|end| end.link == link.index);
        let known = state.tunnels.get_or_insert_default();
        for link in facts.links.iter().filter(|link| !is_end(link)) {
            detach(link, &mut known.clsact, netlink, log)?;
        }
        store.save(state)?;
        Ok(())
    }
}

/// Takes ours away from an interface, and `clsact` if it is ours.
fn detach(
    link: &Link,
    clsact: &mut BTreeSet<String>,
    netlink: &mut Netlink,
    log: Log,
) -> Result<(), NetlinkError> {
    if filters::remove_all(link.index, netlink)? {
        log.did(format_args!("{}: no tunnel ends here any more", link.name));
    }
    if clsact.contains(&link.name) {
        filters::remove_clsact(link.index, netlink)?;
        clsact.remove(&link.name);
    }
    Ok(())
}

/// Both filters of an interface, unless they are there.
fn attach(
    end: &End,
    tunnels: &Tunnels,
    netlink: &mut Netlink,
    (state, store): (&mut State, &Store),
    log: Log,
) -> Result<(), TunnelError> {
    let known = state.tunnels.get_or_insert_default();
    let noted = known.clsact.contains(&end.name);
    known.clsact.insert(end.name.clone());
    store.save(state)?;
    if !netlink.add_clsact(end.link)? && !noted {
        let known = state.tunnels.get_or_insert_default();
        known.clsact.remove(&end.name);
        store.save(state)?;
    }
    for wanted in wanted(tunnels, end)? {
        let (name, what) = (&end.name, wanted.what());
        match wanted.standing(end.link, netlink)? {
            Standing::Right => log.was(format_args!("{name}: {what} already")),
            Standing::Absent | Standing::Other => {
                wanted.make(end.link, netlink)?;
                log.did(format_args!("{name}: {what} now"));
            }
        }
    }
    Ok(())
}

/// Takes VIPs out of the tunnels; with the last one, everything away.
///
/// # Errors
/// [`TunnelError`], and the state cannot be stored.
pub(crate) fn stop<'a>(
    vips: impl IntoIterator<Item = &'a IpAddr>,
    facts: &Facts,
    netlink: &mut Netlink,
    (state, store): (&mut State, &Store),
    log: Log,
) -> Result<(), TunnelError> {
    let mut left = state.tunnels.clone().unwrap_or_default();
    for vip in vips {
        left.vips.remove(vip);
    }
    if !left.vips.is_empty() {
        let tunnels = tunnels(&left, facts)?;
        state.tunnels = Some(left);
        store.save(state)?;
        for link in links_with_filters(facts, netlink)? {
            attach(&end(link, facts), &tunnels, netlink, (state, store), log)?;
        }
        return Ok(());
    }
    // Filters tell of themselves: those of a state that is lost go too.
    for link in &facts.links {
        detach(link, &mut left.clsact, netlink, log)?;
    }
    if let Some(was_down) = left.device_was_down {
        device::give_back(was_down, netlink)?;
        log.did(format_args!("{}: given back", device::NAME));
    }
    state.tunnels = None;
    store.save(state)?;
    Ok(())
}

/// What is and what should be, if tunnels are asked for or have been started.
///
/// # Errors
/// [`TunnelError`].
pub(crate) fn compare(
    config: &Config,
    state: &State,
    facts: &Facts,
    netlink: &mut Netlink,
    findings: &mut Findings,
) -> Result<(), TunnelError> {
    let mut line = |what: &str, is: &str, should_be: &str, right: bool| {
        let should_be = if right { Ok(()) } else { Err(should_be) };
        findings.line(About::Host, (what, is), should_be, || config.start_again());
    };
    let Some(known) = &state.tunnels else {
        if config.mode == Mode::Tun {
            line("tunnels", "not started", "started", false);
        }
        return Ok(());
    };
    if config.mode == Mode::Tun {
        for vip in config.vips.iter().filter(|vip| !known.vips.contains(vip)) {
            line(&format!("tunnels for {vip}"), "none", "there", false);
        }
    }
    if known.device_was_down.is_some() {
        let link = facts.links.iter().find(|link| link.name == device::NAME);
        let is = match link {
            Some(link) if link.up => "up",
            Some(_) => "down",
            None => "absent",
        };
        line(device::NAME, is, "up", is == "up");
    }
    let tunnels = tunnels(known, facts)?;
    let ends = ends(&known.interfaces, facts)?;
    for end in &ends {
        for wanted in wanted(&tunnels, end)? {
            let is = match wanted.standing(end.link, netlink)? {
                Standing::Right => "there",
                Standing::Absent => "absent",
                Standing::Other => "made from other addresses or another MTU",
            };
            let what = format!("{} on {}", wanted.what(), end.name);
            line(&what, is, "there", is == "there");
        }
    }
    let apart = ends.iter().filter(|end| !end.is_way_back);
    let device = known.device_was_down.map(|_| device::NAME);
    for name in apart.map(|end| end.name.as_str()).chain(device) {
        compare_filtering(name, is_strict(name)?, findings);
    }
    Ok(())
}

fn compare_filtering(name: &str, strict: bool, findings: &mut Findings) {
    let what = format!("{REVERSE_PATH} in force on {name}");
    let (is, should_be) = match strict {
        true => (STRICT, Err("0 or 2")),
        false => ("not 1", Ok(())),
    };
    findings.line(About::Host, (&what, is), should_be, || {
        let setting = Sysctl::ipv4_conf(name, REVERSE_PATH);
        format!("sysctl -w {}={LOOSE}", setting.path())
    });
}

fn tunnels(known: &Tunnelled, facts: &Facts) -> Result<Tunnels, PlanError> {
    Ok(Tunnels {
        vips: known.vips.clone(),
        own: own_addresses(&known.vips, facts)?,
        port: known.port,
        ipip: if known.device_was_down.is_some() {
            Ipip::Kernel
        } else {
            Ipip::Program
        },
    })
}

fn links_with_filters<'a>(
    facts: &'a Facts,
    netlink: &mut Netlink,
) -> Result<Vec<&'a Link>, NetlinkError> {
    let mut found = Vec::new();
    for link in &facts.links {
        if filters::any(link.index, netlink)? {
            found.push(link);
        }
    }
    Ok(found)
}

/// Whether packets must come in by the interface that leads back to their source. An interface that is
/// gone filters nothing.
fn is_strict(name: &str) -> Result<bool, SysctlError> {
    let all = Sysctl::ipv4_conf("all", REVERSE_PATH).read()?;
    match Sysctl::ipv4_conf(name, REVERSE_PATH).read() {
        Ok(own) => Ok(ArpSetting::in_force(&all, &own) == STRICT),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

// Documentation/networking/ip-sysctl.rst; RFC 3704.
const REVERSE_PATH: &str = "rp_filter";
const STRICT: &str = "1";
const LOOSE: &str = "2";
