//! Prometheus itself: its server scrapes a director under load, and its tool reads what it gets.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use laboratory::host::Host;
use laboratory::process::{Process, scratch};
use laboratory::wait::{SOON, wait_for};
use laboratory::web::page;
use serde_json::Value;

use super::{USUAL, lab, requests};

/// A Prometheus server on a host, which scrapes the director there five times a second.
struct Prometheus {
    process: Process,
    folder: PathBuf,
}

impl Prometheus {
    fn start(host: &Host) -> Prometheus {
        let folder = scratch("prometheus");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("prometheus.yml");
        let configuration = "global: { scrape_interval: 200ms, scrape_timeout: 200ms }\n\
             scrape_configs:\n\
             - job_name: lvs\n  static_configs: [ { targets: [ \"127.0.0.1:9110\" ] } ]\n";
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={SERVER}"));
        let process = host.spawn(command);
        let prometheus = Prometheus { process, folder };
        let ready = wait_for(SOON, || {
            page(host, server(), "/-/ready").is_ok_and(|(head, _)| head.contains(" 200 "))
        });
        assert!(ready, "{}", prometheus.process.printed());
        prometheus
    }

    /// The value of a query that has one.
    fn query(&self, host: &Host, expression: &str) -> Option<f64> {
        let url = format!("http://{SERVER}/api/v1/query");
        let query = format!("query={expression}");
        let words = ["-sS", "-m", "20", "-G", "--data-urlencode", &query, &url];
        let answer = host.succeed("curl", &words);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let value = answer["data"]["result"][0]["value"][1].as_str()?;
        value.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const SERVER: &str = "127.0.0.1:9090";

fn server() -> SocketAddr {
    SERVER.parse().unwrap()
}

#[test]
fn its_queries_give_what_clients_counted() {
    let (lab, _web, director, _config) = lab("[metrics]\nnode_exporter_names = true\n");
    let host = &lab.director;
    let prometheus = Prometheus::start(host);
    let seen = |expression: &str| prometheus.query(host, expression);
    assert!(wait_for(SOON, || seen("up{job=\"lvs\"}") == Some(1.0)));
    // It scrapes all the while.
    for _ in 0..5 {
        requests(&lab, 300);
    }
    for expression in [
        "sum(lvs_connections_total)",
        "sum(lvs_backend_connections_total)",
        "lvs_director_connections_total",
        "node_ipvs_connections_total",
        "sum(lvs_backend_connections_total{backend=\"10.1.0.11:8080\"}) * 2",
    ] {
        let right = wait_for(SOON, || seen(expression) == Some(1500.0));
        assert!(right, "{expression}: {:?}", seen(expression));
    }
    // Three packets at least of each client, and the director dropped none.
    assert!(seen("sum(lvs_packets_total{direction=\"in\"})") > Some(4500.0));
    assert_eq!(seen("sum(lvs_drops_total)"), Some(0.0));
    assert_eq!(seen("sum(lvs_backend_up)"), Some(2.0));
    assert_eq!(
        seen("node_ipvs_backend_weight{remote_address=\"10.1.0.12\"}"),
        Some(3.0)
    );
    assert_eq!(seen("count(lvs_build_info)"), Some(1.0));
    // No scrape failed.
    assert_eq!(seen("min_over_time(up{job=\"lvs\"}[1h])"), Some(1.0));
    drop(director);
    assert!(wait_for(SOON, || seen("up{job=\"lvs\"}") == Some(0.0)));
}

/// Prometheus' own judgement of names, units, help and types.
#[test]
fn its_tool_has_no_complaint() {
    let text = everything();
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: make test installs it");
    tool.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = tool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
    for name in [
        "lvs_fullnat_ports_free",
        "lvs_agent_reports_total",
        "lvs_check_duration_seconds_bucket",
        "lvs_service_has_quorum",
    ] {
        assert!(text.contains(name), "{name}");
    }
}

/// What a director shows that has all there is.
fn everything() -> String {
    let all = "[metrics]\nnode_exporter_names = true\n[agents]\ninsecure = true\n\
               [fullnat]\nlocal_addresses = [\"10.1.0.9\"]\n\
               [[service]]\naddress = \"10.0.0.100:81\"\nprotocol = \"tcp\"\n\
               check = { type = \"tcp\", interval = \"1s\" }\n\
               [[service.server]]\naddress = \"10.1.0.11:8080\"\nforward = \"nat\"\n";
    let (lab, _web, _director, _config) = lab(all);
    page(&lab.director, USUAL, "/metrics").unwrap().1
}

/// The rules are sound, and what they ask for is there.
#[test]
fn the_alerts_ask_for_what_there_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = folder.join("../init/examples/prometheus/lvs.rules.yml");
    let mut tool = Command::new("promtool");
    let output = tool.args(["check", "rules"]).arg(&file).output();
    let output = output.expect("promtool: make test installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = everything();
    let rules = fs::read_to_string(&file).unwrap();
    let expressions = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = expressions.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let names: Vec<&str> = words.filter(|word| word.starts_with("lvs_")).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let shown = text.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        assert!(shown, "{name} is not shown");
    }
}
