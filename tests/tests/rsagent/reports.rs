//! `rsagent run`: what directors hear, and when.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use laboratory::programs::ours;
use laboratory::wait::{SOON, wait_for};
use shared::agent::{DecodeError, State, decode};

use crate::watched::{KEY, OFTEN, SELDOM_ONE, Watched, key, vips_are_there};

#[test]
fn reports_say_who_and_how_to_those_who_have_the_key() {
    let watched = Watched::new(&format!("{OFTEN}name = \"web1\"\nweight = 50\n"));
    let _agent = watched.run();
    let mut datagram = None;
    assert!(wait_for(SOON, || {
        datagram = watched.datagram();
        datagram.is_some()
    }));
    let datagram = datagram.unwrap();
    let wrong = decode(&datagram, Some(&key("another key of 16 bytes")));
    assert_eq!(wrong, Err(DecodeError::BadMac));
    let first = decode(&datagram, Some(&key(KEY))).unwrap();
    assert_eq!(first.identity, "web1");
    assert_eq!((first.sequence, first.interval), (1, 100));
    assert_eq!((first.state, first.weight), (State::Ready, Some(50)));
    assert!(first.healthy && first.arp_suppressed, "{first:?}");
    assert_eq!(first.vips.len(), 1);
    assert!(vips_are_there(&first), "{first:?}");
    assert_eq!(first.faults, Vec::<String>::new());
    let second = watched.report(|report| report.sequence == 2);
    assert_eq!(second.boot, first.boot);
    assert!(second.time > first.time);
}

#[test]
fn what_was_mended_is_told_more_than_once_since_datagrams_get_lost() {
    let watched = Watched::new(OFTEN);
    let _agent = watched.run();
    watched.report(vips_are_there);
    watched.ip("address del 10.1.0.100/32 dev lo");
    let first = watched.report(|report| !report.faults.is_empty());
    for later in 1..=3 {
        let next = watched.report(|report| report.sequence == first.sequence + later);
        assert_eq!(next.faults.is_empty(), later == 3, "{next:?}");
    }
}

#[test]
fn directors_hear_of_the_end_before_everything_is_undone() {
    for by_hand in [false, true] {
        let watched = Watched::new(SELDOM_ONE);
        let mut agent = watched.run();
        let before = watched.report(vips_are_there);
        let begun = Instant::now();
        if by_hand {
            let printed = watched.lab.succeed("stop");
            assert!(printed.contains("rsagent run has ended"), "{printed}");
        } else {
            agent.signal("TERM");
        }
        let last = watched.report(|report| report.state == State::Leaving);
        assert!(
            last.sequence > before.sequence && vips_are_there(&last),
            "{last:?}"
        );
        assert!(agent.ended(SOON).success(), "{}", agent.printed());
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it did not wait for a report"
        );
        watched.is_as_it_was();
    }
}

#[test]
fn the_administrators_word_is_told_at_once() {
    let watched = Watched::new(SELDOM_ONE);
    let agent = watched.run();
    watched.report(|report| report.state == State::Ready);
    for (word, state) in [
        ("drain", State::Drain),
        ("maintenance", State::Maintenance),
        ("ready", State::Ready),
    ] {
        assert_eq!(watched.lab.succeed(word), "");
        watched.report(|report| report.state == state);
    }
    drop(agent);
    let printed = watched.lab.succeed("drain");
    assert!(printed.contains("no `rsagent run' is at work"), "{printed}");
    watched.lab.succeed("ready");
}

#[test]
fn checks_of_its_own_are_told_and_hold_nothing_up() {
    let config = format!(
        "{OFTEN}\n\
         [[check]]\nname = \"port\"\ntype = \"tcp\"\naddress = \"10.1.0.100:80\"\ninterval = \"50ms\"\n\
         [[check]]\nname = \"slow\"\ntype = \"script\"\ncommand = [\"/bin/sleep\", \"1000\"]\n\
         interval = \"1s\"\ntimeout = \"300s\"\n"
    );
    let watched = Watched::new(&config);
    let agent = watched.run();
    // The slow one has not answered, so nothing is told yet; reload takes it out.
    let config = config.split("[[check]]\nname = \"slow\"").next().unwrap();
    assert!(wait_for(SOON, || watched.lab.on_lo().len() == 1));
    watched.configure(config);
    agent.signal("HUP");
    let unhealthy = watched.report(|report| report.checks.len() == 1);
    assert!(!unhealthy.healthy, "{unhealthy:?}");
    let listener = watched
        .lab
        .server
        .run(|| TcpListener::bind("10.1.0.100:80").unwrap());
    let well = watched.report(|report| report.healthy);
    assert!(well.checks[0].ok && well.load.listen_queue > 0, "{well:?}");
    drop(listener);
    watched.report(|report| !report.healthy && !report.checks[0].ok);
}

#[test]
fn without_a_key_that_only_root_can_read_it_refuses() {
    let watched = Watched::new(OFTEN);
    let refused = |arguments: &str, why: &str| {
        let (code, printed) = watched.lab.rsagent(arguments);
        assert_eq!(code, 1, "{printed}");
        assert!(printed.contains(why), "{printed}");
        assert_eq!(watched.lab.on_lo(), []);
    };
    let run = format!("run --config {}", watched.config());
    watched.set_mode(0o640);
    refused(&run, "(mode 640): chmod 600 ");
    fs::write(watched.key_file(), "short\n").unwrap();
    watched.set_mode(0o600);
    refused(&run, "the key has 5 bytes");
    fs::remove_file(watched.key_file()).unwrap();
    refused(&run, "--insecure");
    let mut command = Command::new(ours("rsagent"));
    command.args(["run", "--insecure", "--config", &watched.config()]);
    let _agent = watched.lab.server.spawn(command);
    let mut first = None;
    assert!(wait_for(SOON, || {
        first = watched.datagram();
        first.is_some()
    }));
    let first = first.unwrap();
    assert_eq!(decode(&first, Some(&key(KEY))), Err(DecodeError::Insecure));
    assert!(vips_are_there(&decode(&first, None).unwrap()));
    let (code, printed) = watched.lab.rsagent(&format!("{run} --insecure"));
    assert_eq!(code, 1);
    assert!(
        printed.contains("another `rsagent run' is at work"),
        "{printed}"
    );
}

#[test]
fn every_director_gets_every_report() {
    let watched = Watched::new("");
    let second = watched
        .lab
        .neighbour
        .run(|| UdpSocket::bind("10.1.0.10:9000").unwrap());
    second.set_read_timeout(Some(SOON)).unwrap();
    let text = fs::read_to_string(watched.config()).unwrap();
    let text = text.replace(
        "[\"10.1.0.10\"]",
        "[\"10.1.0.10\", \"10.1.0.10:9000\", \"10.1.0.10:9\"]",
    );
    fs::write(watched.config(), format!("{text}{OFTEN}weight = \"cpu\"\n")).unwrap();
    let _agent = watched.run();
    let mut buffer = [0; 2000];
    for sequence in 1..4 {
        let first = watched.report(|report| report.sequence == sequence);
        let length = second.recv(&mut buffer).unwrap();
        assert_eq!(
            decode(&buffer[..length], Some(&key(KEY))),
            Ok(first.clone())
        );
        let idle = u16::from(100 - first.load.cpu_percent);
        assert_eq!(first.weight, Some(idle.max(1)));
    }
}

#[test]
fn a_link_that_was_cut_is_no_end() {
    let watched = Watched::new(OFTEN);
    let agent = watched.run();
    watched.report(vips_are_there);
    watched.ip("link set eth0 down");
    let cut = "report to 10.1.0.10:9111: Network is unreachable";
    assert!(
        wait_for(SOON, || agent.printed().contains(cut)),
        "{}",
        agent.printed()
    );
    while watched.datagram().is_some() {}
    watched.ip("link set eth0 up");
    watched.report(|report| vips_are_there(report) && report.arp_suppressed);
    let mended = "reports to 10.1.0.10:9111 leave again";
    assert!(
        wait_for(SOON, || agent.printed().contains(mended)),
        "{}",
        agent.printed()
    );
}

#[test]
fn systemd_is_told_of_begin_and_end() {
    let watched = Watched::new(OFTEN);
    let path = watched.folder.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let told = || {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    let mut command = Command::new(ours("rsagent"));
    command.args(["run", "--config", &watched.config()]);
    command.env("NOTIFY_SOCKET", &path);
    let mut agent = watched.lab.server.spawn(command);
    assert_eq!(told(), "READY=1");
    assert_eq!(
        watched.lab.on_lo().len(),
        1,
        "it is ready when the VIPs are there"
    );
    agent.signal("TERM");
    assert_eq!(told(), "STOPPING=1");
    agent.ended(SOON);
}
