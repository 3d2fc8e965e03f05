//! `make demo`: two networks, two real servers, and the commands of an LVS tutorial.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use laboratory::host::Host;
use laboratory::programs::{Director, ours};
use laboratory::topology::{OneLan, Routed};
use laboratory::web::{Web, get};

fn main() {
    nat();
    direct_routing();
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
