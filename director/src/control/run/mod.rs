//! One run of `lvsadm`, or of the same program called `ipvsadm`, `ipvsadm-save`, `ipvsadm-restore`.

mod proc;
mod restore;
mod status;
mod sysctl;

use std::path::Path;

use super::client::{Api, ApiError, Unreachable};
use super::command::{Addresses, Command, Dialect, Format, Scope, UsageError, parse};
use super::names::Names;
use super::text::{connections, errors, help, listing, local_addresses, save};
use crate::core::operation::{Operation, ServiceKey};

/// Where texts go and commands come from.
pub trait Terminal {
    /// Prints on stdout.
    fn out(&mut self, text: &str);
    /// Prints on stderr.
    fn err(&mut self, text: &str);
    /// The next line of stdin, with or without its newline.
    fn line(&mut self) -> Option<String>;
    /// Whether there is a next line at once. Who types, or waits for what a line does, has not written it
    /// yet.
    fn has_line(&self) -> bool;
}

/// Runs the program that was called `program` and returns its exit status.
pub fn run(
    program: &str,
    args: &[String],
    terminal: &mut dyn Terminal,
    api: &mut dyn Api,
    names: &dyn Names,
) -> u8 {
    let name = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(program);
    if let Some(plain) = name.strip_suffix("-save") {
        return Run::new(plain, terminal, api, names).save_script(name, args);
    }
    if let Some(plain) = name.strip_suffix("-restore") {
        return Run::new(plain, terminal, api, names).restore_script();
    }
    let mut run = Run::new(program, terminal, api, names);
    if Dialect::of(program) == Dialect::Lvsadm {
        match args {
            [word, rest @ ..] if word == "status" => return run.status(rest),
            [word, rest @ ..] if word == "drain" => return run.drain(rest),
            [word, rest @ ..] if word == "ready" => return run.ready(rest),
            [word, switches @ ..] if word == "sysctl" => return run.sysctl(switches),
            [word, files @ ..] if word == "proc" => return run.proc(files),
            _ => {}
        }
    }
    run.command_line(args)
}

struct Run<'a> {
    program: &'a str,
    terminal: &'a mut dyn Terminal,
    api: &'a mut dyn Api,
    names: &'a dyn Names,
}

/// How a command ended.
struct Ended {
    exit: u8,
    /// Whether the commands after it in `-R` are still run.
    scope: Scope,
}

/// Why a command did not do what it should.
enum Failure {
    Usage(UsageError),
    /// The director's refusal as a sentence.
    Refused(String),
    /// The listing of a service that is not there.
    NoSuchService,
    Api(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Api(error)
    }
}

impl<'a> Run<'a> {
    fn new(
        program: &'a str,
        terminal: &'a mut dyn Terminal,
        api: &'a mut dyn Api,
        names: &'a dyn Names,
    ) -> Run<'a> {
        Run {
            program,
            terminal,
            api,
            names,
        }
    }

    fn command_line(&mut self, args: &[String]) -> u8 {
        if args.is_empty() {
            let listed = self.list(None, Format::default());
            return self.report(listed).exit;
        }
        match parse(self.program, args, self.names) {
            Ok(Command::Restore) => self.restore(),
            Ok(command) => self.execute(command).exit,
            Err(error) => self.report(Err(Failure::Usage(error))).exit,
        }
    }

    fn execute(&mut self, command: Command) -> Ended {
        let done = match command {
            // These two end a restore.
            Command::Help => {
                self.terminal.out(&help::help(self.program));
                return Ended::run(0);
            }
            Command::Version => {
                self.terminal.out(help::VERSION);
                return Ended::run(0);
            }
            Command::Apply(operation) => {
                let done = self.api.apply(&operation);
                applied(&operation, done)
            }
            Command::List(key, format) => self.list(key, format),
            Command::Connections(format) => self.connections(format),
            Command::Timeouts => self
                .api
                .timeouts()
                .map(|view| self.terminal.out(&listing::timeouts(&view)))
                .map_err(Failure::Api),
            Command::Save(addresses) => self.save(addresses),
            Command::LocalAddresses => self
                .api
                .status()
                .map(|view| self.terminal.out(&local_addresses::list(&view)))
                .map_err(Failure::Api),
            // None ever runs, and nothing is what ipvsadm prints then.
            Command::Daemons => self.api.info().map(drop).map_err(Failure::Api),
            Command::StartDaemon(_) | Command::StopDaemon(_) => Err(Failure::Refused(
                errors::not_yet("the synchronization daemon"),
            )),
            Command::Restore => Err(Failure::Usage(UsageError::try_help(self.program))),
        };
        self.report(done)
    }

    fn list(&mut self, key: Option<ServiceKey>, format: Format) -> Result<(), Failure> {
        let services = match key {
            Some(key) => vec![self.api.service(&key)?.ok_or(Failure::NoSuchService)?],
            None => {
                let info = self.api.info()?;
                let services = self.api.services()?;
                self.terminal.out(&listing::heading(&info));
                services
            }
        };
        self.terminal
            .out(&listing::services(&services, format, self.names));
        Ok(())
    }

    fn connections(&mut self, format: Format) -> Result<(), Failure> {
        let Run {
            terminal, names, ..
        } = self;
        let mut heading = Some(connections::heading(format));
        self.api.connections(&mut |view| {
            if let Some(heading) = heading.take() {
                terminal.out(&heading);
            }
            terminal.out(&connections::row(&view, format, *names));
        })?;
        if let Some(heading) = heading {
            self.terminal.out(&heading);
        }
        Ok(())
    }

    fn save(&mut self, addresses: Addresses) -> Result<(), Failure> {
        let dialect = Dialect::of(self.program);
        let services = self.api.services()?;
        if dialect == Dialect::Lvsadm {
            let status = self.api.status()?;
            self.terminal.out(&local_addresses::rules(&status));
        }
        self.terminal
            .out(&save::rules(&services, dialect, addresses, self.names));
        for fault in save::left_out(&services, dialect) {
            self.terminal.err(&format!("{fault}\n"));
        }
        Ok(())
    }

    /// The script `ipvsadm-save`: `-S`, numeric with `-n`; it knows no other option and does not
    /// look at words.
    fn save_script(&mut self, name: &str, args: &[String]) -> u8 {
        let mut addresses = Addresses::Names;
        for arg in args {
            if arg == "-n" {
                addresses = Addresses::Numeric;
            } else if arg.starts_with('-') {
                self.terminal.err(&format!(
                    "{name}: Script to save the IPVS table to stdout.\n   \
                     With the -n option, prints out the table in numeric format.\n"
                ));
                return 1;
            }
        }
        let saved = self.save(addresses);
        self.report(saved).exit
    }

    fn report(&mut self, result: Result<(), Failure>) -> Ended {
        let (message, ended) = match result {
            Ok(()) => return Ended::line(0),
            Err(Failure::Usage(error)) => (
                error.message,
                Ended {
                    exit: error.exit,
                    scope: error.scope,
                },
            ),
            Err(Failure::Refused(sentence)) => (sentence, Ended::line(255)),
            Err(Failure::Api(ApiError::Refused(error))) => (error.to_string(), Ended::line(255)),
            Err(Failure::NoSuchService) => (errors::NO_SUCH_SERVICE.to_owned(), Ended::run(1)),
            Err(Failure::Api(ApiError::Unreachable(Unreachable { reason, advice }))) => {
                (errors::cannot_initialize(&reason, &advice), Ended::run(2))
            }
            Err(Failure::Api(error @ ApiError::Misunderstood(_))) => (
                errors::cannot_initialize(&error.to_string(), ADVICE_VERSIONS),
                Ended::run(2),
            ),
        };
        self.terminal.err(&format!("{message}\n"));
        ended
    }
}

/// The director's refusal becomes ipvsadm's sentence.
fn applied(operation: &Operation, done: Result<(), ApiError>) -> Result<(), Failure> {
    match done {
        Err(ApiError::Refused(error)) => Err(Failure::Refused(errors::refusal(operation, &error))),
        done => done.map_err(Failure::Api),
    }
}

impl Ended {
    fn line(exit: u8) -> Ended {
        Ended {
            exit,
            scope: Scope::Line,
        }
    }

    fn run(exit: u8) -> Ended {
        Ended {
            exit,
            scope: Scope::Run,
        }
    }
}

const ADVICE_VERSIONS: &str = "Are director and lvsadm of the same version?";

#[cfg(test)]
mod tests;
