//! The host's routing, as far as it brings packets to the director: those with a firewall mark, which the
//! host itself puts on them after the capture has seen them, and while there are such, all to services; and
//! what the host itself sends as a real server or as a client.
//!
//! Rules in front of everything else send them to a table whose only route leads into the TUN device that
//! frames are given back through; a socket there sees them with their marks. For that the rule of local
//! addresses has to stand behind ours. What the device sends, and whatever else the host does, is not sent back:
//!
//! ```text
//! 1: from all iif lvs0 goto 3      what is given back
//! 1: from 10.1.0.1 iif lo ipproto tcp sport 8080 lookup 19543     what the host answers
//! 1: from all to 192.0.2.1 iif lo ipproto tcp dport 80 lookup 19543     what it asks
//! 2: from all iif lo goto 3        what it sends besides
//! 2: from all fwmark 8 lookup 19542
//! 2: from all to 192.0.2.1 ipproto tcp lookup 19542
//! 3: from all lookup local         was 0
//! ```
//!
//! All of it is undone when the last of them goes, at the end, and at the start after a crash: rules and routes
//! have our protocol number, and settings are remembered in a file.

mod filters;
mod rules;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::{fs, io};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use shared::addr::Family;
use shared::host::netlink::{
    Netlink, NetlinkError, OUR_PROTOCOL, Prefix, Route, Rule, TABLE_LOCAL,
};
use shared::host::sysctl::{Remembered, Sysctl, SysctlError};
use shared::sys::{SyscallError, namespace};
use tracing::{info, warn};

use super::intake;
use crate::core::capture::RouteKey;
use crate::core::view::InterfaceView;
use crate::sys::mark_tap::MarkTap;
use rules::{
    BEFORE, BEHIND, FIRST, OURS, OWN_MTU, SITE, TABLE, TABLE_OWN, is_local, local, remove_rules,
    rule,
};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Routing {
    ifindex: u32,
    device: String,
    registry: Registry,
    remembered: PathBuf,
    tap: Option<MarkTap>,
    keys: BTreeSet<RouteKey>,
    settings: Remembered,
    /// Whether what others send is forwarded here.
    forwards: bool,
    /// Whose packets are forwarded then.
    interfaces: BTreeSet<String>,
}

/// Why the host cannot bring marked packets here.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// Rules or routes were refused.
    #[error("{0}; CONFIG_IP_MULTIPLE_TABLES is needed")]
    Netlink(#[from] NetlinkError),
    /// No socket on the device.
    #[error("{0}; marks can be told since Linux 5.19")]
    Tap(SyscallError),
    /// No way to be told of packets.
    #[error("the socket of marked packets cannot be polled: {0}")]
    Poll(io::Error),
    /// A setting was refused.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The settings that are changed cannot be remembered.
    #[error("{path}: {source}")]
    Remember {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Which namespace this is cannot be told.
    #[error("which network namespace this is: {0}")]
    Namespace(SyscallError),
}

impl Routing {
    /// Nothing is routed here yet; what a killed director left behind is undone.
    pub(super) fn new(
        (ifindex, device): (u32, &str),
        registry: Registry,
        netlink: &mut Netlink,
    ) -> Result<Routing, RoutingError> {
        let cookie = namespace::cookie().map_err(RoutingError::Namespace)?;
        let mut routing = Routing {
            ifindex,
            device: device.to_owned(),
            registry,
            // A cookie is never used again.
            remembered: PathBuf::from(format!("/run/lvs/director-{cookie}.settings")),
            tap: None,
            keys: BTreeSet::new(),
            settings: Remembered::default(),
            forwards: false,
            interfaces: BTreeSet::new(),
        };
        if let Ok(text) = fs::read_to_string(&routing.remembered) {
            match serde_json::from_str(&text) {
                Ok(settings) => routing.settings = settings,
                Err(error) => warn!("{}: {error}", routing.remembered.display()),
            }
        }
        routing.undo(netlink);
        Ok(routing)
    }

    /// The device that packets arrive on.
    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The socket that they arrive on, while there are any.
    pub(super) fn tap(&mut self) -> Option<&mut MarkTap> {
        self.tap.as_mut()
    }

    /// What came that way, while anything does: for listings.
    pub(super) fn view(&mut self) -> Option<InterfaceView> {
        let statistics = self.tap.as_mut()?.statistics().unwrap_or_default();
        Some(InterfaceView {
            name: self.device.clone(),
            received: statistics.packets,
            sent: 0,
            ring_losses: statistics.lost,
        })
    }

    /// Makes sure that packets with marks can be routed here.
    pub(super) fn prepare(&mut self, netlink: &mut Netlink) -> Result<(), RoutingError> {
        self.begin(netlink)?;
        if self.forwards {
            return Ok(());
        }
        let made = self.forward_all();
        if made.is_err() {
            self.settle(netlink);
        }
        made
    }

    /// Routes these packets here.
    pub(super) fn insert(
        &mut self,
        key: RouteKey,
        netlink: &mut Netlink,
    ) -> Result<(), RoutingError> {
        if is_of_others(key) {
            self.prepare(netlink)?;
        } else {
            self.begin(netlink)?;
        }
        self.keys.insert(key);
        let added = netlink.add_rule(&rule(key));
        added.or_else(|error| {
            if error.is_exists() {
                Ok(())
            } else {
                Err(error.into())
            }
        })
    }

    /// No longer routes these packets here.
    pub(super) fn remove(&mut self, key: RouteKey, netlink: &mut Netlink) {
        if self.keys.remove(&key)
            && let Err(error) = netlink.delete_rule(&rule(key))
        {
            warn!("{error}");
        }
    }

    /// Ends what there is nothing more to route for.
    pub(super) fn settle(&mut self, netlink: &mut Netlink) {
        if self.tap.is_some() && self.keys.is_empty() {
            self.undo(netlink);
        } else if !self.keys.iter().any(|&key| is_of_others(key)) {
            self.forward_no_more();
        }
    }

    /// Frames are taken from this interface.
    pub(super) fn interface(&mut self, name: &str) {
        self.interfaces.insert(name.to_owned());
        if self.forwards
            && let Err(error) = self.forward(name)
        {
            warn!("marked packets of {name} do not get here: {error}");
        }
    }

    /// Undoes everything.
    pub(super) fn undo(&mut self, netlink: &mut Netlink) {
        if let Some(tap) = self.tap.take() {
            // The kernel forgets the descriptor anyway when it is closed.
            let _ = self.registry.deregister(&mut SourceFd(&tap.as_raw_fd()));
        }
        self.keys.clear();
        if let Err(error) = remove_rules(netlink) {
            warn!("rules of the host's routing are left behind: {error}");
        }
        self.forward_no_more();
    }

    /// Puts the settings back by which what others send gets here.
    fn forward_no_more(&mut self) {
        self.forwards = false;
        if let Err(error) = self.settings.restore() {
            warn!("{error}");
        }
        if self.settings.is_empty() {
            let _ = fs::remove_file(&self.remembered);
        }
    }

    /// Makes sure that packets can be routed here.
    fn begin(&mut self, netlink: &mut Netlink) -> Result<(), RoutingError> {
        if self.tap.is_some() {
            return Ok(());
        }
        let made = self.make(netlink);
        if made.is_err() {
            self.undo(netlink);
        }
        made
    }

    fn make(&mut self, netlink: &mut Netlink) -> Result<(), RoutingError> {
        // Nobody reads the device: what the socket has seen need not wait there.
        netlink.set_link_queue(self.ifindex, 1)?;
        let tap = MarkTap::open(self.ifindex).map_err(RoutingError::Tap)?;
        let fd = tap.as_raw_fd();
        self.registry
            .register(
                &mut SourceFd(&fd),
                intake::token(self.ifindex),
                Interest::READABLE,
            )
            .map_err(RoutingError::Poll)?;
        self.tap = Some(tap);
        // The host's own packets are to be made as for the wire; those of others may have been merged.
        for (table, mtu) in [(TABLE, None), (TABLE_OWN, Some(OWN_MTU))] {
            netlink.replace_route(&Route {
                table,
                mtu,
                link: Some(self.ifindex),
                // Wider than the device's own address: nobody is to be called by that.
                scope: SITE,
                ..Route::to(Prefix::new(Ipv4Addr::UNSPECIFIED, 0))
            })?;
        }
        netlink.add_rule(&Rule::lookup(Family::V4, BEHIND, TABLE_LOCAL))?;
        for (priority, device) in [(BEFORE, &self.device[..]), (OURS, "lo")] {
            netlink.add_rule(&Rule {
                input: Some(device.to_owned()),
                goto: Some(BEHIND),
                ..Rule::lookup(Family::V4, priority, 0)
            })?;
        }
        let rules = netlink.rules(Family::V4)?;
        if rules.iter().any(|rule| is_local(rule, FIRST)) {
            netlink.delete_rule(&local(FIRST))?;
        }
        for rule in &rules {
            let foreign = rule.protocol != OUR_PROTOCOL && !is_local(rule, FIRST);
            if foreign && rule.priority <= BEHIND {
                warn!(
                    "{rule} comes before the director's own, which begin at {BEFORE}: what it decides does \
                       not get here"
                );
            }
        }
        info!("the host routes packets to the director, by the rules {BEFORE} to {BEHIND}");
        Ok(())
    }

    fn forward_all(&mut self) -> Result<(), RoutingError> {
        for name in self.interfaces.clone() {
            match self.forward(&name) {
                // It has vanished, or has another name.
                Err(RoutingError::Sysctl(error)) if error.is_missing() => {
                    self.interfaces.remove(&name);
                }
                outcome => outcome?,
            }
        }
        filters::warn_of_them(&self.device);
        self.forwards = true;
        Ok(())
    }

    /// What comes in by this interface may be forwarded into the device.
    fn forward(&mut self, name: &str) -> Result<(), RoutingError> {
        let is = |setting: &str, value: &str| {
            let any = ["all", name].map(|name| Sysctl::ipv4_conf(name, setting).read());
            any.iter()
                .any(|read| read.as_deref().is_ok_and(|read| read == value))
        };
        if is("rp_filter", "1") && is("src_valid_mark", "1") {
            warn!(
                "{name} has rp_filter=1 and src_valid_mark=1: the host drops marked packets there; set \
                   net.ipv4.conf.{name}.rp_filter=2"
            );
        }
        let setting = Sysctl::ipv4_conf(name, "forwarding");
        if !self.settings.note(&setting, "1")? {
            return Ok(());
        }
        self.remember()?;
        info!("packets from {name} are forwarded as long as there are services by mark");
        Ok(setting.write("1")?)
    }

    fn remember(&self) -> Result<(), RoutingError> {
        let failed = |source| RoutingError::Remember {
            path: self.remembered.clone(),
            source,
        };
        if let Some(folder) = self.remembered.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let text = serde_json::to_string(&self.settings).map_err(io::Error::from);
        fs::write(&self.remembered, text.map_err(failed)?).map_err(failed)
    }
}

/// Whether packets of other hosts are meant, which have to be forwarded.
fn is_of_others(key: RouteKey) -> bool {
    match key {
        RouteKey::Mark { .. } | RouteKey::Destination { .. } => true,
        RouteKey::Answer { .. } | RouteKey::Question { .. } => false,
    }
}
