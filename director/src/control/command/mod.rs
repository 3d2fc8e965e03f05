//! A command line of ipvsadm becomes a [`Command`], or a [`UsageError`] with ipvsadm's own words.
//!
//! | file | job |
//! |---|---|
//! | `options` | the table of options |
//! | `popt` | popt's rules for taking a command line apart |
//! | `task` | the command, which comes first |
//! | `draft` | what the options say, in the order in which they come |
//! | `legality` | which option goes with which command |
//! | `finish` | the checks on the whole, and the command that comes out |
//! | `address`, `number`, `flags` | values |
//!
//! The order of checks decides which of several faults is reported and is ipvsadm's: each option as
//! it is met, words left over, scheduler flags, the legality table, and what the parts say together.

mod address;
mod draft;
mod finish;
pub(crate) mod flags;
mod legality;
mod number;
mod options;
mod popt;
mod task;

use std::net::IpAddr;

use super::names::Names;
use crate::core::operation::{Operation, ServiceKey};

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A change of services, real servers or timeouts.
    Apply(Operation),
    /// `-L` of services, one or all.
    List(Option<ServiceKey>, Format),
    /// `-L -c`
    Connections(Format),
    /// `-L --timeout`
    Timeouts,
    /// `-L --daemon`
    Daemons,
    /// `-S`
    Save(Addresses),
    /// `-G`
    LocalAddresses,
    /// `-R`
    Restore,
    /// `--start-daemon`
    StartDaemon(Daemon),
    /// `--stop-daemon`
    StopDaemon(DaemonRole),
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// Whose options are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// ipvsadm's and no others.
    Ipvsadm,
    /// Also those for what IPVS has not.
    Lvsadm,
}

impl Dialect {
    /// Of a program by the name that it was called by.
    pub fn of(program: &str) -> Dialect {
        let name = program.rsplit('/').next().unwrap_or(program);
        if name.starts_with("lvsadm") {
            Dialect::Lvsadm
        } else {
            Dialect::Ipvsadm
        }
    }
}

/// How `-L` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format {
    /// `-n`
    pub addresses: Addresses,
    /// `--stats`, `--rate`, ...
    pub columns: Columns,
    /// `--persistent-conn`, which asks more of `-c` than other columns do.
    pub persistence: Persistence,
    /// `--nosort`
    pub order: Order,
    /// `--exact`
    pub numbers: Numbers,
}

/// Whether addresses and ports are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addresses {
    /// By name where there is one.
    #[default]
    Names,
    /// `-n`
    Numeric,
}

/// Which columns a listing has. Several may be asked for; the first of this order is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Columns {
    /// `--stats`
    Stats,
    /// `--rate`
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    PersistentConnections,
    /// `--tun-info`
    Tunnels,
    /// None of them.
    #[default]
    Default,
}

/// Whether a list of connections shows persistence engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Persistence {
    /// No.
    #[default]
    Hidden,
    /// `--persistent-conn`
    Shown,
}

/// Order of services and of their servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// By mark, family, protocol, address, port.
    #[default]
    Sorted,
    /// `--nosort`: as the director has them.
    Unsorted,
}

/// How counters are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// In 8 digits, cut to K, M, G, T.
    #[default]
    Scaled,
    /// `--exact`
    Exact,
}

/// Which half of connection synchronisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

/// What `--start-daemon` says; what it leaves out is the director's to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// master or backup
    pub role: DaemonRole,
    /// `--mcast-interface`, cut to 15 bytes.
    pub interface: String,
    /// `--syncid`
    pub sync_id: u8,
    /// `--sync-maxlen`, bytes.
    pub max_length: Option<u16>,
    /// `--mcast-group`
    pub group: Option<IpAddr>,
    /// `--mcast-port`
    pub port: Option<u16>,
    /// `--mcast-ttl`
    pub ttl: Option<u8>,
}

/// A command line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// For stderr, without the last newline.
    pub message: String,
    /// Exit status.
    pub exit: u8,
    /// Whether a run that reads commands from stdin ends here.
    pub scope: Scope,
}

/// How far an error reaches in `-R`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The next line is read all the same.
    Line,
    /// The run ends.
    Run,
}

impl UsageError {
    /// A fault that ipvsadm finds itself.
    fn fault(message: impl Into<String>) -> UsageError {
        UsageError {
            message: message.into(),
            exit: 2,
            scope: Scope::Run,
        }
    }

    /// A fault that popt finds.
    fn popt(message: String) -> UsageError {
        UsageError {
            message,
            exit: 255,
            scope: Scope::Line,
        }
    }

    /// What is said when there is no command at all, or a command where none may be.
    pub(super) fn try_help(program: &str) -> UsageError {
        UsageError {
            message: format!("Try `{program} -h' or '{program} --help' for more information."),
            exit: 255,
            scope: Scope::Run,
        }
    }
}

/// Reads the arguments of `program` (its name as it was called, which one message shows). No
/// arguments are no command: what to do then is the caller's business.
pub fn parse(program: &str, args: &[String], names: &dyn Names) -> Result<Command, UsageError> {
    let mut scanner = popt::Scanner::new(Dialect::of(program), args);
    let Ok(Some(first)) = scanner.next() else {
        return Err(UsageError::try_help(program));
    };
    let Some(order) = task::Order::of(&first)? else {
        return Err(UsageError::try_help(program));
    };
    let order = match order {
        task::Order::Help => return Ok(Command::Help),
        task::Order::Version => return Ok(Command::Version),
        task::Order::Do(order) => order,
    };
    let mut draft = draft::Draft::default();
    loop {
        match scanner.next() {
            Ok(Some(found)) => draft.take(&found, scanner.last_word(), names)?,
            Ok(None) => break,
            Err(error) => {
                let word = scanner.last_word();
                return Err(UsageError::popt(format!("{word}: {error}")));
            }
        }
    }
    finish::finish(order, draft, &scanner.into_words())
}

#[cfg(test)]
mod tests;
