//! Bad configuration files and every word that is said about them; good ones and what they mean.

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

#[test]
fn servers_in_a_list() {
    faults(
        r#"[[service]]
address = "192.0.2.1:80"
protocol = "udp"
server = [{ address = "10.0.0.1", weight = 0 }, { address = "10.0.0.2:81", forward = "nat" }, 7]
"#,
        r#"d.toml:4:95: `server' is a whole number; write a section [[service.server]]
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
fn persistence_flags_and_switches() {
    faults(
        r#"[sysctl]
drop_entry = 4
conn_reuse_mode = -1
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
scheduler = "sh"
flags = ["mh-port", "ops"]
persistence = 0
[[service]]
address = "192.0.2.1:81"
protocol = "tcp"
netmask = "24"
[[service]]
address = "192.0.2.1:82"
protocol = "tcp"
persistence_engine = "sip"
[[service]]
address = "192.0.2.1:83"
protocol = "udp"
persistence = 300
persistence_engine = "pips"
"#,
        r#"d.toml:2:14: drop_entry is 0 (off), 1 (automatic), 2 (automatic, now on) or 3 (on), not 4
d.toml:3:19: `conn_reuse_mode' is -1, out of range; write a whole number from 0 to 2147483647
d.toml:5:11: flag "ops" schedules datagrams one by one; write protocol = "udp"
d.toml:8:10: flag "mh-port" is of scheduler "mh", and this one is "sh"
d.toml:9:15: `persistence' is 0, out of range; write a whole number from 1 to 2678400
d.toml:13:11: a netmask says how many clients are one, for persistence; write persistence = 300
d.toml:13:11: netmask "24" is not an IPv4 mask; write one, as in "255.255.255.0"
d.toml:17:22: a persistence_engine says which clients are one, for persistence; write persistence = 300
d.toml:17:22: persistence_engine "sip" reads datagrams; write protocol = "udp"
d.toml:22:22: persistence_engine "pips" is unknown; write "sip"
"#,
    );
    let good = r#"
[sysctl]
sloppy_tcp = 1
conn_reuse_mode = 1
[[service]]
address = "192.0.2.1:0"
protocol = "tcp"
scheduler = "sh"
flags = ["sh-port", "sh-fallback"]
persistence = 300
netmask = "255.255.255.0"
[[service]]
address = "192.0.2.1:53"
protocol = "udp"
scheduler = "rr"
flags = ["ops"]
[[service]]
address = "192.0.2.1:36412"
protocol = "sctp"
scheduler = "lc"
[[service]]
address = "192.0.2.1:5060"
protocol = "udp"
flags = ["ops"]
persistence = 60
persistence_engine = "sip"
"#;
    let key = ServiceKey::new(Protocol::TCP, [192, 0, 2, 1], 0);
    let all_ports = ServiceSpec {
        flags: SchedulerFlags(SchedulerFlags::FLAG_1 | SchedulerFlags::FLAG_2),
        persistence: Some(Persistence {
            timeout_secs: 300,
            netmask: Netmask::V4(0xffff_ff00),
        }),
        ..ServiceSpec::new(key, "sh")
    };
    let key = ServiceKey::new(Protocol::UDP, [192, 0, 2, 1], 53);
    let once = ServiceSpec {
        one_packet: true,
        ..ServiceSpec::new(key, "rr")
    };
    let key = ServiceKey::new(Protocol::SCTP, [192, 0, 2, 1], 36412);
    let sctp = ServiceSpec::new(key, "lc");
    let key = ServiceKey::new(Protocol::UDP, [192, 0, 2, 1], 5060);
    let sip = ServiceSpec {
        persistence: Some(Persistence {
            timeout_secs: 60,
            netmask: Netmask::V4(u32::MAX),
        }),
        persistence_engine: Some("sip".to_owned()),
        one_packet: true,
        ..ServiceSpec::new(key, "wlc")
    };
    assert_eq!(
        Config::parse(good, "d.toml").expect("good").operations(),
        [
            Operation::SetSysctl {
                name: "sloppy_tcp".to_owned(),
                value: 1
            },
            Operation::AddService(all_ports),
            Operation::AddService(once),
            Operation::AddService(sctp),
            Operation::AddService(sip),
        ]
    );
}

#[test]
fn tunnels() {
    let servers = |servers: &str| {
        let service = "[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n";
        format!("{service}{servers}")
    };
    faults(
        &servers(
            r#"[[service.server]]
address = "10.0.0.1:8080"
forward = "tun"
tunnel = "gue"
[[service.server]]
address = "10.0.0.2"
tunnel = "gre"
[[service.server]]
address = "10.0.0.3"
forward = "tun"
tunnel_port = 6080
tunnel_checksum = "full"
[[service.server]]
address = "10.0.0.4"
forward = "tun"
tunnel = "gre"
tunnel_checksum = "remote"
[[service.server]]
address = "10.0.0.5"
forward = "tun"
tunnel = "vxlan"
"#,
        ),
        r#"d.toml:5:11: real server 10.0.0.1:8080 has not the port of its service, and "tun" does not change ports; write "10.0.0.1:80", or forward = "nat"
d.toml:7:10: a GUE tunnel needs its UDP port; write tunnel_port = 6080
d.toml:10:10: `tunnel' is for tunnels; write forward = "tun"
d.toml:14:15: only a GUE tunnel has a port; leave it out
d.toml:15:19: an IPIP tunnel has no checksum; leave it out, or write tunnel = "gre"
d.toml:20:19: remote checksum offload is for GUE; write "full" or "none"
d.toml:24:10: tunnel "vxlan" is unknown; write "ipip", "gue" or "gre"
"#,
    );
    let good = servers(
        r#"[[service.server]]
address = "10.0.0.1"
forward = "tun"
[[service.server]]
address = "10.0.0.2"
forward = "tun"
tunnel = "gue"
tunnel_port = 6080
tunnel_checksum = "remote"
[[service.server]]
address = "10.0.0.3"
forward = "tun"
tunnel = "gre"
tunnel_checksum = "full"
"#,
    );
    let config = Config::parse(&good, "d.toml").expect("good");
    let tunnels: Vec<Tunnel> = config.services[0]
        .servers
        .iter()
        .map(|server| {
            assert_eq!(server.forward, ForwardMethod::Tunnel);
            server.tunnel
        })
        .collect();
    let (port, checksum) = (6080, TunnelChecksum::Remote);
    assert_eq!(
        tunnels,
        [
            Tunnel::Ipip,
            Tunnel::Gue { port, checksum },
            Tunnel::Gre {
                checksum: TunnelChecksum::Full
            },
        ]
    );
}

#[test]
fn what_goes_beyond_ipvs() {
    faults(
        r#"[connections]
max = 1000
half_open = 2000
[[deny]]
source = "203.0.113.0/33"
[[deny]]
source = "203.0.113.7"
service = "192.0.2.1:80"
[[deny]]
protocol = "udp"
[[service]]
address = "192.0.2.1:53"
protocol = "udp"
scheduler = "sh"
server_gone = "reset"
slow_start = 30
[service.timeouts]
tpc = 3
udp = 0
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
server_gone = "forget"
"#,
        r#"d.toml:3:13: `half_open' is 2000, out of range; write a whole number from 1 to 1000
d.toml:5:10: prefix length `33' of 203.0.113.0 is not from 0 to 32; write "203.0.113.0/32"
d.toml:8:11: `service' alone does not say which; write protocol = "tcp", "udp" or "sctp" too
d.toml:9:1: [[deny]] has no `source'; write source = "203.0.113.0/24"
d.toml:10:12: `protocol' is that of a service; write service = "192.168.100.240:80" too, or neither for all services
d.toml:15:15: only TCP connections can be reset; write server_gone = "reschedule"
d.toml:16:14: slow start needs a scheduler that shares by weight, and "sh" does not; write scheduler = "wrr", "wlc", "sed", "nq" or "twos"
d.toml:18:1: [service.timeouts] has no key `tpc'; write `tcp'
d.toml:19:7: `udp' is 0, out of range; write a whole number from 1 to 2678400
d.toml:23:15: server_gone "forget" is unknown; write "keep", "reschedule", "reset" or "auto"
"#,
    );
    let config = Config::parse(
        r#"[connections]
max = 1000
[[deny]]
source = "203.0.113.0/24"
[[deny]]
source = "0.0.0.0/0"
service = "192.0.2.1:53"
protocol = "udp"
[[service]]
address = "192.0.2.1:53"
protocol = "udp"
server_gone = "auto"
timeouts = { udp = 7 }
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
server_gone = "auto"
slow_start = 30
"#,
        "d.toml",
    )
    .expect("nothing is wrong");
    assert_eq!(config.connections.half_open, 250);
    let names = ServiceKey::new(Protocol::UDP, [192, 0, 2, 1], 53);
    let web = ServiceKey::new(Protocol::TCP, [192, 0, 2, 1], 80);
    let rule = |source: [u8; 4], length, service| DenyRule {
        source: source.into(),
        length,
        service,
    };
    let with = |key, server_gone, udp, slow_start_secs| {
        Operation::AddService(ServiceSpec {
            beyond: Beyond {
                server_gone: Some(server_gone),
                timeouts: TimeoutChange {
                    udp,
                    ..TimeoutChange::default()
                },
                slow_start_secs,
                ..Beyond::default()
            },
            ..ServiceSpec::new(key, "wlc")
        })
    };
    assert_eq!(
        config.operations(),
        [
            Operation::SetDeny(vec![
                rule([203, 0, 113, 0], 24, None),
                rule([0; 4], 0, Some(names)),
            ]),
            with(names, ServerGone::Reschedule, 7, 0),
            with(web, ServerGone::Reset, 0, 30),
        ]
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

#[test]
fn full_nat() {
    let service = r#"
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
server = [{ address = "10.0.0.1:8080", forward = "fullnat" }]
"#;
    faults(
        service,
        "d.toml:3:11: real server 10.0.0.1:8080 of service TCP 192.0.2.1:80 is forwarded to by FULLNAT, which needs a local address of its family; write [fullnat] with local_addresses = [\"10.0.0.9\"]",
    );
    faults(
        r#"[fullnat]
local_addresses = ["10.0.0.9", "10.0.0.9", "192.0.2.1", "x"]
[[vip]]
address = "192.0.2.1/32"
interface = "eth0"
"#,
        r#"d.toml:2:32: local address 10.0.0.9 is in line 2 already; write it once
d.toml:2:44: local address 192.0.2.1 is a [[vip]] as well; write one that nobody uses, since the director takes all TCP, UDP and SCTP to it
d.toml:2:57: "x" is not an IP address; write one, as in "10.0.0.9" (names are not looked up)
"#,
    );
    let text = format!("[fullnat]\nlocal_addresses = [\"10.0.0.9\"]\n{service}");
    let config = Config::parse(&text, "d.toml").unwrap();
    let operations = config.operations();
    let address: IpAddr = [10, 0, 0, 9].into();
    let local = Operation::AddLocalAddress {
        address,
        interface: None,
    };
    assert_eq!(operations[0], local);
    assert!(matches!(
        &operations[2],
        Operation::AddServer(_, server) if server.forward == ForwardMethod::FullNat
    ));
    // Each family has its own, and servers of IPv4 may be those of a service of IPv6.
    let services = |local: &str| {
        let lines = format!("[fullnat]\nlocal_addresses = [{local}]");
        let servers = ["10.0.0.1:8080", "[2001:db8:1::1]:8080"].map(|server| {
            format!("[[service.server]]\naddress = \"{server}\"\nforward = \"fullnat\"\n")
        });
        let service = "[[service]]\naddress = \"[2001:db8::1]:80\"\nprotocol = \"tcp\"\n";
        [&lines, "\n", service, &servers.concat()].concat()
    };
    faults(
        &services(r#""10.0.0.9""#),
        "d.toml:4:11: real server [2001:db8:1::1]:8080 of service TCP [2001:db8::1]:80 is forwarded to by FULLNAT, which needs a local address of its family; write [fullnat] with local_addresses = [\"2001:db8::9\"]",
    );
    let both = services(r#""10.0.0.9", "2001:db8:1::9""#);
    let config = Config::parse(&both, "d.toml").unwrap();
    let six: IpAddr = "2001:db8:1::9".parse().unwrap();
    assert_eq!(config.local_addresses[1], six);
    assert_eq!(config.services[0].servers.len(), 2);
    // Before those who need them, and after those who needed them.
    let config = Config::parse(&text, "d.toml").unwrap();
    let gone = director::config::plan::plan(&config, &Config::default(), &[], &[address]);
    assert_eq!(gone, [Operation::DeleteLocalAddress(address)]);
}

#[test]
fn how_servers_learn_of_their_clients_and_how_large_segments_are() {
    faults(
        r#"[fullnat]
local_addresses = ["10.0.0.9"]
[[service]]
address = "192.0.2.1:53"
protocol = "udp"
proxy_protocol = true
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
proxy_protocol = true
toa = true
[[service.server]]
address = "10.1.0.1"
forward = "nat"
[[service]]
address = "192.0.2.1:81"
protocol = "tcp"
proxy_protocol = "v2"
set_mss = 80
[[service]]
address = "192.0.2.1:82"
protocol = "tcp"
set_mss = 1360
clamp_mss_to_pmtu = true
[[service]]
address = "192.0.2.1:82"
protocol = "udp"
clamp_mss_to_pmtu = true
"#,
        r#"d.toml:6:18: the PROXY protocol is spoken in front of a TCP connection's data; leave it out
d.toml:8:11: real server 10.1.0.1:80 of service TCP 192.0.2.1:80 is not forwarded to by FULLNAT, and gets no PROXY protocol; write forward = "fullnat"
d.toml:11:7: a server learns of its client by the TOA option or by the PROXY protocol; leave `toa' out, or write proxy_protocol = false
d.toml:18:18: `proxy_protocol' is a string; write true or false
d.toml:19:11: `set_mss' is 80, out of range; write a whole number from 88 to 65495
d.toml:24:21: the largest segment is a number or what fits into a packet; leave `set_mss' out, or write clamp_mss_to_pmtu = false
d.toml:28:21: only TCP has a largest segment (MSS); leave it out
"#,
    );
    for (words, introduction) in [
        ("", Introduction::Toa),
        ("proxy_protocol = false", Introduction::Toa),
        ("proxy_protocol = true", Introduction::ProxyProtocol),
        ("toa = false", Introduction::None),
    ] {
        let text =
            format!("[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n{words}\n");
        let config = Config::parse(&text, "d.toml").expect("nothing is wrong");
        let spec = &config.services[0].spec;
        assert_eq!(spec.beyond.introduction, introduction, "{words}");
    }
    for (words, segment_size) in [
        ("", SegmentSize::AsTold),
        ("set_mss = 1360", SegmentSize::AtMost(1360)),
        ("clamp_mss_to_pmtu = true", SegmentSize::PathMtu),
        ("clamp_mss_to_pmtu = false", SegmentSize::AsTold),
    ] {
        let text =
            format!("[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n{words}\n");
        let config = Config::parse(&text, "d.toml").expect("nothing is wrong");
        let spec = &config.services[0].spec;
        assert_eq!(spec.beyond.segment_size, segment_size, "{words}");
    }
}

#[test]
fn who_judges_servers() {
    faults(
        r#"[agents]
listen = "all:9111"
key_file = "agent.key"
insecure = true
kee_file = "x"
[[service]]
address = "192.0.2.1:80"
protocol = "tcp"
[service.check]
type = "agent"
intervall = "1s"
path = "/"
missed = 0
interval = "1 s"
least_weight = 1
[[service.server]]
address = "10.1.0.1"
[service.server.check]
weight = true
least_weight = 9
most_weight = 8
"#,
        r#"d.toml:2:10: "all:9111" is not an address to listen at; write one, as in "[::]:9111"
d.toml:3:12: `key_file' is "agent.key", which depends on where the director is started; write a path from the root, such as "/etc/lvs/agent.key"
d.toml:4:12: with a key file nothing is insecure; leave `insecure' out, or `key_file' if everybody's reports are to be believed
d.toml:5:1: [agents] has no key `kee_file'; write `key_file'
d.toml:11:1: [service.check] has no key `intervall'; write `interval'
d.toml:12:8: `path' is for checks of type http, https, and this one is of type agent; leave it out
d.toml:13:10: `missed' is 0, out of range; write a whole number from 1 to 1000
d.toml:14:12: `interval' takes a time from "50ms" to "60s"; write "1s"
d.toml:15:16: bounds are for the weight that the agent wants; write weight = true
d.toml:20:16: least_weight 9 is above most_weight 8; write a lower one
"#,
    );
    let service = "[[service]]\naddress = \"192.0.2.1:80\"\nprotocol = \"tcp\"\n";
    faults(
        &format!("{service}check = {{ type = \"agent\" }}\n"),
        "d.toml:2:11: real servers of service TCP 192.0.2.1:80 are judged by their agents, and nobody \
         listens to these; write [agents]",
    );
    faults(
        &format!("[agents]\n{service}check = {{ missed = 3 }}\n"),
        "d.toml:5:9: [service.check] has no `type'; write type = \"tcp\"",
    );

    let text = format!(
        r#"[agents]
{service}
check = {{ type = "agent", interval = "200ms", weight = true }}
[[service.server]]
address = "10.1.0.1"
check = {{ missed = 5, least_weight = 1 }}
[[service.server]]
address = "10.1.0.2"
"#
    );
    let config = Config::parse(&text, "d.toml").expect("nothing is wrong");
    let agents = config.agents.expect("it is there");
    assert_eq!(agents.listen.to_string(), "[::]:9111");
    let key_file = agents.key_file.expect("the usual one");
    assert_eq!(key_file, PathBuf::from("/etc/lvs/agent.key"));
    let Service {
        servers, checks, ..
    } = &config.services[0];
    let wanted = |least| Weight::Wanted {
        least,
        most: u16::MAX,
    };
    let of_service = AgentCheck {
        interval: Some(Duration::from_millis(200)),
        missed: 3,
        weight: wanted(0),
    };
    assert_eq!(checks.of(&servers[1].key).agent, Some(of_service));
    let own = AgentCheck {
        missed: 5,
        weight: wanted(1),
        ..of_service
    };
    assert_eq!(checks.of(&servers[0].key).agent, Some(own));

    let text = "[agents]\nlisten = \"[::]\"\ninsecure = true\n";
    let config = Config::parse(text, "d.toml").expect("nothing is wrong");
    let agents = config.agents.expect("it is there");
    assert_eq!(agents.listen.to_string(), "[::]:9111");
    assert_eq!(agents.key_file, None);
}

#[test]
fn metrics() {
    faults(
        r#"[metrics]
listen = "everywhere"
node_exporter_names = "yes"
backend_labels = ["service", "bakend", "service", "client"]
port = 9110
"#,
        r#"d.toml:2:10: "everywhere" is not an address to listen at; write one, as in "127.0.0.1:9110"
d.toml:3:23: node_exporter_names is true or false: node_exporter_names = true
d.toml:4:30: label of real servers "bakend" is unknown; write "backend"
d.toml:4:40: label "service" is in line 4 already; write it once
d.toml:4:51: label of real servers "client" is unknown; write "service", "backend", "local_address", "local_port", "remote_address", "remote_port", "proto" or "local_mark"
d.toml:5:1: [metrics] has no key `port'; it has listen, node_exporter_names, backend_labels
"#,
    );
    let read = |text: &str| Config::parse(text, "d.toml").unwrap().metrics;
    assert_eq!(read(""), Metrics::default());
    assert_eq!(read("[metrics]\n").listen, None);
    let given = read(
        "[metrics]\nlisten = \"0.0.0.0\"\nnode_exporter_names = true\nbackend_labels = [\"service\"]\n",
    );
    assert_eq!(given.listen, Some(([0; 4], 9110).into()));
    assert!(given.options.node_exporter_names);
    let service = [BackendLabel::Service].into_iter().collect();
    assert_eq!(given.options.backend_labels, service);
    let none = read("[metrics]\nbackend_labels = []\n");
    assert_eq!(none.options.backend_labels, std::iter::empty().collect());
}
