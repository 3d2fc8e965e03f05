//! What IPsec's packets follow, having no ports of their own: the conversation of the same two hosts about
//! their keys (IKE, RFC 7296 section 2).

use shared::addr::{Addr, FlowKey, Protocol};

/// The flow in which one host speaks with another of keys.
pub fn key_exchange((source, destination): (Addr, Addr)) -> FlowKey {
    FlowKey {
        protocol: Protocol::UDP,
        source,
        source_port: IKE,
        destination,
        destination_port: IKE,
    }
}

/// Whether a service of this protocol and port, 0 being all ports, takes part in it.
pub fn is_of_keys(protocol: Protocol, port: u16) -> bool {
    protocol == Protocol::UDP && matches!(port, 0 | IKE)
}

const IKE: u16 = 500;
