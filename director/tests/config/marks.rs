//! Firewall marks, in the configuration file.

use director::config::Config;
use director::core::operation::{
    Beyond, ForwardMethod, MarkRule, Netmask, Operation, Persistence, ServerGone, ServerSpec,
    ServiceKey, ServiceSpec,
};
use shared::addr::{Family, Protocol};

use super::faults;

#[test]
fn of_ipv4() {
    faults(
        r#"[[mark]]
protocol = "tcp"
address = "192.0.2.1:80"
[[mark]]
mark = 0
address = "192.0.2.1"
ports = ["90-80", "0", "http", "1-2"]
source = "10.0.0.0/33"
[[service]]
fwmark = 7
protocol = "tcp"
server_gone = "reset"
[[service]]
fwmark = "web"
"#,
        r#"d.toml:1:1: [[mark]] has no `mark'; write mark = 8
d.toml:3:11: the ports are a list; write address = "192.0.2.1", ports = ["80"]
d.toml:5:8: `mark' is 0, out of range; write a whole number from 1 to 4294967295
d.toml:7:10: "90-80" is no port and no range of ports; write "80" or "8000-8010"
d.toml:7:19: "0" is no port and no range of ports; write "80" or "8000-8010"
d.toml:7:24: "http" is no port and no range of ports; write "80" or "8000-8010"
d.toml:8:10: prefix length `33' of 10.0.0.0 is not from 0 to 32; write "10.0.0.0/32"
d.toml:11:12: a service by mark takes whatever carries the mark; leave `protocol' out, or `fwmark'
d.toml:12:15: only TCP connections can be reset; write server_gone = "reschedule"
d.toml:14:10: `fwmark' is a string; write a whole number from 1 to 4294967295
"#,
    );
    let config = Config::parse(
        r#"[[mark]]
mark = 7
protocol = "tcp"
address = "192.0.2.1"
ports = ["80", "8000-8010"]
source = "10.0.0.0/8"
[[mark]]
mark = 8
address = "192.0.2.1"
[[service]]
fwmark = 7
persistence = 300
server_gone = "auto"
[[service.server]]
address = "10.1.0.1"
forward = "nat"
"#,
        "d.toml",
    )
    .expect("nothing is wrong");
    let key = ServiceKey::Mark {
        mark: 7,
        family: Family::V4,
    };
    let rule = |mark, protocol, ports, source| MarkRule {
        mark,
        protocol,
        address: [192, 0, 2, 1].into(),
        ports,
        source,
    };
    let service = ServiceSpec {
        persistence: Some(Persistence {
            timeout_secs: 300,
            netmask: Netmask::V4(u32::MAX),
        }),
        beyond: Beyond {
            server_gone: Some(ServerGone::Reschedule),
            ..Beyond::default()
        },
        ..ServiceSpec::new(key, "wlc")
    };
    let inside = Some(([10, 0, 0, 0].into(), 8));
    let some = vec![(80, 80), (8000, 8010)];
    assert_eq!(
        config.operations(),
        [
            Operation::SetMarks(vec![
                rule(7, Some(Protocol::TCP), some, inside),
                rule(8, None, vec![], None),
            ]),
            Operation::AddService(service),
            Operation::AddServer(
                key,
                ServerSpec::new([10, 1, 0, 1], 0, ForwardMethod::Nat, 1)
            ),
        ]
    );
}

#[test]
fn of_ipv6() {
    let text = r#"[[mark]]
mark = 7
address = "2001:db8::1"
source = "2001:db8:1::/48"
[[service]]
fwmark = 7
family = "ipv6"
[[service.server]]
address = "2001:db8:2::1"
[[service.server]]
address = "10.1.0.1"
forward = "tun"
"#;
    let config = Config::parse(text, "d.toml").expect("nothing is wrong");
    let address = |groups: [u16; 3], last| {
        let [a, b, c] = groups;
        std::net::IpAddr::from([a, b, c, 0, 0, 0, 0, last])
    };
    let key = ServiceKey::Mark {
        mark: 7,
        family: Family::V6,
    };
    let rule = MarkRule {
        mark: 7,
        protocol: None,
        address: address([0x2001, 0xdb8, 0], 1),
        ports: vec![],
        source: Some((address([0x2001, 0xdb8, 1], 0), 48)),
    };
    let six = address([0x2001, 0xdb8, 2], 1);
    let four = std::net::IpAddr::from([10, 1, 0, 1]);
    assert_eq!(
        config.operations(),
        [
            Operation::SetMarks(vec![rule]),
            Operation::AddService(ServiceSpec::new(key, "wlc")),
            Operation::AddServer(key, ServerSpec::new(six, 0, ForwardMethod::Direct, 1)),
            Operation::AddServer(key, ServerSpec::new(four, 0, ForwardMethod::Tunnel, 1)),
        ]
    );
    faults(
        "[[service]]\nfwmark = 7\nfamily = \"inet6\"\n",
        "d.toml:3:10: family \"inet6\" is unknown; write \"ipv4\" or \"ipv6\"\n",
    );
}
