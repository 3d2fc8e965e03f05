//! FULLNAT of clients of IPv6: to a real server of IPv6, and to one of IPv4, behind routers that know no way to
//! the client but by the local addresses.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;

use common::{Transfers, compare_download, compare_transfers, compare_upload, datagrams};
use laboratory::ipv6::{beside, like, of};
use laboratory::paths::{Method, Narrow, Paths};
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx};
use laboratory::wait::SOON;
use shared::addr::Family;
use shared::host::netlink::Netlink;
use socket2::{Domain, Protocol, Socket, Type};

/// The network of [`Paths`] with both families, and a director with services of IPv6 whose real server is of
/// one of them.
struct Lab {
    paths: Paths,
    director: Director,
    family: Family,
}

impl Lab {
    /// `service`: more words for the service of TCP.
    fn new(family: Family, service: &str) -> Lab {
        let paths = Paths::new(Method::FullNat);
        let hosts = [&paths.client, &paths.director, &paths.server];
        beside(hosts.into_iter().chain(&paths.routers));
        let file = scratch("toml");
        let locals = [IpAddr::from(Paths::LOCAL), like(Paths::LOCAL).into()];
        let [four, six] = locals.map(|local| format!("\"{local}\""));
        let text = format!("[fullnat]\nlocal_addresses = [{four}, {six}]\n");
        std::fs::write(&file, text).unwrap();
        let name = file.display().to_string();
        let director = Director::start_with(&paths.director, &["--config", &name]);
        std::fs::remove_file(&file).unwrap();
        let lab = Lab {
            paths,
            director,
            family,
        };
        let server = match lab.server() {
            IpAddr::V4(server) => server.to_string(),
            IpAddr::V6(server) => format!("[{server}]"),
        };
        for (name, port, more) in [("-t", 80, service), ("-u", 53, "")] {
            let service = format!("{name} {}:{port}", vip());
            lab.director.admin(&format!("-A {service} -s rr {more}"));
            let server = format!("-a {service} -r {server}:{port} -b");
            lab.director.admin(&server);
        }
        lab
    }

    fn server(&self) -> IpAddr {
        of(self.family, Paths::SERVER)
    }

    /// As whom the server knows the client.
    fn local(&self) -> IpAddr {
        of(self.family, Paths::LOCAL)
    }

    fn web(&self, bytes: Option<&Path>) -> Nginx {
        Nginx::of_both_families(&self.paths.server, 80, bytes)
    }

    fn listen(&self) -> TcpListener {
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).unwrap();
        self.paths.server.run(listen)
    }

    fn connect(&self, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let vip = (like(Paths::VIP), 80);
        let client = self.paths.client.run(|| TcpStream::connect(vip).unwrap());
        let (server, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_canonical(), self.local());
        for end in [&client, &server] {
            end.set_read_timeout(Some(SOON)).unwrap();
        }
        (client, server)
    }

    fn nothing_is_lost(&self) {
        let status = self.director.admin("status");
        assert!(status.contains("dropped packets\n  none"), "{status}");
        assert!(status.contains("lost by the rings   0 packets"), "{status}");
        for host in [&self.paths.client, &self.paths.server] {
            assert_eq!(host.counter("Tcp", "InCsumErrors"), 0, "{}", host.name());
        }
    }
}

fn vip() -> String {
    format!("[{}]", like(Paths::VIP))
}

const FAMILIES: [Family; 2] = [Family::V6, Family::V4];

#[test]
fn a_thousand_requests_come_back() {
    for family in FAMILIES {
        let lab = Lab::new(family, "");
        let _web = lab.web(None);
        let url = format!("http://{}/?[1-1000]", vip());
        let words = ["-sS", "-m", "60", "--http1.0", &url];
        let answers = lab.paths.client.succeed("curl", &words);
        assert_eq!(answers, "server\n".repeat(1000));
        lab.nothing_is_lost();
        assert_eq!(lab.paths.director.counter("Tcp", "OutRsts"), 0);
        let saved = lab.director.admin("-Sn");
        let server = match lab.server() {
            IpAddr::V4(server) => format!("{server}:80"),
            IpAddr::V6(server) => format!("[{server}]:80"),
        };
        let line = format!("-a -t {}:80 -r {server} -b -w 1", vip());
        assert!(saved.contains(&line), "{saved}");
        let line = format!("-P -z {} ", like(Paths::LOCAL));
        assert!(saved.contains(line.trim_end()), "{saved}");
    }
}

/// 100 MB each way, with all offloads, and 10 MB without them, which shows wrong sums.
#[test]
fn bulk_transfers_go_through_whole() {
    let (large, small) = (Transfers::new(), Transfers::of(10));
    for family in FAMILIES {
        for transfers in [&large, &small] {
            let lab = Lab::new(family, "");
            let web = lab.web(Some(transfers.path()));
            if std::ptr::eq(transfers, &small) {
                lab.paths.offloads_off();
            }
            compare_transfers(&lab.paths.client, &vip(), &web, transfers);
            lab.nothing_is_lost();
        }
    }
}

/// Small ones, the largest that need not be cut, one that its sender cuts into fragments, and one that leaves it
/// as twenty. What comes back of the third from IPv4 is too long for IPv6.
#[test]
fn datagrams_go_there_and_back() {
    for family in FAMILIES {
        for offloads in [true, false] {
            let lab = Lab::new(family, "");
            if !offloads {
                lab.paths.offloads_off();
            }
            datagrams::echo(&lab.paths.server, lab.server(), 53);
            let socket = datagrams::connected(&lab.paths.client, like(Paths::VIP), 53);
            let mut pattern: Vec<u8> = (0..24_000_u32).map(|at| (at % 251) as u8).collect();
            let what = format!("to {family:?}, offloads: {offloads}");
            for bytes in [1, 1000, 1452, 5000] {
                datagrams::exchange(&socket, &pattern[..bytes], &what);
            }
            for (number, segment) in pattern.chunks_mut(1200).enumerate() {
                segment[0] = number as u8;
                segment[1] = 255;
            }
            datagrams::exchange_segments(&socket, &pattern, 1200, &what);
            lab.nothing_is_lost();
        }
    }
}

#[test]
fn a_server_that_does_not_listen_says_so_as_the_vip() {
    for family in FAMILIES {
        let lab = Lab::new(family, "");
        let socket = datagrams::connected(&lab.paths.client, like(Paths::VIP), 53);
        socket.send(b"anybody?").unwrap();
        let error = datagrams::receive(&socket, &mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        lab.nothing_is_lost();
    }
}

#[test]
fn the_proxy_protocol_names_the_client() {
    for family in FAMILIES {
        let lab = Lab::new(family, "--proxy-protocol");
        let listener = lab.listen();
        let (mut client, mut server) = lab.connect(&listener);
        let mut header = [0; 52];
        server.read_exact(&mut header).unwrap();
        let port = client.local_addr().unwrap().port().to_be_bytes();
        let expected = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"[..],
            &like(Paths::CLIENT).octets(),
            &like(Paths::VIP).octets(),
            &port,
            &[0, 80],
        ];
        assert_eq!(header[..], expected.concat());
        talk(&mut client, &mut server);
        lab.nothing_is_lost();
    }
}

/// What a capture on the server's host sees of a connection's segments to it.
#[test]
fn the_option_has_the_client_s_address_and_port() {
    for family in FAMILIES {
        let lab = Lab::new(family, "");
        let capture = lab.paths.server.run(|| {
            let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap()
        });
        capture.set_read_timeout(Some(SOON)).unwrap();
        let listener = lab.listen();
        let (mut client, mut server) = lab.connect(&listener);
        talk(&mut client, &mut server);
        let port = client.local_addr().unwrap().port();
        let mut buffer = [0; 4096];
        let mut seen = Vec::new();
        // The handshake's last segment, and the one with data; the SYN before them has no such option.
        while seen.len() < 3 {
            let length = (&capture).read(&mut buffer).unwrap();
            seen.extend(to_the_server(&buffer[..length], family).map(<[u8]>::to_vec));
        }
        assert!(seen[0][13] & 0x02 != 0 && seen[0][20] != 254, "{seen:?}");
        let expected = [
            &[254, 20][..],
            &port.to_be_bytes(),
            &like(Paths::CLIENT).octets(),
        ];
        for segment in &seen[1..] {
            assert_eq!(segment[20..40], expected.concat());
        }
    }
}

/// The TCP segment of a frame to the server's port.
fn to_the_server(frame: &[u8], family: Family) -> Option<&[u8]> {
    let (kind, protocol, header) = match family {
        Family::V4 => ([8, 0], 14 + 9, 14 + 20),
        Family::V6 => ([0x86, 0xdd], 14 + 6, 14 + 40),
    };
    let segment = frame.get(header..)?;
    let ours = frame[12..14] == kind && frame[protocol] == 6;
    (ours && segment[2..4] == 80_u16.to_be_bytes()).then_some(segment)
}

fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"ping").unwrap();
    let mut word = [0; 4];
    server.read_exact(&mut word).unwrap();
    assert_eq!(word, *b"ping");
    server.write_all(b"pong").unwrap();
    client.read_exact(&mut word).unwrap();
    assert_eq!(word, *b"pong");
}

/// A link of 1 280 bytes somewhere on the way: nothing stalls, and who sends too much is told what fits in its
/// own family.
#[test]
fn a_narrow_link_stalls_nothing() {
    for family in FAMILIES {
        for narrow in [Narrow::Front, Narrow::Own, Narrow::Behind] {
            let transfers = Transfers::of(10);
            let lab = Lab::new(family, "");
            lab.paths.mtu(narrow, 1280);
            let web = lab.web(Some(transfers.path()));
            compare_download(&lab.paths.client, &vip(), &transfers);
            let status = || format!("{family:?}, {narrow:?}: {}", lab.director.admin("status"));
            let (there, back) = match (family, narrow) {
                (Family::V6, _) => (1280, 1280),
                (Family::V4, Narrow::Front) => (1280, 1260),
                (Family::V4, _) => (1300, 1280),
            };
            let told = Paths::learned(&lab.paths.server, lab.local(), Some(lab.server()));
            assert_eq!(told, Some(back), "the server, {}", status());
            // Or it would ask for segments that fit.
            let words = match family {
                Family::V4 => ["-4", "route", "flush", "cache"],
                Family::V6 => ["-6", "route", "flush", "cache"],
            };
            lab.paths.server.succeed("ip", &words);
            compare_upload(&lab.paths.client, &vip(), &web, &transfers);
            let told = Paths::learned(&lab.paths.client, like(Paths::VIP), None::<IpAddr>);
            assert_eq!(told, Some(there), "the client, {}", status());
            for host in [&lab.paths.client, &lab.paths.server] {
                assert_eq!(host.counter("Tcp", "InCsumErrors"), 0, "{}", status());
            }
        }
    }
}

/// It is an address of the host as long as the director runs, ready at once, and nobody else's.
#[test]
fn a_local_address_of_ipv6_is_the_director_s() {
    let mut lab = Lab::new(Family::V6, "");
    let flags = |lab: &Lab, local: IpAddr| {
        let addresses = lab.paths.director.netlink(Netlink::addresses);
        let mut found = addresses.iter().filter(|a| a.prefix.address == local);
        found.next().map(|address| address.flags & TENTATIVE)
    };
    assert_eq!(flags(&lab, lab.local()), Some(0));
    let other = like(std::net::Ipv4Addr::new(10, 1, 0, 10));
    lab.director.admin(&format!("-P -z {other}"));
    assert_eq!(flags(&lab, other.into()), Some(0));
    let listing = lab.director.admin("-G");
    assert!(listing.contains(&other.to_string()), "{listing}");
    for (words, fault) in [
        (
            format!("-P -z {}", like(Paths::VIP)),
            "is an address of this host already",
        ),
        ("-P -z fe80::9".to_owned(), "address not unicast"),
        (format!("-Q -z {}", Paths::LOCAL), ""),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let output = lab.director.lvsadm(&words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), fault.is_empty(), "{errors}");
        assert!(errors.contains(fault), "{errors}");
    }
    lab.director.process.signal("TERM");
    lab.director.process.ended(SOON);
    assert_eq!(flags(&lab, lab.local()), None);
    assert_eq!(flags(&lab, other.into()), None);
}

/// `IFA_F_TENTATIVE`
const TENTATIVE: u32 = 0x40;

const ETH_P_ALL: u16 = 3;
