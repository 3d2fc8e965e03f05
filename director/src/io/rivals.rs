//! Asks by ARP who else has the director's VIPs, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pnet_base::MacAddr;
use pnet_packet::Packet as _;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::EtherTypes;
use shared::addr::Addr;
use shared::sys::SyscallError;
use shared::time::Time;
use shared::wire::{ethernet, vnet};
use tracing::{info, warn};

use super::agents::AgentsDesk;
use crate::core::director::Director;
use crate::core::net::{Mac, Network, Port, PortId, Prefix};
use crate::core::verdict::{Outbox, Outgoing};
use crate::core::view::RivalView;
use crate::health::rivals::{News, Question, Rival, Rivals};
use crate::sys::arp_tap::ArpTap;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Lookout {
    tap: ArpTap,
    rivals: Rivals,
    /// Whether there may be more answers.
    ready: bool,
}

impl Lookout {
    pub(super) fn open(registry: &Registry, now: Time) -> Result<Lookout, SyscallError> {
        let tap = ArpTap::open()?;
        let register =
            registry.register(&mut SourceFd(&tap.as_raw_fd()), RIVALS, Interest::READABLE);
        register.map_err(|source| SyscallError {
            call: "epoll_ctl",
            source,
        })?;
        Ok(Lookout {
            tap,
            rivals: Rivals::new(now),
            ready: false,
        })
    }

    /// The socket has something.
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
            if let Some(frame) = ask(&question, sender(&question, senders), &director.network) {
                outbox.push(frame);
            }
        }
    }

    fn receive(&mut self, now: Time, director: &Director) {
        let mut buffer = [0; ethernet::LENGTH + ARP_BYTES];
        for _ in 0..BUDGET {
            if !self.ready {
                return;
            }
            match self.tap.receive(&mut buffer) {
                Ok(Some((ifindex, length))) => self.hear(now, ifindex, &buffer[..length], director),
                Ok(None) => self.ready = false,
                // Of an interface that went down; others may have more.
                Err(_) => {}
            }
        }
    }

    fn hear(&mut self, now: Time, ifindex: u32, frame: &[u8], director: &Director) {
        let packet = frame.get(ethernet::LENGTH..).and_then(ArpPacket::new);
        let Some(packet) = packet.filter(is_of_ipv4) else {
            return;
        };
        let mac = Mac(packet.get_sender_hw_addr().octets());
        if director.network.ports().any(|(_, port)| port.mac == mac) {
            return;
        }
        let vip = packet.get_sender_proto_addr();
        let servers = || servers(director, vip);
        self.rivals.hear(now, (ifindex, mac), vip, servers);
    }

    /// The addresses that may ask on an interface: its own that are no VIPs, for those are also a real server's,
    /// which would not answer itself.
    fn senders(&self, network: &Network, ifindex: u32) -> Vec<Prefix> {
        let addresses = network.addresses_of(ifindex);
        let addresses = addresses.filter(|prefix| match prefix.address.ip() {
            IpAddr::V4(address) => !self.rivals.is_vip(address),
            IpAddr::V6(_) => false,
        });
        addresses.collect()
    }

    /// Those who answer for VIPs.
    pub(super) fn views(&self, network: &Network) -> Vec<RivalView> {
        let views = self.rivals.all().map(|(rival, server)| RivalView {
            vip: rival.vip.into(),
            interface: interface(network, rival.ifindex),
            mac: rival.mac.to_string(),
            server: server.map(IpAddr::V4),
        });
        views.collect()
    }
}

fn is_of_ipv4(packet: &ArpPacket<'_>) -> bool {
    packet.get_protocol_type() == EtherTypes::Ipv4
        && (packet.get_hw_addr_len(), packet.get_proto_addr_len()) == (6, 4)
}

/// The VIPs that this host is to answer for: of services, and addresses of its own. With a director that stands
/// by they are another one's.
fn vips(director: &Director) -> BTreeSet<Ipv4Addr> {
    let local = director.network.local_addresses();
    let vips = local.filter(|&address| director.balancer.serves_at(address));
    vips.filter_map(|vip| match vip.ip() {
        IpAddr::V4(vip) if !vip.is_loopback() => Some(vip),
        _ => None,
    })
    .collect()
}

/// The real servers behind a VIP.
fn servers(director: &Director, vip: Ipv4Addr) -> Vec<Ipv4Addr> {
    let servers = director.balancer.servers_behind(Addr::from(vip));
    let servers: BTreeSet<Ipv4Addr> = servers
        .filter_map(|server| match server.key.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    servers.into_iter().collect()
}

/// Who asks: an address of the same network, else any of the interface, else none (RFC 5227, 2.1.1).
fn sender(question: &Question, senders: &[Prefix]) -> Ipv4Addr {
    let near = |prefix: &&Prefix| prefix.contains(Addr::from(question.address));
    let sender = senders.iter().find(near).or(senders.first());
    match sender.map(|prefix| prefix.address.ip()) {
        Some(IpAddr::V4(sender)) => sender,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

/// As a client would ask.
fn ask(question: &Question, sender: Ipv4Addr, network: &Network) -> Option<Outgoing> {
    let (id, port) = port(network, question.ifindex)?;
    let mac = MacAddr::from(port.mac.0);
    let mut arp = [0; ARP_BYTES];
    let mut packet = MutableArpPacket::new(&mut arp)?;
    packet.set_hardware_type(ArpHardwareTypes::Ethernet);
    packet.set_protocol_type(EtherTypes::Ipv4);
    packet.set_hw_addr_len(6);
    packet.set_proto_addr_len(4);
    packet.set_operation(ArpOperations::Request);
    packet.set_sender_hw_addr(mac);
    packet.set_sender_proto_addr(sender);
    packet.set_target_proto_addr(question.address);
    let header = ethernet::Header {
        destination: [0xff; 6],
        source: port.mac.0,
        ethertype: ethernet::ARP,
    };
    let parts = [&[0; vnet::LENGTH][..], &header.to_bytes(), packet.packet()];
    Some(Outgoing::Transmit(id, parts.concat()))
}

fn tell(news: &News, network: &Network, agents: &AgentsDesk) {
    let Rival { vip, ifindex, mac } = news.rival;
    let at = interface(network, ifindex);
    let who = match news.server {
        Some(server) => match agents.identity(server.into()) {
            Some(agent) => format!("real server {server} (agent {agent}, {mac})"),
            None => format!("real server {server} ({mac})"),
        },
        None => format!("a host that is no real server of it ({mac})"),
    };
    match (news.answers, news.server) {
        (true, Some(_)) => warn!(
            "{who} answers ARP for {vip} on {at}: clients may go there past the director; `rsagent check' \
             there says how to mend it"
        ),
        (true, None) => warn!(
            "{who} answers ARP for {vip} on {at}: clients may go there past the director; find it by its \
             Ethernet address, and take the VIP away from it"
        ),
        (false, _) => info!("{who} does not answer ARP for {vip} on {at} any more"),
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

/// The token of the socket.
pub(super) const RIVALS: Token = Token(4);
/// Answers taken in one turn of the loop.
const BUDGET: usize = 64;
/// RFC 826, for Ethernet and IPv4.
const ARP_BYTES: usize = 28;
