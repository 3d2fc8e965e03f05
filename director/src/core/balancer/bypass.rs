//! Around the real servers (`cache_bypass`): when a service by mark, of a transparent cache, has no server
//! for a connection, its packets go where they go themselves.

use std::net::Ipv4Addr;

use shared::addr::FlowKey;
use shared::time::Time;

use super::schedule::Birth;
use super::{Balancer, Class};
use crate::core::operation::{ForwardMethod, ServerKey, ServerSpec, ServiceKey};
use crate::core::reason::Reason;
use crate::core::server::Server;
use crate::core::service::ServiceId;

impl Balancer {
    /// The connection that bypasses a service's servers, if it may.
    pub(super) fn bypass(
        &mut self,
        now: Time,
        flow: &FlowKey,
        service_id: ServiceId,
    ) -> Option<Class> {
        let key = self.services[service_id].spec.key;
        let may = self.settings.sysctl.cache_bypass != 0
            && matches!(key, ServiceKey::Mark { .. })
            && flow.destination.is_unicast();
        if !may {
            return None;
        }
        if !self.connections.has_room(1) {
            return Some(Class::Drop(Reason::TableFull));
        }
        let name = ServerKey {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
        };
        // In the place of a server there is one that nobody has configured and nothing is counted for. It
        // waits with the removed ones until nobody has needed it for a while.
        let server = match self.trash.take(key, name) {
            Some(server) => server,
            None => {
                let spec = ServerSpec::new(name.address, name.port, ForwardMethod::Bypass, 1);
                self.services[service_id].server_objects += 1;
                self.servers.insert(Server::around(service_id, spec))
            }
        };
        self.trash.put(now, key, name, server);
        let birth = Birth {
            server,
            port: name.port,
            template: None,
        };
        Some(self.begin(now, flow, &birth))
    }
}
