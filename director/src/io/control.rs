//! The control socket and its connections.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, SockAddr, Socket, Type};
use tracing::{debug, warn};

use super::intake::RINGS;
use crate::control::session::{Backend, Progress, Session};

/// Listens, and serves who connects. The socket is removed at the end.
#[derive(Debug)]
pub(super) struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<usize, Client>,
    next: usize,
    registry: Registry,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    session: Session,
    progress: Progress,
    /// Nothing more will come; what is owed is still sent.
    ended: bool,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody answers there.
    #[error("another director listens at {}; use --control for a second one", .0.display())]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{} is in the way: it is no socket", .0.display())]
    NotASocket(PathBuf),
    /// The kernel refused.
    #[error("the control socket {}: {source}", path.display())]
    Io {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Control {
    /// Listens at `path`. A socket that nobody answers at any more is replaced.
    ///
    /// # Errors
    /// Another director listens there, or the place cannot be used.
    pub(super) fn listen(path: &Path, registry: Registry) -> Result<Control, ControlError> {
        Control::check(path)?;
        let io = |source| ControlError::Io {
            path: path.to_owned(),
            source,
        };
        let mut listener = bind(path).map_err(io)?;
        registry
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(io)?;
        let clients = BTreeMap::new();
        Ok(Control {
            listener,
            path: path.to_owned(),
            clients,
            next: FIRST_CLIENT,
            registry,
        })
    }

    /// Makes sure that nobody listens at `path`.
    ///
    /// # Errors
    /// Another director does, or the place cannot be used.
    pub(super) fn check(path: &Path) -> Result<(), ControlError> {
        make_way(path)
    }

    /// Whether a client's request can be worked on at once.
    pub(super) fn is_busy(&self) -> bool {
        self.clients
            .values()
            .any(|client| client.progress == Progress::More)
    }

    /// Takes new clients.
    pub(super) fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    if self.clients.len() >= MOST_CLIENTS {
                        warn!("{MOST_CLIENTS} control connections are open; one more is refused");
                    } else if self
                        .registry
                        .register(&mut stream, Token(self.next), both)
                        .is_ok()
                    {
                        let session = Session::new();
                        let progress = Progress::Waiting;
                        let client = Client {
                            stream,
                            session,
                            progress,
                            ended: false,
                        };
                        self.clients.insert(self.next, client);
                        self.next = (self.next + 1).max(FIRST_CLIENT) % RINGS;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    warn!("control socket: {error}");
                    return;
                }
            }
        }
    }

    /// A client's connection is ready.
    pub(super) fn wake(&mut self, token: Token) {
        if let Some(client) = self.clients.get_mut(&token.0) {
            client.progress = Progress::More;
        }
    }

    /// Goes on with every client that has something to do, one step each.
    pub(super) fn serve(&mut self, backend: &mut dyn Backend) {
        let registry = &self.registry;
        self.clients.retain(|_, client| {
            if client.progress == Progress::Waiting {
                return true;
            }
            match client.go_on(backend) {
                Ok(Stay::Yes) => true,
                Ok(Stay::No) => {
                    let _ = registry.deregister(&mut client.stream);
                    false
                }
                Err(error) => {
                    debug!("control connection: {error}");
                    let _ = registry.deregister(&mut client.stream);
                    false
                }
            }
        });
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Whoever looks for the director shall not find its remains.
        let _ = fs::remove_file(&self.path);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    Yes,
    No,
}

impl Client {
    fn go_on(&mut self, backend: &mut dyn Backend) -> io::Result<Stay> {
        let read = self.read()?;
        let progress = self.session.step(backend);
        let written = self.write()?;
        if self.ended && progress == Progress::Waiting && self.session.output().is_empty() {
            return Ok(Stay::No);
        }
        // The readiness of the connection is told once: as long as it may have more, or has room
        // for more, it must be looked at again.
        self.progress = match (progress, read, written) {
            (Progress::Waiting, Blocked::Yes, _) => Progress::Waiting,
            (_, _, Blocked::Yes) => Progress::Waiting,
            _ => Progress::More,
        };
        Ok(Stay::Yes)
    }

    fn read(&mut self) -> io::Result<Blocked> {
        let mut bytes = [0; 16 * 1024];
        while self.session.wants_input() && !self.ended {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => self.session.receive(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Blocked::Yes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Blocked::No)
    }

    /// Blocked: the client does not read its answers.
    fn write(&mut self) -> io::Result<Blocked> {
        while !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(count) => self.session.consume_output(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Blocked::Yes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Blocked::No)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    Yes,
    No,
}

/// Removes what a killed director left behind.
fn make_way(path: &Path) -> Result<(), ControlError> {
    let io = |source| ControlError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
        Ok(found) if !found.file_type().is_socket() => {
            Err(ControlError::NotASocket(path.to_owned()))
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            Err(ControlError::Taken(path.to_owned()))
        }
        Ok(_) => fs::remove_file(path).map_err(io),
    }
}

/// Nobody can connect before the socket has its mode.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from_std(socket.into()))
}

/// The token of the listener.
pub(super) const LISTENER: Token = Token(2);
/// The first token of a client.
const FIRST_CLIENT: usize = 16;
const MOST_CLIENTS: usize = 256;
const BACKLOG: i32 = 64;
