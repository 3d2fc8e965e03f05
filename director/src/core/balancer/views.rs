//! What the balancer shows of itself.

use shared::time::Time;

use super::{Balancer, ConnectionId};
use crate::core::connection::Connection;
use crate::core::operation::{ServerSpec, ServiceKey};
use crate::core::protocol::tcp::TcpState;
use crate::core::server::Server;
use crate::core::service::{Service, ServiceId};
use crate::core::view::{ConnectionView, ServiceView, StatsView, SysctlView, TimeoutsView};

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

    /// The names of all services.
    pub fn service_keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.by_key.keys()
    }

    /// The real servers of a service, without its sorry server.
    pub fn servers(&self, key: &ServiceKey) -> impl Iterator<Item = &ServerSpec> {
        let service = self.id_of(key).ok().map(|id| &self.services[id]);
        let ids = service.into_iter().flat_map(|service| &service.servers);
        let servers = ids.map(|&id| &self.servers[id]);
        servers
            .filter(|server| !server.is_sorry())
            .map(Server::spec)
    }

    /// One service.
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        let id: ServiceId = self.id_of(key).ok()?;
        Some(self.view(&self.services[id]))
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
        let views = connections.map(|(_, connection)| connection_view(now, connection));
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
        connection_view(now, self.connection(id))
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

fn connection_view(now: Time, connection: &Connection) -> ConnectionView {
    let (client, virtual_endpoint, destination) = (
        connection.client(),
        connection.virtual_endpoint(),
        connection.destination(),
    );
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
    }
}
