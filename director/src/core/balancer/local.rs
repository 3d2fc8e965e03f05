//! The local addresses of FULLNAT: which there are, who has their ports, and what is taken from the wire for
//! them.

use std::net::IpAddr;

use shared::addr::{Addr, Family, FlowKey, Protocol};

use super::Balancer;
use crate::core::capture::CaptureKey;
use crate::core::connection::{Connection, ConnectionId, Endpoint};
use crate::core::forward::sequence::Shift;
use crate::core::local_ports::MOST_ADDRESSES;
use crate::core::operation::{
    ForwardMethod, Introduction, OperationError, SegmentSize, ServerKey, ServerSpec, ServiceKey,
    ServiceSpec,
};
use crate::core::service::ServiceId;
use crate::core::view::LocalAddressView;

impl Balancer {
    /// As whom the real server of a FULLNAT connection knows its client.
    #[inline]
    pub fn local_end(&self, connection: &Connection) -> Endpoint {
        let end = connection.local();
        Endpoint {
            address: self.locals.address(end.place),
            port: end.port,
        }
    }

    /// As whom the real server of any connection knows its client.
    pub(super) fn known_client(&self, connection: &Connection) -> Endpoint {
        if connection.forward() == ForwardMethod::FullNat {
            self.local_end(connection)
        } else {
            connection.client()
        }
    }

    /// What is changed in the sequence numbers of a TCP connection by FULLNAT.
    #[inline]
    pub fn shift_mut(&mut self, id: ConnectionId) -> Option<&mut Shift> {
        self.shifts.of_mut(id)
    }

    /// The same to look at; nothing of other connections.
    pub fn shift(&self, id: ConnectionId) -> Shift {
        match self.connection(id) {
            connection if connection.protocol() == Protocol::TCP => self.shifts.of(id),
            _ => Shift::default(),
        }
    }

    /// How the real server of a connection learns who its client is, if it is a new one.
    #[inline]
    pub fn introduction(&self, id: ConnectionId) -> Introduction {
        let server = &self.servers[self.connection(id).server()];
        match self.services[server.service].spec.beyond.introduction {
            // Nobody waits for a header in front of a file.
            Introduction::ProxyProtocol if self.is_data(id) => Introduction::None,
            introduction => introduction,
        }
    }

    /// The largest segments of a connection, as its service wants them.
    pub fn segment_size(&self, id: ConnectionId) -> SegmentSize {
        let server = &self.servers[self.connection(id).server()];
        self.services[server.service].spec.beyond.segment_size
    }

    /// How many segments went without the TOA option that they should have had: the way to the server has no
    /// room for them with it.
    pub fn unnamed_clients(&self) -> u64 {
        self.unnamed_clients
    }

    /// A secret number for the flow from a local address to a real server.
    pub fn hash_to_server(&self, id: ConnectionId) -> u32 {
        self.connections.hash_to_server(id)
    }

    /// The local addresses, and what is left of them.
    pub fn local_addresses(&self) -> Vec<LocalAddressView> {
        let places = self.locals.places();
        places
            .map(|(_, place)| LocalAddressView {
                address: place.address().ip(),
                listed: place.is_listed(),
                connections: place.used(),
                fewest_left: place.fewest_left(),
                conflicts: place.conflicts(),
            })
            .collect()
    }

    pub(super) fn add_local_address(&mut self, address: IpAddr) -> Result<(), OperationError> {
        check_address(address)?;
        let in_use = |key: &&ServiceKey| matches!(key, ServiceKey::Address { address: vip, .. } if *vip == address);
        if let Some(key) = self.by_key.keys().find(in_use) {
            return Err(OperationError::Unfit(format!(
                "local address {address} is that of service {key}; FULLNAT needs one of its own"
            )));
        }
        let mut wanted = self.listed();
        if wanted.contains(&address.into()) {
            return Ok(());
        }
        wanted.push(address.into());
        if !self.locals.has_room_for(&wanted) {
            return Err(OperationError::Unfit(format!(
                "{} local addresses, with those that connections still have, are more than {MOST_ADDRESSES}",
                wanted.len()
            )));
        }
        self.settle_local_addresses(&wanted);
        Ok(())
    }

    pub(super) fn delete_local_address(&mut self, address: IpAddr) -> Result<(), OperationError> {
        let before = self.listed();
        let wanted = before.iter().copied();
        let wanted: Vec<Addr> = wanted.filter(|&other| other != address.into()).collect();
        if wanted.len() == before.len() {
            return Err(OperationError::Unfit(format!(
                "{address} is no local address of FULLNAT"
            )));
        }
        let family = Family::of(address);
        if !wanted.iter().any(|other| other.family() == family)
            && let Some(server) = self.any_full_nat(family)
        {
            return Err(OperationError::Unfit(format!(
                "real server {server} needs a local address, and {address} is the last one of its family: \
                 remove the server first"
            )));
        }
        self.settle_local_addresses(&wanted);
        Ok(())
    }

    /// A real server that needs a local address of a family.
    fn any_full_nat(&self, family: Family) -> Option<ServerKey> {
        let servers = self.services.values().flat_map(|service| &service.servers);
        let mut specs = servers.map(|&server| self.servers[server].spec());
        let needs_one = specs.find(|server| {
            server.forward == ForwardMethod::FullNat && Family::of(server.key.address) == family
        });
        needs_one.map(|server| server.key)
    }

    /// Those that give ports.
    fn listed(&self) -> Vec<Addr> {
        let places = self.locals.places().filter(|(_, place)| place.is_listed());
        places.map(|(_, place)| place.address()).collect()
    }

    fn settle_local_addresses(&mut self, wanted: &[Addr]) {
        let before: Vec<Addr> = self.locals.places().map(|(_, p)| p.address()).collect();
        self.locals.set_addresses(wanted);
        for (at, place) in self.locals.places() {
            self.connections.set_local(at, place.address());
        }
        let after: Vec<Addr> = self.locals.places().map(|(_, p)| p.address()).collect();
        for &address in after.iter().filter(|address| !before.contains(address)) {
            keys(address).for_each(|key| self.captures.acquire(key));
        }
        for &address in before.iter().filter(|address| !after.contains(address)) {
            keys(address).for_each(|key| self.captures.release(key));
        }
    }

    /// A connection by NAT has begun: if its client is on this host, what is sent to it is taken.
    #[cold]
    pub(super) fn expect_answers(&mut self, flow: &FlowKey) {
        let address = flow.source;
        if self.captures.contains(CaptureKey::Local { address }) {
            self.captures.acquire(CaptureKey::Client {
                protocol: flow.protocol,
                address,
                port: flow.source_port,
            });
        }
    }

    /// A connection by NAT has ended.
    #[cold]
    pub(super) fn expect_no_more_answers(&mut self, connection: &Connection) {
        let client = connection.client();
        let key = CaptureKey::Client {
            protocol: connection.protocol(),
            address: client.address,
            port: client.port,
        };
        if self.captures.contains(key) {
            self.captures.release(key);
        }
    }

    /// A FULLNAT connection has ended.
    pub(super) fn let_port_go(&mut self, connection: &Connection) {
        let end = connection.local();
        let address = self.locals.address(end.place);
        self.locals
            .let_go(connection.protocol(), connection.destination(), end);
        // It was the last one of an address that is none any more.
        if !self.locals.contains(address) {
            keys(address).for_each(|key| self.captures.release(key));
        }
    }

    /// What FULLNAT needs of a real server and its service.
    pub(super) fn check_full_nat(
        &self,
        service: ServiceId,
        server: &ServerSpec,
    ) -> Result<(), OperationError> {
        if server.forward != ForwardMethod::FullNat {
            return Ok(());
        }
        if !self.locals.has_any(Family::of(server.key.address)) {
            return Err(OperationError::Unfit(format!(
                "real server {} is forwarded to by FULLNAT, and there is no local address of its family: name \
                 one in local_addresses of [fullnat], or by lvsadm -P",
                server.key
            )));
        }
        if self.services[service].spec.one_packet {
            return Err(one_packet(server));
        }
        Ok(())
    }

    /// An answer by FULLNAT finds its client by the connection, which one-packet scheduling does not keep.
    pub(super) fn check_one_packet(
        &self,
        id: ServiceId,
        spec: &ServiceSpec,
    ) -> Result<(), OperationError> {
        let servers = self.services[id].servers.iter();
        let servers = servers.map(|&server| self.servers[server].spec());
        let full_nat = { servers }.find(|server| server.forward == ForwardMethod::FullNat);
        match full_nat {
            Some(server) if spec.one_packet => Err(one_packet(server)),
            _ => Ok(()),
        }
    }

    /// A local address takes all packets to it; nobody else can be served there.
    pub(super) fn check_is_not_local(&self, spec: &ServiceSpec) -> Result<(), OperationError> {
        match spec.key {
            ServiceKey::Address { address, .. } if self.locals.contains(address.into()) => {
                Err(OperationError::Unfit(format!(
                    "{address} is a local address of FULLNAT, which no service can have"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Everything of TCP, UDP and SCTP that is sent to a local address, and errors about what it has sent.
fn keys(address: Addr) -> impl Iterator<Item = CaptureKey> {
    let key = move |protocol| CaptureKey::Service {
        protocol,
        address,
        port: 0,
    };
    [Protocol::TCP, Protocol::UDP, Protocol::SCTP]
        .into_iter()
        .map(key)
}

fn one_packet(server: &ServerSpec) -> OperationError {
    OperationError::Unfit(format!(
        "real server {} is forwarded to by FULLNAT, which one-packet scheduling does not go with",
        server.key
    ))
}

fn check_address(address: IpAddr) -> Result<(), OperationError> {
    let of_one_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if Addr::from(address).is_unicast() && !address.is_loopback() && !of_one_link {
        return Ok(());
    }
    Err(OperationError::Invalid(format!(
        "local address {address} is not the address of one host that others can answer"
    )))
}
