//! One network for every forwarding method, with routers on both sides of the director.
//!
//! ```text
//! client eth0 --- cl outer in -(front)- ou inner di --- cl director rs -(own)- di near fa -(behind)- ne far rs --- eth0 server
//! 198.51.100.10                               rs          VIP    dr                                                 10.3.0.11
//!                                             |                  '---------------------(own, by DR)----------------- eth2
//!                                             |                                                                     10.5.0.11
//!                                             '--------------------- answers by DR and tunnel ---------------------- eth1
//! ```
//! The director's interfaces hold neither the VIP, which is on its `lo`, nor a real server and a client at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shared::addr::Family;
use shared::host::netlink::Netlink;

use crate::host::Host;
use crate::ipv6::{beside, of};
use crate::link::cable;
use crate::process::scratch;
use crate::programs::{Director, ours};

/// How packets get to the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Both ways through the director.
    Nat,
    /// The server's address on the link stands in for the VIP.
    Direct,
    /// One more IP header.
    Ipip,
    /// In UDP, with a checksum.
    Gue,
    /// With GRE's header and a checksum.
    Gre,
    /// With an address of the director's as the client.
    FullNat,
    /// NAT of what a rule of iptables has marked.
    Mark,
}

/// A link that may be narrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrow {
    /// Between two routers, neither of them an end: in front of the director.
    Front,
    /// The director's own, on which it sends to the server or to the router there.
    Own,
    /// Between two routers behind the director.
    Behind,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Paths {
    /// How the server gets its packets.
    pub method: Method,
    /// Of which family they are, and the addresses of everybody.
    pub family: Family,
    /// Sends requests.
    pub client: Host,
    /// Balances.
    pub director: Host,
    /// Answers, at port 80 and 53.
    pub server: Host,
    /// The routers, from the client on.
    pub routers: [Host; 4],
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 7] = [
        Method::Nat,
        Method::Direct,
        Method::Ipip,
        Method::Gue,
        Method::Gre,
        Method::FullNat,
        Method::Mark,
    ];

    /// Whether the server answers the client by itself, from the VIP.
    pub fn answers_directly(self) -> bool {
        matches!(
            self,
            Method::Direct | Method::Ipip | Method::Gue | Method::Gre
        )
    }

    /// Bytes that it adds to a packet on the way to the server, in a header of this family.
    pub fn outer(self, family: Family) -> u32 {
        let header = match family {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        match self {
            Method::Nat | Method::Direct | Method::FullNat | Method::Mark => 0,
            Method::Ipip => header,
            Method::Gue => header + 8 + 4,
            Method::Gre => header + 8,
        }
    }

    /// How `lvsadm -a` is told.
    pub fn options(self) -> &'static str {
        match self {
            Method::Nat | Method::Mark => "-m",
            Method::Direct => "-g",
            Method::Ipip => "-i",
            Method::Gue => "-i --tun-type gue --tun-port 6080 --tun-csum",
            Method::Gre => "-i --tun-type gre --tun-csum",
            Method::FullNat => "-b",
        }
    }
}

impl Paths {
    /// The virtual IP address.
    pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
    /// The client.
    pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
    /// The server, but by [`Method::Direct`].
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 3, 0, 11);
    /// The only local address, by [`Method::FullNat`].
    pub const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);

    /// The hosts, without a director on theirs.
    ///
    /// # Panics
    /// Without root.
    pub fn new(method: Method) -> Paths {
        Paths::of(method, Family::V4)
    }

    /// The same in one of the families; of IPv6 beside IPv4.
    ///
    /// # Panics
    /// Without root.
    pub fn of(method: Method, family: Family) -> Paths {
        let [client, outer, inner, director, near, far, server] = [
            "client", "outer", "inner", "director", "near", "far", "server",
        ]
        .map(Host::new);
        cable((&client, "eth0"), (&outer, "cl"));
        cable((&outer, "in"), (&inner, "ou"));
        cable((&inner, "di"), (&director, "cl"));
        cable((&inner, "rs"), (&server, "eth1"));
        cable((&director, "rs"), (&near, "di"));
        cable((&director, "dr"), (&server, "eth2"));
        cable((&near, "fa"), (&far, "ne"));
        cable((&far, "rs"), (&server, "eth0"));
        for (host, device, address) in [
            (&client, "eth0", "198.51.100.10/24"),
            (&outer, "cl", "198.51.100.1/24"),
            (&outer, "in", "10.8.0.1/24"),
            (&inner, "ou", "10.8.0.2/24"),
            (&inner, "di", "10.0.0.254/24"),
            (&inner, "rs", "10.4.0.254/24"),
            (&director, "lo", "192.0.2.100/32"),
            (&director, "cl", "10.0.0.1/24"),
            (&director, "rs", "10.1.0.1/24"),
            (&director, "dr", "10.5.0.1/24"),
            (&near, "di", "10.1.0.2/24"),
            (&near, "fa", "10.2.0.2/24"),
            (&far, "ne", "10.2.0.3/24"),
            (&far, "rs", "10.3.0.3/24"),
            (&server, "eth0", "10.3.0.11/24"),
            (&server, "eth1", "10.4.0.11/24"),
            (&server, "eth2", "10.5.0.11/24"),
        ] {
            host.address(device, address);
        }
        let back = if method.answers_directly() {
            "10.4.0.254"
        } else {
            "10.3.0.3"
        };
        for (host, to, router) in [
            (&client, "default", "198.51.100.1"),
            (&outer, "default", "10.8.0.2"),
            (&inner, "198.51.100.0/24", "10.8.0.1"),
            (&inner, "default", "10.0.0.1"),
            (&director, "default", "10.0.0.254"),
            (&director, "10.3.0.0/24", "10.1.0.2"),
            (&near, "default", "10.1.0.1"),
            (&near, "10.3.0.0/24", "10.2.0.3"),
            (&far, "default", "10.2.0.2"),
            (&server, "default", back),
            // The outer addresses of tunnels, and the ICMP errors about them.
            (&server, "10.1.0.0/24", "10.3.0.3"),
        ] {
            host.succeed("ip", &["route", "replace", to, "via", router]);
        }
        let routers = [outer, inner, near, far];
        for host in routers.iter().chain([&server]) {
            host.sysctl("net/ipv4/ip_forward", "1");
            let links = host.netlink(Netlink::links);
            let names = links.iter().map(|link| &link.name[..]);
            for name in names.chain(["all"]) {
                host.sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0");
            }
        }
        let paths = Paths {
            method,
            family,
            client,
            director,
            server,
            routers,
        };
        if family == Family::V6 {
            let hosts = [&paths.client, &paths.director, &paths.server];
            beside(hosts.into_iter().chain(&paths.routers));
        }
        let vip = paths.vip().to_string();
        match method {
            Method::Direct => paths.rsagent(&["start", "--vip", &vip]),
            _ if method.answers_directly() => {
                paths.rsagent(&["start", "--mode", "tun", "--vip", &vip]);
            }
            _ => {}
        }
        paths
    }

    /// The virtual IP address, of the family.
    pub fn vip(&self) -> IpAddr {
        of(self.family, Paths::VIP)
    }

    /// The client, of the family.
    pub fn client_address(&self) -> IpAddr {
        of(self.family, Paths::CLIENT)
    }

    /// The local address, of the family.
    pub fn local(&self) -> IpAddr {
        of(self.family, Paths::LOCAL)
    }

    /// A port of the VIP, as it stands in a URL.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip(), port)
    }

    /// A director with services at TCP port 80 and UDP port 53 of the VIP, and the options given.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self, service: &str) -> Director {
        let file = scratch("toml");
        let local = match self.method {
            Method::FullNat => {
                format!("[fullnat]\nlocal_addresses = [\"{}\"]\n", self.local())
            }
            _ => String::new(),
        };
        std::fs::write(&file, local).expect("a file for the director");
        let name = file.display().to_string();
        let director = Director::start_with(&self.director, &["--config", &name]);
        let _ = std::fs::remove_file(&file);
        if self.method == Method::Mark {
            for (protocol, port) in [("tcp", 80), ("udp", 53)] {
                let rule = format!(
                    "-t mangle -A PREROUTING -d {} -p {protocol} --dport {port} \
                     -j MARK --set-mark 1",
                    self.vip()
                );
                let words: Vec<&str> = rule.split_whitespace().collect();
                let program = match self.family {
                    Family::V4 => "iptables",
                    Family::V6 => "ip6tables",
                };
                self.director.succeed(program, &words);
            }
        }
        for name in self.services() {
            director.admin(&format!("-A {name} -s rr {service}"));
        }
        self.add_server(&director, &self.server_address().to_string());
        director
    }

    /// Adds a real server, such as another address of the same one, to all services.
    ///
    /// # Panics
    /// When the director refuses.
    pub fn add_server(&self, director: &Director, address: &str) {
        for name in self.services() {
            director.admin(&format!("-a {name} -r {address} {}", self.method.options()));
        }
    }

    /// How lvsadm is told of them.
    pub fn services(&self) -> Vec<String> {
        match (self.method, self.family) {
            (Method::Mark, Family::V4) => vec!["-f 1".to_owned()],
            (Method::Mark, Family::V6) => vec!["-f 1 -6".to_owned()],
            _ => vec![format!("-t {}", self.at(80)), format!("-u {}", self.at(53))],
        }
    }

    /// The real server's address.
    pub fn server_address(&self) -> IpAddr {
        let address = match self.method {
            Method::Direct => Ipv4Addr::new(10, 5, 0, 11),
            _ => Paths::SERVER,
        };
        of(self.family, address)
    }

    /// The server's address that its answers come from.
    pub fn answering_address(&self) -> IpAddr {
        if self.method.answers_directly() {
            self.vip()
        } else {
            self.server_address()
        }
    }

    /// Sets the MTU of a link at both of its ends.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn mtu(&self, link: Narrow, mtu: u32) {
        let [outer, inner, near, far] = &self.routers;
        let ends = match link {
            Narrow::Front => [(outer, "in"), (inner, "ou")],
            Narrow::Own if self.method == Method::Direct => {
                [(&self.director, "dr"), (&self.server, "eth2")]
            }
            Narrow::Own => [(&self.director, "rs"), (near, "di")],
            Narrow::Behind => [(near, "fa"), (far, "ne")],
        };
        for (host, device) in ends {
            host.mtu(device, mtu);
        }
    }

    /// Turns checksum and segmentation offload of client, director and server off.
    ///
    /// # Panics
    /// Without ethtool.
    pub fn offloads_off(&self) {
        for host in [&self.client, &self.director, &self.server] {
            for link in host.netlink(Netlink::links) {
                if link.name != "lo" && link.mac.is_some() {
                    host.offloads_off(&link.name);
                }
            }
        }
    }

    /// What a host has found out about the way to an address, from one of its own: its MTU, bytes.
    pub fn learned(
        host: &Host,
        to: impl Into<IpAddr>,
        from: Option<impl Into<IpAddr>>,
    ) -> Option<u32> {
        let to = to.into().to_string();
        let mut words = vec!["route", "get", &to];
        let from = from.map(|from| from.into().to_string());
        if let Some(from) = &from {
            words.extend(["from", from]);
        }
        let route = host.succeed("ip", &words);
        let (_, mtu) = route.split_once("mtu ")?;
        mtu.split_whitespace().next()?.parse().ok()
    }

    fn rsagent(&self, words: &[&str]) {
        self.server
            .succeed(&ours("rsagent").display().to_string(), words);
    }
}

impl Drop for Paths {
    fn drop(&mut self) {
        if self.method.answers_directly() {
            let rsagent = ours("rsagent").display().to_string();
            self.server.output(&rsagent, &["stop"]);
        }
    }
}
