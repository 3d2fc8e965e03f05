use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use shared::addr::{Family, Protocol};

use super::super::protocol::{decode_answer, encode_request};
use super::*;
use crate::core::operation::TimeoutChange;

/// A director with nothing but connections.
struct Many(usize);

impl Backend for Many {
    fn apply(&mut self, operation: &Operation) -> Result<(), OperationError> {
        match operation {
            Operation::DeleteService(key) => Err(OperationError::NoSuchService(*key)),
            _ => Ok(()),
        }
    }

    fn services(&self) -> Vec<ServiceView> {
        Vec::new()
    }

    fn service(&self, _: &ServiceKey) -> Option<ServiceView> {
        None
    }

    fn connections(&self, cursor: usize, most: usize) -> (Vec<ConnectionView>, Option<usize>) {
        let end = self.0.min(cursor + most);
        let items = (cursor..end).map(connection).collect();
        (items, (end < self.0).then_some(end))
    }

    fn timeouts(&self) -> TimeoutsView {
        TimeoutsView {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }

    fn totals(&self) -> StatsView {
        StatsView::default()
    }

    fn sysctls(&self) -> Vec<SysctlView> {
        Vec::new()
    }

    fn info(&self) -> InfoView {
        InfoView {
            version: "0".to_owned(),
            table_size: 4096,
        }
    }

    fn status(&self) -> StatusView {
        StatusView {
            version: "0".to_owned(),
            uptime_secs: 1,
            interfaces: Vec::new(),
            connections: self.0 as u64,
            half_open: 0,
            pushed_out: 0,
            unnamed_clients: 0,
            reports: None,
            rivals: Vec::new(),
            local_addresses: Vec::new(),
            capture_keys: 0,
            given_back: 0,
            drops: Vec::new(),
        }
    }
}

fn connection(number: usize) -> ConnectionView {
    ConnectionView {
        protocol: Protocol::TCP,
        expires_ms: number as u64,
        state: "ESTABLISHED".to_owned(),
        client: IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        client_port: 1,
        virtual_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        virtual_port: 80,
        destination: IpAddr::V4(Ipv4Addr::LOCALHOST),
        destination_port: 80,
        engine: None,
    }
}

/// Steps and takes all output until there is none, as a client that reads does. Returns the answers
/// and the most that ever waited.
fn drain(session: &mut Session, backend: &mut Many) -> (Vec<Answer>, usize) {
    let mut bytes = Vec::new();
    let mut most = 0;
    loop {
        let progress = session.step(backend);
        let waiting = session.output().len();
        most = most.max(waiting);
        bytes.extend_from_slice(session.output());
        session.consume_output(waiting);
        if progress == Progress::Waiting && waiting == 0 {
            break;
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let answers = text.lines().map(|line| decode_answer(line).unwrap());
    (answers.collect(), most)
}

#[test]
fn many_connections_come_in_pieces_of_a_bounded_size() {
    let mut backend = Many(100_000);
    let mut session = Session::new();
    session.receive(encode_request(&Request::Connections).as_bytes());
    let (answers, most) = drain(&mut session, &mut backend);
    let mut seen = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        let Answer::Connections(piece) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(piece.more, index + 1 < answers.len());
        seen.extend(piece.items.iter().map(|item| item.expires_ms));
    }
    assert!(seen.iter().copied().eq(0..100_000));
    assert!(most < OUTPUT_BYTES + 64 * 1024, "{most} bytes waited");
}

#[test]
fn a_client_that_does_not_read_gets_no_more() {
    let mut backend = Many(100_000);
    let mut session = Session::new();
    session.receive(encode_request(&Request::Connections).as_bytes());
    while session.step(&mut backend) == Progress::More {}
    let waiting = session.output().len();
    assert_eq!(session.step(&mut backend), Progress::Waiting);
    assert_eq!(session.output().len(), waiting);
    session.consume_output(waiting);
    session.step(&mut backend);
    assert!(!session.output().is_empty());
}

#[test]
fn too_long_a_request_is_refused_once_and_the_next_one_served() {
    let mut backend = Many(0);
    let mut session = Session::new();
    let mut errors = 0;
    for _ in 0..40 {
        session.receive(&[b'x'; 4096]);
        let (answers, _) = drain(&mut session, &mut backend);
        errors += answers.len();
        assert!(session.input.len() <= MAX_REQUEST_BYTES);
    }
    assert_eq!(errors, 1);
    session.receive(b"\n");
    session.receive(encode_request(&Request::Timeouts).as_bytes());
    let (answers, _) = drain(&mut session, &mut backend);
    assert_eq!(answers, [Answer::Timeouts(backend.timeouts())]);
}

#[test]
fn the_bound_is_exact() {
    let line = |bytes| {
        let request = encode_request(&Request::Info);
        let padding = " ".repeat(bytes - (request.len() - 1));
        request.replace('\n', &format!("{padding}\n"))
    };
    for (bytes, expected) in [
        (MAX_REQUEST_BYTES, Answer::Info(Many(0).info())),
        (MAX_REQUEST_BYTES + 1, Answer::Error(RequestError::TooLong)),
    ] {
        let mut session = Session::new();
        session.receive(line(bytes).as_bytes());
        assert_eq!(drain(&mut session, &mut Many(0)).0, [expected]);
    }
}

#[test]
fn requests_may_come_in_any_pieces() {
    let key = ServiceKey::Mark {
        mark: 7,
        family: Family::V6,
    };
    let change = TimeoutChange {
        tcp: 1,
        tcp_fin: 2,
        udp: 3,
    };
    let requests = [
        Request::Apply(Operation::SetTimeouts(change)),
        Request::Apply(Operation::DeleteService(key)),
        Request::Service(key),
        Request::Services,
    ];
    let bytes: String = requests.iter().map(encode_request).collect();
    let expected = [
        Answer::Done,
        Answer::Refused(OperationError::NoSuchService(key)),
        Answer::Service(None),
        Answer::Services(Piece {
            items: Vec::new(),
            more: false,
        }),
    ];
    for size in [1, 7, 100, bytes.len()] {
        let mut session = Session::new();
        let mut answers = Vec::new();
        for chunk in bytes.as_bytes().chunks(size) {
            session.receive(chunk);
            answers.extend(drain(&mut session, &mut Many(0)).0);
        }
        assert_eq!(answers, expected, "in chunks of {size}");
    }
}

proptest! {
    #[test]
    fn garbage_is_answered_line_by_line(
        lines in prop::collection::vec("[^\n]{0,40}", 0..20),
        size in 1usize..50,
    ) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut session = Session::new();
        let mut answers = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            session.receive(chunk);
            answers.extend(drain(&mut session, &mut Many(0)).0);
        }
        prop_assert_eq!(answers.len(), lines.len());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut session = Session::new();
        session.receive(&bytes);
        drain(&mut session, &mut Many(3));
    }
}
