//! The port: where it is, who may have it, what it says of the director, and clients that would hold it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use laboratory::host::Host;
use laboratory::link::cable;
use laboratory::programs::{Director, ours};
use laboratory::wait::{SOON, wait_for};
use laboratory::web::page;

use super::{Config, SERVICES, USUAL, lab, requests, samples};

fn host() -> (Host, Host) {
    let (host, peer) = (Host::new("director"), Host::new("peer"));
    cable((&host, "eth0"), (&peer, "eth0"));
    host.address("eth0", "10.0.0.100/24");
    (host, peer)
}

#[test]
fn it_says_whether_the_director_forwards() {
    let (host, _peer) = host();
    let _director = Director::start_with(&host, &["--interface", "eth9"]);
    let status = |path: &str| {
        let (head, body) = page(&host, USUAL, path).unwrap();
        format!("{} {body}", &head[9..12])
    };
    assert_eq!(status("/healthz"), "200 ok\n");
    assert_eq!(
        status("/readyz"),
        "503 no interface is there to take packets from\n"
    );
    let eth9 = Host::new("peer of eth9");
    cable((&host, "eth9"), (&eth9, "eth9"));
    assert!(
        wait_for(SOON, || status("/readyz") == "200 ok\n"),
        "{}",
        status("/readyz")
    );
    assert!(status("/").contains("/metrics"));
    assert!(status("/nothing").starts_with("404 "));
}

#[test]
fn the_usual_port_may_be_somebody_elses() {
    let (host, _peer) = host();
    let _other = host.run(|| TcpListener::bind(USUAL).unwrap());
    let director = Director::start(&host);
    let told = director.process.printed();
    assert!(
        told.contains("metrics cannot be shown at 127.0.0.1:9110 (TCP): "),
        "{told}"
    );
    let config = Config::new("[metrics]\nlisten = \"127.0.0.1:9110\"\n");
    let program = ours("director").display().to_string();
    let control = laboratory::process::scratch("sock").display().to_string();
    let options = [
        "--control",
        &control,
        "--config",
        config.0.to_str().unwrap(),
    ];
    let second = host.output(&program, &options);
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(
        text.contains("write another `listen' in [metrics]"),
        "{text}"
    );
}

#[test]
fn a_reload_changes_port_and_labels() {
    let (host, _peer) = host();
    let config = Config::new(SERVICES);
    let director = config.start(&host);
    let labelled = "lvs_backend_up{backend=\"10.1.0.11:8080\",service=\"TCP 10.0.0.100:80\"}";
    assert!(samples(&host, USUAL).contains_key(labelled));

    let everywhere = SocketAddr::from(([10, 0, 0, 100], 9999));
    let metrics = "[metrics]\nlisten = \"0.0.0.0:9999\"\nbackend_labels = [\"service\"]\n";
    config.write(&format!("{metrics}{SERVICES}"));
    director.process.signal("HUP");
    let moved = wait_for(SOON, || page(&host, everywhere, "/healthz").is_ok());
    assert!(moved, "{}", director.process.printed());
    assert!(page(&host, USUAL, "/healthz").is_err());
    let summed = samples(&host, everywhere);
    let up = summed["lvs_backend_up{service=\"TCP 10.0.0.100:80\"}"];
    assert_eq!(up as u64, 2);
    assert!(!summed.contains_key(labelled));

    // Nothing of a broken file counts, and that can be seen.
    config.write("[metrics]\nlisten = \"127.0.0.1\"\nlabels = []\n");
    director.process.signal("HUP");
    let refused = wait_for(SOON, || {
        samples(&host, everywhere)["lvs_config_last_reload_successful"] < 0.5
    });
    assert!(refused, "{}", director.process.printed());
}

/// Idle ones, broken ones, huge ones and such as never read: requests are balanced, and a scrape is answered.
#[test]
fn bad_clients_hold_nobody() {
    let (lab, _web, director, _config) = lab("");
    let connect = || lab.director.run(|| TcpStream::connect(USUAL).unwrap());
    let mut bad: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
    for (number, stream) in bad.iter_mut().enumerate() {
        // Those that had to make room cannot be written to.
        let _ = match number % 4 {
            0 => stream.write_all(b"GET /metrics HTTP/1.1\r\n"),
            1 => stream.write_all(b"\x16\x03\x01\x00\xff rubbish \r\n\r\n"),
            2 => stream.write_all(&[b'x'; 100_000]),
            _ => stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n"),
        };
    }
    requests(&lab, 200);
    let shown = samples(&lab.director, USUAL);
    assert_eq!(
        shown["lvs_connections_total{service=\"TCP 10.0.0.100:80\"}"] as u64,
        200
    );
    assert!(shown["lvs_http_clients_cut_off_total"] > 100.0);
    // Not a byte comes after a refusal.
    let mut broken = connect();
    broken.write_all(b"rubbish\r\n\r\n").unwrap();
    let mut answer = String::new();
    broken.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(director.drops().is_empty());
}
