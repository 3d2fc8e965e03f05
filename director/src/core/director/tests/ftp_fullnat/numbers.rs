//! The numbers of a control connection: FULLNAT has its share in them, and so have the words of both ends.

use super::*;

const RST: u8 = 0x04;
const PASSIVE: &str = "227 Entering Passive Mode (10,1,0,11,156,64).\r\n";
const REWRITTEN: &str = "227 Entering Passive Mode (10,0,0,100,156,64).\r\n";

fn length(text: &str) -> u32 {
    text.len() as u32
}

#[test]
fn what_comes_behind_words_of_the_client_has_other_numbers() {
    for mut lab in each() {
        let (line, there) = lab.words(40001, lab.next().1);
        assert_ne!(line.len(), there.len());
        lab.client_says((1009, 7009), &line);
        let (next, next_there) = (1009 + length(&line), lab.there(1009 + length(&there)));
        let told = lab.client_says((next, 7009), "LIST\r\n");
        assert_eq!((told.sequence, told.acknowledged), (next_there, 7009));
        // What is acknowledged: before, and behind.
        let told = lab.server_says((7009, lab.there(1009)), "");
        assert_eq!((told.sequence, told.acknowledged), (7009, 1009));
        let told = lab.server_says((7009, next_there), "200 Fine.\r\n");
        assert_eq!((told.sequence, told.acknowledged), (7009, next));
        let edges = [next_there, next_there.wrapping_add(6)].map(u32::to_be_bytes);
        let sack = [&[1, 1, 5, 10][..], &edges.concat()].concat();
        let packet = segment(lab.answer(), ACK, (7020, next_there), &sack, b"");
        let (_, told) = read(&out(&from_server(&mut lab.director, &packet)));
        assert_eq!(number(&told, 8), next);
        assert_eq!((number(&told, 24), number(&told, 28)), (next, next + 6));
        // The next words: both changes count.
        let (line, there) = lab.words(40002, lab.next().1 + 1);
        let (next, next_there) = (next + 6, next_there.wrapping_add(6));
        let told = lab.client_says((next, 7020), &line);
        assert_eq!((told.sequence, &told.text), (next_there, &there));
        let told = lab.client_says((next + length(&line), 7020), "LIST\r\n");
        let next_there = next_there.wrapping_add(length(&there));
        assert_eq!(told.sequence, next_there);
        let told = lab.server_says((7020, next_there), "150 Here.\r\n");
        assert_eq!(told.acknowledged, next + length(&line));
    }
}

/// What both ends have said has moved: numbers of the client, and the next ones of both.
fn moved(lab: &mut Lab) -> [(u32, u32); 2] {
    let (line, there) = lab.words(40001, lab.next().1);
    lab.client_says((1009, 7009), &line);
    let client = (1009 + length(&line), lab.there(1009 + length(&there)));
    let told = lab.server_says((7009, client.1), PASSIVE);
    assert_eq!((told.text.as_str(), told.sequence), (REWRITTEN, 7009));
    assert_eq!(told.acknowledged, client.0);
    let server = (7009 + length(REWRITTEN), 7009 + length(PASSIVE));
    [client, server]
}

#[test]
fn words_of_both_ends_count() {
    let mut lab = four();
    let [client, server] = moved(&mut lab);
    let told = lab.client_says((client.0, server.0), "LIST\r\n");
    assert_eq!((told.sequence, told.acknowledged), (client.1, server.1));
    let told = lab.server_says((server.1, client.1.wrapping_add(6)), "150 Here.\r\n");
    assert_eq!((told.sequence, told.acknowledged), (server.0, client.0 + 6));
}

#[test]
fn resets_are_in_the_numbers_of_each_end() {
    let beyond = Beyond {
        server_gone: Some(ServerGone::Reset),
        ..Beyond::default()
    };
    let mut lab = lab(Family::V4, Family::V4, beyond);
    let [client, server] = moved(&mut lab);
    lab.client_says((client.0, server.0), "");
    let key = ServerKey {
        address: lab.server.ip(),
        port: 21,
    };
    let removal = Operation::DeleteServer(lab.service, key);
    lab.director.apply(NOW, &removal).unwrap();
    let mut outbox = Outbox::default();
    lab.director.handle_timeout(NOW, &mut outbox);
    let told = |frame: Outgoing| match frame {
        Outgoing::Transmit(port, bytes) => {
            let (_, segment) = read(&bytes[24..]);
            (
                port,
                segment[13] & RST,
                number(&segment, 4),
                number(&segment, 8),
            )
        }
        other => panic!("{other:?}"),
    };
    let told: Vec<_> = outbox.drain().map(told).collect();
    let sent = |port, numbers: (u32, u32)| (port, RST, numbers.0, numbers.1);
    assert!(
        told.contains(&sent(INSIDE, (client.1, server.1))),
        "{told:?}"
    );
}

#[test]
fn a_checksum_that_is_left_to_the_card_is_completed_by_it() {
    for mut lab in each() {
        let (line, there) = lab.words(40001, lab.next().1);
        let packet = segment(lab.control(), PSH_ACK, (1009, 7009), &[], line.as_bytes());
        let (vnet, packet) = partial(&packet, 0);
        let vnet = VnetHeader {
            gso_type: 0,
            hdr_len: 0,
            ..vnet
        };
        let outcome = offered(&mut lab.director, vnet, &packet);
        let [Outgoing::Transmit(INSIDE, frame)] = &outcome.outbox[..] else {
            panic!("{outcome:?}");
        };
        let vnet = VnetHeader::from_bytes(*frame.first_chunk().unwrap());
        assert_eq!(heard(&completed(vnet, &frame[24..])).text, there);
    }
}
