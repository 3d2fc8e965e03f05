//! Listening TCP sockets (sock_diag(7), include/uapi/linux/inet_diag.h). `/proc/net/tcp` has them too, but
//! the kernel goes through its whole table of connections for that, which takes milliseconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::NetlinkSerializable;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::request::{Netlink, NetlinkError};

/// A listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; unspecified: at all addresses.
    pub address: SocketAddr,
    /// Connections that wait to be accepted.
    pub queue: u32,
}

/// Tells the listening sockets of the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Listeners(Netlink);

impl Listeners {
    /// Opens a socket.
    ///
    /// # Errors
    /// The kernel has no `inet_diag`.
    pub fn open() -> Result<Listeners, NetlinkError> {
        Netlink::of(NETLINK_SOCK_DIAG).map(Listeners)
    }

    /// All that there are now, of both families.
    ///
    /// # Errors
    /// The kernel has no `inet_diag`.
    pub fn list(&mut self) -> Result<Vec<Listener>, NetlinkError> {
        let mut listeners = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = GetListeners(family as u8);
            let found = self
                .0
                .dump(&request, "list listening sockets", |kind, body| {
                    Ok((kind == SOCK_DIAG_BY_FAMILY)
                        .then(|| listener(body))
                        .flatten())
                });
            listeners.extend(found?);
        }
        Ok(listeners)
    }
}

/// `struct inet_diag_req_v2`
#[derive(Debug, Clone, Copy)]
struct GetListeners(u8);

impl NetlinkSerializable for GetListeners {
    fn message_type(&self) -> u16 {
        SOCK_DIAG_BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        REQUEST
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        buffer[0] = self.0;
        buffer[1] = libc::IPPROTO_TCP as u8;
        buffer[4..8].copy_from_slice(&(1_u32 << TCP_LISTEN).to_ne_bytes());
    }
}

/// `struct inet_diag_msg`
fn listener(body: &[u8]) -> Option<Listener> {
    let family = i32::from(*body.first()?);
    let port = u16::from_be_bytes(*body.get(PORT..)?.first_chunk()?);
    let address: &[u8; 16] = body.get(ADDRESS..)?.first_chunk()?;
    let address = match family {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*address.first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*address)).to_canonical(),
        _ => return None,
    };
    Some(Listener {
        address: SocketAddr::new(address, port),
        queue: u32::from_ne_bytes(*body.get(QUEUE..)?.first_chunk()?),
    })
}

/// include/uapi/linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// include/net/tcp_states.h
const TCP_LISTEN: u32 = 10;

/// Family, protocol and so on, states, and an identity of 48 bytes.
const REQUEST: usize = 56;

// Places in the answer: behind family, state and so on the identity begins with ports and addresses;
// behind it and a timer stands what waits to be accepted.
const PORT: usize = 4;
const ADDRESS: usize = 8;
const QUEUE: usize = 4 + 48 + 4;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::host::tests::in_namespace;

    #[test]
    fn listening_sockets_and_their_queues_are_told() {
        in_namespace(|| {
            let mut netlink = Netlink::open().unwrap();
            let lo = netlink.link_by_name("lo").unwrap().unwrap();
            netlink.set_link_up(lo.index).unwrap();
            let mut listeners = Listeners::open().unwrap();
            assert_eq!(listeners.list().unwrap(), []);
            let one = TcpListener::bind("127.0.0.1:80").unwrap();
            let _other = TcpListener::bind("[::]:81").unwrap();
            let _waiting = [(); 2].map(|()| TcpStream::connect("127.0.0.1:80").unwrap());
            let listener = |address: &str, queue| Listener {
                address: address.parse().unwrap(),
                queue,
            };
            let both = [listener("127.0.0.1:80", 2), listener("[::]:81", 0)];
            assert_eq!(listeners.list().unwrap(), both);
            one.accept().unwrap();
            assert_eq!(listeners.list().unwrap()[0].queue, 1);
        });
    }

    #[test]
    fn answers_that_are_cut_short_are_none() {
        assert_eq!(listener(&[]), None);
        let mut answer = [0; 72];
        assert_eq!(listener(&answer), None, "of no family");
        answer[0] = libc::AF_INET as u8;
        assert!(listener(&answer).is_some());
        assert_eq!(listener(&answer[..QUEUE + 3]), None);
    }
}
