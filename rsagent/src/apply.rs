//! Makes it so, undoes it, and tells what is.

use std::net::IpAddr;

use shared::addr::Family;
use shared::host::netlink::{
    Address, Netlink, NetlinkError, NewAddress, OUR_PROTOCOL, Prefix, RouteKind, Scope, TABLE_MAIN,
};
use shared::host::sysctl::SysctlError;

use crate::plan::{Line, Plan, free_label};
use crate::state::{State, StateError, Store};

/// The host that is prepared.
#[derive(Debug)]
pub struct Agent {
    netlink: Netlink,
    store: Store,
    state: State,
}

/// Why it cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The network cannot be asked or changed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting cannot be read or written.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// What was changed cannot be remembered, so nothing is changed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing to do.
    #[error("no VIP is given: add --vip ADDRESS")]
    NoVip,
    /// A name that nobody has.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// With NAT the answers must go through the director.
    #[error(
        "there is no default route: the real server's gateway must be the director, so add \
             `ip route add default via DIRECTOR'"
    )]
    NoDefaultRoute,
    /// Tunnels come later.
    #[error("--mode tun is not there yet")]
    NoTunnelYet,
}

impl Agent {
    /// Reads what an earlier run left.
    pub fn open() -> Result<Agent, AgentError> {
        let store = Store::open()?;
        let state = store.load()?;
        Ok(Agent {
            netlink: Netlink::open()?,
            store,
            state,
        })
    }

    /// The VIPs that we put on `lo`.
    pub fn vips(&self) -> Vec<IpAddr> {
        self.state.vips.clone()
    }

    /// The interfaces named, or every Ethernet interface.
    pub fn interfaces(&mut self, named: &[String]) -> Result<Vec<String>, AgentError> {
        let links = self.netlink.links()?;
        if let Some(name) = named
            .iter()
            .find(|name| links.iter().all(|link| link.name != **name))
        {
            return Err(AgentError::NoInterface(name.clone()));
        }
        if !named.is_empty() {
            return Ok(named.to_vec());
        }
        let ethernet = links
            .into_iter()
            .filter(|link| link.hardware == ETHERNET && !link.loopback);
        Ok(ethernet.map(|link| link.name).collect())
    }

    /// Sets what should be: settings first, since an address without them is announced.
    pub fn start(&mut self, plan: &Plan) -> Result<(), AgentError> {
        let mut changes = Vec::new();
        for (setting, value) in &plan.settings {
            if self.state.settings.note(setting, value)? {
                changes.push((setting, value));
            }
        }
        // Remembered before anything is changed: whoever is killed in between can be undone.
        self.store.save(&self.state)?;
        for (setting, value) in changes {
            setting.write(value)?;
            println!("{} = {value}", setting.path());
        }
        for &vip in &plan.vips {
            self.add(vip)?;
        }
        Ok(())
    }

    /// Takes VIPs away, all of ours if none is named; with the last one everything is as it was.
    pub fn stop(&mut self, vips: &[IpAddr]) -> Result<(), AgentError> {
        let lo = self.lo()?;
        let ours = |vip: &IpAddr| vips.is_empty() || vips.contains(vip);
        for vip in self.vips().into_iter().filter(ours) {
            match self.netlink.delete_address(lo, Prefix::host(vip)) {
                Ok(()) => println!("VIP {vip} is gone from lo"),
                Err(error) if error.is_missing() => println!("VIP {vip} was gone already"),
                Err(error) => return Err(error.into()),
            }
            self.state.vips.retain(|known| *known != vip);
            self.store.save(&self.state)?;
        }
        if self.state.vips.is_empty() && !self.state.settings.is_empty() {
            let restored = self.state.settings.restore();
            self.store.save(&self.state)?;
            restored?;
            println!("the ARP settings are as they were");
        }
        Ok(())
    }

    /// What is, beside what should be.
    pub fn compare(&mut self, plan: &Plan) -> Result<Vec<Line>, AgentError> {
        if plan.vips.is_empty() {
            return Ok(vec![Line::bad("no VIP is here, and none was asked for")]);
        }
        let mut lines = Vec::new();
        for (setting, wanted) in &plan.settings {
            let text = |is: &str| format!("{} is {is}, should be {wanted}", setting.path());
            lines.push(match setting.read()? {
                value if value == *wanted => Line::good(text(&value)),
                value => Line::bad(text(&value)),
            });
        }
        let lo = self.lo()?;
        let addresses = self.netlink.addresses()?;
        for vip in &plan.vips {
            let here = addresses.iter().find(|address| is_vip(address, lo, *vip));
            lines.push(match here {
                Some(address) => {
                    let label = address.label.as_deref().unwrap_or("lo");
                    Line::good(format!("VIP {vip} is on {label}"))
                }
                None => Line::bad(format!("VIP {vip} is not on lo, and should be")),
            });
        }
        Ok(lines)
    }

    /// The way that answers take with NAT.
    pub fn default_route(&mut self) -> Result<String, AgentError> {
        let routes = self.netlink.routes(Family::V4)?;
        let default = routes.iter().find(|route| {
            route.table == TABLE_MAIN
                && route.kind == RouteKind::Unicast
                && route.destination.length == 0
                && !route.dead
        });
        match default.and_then(|route| route.gateway) {
            Some(gateway) => Ok(format!("the gateway is {gateway}: it must be the director")),
            None => Err(AgentError::NoDefaultRoute),
        }
    }

    fn add(&mut self, vip: IpAddr) -> Result<(), AgentError> {
        let lo = self.lo()?;
        let addresses = self.netlink.addresses()?;
        if let Some(address) = addresses.iter().find(|address| is_vip(address, lo, vip)) {
            if address.protocol == OUR_PROTOCOL && !self.state.vips.contains(&vip) {
                self.state.vips.push(vip);
                self.store.save(&self.state)?;
            }
            println!("VIP {vip} is on lo already");
            return Ok(());
        }
        if !self.state.vips.contains(&vip) {
            self.state.vips.push(vip);
            self.store.save(&self.state)?;
        }
        let used: Vec<String> = addresses
            .into_iter()
            .filter_map(|address| address.label)
            .collect();
        let label = free_label(&used);
        self.netlink.add_address(&NewAddress {
            link: lo,
            prefix: Prefix::host(vip),
            label: vip.is_ipv4().then_some(label.as_str()),
            scope: Scope::Universe,
        })?;
        println!(
            "VIP {vip} is on {}",
            if vip.is_ipv4() { &label } else { "lo" }
        );
        Ok(())
    }

    fn lo(&mut self) -> Result<u32, AgentError> {
        let lo = self.netlink.link_by_name("lo")?;
        lo.map(|link| link.index)
            .ok_or_else(|| AgentError::NoInterface("lo".to_owned()))
    }
}

fn is_vip(address: &Address, lo: u32, vip: IpAddr) -> bool {
    address.link == lo && address.prefix == Prefix::host(vip)
}

/// `ARPHRD_ETHER`
const ETHERNET: u16 = 1;
