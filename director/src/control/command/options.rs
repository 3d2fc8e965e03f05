//! Every option of ipvsadm 1.31: letters, names, and whether it takes an argument.

/// What an option is, whatever it is written like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    AddService,
    EditService,
    DeleteService,
    Clear,
    List,
    Zero,
    AddServer,
    EditServer,
    DeleteServer,
    Set,
    Help,
    Version,
    Restore,
    Save,
    StartDaemon,
    StopDaemon,
    TcpService,
    UdpService,
    SctpService,
    FwmarkService,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    Masquerading,
    Ipip,
    Gatewaying,
    Weight,
    UpperThreshold,
    LowerThreshold,
    Numeric,
    Connection,
    McastInterface,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    Syncid,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    TunInfo,
    NoSort,
    Sort,
    Exact,
    Ipv6,
    OnePacket,
    PersistenceEngine,
    SchedulerFlags,
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
    AddLocalAddress,
    DeleteLocalAddress,
    GetLocalAddresses,
    LocalAddress,
    InterfaceName,
    FullNat,
}

/// Whether an option takes an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    Compulsory,
    Optional,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) argument: Argument,
    pub(super) tag: Tag,
}

/// The table.
pub(super) const OPTIONS: &[Definition] = &[
    flag("add-service", 'A', Tag::AddService),
    flag("edit-service", 'E', Tag::EditService),
    flag("delete-service", 'D', Tag::DeleteService),
    flag("clear", 'C', Tag::Clear),
    flag("list", 'L', Tag::List),
    flag("list", 'l', Tag::List),
    flag("zero", 'Z', Tag::Zero),
    flag("add-server", 'a', Tag::AddServer),
    flag("edit-server", 'e', Tag::EditServer),
    flag("delete-server", 'd', Tag::DeleteServer),
    long_flag("set", Tag::Set),
    flag("help", 'h', Tag::Help),
    flag("version", 'v', Tag::Version),
    flag("restore", 'R', Tag::Restore),
    flag("save", 'S', Tag::Save),
    long_value("start-daemon", Tag::StartDaemon),
    long_value("stop-daemon", Tag::StopDaemon),
    value("tcp-service", 't', Tag::TcpService),
    value("udp-service", 'u', Tag::UdpService),
    long_value("sctp-service", Tag::SctpService),
    value("fwmark-service", 'f', Tag::FwmarkService),
    value("scheduler", 's', Tag::Scheduler),
    Definition {
        long: "persistent",
        short: Some('p'),
        argument: Argument::Optional,
        tag: Tag::Persistent,
    },
    value("netmask", 'M', Tag::Netmask),
    value("real-server", 'r', Tag::RealServer),
    flag("masquerading", 'm', Tag::Masquerading),
    flag("ipip", 'i', Tag::Ipip),
    flag("gatewaying", 'g', Tag::Gatewaying),
    value("weight", 'w', Tag::Weight),
    value("u-threshold", 'x', Tag::UpperThreshold),
    value("l-threshold", 'y', Tag::LowerThreshold),
    flag("numeric", 'n', Tag::Numeric),
    flag("connection", 'c', Tag::Connection),
    long_value("mcast-interface", Tag::McastInterface),
    long_value("mcast-group", Tag::McastGroup),
    long_value("mcast-port", Tag::McastPort),
    long_value("mcast-ttl", Tag::McastTtl),
    long_value("sync-maxlen", Tag::SyncMaxlen),
    long_value("syncid", Tag::Syncid),
    long_flag("timeout", Tag::Timeout),
    long_flag("daemon", Tag::Daemon),
    long_flag("stats", Tag::Stats),
    long_flag("rate", Tag::Rate),
    long_flag("thresholds", Tag::Thresholds),
    long_flag("persistent-conn", Tag::PersistentConn),
    long_flag("tun-info", Tag::TunInfo),
    long_flag("nosort", Tag::NoSort),
    long_flag("sort", Tag::Sort),
    flag("exact", 'X', Tag::Exact),
    flag("ipv6", '6', Tag::Ipv6),
    flag("ops", 'o', Tag::OnePacket),
    long_value("pe", Tag::PersistenceEngine),
    value("sched-flags", 'b', Tag::SchedulerFlags),
    long_value("tun-type", Tag::TunType),
    long_value("tun-port", Tag::TunPort),
    long_flag("tun-nocsum", Tag::TunNoChecksum),
    long_flag("tun-csum", Tag::TunChecksum),
    long_flag("tun-remcsum", Tag::TunRemoteChecksum),
];

/// What lvsadm has besides. Called as ipvsadm it does not know them.
pub(super) const BEYOND: &[Definition] = &[
    long_value("server-gone", Tag::ServerGone),
    long_value("slow-start", Tag::SlowStart),
    long_value("timeouts", Tag::Timeouts),
    // DPVS names the version.
    Definition {
        long: "proxy-protocol",
        short: None,
        argument: Argument::Optional,
        tag: Tag::ProxyProtocol,
    },
    long_flag("no-toa", Tag::NoToa),
    // As iptables' TCPMSS has them.
    long_value("set-mss", Tag::SetMss),
    long_flag("clamp-mss-to-pmtu", Tag::ClampMss),
    // DPVS's.
    flag("add-laddr", 'P', Tag::AddLocalAddress),
    flag("del-laddr", 'Q', Tag::DeleteLocalAddress),
    flag("get-laddr", 'G', Tag::GetLocalAddresses),
    value("local-address", 'z', Tag::LocalAddress),
    value("ifname", 'F', Tag::InterfaceName),
];

/// What lvsadm has besides in commands about real servers, where ipvsadm has another meaning for the letter
/// that is never wanted there. DPVS has it so.
pub(super) const OF_SERVERS: &[Definition] = &[flag("fullnat", 'b', Tag::FullNat)];

const fn flag(long: &'static str, short: char, tag: Tag) -> Definition {
    Definition {
        long,
        short: Some(short),
        argument: Argument::None,
        tag,
    }
}

const fn long_flag(long: &'static str, tag: Tag) -> Definition {
    Definition {
        long,
        short: None,
        argument: Argument::None,
        tag,
    }
}

const fn value(long: &'static str, short: char, tag: Tag) -> Definition {
    Definition {
        long,
        short: Some(short),
        argument: Argument::Compulsory,
        tag,
    }
}

const fn long_value(long: &'static str, tag: Tag) -> Definition {
    Definition {
        long,
        short: None,
        argument: Argument::Compulsory,
        tag,
    }
}
