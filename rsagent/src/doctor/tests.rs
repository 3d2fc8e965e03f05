use super::*;
use crate::config::{Check, Kind};
use crate::plan::tests::{facts, ip};

/// The lines about a host with these settings besides 0.
fn lines(config: &Config, facts: &Facts, settings: &[(&str, &str)], ports: &[u16]) -> String {
    let setting = |sysctl: &Sysctl| {
        let known = settings
            .iter()
            .find(|(path, _)| sysctl.path() == format!("net/ipv4/conf/{path}"));
        Some(known.map_or("0", |(_, value)| value).to_owned())
    };
    let listener = |address: &str| Listener {
        address: address.parse().unwrap(),
        queue: 0,
    };
    let listeners = ["0.0.0.0:80", "127.0.0.1:81", "[::]:82"].map(listener);
    let host = Host {
        facts,
        setting: &setting,
        listeners: &listeners,
        fills_in_checksums: &|name| name == "eth0",
    };
    let mut findings = Findings::default();
    let vips = config.vips.iter().copied().collect();
    examine(config, &vips, ports, &host, &mut findings);
    findings.diagnosis()
}

fn for_vip(vip: &str) -> Config {
    Config {
        vips: vec![ip(vip)],
        ..Config::default()
    }
}

#[test]
fn filtering_is_wrong_where_clients_are_not_behind() {
    let facts = facts();
    let config = for_vip("10.2.0.100");
    let strict = lines(&config, &facts, &[("all/rp_filter", "1")], &[]);
    assert!(
        strict.contains("ok     rp_filter in force on eth0: 1\n"),
        "{strict}"
    );
    let wrong = "WRONG  rp_filter in force on eth1: 1, should be 2, since the way back to clients is \
                 another interface: sysctl -w net/ipv4/conf/eth1/rp_filter=2\n";
    assert!(strict.contains(wrong), "{strict}");
    let mended = [("all/rp_filter", "1"), ("eth1/rp_filter", "2")];
    let mended = lines(&config, &facts, &mended, &[]);
    assert!(
        mended.contains("ok     rp_filter in force on eth1: 2\n"),
        "{mended}"
    );
}

#[test]
fn checksums_that_are_not_filled_in_are_worth_a_word() {
    let (mut facts, config) = (facts(), for_vip("10.1.0.100"));
    let note = "note   transmit checksums of eth0: not filled in, since its other end (veth) is on this machine; \
                where replies get lost behind that: ethtool -K eth0 tx off\n";
    let card = lines(&config, &facts, &[], &[]);
    assert!(!card.contains("transmit checksums"), "{card}");
    for link in &mut facts.links {
        link.kind = Some("veth".to_owned());
    }
    let virtual_one = lines(&config, &facts, &[], &[]);
    assert!(virtual_one.contains(note), "{virtual_one}");
    assert!(!virtual_one.contains("checksums of eth1"), "{virtual_one}");
}

#[test]
fn local_sources_are_worth_a_word() {
    let (facts, config) = (facts(), for_vip("10.1.0.100"));
    let off = lines(&config, &facts, &[], &[]);
    let note = "note   accept_local in force on eth0: 0; clients on the director's own host are served \
                only with: sysctl -w net/ipv4/conf/eth0/accept_local=1\n";
    assert!(off.contains(note), "{off}");
    let on = lines(&config, &facts, &[("eth0/accept_local", "1")], &[]);
    assert!(
        on.contains("ok     accept_local in force on eth0: 1\n"),
        "{on}"
    );
}

#[test]
fn an_mtu_is_usual_worth_a_word_or_too_small() {
    let mut facts = facts();
    let of = |mtu, vip: &str, facts: &mut Facts| {
        facts.links[1].mtu = mtu;
        lines(&for_vip(vip), facts, &[], &[])
    };
    assert!(of(1500, "10.1.0.100", &mut facts).contains("ok     MTU of eth0: 1500\n"));
    assert!(of(1400, "10.1.0.100", &mut facts).contains("note   MTU of eth0: 1400; larger frames"));
    let small = of(500, "10.1.0.100", &mut facts);
    let wrong = "WRONG  MTU of eth0: 500, should be 576 or more: ip link set dev eth0 mtu 1500\n";
    assert!(small.contains(wrong), "{small}");
    let small = of(1200, "fd00::1", &mut facts);
    assert!(small.contains("should be 1280 or more"), "{small}");
}

#[test]
fn services_listen_where_they_are_asked_for() {
    let (facts, mut config) = (facts(), for_vip("10.1.0.100"));
    config.checks = vec![Check {
        name: "own".to_owned(),
        kind: Kind::Tcp("127.0.0.1:81".parse().unwrap()),
        interval: std::time::Duration::from_secs(1),
        timeout: std::time::Duration::from_secs(1),
    }];
    let found = lines(&config, &facts, &[], &[80, 81, 82]);
    for line in [
        "ok     127.0.0.1:81: listens at 127.0.0.1:81\n",
        "ok     10.1.0.100:80: listens at 0.0.0.0:80\n",
        "WRONG  10.1.0.100:81: nothing listens there",
        "ok     10.1.0.100:82: listens at [::]:82\n",
    ] {
        assert!(found.contains(line), "{line}:\n{found}");
    }
    let of_version_6 = lines(&for_vip("fd00::1"), &facts, &[], &[80, 82]);
    assert!(
        of_version_6.contains("WRONG  [fd00::1]:80"),
        "{of_version_6}"
    );
    assert!(
        of_version_6.contains("ok     [fd00::1]:82"),
        "{of_version_6}"
    );
}

#[test]
fn a_gateway_that_gets_no_reports_is_worth_a_word() {
    let facts = facts();
    let mut config = for_vip("10.1.0.100");
    config.mode = Mode::Nat;
    let endpoint = |text| crate::config::endpoint(text).unwrap();
    assert_eq!(lines(&config, &facts, &[], &[]), "");
    config.directors = vec![endpoint("10.1.0.1")];
    assert_eq!(lines(&config, &facts, &[], &[]), "");
    config.directors = vec![endpoint("fd00::1"), endpoint("10.1.0.9")];
    let found = lines(&config, &facts, &[], &[]);
    assert!(
        found.starts_with("note   default gateway 10.1.0.1 is none of"),
        "{found}"
    );
    assert!(
        found.ends_with("ip route replace default via 10.1.0.9\n"),
        "{found}"
    );
}
