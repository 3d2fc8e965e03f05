//! What several end-to-end tests need.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may end here")]

pub mod datagrams;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::Nginx;
use laboratory::wait::{SOON, wait_for};

/// A file that no two places of are alike.
pub struct Transfers(PathBuf);

impl Transfers {
    /// Of 100 MB.
    pub fn new() -> Transfers {
        Transfers::of(100)
    }

    pub fn of(megabytes: usize) -> Transfers {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes: Vec<u8> = (0..megabytes * 1_000_000 / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        let path = scratch("bytes");
        fs::write(&path, bytes).unwrap();
        Transfers(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Down and up through a VIP, compared byte for byte.
pub fn compare_transfers(client: &Host, vip: &str, web: &Nginx, transfers: &Transfers) {
    compare_download(client, vip, transfers);
    compare_upload(client, vip, web, transfers);
}

/// Down through a VIP, compared byte for byte.
pub fn compare_download(client: &Host, vip: &str, transfers: &Transfers) {
    let expected = fs::read(transfers.path()).unwrap();
    let got = scratch("got");
    let (file, url) = (got.display().to_string(), format!("http://{vip}/bytes"));
    client.succeed("curl", &["-sS", "-m", "60", "-o", &file, &url]);
    assert!(fs::read(&got).unwrap() == expected, "the download differs");
    fs::remove_file(&got).unwrap();
}

/// Up through a VIP, compared byte for byte.
pub fn compare_upload(client: &Host, vip: &str, web: &Nginx, transfers: &Transfers) {
    let expected = fs::read(transfers.path()).unwrap();
    let sent = transfers.path().display().to_string();
    let url = format!("http://{vip}/put/it");
    client.succeed("curl", &["-sS", "-m", "60", "-T", &sent, &url]);
    assert!(
        fs::read(web.put_file("it")).unwrap() == expected,
        "the upload differs"
    );
    fs::remove_file(web.put_file("it")).unwrap();
}

/// A socket of UDP on a host; what does not come at all is not waited for.
pub fn bound(host: &Host, address: IpAddr, port: u16) -> UdpSocket {
    let socket = host.run(|| UdpSocket::bind((address, port)).unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

/// Whether a host answers an echo request sent from this thread's namespace.
pub fn ping(to: impl Into<IpAddr>) -> bool {
    use socket2::{Domain, Protocol, SockAddr, Socket, Type};
    let to = SocketAddr::new(to.into(), 0);
    // The kernel writes the checksum of ICMPv6; that of ICMP makes the sum all ones.
    let (protocol, kind, sum) = match to {
        SocketAddr::V4(_) => (Protocol::ICMPV4, 8, 0xf7),
        SocketAddr::V6(_) => (Protocol::ICMPV6, 128, 0),
    };
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(protocol)).unwrap();
    socket.set_nonblocking(true).unwrap();
    // Echo request, identifier 7, sequence number 1.
    let request = [kind, 0, sum, sum, 0, 7, 0, 1];
    socket.send_to(&request, &SockAddr::from(to)).unwrap();
    wait_for(SOON, || {
        let mut answer = [0; 256];
        let came = (&socket).read(&mut answer).is_ok();
        // What the host says of neighbours comes to a socket of ICMPv6 as well.
        came && (to.is_ipv4() || answer[0] == ECHO_REPLY_V6)
    })
}

const ECHO_REPLY_V6: u8 = 129;

/// Sends Ethernet frames as they are out of a device of this thread's namespace.
pub fn inject(ifindex: u32, frames: &[&[u8]]) {
    let with_header = |frame: &&[u8]| [&[0; 10][..], frame].concat();
    let frames: Vec<Vec<u8>> = frames.iter().map(with_header).collect();
    let mut socket = director::sys::packet_socket::PacketSocket::new();
    let all = frames.iter().map(|frame| (ifindex, &frame[..]));
    socket.send_batch(all, |number, error| panic!("frame {number}: {error}"));
}

/// How `lvsadm -a` is told of each kind of tunnel. The program that takes tunnels off knows no remote checksum offload.
pub const TUNNELS: [&str; 5] = [
    "-i",
    "-i --tun-type gue --tun-port 6080 --tun-nocsum",
    "-i --tun-type gue --tun-port 6080 --tun-csum",
    "-i --tun-type gre --tun-nocsum",
    "-i --tun-type gre --tun-csum",
];

/// A TCP connection through the director, both ends of it.
pub struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
}

impl Pair {
    /// Connects a client to a virtual service whose next server is this one.
    pub fn connect(client: &Host, server: &Host, virtual_service: &str, port: u16) -> Pair {
        let listener = listen(server, port);
        let client = client.run(|| TcpStream::connect(virtual_service).unwrap());
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(SOON)).unwrap();
        }
        Pair { client, server }
    }

    /// A word there and a word back.
    pub fn talk(&mut self) {
        self.client.write_all(b"ping").unwrap();
        Pair::expect(&mut self.server, b"ping");
        self.server.write_all(b"pong").unwrap();
        Pair::expect(&mut self.client, b"pong");
    }

    /// Reads so much and no more.
    pub fn drain(end: &mut TcpStream, bytes: usize) {
        end.read_exact(&mut vec![0; bytes]).unwrap();
    }

    /// Reads exactly these bytes.
    pub fn expect(end: &mut TcpStream, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        end.read_exact(&mut got).unwrap();
        assert_eq!(got, expected);
    }
}

/// Listens on all addresses of a host.
pub fn listen(host: &Host, port: u16) -> TcpListener {
    host.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap())
}

/// Whether an end that waits hears that the connection was reset.
pub fn is_reset(end: &mut TcpStream) -> bool {
    let outcome = end.read(&mut [0; 16]);
    outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}
