//! Services and their real servers.

use super::*;

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
