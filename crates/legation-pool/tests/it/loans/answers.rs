//! Reports that rest on answers of enclaves that were lent: taken when they hold together, and kept where the journal has them.

use std::collections::BTreeSet;

use legation_core::{
    Envelope, Signer,
    delegation::{
        Call, CallDemand, Sum,
        attenuate::{Onward, widest},
    },
    monitor::{CallSet, Feature, Monitored, Verdict},
    statement::{Allocation, Answer, Committed, Outcome, Passport, Report, Usage},
};
use legation_pool::{Attached, Record, TaskState};

use super::*;

mod ended;
mod misled;
mod proofs;
mod trust;

/// A check, and what it notices.
type Spoiled<'a> = (&'a str, fn(&mut Called));

/// What came of calls, as a delegator has it when it reports.
#[derive(Clone, Default)]
struct Called {
    answers: Vec<Signed<Report>>,
    dissent: Vec<Digest>,
    attached: Vec<Envelope>,
}

fn committed(text: &str) -> Committed {
    Committed { size: Bytes(10), commitment: Digest::of(text.as_bytes()) }
}

impl Running {
    fn passport(&self, enclave: EnclaveId) -> Signed<Passport> {
        self.world.pool.enclaves().get(&enclave).unwrap().proof().whole(&self.world.records).unwrap().passport
    }

    fn loan_of(&self, loan: LeaseId) -> Signed<Allocation> {
        self.world.pool.loan(loan).unwrap().1.allocation.clone()
    }

    /// The grant by which a borrower passes these on to whom it was lent.
    fn child(&self, parents: &[Signed<Grant>], loan: LeaseId) -> Signed<Grant> {
        let allocation = self.loan_of(loan);
        let borrower = &self.world.machines[&allocation.loan.unwrap().borrower].key;
        let to = (allocation.enclave, allocation.until);
        let onward = Onward { depth: 1, most: Sum { fuel: Fuel(u64::MAX), cost: MicroUsd(u64::MAX) } };
        sign(widest(parents, borrower.public_key(), allocation.fragment, to, onward).unwrap(), borrower)
    }

    fn call(&self, loan: LeaseId, grant: &Signed<Grant>, number: u64, assurance: Assurance) -> Signed<Call> {
        let allocation = self.loan_of(loan);
        let borrower = &self.world.machines[&allocation.loan.unwrap().borrower].key;
        let demand = CallDemand { fuel: Fuel(1000), memory: Bytes::mib(1), time: Millis(5000), output: Bytes::mib(1) };
        let call = Call {
            delegator: borrower.public_key(),
            task: allocation.task,
            fragment: allocation.fragment,
            loan,
            number,
            question: Digest::of(b"question"),
            challenge: Digest::of(b"challenge"),
            module: called(),
            args: Vec::new(),
            input: committed("input"),
            demand,
            assurance,
            created: self.world.now,
            expires: self.world.now.plus(20),
            prev: vec![allocation.digest(), grant.digest()],
        };
        sign(call, borrower)
    }

    fn answer(&self, call: &Signed<Call>, grant: &Signed<Grant>, output: &str, more: &[Digest]) -> Signed<Report> {
        let allocation = self.loan_of(call.loan);
        let lender = &self.world.machines[&allocation.enclave].key;
        let passport = self.passport(allocation.enclave).digest();
        let mut prev = vec![allocation.digest(), passport, grant.digest(), call.digest()];
        prev.extend(more);
        let report = Report {
            enclave: lender.public_key(),
            task: call.task,
            fragment: call.fragment,
            lease: call.loan,
            module: call.module,
            inputs: vec![call.input.commitment],
            seed: call.question,
            outcome: Outcome::Completed,
            output: None,
            log: None,
            usage: Usage { fuel: Fuel(500), memory_peak: Bytes(1), host_calls: 1, micros: 1000 },
            started: self.world.now,
            finished: self.world.now,
            answer: Some(Answer { call: call.digest(), output: Some(committed(output)), trace: Digest::of(b"trace") }),
            dissent: Vec::new(),
            monitor: None,
            prev,
        };
        sign(report, lender)
    }

    fn grants(&self) -> Vec<Signed<Grant>> {
        self.world.pool.offer(self.lease).unwrap().grants
    }

    /// One call of one loan, answered.
    fn called(&self, loan: LeaseId) -> Called {
        let grant = self.child(&self.grants(), loan);
        let call = self.call(loan, &grant, 1, Assurance::Attested);
        let answer = self.answer(&call, &grant, "output", &[]);
        let attached = vec![grant.envelope().clone(), call.envelope().clone(), answer.envelope().clone()];
        Called { answers: vec![answer], dissent: Vec::new(), attached }
    }

    /// Three loans that were asked the same; the last says otherwise.
    fn replicated(&mut self) -> Called {
        self.voting(["output", "output", "another"])
    }

    /// Three loans that were asked the same, and said this, of which `another` is in the minority.
    fn voting(&mut self, outputs: [&str; 3]) -> Called {
        let mut from = Vec::new();
        let assurance = Assurance::Replicated { k: 3, diverse: Diversity::Provider };
        let mut called = Called::default();
        for output in outputs {
            let (loan, lender) = self.borrow(apart(Diversity::Provider, &from)).unwrap();
            from.push(lender);
            let grant = self.child(&self.grants(), loan);
            let call = self.call(loan, &grant, 1, assurance);
            let answer = self.answer(&call, &grant, output, &[]);
            called.attached.extend([grant.envelope(), call.envelope(), answer.envelope()].map(Clone::clone));
            if output == "another" {
                called.dissent.push(answer.digest());
            }
            called.answers.push(answer);
        }
        called
    }

    /// Reports the fragment with what was called; the passports come out of the journal, as managers read them.
    fn report(&mut self, called: Called) -> Applied {
        let Called { answers, dissent, attached } = called;
        let mut ran = self.world.ran(self.lease);
        ran.report.prev.extend(answers.iter().map(Signed::digest));
        ran.report.dissent = dissent;
        let mut attached = Attached::open(attached).unwrap();
        let proofs = self.world.pool.proofs_named(self.task, &attached.passports_wanted());
        attached.prove(proofs.iter().map(|proof| proof.whole(&self.world.records).unwrap().passport));
        let Command::Report { enclave, report, aggregate, keys, .. } = self.world.reporting(self.enclave, ran) else {
            unreachable!()
        };
        let attached = Box::new(attached);
        self.world.apply(Command::Report { enclave, report, aggregate, keys, attached }).unwrap()
    }

    /// Why the first try of the fragment was not taken.
    fn why_not(&self) -> Rejection {
        match &self.world.tries(self.task, 0)[0].1 {
            Some(LeaseEnd::Refused { why } | LeaseEnd::Misled { why, .. }) => why.clone(),
            other => panic!("taken: {other:?}"),
        }
    }
}

#[test]
fn a_report_keeps_its_answers_and_a_receipt_has_all_that_they_rest_on() {
    let mut one = running([lender("b", "beta")]);
    let (loan, b) = one.borrow(terms()).unwrap();
    let called = one.called(loan);
    let allocation = one.loan_of(loan);
    // Given back before the report: what was said counts.
    one.world.apply(Command::GiveBack { enclave: one.enclave, loan, why: None }).unwrap();
    one.restored();
    did(&one.report(called.clone()), &["reported #0", "completed"]);
    assert_eq!(one.world.state(one.task), TaskState::Completed);
    one.restored();
    let receipt = one.world.receipt(one.task);
    let held: BTreeSet<_> = receipt.envelopes.iter().map(Envelope::digest).collect();
    let passport = one.passport(b).digest();
    let needed = called.attached.iter().map(Envelope::digest).chain([allocation.digest(), passport]);
    for needed in needed {
        assert!(held.contains(&needed), "{needed}");
    }
    assert_eq!(receipt.evidence.len(), 2);
    // The journal has it, and nobody else: a record without it makes no receipt.
    let changed = |record: &Record| {
        let mut record = record.clone();
        if let legation_pool::Event::Reported { attached, .. } = &mut record.event {
            attached.pop();
        }
        record
    };
    let records: Vec<Record> = one.world.records.iter().map(changed).collect();
    assert_eq!(one.world.pool.receipt(one.task, &records).unwrap_err().check, "archive.record");
    // As it is written, it is read.
    let record = one.world.records.iter().find(|r| r.event.kind() == "reported").unwrap();
    let text = serde_json::to_string(record).unwrap();
    assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), record);
}

#[test]
fn replicas_are_voted_on_and_who_disagrees_is_named() {
    let three = || running([lender("b", "beta"), lender("c", "gamma"), lender("d", "delta")]);
    let mut one = three();
    let called = one.replicated();
    one.report(called);
    assert_eq!(one.world.state(one.task), TaskState::Completed);
    let receipt = one.world.receipt(one.task);
    assert_eq!(receipt.evidence.len(), 4);
    let cases: [Spoiled<'_>; 3] = [
        ("report.dissent", |called| called.dissent.clear()),
        ("report.dissent", |called| called.dissent = vec![called.answers[0].digest()]),
        // One of three is no majority; and who would make it one is left out.
        ("vote.tie", |called| {
            called.answers.remove(0);
            called.attached.drain(..3);
            called.dissent.clear();
        }),
    ];
    for (check, change) in cases {
        let mut one = three();
        let mut called = one.replicated();
        change(&mut called);
        one.report(called);
        assert_eq!(one.why_not().check, check);
    }
}

/// Each with one thing wrong: the report costs its enclave the lease, and says why.
#[test]
fn answers_that_do_not_hold_are_refused() {
    type Change = fn(&Running, LeaseId, &mut Called);
    let cases: [(&str, Change); 8] = [
        ("report.attached", |_, _, called| drop(called.attached.pop())),
        ("report.attached", |_, _, called| drop(called.attached.remove(1))),
        ("delegation.missing", |_, _, called| drop(called.attached.remove(0))),
        // What nobody needs.
        ("report.attached", |one, loan, called| {
            let more = one.call(loan, &one.child(&one.grants(), loan), 2, Assurance::Attested);
            called.attached.push(more.envelope().clone());
        }),
        ("report.attached", |_, _, called| called.answers.clear()),
        ("report.answer", |_, _, called| called.answers.push(called.answers[0].clone())),
        // Two answers to what was asked of one; and one number twice.
        ("report.question", |one, loan, called| {
            let grant = one.child(&one.grants(), loan);
            let call = one.call(loan, &grant, 2, Assurance::Attested);
            let answer = one.answer(&call, &grant, "output", &[]);
            called.attached.extend([call.envelope().clone(), answer.envelope().clone()]);
            called.answers.push(answer);
        }),
        ("report.call", |one, loan, called| {
            let grant = one.child(&one.grants(), loan);
            let call =
                Call { question: Digest::of(b"other"), ..(*one.call(loan, &grant, 1, Assurance::Attested)).clone() };
            let call = sign(call, &one.world.machines[&one.enclave].key);
            let answer = one.answer(&call, &grant, "output", &[]);
            called.attached.extend([call.envelope().clone(), answer.envelope().clone()]);
            called.answers.push(answer);
        }),
    ];
    for (check, change) in cases {
        let mut one = running([lender("b", "beta")]);
        let (loan, _) = one.borrow(terms()).unwrap();
        let mut called = one.called(loan);
        change(&one, loan, &mut called);
        one.report(called);
        assert_eq!(one.why_not().check, check, "{}", one.why_not());
        // The loan went with the lease.
        assert!(one.world.pool.loan(loan).is_none());
    }
}

#[test]
fn answers_rest_on_answers_as_deep_as_loans_do() {
    let mut one = running([lender("b", "beta"), lender("c", "gamma")]);
    let (first, b) = one.borrow(terms()).unwrap();
    let deeper = Command::Borrow { enclave: b, ask: 1, of: first, terms: Box::new(terms()) };
    one.world.apply(deeper).unwrap();
    let second = LeaseId(3);
    let grant = one.child(&one.grants(), first);
    let call = one.call(first, &grant, 1, Assurance::Attested);
    let below = one.child(std::slice::from_ref(&grant), second);
    let asked = one.call(second, &below, 1, Assurance::Attested);
    let told = one.answer(&asked, &below, "below", &[]);
    let answer = one.answer(&call, &grant, "output", &[told.digest()]);
    let attached: Vec<Envelope> =
        [grant.envelope(), call.envelope(), below.envelope(), asked.envelope(), told.envelope(), answer.envelope()]
            .map(Clone::clone)
            .into();
    one.report(Called { answers: vec![answer], dissent: Vec::new(), attached });
    assert_eq!(one.world.state(one.task), TaskState::Completed, "{:?}", one.world.tries(one.task, 0));
    assert_eq!(one.world.receipt(one.task).evidence.len(), 3);
    one.restored();
}

#[test]
fn alarms_of_who_was_lent_count_for_it() {
    let mut one = running([lender("b", "beta")]);
    let (loan, b) = one.borrow(terms()).unwrap();
    let grant = one.child(&one.grants(), loan);
    let call = one.call(loan, &grant, 1, Assurance::Attested);
    let answer = one.answer(&call, &grant, "output", &[]);
    let (trace, worst) = (Digest::of(b"trace"), Some(Feature::Fuel));
    let said = Monitored { calls: CallSet::EMPTY, trace, verdict: Verdict::Alarm, evidence: 6700, worst };
    let answer = Report { monitor: Some(said), ..answer.predicate().clone() };
    let answer = sign(answer, &one.world.machines[&b].key);
    // It says so of another call, too: reports are counted, not answers.
    let again = Call { question: Digest::of(b"another"), ..(*one.call(loan, &grant, 2, Assurance::Attested)).clone() };
    let again = sign(again, &one.world.machines[&one.enclave].key);
    let second = Report { monitor: Some(said), ..one.answer(&again, &grant, "output", &[]).predicate().clone() };
    let second = sign(second, &one.world.machines[&b].key);
    let attached = [grant.envelope(), call.envelope(), answer.envelope(), again.envelope(), second.envelope()];
    let attached = attached.map(Clone::clone).into();
    one.report(Called { answers: vec![answer, second], dissent: Vec::new(), attached });
    assert_eq!(one.world.state(one.task), TaskState::Completed, "{:?}", one.world.tries(one.task, 0));
    let alarms = |enclave: EnclaveId| one.world.pool.enclaves()[&enclave].alarms();
    assert_eq!((alarms(b), alarms(one.enclave)), (1, 0));
    one.restored();
}

/// A lender that is revoked after it has answered: what it said before counts, as for every reader of the receipt.
#[test]
fn what_was_answered_before_a_revocation_counts() {
    let mut one = running([lender("b", "beta")]);
    let (loan, b) = one.borrow(terms()).unwrap();
    let called = one.called(loan);
    one.world.now = one.world.now.plus(5);
    one.world.revoke(Revocable::Enclave(b));
    one.report(called);
    assert_eq!(one.world.state(one.task), TaskState::Completed, "{:?}", one.world.tries(one.task, 0));
}

#[test]
fn what_comes_with_a_report_is_bounded_and_opened() {
    let mut one = running([lender("b", "beta")]);
    let (loan, _) = one.borrow(terms()).unwrap();
    let called = one.called(loan);
    let request = one.world.pool.tasks()[&one.task].request.envelope().clone();
    let open = |envelopes: Vec<Envelope>| Attached::open(envelopes).map(|attached| attached.is_empty());
    assert_eq!(open(Vec::new()), Ok(true));
    // Twice the same is once.
    let mut twice = Attached::open([called.attached.clone(), called.attached.clone()].concat()).unwrap();
    twice.prove(Vec::new());
    assert_eq!(twice.passports_wanted().len(), 1);
    let many = vec![called.attached[0].clone(); legation_pool::ATTACHED_MAX + 1];
    let text = serde_json::to_string(&called.attached[0]).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 7;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged: Envelope = serde_json::from_str(&format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    for bad in [vec![request], many, vec![forged]] {
        assert_eq!(open(bad).unwrap_err().check, "report.attached");
    }
}
