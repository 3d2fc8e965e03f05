//! What the kernel's persistence did, replayed: who gets which connection, and all connections and
//! templates with their states after each step.

use super::*;
use crate::core::capture::CaptureKey;

/// One that is held open, to be closed together with the others.
#[derive(Debug, Clone)]
struct Held {
    client: String,
    service: String,
    server: String,
}

struct Replay {
    lab: Laboratory,
    held: Vec<Held>,
    next_port: u16,
    /// The last service that was added.
    service: String,
    compared: usize,
}

#[test]
fn clients_return_to_their_servers_as_the_kernels() {
    let transcript = include_str!("../../../../tests/golden/persist/persist.out");
    let mut replay = Replay {
        lab: Laboratory::new(),
        held: Vec::new(),
        next_port: 20_000,
        service: String::new(),
        compared: 0,
    };
    // Which has a test of its own.
    let mut skipping = false;
    let mut lines = transcript.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let at = format!("line {}: {line}", number + 1);
        if line.starts_with("# ====") {
            skipping = line.contains("IPv6");
        }
        if skipping {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut listed = Vec::new();
        let lists = line == "$ ipvsadm -Lnc";
        while let Some((_, row)) = lines.next_if(|(_, row)| lists && row.starts_with("| ")) {
            listed.push(row);
        }
        if lists {
            replay.compare_table(&listed[2..], &at);
            continue;
        }
        replay.step(&words, &at);
    }
    assert_eq!(replay.compared, 439);
}

/// As the kernel's did, in the part of the transcript that is about IPv6.
#[test]
fn clients_of_ipv6_return_by_their_prefix() {
    let mut lab = Laboratory::new();
    lab.ipvsadm("-A -t [fd00::100]:80 -s rr -p 60 -M 126");
    for server in 11..=13 {
        lab.ipvsadm(&format!("-a -t [fd00::100]:80 -r [fd00:1::{server}]:80 -m"));
    }
    let went = (21..=28).map(|client| {
        let from = format!("[fd00::{client}]:5000");
        lab.tcp("S", &from, "[fd00::100]:80");
        lab.went.unwrap().address.to_string()
    });
    let went: Vec<String> = went.collect();
    let [one, two, three] = ["fd00:1::11", "fd00:1::12", "fd00:1::13"];
    assert_eq!(went, [three, three, three, two, two, two, two, one]);
    let mut templates: Vec<String> = lab
        .connections()
        .iter()
        .filter(|connection| connection.client_port == 0)
        .map(|template| template.client.to_string())
        .collect();
    templates.sort();
    assert_eq!(templates, ["fd00::20", "fd00::24", "fd00::28"]);
}

/// Data connections go where the control connection is, and their ports are taken from the wire as long as
/// the service is persistent.
#[test]
fn ftp_takes_its_data_connections_along() {
    let mut lab = Laboratory::new();
    let all_ports = CaptureKey::Service {
        protocol: Protocol::TCP,
        address: Addr::v4(VIP),
        port: 0,
    };
    lab.ipvsadm("-A -t 10.0.0.100:21 -s rr -p 300");
    for server in ["10.1.0.11:21", "10.1.0.12:21"] {
        lab.ipvsadm(&format!("-a -t 10.0.0.100:21 -r {server} -m"));
    }
    lab.ipvsadm("-A -t 10.0.0.100:8080 -s rr");
    assert!(lab.balancer.captures().keys().any(|key| key == all_ports));
    let replies = CaptureKey::Reply {
        protocol: Protocol::TCP,
        address: Addr::from_v4_bytes([10, 1, 0, 11]),
        port: 0,
    };
    assert!(lab.balancer.captures().keys().any(|key| key == replies));
    for client in ["10.0.0.10", "10.0.0.11", "10.0.0.10"] {
        let went = |lab: &mut Laboratory, port: u16, to: u16| {
            let (from, to) = (format!("{client}:{port}"), format!("10.0.0.100:{to}"));
            let class = lab.tcp("S", &from, &to);
            matches!(class, Class::Request(_)).then(|| lab.went.unwrap())
        };
        let control = went(&mut lab, 5000, 21).unwrap();
        let data = went(&mut lab, 5001, 30_000).unwrap();
        assert_eq!((control.address, control.port), (data.address, 21));
        assert_eq!(data.port, 30_000);
        // A privileged port is nobody's, and a service of its own comes first.
        assert_eq!(
            lab.tcp("S", "10.0.0.10:5002", "10.0.0.100:80"),
            Class::NotOurs
        );
        assert_eq!(
            lab.tcp("S", "10.0.0.10:5003", "10.0.0.100:8080"),
            Class::NoServer
        );
    }
    // Without servers FTP is refused, and what it takes besides is the host's.
    lab.ipvsadm("-d -t 10.0.0.100:21 -r 10.1.0.11:21");
    lab.ipvsadm("-d -t 10.0.0.100:21 -r 10.1.0.12:21");
    assert_eq!(
        lab.tcp("S", "10.0.0.12:5000", "10.0.0.100:21"),
        Class::NoServer
    );
    assert_eq!(
        lab.tcp("S", "10.0.0.12:5001", "10.0.0.100:30000"),
        Class::NotOurs
    );
    // Connections go on when the service is no longer persistent; with the last of them the key goes.
    lab.ipvsadm("-E -t 10.0.0.100:21 -s rr");
    assert!(lab.balancer.captures().keys().any(|key| key == all_ports));
    lab.secs(1000);
    assert!(!lab.balancer.captures().keys().any(|key| key == all_ports));
}

impl Replay {
    fn step(&mut self, words: &[&str], at: &str) {
        self.lab.pass(Duration::from_millis(10));
        match words {
            ["$", "ipvsadm", "-L" | "-Ln" | "-S" | "-Lnc", ..] => {}
            ["$", "ipvsadm", "-C"] => {
                self.close_all();
                self.lab.ipvsadm("-C");
            }
            ["$", "ipvsadm", command @ ..] => {
                if command[0] == "-A" {
                    command[2].clone_into(&mut self.service);
                }
                self.lab.ipvsadm(&command.join(" "));
            }
            ["$", "iptables-legacy", .., "--set-mark", mark] => {
                self.lab.mark = mark.parse().expect(at);
            }
            ["$", "iptables-legacy", .., "-F"] => self.lab.mark = UNMARKED,
            ["$", "sysctl", "-w", setting] => {
                let (name, value) = setting.rsplit_once('=').expect(at);
                let name = name.strip_prefix("net.ipv4.vs.").expect(at);
                self.lab.sysctl(name, value.parse().expect(at));
            }
            [">", "all", "connections", ..] => self.close_all(),
            [">", seconds, "s", "later", ..] | [">", seconds, "s", "later:", ..] => {
                self.lab
                    .pass(Duration::from_secs_f64(seconds.parse().expect(at)));
            }
            ["#", "====", ..] if at.contains("is removed") => self.close_all(),
            // A connection that is closed at once.
            [">", "picks", pick] => self.open("10.0.0.10", None, pick, at, true),
            [">", "pick", pick] => self.open("10.0.0.10", None, pick, at, false),
            [">", "connection", "to", pick] => self.open("10.0.0.10", None, pick, at, false),
            [">", "sport", port, "->", pick] | [">", "sport", port, "again,", .., "->", pick] => {
                let client = format!("10.0.0.10:{port}");
                self.open_from(&client, None, pick, at, true);
            }
            [">", "data", "sent", .., "peer"] => {
                let held = self.held.pop().expect(at);
                let class = self.lab.tcp("PA", &held.client, &held.service);
                assert_eq!(class, Class::NotOurs, "{at}");
            }
            [">", "data", "sent", ..] => {
                let held = self.held.pop().expect(at);
                let class = self.lab.tcp("PA", &held.client, &held.service);
                assert_eq!(class, Class::Drop(Reason::ServerRemoved), "{at}");
            }
            [">", "from", range, picks @ ..] if range.contains("..") => {
                let (first, last) = range.trim_end_matches(':').split_once("..").expect(at);
                let (network, first) = first.rsplit_once('.').expect(at);
                let hosts: Vec<u8> = (first.parse().expect(at)..=last.parse().expect(at)).collect();
                assert_eq!(hosts.len(), picks.len(), "{at}");
                for (host, pick) in hosts.iter().zip(picks) {
                    self.open(&format!("{network}.{host}"), None, pick, at, false);
                }
            }
            [">", "from", client, rest @ ..] if rest.contains(&"ports") => {
                let ports = rest.iter().position(|word| *word == "ports").expect(at) + 1;
                let many = (rest.len() - ports) / 2;
                let (ports, picks) = rest[ports..].split_at(many);
                for (port, pick) in ports.iter().zip(picks) {
                    let client = client.trim_end_matches(':');
                    self.open(client, Some(port.trim_end_matches(':')), pick, at, false);
                }
            }
            [">", "from", client, picks @ ..] => {
                for pick in picks {
                    self.open(client.trim_end_matches(':'), None, pick, at, false);
                }
            }
            [">", _, "x", "tcp" | "udp", rest @ ..] => {
                let arrow = rest.iter().position(|word| *word == "->").expect(at);
                for pick in &rest[arrow + 1..] {
                    self.open("10.0.0.10", None, pick, at, false);
                }
            }
            ["|", after, "TCP", expires, "ASSURED", ..] if after.starts_with('+') => {
                self.lab.pass(Duration::from_secs(1));
                let template = self
                    .table()
                    .into_iter()
                    .find(|c| c.client_port == 0 && c.virtual_port == 8083);
                let seconds = template.expect(at).expires_ms.saturating_sub(50) / 1000;
                assert_eq!(format!("00:{seconds:02}"), *expires, "{at}");
                self.compared += 1;
            }
            ["|", "(none)"] => assert!(
                self.table().iter().all(|c| c.protocol != Protocol::UDP),
                "{at}"
            ),
            [
                "|",
                protocol @ ("IP" | "TCP" | "UDP"),
                expires,
                state,
                client,
                virtual_end,
                server,
            ] if expires.contains(':') && client.contains(':') => {
                let row = [*protocol, state, client, virtual_end, server].join(" ");
                let ports = |row: &str| without_client_ports(row);
                let found = self.table().iter().any(|c| {
                    let secs = c.expires_ms.saturating_sub(20) / 1000;
                    let close = format!("{:02}:{:02}", secs / 60, secs % 60);
                    ports(&text(c)) == ports(&row) && (close == *expires || *protocol == "TCP")
                });
                assert!(found, "{at}\n{:#?}", self.table());
                self.compared += 1;
            }
            ["|", "->", server, "Masq", _, active, inactive]
            | [
                "|",
                "->",
                server,
                _,
                "0" | "1" | "2" | "3",
                active,
                inactive,
            ] if server.contains('.') => {
                let service = match self.service.parse::<SocketAddr>() {
                    Ok(_) => tcp_service(&self.service),
                    Err(_) => mark_service(&self.service),
                };
                let Some(view) = self.lab.balancer.service(&service) else {
                    panic!("{at}")
                };
                let key = server_key(server);
                let view = view
                    .servers
                    .into_iter()
                    .find(|s| s.spec.key == key)
                    .expect(at);
                let counts = [view.active, view.inactive].map(|n| n.to_string());
                assert_eq!(counts, [*active, *inactive], "{at}");
                // A weight in `--persistent-conn`; `--thresholds` has a 2 there.
                if words[3] == "1" {
                    assert_eq!(view.persistent.to_string(), words[4], "{at}");
                }
                self.compared += 1;
            }
            _ => {}
        }
    }

    fn table(&self) -> Vec<ConnectionView> {
        self.lab.connections()
    }

    fn open(&mut self, client: &str, port: Option<&str>, pick: &str, at: &str, close: bool) {
        self.next_port += 1;
        let client = format!("{client}:{}", self.next_port);
        self.open_from(&client, port, pick, at, close);
    }

    /// Opens a connection, which must go where the transcript says: `r3:80`.
    fn open_from(&mut self, client: &str, port: Option<&str>, pick: &str, at: &str, close: bool) {
        let marked = ("10.0.0.100", "80");
        let (address, own) = self.service.split_once(':').unwrap_or(marked);
        let service = format!("{address}:{}", port.unwrap_or(own));
        let udp = at.contains("udp") || !self.is_tcp();
        let class = if udp {
            self.lab.udp(client, &service)
        } else {
            self.lab.tcp("S", client, &service)
        };
        self.compared += 1;
        if pick == "ECONNREFUSED" {
            assert_eq!(class, Class::NoServer, "{at}");
            return;
        }
        assert!(matches!(class, Class::Request(_)), "{at}: {class:?}");
        let went = self.lab.went.expect(at);
        let [.., host] = went.address.to_v4_bytes();
        // The servers name the port only where they listen on several, and then always their own.
        let name = format!("r{}", host - 10);
        assert_eq!(name, pick.split(':').next().expect(at), "{at}");
        if port.is_some() {
            assert_eq!(
                pick.split_once(':').map(|(_, port)| port.to_owned()),
                Some(went.port.to_string()),
                "{at}"
            );
        }
        let server = format!("{}:{}", went.address, went.port);
        if udp {
            self.lab.udp(&server, client);
            return;
        }
        self.lab.tcp("SA", &server, client);
        self.lab.tcp("A", client, &service);
        let held = Held {
            client: client.to_owned(),
            service,
            server,
        };
        if close {
            self.close(&held);
        } else {
            self.held.push(held);
        }
    }

    fn is_tcp(&self) -> bool {
        let services = self.lab.balancer.services();
        services.iter().all(|s| !matches!(s.spec.key, ServiceKey::Address { protocol, .. } if protocol == Protocol::UDP))
    }

    fn close(&mut self, held: &Held) {
        self.lab.tcp("FA", &held.client, &held.service);
        self.lab.tcp("FA", &held.server, &held.client);
        self.lab.tcp("A", &held.client, &held.service);
    }

    fn close_all(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.close(&held);
        }
    }

    /// The whole table, but for the clients' ports and the remaining times.
    fn compare_table(&mut self, rows: &[&str], at: &str) {
        let mut recorded: Vec<String> = rows
            .iter()
            .map(|row| {
                let words: Vec<&str> = row.split_whitespace().collect();
                without_client_ports(&[words[1], words[3], words[4], words[5], words[6]].join(" "))
            })
            .collect();
        let mut ours: Vec<String> = self
            .table()
            .iter()
            .map(|c| without_client_ports(&text(c)))
            .collect();
        recorded.sort();
        ours.sort();
        assert_eq!(ours, recorded, "{at}");
        self.compared += rows.len();
    }
}

/// As a row of the listing, without the remaining time.
fn text(c: &ConnectionView) -> String {
    let protocol = match c.protocol {
        Protocol(0) => "IP".to_owned(),
        other => other.to_string(),
    };
    format!(
        "{protocol} {} {}:{} {}:{} {}:{}",
        c.state,
        c.client,
        c.client_port,
        c.virtual_address,
        c.virtual_port,
        c.destination,
        c.destination_port
    )
}

/// Clients choose their ports by lot, but a template has none.
fn without_client_ports(row: &str) -> String {
    let mut words: Vec<String> = row.split_whitespace().map(str::to_owned).collect();
    if let Some((address, port)) = words[2].clone().rsplit_once(':') {
        words[2] = format!("{address}:{}", if port == "0" { "0" } else { "*" });
    }
    words.join(" ")
}
