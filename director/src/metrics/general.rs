//! What there is once: the director as a whole, its interfaces, its loop.

use std::net::IpAddr;

use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

use super::family::Kind::{self, Counter, Gauge};
use super::family::{Family, encode, row};
use super::sheet::{Measure, Sheet};
use super::turns::Turns;
use crate::core::reason::Reason;
use crate::core::spans::Spans;
use crate::core::view::{CheckTally, InterfaceView, StatsView, StatusView};

/// The director at one instant, but for its services and agents, which a scrape asks for one by one.
#[derive(Debug)]
pub struct Snapshot {
    /// What `lvsadm status` tells.
    pub status: StatusView,
    /// Counters of all services together, also of those that are gone.
    pub totals: StatsView,
    /// What the health checks of each kind came to.
    pub checks: Vec<CheckTally>,
    /// How many services there are.
    pub services: usize,
    /// As many connections there may be.
    pub most_connections: u32,
    /// As many of these may be half-open.
    pub most_half_open: u32,
    /// How the loop does.
    pub turns: Turns,
    /// How the last reading of the configuration went.
    pub reload: Reload,
    /// Scrapes that were begun, with this one.
    pub scrapes: u64,
    /// HTTP clients that had to go: they were too slow, or made room for others.
    pub cut_off: u64,
    /// `process_*`, as the machine tells them.
    pub process: Vec<MetricFamily>,
}

/// How reading the configuration went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reload {
    /// Whether the last one that was asked for is in force.
    pub good: bool,
    /// When the one that is in force was read, seconds since 1970.
    pub at_secs: u64,
}

/// The text of all that is in a snapshot; with `node` also node_exporter's five totals.
pub(super) fn text(snapshot: &Snapshot, node: bool) -> Vec<u8> {
    let mut text = Vec::new();
    director(&mut text, snapshot);
    traffic(&mut text, &snapshot.totals);
    tables(&mut text, snapshot);
    packets(&mut text, &snapshot.status);
    full_nat(&mut text, &snapshot.status);
    reports(&mut text, &snapshot.status);
    checks(&mut text, &snapshot.checks);
    turns(&mut text, &snapshot.turns);
    if node {
        node_exporter(&mut text, &snapshot.totals);
    }
    let process = snapshot.process.iter();
    let process: Vec<MetricFamily> = process
        .filter(|family| !family.get_metric().is_empty())
        .cloned()
        .collect();
    encode(&process, &mut text);
    text
}

fn director(text: &mut Vec<u8>, snapshot: &Snapshot) {
    family(
        text,
        ("lvs_build_info", "The director's version; the value is 1."),
        Gauge,
        [(("version", snapshot.status.version.clone()), 1.0)],
    );
    let reload = snapshot.reload;
    single(
        text,
        "lvs_config_last_reload_successful",
        "Whether the configuration could be read when that was last asked for.",
        Gauge,
        f64::from(u8::from(reload.good)),
    );
    single(
        text,
        "lvs_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read, since 1970.",
        Gauge,
        reload.at_secs as f64,
    );
    single(
        text,
        "lvs_scrapes_total",
        "Scrapes that were begun, with this one.",
        Counter,
        snapshot.scrapes as f64,
    );
    single(
        text,
        "lvs_http_clients_cut_off_total",
        "HTTP clients that were too slow, or had to make room for others.",
        Counter,
        snapshot.cut_off as f64,
    );
}

fn traffic(text: &mut Vec<u8>, totals: &StatsView) {
    single(
        text,
        "lvs_director_connections_total",
        "Connections scheduled, of all services that there are or were.",
        Counter,
        totals.connections as f64,
    );
    family(
        text,
        (
            "lvs_director_packets_total",
            "Packets from clients (in) and to clients (out), of all services that there are or were.",
        ),
        Counter,
        both_ways(totals.in_packets, totals.out_packets),
    );
    family(
        text,
        (
            "lvs_director_bytes_total",
            "Bytes of IP packets from clients (in) and to clients (out), of all services that there are or were.",
        ),
        Counter,
        both_ways(totals.in_bytes, totals.out_bytes),
    );
}

fn tables(text: &mut Vec<u8>, snapshot: &Snapshot) {
    let status = &snapshot.status;
    let numbers = [
        ("lvs_services", "Services.", snapshot.services as f64),
        (
            "lvs_conn_table_entries",
            "Connections and persistence templates in the table.",
            status.connections as f64,
        ),
        (
            "lvs_conn_table_capacity",
            "Connections and persistence templates that the table may have.",
            snapshot.most_connections.into(),
        ),
        (
            "lvs_half_open_connections",
            "Connections of which only one end has been heard.",
            status.half_open as f64,
        ),
        (
            "lvs_half_open_capacity",
            "Half-open connections that there may be.",
            snapshot.most_half_open.into(),
        ),
        (
            "lvs_vip_rivals",
            "Others that answer ARP or neighbour discovery for VIPs in the director's place.",
            status.rivals.len() as f64,
        ),
        (
            "lvs_capture_keys",
            "Keys by which the capture program knows what to take.",
            status.capture_keys as f64,
        ),
    ];
    for (name, help, value) in numbers {
        single(text, name, help, Gauge, value);
    }
    single(
        text,
        "lvs_half_open_evictions_total",
        "Half-open connections that had to make room for newer ones.",
        Counter,
        status.pushed_out as f64,
    );
}

fn packets(text: &mut Vec<u8>, status: &StatusView) {
    let dropped = |reason: Reason| {
        let counted = status
            .drops
            .iter()
            .find(|drop| drop.reason == reason.name());
        counted.map_or(0.0, |drop| drop.packets as f64)
    };
    family(
        text,
        ("lvs_drops_total", "Packets that were dropped, by reason."),
        Counter,
        Reason::ALL
            .iter()
            .map(|&reason| (("reason", reason.name().to_owned()), dropped(reason))),
    );
    single(
        text,
        "lvs_given_back_packets_total",
        "Packets that were taken and then given to the host after all.",
        Counter,
        status.given_back as f64,
    );
    let mut interfaces = |name, help, count: fn(&InterfaceView) -> u64| {
        let rows = status.interfaces.iter();
        let rows = rows.map(|interface| {
            let name = interface.name.clone();
            (("interface", name), count(interface) as f64)
        });
        family(text, (name, help), Counter, rows);
    };
    interfaces(
        "lvs_interface_received_packets_total",
        "Packets taken from the interface.",
        |interface| interface.received,
    );
    interfaces(
        "lvs_interface_sent_packets_total",
        "Packets sent by the interface.",
        |interface| interface.sent,
    );
    interfaces(
        "lvs_ring_drops_total",
        "Packets that the interface's ring had no room for.",
        |interface| interface.ring_losses,
    );
}

fn full_nat(text: &mut Vec<u8>, status: &StatusView) {
    single(
        text,
        "lvs_toa_omitted_packets_total",
        "Segments that had no room for the option that names the client to the real server.",
        Counter,
        status.unnamed_clients as f64,
    );
    let locals = || status.local_addresses.iter();
    let of = |address: &IpAddr| ("local_address", address.to_string());
    family(
        text,
        (
            "lvs_fullnat_ports_free",
            "Ports of the local address that are left towards the real server that has the most of them.",
        ),
        Gauge,
        locals().map(|local| (of(&local.address), local.fewest_left.into())),
    );
    family(
        text,
        (
            "lvs_fullnat_connections",
            "Connections that have a port of the local address.",
        ),
        Gauge,
        locals().map(|local| (of(&local.address), local.connections.into())),
    );
    family(
        text,
        (
            "lvs_fullnat_port_conflicts_total",
            "How often all ports of the local address towards a real server were taken.",
        ),
        Counter,
        locals().map(|local| (of(&local.address), local.conflicts as f64)),
    );
}

fn reports(text: &mut Vec<u8>, status: &StatusView) {
    let Some(reports) = &status.reports else {
        return;
    };
    single(
        text,
        "lvs_agent_reports_total",
        "Good reports of agents.",
        Counter,
        reports.good as f64,
    );
    family(
        text,
        (
            "lvs_agent_reports_ignored_total",
            "Reports of agents that count for nothing, by reason.",
        ),
        Counter,
        reports
            .ignored
            .iter()
            .map(|ignored| (("reason", ignored.reason.clone()), ignored.packets as f64)),
    );
}

/// By kind, not by server: their number is bounded.
fn checks(text: &mut Vec<u8>, tallies: &[CheckTally]) {
    let label = |tally: &CheckTally| ("kind", tally.kind.to_owned());
    let mut sheet = Sheet::new(CHECKS);
    let rows = tallies.iter();
    sheet.add(
        rows.map(|tally| (vec![label(tally)], tally.clone()))
            .collect(),
    );
    sheet.into_texts().for_each(|family| text.extend(family));
    let name = "lvs_check_duration_seconds";
    let help = "What health checks took, those that failed included.";
    let samples = tallies.iter().map(|tally| {
        let mut sample = row([label(tally)]);
        sample.set_histogram(histogram(&tally.took));
        sample
    });
    histograms(text, (name, help), samples.collect());
}

const CHECKS: &[Measure<CheckTally>] = &[
    Measure {
        name: "lvs_checks",
        help: "Health checks of real servers, by whether the servers are up as far as they go.",
        kind: Gauge,
        parts: &[
            (Some(("state", "up")), |tally| tally.up as f64),
            (Some(("state", "down")), |tally| tally.down as f64),
        ],
    },
    Measure {
        name: "lvs_checks_total",
        help: "Health checks that were made.",
        kind: Counter,
        parts: &[
            (Some(("outcome", "success")), |tally| tally.passed as f64),
            (Some(("outcome", "failure")), |tally| tally.failed as f64),
        ],
    },
];

fn turns(text: &mut Vec<u8>, turns: &Turns) {
    let mut sample = Metric::default();
    sample.set_histogram(histogram(turns.spans()));
    let name = "lvs_loop_turn_duration_seconds";
    let help = "What the turns of the loop took, waiting left out.";
    histograms(text, (name, help), vec![sample]);
    single(
        text,
        "lvs_loop_longest_turn_seconds",
        "The longest turn of the loop in the last one to two minutes.",
        Gauge,
        turns.longest().as_secs_f64(),
    );
}

/// Names and help of node_exporter's collector ipvs.
fn node_exporter(text: &mut Vec<u8>, totals: &StatsView) {
    let counters = [
        (
            "node_ipvs_connections_total",
            "The total number of connections made.",
            totals.connections,
        ),
        (
            "node_ipvs_incoming_packets_total",
            "The total number of incoming packets.",
            totals.in_packets,
        ),
        (
            "node_ipvs_outgoing_packets_total",
            "The total number of outgoing packets.",
            totals.out_packets,
        ),
        (
            "node_ipvs_incoming_bytes_total",
            "The total amount of incoming data.",
            totals.in_bytes,
        ),
        (
            "node_ipvs_outgoing_bytes_total",
            "The total amount of outgoing data.",
            totals.out_bytes,
        ),
    ];
    for (name, help, count) in counters {
        single(text, name, help, Counter, count as f64);
    }
}

type Sample = ((&'static str, String), f64);

fn both_ways(requests: u64, replies: u64) -> [Sample; 2] {
    [
        (("direction", "in".to_owned()), requests as f64),
        (("direction", "out".to_owned()), replies as f64),
    ]
}

fn histogram(spans: &Spans) -> Histogram {
    let buckets = spans.cumulative().map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(spans.number());
    histogram.set_sample_sum(spans.sum().as_secs_f64());
    histogram
}

/// A family of histograms, unless there is none.
fn histograms(text: &mut Vec<u8>, (name, help): (&str, &str), samples: Vec<Metric>) {
    if samples.is_empty() {
        return;
    }
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(samples);
    encode(&[family], text);
}

/// A family with one label.
fn family(
    text: &mut Vec<u8>,
    (name, help): (&str, &str),
    kind: Kind,
    samples: impl IntoIterator<Item = Sample>,
) {
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (label, value) in samples {
        rows.push(row([label]));
        values.push(value);
    }
    let mut family = Family::new(name, help, kind);
    family.add(&mut rows, |place| values[place]);
    text.append(&mut family.into_text());
}

/// A family of one sample without labels.
fn single(text: &mut Vec<u8>, name: &str, help: &str, kind: Kind, value: f64) {
    let mut family = Family::new(name, help, kind);
    family.add(&mut vec![row([])], |_| value);
    text.append(&mut family.into_text());
}
