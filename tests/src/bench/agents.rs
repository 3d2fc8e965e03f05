//! A thousand agents that report each second: what it costs the director to hear them.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use shared::agent::{self, State};

use super::VIP;
use super::cpu::{self, ENDS, MIDDLE, Used, pin_self};
use super::lane::Middle;
use super::report::Row;
use crate::agent::Agent;
use crate::host::Host;
use crate::link::cable;
use crate::process::scratch;
use crate::programs::Director;
use crate::wait::{SOON, wait_for};

/// All rows of this kind, so many repetitions.
pub fn measure(repeat: usize) -> Vec<Row> {
    let (servers, host) = (Host::new("servers"), Host::new("director"));
    cable((&servers, "eth0"), (&host, "rs"));
    servers.address("eth0", "10.1.0.11/24");
    host.address("rs", &format!("{HOST}/24"));
    // All of these are the one host's.
    servers.succeed("ip", &["route", "add", "local", NETWORK, "dev", "lo"]);
    host.succeed("ip", &["route", "add", NETWORK, "via", "10.1.0.11"]);
    let (file, key) = (scratch("toml"), scratch("key"));
    fs::write(&key, KEY).expect("a file for the key");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&key, mode).expect("it is ours");
    fs::write(&file, configuration(&key)).expect("a file for the director");
    let director = Director::start_with(&host, &["--config", &file.display().to_string()]);
    cpu::pin(director.process.id(), MIDDLE);
    let mut agents = servers.run(|| (0..AGENTS).map(agent).collect::<Vec<_>>());
    let all_up = wait_for(SOON, || {
        for agent in &mut agents {
            agent.send(State::Ready);
        }
        let listed = director.admin("-Ln");
        listed
            .lines()
            .filter(|line| line.contains(" 1      0"))
            .count()
            == usize::from(AGENTS)
    });
    assert!(all_up, "agents report, and their servers are not up");
    let title = "1 000 agents, a report each second: CPU time of the director";
    let mut row = Row::new(title, "% of a CPU", PLACEMENT);
    for _ in 0..repeat {
        row.add(Middle::Nat, run(&director, &mut agents));
    }
    for file in [file, key] {
        let _ = fs::remove_file(file);
    }
    vec![row]
}

/// Every agent reports once a second, one after the other.
fn run(director: &Director, agents: &mut [Agent]) -> f64 {
    let process = Some(director.process.id());
    let reports = agents.len() * SECONDS as usize;
    let each = Duration::from_secs(1) / u32::from(AGENTS);
    let (used, begin) = (Used::now(process, &[]), Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            pin_self(ENDS);
            for number in 0..reports {
                let due = begin + each * number as u32;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                agents[number % usize::from(AGENTS)].send(State::Ready);
            }
        });
    });
    let took = begin.elapsed();
    let (middle, _) = used.since(process, &[]);
    middle.as_secs_f64() / took.as_secs_f64() * 100.0
}

/// The agent of a real server, by its number.
fn agent(number: u16) -> Agent {
    let address = SocketAddrV4::new(address(number), 0);
    let socket = UdpSocket::bind(address).expect("an address of this host");
    socket
        .connect((HOST, agent::PORT))
        .expect("a way to the director");
    let mut agent = Agent::new(socket, format!("server {number}"), VIP, KEY);
    // No two have the same.
    agent.report.boot = u64::from(number) + 1;
    agent.report.interval = 1000;
    agent
}

fn configuration(key: &Path) -> String {
    let mut text = format!(
        "[agents]\nkey_file = \"{}\"\n[[service]]\naddress = \"{VIP}:80\"\nprotocol = \"tcp\"\n\
         check = {{ type = \"agent\" }}\n",
        key.display()
    );
    for number in 0..AGENTS {
        let address = address(number);
        let server = writeln!(
            text,
            "[[service.server]]\naddress = \"{address}:80\"\nforward = \"nat\""
        );
        server.expect("memory");
    }
    text
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(10, 7, high, low)
}

const AGENTS: u16 = 1000;
const NETWORK: &str = "10.7.0.0/16";
const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SECONDS: u32 = 3;
const KEY: &[u8] = b"the key of the benchmark";
const PLACEMENT: &str = "director on CPU 0, those who report on CPU 1";
