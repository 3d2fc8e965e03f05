//! The command line's share of what is to be done.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::{Mode, endpoint};

/// What all verbs take: init scripts give all of them the same options.
#[derive(Debug, Default, Args)]
pub(crate) struct Flags {
    /// Configuration [default: /etc/lvs/rsagent.toml, if there is one]; what is given here counts more
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Virtual IP addresses; may be given more than once
    #[arg(long = "vip", value_name = "ADDRESS", num_args = 1..)]
    pub(crate) vips: Vec<IpAddr>,
    /// How the director forwards to this host [default: dr]
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<Mode>,
    /// Interface that the VIPs' clients and director are on; may be given more than once [default:
    /// those of the default route and of the VIPs' networks; tunnels come in by any with an address]
    #[arg(long = "interface", value_name = "NAME")]
    pub(crate) interfaces: Vec<String>,
    /// UDP port of GUE tunnels [default: 6080]
    #[arg(long = "tun-port", value_name = "PORT")]
    pub(crate) tunnel_port: Option<u16>,
    /// Director that gets reports, ADDRESS or ADDRESS:PORT; may be given more than once
    #[arg(long = "director", value_name = "ADDRESS", value_parser = endpoint)]
    pub(crate) directors: Vec<SocketAddr>,
    /// Report without a key: anybody on the way can then forge reports
    #[arg(long)]
    pub(crate) insecure: bool,
}
