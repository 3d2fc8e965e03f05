//! The checks on a whole command line, and the command that comes out of it.

use shared::addr::{Family, Protocol};

use super::draft::{Draft, Server, Service, timeout};
use super::legality::{Opt, OptSet, TunnelType, Verb, check_command, check_tunnel};
use super::task::Task;
use super::{Command, Daemon, UsageError, flags};
use crate::core::operation::{
    ForwardMethod, Netmask, Operation, Persistence, SchedulerFlags, ServerKey, ServerSpec,
    ServiceKey, ServiceSpec, TimeoutChange, Tunnel,
};

/// Checks what the options say together; `words` is what was no option.
pub(super) fn finish(task: Task, draft: Draft, words: &[&str]) -> Result<Command, UsageError> {
    let verb = match task {
        Task::Plain(verb) => verb,
        Task::StartDaemon(_) => Verb::StartDaemon,
        Task::StopDaemon(_) => Verb::StopDaemon,
    };
    let (change, words) = match verb {
        Verb::Set => {
            let (change, rest) = timeout_change(words)?;
            (Some(change), rest)
        }
        _ => (None, words),
    };
    if let Some(word) = words.first() {
        return Err(UsageError::fault(format!("unexpected argument {word}")));
    }
    let scheduler = match draft.service.scheduler.as_str() {
        "" => DEFAULT_SCHEDULER.to_owned(),
        name => name.to_owned(),
    };
    let flags = flags::parse(&draft.service.flags, &scheduler)?;
    check_command(verb, draft.options)?;

    let command = match task {
        Task::StartDaemon(role) => Command::StartDaemon(Daemon {
            role,
            interface: match draft.daemon.interface.as_str() {
                "" => DEFAULT_SYNC_INTERFACE.to_owned(),
                name => name.to_owned(),
            },
            sync_id: draft.daemon.sync_id,
            max_length: draft.daemon.max_length,
            group: draft.daemon.group,
            port: draft.daemon.port,
            ttl: draft.daemon.ttl,
        }),
        Task::StopDaemon(role) => Command::StopDaemon(role),
        Task::Plain(Verb::List) => list(&draft)?,
        Task::Plain(Verb::Save) => Command::Save(draft.format.addresses),
        Task::Plain(Verb::Restore) => Command::Restore,
        Task::Plain(Verb::GetLocalAddresses) => Command::LocalAddresses,
        Task::Plain(verb) => Command::Apply(operation(verb, draft, scheduler, flags, change)?),
    };
    Ok(command)
}

fn operation(
    verb: Verb,
    draft: Draft,
    scheduler: String,
    flags: SchedulerFlags,
    change: Option<TimeoutChange>,
) -> Result<Operation, UsageError> {
    let Draft {
        options,
        service,
        server,
        local_address,
        interface,
        ..
    } = draft;
    if let Some(change) = change {
        return Ok(Operation::SetTimeouts(change));
    }
    match (verb, local_address) {
        // The addresses are for all services: for which one they are asked for makes no difference.
        (Verb::AddLocalAddress, Some(address)) => {
            return Ok(Operation::AddLocalAddress { address, interface });
        }
        (Verb::DeleteLocalAddress, Some(address)) => {
            return Ok(Operation::DeleteLocalAddress(address));
        }
        _ => {}
    }
    let key = service_key(&service);
    match (verb, key) {
        (Verb::Flush, _) => Ok(Operation::Flush),
        (Verb::AddService, Some(key)) => Ok(Operation::AddService(service_spec(
            key, service, scheduler, flags, options,
        )?)),
        (Verb::EditService, Some(key)) => Ok(Operation::EditService(service_spec(
            key, service, scheduler, flags, options,
        )?)),
        (Verb::DeleteService, Some(key)) => Ok(Operation::DeleteService(key)),
        (Verb::AddServer, Some(key)) => Ok(Operation::AddServer(
            key,
            server_spec(key, &server, options)?,
        )),
        (Verb::EditServer, Some(key)) => Ok(Operation::EditServer(
            key,
            server_spec(key, &server, options)?,
        )),
        (Verb::DeleteServer, Some(key)) => Ok(Operation::DeleteServer(key, server_key(&server)?)),
        (_, key) => Ok(Operation::Zero(key)),
    }
}

fn service_key(service: &Service) -> Option<ServiceKey> {
    if service.mark != 0 {
        return Some(ServiceKey::Mark {
            mark: service.mark,
            family: service.family?,
        });
    }
    Some(ServiceKey::new(
        service.protocol?,
        service.address?,
        service.port,
    ))
}

fn service_spec(
    key: ServiceKey,
    service: Service,
    scheduler: String,
    flags: SchedulerFlags,
    options: OptSet,
) -> Result<ServiceSpec, UsageError> {
    if let ServiceKey::Address { protocol, port, .. } = key {
        if port == 0 && service.persistence.is_none() {
            return Err(UsageError::fault(
                "Zero port specified for non-persistent service",
            ));
        }
        if service.one_packet && protocol != Protocol::UDP {
            return Err(UsageError::fault(
                "One-Packet Scheduling is only for UDP virtual services",
            ));
        }
    }
    if options.has(Opt::SetMss) && options.has(Opt::ClampMss) {
        return Err(UsageError::fault(
            "the largest segment is that of --set-mss or of --clamp-mss-to-pmtu, not both",
        ));
    }
    let netmask = match key.family() {
        Family::V4 => Netmask::V4(service.netmask),
        Family::V6 => Netmask::V6(u8::try_from(service.netmask).unwrap_or(128)),
    };
    Ok(ServiceSpec {
        key,
        scheduler,
        flags,
        persistence: service.persistence.map(|timeout_secs| Persistence {
            timeout_secs,
            netmask,
        }),
        // Of no name, to the kernel, is none.
        persistence_engine: service.engine.filter(|name| !name.is_empty()),
        one_packet: service.one_packet,
        beyond: service.beyond,
    })
}

fn server_spec(
    service: ServiceKey,
    server: &Server,
    options: OptSet,
) -> Result<ServerSpec, UsageError> {
    let mut key = server_key(server)?;
    // Only NAT can change the port. ipvsadm puts it right without a word.
    if let ServiceKey::Address { port, .. } = service
        && !server.forward.is_nat()
    {
        key.port = port;
    }
    if service.family() != Family::of(key.address) && !server.forward.may_change_family() {
        return Err(UsageError::fault(
            "Different address family is allowed only for tunneling servers",
        ));
    }
    if server.forward == ForwardMethod::Tunnel {
        check_tunnel(server.tunnel, options)?;
    } else if options.has_tunnel() {
        return Err(UsageError::fault(
            "Tunnel options conflict with forward method",
        ));
    }
    Ok(ServerSpec {
        key,
        forward: server.forward,
        weight: server.weight,
        upper_threshold: server.upper_threshold,
        lower_threshold: server.lower_threshold,
        tunnel: match server.tunnel {
            TunnelType::Ipip => Tunnel::Ipip,
            TunnelType::Gue => Tunnel::Gue {
                port: server.tunnel_port,
                checksum: server.tunnel_checksum,
            },
            TunnelType::Gre => Tunnel::Gre {
                checksum: server.tunnel_checksum,
            },
        },
    })
}

/// The legality table has made sure that there is one.
fn server_key(server: &Server) -> Result<ServerKey, UsageError> {
    server
        .key
        .ok_or_else(|| UsageError::fault("illegal real server address[:port] specified"))
}

fn list(draft: &Draft) -> Result<Command, UsageError> {
    let options = draft.options;
    let plain = options.has_any(&[Opt::Timeout, Opt::Daemon]);
    if ((plain || options.has(Opt::Connection))
        && options.has_any(&[Opt::Stats, Opt::Rate, Opt::Thresholds]))
        || (plain && options.has(Opt::PersistentConn))
    {
        return Err(UsageError::fault("options conflicts in the list command"));
    }
    Ok(if options.has(Opt::Connection) {
        Command::Connections(draft.format)
    } else if options.has(Opt::Timeout) {
        Command::Timeouts
    } else if options.has(Opt::Daemon) {
        Command::Daemons
    } else {
        Command::List(service_key(&draft.service), draft.format)
    })
}

fn timeout_change<'a, 'b>(
    words: &'a [&'b str],
) -> Result<(TimeoutChange, &'a [&'b str]), UsageError> {
    let [tcp, tcp_fin, udp, rest @ ..] = words else {
        return Err(UsageError::fault("--set option requires 3 timeout values"));
    };
    let change = TimeoutChange {
        tcp: timeout(tcp, 0)?,
        tcp_fin: timeout(tcp_fin, 0)?,
        udp: timeout(udp, 0)?,
    };
    Ok((change, rest))
}

const DEFAULT_SCHEDULER: &str = "wlc";
const DEFAULT_SYNC_INTERFACE: &str = "eth0";
