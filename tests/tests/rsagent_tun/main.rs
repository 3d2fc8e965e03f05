//! The real server's end of tunnels: rsagent takes them off, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test may end here")]

#[path = "../common/mod.rs"]
mod common;
mod encapsulate;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use common::{Transfers, compare_transfers};
use encapsulate::{Forwarder, Kind, encapsulate_aggregates};
use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::programs::{self, Nginx, ours};
use laboratory::wait::SOON;
use shared::host::netlink::Hook;
use shared::sys::bpf::{Assembler, Program, Reg};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// A client 198.51.100.10, a router that stands for the director, and a real server 10.1.0.11.
struct Lab {
    client: Host,
    director: Host,
    server: Host,
}

impl Lab {
    fn new() -> Lab {
        let [client, director, server] = ["client", "director", "server"].map(Host::new);
        cable((&client, "eth0"), (&director, "eth0"));
        cable((&director, "eth1"), (&server, "eth0"));
        client.address("eth0", "198.51.100.10/24");
        director.address("eth0", "198.51.100.1/24");
        director.address("eth1", "10.1.0.1/24");
        server.address("eth0", "10.1.0.11/24");
        client.gateway(Ipv4Addr::new(198, 51, 100, 1));
        server.gateway(DIRECTOR);
        director.sysctl("net/ipv4/ip_forward", "1");
        for name in ["all", "eth0", "eth1"] {
            director.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0");
        }
        Lab {
            client,
            director,
            server,
        }
    }

    /// The director sends what is for the VIP through a tunnel, one packet at a time.
    fn forwarder(&self, kind: Kind, server: Ipv4Addr) -> Forwarder {
        // The kernel of the director's host is to keep out of it.
        let route = ["route", "replace", "blackhole", "192.0.2.100/32"];
        self.director.succeed("ip", &route);
        self.client.offloads_off("eth0");
        Forwarder::start(&self.director, kind, VIP, server)
    }

    /// Exit code and everything printed.
    fn rsagent(&self, line: &str) -> (i32, String) {
        programs::rsagent(&self.server, line)
    }

    fn succeed(&self, line: &str) -> String {
        let (code, printed) = self.rsagent(line);
        assert_eq!(code, 0, "rsagent {line}:\n{printed}");
        printed
    }

    /// All that rsagent might change. The kernel's device for IPIP counts when it is up: it comes with
    /// its module and stays.
    fn snapshot(&self) -> String {
        let run = |program: &str, line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            self.server.succeed(program, &words)
        };
        let mut all: String = run("ip", "-4 -br address")
            .lines()
            .filter(|line| !(line.starts_with("tunl0") && line.contains("DOWN")))
            .fold(String::new(), |all, line| all + line + "\n");
        for interface in ["all", "default", "lo", "eth0"] {
            for name in ["arp_ignore", "arp_announce", "rp_filter"] {
                let path = format!("net/ipv4/conf/{interface}/{name}");
                all += &format!("{path} {}\n", self.server.read_sysctl(&path));
            }
        }
        all += &run("tc", "qdisc show dev eth0");
        for way in ["ingress", "egress"] {
            all += &self.filters(way);
        }
        all
    }

    fn filters(&self, way: &str) -> String {
        let words = ["filter", "show", "dev", "eth0", way];
        self.server.succeed("tc", &words)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that ends early leaves its state file behind.
        let program = ours("rsagent").display().to_string();
        self.server.output(&program, &["stop"]);
    }
}

/// Down and up by TCP, there and back by UDP.
fn exchange(lab: &Lab, web: &Nginx, transfers: &Transfers) {
    compare_transfers(&lab.client, "192.0.2.100", web, transfers);
    let echo = lab.server.run(|| UdpSocket::bind((VIP, 7)).unwrap());
    let asker = lab.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for socket in [&echo, &asker] {
        socket.set_read_timeout(Some(SOON)).unwrap();
    }
    asker.send_to(b"question", (VIP, 7)).unwrap();
    let mut datagram = [0; 64];
    let (length, from) = echo.recv_from(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"question");
    echo.send_to(b"answer", from).unwrap();
    let (length, from) = asker.recv_from(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"answer");
    assert_eq!(from.ip(), VIP);
}

#[test]
fn tunnels_of_every_kind_end_at_the_real_server() {
    let (lab, transfers) = (Lab::new(), Transfers::of(20));
    lab.succeed("start --mode tun --vip 192.0.2.100");
    let web = Nginx::start(&lab.server, "server", 80, Some(transfers.path()));
    for kind in [Kind::Ipip, Kind::Gue, Kind::Gre, Kind::GreWithChecksum] {
        let forwarder = lab.forwarder(kind, SERVER);
        exchange(&lab, &web, &transfers);
        // The path is one of 1500 bytes, and the client was told of shorter segments.
        assert_eq!(forwarder.too_long(), 0, "{kind:?}");
    }
    for host in [&lab.client, &lab.server] {
        assert_eq!(host.counter("Tcp", "InCsumErrors"), 0);
    }
    let printed = lab.succeed("status --mode tun");
    assert!(!printed.contains("wrong"), "{printed}");
    lab.succeed("stop");
}

#[test]
fn whole_aggregates_come_out_of_a_tunnel() {
    let (lab, transfers) = (Lab::new(), Transfers::new());
    lab.succeed("start --mode tun --vip 192.0.2.100");
    let web = Nginx::start(&lab.server, "server", 80, Some(transfers.path()));
    let route = ["route", "add", "192.0.2.100", "via", "10.1.0.11"];
    lab.director.succeed("ip", &route);
    encapsulate_aggregates(&lab.director, "eth1", VIP, (DIRECTOR, SERVER));
    compare_transfers(&lab.client, "192.0.2.100", &web, &transfers);
    let shown = lab
        .server
        .succeed("ip", &["-j", "-s", "link", "show", "eth0"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let received = &shown[0]["stats64"]["rx"];
    let [bytes, packets] = ["bytes", "packets"].map(|name| received[name].as_u64().unwrap());
    assert!(bytes > 100_000_000, "{received}");
    // With the acknowledgements of the download.
    assert!(bytes / packets > 3000, "not in aggregates: {received}");
    assert_eq!(lab.server.counter("Tcp", "InCsumErrors"), 0);
}

#[test]
fn strict_reverse_path_filtering_is_loosened_where_tunnels_come_by_another_way() {
    let (lab, transfers) = (Lab::new(), Transfers::of(1));
    cable((&lab.director, "eth2"), (&lab.server, "eth1"));
    lab.director.address("eth2", "10.2.0.1/24");
    lab.server.address("eth1", "10.2.0.11/24");
    for name in ["all", "eth0", "eth1"] {
        lab.server
            .sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "1");
    }
    let own = |name: &str| {
        let path = format!("net/ipv4/conf/{name}/rp_filter");
        lab.server.read_sysctl(&path)
    };
    lab.succeed("start --mode tun --vip 192.0.2.100");
    assert_eq!([own("all"), own("eth0"), own("eth1")], ["1", "1", "2"]);
    let web = Nginx::start(&lab.server, "server", 80, Some(transfers.path()));
    for server in [SERVER, Ipv4Addr::new(10, 2, 0, 11)] {
        let _forwarder = lab.forwarder(Kind::Ipip, server);
        exchange(&lab, &web, &transfers);
    }
    lab.succeed("status");
    lab.server.sysctl("net/ipv4/conf/eth1/rp_filter", "1");
    let (code, printed) = lab.rsagent("status");
    assert_eq!(code, 3, "{printed}");
    assert!(
        printed.contains("wrong  rp_filter in force on eth1: 1, should be 0 or 2"),
        "{printed}"
    );
    lab.server.sysctl("net/ipv4/conf/eth1/rp_filter", "2");
    lab.succeed("stop");
    assert_eq!([own("all"), own("eth0"), own("eth1")], ["1", "1", "1"]);
}

#[test]
fn start_and_stop_may_be_repeated_and_leave_nothing_behind() {
    let lab = Lab::new();
    let before = lab.snapshot();
    for _ in 0..2 {
        lab.succeed("start --mode tun --vip 192.0.2.100 192.0.2.101");
    }
    assert!(lab.filters("ingress").contains("lvs_decap"));
    assert!(lab.filters("egress").contains("lvs_clamp"));
    lab.succeed("status --mode tun --vip 192.0.2.100");
    let served = lab.filters("ingress");
    // One VIP less is another program; the last one takes everything with it.
    lab.succeed("stop --vip 192.0.2.100");
    assert_ne!(lab.filters("ingress"), served);
    assert_eq!(lab.rsagent("status --mode tun --vip 192.0.2.100").0, 3);
    lab.succeed("status --mode tun");
    for _ in 0..2 {
        lab.succeed("stop --vip 192.0.2.101");
        assert_eq!(lab.snapshot(), before);
    }
    assert_eq!(lab.rsagent("status --mode tun --vip 192.0.2.100").0, 3);
}

#[test]
fn a_start_that_was_killed_is_finished_or_undone() {
    let lab = Lab::new();
    // The module comes with the first.
    lab.succeed("start --mode tun --vip 192.0.2.100");
    lab.succeed("stop");
    let before = lab.snapshot();
    let mut microseconds = 0;
    loop {
        let mut command = Command::new(ours("rsagent"));
        command.args(["start", "--mode", "tun", "--vip", "192.0.2.100"]);
        let mut process = lab.server.spawn(command);
        sleep(Duration::from_micros(microseconds));
        process.signal("KILL");
        let finished = process.ended(SOON).success();
        // Killed at any step: every second time it is started again first.
        if microseconds % 2000 == 0 {
            lab.succeed("start --mode tun --vip 192.0.2.100");
            lab.succeed("status --mode tun --vip 192.0.2.100");
        }
        lab.succeed("stop");
        assert_eq!(lab.snapshot(), before, "killed after {microseconds} us");
        if finished {
            break;
        }
        microseconds += 1000;
    }
}

#[test]
fn what_others_hang_on_an_interface_stays_there() {
    let lab = Lab::new();
    lab.server
        .succeed("tc", &["qdisc", "add", "dev", "eth0", "clsact"]);
    hang_a_filter(&lab.server);
    let before = lab.snapshot();
    lab.succeed("start --mode tun --vip 192.0.2.100");
    lab.succeed("stop");
    assert_eq!(lab.snapshot(), before);
    // Theirs came later, onto what we had made.
    lab.server
        .succeed("tc", &["qdisc", "del", "dev", "eth0", "clsact"]);
    lab.succeed("start --mode tun --vip 192.0.2.100");
    hang_a_filter(&lab.server);
    lab.succeed("stop");
    let left = lab.filters("egress");
    assert!(left.contains("theirs") && !left.contains("lvs_"), "{left}");
}

/// Somebody else's.
fn hang_a_filter(host: &Host) {
    let mut asm = Assembler::new();
    asm.mov(Reg::R0, -1);
    asm.exit();
    let program = Program::load("theirs", &asm.finish().unwrap(), &[]).unwrap();
    let link = host.ifindex("eth0");
    host.netlink(|netlink| {
        netlink.set_program(link, Hook::Egress, (7, 1), "theirs", program.as_fd())
    });
}

#[test]
fn filters_tell_of_themselves_when_the_state_is_lost_and_when_the_host_has_changed() {
    let lab = Lab::new();
    let before = lab.filters("ingress");
    lab.succeed("start --mode tun --vip 192.0.2.100");
    lab.server.mtu("eth0", 1400);
    let (code, printed) = lab.rsagent("status");
    assert_eq!(code, 3, "{printed}");
    assert!(
        printed.contains("segments leave room for a tunnel on eth0: made from other"),
        "{printed}"
    );
    lab.server.address("eth0", "10.1.0.12/24");
    let (_, printed) = lab.rsagent("status");
    assert!(
        printed.contains("tunnels end on eth0: made from other"),
        "{printed}"
    );
    lab.succeed("start --mode tun --vip 192.0.2.100");
    lab.succeed("status");

    let inode = lab.server.run(|| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
    });
    fs::remove_file(format!("/run/lvs/rsagent-{inode}.json")).unwrap();
    lab.succeed("stop");
    assert_eq!(lab.filters("ingress"), before);
    assert_eq!(lab.filters("egress"), before);
}
