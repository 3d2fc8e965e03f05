//! Real servers and clients that are the director itself.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::thread;

use common::{Transfers, compare_transfers};
use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

/// Whatever the host's settings are; and it goes on being an ordinary port of the host for everybody else.
#[test]
fn the_director_answers_itself_when_nobody_else_can() {
    let lab = Routed::new(1);
    let _web = Nginx::start(&lab.servers[0], "server", 80, None);
    let _sorry = Nginx::start(&lab.director, "sorry", 80, None);
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.0.0.100:80 -s wrr");
    director.admin("-a -t 10.0.0.100:80 -r 10.1.0.11:80 -m -w 0");
    director.admin("-a -t 10.0.0.100:80 -r 127.0.0.1:80 -g");
    let ask = |address: &str| {
        let url = format!("http://{address}/");
        lab.client.succeed("curl", &["-sS", "-m", "20", &url])
    };
    for filter in ["0", "1", "2"] {
        for device in ["all", "cl"] {
            let setting = format!("net/ipv4/conf/{device}/rp_filter");
            lab.director.sysctl(&setting, filter);
        }
        assert_eq!(ask("10.0.0.100"), "sorry\n", "rp_filter {filter}");
    }
    assert_eq!(ask("10.0.0.1"), "sorry\n");
    director.admin("-e -t 10.0.0.100:80 -r 10.1.0.11:80 -m -w 1");
    director.admin("-e -t 10.0.0.100:80 -r 127.0.0.1:80 -g -w 0");
    assert_eq!(ask("10.0.0.100"), "server\n");
    let listed = director.admin("-Lnc");
    let local = listed.lines().filter(|row| row.contains("127.0.0.1:80"));
    assert_eq!(local.count(), 3, "{listed}");
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

fn get(host: &Host, at: &str) -> String {
    host.succeed("curl", &["-sS", "-m", "20", &format!("http://{at}/")])
}

fn routing(host: &Host) -> String {
    let rules = host.succeed("ip", &["rule"]);
    rules + &host.succeed("ip", &["-4", "route", "show", "table", "all"])
}

/// Its port goes on being an ordinary one of the host, and nothing stays behind.
#[test]
fn nat_to_the_directors_own_address() {
    let transfers = Transfers::new();
    let lab = Routed::new(1);
    let own = Nginx::start(&lab.director, "own", 8080, Some(transfers.path()));
    let _web = Nginx::start(&lab.servers[0], "server", 80, None);
    let before = routing(&lab.director);
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.0.0.100:80 -s rr");
    director.admin("-a -t 10.0.0.100:80 -r 10.1.0.1:8080 -m");
    for filter in ["0", "1", "2"] {
        for device in ["all", "cl"] {
            let setting = format!("net/ipv4/conf/{device}/rp_filter");
            lab.director.sysctl(&setting, filter);
        }
        assert_eq!(
            get(&lab.client, "10.0.0.100"),
            "own\n",
            "rp_filter {filter}"
        );
    }
    compare_transfers(&lab.client, "10.0.0.100", &own, &transfers);
    for (host, at) in [
        (&lab.client, "10.1.0.1:8080"),
        (&lab.servers[0], "10.1.0.1:8080"),
        (&lab.director, "10.1.0.1:8080"),
        (&lab.director, "127.0.0.1:8080"),
    ] {
        assert_eq!(get(host, at), "own\n", "{} to {at}", host.name());
    }
    // What only marks need goes with them.
    let forwarding = || lab.director.read_sysctl("net/ipv4/conf/cl/forwarding");
    assert_eq!(forwarding(), "0");
    director.admin("-A -f 7 -s rr");
    assert_eq!(forwarding(), "1");
    director.admin("-D -f 7");
    assert!(wait_for(SOON, || forwarding() == "0"));
    assert_eq!(get(&lab.client, "10.0.0.100"), "own\n");
    director.admin("-a -t 10.0.0.100:80 -r 10.1.0.11:80 -m");
    let mut both = [(); 2].map(|()| get(&lab.client, "10.0.0.100"));
    both.sort();
    assert_eq!(both, ["own\n", "server\n"]);
    assert_eq!(lab.client.counter("Tcp", "InCsumErrors"), 0);
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    end(director);
    assert_eq!(routing(&lab.director), before);
}

fn end(mut director: Director) {
    director.process.signal("TERM");
    director.process.ended(SOON);
}

#[test]
fn clients_on_the_directors_host() {
    let transfers = Transfers::new();
    let lab = Routed::new(1);
    let web = Nginx::start(&lab.servers[0], "server", 80, Some(transfers.path()));
    let _own = Nginx::start(&lab.director, "own", 8080, None);
    let file = scratch("toml");
    let text = "[director]\nlocal_clients = true\n\n[fullnat]\nlocal_addresses = [\"10.1.0.2\"]\n";
    fs::write(&file, text).unwrap();
    let options = ["--config", &file.display().to_string()];
    let before = routing(&lab.director);
    let director = Director::start_with(&lab.director, &options);
    director.admin("-A -t 10.0.0.100:80 -s rr");
    for (server, name) in [
        ("10.1.0.11:80 -m", "server\n"),
        ("10.1.0.11:80 -b", "server\n"),
        ("10.0.0.1:8080 -m", "own\n"),
    ] {
        director.admin(&format!("-a -t 10.0.0.100:80 -r {server}"));
        for host in [&lab.director, &lab.client] {
            assert_eq!(
                get(host, "10.0.0.100"),
                name,
                "{server} from {}",
                host.name()
            );
        }
        if name == "server\n" {
            compare_transfers(&lab.director, "10.0.0.100", &web, &transfers);
        }
        let key = server.split(' ').next().unwrap();
        director.admin(&format!("-d -t 10.0.0.100:80 -r {key}"));
    }
    // Nobody is there, and it is told so at once.
    let refused = lab
        .director
        .output("curl", &["-sS", "-m", "20", "http://10.0.0.100/"]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    // What is no service's is the host's own, and so are its checks of the server.
    assert_eq!(get(&lab.director, "10.0.0.100:8080"), "own\n");
    assert_eq!(get(&lab.director, "10.1.0.11"), "server\n");

    director.admin("-A -u 10.0.0.100:53 -s rr");
    director.admin("-a -u 10.0.0.100:53 -r 10.1.0.11:53 -m");
    let server = lab.servers[0].run(|| UdpSocket::bind("10.1.0.11:53").unwrap());
    let answering = thread::spawn(move || {
        let mut question = [0; 4000];
        let (length, from) = server.recv_from(&mut question).unwrap();
        server.send_to(&question[..length], from).unwrap();
    });
    let client = lab.director.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.connect("10.0.0.100:53").unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    let question: Vec<u8> = (0..4000_u32).map(|n| (n / 3) as u8).collect();
    client.send(&question).unwrap();
    let mut answer = vec![0; 5000];
    let length = client.recv(&mut answer).unwrap();
    assert!(answer[..length] == question);
    answering.join().unwrap();

    assert_eq!(director.drops(), [("no_server".to_owned(), 1)]);
    end(director);
    assert_eq!(routing(&lab.director), before);
    fs::remove_file(&file).unwrap();
}
