//! Persistence by the calls of SIP: sipp calls and answers, and datagrams whose sender the test chooses.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;

use common::datagrams::receive;
use laboratory::host::Host;
use laboratory::ipv6::{beside, like};
use laboratory::process::Process;
use laboratory::programs::{Director, rsagent};
use laboratory::topology::{OneLan, Routed};
use laboratory::wait::{SOON, wait_for};

/// A server that answers calls at its own address, or at the VIP.
fn answers(host: &Host, at: IpAddr) -> Process {
    let mut command = Command::new("sipp");
    command.args(["-sn", "uas", "-nostdin", "-p", "5060", "-i"]);
    command.arg(bracketed(at));
    let process = host.spawn(command);
    let listens = wait_for(SOON, || host.run(|| UdpSocket::bind((at, 5060)).is_err()));
    assert!(listens, "sipp does not listen:\n{}", process.printed());
    process
}

/// Makes so many calls, each of an invitation, its acknowledgement and an end, from one port or from one each. All
/// are answered, or it panics.
fn calls(host: &Host, from: IpAddr, vip: IpAddr, ports: Ports, many: u32) {
    let mut command = Command::new("sipp");
    command.arg(SocketAddr::new(vip, 5060).to_string());
    command.args([
        "-sn", "uac", "-nostdin", "-r", "50", "-d", "200", "-timeout", "30s",
    ]);
    command.args([
        "-timeout_error",
        "-max_socket",
        "100",
        "-m",
        &many.to_string(),
    ]);
    command.args(["-t", if ports == Ports::One { "u1" } else { "un" }]);
    command.args(["-i", &bracketed(from)]);
    let mut process = host.spawn(command);
    let status = process.ended(2 * SOON);
    assert!(status.success(), "{status}\n{}", process.printed());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ports {
    One,
    OneForEachCall,
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(_) => address.to_string(),
        IpAddr::V6(_) => format!("[{address}]"),
    }
}

/// How many calls are remembered to lead to a server.
fn remembered(director: &Director, server: SocketAddr) -> usize {
    let listed = director.admin("-Lnc --persistent-conn");
    let server = format!(" {server} ");
    let rows = listed.lines();
    rows.filter(|row| row.contains(&server) && row.contains(" sip "))
        .count()
}

#[test]
fn whole_calls_from_one_port_are_shared_datagram_by_datagram() {
    let lab = Routed::new(3);
    beside([&lab.client, &lab.director].into_iter().chain(&lab.servers));
    let director = Director::start(&lab.director);
    let own = [0, 1, 2].map(Routed::server);
    for family in [
        |address| IpAddr::V4(address),
        |address| IpAddr::V6(like(address)),
    ] {
        let vip = family(Routed::VIP);
        let service = SocketAddr::new(vip, 5060);
        director.admin(&format!("-A -u {service} -s rr -p 300 --pe sip -o"));
        let servers = own.map(|address| SocketAddr::new(family(address), 5060));
        for server in servers {
            director.admin(&format!("-a -u {service} -r {server} -m"));
        }
        let _processes = { lab.servers.iter() }
            .zip(servers)
            .map(|(host, server)| answers(host, server.ip()))
            .collect::<Vec<_>>();
        calls(&lab.client, family(Routed::CLIENT), vip, Ports::One, 60);
        let shares = servers.map(|server| remembered(&director, server));
        assert_eq!(shares, [20; 3], "{service}");
    }
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

#[test]
fn whole_calls_by_direct_routing() {
    let lab = OneLan::new(2);
    for server in &lab.servers {
        let (code, printed) = rsagent(server, &format!("start --vip {}", OneLan::VIP));
        assert_eq!(code, 0, "{printed}");
    }
    let director = Director::start(&lab.director);
    director.admin("-A -u 10.2.0.100:5060 -s rr -p 300 --pe sip");
    let servers = [0, 1].map(|number| SocketAddr::new(OneLan::server(number).into(), 5060));
    for server in servers {
        director.admin(&format!("-a -u 10.2.0.100:5060 -r {server} -g"));
    }
    let vip = OneLan::VIP.into();
    let _processes = { lab.servers.iter() }
        .map(|host| answers(host, vip))
        .collect::<Vec<_>>();
    let client = OneLan::CLIENT.into();
    calls(&lab.client, client, vip, Ports::OneForEachCall, 20);
    let shares = servers.map(|server| remembered(&director, server));
    assert_eq!(shares, [10; 2]);
    for server in &lab.servers {
        rsagent(server, "stop");
    }
}

/// A datagram of a call.
fn message(call: &str) -> Vec<u8> {
    format!("OPTIONS sip:a@b SIP/2.0\r\nVia: z\r\nCall-ID: {call}\r\n\r\n").into_bytes()
}

fn bound(host: &Host, at: &str) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

#[test]
fn a_call_keeps_its_server_from_any_port_and_servers_call_too() {
    let lab = Routed::new(2);
    let director = Director::start(&lab.director);
    // By what was saved.
    let saved = "-A -u 10.0.0.100:5060 -s rr -p 300 --pe sip\n\
                 -a -u 10.0.0.100:5060 -r 10.1.0.11:5060 -m -w 1\n\
                 -a -u 10.0.0.100:5060 -r 10.1.0.12:5060 -m -w 1\n";
    saved.lines().for_each(|line| {
        director.admin(line);
    });
    assert_eq!(director.admin("-Sn"), saved);
    let servers = [("10.1.0.11", 0), ("10.1.0.12", 1)];
    let servers = servers.map(|(at, host)| bound(&lab.servers[host], &format!("{at}:5060")));
    let mut buffer = [0; 2000];
    let client = |port: u16| bound(&lab.client, &format!("10.0.0.10:{port}"));
    let expected = [(6001, "one", 1), (6002, "one", 1), (6003, "two", 0)];
    let expected = expected
        .into_iter()
        .chain([(6004, "one", 1), (6005, "two", 0)]);
    for (port, call, server) in expected {
        let client = client(port);
        client.send_to(&message(call), "10.0.0.100:5060").unwrap();
        let server = &servers[server];
        receive(server, &mut buffer).unwrap_or_else(|error| panic!("{port} {call}: {error}"));
        // The answer leaves as the VIP.
        let to = SocketAddr::from((Routed::CLIENT, port));
        server.send_to(b"SIP/2.0 200 OK\r\n\r\n", to).unwrap();
        let (_, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from.to_string(), "10.0.0.100:5060");
    }
    // What the server asks in a call of its own too, at a port that has not spoken.
    let client = client(6009);
    let to = SocketAddr::from((Routed::CLIENT, 6009));
    servers[0].send_to(&message("own"), to).unwrap();
    let (_, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from.to_string(), "10.0.0.100:5060");
    let listed = director.admin("-Lnc --persistent-conn");
    let rows = listed.lines().filter(|row| row.contains(" sip "));
    let mut rows: Vec<&str> = rows.map(|row| row.split_once("  ").unwrap().1).collect();
    rows.sort_unstable();
    assert_eq!(
        rows,
        [
            "ASSURED     10.0.0.10:0        10.0.0.100:5060    10.1.0.11:5060   sip                own",
            "ASSURED     10.0.0.10:0        10.0.0.100:5060    10.1.0.11:5060   sip                two",
            "ASSURED     10.0.0.10:0        10.0.0.100:5060    10.1.0.12:5060   sip                one",
        ]
    );
    // Nobody knows what that is about.
    let silent = bound(&lab.client, "10.0.0.10:6010");
    silent.send_to(b"hello", "10.0.0.100:5060").unwrap();
    let dropped = [("no_call_id".to_owned(), 1)];
    let counted = wait_for(SOON, || director.drops() == dropped);
    assert!(counted, "{:?}", director.drops());
}
