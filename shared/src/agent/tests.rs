//! Reports to bytes and back, and everything that may come instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::authentication::MAC;
use super::*;

fn key() -> Key {
    Key::from_bytes(b"0123456789abcdef0123456789abcdef\n").unwrap()
}

fn report() -> Report {
    Report {
        identity: "rs1.example.com".into(),
        boot: 0x0102_0304_0506_0708,
        sequence: 41,
        time: 1_700_000_000_000_000,
        interval: 200,
        state: State::Ready,
        weight: Some(100),
        healthy: true,
        arp_suppressed: true,
        vips: vec![
            VipReport {
                address: "192.168.100.240".parse().unwrap(),
                present: true,
            },
            VipReport {
                address: "2001:db8::240".parse().unwrap(),
                present: false,
            },
        ],
        checks: vec![CheckReport {
            name: "nginx".into(),
            ok: true,
        }],
        load: Load {
            cpu_percent: 37,
            run_queue: 1250,
            listen_queue: 3,
            connections: 812,
        },
        faults: vec!["arp_ignore of eth0 is 0".into()],
    }
}

/// The same datagram with other bytes between header and code, and a code of its own.
fn resealed(datagram: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = datagram[..datagram.len() - MAC].to_vec();
    change(&mut bytes);
    let length = (bytes.len() + MAC) as u16;
    bytes[6..8].copy_from_slice(&length.to_be_bytes());
    let code = key().code(&bytes);
    bytes.extend(code);
    bytes
}

#[test]
fn the_encoding_stays_as_it_is() {
    let bytes = encode(&report(), Some(&key())).unwrap();
    assert_eq!(
        bytes[..8],
        [b'L', b'V', b'S', b'A', 1, 0, 0, bytes.len() as u8]
    );
    assert_eq!(bytes[8..25], *b"\x01\x0frs1.example.com");
    assert_eq!(bytes[25..35], [2, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes.len(), 175);
    assert_eq!(decode(&bytes, Some(&key())), Ok(report()));
}

#[test]
fn a_key_is_asked_for_where_there_is_one() {
    let with = encode(&report(), Some(&key())).unwrap();
    let without = encode(&report(), None).unwrap();
    let other = Key::from_bytes(b"another key of enough bytes").unwrap();
    assert_eq!(decode(&with, Some(&other)), Err(DecodeError::BadMac));
    assert_eq!(decode(&without, Some(&key())), Err(DecodeError::Insecure));
    assert_eq!(decode(&without, None), Ok(report()));
    assert_eq!(decode(&with, None), Ok(report()));
    // Who takes the flag away has still no code.
    let mut forged = without;
    forged[5] = 0;
    assert_eq!(decode(&forged, Some(&key())), Err(DecodeError::BadMac));
}

#[test]
fn what_is_no_report_is_named() {
    let good = encode(&report(), Some(&key())).unwrap();
    let error = |bytes: &[u8]| decode(bytes, Some(&key())).unwrap_err();
    assert_eq!(error(&[0; MAX_DATAGRAM + 1]), DecodeError::TooLong);
    assert_eq!(error(b"GET / HTTP/1.1"), DecodeError::BadMagic);
    for length in 0..good.len() {
        assert_eq!(error(&good[..length]), DecodeError::Truncated, "{length}");
    }
    let mut later = good.clone();
    later[4] = 2;
    assert_eq!(error(&later), DecodeError::Version(2));
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(
        error(&longer),
        DecodeError::Malformed("longer than it says")
    );
    let twice = resealed(&good, |bytes| bytes.extend([7, 2, 0, 1]));
    assert_eq!(error(&twice), DecodeError::Malformed("a field twice"));
    let cut = resealed(&good, |bytes| bytes.extend([8, 5, 1]));
    assert_eq!(error(&cut), DecodeError::Truncated);
    let short = resealed(&good, |bytes| bytes.extend([8, 3, 1, 2, 3]));
    assert_eq!(error(&short), DecodeError::Malformed("a wrong VIP"));
    let state = resealed(&good, |bytes| {
        let place = bytes.windows(2).position(|two| two == [6, 2]).unwrap();
        bytes[place + 2] = 4;
    });
    let wrong = DecodeError::Malformed("a field with a wrong value");
    assert_eq!(error(&state), wrong);
    let nothing = resealed(&good, |bytes| bytes.truncate(8));
    assert_eq!(error(&nothing), DecodeError::Malformed("no state"));
    let escape = resealed(&good, |bytes| bytes.extend(b"\x0c\x04\x1b[2J"));
    assert!(matches!(error(&escape), DecodeError::Malformed(_)));
}

#[test]
fn what_later_agents_add_is_skipped() {
    let good = encode(&report(), Some(&key())).unwrap();
    let more = resealed(&good, |bytes| {
        bytes[5] |= 0x80;
        bytes.extend([200, 3, 1, 2, 3]);
        bytes.extend([250, 0]);
    });
    assert_eq!(decode(&more, Some(&key())), Ok(report()));
}

#[test]
fn what_is_beyond_the_limits_is_not_sent() {
    let of = |change: &dyn Fn(&mut Report)| {
        let mut report = report();
        change(&mut report);
        encode(&report, None)
    };
    let vip = report().vips[1];
    assert!(of(&|r| r.vips = vec![vip; MAX_VIPS]).is_ok());
    let limits: [&dyn Fn(&mut Report); 7] = [
        &|r| r.vips = vec![vip; MAX_VIPS + 1],
        &|r| r.identity = String::new(),
        &|r| r.identity = "x".repeat(MAX_IDENTITY + 1),
        &|r| r.identity = "rs1\n".into(),
        &|r| r.checks[0].name = "x".repeat(MAX_CHECK_NAME + 1),
        &|r| r.faults = vec!["f".into(); MAX_FAULTS + 1],
        &|r| r.load.cpu_percent = 101,
    ];
    for change in limits {
        assert!(matches!(of(change), Err(EncodeError::Limit(_))));
    }
    let long = of(&|r| {
        r.vips = vec![vip; MAX_VIPS];
        let name = "x".repeat(MAX_CHECK_NAME);
        r.checks = vec![CheckReport { name, ok: true }; MAX_CHECKS];
    });
    assert!(
        matches!(long, Err(EncodeError::TooLong(1201..))),
        "{long:?}"
    );
}

fn texts(most: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[ -~]{{1,{most}}}")).unwrap()
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6),
    ]
}

prop_compose! {
    fn reports()(
        (identity, boot, sequence, time, interval) in
            (texts(MAX_IDENTITY), any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>()),
        state in prop::sample::select(
            vec![State::Ready, State::Drain, State::Maintenance, State::Leaving]),
        (weight, healthy, arp_suppressed) in any::<(Option<u16>, bool, bool)>(),
        vips in prop::collection::vec((addresses(), any::<bool>()), 0..8),
        checks in prop::collection::vec((texts(MAX_CHECK_NAME), any::<bool>()), 0..8),
        (cpu_percent, run_queue, listen_queue, connections) in
            (0_u8..=100, any::<u32>(), any::<u32>(), any::<u32>()),
        faults in prop::collection::vec(texts(MAX_FAULT), 0..=MAX_FAULTS),
    ) -> Report {
        let vips = vips.into_iter();
        let checks = checks.into_iter();
        Report {
            identity, boot, sequence, time, interval, state, weight, healthy, arp_suppressed,
            vips: vips.map(|(address, present)| VipReport { address, present }).collect(),
            checks: checks.map(|(name, ok)| CheckReport { name, ok }).collect(),
            load: Load { cpu_percent, run_queue, listen_queue, connections },
            faults,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(report in reports(), secure in any::<bool>()) {
        let key = secure.then(key);
        let bytes = encode(&report, key.as_ref()).unwrap();
        prop_assert!(bytes.len() <= MAX_DATAGRAM);
        prop_assert_eq!(decode(&bytes, key.as_ref()), Ok(report));
    }

    #[test]
    fn a_changed_bit_is_found(report in reports(), place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = encode(&report, Some(&key())).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        prop_assert!(decode(&bytes, Some(&key())).is_err());
    }

    /// No key: everything gets as far as the fields. What is read is within the limits, as it can be
    /// written again.
    #[test]
    fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes, None);
        let mut inside = b"LVSA\x01\x01".to_vec();
        inside.extend(((bytes.len() + 8 + MAC) as u16).to_be_bytes());
        inside.extend(&bytes);
        inside.extend([0; MAC]);
        if let Ok(report) = decode(&inside, None) {
            prop_assert!(encode(&report, None).is_ok());
        }
    }
}
