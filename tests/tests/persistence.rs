//! Clients that return to their servers, on real packets: persistence by client, by network and for all
//! ports, source hashing, and datagrams that are scheduled one by one.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::thread;

use laboratory::host::Host;
use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

/// Three servers with nginx on two ports, and clients from 10.0.0.101 on.
fn lab(clients: u8) -> (Routed, Vec<Nginx>, Director) {
    let lab = Routed::new(3);
    for number in 0..clients {
        lab.client
            .address("eth0", &format!("10.0.0.{}/32", 101 + number));
    }
    let web = lab
        .servers
        .iter()
        .flat_map(|server| [80, 8081].map(|port| Nginx::start(server, server.name(), port, None)))
        .collect();
    let director = Director::start(&lab.director);
    (lab, web, director)
}

fn add_servers(director: &Director, service: &str, port: u16) {
    for number in 0..3 {
        let server = Routed::server(number);
        director.admin(&format!("-a {service} -r {server}:{port} -m"));
    }
}

/// Who answers a client on a port of the VIP.
fn ask(client: &Host, address: &str, port: u16) -> String {
    let url = format!("http://10.0.0.100:{port}/");
    let output = client.output("curl", &["-sS", "-m", "20", "--interface", address, &url]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{address} to {port}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_client_returns_to_its_server() {
    let (lab, _web, director) = lab(4);
    director.admin("-A -t 10.0.0.100:80 -s rr -p 300");
    add_servers(&director, "-t 10.0.0.100:80", 80);
    let clients = ["10.0.0.101", "10.0.0.102", "10.0.0.103"];
    let first: Vec<String> = clients
        .iter()
        .map(|client| ask(&lab.client, client, 80))
        .collect();
    assert_eq!(first, ["server 3", "server 2", "server 1"]);
    for _ in 0..3 {
        let again = clients.map(|client| ask(&lab.client, client, 80));
        assert_eq!(first, again);
    }
    let listed = director.admin("-Lnc");
    let template = |row: &&str| row.contains("ASSURED") && row.contains(":0 ");
    assert_eq!(listed.lines().filter(template).count(), 3, "{listed}");
    let counted = director.admin("-Ln --persistent-conn");
    for row in counted.lines().filter(|row| row.starts_with("  -> 10.")) {
        assert_eq!(row.split_whitespace().nth(3), Some("1"), "{counted}");
    }
    // Weight 0 lets clients return, unless it is asked for that it does not.
    director.admin("-e -t 10.0.0.100:80 -r 10.1.0.13:80 -m -w 0");
    assert_eq!(ask(&lab.client, "10.0.0.101", 80), "server 3");
    let set = director.admin("sysctl expire_quiescent_template=1");
    assert_eq!(set, "net.ipv4.vs.expire_quiescent_template = 1\n");
    let other = ask(&lab.client, "10.0.0.101", 80);
    assert_ne!(other, "server 3");
    director.admin("-e -t 10.0.0.100:80 -r 10.1.0.13:80 -m -w 1");
    assert_eq!(ask(&lab.client, "10.0.0.101", 80), other);
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

#[test]
fn a_network_of_clients_has_one_server_for_all_ports() {
    let (lab, _web, director) = lab(8);
    director.admin("-A -t 10.0.0.100:0 -s rr -p 60 -M 255.255.255.252");
    add_servers(&director, "-t 10.0.0.100:0", 0);
    let server_of = |address: &str| {
        let [web, other] = [80, 8081].map(|port| ask(&lab.client, address, port));
        assert_eq!(web, other, "{address}");
        web
    };
    // .101 to .103 are of one network of four, .104 to .107 of the next.
    let one: BTreeSet<String> = (101..104)
        .map(|host| server_of(&format!("10.0.0.{host}")))
        .collect();
    let next: BTreeSet<String> = (104..108)
        .map(|host| server_of(&format!("10.0.0.{host}")))
        .collect();
    assert_eq!((one.len(), next.len()), (1, 1), "{one:?} {next:?}");
    assert_ne!(one, next);
    // What its servers say of no client's connection is routed by the host as before.
    lab.director.sysctl("net/ipv4/ip_forward", "1");
    let direct = ["-sS", "-m", "20", "http://10.1.0.11:8081/"];
    let answer = lab.client.output("curl", &direct);
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "server 1");
}

/// As the kernel sent the same clients, whose servers were added in the same order.
#[test]
fn source_hashing_sends_clients_where_the_kernel_did() {
    const KERNEL: [u8; 10] = [3, 2, 1, 2, 3, 2, 1, 3, 1, 2];
    let (lab, _web, director) = lab(10);
    director.admin("-A -t 10.0.0.100:80 -s sh");
    add_servers(&director, "-t 10.0.0.100:80", 80);
    for round in 0..2 {
        for (host, server) in (101..).zip(KERNEL) {
            let answer = ask(&lab.client, &format!("10.0.0.{host}"), 80);
            assert_eq!(answer, format!("server {server}"), "{host}, round {round}");
        }
    }
}

/// One socket, so one flow; and what the servers answer is not translated, since nothing is remembered.
#[test]
fn datagrams_are_scheduled_one_by_one() {
    let lab = Routed::new(3);
    lab.director.sysctl("net/ipv4/ip_forward", "1");
    let director = Director::start(&lab.director);
    director.admin("-A -u 10.0.0.100:53 -s rr -o");
    add_servers(&director, "-u 10.0.0.100:53", 5353);
    let servers: Vec<_> = lab
        .servers
        .iter()
        .map(|host| {
            let socket = host.run(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
            thread::spawn(move || {
                let mut buffer = [0; 16];
                while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from).unwrap();
                }
            })
        })
        .collect();
    let client = lab.client.run(|| UdpSocket::bind("10.0.0.10:0").unwrap());
    client.set_read_timeout(Some(SOON)).unwrap();
    let mut answered = Vec::new();
    for number in 1..=6 {
        client.send_to(&[number], "10.0.0.100:53").unwrap();
        let mut buffer = [0; 16];
        let (_, from) = client
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{number}: {error}\n{}", director.admin("status")));
        answered.push(from.ip().to_string());
    }
    let expected = ["10.1.0.13", "10.1.0.12", "10.1.0.11"];
    assert_eq!(answered, [expected, expected].concat());
    assert_eq!(director.admin("-Lnc").lines().count(), 2, "nothing is kept");
    let listed = director.admin("-Ln --stats --exact");
    let service = listed.lines().find(|row| row.starts_with("UDP")).unwrap();
    assert_eq!(service.split_whitespace().nth(2), Some("6"), "{listed}");
    for _ in 0..3 {
        client.send_to(&[], "10.0.0.100:53").unwrap();
    }
    for server in servers {
        server.join().unwrap();
    }
}

/// The data connections of passive FTP go to unprivileged ports, which are no services.
#[test]
fn a_persistent_ftp_service_takes_its_data_connections_along() {
    let lab = Routed::new(2);
    lab.client.address("eth0", "10.0.0.101/32");
    let _servers: Vec<Nginx> = lab
        .servers
        .iter()
        .flat_map(|host| [21, 30_000].map(|port| Nginx::start(host, host.name(), port, None)))
        .collect();
    let director = Director::start(&lab.director);
    director.admin("-A -t 10.0.0.100:21 -s rr -p 300");
    for number in 0..2 {
        let server = Routed::server(number);
        director.admin(&format!("-a -t 10.0.0.100:21 -r {server}:21 -m"));
    }
    for (client, server) in [("10.0.0.10", "server 2"), ("10.0.0.101", "server 1")] {
        for port in [21, 30_000, 21] {
            assert_eq!(ask(&lab.client, client, port), server, "port {port}");
        }
    }
}

/// What would make a connection is dropped and counted; what has one is not touched.
#[test]
fn drop_packet_leaves_connections_alone() {
    let lab = Routed::new(1);
    let director = Director::start(&lab.director);
    director.admin("-A -u 10.0.0.100:53 -s rr");
    director.admin("-a -u 10.0.0.100:53 -r 10.1.0.11:5353 -m");
    let server = lab.servers[0].run(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
    let echo = thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((length @ 1.., from)) = server.recv_from(&mut buffer) {
            server.send_to(&buffer[..length], from).unwrap();
        }
    });
    let client = || {
        let socket = lab.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect("10.0.0.100:53").unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    };
    let answers = |socket: &UdpSocket| {
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 16]).unwrap()
    };
    let old = client();
    assert_eq!(answers(&old), 1);
    director.admin("sysctl am_droprate=1 drop_packet=3");
    client().send(b"?").unwrap();
    let dropped = || director.admin("status").contains("drop_packet");
    assert!(wait_for(SOON, dropped), "{}", director.admin("status"));
    assert_eq!(answers(&old), 1);
    director.admin("sysctl drop_packet=0");
    assert_eq!(answers(&client()), 1);
    old.send(&[]).unwrap();
    echo.join().unwrap();
}
