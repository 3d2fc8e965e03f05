//! The two networks of every LVS tutorial.

use std::net::Ipv4Addr;

use shared::host::netlink::Netlink;

use crate::host::Host;
use crate::link::{cable, plug, switch};

/// Client, director and servers behind it, whose gateway it is.
///
/// ```text
/// client 10.0.0.10 -- eth0 -- cl 10.0.0.1 director 10.1.0.1 rs -- switch -- eth0 10.1.0.11 ...
///                                VIP 10.0.0.100
/// ```
#[derive(Debug)]
pub struct Routed {
    /// Sends requests.
    pub client: Host,
    /// Balances; interfaces `cl` and `rs`.
    pub director: Host,
    /// Answer.
    pub servers: Vec<Host>,
    switch: Host,
}

/// Client, director and servers on one link.
///
/// ```text
/// client 10.2.0.10, director 10.2.0.1 with VIP 10.2.0.100, servers 10.2.0.11 ...: all eth0
/// ```
#[derive(Debug)]
pub struct OneLan {
    /// Sends requests.
    pub client: Host,
    /// Balances.
    pub director: Host,
    /// Answer.
    pub servers: Vec<Host>,
    switch: Host,
}

impl Routed {
    /// The virtual IP address.
    pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
    /// The client.
    pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
    /// The director, as the servers see it.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

    /// With so many servers.
    ///
    /// # Panics
    /// Without root.
    pub fn new(servers: u8) -> Routed {
        let (client, director, lan) =
            (Host::new("client"), Host::new("director"), Host::new("lan"));
        switch(&lan, "br0");
        cable((&client, "eth0"), (&director, "cl"));
        connect(&lan, &director, "rs");
        client.address("eth0", "10.0.0.10/24");
        client.gateway(Ipv4Addr::new(10, 0, 0, 1));
        director.address("cl", "10.0.0.1/24");
        director.address("cl", "10.0.0.100/32");
        director.address("rs", "10.1.0.1/24");
        let servers = (0..servers)
            .map(|number| {
                let server = Host::new(&format!("server {}", number + 1));
                connect(&lan, &server, "eth0");
                server.address("eth0", &format!("{}/24", Routed::server(number)));
                server.gateway(Routed::GATEWAY);
                server
            })
            .collect();
        Routed {
            client,
            director,
            servers,
            switch: lan,
        }
    }

    /// The address of a server, counted from 0.
    pub fn server(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 1, 0, 11 + number)
    }

    /// Sets the MTU of the switch between director and servers, bytes.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn switch_mtu(&self, mtu: u32) {
        switch_mtu(&self.switch, mtu);
    }

    /// Client, director, servers, and the switch that holds the latter together.
    pub fn into_hosts(self) -> (Host, Host, Vec<Host>, Host) {
        (self.client, self.director, self.servers, self.switch)
    }
}

impl OneLan {
    /// The virtual IP address.
    pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 100);
    /// The client.
    pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 10);
    /// The director.
    pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

    /// With so many servers.
    ///
    /// # Panics
    /// Without root.
    pub fn new(servers: u8) -> OneLan {
        let (client, director, lan) =
            (Host::new("client"), Host::new("director"), Host::new("lan"));
        switch(&lan, "br0");
        connect(&lan, &client, "eth0");
        connect(&lan, &director, "eth0");
        client.address("eth0", "10.2.0.10/24");
        director.address("eth0", "10.2.0.1/24");
        director.address("eth0", "10.2.0.100/32");
        let servers = (0..servers)
            .map(|number| {
                let server = Host::new(&format!("server {}", number + 1));
                connect(&lan, &server, "eth0");
                server.address("eth0", &format!("{}/24", OneLan::server(number)));
                server
            })
            .collect();
        OneLan {
            client,
            director,
            servers,
            switch: lan,
        }
    }

    /// The address of a server, counted from 0.
    pub fn server(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 2, 0, 11 + number)
    }

    /// Sets the MTU of the switch, bytes.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn switch_mtu(&self, mtu: u32) {
        switch_mtu(&self.switch, mtu);
    }

    /// Client, director, servers, and the switch that holds them together.
    pub fn into_hosts(self) -> (Host, Host, Vec<Host>, Host) {
        (self.client, self.director, self.servers, self.switch)
    }
}

/// Of all ports of a switch; its own follows.
fn switch_mtu(lan: &Host, mtu: u32) {
    for link in lan.netlink(Netlink::links) {
        if link.name.starts_with('p') {
            lan.mtu(&link.name, mtu);
        }
    }
}

/// A cable from the switch to a host.
fn connect(lan: &Host, host: &Host, device: &str) {
    let port = format!("p{}", lan.netlink(Netlink::links).len());
    cable((lan, &port), (host, device));
    plug(lan, &port, "br0");
}
