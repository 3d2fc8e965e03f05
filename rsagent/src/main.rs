//! `rsagent`: prepares a real server for Linux Virtual Server, keeps it so, reports, and undoes it.
//!
//! | module | what is in it |
//! |---|---|
//! | [`config`] | what is to be done: the file and the command line; pure |
//! | [`file`] | reads the file |
//! | [`plan`] | what should be, from what is; pure |
//! | [`finding`] | what is beside what should be, line by line; pure |
//! | [`compare`] | finds that on the host |
//! | [`apply`] | makes it so, undoes it |
//! | [`tunnel`] | the end of the director's tunnels |
//! | [`doctor`] | what else can be wrong with a real server, and what mends it |
//! | [`run`] | keeps it so, and reports to directors |
//! | [`state`] | what has been changed, kept in `/run/lvs` until it is undone |
//! | [`procfs`] | what the kernel's texts say; pure |
//! | [`presence`] | whether a `run` is at work |
//! | [`log`] | what is done to the host, told step by step |

mod apply;
mod compare;
mod config;
mod doctor;
mod file;
mod finding;
mod log;
mod plan;
mod presence;
mod procfs;
mod run;
mod state;
mod tunnel;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use apply::{AgentError, Outcome};
use config::{Config, Flags};
use file::{FileError, configured};
use run::RunError;
use state::Condition;

fn main() -> ExitCode {
    let command = Program::parse().command;
    match (done(&command), command) {
        (Ok(Outcome::Done), _) => ExitCode::SUCCESS,
        (Ok(Outcome::NotRunning), Command::Check(_)) => ExitCode::FAILURE,
        (Ok(Outcome::NotRunning), _) => ExitCode::from(NOT_RUNNING),
        (Err(failure), command) => {
            match failure {
                Failure::File(FileError::Faults(faults)) => eprintln!("{faults}"),
                failure => eprintln!("rsagent: {failure}"),
            }
            match command {
                Command::Status(_) => ExitCode::from(UNKNOWN),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Run(#[from] RunError),
}

fn done(command: &Command) -> Result<Outcome, Failure> {
    Ok(match command {
        Command::Start(flags) => apply::start(&configured(flags)?)?,
        // What there is to undo is in the state file, whatever has become of the configuration.
        Command::Stop(flags) => apply::stop(&Config::default().with(flags))?,
        Command::Status(flags) => apply::status(&configured(flags)?)?,
        Command::Check(check) => doctor::examine::check(&configured(&check.flags)?, &check.ports)?,
        Command::Run(flags) => {
            run::run(|| configured(flags))?;
            Outcome::Done
        }
        Command::Configtest(flags) => {
            run::examine(&configured(flags)?)?;
            Outcome::Done
        }
        Command::Completion { shell } => {
            let program = &mut Program::command();
            clap_complete::generate(*shell, program, "rsagent", &mut io::stdout());
            Outcome::Done
        }
        Command::Drain => apply::set_condition(Condition::Drain)?,
        Command::Maintenance => apply::set_condition(Condition::Maintenance)?,
        Command::Ready => apply::set_condition(Condition::Ready)?,
    })
}

/// Prepares this real server for its VIPs, which are answered here but not by ARP; keeps it so, and reports
/// to directors
#[derive(Debug, Parser)]
#[command(name = "rsagent", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set what keeps the host from answering ARP for the VIPs, then add them to lo
    Start(Flags),
    /// Remove the VIPs (without --vip: all of ours, and `run' ends); with the last one, set back what
    /// start has set
    Stop(Flags),
    /// Say what is and what should be, without --vip of all of ours; exit 0: running, 3: not
    Status(Flags),
    /// Look for everything that keeps this host from serving, and say what mends it; exit 0: nothing, 1:
    /// something
    Check(Check),
    /// Start, keep it so, report to the directors; stop at the end
    Run(Flags),
    /// Say what keeps `run' from taking the configuration; the host is not looked at
    Configtest(Flags),
    /// Tell the directors to send no new connections here
    Drain,
    /// Tell the directors that somebody works on this server
    Maintenance,
    /// Tell the directors that this server serves again
    Ready,
    /// Print the completion of this command line for a shell
    #[command(hide = true)]
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// What `check` takes.
#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    flags: Flags,
    /// TCP port that a service must listen on at each VIP; may be given more than once
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
}

/// Exit code of a service that does not run (Linux Standard Base, init script actions).
const NOT_RUNNING: u8 = 3;

/// Exit code of a service whose status cannot be told (same).
const UNKNOWN: u8 = 4;
