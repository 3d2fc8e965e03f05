//! Reports and the time in, judgements out.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use shared::addr::Protocol;
use shared::agent::{CheckReport, Load, State, VipReport, encode};

use super::check::Weight;
use super::*;

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const RIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 11));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 12));
/// The wall clock at [`Time::ZERO`].
const WALL: u64 = 1_700_000_000_000_000;

fn key() -> Key {
    Key::from_bytes(b"a key that is long enough").unwrap()
}

/// One service, one server, and an agent that reports each 200 ms.
struct Laboratory {
    agents: Agents,
    now: Time,
    report: Report,
}

impl Laboratory {
    fn new(forward: ForwardMethod, check: AgentCheck) -> Laboratory {
        let mut agents = Agents::new(Some(key()));
        let now = Time::from_secs(100);
        let first = agents.watch(now, [watch(forward, check)]);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].judgement.health, Health::Down);
        let report = Report {
            identity: "rs1".into(),
            boot: 7,
            sequence: 0,
            time: 0,
            interval: 200,
            state: State::Ready,
            weight: None,
            healthy: true,
            arp_suppressed: true,
            vips: vec![VipReport {
                address: VIP,
                present: true,
            }],
            checks: Vec::new(),
            load: Load::default(),
            faults: Vec::new(),
        };
        Laboratory {
            agents,
            now,
            report,
        }
    }

    fn wall(&self) -> u64 {
        WALL + self.now.as_nanos() / 1000
    }

    /// The next report, made now.
    fn datagram(&mut self) -> Vec<u8> {
        self.report.sequence += 1;
        self.report.time = self.wall();
        encode(&self.report, Some(&key())).unwrap()
    }

    fn receive(&mut self, from: IpAddr, datagram: &[u8]) -> Vec<Verdict> {
        let (now, wall) = (self.now, self.wall());
        self.agents.receive(now, wall, from, datagram)
    }

    /// The agent reports; what is said of its server, if it is something new.
    fn report(&mut self, change: impl FnOnce(&mut Report)) -> Option<Judgement> {
        change(&mut self.report);
        let datagram = self.datagram();
        let mut verdicts = self.receive(RIP, &datagram);
        assert!(verdicts.len() <= 1);
        verdicts.pop().map(|verdict| verdict.judgement)
    }

    fn reason(&mut self, change: impl FnOnce(&mut Report)) -> String {
        let judgement = self.report(change).expect("something new");
        assert_eq!(judgement.health, Health::Down);
        judgement.reason.expect("a reason")
    }

    /// Lets time pass; what is said then.
    fn pass(&mut self, millis: u64) -> Vec<Verdict> {
        let end = self.now + Duration::from_millis(millis);
        let mut verdicts = Vec::new();
        while let Some(at) = self.agents.poll_at().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            verdicts.extend(self.agents.tick(self.now));
            self.agents.take_complaints(self.now);
        }
        self.now = end;
        verdicts
    }

    fn ignored(&self) -> Vec<(String, u64)> {
        let ignored = self.agents.reports().ignored.into_iter();
        ignored.map(|view| (view.reason, view.packets)).collect()
    }
}

fn watch(forward: ForwardMethod, check: AgentCheck) -> Watch {
    Watch {
        service: ServiceKey::new(Protocol::TCP, VIP, 80),
        server: ServerKey {
            address: RIP,
            port: 80,
        },
        forward,
        check,
    }
}

fn direct() -> Laboratory {
    Laboratory::new(ForwardMethod::Direct, AgentCheck::default())
}

fn up(weight: Option<u16>) -> Judgement {
    Judgement {
        weight,
        ..Judgement::default()
    }
}

#[test]
fn a_server_is_up_while_its_agent_says_so() {
    let mut lab = direct();
    assert_eq!(lab.report(|_| ()), Some(up(None)));
    for _ in 0..10 {
        assert_eq!(lab.pass(200), []);
        assert_eq!(lab.report(|_| ()), None, "nothing new");
    }
    // Three are missing, and half an interval more for those that are late.
    assert_eq!(lab.pass(699), []);
    let verdicts = lab.pass(1);
    assert_eq!(verdicts.len(), 1);
    assert_eq!(
        verdicts[0].sentence().as_deref(),
        Some("10.1.0.11:80 is down, for TCP 10.0.0.100:80: its agent has not reported for 700 ms")
    );
    assert_eq!(lab.pass(60_000), []);
    assert_eq!(lab.report(|_| ()), Some(up(None)));
}

#[test]
fn what_is_expected_counts_more_than_what_the_agent_says_of_its_interval() {
    let check = AgentCheck {
        interval: Some(Duration::from_secs(1)),
        missed: 2,
        ..AgentCheck::default()
    };
    let mut lab = Laboratory::new(ForwardMethod::Direct, check);
    lab.report(|_| ());
    assert_eq!(lab.pass(2499), []);
    assert_eq!(lab.pass(1).len(), 1);
    // Whatever an agent says, it is not for ever.
    let mut lab = direct();
    lab.report(|report| report.interval = u32::MAX);
    assert_eq!(lab.pass(209_999), []);
    assert_eq!(lab.pass(1).len(), 1);
    lab.report(|report| report.interval = 0);
    assert_eq!(lab.pass(174), []);
    assert_eq!(lab.pass(1).len(), 1);
}

#[test]
fn a_report_that_says_so_takes_a_server_out_at_once_with_the_reason() {
    let mut lab = direct();
    lab.report(|_| ());
    assert_eq!(
        lab.reason(|report| {
            report.arp_suppressed = false;
            report.faults = vec!["arp_ignore of eth0 is 0".into()];
        }),
        "ARP is not suppressed: arp_ignore of eth0 is 0"
    );
    assert_eq!(
        lab.reason(|report| {
            report.arp_suppressed = true;
            report.faults.clear();
            report.vips[0].present = false;
        }),
        "it does not have the VIP 10.0.0.100"
    );
    assert_eq!(
        lab.reason(|report| report.vips.clear()),
        "its agent does not know the VIP 10.0.0.100"
    );
    assert_eq!(
        lab.reason(|report| {
            report.vips = vec![VipReport {
                address: VIP,
                present: true,
            }];
            report.healthy = false;
        }),
        "its agent says that it is not well"
    );
    assert_eq!(
        lab.reason(|report| report.checks = vec![CheckReport {
            name: "nginx".into(),
            ok: false,
        }]),
        "its own check of nginx fails"
    );
    assert_eq!(
        lab.reason(|report| report.state = State::Maintenance),
        "its agent says maintenance"
    );
    assert_eq!(
        lab.reason(|report| report.state = State::Leaving),
        "its agent has stopped"
    );
    // It stays so, whatever time it is.
    assert_eq!(lab.pass(10_000), []);
}

#[test]
fn only_direct_routing_needs_silence_and_only_what_takes_the_vip_needs_it() {
    for (forward, arp, vip) in [
        (ForwardMethod::Direct, false, false),
        (ForwardMethod::Tunnel, true, false),
        (ForwardMethod::Nat, true, true),
        (ForwardMethod::FullNat, true, true),
    ] {
        let good = |ok| if ok { Health::Up } else { Health::Down };
        let mut lab = Laboratory::new(forward, AgentCheck::default());
        let judgement = lab.report(|report| report.arp_suppressed = false);
        let health = judgement.map_or(Health::Down, |judgement| judgement.health);
        assert_eq!(health, good(arp), "{forward:?}");
        let mut lab = Laboratory::new(forward, AgentCheck::default());
        let judgement = lab.report(|report| report.vips.clear());
        let health = judgement.map_or(Health::Down, |judgement| judgement.health);
        assert_eq!(health, good(vip), "{forward:?}");
    }
}

#[test]
fn the_wanted_weight_counts_within_its_bounds_where_asked_for() {
    let weight = Weight::Wanted { least: 1, most: 50 };
    let check = AgentCheck {
        weight,
        ..AgentCheck::default()
    };
    let mut lab = Laboratory::new(ForwardMethod::Direct, check);
    assert_eq!(lab.report(|_| ()), Some(up(None)));
    assert_eq!(
        lab.report(|report| report.weight = Some(20)),
        Some(up(Some(20)))
    );
    assert_eq!(
        lab.report(|report| report.weight = Some(60)),
        Some(up(Some(50)))
    );
    assert_eq!(
        lab.report(|report| report.weight = Some(0)),
        Some(up(Some(1)))
    );
    let mut lab = direct();
    assert_eq!(
        lab.report(|report| report.weight = Some(20)),
        Some(up(None))
    );
}

#[test]
fn an_agent_drains_its_server() {
    let mut lab = direct();
    lab.report(|_| ());
    let judgement = lab.report(|report| report.state = State::Drain).unwrap();
    assert_eq!(judgement.health, Health::Draining);
    assert_eq!(
        lab.report(|report| report.state = State::Ready),
        Some(up(None))
    );
}

#[test]
fn an_older_report_changes_nothing_and_none_counts_twice() {
    let mut lab = direct();
    let first = lab.datagram();
    lab.pass(10);
    lab.report.state = State::Leaving;
    let second = lab.datagram();
    let verdicts = lab.receive(RIP, &second);
    assert_eq!(
        verdicts[0].sentence().as_deref(),
        Some("10.1.0.11:80 is down, for TCP 10.0.0.100:80: its agent has stopped"),
        "it was down already, for another reason"
    );
    assert_eq!(lab.receive(RIP, &first), [], "late");
    assert_eq!(lab.receive(RIP, &first), []);
    assert_eq!(lab.agents.views(lab.now)[0].state, "leaving");
    assert_eq!(lab.ignored(), [("replayed".to_owned(), 1)]);
    // Nor does a replay keep a server up.
    let mut lab = direct();
    let datagram = lab.datagram();
    assert_eq!(lab.receive(RIP, &datagram).len(), 1);
    lab.pass(650);
    assert_eq!(lab.receive(RIP, &datagram), []);
    assert_eq!(lab.pass(50).len(), 1);
}

#[test]
fn a_restarted_agent_is_believed_and_its_former_run_is_not() {
    let mut lab = direct();
    lab.report(|report| report.sequence = 1000);
    let old = lab.datagram();
    lab.pass(100);
    assert_eq!(
        lab.report(|report| {
            report.boot = 8;
            report.sequence = 0;
            report.identity = "renamed".into();
        }),
        None,
        "as good as before"
    );
    assert_eq!(lab.receive(RIP, &old), []);
    let view = lab.agents.views(lab.now).remove(0);
    assert_eq!(view.identity, "renamed");
    assert_eq!(lab.ignored(), [("replayed".to_owned(), 1)]);
    // A run has one name.
    assert_eq!(
        lab.report(|report| report.identity = "mallory".into()),
        None
    );
    assert_eq!(lab.agents.views(lab.now)[0].identity, "renamed");
    assert!(lab.ignored().contains(&("of another agent".to_owned(), 1)));
}

#[test]
fn what_one_server_said_is_not_believed_of_another() {
    let mut lab = direct();
    lab.report(|_| ());
    let leaving = {
        lab.report.state = State::Leaving;
        lab.datagram()
    };
    assert_eq!(lab.receive(OTHER, &leaving), []);
    assert_eq!(lab.agents.views(lab.now).len(), 1);
    assert_eq!(lab.ignored(), [("of another agent".to_owned(), 1)]);
}

#[test]
fn what_is_no_good_report_is_counted_and_told_once_a_minute() {
    let mut lab = direct();
    lab.report(|_| ());
    let good = lab.datagram();
    let mut forged = good.clone();
    forged[20] ^= 1;
    let insecure = encode(&lab.report, None).unwrap();
    lab.receive(RIP, &forged);
    lab.receive(RIP, &insecure);
    lab.receive(RIP, &[0; 1201]);
    lab.receive(RIP, &good[..50]);
    lab.receive(RIP, b"rubbish");
    lab.receive(RIP, b"rubbish");
    lab.report.time = 0;
    let mut old = lab.report.clone();
    (old.time, old.sequence) = (0, 900);
    let old = encode(&old, Some(&key())).unwrap();
    lab.receive(RIP, &old);
    let counts = lab.ignored();
    for (reason, count) in [
        ("forged", 1),
        ("insecure", 1),
        ("oversized", 1),
        ("truncated", 1),
        ("malformed", 2),
        ("out of time", 1),
    ] {
        assert!(counts.contains(&(reason.to_owned(), count)), "{counts:?}");
    }
    assert_eq!(lab.agents.reports().good, 1);
    let told = lab.agents.take_complaints(lab.now);
    assert_eq!(told.len(), 6);
    assert!(told.contains(
        &"2 reports from 10.1.0.11 count for nothing: malformed (no report of an agent)".to_owned()
    ));
    lab.receive(RIP, &forged);
    assert_eq!(lab.agents.take_complaints(lab.now), [""; 0]);
    lab.now = lab.now + Duration::from_secs(59);
    assert_eq!(lab.agents.take_complaints(lab.now), [""; 0]);
    lab.now = lab.now + Duration::from_secs(1);
    assert_eq!(lab.agents.take_complaints(lab.now).len(), 1);
}

#[test]
fn a_flood_of_senders_does_not_fill_the_log() {
    let mut lab = direct();
    for last in 0..1000_u32 {
        let from = Ipv4Addr::from_bits(0x0a02_0000 + last);
        lab.receive(from.into(), b"rubbish");
    }
    let told = lab.agents.take_complaints(lab.now);
    assert_eq!(told.len(), 65);
    assert_eq!(told[64], "936 reports of others count for nothing");
}

#[test]
fn an_agent_of_no_server_is_shown_and_changes_nothing() {
    let mut lab = direct();
    let datagram = lab.datagram();
    assert_eq!(lab.receive(OTHER, &datagram), []);
    let views = lab.agents.views(lab.now);
    assert_eq!((views.len(), views[0].servers), (1, 0));
    assert_eq!(lab.ignored(), [("unknown sender".to_owned(), 1)]);
    assert_eq!(lab.agents.take_complaints(lab.now).len(), 1);
    let datagram = lab.datagram();
    lab.receive(OTHER, &datagram);
    assert_eq!(lab.ignored(), [("unknown sender".to_owned(), 2)]);
    // When a service gets it, what it said counts.
    let mut watch = watch(ForwardMethod::Direct, AgentCheck::default());
    watch.server.address = OTHER;
    let verdicts = lab.agents.watch(lab.now, [watch]);
    assert_eq!(verdicts.len(), 2);
    assert!(verdicts.iter().all(|verdict| verdict.judgement == up(None)));
    let views = lab.agents.views(lab.now);
    assert_eq!(views[0].servers, 1);
    lab.now = lab.now + Duration::from_secs(60);
    assert_eq!(lab.agents.take_complaints(lab.now), [""; 0], "told once");
}

#[test]
fn servers_that_come_and_go_are_judged_by_what_is_known() {
    let mut lab = direct();
    lab.report(|_| ());
    // The same again: said again, since it may be a new server of that name, but not logged.
    let same = watch(ForwardMethod::Direct, AgentCheck::default());
    let verdicts = lab.agents.watch(lab.now, [same]);
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].judgement, up(None));
    assert_eq!(verdicts[0].sentence(), None);
    lab.report(|report| report.state = State::Leaving);
    // Not judged any more: as it was configured.
    let verdicts = lab.agents.watch(lab.now, []);
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].judgement, up(None));
    assert_eq!(lab.agents.watch(lab.now, []), []);
    assert_eq!(lab.pass(10_000), []);
}

proptest! {
    /// Whatever order reports come in, and however often, the server is as the newest that came says.
    #[test]
    fn the_newest_report_decides(order in prop::collection::vec(0_usize..40, 1..120)) {
        let mut lab = direct();
        let mut datagrams = Vec::new();
        for number in 0..40 {
            lab.report.state = if number % 3 == 0 { State::Leaving } else { State::Ready };
            datagrams.push(lab.datagram());
        }
        let mut said = Health::Down;
        let mut newest = None;
        for number in order {
            for verdict in lab.receive(RIP, &datagrams[number]) {
                said = verdict.judgement.health;
            }
            newest = newest.max(Some(number));
            let leaves = newest.is_some_and(|newest| newest % 3 == 0);
            prop_assert_eq!(said, if leaves { Health::Down } else { Health::Up });
        }
    }
}
