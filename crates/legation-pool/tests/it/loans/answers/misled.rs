//! Answers that only the pool can see through: who signed them is at fault, and not the borrower, who cannot know.

use super::*;

impl Running {
    /// Who misled the enclave of the first try, if anybody did.
    fn misled_by(&self) -> Option<EnclaveId> {
        match &self.world.tries(self.task, 0)[0].1 {
            Some(LeaseEnd::Misled { by, .. }) => Some(*by),
            Some(LeaseEnd::Refused { .. }) => None,
            other => panic!("taken: {other:?}"),
        }
    }

    /// The second try, which may hand on as the first did.
    fn second_try(&mut self) {
        let (lease, enclave) = self.world.lease(self.task, 0).unwrap();
        assert_ne!(lease, self.lease);
        (self.lease, self.enclave) = (lease, enclave);
        self.pass(2, delegable(None));
    }

    /// An answer of `b` that rests on one which `change` makes, signed by `c` as what `b` was lent.
    fn resting_on(&mut self, change: impl FnOnce(&mut Report)) -> Called {
        self.resting_on_another(None, change)
    }

    /// The same, where the loan of `c` is said to be by another allocation.
    fn resting_on_another(&mut self, allocation: Option<Digest>, change: impl FnOnce(&mut Report)) -> Called {
        let (first, b) = self.borrow(terms()).unwrap();
        let deeper = Command::Borrow { enclave: b, ask: 1, of: first, terms: Box::new(terms()) };
        let applied = self.world.apply(deeper).unwrap();
        let second = applied.effects.iter().find_map(|effect| match effect {
            Effect::Lend { loan, .. } => Some(*loan),
            _ => None,
        });
        let second = second.unwrap();
        let lent = self.loan_of(second).enclave;
        let grant = self.child(&self.grants(), first);
        let call = self.call(first, &grant, 1, Assurance::Attested);
        let below = self.child(std::slice::from_ref(&grant), second);
        let mut asked = self.call(second, &below, 1, Assurance::Attested).predicate().clone();
        let named = allocation.unwrap_or(asked.prev[0]);
        asked.prev[0] = named;
        let asked = sign(asked, &self.world.machines[&b].key);
        let mut told = self.answer(&asked, &below, "below", &[]).predicate().clone();
        told.prev[0] = named;
        change(&mut told);
        let told = sign(told, &self.world.machines[&lent].key);
        let answer = self.answer(&call, &grant, "output", &[told.digest()]);
        let attached =
            [grant.envelope(), call.envelope(), below.envelope(), asked.envelope(), told.envelope(), answer.envelope()];
        let attached = attached.map(Clone::clone).into();
        Called { answers: vec![answer], dissent: Vec::new(), attached }
    }
}

/// What no enclave can tell: a loan or a passport below, which the pool never heard of. Whoever was lent directly signed for it.
#[test]
fn who_misleads_a_borrower_is_at_fault_and_is_lent_to_the_task_no_more() {
    type Change = fn(&mut Report);
    let cases: [(&str, Change); 2] = [
        ("report.loan", |told| told.lease = LeaseId(99)),
        ("report.passport", |told| told.prev[1] = Digest::of(b"of no journal")),
    ];
    for (check, change) in cases {
        let mut one = running([lender("b", "beta"), lender("c", "gamma")]);
        let called = one.resting_on(change);
        let liar = called.answers[0].enclave.enclave_id();
        let borrower = one.enclave;
        one.report(called);
        assert_eq!((one.why_not().check.as_str(), one.misled_by()), (check, Some(liar)), "{}", one.why_not());
        one.restored();
        let trust = |enclave: EnclaveId| one.world.pool.enclave_view(enclave, one.world.now).unwrap().trust;
        let marked = trust(liar).unwrap();
        assert_eq!((marked.dissents, marked.found[0].hints), (0, 1), "{marked:?}");
        assert!(trust(borrower).is_none());
        one.second_try();
        // The borrower is as good as before, whatever is left to choose from.
        assert!(
            one.enclave == borrower
                || one.world.pool.ranking(one.task, legation_core::FragmentIndex(0), one.world.now).is_empty()
        );
        for _ in 0..2 {
            if let Ok((loan, lent)) = one.borrow(terms()) {
                assert_ne!(lent, liar, "{check}");
                assert_eq!(one.loan_of(loan).enclave, lent);
            }
        }
        // Records are read as they are written.
        let record = one.world.records.iter().find(|r| r.event.kind() == "lease-ended").unwrap();
        let text = serde_json::to_string(record).unwrap();
        assert_eq!(&serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}

/// A loan that was given, said otherwise than it was: who borrowed it made that up.
#[test]
fn who_says_otherwise_of_a_loan_than_it_was_given_is_at_fault() {
    let mut one = running([lender("b", "beta"), lender("c", "gamma")]);
    let called = one.resting_on_another(Some(Digest::of(b"another allocation")), |_| ());
    let liar = called.answers[0].enclave.enclave_id();
    one.report(called);
    assert_eq!((one.why_not().check.as_str(), one.misled_by()), ("report.loan", Some(liar)), "{}", one.why_not());
    one.restored();
}

/// A loan that had ended: its borrower knew, and whoever is above it could not.
#[test]
fn who_rests_on_what_was_answered_after_its_loan_ended_is_at_fault() {
    let mut one = running([lender("b", "beta"), lender("c", "gamma")]);
    let called = one.resting_on(|told| {
        (told.started, told.finished) = (told.started.plus(61), told.finished.plus(61));
    });
    let b = called.answers[0].enclave.enclave_id();
    one.world.apply(Command::GiveBack { enclave: b, loan: LeaseId(3), why: None }).unwrap();
    one.report(called);
    let why = one.why_not();
    assert!(why.check == "report.loan" && why.got.contains("ended at"), "{why}");
    assert_eq!(one.misled_by(), Some(b));
    one.restored();
}

/// Who misreports its own doing is at fault for that, whatever it was told.
#[test]
fn nobody_hides_a_fault_behind_another() {
    let mut one = running([lender("b", "beta"), lender("c", "gamma")]);
    let called = one.resting_on(|told| told.lease = LeaseId(99));
    let mut ran = one.world.ran(one.lease);
    ran.report.prev.extend(called.answers.iter().map(Signed::digest));
    ran.report.inputs.push(Digest::of(b"what it was not given"));
    let Command::Report { enclave, report, aggregate, keys, .. } = one.world.reporting(one.enclave, ran) else {
        unreachable!()
    };
    let attached = Box::new(Attached::open(called.attached).unwrap());
    one.world.apply(Command::Report { enclave, report, aggregate, keys, attached }).unwrap();
    assert_eq!((one.why_not().check.as_str(), one.misled_by()), ("report.content", None));
}

/// As often as there are enclaves that mislead: it counts as no try, and the task goes on to a good end.
#[test]
fn liars_do_not_use_up_the_tries_of_a_task() {
    let liars: Vec<_> = (0..10).map(|n| lender(&format!("liar {n}"), "beta")).collect();
    let mut one = running(liars);
    for tries in 1..=9 {
        let (loan, lent) = one.borrow(terms()).unwrap();
        let called = one.naming(loan, Digest::of(b"of no journal"));
        one.report(called);
        let all = one.world.tries(one.task, 0);
        assert_eq!(all.len(), tries + 1, "{all:?}");
        assert!(matches!(&all[tries - 1].1, Some(LeaseEnd::Misled { by, .. }) if *by == lent), "{all:?}");
        one.second_try();
    }
    let (loan, _) = one.borrow(terms()).unwrap();
    one.report(one.called(loan));
    assert_eq!(one.world.state(one.task), TaskState::Completed);
}

/// A borrower that makes an answer up, or changes one, slanders nobody: what is not signed by who was lent is its own doing.
#[test]
fn a_borrower_that_makes_answers_up_is_at_fault_itself() {
    let mut one = running([lender("b", "beta")]);
    let (loan, _) = one.borrow(terms()).unwrap();
    let mut called = one.naming(loan, Digest::of(b"of no journal"));
    let mut said = called.answers.remove(0).predicate().clone();
    let own = &one.world.machines[&one.enclave].key;
    said.enclave = own.public_key();
    let answer = sign(said, own);
    called.attached.pop();
    called.attached.push(answer.envelope().clone());
    called.answers.push(answer);
    one.report(called);
    assert_eq!(one.misled_by(), None, "{}", one.why_not());
    // Nor does one that names a loan which it never had.
    let mut one = running([lender("b", "beta")]);
    let (loan, lent) = one.borrow(terms()).unwrap();
    let mut called = one.called(loan);
    let mut said = called.answers.remove(0).predicate().clone();
    said.lease = LeaseId(99);
    let answer = sign(said, &one.world.machines[&lent].key);
    called.attached.pop();
    called.attached.push(answer.envelope().clone());
    called.answers.push(answer);
    one.report(called);
    assert_eq!((one.why_not().check.as_str(), one.misled_by()), ("report.loan", None));
}
