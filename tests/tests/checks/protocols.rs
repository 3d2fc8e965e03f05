//! Checks of mail and name servers, of datagrams and of hosts.

use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use laboratory::host::Host;
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};

use super::lab::{Fake, Lab, babbles, closes, hangs, one_service};

#[test]
fn a_mail_server_is_greeted() {
    let net = Routed::new(1);
    let host = &net.servers[0];
    let mut command = Command::new("aiosmtpd");
    command.args(["-n", "-l", "0.0.0.0:25"]);
    let mail = host.spawn(command);
    let listens = || host.run(|| TcpStream::connect(("127.0.0.1", 25)).is_ok());
    assert!(wait_for(SOON, listens), "{}", mail.printed());
    let _fakes = [
        Fake::start(host, 9002, hangs),
        Fake::start(host, 9003, closes),
        Fake::start(host, 9004, babbles),
    ];
    let smtp = "type = \"smtp\"";
    let config = one_service([
        (25, smtp),
        (26, "type = \"smtp\", port = 25, helo = \"lvs.example.org\""),
        (9001, smtp),
        (9002, smtp),
        (9003, smtp),
        (9004, smtp),
    ]);
    let lab = Lab::new(net, &config);
    lab.falls(9001, "refused");
    lab.falls(9002, "timed out after 500 ms, waiting for the answer");
    lab.falls(
        9004,
        "the answer to the connection is \"599 what?\", expected 220",
    );
    for port in [25, 26] {
        let (health, reason) = lab.health(Routed::server(0), port);
        assert_eq!(
            (health.as_str(), reason.as_str()),
            ("up", ""),
            "{}",
            lab.all()
        );
    }
    drop(mail);
    lab.falls(25, "refused");
}

#[test]
fn a_name_server_is_asked() {
    let net = Routed::new(1);
    let host = &net.servers[0];
    let mut command = Command::new("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--address=/www.example.org/192.0.2.1",
        "--local=/example.org/",
    ]);
    let names = host.spawn(command);
    let _silent = Datagrams::start(host, 9002, |_| None);
    let asks = |name: &str, query: &str| {
        format!("type = \"dns\", port = 53, name = \"{name}\", query = \"{query}\"")
    };
    let (known, unknown) = (
        asks("www.example.org", "A"),
        asks("absent.example.org.", "A"),
    );
    let config = one_service([
        (53, known.as_str()),
        (9001, "type = \"dns\""),
        (9002, "type = \"dns\""),
        (9003, unknown.as_str()),
        // Without anybody to ask it refuses what it does not know.
        (9004, "type = \"dns\", port = 53"),
    ]);
    let lab = Lab::new(net, &config);
    lab.becomes(Routed::server(0), 53, "up");
    lab.falls(9001, "refused");
    lab.falls(9002, "timed out after 500 ms, waiting for the answer");
    lab.falls(9003, "NXDOMAIN");
    lab.falls(9004, "REFUSED");
    assert_eq!(lab.health(Routed::server(0), 53).0, "up", "{}", lab.all());
    drop(names);
    lab.falls(53, "refused");
}

#[test]
fn a_datagram_is_replied_to_and_a_host_to_an_echo() {
    let net = Routed::new(1);
    let host = &net.servers[0];
    let _servers = [
        Datagrams::start(host, 9002, |_| None),
        Datagrams::start(host, 9003, |datagram| Some(datagram.to_vec())),
    ];
    let config = one_service([
        (9001, "type = \"udp\""),
        (9002, "type = \"udp\""),
        (9012, "type = \"udp\", port = 9002, require_reply = true"),
        (
            9003,
            "type = \"udp\", payload = \"0a1b2c\", require_reply = \"XaX02c\", min_reply_length = 3",
        ),
        (
            9013,
            "type = \"udp\", port = 9003, payload = \"0a1b2c\", require_reply = \"0a1c\"",
        ),
        (
            9014,
            "type = \"udp\", port = 9003, payload = \"0a1b2c\", require_reply = true, min_reply_length = 4",
        ),
        (9005, "type = \"ping\""),
        (9006, "type = \"ping\", address = \"10.1.0.77\""),
    ]);
    let config = config.replace("XaX02c", "XaXX2c");
    let lab = Lab::new(net, &config);
    lab.falls(9001, "refused");
    lab.falls(9012, "timed out after 500 ms, waiting for the reply");
    lab.falls(
        9013,
        "the reply is another one than expected, from byte 2 on",
    );
    lab.falls(9014, "the reply has 3 bytes, expected 4 to 255");
    lab.falls(9006, "its check by ping fails: ");
    for port in [9002, 9003, 9005] {
        let (health, reason) = lab.health(Routed::server(0), port);
        assert_eq!(
            (health.as_str(), reason.as_str()),
            ("up", ""),
            "{}",
            lab.all()
        );
    }
    let checks = lab.status()["checks"].as_array().unwrap().clone();
    assert!(
        checks.iter().all(|check| check["checked"] == true),
        "{}",
        lab.all()
    );
}

/// Answers datagrams, or does not.
struct Datagrams {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Datagrams {
    fn start(host: &Host, port: u16, answer: fn(&[u8]) -> Option<Vec<u8>>) -> Datagrams {
        let socket = host.run(|| UdpSocket::bind(("0.0.0.0", port)).unwrap());
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer)
                    && let Some(answer) = answer(&buffer[..length])
                {
                    socket.send_to(&answer, from).unwrap();
                }
            }
        });
        Datagrams {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}
