//! A real server and its neighbour.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::programs;
use laboratory::wait::{SOON, wait_for};
use shared::host::netlink::{NeighbourState, Netlink, OUR_PROTOCOL};

/// A real server 10.1.0.11 at a cable to a neighbour 10.1.0.10.
pub struct Lab {
    pub neighbour: Host,
    pub server: Host,
}

impl Lab {
    pub fn new() -> Lab {
        let neighbour = Host::new("neighbour");
        let server = Host::new("server");
        cable((&neighbour, "eth0"), (&server, "eth0"));
        neighbour.address("eth0", "10.1.0.10/24");
        server.address("eth0", "10.1.0.11/24");
        Lab { neighbour, server }
    }

    /// Exit code and everything printed.
    pub fn rsagent(&self, line: &str) -> (i32, String) {
        programs::rsagent(&self.server, line)
    }

    pub fn succeed(&self, line: &str) -> String {
        let (code, printed) = self.rsagent(line);
        assert_eq!(code, 0, "rsagent {line}:\n{printed}");
        printed
    }

    pub fn arp(&self, interface: &str) -> (String, String) {
        let read = |name: &str| {
            let path = format!("net/ipv4/conf/{interface}/{name}");
            self.server.read_sysctl(&path)
        };
        (read("arp_ignore"), read("arp_announce"))
    }

    pub fn set_arp(&self, interface: &str, ignore: &str, announce: &str) {
        for (name, value) in [("arp_ignore", ignore), ("arp_announce", announce)] {
            let path = format!("net/ipv4/conf/{interface}/{name}");
            self.server.sysctl(&path, value);
        }
    }

    /// The addresses on lo but its own, with label and protocol number.
    pub fn on_lo(&self) -> Vec<(String, String, u8)> {
        let lo = self.server.ifindex("lo");
        let addresses = self.server.netlink(Netlink::addresses);
        addresses
            .into_iter()
            .filter(|known| known.link == lo && !known.prefix.address.is_loopback())
            .map(|known| {
                let label = known.label.unwrap_or_default();
                (known.prefix.to_string(), label, known.protocol)
            })
            .collect()
    }

    pub fn state_file(&self) -> PathBuf {
        let own = "/proc/thread-self/ns/net";
        let inode = self
            .server
            .run(|| fs::metadata(own).expect("proc is mounted").ino());
        PathBuf::from(format!("/run/lvs/rsagent-{inode}.json"))
    }

    /// What the neighbour gets when it asks for an address by ARP.
    pub fn ask(&self, address: Ipv4Addr) -> NeighbourState {
        let path = "net/ipv4/neigh/eth0/retrans_time_ms";
        self.neighbour.sysctl(path, "20");
        let link = self.neighbour.ifindex("eth0");
        self.neighbour
            .netlink(|netlink| netlink.use_neighbour(link, address.into()));
        let mut state = NeighbourState::None;
        let settled = wait_for(SOON, || {
            let known = self.neighbour.netlink(Netlink::neighbours);
            let entry = known.iter().find(|entry| entry.address == address);
            state = entry.map_or(NeighbourState::None, |entry| entry.state);
            state.is_valid() || state == NeighbourState::Failed
        });
        assert!(settled, "{address} is {state:?}");
        state
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that ends early leaves them behind.
        let state = self.state_file();
        let _ = fs::remove_file(state.with_extension("lock"));
        let _ = fs::remove_file(state);
    }
}

pub fn ours_on_lo(prefix: &str, label: &str) -> (String, String, u8) {
    (prefix.to_owned(), label.to_owned(), OUR_PROTOCOL)
}

pub fn pair(ignore: &str, announce: &str) -> (String, String) {
    (ignore.to_owned(), announce.to_owned())
}
