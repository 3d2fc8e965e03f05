//! The balancer as a whole.

mod administration;
mod beyond;
mod calls;
mod defence;
mod guards;
mod history;
mod judgements;
mod persistence;
mod picks;
mod states;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shared::addr::{Addr, Family, Protocol};

use super::*;
use crate::core::connection::Endpoint;
use crate::core::operation::{
    ForwardMethod, Netmask, Operation, OperationError, Persistence, SchedulerFlags, ServerKey,
    ServerSpec, ServiceSpec, TimeoutChange,
};
use crate::core::protocol::tcp::TcpFlags;
use crate::core::view::{ConnectionView, ServerView};

/// A balancer with a clock, told what to do in the words of transcripts.
struct Laboratory {
    balancer: Balancer,
    now: Time,
    /// What the administrator's rules put on all packets.
    mark: u32,
    /// Where the last packet from a client went.
    went: Option<Endpoint>,
    /// As whom the last packet from a real server left.
    left: Option<Endpoint>,
}

impl Laboratory {
    fn new() -> Laboratory {
        Laboratory::with(Settings::default())
    }

    fn with(settings: Settings) -> Laboratory {
        Laboratory {
            balancer: Balancer::new(settings, [0x5eed, 0xf00d]),
            now: Time::from_secs(1000),
            mark: UNMARKED,
            went: None,
            left: None,
        }
    }

    /// Lets time pass, calling `expire` whenever it is due.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.balancer.poll_at().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.balancer.expire(self.now);
        }
        self.now = end;
    }

    fn secs(&mut self, secs: u64) {
        self.pass(Duration::from_secs(secs));
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        self.balancer.apply(self.now, operation)
    }

    /// An ipvsadm command that is understood and succeeds.
    fn ipvsadm(&mut self, command: &str) {
        self.apply(&operation(command)).expect(command);
    }

    fn sysctl(&mut self, name: &str, value: i32) {
        let name = name.to_owned();
        self.apply(&Operation::SetSysctl { name, value }).unwrap();
    }

    /// A packet on its way through the director.
    fn packet(&mut self, flow: &FlowKey, segment: Segment, ip_bytes: u32) -> Class {
        let class = self.balancer.classify(self.now, flow, segment, self.mark);
        self.carry_out(class, segment, ip_bytes)
    }

    fn carry_out(&mut self, class: Class, segment: Segment, ip_bytes: u32) -> Class {
        let (id, direction) = match class {
            Class::Request(id) => (id, Direction::Request),
            Class::Once(id, direction) => (id, direction),
            Class::Reply(id) => (id, Direction::Reply),
            _ => return class,
        };
        self.balancer
            .advance(self.now, id, direction, segment, ip_bytes);
        let connection = self.balancer.connection(id);
        (self.went, self.left) = match direction {
            Direction::Request => (Some(connection.destination()), None),
            Direction::Reply => (None, Some(connection.virtual_endpoint())),
        };
        if let Class::Once(id, _) = class {
            self.balancer.end_once(id);
        }
        class
    }

    /// A TCP segment with flags like `SA`.
    fn tcp(&mut self, flags: &str, from: &str, to: &str) -> Class {
        self.packet(&flow(Protocol::TCP, from, to), segment(flags), 40)
    }

    fn udp(&mut self, from: &str, to: &str) -> Class {
        self.packet(&flow(Protocol::UDP, from, to), Segment::Udp, 29)
    }

    fn connections(&self) -> Vec<ConnectionView> {
        self.balancer.connections(self.now, 0, usize::MAX).0
    }

    fn server(&self, service: ServiceKey, address: &str) -> ServerView {
        let view = self.balancer.service(&service).expect(address);
        let key = server_key(address);
        let server = view.servers.into_iter().find(|s| s.spec.key == key);
        server.expect(address)
    }
}

fn endpoint(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn flow(protocol: Protocol, from: &str, to: &str) -> FlowKey {
    let (from, to) = (endpoint(from), endpoint(to));
    FlowKey {
        protocol,
        source: from.ip().into(),
        source_port: from.port(),
        destination: to.ip().into(),
        destination_port: to.port(),
    }
}

fn segment(flags: &str) -> Segment {
    Segment::Tcp(
        flags
            .chars()
            .map(|flag| match flag {
                'S' => TcpFlags::SYN,
                'A' => TcpFlags::ACK,
                'F' => TcpFlags::FIN,
                'R' => TcpFlags::RST,
                'P' => TcpFlags::PSH,
                other => panic!("flag {other}"),
            })
            .collect(),
    )
}

fn server_key(text: &str) -> ServerKey {
    let text = &with_port(text);
    let at = endpoint(text);
    ServerKey {
        address: at.ip(),
        port: at.port(),
    }
}

fn tcp_service(text: &str) -> ServiceKey {
    let at = endpoint(text);
    ServiceKey::new(Protocol::TCP, at.ip(), at.port())
}

fn mark_service(mark: &str) -> ServiceKey {
    ServiceKey::Mark {
        mark: mark.parse().expect(mark),
        family: Family::V4,
    }
}

/// A server of a mark has no port.
fn with_port(text: &str) -> String {
    let port = if text.contains(':') { "" } else { ":0" };
    format!("{text}{port}")
}

/// As much of ipvsadm's grammar as the transcripts use.
fn operation(command: &str) -> Operation {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at + 1).copied()
    };
    let number = |option: &str, default: u32| after(option).map_or(default, |n| n.parse().unwrap());
    let service = || {
        if let Some(mark) = after("-f") {
            return mark_service(mark);
        }
        let (protocol, text) = match after("-t") {
            Some(text) => (Protocol::TCP, text),
            None => (Protocol::UDP, after("-u").expect(command)),
        };
        let at = endpoint(text);
        ServiceKey::new(protocol, at.ip(), at.port())
    };
    let server = || {
        let forward = if words.contains(&"-m") {
            ForwardMethod::Nat
        } else if words.contains(&"-i") {
            ForwardMethod::Tunnel
        } else {
            ForwardMethod::Direct
        };
        let at = endpoint(&with_port(after("-r").expect(command)));
        let weight = after("-w").map_or(1, |n| n.parse().unwrap());
        ServerSpec {
            upper_threshold: number("-x", 0),
            lower_threshold: number("-y", 0),
            ..ServerSpec::new(at.ip(), at.port(), forward, weight)
        }
    };
    let spec = || {
        let mut spec = ServiceSpec::new(service(), after("-s").unwrap_or("wlc"));
        spec.one_packet = words.contains(&"-o");
        spec.persistence_engine = after("--pe").map(str::to_owned);
        for flag in after("-b").unwrap_or_default().split(',') {
            spec.flags.0 |= match flag.split_once('-') {
                Some((_, "fallback")) => SchedulerFlags::FLAG_1,
                Some((_, "port")) => SchedulerFlags::FLAG_2,
                _ => 0,
            };
        }
        spec.persistence = after("-p").map(|timeout| Persistence {
            timeout_secs: timeout.parse().unwrap(),
            netmask: match service().family() {
                Family::V4 => Netmask::V4(
                    after("-M")
                        .map_or(u32::MAX, |mask| mask.parse::<Ipv4Addr>().unwrap().to_bits()),
                ),
                Family::V6 => Netmask::V6(number("-M", 128) as u8),
            },
        });
        spec
    };
    match words[0] {
        "-A" => Operation::AddService(spec()),
        "-E" => Operation::EditService(spec()),
        "-D" => Operation::DeleteService(service()),
        "-C" => Operation::Flush,
        "-a" => Operation::AddServer(service(), server()),
        "-e" => Operation::EditServer(service(), server()),
        "-d" => Operation::DeleteServer(service(), server().key),
        "-Z" => Operation::Zero((words.len() > 1).then(service)),
        "--set" => Operation::SetTimeouts(TimeoutChange {
            tcp: words[1].parse().unwrap(),
            tcp_fin: words[2].parse().unwrap(),
            udp: words[3].parse().unwrap(),
        }),
        other => panic!("{other}"),
    }
}

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
