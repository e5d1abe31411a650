//! Snapshots: what is restored is the same and goes on the same; what is not one is refused.

use legation_pool::{Pool, SNAPSHOT_VERSION, SnapshotError};

use crate::world::*;

fn world() -> World {
    let mut world = World::new([Machine::new("a"), Machine::new("b")]);
    let task = world.submit_granted(vec![fragment("map"), reading(fragment("sum"), vec![output_of(0)])]);
    world.run(world.lease(task, 0).unwrap().0);
    world.submit_granted(vec![fragment("runs")]);
    world
}

#[test]
fn a_restored_pool_goes_on_as_the_one_it_was_made_of() {
    let mut world = world();
    let restored = Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(restored, world.pool);
    let before = world.records.len();
    world.begin_term(2).unwrap();
    world.submit_granted(vec![fragment("later")]);
    let mut restored = restored;
    for record in &world.records[before..] {
        restored.absorb(record).unwrap();
    }
    assert_eq!(restored, world.pool);
    // What passports share is written once, and once is enough for both machines.
    let (one, two) = (world.pool.snapshot().unwrap(), restored.snapshot().unwrap());
    assert_eq!(one, two, "the same pool gives the same bytes");
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let good = world().pool.snapshot().unwrap();
    let restore = |bytes: &[u8]| Pool::restore(bytes, limits()).map(|_| ());
    assert_eq!(restore(&good), Ok(()));
    let mut newer = good.clone();
    newer[3] += 1;
    assert_eq!(restore(&newer), Err(SnapshotError::Version { found: SNAPSHOT_VERSION + 1 }));
    for length in [0, 3, 4, 5, good.len() / 2, good.len() - 1] {
        assert!(matches!(restore(&good[..length]), Err(SnapshotError::Unreadable(_))), "{length}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(restore(&longer), Err(SnapshotError::Unreadable(_))));
}
