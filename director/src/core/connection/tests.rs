//! The table against a plain list.

use proptest::prelude::*;

use shared::addr::{Addr, Protocol};
use shared::time::Time;

use super::*;
use crate::core::operation::ForwardMethod;
use crate::core::server::ServerId;

#[derive(Debug, Clone)]
enum Step {
    /// Client, virtual address, port of the client.
    Insert(u8, u8, u16, ForwardMethod),
    /// Which of the present ones.
    Remove(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let method = prop_oneof![Just(ForwardMethod::Nat), Just(ForwardMethod::Direct)];
    prop_oneof![
        3 => (0..2_u8, 0..3_u8, 0..2000_u16, method)
            .prop_map(|(client, vip, port, method)| Step::Insert(client, vip, port, method)),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ]
}

fn connection(client: u8, vip: u8, port: u16, method: ForwardMethod) -> Connection {
    let flow = FlowKey {
        protocol: Protocol::TCP,
        source: Addr::from_v4_bytes([10, 0, 0, client]),
        source_port: port,
        destination: Addr::from_v4_bytes([192, 0, 2, vip]),
        destination_port: 80,
    };
    // One real server for all: the replies of connections to several virtual addresses have the
    // same key.
    let destination = Endpoint {
        address: Addr::from_v4_bytes([10, 1, 0, 1]),
        port: 8080,
    };
    Connection::new(&flow, ServerId(0), method, destination, Time::ZERO)
}

fn check(table: &ConnectionTable, model: &[(ConnectionId, FlowKey, Option<FlowKey>)]) {
    assert_eq!(table.len(), model.len());
    for (id, request, reply) in model {
        assert_eq!(table.find(request), Some((*id, Direction::Request)));
        if let Some(reply) = reply {
            // The newest with this key.
            let newest = model
                .iter()
                .rev()
                .find(|(_, _, other)| other.as_ref() == Some(reply));
            assert_eq!(
                table.find(reply),
                newest.map(|(id, _, _)| (*id, Direction::Reply))
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn finds_what_is_in_it_and_nothing_else(
        steps in prop::collection::vec(step(), 1..4000),
        key in any::<[u64; 2]>(),
    ) {
        let mut table = ConnectionTable::new(u32::MAX, key);
        let mut model: Vec<(ConnectionId, FlowKey, Option<FlowKey>)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(client, vip, port, method) => {
                    let connection = connection(client, vip, port, method);
                    let request = connection.key(Direction::Request, &[]).unwrap();
                    let present = model.iter().any(|(_, other, _)| *other == request);
                    prop_assert_eq!(table.find(&request).is_some(), present);
                    if !present {
                        let reply = connection.key(Direction::Reply, &[]);
                        model.push((table.insert(connection), request, reply));
                    }
                }
                Step::Remove(which) => {
                    if !model.is_empty() {
                        let (id, request, _) = model.remove(which.index(model.len()));
                        prop_assert!(table.remove(id).is_some());
                        prop_assert!(table.remove(id).is_none());
                        prop_assert_eq!(table.find(&request), None);
                    }
                }
            }
            if n % 97 == 0 {
                check(&table, &model);
            }
        }
        check(&table, &model);
        let (pieces, rest) = table.piece(0, usize::MAX);
        prop_assert_eq!(pieces.count(), model.len());
        prop_assert_eq!(rest, None);
        for (id, ..) in model {
            prop_assert!(table.remove(id).is_some());
        }
        prop_assert_eq!(table.index.len(), 0);
    }
}

#[test]
fn growing_moves_a_few_words_at_a_time_and_loses_none() {
    let mut table = ConnectionTable::new(u32::MAX, [7, 11]);
    let ids: Vec<_> = (0..40_000)
        .map(|port| table.insert(connection(1, 1, port, ForwardMethod::Nat)))
        .collect();
    for (port, id) in (0..40_000).zip(&ids) {
        let flow = connection(1, 1, port, ForwardMethod::Nat).key(Direction::Reply, &[]);
        assert_eq!(table.find(&flow.unwrap()), Some((*id, Direction::Reply)));
    }
}
