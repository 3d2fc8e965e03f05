//! rsagent on hosts of its own: what it sets, what it leaves alone, what it undoes, what it reports.
#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod check;
mod lab;
mod reports;
mod run;
mod watched;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use laboratory::host::Host;
use laboratory::wait::{SOON, wait_for};
use shared::host::netlink::{NeighbourState, Netlink};

use lab::{Lab, ours_on_lo, pair};

#[test]
fn start_and_stop_may_be_repeated_and_leave_nothing_behind() {
    let lab = Lab::new();
    lab.set_arp("eth0", "0", "1");
    for _ in 0..2 {
        let printed = lab.succeed("start --vip 10.1.0.100");
        assert!(
            printed.contains("interface eth0: a VIP's network"),
            "{printed}"
        );
        assert_eq!(lab.on_lo(), [ours_on_lo("10.1.0.100/32", "lo:0")]);
        assert_eq!(lab.arp("all"), pair("1", "2"));
        assert_eq!(lab.arp("eth0"), pair("1", "2"));
        assert!(lab.state_file().exists());
    }
    for _ in 0..2 {
        lab.succeed("stop --vip 10.1.0.100");
        assert_eq!(lab.on_lo(), []);
        assert_eq!(lab.arp("all"), pair("0", "0"));
        assert_eq!(lab.arp("eth0"), pair("0", "1"));
        assert!(!lab.state_file().exists());
    }
}

#[test]
fn vips_come_and_go_one_by_one() {
    let lab = Lab::new();
    lab.succeed("start --vip 10.1.0.100 10.1.0.101 --vip fd00::100");
    let third = ours_on_lo("fd00::100/128", "");
    assert_eq!(
        lab.on_lo(),
        [
            ours_on_lo("10.1.0.100/32", "lo:0"),
            ours_on_lo("10.1.0.101/32", "lo:1"),
            third.clone(),
        ]
    );
    lab.succeed("stop --vip 10.1.0.100");
    assert_eq!(
        lab.on_lo(),
        [ours_on_lo("10.1.0.101/32", "lo:1"), third.clone()]
    );
    assert_eq!(lab.arp("all"), pair("1", "2"));
    lab.succeed("start --vip 10.1.0.102");
    assert_eq!(lab.on_lo()[1], ours_on_lo("10.1.0.102/32", "lo:0"));
    lab.succeed("stop --vip 10.1.0.101 10.1.0.102");
    assert_eq!(lab.on_lo(), [third]);
    assert_eq!(lab.arp("all"), pair("1", "2"));
    lab.succeed("stop --vip fd00::100");
    assert_eq!(lab.arp("all"), pair("0", "0"));
}

#[test]
fn what_the_administrator_did_is_left_alone() {
    let lab = Lab::new();
    let by_hand = ["address", "add", "10.1.0.100/32", "dev", "lo"];
    lab.server.succeed("ip", &by_hand);
    lab.set_arp("all", "2", "2");
    let printed = lab.succeed("start --vip 10.1.0.100 10.1.0.101");
    assert!(printed.contains("not by rsagent"), "{printed}");
    assert_eq!(lab.arp("all"), pair("2", "2"), "2 does as well");
    // Changed underway: that is not set back either.
    lab.set_arp("eth0", "8", "2");
    lab.succeed("stop --vip 10.1.0.100 10.1.0.101");
    let left = [("10.1.0.100/32".to_owned(), "lo".to_owned(), 0)];
    assert_eq!(lab.on_lo(), left);
    assert_eq!(lab.arp("all"), pair("2", "2"));
    assert_eq!(lab.arp("eth0"), pair("8", "0"));
}

#[test]
fn status_says_what_is_and_what_should_be() {
    let lab = Lab::new();
    let (code, printed) = lab.rsagent("status --vip 10.1.0.100");
    assert_eq!(code, 3);
    for line in [
        "wrong  net/ipv4/conf/all/arp_ignore: 0, should be 1",
        "wrong  arp_announce in force on eth0 (a VIP's network): 0, should be 2",
        "ok     lo: up",
        "wrong  10.1.0.100/32 on lo: absent, should be there",
    ] {
        assert!(
            printed.lines().any(|known| known == line),
            "{line}:\n{printed}"
        );
    }
    lab.succeed("start --vip 10.1.0.100");
    let printed = lab.succeed("status --vip 10.1.0.100");
    assert!(!printed.contains("wrong"), "{printed}");
    // What is set for all is in force everywhere, but the greater value wins.
    lab.set_arp("eth0", "0", "0");
    lab.succeed("status --vip 10.1.0.100");
    lab.set_arp("eth0", "3", "0");
    let (code, printed) = lab.rsagent("status --vip 10.1.0.100");
    assert_eq!(code, 3, "{printed}");
    lab.succeed("stop --vip 10.1.0.100");
    assert_eq!(lab.rsagent("status --vip 10.1.0.100").0, 3);
}

#[test]
fn without_vips_stop_and_status_mean_all_of_ours() {
    let lab = Lab::new();
    assert_eq!(lab.rsagent("status").0, 3);
    lab.succeed("stop");
    lab.succeed("start --vip 10.1.0.100 10.1.0.101");
    let printed = lab.succeed("status");
    assert!(printed.contains("10.1.0.101/32 on lo: there"), "{printed}");
    let by_hand = ["address", "add", "10.1.0.102/32", "dev", "lo"];
    lab.server.succeed("ip", &by_hand);
    lab.succeed("stop");
    let left = [("10.1.0.102/32".to_owned(), "lo".to_owned(), 0)];
    assert_eq!(lab.on_lo(), left);
    assert_eq!(lab.arp("all"), pair("0", "0"));
    assert_eq!(lab.rsagent("status").0, 3);
}

#[test]
fn the_neighbour_gets_no_answer_for_the_vip_and_never_hears_of_it() {
    let lab = Lab::new();
    let (vip, control) = (Ipv4Addr::new(10, 1, 0, 100), Ipv4Addr::new(10, 1, 0, 99));
    lab.server.address("lo", "10.1.0.99/32");
    assert!(lab.ask(control).is_valid(), "without rsagent hosts answer");
    lab.succeed("start --vip 10.1.0.100");
    assert_eq!(lab.ask(vip), NeighbourState::Failed);

    // The server sends from the VIP, for which it asks for the neighbour first.
    let entries = |host: &Host| host.netlink(Netlink::neighbours);
    let flush = ["neighbour", "flush", "dev", "eth0"];
    lab.neighbour.succeed("ip", &flush);
    lab.server.succeed("ip", &flush);
    lab.server.run(|| {
        let socket = UdpSocket::bind((vip, 0)).unwrap();
        socket.send_to(b"reply", ("10.1.0.10", 9)).unwrap();
    });
    let own: IpAddr = Ipv4Addr::new(10, 1, 0, 11).into();
    let heard = wait_for(SOON, || {
        let known = entries(&lab.neighbour);
        known.iter().any(|entry| entry.address == own)
    });
    let known = entries(&lab.neighbour);
    assert!(heard, "{known:?}");
    let of_vip = known.iter().find(|entry| entry.address == vip);
    assert!(
        of_vip.is_none_or(|entry| !entry.state.is_valid()),
        "{known:?}"
    );
    lab.succeed("stop --vip 10.1.0.100");
}

#[test]
fn a_vip_that_was_left_behind_is_known_by_its_mark() {
    let lab = Lab::new();
    lab.succeed("start --vip 10.1.0.100");
    fs::remove_file(lab.state_file()).unwrap();
    let printed = lab.succeed("start --vip 10.1.0.100");
    assert!(
        printed.contains("10.1.0.100/32 is on lo already\n"),
        "{printed}"
    );
    for stop in ["stop --vip 10.1.0.100", "stop"] {
        lab.succeed("start --vip 10.1.0.100");
        fs::remove_file(lab.state_file()).unwrap();
        lab.succeed(stop);
        assert_eq!(lab.on_lo(), []);
    }
}

#[test]
fn the_state_of_a_namespace_that_is_gone_counts_for_nothing() {
    let (gone, lab) = (Lab::new(), Lab::new());
    gone.succeed("start --vip 10.1.0.100");
    lab.set_arp("all", "1", "2");
    lab.set_arp("eth0", "1", "2");
    // As if the kernel had given the same number again.
    fs::copy(gone.state_file(), lab.state_file()).unwrap();
    lab.succeed("start --vip 10.1.0.100");
    lab.succeed("stop --vip 10.1.0.100");
    assert_eq!(lab.arp("all"), pair("1", "2"));
    assert_eq!(lab.arp("eth0"), pair("1", "2"));
    // Nor does it have to be of a kind that this version writes.
    fs::write(lab.state_file(), r#"{"cookie": 7, "vips": []}"#).unwrap();
    lab.succeed("start --vip 10.1.0.100");
    lab.succeed("stop");
    fs::write(lab.state_file(), "{").unwrap();
    let (code, printed) = lab.rsagent("start --vip 10.1.0.101");
    assert_eq!(code, 1);
    assert!(printed.contains("cannot be read"), "{printed}");
}

#[test]
fn what_cannot_work_is_refused_with_the_cure() {
    let lab = Lab::new();
    lab.server.address("eth0", "10.1.0.100/32");
    let refused = |line: &str, why: &str| {
        let (code, printed) = lab.rsagent(line);
        assert_eq!(code, 1, "{line}: {printed}");
        assert!(printed.contains(why), "{line}: {printed}");
    };
    refused(
        "start --vip 10.1.0.100",
        "ip address del 10.1.0.100/32 dev eth0",
    );
    assert_eq!(lab.arp("all"), pair("0", "0"), "nothing was begun");
    refused("start", "add --vip ADDRESS");
    refused(
        "start --vip 10.1.0.101 --mode tun --interface lo",
        "Ethernet interfaces only",
    );
    refused("start --vip 10.1.0.101 --interface eth7", "lo, eth0");
    refused("start --vip 10.1.0.101 --mode nat", "ip route add default");
    assert_eq!(lab.rsagent("status --vip 10.1.0.101 --mode nat").0, 3);
    lab.server.gateway(Ipv4Addr::new(10, 1, 0, 10));
    let printed = lab.succeed("start --vip 10.1.0.101 --mode nat");
    assert!(
        printed.contains("default gateway 10.1.0.10 on eth0"),
        "{printed}"
    );
    lab.succeed("status --vip 10.1.0.101 --mode nat");
    assert_eq!(lab.on_lo(), []);
}

/// The script that real servers have been prepared with since LVS began.
#[test]
fn it_does_what_the_script_did() {
    let [script, ours] = [Lab::new(), Lab::new()];
    let by_script = "
        ip address add 10.1.0.100/32 dev lo label lo:0
        for interface in lo all; do
            echo 1 >/proc/sys/net/ipv4/conf/$interface/arp_ignore
            echo 2 >/proc/sys/net/ipv4/conf/$interface/arp_announce
        done";
    script.server.succeed("sh", &["-e", "-c", by_script]);
    ours.succeed("start --vip 10.1.0.100");
    let seen = |lab: &Lab| {
        let ip = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // The mark that the address is ours is all that is new.
            lab.server.succeed("ip", &words).replace(" proto 0x4c", "")
        };
        let in_force = |name: &str| {
            let of = |interface: &str| {
                let path = format!("net/ipv4/conf/{interface}/{name}");
                lab.server.read_sysctl(&path)
            };
            of("all").max(of("eth0"))
        };
        [
            ip("-4 address show dev lo"),
            ip("-4 route show table all"),
            ip("route get 10.1.0.100"),
            in_force("arp_ignore"),
            in_force("arp_announce"),
        ]
    };
    assert_eq!(seen(&ours), seen(&script));
    ours.succeed("stop");
}
