//! Answers around the end of their loan: what was said before it counts, and nothing after, whoever ended it and why.

use super::*;

/// How far clocks may be apart.
const SKEW: u64 = 60;

fn long_terms() -> LoanTerms {
    LoanTerms { seconds: 600, ..terms() }
}

impl Running {
    /// Has an enclave attested a second later, by another verifier or by the usual one.
    fn vouched(&mut self, enclave: EnclaveId, verifier: Option<&Key>) {
        self.world.now = self.world.now.plus(1);
        let (machine, until) = (&self.world.machines[&enclave], self.world.now.plus(3600));
        let command = self.world.attested_by(verifier.unwrap_or(&self.world.verifier), None, machine, until);
        self.world.apply(command).unwrap();
    }

    fn withdraw(&mut self, enclave: EnclaveId, verifier: &Key) -> Applied {
        let why = Rejection::new("appraisal.tcb", "security version").expected("8").got("7");
        let verifier = verifier.public_key().id();
        self.world.apply(Command::Withdraw { enclave, verifier, why }).unwrap()
    }

    /// What came of one call, where its answer names this passport.
    pub(super) fn naming(&self, loan: LeaseId, passport: Digest) -> Called {
        let mut called = self.called(loan);
        let enclave = self.loan_of(loan).enclave;
        let mut said = called.answers.remove(0).predicate().clone();
        said.prev[1] = passport;
        let answer = sign(said, &self.world.machines[&enclave].key);
        called.attached.pop();
        called.attached.push(answer.envelope().clone());
        called.answers.push(answer);
        called
    }

    fn is_taken(&mut self, called: Called) {
        self.report(called);
        assert_eq!(self.world.state(self.task), TaskState::Completed, "{:?}", self.world.tries(self.task, 0));
    }
}

#[test]
fn what_is_answered_after_a_loan_ended_does_not_count() {
    for (late, taken) in [(0, true), (SKEW, true), (SKEW + 1, false)] {
        let mut one = running([lender("b", "beta")]);
        let (loan, _) = one.borrow(long_terms()).unwrap();
        // Both sides go on, whatever they were told.
        let began = one.world.now;
        one.world.now = began.plus(late);
        let called = one.called(loan);
        one.world.now = began;
        let why = Some(Rejection::new("delegator.silent", "an answer"));
        one.world.apply(Command::GiveBack { enclave: one.enclave, loan, why }).unwrap();
        assert_eq!(one.last_end().1, MicroUsd(0));
        one.restored();
        one.world.now = began.plus(late);
        if taken {
            one.is_taken(called);
        } else {
            one.report(called);
            let why = one.why_not();
            assert!(why.check == "report.loan" && why.got.contains("ended at"), "{why}");
        }
    }
}

/// Whatever other proofs its enclave has: what it answered before counts, for the loan that it had then.
#[test]
fn a_loan_ends_when_a_passport_is_taken_back_that_its_answers_may_name() {
    let second = Key::new("second");
    let started = || {
        let mut one = running([lender("b", "beta")]);
        let b = Machine::new("b").id;
        one.vouched(b, Some(&second));
        let (loan, _) = one.borrow(long_terms()).unwrap();
        let called = one.called(loan);
        let taken_back = one.passport(b);
        assert_eq!(taken_back.verifier_id(), second.public_key().id());
        one.withdraw(b, &second);
        assert!(one.world.pool.loan(loan).is_none());
        assert!(matches!(one.last_end().0, LeaseEnd::Lapsed { .. }));
        one.restored();
        (one, called, taken_back.digest())
    };
    let (mut one, called, _) = started();
    one.is_taken(called);
    // The other proof is good for another loan; the one that was taken back is not.
    for taken in [true, false] {
        let (mut one, _, taken_back) = started();
        let (loan, b) = one.borrow(long_terms()).unwrap();
        let good = one.passport(b).digest();
        assert_ne!(good, taken_back);
        if taken {
            let called = one.naming(loan, good);
            one.is_taken(called);
        } else {
            one.report(one.naming(loan, taken_back));
            assert_eq!(one.why_not().check, "report.passport");
        }
    }
}

/// Answers may rest on any proof that a lender had meanwhile; one that never stops attesting is lent no longer.
#[test]
fn proofs_of_a_lender_are_kept_and_bounded() {
    let mut one = running([lender("b", "beta")]);
    let (loan, b) = one.borrow(long_terms()).unwrap();
    let first = one.passport(b).digest();
    for _ in 0..8 {
        one.vouched(b, None);
    }
    assert_ne!(one.passport(b).digest(), first);
    one.restored();
    let called = one.naming(loan, first);
    one.is_taken(called);

    let mut one = running([lender("b", "beta")]);
    let (loan, b) = one.borrow(long_terms()).unwrap();
    for _ in 0..511 {
        one.world.wait(0);
        one.vouched(b, None);
    }
    assert!(one.world.pool.loan(loan).is_some());
    one.world.wait(0);
    assert!(one.world.pool.loan(loan).is_none());
    assert!(matches!(&one.last_end().0, LeaseEnd::Lapsed { why } if why.check == "loan.proofs"));
}
