//! Against the kernel, each in a network namespace of its own; `ip` of iproute2 is the witness.

use std::net::IpAddr;
use std::process::Command;

use super::*;
use crate::addr::Family;
use crate::host::tests::in_namespace;

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix::new(address.parse::<IpAddr>().unwrap(), length.parse().unwrap())
}

fn new_address(link: u32, text: &str) -> NewAddress<'_> {
    NewAddress {
        link,
        prefix: prefix(text),
        label: None,
        scope: Scope::Universe,
        protocol: OUR_PROTOCOL,
    }
}

#[test]
fn links_are_told_with_what_they_are() {
    in_namespace(|| {
        ip("link add v0 address 02:00:00:00:00:01 mtu 1400 type veth peer name v1");
        ip("link add br0 type bridge");
        ip("link set v1 master br0");
        ip("tuntap add t0 mode tun");
        let mut host = Netlink::open().unwrap();
        let links = host.links().unwrap();
        let named = |name: &str| links.iter().find(|link| link.name == name).unwrap();

        let lo = named("lo");
        assert!(lo.loopback && !lo.up);
        assert_eq!(lo.hardware, 772);
        let v0 = named("v0");
        assert_eq!(v0.mac, Some([2, 0, 0, 0, 0, 1]));
        assert_eq!((v0.mtu, v0.hardware), (1400, 1));
        assert_eq!(v0.kind.as_deref(), Some("veth"));
        assert_eq!(v0.master, None);
        assert_eq!(named("v1").master, Some(named("br0").index));
        assert!(
            named("v1").promiscuity > 0,
            "a bridge's ports are promiscuous"
        );
        assert_eq!(named("t0").mac, None);
        assert_eq!(named("t0").kind.as_deref(), Some("tun"));

        assert_eq!(host.link_by_name("v0").unwrap().as_ref(), Some(v0));
        assert_eq!(host.link_by_index(v0.index).unwrap().as_ref(), Some(v0));
        assert_eq!(host.link_by_name("absent").unwrap(), None);

        host.set_link_up(v0.index).unwrap();
        host.set_link_mtu(v0.index, 1300).unwrap();
        let after = host.link_by_index(v0.index).unwrap().unwrap();
        assert!(after.up);
        assert_eq!(after.mtu, 1300);
        host.set_link_down(v0.index).unwrap();
        assert!(!host.link_by_index(v0.index).unwrap().unwrap().up);
    });
}

#[test]
fn addresses_come_and_go_with_label_and_mark() {
    in_namespace(|| {
        let mut host = Netlink::open().unwrap();
        let lo = host.link_by_name("lo").unwrap().unwrap();
        host.set_link_up(lo.index).unwrap();
        let vip = NewAddress {
            label: Some("lo:0"),
            ..new_address(lo.index, "10.0.0.100/32")
        };
        host.add_address(&vip).unwrap();
        host.add_address(&new_address(lo.index, "fd00::100/128"))
            .unwrap();
        let shown = ip("-4 addr show dev lo");
        assert!(
            shown.contains("inet 10.0.0.100/32 scope global lo:0"),
            "{shown}"
        );
        let shown = ip("-6 addr show dev lo");
        assert!(
            shown.contains("inet6 fd00::100/128 scope global nodad deprecated"),
            "{shown}"
        );

        let addresses = host.addresses().unwrap();
        let found = addresses
            .iter()
            .find(|address| address.prefix == vip.prefix)
            .unwrap();
        assert_eq!(found.label.as_deref(), Some("lo:0"));
        assert_eq!(found.protocol, OUR_PROTOCOL);
        assert_eq!(found.scope, Scope::Universe);
        let own = addresses
            .iter()
            .find(|address| address.prefix == prefix("127.0.0.1/8"))
            .unwrap();
        assert_eq!(own.scope, Scope::Host);
        assert_ne!(own.protocol, OUR_PROTOCOL);

        let twice = host.add_address(&vip).unwrap_err();
        assert!(twice.is_exists());
        assert!(
            twice.to_string().starts_with("add 10.0.0.100/32 to lo: "),
            "{twice}"
        );
        host.delete_address(lo.index, vip.prefix).unwrap();
        let gone = host.delete_address(lo.index, vip.prefix).unwrap_err();
        assert!(gone.is_missing());
        assert!(
            gone.to_string()
                .starts_with("remove 10.0.0.100/32 from lo: "),
            "{gone}"
        );
        let nowhere = host
            .add_address(&new_address(4711, "10.0.0.1/32"))
            .unwrap_err();
        assert!(nowhere.to_string().contains("interface 4711"), "{nowhere}");
    });
}

#[test]
fn routes_of_every_shape_are_told() {
    in_namespace(|| {
        ip("link add v0 type veth peer name v1");
        ip("link set v0 up");
        ip("link set v1 up");
        ip("addr add 10.1.0.1/24 dev v0");
        ip("addr add fd01::1/64 dev v0 nodad");
        ip("route add blackhole 10.9.0.0/16 metric 7");
        ip("route add 10.8.0.0/16 table 1000 proto 99 nexthop via 10.1.0.7 nexthop via 10.1.0.8");
        ip("route add 10.7.0.0/16 via inet6 fd01::9 dev v0");
        ip("-6 route add default via fd01::9 dev v0");
        let mut host = Netlink::open().unwrap();
        let v0 = host.link_by_name("v0").unwrap().unwrap().index;
        let routes = host.routes(Family::V4).unwrap();
        let to = |text: &str| {
            let found = routes
                .iter()
                .find(|route| route.destination == prefix(text));
            found.unwrap_or_else(|| panic!("no route to {text} in {routes:?}"))
        };
        assert_eq!(to("10.1.0.0/24").link, Some(v0));
        assert_eq!(to("10.1.0.0/24").gateway, None);
        assert_eq!(to("10.1.0.0/24").source, Some("10.1.0.1".parse().unwrap()));
        assert_eq!(to("10.1.0.1/32").kind, RouteKind::Local);
        assert_eq!(to("10.1.0.1/32").table, TABLE_LOCAL);
        assert_eq!(to("10.9.0.0/16").kind, RouteKind::Blackhole);
        assert_eq!(to("10.9.0.0/16").metric, 7);
        let several = to("10.8.0.0/16");
        assert_eq!((several.table, several.protocol), (1000, 99));
        assert_eq!((several.others.len(), several.link), (1, Some(v0)));
        assert_eq!(several.gateway, Some("10.1.0.7".parse().unwrap()));
        assert_eq!(to("10.7.0.0/16").gateway, Some("fd01::9".parse().unwrap()));

        let six = host.routes(Family::V6).unwrap();
        let default = six
            .iter()
            .find(|route| route.destination == Prefix::any(Family::V6) && route.table == TABLE_MAIN)
            .unwrap();
        assert_eq!(default.gateway, Some("fd01::9".parse().unwrap()));
    });
}

#[test]
fn routes_and_rules_come_and_go_with_mark() {
    in_namespace(|| {
        ip("link add v0 type veth peer name v1");
        ip("link set v0 up");
        ip("link set v1 up");
        ip("addr add 10.1.0.1/24 dev v0");
        let mut host = Netlink::open().unwrap();
        let v0 = host.link_by_name("v0").unwrap().unwrap().index;
        let route = Route {
            link: Some(v0),
            gateway: Some("10.1.0.9".parse().unwrap()),
            table: 5000,
            metric: 20,
            ..Route::to(Prefix::any(Family::V4))
        };
        host.add_route(&route).unwrap();
        let shown = ip("route show table 5000");
        assert_eq!(
            shown.trim(),
            "default via 10.1.0.9 dev v0 proto 76 metric 20"
        );
        let again = host.add_route(&route).unwrap_err();
        assert!(again.is_exists());
        let text = again.to_string();
        assert!(
            text.starts_with("add route to 0.0.0.0/0 via 10.1.0.9 in table 5000: "),
            "{text}"
        );
        host.replace_route(&Route {
            gateway: Some("10.1.0.10".parse().unwrap()),
            ..route.clone()
        })
        .unwrap();
        let routes = host.routes(Family::V4).unwrap();
        let mine: Vec<_> = routes
            .iter()
            .filter(|route| route.protocol == OUR_PROTOCOL)
            .collect();
        assert_eq!(mine.len(), 1);
        host.delete_route(mine[0]).unwrap();
        assert!(host.delete_route(mine[0]).unwrap_err().is_missing());

        let local = Route {
            kind: RouteKind::Local,
            table: 5000,
            link: Some(host.link_by_name("lo").unwrap().unwrap().index),
            ..Route::to(prefix("10.5.0.0/24"))
        };
        host.add_route(&local).unwrap();

        let rule = Rule {
            mark: Some(8),
            source: Some(prefix("10.1.0.11/32")),
            input: Some("v0".to_owned()),
            ip_protocol: Some(6),
            source_ports: Some(RulePorts {
                first: 80,
                last: 90,
            }),
            ..Rule::lookup(Family::V4, 50, 5000)
        };
        host.add_rule(&rule).unwrap();
        let shown = ip("rule show");
        assert!(
            shown.contains(
                "50:\tfrom 10.1.0.11 fwmark 0x8 iif v0 ipproto tcp sport 80-90 lookup 5000 proto 76"
            ),
            "{shown}"
        );
        let rules = host.rules(Family::V4).unwrap();
        assert!(rules.contains(&rule), "{rules:?}");
        host.delete_rule(&rule).unwrap();
        assert_eq!(host.rules(Family::V4).unwrap().len(), 3);
    });
}

#[test]
fn the_kernels_own_words_are_in_the_error() {
    in_namespace(|| {
        let mut host = Netlink::open().unwrap();
        let route = Route {
            gateway: Some("10.1.0.9".parse().unwrap()),
            ..Route::to(Prefix::any(Family::V4))
        };
        let text = host.add_route(&route).unwrap_err().to_string();
        assert!(text.contains("(kernel: "), "{text}");
    });
}

#[test]
fn a_neighbour_in_use_is_asked_for() {
    in_namespace(|| {
        ip("link add v0 type veth peer name v1");
        ip("link set v0 up");
        ip("link set v1 up");
        ip("addr add 10.1.0.1/24 dev v0");
        ip("neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
        let mut host = Netlink::open().unwrap();
        let v0 = host.link_by_name("v0").unwrap().unwrap().index;
        let used = "10.1.0.7".parse().unwrap();
        host.use_neighbour(v0, used).unwrap();

        let neighbours = host.neighbours().unwrap();
        let at = |address: IpAddr| {
            let found = neighbours.iter().find(|entry| entry.address == address);
            found.unwrap_or_else(|| panic!("no {address} in {neighbours:?}"))
        };
        assert_eq!(at(used).state, NeighbourState::Incomplete);
        assert!(!at(used).state.is_valid());
        let by_hand = at("10.1.0.9".parse().unwrap());
        assert_eq!(by_hand.mac, Some([2, 0, 0, 0, 0, 9]));
        assert!(by_hand.state.is_valid());
    });
}

#[test]
fn the_monitor_tells_what_changes() {
    in_namespace(|| {
        let mut monitor = Monitor::open().unwrap();
        assert_eq!(monitor.next(), None);
        ip("link add br0 type bridge");
        ip("link add v0 type veth peer name v1");
        ip("link set v0 up");
        ip("link set v1 up master br0");
        ip("addr add 10.1.0.1/24 dev v0");
        ip("route add 10.8.0.0/16 via 10.1.0.7");
        ip("route replace 10.8.0.0/16 via 10.1.0.8");
        ip("neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent");
        ip("link set v1 nomaster");
        let events: Vec<_> = monitor.by_ref().collect();
        let any = |wanted: &dyn Fn(&Event) -> bool| events.iter().any(wanted);
        assert!(any(
            &|e| matches!(e, Event::Link(l) if l.name == "v0" && l.up)
        ));
        assert!(any(
            &|e| matches!(e, Event::Link(l) if l.name == "v1" && l.master.is_some())
        ));
        assert!(any(
            &|e| matches!(e, Event::Address(a) if a.prefix == prefix("10.1.0.1/24"))
        ));
        assert!(any(
            &|e| matches!(e, Event::Route(r) if r.destination == prefix("10.8.0.0/16"))
        ));
        assert!(any(&|e| matches!(
            e,
            Event::RouteReplaced(r) if r.gateway == Some("10.1.0.8".parse().unwrap())
        )));
        assert!(any(
            &|e| matches!(e, Event::Neighbour(n) if n.mac == Some([2, 0, 0, 0, 0, 9]))
        ));
        // Leaving a bridge is told as a deletion too, of family AF_BRIDGE.
        assert!(!any(&|e| matches!(e, Event::LinkGone(_))));

        ip("addr del 10.1.0.1/24 dev v0");
        ip("link del v0");
        let events: Vec<_> = monitor.by_ref().collect();
        let any = |wanted: &dyn Fn(&Event) -> bool| events.iter().any(wanted);
        assert!(any(&|e| matches!(e, Event::AddressGone(_))));
        assert!(any(&|e| matches!(e, Event::LinkGone(l) if l.name == "v1")));
        assert_eq!(monitor.next(), None);
    });
}

#[test]
fn the_monitor_says_that_it_lost_something_and_goes_on() {
    in_namespace(|| {
        let mut monitor = Monitor::open().unwrap();
        let mut host = Netlink::open().unwrap();
        let lo = host.link_by_name("lo").unwrap().unwrap().index;
        host.set_link_up(lo).unwrap();
        // Each round is some eight messages of 1 KiB of kernel memory.
        let vip = new_address(lo, "10.0.0.100/32");
        for _ in 0..8_000 {
            host.add_address(&vip).unwrap();
            host.delete_address(lo, vip.prefix).unwrap();
        }
        let events: Vec<_> = monitor.by_ref().collect();
        let lost = events.iter().filter(|&event| *event == Event::Lost).count();
        assert_eq!(lost, 1, "among {} events", events.len());
        host.add_address(&vip).unwrap();
        assert!(monitor.any(|event| matches!(event, Event::Address(_))));
    });
}
