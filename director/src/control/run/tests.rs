//! How a run ends, and what comes of saved rules; the texts are in the recorded transcripts.

mod beyond;
mod saved;

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use shared::addr::{Family, Protocol};

use super::*;
use crate::control::client::{Client, Transport};
use crate::core::judgement::Afterwards;
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, Netmask, OperationError, Persistence, SchedulerFlags,
    SegmentSize, ServerGone, ServerSpec, ServiceSpec, TimeoutChange, Tunnel, TunnelChecksum,
};
use crate::core::view::{
    AgentView, CheckView, ConnectionView, EngineView, InfoView, LocalAddressView, ServerView,
    ServiceView, StatsView, StatusView, SysctlView, TimeoutsView,
};

struct Nameless;

impl Names for Nameless {
    fn host_by_name(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn host_by_address(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_by_service(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }

    fn service_by_port(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// Notes what is applied; refuses or goes away as told.
#[derive(Default)]
struct Fake {
    applied: Vec<Operation>,
    services: Vec<ServiceView>,
    local_addresses: Vec<LocalAddressView>,
    fails: Option<ApiError>,
}

impl Fake {
    fn failing(error: ApiError) -> Fake {
        Fake {
            fails: Some(error),
            ..Fake::default()
        }
    }

    fn fail<T>(&self, value: T) -> Result<T, ApiError> {
        self.fails.clone().map_or(Ok(value), Err)
    }
}

impl Api for Fake {
    fn apply(&mut self, operation: &Operation) -> Result<(), ApiError> {
        self.applied.push(operation.clone());
        self.fail(())
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, ApiError> {
        self.fail(self.services.clone())
    }

    fn service(&mut self, _: &ServiceKey) -> Result<Option<ServiceView>, ApiError> {
        self.fail(None)
    }

    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView)) -> Result<(), ApiError> {
        for protocol in [Protocol::TCP, Protocol(0)] {
            each(ConnectionView {
                protocol,
                expires_ms: 7_260_999,
                state: "NONE".to_owned(),
                client: Ipv4Addr::new(10, 0, 0, 2).into(),
                client_port: 0,
                virtual_address: Ipv4Addr::new(0, 0, 0, 7).into(),
                virtual_port: 0,
                destination: "2001:db8::1".parse::<IpAddr>().expect("an address"),
                destination_port: 80,
                engine: (protocol.0 == 0).then(|| EngineView {
                    name: "sip".to_owned(),
                    data: "one@a".to_owned(),
                }),
            });
        }
        self.fail(())
    }

    fn timeouts(&mut self) -> Result<TimeoutsView, ApiError> {
        self.fail(TimeoutsView {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        })
    }

    fn totals(&mut self) -> Result<StatsView, ApiError> {
        self.fail(StatsView {
            connections: 0x1b,
            in_packets: 0x45,
            out_packets: 0x20,
            in_bytes: 0xa98,
            out_bytes: 0x4f7,
            cps: 0,
            in_pps: 1,
            out_pps: 0,
            in_bps: 0x2d,
            out_bps: 0x12,
        })
    }

    fn sysctls(&mut self) -> Result<Vec<SysctlView>, ApiError> {
        let view = |name: &str, value| SysctlView {
            name: name.to_owned(),
            value,
        };
        self.fail(vec![view("drop_entry", 0), view("sloppy_tcp", 1)])
    }

    fn info(&mut self) -> Result<InfoView, ApiError> {
        self.fail(InfoView {
            version: "0".to_owned(),
            table_size: 4096,
        })
    }

    fn agents(&mut self) -> Result<Vec<AgentView>, ApiError> {
        self.fail(Vec::new())
    }

    fn checks(&mut self) -> Result<Vec<CheckView>, ApiError> {
        self.fail(Vec::new())
    }

    fn status(&mut self) -> Result<StatusView, ApiError> {
        self.fail(StatusView {
            version: "0.1.0".to_owned(),
            uptime_secs: 5,
            interfaces: Vec::new(),
            connections: 0,
            half_open: 0,
            pushed_out: 0,
            unnamed_clients: 0,
            reports: None,
            rivals: Vec::new(),
            local_addresses: self.local_addresses.clone(),
            capture_keys: 0,
            given_back: 0,
            drops: Vec::new(),
        })
    }
}

#[derive(Default)]
struct Screen {
    out: String,
    err: String,
    input: Vec<String>,
}

impl Terminal for Screen {
    fn out(&mut self, text: &str) {
        self.out += text;
    }

    fn err(&mut self, text: &str) {
        self.err += text;
    }

    fn has_line(&self) -> bool {
        !self.input.is_empty()
    }

    fn line(&mut self) -> Option<String> {
        (!self.input.is_empty()).then(|| self.input.remove(0))
    }
}

fn run_with(api: &mut Fake, line: &str, input: &[&str]) -> (String, String, u8) {
    let mut words = line.split(' ').map(str::to_owned);
    let program = words.next().expect("a program");
    let args: Vec<String> = words.collect();
    let mut screen = Screen {
        input: input.iter().copied().map(str::to_owned).collect(),
        ..Screen::default()
    };
    let exit = run(&program, &args, &mut screen, api, &Nameless);
    (screen.out, screen.err, exit)
}

fn gone() -> ApiError {
    ApiError::Unreachable(Unreachable {
        reason: "Connection refused".to_owned(),
        advice: "The director is not running.".to_owned(),
    })
}

#[test]
fn without_a_director_the_first_request_ends_the_run() {
    let message = "Can't initialize ipvs: Connection refused\nThe director is not running.\n";
    for line in [
        "lvsadm",
        "lvsadm -Ln",
        "lvsadm -C",
        "lvsadm -S",
        "lvsadm -L --daemon",
        "lvsadm status",
    ] {
        let (out, err, exit) = run_with(&mut Fake::failing(gone()), line, &[]);
        assert_eq!(
            (out.as_str(), err.as_str(), exit),
            ("", message, 2),
            "{line}"
        );
    }
    for line in ["lvsadm -R", "ipvsadm-restore"] {
        let mut api = Fake::failing(gone());
        let (_, err, exit) = run_with(&mut api, line, &["-C", "-C", "-C"]);
        assert_eq!(
            (err.as_str(), exit, api.applied.len()),
            (message, 2, 1),
            "{line}"
        );
    }
}

#[test]
fn help_and_usage_errors_need_no_director() {
    let mut api = Fake::failing(gone());
    assert_eq!(run_with(&mut api, "lvsadm -v", &[]).2, 0);
    let (out, _, exit) = run_with(&mut api, "/sbin/lvsadm -h", &[]);
    assert_eq!(exit, 0);
    assert!(
        out.contains("\n  /sbin/lvsadm -A|E virtual-service"),
        "{out}"
    );
    let (_, err, exit) = run_with(&mut api, "lvsadm -q", &[]);
    let expected = "Try `lvsadm -h' or 'lvsadm --help' for more information.\n";
    assert_eq!((err.as_str(), exit), (expected, 255));
}

#[test]
fn switches_are_shown_and_set() {
    let mut fake = Fake::default();
    let mut sysctl = |words: &str| {
        let words = format!("lvsadm sysctl {words}");
        let (out, err, exit) = run_with(&mut fake, words.trim(), &[]);
        (format!("{out}{err}"), exit)
    };
    let line = |name: &str, value| format!("net.ipv4.vs.{name} = {value}\n");
    let all = line("drop_entry", 0) + &line("sloppy_tcp", 1);
    assert_eq!(sysctl(""), (all, 0));
    assert_eq!(sysctl("sloppy_tcp"), (line("sloppy_tcp", 1), 0));
    // Of old scripts.
    let written = sysctl("-w net.ipv4.vs.sloppy_tcp=1 drop_entry=3");
    assert_eq!(written, (line("sloppy_tcp", 1) + &line("drop_entry", 0), 0));
    assert_eq!(
        sysctl("drop_entry=x").0,
        "`x' is not a number: write drop_entry=1\n"
    );
    let (unknown, exit) = sysctl("dance");
    assert!(
        unknown.starts_with("there is no net.ipv4.vs.dance"),
        "{unknown}"
    );
    assert_eq!(exit, 255);
    let set = |name: &str, value| Operation::SetSysctl {
        name: name.to_owned(),
        value,
    };
    assert_eq!(fake.applied, [set("sloppy_tcp", 1), set("drop_entry", 3)]);
    assert_eq!(run_with(&mut Fake::default(), "ipvsadm sysctl", &[]).2, 255);
}

/// The sums are those of a recorded file.
#[test]
fn files_of_the_kernel() {
    let proc = |words: &str| run_with(&mut Fake::default(), &format!("lvsadm proc {words}"), &[]);
    let stats = "   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
      1B       45       20              A98              4F7

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       0        1        0               2D               12
";
    assert_eq!(proc("ip_vs_stats").0, stats);
    let connections = proc("ip_vs_conn").0;
    let rows: Vec<&str> = connections.lines().skip(1).collect();
    let six = "2001:0db8:0000:0000:0000:0000:0000:0001";
    assert_eq!(
        rows,
        [
            format!("TCP 0A000002 0000 00000007 0000 {six} 0050 NONE           7260"),
            format!("IP  0A000002 0000 00000007 0000 {six} 0050 NONE           7260 sip one@a"),
        ]
    );
    assert!(
        proc("ip_vs")
            .0
            .ends_with("Forward Weight ActiveConn InActConn\n")
    );
    let (_, refused, exit) = proc("ip_vs_dance");
    assert!(
        refused.starts_with("there is no file `ip_vs_dance'"),
        "{refused}"
    );
    assert_eq!(exit, 255);
}

#[test]
fn status_is_a_word_of_lvsadm_alone() {
    let (out, _, exit) = run_with(&mut Fake::default(), "/usr/sbin/lvsadm status", &[]);
    assert!(out.starts_with("director 0.1.0, up 5 s\n"), "{out}");
    assert_eq!(exit, 0);
    assert_eq!(run_with(&mut Fake::default(), "ipvsadm status", &[]).2, 255);
    assert_eq!(run_with(&mut Fake::default(), "lvsadm drain", &[]).2, 255);
}

#[test]
fn status_is_for_people_and_for_programs() {
    let key = ServiceKey::new(Protocol::TCP, Ipv4Addr::new(10, 0, 0, 1), 80);
    let server = ServerSpec::new(Ipv4Addr::new(10, 1, 0, 1), 80, ForwardMethod::Nat, 3);
    let mut api = Fake {
        services: vec![view(ServiceSpec::new(key, "rr"), vec![server])],
        ..Fake::default()
    };
    let (out, _, exit) = run_with(&mut api, "lvsadm status", &[]);
    assert!(
        out.contains("    10.1.0.1:80           up        weight 3, 0 active"),
        "{out}"
    );
    assert_eq!(exit, 0);
    let (out, _, exit) = run_with(&mut api, "lvsadm status --json", &[]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let server = &json["services"][0]["servers"][0];
    assert_eq!(server["effective_weight"], 3);
    assert_eq!(server["spec"]["weight"], 3);
    assert_eq!(server["health"], "up");
    assert_eq!(json["director"]["uptime_secs"], 5);
    assert_eq!(json["agents"], serde_json::json!([]));
    assert_eq!(exit, 0);
    let (_, err, exit) = run_with(&mut api, "lvsadm status --jason", &[]);
    assert_eq!(
        (err.as_str(), exit),
        ("write status, or status --json\n", 255)
    );
}

#[test]
fn servers_are_drained_by_words_of_lvsadm() {
    let operation = |line: &str| {
        let mut api = Fake::default();
        let (out, err, exit) = run_with(&mut api, line, &[]);
        assert_eq!((out.as_str(), err.as_str(), exit), ("", "", 0), "{line}");
        api.applied.pop().expect(line)
    };
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
    let drain = |port, deadline_secs, then| Operation::Drain {
        address,
        port,
        deadline_secs,
        then,
    };
    let (keep, reset) = (Afterwards::Keep, Afterwards::Reset);
    for (line, expected) in [
        ("drain 10.1.0.1", drain(None, None, keep)),
        ("drain 10.1.0.1:80", drain(Some(80), None, keep)),
        (
            "drain 10.1.0.1 --deadline 10m",
            drain(None, Some(600), keep),
        ),
        (
            "drain --then=reset --deadline=90s 10.1.0.1",
            drain(None, Some(90), reset),
        ),
        (
            "ready 10.1.0.1",
            Operation::Ready {
                address,
                port: None,
            },
        ),
        (
            "ready 10.1.0.1:80",
            Operation::Ready {
                address,
                port: Some(80),
            },
        ),
    ] {
        assert_eq!(operation(&format!("lvsadm {line}")), expected);
    }
    for (line, sentence) in [
        ("drain", "write drain SERVER"),
        ("drain 10.1.0.1 10.1.0.2", "write drain SERVER"),
        ("drain 10.1.0.1 --deadline", "write drain SERVER"),
        ("drain 10.1.0.1 --dedline 3s", "write drain SERVER"),
        ("drain rs1", "`rs1' is not the address of a real server"),
        (
            "drain 10.1.0.1 --deadline 10",
            "deadline `10' is not a time from 1s to 744h; write --deadline 10m",
        ),
        (
            "drain 10.1.0.1 --then rest",
            "`rest' is unknown; write --then keep or --then reset",
        ),
        (
            "drain 10.1.0.1 --then reset",
            "connections are reset at the deadline; write --deadline 10m too",
        ),
        ("ready", "write ready SERVER"),
        ("ready 10.1.0.1 80", "write ready SERVER"),
    ] {
        let mut api = Fake::default();
        let (_, err, exit) = run_with(&mut api, &format!("lvsadm {line}"), &[]);
        assert!(err.starts_with(sentence), "{line}: {err}");
        assert_eq!((exit, api.applied.len()), (255, 0), "{line}");
    }
}

#[test]
fn what_the_director_cannot_do_yet_is_said() {
    let refused = OperationError::NotYet("services by firewall mark".to_owned());
    let mut api = Fake::failing(ApiError::Refused(refused));
    let (_, err, exit) = run_with(&mut api, "lvsadm -A -f 7", &[]);
    let expected = "Operation not supported by this director yet: services by firewall mark\n";
    assert_eq!((err.as_str(), exit), (expected, 255));
}

#[test]
fn a_restore_script_reads_all_and_clears_before_it_adds() {
    let mut api = Fake::default();
    let input = ["# a comment\n", "-D -f 1\r\n", "ipvsadm -D -f 2\n"];
    assert_eq!(run_with(&mut api, "/sbin/lvsadm-restore", &input).2, 0);
    let delete = |mark| {
        Operation::DeleteService(ServiceKey::Mark {
            mark,
            family: Family::V4,
        })
    };
    assert_eq!(api.applied, [Operation::Flush, delete(1), delete(2)]);
}

#[test]
fn connections_are_printed_as_they_come() {
    let (out, _, _) = run_with(&mut Fake::default(), "lvsadm -Lnc", &[]);
    let expected = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 121:00 NONE        10.0.0.2:0         0.0.0.7:0          [2001:db8::1]:80
IP  121:00 NONE        10.0.0.2:0         0.0.0.7:0          [2001:db8::1]:80
";
    assert_eq!(out, expected);
}

/// To the byte, as the kernel's rows were listed.
#[test]
fn persistence_engines_have_columns_where_there_are_any() {
    let line = "lvsadm -Lnc --persistent-conn";
    let (out, _, _) = run_with(&mut Fake::default(), line, &[]);
    let expected = "\
IPVS connection entries
pro expire state       source             virtual            destination        pe name          pe_data
TCP 121:00 NONE        10.0.0.2:0         0.0.0.7:0          [2001:db8::1]:80
IP  121:00 NONE        10.0.0.2:0         0.0.0.7:0          [2001:db8::1]:80 sip                one@a
";
    assert_eq!(out, expected);
}

fn view(spec: ServiceSpec, servers: Vec<ServerSpec>) -> ServiceView {
    ServiceView {
        guard: None,
        spec,
        stats: StatsView::default(),
        servers: servers.into_iter().map(ServerView::new).collect(),
    }
}

/// Nothing to do needs no director.
#[test]
fn an_empty_restore_asks_nobody() {
    struct Nobody;
    impl Transport for Nobody {
        fn send(&mut self, line: &str) -> Result<(), Unreachable> {
            panic!("{line:?}")
        }
        fn receive(&mut self) -> Result<String, Unreachable> {
            panic!("nobody answers")
        }
    }
    let mut screen = Screen {
        input: vec!["\n".to_owned(), " \n".to_owned()],
        ..Screen::default()
    };
    let args = ["-R".to_owned()];
    let mut client = Client::new(Nobody);
    assert_eq!(run("lvsadm", &args, &mut screen, &mut client, &Nameless), 0);
    assert_eq!(screen.err, "");
}
