//! Persistence by the calls of SIP. What is expected was seen of the kernel, unless it says otherwise.

use super::*;

/// The servers 10.1.0.11 and so on, behind NAT, of a service for SIP.
fn lab(options: &str, servers: u8) -> Laboratory {
    let mut lab = Laboratory::new();
    lab.ipvsadm(&format!("-A -u 10.0.0.100:5060 -s rr --pe sip {options}"));
    for server in 11..11 + servers {
        lab.ipvsadm(&format!("-a -u 10.0.0.100:5060 -r 10.1.0.{server}:5060 -m"));
    }
    lab
}

impl Laboratory {
    /// A datagram of a call, or of none.
    fn says(&mut self, from: &str, to: &str, call: Option<&str>) -> Class {
        let flow = flow(Protocol::UDP, from, to);
        let (now, mark) = (self.now, self.mark);
        let call = call.map(str::as_bytes);
        let class = match self.balancer.classify(now, &flow, Segment::Udp, mark) {
            Class::Call(service) => self.balancer.schedule_call(now, &flow, service, call),
            Class::CallOut => self.balancer.schedule_call_out(now, &flow, mark, call),
            class => class,
        };
        (self.went, self.left) = (None, None);
        self.carry_out(class, Segment::Udp, 29)
    }

    /// Where a client's datagram of a call goes.
    fn asks(&mut self, port: u16, call: &str) -> String {
        self.says(&format!("10.0.0.10:{port}"), SIP, Some(call));
        shown(self.went)
    }

    /// As whom a real server's datagram leaves for the client.
    fn answers(&mut self, server: &str, port: u16, call: &str) -> String {
        self.says(server, &format!("10.0.0.10:{port}"), Some(call));
        shown(self.left)
    }

    /// As ipvsadm lists them.
    fn rows(&self) -> Vec<String> {
        let rows = self.connections().into_iter().map(|row| {
            let ConnectionView { state, engine, .. } = row;
            let (client, server) = (row.client, row.destination);
            let call = engine.map_or_else(String::new, |engine| {
                format!(" {} {}", engine.name, engine.data)
            });
            format!(
                "{state} {client}:{} {}:{} {server}:{}{call}",
                row.client_port, row.virtual_address, row.virtual_port, row.destination_port
            )
        });
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        rows
    }

    fn templates(&self) -> Vec<String> {
        let mut rows = self.rows();
        rows.retain(|row| row.contains(" sip "));
        rows
    }
}

fn shown(end: Option<Endpoint>) -> String {
    end.map_or_else(
        || "nobody".to_owned(),
        |end| SocketAddr::new(end.address.ip(), end.port).to_string(),
    )
}

#[test]
fn a_call_keeps_its_server_whatever_its_port() {
    let mut lab = lab("-p 60", 3);
    assert_eq!(lab.asks(6001, "one@a"), R3);
    assert_eq!(lab.asks(6002, "one@a"), R3);
    // That port has a connection, which comes before all calls.
    assert_eq!(lab.asks(6001, "two@a"), R3);
    assert_eq!(lab.asks(6004, "two@a"), R2);
    // Another client's call of that name is another one.
    lab.says("10.0.0.101:6001", SIP, Some("one@a"));
    assert_eq!(shown(lab.went), R1);
    let silent = lab.says("10.0.0.10:6005", SIP, None);
    assert_eq!(silent, Class::Drop(Reason::NoCallId));
    assert_eq!(
        lab.rows(),
        [
            "NONE 10.0.0.101:0 10.0.0.100:5060 10.1.0.11:5060 sip one@a",
            "NONE 10.0.0.10:0 10.0.0.100:5060 10.1.0.12:5060 sip two@a",
            "NONE 10.0.0.10:0 10.0.0.100:5060 10.1.0.13:5060 sip one@a",
            "UDP 10.0.0.101:6001 10.0.0.100:5060 10.1.0.11:5060",
            "UDP 10.0.0.10:6001 10.0.0.100:5060 10.1.0.13:5060",
            "UDP 10.0.0.10:6002 10.0.0.100:5060 10.1.0.13:5060",
            "UDP 10.0.0.10:6004 10.0.0.100:5060 10.1.0.12:5060",
        ]
    );
    let service = ServiceKey::new(Protocol::UDP, VIP, 5060);
    let counts = [R1, R2, R3].map(|server| {
        let view = lab.server(service, server);
        (view.persistent, view.inactive)
    });
    assert_eq!(counts, [(1, 1), (1, 1), (1, 2)]);
}

/// A server answers to where no connection is, another takes the call over, and one begins its own.
#[test]
fn what_servers_say_of_their_own_leaves_as_their_service() {
    let mut lab = lab("-p 60", 3);
    assert_eq!(lab.asks(6001, "one@a"), R3);
    for (server, call) in [(R1, "one@a"), (R2, "one@a"), (R3, "fresh")] {
        assert_eq!(lab.answers(server, 6009, call), SIP, "{server} says {call}");
    }
    // There is a connection now, for which nobody asks what its packets say.
    lab.says(R3, "10.0.0.10:6009", None);
    assert_eq!(shown(lab.left), SIP);
    let silent = lab.says(R3, "10.0.0.10:6010", None);
    assert_eq!(silent, Class::NotOurs);
    assert_eq!(
        lab.rows(),
        [
            "ASSURED 10.0.0.10:0 10.0.0.100:5060 10.1.0.12:5060 sip one@a",
            "ASSURED 10.0.0.10:0 10.0.0.100:5060 10.1.0.13:5060 sip fresh",
            "ASSURED 10.0.0.10:0 10.0.0.100:65535 10.1.0.11:65535 sip one@a",
            "NONE 10.0.0.10:0 10.0.0.100:65535 10.1.0.13:65535 sip one@a",
            "UDP 10.0.0.10:6001 10.0.0.100:5060 10.1.0.13:5060",
            "UDP 10.0.0.10:6009 10.0.0.100:5060 10.1.0.11:5060",
            "UDP 10.0.0.10:6009 10.0.0.100:5060 10.1.0.12:5060",
            "UDP 10.0.0.10:6009 10.0.0.100:5060 10.1.0.13:5060",
        ]
    );
    assert_eq!(lab.asks(6011, "one@a"), R2);
    assert_eq!(lab.asks(6012, "fresh"), R3);
}

#[test]
fn each_datagram_by_itself_goes_where_its_call_is() {
    let mut lab = lab("-p 60 -o", 3);
    let went = ["one", "two", "one", "three", "two"].map(|call| lab.asks(6001, call));
    assert_eq!(went, [R3, R2, R3, R1, R2]);
    assert_eq!(lab.answers(R1, 6001, "one"), SIP);
    assert_eq!(lab.answers(R2, 6001, "zero"), SIP);
    // Nobody knows whose answer that is.
    let silent = lab.says(R2, "10.0.0.10:6001", None);
    assert_eq!(silent, Class::NotOurs);
    assert_eq!(lab.asks(6001, "zero"), R2);
    assert_eq!(
        lab.rows(),
        [
            "ASSURED 10.0.0.10:0 10.0.0.100:5060 10.1.0.11:5060 sip one",
            "ASSURED 10.0.0.10:0 10.0.0.100:5060 10.1.0.12:5060 sip zero",
            "NONE 10.0.0.10:0 10.0.0.100:5060 10.1.0.11:5060 sip three",
            "NONE 10.0.0.10:0 10.0.0.100:5060 10.1.0.12:5060 sip two",
            "NONE 10.0.0.10:0 10.0.0.100:65535 10.1.0.13:65535 sip one",
        ]
    );
    let stats = lab.balancer.totals();
    let counted = (stats.connections, stats.in_packets, stats.out_packets);
    assert_eq!(counted, (8, 6, 2));
}

#[test]
fn the_time_of_a_call_counts_from_its_last_datagram_without_a_connection() {
    let mut lab = lab("-p 60 -o", 2);
    assert_eq!(lab.asks(6001, "one"), R2);
    lab.secs(50);
    assert_eq!(lab.asks(6001, "one"), R2);
    lab.secs(50);
    // Also when it is the server's.
    assert_eq!(lab.answers(R2, 6001, "one"), SIP);
    lab.secs(50);
    assert_eq!(lab.templates().len(), 1);
    assert_eq!(lab.asks(6001, "one"), R2);
    lab.secs(62);
    assert_eq!(lab.rows(), [""; 0]);
    assert_eq!(lab.asks(6001, "one"), R1);
}

#[test]
fn a_call_goes_elsewhere_when_its_server_is_removed() {
    let mut lab = lab("-p 60 -o", 2);
    assert_eq!(lab.asks(6001, "one"), R2);
    // One of weight 0 goes on with its calls.
    lab.ipvsadm(&format!("-e -u {SIP} -r {R2} -m -w 0"));
    assert_eq!(lab.asks(6001, "one"), R2);
    lab.ipvsadm(&format!("-d -u {SIP} -r {R2}"));
    let orphan = lab.says(R2, "10.0.0.10:6001", Some("one"));
    assert_eq!(orphan, Class::NotOurs);
    assert_eq!(lab.asks(6001, "one"), R1);
    assert_eq!(
        lab.templates(),
        [
            "NONE 10.0.0.10:0 10.0.0.100:5060 10.1.0.11:5060 sip one",
            "NONE 10.0.0.10:0 10.0.0.100:65535 10.1.0.12:65535 sip one",
        ]
    );
}

/// The kernel begins a template anew with each datagram of such a server.
#[test]
fn a_server_without_weight_goes_on_with_its_template() {
    let mut lab = lab("-p 60 -o", 1);
    lab.sysctl("expire_quiescent_template", 1);
    lab.ipvsadm(&format!("-e -u {SIP} -r {R1} -m -w 0"));
    for _ in 0..3 {
        assert_eq!(lab.answers(R1, 6001, "one"), SIP);
    }
    assert_eq!(lab.rows().len(), 1);
    assert_eq!(lab.asks(6001, "one"), "nobody");
}

#[test]
fn an_engine_may_come_and_go() {
    let mut lab = lab("-p 60 -o", 2);
    assert_eq!([lab.asks(6001, "k1"), lab.asks(6001, "k2")], [R2, R1]);
    lab.ipvsadm(&format!("-E -u {SIP} -s rr -p 60 -o"));
    // One server for the client, whatever it says.
    let went = ["k1", "k2", "k1"].map(|call| lab.asks(6001, call));
    assert_eq!(went, [R2, R2, R2]);
    let silent = lab.says(R1, "10.0.0.10:6001", Some("k2"));
    assert_eq!(silent, Class::NotOurs);
    lab.ipvsadm(&format!("-E -u {SIP} -s rr -p 60 -o --pe sip"));
    assert_eq!([lab.asks(6001, "k1"), lab.asks(6001, "k2")], [R2, R1]);
    lab.ipvsadm("-C");
    assert_eq!(lab.says("10.0.0.10:6001", SIP, Some("k1")), Class::NotOurs);
    assert_eq!(lab.says(R1, "10.0.0.10:6001", Some("k1")), Class::NotOurs);
}

#[test]
fn without_persistence_only_servers_are_helped() {
    let mut lab = lab("", 2);
    lab.says("10.0.0.10:6001", SIP, None);
    assert_eq!(shown(lab.went), R2);
    lab.says(R1, "10.0.0.10:6003", None);
    assert_eq!(shown(lab.left), SIP);
    assert_eq!(
        lab.rows(),
        [
            "UDP 10.0.0.10:6001 10.0.0.100:5060 10.1.0.12:5060",
            "UDP 10.0.0.10:6003 10.0.0.100:5060 10.1.0.11:5060",
        ]
    );
}

#[test]
fn marks_and_all_ports_have_calls_and_servers_that_are_not_helped() {
    let mut lab = Laboratory::new();
    lab.ipvsadm("-A -f 7 -s rr -p 60 --pe sip");
    lab.ipvsadm("-A -u 10.0.0.101:0 -s rr -p 60 --pe sip");
    for server in [11, 12] {
        lab.ipvsadm(&format!("-a -f 7 -r 10.1.0.{server} -m"));
        lab.ipvsadm(&format!("-a -u 10.0.0.101:0 -r 10.1.0.{server}:0 -m"));
    }
    lab.mark = 7;
    let went = [6004, 6005].map(|port| lab.asks(port, "m1"));
    assert_eq!(went, [R2, R2]);
    // Nothing but a datagram says a Call-ID.
    let flow = flow(Protocol::TCP, "10.0.0.10:6001", "10.0.0.100:80");
    let class = lab.packet(&flow, segment("S"), 40);
    let Class::Call(service) = class else {
        panic!("{class:?}")
    };
    let class = lab.balancer.schedule_call(lab.now, &flow, service, None);
    assert_eq!(class, Class::Drop(Reason::NoCallId));
    lab.mark = UNMARKED;
    lab.says("10.0.0.10:6016", "10.0.0.101:5060", Some("p1"));
    assert_eq!(shown(lab.went), R2);
    let own = lab.says(R1, "10.0.0.10:6009", Some("m1"));
    assert_eq!(own, Class::NotOurs);
    assert_eq!(
        lab.templates(),
        [
            "NONE 10.0.0.10:0 0.0.0.7:0 10.1.0.12:0 sip m1",
            "NONE 10.0.0.10:0 10.0.0.101:0 10.1.0.12:0 sip p1",
        ]
    );
}

/// The kernel takes the newest of the services that a server is in, and its answers leave as that one.
#[test]
fn a_server_of_two_services_answers_as_the_one_whose_call_it_is() {
    let mut lab = lab("-p 60 -o", 1);
    lab.ipvsadm("-A -u 10.0.0.101:5060 -s rr -p 60 -o --pe sip");
    lab.ipvsadm("-a -u 10.0.0.101:5060 -r 10.1.0.11:5060 -m");
    assert_eq!(lab.asks(6001, "one"), R1);
    assert_eq!(lab.answers(R1, 6001, "one"), SIP);
    assert_eq!(lab.answers(R1, 6001, "own"), "10.0.0.101:5060");
    lab.ipvsadm("-D -u 10.0.0.101:5060");
    assert_eq!(lab.answers(R1, 6001, "own"), SIP);
}

#[test]
fn a_server_that_asks_a_service_is_a_client() {
    let mut lab = lab("-p 60", 2);
    lab.says(R1, SIP, Some("one"));
    assert_eq!((shown(lab.went), lab.left), (R2.to_owned(), None));
}

#[test]
fn strays_are_told_so_if_they_are_of_no_call() {
    let mut lab = lab("-p 60 -o", 1);
    lab.sysctl("nat_icmp_send", 1);
    assert_eq!(lab.answers(R1, 6001, "one"), SIP);
    assert_eq!(lab.says(R1, "10.0.0.10:6001", None), Class::Stray);
}

#[test]
fn denied_clients_are_not_spoken_to() {
    let mut lab = lab("-p 60", 1);
    let rule = crate::core::operation::DenyRule {
        source: "10.0.0.10".parse().unwrap(),
        length: 32,
        service: None,
    };
    lab.apply(&Operation::SetDeny(vec![rule])).unwrap();
    let denied = Class::Drop(Reason::Denied);
    assert_eq!(lab.says("10.0.0.10:6001", SIP, Some("one")), denied);
    assert_eq!(lab.says(R1, "10.0.0.10:6001", Some("one")), denied);
}

#[test]
fn calls_have_no_more_room_than_the_table() {
    let mut lab = Laboratory::with(Settings {
        most_connections: 10,
        ..Settings::default()
    });
    lab.ipvsadm("-A -u 10.0.0.100:5060 -s rr -p 60 -o --pe sip");
    lab.ipvsadm("-a -u 10.0.0.100:5060 -r 10.1.0.11:5060 -m");
    for call in 0..20 {
        lab.asks(6001, &format!("in{call}"));
        lab.answers(R1, 6001, &format!("out{call}"));
    }
    assert_eq!(lab.templates().len(), 9);
    let full = Class::Drop(Reason::TableFull);
    assert_eq!(lab.says("10.0.0.10:6001", SIP, Some("more")), full);
    assert_eq!(lab.says(R1, "10.0.0.10:6001", Some("more")), full);
    // One that is known goes on.
    assert_eq!(lab.asks(6001, "in0"), R1);
    assert_eq!(lab.answers(R1, 6001, "in0"), SIP);
    lab.secs(62);
    assert_eq!(lab.rows(), [""; 0]);
    assert_eq!(lab.asks(6001, "more"), R1);
}

#[test]
fn a_network_is_one_client_in_both_families() {
    let mut lab = Laboratory::new();
    for (vip, net, mask) in [
        ("10.0.0.100", "10.1.0.1", "255.255.255.0"),
        ("[fd00::100]", "[fd00:1::1", "64"),
    ] {
        let service = format!("-u {vip}:5060");
        lab.ipvsadm(&format!("-A {service} -s rr -p 60 -o -M {mask} --pe sip"));
        let end = if vip.starts_with('[') { "]" } else { "" };
        for server in [1, 2] {
            lab.ipvsadm(&format!("-a {service} -r {net}{server}{end}:5060 -m"));
        }
    }
    for (vip, clients, server) in [
        (SIP, ["10.0.0.10:6001", "10.0.0.99:7001"], R2),
        (
            "[fd00::100]:5060",
            ["[fd00::10]:6001", "[fd00::99]:7001"],
            "[fd00:1::12]:5060",
        ),
    ] {
        for client in clients {
            lab.says(client, vip, Some("one"));
            assert_eq!(shown(lab.went), server);
        }
        lab.says(server, clients[1], Some("one"));
        assert_eq!(shown(lab.left), vip);
    }
    assert_eq!(
        lab.rows(),
        [
            "ASSURED 10.0.0.0:0 10.0.0.100:5060 10.1.0.12:5060 sip one",
            "ASSURED fd00:::0 fd00::100:5060 fd00:1::12:5060 sip one",
        ]
    );
}

#[test]
fn every_method_keeps_calls() {
    for method in ["-m", "-g", "-i"] {
        let mut lab = Laboratory::new();
        lab.ipvsadm("-A -u 10.0.0.100:5060 -s rr -p 60 --pe sip");
        for server in [11, 12] {
            lab.ipvsadm(&format!(
                "-a -u 10.0.0.100:5060 -r 10.1.0.{server}:5060 {method}"
            ));
        }
        let went = [(6001, "one"), (6002, "two"), (6003, "one"), (6004, "two")];
        let went = went.map(|(port, call)| lab.asks(port, call));
        assert_eq!(went, [R2, R1, R2, R1], "{method}");
    }
}

const SIP: &str = "10.0.0.100:5060";
const R1: &str = "10.1.0.11:5060";
const R2: &str = "10.1.0.12:5060";
const R3: &str = "10.1.0.13:5060";
