//! FTP by FULLNAT, within each family and from IPv6 to IPv4: the server is told a local address, and the data
//! connections of both kinds go by it.

mod anything;
mod limits;
mod numbers;

use std::net::IpAddr;
use std::time::Duration;

use shared::addr::{Addr, Family, Protocol};
use shared::wire::vnet::VnetHeader;

use super::fullnat::{SYN_OPTIONS, out};
use super::fullnat6::{End, number, partial, read, segment};
use super::ipv6::{CLIENT6, FAR_CLIENT6, LOCAL6, SERVER6, VIP6, serving};
use super::laboratory::*;
use crate::core::balancer::Direction;
use crate::core::capture::{CaptureChange, CaptureKey};
use crate::core::director::Director;
use crate::core::operation::{
    Beyond, ForwardMethod, Introduction, Operation, ServerGone, ServerKey, ServerSpec, ServiceKey,
    ServiceSpec,
};
use crate::core::reason::Reason;
use crate::core::verdict::{Outbox, Outgoing, Verdict};

const PSH_ACK: u8 = 0x18;
const FIN_ACK: u8 = 0x11;

/// A director with a service of FTP and two local addresses of each family, whose client has just been let in: the
/// next byte of the client is 1009, that of the server 7009.
struct Lab {
    director: Director,
    service: ServiceKey,
    client: Addr,
    vip: Addr,
    server: Addr,
    /// As whom the server knows the client.
    local: End,
    /// What is added to the client's numbers.
    shift: u32,
}

/// What an end is told.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    ends: (End, End),
    sequence: u32,
    acknowledged: u32,
    text: String,
}

fn heard(packet: &[u8]) -> Heard {
    let (ends, segment) = read(packet);
    let data = &segment[usize::from(segment[12] >> 4) * 4..];
    Heard {
        ends,
        sequence: number(&segment, 4),
        acknowledged: number(&segment, 8),
        text: String::from_utf8(data.to_vec()).unwrap(),
    }
}

fn four() -> Lab {
    lab(Family::V4, Family::V4, Beyond::default())
}

fn six_to_four() -> Lab {
    lab(Family::V6, Family::V4, Beyond::default())
}

/// Within each family, and across.
fn each() -> [Lab; 3] {
    let six = lab(Family::V6, Family::V6, Beyond::default());
    [four(), six, six_to_four()]
}

fn lab(of_client: Family, of_server: Family, beyond: Beyond) -> Lab {
    let of = |family, v4: [u8; 4], v6: std::net::Ipv6Addr| match family {
        Family::V4 => Addr::from_v4_bytes(v4),
        Family::V6 => Addr::from(IpAddr::from(v6)),
    };
    let server = of(of_server, SERVER, SERVER6);
    let vip = of(of_client, VIP, VIP6);
    let mut director = serving(ForwardMethod::FullNat, server.ip());
    let service = ServiceKey::new(Protocol::TCP, vip.ip(), 21);
    let spec = ServiceSpec {
        beyond,
        ..ServiceSpec::new(service, "rr")
    };
    let local_address = |address| Operation::AddLocalAddress {
        address,
        interface: None,
    };
    for operation in [
        local_address(IpAddr::from([10, 1, 0, 3])),
        local_address(IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, 3])),
        Operation::AddService(spec),
        Operation::AddServer(
            service,
            ServerSpec::new(server.ip(), 21, ForwardMethod::FullNat, 1),
        ),
    ] {
        director.apply(NOW, &operation).unwrap();
    }
    let mut lab = Lab {
        director,
        service,
        client: of(of_client, CLIENT, CLIENT6),
        vip,
        server,
        local: (of(of_server, LOCAL, LOCAL6), 0),
        shift: 0,
    };
    let syn = segment(lab.control(), SYN, (1000, 0), &[], b"");
    let syn = heard(&out(&from_client(&mut lab.director, &syn)));
    assert_eq!(syn.ends.0.0, lab.local.0);
    lab.local = syn.ends.0;
    lab.shift = syn.sequence.wrapping_sub(1000);
    let answer = segment(lab.answer(), SYN_ACK, (7000, lab.there(1001)), &[], b"");
    out(&from_server(&mut lab.director, &answer));
    let packet = segment(lab.control(), PSH_ACK, (1001, 7001), &[], b"USER x\r\n");
    from_client(&mut lab.director, &packet);
    // It has the option, or what is in front of the data.
    let name = match beyond.introduction {
        Introduction::ProxyProtocol => 28,
        _ => 0,
    };
    lab.server_says((7001, lab.there(1009 + name)), "230 ok\r\n");
    lab.director.balancer.captures().take_changes();
    lab
}

impl Lab {
    fn control(&self) -> (End, End) {
        ((self.client, 4000), (self.vip, 21))
    }

    fn answer(&self) -> (End, End) {
        ((self.server, 21), self.local)
    }

    /// The server's number for one of the client's, as long as no words have moved.
    fn there(&self, number: u32) -> u32 {
        self.shift.wrapping_add(number)
    }

    fn client_says(&mut self, numbers: (u32, u32), text: &str) -> Heard {
        let packet = segment(self.control(), PSH_ACK, numbers, &[], text.as_bytes());
        heard(&out(&from_client(&mut self.director, &packet)))
    }

    fn server_says(&mut self, numbers: (u32, u32), text: &str) -> Heard {
        let packet = segment(self.answer(), PSH_ACK, numbers, &[], text.as_bytes());
        heard(&out(&from_server(&mut self.director, &packet)))
    }

    /// What the client says of where it waits for data, and what the server is told.
    fn words(&self, port: u16, there: u16) -> (String, String) {
        let [high, low] = port.to_be_bytes();
        let [high_there, low_there] = there.to_be_bytes();
        match (self.client.family(), self.server.family()) {
            (Family::V4, _) => (
                format!("PORT 10,0,0,10,{high},{low}\r\n"),
                format!("PORT 10,1,0,2,{high_there},{low_there}\r\n"),
            ),
            (Family::V6, Family::V6) => (
                format!("EPRT |2|2001:db8::10|{port}|\r\n"),
                format!("EPRT |2|2001:db8:1::2|{there}|\r\n"),
            ),
            (Family::V6, Family::V4) => (
                format!("EPRT |2|2001:db8::10|{port}|\r\n"),
                format!("EPRT |1|10.1.0.2|{there}|\r\n"),
            ),
        }
    }

    /// The next port that the pool gives.
    fn next(&self) -> End {
        (self.local.0, self.local.1 + 1)
    }

    /// Connections with a port of the control connection's local address.
    fn ports_in_use(&self) -> u32 {
        let addresses = self.director.balancer.local_addresses();
        let own = addresses.iter().find(|it| it.address == self.local.0.ip());
        own.unwrap().connections
    }

    /// What is taken from the wire anew, or no longer.
    fn taken(&mut self) -> Vec<CaptureChange> {
        self.director.balancer.captures().take_changes()
    }

    fn key(&self, port: u16) -> CaptureKey {
        CaptureKey::Service {
            protocol: Protocol::TCP,
            address: self.vip,
            port,
        }
    }
}

#[test]
fn a_passive_client_comes_by_the_local_address_of_its_control_connection() {
    for mut lab in each() {
        let line = "229 Entering Extended Passive Mode (|||40000|)\r\n";
        let told = lab.server_says((7009, lab.there(1009)), line);
        assert_eq!(told.ends, (lab.control().1, lab.control().0));
        assert_eq!((told.text.as_str(), told.acknowledged), (line, 1009));
        let key = lab.key(40000);
        assert_eq!(lab.taken(), [CaptureChange::Insert(key)]);
        assert_eq!(lab.ports_in_use(), 2);
        // A port of the client's that nobody knew.
        let ends = ((lab.client, 5555), (lab.vip, 40000));
        let syn = segment(ends, SYN, (50, 0), &SYN_OPTIONS, b"");
        let syn = heard(&out(&from_client(&mut lab.director, &syn)));
        assert_eq!(syn.ends, (lab.next(), (lab.server, 40000)));
        assert_ne!(syn.sequence, 50);
        let back = ((lab.server, 40000), lab.next());
        let numbers = (9, syn.sequence.wrapping_add(1));
        let answer = segment(back, SYN_ACK, numbers, &[], b"");
        let answer = heard(&out(&from_server(&mut lab.director, &answer)));
        assert_eq!(answer.ends, (ends.1, ends.0));
        assert_eq!(answer.acknowledged, 51);
        // Once only, and by nobody else.
        let stranger = match lab.client.family() {
            Family::V4 => Addr::from_v4_bytes(FAR_CLIENT),
            Family::V6 => Addr::from(IpAddr::from(FAR_CLIENT6)),
        };
        for client in [(lab.client, 5556), (stranger, 5555)] {
            let other = segment((client, (lab.vip, 40000)), SYN, (50, 0), &[], b"");
            let outcome = from_client(&mut lab.director, &other);
            assert_eq!(outcome.verdict, Verdict::Local);
        }
    }
}

#[test]
fn the_server_of_an_active_client_is_told_a_local_port_and_let_through() {
    for mut lab in each() {
        let next = lab.next();
        let (line, expected) = lab.words(40001, next.1);
        for _ in 0..2 {
            // The same words again change nothing.
            let told = lab.client_says((1009, 7009), &line);
            assert_eq!(told.ends, (lab.answer().1, lab.answer().0));
            assert_eq!((&told.text, told.sequence), (&expected, lab.there(1009)));
            assert_eq!(lab.ports_in_use(), 2);
        }
        let key = lab.key(20);
        assert_eq!(lab.taken(), [CaptureChange::Insert(key)]);
        // Nothing of it is changed but its ends: it is the server that asks.
        let ends = ((lab.server, 20), next);
        let syn = segment(ends, SYN, (90, 0), &SYN_OPTIONS, b"");
        let (there, syn) = read(&out(&from_server(&mut lab.director, &syn)));
        assert_eq!(there, ((lab.vip, 20), (lab.client, 40001)));
        assert_eq!((number(&syn, 4), &syn[20..]), (90, &SYN_OPTIONS[..]));
        let answer = segment((there.1, there.0), SYN_ACK, (500, 91), &SYN_OPTIONS, b"");
        let (back, answer) = read(&out(&from_client(&mut lab.director, &answer)));
        assert_eq!(back, (ends.1, ends.0));
        assert_eq!((number(&answer, 4), number(&answer, 8)), (500, 91));
        assert_eq!(&answer[20..], &SYN_OPTIONS);
        for (data, numbers) in [("", (91, 501)), ("file", (91, 501))] {
            let packet = segment(ends, PSH_ACK, numbers, &[], data.as_bytes());
            let got = heard(&out(&from_server(&mut lab.director, &packet)));
            assert_eq!((got.sequence, got.acknowledged), numbers);
            assert_eq!(got.text, data);
        }
        let packet = segment((there.1, there.0), ACK, (501, 95), &[], b"");
        let got = heard(&out(&from_client(&mut lab.director, &packet)));
        assert_eq!((got.sequence, got.acknowledged), (501, 95));
        // It comes from nowhere else.
        for (from, to) in [(21, next.1), (20, next.1 + 1)] {
            let ends = ((lab.server, from), (next.0, to));
            let other = segment(ends, SYN, (90, 0), &[], b"");
            let outcome = from_server(&mut lab.director, &other);
            assert_eq!(outcome.verdict, Verdict::Drop(Reason::NoConnection));
        }
    }
}

#[test]
fn a_client_may_wait_at_one_port_again_and_again() {
    for mut lab in each() {
        for more in [1, 2] {
            let local = (lab.local.0, lab.local.1 + more);
            let (line, expected) = lab.words(40001, local.1);
            let told = lab.client_says((1009, 7009), &line);
            assert_eq!(told.text, expected);
            let (there, back) = (
                ((lab.server, 20), local),
                ((lab.client, 40001), (lab.vip, 20)),
            );
            for flags in [SYN, ACK, FIN_ACK] {
                let packet = segment(there, flags, (90, 501), &[], b"");
                out(&from_server(&mut lab.director, &packet));
                let packet = segment(back, flags | ACK, (500, 91), &[], b"");
                out(&from_client(&mut lab.director, &packet));
            }
            assert_eq!(lab.ports_in_use(), 2);
        }
    }
}

#[test]
fn data_have_no_header_in_front() {
    let beyond = Beyond {
        introduction: Introduction::ProxyProtocol,
        ..Beyond::default()
    };
    let mut lab = lab(Family::V4, Family::V4, beyond);
    let (line, expected) = lab.words(40001, lab.next().1);
    let told = lab.client_says((1009, 7009), &line);
    assert_eq!((told.text, told.sequence), (expected, lab.there(1009 + 28)));
    lab.server_says((7009, lab.there(1009 + 28)), "229 Fine (|||40000|)\r\n");
    let ends = ((lab.client, 5555), (lab.vip, 40000));
    let syn = segment(ends, SYN, (50, 0), &[], b"");
    let syn = heard(&out(&from_client(&mut lab.director, &syn)));
    let back = (syn.ends.1, syn.ends.0);
    let answer = segment(back, SYN_ACK, (9, syn.sequence.wrapping_add(1)), &[], b"");
    from_server(&mut lab.director, &answer);
    let data = segment(ends, PSH_ACK, (51, 10), &[], b"file");
    let (_, sent) = in_order(&mut lab.director, VnetHeader::default(), &data);
    let [(_, data)] = &sent[..] else {
        panic!("{sent:?}");
    };
    let data = heard(data);
    assert_eq!(data.sequence, syn.sequence.wrapping_add(1));
    assert_eq!(data.text, "file");
}
