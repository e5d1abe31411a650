//! Delegator and delegate talking: step by step, and in a hostile world by seed.
//!
//! The world loses, doubles, delays and reorders messages, breaks channels, crashes either side; delegates answer, answer
//! otherwise, lie, send other bytes than they report, never end, or fail. Held in every run:
//! 1. no delegate runs a call twice;
//! 2. every question ends once, and by its deadline;
//! 3. what a question ends with was computed by an enclave that kept to the rules, and by more than half of them where
//!    several were asked; whoever disagreed is named.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use legation_core::{
    Bytes, Digest, FragmentIndex, Fuel, LeaseId, Millis, Rejection, Requirement, Revocable, Revocation,
    RevocationEpoch, Revoked, Signed, UnixTime,
    delegation::{
        Call,
        session::{
            ANSWERS_MAX, BUSY, Delegate, DelegateAction, DelegateEvent, Delegator, DelegatorAction, DelegatorEvent,
            JobId, Now, PROOF_COST, QUEUE_MAX, Question, Settled, Standing, ToDelegate, ToDelegator, VAIN_MAX,
        },
    },
    dsse,
    statement::{
        Allocation, Answer, Assurance, Committed, Diversity, Grant, Outcome, Passport, Report, Request, Usage,
    },
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    handed::{Hands, Script, call_demand, committed, time},
    party::Party,
    world::{digest, no_bend},
};

const DELEGATES: [&str; 5] = ["enclave-a", "enclave-b", "enclave-c", "enclave-d", "enclave-e"];

/// Milliseconds after the beginning, which is 20 seconds into the request.
fn at(ms: u64) -> Now {
    Now { date: time(20 + ms / 1000), ms: Millis(ms) }
}

/// A request, its enclave, and who may be lent to it.
struct Stage {
    request: Signed<Request>,
    lead: Hands,
    lent: Vec<(&'static str, Signed<Allocation>, Signed<Passport>)>,
}

impl Stage {
    fn new() -> Self {
        let mut script = Script::new(&no_bend);
        let request = script.request();
        let lead = script.lead(&request);
        let mut lent = Vec::new();
        for name in DELEGATES {
            let passport = script.passport(name);
            let loan = script.allocation(&request, &passport, name, Some(&lead.allocation));
            lent.push((name, loan, passport));
        }
        Self { request, lead, lent }
    }

    fn delegator(&self) -> Delegator {
        let Hands { name, allocation, grants, .. } = self.lead.clone();
        Delegator::new(Arc::new(Party::new(name)), self.request.clone(), allocation, grants, [], 0)
    }

    fn delegate(&self, place: usize) -> Delegate {
        Delegate::new(self.request.clone(), self.lent[place].1.clone())
    }

    fn lend(&self, place: usize) -> DelegatorEvent {
        let (_, loan, passport) = &self.lent[place];
        DelegatorEvent::Lent { loan: Box::new(loan.clone()), passport: Box::new(passport.clone()) }
    }
}

fn question(name: &str, assurance: Assurance, within: u64) -> Box<Question> {
    Box::new(Question {
        question: digest(name),
        module: digest("part.wasm"),
        args: Vec::new(),
        input: committed(name),
        demand: legation_core::delegation::CallDemand { time: Millis(3_000), ..call_demand() },
        assurance,
        require: None,
        within: Millis(within),
    })
}

/// What an enclave reports of a call, when it computed `said`.
fn report(
    (name, loan, passport): &(&'static str, Signed<Allocation>, Signed<Passport>),
    call: &Signed<Call>,
    said: &str,
    (began, ended): (UnixTime, UnixTime),
) -> Report {
    let prev = vec![loan.digest(), passport.digest(), call.prev[1], call.digest()];
    Report {
        enclave: Party::new(name).key(),
        task: call.task,
        fragment: FragmentIndex(0),
        lease: loan.lease,
        module: call.module,
        inputs: vec![call.input.commitment],
        seed: call.question,
        outcome: Outcome::Completed,
        output: None,
        log: None,
        usage: Usage { fuel: Fuel(1_000_000), memory_peak: Bytes::mib(1), host_calls: 2, micros: 1_000 },
        started: began,
        finished: ended,
        answer: Some(Answer { call: call.digest(), output: Some(committed(said)), trace: digest("trace") }),
        dissent: Vec::new(),
        monitor: None,
        prev,
    }
}

/// One delegate, spoken to by hand.
struct Desk {
    stage: Stage,
    delegator: Delegator,
    delegate: Delegate,
    revoked: Revoked,
}

impl Desk {
    /// The first loan, described and challenged.
    fn new() -> Self {
        let stage = Stage::new();
        let (delegator, delegate) = (stage.delegator(), stage.delegate(0));
        let mut desk = Self { stage, delegator, delegate, revoked: Revoked::default() };
        let lent = desk.stage.lend(0);
        assert_eq!(desk.ask(lent, 0), []);
        desk.open("first");
        desk
    }

    fn lease(&self) -> LeaseId {
        self.stage.lent[0].1.lease
    }

    fn ask(&mut self, event: DelegatorEvent, ms: u64) -> Vec<DelegatorAction> {
        self.delegator.handle(event, at(ms), &self.revoked)
    }

    fn tell(&mut self, event: DelegateEvent, ms: u64) -> Vec<DelegateAction> {
        let standing = Standing { passport: &self.stage.lent[0].2, revoked: &self.revoked };
        self.delegate.handle(event, at(ms), &standing)
    }

    fn hear(&mut self, message: ToDelegate, ms: u64) -> Vec<DelegateAction> {
        self.tell(DelegateEvent::Heard(Box::new(message)), ms)
    }

    fn answer(&mut self, message: ToDelegator, output: Option<Committed>, ms: u64) -> Vec<DelegatorAction> {
        let (loan, message) = (self.lease(), Box::new(message));
        self.ask(DelegatorEvent::Heard { loan, message, output }, ms)
    }

    /// Describe and challenge; gives what the delegator sends over the new session.
    fn open(&mut self, challenge: &str) -> Vec<ToDelegate> {
        let lease = self.lease();
        assert_eq!(self.tell(DelegateEvent::Opened { challenge: digest(challenge) }, 0), []);
        let described = sent(self.ask(DelegatorEvent::Opened(lease), 0));
        let [described] = described.as_slice() else { panic!("{described:?}") };
        let challenged = said(self.hear(described.clone(), 0));
        let [challenged @ ToDelegator::Challenge { .. }] = challenged.as_slice() else { panic!("{challenged:?}") };
        sent(self.answer(challenged.clone(), None, 0))
    }

    /// Asks, and gives the call that is made of it.
    fn call(&mut self, job: u64, ms: u64) -> Signed<Call> {
        let question = question(&format!("question {job}"), Assurance::Attested, 60_000);
        let sent = sent(self.ask(DelegatorEvent::Ask { job: JobId(job), question }, ms));
        let [ToDelegate::Submit(call)] = sent.as_slice() else { panic!("{sent:?}") };
        call.clone()
    }

    fn ran(&self, call: &Signed<Call>, ms: u64) -> DelegateEvent {
        let report = report(&self.stage.lent[0], call, "result", (at(ms).date, at(ms).date));
        let report = Box::new(dsse::sign(report, &Party::new(DELEGATES[0])));
        DelegateEvent::Ran { report, behind: Vec::new() }
    }
}

fn sent(actions: Vec<DelegatorAction>) -> Vec<ToDelegate> {
    let only = |action| match action {
        DelegatorAction::Send { message, .. } => *message,
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(only).collect()
}

fn said(actions: Vec<DelegateAction>) -> Vec<ToDelegator> {
    let only = |action| match action {
        DelegateAction::Send(message) => *message,
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(only).collect()
}

fn refusal(actions: Vec<DelegateAction>) -> String {
    match said(actions).as_slice() {
        [ToDelegator::Refused { why, .. } | ToDelegator::Unavailable { why, .. }] => why.check.clone(),
        other => panic!("{other:?}"),
    }
}

/// An accepted call, and the execution it leads to.
fn executes(actions: &[DelegateAction], call: &Signed<Call>) -> bool {
    let accepted = ToDelegator::Accepted { call: call.digest() };
    actions == [DelegateAction::Send(Box::new(accepted)), DelegateAction::Execute(call.clone())]
}

#[test]
fn a_call_is_asked_run_answered_and_verified() {
    let mut desk = Desk::new();
    let call = desk.call(1, 100);
    assert_eq!((call.number, call.challenge, call.loan), (1, digest("first"), desk.lease()));
    let started = desk.hear(ToDelegate::Submit(call.clone()), 110);
    assert!(executes(&started, &call), "{started:?}");
    assert_eq!(desk.answer(ToDelegator::Accepted { call: call.digest() }, None, 120), []);
    let ran = desk.ran(&call, 1_000);
    let answered = said(desk.tell(ran, 1_000));
    let [answered] = answered.as_slice() else { panic!("{answered:?}") };
    let done = desk.answer(answered.clone(), Some(committed("result")), 1_010);
    let [DelegatorAction::Done { job: JobId(1), settled }] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!((settled.answers.len(), settled.dissent.len(), settled.statements.len()), (1, 0, 3));
    assert_eq!((settled.loan, settled.report.digest()), (desk.lease(), settled.answers[0]));
    assert_eq!(desk.delegator.next_timeout(), None);
    // The second goes over the same session.
    assert_eq!(desk.call(2, 2_000).number, 2);
}

#[test]
fn the_same_call_gets_the_same_answer_and_never_runs_again() {
    let mut desk = Desk::new();
    let call = desk.call(1, 0);
    assert!(executes(&desk.hear(ToDelegate::Submit(call.clone()), 0), &call));
    let accepted = [ToDelegator::Accepted { call: call.digest() }];
    assert_eq!(said(desk.hear(ToDelegate::Submit(call.clone()), 10)), accepted, "while it runs");
    let ran = desk.ran(&call, 20);
    let first = said(desk.tell(ran.clone(), 20));
    assert_eq!(desk.tell(ran, 21), [], "an execution ends once");
    assert_eq!(said(desk.hear(ToDelegate::Submit(call.clone()), 30)), first);
    // Over another session as well.
    desk.tell(DelegateEvent::Closed, 40);
    desk.tell(DelegateEvent::Opened { challenge: digest("second") }, 50);
    assert_eq!(said(desk.hear(ToDelegate::Submit(call.clone()), 60)), first);
    // Until it is forgotten: then it is a replay, and still not run.
    for number in 2..=ANSWERS_MAX as u64 + 1 {
        let next = Call { number, challenge: digest("second"), ..call.predicate().clone() };
        let next = dsse::sign(next, &Party::new("enclave-lead"));
        assert!(executes(&desk.hear(ToDelegate::Submit(next.clone()), 70), &next), "{number}");
        let ran = desk.ran(&next, 70);
        assert_eq!(desk.tell(ran, 70).len(), 1);
    }
    assert_eq!(refusal(desk.hear(ToDelegate::Submit(call), 80)), "delegate.replay");
}

#[test]
fn what_a_delegate_refuses() {
    let signed = |call: Call| dsse::sign(call, &Party::new("enclave-lead"));
    type Change = fn(&mut Call);
    let cases: [(&str, Change, &str); 7] = [
        ("another session's", |c| c.challenge = digest("x"), "delegate.challenge"),
        ("number 0", |c| c.number = 0, "delegate.replay"),
        ("another loan's", |c| c.loan = LeaseId(1), "call.loan"),
        ("another module", |c| c.module = digest("x"), "call.module"),
        ("more than granted", |c| c.demand.fuel = Fuel(2_000_000_000), "call.fuel"),
        ("expired", |c| c.expires = time(29), "delegate.expired"),
        ("of later", |c| (c.created, c.expires) = (time(100), time(150)), "delegate.expired"),
    ];
    for (what, change, check) in cases {
        let mut desk = Desk::new();
        let mut call = desk.call(1, 0).predicate().clone();
        change(&mut call);
        assert_eq!(refusal(desk.hear(ToDelegate::Submit(signed(call)), 10_000)), check, "{what}");
    }
    // An enclave that was not lent to: its signature is good, its word is not.
    let mut desk = Desk::new();
    let call = Call { delegator: Party::new("attacker").key(), ..desk.call(1, 0).predicate().clone() };
    let call = dsse::sign(call, &Party::new("attacker"));
    assert_eq!(refusal(desk.hear(ToDelegate::Submit(call), 0)), "call.delegator");
    // One more than may wait; its number is used up.
    let mut desk = Desk::new();
    let first = desk.call(1, 0);
    let small = |number: u64| {
        let mut call = Call { number, ..first.predicate().clone() };
        call.demand.fuel = Fuel(1);
        signed(call)
    };
    for number in 1..=QUEUE_MAX as u64 + 1 {
        let call = small(number);
        let accepted = DelegateAction::Send(Box::new(ToDelegator::Accepted { call: call.digest() }));
        assert_eq!(desk.hear(ToDelegate::Submit(call), 0).first(), Some(&accepted), "{number}");
    }
    assert_eq!(refusal(desk.hear(ToDelegate::Submit(small(20)), 0)), "delegate.busy");
    assert_eq!(refusal(desk.hear(ToDelegate::Submit(small(20)), 0)), "delegate.replay");
    // Together more than the grant allows.
    let mut desk = Desk::new();
    let first = desk.call(1, 0);
    let big = |number: u64| {
        let mut call = Call { number, ..first.predicate().clone() };
        call.demand.fuel = Fuel(600_000_000);
        signed(call)
    };
    assert!(executes(&desk.hear(ToDelegate::Submit(big(1)), 0), &big(1)));
    assert_eq!(refusal(desk.hear(ToDelegate::Submit(big(2)), 0)), "delegate.fuel");
    // A loan that ended.
    let mut desk = Desk::new();
    let call = desk.call(1, 0);
    assert_eq!(desk.tell(DelegateEvent::Ended, 0), []);
    assert_eq!(refusal(desk.hear(ToDelegate::Submit(call), 0)), "delegate.ended");
}

#[test]
fn a_session_is_described_by_whoever_may() {
    let describe = |desk: &mut Desk| {
        let lease = desk.lease();
        let described = sent(desk.ask(DelegatorEvent::Opened(lease), 0));
        let [ToDelegate::Describe { loan, grant, grants }] = described.as_slice() else { panic!("{described:?}") };
        (*loan, *grant, grants.clone())
    };
    let mut desk = Desk::new();
    let (loan, grant, grants) = describe(&mut desk);
    assert_eq!(grants.len(), 3);
    let fewer = ToDelegate::Describe { loan, grant, grants: grants[1..].to_vec() };
    let again = said(desk.hear(fewer.clone(), 0));
    assert!(matches!(&again[..], [ToDelegator::Challenge { .. }]), "what was described once is known: {again:?}");
    // To one that it was never described to.
    desk.delegate = desk.stage.delegate(0);
    assert_eq!(desk.tell(DelegateEvent::Opened { challenge: digest("first") }, 0), []);
    assert_eq!(refusal(desk.hear(fewer, 0)), "delegation.missing");
    let other = ToDelegate::Describe { loan: LeaseId(1), grant, grants: grants.clone() };
    assert_eq!(refusal(desk.hear(other, 0)), "delegate.loan");
    let root = grants.iter().find(|g| g.digest() != grant).unwrap().digest();
    let client = ToDelegate::Describe { loan, grant: root, grants: grants.clone() };
    assert_eq!(refusal(desk.hear(client, 0)), "delegation.prev");
    let whole = ToDelegate::Describe { loan, grant, grants: grants.clone() };
    assert!(matches!(&said(desk.hear(whole.clone(), 0))[..], [ToDelegator::Challenge { last: 0, .. }]));
    // What is revoked above is of no use here; and what waits under it is given up.
    let call = desk.call_again();
    assert!(executes(&desk.hear(ToDelegate::Submit(call.clone()), 0), &call));
    let what = Revocable::Grant(root);
    desk.revoked.insert(Revocation { what, epoch: RevocationEpoch(1), at: time(0), why: "stolen".into() });
    assert_eq!(desk.tell(DelegateEvent::Tick, 10), [DelegateAction::Stop { call: call.digest() }]);
    assert_eq!(refusal(desk.hear(whole, 10)), "revocation");
}

#[test]
fn another_grant_is_described_when_no_call_rests_on_the_first() {
    let mut desk = Desk::new();
    let lease = desk.lease();
    let described = sent(desk.ask(DelegatorEvent::Opened(lease), 0));
    let [same @ ToDelegate::Describe { loan, grant, grants }] = described.as_slice() else { panic!("{described:?}") };
    let leaf = grants.iter().find(|known| known.digest() == *grant).unwrap();
    let other = Grant { fuel: Fuel(leaf.fuel.0 - 1), ..leaf.predicate().clone() };
    let other = dsse::sign(other, &Party::new("enclave-lead"));
    let grants = grants.iter().chain([&other]).cloned().collect();
    let another = ToDelegate::Describe { loan: *loan, grant: other.digest(), grants };
    let call = desk.call_again();
    assert!(executes(&desk.hear(ToDelegate::Submit(call.clone()), 0), &call));
    assert_eq!(refusal(desk.hear(another.clone(), 10)), "delegate.session");
    assert_eq!(desk.delegate.lineage().map(|lineage| lineage.leaf().digest()), Some(call.prev[1]));
    let again = said(desk.hear(same.clone(), 20));
    assert!(matches!(&again[..], [ToDelegator::Challenge { .. }]), "{again:?}");
    let ran = desk.ran(&call, 30);
    assert_eq!(desk.tell(ran, 30).len(), 1);
    let then = said(desk.hear(another, 40));
    assert!(matches!(&then[..], [ToDelegator::Challenge { .. }]), "{then:?}");
}

impl Desk {
    /// A call over the session that was described last.
    fn call_again(&mut self) -> Signed<Call> {
        let challenge = ToDelegator::Challenge { loan: self.lease(), challenge: digest("first"), last: 0 };
        assert_eq!(self.answer(challenge, None, 0), []);
        self.call(7, 0)
    }
}

#[test]
fn a_call_ends_when_nobody_waits_or_its_time_is_over() {
    let mut desk = Desk::new();
    let call = desk.call(1, 0);
    assert!(executes(&desk.hear(ToDelegate::Submit(call.clone()), 0), &call));
    let cancelled = desk.ask(DelegatorEvent::Cancel(JobId(1)), 10);
    assert!(
        matches!(&cancelled[..], [DelegatorAction::Send { .. }, DelegatorAction::GaveUp { why, .. }] if why.check == "delegator.cancelled")
    );
    let stop = [DelegateAction::Stop { call: call.digest() }];
    assert_eq!(desk.hear(ToDelegate::Cancel { call: call.digest() }, 20), stop);
    assert_eq!(desk.hear(ToDelegate::Cancel { call: call.digest() }, 30), [], "once");
    let why = Rejection::new("agent.cancelled", "the execution");
    let refused = said(desk.tell(DelegateEvent::Failed { call: call.digest(), ran: true, why: why.clone() }, 40));
    assert_eq!(refused, [ToDelegator::Refused { call: call.digest(), ran: true, why }]);
    assert_eq!(refusal(desk.hear(ToDelegate::Submit(call), 50)), "delegate.replay");

    let mut desk = Desk::new();
    let call = desk.call(1, 0);
    assert!(executes(&desk.hear(ToDelegate::Submit(call.clone()), 0), &call));
    let ends = desk.delegate.next_timeout().unwrap();
    assert_eq!(ends, call.expires.plus(1));
    let ms = (ends.0 - at(0).date.0) * 1000;
    assert_eq!(desk.tell(DelegateEvent::Tick, ms), [DelegateAction::Stop { call: call.digest() }]);
    assert_eq!(desk.delegate.next_timeout(), None);
}

/// The loan that is given back, and why.
fn given_back(actions: &[DelegatorAction]) -> Option<(LeaseId, &str)> {
    actions.iter().find_map(|action| match action {
        DelegatorAction::GiveBack { loan, why } => Some((*loan, why.check.as_str())),
        _ => None,
    })
}

#[test]
fn an_enclave_without_a_session_is_given_back_whatever_its_channel_does() {
    for manner in ["no channel", "a silent one", "one that comes and goes"] {
        let (stage, revoked) = (Stage::new(), Revoked::default());
        let (mut delegator, lease) = (stage.delegator(), stage.lent[0].1.lease);
        assert_eq!(delegator.handle(stage.lend(0), at(0), &revoked), []);
        let mut ended = None;
        for ms in (0..8_000).step_by(100) {
            let event = match (manner, ms % 200) {
                ("a silent one", _) if ms == 100 => DelegatorEvent::Opened(lease),
                ("one that comes and goes", 0) => DelegatorEvent::Opened(lease),
                ("one that comes and goes", _) => DelegatorEvent::Closed(lease),
                _ => DelegatorEvent::Tick,
            };
            let actions = delegator.handle(event, at(ms), &revoked);
            ended = ended.or(given_back(&actions).map(|(loan, why)| (ms, loan, why.to_owned())));
        }
        assert_eq!(ended, Some((5_000, lease, "delegator.silent".to_owned())), "{manner}");
        assert_eq!(delegator.next_timeout(), None, "{manner}");
    }
}

#[test]
fn an_enclave_that_takes_a_call_and_never_answers_is_given_back_and_another_is_wanted() {
    let mut desk = Desk::new();
    let (lease, call) = (desk.lease(), desk.call(1, 0));
    let mut ms = 0;
    loop {
        assert_eq!(desk.answer(ToDelegator::Accepted { call: call.digest() }, None, ms), []);
        ms = desk.delegator.next_timeout().unwrap().0;
        assert!(ms < 60_000, "it is left before the deadline");
        let actions = desk.ask(DelegatorEvent::Tick, ms);
        if let Some(found) = given_back(&actions) {
            assert_eq!(found, (lease, "delegator.silent"));
            break;
        }
        assert!(matches!(&sent(actions)[..], [ToDelegate::Submit(again)] if *again == call));
    }
    assert_eq!(desk.delegator.wants().len(), 1);
}

#[test]
fn an_enclave_that_says_again_that_it_works_on_a_call_gets_no_more_time() {
    // It says so every second; or it opens its channel anew every second, and then says nothing.
    for anew in [false, true] {
        let mut desk = Desk::new();
        let (lease, call) = (desk.lease(), desk.call(1, 0));
        let mut ended = None;
        for ms in (1_000..60_000).step_by(1_000) {
            let message = match anew {
                false => ToDelegator::Accepted { call: call.digest() },
                true => ToDelegator::Challenge { loan: lease, challenge: digest(&format!("{ms}")), last: 1 },
            };
            if anew {
                desk.ask(DelegatorEvent::Closed(lease), ms);
                desk.ask(DelegatorEvent::Opened(lease), ms);
            }
            let mut actions = desk.answer(message, None, ms);
            actions.extend(desk.ask(DelegatorEvent::Tick, ms));
            ended = ended.or(given_back(&actions).map(|(loan, why)| (ms, loan, why.to_owned())));
        }
        let (ms, loan, why) = ended.unwrap_or_else(|| panic!("it is kept: {anew}"));
        assert!(ms <= 25_000 && loan == lease && why == "delegator.silent", "{anew}: {ms} {why}");
    }
}

#[test]
fn an_enclave_without_room_is_asked_again_and_another_is_wanted_meanwhile() {
    let mut desk = Desk::new();
    let (lease, call) = (desk.lease(), desk.call(1, 0));
    let why = Rejection::new(BUSY, "calls that wait");
    let refused = ToDelegator::Refused { call: call.digest(), ran: false, why };
    assert_eq!(desk.answer(refused, None, 10), []);
    let wants = desk.delegator.wants();
    let [want] = wants.as_slice() else { panic!("{wants:?}") };
    assert!(want.not.contains(&desk.stage.lent[0].2.enclave_id()));
    assert_eq!(desk.delegator.next_timeout(), Some(Millis(2_010)));
    let asked = sent(desk.ask(DelegatorEvent::Tick, 2_010));
    let [ToDelegate::Submit(again)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((again.loan, again.number), (lease, 2));
    assert_eq!(desk.delegator.wants(), []);
}

/// Refuses a call for want of room, after it was taken or not.
fn no_room(desk: &mut Desk, call: &Signed<Call>, taken: bool, ms: u64) -> Vec<DelegatorAction> {
    let digest = call.digest();
    if taken {
        assert_eq!(desk.answer(ToDelegator::Accepted { call: digest }, None, ms), []);
    }
    let why = Rejection::new(BUSY, "calls that wait");
    desk.answer(ToDelegator::Refused { call: digest, ran: false, why }, None, ms)
}

/// The call that a question is put by again, and when.
fn again(desk: &mut Desk) -> (Signed<Call>, u64) {
    let Some(Millis(ms)) = desk.delegator.next_timeout() else { panic!("nothing is waited for") };
    let asked = sent(desk.ask(DelegatorEvent::Tick, ms));
    let [ToDelegate::Submit(call)] = asked.as_slice() else { panic!("{asked:?}") };
    (call.clone(), ms)
}

#[test]
fn an_enclave_without_room_is_asked_as_long_as_there_is_time_and_ever_more_seldom() {
    let mut desk = Desk::new();
    let question = question("one of many", Assurance::Attested, 3_600_000);
    let asked = sent(desk.ask(DelegatorEvent::Ask { job: JobId(1), question }, 0));
    let [ToDelegate::Submit(call)] = asked.as_slice() else { panic!("{asked:?}") };
    let (mut call, mut ms, mut pauses) = (call.clone(), 0, Vec::new());
    for turn in 0..8 {
        // Twice it takes the call before it says so: that it had room is nothing that it shows.
        let actions = no_room(&mut desk, &call, [2, 4].contains(&turn), ms);
        assert_eq!(actions, [], "{turn}");
        let (next, then) = again(&mut desk);
        pauses.push(then - ms);
        (call, ms) = (next, then);
    }
    assert_eq!(pauses, [2_000, 4_000, 8_000, 16_000, 32_000, 32_000, 32_000, 32_000]);
    // An answer shows it.
    let ran = report(&desk.stage.lent[0], &call, "result", (at(ms).date, at(ms).date));
    let report = dsse::sign(ran, &Party::new(DELEGATES[0]));
    let answered = ToDelegator::Answered { report, behind: Vec::new() };
    let done = desk.answer(answered, Some(committed("result")), ms);
    assert!(matches!(&done[..], [DelegatorAction::Done { .. }]), "{done:?}");
    let call = desk.call(2, ms);
    assert_eq!(no_room(&mut desk, &call, true, ms), []);
    assert_eq!(again(&mut desk).1 - ms, 2_000);
}

#[test]
fn an_enclave_that_takes_calls_and_has_no_room_for_them_is_given_back() {
    // Whatever it says between: that it has no room at all, or nothing, so that it is sent the call again.
    for between in ["nothing", "no room", "silence"] {
        let mut desk = Desk::new();
        let lease = desk.lease();
        let (mut call, mut ms) = (desk.call(1, 0), 0);
        for _ in 1..VAIN_MAX {
            if between == "no room" {
                assert_eq!(no_room(&mut desk, &call, false, ms), []);
                (call, ms) = again(&mut desk);
            }
            if between == "silence" {
                assert_eq!(desk.answer(ToDelegator::Accepted { call: call.digest() }, None, ms), []);
                let (same, then) = again(&mut desk);
                assert_eq!(same, call);
                ms = then;
            }
            assert_eq!(no_room(&mut desk, &call, between != "silence", ms), []);
            (call, ms) = again(&mut desk);
        }
        let actions = no_room(&mut desk, &call, true, ms);
        assert_eq!(given_back(&actions), Some((lease, "delegator.busy")), "{between}: {actions:?}");
        let wants = desk.delegator.wants();
        let [want] = wants.as_slice() else { panic!("{wants:?}") };
        assert!(want.not.contains(&desk.stage.lent[0].2.enclave_id()));
        assert_eq!(desk.delegator.left().0, Fuel(1_000_000_000), "nothing ran");
    }
}

#[test]
fn what_an_enclave_says_of_itself_is_no_verdict_on_the_question() {
    let mut desk = Desk::new();
    let lease = desk.lease();
    desk.call(1, 0);
    // In the words of what no enclave may be handed.
    let why = Rejection::new("delegation.modules", "modules of a grant");
    let actions = desk.answer(ToDelegator::Unavailable { loan: lease, why }, None, 10);
    assert_eq!(given_back(&actions), Some((lease, "delegator.unavailable")));
    assert!(!actions.iter().any(|action| matches!(action, DelegatorAction::GaveUp { .. })), "{actions:?}");
    assert_eq!(desk.delegator.wants().len(), 1);
}

#[test]
fn what_is_not_to_be_proven_is_never_too_dear_to_prove() {
    let mut desk = Desk::new();
    let second = desk.stage.lent[1].1.lease;
    let call = desk.call(1, 0);
    // Another is lent, and has a session.
    let lent = desk.stage.lend(1);
    assert_eq!(desk.ask(lent, 0), []);
    desk.ask(DelegatorEvent::Opened(second), 0);
    let message = Box::new(ToDelegator::Challenge { loan: second, challenge: digest("second"), last: 0 });
    assert_eq!(desk.ask(DelegatorEvent::Heard { loan: second, message, output: None }, 0), []);
    let why = Rejection::new(PROOF_COST, "what a proof of the call takes");
    let refused = ToDelegator::Refused { call: call.digest(), ran: false, why };
    let asked = sent(desk.answer(refused, None, 10));
    let [ToDelegate::Submit(call)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(call.loan, second);
}

#[test]
fn answers_that_do_not_verify_are_not_taken() {
    type Change = fn(&mut Report);
    let cases: [(&str, Change, &str); 9] = [
        ("for other input", |r| r.inputs = vec![digest("x")], "answer.input"),
        ("with other randomness", |r| r.seed = digest("x"), "answer.seed"),
        ("with more fuel", |r| r.usage.fuel = Fuel(50_000_001), "answer.usage"),
        ("under an unknown passport", |r| r.prev[1] = digest("x"), "delegator.passport"),
        ("under another grant", |r| r.prev[2] = digest("x"), "answer.prev"),
        ("after its end", |r| r.finished = time(1_000), "answer.time"),
        ("by a clock that is two minutes fast", |r| r.finished = time(100), "delegator.time"),
        ("that used answers where nothing may be handed on", |r| r.prev.push(digest("x")), "delegator.behind"),
        ("that names who disagreed with nobody", |r| r.dissent = vec![digest("x")], "delegator.behind"),
    ];
    for (what, change, check) in cases {
        let mut desk = Desk::new();
        let call = desk.call(1, 0);
        let mut bent = report(&desk.stage.lent[0], &call, "result", (time(20), time(21)));
        change(&mut bent);
        let bent = dsse::sign(bent, &Party::new(DELEGATES[0]));
        let answered = ToDelegator::Answered { report: bent, behind: Vec::new() };
        let actions = desk.answer(answered, Some(committed("result")), 1_000);
        let why = actions.iter().find_map(|action| match action {
            DelegatorAction::Distrust { why, .. } => Some(why.check.as_str()),
            _ => None,
        });
        assert_eq!(why, Some(check), "{what}: {actions:?}");
        assert!(!actions.iter().any(|action| matches!(action, DelegatorAction::Done { .. })), "{what}");
    }
    // The report is good, the bytes are others.
    for output in [None, Some(committed("other"))] {
        let mut desk = Desk::new();
        let call = desk.call(1, 0);
        let good = report(&desk.stage.lent[0], &call, "result", (time(20), time(21)));
        let report = dsse::sign(good, &Party::new(DELEGATES[0]));
        let actions = desk.answer(ToDelegator::Answered { report, behind: Vec::new() }, output, 1_000);
        assert!(
            actions
                .iter()
                .any(|a| matches!(a, DelegatorAction::Distrust { why, .. } if why.check == "delegator.output")),
            "{actions:?}"
        );
    }
    // Of an enclave that was revoked meanwhile.
    let mut desk = Desk::new();
    let call = desk.call(1, 0);
    let what = Revocable::Enclave(Party::new(DELEGATES[0]).key().enclave_id());
    desk.revoked.insert(Revocation { what, epoch: RevocationEpoch(1), at: time(0), why: "stolen".into() });
    let good = report(&desk.stage.lent[0], &call, "result", (time(20), time(21)));
    let report = dsse::sign(good, &Party::new(DELEGATES[0]));
    let actions = desk.answer(ToDelegator::Answered { report, behind: Vec::new() }, Some(committed("result")), 1_000);
    assert!(
        actions.iter().any(|a| matches!(a, DelegatorAction::Distrust { why, .. } if why.check == "revocation")),
        "{actions:?}"
    );
}

#[test]
fn an_answer_may_rest_on_any_of_the_passports_that_came_last() {
    for (again, counts) in [(true, true), (false, false)] {
        let mut desk = Desk::new();
        let (name, loan, named) = desk.stage.lent[0].clone();
        // Of other verifiers, or of the same by another appointment.
        let another = |appointment: &str| {
            let passport = Passport { prev: vec![digest(appointment)], ..named.predicate().clone() };
            dsse::sign(passport, &Party::new("verifier"))
        };
        let used = another("first");
        let mut come = vec![used.clone(), another("second"), another("third"), another("fourth")];
        come.extend(again.then(|| used.clone()));
        come.push(another("fifth"));
        for passport in come {
            let (lease, passport) = (loan.lease, Box::new(passport));
            assert_eq!(desk.ask(DelegatorEvent::Renewed { loan: lease, passport }, 0), []);
        }
        let call = desk.call(1, 0);
        let good = report(&(name, loan, used), &call, "result", (time(20), time(21)));
        let report = dsse::sign(good, &Party::new(name));
        let answered = ToDelegator::Answered { report, behind: Vec::new() };
        let actions = desk.answer(answered, Some(committed("result")), 1_000);
        let done = actions.iter().any(|action| matches!(action, DelegatorAction::Done { .. }));
        assert_eq!(done, counts, "{actions:?}");
    }
}

/// Another passport of the enclave of a desk: of hardware of this generation, until then.
fn another(desk: &Desk, appointment: &str, product: &str, expires: UnixTime) -> Signed<Passport> {
    let named = desk.stage.lent[0].2.predicate().clone();
    let mut passport = Passport { prev: vec![digest(appointment)], expires, ..named };
    passport.claims.product.value = product.to_owned();
    dsse::sign(passport, &Party::new("verifier"))
}

fn renew(desk: &mut Desk, passport: &Signed<Passport>) {
    let (loan, passport) = (desk.lease(), Box::new(passport.clone()));
    assert_eq!(desk.ask(DelegatorEvent::Renewed { loan, passport }, 0), []);
}

/// A question that is content with `milan` alone.
fn demanding() -> Box<Question> {
    let mut question = question("demanding", Assurance::Attested, 60_000);
    question.require = Some(Requirement::parse("product == milan").unwrap());
    question
}

#[test]
fn an_answer_counts_by_a_passport_that_its_question_is_content_with() {
    for (last, by, counts) in
        [("milan", "milan", true), ("milan", "naples", false), ("naples", "milan", true), ("naples", "naples", false)]
    {
        let mut desk = Desk::new();
        let (name, loan, named) = desk.stage.lent[0].clone();
        let naples = another(&desk, "naples", "naples", named.expires);
        renew(&mut desk, &naples);
        if last == "milan" {
            renew(&mut desk, &named);
        }
        // It may answer by either, whichever was shown last.
        let asked = sent(desk.ask(DelegatorEvent::Ask { job: JobId(1), question: demanding() }, 0));
        let [ToDelegate::Submit(call)] = asked.as_slice() else { panic!("{last}, {by}: {asked:?}") };
        let by = if by == "milan" { named } else { naples };
        let answer = report(&(name, loan, by), call, "result", (time(20), time(21)));
        let answered = ToDelegator::Answered { report: dsse::sign(answer, &Party::new(name)), behind: Vec::new() };
        let actions = desk.answer(answered, Some(committed("result")), 1_000);
        let done = actions.iter().any(|action| matches!(action, DelegatorAction::Done { .. }));
        assert_eq!(done, counts, "{last}: {actions:?}");
        let back = given_back(&actions);
        assert_eq!(back, (!counts).then_some((desk.lease(), "delegator.require")), "{last}: {actions:?}");
        // What was not told what is required did not lie; another is asked.
        assert!(!actions.iter().any(|action| matches!(action, DelegatorAction::Distrust { .. })), "{actions:?}");
        assert_eq!(desk.delegator.wants().len(), usize::from(!counts), "{last}");
    }
}

#[test]
fn a_question_is_put_to_nobody_by_a_passport_that_is_over() {
    for (ms, asks) in [(5_000, true), (15_000, false)] {
        let mut desk = Desk::new();
        let later = desk.stage.lent[0].2.expires;
        // The one that was named has made way.
        for appointment in ["first", "second", "third", "fourth"] {
            let naples = another(&desk, appointment, "naples", later);
            renew(&mut desk, &naples);
        }
        let milan = another(&desk, "fifth", "milan", time(30));
        renew(&mut desk, &milan);
        let asked = desk.ask(DelegatorEvent::Ask { job: JobId(1), question: demanding() }, ms);
        assert_eq!(sent(asked).len(), usize::from(asks), "{ms}");
        assert_eq!(desk.delegator.wants().len(), usize::from(!asks), "{ms}");
    }
}

#[test]
fn more_than_may_be_handed_on_is_not_asked() {
    let mut desk = Desk::new();
    let mut large = question("large", Assurance::Attested, 60_000);
    large.demand.fuel = Fuel(1_000_000_001);
    let actions = desk.ask(DelegatorEvent::Ask { job: JobId(1), question: large }, 0);
    assert!(
        matches!(&actions[..], [DelegatorAction::GaveUp { why, .. }] if why.check == "delegator.spent"),
        "{actions:?}"
    );
    assert_eq!(desk.delegator.left().0, Fuel(1_000_000_000));
    desk.call(2, 0);
    assert_eq!(desk.delegator.left().0, Fuel(950_000_000));
}

/// The source of chance: splitmix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    fn percent(&mut self, of: u64) -> bool {
        self.below(100) < of
    }
}

/// How a delegate behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Honest,
    Dissenting,
    Lying,
    /// Reports one output and sends another.
    Garbling,
    Mute,
    Failing,
}

#[derive(Clone, Debug)]
enum Happening {
    ToDelegate(usize, Box<ToDelegate>),
    ToDelegator(usize, Box<ToDelegator>, Option<Committed>),
    Ends(usize, Digest, UnixTime),
    Stopped(usize, Digest),
    Break(usize),
    Open(usize),
    Crash(usize),
    CrashAll,
    Lend(usize),
    Ask(u64),
}

struct Node {
    machine: Option<Delegate>,
    manner: Manner,
    running: Option<Signed<Call>>,
    /// Calls that were ever begun.
    begun: BTreeSet<Digest>,
    up: bool,
}

/// A deployment in a hostile world.
struct Hostile<'a> {
    stage: &'a Stage,
    dice: Dice,
    harm: u64,
    now: u64,
    order: u64,
    due: BTreeMap<(u64, u64), Happening>,
    delegator: Option<Delegator>,
    nodes: Vec<Node>,
    revoked: Revoked,
    /// Deadline, time allowed, assurance.
    asked: BTreeMap<u64, (u64, u64, Assurance)>,
    ended: BTreeMap<u64, bool>,
    /// Reports by enclaves that kept to the rules and sent what they reported.
    good: BTreeSet<Digest>,
}

const END: u64 = 120_000;
const JOBS: u64 = 6;

impl<'a> Hostile<'a> {
    fn new(stage: &'a Stage, seed: u64, harm: u64) -> Self {
        let mut dice = Dice(seed);
        let manners =
            [Manner::Dissenting, Manner::Lying, Manner::Garbling, Manner::Mute, Manner::Failing, Manner::Honest];
        let nodes = (0..DELEGATES.len()).map(|place| {
            let bad = dice.percent(harm);
            let manner = if bad { manners[dice.below(6) as usize] } else { Manner::Honest };
            Node { machine: Some(stage.delegate(place)), manner, running: None, begun: BTreeSet::new(), up: false }
        });
        let nodes = nodes.collect();
        let mut world = Self {
            stage,
            dice,
            harm,
            now: 0,
            order: 0,
            due: BTreeMap::new(),
            delegator: Some(stage.delegator()),
            nodes,
            revoked: Revoked::default(),
            asked: BTreeMap::new(),
            ended: BTreeMap::new(),
            good: BTreeSet::new(),
        };
        for place in 0..DELEGATES.len() {
            let lent = world.dice.below(3_000);
            world.later(lent, Happening::Lend(place));
            world.later(lent + 5, Happening::Open(place));
            if world.dice.percent(harm) {
                let when = world.dice.below(40_000);
                world.later(when, Happening::Break(place));
            }
            if world.dice.percent(harm / 3) {
                let when = world.dice.below(40_000);
                world.later(when, Happening::Crash(place));
            }
        }
        for job in 0..JOBS {
            let when = world.dice.below(15_000);
            world.later(when, Happening::Ask(job));
        }
        if world.dice.percent(harm / 10) {
            let when = world.dice.below(40_000);
            world.later(when, Happening::CrashAll);
        }
        world
    }

    fn later(&mut self, wait: u64, what: Happening) {
        self.order += 1;
        self.due.insert((self.now + wait, self.order), what);
    }

    /// Puts a message on its way, or loses it, or doubles it.
    fn travel(&mut self, what: Happening) {
        for _ in 0..1 + u64::from(self.dice.percent(self.harm / 3)) {
            if !self.dice.percent(self.harm / 3) {
                let wait = if self.dice.percent(self.harm) { self.dice.below(4_000) } else { 1 };
                self.later(wait, what.clone());
            }
        }
    }

    fn run(mut self) -> Result<Self, TestCaseError> {
        for _ in 0..100_000 {
            let event = self.due.first_key_value().map(|((when, _), _)| *when);
            let of_nodes = self.nodes.iter().filter_map(|node| node.machine.as_ref()?.next_timeout());
            let of_nodes = of_nodes.map(|date| (date.0 - at(0).date.0) * 1000);
            let of_lead = self.delegator.as_ref().and_then(Delegator::next_timeout).map(|ms| ms.0);
            let timeout = of_nodes.chain(of_lead).min();
            let Some(next) = event.into_iter().chain(timeout).min().filter(|next| *next <= END) else {
                return Ok(self);
            };
            self.now = self.now.max(next);
            if event == Some(next)
                && let Some((_, what)) = self.due.pop_first()
            {
                self.happen(what)?;
            } else {
                self.lead(DelegatorEvent::Tick)?;
                for place in 0..self.nodes.len() {
                    self.tell(place, DelegateEvent::Tick)?;
                }
            }
        }
        Err(TestCaseError::fail("it does not come to rest"))
    }

    fn lease(&self, place: usize) -> LeaseId {
        self.stage.lent[place].1.lease
    }

    fn happen(&mut self, what: Happening) -> Result<(), TestCaseError> {
        match what {
            Happening::Lend(place) => self.lead(self.stage.lend(place)),
            Happening::Open(place) => {
                if self.delegator.is_none() || self.nodes[place].machine.is_none() || self.nodes[place].up {
                    return Ok(());
                }
                self.nodes[place].up = true;
                let challenge = digest(&format!("challenge {}", self.dice.next()));
                self.tell(place, DelegateEvent::Opened { challenge })?;
                self.lead(DelegatorEvent::Opened(self.lease(place)))
            }
            Happening::Break(place) => {
                self.nodes[place].up = false;
                self.tell(place, DelegateEvent::Closed)?;
                self.lead(DelegatorEvent::Closed(self.lease(place)))?;
                let wait = self.dice.below(8_000);
                self.later(wait, Happening::Open(place));
                Ok(())
            }
            Happening::Crash(place) => {
                // A new boot is another enclave: this one never comes back.
                (self.nodes[place].machine, self.nodes[place].running) = (None, None);
                self.lead(DelegatorEvent::Gone(self.lease(place)))
            }
            Happening::CrashAll => {
                self.delegator = None;
                for place in 0..self.nodes.len() {
                    self.tell(place, DelegateEvent::Closed)?;
                    self.tell(place, DelegateEvent::Ended)?;
                }
                Ok(())
            }
            Happening::Ask(job) => {
                let assurance = match self.dice.below(3) {
                    0 => Assurance::Replicated { k: 3, diverse: Diversity::Provider },
                    _ => Assurance::Attested,
                };
                let within = 1_000 + self.dice.below(40_000);
                let question = question(&format!("question {job}"), assurance, within);
                if self.delegator.is_some() {
                    self.asked.insert(job, (self.now + within, within, assurance));
                }
                self.lead(DelegatorEvent::Ask { job: JobId(job), question })
            }
            Happening::ToDelegate(place, message) => self.tell(place, DelegateEvent::Heard(message)),
            Happening::ToDelegator(place, message, output) => {
                self.lead(DelegatorEvent::Heard { loan: self.lease(place), message, output })
            }
            Happening::Ends(place, call, began) => self.end(place, call, began),
            Happening::Stopped(place, call) => {
                let why = Rejection::new("agent.stopped", "the execution");
                self.tell(place, DelegateEvent::Failed { call, ran: true, why })
            }
        }
    }

    fn end(&mut self, place: usize, call: Digest, began: UnixTime) -> Result<(), TestCaseError> {
        let Some(call) = self.nodes[place].running.take_if(|running| running.digest() == call) else { return Ok(()) };
        let manner = self.nodes[place].manner;
        if manner == Manner::Failing {
            let why = Rejection::new("agent.module", "the module");
            return self.tell(place, DelegateEvent::Failed { call: call.digest(), ran: false, why });
        }
        let said = if manner == Manner::Dissenting { "otherwise" } else { "result" };
        let mut report = report(&self.stage.lent[place], &call, said, (began, at(self.now).date));
        if manner == Manner::Lying {
            report.usage.fuel = Fuel(50_000_001);
        }
        let report = dsse::sign(report, &Party::new(DELEGATES[place]));
        if matches!(manner, Manner::Honest | Manner::Dissenting) {
            self.good.insert(report.digest());
        }
        self.tell(place, DelegateEvent::Ran { report: Box::new(report), behind: Vec::new() })
    }

    fn tell(&mut self, place: usize, event: DelegateEvent) -> Result<(), TestCaseError> {
        let standing = Standing { passport: &self.stage.lent[place].2, revoked: &self.revoked };
        let Some(machine) = self.nodes[place].machine.as_mut() else { return Ok(()) };
        for action in machine.handle(event, at(self.now), &standing) {
            match action {
                DelegateAction::Send(message) => {
                    let output = match &*message {
                        ToDelegator::Answered { report, .. } => report.answer.and_then(|answer| answer.output),
                        _ => None,
                    };
                    let garbled = self.nodes[place].manner == Manner::Garbling && output.is_some();
                    let output = if garbled { Some(committed("garbled")) } else { output };
                    self.travel(Happening::ToDelegator(place, message, output));
                }
                DelegateAction::Execute(call) => {
                    let node = &mut self.nodes[place];
                    prop_assert!(node.begun.insert(call.digest()), "{place} runs {} twice", call.digest());
                    prop_assert!(node.running.is_none(), "{place} runs two at once");
                    let digest = call.digest();
                    node.running = Some(call);
                    let mute = node.manner == Manner::Mute;
                    let lasts = 10 + self.dice.below(3_000);
                    if !mute {
                        self.later(lasts, Happening::Ends(place, digest, at(self.now).date));
                    }
                }
                DelegateAction::Stop { call } => {
                    self.nodes[place].running = None;
                    self.later(20, Happening::Stopped(place, call));
                }
            }
        }
        Ok(())
    }

    fn lead(&mut self, event: DelegatorEvent) -> Result<(), TestCaseError> {
        let Some(machine) = self.delegator.as_mut() else { return Ok(()) };
        for action in machine.handle(event, at(self.now), &self.revoked) {
            match action {
                DelegatorAction::Send { loan, message } => {
                    let place = (0..DELEGATES.len()).find(|place| self.lease(*place) == loan).unwrap();
                    self.travel(Happening::ToDelegate(place, message));
                }
                DelegatorAction::Done { job, settled } => {
                    self.over(job, true)?;
                    self.settled(job, &settled)?;
                }
                DelegatorAction::GaveUp { job, .. } => self.over(job, false)?,
                DelegatorAction::Distrust { loan, why } => {
                    let place = (0..DELEGATES.len()).find(|place| self.lease(*place) == loan).unwrap();
                    let manner = self.nodes[place].manner;
                    let rightly =
                        matches!(manner, Manner::Lying | Manner::Garbling) || why.check == "delegator.dissent";
                    prop_assert!(rightly, "{manner:?} {place} is distrusted: {why}");
                }
                DelegatorAction::GiveBack { loan, why } => {
                    prop_assert!(why.check == "delegator.silent", "{loan} is given back: {why}");
                    let place = (0..DELEGATES.len()).find(|place| self.lease(*place) == loan).unwrap();
                    self.tell(place, DelegateEvent::Ended)?;
                }
            }
        }
        Ok(())
    }

    fn over(&mut self, job: JobId, done: bool) -> Result<(), TestCaseError> {
        prop_assert!(self.ended.insert(job.0, done).is_none(), "{job:?} ended twice");
        let (deadline, ..) = self.asked[&job.0];
        prop_assert!(self.now <= deadline, "{job:?} ended at {}, after {deadline}", self.now);
        Ok(())
    }

    fn settled(&self, job: JobId, settled: &Settled) -> Result<(), TestCaseError> {
        let (.., assurance) = self.asked[&job.0];
        prop_assert!(settled.answers.iter().all(|answer| self.good.contains(answer)), "{settled:?}");
        prop_assert!(settled.dissent.iter().all(|answer| settled.answers.contains(answer)));
        let agreed = settled.answers.len() - settled.dissent.len();
        prop_assert!(agreed >= usize::from(assurance.quorum()), "{agreed} agree: {assurance}");
        prop_assert!(!settled.dissent.contains(&settled.report.digest()));
        prop_assert_eq!(settled.report.seed, digest(&format!("question {}", job.0)));
        prop_assert_eq!(settled.statements.len(), settled.answers.len() * 3);
        Ok(())
    }
}

#[test]
fn in_a_friendly_world_every_question_has_its_answer() {
    let stage = Stage::new();
    for seed in 0..20 {
        let world = Hostile::new(&stage, seed, 0).run().unwrap();
        assert_eq!(world.asked.len(), JOBS as usize);
        let short = |job: &u64| world.asked[job].1 < 20_000;
        for (job, done) in &world.ended {
            assert!(*done || short(job), "seed {seed}: question {job} stays without an answer");
        }
        assert_eq!(world.ended.len(), JOBS as usize, "seed {seed}");
    }
}

#[test]
fn in_a_hostile_world_no_call_runs_twice_and_every_question_ends() {
    let stage = Stage::new();
    let (done, given_up) = (Cell::new(0_usize), Cell::new(0_usize));
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(any::<u64>(), 0_u64..70), |(seed, harm)| {
            let world = Hostile::new(&stage, seed, harm).run()?;
            if world.delegator.is_some() {
                prop_assert_eq!(world.ended.len(), world.asked.len(), "every question ends");
                prop_assert_eq!(world.delegator.as_ref().and_then(Delegator::next_timeout), None, "and nothing waits");
            }
            let resting = |node: &Node| node.machine.as_ref().is_none_or(|machine| machine.next_timeout().is_none());
            prop_assert!(world.nodes.iter().all(resting), "no execution is left");
            done.set(done.get() + world.ended.values().filter(|done| **done).count());
            given_up.set(given_up.get() + world.ended.values().filter(|done| !**done).count());
            Ok(())
        })
        .unwrap();
    assert!(done.get() > 200 && given_up.get() > 20, "{} done, {} given up", done.get(), given_up.get());
}
