//! What the director shows over HTTP: held against `lvsadm`, against what clients counted, and against what
//! Prometheus' own tools say of it.

#![allow(clippy::unwrap_used, reason = "a test may end here")]

mod port;
mod prometheus;
mod size;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use laboratory::host::Host;
use laboratory::process::scratch;
use laboratory::programs::{Director, Nginx};
use laboratory::topology::Routed;
use laboratory::wait::{SOON, wait_for};
use laboratory::web::page;

/// Where the director listens unless told otherwise.
const USUAL: SocketAddr = director::config::Metrics::USUAL;

/// A configuration that goes with the test.
struct Config(PathBuf);

impl Config {
    fn new(text: &str) -> Config {
        let config = Config(scratch("toml"));
        config.write(text);
        config
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    fn start(&self, host: &Host) -> Director {
        Director::start_with(host, &["--config", self.0.to_str().unwrap()])
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The samples of a scrape, by name and labels.
fn samples(host: &Host, at: SocketAddr) -> BTreeMap<String, f64> {
    let (head, body) = page(host, at, "/metrics").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    pairs.collect()
}

const SERVICES: &str = r#"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"

  [[service.server]]
  address = "10.1.0.11:8080"
  forward = "nat"

  [[service.server]]
  address = "10.1.0.12:8080"
  forward = "nat"
  weight = 3
"#;

/// Two web servers behind a director with this in front of its services.
fn lab(settings: &str) -> (Routed, Vec<Nginx>, Director, Config) {
    let lab = Routed::new(2);
    let servers = lab.servers.iter();
    let web = servers.map(|server| Nginx::start(server, server.name(), 8080, None));
    let web = web.collect();
    let config = Config::new(&format!("{settings}{SERVICES}"));
    let director = config.start(&lab.director);
    (lab, web, director, config)
}

/// So many requests, a connection for each.
fn requests(lab: &Routed, many: usize) {
    let url = format!("http://10.0.0.100/?[1-{many}]");
    let answers = lab
        .client
        .succeed("curl", &["-sS", "-m", "60", "--http1.0", &url]);
    assert_eq!(answers.lines().count(), many);
}

/// What `lvsadm -Ln --stats --exact` says in the lines that begin so: all but the name.
fn stats(director: &Director, line: &str) -> Vec<f64> {
    let text = director.admin("-Ln --stats --exact");
    let lines = text.lines().map(str::trim_start);
    let line = lines.into_iter().find(|known| known.starts_with(line));
    let words = line.unwrap_or_else(|| panic!("{text}")).split_whitespace();
    let numbers: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers.len(), 5, "{text}");
    numbers
}

#[test]
fn the_numbers_are_those_of_lvsadm() {
    let (lab, _web, director, _config) = lab("[metrics]\nnode_exporter_names = true\n");
    requests(&lab, 300);
    // The last packets of the last connections.
    let mut before = Vec::new();
    let quiet = wait_for(SOON, || {
        let now = stats(&director, "TCP");
        let same = now == before;
        before = now;
        std::thread::sleep(std::time::Duration::from_millis(100));
        same
    });
    assert!(quiet);
    let samples = samples(&lab.director, USUAL);
    let shown = |prefix: &str, labels: &str| -> Vec<f64> {
        let mut names = vec![format!("{prefix}connections_total{{{labels}}}")];
        for unit in ["packets", "bytes"] {
            for direction in ["in", "out"] {
                let name = format!("{prefix}{unit}_total{{{labels},direction=\"{direction}\"}}");
                names.push(name);
            }
        }
        let names = names.iter();
        names
            .map(|name| *samples.get(name).unwrap_or_else(|| panic!("{name}")))
            .collect()
    };
    let service = "service=\"TCP 10.0.0.100:80\"";
    let listed = stats(&director, "TCP");
    assert_eq!(listed[0] as u64, 300);
    assert_eq!(shown("lvs_", service), listed);
    for server in ["10.1.0.11:8080", "10.1.0.12:8080"] {
        let labels = format!("backend=\"{server}\",{service}");
        let listed = stats(&director, &format!("-> {server}"));
        assert_eq!(listed[0] as u64, 150);
        assert_eq!(shown("lvs_backend_", &labels), listed);
    }
    let totals = [
        "connections",
        "incoming_packets",
        "outgoing_packets",
        "incoming_bytes",
    ];
    for (name, number) in totals.iter().zip(&listed) {
        let sample = samples[&format!("node_ipvs_{name}_total")];
        assert!((sample - number).abs() < 0.5, "{name}");
    }
    // Zeroed, both are.
    director.admin("-Z");
    let zeroed = self::samples(&lab.director, USUAL);
    assert_eq!(stats(&director, "TCP"), [0.0; 5]);
    assert!(zeroed[&format!("lvs_connections_total{{{service}}}")].abs() < 0.5);
}

/// Weights and health are those of the listing, each drop has its reason, and the loop counts its turns.
#[test]
fn the_state_is_shown() {
    let (lab, _web, director, _config) = lab("");
    director.admin("drain 10.1.0.12");
    let get = |name: &str| {
        let samples = samples(&lab.director, USUAL);
        *samples.get(name).unwrap_or_else(|| panic!("{name}")) as i64
    };
    let of = |name: &str, server: u8| {
        get(&format!(
            "lvs_backend_{name}{{backend=\"10.1.0.{server}:8080\",service=\"TCP 10.0.0.100:80\"}}"
        ))
    };
    for (name, first, second) in [
        ("configured_weight", 1, 3),
        ("effective_weight", 1, 0),
        ("up", 1, 0),
        ("draining", 0, 1),
    ] {
        assert_eq!((of(name, 11), of(name, 12)), (first, second), "{name}");
    }
    assert_eq!(
        get("lvs_backends{service=\"TCP 10.0.0.100:80\",state=\"up\"}"),
        1
    );
    director.admin("drain 10.1.0.11");
    let url = "http://10.0.0.100/";
    let refused = lab.client.output("curl", &["-sS", "-m", "20", url]);
    assert!(!refused.status.success());
    assert_eq!(get("lvs_drops_total{reason=\"no_server\"}"), 1);
    assert_eq!(get("lvs_drops_total{reason=\"table_full\"}"), 0);
    assert!(get("lvs_interface_received_packets_total{interface=\"cl\"}") > 0);
    assert!(get("lvs_loop_turn_duration_seconds_count") > 0);
    assert!(get("process_resident_memory_bytes") > 1_000_000);
    assert!(get("process_start_time_seconds") > 1_600_000_000);
    assert_eq!(get("lvs_config_last_reload_successful"), 1);
}
