//! What changed, in the administrator's words, for the log.

use tracing::info;

use crate::core::operation::{ForwardMethod, Operation, OperationError, ServerSpec};

/// Who asked for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The configuration or the rules file.
    File,
    /// `lvsadm`.
    Command,
}

/// One line for a change that was made.
pub(super) fn done(operation: &Operation, source: Source) {
    let by = match source {
        Source::File => "file",
        Source::Command => "lvsadm",
    };
    info!(by, "{}", sentence(operation));
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
    }
}

fn facts(server: &ServerSpec) -> String {
    let method = match server.forward {
        ForwardMethod::Nat => "NAT",
        ForwardMethod::Direct => "direct routing",
        ForwardMethod::Tunnel => "tunnel",
        ForwardMethod::Local => "local",
        ForwardMethod::FullNat => "FULLNAT",
    };
    format!("{method}, weight {}", server.weight)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use shared::addr::Protocol;

    use super::*;
    use crate::core::operation::{ServerKey, ServiceKey, TimeoutChange};

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
}
