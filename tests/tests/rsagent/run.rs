//! `rsagent run`: what somebody breaks is mended, and nothing stays behind.

use std::fs;
use std::process::Command;

use laboratory::programs::ours;
use laboratory::wait::{SOON, wait_for};
use shared::agent::{Report, State};

use crate::lab::{ours_on_lo, pair};
use crate::watched::{OFTEN, SELDOM, SELDOM_ONE, Watched, vips_are_there};

#[test]
fn what_is_removed_by_hand_comes_back_and_is_told() {
    // With a report a minute nothing here is seen by looking from time to time.
    let watched = Watched::new(&format!("{SELDOM}vips = [\"10.1.0.100\", \"fd00::100\"]\n"));
    let _agent = watched.run();
    watched.report(vips_are_there);
    let both = [
        ours_on_lo("10.1.0.100/32", "lo:0"),
        ours_on_lo("fd00::100/128", ""),
    ];
    for vip in ["10.1.0.100/32", "fd00::100/128"] {
        watched.on_lo(&both);
        watched.ip(&format!("address del {vip} dev lo"));
        let report = watched.report(|report| !report.faults.is_empty());
        let fault = format!("{vip} on lo: absent, should be there");
        assert_eq!(report.faults, [fault]);
        assert!(vips_are_there(&report), "{report:?}");
        watched.on_lo(&both);
    }
    // With lo, the host's routes and addresses of IPv6 go.
    watched.ip("link set lo down");
    watched.report(|report| {
        report
            .faults
            .iter()
            .any(|fault| fault.starts_with("lo: down"))
    });
    watched.on_lo(&both);
}

#[test]
fn settings_that_are_changed_by_hand_are_mended_and_told() {
    let watched = Watched::new(OFTEN);
    let _agent = watched.run();
    watched.report(|report| report.arp_suppressed);
    watched.lab.set_arp("all", "0", "0");
    watched.lab.set_arp("eth0", "0", "0");
    let report = watched.report(|report| !report.faults.is_empty());
    assert_eq!(report.faults[0], "all/arp_ignore: 0, should be 1");
    assert!(report.arp_suppressed, "{report:?}");
    assert_eq!(watched.lab.arp("all"), pair("1", "2"));
    assert_eq!(watched.lab.arp("eth0"), pair("1", "2"));
    watched.report(|report| report.faults.is_empty());
}

#[test]
fn a_vip_on_the_lan_is_told_as_long_as_it_is_there() {
    let watched = Watched::new(SELDOM_ONE);
    let _agent = watched.run();
    watched.report(|report| report.arp_suppressed);
    watched.ip("address add 10.1.0.100/24 dev eth0");
    let report = watched.report(|report| !report.arp_suppressed);
    assert!(
        report.faults[0].starts_with("10.1.0.100/24 is an address of eth0"),
        "{report:?}"
    );
    watched.ip("address del 10.1.0.100/24 dev eth0");
    let report = watched.report(|report| report.arp_suppressed);
    assert_eq!(report.faults, Vec::<String>::new());
}

#[test]
fn after_kill_it_goes_on_where_it_was() {
    let watched = Watched::new(OFTEN);
    let mut agent = watched.run();
    let before = watched.report(vips_are_there);
    watched.lab.succeed("drain");
    watched.report(|report| report.state == State::Drain);
    agent.signal("KILL");
    agent.ended(SOON);
    watched.on_lo(&[ours_on_lo("10.1.0.100/32", "lo:0")]);
    watched.ip("address del 10.1.0.100/32 dev lo");
    let mut agent = watched.run();
    let after = watched.report(|report| report.boot != before.boot);
    assert!(vips_are_there(&after), "{after:?}");
    assert_eq!(after.state, State::Drain);
    watched.lab.succeed("ready");
    watched.report(|report| report.state == State::Ready);
    agent.signal("INT");
    assert!(agent.ended(SOON).success(), "{}", agent.printed());
    watched.is_as_it_was();
}

#[test]
fn vips_come_and_go_while_it_runs() {
    let watched = Watched::new(SELDOM_ONE);
    let agent = watched.run();
    let vips = |report: &Report| -> Vec<String> {
        report
            .vips
            .iter()
            .map(|vip| vip.address.to_string())
            .collect()
    };
    watched.report(|report| vips(report) == ["10.1.0.100"]);
    watched.lab.succeed("start --vip 10.1.0.101");
    watched.report(|report| vips(report) == ["10.1.0.100", "10.1.0.101"]);
    watched.lab.succeed("stop --vip 10.1.0.100");
    watched.report(|report| vips(report) == ["10.1.0.101"]);
    watched.on_lo(&[ours_on_lo("10.1.0.101/32", "lo:1")]);

    // What the file says is heard when it is read again, if it is right.
    watched.configure("vips = [\"10.1.0.102\"]\nintervall = \"60s\"\n");
    agent.signal("HUP");
    let refused = "rsagent.toml:4:1: the file has no key `intervall'; write `interval'";
    assert!(
        wait_for(SOON, || agent.printed().contains(refused)),
        "{}",
        agent.printed()
    );
    watched.configure("vips = [\"10.1.0.102\"]\ninterval = \"60s\"\n");
    agent.signal("HUP");
    watched.report(|report| vips(report) == ["10.1.0.102"]);
    watched.on_lo(&[ours_on_lo("10.1.0.102/32", "lo:0")]);
}

#[test]
fn it_is_small_and_needs_one_capability() {
    let watched = Watched::new(OFTEN);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all,+net_admin", "--inh-caps=-all"]);
    command.arg(ours("rsagent"));
    command.args(["run", "--config", &watched.config()]);
    let agent = watched.lab.server.spawn(command);
    watched.report(|report| report.sequence >= 10 && vips_are_there(report));
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    // CAP_NET_ADMIN is bit 12.
    assert_eq!(field("CapEff:"), "0000000000001000");
    let resident: u32 = field("VmRSS:").parse().unwrap();
    assert!(resident < 6 * 1024, "{resident} KiB");
}

#[test]
fn ends_of_tunnels_are_kept_too() {
    let watched = Watched::new(&format!("{OFTEN}mode = \"tun\"\n"));
    let mut agent = watched.run();
    let ours = || {
        let words = ["filter", "show", "dev", "eth0", "ingress"];
        watched
            .lab
            .server
            .succeed("tc", &words)
            .contains("lvs_decap")
    };
    watched.report(|report| report.healthy);
    assert!(ours());
    watched
        .lab
        .server
        .succeed("tc", &["qdisc", "del", "dev", "eth0", "clsact"]);
    let report = watched.report(|report| !report.faults.is_empty());
    assert!(
        report.faults[0].starts_with("tunnels end on eth0: absent"),
        "{report:?}"
    );
    assert!(ours() && report.healthy);
    agent.signal("TERM");
    assert!(agent.ended(SOON).success(), "{}", agent.printed());
    assert!(!ours());
    watched.is_as_it_was();
}

#[test]
fn with_nat_the_gateway_is_what_counts() {
    let watched = Watched::new("mode = \"nat\"\ninterval = \"60s\"\n");
    let mut agent = watched.run();
    let without = watched.report(|report| !report.healthy);
    assert!(
        without.faults[0].starts_with("no default gateway for IPv4"),
        "{without:?}"
    );
    watched.ip("route add default via 10.1.0.10");
    let with = watched.report(|report| report.healthy);
    assert_eq!((with.faults.len(), with.vips.len()), (0, 0));
    agent.signal("TERM");
    assert!(agent.ended(SOON).success(), "{}", agent.printed());
    watched.is_as_it_was();
}
