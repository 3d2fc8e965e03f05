//! A director made of values that lives through a recorded history.

use std::fmt::Debug;
use std::iter::Peekable;
use std::net::Ipv4Addr;
use std::str::Lines;
use std::time::Duration;

use director::control::session::Backend;
use director::core::balancer::Settings;
use director::core::director::{Director, Entropy};
use director::core::frame::{self, Frame};
use director::core::net::{Mac, NetworkEvent, Port, PortId, Prefix, RouteInfo, RouteKind};
use director::core::operation::{Operation, OperationError, ServiceKey};
use director::core::reason::Reason;
use director::core::verdict::{Outbox, Verdict};
use director::core::view::{
    ConnectionView, InfoView, ServiceView, StatsView, StatusView, SysctlView, TimeoutsView,
};
use shared::addr::{Addr, Protocol};
use shared::time::Time;
use shared::wire::ipv4;
use shared::wire::ipv4::Packet;
use shared::wire::sctp;
use shared::wire::transport;
use shared::wire::vnet::VnetHeader;

use crate::reference::{RecordedHost, run_words};

/// See the [module](self).
pub(crate) struct History {
    director: Director,
    now: Time,
}

impl History {
    /// The host on which histories are recorded.
    pub(crate) fn new() -> History {
        let entropy = Entropy {
            hash_key: [11, 13],
            identification: 1,
        };
        let mut director = Director::new(Settings::default(), entropy);
        for event in host() {
            director.network_changed(event, &mut Outbox::default());
        }
        History {
            director,
            now: BEGIN,
        }
    }

    /// Lives through these lines.
    ///
    /// # Errors
    /// What differed first.
    pub(crate) fn replay(mut self, lines: &str) -> Result<(), String> {
        let mut lines = lines.lines().peekable();
        while let Some(line) = lines.next() {
            let outcome = self.step(line, &mut lines);
            outcome.map_err(|difference| format!("{line}\n{difference}"))?;
        }
        Ok(())
    }

    fn step(&mut self, line: &str, rest: &mut Peekable<Lines>) -> Result<(), String> {
        let (ms, step) = line.split_once(' ').ok_or("no time")?;
        self.pass(BEGIN + Duration::from_millis(number(ms)?));
        let words: Vec<&str> = step.split(' ').collect();
        let rows = |rest: &mut Peekable<Lines>| -> Vec<String> {
            std::iter::from_fn(|| rest.next_if(|row| row.starts_with('|')))
                .map(|row| row[1..].strip_prefix(' ').unwrap_or_default().to_owned())
                .collect()
        };
        match words[..] {
            ["$", "sysctl", setting] => {
                let (name, value) = setting.split_once('=').ok_or("no value")?;
                let operation = Operation::SetSysctl {
                    name: name.to_owned(),
                    value: number(value)?,
                };
                let done = self.director.apply(self.now, &operation);
                done.map_err(|error| error.to_string())
            }
            ["$", ref command @ ..] => {
                let errors: String =
                    std::iter::from_fn(|| rest.next_if(|row| row.starts_with('!')))
                        .map(|row| format!("{}\n", &row[2..]))
                        .collect();
                let exit = rest.next_if(|row| row.starts_with('='));
                let printed = self.run(command);
                same(&errors, &printed.err)?;
                same(exit.unwrap_or("= 0"), &*format!("= {}", printed.exit))
            }
            [">", who, kind, size, from, to, ref answer @ ..] => {
                let answer = answer.join(" ");
                same(&answer, &self.packet(who, kind, number(size)?, from, to))
            }
            [".", "state"] => {
                let recorded = rows(rest);
                compare_states(&recorded, &self.state())
            }
            [".", name] => {
                let commands: &[&str] = match name {
                    "listing" => &["ipvsadm -Ln", "ipvsadm -Sn"],
                    _ => &["ipvsadm -Ln --stats --exact"],
                };
                let printed: String = commands
                    .iter()
                    .map(|command| self.run(&command.split(' ').collect::<Vec<_>>()).out)
                    .collect();
                let ours: Vec<&str> = printed.lines().collect();
                same(&rows(rest).join("\n"), &ours.join("\n"))
            }
            _ => Err("not understood".to_owned()),
        }
    }

    fn pass(&mut self, until: Time) {
        let mut outbox = Outbox::default();
        while let Some(at) = self.director.poll_at().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.director.handle_timeout(self.now, &mut outbox);
        }
        self.now = until;
    }

    fn run(&mut self, command: &[&str]) -> crate::reference::Printed {
        let words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        run_words(&words, "", Some(self), &RecordedHost::with(&[]))
    }

    /// What becomes of a packet, in the recording's words.
    fn packet(&mut self, who: &str, kind: &str, size: usize, from: &str, to: &str) -> String {
        let host = from
            .rsplit_once(':')
            .and_then(|(address, _)| address.chars().last());
        let number = host.and_then(|digit| digit.to_digit(10)).unwrap_or(0) as u8;
        let (port, own, sender) = match who {
            "c" => (PortId(0), OUTSIDE, CLIENT),
            _ => (PortId(1), INSIDE, Mac([2, 0, 0, 0, 2, number])),
        };
        let packet = build(kind, size, from, to);
        let mut buffer = frame::compose(own, sender, VnetHeader::default(), &[&packet]);
        let end = buffer.len();
        let mut outbox = Outbox::default();
        let mut frame = Frame::new(&mut buffer, 0, end).expect("a whole frame");
        let verdict = if self.director.takes(port, frame.ethernet_bytes()) {
            self.director
                .handle_frame(self.now, port, &mut frame, &mut outbox)
        } else {
            Verdict::Local
        };
        match verdict {
            Verdict::Forward(PortId(1)) => {
                let Mac([.., number]) = Mac(frame.ethernet().destination);
                format!("r{number}")
            }
            Verdict::Forward(_) => {
                let packet = Packet::new_lenient(frame.packet()).expect("a packet");
                let (source, _) = transport::ports(packet.payload()).expect("ports");
                format!("c {}:{source}", Ipv4Addr::from(packet.source()))
            }
            Verdict::Encapsulate(..) => unreachable!("no frame of many segments is sent here"),
            // The host sends it on as it is.
            Verdict::Local if who == "r" => format!("c {from}"),
            // Nor does the host know it.
            Verdict::Local if chunks(kind).is_some() => "no-protocol".to_owned(),
            // The host does not know it either.
            Verdict::Local if kind.contains('R') => "-".to_owned(),
            Verdict::Local if kind == "udp" => "unreachable".to_owned(),
            Verdict::Local => "reset".to_owned(),
            Verdict::Drop(Reason::NoServer | Reason::Stray) => "unreachable".to_owned(),
            Verdict::Drop(_) => "-".to_owned(),
            Verdict::Consumed => "consumed".to_owned(),
        }
    }

    fn state(&self) -> Vec<String> {
        let balancer = &self.director.balancer;
        let mut groups: Vec<Vec<String>> = balancer.services().iter().map(service_rows).collect();
        groups.sort();
        let mut rows = groups.concat();
        let mut connections: Vec<String> = balancer
            .connections(self.now, 0, usize::MAX)
            .0
            .iter()
            .map(|c| {
                format!(
                    "{} {}:{} {}:{} {}:{} {} {}",
                    c.protocol,
                    c.client,
                    c.client_port,
                    c.virtual_address,
                    c.virtual_port,
                    c.destination,
                    c.destination_port,
                    c.state,
                    c.expires_ms / 1000
                )
            })
            .collect();
        connections.sort();
        rows.extend(connections);
        rows
    }
}

fn service_rows(service: &ServiceView) -> Vec<String> {
    let ServiceKey::Address {
        protocol,
        address,
        port,
    } = service.spec.key
    else {
        panic!("a mark");
    };
    let scheduler = &service.spec.scheduler;
    let mut rows = vec![format!("{protocol} {address}:{port} {scheduler}")];
    rows.extend(service.servers.iter().map(|server| {
        let (spec, active, inactive) = (&server.spec, server.active, server.inactive);
        format!("{} {} {active} {inactive}", spec.key, spec.weight)
    }));
    rows
}

/// The same rows, each connection's seconds being the same or the next.
fn compare_states(recorded: &[String], ours: &[String]) -> Result<(), String> {
    let split = |row: &String| -> (String, Option<i64>) {
        match row.rsplit_once(' ') {
            Some((row, seconds)) if row.split(' ').count() == 5 => {
                (row.to_owned(), seconds.parse().ok())
            }
            _ => (row.clone(), None),
        }
    };
    let keys = |rows: &[String]| rows.iter().map(|row| split(row).0).collect::<Vec<_>>();
    let seconds =
        |rows: &[String]| -> Vec<Option<i64>> { rows.iter().map(|row| split(row).1).collect() };
    let close = seconds(recorded)
        .iter()
        .zip(seconds(ours))
        .all(|(a, b)| a.zip(b).is_none_or(|(a, b)| (a - b).abs() <= 1));
    if keys(recorded) == keys(ours) && close {
        return Ok(());
    }
    let missing = recorded.iter().filter(|row| !ours.contains(row));
    let more = ours.iter().filter(|row| !recorded.contains(row));
    Err(missing
        .map(|row| format!("  - {row}\n"))
        .chain(more.map(|row| format!("  + {row}\n")))
        .collect())
}

fn same<T: PartialEq + Debug + ?Sized>(recorded: &T, ours: &T) -> Result<(), String> {
    if recorded == ours {
        return Ok(());
    }
    Err(format!("  recorded {recorded:#?}\n  ours {ours:#?}"))
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn host() -> Vec<NetworkEvent> {
    let port = |ifindex, mac| {
        NetworkEvent::Link(Port {
            ifindex,
            name: format!("eth{ifindex}"),
            mac,
            mtu: 1500,
            up: true,
        })
    };
    let address = |ifindex, address, length| NetworkEvent::Address {
        ifindex,
        prefix: Prefix::new(Addr::from_v4_bytes(address), length),
    };
    let route = |destination, ifindex| {
        NetworkEvent::Route(RouteInfo {
            destination: Prefix::new(Addr::from_v4_bytes(destination), 24),
            table: 254,
            metric: 0,
            kind: RouteKind::Unicast {
                ifindex,
                gateway: None,
            },
            mtu: None,
            source: None,
        })
    };
    let mut events = vec![
        port(0, OUTSIDE),
        port(1, INSIDE),
        address(0, [10, 0, 0, 1], 24),
        address(0, [10, 0, 0, 100], 32),
        address(1, [10, 1, 0, 1], 24),
        route([10, 0, 0, 0], 0),
        route([10, 1, 0, 0], 1),
    ];
    events.extend((10..20).map(|host| NetworkEvent::Neighbour {
        ifindex: 0,
        address: Addr::from_v4_bytes([10, 0, 0, host]),
        mac: CLIENT,
    }));
    events.extend((1..6).map(|number| NetworkEvent::Neighbour {
        ifindex: 1,
        address: Addr::from_v4_bytes([10, 1, 0, 10 + number]),
        mac: Mac([2, 0, 0, 0, 2, number]),
    }));
    events
}

/// A packet without transport checksum errors: what the director changes it need not know.
fn build(kind: &str, size: usize, from: &str, to: &str) -> Vec<u8> {
    let end = |text: &str| {
        let at: std::net::SocketAddrV4 = text.parse().expect(text);
        (at.ip().octets(), at.port())
    };
    let ((source, source_port), (destination, destination_port)) = (end(from), end(to));
    let mut body = Vec::new();
    body.extend(source_port.to_be_bytes());
    body.extend(destination_port.to_be_bytes());
    let protocol = if let Some(chunks) = chunks(kind) {
        body.extend([0, 0, 3, 232, 0, 0, 0, 0]);
        for (at, chunk) in chunks.iter().enumerate() {
            // All but the last have two bytes and two of padding.
            match at + 1 == chunks.len() {
                true => body.extend([*chunk, 0, 0, 4]),
                false => body.extend([*chunk, 0, 0, 6, b'x', b'x', 0, 0]),
            }
        }
        sctp::sum_up(&mut body);
        Protocol::SCTP
    } else if kind == "udp" {
        body.extend((8 + size as u16).to_be_bytes());
        body.extend([0, 0]);
        Protocol::UDP
    } else {
        let flags = kind.bytes().fold(0, |flags, letter| {
            flags
                | match letter {
                    b'F' => 1,
                    b'S' => 2,
                    b'R' => 4,
                    b'P' => 8,
                    _ => 16,
                }
        });
        body.extend([0, 0, 3, 232, 0, 0, 0, 1, 0x50, flags, 32, 0, 0, 0, 0, 0]);
        Protocol::TCP
    };
    body.resize(body.len() + size, b'x');
    let header = ipv4::Header {
        tos: 0,
        identification: 1,
        fragment: ipv4::DF,
        ttl: 64,
        protocol: protocol.0,
        source,
        destination,
    };
    let mut packet = header.to_bytes(body.len()).to_vec();
    packet.extend(body);
    packet
}

/// The SCTP chunks of a packet that the recording names so.
fn chunks(kind: &str) -> Option<Vec<u8>> {
    let number = |name: &str| CHUNKS.iter().position(|known| *known == name);
    kind.split('+')
        .map(|name| number(name).map(|number| number as u8))
        .collect()
}

impl Backend for History {
    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        self.director.apply(self.now, operation)
    }

    fn services(&self) -> Vec<ServiceView> {
        self.director.balancer.services()
    }

    fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.director.balancer.service(key)
    }

    fn connections(&self, cursor: usize, most: usize) -> (Vec<ConnectionView>, Option<usize>) {
        self.director.balancer.connections(self.now, cursor, most)
    }

    fn timeouts(&self) -> TimeoutsView {
        self.director.balancer.timeouts()
    }

    fn totals(&self) -> StatsView {
        self.director.balancer.totals()
    }

    fn sysctls(&self) -> Vec<SysctlView> {
        self.director.balancer.sysctls()
    }

    fn info(&self) -> InfoView {
        InfoView {
            version: "0.1.0".to_owned(),
            table_size: 4096,
        }
    }

    fn status(&self) -> StatusView {
        unreachable!("histories do not ask for it")
    }
}

/// By their type.
const CHUNKS: [&str; 15] = [
    "DATA",
    "INIT",
    "INIT_ACK",
    "SACK",
    "HEARTBEAT",
    "HEARTBEAT_ACK",
    "ABORT",
    "SHUTDOWN",
    "SHUTDOWN_ACK",
    "ERROR",
    "COOKIE_ECHO",
    "COOKIE_ACK",
    "ECNE",
    "CWR",
    "SHUTDOWN_COMPLETE",
];
const BEGIN: Time = Time::from_secs(1000);
const OUTSIDE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const INSIDE: Mac = Mac([2, 0, 0, 0, 0, 2]);
const CLIENT: Mac = Mac([2, 0, 0, 0, 1, 1]);
