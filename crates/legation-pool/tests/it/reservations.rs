//! Seats that are set aside: who gets them, when, and what they cost.

use legation_core::{
    Bytes, EnclaveId, MicroUsd, Millicores, Millis, Rejection, Requirement, ReservationId, Signed, TaskId, TenantId,
    dsse::sign,
    prefer::{Axis, Preferences, Spread, SpreadRule},
    statement::Request,
    task::{Demand, Fragment},
};
use legation_pool::{
    AccountTerms, Command, Phase, Pool, Quota, ReservationEnd, ReservationTerms, ReservationView, TaskState,
};

use crate::world::*;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// So many cores for `acme`, from one hour after the start to the end of the next.
fn terms(name: &str, seats: u32, cpu: u64) -> ReservationTerms {
    ReservationTerms {
        tenant: tenant("acme"),
        name: name.into(),
        seats,
        demand: Demand { cpu: Millicores(cpu), memory: Bytes::mib(64), ..Demand::default() },
        require: Requirement::any(),
        prefer: Preferences::default(),
        data: Default::default(),
        from: START.plus(HOUR),
        until: START.plus(2 * HOUR),
    }
}

fn reserve(world: &mut World, terms: ReservationTerms) -> Result<ReservationId, Rejection> {
    let name = terms.name.clone();
    world.apply(Command::Reserve { terms: Box::new(terms), author: "operator".into() })?;
    let all: Vec<_> = world.pool.reservations(|_| true, world.now).collect();
    Ok(all.iter().rev().find(|r| r.booking.terms.name == name).unwrap().reservation)
}

fn shown(world: &World, id: ReservationId) -> ReservationView {
    world.pool.reservation(id, world.now).unwrap()
}

fn cores(cpu: u64, seconds: u64) -> Fragment {
    let mut piece = fragment("piece");
    (piece.demand.cpu, piece.demand.time) = (Millicores(cpu), Millis(seconds * 1000));
    piece
}

fn asked(world: &World, of: &str, named: Option<ReservationId>, fragments: Vec<Fragment>) -> Signed<Request> {
    let name = format!("{of} at {}", world.pool.seq().0);
    let mut asked = request("client", &name, world.now, fragments);
    asked.tenant = tenant(of);
    asked.expires = world.now.plus(3 * HOUR);
    asked.prefer.reservation = named;
    sign(asked, &world.client)
}

fn submit(world: &mut World, of: &str, named: Option<ReservationId>, fragments: Vec<Fragment>) -> TaskId {
    let asked = asked(world, of, named, fragments);
    let grant = sign(policy_grant(&asked, &world.client), &world.client);
    world.submit_with(&asked, vec![grant], None).unwrap();
    TaskId::new(asked.digest())
}

/// Goes on to a second; machines prove themselves anew on the way.
fn until(world: &mut World, second: u64) {
    while world.now < START.plus(second) {
        world.now = world.now.plus(600).min(START.plus(second));
        let here: Vec<_> = world.machines.keys().copied().collect();
        for id in here {
            if world.pool.enclaves().get(&id).is_some_and(|e| e.revoked().is_none()) {
                let again = world.attested(&world.machines[&id]);
                world.apply(again).unwrap();
            }
        }
        world.tick();
    }
}

#[test]
fn nobody_else_has_a_seat_while_it_is_reserved() {
    let mut world = World::new([Machine::new("a")]);
    let id = reserve(&mut world, terms("morning", 1, 1500)).unwrap();
    assert_eq!(shown(&world, id).booking.seats.len(), 1);
    // Asked for again, it is the same; another of that name is refused.
    assert_eq!(reserve(&mut world, terms("morning", 1, 1500)), Ok(id));
    assert_eq!(reserve(&mut world, terms("morning", 1, 100)).unwrap_err().check, "reservation.name");
    // Until it begins, its room is anybody's who leaves in time.
    let short = submit(&mut world, "other", None, vec![cores(1500, 600)]);
    assert!(world.lease(short, 0).is_some());
    until(&mut world, 3000);
    let long = submit(&mut world, "other", None, vec![cores(1500, 1200)]);
    let small = submit(&mut world, "other", None, vec![cores(500, 1200)]);
    assert_eq!((world.phase(long, 0), world.lease(small, 0).is_some()), (Phase::Queued, true));
    let why = world.pool.explain(long, world.now).unwrap();
    assert_eq!(why[0].classes[0].why_not[0].why.check, "place.reserved");
    // Not before its time.
    let early = asked(&world, "acme", Some(id), vec![cores(1000, 60)]);
    assert_eq!(world.submit_with(&early, Vec::new(), None).unwrap_err().check, "reservation.early");
    until(&mut world, 3601);
    let own = submit(&mut world, "acme", Some(id), vec![cores(1000, 60), cores(1000, 60)]);
    let (lease, _) = world.lease(own, 0).unwrap();
    assert_eq!(world.phase(own, 1), Phase::Queued, "one seat holds one at a time");
    assert_eq!(shown(&world, id).booking.seats[0].lease, Some(lease));
    assert_eq!(world.phase(long, 0), Phase::Queued);
    world.run(lease);
    assert!(world.lease(own, 1).is_some(), "the seat is free again");
    // A restored pool knows all of it.
    assert_eq!(Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap(), world.pool);
    // When it ends, its room is anybody's.
    until(&mut world, 7201);
    assert_eq!(shown(&world, id).booking.ended, Some(ReservationEnd::Over));
    assert!(matches!(world.state(long), TaskState::Live) && world.lease(long, 0).is_some());
}

#[test]
fn a_reservation_that_cannot_be_held_is_refused() {
    let mut world = World::new([Machine::new("a"), Machine::new("b").at("bravo", "us-1", 2)]);
    let check = |world: &mut World, terms| reserve(world, terms).map_err(|why| why.check);
    reserve(&mut world, terms("first", 2, 1500)).unwrap();
    assert_eq!(check(&mut world, terms("second", 1, 1500)), Err("reservation.seats".into()));
    // Beside it there is room; after it, all of it.
    assert!(check(&mut world, terms("beside", 2, 500)).is_ok());
    let later =
        ReservationTerms { from: START.plus(2 * HOUR + 1), until: START.plus(3 * HOUR), ..terms("after", 2, 2000) };
    assert!(check(&mut world, later).is_ok());
    let overlaps =
        ReservationTerms { from: START.plus(HOUR + 1800), until: START.plus(3 * HOUR), ..terms("over", 1, 600) };
    assert_eq!(check(&mut world, overlaps), Err("reservation.seats".into()));
    let nowhere = ReservationTerms { require: "region == \"mars-1\"".parse().unwrap(), ..terms("mars", 1, 100) };
    assert_eq!(check(&mut world, nowhere), Err("reservation.seats".into()));
    let apart = Spread { axis: Axis::Provider, rule: SpreadRule::Distinct };
    let spread = |seats| ReservationTerms {
        prefer: Preferences { spread: vec![apart], ..Preferences::default() },
        from: START.plus(4 * HOUR),
        until: START.plus(5 * HOUR),
        ..terms("spread", seats, 100)
    };
    assert_eq!(check(&mut world, spread(3)), Err("reservation.seats".into()));
    let id = reserve(&mut world, spread(2)).unwrap();
    let seats = shown(&world, id).booking.seats;
    assert_ne!(seats[0].enclave, seats[1].enclave);
    for (bad, check_of) in [
        (ReservationTerms { seats: 0, ..terms("none", 1, 100) }, "reservation.terms"),
        (ReservationTerms { until: START.plus(HOUR), ..terms("short", 1, 100) }, "reservation.terms"),
        (ReservationTerms { from: START.minus(1), ..terms("past", 1, 100) }, "reservation.terms"),
        (ReservationTerms { name: "Über".into(), ..terms("name", 1, 100) }, "reservation.terms"),
        (
            ReservationTerms { demand: Demand { cpu: Millicores(0), ..Demand::default() }, ..terms("empty", 1, 1) },
            "reservation.terms",
        ),
    ] {
        assert_eq!(check(&mut world, bad), Err(check_of.into()));
    }
    // Work that runs past its beginning stands in the way.
    let mut world = World::new([Machine::new("a")]);
    submit(&mut world, "other", None, vec![cores(1000, 5000)]);
    assert_eq!(check(&mut world, terms("first", 1, 1500)), Err("reservation.seats".into()));
    assert!(check(&mut world, terms("first", 1, 1000)).is_ok());
}

#[test]
fn a_request_that_cannot_have_a_seat_is_refused_and_changes_nothing() {
    let mut world = World::new([Machine::new("a")]);
    let id = reserve(&mut world, terms("morning", 1, 1000)).unwrap();
    let gone = reserve(&mut world, terms("cancelled", 1, 100)).unwrap();
    world.apply(Command::CancelReservation { reservation: gone, author: "acme".into() }).unwrap();
    until(&mut world, 3601);
    let mut check = |of: &str, named: ReservationId, piece: Fragment| {
        let asked = asked(&world, of, Some(named), vec![piece]);
        world.submit_with(&asked, Vec::new(), None).map(|_| ()).map_err(|why| why.check)
    };
    assert_eq!(check("acme", ReservationId(9999), cores(100, 60)), Err("reservation.unknown".into()));
    assert_eq!(check("other", id, cores(100, 60)), Err("reservation.foreign".into()));
    assert_eq!(check("acme", gone, cores(100, 60)), Err("reservation.over".into()));
    assert_eq!(check("acme", id, cores(1001, 60)), Err("reservation.size".into()));
    assert_eq!(check("acme", id, cores(100, 3600)), Err("reservation.time".into()));
    assert_eq!(check("acme", id, cores(100, 60)), Ok(()));
    let unknown = Command::CancelReservation { reservation: ReservationId(9999), author: "acme".into() };
    assert_eq!(world.refused(unknown), "reservation.unknown");
}

#[test]
fn what_is_held_is_paid_and_work_in_it_is_not_paid_twice() {
    let mut world = World::new([Machine::new("a")]);
    let account = |world: &mut World, budget: u64| {
        let terms = AccountTerms { budget: Some(MicroUsd(budget)), ..AccountTerms::default() };
        let tenant = Some(tenant("acme"));
        world.apply(Command::SetAccount { tenant, terms, as_of: None, author: "operator".into() }).unwrap();
    };
    // Two cores for an hour, at a cent each: two cents.
    account(&mut world, 19_999);
    assert_eq!(reserve(&mut world, terms("morning", 1, 2000)).unwrap_err().check, "account.budget");
    account(&mut world, 20_000);
    let id = reserve(&mut world, terms("morning", 1, 2000)).unwrap();
    let book = |world: &World| {
        let view = world.pool.account(&tenant("acme"));
        (view.book.spent.0, view.book.committed.0, view.left.unwrap().0)
    };
    assert_eq!(book(&world), (0, 20_000, 0));
    until(&mut world, 3600);
    world.wait(1);
    // A budget that is all held pays for work in the seats, and for nothing else.
    let elsewhere = submit(&mut world, "acme", None, vec![cores(100, 60)]);
    assert_eq!(world.phase(elsewhere, 0), Phase::Queued);
    world.apply(Command::Cancel { task: elsewhere }).unwrap();
    let own = submit(&mut world, "acme", Some(id), vec![cores(2000, 60)]);
    let (lease, _) = world.lease(own, 0).unwrap();
    assert_eq!(book(&world), (0, 20_000, 0));
    world.wait(30);
    world.run(lease);
    let worked = world.pool.task_view(own).unwrap().spent.0;
    assert_eq!(book(&world), (worked, 20_000 - worked, 0));
    until(&mut world, 7201);
    assert_eq!(book(&world), (20_000, 0, 0));
    // One that is cancelled before it begins costs nothing; halfway, half of it.
    account(&mut world, 60_000);
    let next = |name: &str, world: &World| ReservationTerms {
        from: world.now.plus(10),
        until: world.now.plus(10 + HOUR),
        ..terms(name, 1, 2000)
    };
    let never = next("never", &world);
    let id = reserve(&mut world, never).unwrap();
    world.apply(Command::CancelReservation { reservation: id, author: "acme".into() }).unwrap();
    assert_eq!(book(&world).0, 20_000);
    let half = next("half", &world);
    let id = reserve(&mut world, half).unwrap();
    let middle = world.now.since(START) + 10 + HOUR / 2;
    until(&mut world, middle);
    world.apply(Command::CancelReservation { reservation: id, author: "acme".into() }).unwrap();
    assert_eq!(book(&world), (30_000, 0, 30_000));
    // A quota that could not hold it refuses it.
    let quota = Quota { cpu: Some(Millicores(1000)), ..Quota::default() };
    let terms_of = AccountTerms { quota, ..AccountTerms::default() };
    let command =
        Command::SetAccount { tenant: Some(tenant("acme")), terms: terms_of, as_of: None, author: "x".into() };
    world.apply(command).unwrap();
    let wide = next("wide", &world);
    assert_eq!(reserve(&mut world, wide).unwrap_err().check, "account.quota");
}

#[test]
fn a_seat_that_is_gone_moves_or_the_reservation_is_short() {
    let mut world = World::new([Machine::new("a"), Machine::new("b").at("bravo", "us-1", 2)]);
    let id = reserve(&mut world, terms("morning", 1, 1500)).unwrap();
    let first: EnclaveId = shown(&world, id).booking.seats[0].enclave;
    let ticks = |world: &mut World| (0..8).for_each(|_| drop(world.wait(1)));
    world.apply(Command::Cordon { enclave: first, why: "dust".into(), author: "operator".into() }).unwrap();
    assert_eq!(shown(&world, id).short, 1);
    ticks(&mut world);
    let second = shown(&world, id);
    assert_eq!((second.short, second.booking.seats[0].enclave != first), (0, true));
    // The other goes, too: there is nobody left, and it says so.
    world.revoke(legation_core::Revocable::Enclave(second.booking.seats[0].enclave));
    ticks(&mut world);
    assert_eq!(shown(&world, id).short, 1);
    // The first comes back to it.
    world.apply(Command::Uncordon { enclave: first, author: "operator".into() }).unwrap();
    ticks(&mut world);
    assert_eq!((shown(&world, id).short, shown(&world, id).booking.seats[0].enclave), (0, first));
    until(&mut world, 3601);
    let task = submit(&mut world, "acme", Some(id), vec![cores(1500, 60)]);
    assert_eq!(world.lease(task, 0).unwrap().1, first);
}

fn set_budget(world: &mut World, budget: u64) {
    let terms = AccountTerms { budget: Some(MicroUsd(budget)), ..AccountTerms::default() };
    let tenant = Some(tenant("acme"));
    world.apply(Command::SetAccount { tenant, terms, as_of: None, author: "operator".into() }).unwrap();
}

fn cancel(world: &mut World, id: ReservationId) -> Result<(), Rejection> {
    world.apply(Command::CancelReservation { reservation: id, author: "acme".into() }).map(drop)
}

fn spent(world: &World) -> u64 {
    world.pool.account(&tenant("acme")).book.spent.0
}

#[test]
fn what_was_held_is_paid_whatever_becomes_of_the_work_in_it() {
    let mut world = World::new([Machine::new("a")]);
    set_budget(&mut world, 20_000);
    let id = reserve(&mut world, terms("morning", 1, 2000)).unwrap();
    until(&mut world, 3601);
    let own = submit(&mut world, "acme", Some(id), vec![cores(2000, 1500)]);
    assert!(world.lease(own, 0).is_some());
    until(&mut world, 3601 + 1200);
    // Not before its work has ended, one way or another.
    assert_eq!(cancel(&mut world, id).unwrap_err().check, "reservation.busy");
    world.apply(Command::Cancel { task: own }).unwrap();
    cancel(&mut world, id).unwrap();
    let held = world.now.since(START) - HOUR;
    assert_eq!(spent(&world), (20_000 * held).div_ceil(HOUR));
    assert_eq!(world.pool.account(&tenant("acme")).book.committed.0, 0);
}

#[test]
fn a_seat_costs_what_it_costs_where_it_was_and_nothing_while_it_cannot_be_used() {
    let cheap = || Machine::new("a");
    let mut world = World::new([cheap(), Machine::new("b").at("bravo", "us-1", 4)]);
    // An hour at one place costs 20,000, at the other four times that.
    set_budget(&mut world, 80_000);
    let id = reserve(&mut world, terms("morning", 1, 2000)).unwrap();
    let first = shown(&world, id).booking.seats[0].clone();
    until(&mut world, HOUR + 1200);
    world.apply(Command::Cordon { enclave: first.enclave, why: "dust".into(), author: "operator".into() }).unwrap();
    (0..8).for_each(|_| drop(world.wait(1)));
    let second = shown(&world, id).booking.seats[0].clone();
    assert_ne!(second.enclave, first.enclave);
    let dearer = second.price_hour.0 / first.price_hour.0;
    assert!(dearer > 1, "{first:?} {second:?}");
    let moved = second.since.since(START) - HOUR;
    // Then the second goes, too, and nobody takes its place: half an hour is not paid.
    until(&mut world, HOUR + 1800);
    world.apply(Command::Cordon { enclave: second.enclave, why: "dust".into(), author: "operator".into() }).unwrap();
    (0..8).for_each(|_| drop(world.wait(1)));
    let short = shown(&world, id).booking.seats[0].short.unwrap().since(START) - HOUR;
    assert!((1800..1810).contains(&short), "{short}");
    until(&mut world, 2 * HOUR + 1);
    assert_eq!(shown(&world, id).booking.ended, Some(ReservationEnd::Over));
    let micros = |price: MicroUsd, seconds: u64| (price.0 * seconds).div_ceil(HOUR);
    let counted = shown(&world, id).booking.accrued.0;
    assert!(counted >= micros(first.price_hour, 1200) && counted <= micros(first.price_hour, moved), "{counted}");
    assert_eq!(spent(&world), counted + micros(second.price_hour, short - moved));
    assert_eq!(Pool::restore(&world.pool.snapshot().unwrap(), limits()).unwrap(), world.pool);
}

#[test]
fn a_seat_does_not_move_to_where_its_tenant_cannot_pay_it() {
    let mut world = World::new([Machine::new("a"), Machine::new("b").at("bravo", "us-1", 4)]);
    set_budget(&mut world, 20_000);
    let id = reserve(&mut world, terms("morning", 1, 2000)).unwrap();
    let first = shown(&world, id).booking.seats[0].enclave;
    world.apply(Command::Cordon { enclave: first, why: "dust".into(), author: "operator".into() }).unwrap();
    (0..16).for_each(|_| drop(world.wait(1)));
    assert_eq!((shown(&world, id).short, shown(&world, id).booking.seats[0].enclave), (1, first));
    assert_eq!(world.pool.account(&tenant("acme")).book.committed.0, 20_000);
    // What is never there costs nothing.
    until(&mut world, 2 * HOUR + 1);
    assert_eq!(spent(&world), 0);
}

#[test]
fn one_tenant_reserves_only_so_much() {
    let mut world = World::new([Machine::new("a").slots(16)]);
    let at = |n: u64| ReservationTerms {
        from: START.plus(HOUR * (1 + 2 * n)),
        until: START.plus(HOUR * (2 + 2 * n)),
        ..terms(&format!("number-{n}"), 1, 100)
    };
    for n in 0..32 {
        reserve(&mut world, at(n)).unwrap();
    }
    assert_eq!(reserve(&mut world, at(32)).unwrap_err().check, "reservation.many");
    assert!(reserve(&mut world, ReservationTerms { tenant: tenant("other"), ..at(32) }).is_ok());
    // A quota counts all of the same time.
    let quota = Quota { leases: Some(4), ..Quota::default() };
    let terms_of = AccountTerms { quota, ..AccountTerms::default() };
    let third = Some(tenant("third"));
    world.apply(Command::SetAccount { tenant: third, terms: terms_of, as_of: None, author: "x".into() }).unwrap();
    let wide = |name: &str, from: u64| ReservationTerms {
        tenant: tenant("third"),
        from: START.plus(from),
        until: START.plus(from + HOUR),
        ..terms(name, 3, 10)
    };
    reserve(&mut world, wide("first", HOUR)).unwrap();
    assert_eq!(reserve(&mut world, wide("beside", HOUR + 60)).unwrap_err().check, "account.quota");
    assert!(reserve(&mut world, wide("after", 2 * HOUR + 60)).is_ok());
}

#[test]
fn what_is_reserved_for_later_hides_nothing_now() {
    let mut world = World::new([Machine::new("a")]);
    reserve(
        &mut world,
        ReservationTerms { from: START.plus(6 * HOUR), until: START.plus(7 * HOUR), ..terms("far", 1, 1) },
    )
    .unwrap();
    submit(&mut world, "other", None, vec![cores(2000, 600)]);
    let waits = submit(&mut world, "acme", None, vec![cores(2000, 600)]);
    let why = world.pool.explain(waits, world.now).unwrap();
    assert_eq!(why[0].classes[0].why_not[0].why.check, "pool.capacity");
    assert!(world.pool.task_view(waits).unwrap().fragments[0].waiting.unwrap().wait.is_some());
    // A dry run sees what is reserved as a submission does.
    let mut world = World::new([Machine::new("a")]);
    let soon = ReservationTerms { from: START.plus(60), until: START.plus(HOUR), ..terms("soon", 1, 1000) };
    reserve(&mut world, soon).unwrap();
    let both = asked(&world, "other", None, vec![cores(1000, 600), cores(1000, 600)]);
    let said = world.pool.estimate(both.clone(), &[], world.now).unwrap();
    let placed = said.fragments.iter().filter(|f| f.outlook.place().is_some()).count();
    let grant = sign(policy_grant(&both, &world.client), &world.client);
    world.submit_with(&both, vec![grant], None).unwrap();
    let task = TaskId::new(both.digest());
    let leased = (0..2).filter(|index| world.lease(task, *index).is_some()).count();
    assert_eq!((placed, leased), (1, 1));
}
