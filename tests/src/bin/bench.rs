//! `make bench`: the director beside plain forwarding, nftables, haproxy and nginx.

use std::path::Path;

use clap::{Parser, ValueEnum};
use laboratory::bench::{
    agents, checks, deaths, families, flood, methods, packets, report::Row, requests, round_trip,
    scrape, streams,
};
use serde_json::{Value, json};

/// Measures the director beside plain forwarding of the kernel, nftables, haproxy and nginx.
#[derive(Debug, Parser)]
struct Options {
    /// What is measured; everything when nothing is named.
    #[arg(value_enum)]
    kinds: Vec<Kind>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Where everything is written to, as JSON.
    #[arg(long, default_value = "target/bench.json")]
    json: std::path::PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// 64-byte UDP packets one way.
    Packets,
    /// TCP in bulk.
    Streams,
    /// Short HTTP connections.
    Requests,
    /// UDP round trips.
    RoundTrip,
    /// Firewall marks and FULLNAT beside NAT, tunnels beside the kernel's forwarding.
    Methods,
    /// IPv6 beside IPv4.
    Families,
    /// Reports of a thousand real servers.
    Agents,
    /// Prometheus at a site of ten thousand real servers.
    Scrape,
    /// Health checks of a thousand real servers.
    Checks,
    /// Real servers that die and return at random under load.
    Deaths,
    /// SYNs of invented clients, and what becomes of honest ones.
    Flood,
}

/// So many repetitions.
type Measure = fn(usize) -> Vec<Row>;

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let wanted = |kind| options.kinds.is_empty() || options.kinds.contains(&kind);
    let kinds: [(Kind, Measure); 11] = [
        (Kind::Packets, packets::measure),
        (Kind::Streams, streams::measure),
        (Kind::Requests, requests::measure),
        (Kind::RoundTrip, round_trip::measure),
        (Kind::Methods, methods::measure),
        (Kind::Families, families::measure),
        (Kind::Agents, agents::measure),
        (Kind::Scrape, scrape::measure),
        (Kind::Checks, checks::measure),
        (Kind::Deaths, deaths::measure),
        (Kind::Flood, flood::measure),
    ];
    let mut all: Vec<Value> = Vec::new();
    for (kind, measure) in kinds {
        if wanted(kind) {
            for row in measure(options.repeat) {
                println!("{}", row.text());
                all.push(row.json());
            }
        }
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let result = json!({ "kernel": kernel.trim(), "repeat": options.repeat, "rows": all });
    if let Some(folder) = options
        .json
        .parent()
        .filter(|folder| *folder != Path::new(""))
    {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.json, format!("{result:#}\n"))
}
