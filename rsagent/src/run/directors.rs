//! The way to the directors.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Sends datagrams to all directors.
#[derive(Debug, Default)]
pub(crate) struct Directors {
    addresses: Vec<SocketAddr>,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// Why the last datagram did not leave.
    troubles: BTreeMap<SocketAddr, String>,
}

impl Directors {
    /// To these.
    pub(crate) fn new(addresses: &[SocketAddr]) -> Directors {
        Directors {
            addresses: addresses.to_vec(),
            ..Directors::default()
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Sends a datagram to each; never waits. What does not leave is told when that is new.
    pub(crate) fn send(&mut self, datagram: &[u8]) {
        for index in 0..self.addresses.len() {
            let to = self.addresses[index];
            let outcome = self
                .socket(to.ip())
                .and_then(|socket| socket.send_to(datagram, to));
            let trouble = outcome.err().map(|error| error.to_string());
            let before = match &trouble {
                Some(trouble) => self.troubles.insert(to, trouble.clone()),
                None => self.troubles.remove(&to),
            };
            match (before, trouble) {
                (None, Some(trouble)) => eprintln!("rsagent: report to {to}: {trouble}"),
                (Some(_), None) => println!("reports to {to} leave again"),
                _ => {}
            }
        }
    }

    fn socket(&mut self, to: IpAddr) -> io::Result<&UdpSocket> {
        let (place, any): (_, IpAddr) = match to {
            IpAddr::V4(_) => (&mut self.v4, Ipv4Addr::UNSPECIFIED.into()),
            IpAddr::V6(_) => (&mut self.v6, Ipv6Addr::UNSPECIFIED.into()),
        };
        match place {
            Some(socket) => Ok(socket),
            None => {
                let socket = UdpSocket::bind((any, 0))?;
                socket.set_nonblocking(true)?;
                Ok(place.insert(socket))
            }
        }
    }
}
