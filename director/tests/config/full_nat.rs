//! FULLNAT: local addresses, and what its servers learn of their clients.

use super::*;

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
