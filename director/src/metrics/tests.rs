//! Whole scrapes of services that are written down here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use shared::addr::{Family, Protocol};
use shared::time::Time;

use super::labels::{BackendLabel, BackendLabels};
use super::{Options, Progress, Reload, SERVERS, SERVICES, Scrape, Snapshot, Source, Turns};
use crate::core::guard::GuardView;
use crate::core::judgement::Health;
use crate::core::operation::{ForwardMethod, ServerSpec, ServiceKey, ServiceSpec};
use crate::core::reason::Reason;
use crate::core::spans::Spans;
use crate::core::view::{
    AgentView, CheckTally, DropView, InterfaceView, LocalAddressView, ReportsView, RivalView,
    ServerView, ServiceView, StatsView, StatusView,
};

/// Services and agents that are there.
#[derive(Default)]
pub(crate) struct World {
    services: BTreeMap<ServiceKey, ServiceView>,
    agents: BTreeMap<IpAddr, AgentView>,
}

impl Source for World {
    fn service_after(&self, key: Option<&ServiceKey>) -> Option<ServiceView> {
        let mut services = self.services.iter();
        let service = services.find(|(known, _)| key.is_none_or(|key| *known > key));
        service.map(|(_, service)| service.clone())
    }

    fn agent_after(&self, address: Option<IpAddr>) -> Option<AgentView> {
        let mut agents = self.agents.iter();
        let agent = agents.find(|(known, _)| address.is_none_or(|address| **known > address));
        agent.map(|(_, agent)| agent.clone())
    }
}

impl World {
    fn add(&mut self, key: ServiceKey, servers: Vec<ServerView>) {
        let mut stats = StatsView::default();
        for server in &servers {
            stats.connections += server.stats.connections;
            stats.in_packets += server.stats.in_packets;
        }
        let spec = ServiceSpec::new(key, "rr");
        let view = ServiceView {
            guard: None,
            spec,
            stats,
            servers,
        };
        self.services.insert(key, view);
    }

    /// So many services with so many servers each.
    pub(crate) fn of(services: u16, servers: u16) -> World {
        let mut world = World::default();
        for port in 0..services {
            let servers = (0..servers).map(|number| server(number, number.into()));
            world.add(tcp(port), servers.collect());
        }
        world
    }
}

fn tcp(port: u16) -> ServiceKey {
    ServiceKey::new(Protocol::TCP, [192, 0, 2, 1], port)
}

fn server(number: u16, connections: u64) -> ServerView {
    let [high, low] = number.to_be_bytes();
    let spec = ServerSpec::new([10, 1, high, low], 8080, ForwardMethod::Nat, 2);
    ServerView {
        active: 3,
        inactive: 4,
        persistent: 5,
        stats: StatsView {
            connections,
            in_packets: 7,
            out_packets: 6,
            in_bytes: 700,
            out_bytes: 600,
            ..StatsView::default()
        },
        ..ServerView::new(spec)
    }
}

fn tally() -> CheckTally {
    const BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];
    let mut took = Spans::new(&BOUNDS);
    for millis in [1, 20, 30, 4000] {
        took.count(Duration::from_millis(millis));
    }
    CheckTally {
        kind: "http",
        up: 2,
        down: 1,
        passed: 3,
        failed: 1,
        took,
    }
}

pub(crate) fn snapshot() -> Snapshot {
    let mut turns = Turns::default();
    turns.count(Time::from_secs(1), Duration::from_micros(50));
    let drops = vec![DropView {
        reason: Reason::NoServer.name().to_owned(),
        packets: 12,
    }];
    Snapshot {
        status: StatusView {
            version: "0.1.0".to_owned(),
            uptime_secs: 5,
            interfaces: vec![InterfaceView {
                name: "eth0".to_owned(),
                received: 10,
                sent: 9,
                ring_losses: 2,
            }],
            connections: 7,
            half_open: 2,
            pushed_out: 5,
            unnamed_clients: 8,
            local_addresses: vec![LocalAddressView {
                address: [10, 9, 0, 1].into(),
                listed: true,
                connections: 6,
                fewest_left: 64_507,
                conflicts: 1,
            }],
            reports: Some(ReportsView {
                good: 11,
                ignored: Vec::new(),
            }),
            rivals: vec![RivalView {
                vip: [192, 0, 2, 1].into(),
                interface: "eth0".to_owned(),
                mac: "02:00:00:00:00:01".to_owned(),
                server: None,
            }],
            capture_keys: 3,
            given_back: 4,
            drops,
        },
        totals: StatsView {
            connections: 1 << 40,
            in_packets: 21,
            out_packets: 22,
            in_bytes: 23,
            out_bytes: 24,
            ..StatsView::default()
        },
        checks: vec![tally()],
        services: 1,
        most_connections: 4_000_000,
        most_half_open: 1_000_000,
        turns,
        reload: Reload {
            good: true,
            at_secs: 1_700_000_000,
        },
        scrapes: 1,
        cut_off: 0,
        process: Vec::new(),
    }
}

fn labels(labels: &[BackendLabel]) -> Options {
    Options {
        node_exporter_names: true,
        backend_labels: labels.iter().copied().collect(),
    }
}

/// The text, and how many pieces it took.
fn scrape(options: &Options, world: &World) -> (String, usize) {
    let mut scrape = Scrape::new(options, &snapshot());
    let mut pieces = 1;
    while scrape.step(world) == Progress::More {
        pieces += 1;
    }
    let text = scrape.into_texts().concat();
    (String::from_utf8(text).unwrap(), pieces)
}

/// The samples by name and labels. No two may be the same, and each family is in one place, with its help and
/// its type in front.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut families, mut family) = (BTreeSet::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            let kind = lines.next().unwrap();
            assert!(kind.starts_with(&format!("# TYPE {family} ")), "{kind}");
            assert!(families.insert(family.clone()), "{family} comes twice");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with(&family), "{line} below {family}");
        let before = samples.insert(name.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "{name} comes twice");
    }
    samples
}

#[test]
fn a_small_site_is_shown_whole() {
    let mut world = World::default();
    let mut down = server(2, 9);
    down.health = Health::Down;
    down.effective_weight = 0;
    down.reason = Some("client 203.0.113.9 said so".to_owned());
    world.add(tcp(80), vec![server(1, 5), down]);
    let (text, _) = scrape(&Options::default(), &world);
    let of_servers: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("lvs_") && line.contains("service="))
        .collect();
    let expected = "\
lvs_connections_total{service=\"TCP 192.0.2.1:80\"} 14
lvs_packets_total{service=\"TCP 192.0.2.1:80\",direction=\"in\"} 14
lvs_packets_total{service=\"TCP 192.0.2.1:80\",direction=\"out\"} 0
lvs_bytes_total{service=\"TCP 192.0.2.1:80\",direction=\"in\"} 0
lvs_bytes_total{service=\"TCP 192.0.2.1:80\",direction=\"out\"} 0
lvs_connections{service=\"TCP 192.0.2.1:80\",state=\"active\"} 6
lvs_connections{service=\"TCP 192.0.2.1:80\",state=\"inactive\"} 8
lvs_persistence_templates{service=\"TCP 192.0.2.1:80\"} 10
lvs_backends{service=\"TCP 192.0.2.1:80\",state=\"up\"} 1
lvs_backends{service=\"TCP 192.0.2.1:80\",state=\"draining\"} 0
lvs_backends{service=\"TCP 192.0.2.1:80\",state=\"down\"} 1
lvs_backend_connections_total{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\"} 5
lvs_backend_connections_total{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\"} 9
lvs_backend_packets_total{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\",direction=\"in\"} 7
lvs_backend_packets_total{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\",direction=\"in\"} 7
lvs_backend_packets_total{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\",direction=\"out\"} 6
lvs_backend_packets_total{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\",direction=\"out\"} 6
lvs_backend_bytes_total{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\",direction=\"in\"} 700
lvs_backend_bytes_total{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\",direction=\"in\"} 700
lvs_backend_bytes_total{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\",direction=\"out\"} 600
lvs_backend_bytes_total{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\",direction=\"out\"} 600
lvs_backend_connections{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\",state=\"active\"} 3
lvs_backend_connections{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\",state=\"active\"} 3
lvs_backend_connections{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\",state=\"inactive\"} 4
lvs_backend_connections{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\",state=\"inactive\"} 4
lvs_backend_persistence_templates{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\"} 5
lvs_backend_persistence_templates{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\"} 5
lvs_backend_configured_weight{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\"} 2
lvs_backend_configured_weight{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\"} 2
lvs_backend_effective_weight{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\"} 2
lvs_backend_effective_weight{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\"} 0
lvs_backend_up{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\"} 1
lvs_backend_up{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\"} 0
lvs_backend_draining{backend=\"10.1.0.1:8080\",service=\"TCP 192.0.2.1:80\"} 0
lvs_backend_draining{backend=\"10.1.0.2:8080\",service=\"TCP 192.0.2.1:80\"} 0";
    assert_eq!(of_servers, expected.lines().collect::<Vec<_>>());
    assert!(!text.contains("203.0.113.9"), "a label without bounds");
    assert!(!text.contains("node_ipvs"), "nobody asked for these");
}

#[test]
fn the_whole_director_is_shown() {
    let (text, _) = scrape(&Options::default(), &World::default());
    let samples = samples(&text);
    for (name, value) in [
        ("lvs_build_info{version=\"0.1.0\"}", 1.0),
        ("lvs_config_last_reload_successful", 1.0),
        (
            "lvs_config_last_reload_success_timestamp_seconds",
            1_700_000_000.0,
        ),
        ("lvs_director_connections_total", 1_099_511_627_776.0),
        ("lvs_director_packets_total{direction=\"in\"}", 21.0),
        ("lvs_director_bytes_total{direction=\"out\"}", 24.0),
        ("lvs_services", 1.0),
        ("lvs_conn_table_entries", 7.0),
        ("lvs_conn_table_capacity", 4e6),
        ("lvs_half_open_connections", 2.0),
        ("lvs_half_open_capacity", 1e6),
        ("lvs_half_open_evictions_total", 5.0),
        ("lvs_capture_keys", 3.0),
        ("lvs_vip_rivals", 1.0),
        ("lvs_given_back_packets_total", 4.0),
        (
            "lvs_interface_received_packets_total{interface=\"eth0\"}",
            10.0,
        ),
        ("lvs_interface_sent_packets_total{interface=\"eth0\"}", 9.0),
        ("lvs_ring_drops_total{interface=\"eth0\"}", 2.0),
        ("lvs_toa_omitted_packets_total", 8.0),
        (
            "lvs_fullnat_ports_free{local_address=\"10.9.0.1\"}",
            64_507.0,
        ),
        ("lvs_fullnat_connections{local_address=\"10.9.0.1\"}", 6.0),
        (
            "lvs_fullnat_port_conflicts_total{local_address=\"10.9.0.1\"}",
            1.0,
        ),
        ("lvs_agent_reports_total", 11.0),
        ("lvs_checks{kind=\"http\",state=\"up\"}", 2.0),
        ("lvs_checks{kind=\"http\",state=\"down\"}", 1.0),
        ("lvs_checks_total{kind=\"http\",outcome=\"success\"}", 3.0),
        ("lvs_checks_total{kind=\"http\",outcome=\"failure\"}", 1.0),
        (
            "lvs_check_duration_seconds_bucket{kind=\"http\",le=\"1\"}",
            3.0,
        ),
        (
            "lvs_check_duration_seconds_bucket{kind=\"http\",le=\"+Inf\"}",
            4.0,
        ),
        ("lvs_check_duration_seconds_sum{kind=\"http\"}", 4.051),
        ("lvs_loop_turn_duration_seconds_bucket{le=\"0.0001\"}", 1.0),
        ("lvs_loop_turn_duration_seconds_count", 1.0),
        ("lvs_loop_longest_turn_seconds", 0.00005),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}:\n{text}");
    }
    for reason in Reason::ALL {
        let name = format!("lvs_drops_total{{reason=\"{}\"}}", reason.name());
        let packets = if *reason == Reason::NoServer {
            12.0
        } else {
            0.0
        };
        assert_eq!(samples.get(&name), Some(&packets), "{name}");
    }
}

/// The sorry server is none of the servers that it stands in for.
#[test]
fn services_that_are_watched_over_show_their_quorum() {
    let mut world = World::default();
    let mut down = server(1, 0);
    down.health = Health::Down;
    let mut sorry = server(2, 0);
    sorry.sorry = true;
    world.add(tcp(80), vec![down, sorry]);
    world.services.get_mut(&tcp(80)).unwrap().guard = Some(GuardView {
        weight: 1,
        quorum: 3,
        has_quorum: false,
        panic: true,
    });
    world.add(tcp(81), vec![server(1, 0)]);
    let (text, _) = scrape(&Options::default(), &world);
    let samples = samples(&text);
    let guarded = samples.iter();
    let guarded = guarded.filter(|(name, _)| name.starts_with("lvs_service_"));
    let guarded: Vec<(&str, f64)> = guarded.map(|(name, value)| (&name[..], *value)).collect();
    let expected = [
        ("has_quorum", 0.0),
        ("panic", 1.0),
        ("quorum", 3.0),
        ("sorry_server_active", 1.0),
        ("weight", 1.0),
    ]
    .map(|(name, value)| {
        (
            format!("lvs_service_{name}{{service=\"TCP 192.0.2.1:80\"}}"),
            value,
        )
    });
    let expected: Vec<(&str, f64)> = expected
        .iter()
        .map(|(name, value)| (&name[..], *value))
        .collect();
    assert_eq!(guarded, expected);
    let up = samples["lvs_backends{service=\"TCP 192.0.2.1:80\",state=\"up\"}"];
    assert_eq!(up as u32, 0);
}

/// To the byte, as node_exporter writes them.
#[test]
fn node_exporters_eight_are_unchanged() {
    let mut world = World::default();
    world.add(tcp(80), vec![server(1, 5)]);
    let mark = ServiceKey::Mark {
        mark: 7,
        family: Family::V4,
    };
    world.add(mark, vec![server(1, 5)]);
    let options = Options {
        node_exporter_names: true,
        ..Options::default()
    };
    let (text, _) = scrape(&options, &world);
    let theirs: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("node_ipvs_"))
        .collect();
    let address = "{local_address=\"192.0.2.1\",local_mark=\"\",local_port=\"80\",proto=\"TCP\",\
                   remote_address=\"10.1.0.1\",remote_port=\"8080\"}";
    let mark = "{local_address=\"\",local_mark=\"00000007\",local_port=\"0\",proto=\"FWM\",\
                remote_address=\"10.1.0.1\",remote_port=\"8080\"}";
    let mut expected = "\
# HELP node_ipvs_connections_total The total number of connections made.
# TYPE node_ipvs_connections_total counter
node_ipvs_connections_total 1099511627776
# HELP node_ipvs_incoming_packets_total The total number of incoming packets.
# TYPE node_ipvs_incoming_packets_total counter
node_ipvs_incoming_packets_total 21
# HELP node_ipvs_outgoing_packets_total The total number of outgoing packets.
# TYPE node_ipvs_outgoing_packets_total counter
node_ipvs_outgoing_packets_total 22
# HELP node_ipvs_incoming_bytes_total The total amount of incoming data.
# TYPE node_ipvs_incoming_bytes_total counter
node_ipvs_incoming_bytes_total 23
# HELP node_ipvs_outgoing_bytes_total The total amount of outgoing data.
# TYPE node_ipvs_outgoing_bytes_total counter
node_ipvs_outgoing_bytes_total 24
"
    .to_owned();
    for (name, help, value) in [
        (
            "connections_active",
            "The current active connections by local and remote address.",
            3,
        ),
        (
            "connections_inactive",
            "The current inactive connections by local and remote address.",
            4,
        ),
        (
            "weight",
            "The current backend weight by local and remote address.",
            2,
        ),
    ] {
        let name = format!("node_ipvs_backend_{name}");
        expected += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        expected += &format!("{name}{address} {value}\n{name}{mark} {value}\n");
    }
    assert_eq!(theirs, expected.lines().collect::<Vec<_>>());
}

#[test]
fn labels_that_are_left_out_are_summed() {
    let world = World::of(3, 2);
    let connections = |kept: &[BackendLabel]| -> Vec<(String, f64)> {
        let (text, _) = scrape(&labels(kept), &world);
        let samples = samples(&text).into_iter();
        samples
            .filter(|(name, _)| {
                name.starts_with("lvs_backend_connections_total")
                    || name.starts_with("node_ipvs_backend_weight")
            })
            .collect()
    };
    let row = |name: &str, value: f64| (name.to_owned(), value);
    assert_eq!(
        connections(&[]),
        [
            row("lvs_backend_connections_total", 3.0),
            row("node_ipvs_backend_weight", 12.0)
        ]
    );
    assert_eq!(
        connections(&[BackendLabel::Backend, BackendLabel::LocalPort]),
        [
            row(
                "lvs_backend_connections_total{backend=\"10.1.0.0:8080\"}",
                0.0
            ),
            row(
                "lvs_backend_connections_total{backend=\"10.1.0.1:8080\"}",
                3.0
            ),
            row("node_ipvs_backend_weight{local_port=\"0\"}", 4.0),
            row("node_ipvs_backend_weight{local_port=\"1\"}", 4.0),
            row("node_ipvs_backend_weight{local_port=\"2\"}", 4.0),
        ]
    );
}

/// Whatever the shape of a site, its text is sound and complete, and no piece is much larger than another.
#[test]
fn large_sites_come_in_pieces() {
    for (services, servers) in [(1, 1000), (200, 10), (3 * SERVICES as u16, 0), (500, 1)] {
        let world = World::of(services, servers);
        let all = usize::from(services) * usize::from(servers);
        let by_backend = usize::from(servers);
        let wholes = Options {
            node_exporter_names: true,
            ..Options::default()
        };
        for (options, expected) in [
            (wholes, all),
            (labels(&[BackendLabel::Backend]), by_backend),
        ] {
            let (text, pieces) = scrape(&options, &world);
            let samples = samples(&text);
            let backends = samples
                .keys()
                .filter(|name| name.starts_with("lvs_backend_up{"));
            assert_eq!(backends.count(), expected);
            let sum: f64 = samples
                .iter()
                .filter(|(name, _)| name.starts_with("lvs_backend_up{"))
                .map(|(_, up)| up)
                .sum();
            assert_eq!(sum as usize, all);
            let least = (all / SERVERS).max(usize::from(services) / SERVICES);
            assert!(pieces >= least, "{pieces} pieces");
        }
    }
}

#[test]
fn services_that_come_and_go_meanwhile_spoil_nothing() {
    let mut world = World::of(100, 10);
    let mut scrape = Scrape::new(&Options::default(), &snapshot());
    let mut port = 0;
    while scrape.step(&world) == Progress::More {
        // What was there before goes, comes back and gets company.
        world.services.remove(&tcp(port));
        world.add(tcp(port + 1), vec![server(9, 9)]);
        world.add(tcp(1000 + port), vec![server(1, 1)]);
        port += 2;
    }
    let text = String::from_utf8(scrape.into_texts().concat()).unwrap();
    assert!(samples(&text).len() > 500);
}

#[test]
fn agents_are_shown_by_their_address() {
    let mut world = World::default();
    for number in 0..200_u8 {
        let address = IpAddr::from([10, 1, 0, number]);
        let agent = AgentView {
            address,
            identity: "\"x\"\n".to_owned(),
            state: "ready".to_owned(),
            age_ms: 250,
            interval_ms: 200,
            healthy: number != 3,
            arp_suppressed: true,
            missing_vips: Vec::new(),
            failed_checks: Vec::new(),
            faults: Vec::new(),
            wanted_weight: None,
            cpu_percent: 0,
            run_queue_thousandths: 0,
            listen_queue: 4,
            connections: 5,
            servers: 1,
        };
        world.agents.insert(address, agent);
    }
    let (text, _) = scrape(&Options::default(), &world);
    let samples = samples(&text);
    let value = |name: &str| samples[&format!("lvs_agent_{name}{{agent=\"10.1.0.3\"}}")];
    assert!((value("report_age_seconds") - 0.25).abs() < 1e-9);
    assert_eq!(value("healthy") as u32, 0);
    assert_eq!(value("waiting_connections") as u32, 4);
    assert_eq!(value("connections") as u32, 5);
    let all = samples
        .keys()
        .filter(|name| name.starts_with("lvs_agent_healthy"));
    assert_eq!(all.count(), 200);
}

#[test]
fn by_default_all_labels_are_kept() {
    assert_eq!(
        BackendLabels::default().of(&BackendLabel::OWN),
        BackendLabel::OWN
    );
}
