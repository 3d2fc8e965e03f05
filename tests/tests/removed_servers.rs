//! What becomes of live connections when their real server is removed, and of those from denied sources.
#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::io::{ErrorKind, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread;

use common::{Pair, is_reset};
use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::Director;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

const WEB: &str = "10.0.0.100:80";

/// Two servers behind NAT, for TCP on port 80 and UDP on port 53.
fn lab(way: &str) -> (Routed, Director) {
    let lab = Routed::new(2);
    let director = Director::start(&lab.director);
    director.admin(&format!("-A -t {WEB} -s rr --server-gone {way}"));
    for number in 0..2 {
        let server = Routed::server(number);
        director.admin(&format!("-a -t {WEB} -r {server}:8080 -m"));
    }
    (lab, director)
}

/// The second server comes first. It is removed.
fn remove_second(director: &Director) {
    director.admin(&format!("-d -t {WEB} -r {}:8080", Routed::server(1)));
}

#[test]
fn both_ends_hear_at_once_that_it_is_over() {
    let (lab, director) = lab("reset");
    let mut pair = Pair::connect(&lab.client, &lab.servers[1], WEB, 8080);
    pair.talk();
    remove_second(&director);
    assert!(is_reset(&mut pair.client), "the client");
    assert!(is_reset(&mut pair.server), "the server");
}

/// The last bytes of one end have not been acknowledged: the other is told from where it is.
#[test]
fn an_end_that_only_listens_hears_it_too() {
    let (lab, director) = lab("reset");
    let mut pair = Pair::connect(&lab.client, &lab.servers[1], WEB, 8080);
    pair.talk();
    pair.server.write_all(&[7; 100_000]).unwrap();
    Pair::drain(&mut pair.client, 100_000);
    remove_second(&director);
    assert!(is_reset(&mut pair.server), "the server");
    assert!(is_reset(&mut pair.client), "the client");
}

#[test]
fn a_kept_connection_goes_on() {
    let (lab, director) = lab("keep");
    let mut pair = Pair::connect(&lab.client, &lab.servers[1], WEB, 8080);
    remove_second(&director);
    pair.talk();
    director.admin(&format!("-D -t {WEB}"));
    pair.talk();
}

/// By IPVS' way its packets vanish, and the client waits.
#[test]
fn without_a_word_a_connection_hangs() {
    let lab = Routed::new(1);
    let director = Director::start(&lab.director);
    director.admin(&format!("-A -t {WEB} -s rr"));
    director.admin(&format!("-a -t {WEB} -r 10.1.0.11:8080 -m"));
    let mut pair = Pair::connect(&lab.client, &lab.servers[0], WEB, 8080);
    director.admin(&format!("-d -t {WEB} -r 10.1.0.11:8080"));
    pair.client.write_all(b"lost").unwrap();
    let dropped = || director.admin("status").contains("server_removed");
    assert!(wait_for(SOON, dropped), "{}", director.admin("status"));
    // It comes back, and so does the connection.
    director.admin(&format!("-a -t {WEB} -r 10.1.0.11:8080 -m"));
    Pair::expect(&mut pair.server, b"lost");
}

#[test]
fn datagrams_go_to_another_server() {
    let lab = Routed::new(2);
    let director = Director::start(&lab.director);
    director.admin("-A -u 10.0.0.100:53 -s rr --server-gone auto");
    let servers: Vec<_> = lab.servers.iter().enumerate().map(name_server).collect();
    for number in 0..2 {
        let server = Routed::server(number);
        director.admin(&format!("-a -u 10.0.0.100:53 -r {server}:5353 -m"));
    }
    let client = lab.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.connect("10.0.0.100:53").unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    let ask = || {
        client.send(b"?").unwrap();
        let mut answer = [0; 1];
        client.recv(&mut answer).unwrap();
        answer[0]
    };
    assert_eq!([ask(), ask()], [1, 1]);
    director.admin("-d -u 10.0.0.100:53 -r 10.1.0.12:5353");
    assert_eq!([ask(), ask()], [0, 0]);
    for server in servers {
        server.join().unwrap();
    }
}

/// Answers with its number, until nobody asks any more.
fn name_server((number, host): (usize, &Host)) -> thread::JoinHandle<()> {
    let socket = host.run(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 16];
        for _ in 0..2 {
            let (_, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&[number as u8], from).unwrap();
        }
    })
}

#[test]
fn denied_sources_are_dropped_and_their_connections_end() {
    let lab = Routed::new(1);
    lab.client.address("eth0", "10.0.0.77/32");
    let file = scratch("toml");
    let write = |deny: &str| {
        let text = format!(
            "{deny}[[service]]\naddress = \"{WEB}\"\nprotocol = \"tcp\"\n\
             [[service.server]]\naddress = \"10.1.0.11:8080\"\nforward = \"nat\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("");
    let director = Director::start_with(&lab.director, &["--config", file.to_str().unwrap()]);
    let mut pair = Pair::connect(&lab.client, &lab.servers[0], WEB, 8080);
    pair.talk();
    write("[[deny]]\nsource = \"10.0.0.10/31\"\n");
    director.process.signal("HUP");
    let ended = || director.admin("-Lnc").lines().count() == 2;
    assert!(wait_for(SOON, ended), "{}", director.process.printed());
    pair.client.write_all(b"unheard").unwrap();
    let denied = || director.admin("status").contains("denied");
    assert!(wait_for(SOON, denied), "{}", director.admin("status"));
    let from = |address: &str| {
        let (address, port) = (
            format!("{address}:0"),
            std::time::Duration::from_millis(300),
        );
        lab.client.run(|| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let parse = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
            socket.bind(&parse(&address)).unwrap();
            socket.connect_timeout(&parse(WEB), port)
        })
    };
    assert_eq!(from("10.0.0.10").unwrap_err().kind(), ErrorKind::TimedOut);
    let listener = common::listen(&lab.servers[0], 8080);
    from("10.0.0.77").unwrap();
    drop(listener);
    let _ = std::fs::remove_file(&file);
    drop::<TcpStream>(pair.client);
}
