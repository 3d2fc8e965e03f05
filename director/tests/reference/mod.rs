//! What the tests of the command line need: a table that does what the kernel's IPVS does with every
//! command (but forwards nothing), a resolver that knows what the recorded host knew, and a control
//! connection without a socket.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use director::control::client::{Client, Transport, Unreachable};
use director::control::names::{Names, Services};
use director::control::run::{Terminal, run};
use director::control::session::{Backend, Progress, Session};
use director::core::operation::{
    Operation, OperationError, ServerKey, ServerSpec, ServiceKey, ServiceSpec,
};
use director::core::view::{
    ConnectionView, InfoView, ServerView, ServiceView, StatsView, StatusView, SysctlView,
    TimeoutsView,
};
use shared::addr::Protocol;

/// The kernel's table: all that IPVS has, daemons aside. The checks and their order are those of
/// `ip_vs_ctl.c`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) services: Vec<ServiceView>,
    pub(crate) connections: Vec<ConnectionView>,
    timeouts: TimeoutsView,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            services: Vec::new(),
            connections: Vec::new(),
            timeouts: TimeoutsView {
                tcp: 900,
                tcp_fin: 120,
                udp: 300,
            },
        }
    }
}

impl Table {
    fn position(&self, key: &ServiceKey) -> Result<usize, OperationError> {
        self.services
            .iter()
            .position(|view| view.spec.key == *key)
            .ok_or(OperationError::NoSuchService(*key))
    }

    fn servers(&mut self, key: &ServiceKey) -> Result<&mut Vec<ServerView>, OperationError> {
        let position = self.position(key)?;
        Ok(&mut self.services[position].servers)
    }
}

impl Backend for Table {
    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        match operation {
            Operation::AddService(spec) => {
                if self.position(&spec.key).is_ok() {
                    return Err(OperationError::ServiceExists(spec.key));
                }
                check_service(spec)?;
                self.services.push(ServiceView {
                    guard: None,
                    spec: spec.clone(),
                    stats: StatsView::default(),
                    servers: Vec::new(),
                });
            }
            Operation::EditService(spec) => {
                let position = self.position(&spec.key)?;
                check_service(spec)?;
                self.services[position].spec = spec.clone();
            }
            Operation::DeleteService(key) => {
                let position = self.position(key)?;
                self.services.remove(position);
            }
            Operation::Flush => self.services.clear(),
            Operation::AddServer(key, spec) => {
                let servers = self.servers(key)?;
                check_server(spec)?;
                if servers.iter().any(|view| view.spec.key == spec.key) {
                    return Err(OperationError::ServerExists(*key, spec.key));
                }
                check_unicast(spec.key.address)?;
                servers.insert(0, ServerView::new(spec.clone()));
            }
            Operation::EditServer(key, spec) => {
                let servers = self.servers(key)?;
                check_server(spec)?;
                let position = server_position(servers, key, &spec.key)?;
                servers[position].spec = spec.clone();
                servers[position].effective_weight = spec.weight;
            }
            Operation::DeleteServer(key, server) => {
                let servers = self.servers(key)?;
                let position = server_position(servers, key, server)?;
                servers.remove(position);
            }
            Operation::Zero(key) => {
                if let Some(key) = key {
                    self.position(key)?;
                }
                for view in &mut self.services {
                    if key.is_none_or(|key| key == view.spec.key) {
                        view.stats = StatsView::default();
                    }
                }
            }
            // Not ipvsadm's.
            Operation::SetSysctl { .. }
            | Operation::SetDeny(_)
            | Operation::SetMarks(_)
            | Operation::SetLocalClients(_)
            | Operation::Drain { .. }
            | Operation::Ready { .. }
            | Operation::AddLocalAddress { .. }
            | Operation::DeleteLocalAddress(_) => {}
            Operation::SetTimeouts(change) => {
                let set = |field: &mut u32, value: u32| {
                    if value != 0 {
                        *field = value;
                    }
                };
                set(&mut self.timeouts.tcp, change.tcp);
                set(&mut self.timeouts.tcp_fin, change.tcp_fin);
                set(&mut self.timeouts.udp, change.udp);
            }
        }
        Ok(())
    }

    fn services(&self) -> Vec<ServiceView> {
        self.services.clone()
    }

    fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        Some(self.services[self.position(key).ok()?].clone())
    }

    fn connections(&self, cursor: usize, most: usize) -> (Vec<ConnectionView>, Option<usize>) {
        let end = self.connections.len().min(cursor + most);
        let next = (end < self.connections.len()).then_some(end);
        (self.connections[cursor..end].to_vec(), next)
    }

    fn timeouts(&self) -> TimeoutsView {
        self.timeouts
    }

    fn totals(&self) -> StatsView {
        StatsView::default()
    }

    fn sysctls(&self) -> Vec<SysctlView> {
        Vec::new()
    }

    fn info(&self) -> InfoView {
        InfoView {
            version: "0.1.0".to_owned(),
            table_size: 4096,
        }
    }

    fn status(&self) -> StatusView {
        StatusView {
            version: "0.1.0".to_owned(),
            uptime_secs: 5,
            interfaces: Vec::new(),
            connections: self.connections.len() as u64,
            half_open: 0,
            pushed_out: 0,
            unnamed_clients: 0,
            reports: None,
            rivals: Vec::new(),
            local_addresses: Vec::new(),
            capture_keys: 0,
            given_back: 0,
            drops: Vec::new(),
        }
    }
}

fn server_position(
    servers: &[ServerView],
    service: &ServiceKey,
    server: &ServerKey,
) -> Result<usize, OperationError> {
    servers
        .iter()
        .position(|view| view.spec.key == *server)
        .ok_or(OperationError::NoSuchServer(*service, *server))
}

fn check_service(spec: &ServiceSpec) -> Result<(), OperationError> {
    const SCHEDULERS: [&str; 13] = [
        "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh",
    ];
    if !SCHEDULERS.contains(&spec.scheduler.as_str()) {
        return Err(OperationError::NoSuchScheduler(spec.scheduler.clone()));
    }
    match &spec.persistence_engine {
        Some(engine) if engine != "sip" => Err(OperationError::NoSuchEngine(engine.clone())),
        _ => Ok(()),
    }
}

fn check_server(spec: &ServerSpec) -> Result<(), OperationError> {
    if spec.weight < 0 {
        return Err(OperationError::OutOfRange(format!(
            "weight {}",
            spec.weight
        )));
    }
    if spec.lower_threshold > spec.upper_threshold {
        return Err(OperationError::OutOfRange("lower threshold".to_owned()));
    }
    Ok(())
}

fn check_unicast(address: IpAddr) -> Result<(), OperationError> {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(OperationError::Invalid(format!("{address} is not unicast")));
    }
    Ok(())
}

/// The names of the hosts on which the transcripts were recorded.
#[derive(Debug)]
pub(crate) struct RecordedHost {
    services: Services,
    hosts: &'static [(&'static str, IpAddr)],
}

impl RecordedHost {
    /// Knows `localhost` and these.
    pub(crate) fn with(hosts: &'static [(&'static str, IpAddr)]) -> RecordedHost {
        RecordedHost {
            services: Services::parse(
                "echo 7/tcp\ndiscard 9/tcp\nsystat 11/tcp\ndaytime 13/tcp\nnetstat 15/tcp\n\
                 domain 53/tcp\ndomain 53/udp\nhttp 80/tcp www\nhttps 443/tcp\nhttps 443/udp\n\
                 sip 5060/udp\namqp 5672/sctp\nhttp-alt 8080/tcp webcache\n",
            ),
            hosts,
        }
    }
}

impl Names for RecordedHost {
    /// As `gethostbyname` does, which takes `::1` of `/etc/hosts` for 127.0.0.1.
    fn host_by_name(&self, name: &str) -> Option<Ipv4Addr> {
        if name == "localhost" {
            return Some(Ipv4Addr::LOCALHOST);
        }
        let (_, address) = self.hosts.iter().find(|(host, _)| *host == name)?;
        match *address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(address) => address.is_loopback().then_some(Ipv4Addr::LOCALHOST),
        }
    }

    fn host_by_address(&self, address: IpAddr) -> Option<String> {
        if address == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            return Some("localhost".to_owned());
        }
        let (name, _) = self.hosts.iter().find(|(_, known)| *known == address)?;
        Some((*name).to_owned())
    }

    fn port_by_service(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services.port(name, protocol)
    }

    fn service_by_port(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services.name(port, protocol).map(str::to_owned)
    }
}

/// A control connection to a table.
struct Wire<'a> {
    session: Session,
    table: &'a mut dyn Backend,
    lines: VecDeque<String>,
}

impl Transport for Wire<'_> {
    fn send(&mut self, line: &str) -> Result<(), Unreachable> {
        self.session.receive(line.as_bytes());
        loop {
            let progress = self.session.step(self.table);
            let output = self.session.output();
            if progress == Progress::Waiting && output.is_empty() {
                return Ok(());
            }
            let text = std::str::from_utf8(output).expect("answers are text");
            self.lines.extend(text.lines().map(str::to_owned));
            let length = output.len();
            self.session.consume_output(length);
        }
    }

    fn receive(&mut self) -> Result<String, Unreachable> {
        Ok(self.lines.pop_front().expect("an answer for each request"))
    }
}

/// No control connection.
struct Denied;

impl Transport for Denied {
    fn send(&mut self, _: &str) -> Result<(), Unreachable> {
        Err(Unreachable {
            reason: "Permission denied (you must be root)".to_owned(),
            advice: "advice".to_owned(),
        })
    }

    fn receive(&mut self) -> Result<String, Unreachable> {
        unreachable!("nothing was sent")
    }
}

/// What a run printed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: u8,
}

#[derive(Default)]
struct Screen {
    out: String,
    err: String,
    input: VecDeque<String>,
}

impl Terminal for Screen {
    fn out(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn err(&mut self, text: &str) {
        self.err.push_str(text);
    }

    fn has_line(&self) -> bool {
        !self.input.is_empty()
    }

    fn line(&mut self) -> Option<String> {
        self.input.pop_front()
    }
}

/// Runs a program with its words against a table, or against no director at all.
pub(crate) fn run_words(
    words: &[String],
    input: &str,
    table: Option<&mut dyn Backend>,
    names: &dyn Names,
) -> Printed {
    let mut screen = Screen {
        input: input.lines().map(str::to_owned).collect(),
        ..Screen::default()
    };
    let (program, args) = words.split_first().expect("a program's name");
    let exit = match table {
        Some(table) => {
            let mut client = Client::new(Wire {
                session: Session::new(),
                table,
                lines: VecDeque::new(),
            });
            run(program, args, &mut screen, &mut client, names)
        }
        None => run(program, args, &mut screen, &mut Client::new(Denied), names),
    };
    Printed {
        out: screen.out,
        err: screen.err,
        exit,
    }
}
