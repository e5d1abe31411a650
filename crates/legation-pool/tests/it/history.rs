//! The judgement of whole journals: what no pool wrote is found, whatever is wrong with it. (That whatever a pool writes passes
//! is checked by every other test here: see `World::apply`.)

use legation_core::{
    LeaseId, MicroUsd, Revocable, Revocation, RevocationEpoch, Seq, TaskId, Term, dsse::sign, statement::Allocation,
};
use legation_pool::{Acknowledged, Event, LeaseEnd, Obeyed, Record, TaskState, check_history};

use crate::world::*;

/// Two managers' terms: a task that completed in the first, and one in the second that holds both slots of the only enclave
/// and wants a third.
struct Story {
    world: World,
    done: TaskId,
    live: TaskId,
    first: LeaseId,
}

fn story() -> Story {
    let mut world = World::new([Machine::new("a")]);
    let done = world.submit_granted(vec![fragment("one")]);
    let first = world.lease(done, 0).unwrap().0;
    world.run(first);
    world.begin_term(2).unwrap();
    world.arrive(Machine::new("a").id, &[]);
    let live = world.submit_granted(vec![fragment("x"), fragment("y"), fragment("z")]);
    assert!(world.lease(live, 1).is_some() && world.lease(live, 2).is_none());
    Story { world, done, live, first }
}

/// The event of the record that has this kind, the last of them.
fn last(records: &[Record], kind: &str) -> Event {
    records.iter().rev().find(|r| r.event.kind() == kind).unwrap().event.clone()
}

impl Story {
    fn then(&self, events: impl IntoIterator<Item = Event>) -> Vec<Record> {
        let mut records = self.world.records.clone();
        for event in events {
            let last = records.last().unwrap();
            records.push(Record { seq: Seq(last.seq.0 + 1), event, ..last.clone() });
        }
        records
    }

    /// The last allocation, otherwise.
    fn leased(&self, change: impl FnOnce(&mut Allocation)) -> Event {
        let Event::Leased { allocation } = last(&self.world.records, "leased") else { panic!() };
        let mut allocation = (**allocation).clone();
        allocation.lease = LeaseId(allocation.lease.0 + 1);
        change(&mut allocation);
        Event::Leased { allocation: Box::new(sign(allocation, &self.world.manager)) }
    }
}

#[test]
fn what_cannot_have_happened_is_found() {
    let story = story();
    let records = &story.world.records;
    let (held, _) = story.world.lease(story.live, 0).unwrap();
    let ended = |lease| Event::LeaseEnded { lease, why: LeaseEnd::Expired, charged: None };
    let over = |task, state| Event::TaskEnded { task, state };
    let without = |n: usize| [&records[..n], &records[n + 1..]].concat();
    let later = |change: fn(&mut Record)| {
        let mut records = records.clone();
        change(records.last_mut().unwrap());
        records
    };
    let epoch = |n| Event::Revoked {
        revocation: Revocation {
            what: Revocable::Enclave(Machine::new("a").id),
            epoch: RevocationEpoch(n),
            at: story.world.now,
            why: String::new(),
        },
    };
    let reported = |change: fn(&mut MicroUsd)| {
        let mut records = records.clone();
        for record in &mut records {
            if let Event::Reported { charged, .. } = &mut record.event {
                change(charged);
            }
        }
        records
    };
    let cases = [
        ("history.gap", "the first record is lost", without(0)),
        ("history.gap", "a record is lost", without(4)),
        ("history.gap", "a record is there twice", [&records[..3], &records[2..]].concat()),
        ("history.term", "a record of a term that is over", later(|r| r.term = Term(1))),
        ("history.term", "a record of a term that never began", later(|r| r.term = Term(3))),
        ("history.term", "a term begins twice", story.then([last(records, "term-began")])),
        ("history.submitted", "a task twice", story.then([last(records, "submitted")])),
        ("history.allocation", "a promise of an older term", story.then([story.leased(|a| a.term = Term(1))])),
        ("history.allocation", "a promise by a stranger", {
            let stranger = story.leased(|a| a.manager = legation_core::Signer::public_key(&Key::new("stranger")));
            let Event::Leased { allocation } = stranger else { panic!() };
            story.then([Event::Leased { allocation: Box::new(sign((**allocation).clone(), &Key::new("stranger"))) }])
        }),
        ("history.allocation", "one who never attested", {
            story.then([story.leased(|a| (a.fragment.0, a.enclave) = (2, Machine::new("nobody").id))])
        }),
        ("history.allocation", "one who is revoked", {
            story.then([epoch(1), ended(held), story.leased(|a| a.fragment.0 = 0)])
        }),
        ("history.lease", "a fragment twice", story.then([story.leased(|_| ())])),
        ("history.lease", "a promise twice", {
            story.then([ended(held), story.leased(|a| (a.fragment.0, a.lease) = (0, held))])
        }),
        ("history.lease", "a fragment that is not there", story.then([story.leased(|a| a.fragment.0 = 9)])),
        ("history.capacity", "a third in two slots", story.then([story.leased(|a| a.fragment.0 = 2)])),
        ("history.ended", "an end twice", story.then([ended(held), ended(held)])),
        ("history.ended", "the end of what was reported", story.then([ended(story.first)])),
        ("history.report", "a report twice", story.then([last(records, "reported")])),
        ("history.task", "a promise for a task that ended", story.then([story.leased(|a| a.task = story.done)])),
        ("history.task", "an end twice", story.then([over(story.done, TaskState::Completed)])),
        ("history.task", "an end with promises", story.then([over(story.live, TaskState::Cancelled)])),
        ("history.task", "completed without reports", story.then([over(story.live, TaskState::Completed)])),
        ("history.budget", "more than the budget", reported(|charged| charged.0 = u64::MAX)),
        ("history.revocation", "an epoch left out", story.then([epoch(2)])),
    ];
    check_history(records).unwrap();
    for (check, claim, records) in cases {
        let why = check_history(&records).expect_err(claim);
        assert_eq!(why.check, check, "{claim}: {why}");
    }
}

#[test]
fn what_clients_and_agents_remember_is_held_against_it() {
    let story = story();
    let facts = check_history(&story.world.records).unwrap();
    let terms: Vec<_> = facts.terms().iter().map(|t| (t.term.0, t.began.0)).collect();
    let second = terms[1].1;
    assert_eq!((terms[0], terms[1].0, facts.last()), ((1, 1), 2, Seq(story.world.records.len() as u64)));
    assert_eq!(facts.term_at(Seq(0)), None);
    assert_eq!(facts.term_at(Seq(second - 1)), Some(Term(1)));
    assert_eq!((facts.term_at(Seq(second)), facts.term_at(Seq(facts.last().0 + 1))), (Some(Term(2)), None));

    let (submitted, end) = (facts.tasks()[&story.done].submitted, facts.last());
    let told = |task, version, completed| Acknowledged { task, version, completed };
    for (told, good) in [
        (told(story.done, submitted, false), true),
        (told(story.done, end, true), true),
        (told(story.done, submitted, true), false),
        (told(story.done, Seq(submitted.0 - 1), false), false),
        (told(story.live, end, false), true),
        (told(story.live, end, true), false),
        (told(story.live, Seq(end.0 + 1), false), false),
        (told(TaskId::new(module()), end, false), false),
    ] {
        assert_eq!(facts.check_acknowledged(&told).is_ok(), good, "{told:?}");
    }

    let (enclave, made) = (Machine::new("a").id, facts.leases()[&story.first].made);
    let (held, _) = story.world.lease(story.live, 0).unwrap();
    let old = |seq: Seq| Obeyed { lease: story.first, term: Term(1), seq };
    let new = |term| Obeyed { lease: held, term: Term(term), seq: end };
    for (obeyed, good) in [
        (vec![old(made), new(2)], true),
        (vec![new(2), old(made)], false),
        // Before it was promised, after it was over, in a term that had not begun, of a journal that lost its end.
        (vec![old(Seq(made.0 - 1))], false),
        (vec![old(Seq(second - 1))], false),
        (vec![new(1)], false),
        (vec![Obeyed { seq: Seq(end.0 + 1), ..new(2) }], false),
        (vec![Obeyed { lease: LeaseId(99), ..new(2) }], false),
    ] {
        assert_eq!(facts.check_obeyed(enclave, obeyed.clone()).is_ok(), good, "{obeyed:?}");
    }
    assert!(facts.check_obeyed(Machine::new("b").id, [old(made)]).is_err());
}
