//! A packet of a connection that is there takes no memory.

#[path = "../benches/world/mod.rs"]
mod world;

use allocation_counter::measure;
use director::core::operation::ForwardMethod;
use world::{BATCH, Way, World};

#[test]
fn hits_take_no_memory() {
    for (method, way, flows) in [
        (ForwardMethod::Nat, Way::Request, 100),
        (ForwardMethod::Nat, Way::Reply, 100),
        (ForwardMethod::Direct, Way::Request, 100),
        (ForwardMethod::Tunnel, Way::Request, 100),
        (ForwardMethod::FullNat, Way::Request, 100),
        // So many that what comes next is asked for beforehand.
        (ForwardMethod::Nat, Way::Request, 10_000),
    ] {
        let mut world = World::new(method, "rr", 1);
        world.fill(flows);
        // The first ones look up the way to the client.
        for _ in 0..flows {
            world.draw(way, flows);
            world.handle(BATCH);
        }
        let taken = measure(|| {
            for _ in 0..100 {
                world.draw(way, flows);
                world.handle(BATCH);
            }
        });
        assert_eq!(taken.count_total, 0, "{method:?} {way:?} {flows}");
    }
}

/// The counter counts.
#[test]
fn new_connections_take_some() {
    let mut world = World::new(ForwardMethod::Nat, "rr", 1);
    world.fill(1);
    assert!(measure(|| world.fill(5_000)).count_total > 0);
}
