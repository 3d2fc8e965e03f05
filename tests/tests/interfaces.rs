//! A director with several interfaces: clients on one, the VIP on any, real servers on others; and frames that
//! belong to a VLAN.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::net::UdpSocket;

use common::datagrams::receive;
use laboratory::paths::{Method, Paths};
use laboratory::programs::Nginx;
use laboratory::wait::{SOON, wait_for};
use shared::wire::ipv4::Header;

/// Wherever the VIP is, each real server gets its half, by its own interface.
fn served(method: Method) {
    let paths = Paths::new(method);
    let _web = Nginx::start(&paths.server, "server", 80, None);
    let mut before = "lo";
    for device in ["lo", "cl", "rs", "dr"] {
        let vip = |verb, device| {
            let words = ["address", verb, "192.0.2.100/32", "dev", device];
            paths.director.succeed("ip", &words);
        };
        vip("del", before);
        vip("add", device);
        before = device;
        let mut director = paths.start("");
        // By NAT its answers come back by another interface than its requests leave by.
        let servers = match method {
            Method::Direct => 1,
            _ => {
                paths.add_server(&director, "10.5.0.11");
                2
            }
        };
        let words = ["-sS", "-m", "20", "--http1.0", "http://192.0.2.100/?[1-20]"];
        let answers = paths.client.output("curl", &words);
        let status = director.admin("status");
        let what = format!("{method:?}, VIP on {device}: {answers:?}, {status}");
        assert_eq!(answers.stdout, "server\n".repeat(20).as_bytes(), "{what}");
        assert!(status.contains("dropped packets\n  none"), "{what}");
        let listing = director.admin("-Ln --stats --exact");
        let served = listing.lines().filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let connections = words.get(2).and_then(|word| word.parse::<usize>().ok());
            words.first() == Some(&"->") && connections.is_some_and(|got| got >= 20 / servers)
        });
        assert_eq!(served.count(), servers, "{what}\n{listing}");
        director.process.signal("TERM");
        director.process.ended(SOON);
    }
}

#[test]
fn nat() {
    served(Method::Nat);
}

#[test]
fn direct_routing() {
    served(Method::Direct);
}

#[test]
fn tunnels() {
    served(Method::Ipip);
}

#[test]
fn fullnat() {
    served(Method::FullNat);
}

#[test]
fn firewall_mark() {
    served(Method::Mark);
}

/// They are to the VIP, but not on its network: nothing is forwarded, nothing is counted, and where the kernel
/// has VLAN devices, it is theirs.
#[test]
fn a_frame_of_a_vlan_is_left_to_its_device() {
    let paths = Paths::new(Method::Nat);
    let server = paths.server.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(Some(SOON)).unwrap();
    let director = paths.start("");
    let [_, inner, ..] = &paths.routers;
    let mac = |host: &laboratory::host::Host, device: &str| {
        let link = host.netlink(|netlink| netlink.link_by_name(device));
        link.unwrap().mac.unwrap()
    };
    let frame = |tag: &[u8], data: u8| {
        let datagram = [0x9c, 0x41, 0, 53, 0, 9, 0, 0, data];
        let header = Header {
            tos: 0,
            identification: 1,
            fragment: 0,
            ttl: 64,
            protocol: 17,
            source: Paths::CLIENT.octets(),
            destination: Paths::VIP.octets(),
        };
        let header = header.to_bytes(datagram.len());
        let (to, from) = (mac(&paths.director, "cl"), mac(inner, "di"));
        [&to[..], &from, tag, &[8, 0], &header, &datagram].concat()
    };
    let inject = |frames: &[&[u8]]| {
        let device = inner.ifindex("di");
        inner.run(|| common::inject(device, frames));
    };
    let expect = |data: u8| {
        let mut got = [0; 8];
        let length = receive(&server, &mut got)
            .unwrap_or_else(|error| panic!("{data}: {error}, {}", director.admin("status")));
        assert_eq!(&got[..length], [data]);
    };
    let (tagged, plain) = (frame(&VLAN_5, 1), frame(&[], 2));
    inject(&[&plain]);
    expect(2);
    let before = director.admin("status");
    let taken = |status: &str| {
        let line = status.lines().find(|line| line.contains(" cl "));
        let words: Vec<&str> = line.unwrap().split_whitespace().collect();
        words[1].parse::<u64>().unwrap()
    };
    for _ in 0..10 {
        inject(&[&tagged]);
    }
    inject(&[&plain]);
    // What comes after them, and nothing before.
    expect(2);
    let status = director.admin("status");
    assert_eq!(taken(&status), taken(&before) + 1, "{status}");
    assert!(status.contains("dropped packets\n  none"), "{status}");

    let line = "link add link cl name cl.5 type vlan id 5";
    let words: Vec<&str> = line.split_whitespace().collect();
    if !paths.director.output("ip", &words).status.success() {
        eprintln!("this kernel has no VLAN devices");
        return;
    }
    paths.director.succeed("ip", &["link", "set", "cl.5", "up"]);
    let captured = wait_for(SOON, || director.admin("status").contains("cl.5"));
    assert!(captured, "{}", director.admin("status"));
    inject(&[&tagged]);
    expect(1);
}

const VLAN_5: [u8; 4] = [0x81, 0, 0, 5];
