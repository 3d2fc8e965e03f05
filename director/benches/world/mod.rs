//! A director made of values, with as many connections as asked for, and batches of packets for it.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use director::core::balancer::Settings;
use director::core::director::{Director, Entropy};
use director::core::frame::{Frame, HEADERS};
use director::core::net::{Mac, NetworkEvent, Port, PortId, Prefix, RouteInfo, RouteKind};
use director::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use director::core::verdict::{Outbox, Verdict};
use shared::addr::{Addr, Protocol};
use shared::time::Time;
use shared::wire::checksum;

/// What the loop takes from a ring at a time.
pub const BATCH: usize = 64;

/// Which way the packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From clients.
    Request,
    /// From real servers.
    Reply,
}

/// See the [module](self).
pub struct World {
    director: Director,
    outbox: Outbox,
    now: Time,
    random: u64,
    frames: Vec<[u8; ROOM]>,
    next_flow: u32,
    /// Flows that one client has, as a power of two.
    flow_bits: u32,
}

impl World {
    /// One UDP service with so many servers.
    pub fn new(method: ForwardMethod, scheduler: &str, servers: u16) -> World {
        let entropy = Entropy {
            hash_key: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
            identification: 1,
        };
        let mut world = World {
            director: Director::new(Settings::default(), entropy),
            outbox: Outbox::default(),
            now: Time::from_secs(1),
            random: 0x9e37_79b9_7f4a_7c15,
            frames: vec![[0; ROOM]; BATCH],
            next_flow: 0,
            flow_bits: 12,
        };
        world.connect();
        let key = ServiceKey::new(Protocol::UDP, Ipv4Addr::from(VIP), PORT);
        world.apply(&Operation::AddService(ServiceSpec::new(key, scheduler)));
        if method == ForwardMethod::FullNat {
            let local = std::net::IpAddr::from([10, 1, 0, 2]);
            world.apply(&Operation::AddLocalAddress {
                address: local,
                interface: None,
            });
        }
        for number in 0..servers {
            let server = ServerSpec::new(Ipv4Addr::from(server(number)), PORT, method, 1);
            world.apply(&Operation::AddServer(key, server));
        }
        world
    }

    /// Every flow is another client's.
    pub fn with_strangers(self) -> World {
        World {
            flow_bits: 0,
            ..self
        }
    }

    /// One connection for each flow up to `count`.
    pub fn fill(&mut self, count: u32) {
        let mut next = 0;
        while next < count {
            let end = (next + BATCH as u32).min(count);
            self.requests(next..end);
            self.handle((end - next) as usize);
            next = end;
        }
    }

    /// Prepares a batch of packets of random flows.
    pub fn draw(&mut self, way: Way, flows: u32) {
        for at in 0..BATCH {
            let flow = (self.next() * u64::from(flows)) >> 32;
            match way {
                Way::Request => write_request(&mut self.frames[at], flow as u32, self.flow_bits),
                Way::Reply => write_reply(&mut self.frames[at], flow as u32, self.flow_bits),
            }
        }
    }

    /// Prepares a packet for each of these flows, of which there are no more than a batch.
    pub fn requests(&mut self, flows: impl Iterator<Item = u32>) {
        for (frame, flow) in self.frames.iter_mut().zip(flows) {
            write_request(frame, flow, self.flow_bits);
        }
    }

    /// How long the core takes for so many batches of packets of random flows.
    pub fn time_hits(&mut self, batches: u64, way: Way, flows: u32) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..batches {
            self.draw(way, flows);
            let begin = Instant::now();
            self.handle(BATCH);
            took += begin.elapsed();
        }
        took
    }

    /// How long it takes for so many batches of packets of new flows, and for the end of old ones:
    /// about `size` connections are there at a time.
    pub fn time_new(&mut self, batches: u64, size: u32) -> Duration {
        // At first the table is empty.
        let warm = u64::from(size) / BATCH as u64 + 1;
        let missing = if self.connections() == 0 { warm } else { 0 };
        for _ in 0..missing {
            self.renew(size);
        }
        (0..batches).map(|_| self.renew(size)).sum()
    }

    /// Adds connections up to `count`. How long the slowest batch took.
    pub fn fill_and_time(&mut self, count: u32) -> Duration {
        let mut slowest = Duration::ZERO;
        for first in (0..count).step_by(BATCH) {
            let many = BATCH.min((count - first) as usize);
            self.requests((first..).take(many));
            let begin = Instant::now();
            self.handle(many);
            slowest = slowest.max(begin.elapsed());
        }
        slowest
    }

    /// Lets all connections end at once. How many calls that took, the slowest of them, and all
    /// together.
    pub fn expire_all(&mut self) -> (u32, Duration, Duration) {
        self.now = self.now + UDP_TIMEOUT + UDP_TIMEOUT;
        let (mut calls, mut slowest, mut all) = (0, Duration::ZERO, Duration::ZERO);
        while self.connections() > 0 {
            let begin = Instant::now();
            self.director.handle_timeout(self.now, &mut self.outbox);
            let took = begin.elapsed();
            (calls, slowest, all) = (calls + 1, slowest.max(took), all + took);
        }
        (calls, slowest, all)
    }

    fn renew(&mut self, size: u32) -> Duration {
        let first = self.next_flow;
        self.next_flow = first.wrapping_add(BATCH as u32) & MOST_FLOWS;
        self.requests((first..).take(BATCH).map(|flow| flow & MOST_FLOWS));
        let pause = UDP_TIMEOUT.as_nanos() as u64 * BATCH as u64 / u64::from(size);
        let begin = Instant::now();
        self.now = self.now + Duration::from_nanos(pause);
        while self.director.poll_at().is_some_and(|at| at <= self.now) {
            self.director.handle_timeout(self.now, &mut self.outbox);
        }
        self.handle(BATCH);
        begin.elapsed()
    }

    /// Does with the first packets of the batch what the loop does with what a ring holds; all must
    /// be forwarded.
    pub fn handle(&mut self, packets: usize) {
        let World {
            director, frames, ..
        } = self;
        director.look_ahead(
            frames[..packets]
                .iter()
                .map(|frame| &frame[VNET_AT + 10..VNET_AT + FRAME]),
        );
        for frame in &mut frames[..packets] {
            let end = VNET_AT + FRAME;
            let mut frame = Frame::new(frame, VNET_AT, end).expect("there is room");
            let port = if frame.ethernet_bytes()[5] == OUTSIDE {
                PortId(0)
            } else {
                PortId(1)
            };
            let verdict = director.handle_frame(self.now, port, &mut frame, &mut self.outbox);
            assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.director.balancer.connection_count()
    }

    fn apply(&mut self, operation: &Operation) {
        self.director
            .apply(self.now, operation)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// xorshift64*, the upper half.
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn connect(&mut self) {
        let v4 = Addr::from_v4_bytes;
        let route = |address, length, ifindex, gateway| {
            NetworkEvent::Route(RouteInfo {
                destination: Prefix::new(v4(address), length),
                table: 254,
                metric: 0,
                kind: RouteKind::Unicast { ifindex, gateway },
                mtu: None,
                source: None,
            })
        };
        let link = |ifindex: u32, last| {
            NetworkEvent::Link(Port {
                ifindex,
                name: format!("eth{ifindex}"),
                mac: Mac([2, 0, 0, 0, 0, last]),
                mtu: 1500,
                up: true,
            })
        };
        let address = |ifindex, address, length| NetworkEvent::Address {
            ifindex,
            prefix: Prefix::new(v4(address), length),
        };
        let neighbour = |ifindex, address, last| NetworkEvent::Neighbour {
            ifindex,
            address: v4(address),
            mac: Mac([2, 0, 0, 0, 1, last]),
        };
        let mut events = vec![
            link(2, OUTSIDE),
            link(3, INSIDE),
            address(2, [10, 0, 0, 1], 24),
            address(2, VIP, 32),
            address(3, [10, 1, 0, 1], 16),
            route([10, 0, 0, 0], 24, 2, None),
            route([10, 1, 0, 0], 16, 3, None),
            route([0; 4], 0, 2, Some(v4([10, 0, 0, 254]))),
            neighbour(2, [10, 0, 0, 254], 254),
        ];
        events.extend((0..MOST_SERVERS).map(|number| {
            let server = server(number);
            neighbour(3, server, server[3])
        }));
        for event in events {
            self.director.network_changed(event, &mut self.outbox);
        }
    }
}

fn server(number: u16) -> [u8; 4] {
    let [high, low] = (11 + number).to_be_bytes();
    [10, 1, high, low]
}

/// Clients are in 100.64.0.0/10.
fn client(flow: u32, flow_bits: u32) -> ([u8; 4], u16) {
    let [_, b, c, d] = (flow >> flow_bits).to_be_bytes();
    let port = flow & ((1 << flow_bits) - 1);
    ([100, 64 | b, c, d], 4096 + port as u16)
}

fn write_request(frame: &mut [u8; ROOM], flow: u32, flow_bits: u32) {
    let (address, port) = client(flow, flow_bits);
    write(frame, OUTSIDE, (address, port), (VIP, PORT));
}

/// Of the only server.
fn write_reply(frame: &mut [u8; ROOM], flow: u32, flow_bits: u32) {
    let (address, port) = client(flow, flow_bits);
    write(frame, INSIDE, (server(0), PORT), (address, port));
}

/// A datagram in a frame of 60 bytes, as a ring gives it.
fn write(frame: &mut [u8; ROOM], mac: u8, from: ([u8; 4], u16), to: ([u8; 4], u16)) {
    const IP: usize = VNET_AT + HEADERS;
    frame[VNET_AT..VNET_AT + 10].fill(0);
    frame[VNET_AT + 10..IP].copy_from_slice(&[2, 0, 0, 0, 0, mac, 2, 0, 0, 0, 1, 1, 8, 0]);
    let length = (FRAME - HEADERS) as u8;
    frame[IP..IP + 12].copy_from_slice(&[0x45, 0, 0, length, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame[IP + 12..IP + 16].copy_from_slice(&from.0);
    frame[IP + 16..IP + 20].copy_from_slice(&to.0);
    let sum = !checksum::fold(checksum::sum(&frame[IP..IP + 20], 0));
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
    frame[IP + 20..IP + 22].copy_from_slice(&from.1.to_be_bytes());
    frame[IP + 22..IP + 24].copy_from_slice(&to.1.to_be_bytes());
    // Any checksum will do: it is updated, and looked at by nobody.
    frame[IP + 24..IP + 28].copy_from_slice(&[0, length - 20, 0x12, 0x34]);
}

const MOST_SERVERS: u16 = 1_000;
/// All that [`client`] can tell apart.
const MOST_FLOWS: u32 = (1 << 30) - 1;
const UDP_TIMEOUT: Duration = Duration::from_secs(300);
const VIP: [u8; 4] = [10, 0, 0, 100];
const PORT: u16 = 5300;
const OUTSIDE: u8 = 1;
const INSIDE: u8 = 2;
/// Where a ring puts the vnet header.
const VNET_AT: usize = 84;
/// Virtio header and frame.
const FRAME: usize = 70;
const ROOM: usize = VNET_AT + FRAME;
