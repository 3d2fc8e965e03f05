//! The connection of one check: a socket that never blocks, perhaps with TLS above.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, Error};
use socket2::{Domain, Protocol, Socket, Type};

use super::trust::{Client, Later};
use crate::health::checks::{Failure, Http, Kind, Probe, Url};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
    /// The server's certificates, while they are not verified.
    later: Option<Arc<Later>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum OpenError {
    /// This host lacks something: that says nothing of the other one.
    Here(io::Error),
    /// The server cannot be reached.
    There(Failure),
}

/// What can be done with a connection at the moment.
#[derive(Debug)]
pub(super) enum Heard {
    /// So many bytes came.
    Bytes(usize),
    /// Nothing yet; something will wake us up.
    Nothing,
    /// Something that was for TLS alone; there may be more.
    Handshake,
    /// It is at its end.
    End,
}

impl Wire {
    /// Begins to connect. What the poll says of it comes with the token.
    ///
    /// # Errors
    /// The host knows at once that it cannot be.
    pub(super) fn open(
        probe: &Probe,
        registry: &Registry,
        token: Token,
    ) -> Result<Wire, OpenError> {
        let socket = socket(probe).map_err(OpenError::Here)?;
        match socket.connect(&probe.to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) if is_ours(&error) => return Err(OpenError::Here(error)),
            Err(error) => return Err(OpenError::There(failure_of(&error))),
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = registry.register(&mut SourceFd(&socket.as_raw_fd()), token, both);
        registered.map_err(OpenError::Here)?;
        Ok(Wire {
            socket,
            tls: None,
            later: None,
        })
    }

    /// Whether there is a connection.
    ///
    /// # Errors
    /// There will be none.
    pub(super) fn is_connected(&self) -> Result<bool, Failure> {
        if let Some(error) = self
            .socket
            .take_error()
            .map_err(|error| failure_of(&error))?
        {
            return Err(failure_of(&error));
        }
        match self.socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(failure_of(&error)),
        }
    }

    /// Speaks TLS from now on.
    ///
    /// # Errors
    /// The library refuses.
    pub(super) fn secure(
        &mut self,
        client: &Client,
        name: ServerName<'static>,
    ) -> Result<(), Failure> {
        let (config, later) = client.begin();
        self.later = later;
        let connection = ClientConnection::new(config, name);
        let connection = connection.map_err(|error| tls_failure(&error))?;
        self.tls = Some(Box::new(connection));
        Ok(())
    }

    /// Whether both ends have agreed how to speak.
    pub(super) fn is_secured(&self) -> bool {
        self.tls
            .as_ref()
            .is_none_or(|connection| !connection.is_handshaking())
    }

    /// Verifies the certificates of a server with which all else is agreed, which takes a while. Whether that was
    /// still to be done.
    ///
    /// # Errors
    /// They are not good.
    pub(super) fn verify(&mut self) -> Result<bool, Failure> {
        let Some(later) = self.later.take() else {
            return Ok(false);
        };
        later.verify().map_err(|error| tls_failure(&error))?;
        Ok(true)
    }

    /// Sends as much as goes, and takes that from `bytes`.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn send(&mut self, bytes: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(tls) = &mut self.tls else {
            while !bytes.is_empty() {
                match (&self.socket).write(bytes) {
                    Ok(length) => drop(bytes.drain(..length)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(failure_of(&error)),
                }
            }
            return Ok(());
        };
        if !bytes.is_empty() && !tls.is_handshaking() {
            let length = tls.writer().write(bytes);
            bytes.drain(..length.map_err(|error| failure_of(&error))?);
        }
        while tls.wants_write() {
            match tls.write_tls(&mut &self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(failure_of(&error)),
            }
        }
        Ok(())
    }

    /// One read.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<Heard, Failure> {
        let Some(tls) = &mut self.tls else {
            return match (&self.socket).read(buffer) {
                Ok(0) => Ok(Heard::End),
                Ok(length) => Ok(Heard::Bytes(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Heard::Nothing),
                Err(error) => Err(failure_of(&error)),
            };
        };
        match tls.reader().read(buffer) {
            Ok(0) => return Ok(Heard::End),
            Ok(length) => return Ok(Heard::Bytes(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Ok(Heard::End),
        }
        match tls.read_tls(&mut &self.socket) {
            Ok(0) if tls.is_handshaking() => {
                return Err(Failure::Closed("the end of the TLS handshake"));
            }
            Ok(0) => return Ok(Heard::End),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Heard::Nothing),
            Err(error) => return Err(failure_of(&error)),
        }
        if let Err(error) = tls.process_new_packets() {
            // The server is told why.
            let _ = tls.write_tls(&mut &self.socket);
            return Err(tls_failure(&error));
        }
        Ok(Heard::Handshake)
    }

    /// Says that this is the end, to servers that would complain otherwise.
    pub(super) fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // It is no matter to us.
            let _ = tls.write_tls(&mut &self.socket);
        }
    }
}

fn socket(probe: &Probe) -> io::Result<Socket> {
    let domain = Domain::for_address(probe.to);
    let (kind, protocol) = match (&*probe.check.kind, probe.to) {
        (Kind::Udp(_) | Kind::Dns(_), _) => (Type::DGRAM, Protocol::UDP),
        (Kind::Ping, SocketAddr::V4(_)) => (Type::RAW, Protocol::ICMPV4),
        (Kind::Ping, SocketAddr::V6(_)) => (Type::RAW, Protocol::ICMPV6),
        _ => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
    if let Some(bind) = probe.check.bind {
        socket.bind(&SocketAddr::new(bind, 0).into())?;
    }
    Ok(socket)
}

/// No port or no memory is left.
fn is_ours(error: &io::Error) -> bool {
    let ours = [Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM];
    ours.iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// The name that the certificate must be for, and that is asked for.
///
/// # Errors
/// It can be none of a server.
pub(super) fn server_name(
    http: &Http,
    url: &Url,
    address: IpAddr,
) -> Result<ServerName<'static>, Failure> {
    let sni = http.tls.as_ref().and_then(|tls| tls.sni.as_deref());
    // A port may follow, as it does in `Host`.
    let host = url.host.as_deref().map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    });
    let Some(name) = sni.or(host) else {
        return Ok(ServerName::from(address));
    };
    let bare = name.trim_end_matches('.').trim_matches(['[', ']']);
    let name = ServerName::try_from(bare.to_owned());
    name.map_err(|_| Failure::Tls(format!("{bare:?} is not the name of a server")))
}

/// What the system says, in our words.
pub(super) fn failure_of(error: &io::Error) -> Failure {
    if error.kind() == ErrorKind::ConnectionRefused {
        return Failure::Refused;
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    Failure::System(text.to_lowercase())
}

fn tls_failure(error: &Error) -> Failure {
    let what = match error {
        Error::InvalidCertificate(what) => what,
        other => return Failure::Tls(other.to_string()),
    };
    Failure::Certificate(match what {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer => "nobody who is trusted has signed it".to_owned(),
        CertificateError::NotValidForName => "it is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("it is for another name than {}", expected.to_str())
        }
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        other => other.to_string(),
    })
}
