//! The core with a story: frames, operations, changes of the network and the time that passes, in
//! any order. After each step the [`checks`] must hold; at the end, when everything was deleted and
//! has expired, nothing may be left; and the same story told twice ends the same.
//!
//! Each step is a byte that chooses it and a few bytes that say more (`Unstructured`); what is not
//! there any more counts as zero. The first byte says what there is ([`script::Scene`]): families, forwarding
//! methods, services whose packets are looked into. Most frames are well-formed, between a few clients, VIPs and real
//! servers, so that connections come to be; some of their bytes are then damaged.

mod checks;
mod events;
mod frames;
mod headers;
mod operations;
mod packet;
mod places;
mod script;
mod texts;
mod world;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::time::Duration;

use director::core::balancer::Settings;
use director::core::director::{Director, Entropy};
use director::core::frame::Frame;
use director::core::net::{NetworkEvent, PortId};
use director::core::operation::Operation;
use director::core::verdict::{Outbox, Outgoing, Verdict};
use shared::addr::Family;
use shared::time::Time;

use checks::Past;
use script::Script;

/// Tells the story twice.
pub fn run(data: &[u8]) {
    let first = Story::of(data).tell();
    let second = Story::of(data).tell();
    assert_eq!(first, second, "the same story ends differently");
}

struct Story<'a> {
    script: Script<'a>,
    director: Director,
    now: Time,
    outbox: Outbox,
    /// Whether the latest step was a frame that was dropped.
    dropped: bool,
    /// Of the frames so far.
    past: Past,
    /// The largest MTU so far.
    widest: u32,
    /// What happened, a number for each step.
    told: Vec<u64>,
}

impl<'a> Story<'a> {
    fn of(data: &'a [u8]) -> Story<'a> {
        let script = Script::new(data);
        let entropy = Entropy {
            hash_key: [3, 5],
            identification: 100,
        };
        let mut settings = Settings::default();
        if script.scene.small {
            settings.most_connections = MOST as u32;
        }
        let mut director = Director::new(settings, entropy);
        world::begin(&mut director, script.scene, START);
        Story {
            script,
            director,
            now: START,
            outbox: Outbox::default(),
            dropped: false,
            past: Past::Sound,
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
            checks::tables(&self.director, self.now, self.script.scene);
        }
        self.end();
        self.told
    }

    fn frame(&mut self) {
        let arriving = frames::next(&mut self.script, &self.director, self.now);
        let port = arriving.port;
        let before = checks::Before::of(&mut self.director, &arriving);
        if !before.is_sound() {
            self.past = Past::Unsound;
        }
        let strangers = checks::strangers(&self.director, self.now);
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
        // A tunnel's outer headers go in front; a shorter header leaves room behind the old beginning.
        let start = frame.wire_range().start.min(HEADROOM);
        let around = [&buffer[..start], &buffer[end..]].concat();
        assert!(
            around.iter().all(|&byte| byte == HEADROOM_FILL),
            "written beside the frame"
        );
        checks::verdict(&self.director, &before, verdict, &wire);
        if matches!(verdict, Verdict::Forward(_)) {
            checks::soundness(&self.director, self.past, &wire);
        }
        let now = checks::strangers(&self.director, self.now);
        assert!(
            now.is_subset(&strangers),
            "a connection to an address of no service"
        );
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
        let operation = operations::operation(&mut self.script);
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
        let event = events::event(&mut self.script);
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
                Outgoing::Transmit(_, bytes) => {
                    checks::soundness(&self.director, self.past, &bytes);
                    bytes
                }
                Outgoing::Local(bytes) => bytes,
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
        for family in [Family::V4, Family::V6] {
            let address = places::local(family).ip();
            // Not in every story is it one.
            let _ = self
                .director
                .apply(self.now, &Operation::DeleteLocalAddress(address));
        }
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

/// Connections in a small table.
const MOST: usize = 3;
const START: Time = Time::from_secs(1000);
/// Less than some outer headers have.
const HEADROOM: usize = 32;
const HEADROOM_FILL: u8 = 0xaa;
/// `--set` takes up to 8 589 934 seconds.
const LONGER_THAN_ANY_TIMEOUT: Duration = Duration::from_secs(8_600_000);
const THE_TRASH_IS_EMPTY: Duration = Duration::from_secs(130);
