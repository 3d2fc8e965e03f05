//! What changed, in the administrator's words, for the log.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::info;

use crate::core::judgement::Afterwards;
use crate::core::operation::{
    ForwardMethod, Operation, OperationError, ServerKey, ServerSpec, ServiceKey,
};

/// Who asked for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The configuration or the rules file.
    File,
    /// `lvsadm`.
    Command,
}

/// Says what changed, and knows who was here before.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    gone: BTreeSet<(ServiceKey, ServerKey)>,
}

impl Announcer {
    /// One line for a change that was made.
    pub(super) fn done(&mut self, operation: &Operation, source: Source) {
        let by = match source {
            Source::File => "file",
            Source::Command => "lvsadm",
        };
        info!(by, "{}", self.sentence(operation));
    }

    fn sentence(&mut self, operation: &Operation) -> String {
        match operation {
            Operation::AddServer(service, server) => {
                let known = self.gone.remove(&(*service, server.key));
                let word = if known { "back" } else { "here" };
                format!("{} is {word}, for {service}, {}", server.key, facts(server))
            }
            Operation::DeleteServer(service, server) => {
                if self.gone.len() < MOST_REMEMBERED {
                    self.gone.insert((*service, *server));
                }
                sentence(operation)
            }
            Operation::DeleteService(key) => {
                self.gone.retain(|(service, _)| service != key);
                sentence(operation)
            }
            Operation::Flush => {
                self.gone.clear();
                sentence(operation)
            }
            _ => sentence(operation),
        }
    }
}

/// One line for a change that was refused.
pub(super) fn refused(operation: &Operation, error: &OperationError) {
    tracing::error!("{}: {error}", attempt(operation));
}

fn sentence(operation: &Operation) -> String {
    match operation {
        Operation::AddService(spec) => format!("service {} is here, {}", spec.key, spec.scheduler),
        Operation::EditService(spec) => {
            format!("service {} is changed, {}", spec.key, spec.scheduler)
        }
        Operation::DeleteService(key) => format!("service {key} is gone"),
        Operation::Flush => "all services are gone".to_owned(),
        Operation::AddServer(service, server) => {
            format!("{} is here, for {service}, {}", server.key, facts(server))
        }
        Operation::EditServer(service, server) => {
            format!(
                "{} is changed, for {service}, {}",
                server.key,
                facts(server)
            )
        }
        Operation::DeleteServer(service, server) => format!("{server} is gone, from {service}"),
        Operation::Zero(None) => "all counters are zero".to_owned(),
        Operation::Zero(Some(service)) => format!("counters of {service} are zero"),
        Operation::SetTimeouts(change) => {
            let words: Vec<String> = [
                ("tcp", change.tcp),
                ("tcpfin", change.tcp_fin),
                ("udp", change.udp),
            ]
            .iter()
            .filter(|(_, seconds)| *seconds != 0)
            .map(|(name, seconds)| format!("{name} {seconds} s"))
            .collect();
            format!("timeouts are {}", words.join(", "))
        }
        Operation::SetMarks(rules) => format!("{} rules mark packets", rules.len()),
        Operation::SetDeny(rules) => format!("{} sources are denied", rules.len()),
        Operation::AddLocalAddress { address, .. } => {
            format!("local address {address} gives ports to FULLNAT connections")
        }
        Operation::DeleteLocalAddress(address) => {
            format!("local address {address} gives no further ports")
        }
        Operation::Drain {
            address,
            port,
            deadline_secs,
            then,
        } => {
            let deadline = match (deadline_secs, then) {
                (None, _) => String::new(),
                (Some(secs), Afterwards::Keep) => format!(", within {secs} s"),
                (Some(secs), Afterwards::Reset) => {
                    format!(", and what is left of its connections after {secs} s is reset")
                }
            };
            format!("{} is drained{deadline}", server_name(*address, *port))
        }
        Operation::Ready { address, port } => {
            format!("{} is not drained any more", server_name(*address, *port))
        }
        Operation::SetLocalClients(true) => "this host's own clients are balanced".to_owned(),
        Operation::SetLocalClients(false) => "this host's own clients are not balanced".to_owned(),
        Operation::SetSysctl { name, value } => format!("{name} is {value}"),
    }
}

fn attempt(operation: &Operation) -> String {
    match operation {
        Operation::AddService(spec) => format!("adding {}", spec.key),
        Operation::EditService(spec) => format!("changing {}", spec.key),
        Operation::DeleteService(key) => format!("removing {key}"),
        Operation::Flush => "removing all services".to_owned(),
        Operation::AddServer(service, server) => format!("adding {} to {service}", server.key),
        Operation::EditServer(service, server) => format!("changing {} of {service}", server.key),
        Operation::DeleteServer(service, server) => format!("removing {server} from {service}"),
        Operation::Zero(_) => "zeroing counters".to_owned(),
        Operation::SetTimeouts(_) => "setting timeouts".to_owned(),
        Operation::SetMarks(_) => "setting what is marked".to_owned(),
        Operation::SetDeny(_) => "setting who is denied".to_owned(),
        Operation::Drain { address, port, .. } => {
            format!("draining {}", server_name(*address, *port))
        }
        Operation::Ready { address, port } => {
            format!("ending the drain of {}", server_name(*address, *port))
        }
        Operation::SetLocalClients(_) => "setting local_clients".to_owned(),
        Operation::AddLocalAddress { address, .. } => format!("adding local address {address}"),
        Operation::DeleteLocalAddress(address) => format!("removing local address {address}"),
        Operation::SetSysctl { name, .. } => format!("setting {name}"),
    }
}

fn server_name(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(
        || address.to_string(),
        |port| ServerKey { address, port }.to_string(),
    )
}

fn facts(server: &ServerSpec) -> String {
    let method = match server.forward {
        ForwardMethod::Nat => "NAT",
        ForwardMethod::Direct => "direct routing",
        ForwardMethod::Tunnel => "tunnel",
        ForwardMethod::Local => "local",
        ForwardMethod::FullNat => "FULLNAT",
        ForwardMethod::Bypass => "bypass",
    };
    format!("{method}, weight {}", server.weight)
}

/// Servers that went and may come back.
const MOST_REMEMBERED: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shared::addr::Protocol;

    use super::*;
    use crate::core::operation::TimeoutChange;

    #[test]
    fn sentences_name_the_thing() {
        let key = ServiceKey::new(Protocol::TCP, Ipv4Addr::new(192, 0, 2, 1), 80);
        let server = ServerSpec::new(Ipv4Addr::new(10, 0, 0, 8), 8080, ForwardMethod::Nat, 2);
        let gone = ServerKey {
            address: Ipv4Addr::new(10, 0, 0, 8).into(),
            port: 8080,
        };
        for (operation, words) in [
            (
                Operation::AddServer(key, server),
                "10.0.0.8:8080 is here, for TCP 192.0.2.1:80, NAT, weight 2",
            ),
            (
                Operation::DeleteServer(key, gone),
                "10.0.0.8:8080 is gone, from TCP 192.0.2.1:80",
            ),
            (
                Operation::SetTimeouts(TimeoutChange {
                    tcp: 60,
                    tcp_fin: 0,
                    udp: 5,
                }),
                "timeouts are tcp 60 s, udp 5 s",
            ),
        ] {
            assert_eq!(sentence(&operation), words);
        }
    }

    #[test]
    fn who_returns_is_back() {
        let key = ServiceKey::new(Protocol::TCP, Ipv4Addr::new(192, 0, 2, 1), 80);
        let server = ServerSpec::new(Ipv4Addr::new(10, 0, 0, 8), 80, ForwardMethod::Direct, 1);
        let (go, come) = (
            Operation::DeleteServer(key, server.key),
            Operation::AddServer(key, server),
        );
        let mut announcer = Announcer::default();
        let words = [&come, &go, &come, &go, &Operation::Flush, &come];
        let said: Vec<String> = words
            .iter()
            .map(|operation| announcer.sentence(operation))
            .collect();
        assert!(said[0].starts_with("10.0.0.8:80 is here, "));
        assert!(said[1].starts_with("10.0.0.8:80 is gone, "));
        assert!(said[2].starts_with("10.0.0.8:80 is back, "));
        assert!(said[5].starts_with("10.0.0.8:80 is here, "));
    }
}
