//! The labels of real servers' samples. Large sites leave some out: what then has the same labels is summed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::core::operation::{ServerKey, ServiceKey};

/// A label of the samples of real servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendLabel {
    /// The real server, such as `10.1.0.11:80`.
    Backend,
    /// Its service, such as `TCP 192.0.2.1:80` or `FWM 7`.
    Service,
    /// The VIP; empty for services by firewall mark.
    LocalAddress,
    /// The firewall mark as the kernel lists it, in hexadecimal digits; empty for services by address.
    LocalMark,
    /// The port of the VIP; 0 for services by firewall mark.
    LocalPort,
    /// `TCP`, `UDP` or `FWM`.
    Proto,
    /// The real server's address.
    RemoteAddress,
    /// The real server's port.
    RemotePort,
}

impl BackendLabel {
    /// Those of `lvs_backend_*`.
    pub const OWN: [BackendLabel; 2] = [BackendLabel::Backend, BackendLabel::Service];

    /// Those of node_exporter's `node_ipvs_backend_*`.
    pub const NODE_EXPORTER: [BackendLabel; 6] = [
        BackendLabel::LocalAddress,
        BackendLabel::LocalMark,
        BackendLabel::LocalPort,
        BackendLabel::Proto,
        BackendLabel::RemoteAddress,
        BackendLabel::RemotePort,
    ];

    /// All names, as a configuration writes them.
    pub const NAMES: [&str; 8] = [
        "service",
        "backend",
        "local_address",
        "local_port",
        "remote_address",
        "remote_port",
        "proto",
        "local_mark",
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            BackendLabel::Backend => "backend",
            BackendLabel::Service => "service",
            BackendLabel::LocalAddress => "local_address",
            BackendLabel::LocalMark => "local_mark",
            BackendLabel::LocalPort => "local_port",
            BackendLabel::Proto => "proto",
            BackendLabel::RemoteAddress => "remote_address",
            BackendLabel::RemotePort => "remote_port",
        }
    }

    /// The label of this name.
    pub fn by_name(name: &str) -> Option<BackendLabel> {
        let mut all = Self::OWN.into_iter().chain(Self::NODE_EXPORTER);
        all.find(|label| label.name() == name)
    }

    /// What it says of a server.
    pub(super) fn value(self, service: &ServiceKey, server: &ServerKey) -> String {
        match self {
            BackendLabel::Backend => server.to_string(),
            BackendLabel::Service => service.to_string(),
            BackendLabel::RemoteAddress => server.address.to_string(),
            BackendLabel::RemotePort => server.port.to_string(),
            BackendLabel::LocalAddress => address(service).map_or(String::new(), |a| a.to_string()),
            BackendLabel::LocalPort => match service {
                ServiceKey::Address { port, .. } => port.to_string(),
                ServiceKey::Mark { .. } => "0".to_owned(),
            },
            BackendLabel::LocalMark => match service {
                ServiceKey::Address { .. } => String::new(),
                ServiceKey::Mark { mark, .. } => format!("{mark:08X}"),
            },
            BackendLabel::Proto => match service {
                ServiceKey::Address { protocol, .. } => protocol.to_string(),
                ServiceKey::Mark { .. } => "FWM".to_owned(),
            },
        }
    }
}

fn address(service: &ServiceKey) -> Option<IpAddr> {
    match service {
        ServiceKey::Address { address, .. } => Some(*address),
        ServiceKey::Mark { .. } => None,
    }
}

/// `[metrics] backend_labels`: those that are kept; all by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendLabels(BTreeSet<BackendLabel>);

impl BackendLabels {
    /// Those of `these` that are kept, in that order.
    pub(super) fn of(&self, these: &[BackendLabel]) -> Vec<BackendLabel> {
        let kept = these.iter().filter(|label| self.0.contains(label));
        kept.copied().collect()
    }
}

impl Default for BackendLabels {
    fn default() -> BackendLabels {
        let all = BackendLabel::OWN
            .into_iter()
            .chain(BackendLabel::NODE_EXPORTER);
        all.collect()
    }
}

impl FromIterator<BackendLabel> for BackendLabels {
    fn from_iter<T: IntoIterator<Item = BackendLabel>>(labels: T) -> BackendLabels {
        BackendLabels(labels.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use shared::addr::{Family, Protocol};

    use super::*;

    #[test]
    fn every_label_has_its_name() {
        for name in BackendLabel::NAMES {
            assert_eq!(BackendLabel::by_name(name).unwrap().name(), name);
        }
        assert_eq!(BackendLabels::default().0.len(), BackendLabel::NAMES.len());
        assert_eq!(BackendLabel::by_name("client"), None);
    }

    /// As node_exporter reads them in `/proc/net/ip_vs`.
    #[test]
    fn node_exporters_labels_have_its_values() {
        let server = ServerKey {
            address: [10, 1, 0, 11].into(),
            port: 8080,
        };
        let values = |service: &ServiceKey| {
            BackendLabel::NODE_EXPORTER.map(|label| label.value(service, &server))
        };
        let by_address = ServiceKey::new(Protocol::UDP, [192, 0, 2, 1], 53);
        let expected = ["192.0.2.1", "", "53", "UDP", "10.1.0.11", "8080"];
        assert_eq!(values(&by_address), expected);
        let by_mark = ServiceKey::Mark {
            mark: 0x1000_1000,
            family: Family::V4,
        };
        let expected = ["", "10001000", "0", "FWM", "10.1.0.11", "8080"];
        assert_eq!(values(&by_mark), expected);
    }
}
