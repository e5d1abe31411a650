//! How far regions are: by the operator's table, and as managers measure it.

use legation_core::{Millis, Region, dsse::sign};
use legation_pool::{Command, RoundTrip, Source};

use crate::world::*;

/// What managers measure counts where the operator says nothing, and the journal is no log of jitter.
#[test]
fn distances_are_measured_where_the_operator_says_nothing() {
    let (near, far) = (Machine::new("near").at("alpha", "eu-1", 10), Machine::new("far").at("alpha", "us-1", 9));
    let (near_id, far_id) = (near.id, far.id);
    let mut world = World::new([near, far]);
    let trip =
        |from: &str, to: &str, ms| RoundTrip { from: Region::new(from).unwrap(), to: Region::new(to).unwrap(), ms };
    let records = |world: &mut World, command| world.apply(command).unwrap().records.len();
    let measured = |rows: Vec<RoundTrip>| Command::MeasureDistances { rows };
    assert_eq!(records(&mut world, measured(vec![trip("eu-1", "eu-1", 1), trip("eu-1", "us-1", 80)])), 1);
    // Nothing has moved.
    assert_eq!(records(&mut world, measured(vec![trip("eu-1", "us-1", 95), trip("us-1", "eu-1", 70)])), 0);
    // This has, by whatever name; and that is absurd.
    assert_eq!(records(&mut world, measured(vec![trip("us-1", "eu-1", 120), trip("eu-1", "ap-1", 60_001)])), 1);
    let known = |world: &World| -> Vec<_> {
        let all = world.pool.distances().into_iter();
        all.map(|known| (known.from.to_string(), known.to.to_string(), known.ms, known.source)).collect()
    };
    let row = |from: &str, to: &str, ms, source| (from.to_owned(), to.to_owned(), ms, source);
    let channels = [row("eu-1", "eu-1", 1, Source::Channels), row("eu-1", "us-1", 120, Source::Channels)];
    assert_eq!(known(&world), channels);

    let wanted = |world: &mut World, name: &str, within| {
        let mut asked = request("client", name, world.now, vec![fragment("part")]);
        asked.prefer.near = Some(Region::new("eu-1").unwrap());
        asked.prefer.within = Some(Millis(within));
        let asked = sign(asked, &world.client);
        let task = world.submit(&asked);
        world.lease(task, 0).map(|(_, enclave)| enclave)
    };
    assert_eq!(wanted(&mut world, "close by", 50), Some(near_id));
    // The operator knows better.
    let rows = vec![trip("eu-1", "us-1", 20), trip("eu-1", "eu-1", 60)];
    world.apply(Command::SetDistances { rows, author: "operator".into() }).unwrap();
    assert_eq!(wanted(&mut world, "by the table", 50), Some(far_id));
    assert_eq!(known(&world).len(), 4);
}

/// Regions that no enclave is in make room for others, and not before there is none.
#[test]
fn regions_that_nobody_is_in_any_more_take_no_room() {
    let mut world = World::new([Machine::new("near")]);
    let region = |name: &str| Region::new(name).unwrap();
    let trip = |to: &str| RoundTrip { from: region("eu-1"), to: region(to), ms: 80 };
    let junk = (0..600).map(|n| trip(&format!("junk-{n}"))).collect();
    world.apply(Command::MeasureDistances { rows: junk }).unwrap();
    assert_eq!(world.pool.distances().len(), 511, "with the one that they are measured from, as many as may be");
    world.apply(Command::MeasureDistances { rows: vec![trip("eu-1")] }).unwrap();
    assert_eq!(world.pool.distances().len(), 512);
    world.apply(Command::MeasureDistances { rows: vec![trip("us-1")] }).unwrap();
    let known: Vec<_> = world.pool.distances().into_iter().map(|known| known.to.to_string()).collect();
    assert_eq!(known, ["eu-1", "us-1"]);
}
