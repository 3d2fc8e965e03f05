//! Which options go with which command, and which with which tunnel type.

use super::UsageError;

/// A command, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Flush,
    List,
    AddServer,
    DeleteServer,
    EditServer,
    Set,
    StartDaemon,
    StopDaemon,
    Restore,
    Save,
    Zero,
    AddLocalAddress,
    DeleteLocalAddress,
    GetLocalAddresses,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::AddService => "add-service",
            Verb::EditService => "edit-service",
            Verb::DeleteService => "delete-service",
            Verb::Flush => "flush",
            Verb::List => "list",
            Verb::AddServer => "add-server",
            Verb::DeleteServer => "delete-server",
            Verb::EditServer => "edit-server",
            Verb::Set => "set",
            Verb::StartDaemon => "start-daemon",
            Verb::StopDaemon => "stop-daemon",
            Verb::Restore => "restore",
            Verb::Save => "save",
            Verb::Zero => "zero",
            Verb::AddLocalAddress => "add-laddr",
            Verb::DeleteLocalAddress => "del-laddr",
            Verb::GetLocalAddresses => "get-laddr",
        }
    }

    fn rule(self, option: Opt) -> Rule {
        use Opt::*;
        use Rule::*;
        match (self, option) {
            (
                Verb::AddService
                | Verb::EditService
                | Verb::DeleteService
                | Verb::AddServer
                | Verb::EditServer
                | Verb::DeleteServer,
                Service,
            )
            | (Verb::AddServer | Verb::EditServer | Verb::DeleteServer, Server)
            | (Verb::AddLocalAddress | Verb::DeleteLocalAddress, LocalAddress) => Compulsory,
            (
                Verb::AddService | Verb::EditService,
                Scheduler | Persistent | Netmask | OnePacket | PersistenceEngine | SchedulerFlags
                | ServerGone | SlowStart | Timeouts | ProxyProtocol | NoToa | SetMss | ClampMss,
            )
            | (
                Verb::AddServer | Verb::EditServer,
                Forward | Weight | UpperThreshold | LowerThreshold | TunType | TunPort
                | TunNoChecksum | TunChecksum | TunRemoteChecksum,
            )
            | (
                Verb::List,
                Numeric | Stats | Rate | Thresholds | PersistentConn | NoSort | Exact | TunInfo,
            )
            | (
                Verb::StartDaemon,
                McastInterface | Syncid | McastGroup | McastPort | McastTtl | SyncMaxlen,
            )
            | (Verb::StopDaemon, Syncid)
            | (Verb::Save, Numeric)
            | (
                Verb::Zero
                | Verb::AddLocalAddress
                | Verb::DeleteLocalAddress
                | Verb::GetLocalAddresses,
                Service,
            )
            | (Verb::AddLocalAddress | Verb::DeleteLocalAddress, InterfaceName)
            | (Verb::GetLocalAddresses, Numeric) => Optional,
            (Verb::List, Connection | Service | Timeout | Daemon) => Exclusive,
            _ => Illegal,
        }
    }
}

/// What an option says, in the order in which ipvsadm checks them. Two ways to say the same thing
/// (`-t` and `-u`) are one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    Syncid,
    Exact,
    OnePacket,
    PersistenceEngine,
    SchedulerFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNoChecksum,
    TunChecksum,
    TunRemoteChecksum,
    ServerGone,
    SlowStart,
    Timeouts,
    ProxyProtocol,
    NoToa,
    SetMss,
    ClampMss,
    LocalAddress,
    InterfaceName,
}

impl Opt {
    /// All of them, as messages name them, in their order.
    const ALL: [(Opt, &'static str); 43] = [
        (Opt::Numeric, "numeric"),
        (Opt::Connection, "connection"),
        (Opt::Service, "service-address"),
        (Opt::Scheduler, "scheduler"),
        (Opt::Persistent, "persistent"),
        (Opt::Netmask, "netmask"),
        (Opt::Server, "real-server"),
        (Opt::Forward, "forwarding-method"),
        (Opt::Weight, "weight"),
        (Opt::UpperThreshold, "u-threshold"),
        (Opt::LowerThreshold, "l-threshold"),
        (Opt::McastInterface, "mcast-interface"),
        (Opt::Timeout, "timeout"),
        (Opt::Daemon, "daemon"),
        (Opt::Stats, "stats"),
        (Opt::Rate, "rate"),
        (Opt::Thresholds, "thresholds"),
        (Opt::PersistentConn, "persistent-conn"),
        (Opt::NoSort, "nosort"),
        (Opt::Syncid, "syncid"),
        (Opt::Exact, "exact"),
        (Opt::OnePacket, "ops"),
        (Opt::PersistenceEngine, "pe"),
        (Opt::SchedulerFlags, "sched-flags"),
        (Opt::McastGroup, "mcast-group"),
        (Opt::McastPort, "mcast-port"),
        (Opt::McastTtl, "mcast-ttl"),
        (Opt::SyncMaxlen, "sync-maxlen"),
        (Opt::TunInfo, "tun-info"),
        (Opt::TunType, "tun-type"),
        (Opt::TunPort, "tun-port"),
        (Opt::TunNoChecksum, "tun-nocsum"),
        (Opt::TunChecksum, "tun-csum"),
        (Opt::TunRemoteChecksum, "tun-remcsum"),
        (Opt::ServerGone, "server-gone"),
        (Opt::SlowStart, "slow-start"),
        (Opt::Timeouts, "timeouts"),
        (Opt::ProxyProtocol, "proxy-protocol"),
        (Opt::NoToa, "no-toa"),
        (Opt::SetMss, "set-mss"),
        (Opt::ClampMss, "clamp-mss-to-pmtu"),
        (Opt::LocalAddress, "local-address"),
        (Opt::InterfaceName, "ifname"),
    ];

    /// Those that say something about the encapsulation.
    const TUNNEL: [Opt; 4] = [
        Opt::TunPort,
        Opt::TunNoChecksum,
        Opt::TunChecksum,
        Opt::TunRemoteChecksum,
    ];

    fn name(self) -> &'static str {
        Opt::ALL[self as usize].1
    }
}

/// The options a command line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OptSet(u64);

impl OptSet {
    /// Notes an option; each may be given once.
    pub(super) fn insert(&mut self, option: Opt) -> Result<(), UsageError> {
        if self.has(option) {
            return Err(UsageError::fault(format!(
                "multiple '{}' options specified",
                option.name()
            )));
        }
        self.0 |= 1 << option as u64;
        Ok(())
    }

    pub(super) fn has(self, option: Opt) -> bool {
        self.0 & (1 << option as u64) != 0
    }

    pub(super) fn has_any(self, options: &[Opt]) -> bool {
        options.iter().any(|option| self.has(*option))
    }

    /// Whether anything is said about the encapsulation, its type included.
    pub(super) fn has_tunnel(self) -> bool {
        self.has(Opt::TunType) || self.has_any(&Opt::TUNNEL)
    }
}

/// An encapsulation, as `--tun-type` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TunnelType {
    #[default]
    Ipip,
    Gue,
    Gre,
}

impl TunnelType {
    pub(super) fn parse(text: &str) -> Option<TunnelType> {
        match text {
            "ipip" => Some(TunnelType::Ipip),
            "gue" => Some(TunnelType::Gue),
            "gre" => Some(TunnelType::Gre),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            TunnelType::Ipip => "ipip",
            TunnelType::Gue => "gue",
            TunnelType::Gre => "gre",
        }
    }

    fn rule(self, option: Opt) -> Rule {
        match (self, option) {
            (TunnelType::Gue, Opt::TunPort) => Rule::Compulsory,
            (TunnelType::Ipip, _) | (TunnelType::Gre, Opt::TunPort | Opt::TunRemoteChecksum) => {
                Rule::Illegal
            }
            (TunnelType::Gue | TunnelType::Gre, _) => Rule::Exclusive,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Compulsory,
    Optional,
    /// At most one of these.
    Exclusive,
    Illegal,
}

/// Checks the options of a command.
pub(super) fn check_command(verb: Verb, options: OptSet) -> Result<(), UsageError> {
    check(
        &Opt::ALL.map(|(option, _)| option),
        options,
        |option| verb.rule(option),
        &format!("'{}' command", verb.name()),
    )
}

/// Checks the options of an encapsulation.
pub(super) fn check_tunnel(kind: TunnelType, options: OptSet) -> Result<(), UsageError> {
    check(
        &Opt::TUNNEL,
        options,
        |option| kind.rule(option),
        &format!("'{}' tunnel type", kind.name()),
    )
}

fn check(
    all: &[Opt],
    options: OptSet,
    rule: impl Fn(Opt) -> Rule,
    subject: &str,
) -> Result<(), UsageError> {
    let mut exclusive: Option<Opt> = None;
    for option in all.iter().copied() {
        let name = option.name();
        let fault = match (rule(option), options.has(option)) {
            (Rule::Compulsory, false) => {
                format!("You need to supply the '{name}' option for the {subject}")
            }
            (Rule::Illegal, true) => format!("Illegal '{name}' option with the {subject}"),
            (Rule::Exclusive, true) => match exclusive.replace(option) {
                None => continue,
                Some(first) => format!(
                    "The option '{name}' conflicts with the '{}' option in the {subject}",
                    first.name()
                ),
            },
            _ => continue,
        };
        return Err(UsageError::fault(fault));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_in_the_order_of_their_bits() {
        for (index, (option, _)) in Opt::ALL.iter().enumerate() {
            assert_eq!(*option as usize, index);
        }
    }
}
