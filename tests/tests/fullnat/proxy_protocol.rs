//! Real servers that learn of their clients by the PROXY protocol.

use std::io::{Read, Write};
use std::net::TcpStream;

use laboratory::programs::{Director, Nginx};
use laboratory::wait::SOON;

use super::common::{Transfers, compare_transfers, listen};
use super::{CONFIG, Lab};

impl Lab {
    fn start_with_proxy_protocol(&self) -> Director {
        let scheduler = "protocol = \"tcp\"\nscheduler = \"rr\"\n";
        let with = scheduler.to_owned() + "proxy_protocol = true\n";
        self.start_with(&CONFIG.replace(scheduler, &with))
    }
}

#[test]
fn nginx_learns_of_its_clients() {
    let lab = Lab::new();
    let _web = Nginx::behind_proxy(&lab.server, 8080, None);
    let director = lab.start_with_proxy_protocol();
    let page = "http://10.0.0.100/?[1-200]";
    let told = |local_ports: &str| {
        let ports = ["--local-port", local_ports];
        let words = ["-sS", "-m", "60", "--http1.0"];
        let arguments = [&words[..], &ports, &[page]].concat();
        lab.client.succeed("curl", &arguments)
    };
    let answers = told("20000-30000");
    assert_eq!(answers.lines().count(), 200);
    for line in answers.lines() {
        let [client, port, server, server_port] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        assert_eq!(
            (client, server, server_port),
            ("10.0.0.10", "10.0.0.100", "80")
        );
        assert!((20_000..=30_000).contains(&port.parse().unwrap()), "{line}");
    }
    let listing = director.admin("-Ln");
    assert!(
        listing.contains("TCP  10.0.0.100:80 rr proxy-protocol"),
        "{listing}"
    );
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    assert_eq!(lab.server.counter("Tcp", "InCsumErrors"), 0);
}

#[test]
fn bulk_data_follow_the_header_with_offloads_and_without() {
    let lab = Lab::new();
    let transfers = Transfers::new();
    let web = Nginx::behind_proxy(&lab.server, 8080, Some(transfers.path()));
    let _director = lab.start_with_proxy_protocol();
    compare_transfers(&lab.client, "10.0.0.100", &web, &transfers);
    lab.offloads_off();
    compare_transfers(&lab.client, "10.0.0.100", &web, &transfers);
    for host in [&lab.client, &lab.server] {
        assert_eq!(host.counter("Tcp", "InCsumErrors"), 0, "{}", host.name());
    }
}

/// A server that speaks first (SMTP, MySQL) waits for the header too, and a tenth of all segments gets lost.
#[test]
fn the_header_comes_before_the_client_speaks_and_whatever_gets_lost() {
    let lab = Lab::new();
    let _director = lab.start_with_proxy_protocol();
    let lossy = "add table ip lossy; \
                 add chain ip lossy forward { type filter hook forward priority 0; }; \
                 add rule ip lossy forward numgen random mod 10 0 drop";
    lab.router.succeed("nft", &[lossy]);
    let listener = listen(&lab.server, 8080);
    let data: Vec<u8> = (0..50_000_u32).map(|at| (at * 7) as u8).collect();
    for _ in 0..20 {
        let mut client = lab
            .client
            .run(|| TcpStream::connect("10.0.0.100:80").unwrap());
        let (mut server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(6 * SOON)).unwrap();
        }
        let mut header = [0; 28];
        server.read_exact(&mut header).unwrap();
        assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
        assert_eq!(header[16..24], [10, 0, 0, 10, 10, 0, 0, 100]);
        let port = client.local_addr().unwrap().port();
        assert_eq!(header[24..26], port.to_be_bytes());
        server.write_all(b"hello\n").unwrap();
        let mut greeting = [0; 6];
        client.read_exact(&mut greeting).unwrap();
        client.write_all(&data).unwrap();
        let mut got = vec![0; data.len()];
        server.read_exact(&mut got).unwrap();
        assert!(got == data, "the data differ");
    }
}

/// The same where the client speaks first, with data in its SYN if it could.
#[test]
fn data_in_a_syn_come_behind_the_header() {
    let lab = Lab::new();
    let _web = Nginx::behind_proxy(&lab.server, 8080, None);
    let _director = lab.start_with_proxy_protocol();
    for host in [&lab.client, &lab.server] {
        // Without a cookie, there and here.
        host.sysctl("net/ipv4/tcp_fastopen", "1543");
    }
    let words = ["-sS", "-m", "20", "--tcp-fastopen", "http://10.0.0.100/"];
    let answer = lab.client.succeed("curl", &words);
    assert!(answer.starts_with("10.0.0.10 "), "{answer}");
}
