//! Asks by ARP and neighbour discovery who else has the director's VIPs, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use shared::addr::Addr;
use shared::sys::SyscallError;
use shared::time::Time;
use shared::wire::vnet;
use tracing::{info, warn};

use super::agents::AgentsDesk;
use crate::core::director::Director;
use crate::core::net::{Network, Port, PortId, Prefix};
use crate::core::verdict::{Outbox, Outgoing};
use crate::core::view::RivalView;
use crate::health::questions;
use crate::health::rivals::{News, Rival, Rivals};
use crate::sys::answer_tap::AnswerTap;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Lookout {
    taps: [AnswerTap; 2],
    rivals: Rivals,
    /// Whether there may be more answers.
    ready: bool,
}

impl Lookout {
    pub(super) fn open(registry: &Registry, now: Time) -> Result<Lookout, SyscallError> {
        let taps = [AnswerTap::of_arp()?, AnswerTap::of_neighbour_discovery()?];
        for tap in &taps {
            let register =
                registry.register(&mut SourceFd(&tap.as_raw_fd()), RIVALS, Interest::READABLE);
            register.map_err(|source| SyscallError {
                call: "epoll_ctl",
                source,
            })?;
        }
        Ok(Lookout {
            taps,
            rivals: Rivals::new(now),
            ready: false,
        })
    }

    /// A socket has something.
    pub(super) fn wake(&mut self) {
        self.ready = true;
    }

    /// Whether there may be more to receive at once.
    pub(super) fn is_busy(&self) -> bool {
        self.ready
    }

    /// When [`go_on`](Self::go_on) is to be called next.
    pub(super) fn poll_at(&self) -> Time {
        self.rivals.poll_at()
    }

    /// Hears answers, asks, and tells the log who is found or gone. `interfaces` are those whose traffic is
    /// taken.
    pub(super) fn go_on(
        &mut self,
        now: Time,
        director: &Director,
        agents: &AgentsDesk,
        interfaces: impl Iterator<Item = u32>,
        outbox: &mut Outbox,
    ) {
        self.receive(now, director);
        if self.rivals.poll_at() > now {
            return;
        }
        let mut news = self.rivals.take_news(now);
        if self.rivals.is_due(now) {
            let up = |ifindex: &u32| port(&director.network, *ifindex).is_some_and(|(_, p)| p.up);
            let segments: Vec<u32> = interfaces.filter(up).collect();
            news.extend(self.rivals.begin(now, vips(director), &segments));
        }
        for news in news {
            tell(&news, &director.network, agents);
        }
        let mut senders = BTreeMap::new();
        for question in self.rivals.take_questions(now) {
            let ifindex = question.ifindex;
            let senders: &Vec<Prefix> = senders
                .entry(ifindex)
                .or_insert_with(|| self.senders(&director.network, ifindex));
            let Some((id, port)) = port(&director.network, ifindex) else {
                continue;
            };
            if let Some(frame) = questions::ask(&question, port.mac, senders) {
                let frame = [&[0; vnet::LENGTH][..], &frame].concat();
                outbox.push(Outgoing::Transmit(id, frame));
            }
        }
    }

    fn receive(&mut self, now: Time, director: &Director) {
        if !self.ready {
            return;
        }
        let mut buffer = [0; questions::MOST_BYTES];
        let mut silent = 0;
        for number in 0..self.taps.len() {
            for _ in 0..BUDGET {
                match self.taps[number].receive(&mut buffer) {
                    Ok(Some((ifindex, length))) => {
                        self.hear(now, ifindex, &buffer[..length], director);
                    }
                    Ok(None) => {
                        silent += 1;
                        break;
                    }
                    // Of an interface that went down; others may have more.
                    Err(_) => {}
                }
            }
        }
        self.ready = silent < self.taps.len();
    }

    fn hear(&mut self, now: Time, ifindex: u32, frame: &[u8], director: &Director) {
        let Some((mac, address)) = questions::answer(frame) else {
            return;
        };
        if director.network.ports().any(|(_, port)| port.mac == mac) {
            return;
        }
        let servers = || servers(director, address);
        self.rivals.hear(now, (ifindex, mac), address, servers);
    }

    /// The addresses that may ask on an interface: its own that are no VIPs, for those are also a real server's,
    /// which would not answer itself.
    fn senders(&self, network: &Network, ifindex: u32) -> Vec<Prefix> {
        let addresses = network.addresses_of(ifindex);
        let addresses = addresses.filter(|prefix| !self.rivals.is_vip(prefix.address.ip()));
        addresses.collect()
    }

    /// Those who answer for VIPs.
    pub(super) fn views(&self, network: &Network) -> Vec<RivalView> {
        let views = self.rivals.all().map(|(rival, server)| RivalView {
            vip: rival.vip,
            interface: interface(network, rival.ifindex),
            mac: rival.mac.to_string(),
            server,
        });
        views.collect()
    }
}

/// The VIPs that this host is to answer for: of services, and addresses of its own. With a director that stands
/// by they are another one's.
fn vips(director: &Director) -> BTreeSet<IpAddr> {
    let local = director.network.local_addresses();
    let vips = local.filter(|&address| director.balancer.serves_at(address));
    let vips = vips.map(Addr::ip);
    vips.filter(|vip| !vip.is_loopback()).collect()
}

/// The real servers behind a VIP that may be on its segment: those of its family.
fn servers(director: &Director, vip: IpAddr) -> Vec<IpAddr> {
    let servers = director.balancer.servers_behind(Addr::from(vip));
    let servers = servers.map(|server| server.key.address);
    let servers: BTreeSet<IpAddr> = servers
        .filter(|address| address.is_ipv4() == vip.is_ipv4())
        .collect();
    servers.into_iter().collect()
}

fn tell(news: &News, network: &Network, agents: &AgentsDesk) {
    let Rival { vip, ifindex, mac } = news.rival;
    let at = interface(network, ifindex);
    let who = match news.server {
        Some(server) => match agents.identity(server) {
            Some(agent) => format!("real server {server} (agent {agent}, {mac})"),
            None => format!("real server {server} ({mac})"),
        },
        None => format!("a host that is no real server of it ({mac})"),
    };
    let protocol = match vip {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    };
    match (news.answers, news.server) {
        (true, Some(_)) => warn!(
            "{who} answers {protocol} for {vip} on {at}: clients may go there past the director; `rsagent check' \
             there says how to mend it"
        ),
        (true, None) => warn!(
            "{who} answers {protocol} for {vip} on {at}: clients may go there past the director; find it by its \
             Ethernet address, and take the VIP away from it"
        ),
        (false, _) => info!("{who} does not answer {protocol} for {vip} on {at} any more"),
    }
}

fn port(network: &Network, ifindex: u32) -> Option<(PortId, &Port)> {
    let id = network.port_of(ifindex)?;
    Some((id, network.port(id)?))
}

fn interface(network: &Network, ifindex: u32) -> String {
    port(network, ifindex).map_or_else(
        || format!("interface {ifindex}"),
        |(_, port)| port.name.clone(),
    )
}

/// The token of the sockets.
pub(super) const RIVALS: Token = Token(4);
/// Answers of each protocol taken in one turn of the loop.
const BUDGET: usize = 64;
