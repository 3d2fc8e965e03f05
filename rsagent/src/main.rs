//! `rsagent`: prepares a real server for Linux Virtual Server, and undoes it.
//!
//! | module | what is in it |
//! |---|---|
//! | [`plan`] | what should be, from what is; pure |
//! | [`apply`] | makes it so, undoes it, compares |
//! | [`tunnel`] | the end of the director's tunnels |
//! | [`state`] | what has been changed, kept in `/run/lvs` until it is undone |

mod apply;
mod plan;
mod state;
mod tunnel;

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

fn main() -> ExitCode {
    let (outcome, unknown) = match Program::parse().command {
        Command::Start(options) => (apply::start(&options), 1),
        Command::Stop(options) => (apply::stop(&options), 1),
        Command::Status(options) => (apply::status(&options), UNKNOWN),
    };
    match outcome {
        Ok(apply::Outcome::Done) => ExitCode::SUCCESS,
        Ok(apply::Outcome::NotRunning) => ExitCode::from(NOT_RUNNING),
        Err(error) => {
            eprintln!("rsagent: {error}");
            ExitCode::from(unknown)
        }
    }
}

/// Prepares this real server for its VIPs: they are answered here, but not by ARP
#[derive(Debug, Parser)]
#[command(name = "rsagent", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set what keeps the host from answering ARP for the VIPs, then add them to lo
    Start(Options),
    /// Remove the VIPs (without --vip: all of ours); with the last one, set back what start has set
    Stop(Options),
    /// Say what is and what should be, without --vip of all of ours; exit 0: running, 3: not
    Status(Options),
}

/// What the three verbs are about.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Virtual IP addresses; may be given more than once
    #[arg(long = "vip", value_name = "ADDRESS", num_args = 1..)]
    pub(crate) vips: Vec<IpAddr>,
    /// How the director forwards to this host
    #[arg(long, value_name = "MODE", default_value = "dr")]
    pub(crate) mode: Mode,
    /// Interface that the VIPs' clients and director are on; may be given more than once [default:
    /// those of the default route and of the VIPs' networks; tunnels come in by any with an address]
    #[arg(long = "interface", value_name = "NAME")]
    pub(crate) interfaces: Vec<String>,
    /// UDP port of GUE tunnels
    #[arg(long = "tun-port", value_name = "PORT", default_value_t = GUE_PORT)]
    pub(crate) tunnel_port: u16,
}

/// How the director forwards to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Direct routing: the VIPs are on lo, and replies go straight to the client
    Dr,
    /// Tunnelling by IPIP, GUE or GRE: the tunnel ends here, the VIPs are on lo, and replies go
    /// straight to the client
    Tun,
    /// Masquerading: nothing to set up, but the way back must lead through the director
    Nat,
}

/// The UDP port of generic UDP encapsulation (IANA; also what `ipvsadm` users name).
const GUE_PORT: u16 = 6080;

/// Exit code of a service that does not run (Linux Standard Base, init script actions).
const NOT_RUNNING: u8 = 3;

/// Exit code of a service whose status cannot be told (same).
const UNKNOWN: u8 = 4;
