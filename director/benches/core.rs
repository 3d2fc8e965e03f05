//! The pure core: nanoseconds per packet, with everything that the loop does between two system
//! calls. Flows come in random order, so that a large table is out of the caches.

mod world;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use director::core::operation::ForwardMethod;
use world::{BATCH, Way, World};

/// Connections in the table.
const SIZES: [u32; 3] = [1, 1_000, 1_000_000];

fn hits(criterion: &mut Criterion) {
    for (name, method, way) in [
        ("hit, NAT, request", ForwardMethod::Nat, Way::Request),
        ("hit, NAT, reply", ForwardMethod::Nat, Way::Reply),
        ("hit, DR", ForwardMethod::Direct, Way::Request),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(BATCH as u64));
        for size in SIZES {
            let mut world = World::new(method, "rr", 1);
            world.fill(size);
            assert_eq!(world.connections(), size as usize);
            group.bench_function(format!("{size} connections"), |bencher| {
                bencher.iter_custom(|batches| world.time_hits(batches, way, size));
            });
        }
        group.finish();
    }
}

/// Each packet makes a connection and, since the table stays as large as it is, ends an old one.
fn new_connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new connection, NAT, and the end of an old one");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in SIZES {
        let mut world = World::new(ForwardMethod::Nat, "rr", 1);
        group.bench_function(format!("{size} connections"), |bencher| {
            bencher.iter_custom(|batches| world.time_new(batches, size));
        });
    }
    group.finish();
}

fn schedulers(criterion: &mut Criterion) {
    for (servers, names) in [(10, &["rr", "wrr", "wlc"][..]), (1_000, &["rr", "wlc"])] {
        let title = format!("new connection by scheduler, {servers} servers");
        let mut group = criterion.benchmark_group(title);
        group.throughput(Throughput::Elements(BATCH as u64));
        for name in names {
            let mut world = World::new(ForwardMethod::Nat, name, servers);
            group.bench_function(*name, |bencher| {
                bencher.iter_custom(|batches| world.time_new(batches, 1_000));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hits, new_connections, schedulers);
criterion_main!(benches);
