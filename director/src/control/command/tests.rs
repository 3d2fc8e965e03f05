//! What the recorded transcript (`tests/golden/cli`) does not reach: popt's corners and properties.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use shared::addr::{Family, Protocol};

use super::*;
use crate::control::names::Names;

/// Knows one host and one service.
struct Few;

impl Names for Few {
    fn host_by_name(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "web").then_some(Ipv4Addr::new(10, 0, 0, 9))
    }

    fn host_by_address(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_by_service(&self, name: &str, protocol: Protocol) -> Option<u16> {
        (name == "http" && protocol == Protocol::TCP).then_some(80)
    }

    fn service_by_port(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

fn parse_line(line: &str) -> Result<Command, UsageError> {
    let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    parse("ipvsadm", &args, &Few)
}

fn fault(line: &str) -> (String, u8) {
    let error = parse_line(line).expect_err(line);
    (error.message, error.exit)
}

#[track_caller]
fn service(line: &str) -> crate::core::operation::ServiceSpec {
    match parse_line(line) {
        Ok(Command::Apply(Operation::AddService(spec))) => spec,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn faults_have_ipvsadms_words() {
    let try_help = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
    let bad_service = "illegal virtual server address[:port] specified";
    let bad_server = "illegal real server address[:port] specified";
    let cases = [
        ("word -L", "unexpected argument word", 2),
        ("--list=1", try_help, 255),
        ("-L=n", try_help, 255),
        ("-- -L", try_help, 255),
        (
            "-A --list=1",
            "--list=1: option does not take an argument",
            255,
        ),
        (
            "-A -n= -t web:80",
            "-n=: option does not take an argument",
            255,
        ),
        ("-L -- -n", "unexpected argument -n", 2),
        ("-A -t=", bad_service, 2),
        ("-A -t web:1 -b bad extra", "unexpected argument extra", 2),
        (
            "-A -t web:1 -b bad -r web",
            "invalid scheduler flag `bad'",
            2,
        ),
        (
            "-A -t web:1 -b mh-port,bad",
            "incompatible scheduler flag `mh-port'",
            2,
        ),
        ("-A -t web:1 -p=", "invalid timeout value `' specified", 2),
        ("-A -t web:1 -po", "invalid timeout value `o' specified", 2),
        ("-A -t 80", bad_service, 2),
        ("-A -t [10.0.0.1", bad_service, 2),
        ("-A -t [::1]:", bad_service, 2),
        ("-A -t [fe80::1%lo]:80", bad_service, 2),
        (
            "-A -t [10.0.0.1]:17",
            "Zero port specified for non-persistent service",
            2,
        ),
        ("-A --sctp-service web:http", bad_service, 2),
        ("-a -r web:http -t web:80", bad_server, 2),
        ("-a -t web:80 -r 80", bad_server, 2),
        ("-A --start-daemon master", "invalid option `master'", 2),
        ("-ALn", "invalid option `-ALn'", 2),
        ("-A -v", "invalid option `-v'", 2),
        ("-L -6", "-6 used before -f\n", 2),
        ("-S -n -n", "multiple 'numeric' options specified", 2),
        ("-A -f 0x14", "invalid fwmark value `0x14' specified", 2),
        ("--set 1 2 3 4", "unexpected argument 4", 2),
        (
            "--set 1 2 3 -n",
            "Illegal 'numeric' option with the 'set' command",
            2,
        ),
        (
            "-R -n",
            "Illegal 'numeric' option with the 'restore' command",
            2,
        ),
        (
            "-L --daemon --persistent-conn",
            "options conflicts in the list command",
            2,
        ),
        (
            "-A -t web:1 -M 255.255.255.256 -p",
            "illegal virtual server persistent mask specified",
            2,
        ),
        (
            "--start-daemon master --mcast-group 2001:db8::1",
            "invalid IPv6 mcast-group `2001:db8::1'",
            2,
        ),
        (
            "--start-daemon master --mcast-group host",
            "invalid IPv4 mcast-group `host'",
            2,
        ),
        (
            "--start-daemon master --sync-maxlen 65508",
            "illegal sync-maxlen specified",
            2,
        ),
        ("--stop-daemon nosuch", "illegal start_daemon specified", 2),
        (
            "--stop-daemon master --mcast-ttl 3",
            "Illegal 'mcast-ttl' option with the 'stop-daemon' command",
            2,
        ),
        (
            "-a -t web:80 -r web -i --tun-type gue --tun-nocsum --tun-csum --tun-port 5",
            "The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gue' tunnel type",
            2,
        ),
        (
            "-a -t web:80 -r web --tun-csum",
            "Tunnel options conflict with forward method",
            2,
        ),
        (
            "-a -t web:80 -r [::1]:81 -m --tun-type gue",
            "Different address family is allowed only for tunneling servers",
            2,
        ),
    ];
    for (line, message, exit) in cases {
        assert_eq!(fault(line), (message.to_owned(), exit), "{line}");
    }
}

#[test]
fn only_faults_that_popt_finds_let_a_restore_go_on() {
    assert_eq!(parse_line("-A -w").unwrap_err().scope, Scope::Line);
    assert_eq!(parse_line("-A --bogus").unwrap_err().scope, Scope::Line);
    assert_eq!(parse_line("-A").unwrap_err().scope, Scope::Run);
    assert_eq!(parse_line("--bogus").unwrap_err().scope, Scope::Run);
}

#[test]
fn masks_are_read_by_the_family_seen_so_far() {
    use crate::core::operation::Netmask;
    let cases = [
        ("-A -t 10.0.0.1:1 -p -M 24", Netmask::V4(24)),
        ("-A -M 255.0.0.0 -t 10.0.0.1:1 -p", Netmask::V4(0xff00_0000)),
        ("-A -t 10.0.0.1:1 -p -M web", Netmask::V4(0x0a00_0009)),
        ("-A -t [::1]:1 -p -M 24x", Netmask::V6(24)),
        ("-A -M 255.0.0.0 -t [::1]:1 -p", Netmask::V6(128)),
        ("-A -f 10 -p -M 64 -6", Netmask::V6(128)),
        ("-A -f 10 -6 -p -M 64", Netmask::V6(64)),
    ];
    for (line, netmask) in cases {
        let persistence = service(line).persistence.unwrap();
        assert_eq!(
            (persistence.netmask, persistence.timeout_secs),
            (netmask, 360),
            "{line}"
        );
    }
}

#[test]
fn a_server_without_a_port_takes_the_port_of_the_service_so_far() {
    let port = |line: &str| match parse_line(line) {
        Ok(Command::Apply(Operation::AddServer(_, spec))) => spec.key.port,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(port("-a -t web:80 -r 10.1.0.1 -m"), 80);
    assert_eq!(port("-a -r 10.1.0.1 -t web:80 -m"), 0);
    assert_eq!(port("-a -r 10.1.0.1 -t web:80 -g"), 80);
    assert_eq!(port("-a -t web:80 -r [10.1.0.1]:17 -m"), 80);
    assert_eq!(port("-a -f 7 -r 10.1.0.1:5 -g"), 5);
    assert_eq!(port("-a -f 7 -6 -r 2001:db8::1 -m"), 0);
}

#[test]
fn marks_have_a_family() {
    let family = |line: &str| match service(line).key {
        ServiceKey::Mark { mark, family } => (mark, family),
        other => panic!("{other:?}"),
    };
    assert_eq!(family("-A -f +13"), (13, Family::V4));
    assert_eq!(family("-A -f 4294967295 -6"), (u32::MAX, Family::V6));
}

#[test]
fn names_are_cut_to_the_kernels_room() {
    let spec = service("-A -t web:1 -s averyveryverylongname --pe averyveryverylongname -p");
    assert_eq!(spec.scheduler, "averyveryverylo");
    assert_eq!(spec.persistence_engine.as_deref(), Some("averyveryverylon"));
}

/// Words that lead deep into the grammar, and some that do not.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "-A",
        "-E",
        "-D",
        "-C",
        "-a",
        "-e",
        "-d",
        "-L",
        "-Lnc",
        "-S",
        "-Z",
        "-R",
        "--set",
        "-t",
        "-u",
        "-f",
        "-r",
        "-m",
        "-g",
        "-i",
        "-s",
        "-p",
        "-M",
        "-w",
        "-x",
        "-y",
        "-b",
        "-6",
        "--pe",
        "--tun-type",
        "gue",
        "--tun-port",
        "--start-daemon",
        "master",
        "10.0.0.1:80",
        "[2001:db8::1]:443",
        "5",
        "0",
        "rr",
        "sh",
        "sh-port,sh-fallback",
        "255.255.255.0",
        "--mcast-group",
        "--persistent=",
        "--",
        "-",
        "",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => "\\PC{0,12}", 1 => "-\\PC{0,6}"]
}

proptest! {
    #[test]
    fn no_command_line_is_too_strange(args in prop::collection::vec(word(), 0..9)) {
        let _ = parse("ipvsadm", &args, &Few);
    }
}

/// DPVS' letter, which says something else of services; ipvsadm has no such thing.
#[test]
fn full_nat_is_a_word_of_lvsadm_about_servers() {
    let line = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
    for word in ["-b", "--fullnat"] {
        let words = line(&format!("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 {word} -w 2"));
        let Ok(Command::Apply(Operation::AddServer(_, server))) = parse("lvsadm", &words, &Few)
        else {
            panic!("{word}");
        };
        assert_eq!(
            server.forward,
            crate::core::operation::ForwardMethod::FullNat
        );
        assert_eq!((server.key.port, server.weight), (8080, 2));
    }
    let mixed = |server: &str| parse("lvsadm", &line(server), &Few);
    assert!(mixed("-a -t [2001:db8::1]:80 -r 10.1.0.1:8080 -b").is_ok());
    let refused = mixed("-a -t [2001:db8::1]:80 -r 10.1.0.1:8080 -m").unwrap_err();
    assert!(refused.to_string().contains("Different address family"));
    let Ok(Command::Apply(Operation::AddLocalAddress { address, .. })) =
        mixed("-P -z 2001:db8:1::9")
    else {
        panic!("a local address of IPv6");
    };
    assert!(address.is_ipv6());
    let words = line("-A -t 10.0.0.1:80 -s sh -b sh-port");
    assert!(parse("lvsadm", &words, &Few).is_ok());
    let words = line("-A -t 10.0.0.1:80 --fullnat");
    assert!(parse("lvsadm", &words, &Few).is_err());
    assert!(parse_line("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 --fullnat").is_err());
}
