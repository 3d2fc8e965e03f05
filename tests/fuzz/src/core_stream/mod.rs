//! The core with a story: frames, operations, changes of the network and the time that passes, in
//! any order. After each step the [`checks`] must hold; at the end, when everything was deleted and
//! has expired, nothing may be left; and the same story told twice ends the same.
//!
//! Each step is a byte that chooses it and a few bytes that say more (`Unstructured`); what is not
//! there any more counts as zero. Most frames are well-formed, between a few clients, VIPs and real
//! servers, so that connections come to be; some of their bytes are then damaged.

mod checks;
mod frames;
mod packet;
mod world;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::time::Duration;

use arbitrary::Unstructured;
use director::core::balancer::Settings;
use director::core::director::{Director, Entropy};
use director::core::frame::Frame;
use director::core::net::{NetworkEvent, PortId};
use director::core::operation::Operation;
use director::core::verdict::{Outbox, Outgoing, Verdict};
use shared::time::Time;

/// Tells the story twice.
pub fn run(data: &[u8]) {
    let first = Story::of(data).tell();
    let second = Story::of(data).tell();
    assert_eq!(first, second, "the same story ends differently");
}

/// The rest of the input, and what holds for the whole story.
struct Script<'a> {
    rest: Unstructured<'a>,
    /// Real servers may have port 0. A connection then does not tell its server any more, since
    /// another one may have the port itself.
    any_port: bool,
}

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.rest.arbitrary().unwrap_or(0)
    }

    /// One of these; the first ones are the usual ones.
    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    fn bytes(&mut self, most: usize) -> &[u8] {
        let length = usize::from(self.byte()).min(most).min(self.rest.len());
        self.rest.bytes(length).unwrap_or_default()
    }
}

struct Story<'a> {
    script: Script<'a>,
    director: Director,
    now: Time,
    outbox: Outbox,
    /// Whether the latest step was a frame that was dropped.
    dropped: bool,
    /// The largest MTU so far.
    widest: u32,
    /// What happened, a number for each step.
    told: Vec<u64>,
}

impl<'a> Story<'a> {
    fn of(data: &'a [u8]) -> Story<'a> {
        let mut script = Script {
            rest: Unstructured::new(data),
            any_port: false,
        };
        let world = script.byte();
        script.any_port = world & 0x40 != 0;
        let entropy = Entropy {
            hash_key: [3, 5],
            identification: 100,
        };
        let mut settings = Settings::default();
        if world & 0x80 != 0 {
            settings.most_connections = 3;
        }
        let mut director = Director::new(settings, entropy);
        world::begin(&mut director, world, START);
        Story {
            script,
            director,
            now: START,
            outbox: Outbox::default(),
            dropped: false,
            widest: 0,
            told: Vec::new(),
        }
    }

    fn tell(mut self) -> Vec<u64> {
        while !self.script.rest.is_empty() {
            match self.script.byte() {
                0..128 => self.frame(),
                128..160 => self.operation(),
                160..192 => self.network(),
                192..240 => self.time(),
                240..=255 => self.sysctl(),
            }
            let mtus = self.director.network.ports().map(|(_, port)| port.mtu);
            self.widest = mtus.fold(self.widest, u32::max);
            self.collect();
            let counts = if self.script.any_port {
                checks::Counts::OfConnections
            } else {
                checks::Counts::OfServers
            };
            checks::tables(&self.director, self.now, counts);
        }
        self.end();
        self.told
    }

    fn frame(&mut self) {
        let arriving = frames::next(&mut self.script, &self.director, self.now);
        let port = arriving.port;
        let before = checks::Before::of(&mut self.director, &arriving);
        let mut buffer = vec![HEADROOM_FILL; HEADROOM];
        buffer.extend(&arriving.wire);
        buffer.extend([HEADROOM_FILL; HEADROOM]);
        let end = HEADROOM + arriving.wire.len();
        let Some(mut frame) = Frame::new(&mut buffer, HEADROOM, end) else {
            return;
        };
        let verdict = self
            .director
            .handle_frame(self.now, port, &mut frame, &mut self.outbox);
        let wire = frame.wire_bytes().to_vec();
        // A tunnel's outer headers go in front.
        let start = frame.wire_range().start;
        let around = [&buffer[..start], &buffer[end..]].concat();
        assert!(
            around.iter().all(|&byte| byte == HEADROOM_FILL),
            "written beside the frame"
        );
        checks::verdict(&self.director, &before, verdict, &wire);
        self.dropped = matches!(verdict, Verdict::Drop(_));
        let verdict = match verdict {
            Verdict::Forward(PortId(port)) => (0, u64::from(port)),
            Verdict::Local => (1, 0),
            Verdict::Consumed => (2, 0),
            Verdict::Drop(reason) => (3, reason as u64),
            Verdict::Encapsulate(PortId(port), _) => (4, u64::from(port)),
        };
        self.tell_of(&(verdict, wire));
    }

    fn operation(&mut self) {
        let operation = world::operation(&mut self.script);
        let before = self.director.balancer.services();
        let done = self.director.apply(self.now, &operation);
        if done.is_err() {
            let after = self.director.balancer.services();
            assert_eq!(
                before, after,
                "{operation:?} was refused, and did something"
            );
        }
        self.tell_of(&format!("{done:?}"));
    }

    fn network(&mut self) {
        let event = world::event(&mut self.script);
        self.director.network_changed(event, &mut self.outbox);
        if self.script.byte() & 1 == 1 {
            self.director.network.refresh();
        }
        let asks = self.director.network.take_asks();
        self.tell_of(&format!("{asks:?}"));
    }

    fn sysctl(&mut self) {
        let byte = self.script.byte();
        for (name, value) in [
            ("expire_nodest_conn", byte & 1),
            ("sloppy_tcp", byte >> 1 & 1),
            ("conn_reuse_mode", byte >> 2 & 3),
            ("expire_quiescent_template", byte >> 4 & 1),
            ("secure_tcp", byte >> 5 & 1),
            ("drop_entry", (byte >> 6 & 1) * 3),
            ("drop_packet", (byte >> 7 & 1) * 3),
        ] {
            let operation = Operation::SetSysctl {
                name: name.to_owned(),
                value: i32::from(value),
            };
            let set = self.director.apply(self.now, &operation);
            set.expect("these are there and take this");
        }
    }

    fn time(&mut self) {
        let amount = u64::from(self.script.byte());
        let unit = self.script.one_of(&[1000, 1, 20, 60_000, 3_600_000]);
        self.pass(Duration::from_millis(amount * unit));
    }

    /// Time passes, and what is due is done.
    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        // The balancer does a bounded amount in one call, and says so.
        let most_calls = 16 + self.director.balancer.connection_count();
        let mut calls = 0;
        loop {
            self.director.handle_timeout(self.now, &mut self.outbox);
            calls += 1;
            let at = self.director.poll_at();
            if at.is_none_or(|at| at > self.now) {
                break;
            }
            assert!(calls < most_calls, "due for ever at {at:?}");
        }
        checks::nothing_is_overdue(&self.director, self.now);
        self.tell_of(&self.director.poll_at());
    }

    /// Frames of our own that left.
    fn collect(&mut self) {
        let frames: Vec<Outgoing> = self.outbox.drain().collect();
        // An error about a frame that is dropped is made just now, for the link as it is. (A frame
        // that waited may leave besides: also one that is dropped tells its sender's address.)
        if let (true, [only]) = (mem::take(&mut self.dropped), &frames[..])
            && checks::is_error(only)
        {
            checks::outgoing(&self.director, only, 0);
        }
        let port = self.outbox.train().port();
        let train: Vec<Outgoing> = self
            .outbox
            .train()
            .frames()
            .map(|frame| Outgoing::Transmit(port, frame.to_vec()))
            .collect();
        self.outbox.train_mut().clear();
        for frame in train.into_iter().chain(frames) {
            checks::outgoing(&self.director, &frame, self.widest);
            let bytes = match frame {
                Outgoing::Transmit(_, bytes) | Outgoing::Local(bytes) => bytes,
            };
            self.tell_of(&bytes);
        }
    }

    /// Everything is deleted and expires.
    fn end(&mut self) {
        let services = format!("{:?}", self.director.balancer.services());
        self.tell_of(&services);
        let flushed = self.director.apply(self.now, &Operation::Flush);
        assert_eq!(flushed, Ok(()));
        self.director
            .network_changed(NetworkEvent::Addresses(Vec::new()), &mut self.outbox);
        self.pass(LONGER_THAN_ANY_TIMEOUT);
        for _ in 0..4 {
            self.pass(THE_TRASH_IS_EMPTY);
        }
        self.collect();
        assert_eq!(self.director.balancer.connection_count(), 0);
        assert_eq!(
            self.director.capture_keys(),
            0,
            "{:?} stay",
            self.director.balancer.captures()
        );
        let drops: Vec<u64> = self.director.drops().iter().map(|(_, n)| n).collect();
        self.tell_of(&drops);
    }

    fn tell_of(&mut self, what: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        self.told.push(hasher.finish());
    }
}

const START: Time = Time::from_secs(1000);
const HEADROOM: usize = 16;
const HEADROOM_FILL: u8 = 0xaa;
/// `--set` takes up to 8 589 934 seconds.
const LONGER_THAN_ANY_TIMEOUT: Duration = Duration::from_secs(8_600_000);
const THE_TRASH_IS_EMPTY: Duration = Duration::from_secs(130);
