//! The order of a listing, overflow included.
//!
//! ipvsadm compares by subtracting 32-bit values into a signed integer, so addresses or marks that
//! are 2^31 or more apart compare the wrong way round: `192.168.0.1` comes before `10.0.0.1`. Three
//! of them can even go round in a circle. The result then depends on the way of sorting; it is the
//! merge sort of the C library (`qsort` before glibc 2.37).

use std::net::IpAddr;

use shared::addr::Family;

use crate::core::operation::{ServerKey, ServiceKey};
use crate::core::view::{ServerView, ServiceView};

/// Services as ipvsadm sorts them.
pub(super) fn services(views: &[ServiceView]) -> Vec<&ServiceView> {
    merge_sort(views.iter().collect(), |a, b| {
        compare_services(&a.spec.key, &b.spec.key)
    })
}

/// Real servers as ipvsadm sorts them.
pub(super) fn servers(views: &[ServerView]) -> Vec<&ServerView> {
    merge_sort(views.iter().collect(), |a, b| {
        compare_servers(&a.spec.key, &b.spec.key)
    })
}

fn compare_services(a: &ServiceKey, b: &ServiceKey) -> i32 {
    let (a, b) = (fields(a), fields(b));
    first_difference(&[
        difference(a.mark, b.mark),
        a.family - b.family,
        a.protocol - b.protocol,
        compare_words(a.address, b.address),
        a.port - b.port,
    ])
}

/// The families may differ within a service. Words are then compared as they lie in memory, as many
/// as the family of the first server has.
fn compare_servers(a: &ServerKey, b: &ServerKey) -> i32 {
    let words = match a.address {
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 4,
    };
    let (x, y) = (words_of(a.address), words_of(b.address));
    first_difference(&[
        compare_words_up_to(x, y, words),
        i32::from(a.port) - i32::from(b.port),
    ])
}

struct Fields {
    mark: u32,
    family: i32,
    protocol: i32,
    address: [u32; 4],
    port: i32,
}

fn fields(key: &ServiceKey) -> Fields {
    let family = match key.family() {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    match *key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => Fields {
            mark: 0,
            family,
            protocol: i32::from(protocol.0),
            address: words_of(address),
            port: i32::from(port),
        },
        ServiceKey::Mark { mark, .. } => Fields {
            mark,
            family,
            protocol: 0,
            address: [0; 4],
            port: 0,
        },
    }
}

fn words_of(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => [v4.to_bits(), 0, 0, 0],
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

fn compare_words(a: [u32; 4], b: [u32; 4]) -> i32 {
    compare_words_up_to(a, b, 4)
}

fn compare_words_up_to(a: [u32; 4], b: [u32; 4], words: usize) -> i32 {
    a.into_iter()
        .zip(b)
        .take(words)
        .map(|(a, b)| difference(a, b))
        .find(|difference| *difference != 0)
        .unwrap_or(0)
}

fn difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

fn first_difference(differences: &[i32]) -> i32 {
    differences
        .iter()
        .copied()
        .find(|difference| *difference != 0)
        .unwrap_or(0)
}

/// Top-down merge sort that splits n into n/2 and the rest and takes from the left while it is not
/// greater. The standard library's sort may panic on an order that goes round in a circle.
fn merge_sort<T: Copy>(items: Vec<T>, compare: impl Fn(&T, &T) -> i32 + Copy) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let (left, right) = items.split_at(items.len() / 2);
    let left = merge_sort(left.to_vec(), compare);
    let right = merge_sort(right.to_vec(), compare);
    let mut merged = Vec::with_capacity(items.len());
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (left.get(i), right.get(j)) {
        if compare(a, b) <= 0 {
            merged.push(*a);
            i += 1;
        } else {
            merged.push(*b);
            j += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    merged
}

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use shared::addr::Protocol;

    use super::*;

    fn tcp(address: &str) -> ServiceKey {
        ServiceKey::new(Protocol::TCP, address.parse::<IpAddr>().unwrap(), 80)
    }

    #[test]
    fn far_apart_compares_the_wrong_way_round() {
        assert!(compare_services(&tcp("192.168.0.1"), &tcp("10.0.0.1")) < 0);
        assert!(compare_services(&tcp("10.0.0.1"), &tcp("10.0.0.2")) < 0);
        assert!(compare_services(&tcp("fe80::1"), &tcp("::1")) < 0);
    }

    #[test]
    fn families_protocols_and_marks_have_their_order() {
        let mark = |mark, family| ServiceKey::Mark { mark, family };
        let ordered = [
            mark(u32::MAX, Family::V4),
            tcp("127.0.0.1"),
            ServiceKey::new(Protocol::UDP, Ipv4Addr::LOCALHOST, 1),
            ServiceKey::new(Protocol::SCTP, Ipv4Addr::LOCALHOST, 1),
            tcp("::1"),
            mark(5, Family::V4),
            mark(5, Family::V6),
            mark(6, Family::V4),
        ];
        for pair in ordered.windows(2) {
            assert!(compare_services(&pair[0], &pair[1]) < 0, "{pair:?}");
        }
    }

    proptest! {
        /// Within one half of the range the order is a proper one, and the sort is stable.
        #[test]
        fn sorts_like_the_standard_library(items in prop::collection::vec((0u32..50, any::<u8>()), 0..60)) {
            let mut expected = items.clone();
            expected.sort_by_key(|item| item.0);
            prop_assert_eq!(merge_sort(items, |a, b| difference(a.0, b.0)), expected);
        }

        /// Whatever the order does, nothing is lost.
        #[test]
        fn sorting_keeps_everything(items in prop::collection::vec(any::<u32>(), 0..60)) {
            let mut sorted = merge_sort(items.clone(), |a, b| difference(*a, *b));
            let mut items = items;
            items.sort_unstable();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, items);
        }
    }
}
