//! Whatever the ends of a control connection say.

use proptest::prelude::*;

use super::*;

/// Who says it, the numbers of the segment, and its data.
type Line = (Direction, (u32, u32), Vec<u8>);

fn line() -> impl Strategy<Value = Line> {
    let word = prop::sample::select(
        &[
            "PORT 10,0,0,10,156,",
            "EPRT |1|10.0.0.10|",
            "EPRT |2|2001:db8::10|",
            "227 =10,1,0,11,156,",
            "229 (|||40",
            "LIST ",
            "",
        ][..],
    );
    let end = prop::sample::select(&["\r\n", "|\r\n", "|)\r\n", "\r\nLIST\r\n", ""][..]);
    let rest = prop_oneof!["[0-9]{1,5}", "[ -~]{0,8}"];
    let text = (word, rest, end).prop_map(|(word, rest, end)| format!("{word}{rest}{end}"));
    let data = prop_oneof![4 => text.prop_map(String::into_bytes), 1 => any::<Vec<u8>>()];
    let from = prop_oneof![Just(Direction::Request), Just(Direction::Reply)];
    let near = prop_oneof![3 => 0..200_u32, 1 => any::<u32>()];
    (from, (near.clone(), near), data)
}

proptest! {
    /// What leaves is whole, few data connections come of it, and nothing of them is left.
    #[test]
    fn nothing_is_broken_by_it(lines in prop::collection::vec(line(), 1..60)) {
        for mut lab in each() {
            let (client, server) = (1009_u32, lab.there(1009));
            for (from, (sequence, acknowledged), data) in &lines {
                let outcome = match from {
                    Direction::Request => {
                        let numbers = (client.wrapping_add(*sequence), 7009_u32.wrapping_add(*acknowledged));
                        let packet = segment(lab.control(), PSH_ACK, numbers, &[], data);
                        from_client(&mut lab.director, &packet)
                    }
                    Direction::Reply => {
                        let numbers = (7009_u32.wrapping_add(*sequence), server.wrapping_add(*acknowledged));
                        let packet = segment(lab.answer(), PSH_ACK, numbers, &[], data);
                        from_server(&mut lab.director, &packet)
                    }
                };
                let there = match from {
                    Direction::Request => (lab.local, (lab.server, 21)),
                    Direction::Reply => ((lab.vip, 21), (lab.client, 4000)),
                };
                prop_assert_eq!(read(&out(&outcome)).0, there);
                prop_assert!(lab.director.balancer.connection_count() <= 1 + 16);
            }
            lab.taken();
            let mut now = NOW;
            for _ in 0..4 {
                now = now + Duration::from_secs(1000);
                lab.director.handle_timeout(now, &mut Outbox::default());
            }
            prop_assert_eq!(lab.ports_in_use(), 0);
            prop_assert_eq!(lab.director.balancer.connection_count(), 0);
            for change in lab.taken() {
                prop_assert!(matches!(change, CaptureChange::Remove(_)), "{:?}", change);
            }
        }
    }
}
