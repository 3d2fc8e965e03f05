//! `rsagent`: prepares a real server for Linux Virtual Server.
//!
//! With direct routing a real server must hold the virtual IP address (VIP), or it would not take
//! packets for it, and must not answer ARP for it, or clients would bypass the director. So the
//! VIP goes on `lo`, and before that `arp_ignore` and `arp_announce` are set.

mod apply;
mod plan;
mod state;

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use apply::{Agent, AgentError};
use plan::Plan;

/// Prepares a real server: VIPs on lo, and no answers to ARP for them
#[derive(Debug, Parser)]
#[command(name = "rsagent", version)]
struct Program {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set the sysctls, then put the VIPs on lo
    Start(Options),
    /// Take the VIPs off lo (without --vip: all of ours); with the last one the sysctls become what
    /// they were
    Stop(Options),
    /// Print what is and what should be; exit 0 if all is as it should be, else 3
    Status(Options),
}

#[derive(Debug, Args)]
struct Options {
    /// Virtual IP address; may be given more than once
    #[arg(long = "vip", value_name = "ADDRESS", num_args = 1..)]
    vips: Vec<IpAddr>,
    /// How the director forwards to this server
    #[arg(long, value_enum, default_value = "dr")]
    mode: Mode,
    /// Interface that must not answer ARP for the VIPs; may be given more than once [default: every
    /// Ethernet interface]
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Direct routing
    Dr,
    /// Tunnelling
    Tun,
    /// Network address translation
    Nat,
}

fn main() -> ExitCode {
    let outcome = match Program::parse().verb {
        Verb::Start(options) => start(&options).map(|()| ExitCode::SUCCESS),
        Verb::Stop(options) => stop(&options).map(|()| ExitCode::SUCCESS),
        Verb::Status(options) => status(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("rsagent: {error}");
        ExitCode::FAILURE
    })
}

fn start(options: &Options) -> Result<(), AgentError> {
    let mut agent = Agent::open()?;
    match options.mode {
        Mode::Tun => Err(AgentError::NoTunnelYet),
        Mode::Nat => agent.default_route().map(|route| println!("{route}")),
        Mode::Dr if options.vips.is_empty() => Err(AgentError::NoVip),
        Mode::Dr => {
            let plan = Plan::direct_routing(&options.vips, &agent.interfaces(&options.interfaces)?);
            agent.start(&plan)
        }
    }
}

fn stop(options: &Options) -> Result<(), AgentError> {
    let mut agent = Agent::open()?;
    match options.mode {
        Mode::Tun => Err(AgentError::NoTunnelYet),
        Mode::Nat => Ok(()),
        Mode::Dr => agent.stop(&options.vips),
    }
}

fn status(options: &Options) -> Result<ExitCode, AgentError> {
    let mut agent = Agent::open()?;
    let lines = match options.mode {
        Mode::Tun => return Err(AgentError::NoTunnelYet),
        Mode::Nat => match agent.default_route() {
            Ok(route) => vec![plan::Line::good(route)],
            Err(error) => vec![plan::Line::bad(error.to_string())],
        },
        Mode::Dr => {
            let vips = if options.vips.is_empty() {
                agent.vips()
            } else {
                options.vips.clone()
            };
            let plan = Plan::direct_routing(&vips, &agent.interfaces(&options.interfaces)?);
            agent.compare(&plan)?
        }
    };
    for line in &lines {
        println!("{line}");
    }
    let running = !lines.is_empty() && lines.iter().all(plan::Line::is_good);
    if !running {
        println!("not running");
    }
    Ok(if running {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_RUNNING)
    })
}

/// LSB: the program is not running.
const NOT_RUNNING: u8 = 3;
