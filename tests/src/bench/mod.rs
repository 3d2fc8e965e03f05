//! The benchmark: the director beside plain forwarding of the kernel, nftables, haproxy and nginx,
//! each in a laboratory of its own, in turns, so that what disturbs the machine disturbs all.

pub mod agents;
pub mod checks;
pub mod cpu;
pub mod deaths;
pub mod families;
pub mod flood;
pub mod lane;
pub mod methods;
pub mod offer;
pub mod packets;
pub mod report;
pub mod requests;
pub mod round_trip;
pub mod scrape;
pub mod site;
pub mod streams;

use std::net::Ipv4Addr;

/// Of the client's interface.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// Of the service.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// Of the real server.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);

/// Port of the server under a flood of SYNs.
pub const FLOODED: u16 = 8080;
/// Port of the web server.
pub const HTTP: u16 = 80;
/// Port of iperf3.
pub const IPERF: u16 = 5201;
/// Port of everything over UDP.
pub const UDP: u16 = 5300;
