//! `director`: the command line, the configuration file and the log; then the event loop.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use director::io::{CaptureKind, Launch, LoadError, Loaded, RunError, load};

fn main() -> ExitCode {
    let program = Program::parse();
    let outcome = match program.command {
        Some(Command::Check(options)) => check(options.config.as_deref()),
        Some(Command::Completion { shell }) => {
            complete(shell);
            Ok(())
        }
        None => run(program.options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Linux Virtual Server in userspace: takes the traffic of virtual services off the wire and
/// forwards it to real servers
#[derive(Debug, Parser)]
#[command(name = "director", version, args_conflicts_with_subcommands = true)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration and print every fault as FILE:LINE:COLUMN; the other options change nothing,
    /// and are taken so that a service can be checked with those that it is started with
    Check(Options),
    /// Print the completion of this command line for a shell
    #[command(hide = true)]
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// Configuration [default: /etc/lvs/director.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take packets from this interface; may be given more than once [default: those of the
    /// configuration, or all that are up and not loopback]
    #[arg(long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// How packets are taken off the interfaces
    #[arg(long, value_name = "KIND", env = "LVS_CAPTURE", default_value = "auto")]
    capture: CaptureKind,
    /// Control socket, for lvsadm
    #[arg(long, value_name = "PATH", env = "LVS_CONTROL", default_value = CONTROL)]
    control: PathBuf,
    /// Form of the log on standard error
    #[arg(long, value_name = "FORM", default_value = "text")]
    log: Log,
    /// Write the process id here
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Log {
    /// Plain text
    Text,
    /// One JSON object a line
    Json,
}

/// Why the program ends with 1.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("director: {0}")]
    Run(#[from] RunError),
}

fn complete(shell: Shell) {
    clap_complete::generate(
        shell,
        &mut Program::command(),
        "director",
        &mut io::stdout(),
    );
}

fn check(config: Option<&Path>) -> Result<(), Failure> {
    load(config)?;
    Ok(())
}

fn run(options: Options) -> Result<(), Failure> {
    let Loaded {
        config,
        agent_key,
        trust,
    } = load(options.config.as_deref())?;
    start_log(options.log);
    director::io::run(&Launch {
        config_file: options.config,
        config,
        agent_key,
        trust,
        interfaces: options.interfaces,
        capture: options.capture,
        control: options.control,
        pid_file: options.pid_file,
    })?;
    Ok(())
}

/// The log goes to standard error. The journal has its own time stamps and no colours.
fn start_log(log: Log) {
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_target(false);
    match log {
        Log::Json => lines.json().flatten_event(true).init(),
        Log::Text if to_journal => lines.with_ansi(false).without_time().init(),
        Log::Text => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            lines.with_ansi(colours).init();
        }
    }
}

/// Where the control socket is when nothing else is said.
const CONTROL: &str = "/run/lvs/director.sock";
