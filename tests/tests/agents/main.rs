//! Real servers that are judged by their agents: a sender in the test stands in for rsagent.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod rsagent;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use laboratory::agent::Agent;
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx, ours};
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};
use shared::agent::{self, Key, PORT, State};

const KEY: &[u8] = b"the key of this laboratory\n";

/// Files that go with the test.
struct Files {
    key: PathBuf,
    config: PathBuf,
}

impl Files {
    fn new() -> Files {
        let files = Files {
            key: scratch("key"),
            config: scratch("toml"),
        };
        fs::write(&files.key, KEY).unwrap();
        files.key_mode(0o600);
        files
    }

    fn key_mode(&self, mode: u32) {
        fs::set_permissions(&self.key, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// One service with two servers behind NAT, whose agents report each 200 ms.
    fn write(&self, agents: &str, check: &str) {
        let text = format!(
            "[agents]\n{agents}\n\
             [[service]]\naddress = \"10.0.0.100:80\"\nprotocol = \"tcp\"\nscheduler = \"wrr\"\n{check}\n\
             [[service.server]]\naddress = \"10.1.0.11:80\"\nforward = \"nat\"\n\
             [[service.server]]\naddress = \"10.1.0.12:80\"\nforward = \"nat\"\n"
        );
        fs::write(&self.config, text).unwrap();
    }

    fn with_key(&self) -> String {
        format!("key_file = \"{}\"", self.key.display())
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.key);
        let _ = fs::remove_file(&self.config);
    }
}

const CHECK: &str = "check = { type = \"agent\", weight = true, interval = \"200ms\" }";

struct Lab {
    net: Routed,
    director: Director,
    files: Files,
    _web: Vec<Nginx>,
}

fn lab() -> Lab {
    let net = Routed::new(2);
    let web = net.servers.iter();
    let web = web.map(|server| Nginx::start(server, server.name(), 80, None));
    let web = web.collect();
    let files = Files::new();
    files.write(&files.with_key(), CHECK);
    let director = Director::start_with(&net.director, &["--config", files.config()]);
    Lab {
        net,
        director,
        files,
        _web: web,
    }
}

impl Lab {
    /// The agent of a server, counted from 0.
    fn agent(&self, number: u8) -> Agent {
        let host = &self.net.servers[usize::from(number)];
        let socket = host.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        socket.connect((Ipv4Addr::new(10, 1, 0, 1), PORT)).unwrap();
        Agent::new(socket, format!("rs{number}"), Routed::VIP, KEY)
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.director.admin("status --json")).unwrap()
    }

    /// Health and effective weight of a server, counted from 0.
    fn server(&self, number: u8) -> (String, i64) {
        let status = self.status();
        let servers = status["services"][0]["servers"].as_array().unwrap();
        let address = Routed::server(number).to_string();
        let server = servers
            .iter()
            .find(|server| server["spec"]["key"]["address"] == address.as_str())
            .unwrap();
        let health = server["health"].as_str().unwrap().to_owned();
        (health, server["effective_weight"].as_i64().unwrap())
    }

    #[track_caller]
    fn becomes(&self, number: u8, health: &str) {
        assert!(
            wait_for(SOON, || self.server(number).0 == health),
            "{health}:\n{}\n{}",
            self.director.admin("status"),
            self.director.process.printed()
        );
    }

    fn ignored(&self, reason: &str) -> u64 {
        let status = self.status();
        let ignored = status["director"]["reports"]["ignored"].as_array().unwrap();
        let found = ignored.iter().find(|view| view["reason"] == reason);
        found.map_or(0, |view| view["packets"].as_u64().unwrap())
    }

    /// Who answers, each once.
    fn answers(&self, requests: usize) -> Vec<String> {
        let url = format!("http://10.0.0.100/?[1-{requests}]");
        let words = ["-sS", "-m", "20", "--http1.0", url.as_str()];
        let text = self.net.client.succeed("curl", &words);
        let mut answers: Vec<String> = text.lines().map(str::to_owned).collect();
        answers.sort();
        answers.dedup();
        answers
    }
}

/// Reports each 200 ms while something else happens.
fn while_it_reports<T>(agent: &mut Agent, happens: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                agent.send(State::Ready);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        // Also when it panics, or the scope would not end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(happens));
        over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_server_serves_while_its_agent_says_so() {
    let lab = lab();
    assert_eq!(lab.server(0), ("down".to_owned(), 0));
    assert!(
        lab.director.process.printed().contains(
            "10.1.0.11:80 is down, for TCP 10.0.0.100:80: its agent has not reported yet"
        )
    );
    let refused = ["-sS", "-m", "20", "http://10.0.0.100/"];
    assert!(!lab.net.client.output("curl", &refused).status.success());

    let (mut first, mut second) = (lab.agent(0), lab.agent(1));
    while_it_reports(&mut first, || {
        lab.becomes(0, "up");
        assert_eq!(lab.answers(10), ["server 1"]);
        while_it_reports(&mut second, || {
            lab.becomes(1, "up");
            assert_eq!(lab.answers(10), ["server 1", "server 2"]);
        });
        // The second one has lost its power: nobody says good-bye.
        let silent = Instant::now();
        let says = "10.1.0.12:80 is down, for TCP 10.0.0.100:80: its agent has not reported for";
        let told = || lab.director.process.printed().contains(says);
        assert!(wait_for(SOON, told));
        let took = silent.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(lab.answers(10), ["server 1"]);
    });
    let listing = lab.director.admin("-Ln");
    let row = listing.lines().find(|line| line.contains("10.1.0.12:80"));
    assert!(row.unwrap().contains(" Masq    0 "), "{listing}");
    assert!(
        lab.director
            .admin("-Sn")
            .contains("-r 10.1.0.12:80 -m -w 1\n")
    );
}

#[test]
fn a_clean_stop_takes_effect_at_once_and_a_wanted_weight_too() {
    let lab = lab();
    let mut agent = lab.agent(0);
    agent.report.weight = Some(20);
    // No interval has to pass: nothing but these reports can say so.
    agent.report.interval = 60_000;
    agent.send(State::Ready);
    lab.becomes(0, "up");
    assert_eq!(lab.server(0).1, 20);
    // The best of some, since others use this machine too.
    let took = (0..5).map(|round| {
        let says = "10.1.0.11:80 is down, for TCP 10.0.0.100:80: its agent has stopped";
        let told = || lab.director.process.printed().matches(says).count();
        let stopped = Instant::now();
        agent.send(State::Leaving);
        assert!(wait_for(SOON, || told() > round));
        let took = stopped.elapsed();
        agent.send(State::Ready);
        lab.becomes(0, "up");
        took
    });
    let best = took.min().unwrap();
    assert!(best < Duration::from_millis(50), "{best:?}");
    agent.send(State::Drain);
    lab.becomes(0, "draining");
    agent.send(State::Ready);
    lab.becomes(0, "up");
}

#[test]
fn what_is_forged_or_sent_again_has_no_effect() {
    let lab = lab();
    let mut agent = lab.agent(0);
    let mut other = lab.agent(1);
    while_it_reports(&mut agent, || lab.becomes(0, "up"));
    let old = agent.send(State::Leaving);
    lab.becomes(0, "down");
    while_it_reports(&mut agent, || {
        lab.becomes(0, "up");
        let replayer = lab.agent(0);
        replayer.socket.send(&old).unwrap();
        assert!(wait_for(SOON, || lab.ignored("replayed") == 1));
        other.socket.send(&old).unwrap();
        assert!(wait_for(SOON, || lab.ignored("of another agent") == 1));
        let mut forger = lab.agent(0);
        forger.key = Key::from_bytes(b"a key of somebody else").unwrap();
        forger.send(State::Leaving);
        assert!(wait_for(SOON, || lab.ignored("forged") == 1));
        forger.report.state = State::Leaving;
        let insecure = agent::encode(&forger.report, None).unwrap();
        forger.socket.send(&insecure).unwrap();
        assert!(wait_for(SOON, || lab.ignored("insecure") == 1));
        forger.socket.send(&old[..40]).unwrap();
        assert!(wait_for(SOON, || lab.ignored("truncated") == 1));
        forger.socket.send(&[0; 1300]).unwrap();
        assert!(wait_for(SOON, || lab.ignored("oversized") == 1));
        assert_eq!(lab.server(0).0, "up");
    });
    let log = lab.director.process.printed();
    assert!(
        log.contains("1 reports from 10.1.0.11 count for nothing: "),
        "{log}"
    );
    // An agent of no server is shown.
    let director = &lab.net.director;
    director.address("rs", "10.1.0.99/24");
    let stranger = director.run(|| UdpSocket::bind(("10.1.0.99", 0)).unwrap());
    stranger.connect(("10.1.0.1", PORT)).unwrap();
    other.report.identity = "stranger".to_owned();
    stranger.send(&other.datagram()).unwrap();
    let shown = "10.1.0.99       stranger ready";
    assert!(
        wait_for(SOON, || lab.director.admin("status").contains(shown)),
        "{}",
        lab.director.admin("status")
    );
}

#[test]
fn a_drain_by_hand_goes_to_its_end() {
    let lab = lab();
    let (mut first, mut second) = (lab.agent(0), lab.agent(1));
    while_it_reports(&mut first, || {
        while_it_reports(&mut second, || {
            lab.becomes(0, "up");
            lab.becomes(1, "up");
            // One that lasts: a request without its end.
            let held = lab.net.client.run(|| {
                use std::io::Write;
                let mut held = std::net::TcpStream::connect("10.0.0.100:80").unwrap();
                held.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
                held
            });
            let rows = lab.director.admin("-Lnc");
            let at = if rows.contains("10.1.0.11:80") { 0 } else { 1 };
            let server = Routed::server(at);
            let other = format!("server {}", 2 - at);
            lab.director
                .admin(&format!("drain {server} --deadline 3s --then reset"));
            assert_eq!(lab.server(at), ("draining".to_owned(), 0));
            assert_eq!(lab.answers(10), [other.as_str()]);
            let status = lab.director.admin("status");
            assert!(status.contains("1 of 1 left"), "{status}");
            let ends = || {
                use std::io::Read;
                held.set_nonblocking(true).unwrap();
                let read = (&held).read(&mut [0; 16]);
                read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
            };
            assert!(wait_for(SOON, ends), "{}", lab.director.admin("-Lnc"));
            lab.director.admin(&format!("ready {server}:80"));
            assert_eq!(lab.server(at), ("up".to_owned(), 1));
            assert_eq!(lab.answers(10), ["server 1", "server 2"]);
        });
    });
    let output = lab.director.lvsadm(&["drain", "10.1.0.77"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(error, "no service has the real server 10.1.0.77\n");
}

#[test]
fn a_reload_changes_who_is_judged() {
    let lab = lab();
    assert_eq!(lab.server(0).0, "down");
    lab.files
        .write("insecure = true\nlisten = \"0.0.0.0:9222\"", "");
    lab.director.process.signal("HUP");
    lab.becomes(0, "up");
    lab.files
        .write("insecure = true\nlisten = \"0.0.0.0:9222\"", CHECK);
    lab.director.process.signal("HUP");
    lab.becomes(0, "down");
    let mut agent = lab.agent(0);
    agent.socket.connect(("10.1.0.1", 9222)).unwrap();
    while_it_reports(&mut agent, || lab.becomes(0, "up"));
}

#[test]
fn without_a_key_that_is_secret_it_does_not_start() {
    let files = Files::new();
    files.write(&files.with_key(), CHECK);
    let check = || {
        let mut command = Command::new(ours("director"));
        let output = command
            .args(["check", "--config", files.config()])
            .output()
            .unwrap();
        let fault = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), fault)
    };
    assert!(check().0);
    files.key_mode(0o644);
    let (good, fault) = check();
    assert!(
        !good && fault.contains("others can read the key of the agents"),
        "{fault}"
    );
    fs::remove_file(&files.key).unwrap();
    let (good, fault) = check();
    assert!(
        !good && fault.contains("insecure = true in [agents]"),
        "{fault}"
    );
    files.write("insecure = true", CHECK);
    assert!(check().0);
}
