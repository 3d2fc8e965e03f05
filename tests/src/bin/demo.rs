//! `make demo`: two networks, two real servers, the commands of an LVS tutorial, and a server that dies.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::{Director, ours};
use laboratory::topology::{OneLan, Routed};
use laboratory::wait::{SOON, wait_for};
use laboratory::web::{Web, get};

fn main() {
    nat();
    direct_routing();
    health_checks();
    say("Everything above ran in network namespaces that are gone now.");
}

fn nat() {
    title("NAT: the servers are behind the director, which is their gateway");
    let lab = Routed::new(2);
    let web: Vec<Web> = lab
        .servers
        .iter()
        .map(|server| Web::start(server, 8080))
        .collect();
    say("client 10.0.0.10 --- director 10.0.0.1, VIP 10.0.0.100, 10.1.0.1 --- server 1 10.1.0.11");
    say("                                                                '--- server 2 10.1.0.12");
    let director = start(&lab.director);
    for line in [
        "-A -t 10.0.0.100:80 -s rr",
        "-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m",
        "-a -t 10.0.0.100:80 -r 10.1.0.12:8080 -m",
        "-Ln",
    ] {
        admin(&director, line);
    }
    requests(&lab.client, Routed::VIP, 6);
    for line in ["-Ln", "-Lnc", "-Ln --stats"] {
        admin(&director, line);
    }
    say("Server 2 is taken out, and stopped.");
    admin(&director, "-d -t 10.0.0.100:80 -r 10.1.0.12:8080");
    drop(web);
    let _left = Web::start(&lab.servers[0], 8080);
    requests(&lab.client, Routed::VIP, 4);
    admin(&director, "status");
}

fn direct_routing() {
    title("Direct routing: all on one link, and the servers answer the client themselves");
    let lab = OneLan::new(2);
    let _web: Vec<Web> = lab
        .servers
        .iter()
        .map(|server| Web::start(server, 80))
        .collect();
    say("client 10.2.0.10, director 10.2.0.1 with VIP 10.2.0.100, servers 10.2.0.11 and 10.2.0.12");
    for server in &lab.servers {
        let arguments = ["start", "--vip", "10.2.0.100"];
        println!("{}# rsagent {}", server.name(), arguments.join(" "));
        print!(
            "{}",
            server.succeed(&ours("rsagent").display().to_string(), &arguments)
        );
    }
    let director = start(&lab.director);
    for line in [
        "-A -t 10.2.0.100:80 -s wrr",
        "-a -t 10.2.0.100:80 -r 10.2.0.11 -g -w 2",
        "-a -t 10.2.0.100:80 -r 10.2.0.12 -g -w 1",
        "-Ln",
    ] {
        admin(&director, line);
    }
    requests(&lab.client, OneLan::VIP, 6);
    for line in ["-Ln", "-Lnc", "-Ln --stats"] {
        admin(&director, line);
    }
    say("Server 1 gets no new connections any more: its weight becomes 0.");
    admin(&director, "-e -t 10.2.0.100:80 -r 10.2.0.11 -g -w 0");
    requests(&lab.client, OneLan::VIP, 4);
    for server in &lab.servers {
        let program = ours("rsagent").display().to_string();
        println!("{}# rsagent stop", server.name());
        print!(
            "{}",
            server.succeed(&program, &["stop", "--vip", "10.2.0.100"])
        );
    }
}

fn health_checks() {
    title("Health checks: a server that dies is out of service, and comes back by itself");
    let lab = OneLan::new(2);
    for server in &lab.servers {
        let rsagent = ours("rsagent").display().to_string();
        server.succeed(&rsagent, &["start", "--vip", "10.2.0.100"]);
    }
    let _first = Web::start(&lab.servers[0], 80);
    let second = Web::start(&lab.servers[1], 80);
    let file = scratch("toml");
    std::fs::write(&file, CHECKED).expect("a file for the director");
    println!("director# cat director.toml\n{CHECKED}\ndirector# director --config director.toml &");
    let director = Director::start_with(&lab.director, &["--config", &file.display().to_string()]);
    let _ = std::fs::remove_file(&file);
    requests(&lab.client, OneLan::VIP, 4);
    say("The web server of server 2 is killed.");
    drop(second);
    said(&director, "10.2.0.12:80 is down");
    requests(&lab.client, OneLan::VIP, 4);
    admin(&director, "-Ln");
    say("It is started again.");
    let _second = Web::start(&lab.servers[1], 80);
    said(&director, "10.2.0.12:80 is up");
    requests(&lab.client, OneLan::VIP, 4);
    for server in &lab.servers {
        server.succeed(&ours("rsagent").display().to_string(), &["stop"]);
    }
}

/// Waits for a sentence in the director's log, and shows it.
fn said(director: &Director, sentence: &str) {
    let line = || {
        let log = director.process.printed();
        log.lines()
            .find(|line| line.contains(sentence))
            .map(str::to_owned)
    };
    assert!(
        wait_for(SOON, || line().is_some()),
        "{}",
        director.process.printed()
    );
    println!("{}", line().unwrap_or_default());
}

const CHECKED: &str = r#"[[service]]
address = "10.2.0.100:80"
protocol = "tcp"
scheduler = "rr"
check = { type = "http", path = "/", interval = "1s", timeout = "1s", retry = 0 }

[[service.server]]
address = "10.2.0.11"

[[service.server]]
address = "10.2.0.12"
"#;

fn start(host: &Host) -> Director {
    println!("director# director &");
    Director::start(host)
}

/// Types a command in front of the reader.
fn admin(director: &Director, line: &str) {
    println!("director# lvsadm {line}");
    print!("{}", director.admin(line));
}

fn requests(client: &Host, vip: Ipv4Addr, count: usize) {
    println!("client$ for n in $(seq {count}); do curl http://{vip}/; done");
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..count {
        let answer = get(client, (vip, 80))
            .unwrap_or_else(|error| panic!("no answer from http://{vip}/: {error}"));
        println!("{answer}");
        *answers.entry(answer).or_default() += 1;
    }
    let counted: Vec<String> = answers
        .iter()
        .map(|(server, count)| format!("{server} {count} times"))
        .collect();
    say(&counted.join(", "));
}

fn title(text: &str) {
    println!("\n=== {text}\n");
}

fn say(text: &str) {
    println!("    {text}");
}
