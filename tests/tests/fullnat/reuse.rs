//! Local ports come again while the real server still remembers the connections that had them before.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread;

use laboratory::host::Host;
use laboratory::wait::SOON;

use super::Lab;
use super::common::listen;

/// One local address has 64 511 ports, given in order. A server that closes first remembers each connection for
/// a minute (TIME_WAIT) and takes another one from the same port only if its numbers are later.
#[test]
fn a_port_that_its_server_remembers_is_taken_again() {
    let lab = Lab::new();
    lab.server.sysctl("net/ipv4/tcp_max_tw_buckets", "200000");
    let _director = lab.start();
    let listener = listen(&lab.server, 8080);
    let first = connect(&lab.client, &listener, PORTS);
    assert_eq!(first.len(), PORTS, "each has a port of its own");
    let remembered = time_waits(&lab.server);
    assert!(remembered > PORTS - PORTS / 10, "{remembered} of {PORTS}");
    let again = 5_000;
    let before = lab.client.counter("Tcp", "RetransSegs");
    let second = connect(&lab.client, &listener, again);
    assert!(second.is_subset(&first));
    // A SYN that is not believed is answered for the old connection, and sent again a second later.
    let retransmitted = lab.client.counter("Tcp", "RetransSegs") - before;
    assert!(retransmitted < 50, "{retransmitted} of {again}");
}

/// So many connections, one after the other, that the server closes: the ports that it has seen them come from.
fn connect(client: &Host, listener: &TcpListener, count: usize) -> BTreeSet<u16> {
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let accept = || listener.accept().unwrap().1.port();
            (0..count).map(|_| accept()).collect()
        });
        client.run(|| {
            for _ in 0..count {
                let mut stream = TcpStream::connect("10.0.0.100:80").unwrap();
                stream.set_read_timeout(Some(SOON)).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
        });
        server.join().unwrap()
    })
}

/// Connections that a host remembers.
fn time_waits(host: &Host) -> usize {
    let text = host.run(|| fs::read_to_string("/proc/thread-self/net/sockstat").unwrap());
    let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: "));
    let mut words = tcp.unwrap().split(' ').skip_while(|&word| word != "tw");
    words.nth(1).unwrap().parse().unwrap()
}

/// Of one local address.
const PORTS: usize = 64_511;
