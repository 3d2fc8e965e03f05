//! The same with rsagent itself: direct routing, on servers that nothing else has prepared.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use laboratory::ipv6::{beside, of};
use laboratory::process::{Process, scratch};
use laboratory::programs::{Director, Nginx, ours};
use laboratory::topology::OneLan;
use laboratory::wait::{SOON, wait_for};
use shared::addr::Family;

/// Two servers with nginx and `rsagent run`, and a director that knows of them by their reports alone.
struct Lab {
    net: OneLan,
    family: Family,
    director: Director,
    agents: Vec<Process>,
    _web: Vec<Nginx>,
    folder: PathBuf,
}

impl Lab {
    fn new() -> Lab {
        Lab::of(Family::V4, &[OneLan::DIRECTOR])
    }

    fn of(family: Family, directors: &[Ipv4Addr]) -> Lab {
        let net = OneLan::new(2);
        if family == Family::V6 {
            beside([&net.client, &net.director].into_iter().chain(&net.servers));
            for server in &net.servers {
                // Or they go with the link.
                server.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", "1");
            }
        }
        let [vip, first, second] =
            [OneLan::VIP, OneLan::server(0), OneLan::server(1)].map(|address| of(family, address));
        let service = SocketAddr::new(vip, 80);
        let directors: Vec<String> = directors
            .iter()
            .map(|&director| format!("\"{}\"", of(family, director)))
            .collect();
        let directors = directors.join(", ");
        let folder = scratch("agents");
        fs::create_dir(&folder).unwrap();
        let key = folder.join("key");
        fs::write(&key, super::KEY).unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let of_agents = folder.join("rsagent.toml");
        let text = format!(
            "vips = [\"{vip}\"]\ndirectors = [{directors}]\nkey_file = {key:?}\ninterval = \"200ms\"\n"
        );
        fs::write(&of_agents, text).unwrap();
        let config = folder.join("director.toml");
        let text = format!(
            "[agents]\nkey_file = {key:?}\n\
             [[service]]\naddress = \"{service}\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n\
             check = {{ type = \"agent\" }}\n\
             [[service.server]]\naddress = \"{first}\"\n\
             [[service.server]]\naddress = \"{second}\"\n"
        );
        fs::write(&config, text).unwrap();
        let web = net.servers.iter();
        let web = web.map(|server| Nginx::of_both_families(server, 80, None));
        let web = web.collect();
        let director = Director::start_with(&net.director, &["--config", config.to_str().unwrap()]);
        let mut lab = Lab {
            net,
            family,
            director,
            agents: Vec::new(),
            _web: web,
            folder,
        };
        for number in 0..2 {
            let agent = lab.run_agent(number);
            lab.agents.push(agent);
        }
        for number in 0..2 {
            lab.log_has(&format!("{} is up", lab.server(number)));
        }
        lab
    }

    /// The web server on a host.
    fn server(&self, number: u8) -> SocketAddr {
        SocketAddr::new(of(self.family, OneLan::server(number)), 80)
    }

    fn service(&self) -> SocketAddr {
        let vip: IpAddr = of(self.family, OneLan::VIP);
        SocketAddr::new(vip, 80)
    }

    fn run_agent(&self, number: usize) -> Process {
        let mut command = Command::new(ours("rsagent"));
        command.arg("run").arg("--config");
        command.arg(self.folder.join("rsagent.toml"));
        self.net.servers[number].spawn(command)
    }

    /// A word for the agent of a server.
    fn tell(&self, number: usize, word: &str) {
        let program = ours("rsagent").display().to_string();
        self.net.servers[number].succeed(&program, &[word]);
    }

    #[track_caller]
    fn log_has(&self, sentence: &str) {
        let found = || self.director.process.printed().contains(sentence);
        assert!(
            wait_for(SOON, found),
            "{sentence}:\n{}\n{}",
            self.director.admin("status"),
            self.director.process.printed()
        );
    }

    /// Who answers, each once.
    fn answers(&self) -> Vec<String> {
        let url = format!("http://{}/?[1-10]", self.service());
        let words = ["-sS", "-m", "20", "--http1.0", &url];
        let text = self.net.client.succeed("curl", &words);
        let mut answers: Vec<String> = text.lines().map(str::to_owned).collect();
        answers.sort();
        answers.dedup();
        answers
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        // What an agent that was killed remembers.
        for server in &self.net.servers {
            let inode =
                server.run(|| fs::metadata("/proc/thread-self/ns/net").map(|own| own.ino()));
            if let Ok(inode) = inode {
                let state = PathBuf::from(format!("/run/lvs/rsagent-{inode}.json"));
                let _ = fs::remove_file(state.with_extension("lock"));
                let _ = fs::remove_file(state);
            }
        }
    }
}

laboratory::of_both_families! {
    serve_and_go => two_servers_with_nothing_but_rsagent_serve_and_go, those_of_ipv6_do_so_too;
}

fn serve_and_go(family: Family) {
    let mut lab = Lab::of(family, &[OneLan::DIRECTOR]);
    let (second, service) = (lab.server(1), lab.service());
    assert_eq!(lab.answers(), ["server 1", "server 2"]);

    // Drained by its own administrator, and back.
    lab.tell(1, "drain");
    let drains = "its agent drains it";
    lab.log_has(&format!(
        "{second} is draining, for TCP {service}: {drains}"
    ));
    assert_eq!(lab.answers(), ["server 1"]);
    let status = lab.director.admin("status");
    assert!(status.contains("drained by its agent for "), "{status}");
    lab.tell(1, "ready");
    assert!(wait_for(SOON, || lab.answers().len() == 2));

    // A clean stop says good-bye.
    lab.agents[1].signal("TERM");
    let down = format!("{second} is down, for TCP {service}");
    lab.log_has(&format!("{down}: its agent has stopped"));
    assert_eq!(lab.answers(), ["server 1"]);
    assert!(lab.agents[1].ended(SOON).success());
    lab.agents[1] = lab.run_agent(1);
    assert!(wait_for(SOON, || lab.answers().len() == 2));

    // The link is cut: what a loss of power looks like from here.
    let cut = Instant::now();
    lab.net.servers[1].succeed("ip", &["link", "set", "eth0", "down"]);
    lab.log_has(&format!("{down}: its agent has not reported for 700 ms"));
    assert!(
        cut.elapsed() < Duration::from_secs(1),
        "{:?}",
        cut.elapsed()
    );
    assert_eq!(lab.answers(), ["server 1"]);
    lab.net.servers[1].succeed("ip", &["link", "set", "eth0", "up"]);
    assert!(wait_for(SOON, || lab.answers().len() == 2));

    lab.agents[1].signal("KILL");
    let says = "its agent has not reported for 700 ms";
    assert!(wait_for(SOON, || {
        lab.director.process.printed().matches(says).count() == 2
    }));
    assert_eq!(lab.answers(), ["server 1"]);
}

/// What is done before a server is switched off: nobody notices.
#[test]
fn a_drain_goes_to_its_end_under_traffic_and_no_request_fails() {
    let lab = Lab::new();
    // What is over is forgotten soon.
    lab.director.admin("--set 0 1 0");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let url = "http://10.2.0.100/?[1-50]";
            let words = ["-sS", "-f", "-m", "20", "--http1.0", url];
            let mut answers = 0;
            while !over.load(Ordering::Relaxed) {
                answers += lab.net.client.succeed("curl", &words).lines().count();
            }
            answers
        });
        lab.tell(1, "drain");
        lab.log_has("10.2.0.12:80 is draining");
        let done = || lab.director.admin("status").contains(" left, done");
        let drained = wait_for(SOON, done);
        lab.agents[1].signal("TERM");
        lab.log_has("10.2.0.12:80 is down, for TCP 10.2.0.100:80: its agent has stopped");
        over.store(true, Ordering::Relaxed);
        assert!(drained, "{}", lab.director.admin("status"));
        let answers = requests.join().unwrap();
        assert!(answers >= 50 && answers % 50 == 0, "{answers}");
    });
    assert_eq!(lab.answers(), ["server 1"]);
}

/// Both hear the same agents, and each decides for itself.
#[test]
fn two_directors_judge_the_same_servers() {
    let lab = Lab::of(Family::V4, &[OneLan::DIRECTOR, OneLan::CLIENT]);
    let config = lab.folder.join("director.toml");
    let options = ["--config", config.to_str().unwrap()];
    let mut other = Director::start_with(&lab.net.client, &options);
    let other_says = |sentence: &str| {
        let says = || other.process.printed().contains(sentence);
        assert!(
            wait_for(SOON, says),
            "{sentence}:\n{}",
            other.process.printed()
        );
    };
    other_says("10.2.0.11:80 is up");
    other_says("10.2.0.12:80 is up");
    // What one of them is told by lvsadm is its own affair.
    lab.director.admin("drain 10.2.0.11");
    let status = other.admin("status");
    assert!(!status.contains("draining"), "{status}");
    lab.director.admin("ready 10.2.0.11");
    // What the agent says is everybody's.
    lab.tell(0, "drain");
    lab.log_has("10.2.0.11:80 is draining");
    other_says("10.2.0.11:80 is draining");
    lab.tell(0, "ready");
    // One of them is gone, and the other hears as before.
    other.process.signal("KILL");
    other.process.ended(SOON);
    lab.agents[1].signal("TERM");
    lab.log_has("10.2.0.12:80 is down, for TCP 10.2.0.100:80: its agent has stopped");
    assert!(wait_for(SOON, || lab.answers() == ["server 1"]));
}

#[test]
fn a_server_that_would_answer_arp_is_found_named_and_not_used() {
    let lab = Lab::new();
    // From now on the client knows whom to ask, or it could ask that server itself.
    assert_eq!(lab.answers(), ["server 1", "server 2"]);
    // The VIP on a real interface, as somebody may put it there by hand.
    let by_hand = ["address", "add", "10.2.0.100/32", "dev", "eth0"];
    lab.net.servers[1].succeed("ip", &by_hand);
    lab.log_has("10.2.0.12:80 is down, for TCP 10.2.0.100:80: ARP is not suppressed: ");
    assert_eq!(lab.answers(), ["server 1"]);
    let status = lab.director.admin("status");
    assert!(status.contains("      ARP is not suppressed"), "{status}");
    // The director has looked itself, and the agent gives it the name.
    let mac = lab.net.servers[1].mac("eth0");
    lab.log_has(&format!(
        ", {mac}) answers ARP for 10.2.0.100 on eth0: clients may go there past the director"
    ));
    lab.log_has("real server 10.2.0.12 (agent ");
    let status = lab.director.admin("status");
    let shown = format!("10.2.0.100      real server 10.2.0.12 on eth0 ({mac})");
    assert!(status.contains(&shown), "{status}");
    let by_hand = ["address", "del", "10.2.0.100/32", "dev", "eth0"];
    lab.net.servers[1].succeed("ip", &by_hand);
    assert!(wait_for(SOON, || lab.answers().len() == 2));
}

/// A server that is busy asks for less, and gets less. That it asks for more again cannot be seen here, where
/// others may be busy too.
#[test]
fn weights_follow_the_load() {
    let mut lab = Lab::new();
    let config = lab.folder.join("director.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("type = \"agent\"", "type = \"agent\", weight = true");
    let text = text.replace("\"rr\"", "\"wrr\"");
    fs::write(&config, text.replace(".11\"", ".11\"\nweight = 100")).unwrap();
    lab.director.process.signal("HUP");
    lab.log_has("the configuration is loaded again");
    // The load is that of the machine, which is one for all hosts here; so only one server speaks of it.
    let of_agents = lab.folder.join("rsagent.toml");
    let text = fs::read_to_string(&of_agents).unwrap();
    fs::write(&of_agents, format!("weight = \"cpu\"\n{text}")).unwrap();
    lab.agents[1].signal("TERM");
    assert!(lab.agents[1].ended(SOON).success());
    lab.agents[1] = lab.run_agent(1);
    let weights = || {
        let status = lab.director.admin("status --json");
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let servers = status["services"][0]["servers"].as_array().unwrap();
        let weight = |address: &str| {
            let mut servers = servers.iter();
            let server = servers.find(|server| server["spec"]["key"]["address"] == address);
            server.unwrap()["effective_weight"].as_i64().unwrap()
        };
        (weight("10.2.0.11"), weight("10.2.0.12"))
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let busy = wait_for(SOON, || matches!(weights(), (100, 1..=20)));
        let url = "http://10.2.0.100/?[1-200]";
        let words = ["-sS", "-m", "60", "--http1.0", url];
        let answers = lab.net.client.succeed("curl", &words);
        let of_busy_one = answers.lines().filter(|line| *line == "server 2").count();
        over.store(true, Ordering::Relaxed);
        assert!(busy, "{:?}", weights());
        assert!((1..=60).contains(&of_busy_one), "{of_busy_one} of 200");
    });
}
