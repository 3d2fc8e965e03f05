//! Client, director and servers, in one of the families.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use laboratory::ipv6::{beside, of};
use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;
use shared::addr::Family;

/// See the [module](self).
pub struct Lab {
    pub net: Routed,
    pub family: Family,
}

impl Lab {
    /// With so many servers.
    pub fn new(family: Family, servers: u8) -> Lab {
        let net = Routed::new(servers);
        for host in 101..=104 {
            net.client.address("eth0", &format!("10.0.0.{host}/32"));
        }
        if family == Family::V6 {
            beside([&net.client, &net.director].into_iter().chain(&net.servers));
        }
        Lab { net, family }
    }

    /// A web server on each of these ports of each server.
    pub fn web_servers(&self, ports: &[u16]) -> Vec<Nginx> {
        let each = self.net.servers.iter().flat_map(|server| {
            let start = |&port| Nginx::of_both_families(server, port, None);
            ports.iter().map(start)
        });
        each.collect()
    }

    /// An address of this family.
    pub fn ip(&self, address: Ipv4Addr) -> IpAddr {
        of(self.family, address)
    }

    pub fn vip(&self) -> IpAddr {
        self.ip(Routed::VIP)
    }

    pub fn server(&self, number: u8) -> IpAddr {
        self.ip(Routed::server(number))
    }

    /// One of the client's addresses.
    pub fn client(&self, host: u8) -> IpAddr {
        self.ip(Ipv4Addr::new(10, 0, 0, host))
    }

    /// A mark as lvsadm takes it.
    pub fn mark(&self, mark: u32) -> String {
        match self.family {
            Family::V4 => format!("-f {mark}"),
            Family::V6 => format!("-f {mark} -6"),
        }
    }

    /// As an administrator types it on the director.
    pub fn iptables(&self, rule: &str) {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let program = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        self.net.director.succeed(program, &words);
    }

    /// Who answers the client at a port of the VIP.
    pub fn ask(&self, from: u8, port: u16) -> String {
        let from = self.client(from).to_string();
        let url = format!("http://{}/", SocketAddr::new(self.vip(), port));
        let words = ["-sS", "-m", "20", "--interface", &from, &url];
        let output = self.net.client.output("curl", &words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{from} to {url}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What the director changes of its host's routing, of both families.
    pub fn routing(&self) -> String {
        let host = &self.net.director;
        let mut all = String::new();
        for family in ["-4", "-6"] {
            all += &host.succeed("ip", &[family, "rule"]);
            let ours = ["route", "show", "table", "all", "proto", "76"];
            all += &host.succeed("ip", &[&[family][..], &ours].concat());
        }
        for device in ["cl", "rs", "all"] {
            for family in ["ipv4", "ipv6"] {
                let setting = format!("net/{family}/conf/{device}/forwarding");
                all += &host.read_sysctl(&setting);
            }
            // Since Linux 6.17.
            let setting = format!("/proc/sys/net/ipv6/conf/{device}/force_forwarding");
            all += &String::from_utf8_lossy(&host.output("cat", &[&setting]).stdout);
        }
        all
    }
}

pub fn nothing_is_dropped(director: &Director) {
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}
