//! NAT over a routed network, with nginx behind and curl in front.

mod common;

use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};
use laboratory::web::get;
use shared::host::netlink::Netlink;

fn lab(servers: u8, bytes: Option<&std::path::Path>) -> (Routed, Vec<Nginx>, Director) {
    let lab = Routed::new(servers);
    let web = lab
        .servers
        .iter()
        .map(|server| Nginx::start(server, server.name(), 8080, bytes))
        .collect();
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.0.0.100:80 -s rr");
    for number in 0..servers {
        let server = Routed::server(number);
        director.admin(&format!("-a -t 10.0.0.100:80 -r {server}:8080 -m"));
    }
    (lab, web, director)
}

fn curl(lab: &Routed, arguments: &[&str]) -> Output {
    lab.client
        .output("curl", &[&["-sS", "-m", "20"], arguments].concat())
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_thousand_requests_go_round_robin_newest_server_first() {
    let (lab, _web, director) = lab(3, None);
    // One curl, a new connection for each request.
    let answers = text(&curl(&lab, &["--http1.0", "http://10.0.0.100/?[1-1000]"]));
    let expected = ["server 3", "server 2", "server 1"];
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), 1000);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, expected[number % 3], "request {number}");
    }
    let stats = director.admin("-Ln --stats --exact -t 10.0.0.100:80");
    let service = stats.lines().find(|line| line.starts_with("TCP")).unwrap();
    assert_eq!(service.split_whitespace().nth(2), Some("1000"), "{stats}");
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

#[test]
fn a_removed_server_gets_no_new_connections_and_the_host_resets_none() {
    let (lab, _web, director) = lab(2, None);
    director.admin("-d -t 10.0.0.100:80 -r 10.1.0.12:8080");
    let answers = text(&curl(&lab, &["--http1.0", "http://10.0.0.100/?[1-6]"]));
    assert_eq!(answers, "server 1\n".repeat(6));
    director.admin("-d -t 10.0.0.100:80 -r 10.1.0.11:8080");
    let refused = curl(&lab, &["http://10.0.0.100/"]);
    // Port unreachable from the VIP: curl cannot connect, and knows it at once.
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(7), "{errors}");
    assert_eq!(lab.client.counter("Icmp", "InDestUnreachs"), 1);
    assert_eq!(lab.director.counter("Tcp", "OutRsts"), 0);
}

#[test]
fn the_rest_of_the_host_is_untouched() {
    let (lab, _web, _director) = lab(1, None);
    // The VIP is an address of the host: its other ports are the host's, which refuses them.
    let refused = curl(&lab, &["http://10.0.0.100:81/"]);
    assert_eq!(
        refused.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
    let (host, client) = (&lab.director, &lab.client);
    host.sysctl("net/ipv4/ip_forward", "1");
    // Another service of the real server, and the balanced port itself, directly.
    for round in 0..2 {
        let direct = text(&curl(&lab, &["http://10.1.0.11:8080/"]));
        assert_eq!(direct, "server 1\n", "round {round}");
        let balanced = text(&curl(&lab, &["http://10.0.0.100/"]));
        assert_eq!(balanced, "server 1\n");
        for setting in ["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/rs/rp_filter"] {
            host.sysctl(setting, "1");
        }
    }
    let before = client.counter("Icmp", "InEchoReps");
    let alive = client.run(|| common::ping(Routed::VIP));
    assert!(alive, "no answer to a ping of the VIP");
    assert!(client.counter("Icmp", "InEchoReps") > before);
}

#[test]
fn connections_outlive_their_service() {
    let (lab, _web, director) = lab(1, None);
    let mut stream = lab
        .client
        .run(|| std::net::TcpStream::connect("10.0.0.100:80").unwrap());
    director.admin("-C");
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.0\r\n").unwrap();
    // The kernel's IPVS drops what the client sends now; above all, nobody resets it.
    let dropped = wait_for(SOON, || director.admin("status").contains("server_removed"));
    assert!(dropped, "{}", director.admin("status"));
    assert_eq!(lab.director.counter("Tcp", "OutRsts"), 0);
    stream.set_nonblocking(true).unwrap();
    let error = std::io::Read::read(&mut stream, &mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn killed_under_load_and_started_again_it_serves_at_once() {
    let (lab, _web, director) = lab(1, None);
    let served = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Requests without a pause, before, while and after it is gone.
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if get(&lab.client, (Routed::VIP, 80)).is_ok() {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let more = |than: usize| wait_for(SOON, || served.load(Ordering::Relaxed) > than + 50);
        assert!(more(0), "no load");
        let director = kill_and_start_again(&lab, director);
        let before = served.load(Ordering::Relaxed);
        assert!(more(before), "{}", director.admin("status"));
        over.store(true, Ordering::Relaxed);
    });
}

/// The host in between is as it was before.
fn kill_and_start_again(lab: &Routed, director: Director) -> Director {
    let devices = |host: &laboratory::host::Host| {
        let mut names: Vec<String> = host
            .netlink(Netlink::links)
            .into_iter()
            .map(|link| link.name)
            .collect();
        names.sort();
        names
    };
    director.process.signal("KILL");
    let control = director.control().to_owned();
    let gone = wait_for(SOON, || devices(&lab.director) == ["cl", "lo", "rs"]);
    assert!(gone, "{:?}", devices(&lab.director));
    // The host answers by itself: nothing is taken any more.
    let refused = curl(lab, &["http://10.0.0.100/"]);
    assert_eq!(refused.status.code(), Some(7));
    drop(director);
    let director = Director::start_at(&lab.director, control, &[]);
    director.admin("-A -t 10.0.0.100:80 -s rr");
    director.admin("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m");
    assert_eq!(text(&curl(lab, &["http://10.0.0.100/"])), "server 1\n");
    director
}

#[test]
fn an_idle_director_rests() {
    let (_lab, _web, director) = lab(1, None);
    let before = director.process.cpu_time();
    std::thread::sleep(std::time::Duration::from_secs(6));
    let used = director.process.cpu_time() - before;
    assert!(
        used.as_millis() <= 30,
        "{used:?} in 6 s, and 0.5 % would be 30 ms"
    );
}
