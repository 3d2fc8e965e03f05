//! What the balancer shows of itself.

use std::ops::Bound;

use shared::addr::Addr;
use shared::time::Time;

use super::{Balancer, ConnectionId};
use crate::core::operation::{ServerSpec, ServiceKey};
use crate::core::protocol::tcp::TcpState;
use crate::core::server::Server;
use crate::core::service::{SIP, Service, ServiceId};
use crate::core::view::{
    ConnectionView, EngineView, ServiceView, StatsView, SysctlView, TimeoutsView,
};

impl Balancer {
    /// All services, in the kernel's order (its hash table's, which says little).
    pub fn services(&self) -> Vec<ServiceView> {
        let mut services: Vec<&Service> =
            self.by_key.values().map(|&id| &self.services[id]).collect();
        services.sort_by_key(|service| service.list_position());
        services
            .into_iter()
            .map(|service| self.view(service))
            .collect()
    }

    /// Whether there are services at this address.
    pub fn serves_at(&self, address: Addr) -> bool {
        self.services_at(address).next().is_some()
    }

    /// The real servers of all services at this address, without sorry servers. One of several services comes
    /// several times.
    pub fn servers_behind(&self, address: Addr) -> impl Iterator<Item = &ServerSpec> {
        let services = self.services_at(address);
        services.flat_map(|service| self.servers_of(service))
    }

    /// The real servers of a service, without its sorry server.
    pub fn servers(&self, key: &ServiceKey) -> impl Iterator<Item = &ServerSpec> {
        let service = self.id_of(key).ok().map(|id| &self.services[id]);
        service
            .into_iter()
            .flat_map(|service| self.servers_of(service))
    }

    fn services_at(&self, address: Addr) -> impl Iterator<Item = &Service> {
        let all = (address, u16::MIN, u8::MIN)..=(address, u16::MAX, u8::MAX);
        let services = self.by_destination.range(all);
        services.map(|(_, &id)| &self.services[id])
    }

    fn servers_of(&self, service: &Service) -> impl Iterator<Item = &ServerSpec> {
        let servers = service.servers.iter().map(|&id| &self.servers[id]);
        servers
            .filter(|server| !server.is_sorry())
            .map(Server::spec)
    }

    /// One service.
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        let id: ServiceId = self.id_of(key).ok()?;
        Some(self.view(&self.services[id]))
    }

    /// The first service behind this one in the order of keys, or the first of all: for those who look at one
    /// after the other while services come and go.
    pub fn service_after(&self, key: Option<&ServiceKey>) -> Option<ServiceView> {
        let behind = key.map_or(Bound::Unbounded, Bound::Excluded);
        let (_, &id) = self.by_key.range((behind, Bound::Unbounded)).next()?;
        Some(self.view(&self.services[id]))
    }

    /// How many services there are.
    pub fn service_count(&self) -> usize {
        self.by_key.len()
    }

    /// The connections in the next `most` slots of the table from `cursor` on (0 to begin with), and
    /// the cursor to go on with. Connections that come and go in between may be missed.
    pub fn connections(
        &self,
        now: Time,
        cursor: usize,
        most: usize,
    ) -> (Vec<ConnectionView>, Option<usize>) {
        let (connections, rest) = self.connections.piece(cursor, most);
        let views = connections.map(|(id, _)| self.connection_view(now, id));
        (views.collect(), rest)
    }

    /// What `--set` changes.
    pub fn timeouts(&self) -> TimeoutsView {
        let timeouts = &self.settings.timeouts;
        TimeoutsView {
            tcp: timeouts.tcp.secs(TcpState::Established),
            tcp_fin: timeouts.tcp.secs(TcpState::FinWait),
            udp: timeouts.udp_secs,
        }
    }

    /// The switches of `net.ipv4.vs`, by name.
    pub fn sysctls(&self) -> Vec<SysctlView> {
        let all = self.sysctl().all();
        let view = |(name, value): (&str, i32)| SysctlView {
            name: name.to_owned(),
            value,
        };
        all.map(view).collect()
    }

    /// Counters and rates of all services together.
    pub fn totals(&self) -> StatsView {
        self.estimator.view(&self.traffic)
    }

    /// How many connections there are.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// One connection, as a listing shows it.
    pub fn connection_view(&self, now: Time, id: ConnectionId) -> ConnectionView {
        let connection = self.connection(id);
        let (client, virtual_endpoint, destination) = (
            connection.client(),
            connection.virtual_endpoint(),
            connection.destination(),
        );
        let call = self.calls.id(id);
        ConnectionView {
            protocol: connection.protocol(),
            expires_ms: connection.deadline().since(now).as_millis() as u64,
            state: connection.state_name().to_owned(),
            client: client.address.ip(),
            client_port: client.port,
            virtual_address: virtual_endpoint.address.ip(),
            virtual_port: virtual_endpoint.port,
            destination: destination.address.ip(),
            destination_port: destination.port,
            engine: call.map(|call| EngineView {
                name: SIP.to_owned(),
                data: call.iter().copied().map(char::from).collect(),
            }),
        }
    }

    fn view(&self, service: &Service) -> ServiceView {
        ServiceView {
            spec: service.spec.clone(),
            stats: service.estimator.view(&service.traffic),
            guard: self.guard_view(service),
            servers: service
                .servers
                .iter()
                .map(|&id| self.servers[id].view(self.expired_at))
                .collect(),
        }
    }
}
