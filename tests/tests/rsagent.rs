//! A real server is prepared, and everything is as it was afterwards.

use std::path::Path;

use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::programs::ours;
use shared::sys::namespace::identity;

struct Server {
    host: Host,
    _peer: Host,
}

impl Server {
    fn new() -> Server {
        let (host, peer) = (Host::new("server"), Host::new("peer"));
        cable((&host, "eth0"), (&peer, "eth0"));
        host.address("eth0", "10.2.0.11/24");
        Server { host, _peer: peer }
    }

    fn rsagent(&self, line: &str) -> (Option<i32>, String) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self
            .host
            .output(&ours("rsagent").display().to_string(), &words);
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    }

    fn settings(&self) -> Vec<String> {
        ["all", "eth0"]
            .iter()
            .flat_map(|interface| {
                ["arp_ignore", "arp_announce"].map(|name| {
                    self.host
                        .read_sysctl(&format!("net/ipv4/conf/{interface}/{name}"))
                })
            })
            .collect()
    }

    /// Addresses of lo with their labels, but for 127.0.0.1.
    fn on_lo(&self) -> Vec<String> {
        let lo = self.host.ifindex("lo");
        let addresses = self.host.netlink(shared::host::netlink::Netlink::addresses);
        addresses
            .into_iter()
            .filter(|address| address.link == lo && !address.prefix.address.is_loopback())
            .map(|address| {
                format!(
                    "{} {}",
                    address.prefix,
                    address.label.as_deref().unwrap_or("-")
                )
            })
            .collect()
    }
}

#[test]
fn settings_come_first_and_go_last() {
    let server = Server::new();
    server.host.sysctl("net/ipv4/conf/eth0/arp_announce", "1");
    let before = server.settings();
    assert_eq!(before, ["0", "0", "0", "1"]);
    let (exit, _) = server.rsagent("status --vip 10.2.0.100");
    assert_eq!(exit, Some(3));
    for round in 0..2 {
        let (exit, text) = server.rsagent("start --vip 10.2.0.100 --vip 10.2.0.101");
        assert_eq!(exit, Some(0), "round {round}: {text}");
    }
    assert_eq!(server.settings(), ["1", "2", "1", "2"]);
    assert_eq!(server.on_lo(), ["10.2.0.100/32 lo:0", "10.2.0.101/32 lo:1"]);
    let (exit, text) = server.rsagent("status");
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("VIP 10.2.0.101 is on lo:1"), "{text}");

    let (exit, _) = server.rsagent("stop --vip 10.2.0.100");
    assert_eq!(exit, Some(0));
    assert_eq!(server.on_lo(), ["10.2.0.101/32 lo:1"]);
    assert_eq!(server.settings(), ["1", "2", "1", "2"]);
    let (exit, text) = server.rsagent("status --vip 10.2.0.100");
    assert_eq!(exit, Some(3));
    assert!(text.contains("BAD  VIP 10.2.0.100 is not on lo"), "{text}");

    for _ in 0..2 {
        assert_eq!(server.rsagent("stop").0, Some(0));
    }
    assert!(server.on_lo().is_empty());
    assert_eq!(server.settings(), before);
    assert_eq!(server.rsagent("status").0, Some(3));
}

#[test]
fn what_was_there_before_stays() {
    let server = Server::new();
    server.host.address("lo", "10.2.0.100/32");
    let (exit, text) = server.rsagent("start --vip 10.2.0.100");
    // The laboratory's addresses carry our own mark; an administrator's would not.
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("is on lo already"), "{text}");
    server
        .host
        .succeed("ip", &["address", "add", "10.2.0.102/32", "dev", "lo"]);
    assert_eq!(server.rsagent("start --vip 10.2.0.102").0, Some(0));
    assert_eq!(server.rsagent("stop").0, Some(0));
    assert_eq!(server.on_lo(), ["10.2.0.102/32 lo"]);
    assert_eq!(server.settings(), ["0"; 4]);
}

#[test]
fn what_somebody_else_changed_meanwhile_is_left_alone() {
    let server = Server::new();
    assert_eq!(server.rsagent("start --vip 10.2.0.100").0, Some(0));
    server.host.sysctl("net/ipv4/conf/all/arp_ignore", "2");
    server
        .host
        .succeed("ip", &["address", "delete", "10.2.0.100/32", "dev", "lo"]);
    let (exit, text) = server.rsagent("stop");
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(server.settings(), ["2", "0", "0", "0"]);
}

#[test]
fn nothing_is_done_by_halves() {
    let server = Server::new();
    for (line, words) in [
        ("start", "no VIP is given"),
        ("start --vip 10.2.0.100 --mode tun", "not there yet"),
        (
            "start --vip 10.2.0.100 --interface eth7",
            "there is no interface eth7",
        ),
        ("start --mode nat", "no default route"),
    ] {
        let (exit, text) = server.rsagent(line);
        assert_eq!(exit, Some(1), "{line}");
        assert!(text.contains(words), "{line}: {text}");
    }
    assert_eq!(server.rsagent("start --vip nonsense").0, Some(2));
    assert!(server.on_lo().is_empty());
    assert_eq!(server.settings(), ["0"; 4]);
    server.host.gateway(std::net::Ipv4Addr::new(10, 2, 0, 1));
    let (exit, text) = server.rsagent("start --mode nat");
    assert_eq!(exit, Some(0));
    assert!(text.contains("10.2.0.1"), "{text}");
}

#[test]
fn no_state_is_left_behind() {
    let server = Server::new();
    let namespace = server.host.run(identity).unwrap();
    let file = format!("/run/lvs/rsagent-{namespace}.json");
    server.rsagent("start --vip 10.2.0.100");
    assert!(Path::new(&file).exists());
    server.rsagent("stop");
    assert!(!Path::new(&file).exists());
}
