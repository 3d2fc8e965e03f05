//! Who is not helped, and how much is done for those who are.

use super::*;

#[test]
fn who_points_to_somebody_else_or_to_what_cannot_be_said_is_left_alone() {
    let clients = [
        "PORT 192,0,2,7,156,65\r\n",
        "PORT 10,0,0,10,0,22\r\n",
        "PORT 10,1,0,2,156,65\r\n",
        "EPRT |2|2001:db8::10|22|\r\n",
        "EPRT |2|2001:db8::11|40001|\r\n",
        "EPRT |1|10.1.0.2|40001|\r\n",
        "EPSV 2\r\n",
    ];
    for mut lab in [four(), six_to_four()] {
        for line in clients {
            assert_eq!(lab.client_says((1009, 7009), line).text, line);
        }
        let line = "227 Entering Passive Mode (192,0,2,7,156,64).\r\n";
        assert_eq!(lab.server_says((7009, lab.there(1009)), line).text, line);
        assert_eq!(lab.taken(), []);
        assert_eq!(lab.director.balancer.connection_count(), 1);
    }
    // No address of IPv6 can be said so.
    let mut lab = six_to_four();
    let line = "227 Entering Passive Mode (10,1,0,11,156,64).\r\n";
    assert_eq!(lab.server_says((7009, lab.there(1009)), line).text, line);
    let line = "PORT 10,0,0,10,156,65\r\n";
    assert_eq!(lab.client_says((1009, 7009), line).text, line);
    assert_eq!(lab.taken(), []);
}

#[test]
fn endless_words_take_few_ports_and_give_them_back() {
    for mut lab in each() {
        let (first, _) = lab.words(2000, 0);
        lab.client_says((1009, 7009), &first);
        for port in 2000..2100 {
            let (line, _) = lab.words(port, 0);
            let packet = segment(lab.control(), PSH_ACK, (1009, 7009), &[], line.as_bytes());
            from_client(&mut lab.director, &packet);
            let line = format!("229 Fine (|||{port}|)\r\n");
            lab.server_says((7009, lab.there(1009)), &line);
        }
        assert_eq!(lab.ports_in_use(), 1 + 16);
        let later = NOW + Duration::from_secs(130);
        for _ in 0..2 {
            lab.director.handle_timeout(later, &mut Outbox::default());
        }
        assert_eq!(lab.ports_in_use(), 1);
        assert_eq!(lab.director.balancer.connection_count(), 1);
        let changes = lab.taken();
        let key = lab.key(20);
        assert!(changes.contains(&CaptureChange::Remove(key)), "{changes:?}");
    }
}
