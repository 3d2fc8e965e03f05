//! Whatever happens, the counts agree with the table, and at the end nothing is left.

use proptest::prelude::*;

use super::*;
use crate::core::operation::{Beyond, DenyRule, ServerGone};

#[derive(Debug, Clone)]
enum Step {
    Command(String),
    Packet(&'static str, u16, u8),
    Answer(&'static str, u16, u8),
    Pass(u64),
    Switch(&'static str, bool),
    Beyond(u16, Option<ServerGone>, u32),
    Deny(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let port = || 80..83_u16;
    let host = || 11..14_u8;
    let method = || prop_oneof![Just("-m"), Just("-g")];
    let flags = || {
        prop_oneof![
            Just("S"),
            Just("SA"),
            Just("A"),
            Just("FA"),
            Just("R"),
            Just("P")
        ]
    };
    let scheduler = prop::sample::select(vec![
        "rr", "wrr", "lc", "wlc", "sed", "nq", "lblc", "lblcr", "dh", "sh", "mh", "fo", "ovf",
        "twos", "none",
    ]);
    let persistence = prop::sample::select(vec!["", "", " -p 30", " -p 30 -M 255.255.255.254"]);
    let switch = prop::sample::select(vec![
        "expire_nodest_conn",
        "expire_quiescent_template",
        "secure_tcp",
        "drop_entry",
        "drop_packet",
    ]);
    let ways = ServerGone::NAMES.map(|(_, way)| way).to_vec();
    let server = (port(), host(), method(), 0..4_u8, 0..4_u8);
    prop_oneof![
        2 => (prop_oneof![Just("-A"), Just("-E")], port(), scheduler, persistence)
            .prop_map(|(what, port, name, more)| Step::Command(format!(
                "{what} -t 10.0.0.100:{port} -s {name}{more}"
            ))),
        1 => (port(), prop::option::of(prop::sample::select(ways)), 0..20_u32)
            .prop_map(|(port, way, slow_start)| Step::Beyond(port, way, slow_start)),
        1 => any::<bool>().prop_map(Step::Deny),
        1 => (switch, any::<bool>()).prop_map(|(name, on)| Step::Switch(name, on)),
        1 => (prop_oneof![4 => Just("-D"), 4 => Just("-Z"), 1 => Just("-C")], port())
            .prop_map(|(what, port)| Step::Command(format!("{what} -t 10.0.0.100:{port}"))),
        5 => (prop_oneof![3 => Just("-a"), 1 => Just("-e"), 1 => Just("-d")], server)
            .prop_map(|(what, (port, host, method, weight, upper))| Step::Command(format!(
                "{what} -t 10.0.0.100:{port} -r 10.1.0.{host}:80 {method} -w {weight} -x {upper}"
            ))),
        10 => (flags(), port(), 0..8_u8).prop_map(|(flags, port, client)| Step::Packet(flags, port, client)),
        5 => (flags(), port(), 0..8_u8).prop_map(|(flags, port, client)| Step::Answer(flags, port, client)),
        3 => prop_oneof![0..5_u64, 0..150_u64, 0..1000_u64].prop_map(Step::Pass),
    ]
}

fn check(lab: &Laboratory) -> Result<(), TestCaseError> {
    let balancer = &lab.balancer;
    let mut seen: BTreeMap<ServerId, (u32, u32)> = BTreeMap::new();
    let mut of_services: BTreeMap<ServiceId, u32> = BTreeMap::new();
    let mut templates: BTreeMap<ServerId, u32> = BTreeMap::new();
    let mut controlled: BTreeMap<ConnectionId, u32> = BTreeMap::new();
    let all = || balancer.connections.piece(0, usize::MAX).0;
    for template in all().filter_map(|(_, connection)| connection.controller()) {
        *controlled.entry(template).or_default() += 1;
    }
    for (id, connection) in all() {
        if connection.is_template() {
            *templates.entry(connection.server()).or_default() += 1;
            let counted = controlled.remove(&id).unwrap_or_default();
            prop_assert_eq!(connection.controlled(), counted);
            continue;
        }
        let counts = seen.entry(connection.server()).or_default();
        match Activity::of(connection.state()) {
            Activity::Active => counts.0 += 1,
            Activity::Inactive => counts.1 += 1,
        }
        *of_services
            .entry(balancer.servers[connection.server()].service)
            .or_default() += 1;
    }
    for (id, server) in balancer.servers.iter() {
        let counts = seen.remove(&id).unwrap_or_default();
        prop_assert_eq!((server.active(), server.inactive()), counts);
        let counted = templates.remove(&id).unwrap_or_default();
        prop_assert_eq!(server.view(Time::ZERO).persistent, counted);
    }
    prop_assert!(seen.is_empty() && templates.is_empty() && controlled.is_empty());
    let half_open = all()
        .filter(|(_, connection)| !connection.is_template() && is_half_open(connection.state()));
    prop_assert_eq!(balancer.half_open() as usize, half_open.count());
    for (id, service) in balancer.services.iter() {
        prop_assert_eq!(
            service.connections,
            of_services.remove(&id).unwrap_or_default()
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn counts_agree_with_the_table(
        steps in prop::collection::vec(step(), 1..150),
        expire_nodest_conn in any::<bool>(),
    ) {
        let mut lab = Laboratory::with(Settings {
            most_half_open: 2,
            ..Settings::default()
        });
        lab.sysctl("expire_nodest_conn", i32::from(expire_nodest_conn));
        for step in steps {
            match step {
                // Many are refused, as they should be.
                Step::Command(command) => drop(lab.apply(&operation(&command))),
                Step::Packet(flags, port, client) => {
                    let (from, to) = (format!("10.0.0.1{client}:1000"), format!("{VIP}:{port}"));
                    lab.tcp(flags, &from, &to);
                }
                Step::Answer(flags, port, client) => {
                    let client = format!("10.0.0.1{client}:1000");
                    let connection = lab.connections().into_iter().find(|c| {
                        c.virtual_port == port && c.client.to_string() == client[..client.len() - 5]
                    });
                    if let Some(c) = connection {
                        lab.tcp(flags, &format!("{}:{}", c.destination, c.destination_port), &client);
                    }
                }
                Step::Pass(secs) => lab.secs(secs),
                Step::Beyond(port, server_gone, slow_start_secs) => {
                    let key = ServiceKey::new(Protocol::TCP, VIP, port);
                    if let Some(view) = lab.balancer.service(&key) {
                        let beyond = Beyond { server_gone, slow_start_secs, ..Beyond::default() };
                        let spec = ServiceSpec { beyond, ..view.spec };
                        drop(lab.apply(&Operation::EditService(spec)));
                    }
                }
                Step::Deny(on) => {
                    let rule = DenyRule {
                        source: [10, 0, 0, 12].into(),
                        length: 31,
                        service: None,
                    };
                    lab.apply(&Operation::SetDeny(Vec::from_iter(on.then_some(rule)))).unwrap();
                }
                Step::Switch(name, on) => lab.sysctl(name, i32::from(on) * 3),
            }
            check(&lab)?;
        }
        lab.ipvsadm("-C");
        lab.sysctl("drop_entry", 0);
        lab.secs(1500);
        check(&lab)?;
        prop_assert_eq!(lab.balancer.connection_count(), 0);
        prop_assert_eq!(lab.balancer.servers.iter().count(), 0);
        prop_assert_eq!(lab.balancer.services.iter().count(), 0);
        let captures = lab.balancer.captures();
        let mut left = 0_i32;
        for change in captures.take_changes() {
            left += match change {
                crate::core::capture::CaptureChange::Insert(_) => 1,
                crate::core::capture::CaptureChange::Remove(_) => -1,
            };
        }
        prop_assert_eq!(left, 0);
    }
}
