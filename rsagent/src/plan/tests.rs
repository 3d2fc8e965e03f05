use shared::host::netlink::Scope;

use super::*;

pub(crate) fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: None,
        mtu: 1500,
        up: true,
        carrier: true,
        loopback: name == "lo",
        promiscuity: 0,
        kind: None,
        master: None,
        hardware: 1,
    }
}

pub(crate) fn address(link: u32, prefix: &str, label: Option<&str>, protocol: u8) -> Address {
    Address {
        link,
        prefix: parse(prefix),
        label: label.map(str::to_owned),
        scope: Scope::Universe,
        flags: 0,
        protocol,
    }
}

fn parse(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(ip(address), length.parse().unwrap())
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `lo` is 1, `eth0` is 2 with 10.1.0.11/24 and the default route, `eth1` is 3 with 10.2.0.11/24.
pub(crate) fn facts() -> Facts {
    let on = |link: u32, destination: &str| Route {
        link: Some(link),
        ..Route::to(parse(destination))
    };
    Facts {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
        addresses: vec![
            address(1, "127.0.0.1/8", Some("lo"), 1),
            address(2, "10.1.0.11/24", Some("eth0"), 0),
            address(3, "10.2.0.11/24", Some("eth1"), 0),
        ],
        routes: vec![
            Route {
                gateway: Some(ip("10.1.0.1")),
                ..on(2, "0.0.0.0/0")
            },
            on(2, "10.1.0.0/24"),
            on(3, "10.2.0.0/24"),
        ],
    }
}

#[test]
fn vips_get_labels_that_are_free() {
    let mut facts = facts();
    facts
        .addresses
        .push(address(1, "10.1.0.99/32", Some("lo:0"), 0));
    facts
        .addresses
        .push(address(1, "10.1.0.98/32", Some("lo:2"), OUR_PROTOCOL));
    let vips = [
        "10.1.0.102",
        "10.1.0.101",
        "10.1.0.99",
        "10.1.0.98",
        "fd00::1",
        "10.1.0.101",
    ];
    let plan = direct_routing(&vips.map(ip).into(), &[], &facts).unwrap();
    let absent = |label: &str| Place::Absent(Some(label.to_owned()));
    let expected = [
        ("10.1.0.98/32", Place::Ours),
        ("10.1.0.99/32", Place::Unmarked),
        ("10.1.0.101/32", absent("lo:1")),
        ("10.1.0.102/32", absent("lo:3")),
        ("fd00::1/128", Place::Absent(None)),
    ];
    let expected = expected.map(|(prefix, place)| Vip {
        prefix: parse(prefix),
        place,
    });
    assert_eq!(plan.vips, expected);
}

#[test]
fn interfaces_are_those_of_the_default_route_and_the_vips_networks() {
    let interfaces = |vip: &str, asked: &[&str]| {
        let asked: Vec<String> = asked.iter().map(|&name| name.to_owned()).collect();
        direct_routing(&[ip(vip)].into(), &asked, &facts()).map(|plan| plan.interfaces)
    };
    let eth0 = ("eth0".to_owned(), Carries::DefaultRoute);
    let eth1 = ("eth1".to_owned(), Carries::VipNetwork);
    assert_eq!(interfaces("10.1.0.100", &[]), Ok(vec![eth0.clone()]));
    assert_eq!(interfaces("10.2.0.100", &[]), Ok(vec![eth0, eth1]));
    assert_eq!(interfaces("fd00::1", &[]), Ok(vec![]));
    let asked = ("eth1".to_owned(), Carries::Asked);
    assert_eq!(interfaces("10.1.0.100", &["eth1"]), Ok(vec![asked]));
    let absent = interfaces("10.1.0.100", &["eth1", "eth7"]).unwrap_err();
    assert_eq!(
        absent.to_string(),
        "--interface eth7: there is no such interface; there are lo, eth0, eth1"
    );
}

#[test]
fn a_host_that_would_do_harm_is_refused() {
    let refused = |address: Address, vip: &str| {
        let mut facts = facts();
        facts.addresses.push(address);
        direct_routing(&[ip(vip)].into(), &[], &facts)
            .unwrap_err()
            .to_string()
    };
    let on_lan = refused(address(2, "10.1.0.100/24", None, 0), "10.1.0.100");
    assert!(
        on_lan.ends_with("ip address del 10.1.0.100/24 dev eth0"),
        "{on_lan}"
    );
    let network = refused(address(1, "10.1.0.100/24", None, 0), "10.1.0.100");
    assert!(
        network.ends_with("ip address del 10.1.0.100/24 dev lo"),
        "{network}"
    );
    for vip in [
        "0.0.0.0",
        "127.0.0.5",
        "224.0.0.1",
        "255.255.255.255",
        "fe80::1",
        "::1",
    ] {
        let plan = direct_routing(&[ip(vip)].into(), &[], &facts());
        assert_eq!(plan, Err(PlanError::NotAVip(ip(vip))));
    }
    let no_lo = direct_routing(&[ip("10.1.0.100")].into(), &[], &Facts::default());
    assert_eq!(no_lo, Err(PlanError::NoLoopback));
}

#[test]
fn nat_needs_a_gateway_of_each_family() {
    let mut facts = facts();
    let vips = [ip("10.1.0.100")];
    let expected = vec![(ip("10.1.0.1"), "eth0".to_owned())];
    assert_eq!(gateways(&vips, &facts), Ok(expected.clone()));
    facts.routes.insert(
        0,
        Route {
            gateway: Some(ip("10.2.0.1")),
            link: Some(3),
            metric: 100,
            ..Route::to(parse("0.0.0.0/0"))
        },
    );
    assert_eq!(gateways(&vips, &facts), Ok(expected));
    let six = gateways(&[ip("10.1.0.100"), ip("fd00::1")], &facts);
    assert_eq!(six, Err(PlanError::NoGateway("IPv6")));
    assert_eq!(gateways(&[], &facts).unwrap().len(), 1);
    facts.routes.clear();
    assert_eq!(gateways(&vips, &facts), Err(PlanError::NoGateway("IPv4")));
}

#[test]
fn the_greater_value_is_in_force_and_some_do_not_do() {
    let [ignore, announce] = &ARP_SETTINGS;
    assert_eq!(ArpSetting::in_force("1", "0"), "1");
    assert_eq!(ArpSetting::in_force("1", "8"), "8");
    for (value, does) in [
        ("0", false),
        ("1", true),
        ("2", true),
        ("3", false),
        ("8", false),
    ] {
        assert_eq!(ignore.is_met_by(value), does, "arp_ignore {value}");
    }
    assert!(announce.is_met_by("2") && !announce.is_met_by("1"));
}

#[test]
fn networks_contain_their_addresses() {
    assert!(contains(parse("0.0.0.0/0"), ip("10.1.2.3")));
    assert!(contains(parse("10.1.0.0/16"), ip("10.1.2.3")));
    assert!(!contains(parse("10.1.0.0/24"), ip("10.1.2.3")));
    assert!(contains(parse("10.1.2.3/32"), ip("10.1.2.3")));
    assert!(!contains(parse("10.1.2.2/32"), ip("10.1.2.3")));
}
