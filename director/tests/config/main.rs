//! Bad configuration files and every word that is said about them; good ones and what they mean.

mod checks;
mod full_nat;
mod guard;
mod listeners;
mod marks;
mod services;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use director::config::{Config, Connections, Metrics, Service, Vip};
use director::core::operation::{
    Beyond, DenyRule, ForwardMethod, Introduction, Netmask, Operation, Persistence, SchedulerFlags,
    SegmentSize, ServerGone, ServerSpec, ServiceKey, ServiceSpec, TimeoutChange, Tunnel,
    TunnelChecksum,
};
use director::health::agents::check::{AgentCheck, Weight};
use director::metrics::labels::BackendLabel;
use shared::addr::Protocol;

#[track_caller]
fn faults(text: &str, expected: &str) {
    let faults = Config::parse(text, "d.toml").expect_err("a bad file");
    assert_eq!(faults.to_string(), expected.trim_end());
}

#[test]
fn sections() {
    faults(
        r#"[dirctor]
interfaces = ["eth0"]
[sysctl]
x = 1
[colour]
"#,
        r#"d.toml:1:2: the file has no key `dirctor'; write `director'
d.toml:4:1: [sysctl] has no key `x'; it has am_droprate, amemthresh, cache_bypass, conn_reuse_mode, drop_entry, drop_packet, expire_nodest_conn, expire_quiescent_template, lblc_expiration, lblcr_expiration, nat_icmp_send, pmtu_disc, run_estimation, schedule_icmp, secure_tcp, sloppy_sctp, sloppy_tcp
d.toml:5:2: the file has no key `colour'; it has director, sysctl, timeouts, connections, deny, mark, vip, service, fullnat, agents, metrics
"#,
    );
}

#[test]
fn settings() {
    faults(
        r#"[director]
interfaces = ["eth0", "eth0", "", "eth0/1", 3]
rules = "rules"
[timeouts]
tcp = "900"
tcp_fin = 0
udp = 2678401
tcpfin = 3
[connections]
table_bits = 28
max = 4.5
"#,
        r#"d.toml:2:23: interface "eth0" is in line 2 already; write it once
d.toml:2:31: "" is not the name of an interface; write one, such as "eth0"
d.toml:2:35: "eth0/1" is not the name of an interface; write one, such as "eth0"
d.toml:2:45: `interfaces' takes a string, not a whole number; write "3"
d.toml:3:9: `rules' is "rules", which depends on where the director is started; write a path from the root, such as "/etc/lvs/rules"
d.toml:5:7: `tcp' is a string; write a whole number from 1 to 2678400
d.toml:6:11: `tcp_fin' is 0, out of range; write a whole number from 1 to 2678400
d.toml:7:7: `udp' is 2678401, out of range; write a whole number from 1 to 2678400
d.toml:8:1: [timeouts] has no key `tcpfin'; write `tcp_fin'
d.toml:10:14: `table_bits' is 28, out of range; write a whole number from 8 to 27
d.toml:11:7: `max' is a number with a fraction; write a whole number from 1 to 1073741824
"#,
    );
}

#[test]
fn values_where_sections_belong() {
    faults(
        r#"director = 3
vip = 3
service = "x"
"#,
        r#"d.toml:1:12: `director' is a whole number; write a section [director]
d.toml:2:7: `vip' is a whole number; write a section [[vip]]
d.toml:3:11: `service' is a string; write a section [[service]]
"#,
    );
}

#[test]
fn lists_and_strings() {
    faults(
        r#"[director]
interfaces = "eth0"
rules = 3
"#,
        r#"d.toml:2:14: `interfaces' is a string; write ["eth0"]
d.toml:3:9: `rules' takes a string, not a whole number; write "3"
"#,
    );
}

#[test]
fn vips() {
    faults(
        r#"[[vip]]
[[vip]]
address = "192.0.2.1/33"
interface = "eth0"
label = "eth1:0"
[[vip]]
address = "192.0.2.1"
interface = "eth0"
label = "eth0:0"
[[vip]]
address = "192.0.2.1/24"
interface = "eth0:0"
[[vip]]
address = "192.0.2.1/24"
interface = "eth1"
[[vip]]
address = "192.0.2.3"
interface = "eth0"
label = "eth0:a-long-label"
"#,
        r#"d.toml:1:1: [[vip]] has no `address'; write address = "192.168.100.240/32"
d.toml:1:1: [[vip]] has no `interface'; write interface = "eth0"
d.toml:3:11: prefix length `33' of 192.0.2.1 is not from 1 to 32; write "192.0.2.1/32"
d.toml:5:9: label "eth1:0" does not begin with its interface; write "eth0:0"
d.toml:12:13: "eth0:0" is not the name of an interface; write one, such as "eth0"
d.toml:14:11: VIP 192.0.2.1 is in line 7 already; write it once
d.toml:19:9: label "eth0:a-long-label" is not a word of at most 15 bytes; write "eth0:0"
"#,
    );
}

#[test]
fn words_keys_and_ranges() {
    faults(
        r#"[[service]]
address = "192.0.2.1"
protocl = "tcp"
scheduler = "wrrr"
flags = ["sh-prt", "ops"]
persistence = 300
quorum = 3
[[service.server]]
address = "10.0.0.1:99999"
forward = "fullnat"
[[service.server]]
forward = "masq"
weight = 70000
upper_threshold = 3
lower_threshold = 4
colour = "red"
"#,
        r#"d.toml:1:1: [[service]] has no `protocol'; write protocol = "tcp", "udp" or "sctp"
d.toml:2:11: service address 192.0.2.1 has no port; write "192.0.2.1:80"
d.toml:3:1: [[service]] has no key `protocl'; write `protocol'
d.toml:4:13: scheduler "wrrr" is unknown; write "wrr"
d.toml:5:10: flag "sh-prt" is unknown; write "sh-port"
d.toml:9:11: port `99999' of 10.0.0.1 is not a number from 0 to 65535; write "10.0.0.1:80"
d.toml:11:1: [[service.server]] has no `address'; write address = "192.168.100.8:80"
d.toml:12:11: forward "masq" is unknown; write "dr", "nat", "local", "tun" or "fullnat"
d.toml:13:10: `weight' is 70000, out of range; write a whole number from 0 to 65535
d.toml:15:19: lower_threshold 4 is above upper_threshold 3; write a number up to the upper one, or 0 for three quarters of it
d.toml:16:1: [[service.server]] has no key `colour'; it has address, forward, weight, upper_threshold, lower_threshold, tunnel, tunnel_port, tunnel_checksum, check, inhibit_on_failure, notify_up, notify_down
"#,
    );
}

#[test]
fn addresses() {
    faults(
        r#"[[service]]
address = "[ff02::1]:80"
protocol = "sctp"
scheduler = "sh"
[[service]]
address = "2001:db8::1"
protocol = "icmp"
scheduler = "qwertz"
[[service]]
address = "www.example.org:80"
protocol = "tcp"
[[service]]
address = "224.0.0.1:80"
protocol = "tcp"
[[service]]
address = "192.0.2.1:0"
protocol = "tcp"
"#,
        r#"d.toml:2:11: ff02::1 is not the address of one host; write one that is, as in "192.168.100.240:80"
d.toml:6:11: service address 2001:db8::1 has no port; write "[2001:db8::1]:80"
d.toml:7:12: protocol "icmp" is unknown; write "tcp", "udp" or "sctp"
d.toml:8:13: scheduler "qwertz" is unknown; write "rr", "wrr", "lc", "wlc", "sed", "nq", "lblc", "lblcr", "dh", "sh", "mh", "fo", "ovf", "twos" or "none"
d.toml:10:11: "www.example.org:80" is not an IP address; write one, as in "192.168.100.240:80" (names are not looked up)
d.toml:13:11: 224.0.0.1 is not the address of one host; write one that is, as in "192.168.100.240:80"
d.toml:16:11: a service on port 0, which is all ports, needs to know clients again; write persistence = 300
"#,
    );
}

#[test]
fn ipv6() {
    let text = r#"[[vip]]
address = "2001:db8::1"
interface = "eth0"
[[deny]]
source = "2001:db8:bad::/48"
[[service]]
address = "[2001:db8::1]:80"
protocol = "tcp"
persistence = 300
netmask = "64"
  [[service.server]]
  address = "2001:db8:1::11"
  [[service.server]]
  address = "[2001:db8:1::12]:8080"
  forward = "nat"
"#;
    let config = Config::parse(text, "d.toml").unwrap();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(
        (config.vips[0].address, config.vips[0].prefix),
        (ip("2001:db8::1"), 128)
    );
    assert_eq!(
        (config.deny[0].source, config.deny[0].length),
        (ip("2001:db8:bad::"), 48)
    );
    let Service { spec, servers, .. } = &config.services[0];
    assert_eq!(
        spec.key,
        ServiceKey::new(Protocol::TCP, ip("2001:db8::1"), 80)
    );
    let netmask = spec.persistence.unwrap().netmask;
    assert_eq!(netmask, Netmask::V6(64));
    assert_eq!(
        *servers,
        [
            ServerSpec::new(ip("2001:db8:1::11"), 80, ForwardMethod::Direct, 1),
            ServerSpec::new(ip("2001:db8:1::12"), 8080, ForwardMethod::Nat, 1),
        ]
    );
    faults(
        r#"[[vip]]
address = "2001:db8::1/129"
interface = "eth0"
[[mark]]
mark = 8
address = "2001:db8::1"
source = "10.0.0.0/8"
[[service]]
address = "[2001:db8::1]:80"
protocol = "tcp"
family = "ipv6"
persistence = 300
netmask = "255.255.255.0"
  [[service.server]]
  address = "10.0.0.1"
  [[service.server]]
  address = "2001:db8::2"
  forward = "tun"
  [[service.server]]
  address = "[2001:db8::3]:8080"
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
  [[service.server]]
  address = "2001:db8::2"
  forward = "fullnat"
"#,
        r#"d.toml:2:11: prefix length `129' of 2001:db8::1 is not from 1 to 128; write "2001:db8::1/128"
d.toml:7:10: no packet goes from "10.0.0.0/8" to 2001:db8::1, which is of the other address family
d.toml:11:10: `family' is for a service by mark, which has no address to tell; leave it out
d.toml:13:11: netmask "255.255.255.0" is not a prefix length from 1 to 128; write one, as in "64"
d.toml:15:13: real server 10.0.0.1 is not of the address family of its service; write one that is, or forward = "tun"
d.toml:20:13: real server [2001:db8::3]:8080 has not the port of its service, and "dr" does not change ports; write "[2001:db8::3]:80", or forward = "nat"
d.toml:25:13: real server 2001:db8::2 is not of the address family of its service; write one that is, or forward = "tun"
"#,
    );
}

#[test]
fn ports_and_what_is_there_twice() {
    faults(
        r#"[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
  [[service.server]]
  address = "10.0.0.1:8080"
  [[service.server]]
  address = "10.0.0.1:80"
  weight = -1
  [[service.server]]
  address = "10.0.0.1"
  forward = "nat"
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
"#,
        r#"d.toml:5:13: real server 10.0.0.1:8080 has not the port of its service, and "dr" does not change ports; write "10.0.0.1:80", or forward = "nat"
d.toml:8:12: `weight' is -1, out of range; write a whole number from 0 to 65535
d.toml:10:13: real server 10.0.0.1:80 is in line 7 already; write it once
d.toml:13:11: service TCP 192.0.2.1:80 is in line 2 already; write it once
"#,
    );
}

#[test]
fn text_that_is_not_toml_is_still_read() {
    faults(
        r#"[[service]]
address = "192.0.2.1:80
protocol = "tcp"
shceduler = "rr"
weight = 
[[service.server]]
address = "10.0.0.1"
[[service.server]
address = "10.0.0.2"
"#,
        r#"d.toml:2:24: this is not TOML: invalid basic string, expected `"`
d.toml:4:1: [[service]] has no key `shceduler'; write `scheduler'
d.toml:5:10: this is not TOML: string values must be quoted, expected literal string
d.toml:8:18: this is not TOML: unclosed array table, expected `]`
d.toml:9:1: the file has no key `address'; it has director, sysctl, timeouts, connections, deny, mark, vip, service, fullnat, agents, metrics
"#,
    );
}

#[test]
fn a_single_bracket() {
    faults(
        r#"[service]
address = "192.0.2.1:80"
"#,
        r#"d.toml:1:1: there can be more than one `service'; write [[service]]
"#,
    );
}

#[test]
fn numbers() {
    faults(
        r#"[timeouts]
tcp = 3
tcp = 4
udp = 99999999999999999999999
tcp_fin = 0x10
"#,
        r#"d.toml:3:1: this is not TOML: duplicate key
d.toml:4:7: `udp' is 99999999999999999999999, out of range; write a whole number from 1 to 2678400
"#,
    );
}

/// What is promised is told from what nobody has heard of.
#[test]
fn what_comes_later_says_so() {
    faults(
        "[sync]\n",
        "d.toml:1:2: `sync' of the file is not there yet; leave it out",
    );
    faults(
        "[[vrrp]]\n",
        "d.toml:1:3: `vrrp' of the file is not there yet; leave it out",
    );
}

#[test]
fn an_empty_file_is_the_default() {
    let config = Config::parse("", "d.toml").expect("nothing is wrong");
    assert_eq!(config, Config::default());
    assert_eq!(config.operations(), vec![]);
}

/// Every key once, and the defaults of those that are left out.
#[test]
fn a_good_file() {
    let config = Config::parse(
        r#"
[director]
interfaces = ["eth0", "eth1"]
rules = "/etc/lvs/rules"

[timeouts]
udp = 60

[connections]
table_bits = 16
max = 1_000_000

[[vip]]
address = "192.0.2.1"
interface = "eth0"
label = "eth0:0"

[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
scheduler = "wrr"
flags = []

  [[service.server]]
  address = "10.0.0.1:8080"
  forward = "nat"
  weight = 0
  upper_threshold = 100
  lower_threshold = 60

  [[service.server]]
  address = "10.0.0.2"

[[service]]
address = "198.51.100.1:53"
protocol = "udp"
"#,
        "d.toml",
    )
    .expect("nothing is wrong");
    assert_eq!(config.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.rules, Some(PathBuf::from("/etc/lvs/rules")));
    assert_eq!(
        config.connections,
        Connections {
            table_bits: 16,
            max: 1_000_000,
            half_open: 250_000,
        }
    );
    assert_eq!(
        config.vips,
        [Vip {
            address: [192, 0, 2, 1].into(),
            prefix: 32,
            interface: "eth0".to_owned(),
            label: Some("eth0:0".to_owned()),
        }]
    );
    let web = ServiceKey::new(Protocol::TCP, [192, 0, 2, 1], 80);
    let names = ServiceKey::new(Protocol::UDP, [198, 51, 100, 1], 53);
    assert_eq!(
        config.operations(),
        [
            Operation::SetTimeouts(TimeoutChange {
                tcp: 0,
                tcp_fin: 0,
                udp: 60,
            }),
            Operation::AddService(ServiceSpec::new(web, "wrr")),
            Operation::AddServer(
                web,
                ServerSpec {
                    upper_threshold: 100,
                    lower_threshold: 60,
                    ..ServerSpec::new([10, 0, 0, 1], 8080, ForwardMethod::Nat, 0)
                },
            ),
            Operation::AddServer(
                web,
                ServerSpec::new([10, 0, 0, 2], 80, ForwardMethod::Direct, 1),
            ),
            Operation::AddService(ServiceSpec::new(names, "wlc")),
        ]
    );
}

/// The examples that come with the program.
#[test]
fn the_examples_are_right() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../init/examples");
    for name in ["director", "director-nat", "director-dr"] {
        let file = format!("{folder}/{name}.toml");
        let text = std::fs::read_to_string(&file).expect("the example is there");
        if let Err(faults) = Config::parse(&text, &file) {
            panic!("{faults}");
        }
    }
}
