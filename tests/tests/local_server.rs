//! Real servers and clients that are the director itself.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod common;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;

use common::{Transfers, bound, compare_transfers};
use laboratory::host::Host;
use laboratory::ipv6::{beside, of};
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};
use shared::addr::Family;

laboratory::of_both_families! {
    answers_itself => the_director_answers_itself_when_nobody_else_can, it_does_of_ipv6;
    own_address => nat_to_the_directors_own_address, nat_to_its_own_address_of_ipv6;
    own_clients => clients_on_the_directors_host, clients_of_ipv6_on_the_directors_host;
}

fn lab(family: Family) -> Routed {
    let lab = Routed::new(1);
    if family == Family::V6 {
        beside([&lab.client, &lab.director, &lab.servers[0]]);
    }
    lab
}

/// A web server that tells its host's name.
fn web(host: &Host, port: u16) -> Nginx {
    Nginx::of_both_families(host, port, None)
}

/// The director on the side of the servers.
const INNER: Ipv4Addr = Routed::GATEWAY;

/// Whatever the host's settings are; and it goes on being an ordinary port of the host for everybody else.
fn answers_itself(family: Family) {
    let lab = lab(family);
    let (_web, _sorry) = (web(&lab.servers[0], 80), web(&lab.director, 80));
    let director = Director::start(&lab.director);
    let loopback = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let port = |address| SocketAddr::new(address, 80);
    let vip = port(of(family, Routed::VIP));
    let (server, itself) = (port(of(family, Routed::server(0))), port(loopback));
    director.admin(&format!("-A -t {vip} -s wrr"));
    director.admin(&format!("-a -t {vip} -r {server} -m -w 0"));
    director.admin(&format!("-a -t {vip} -r {itself} -g"));
    for filter in ["0", "1", "2"] {
        set_filters(&lab.director, filter);
        assert_eq!(get(&lab.client, vip), "director\n", "rp_filter {filter}");
    }
    let own = port(of(family, Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(get(&lab.client, own), "director\n");
    director.admin(&format!("-e -t {vip} -r {server} -m -w 1"));
    director.admin(&format!("-e -t {vip} -r {itself} -g -w 0"));
    assert_eq!(get(&lab.client, vip), "server 1\n");
    let listed = director.admin("-Lnc");
    let to_itself = itself.to_string();
    let local = listed.lines().filter(|row| row.contains(&to_itself));
    assert_eq!(local.count(), 3, "{listed}");
    nothing_is_dropped(&director);
}

fn set_filters(host: &Host, value: &str) {
    for device in ["all", "cl"] {
        host.sysctl(&format!("net/ipv4/conf/{device}/rp_filter"), value);
    }
}

fn nothing_is_dropped(director: &Director) {
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
}

fn get(host: &Host, at: SocketAddr) -> String {
    host.succeed("curl", &["-sS", "-m", "20", &format!("http://{at}/")])
}

fn routing(host: &Host) -> String {
    let words = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        host.succeed("ip", &words)
    };
    let ours = "route show table all proto 76";
    words("-4 rule")
        + &words("-6 rule")
        + &words(&format!("-4 {ours}"))
        + &words(&format!("-6 {ours}"))
}

/// Its port goes on being an ordinary one of the host, and nothing stays behind.
fn own_address(family: Family) {
    let transfers = Transfers::new();
    let lab = lab(family);
    let own = Nginx::of_both_families(&lab.director, 8080, Some(transfers.path()));
    let _web = web(&lab.servers[0], 80);
    let before = routing(&lab.director);
    let director = Director::start(&lab.director);
    let vip = SocketAddr::new(of(family, Routed::VIP), 80);
    let itself = SocketAddr::new(of(family, INNER), 8080);
    director.admin(&format!("-A -t {vip} -s rr"));
    director.admin(&format!("-a -t {vip} -r {itself} -m"));
    for filter in ["0", "1", "2"] {
        set_filters(&lab.director, filter);
        assert_eq!(get(&lab.client, vip), "director\n", "rp_filter {filter}");
    }
    compare_transfers(&lab.client, &vip.to_string(), &own, &transfers);
    let loopback: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    for (host, at) in [
        (&lab.client, itself),
        (&lab.servers[0], itself),
        (&lab.director, itself),
        (&lab.director, SocketAddr::new(loopback, 8080)),
    ] {
        assert_eq!(get(host, at), "director\n", "{} to {at}", host.name());
    }
    // What only marks need goes with them.
    let (mark, setting) = match family {
        Family::V4 => ("-f 7", "net/ipv4/conf/cl/forwarding"),
        Family::V6 => ("-f 7 -6", setting_of_ipv6(&lab.director)),
    };
    let forwarding = || lab.director.read_sysctl(setting);
    assert_eq!(forwarding(), "0");
    director.admin(&format!("-A {mark} -s rr"));
    assert_eq!(forwarding(), "1");
    director.admin(&format!("-D {mark}"));
    assert!(wait_for(SOON, || forwarding() == "0"));
    assert_eq!(get(&lab.client, vip), "director\n");
    let server = SocketAddr::new(of(family, Routed::server(0)), 80);
    director.admin(&format!("-a -t {vip} -r {server} -m"));
    let mut both = [(); 2].map(|()| get(&lab.client, vip));
    both.sort();
    assert_eq!(both, ["director\n", "server 1\n"]);
    assert_eq!(lab.client.counter("Tcp", "InCsumErrors"), 0);
    nothing_is_dropped(&director);
    end(director);
    assert_eq!(routing(&lab.director), before);
}

/// Since Linux 6.17 single interfaces forward.
fn setting_of_ipv6(host: &Host) -> &'static str {
    let alone = "net/ipv6/conf/cl/force_forwarding";
    let file = format!("/proc/sys/{alone}");
    match host.output("cat", &[&file]).status.success() {
        true => alone,
        false => "net/ipv6/conf/all/forwarding",
    }
}

fn end(mut director: Director) {
    director.process.signal("TERM");
    director.process.ended(SOON);
}

fn own_clients(family: Family) {
    let transfers = Transfers::new();
    let lab = lab(family);
    let web = Nginx::of_both_families(&lab.servers[0], 80, Some(transfers.path()));
    let _own = self::web(&lab.director, 8080);
    let file = scratch("toml");
    let local = of(family, Ipv4Addr::new(10, 1, 0, 2));
    let text =
        format!("[director]\nlocal_clients = true\n\n[fullnat]\nlocal_addresses = [\"{local}\"]\n");
    fs::write(&file, text).unwrap();
    let options = ["--config", &file.display().to_string()];
    let before = routing(&lab.director);
    let director = Director::start_with(&lab.director, &options);
    let at = |address, port| SocketAddr::new(of(family, address), port);
    let (vip, server) = (at(Routed::VIP, 80), at(Routed::server(0), 80));
    director.admin(&format!("-A -t {vip} -s rr"));
    for (receiver, method, name) in [
        (server, "-m", "server 1\n"),
        (server, "-b", "server 1\n"),
        (at(Ipv4Addr::new(10, 0, 0, 1), 8080), "-m", "director\n"),
    ] {
        director.admin(&format!("-a -t {vip} -r {receiver} {method}"));
        for host in [&lab.director, &lab.client] {
            let what = format!("{receiver} {method} from {}", host.name());
            assert_eq!(get(host, vip), name, "{what}");
        }
        if receiver == server {
            compare_transfers(&lab.director, &vip.to_string(), &web, &transfers);
        }
        director.admin(&format!("-d -t {vip} -r {receiver}"));
    }
    // Nobody is there, and it is told so at once.
    let url = format!("http://{vip}/");
    let refused = lab.director.output("curl", &["-sS", "-m", "20", &url]);
    assert_eq!(refused.status.code(), Some(7), "{refused:?}");
    // What is no service's is the host's own, and so are its checks of the server.
    assert_eq!(get(&lab.director, at(Routed::VIP, 8080)), "director\n");
    assert_eq!(get(&lab.director, server), "server 1\n");

    let (vip, server) = (at(Routed::VIP, 53), at(Routed::server(0), 53));
    director.admin(&format!("-A -u {vip} -s rr"));
    director.admin(&format!("-a -u {vip} -r {server} -m"));
    let server = bound(&lab.servers[0], server.ip(), 53);
    let answering = thread::spawn(move || {
        let mut question = [0; 4000];
        let (length, from) = server.recv_from(&mut question).unwrap();
        server.send_to(&question[..length], from).unwrap();
    });
    let any = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = bound(&lab.director, any, 0);
    client.connect(vip).unwrap();
    let question: Vec<u8> = (0..4000_u32).map(|n| (n / 3) as u8).collect();
    client.send(&question).unwrap();
    let mut answer = vec![0; 5000];
    let length = client.recv(&mut answer).unwrap();
    assert!(answer[..length] == question);
    answering.join().unwrap();

    assert_eq!(director.drops(), [("no_server".to_owned(), 1)]);
    end(director);
    assert_eq!(routing(&lab.director), before);
    fs::remove_file(&file).unwrap();
}
