//! A director with a configuration of its own, and servers that fail in their own ways.

use std::fs;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::Director;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

/// Client, director and servers behind it, whose gateway it is.
pub struct Lab {
    pub net: Routed,
    pub director: Director,
    config: PathBuf,
}

impl Lab {
    /// Starts a director with this configuration.
    pub fn new(net: Routed, config: &str) -> Lab {
        let file = scratch("toml");
        fs::write(&file, config).unwrap();
        let director = Director::start_with(&net.director, &["--config", file.to_str().unwrap()]);
        Lab {
            net,
            director,
            config: file,
        }
    }

    /// Another configuration counts from now on.
    pub fn reload(&self, config: &str) {
        let loaded = || {
            let printed = self.director.process.printed();
            printed.matches("the configuration is loaded again").count()
        };
        let before = loaded();
        fs::write(&self.config, config).unwrap();
        self.director.process.signal("HUP");
        assert!(wait_for(SOON, || loaded() > before), "{}", self.all());
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.director.admin("status --json")).unwrap()
    }

    /// A real server as `status --json` shows it.
    pub fn server(&self, address: impl Into<IpAddr>, port: u16) -> serde_json::Value {
        let (status, address) = (self.status(), address.into());
        let services = status["services"].as_array().unwrap();
        let mut servers = services
            .iter()
            .flat_map(|service| service["servers"].as_array().unwrap());
        let found = servers.find(|server| {
            let key = &server["spec"]["key"];
            key["address"] == address.to_string() && key["port"] == port
        });
        found
            .unwrap_or_else(|| panic!("no {address}:{port}"))
            .clone()
    }

    /// Its health, and why.
    pub fn health(&self, address: impl Into<IpAddr>, port: u16) -> (String, String) {
        let server = self.server(address, port);
        let text = |key: &str| server[key].as_str().unwrap_or_default().to_owned();
        (text("health"), text("reason"))
    }

    #[track_caller]
    pub fn becomes(&self, address: Ipv4Addr, port: u16, health: &str) {
        let holds = wait_for(SOON, || self.health(address, port).0 == health);
        assert!(holds, "{address}:{port} {health}:\n{}", self.all());
    }

    /// The server at this port of the first host is down, for a reason that has these words.
    #[track_caller]
    pub fn falls(&self, port: u16, words: &str) {
        let fell = || {
            let (health, reason) = self.health(Routed::server(0), port);
            health == "down" && reason.contains(words)
        };
        assert!(wait_for(SOON, fell), "{port} {words}:\n{}", self.all());
    }

    /// All that can be said when something is wrong.
    pub fn all(&self) -> String {
        let printed = self.director.process.printed();
        format!("{}\n{printed}", self.director.admin("status"))
    }

    /// Who answers, each once.
    pub fn answers(&self, requests: usize) -> Vec<String> {
        let url = format!("http://10.0.0.100/?[1-{requests}]");
        let words = ["-sS", "-m", "20", "--http1.0", url.as_str()];
        let text = self.net.client.succeed("curl", &words);
        let mut answers: Vec<String> = text.lines().map(str::to_owned).collect();
        answers.sort();
        answers.dedup();
        answers
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
    }
}

/// One service of real servers on the first host, each at a port of its own, with these checks.
pub fn one_service<'a>(servers: impl IntoIterator<Item = (u16, &'a str)>) -> String {
    let mut text = "[[service]]\naddress = \"10.0.0.100:80\"\nprotocol = \"tcp\"\n".to_owned();
    for (port, check) in servers {
        text += &format!(
            "[[service.server]]\naddress = \"{}:{port}\"\nforward = \"nat\"\n\
             check = {{ {check}, {HASTY} }}\n",
            Routed::server(0)
        );
    }
    text
}

/// A check that is made often, and retried once.
pub const HASTY: &str = "interval = \"300ms\", timeout = \"500ms\", retry = 1, \
                         delay_before_retry = \"100ms\", warmup = \"0s\"";

/// How long a fake server looks at a connection before it looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(20);

/// A server that takes connections and then does as it likes.
pub struct Fake {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn start(host: &Host, port: u16, behaves: fn(TcpStream, &AtomicBool)) -> Fake {
        let listener = host.run(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            std::thread::scope(|scope| {
                while !stopped.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            stream.set_nonblocking(false).unwrap();
                            stream.set_read_timeout(Some(GLANCE)).unwrap();
                            stream.set_write_timeout(Some(SOON)).unwrap();
                            scope.spawn(|| behaves(stream, &stopped));
                        }
                        Err(_) => sleep(Duration::from_millis(5)),
                    }
                }
            });
        });
        Fake {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Says nothing, and does not go.
pub fn hangs(stream: TcpStream, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(5));
    }
    drop(stream);
}

/// Goes when it has been spoken to.
pub fn closes(mut stream: TcpStream, stopped: &AtomicBool) {
    hears(&mut stream, stopped);
}

/// Waits until it is spoken to or left. The end of a connection may never arrive when hosts vanish.
fn hears(stream: &mut TcpStream, stopped: &AtomicBool) {
    let later = |error: &Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    while !stopped.load(Ordering::Relaxed)
        && stream
            .read(&mut [0; 1024])
            .is_err_and(|error| later(&error))
    {}
}

/// Says one letter after another.
pub fn drips(mut stream: TcpStream, stopped: &AtomicBool) {
    let page = b"HTTP/1.0 200 OK\r\n\r\n"
        .iter()
        .chain(std::iter::repeat(&b'x'));
    for byte in page {
        if stopped.load(Ordering::Relaxed) || stream.write_all(&[*byte]).is_err() {
            return;
        }
        sleep(Duration::from_millis(50));
    }
}

/// Talks and talks.
pub fn talks(mut stream: TcpStream, stopped: &AtomicBool) {
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
    while !stopped.load(Ordering::Relaxed) && stream.write_all(&[b'x'; 65536]).is_ok() {}
}

/// Goes in the middle of what it has promised.
pub fn breaks(mut stream: TcpStream, stopped: &AtomicBool) {
    hears(&mut stream, stopped);
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nbut");
}

/// Says what is wrong in any protocol.
pub fn babbles(mut stream: TcpStream, stopped: &AtomicBool) {
    let _ = stream.write_all(b"599 what?\r\n");
    hears(&mut stream, stopped);
}
