//! What is saved makes the same again, whatever it is.

use super::*;

fn service_key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop::sample::select(vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP]);
    let family = prop::sample::select(vec![Family::V4, Family::V6]);
    prop_oneof![
        3 => (protocol, any::<IpAddr>(), 1u16..)
            .prop_map(|(protocol, address, port)| ServiceKey::new(protocol, address, port)),
        // Marks from 2^31 on are saved as negative numbers, which cannot be read again.
        1 => (1..=i32::MAX.unsigned_abs(), family)
            .prop_map(|(mark, family)| ServiceKey::Mark { mark, family }),
    ]
}

fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let scheduler = prop::sample::select(vec!["rr", "wlc", "sh", "mh"]);
    let engine = prop::option::of(Just("sip".to_owned()));
    let persistence = prop::option::of((1u32..=2_678_400, any::<u32>(), 1u8..=128));
    (service_key(), scheduler, 0u8..4, persistence, engine, any::<bool>(), beyond()).prop_map(
        |(key, scheduler, flags, persistence, persistence_engine, one_packet, beyond)| {
            let family = key.family();
            let udp = !matches!(key, ServiceKey::Address { protocol, .. } if protocol != Protocol::UDP);
            ServiceSpec {
                flags: SchedulerFlags(flags),
                persistence: persistence.map(|(timeout_secs, mask, bits)| Persistence {
                    timeout_secs,
                    netmask: match family {
                        Family::V4 => Netmask::V4(mask),
                        Family::V6 => Netmask::V6(bits),
                    },
                }),
                persistence_engine,
                one_packet: one_packet && udp,
                beyond,
                ..ServiceSpec::new(key, scheduler)
            }
        },
    )
}

fn beyond() -> impl Strategy<Value = Beyond> {
    let ways = ServerGone::NAMES.map(|(_, way)| way).to_vec();
    let timeouts = (0u32..3, 0u32..3, 0u32..2_678_401);
    let introductions = vec![
        Introduction::Toa,
        Introduction::ProxyProtocol,
        Introduction::None,
    ];
    (
        prop::option::of(prop::sample::select(ways)),
        0u32..100,
        timeouts,
        prop::sample::select(introductions),
        prop_oneof![
            Just(SegmentSize::AsTold),
            Just(SegmentSize::PathMtu),
            SegmentSize::RANGE.prop_map(SegmentSize::AtMost),
        ],
    )
        .prop_map(
            |(server_gone, slow_start_secs, (tcp, tcp_fin, udp), introduction, segment_size)| {
                Beyond {
                    server_gone,
                    slow_start_secs,
                    timeouts: TimeoutChange { tcp, tcp_fin, udp },
                    introduction,
                    segment_size,
                }
            },
        )
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    use TunnelChecksum::{Full, None, Remote};
    let any_checksum = prop::sample::select(vec![None, Full, Remote]);
    let gre_checksum = prop::sample::select(vec![None, Full]);
    prop_oneof![
        Just(Tunnel::Ipip),
        (1u16.., any_checksum).prop_map(|(port, checksum)| Tunnel::Gue { port, checksum }),
        gre_checksum.prop_map(|checksum| Tunnel::Gre { checksum }),
    ]
}

/// Real servers that can be made with ipvsadm: the port of all but NAT is the service's.
fn server_spec(key: ServiceKey) -> impl Strategy<Value = ServerSpec> {
    let method = prop::sample::select(vec![
        ForwardMethod::Nat,
        ForwardMethod::Direct,
        ForwardMethod::Tunnel,
    ]);
    (
        any::<[u8; 4]>(),
        any::<[u8; 16]>(),
        any::<u16>(),
        method,
        0..=i32::MAX,
        tunnel(),
    )
        .prop_map(move |(v4, v6, port, forward, weight, tunnel)| {
            let address = match key.family() {
                Family::V4 => IpAddr::from(v4),
                Family::V6 => IpAddr::from(v6),
            };
            let port = match key {
                ServiceKey::Address { port, .. } if forward != ForwardMethod::Nat => port,
                _ => port,
            };
            let mut spec = ServerSpec::new(address, port, forward, weight);
            if forward == ForwardMethod::Tunnel {
                spec.tunnel = tunnel;
            }
            spec
        })
}

fn service_with_server() -> impl Strategy<Value = (ServiceSpec, ServerSpec)> {
    service_spec().prop_flat_map(|spec| {
        let key = spec.key;
        (Just(spec), server_spec(key))
    })
}

proptest! {
    /// What is saved makes the same again.
    #[test]
    fn saved_rules_restore((spec, server) in service_with_server()) {
        let mut api = Fake {
            services: vec![view(spec.clone(), vec![server.clone()])],
            ..Fake::default()
        };
        let (rules, err, _) = run_with(&mut api, "lvsadm-save -n", &[]);
        prop_assert_eq!(err, "");
        let lines: Vec<&str> = rules.lines().collect();
        let (_, err, exit) = run_with(&mut api, "lvsadm -R", &lines);
        prop_assert_eq!((err.as_str(), exit), ("", 0));
        let key = spec.key;
        let expected = [Operation::AddService(spec), Operation::AddServer(key, server)];
        prop_assert_eq!(api.applied, expected);
    }

    /// Whatever stands on stdin, a restore ends.
    #[test]
    fn garbage_restores_nothing_and_does_no_harm(lines in prop::collection::vec("\\PC{0,30}", 0..10)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        run_with(&mut Fake::default(), "lvsadm -R", &lines);
    }

    /// Every operation survives the control protocol.
    #[test]
    fn operations_survive_the_protocol((spec, server) in service_with_server()) {
        use crate::control::protocol::{Answer, Piece, Request, decode_answer, decode_request, encode_answer, encode_request};
        let key = spec.key;
        for operation in [Operation::EditService(spec.clone()), Operation::EditServer(key, server.clone())] {
            let request = Request::Apply(operation);
            prop_assert_eq!(decode_request(encode_request(&request).as_bytes()), Ok(request));
        }
        let items = vec![view(spec, vec![server])];
        let answer = Answer::Services(Piece { items, more: true });
        prop_assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
    }
}
