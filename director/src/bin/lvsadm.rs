//! lvsadm: ipvsadm's command line for the director. What it does is in [`director::control`]; here
//! are the socket, the resolver and the terminal.

use std::cell::OnceCell;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Stdin, StdoutLock, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::process::{self, ExitCode};

use director::control::client::{Client, Transport, Unreachable};
use director::control::names::{Names, Services};
use director::control::run::{Terminal, run};
use shared::addr::Protocol;

fn main() -> ExitCode {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_else(|| "lvsadm".to_owned());
    let args: Vec<String> = words.collect();
    let mut terminal = Standard {
        out: BufWriter::new(io::stdout().lock()),
        input: BufReader::with_capacity(INPUT_BYTES, io::stdin()),
    };
    let mut client = Client::new(Socket::new());
    let exit = run(
        &program,
        &args,
        &mut terminal,
        &mut client,
        &System::default(),
    );
    terminal.flush();
    ExitCode::from(exit)
}

/// The three standard streams.
struct Standard {
    out: BufWriter<StdoutLock<'static>>,
    input: BufReader<Stdin>,
}

impl Standard {
    /// What is printed and cannot be written has nobody to be told to, except by the exit status.
    fn flush(&mut self) {
        if self.out.flush().is_err() {
            process::exit(1);
        }
    }
}

impl Terminal for Standard {
    fn out(&mut self, text: &str) {
        if self.out.write_all(text.as_bytes()).is_err() {
            process::exit(1);
        }
    }

    fn err(&mut self, text: &str) {
        self.flush();
        eprint!("{text}");
    }

    fn has_line(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(1..) => Some(String::from_utf8_lossy(&line).into_owned()),
            Ok(0) | Err(_) => None,
        }
    }
}

/// The control socket, connected to when the first request is made: help and usage errors need no
/// director.
struct Socket {
    path: String,
    stream: Option<BufReader<UnixStream>>,
}

impl Socket {
    fn new() -> Socket {
        Socket {
            path: env::var("LVS_CONTROL").unwrap_or_else(|_| DEFAULT_PATH.to_owned()),
            stream: None,
        }
    }

    fn connected(&mut self) -> io::Result<&mut BufReader<UnixStream>> {
        match &mut self.stream {
            Some(stream) => Ok(stream),
            empty => Ok(empty.insert(BufReader::new(UnixStream::connect(&self.path)?))),
        }
    }

    fn unreachable(&self, error: &io::Error) -> Unreachable {
        let path = &self.path;
        match error.kind() {
            io::ErrorKind::PermissionDenied => Unreachable {
                reason: "Permission denied (you must be root)".to_owned(),
                advice: format!("The director's control socket {path} is for root alone."),
            },
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unreachable {
                reason: sentence(error),
                advice: format!(
                    "The director is not running at {path}: start it, or name its socket in LVS_CONTROL."
                ),
            },
            _ => Unreachable {
                reason: sentence(error),
                advice: format!("The director at {path} did not answer; its log says why."),
            },
        }
    }
}

impl Transport for Socket {
    fn send(&mut self, line: &str) -> Result<(), Unreachable> {
        let sent = self
            .connected()
            .and_then(|stream| stream.get_mut().write_all(line.as_bytes()));
        sent.map_err(|error| self.unreachable(&error))
    }

    fn receive(&mut self) -> Result<String, Unreachable> {
        let mut line = String::new();
        let read = self
            .connected()
            .and_then(|stream| match stream.read_line(&mut line)? {
                0 => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the director closed the connection",
                )),
                _ => Ok(()),
            });
        read.map_err(|error| self.unreachable(&error))?;
        Ok(line)
    }
}

/// An error as strerror(3) says it, without the number that the standard library adds.
fn sentence(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error") {
        Some((sentence, _)) => sentence.to_owned(),
        None => text,
    }
}

/// The resolver of the system, and `/etc/services`, which is read when it is first needed.
#[derive(Default)]
struct System {
    services: OnceCell<Services>,
}

impl System {
    fn services(&self) -> &Services {
        self.services.get_or_init(|| {
            // Without the file ports have no names, as with getservbyport(3).
            let text = fs::read("/etc/services").unwrap_or_default();
            Services::parse(&String::from_utf8_lossy(&text))
        })
    }
}

impl Names for System {
    fn host_by_name(&self, name: &str) -> Option<Ipv4Addr> {
        dns_lookup::lookup_host(name)
            .ok()?
            .find_map(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })
    }

    fn host_by_address(&self, address: IpAddr) -> Option<String> {
        dns_lookup::lookup_addr(&address).ok()
    }

    fn port_by_service(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services().port(name, protocol)
    }

    fn service_by_port(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services().name(port, protocol).map(str::to_owned)
    }
}

/// Lines that are read ahead in a restore.
const INPUT_BYTES: usize = 64 * 1024;
const DEFAULT_PATH: &str = "/run/lvs/director.sock";
