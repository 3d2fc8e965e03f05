//! One request, the kernel's answer, and errors that name what was asked for.

use std::io;
use std::mem;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

/// A socket for requests. It blocks only for the kernel's own answer.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Why netlink did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("netlink socket: {doing}: {source}")]
    Socket {
        /// What was being done with it.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel refused the request.
    #[error("{what}: {source}{}", hint(.kernel, .source))]
    Refused {
        /// The request with its object, such as `add 10.0.0.1/32 to lo`.
        what: String,
        /// The errno of the answer.
        source: io::Error,
        /// The kernel's own words, empty if it had none.
        kernel: String,
    },
    /// The answer cannot be read.
    #[error("{what}: the kernel's answer cannot be read ({fault})")]
    Malformed {
        /// The request with its object.
        what: String,
        /// What is wrong with it.
        fault: String,
    },
}

impl NetlinkError {
    /// The errno that the kernel answered, if it answered.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket { source, .. } => source.raw_os_error(),
            Self::Malformed { .. } => None,
        }
    }

    /// The object is there already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// The object is not there: what the kernel says so by depends on the object.
    pub fn is_missing(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL)
        )
    }
}

impl Netlink {
    /// Opens a socket into the network namespace of the calling thread.
    pub fn open() -> Result<Netlink, NetlinkError> {
        Netlink::of(NETLINK_ROUTE)
    }

    /// The same for another part of the kernel, a `NETLINK_*`.
    pub(super) fn of(protocol: isize) -> Result<Netlink, NetlinkError> {
        let mut socket = open_socket(protocol, REQUEST_RECEIVE_BYTES)?;
        socket.bind_auto().map_err(during("bind"))?;
        // Without these the kernel sends back the whole request, and no words.
        socket
            .set_cap_ack(true)
            .map_err(during("NETLINK_CAP_ACK"))?;
        socket
            .set_ext_ack(true)
            .map_err(during("NETLINK_EXT_ACK"))?;
        Ok(Netlink {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(ANSWER_BYTES),
        })
    }

    /// Sends a request for a change and waits until the kernel has made it. `flags` are `NLM_F_*`
    /// besides request and acknowledgement; `what` names the request for the error.
    ///
    /// This is for what this module has no method for, such as the laboratory's links.
    pub fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce(&mut Netlink) -> String,
    ) -> Result<(), NetlinkError> {
        let outcome = self.exchange(message, flags | NLM_F_ACK, &mut |_, _| Ok(()));
        match outcome {
            Ok(_) => Ok(()),
            Err(fault) => Err(fault.named(what(self))),
        }
    }

    /// Asks for a list, and decodes each message's type and body. The kernel says when the list
    /// changed while it was being told: then it is asked again.
    pub(super) fn dump<T>(
        &mut self,
        message: &(impl NetlinkSerializable + Clone),
        what: &'static str,
        mut decode: impl FnMut(u16, &[u8]) -> Result<Option<T>, Fault>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut items = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            items.clear();
            let consistency = self
                .exchange(message.clone(), NLM_F_DUMP, &mut |kind, body| {
                    items.extend(decode(kind, body)?);
                    Ok(())
                })
                .map_err(|fault| fault.named(what.to_owned()))?;
            if consistency == Consistency::Whole {
                break;
            }
        }
        // A table that never stands still is told as it is: its changes come by the monitor.
        Ok(items)
    }

    /// The first answer to a request for one object; `None` if there is no such object.
    pub(super) fn get<T>(
        &mut self,
        message: RouteNetlinkMessage,
        what: impl FnOnce() -> String,
        mut decode: impl FnMut(u16, &[u8]) -> Result<Option<T>, Fault>,
    ) -> Result<Option<T>, NetlinkError> {
        let mut found = None;
        let outcome = self.exchange(message, NLM_F_ACK, &mut |kind, body| {
            if found.is_none() {
                found = decode(kind, body)?;
            }
            Ok(())
        });
        match outcome.map_err(|fault| fault.named(what())) {
            Ok(_) => Ok(found),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn exchange(
        &mut self,
        message: impl NetlinkSerializable,
        flags: u16,
        each: Each<'_>,
    ) -> Result<Consistency, Fault> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket
            .send_to(&bytes, &SocketAddr::new(0, 0), 0)
            .map_err(|source| Fault::Socket("send", source))?;

        // Out of `self`, so that the answers can be read while the socket is borrowed.
        let mut buffer = mem::take(&mut self.buffer);
        let outcome = self.answers(&mut buffer, each);
        self.buffer = buffer;
        outcome
    }

    fn answers(&self, buffer: &mut Vec<u8>, each: Each<'_>) -> Result<Consistency, Fault> {
        let mut consistency = Consistency::Whole;
        // The first fault of a decoder is kept, and the rest of the answer is read all the same:
        // it would stand before the answer to the next request.
        let mut fault = None;
        loop {
            receive(&self.socket, buffer).map_err(|source| Fault::Socket("receive", source))?;
            for message in Messages(buffer) {
                let message = message?;
                if message.sequence_number() != self.sequence {
                    continue;
                }
                if message.flags() & NLM_F_DUMP_INTR != 0 {
                    consistency = Consistency::Interrupted;
                }
                match message.message_type() {
                    NLMSG_ERROR | NLMSG_DONE => {
                        // Both carry an errno first; a dump may end with one.
                        refusal(message.payload(), message.flags())?;
                        return fault.map_or(Ok(consistency), Err);
                    }
                    kind if fault.is_none() => fault = each(kind, message.payload()).err(),
                    _ => {}
                }
            }
        }
    }
}

/// What went wrong, before it is known for whom.
#[derive(Debug)]
pub(super) enum Fault {
    Socket(&'static str, io::Error),
    Refused(io::Error, String),
    Malformed(String),
}

impl Fault {
    fn named(self, what: String) -> NetlinkError {
        match self {
            Fault::Socket(doing, source) => NetlinkError::Socket { doing, source },
            Fault::Refused(source, kernel) => NetlinkError::Refused {
                what,
                source,
                kernel,
            },
            Fault::Malformed(fault) => NetlinkError::Malformed { what, fault },
        }
    }
}

impl From<netlink_packet_core::DecodeError> for Fault {
    fn from(error: netlink_packet_core::DecodeError) -> Fault {
        Fault::Malformed(error.to_string())
    }
}

/// Takes the type and the body of each message of an answer.
type Each<'a> = &'a mut dyn FnMut(u16, &[u8]) -> Result<(), Fault>;

#[derive(PartialEq, Eq)]
enum Consistency {
    Whole,
    Interrupted,
}

/// The messages of one datagram.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<NetlinkBuffer<&'a [u8]>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = mem::take(&mut self.0);
        let message = match NetlinkBuffer::new_checked(rest) {
            Ok(message) => message,
            Err(error) => return Some(Err(error.into())),
        };
        // Messages are aligned to four bytes; the last one's padding may be missing.
        let length = (message.length() as usize).next_multiple_of(4);
        self.0 = rest.get(length..).unwrap_or_default();
        Some(Ok(message))
    }
}

/// A socket with a receive buffer of that size: beyond the system's limit if we may.
pub(super) fn open_socket(protocol: isize, receive_bytes: usize) -> Result<Socket, NetlinkError> {
    let socket = Socket::new(protocol).map_err(during("open"))?;
    if setsockopt(&socket, RcvBufForce, &receive_bytes).is_err() {
        // Without CAP_NET_ADMIN: up to net.core.rmem_max.
        let size = libc::c_int::try_from(receive_bytes).unwrap_or(libc::c_int::MAX);
        socket.set_rx_buf_sz(size).map_err(during("SO_RCVBUF"))?;
    }
    Ok(socket)
}

/// Receives one datagram whole.
pub(super) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        buffer.clear();
        match socket.recv_from(buffer, libc::MSG_TRUNC) {
            Ok((length, _)) if length > buffer.len() => {
                // The kernel makes dump datagrams as large as the reader's buffer, up to 32 KiB.
                return Err(io::Error::other(format!(
                    "datagram of {length} bytes is larger than the buffer"
                )));
            }
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn during(doing: &'static str) -> impl FnOnce(io::Error) -> NetlinkError {
    move |source| NetlinkError::Socket { doing, source }
}

/// Reads the errno of an error or done message: `Ok` for 0, which is the acknowledgement.
fn refusal(body: &[u8], flags: u16) -> Result<(), Fault> {
    // An empty done message means no error.
    let Some((code, rest)) = body.split_first_chunk() else {
        return Ok(());
    };
    let code = i32::from_ne_bytes(*code);
    if code == 0 {
        return Ok(());
    }
    let words = if flags & NLM_F_ACK_TLVS != 0 {
        // With NETLINK_CAP_ACK only the request's header stands before them.
        rest.get(NETLINK_HEADER_BYTES..).and_then(kernel_words)
    } else {
        None
    };
    Err(Fault::Refused(
        io::Error::from_raw_os_error(code.wrapping_neg()),
        words.unwrap_or_default(),
    ))
}

fn kernel_words(attributes: &[u8]) -> Option<String> {
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| {
            let text = attribute.value();
            String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text)).into_owned()
        })
}

/// What stands behind an error: the kernel's words, or the cure of the commonest one.
fn hint(kernel: &str, source: &io::Error) -> String {
    if !kernel.is_empty() {
        format!(" (kernel: {kernel})")
    } else if source.raw_os_error() == Some(libc::EPERM) {
        " (needs root or CAP_NET_ADMIN)".to_owned()
    } else {
        String::new()
    }
}

/// Room for one datagram: twice the largest that the kernel makes for a dump.
pub(super) const ANSWER_BYTES: usize = 64 * 1024;

/// Receive buffer of a requesting socket. A dump is sent as fast as it is read; this is for
/// its first two datagrams and for answers.
const REQUEST_RECEIVE_BYTES: usize = 1024 * 1024;

/// How often a dump that changed underway is asked for.
const DUMP_ATTEMPTS: usize = 5;

const NETLINK_HEADER_BYTES: usize = 16;

/// `NLM_F_ACK_TLVS` of linux/netlink.h: attributes follow in an answer.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the error in words.
const NLMSGERR_ATTR_MSG: u16 = 1;
