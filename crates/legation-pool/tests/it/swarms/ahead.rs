//! Room booked ahead, and the order of swarms: one that smaller work would pass for ever has its seats by a time that is known, what
//! ends before that is let through, and a tenant whose swarm was seated stands behind others. (That the books fit, that replay is
//! equal and that the history holds is checked after each command: `World::apply`.)

use legation_core::{
    Requirement, Revocable, Seq, TenantId, UnixTime, prefer::Priority, statement::Allocation, task::Demand,
};
use legation_pool::{AccountTerms, GangBooking, Quota, Record, ReservationTerms, Unbooked, check_history};

use super::*;

/// Seconds that a lease of small work lasts: its minute, and what every lease has beside.
const SMALL: u64 = 60 + 30 + 15;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn gang(world: &mut World, of: &str, members: u16) -> TaskId {
    let asked = swarm_request(world, terms(members, None), parts(usize::from(members)));
    submit_swarm(world, Request { tenant: tenant(of), ..asked }).0
}

/// Small work that waits.
fn small(world: &World) -> Vec<TaskId> {
    let live = world.pool.tasks().iter().filter(|(_, t)| t.state == TaskState::Live && t.swarm.is_none());
    live.filter(|(_, t)| t.fragments[0].phase == Phase::Queued).map(|(id, _)| *id).collect()
}

fn seated(world: &World, task: TaskId) -> bool {
    view(world, task).stage == SwarmStage::Forming
}

/// Two machines that small work keeps busy, one after the other, and a swarm of two that waits since second 20.
struct Busy {
    world: World,
    gang: TaskId,
    began: UnixTime,
}

impl Busy {
    /// So many seconds after one of a search.
    fn new(offset: u64) -> Self {
        let mut world = World::new(machines(2));
        world.now = world.now.plus(offset);
        let began = world.now;
        world.submit_granted(vec![fragment("first")]);
        world.now = world.now.plus(20);
        world.submit_granted(vec![fragment("second")]);
        let gang = gang(&mut world, "acme", 2);
        Self { world, gang, began }
    }

    fn second(&self) -> u64 {
        self.world.now.since(self.began)
    }

    /// Two more always wait.
    fn keep_busy(&mut self) {
        while small(&self.world).len() < 2 {
            self.world.submit_granted(vec![fragment("small")]);
        }
    }

    /// Four seconds: what has run for forty is reported.
    fn step(&mut self) {
        self.world.now = self.world.now.plus(4);
        let now = self.world.now;
        let over = self.world.pool.leases().iter().filter(|(_, l)| l.seat.is_none() && now.since(l.from) >= 40);
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        for lease in over {
            self.world.run(lease);
        }
        self.keep_busy();
        self.world.tick();
    }

    fn step_to(&mut self, second: u64) {
        while self.second() < second {
            self.step();
        }
    }

    fn booking(&self) -> GangBooking {
        self.world.pool.gang_booking().unwrap().clone()
    }

    fn set_leases_max(&mut self, leases: Option<u64>) {
        let quota = Quota { leases, ..Quota::default() };
        let terms = AccountTerms { quota, ..AccountTerms::default() };
        let tenant = Some(tenant("acme"));
        self.world.apply(Command::SetAccount { tenant, terms, as_of: None, author: "operator".into() }).unwrap();
    }
}

/// At second 52, when the swarm has waited for longer than half a minute.
fn booked() -> Busy {
    let mut busy = Busy::new(0);
    busy.step_to(48);
    assert_eq!(busy.world.pool.gang_booking(), None);
    busy.step();
    assert!(busy.world.pool.gang_booking().is_some_and(|booking| booking.task == busy.gang));
    busy
}

#[test]
fn a_swarm_that_smaller_work_would_pass_for_ever_has_its_seats_by_its_time() {
    // No tick is on a second of a search.
    let mut busy = Busy::new(1);
    busy.step_to(800);
    let completed = busy.world.pool.tasks().values().filter(|t| t.state == TaskState::Completed).count();
    assert!(completed > 20 && view(&busy.world, busy.gang).stage == SwarmStage::Waiting, "{completed}");
    let mut busy = booked();
    let booking = busy.booking();
    // The machines' leases are of seconds 40 and 20.
    assert_eq!((booking.at.since(busy.began), booking.enclaves.len()), (40 + SMALL + 1, 2));
    // One machine is free: what would last longer waits, and what ends before is let through.
    busy.step_to(60);
    assert_eq!((busy.world.pool.leases().len(), small(&busy.world).len()), (1, 2));
    let mut piece = fragment("short");
    piece.demand.time = Millis(5_000);
    let short = busy.world.submit_granted(vec![piece]);
    let (lease, _) = busy.world.lease(short, 0).unwrap();
    assert!(busy.world.pool.leases()[&lease].until < booking.at);
    busy.step_to(96);
    assert!(!seated(&busy.world, busy.gang));
    // The other machine has been free since second 80; now this one is, sooner than by its terms.
    busy.step();
    assert_eq!((seated(&busy.world, busy.gang), busy.world.state(short)), (true, TaskState::Completed));
    assert!(busy.world.now <= booking.at && busy.world.pool.gang_booking().is_none());
    join_all(&mut busy.world, busy.gang);
    finish(&mut busy.world, busy.gang);
    assert_eq!(busy.world.state(busy.gang), TaskState::Completed);
}

#[test]
fn where_nothing_ends_before_its_terms_the_swarm_is_seated_at_that_second() {
    let mut busy = Busy::new(0);
    busy.keep_busy();
    while busy.second() < 52 {
        busy.world.wait(1);
    }
    assert_eq!(busy.booking().at.since(busy.began), 20 + SMALL + 1);
    while busy.second() < 20 + SMALL {
        busy.world.wait(1);
        assert!(!seated(&busy.world, busy.gang), "at {}", busy.second());
    }
    // The first has been free for long; both have from now on.
    busy.world.wait(1);
    assert!(seated(&busy.world, busy.gang));
    let small = small(&busy.world);
    assert!(small.len() == 4 && busy.world.pool.leases().is_empty(), "{small:?}");
}

#[test]
fn a_booking_ends_with_its_task_and_its_room_is_for_others() {
    let mut busy = booked();
    busy.step_to(60);
    assert_eq!(busy.world.pool.leases().len(), 1);
    let applied = busy.world.apply(Command::Cancel { task: busy.gang }).unwrap();
    let kinds: Vec<_> = applied.records.iter().map(|r| r.event.kind()).collect();
    assert_eq!((kinds, busy.world.pool.gang_booking()), (vec!["task-ended", "leased"], None));
}

#[test]
fn a_booking_ends_when_an_enclave_of_it_takes_no_more_work() {
    type Ends = fn(EnclaveId) -> Command;
    let cases: [(&str, Ends); 5] = [
        ("pool.draining", |enclave| Command::Drain { enclave }),
        ("pool.held", |enclave| Command::Cordon { enclave, why: "dust".into(), author: "operator".into() }),
        ("pool.enclave", |enclave| Command::Decommission { enclave, why: "sold".into(), author: "operator".into() }),
        ("appraisal.tcb", |enclave| Command::Withdraw {
            enclave,
            verifier: legation_core::Signer::public_key(&Key::new("verifier")).id(),
            why: legation_core::Rejection::new("appraisal.tcb", "security version"),
        }),
        ("pool.revoked", |enclave| Command::Revoke { what: Revocable::Enclave(enclave), why: "stolen".into() }),
    ];
    for (check, ends) in cases {
        let mut busy = booked();
        let enclave = *busy.booking().enclaves.first().unwrap();
        let applied = busy.world.apply(ends(enclave)).unwrap();
        let ended = applied.records.iter().filter_map(|record| match &record.event {
            Event::GangUnbooked { task, why } => Some((*task, why.clone())),
            _ => None,
        });
        let why = Unbooked::Enclave { enclave, check: check.to_owned() };
        assert_eq!(ended.collect::<Vec<_>>(), [(busy.gang, why)]);
        assert_eq!((busy.world.pool.gang_booking(), busy.world.state(busy.gang)), (None, TaskState::Live));
    }
}

#[test]
fn a_booking_ends_when_an_enclave_of_it_no_longer_suits() {
    let mut busy = booked();
    let text = "@id(\"us\") permit (principal, action, resource) when { principal.region == \"us-1\" };";
    let scope = legation_policy::Scope::Tenant(tenant("acme"));
    busy.world.apply(Command::SetPolicy { scope, text: text.into(), author: "acme".into() }).unwrap();
    // The next search looks at it, and books nothing else.
    busy.step();
    assert_eq!(busy.world.pool.gang_booking(), None);
    let why = busy.world.records.iter().rev().find_map(|record| match &record.event {
        Event::GangUnbooked { why, .. } => Some(why.clone()),
        _ => None,
    });
    assert!(matches!(why, Some(Unbooked::Enclave { .. })), "{why:?}");
}

#[test]
fn a_booking_that_comes_to_nothing_is_late_and_another_is_made_after_a_while() {
    let mut busy = Busy::new(0);
    busy.keep_busy();
    while busy.second() < 52 {
        busy.world.wait(1);
    }
    let at = busy.booking().at;
    // Its tenant may have one lease: never two seats.
    busy.set_leases_max(Some(1));
    while busy.world.now < at.plus(5) {
        busy.world.wait(1);
    }
    assert_eq!(busy.booking().at, at);
    let applied = busy.world.wait(1);
    assert!(brief(&applied).contains(&format!("unbooked: {}", Unbooked::Late)), "{:?}", brief(&applied));
    assert_eq!(busy.world.pool.gang_booking(), None);
    // It has to be patient again, and smaller work goes on.
    busy.set_leases_max(None);
    assert_eq!(busy.world.pool.leases().len(), 2);
    let late = busy.world.now;
    while busy.world.pool.gang_booking().is_none() && busy.world.now < late.plus(60) {
        busy.world.wait(1);
    }
    assert!((31..=34).contains(&busy.world.now.since(late)), "{}", busy.world.now.since(late));
    assert!(busy.booking().task == busy.gang && busy.booking().at > busy.world.now);
}

#[test]
fn nothing_is_booked_for_a_swarm_that_its_account_has_no_room_for() {
    let mut busy = Busy::new(0);
    busy.set_leases_max(Some(3));
    busy.step_to(100);
    // Two of three leases run, and there must be two seats.
    assert_eq!(busy.world.pool.gang_booking(), None);
    busy.set_leases_max(Some(4));
    busy.step();
    assert!(busy.world.pool.gang_booking().is_some());
}

#[test]
fn a_swarm_that_nobody_could_seat_keeps_no_other_from_its_booking() {
    let mut busy = Busy::new(0);
    // Its tenant has had less: it stands before the other.
    let never = gang(&mut busy.world, "one", 3);
    busy.step_to(52);
    assert_eq!((busy.booking().task, view(&busy.world, never).booked), (busy.gang, None));
}

#[test]
fn one_swarm_at_a_time_is_booked_room() {
    let mut busy = Busy::new(0);
    let second = gang(&mut busy.world, "acme", 2);
    busy.step_to(72);
    assert_eq!(busy.booking().task, busy.gang);
    let told = [busy.gang, second].map(|task| view(&busy.world, task).booked);
    assert_eq!(told, [Some(busy.booking().at), None]);
    busy.world.apply(Command::Cancel { task: busy.gang }).unwrap();
    assert_eq!(busy.world.pool.gang_booking(), None);
    busy.step();
    assert_eq!(busy.booking().task, second);
}

#[test]
fn whoever_asks_is_told_of_a_booking() {
    let mut busy = booked();
    let booking = busy.booking();
    let said = busy.world.pool.explain(busy.gang, busy.world.now).unwrap();
    assert!(said.iter().all(|fragment| fragment.booked.as_ref() == Some(&booking)));
    let waits = busy.world.pool.task_view(busy.gang).unwrap().fragments[0].waiting.and_then(|w| w.wait).unwrap();
    let seconds = booking.at.since(busy.world.now);
    assert_eq!((waits.seconds_max, waits.seconds_expected), (seconds, seconds));
    // And so is who would have that room.
    busy.step_to(60);
    let said = busy.world.pool.explain(small(&busy.world)[0], busy.world.now).unwrap();
    let mut why = said[0].classes.iter().flat_map(|class| &class.why_not);
    assert!(why.any(|reason| reason.why.check == "place.reserved"), "{:?}", said[0].classes);
    let terms = ReservationTerms {
        tenant: tenant("other"),
        name: "later".into(),
        seats: 1,
        demand: Demand { cpu: Millicores(100), memory: Bytes::mib(64), ..Demand::default() },
        require: Requirement::any(),
        prefer: Preferences::default(),
        data: Default::default(),
        from: booking.at.plus(10),
        until: booking.at.plus(100),
    };
    let command = Command::Reserve { terms: Box::new(terms), author: "other".into() };
    assert_eq!(busy.world.refused(command), "reservation.seats");
}

#[test]
fn a_booking_is_in_the_journal_and_in_snapshots() {
    let mut busy = booked();
    let mut copy = Pool::restore(&busy.world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(copy, busy.world.pool);
    let before = busy.world.records.len();
    busy.step_to(84);
    assert!(seated(&busy.world, busy.gang));
    for record in &busy.world.records[before..] {
        copy.absorb(record).unwrap();
    }
    assert_eq!(copy, busy.world.pool);
    let mut again = Pool::new(limits());
    for record in &busy.world.records {
        let text = serde_json::to_string(record).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        again.absorb(&read).unwrap();
    }
    assert_eq!(again, busy.world.pool);
}

#[test]
fn what_no_pool_books_is_found() {
    let mut busy = booked();
    busy.step_to(60);
    let (records, booking) = (busy.world.records.clone(), busy.booking());
    let next = |event: Event| {
        let last = records.last().unwrap().clone();
        Record { seq: Seq(last.seq.0 + 1), event, ..last }
    };
    let judged = |event: Event| {
        let all: Vec<_> = records.iter().cloned().chain([next(event)]).collect();
        check_history(&all).map(|_| ()).map_err(|why| why.check)
    };
    let waits = small(&busy.world)[0];
    let twice = Event::GangBooked { booking: Box::new(booking.clone()) };
    let other = Event::GangUnbooked { task: waits, why: Unbooked::Late };
    for event in [twice, other] {
        assert_eq!(judged(event.clone()), Err("history.booking".to_owned()), "{event:?}");
        let mut changed = busy.world.pool.clone();
        assert!(changed.absorb(&next(event)).is_err());
        assert_eq!(changed, busy.world.pool);
    }
    // A promise in booked room that ends before, and one that does not.
    let last = records.iter().rev().find_map(|record| match &record.event {
        Event::Leased { allocation } => Some(allocation.predicate().clone()),
        _ => None,
    });
    let last = last.unwrap();
    let taken: Vec<_> = busy.world.pool.leases().values().map(|lease| lease.enclave).collect();
    let free = booking.enclaves.iter().copied().find(|id| !taken.contains(id)).unwrap();
    let leased = |until: UnixTime| {
        let (task, fragment, lease) = (waits, FragmentIndex(0), LeaseId(last.lease.0 + 1));
        let allocation = Allocation { task, fragment, lease, enclave: free, until, ..last.clone() };
        Event::Leased { allocation: Box::new(sign(allocation, &busy.world.manager)) }
    };
    assert_eq!(judged(leased(booking.at.minus(1))), Ok(()));
    assert_eq!(judged(leased(booking.at)), Err("history.booking".to_owned()));
}

#[test]
fn a_tenant_whose_swarm_was_seated_stands_behind_another() {
    let mut world = World::new(machines(1));
    let (first, second) = (gang(&mut world, "one", 2), gang(&mut world, "one", 2));
    let other = gang(&mut world, "two", 2);
    let who = |world: &World| [first, second, other].map(|task| seated(world, task));
    assert_eq!(who(&world), [false; 3]);
    let id = world.attest(Machine::new("m1").slots(1)).unwrap();
    world.arrive(id, &[]);
    assert_eq!(who(&world), [true, false, false]);
    world.apply(Command::Cancel { task: first }).unwrap();
    assert_eq!((seated(&world, second), seated(&world, other)), (false, true));
    world.apply(Command::Cancel { task: other }).unwrap();
    assert!(seated(&world, second));
}

#[test]
fn swarms_that_stand_behind_fragments_have_their_seats_after_them() {
    let mut world = World::new(machines(4));
    let first = gang(&mut world, "one", 3);
    assert!(seated(&world, first));
    world.submit_granted(vec![fragment("runs")]);
    let waits = world.submit_granted(vec![fragment("waits")]);
    let second = gang(&mut world, "one", 2);
    assert_eq!((world.phase(waits, 0), seated(&world, second)), (Phase::Queued, false));
    let applied = world.apply(Command::Cancel { task: first }).unwrap();
    let kinds: Vec<_> = applied.records.iter().map(|r| r.event.kind()).collect();
    assert_eq!(kinds, ["seats-ended", "task-ended", "leased", "swarm-seated"]);
    assert!(world.lease(waits, 0).is_some() && seated(&world, second));
}

fn kinds(applied: &Applied) -> Vec<&'static str> {
    applied.records.iter().map(|r| r.event.kind()).collect()
}

fn whys(records: &[Record]) -> Vec<Unbooked> {
    let ended = records.iter().filter_map(|record| match &record.event {
        Event::GangUnbooked { why, .. } => Some(why.clone()),
        _ => None,
    });
    ended.collect()
}

/// What `of` submits at a priority.
fn submit_at(world: &mut World, of: &str, priority: u8, asked: Request) -> (TaskId, Applied) {
    let terms = AccountTerms { priority_max: Priority(9), ..AccountTerms::default() };
    let tenant = tenant(of);
    let author = "operator".to_owned();
    world.apply(Command::SetAccount { tenant: Some(tenant.clone()), terms, as_of: None, author }).unwrap();
    let mut asked = Request { tenant, ..asked };
    asked.prefer.priority = Priority(priority);
    submit_swarm(world, asked)
}

/// At second 52, and nothing is ended before its time: room is booked at second 126.
fn patient() -> Busy {
    let mut busy = Busy::new(0);
    busy.keep_busy();
    while busy.second() < 52 {
        busy.world.wait(1);
    }
    assert_eq!(busy.booking().at.since(busy.began), 20 + SMALL + 1);
    busy
}

#[test]
fn who_is_away_for_a_moment_is_booked_on() {
    let mut busy = patient();
    let (booking, enclave) = (busy.booking(), *busy.booking().enclaves.first().unwrap());
    busy.world.lose(enclave);
    while busy.second() < 80 {
        busy.world.wait(1);
        assert_eq!(busy.booking(), booking);
    }
    // Half a minute is over by the next search.
    while busy.second() < 84 {
        busy.world.wait(1);
    }
    assert_eq!(busy.world.pool.gang_booking(), None);
    assert_eq!(whys(&busy.world.records), [Unbooked::Enclave { enclave, check: "pool.away".to_owned() }]);
}

#[test]
fn a_booking_outlives_a_change_of_managers() {
    let mut busy = patient();
    let booking = busy.booking();
    busy.world.begin_term(2).unwrap();
    assert_eq!(busy.booking(), booking);
    busy.world.wait(4);
    assert_eq!(busy.booking(), booking);
}

#[test]
fn where_an_enclave_drops_out_other_room_is_booked_at_once_and_without_it_for_a_while() {
    let mut world = World::new(machines(3));
    let began = world.now;
    world.submit_granted(vec![fragment("first")]);
    world.now = world.now.plus(20);
    world.submit_granted(vec![fragment("second")]);
    world.submit_granted(vec![fragment("third")]);
    let gang = gang(&mut world, "acme", 2);
    let mut busy = Busy { world, gang, began };
    busy.step_to(52);
    let booking = busy.booking();
    let cordon = |enclave| Command::Cordon { enclave, why: "dust".into(), author: "operator".into() };
    let mut both = booking.enclaves.iter().copied();
    let (one, other) = (both.next().unwrap(), both.next().unwrap());
    let applied = busy.world.apply(cordon(one)).unwrap();
    assert_eq!(kinds(&applied), ["cordoned", "gang-unbooked", "gang-booked"]);
    let second = busy.booking();
    assert!(second.task == gang && !second.enclaves.contains(&one) && second.enclaves.contains(&other));
    assert!(second.at > booking.at);
    // It is back, and yet of no more use for this swarm: who comes and goes would end every booking.
    busy.world.apply(Command::Uncordon { enclave: one, author: "operator".into() }).unwrap();
    let applied = busy.world.apply(cordon(other)).unwrap();
    assert_eq!(kinds(&applied), ["cordoned", "gang-unbooked"]);
    let copy = Pool::restore(&busy.world.pool.snapshot().unwrap(), limits()).unwrap();
    assert_eq!(copy, busy.world.pool);
}

#[test]
fn more_urgent_work_has_room_that_is_booked() {
    let mut busy = booked();
    busy.step_to(60);
    assert_eq!((busy.world.pool.leases().len(), busy.booking().task), (1, busy.gang));
    let asked = request("client", "calm", busy.world.now, vec![fragment("calm")]);
    let (calm, applied) = submit_at(&mut busy.world, "calm", 4, asked);
    assert_eq!((busy.world.phase(calm, 0), whys(&applied.records)), (Phase::Queued, vec![]));
    let asked = request("client", "urgent", busy.world.now, vec![fragment("urgent")]);
    let (urgent, applied) = submit_at(&mut busy.world, "urgent", 9, asked);
    assert_eq!(kinds(&applied), ["submitted", "granted", "gang-unbooked", "leased"]);
    assert_eq!(whys(&applied.records), [Unbooked::Passed]);
    assert!(busy.world.lease(urgent, 0).is_some());
    // The swarm is as patient as it was: the next search books it other room.
    busy.step();
    assert_eq!(busy.booking().task, busy.gang);
}

#[test]
fn a_more_urgent_swarm_takes_the_place_of_one_that_is_booked() {
    let mut busy = Busy::new(0);
    busy.keep_busy();
    while busy.second() < 30 {
        busy.world.wait(1);
    }
    let asked = swarm_request(&busy.world, terms(2, None), parts(2));
    let (calm, _) = submit_at(&mut busy.world, "calm", 4, asked);
    let asked = swarm_request(&busy.world, terms(2, None), parts(2));
    let (urgent, _) = submit_at(&mut busy.world, "urgent", 9, asked);
    while busy.second() < 60 {
        busy.world.wait(1);
    }
    assert_eq!(busy.booking().task, busy.gang);
    while busy.second() < 63 {
        busy.world.wait(1);
    }
    let applied = busy.world.wait(1);
    assert_eq!(
        (kinds(&applied), whys(&applied.records)),
        (vec!["gang-unbooked", "gang-booked"], vec![Unbooked::Passed])
    );
    assert_eq!(busy.booking().task, urgent);
    assert_eq!(view(&busy.world, calm).booked, None);
}

#[test]
fn nothing_is_booked_beyond_an_hour() {
    for (seconds, within) in [(3_400, true), (4_000, false)] {
        let mut world = World::new(machines(2));
        let long = |name: &str| {
            let mut piece = fragment(name);
            piece.demand.time = Millis(seconds * 1_000);
            piece
        };
        for name in ["one", "two"] {
            world.submit_granted(vec![long(name)]);
        }
        let asked = swarm_request(&world, terms(2, None), parts(2));
        let expires = world.now.plus(3 * HOUR);
        let (task, _) = submit_swarm(&mut world, Request { expires, ..asked });
        // What is leased is granted, so nothing ends meanwhile.
        for _ in 0..10 {
            world.wait(4);
        }
        assert_eq!(world.pool.leases().len(), 2);
        assert_eq!(view(&world, task).booked.is_some(), within, "{seconds}");
    }
}

#[test]
fn one_search_is_made_in_a_second() {
    let mut busy = Busy::new(0);
    busy.set_leases_max(Some(3));
    busy.step_to(100);
    busy.set_leases_max(Some(4));
    busy.world.tick();
    assert_eq!(busy.world.pool.gang_booking(), None);
    busy.step();
    assert!(busy.world.pool.gang_booking().is_some());
}

#[test]
fn a_booking_ends_when_rules_refuse_one_of_its_fragments() {
    let mut world = World::new(machines(2));
    let began = world.now;
    world.submit_granted(vec![fragment("first")]);
    world.now = world.now.plus(20);
    world.submit_granted(vec![fragment("second")]);
    let mut pieces = parts(2);
    pieces[1].module = Digest::of(b"another");
    let asked = swarm_request(&world, terms(2, None), pieces);
    let gang = submit_swarm(&mut world, asked).0;
    let mut busy = Busy { world, gang, began };
    busy.step_to(52);
    assert_eq!(busy.booking().task, gang);
    // A seat is of the first fragment's module, which may run everywhere.
    let rule = "@id(\"known\") permit (principal, action == Action::\"place\", resource)";
    let text = format!("{rule} when {{ context.module == \"{}\" }};", module());
    let scope = legation_policy::Scope::Tenant(tenant("acme"));
    busy.world.apply(Command::SetPolicy { scope, text, author: "acme".into() }).unwrap();
    assert_eq!(busy.booking().task, gang);
    busy.step();
    assert_eq!(busy.world.pool.gang_booking(), None);
    let ended = whys(&busy.world.records);
    assert!(matches!(&ended[..], [Unbooked::Enclave { check, .. }] if check == "place.policy"), "{ended:?}");
}

#[test]
fn a_manager_that_was_held_up_seats_before_it_judges_who_is_late() {
    let mut busy = patient();
    // A tenant that has had less: its work stands before the swarm.
    for name in ["before", "as well"] {
        let asked = request("client", name, busy.world.now, vec![fragment(name)]);
        submit_at(&mut busy.world, "other", 4, asked);
    }
    busy.world.wait(70);
    let at = busy.booking().at;
    assert!(busy.world.now < at && !seated(&busy.world, busy.gang));
    // What is leased on both ends with the next tick, which comes long after the booking's time.
    busy.world.now = at.plus(20);
    busy.world.tick();
    assert!(seated(&busy.world, busy.gang), "{:?}", whys(&busy.world.records));
}
