//! `rsagent run`: what somebody breaks is mended, directors hear of everything, nothing stays behind.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use laboratory::process::{Process, scratch};
use laboratory::programs::ours;
use laboratory::wait::{SOON, wait_for};
use shared::agent::{DecodeError, Key, Report, State, decode};

use crate::lab::{Lab, ours_on_lo, pair};

/// A real server with a configuration and a key, and its neighbour, who gets the reports.
struct Watched {
    lab: Lab,
    socket: UdpSocket,
    folder: PathBuf,
}

impl Watched {
    fn new(config: &str) -> Watched {
        let lab = Lab::new();
        let socket = lab
            .neighbour
            .run(|| UdpSocket::bind("10.1.0.10:9111").unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let folder = scratch("rsagent");
        fs::create_dir(&folder).unwrap();
        let watched = Watched {
            lab,
            socket,
            folder,
        };
        fs::write(watched.key_file(), KEY).unwrap();
        watched.set_mode(0o600);
        watched.configure(config);
        watched
    }

    fn key_file(&self) -> PathBuf {
        self.folder.join("key")
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.key_file(), PermissionsExt::from_mode(mode)).unwrap();
    }

    fn config(&self) -> String {
        self.folder.join("rsagent.toml").display().to_string()
    }

    /// The neighbour is the director in every configuration.
    fn configure(&self, text: &str) {
        let key = self.key_file();
        let text = format!("directors = [\"10.1.0.10\"]\nkey_file = {key:?}\n{text}");
        fs::write(self.config(), text).unwrap();
    }

    fn run(&self) -> Process {
        let mut command = Command::new(ours("rsagent"));
        command.args(["run", "--config", &self.config()]);
        self.lab.server.spawn(command)
    }

    fn datagram(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2000];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    /// The next report that is as it is wanted.
    fn report(&self, wanted: impl Fn(&Report) -> bool) -> Report {
        let mut last = None;
        let mut found = None;
        wait_for(SOON, || {
            let Some(datagram) = self.datagram() else {
                return false;
            };
            let report = decode(&datagram, Some(&key(KEY))).unwrap();
            found = wanted(&report).then(|| report.clone());
            last = Some(report);
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("the last report is {last:#?}"))
    }

    fn on_lo(&self, expected: &[(String, String, u8)]) {
        let settled = wait_for(SOON, || self.lab.on_lo() == expected);
        assert!(settled, "{:?}", self.lab.on_lo());
    }

    fn ip(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.lab.server.succeed("ip", &words);
    }

    /// Nothing of ours is left.
    fn is_as_it_was(&self) {
        assert_eq!(self.lab.on_lo(), []);
        assert_eq!(self.lab.arp("all"), pair("0", "0"));
        assert_eq!(self.lab.arp("eth0"), pair("0", "0"));
        assert!(!self.lab.state_file().exists());
        assert!(!self.lab.state_file().with_extension("lock").exists());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn key(text: &str) -> Key {
    Key::from_bytes(text.as_bytes()).unwrap()
}

fn vips_are_there(report: &Report) -> bool {
    report.vips.iter().all(|vip| vip.present)
}

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
fn what_is_removed_by_hand_comes_back_and_is_told() {
    // With a report a minute nothing here is seen by looking from time to time.
    let watched = Watched::new(&format!("{SELDOM}vips = [\"10.1.0.100\", \"fd00::100\"]\n"));
    let _agent = watched.run();
    watched.report(vips_are_there);
    let both = [
        ours_on_lo("10.1.0.100/32", "lo:0"),
        ours_on_lo("fd00::100/128", ""),
    ];
    for vip in ["10.1.0.100/32", "fd00::100/128"] {
        watched.on_lo(&both);
        watched.ip(&format!("address del {vip} dev lo"));
        let report = watched.report(|report| !report.faults.is_empty());
        let fault = format!("{vip} on lo: absent, should be there");
        assert_eq!(report.faults, [fault]);
        assert!(vips_are_there(&report), "{report:?}");
        watched.on_lo(&both);
    }
    // With lo, the host's routes and addresses of IPv6 go.
    watched.ip("link set lo down");
    watched.report(|report| {
        report
            .faults
            .iter()
            .any(|fault| fault.starts_with("lo: down"))
    });
    watched.on_lo(&both);
}

#[test]
fn settings_that_are_changed_by_hand_are_mended_and_told() {
    let watched = Watched::new(OFTEN);
    let _agent = watched.run();
    watched.report(|report| report.arp_suppressed);
    watched.lab.set_arp("all", "0", "0");
    watched.lab.set_arp("eth0", "0", "0");
    let report = watched.report(|report| !report.faults.is_empty());
    assert_eq!(report.faults[0], "all/arp_ignore: 0, should be 1");
    assert!(report.arp_suppressed, "{report:?}");
    assert_eq!(watched.lab.arp("all"), pair("1", "2"));
    assert_eq!(watched.lab.arp("eth0"), pair("1", "2"));
    watched.report(|report| report.faults.is_empty());
}

#[test]
fn a_vip_on_the_lan_is_told_as_long_as_it_is_there() {
    let watched = Watched::new(SELDOM_ONE);
    let _agent = watched.run();
    watched.report(|report| report.arp_suppressed);
    watched.ip("address add 10.1.0.100/24 dev eth0");
    let report = watched.report(|report| !report.arp_suppressed);
    assert!(
        report.faults[0].starts_with("10.1.0.100/24 is an address of eth0"),
        "{report:?}"
    );
    watched.ip("address del 10.1.0.100/24 dev eth0");
    let report = watched.report(|report| report.arp_suppressed);
    assert_eq!(report.faults, Vec::<String>::new());
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
fn after_kill_it_goes_on_where_it_was() {
    let watched = Watched::new(OFTEN);
    let mut agent = watched.run();
    let before = watched.report(vips_are_there);
    watched.lab.succeed("drain");
    watched.report(|report| report.state == State::Drain);
    agent.signal("KILL");
    agent.ended(SOON);
    watched.on_lo(&[ours_on_lo("10.1.0.100/32", "lo:0")]);
    watched.ip("address del 10.1.0.100/32 dev lo");
    let mut agent = watched.run();
    let after = watched.report(|report| report.boot != before.boot);
    assert!(vips_are_there(&after), "{after:?}");
    assert_eq!(after.state, State::Drain);
    watched.lab.succeed("ready");
    watched.report(|report| report.state == State::Ready);
    agent.signal("INT");
    assert!(agent.ended(SOON).success(), "{}", agent.printed());
    watched.is_as_it_was();
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
fn vips_come_and_go_while_it_runs() {
    let watched = Watched::new(SELDOM_ONE);
    let agent = watched.run();
    let vips = |report: &Report| -> Vec<String> {
        report
            .vips
            .iter()
            .map(|vip| vip.address.to_string())
            .collect()
    };
    watched.report(|report| vips(report) == ["10.1.0.100"]);
    watched.lab.succeed("start --vip 10.1.0.101");
    watched.report(|report| vips(report) == ["10.1.0.100", "10.1.0.101"]);
    watched.lab.succeed("stop --vip 10.1.0.100");
    watched.report(|report| vips(report) == ["10.1.0.101"]);
    watched.on_lo(&[ours_on_lo("10.1.0.101/32", "lo:1")]);

    // What the file says is heard when it is read again, if it is right.
    watched.configure("vips = [\"10.1.0.102\"]\nintervall = \"60s\"\n");
    agent.signal("HUP");
    let refused = "rsagent.toml:4:1: the file has no key `intervall'; write `interval'";
    assert!(
        wait_for(SOON, || agent.printed().contains(refused)),
        "{}",
        agent.printed()
    );
    watched.configure("vips = [\"10.1.0.102\"]\ninterval = \"60s\"\n");
    agent.signal("HUP");
    watched.report(|report| vips(report) == ["10.1.0.102"]);
    watched.on_lo(&[ours_on_lo("10.1.0.102/32", "lo:0")]);
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
    let _agent = watched.run();
    // The slow one has not answered, so nothing is told yet; reload takes it out.
    let config = config.split("[[check]]\nname = \"slow\"").next().unwrap();
    assert!(wait_for(SOON, || watched.lab.on_lo().len() == 1));
    watched.configure(config);
    _agent.signal("HUP");
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
fn it_is_small_and_needs_one_capability() {
    let watched = Watched::new(OFTEN);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all,+net_admin", "--inh-caps=-all"]);
    command.arg(ours("rsagent"));
    command.args(["run", "--config", &watched.config()]);
    let agent = watched.lab.server.spawn(command);
    watched.report(|report| report.sequence >= 10 && vips_are_there(report));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    // CAP_NET_ADMIN is bit 12.
    assert_eq!(field("CapEff:"), "0000000000001000");
    let resident: u32 = field("VmRSS:").parse().unwrap();
    assert!(resident < 6 * 1024, "{resident} KiB");
}

#[test]
fn ends_of_tunnels_are_kept_too() {
    let watched = Watched::new(&format!("{OFTEN}mode = \"tun\"\n"));
    let mut agent = watched.run();
    let ours = || {
        let words = ["filter", "show", "dev", "eth0", "ingress"];
        watched
            .lab
            .server
            .succeed("tc", &words)
            .contains("lvs_decap")
    };
    watched.report(|report| report.healthy);
    assert!(ours());
    watched
        .lab
        .server
        .succeed("tc", &["qdisc", "del", "dev", "eth0", "clsact"]);
    let report = watched.report(|report| !report.faults.is_empty());
    assert!(
        report.faults[0].starts_with("tunnels end on eth0: absent"),
        "{report:?}"
    );
    assert!(ours() && report.healthy);
    agent.signal("TERM");
    assert!(agent.ended(SOON).success(), "{}", agent.printed());
    assert!(!ours());
    watched.is_as_it_was();
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

const OFTEN: &str = "interval = \"100ms\"\nvips = [\"10.1.0.100\"]\n";

const SELDOM: &str = "interval = \"60s\"\n";

const SELDOM_ONE: &str = "interval = \"60s\"\nvips = [\"10.1.0.100\"]\n";
