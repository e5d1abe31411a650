//! What is too large for one message of a channel is refused where it is asked for.

use legation_core::{Signed, statement::Request};

use crate::world::{Machine, World, fragment};

/// A request with so many arguments of 4 KiB.
fn long(world: &World, arguments: usize) -> Signed<Request> {
    let mut part = fragment("part");
    part.args = vec!["x".repeat(4096); arguments];
    world.signed(vec![part])
}

#[test]
fn a_request_that_fills_an_offer_is_refused() {
    let mut world = World::new([Machine::new("a")]);
    let request = long(&world, 64);
    assert!(request.envelope().payload().len() > 256 * 1024);
    let why = world.submit_with(&request, Vec::new(), None).unwrap_err();
    assert_eq!(why.check, "request.size", "{why}");
    assert!(why.fix.contains("inputs"), "{why}");
    let why = world.pool.estimate(request, &[], world.now).unwrap_err();
    assert_eq!(why.check, "request.size", "{why}");
    // The pool goes on, and takes what fits.
    let request = long(&world, 60);
    world.submit(&request);
}
