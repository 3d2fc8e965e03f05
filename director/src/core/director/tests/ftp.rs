//! FTP by NAT: what the ends of a control connection say to each other, and the data connections that follow.

mod waiting;

use shared::addr::{Addr, Protocol};
use shared::wire::vnet::VnetHeader;

use super::fullnat::{number, out, segment};
use super::laboratory::*;
use crate::core::capture::{CaptureChange, CaptureKey};
use crate::core::director::Director;
use crate::core::operation::{ForwardMethod, Operation, ServerSpec, ServiceKey, ServiceSpec};
use crate::core::verdict::{Outbox, Outgoing, Verdict};

type End = ([u8; 4], u16);

const CONTROL: (End, End) = ((CLIENT, 4000), (VIP, 21));
const ANSWER: (End, End) = ((SERVER, 21), (CLIENT, 4000));
const PSH_ACK: u8 = 0x18;

/// A director with a service of FTP, whose client has asked it once.
fn lab() -> Director {
    let mut director = director(ForwardMethod::Nat);
    let key = ServiceKey::new(Protocol::TCP, std::net::Ipv4Addr::from(VIP), 21);
    let server = ServerSpec::new(std::net::Ipv4Addr::from(SERVER), 21, ForwardMethod::Nat, 1);
    for operation in [
        Operation::AddService(ServiceSpec::new(key, "rr")),
        Operation::AddServer(key, server),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    let syn = segment(CONTROL, SYN, (1000, 0), &[], b"");
    out(&from_client(&mut director, &syn));
    let answer = segment(ANSWER, SYN_ACK, (7000, 1001), &[], b"");
    out(&from_server(&mut director, &answer));
    director.balancer.captures().take_changes();
    director
}

fn client_says(director: &mut Director, numbers: (u32, u32), line: &str) -> Vec<u8> {
    let packet = segment(CONTROL, PSH_ACK, numbers, &[], line.as_bytes());
    out(&from_client(director, &packet))
}

fn server_says(director: &mut Director, numbers: (u32, u32), line: &str) -> Vec<u8> {
    let packet = segment(ANSWER, PSH_ACK, numbers, &[], line.as_bytes());
    out(&from_server(director, &packet))
}

fn said(packet: &[u8]) -> &str {
    read(packet);
    std::str::from_utf8(&packet[40..]).unwrap()
}

/// What is taken from the wire anew, or no longer.
fn taken(director: &mut Director) -> Vec<CaptureChange> {
    director.balancer.captures().take_changes()
}

fn keys(vip_port: u16, server_port: u16) -> [CaptureKey; 2] {
    let protocol = Protocol::TCP;
    [
        CaptureKey::Service {
            protocol,
            address: Addr::from_v4_bytes(VIP),
            port: vip_port,
        },
        CaptureKey::Reply {
            protocol,
            address: Addr::from_v4_bytes(SERVER),
            port: server_port,
        },
    ]
}

const PASSIVE: &str = "227 Entering Passive Mode (10,1,0,11,156,64).\r\n";
const REWRITTEN: &str = "227 Entering Passive Mode (10,0,0,100,156,64).\r\n";

#[test]
fn a_passive_client_is_told_the_virtual_address_and_let_through() {
    let mut director = lab();
    let packet = segment(ANSWER, PSH_ACK, (7001, 1001), &[], PASSIVE.as_bytes());
    let outcome = from_server(&mut director, &packet);
    // It leaves behind the keys of what it brings.
    assert_eq!(outcome.verdict, Verdict::Consumed);
    assert_eq!(said(&out(&outcome)), REWRITTEN);
    let changes = taken(&mut director);
    for key in keys(40000, 40000) {
        assert!(changes.contains(&CaptureChange::Insert(key)), "{changes:?}");
    }
    // A port of the client's that nobody knew.
    let data = segment(((CLIENT, 5555), (VIP, 40000)), SYN, (50, 0), &[], b"");
    let there = from_client(&mut director, &data);
    assert_eq!(there.verdict, Verdict::Forward(INSIDE));
    assert_eq!(read(&there.packet), ((CLIENT, 5555), (SERVER, 40000)));
    let back = segment(
        ((SERVER, 40000), (CLIENT, 5555)),
        SYN_ACK,
        (9, 51),
        &[],
        b"",
    );
    let back = from_server(&mut director, &back);
    assert_eq!(read(&back.packet), ((VIP, 40000), (CLIENT, 5555)));
    // Once only, and by nobody else.
    for client in [(CLIENT, 5556), (FAR_CLIENT, 5555)] {
        let other = segment((client, (VIP, 40000)), SYN, (50, 0), &[], b"");
        assert_eq!(from_client(&mut director, &other).verdict, Verdict::Local);
    }
}

#[test]
fn what_comes_behind_longer_words_has_other_numbers() {
    let mut director = lab();
    let (line, longer) = (PASSIVE.len() as u32, REWRITTEN.len() as u32);
    for _ in 0..2 {
        // Also when it comes again.
        let packet = server_says(&mut director, (7001, 1001), PASSIVE);
        assert_eq!((said(&packet), number(&packet, 4)), (REWRITTEN, 7001));
    }
    let next = server_says(&mut director, (7001 + line, 1001), "150 Here it comes.\r\n");
    assert_eq!(number(&next, 4), 7001 + longer);
    let packet = client_says(&mut director, (1001, 7001 + longer), "LIST\r\n");
    assert_eq!(
        (said(&packet), number(&packet, 8)),
        ("LIST\r\n", 7001 + line)
    );
    // A selective acknowledgement has the same numbers.
    let (from, to) = (7001 + longer + 20, 7001 + longer + 40);
    let mut sack = vec![1, 1, 5, 10];
    sack.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
    let packet = segment(CONTROL, ACK, (1007, 7001 + longer), &sack, b"");
    let packet = out(&from_client(&mut director, &packet));
    read(&packet);
    assert_eq!(number(&packet, 8), 7001 + line);
    assert_eq!(
        (number(&packet, 24), number(&packet, 28)),
        (7021 + line, 7041 + line)
    );
    // The next words: both changes count.
    let packet = server_says(&mut director, (7021 + line, 1007), PASSIVE);
    assert_eq!(
        (said(&packet), number(&packet, 4)),
        (REWRITTEN, 7021 + longer)
    );
    let last = server_says(&mut director, (7021 + 2 * line, 1007), "226 Done.\r\n");
    assert_eq!(number(&last, 4), 7021 + 2 * longer);
}

#[test]
fn words_in_the_extended_form_may_stay_as_they_are() {
    let mut director = lab();
    let line = "229 Entering Extended Passive Mode (|||6446|)\r\n";
    assert_eq!(said(&server_says(&mut director, (7001, 1001), line)), line);
    let data = segment(((CLIENT, 5555), (VIP, 6446)), SYN, (50, 0), &[], b"");
    let there = from_client(&mut director, &data);
    assert_eq!(read(&there.packet), ((CLIENT, 5555), (SERVER, 6446)));
    // A server that calls itself by the address that clients know.
    let line = "227 Entering Passive Mode (10,0,0,100,25,47).\r\n";
    assert_eq!(said(&server_says(&mut director, (7050, 1001), line)), line);
    let data = segment(((CLIENT, 5556), (VIP, 6447)), SYN, (50, 0), &[], b"");
    let there = from_client(&mut director, &data);
    assert_eq!(read(&there.packet), ((CLIENT, 5556), (SERVER, 6447)));
}

#[test]
fn a_checksum_that_is_left_to_the_card_is_completed_by_it() {
    let mut director = lab();
    let mut sketch = tcp(ANSWER.0, ANSWER.1, PSH_ACK);
    sketch.payload = PASSIVE.into();
    let (vnet, packet) = sketch.partial(0);
    let outcome = send(&mut director, INSIDE, SERVER_MAC, INSIDE_MAC, vnet, &packet);
    let [Outgoing::Transmit(OUTSIDE, frame)] = &outcome.outbox[..] else {
        panic!("{outcome:?}");
    };
    let vnet = VnetHeader::from_bytes(*frame.first_chunk().unwrap());
    assert_eq!(said(&completed(vnet, &frame[24..])), REWRITTEN);
}

#[test]
fn the_server_of_an_active_client_may_come() {
    for line in ["PORT 10,0,0,10,156,65\r\n", "EPRT |1|10.0.0.10|40001|\r\n"] {
        let mut director = lab();
        assert_eq!(said(&client_says(&mut director, (1001, 7001), line)), line);
        let changes = taken(&mut director);
        for key in keys(20, 20) {
            assert!(changes.contains(&CaptureChange::Insert(key)), "{changes:?}");
        }
        let data = segment(((SERVER, 20), (CLIENT, 40001)), SYN, (90, 0), &[], b"");
        let there = from_server(&mut director, &data);
        assert_eq!(there.verdict, Verdict::Forward(OUTSIDE));
        assert_eq!(read(&there.packet), ((VIP, 20), (CLIENT, 40001)));
        let back = segment(((CLIENT, 40001), (VIP, 20)), SYN_ACK, (3, 91), &[], b"");
        let back = from_client(&mut director, &back);
        assert_eq!(read(&back.packet), ((CLIENT, 40001), (SERVER, 20)));
        // The same words again change nothing.
        client_says(&mut director, (1001, 7001), line);
        assert_eq!(director.balancer.connection_count(), 2);
    }
}

#[test]
fn who_points_to_somebody_else_is_not_helped() {
    let mut director = lab();
    for line in [
        "PORT 192,0,2,7,156,65\r\n",
        "PORT 10,0,0,10,0,22\r\n",
        "EPRT |1|10.1.0.11|40001|\r\n",
        "PORT 10,0,0,10,156,65",
    ] {
        assert_eq!(said(&client_says(&mut director, (1001, 7001), line)), line);
    }
    for line in [
        "227 Entering Passive Mode (192,0,2,7,156,64).\r\n",
        "227 Entering Passive Mode (10,1,0,11,0,22).\r\n",
        "227 Entering Passive Mode (10,1,0,11,156,64)",
    ] {
        assert_eq!(said(&server_says(&mut director, (7001, 1001), line)), line);
    }
    assert_eq!(director.balancer.connection_count(), 1);
    assert_eq!(taken(&mut director), []);
    // What is damaged stays so.
    let mut packet = segment(ANSWER, PSH_ACK, (7001, 1001), &[], PASSIVE.as_bytes());
    packet[45] ^= 1;
    let outcome = from_server(&mut director, &packet);
    assert_eq!(outcome.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(outcome.packet.len(), packet.len());
    assert_eq!(taken(&mut director), []);
}

#[test]
fn endless_words_make_no_endless_connections() {
    let mut director = lab();
    for port in 2000..2100_u16 {
        let [high, low] = port.to_be_bytes();
        client_says(
            &mut director,
            (1001, 7001),
            &format!("PORT 10,0,0,10,{high},{low}\r\n"),
        );
        let line = format!("227 x (10,1,0,11,{high},{low}).\r\n");
        server_says(&mut director, (7001, 1001), &line);
    }
    assert_eq!(director.balancer.connection_count(), 1 + 16);
}

#[test]
fn a_control_connection_stays_while_data_flows() {
    let mut director = lab();
    server_says(&mut director, (7001, 1001), PASSIVE);
    let data = segment(((CLIENT, 5555), (VIP, 40000)), SYN, (50, 0), &[], b"");
    from_client(&mut director, &data);
    let back = segment(
        ((SERVER, 40000), (CLIENT, 5555)),
        SYN_ACK,
        (9, 51),
        &[],
        b"",
    );
    from_server(&mut director, &back);
    let mut now = NOW;
    for _ in 0..40 {
        now = now + std::time::Duration::from_secs(60);
        let more = segment(
            ((SERVER, 40000), (CLIENT, 5555)),
            ACK,
            (10, 51),
            &[],
            b"more",
        );
        let ends = (SERVER_MAC, INSIDE_MAC);
        send_at(
            &mut director,
            now,
            INSIDE,
            ends,
            VnetHeader::default(),
            &more,
        );
        director.handle_timeout(now, &mut Outbox::default());
    }
    assert_eq!(director.balancer.connection_count(), 2);
    now = now + std::time::Duration::from_secs(4000);
    for _ in 0..3 {
        director.handle_timeout(now, &mut Outbox::default());
        now = now + std::time::Duration::from_secs(70);
    }
    assert_eq!(director.balancer.connection_count(), 0);
    assert_eq!(taken(&mut director).len(), 4);
}

#[test]
fn other_services_may_say_what_they_like() {
    let mut director = director(ForwardMethod::Nat);
    let (there, back) = (
        ((CLIENT, 4000), (VIP, 80)),
        ((SERVER, 8080), (CLIENT, 4000)),
    );
    from_client(&mut director, &segment(there, SYN, (1000, 0), &[], b""));
    let packet = segment(back, PSH_ACK, (1, 1001), &[], PASSIVE.as_bytes());
    let outcome = from_server(&mut director, &packet);
    assert_eq!(outcome.verdict, Verdict::Forward(OUTSIDE));
    assert_eq!(said(&outcome.packet), PASSIVE);
    let data = segment(((CLIENT, 5555), (VIP, 40000)), SYN, (50, 0), &[], b"");
    assert_eq!(from_client(&mut director, &data).verdict, Verdict::Local);
}
