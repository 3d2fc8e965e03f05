//! Names of hosts and services, which somebody outside has to look up.

use std::net::{IpAddr, Ipv4Addr};

use shared::addr::Protocol;

/// What ipvsadm asks of the resolver and of the services database.
pub trait Names {
    /// `gethostbyname`: the first IPv4 address of a host.
    fn host_by_name(&self, name: &str) -> Option<Ipv4Addr>;

    /// `gethostbyaddr`
    fn host_by_address(&self, address: IpAddr) -> Option<String>;

    /// `getservbyname`: the port of a service name or alias.
    fn port_by_service(&self, name: &str, protocol: Protocol) -> Option<u16>;

    /// `getservbyport`: the name of a port.
    fn service_by_port(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// The services database as `/etc/services` has it (services(5)).
#[derive(Debug, Default)]
pub struct Services {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    names: Vec<String>,
    port: u16,
    protocol: Protocol,
}

impl Services {
    /// Reads the text of `/etc/services`; lines that are not understood are passed over, as the C
    /// library does.
    pub fn parse(text: &str) -> Services {
        Services {
            entries: text.lines().filter_map(parse_line).collect(),
        }
    }

    /// The port of a name or alias.
    pub fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.entries
            .iter()
            .find(|entry| entry.protocol == protocol && entry.names.iter().any(|n| n == name))
            .map(|entry| entry.port)
    }

    /// The official name of a port.
    pub fn name(&self, port: u16, protocol: Protocol) -> Option<&str> {
        self.entries
            .iter()
            .find(|entry| entry.protocol == protocol && entry.port == port)
            .map(|entry| entry.names[0].as_str())
    }
}

/// `name port/protocol [alias]... [# comment]`
fn parse_line(line: &str) -> Option<Entry> {
    let mut words = line.split('#').next()?.split_whitespace();
    let name = words.next()?;
    let (port, protocol) = words.next()?.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => return None,
    };
    Some(Entry {
        names: std::iter::once(name)
            .chain(words)
            .map(str::to_owned)
            .collect(),
        port: port.parse().ok()?,
        protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_by_name_alias_and_port() {
        let services = Services::parse(
            "# comment\nhttp 80/tcp www # WorldWideWeb\ndomain 53/udp\nhttp 80/dccp\nbad\nx y/tcp\n",
        );
        assert_eq!(services.port("www", Protocol::TCP), Some(80));
        assert_eq!(services.port("http", Protocol::UDP), None);
        assert_eq!(services.name(53, Protocol::UDP), Some("domain"));
        assert_eq!(services.name(80, Protocol::TCP), Some("http"));
        assert_eq!(services.name(81, Protocol::TCP), None);
    }
}
