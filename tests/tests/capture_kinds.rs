//! The capture by clsact, for kernels without tcx: a filter that outlives its director.
#![allow(clippy::unwrap_used, reason = "a test may end here")]

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx, ours};
use laboratory::topology::{OneLan, Routed};
use laboratory::wait::{SOON, wait_for};
use laboratory::web::{Web, get};
use shared::host::netlink::{Hook, IngressFilter};
use shared::sys::bpf::{Assembler, Cond, Program, Reg, Size};

const VIP: (std::net::Ipv4Addr, u16) = (Routed::VIP, 80);

fn start(lab: &Routed, kind: &str) -> Director {
    let director = Director::start_with(&lab.director, &["--capture", kind]);
    director.admin("-A -t 10.0.0.100:80 -s rr");
    director.admin("-a -t 10.0.0.100:80 -r 10.1.0.11:8080 -m");
    director
}

fn filters(host: &Host, device: &str) -> Vec<IngressFilter> {
    let link = host.ifindex(device);
    host.netlink(|netlink| netlink.ingress_filters(link))
}

/// Whether an interface had no queueing discipline for filters. Now it has one.
fn had_no_clsact(host: &Host, device: &str) -> bool {
    let link = host.ifindex(device);
    host.netlink(|netlink| netlink.add_clsact(link))
}

#[test]
fn clsact_balances_and_leaves_nothing_behind() {
    let lab = Routed::new(1);
    let _web = Web::start(&lab.servers[0], 8080);
    let mut director = start(&lab, "clsact");
    for device in ["cl", "rs"] {
        let filters = filters(&lab.director, device);
        assert_eq!(filters.len(), 1, "{filters:?}");
        assert_eq!(filters[0].name.as_deref(), Some("lvs_capture"));
    }
    for _ in 0..20 {
        assert_eq!(get(&lab.client, VIP).unwrap(), "server 1");
    }
    let status = director.admin("status");
    assert!(status.contains("dropped packets\n  none"), "{status}");
    director.process.signal("TERM");
    assert!(director.process.ended(SOON).success());
    for device in ["cl", "rs"] {
        assert!(had_no_clsact(&lab.director, device), "{device}");
    }
}

#[test]
fn an_administrators_filter_sees_what_is_taken_and_stays() {
    let lab = Routed::new(1);
    let _web = Web::start(&lab.servers[0], 8080);
    let link = lab.director.ifindex("cl");
    let drop_ipv4 = {
        let mut asm = Assembler::new();
        let pass = asm.label("pass");
        asm.load(Size::Word, Reg::R1, Reg::R1, 16); // skb->protocol
        asm.mov(Reg::R0, -1);
        asm.jump_if(Reg::R1, Cond::Ne, i32::from(ETHERNET_IPV4.to_be()), pass);
        asm.mov(Reg::R0, 2); // TC_ACT_SHOT
        asm.bind(pass);
        asm.exit();
        Program::load("drop_ipv4", &asm.finish().unwrap(), &[]).unwrap()
    };
    assert!(had_no_clsact(&lab.director, "cl"));
    let mut director = start(&lab, "clsact");
    assert_eq!(get(&lab.client, VIP).unwrap(), "server 1");
    // Behind ours: what ours has taken is shown to it too, and what it drops is dropped.
    lab.director.netlink(|netlink| {
        netlink.add_ingress_program(link, (50_000, 1), "drop_ipv4", drop_ipv4.as_fd())
    });
    let refused = lab.client.run(|| {
        TcpStream::connect_timeout(&VIP.into(), Duration::from_millis(500))
            .unwrap_err()
            .kind()
    });
    assert_eq!(refused, ErrorKind::TimedOut);
    director.process.signal("TERM");
    assert!(director.process.ended(SOON).success());
    let left = filters(&lab.director, "cl");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].name.as_deref(), Some("drop_ipv4"));
}

#[test]
fn a_killed_directors_filter_soon_takes_nothing_and_the_next_start_removes_it() {
    let lab = Routed::new(1);
    let _web = Web::start(&lab.servers[0], 8080);
    let mut director = start(&lab, "clsact");
    assert_eq!(get(&lab.client, VIP).unwrap(), "server 1");
    director.process.signal("KILL");
    director.process.ended(SOON);
    assert_eq!(
        filters(&lab.director, "cl").len(),
        1,
        "it outlives the process"
    );
    // The VIP is the host's own address, and nobody listens there: the host says so as soon as it gets
    // the packets again.
    let patience = Duration::from_millis(200);
    let answers = || {
        let refused = TcpStream::connect_timeout(&VIP.into(), patience);
        refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    assert!(wait_for(SOON, || lab.client.run(answers)));
    for kind in ["clsact", "tcx"] {
        let mut director = start(&lab, kind);
        assert_eq!(get(&lab.client, VIP).unwrap(), "server 1");
        let expected = usize::from(kind == "clsact");
        assert_eq!(filters(&lab.director, "cl").len(), expected, "{kind}");
        director.process.signal("KILL");
        director.process.ended(SOON);
    }
    assert!(
        had_no_clsact(&lab.director, "cl"),
        "it was ours, and it is gone"
    );
}

/// A program at the egress writes tunnels' headers in front of large frames; it ends with the director, or with
/// the start of the next one.
#[test]
fn large_frames_for_tunnels_are_left_to_the_kernel() {
    let lab = OneLan::new(1);
    let rsagent = ours("rsagent").display().to_string();
    lab.servers[0].succeed(&rsagent, &["start", "--mode", "tun", "--vip", "10.2.0.100"]);
    let web = Nginx::start(&lab.servers[0], "server", 80, None);
    let file = scratch("megabytes");
    fs::write(&file, vec![7; 4_000_000]).unwrap();
    let link = lab.director.ifindex("eth0");
    let at_egress = || {
        let filters = lab
            .director
            .netlink(|netlink| netlink.filters(link, Hook::Egress));
        filters
            .iter()
            .filter_map(|filter| filter.name.clone())
            .collect::<Vec<_>>()
    };
    for (kind, end, left) in [
        ("clsact", "KILL", 1),
        ("tcx", "KILL", 0),
        ("clsact", "TERM", 0),
    ] {
        let mut director = Director::start_with(&lab.director, &["--capture", kind]);
        assert!(at_egress().is_empty(), "nobody needs it yet");
        director.admin("-A -t 10.2.0.100:80 -s rr");
        director.admin("-a -t 10.2.0.100:80 -r 10.2.0.11 -i");
        let upload = file.display().to_string();
        let url = "http://10.2.0.100/put/megabytes";
        lab.client
            .succeed("curl", &["-sS", "-m", "20", "-T", &upload, url]);
        assert!(fs::read(web.put_file("megabytes")).unwrap() == fs::read(&file).unwrap());
        fs::remove_file(web.put_file("megabytes")).unwrap();
        assert!(
            director.process.printed().contains("cut by the kernel"),
            "{kind}"
        );
        let expected: &[&str] = if kind == "clsact" {
            &["lvs_egress"]
        } else {
            &[]
        };
        assert_eq!(at_egress(), expected);
        director.process.signal(end);
        director.process.ended(SOON);
        assert_eq!(at_egress().len(), left, "{kind} {end}");
    }
    assert!(had_no_clsact(&lab.director, "eth0"));
    fs::remove_file(&file).unwrap();
    lab.servers[0].succeed(&rsagent, &["stop"]);
}

/// `ETH_P_IP`
const ETHERNET_IPV4: u16 = 0x0800;
