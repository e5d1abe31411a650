//! What borrowers say of enclaves that are lent to them: how far these may borrow in turn, and that they are of no use.

use legation_core::{Seq, statement::LoanRef};
use legation_pool::{Event, Record};

use super::*;

fn in_turn(depth: u32, budget: u64) -> Option<InTurn> {
    Some(InTurn { depth, budget: MicroUsd(budget) })
}

/// A borrower whose grants let parts be passed on three times, and four that can be lent.
fn deep() -> Running {
    let lenders = ["b", "c", "d", "e"].map(|name| lender(name, name).slots(16));
    let mut fragment = delegating();
    fragment.delegates.as_mut().unwrap().depth = 3;
    let mut one = started(World::new(std::iter::once(Machine::new("a")).chain(lenders)), fragment, |_| ());
    one.pass(3, delegable(None));
    one
}

impl Running {
    /// Borrows under a loan.
    fn deeper(
        &mut self,
        (of, enclave): (LeaseId, EnclaveId),
        terms: LoanTerms,
    ) -> Result<(LeaseId, EnclaveId), Rejection> {
        let applied = self.world.apply(Command::Borrow { enclave, ask: 1, of, terms: Box::new(terms) })?;
        let lent = applied.effects.iter().find_map(|effect| match effect {
            Effect::Lend { enclave, loan } => Some((*loan, *enclave)),
            _ => None,
        });
        Ok(lent.unwrap())
    }

    fn give_back(&mut self, enclave: EnclaveId, loan: LeaseId, why: Option<&str>) {
        let why = why.map(|check| Rejection::new(check, "an answer").got("none"));
        self.world.apply(Command::GiveBack { enclave, loan, why }).unwrap();
    }

    fn wants_of(&self, loan: LeaseId) -> Option<InTurn> {
        self.world.pool.loan(loan).unwrap().1.in_turn
    }
}

#[test]
fn who_is_lent_borrows_as_deep_as_each_borrower_above_said() {
    let say = |said| LoanTerms { in_turn: said, ..terms() };
    // What is said of the first loan, and of the second; and what refuses the second and the third, if anything does.
    let cases = [
        (None, None, Some("loan.in-turn"), None),
        (in_turn(1, 1000), None, None, Some("loan.in-turn")),
        // The second's own word is no more than the first's.
        (in_turn(1, 1000), in_turn(8, 1000), None, Some("loan.in-turn")),
        (in_turn(2, 1000), None, None, Some("loan.in-turn")),
        (in_turn(2, 1000), in_turn(1, 1000), None, None),
    ];
    for (first, second, refused, refused_below) in cases {
        let mut one = deep();
        let lent = one.borrow(say(first)).unwrap();
        assert_eq!(one.wants_of(lent.0), first);
        let below = one.deeper(lent, say(second));
        assert_eq!(below.as_ref().err().map(|why| why.check.as_str()), refused, "{first:?} {second:?}");
        if let Ok(below) = below {
            let last = one.deeper(below, say(in_turn(8, 1000)));
            assert_eq!(last.as_ref().err().map(|why| why.check.as_str()), refused_below, "{first:?} {second:?}");
            if let Ok(last) = last {
                // Deeper than the client lets be passed on, whoever says what.
                assert_eq!(one.deeper(last, terms()).unwrap_err().check, "loan.depth");
            }
        }
        one.restored();
    }
}

/// Loans of a minute cost 34 at most, and 20 after 36 s.
#[test]
fn loans_under_a_loan_cost_no_more_together_than_was_said() {
    let long = |said| LoanTerms { in_turn: said, seconds: 300, ..terms() };
    let dear = |why: Rejection| assert!(why.check == "loan.capacity" && why.got.contains("pool.budget"), "{why}");
    let mut one = deep();
    let lent = one.borrow(long(in_turn(2, 70))).unwrap();
    let b = lent.1;
    let (first, _) = one.deeper(lent, terms()).unwrap();
    let (second, _) = one.deeper(lent, terms()).unwrap();
    dear(one.deeper(lent, terms()).unwrap_err());
    // What cost nothing leaves room; what cost something does not.
    one.give_back(b, first, None);
    let (third, _) = one.deeper(lent, terms()).unwrap();
    one.world.now = one.world.now.plus(36);
    one.give_back(b, second, None);
    dear(one.deeper(lent, terms()).unwrap_err());
    let shorter = one.deeper(lent, LoanTerms { seconds: 20, ..terms() });
    assert!(shorter.is_ok());
    assert!(one.world.pool.loan(third).is_some());
    one.restored();
    // The borrower of the fragment itself is bounded by the task's budget alone.
    assert!(one.borrow(long(None)).is_ok());

    // Whatever those between say: all levels count.
    let mut one = deep();
    let lent = one.borrow(long(in_turn(2, 70))).unwrap();
    let below = one.deeper(lent, LoanTerms { in_turn: in_turn(1, 1000), ..terms() }).unwrap();
    one.deeper(below, terms()).unwrap();
    dear(one.deeper(below, terms()).unwrap_err());
    dear(one.deeper(lent, terms()).unwrap_err());
    one.restored();
}

#[test]
fn who_is_lent_does_not_use_up_what_a_task_may_be_given() {
    let mut one = deep();
    let lent = one.borrow(LoanTerms { in_turn: in_turn(2, 1000), ..terms() }).unwrap();
    for n in 0..LOANS_EVER_MAX / 4 {
        let (loan, _) = one.deeper(lent, terms()).unwrap_or_else(|why| panic!("{n}: {why}"));
        one.give_back(lent.1, loan, None);
    }
    assert_eq!(one.deeper(lent, terms()).unwrap_err().check, "loan.count");
    let other = one.borrow(terms()).unwrap();
    assert!(one.deeper(other, terms()).is_ok());
}

/// A record of a loan that no borrower let be is refused by whoever reads it.
#[test]
fn loans_that_were_not_let_be_cannot_follow() {
    for (said, stands) in [(None, false), (in_turn(1, 33), false), (in_turn(1, 34), true)] {
        let mut one = deep();
        let (loan, b) = one.borrow(LoanTerms { in_turn: said, ..terms() }).unwrap();
        let above = one.world.pool.loan(loan).unwrap().1.allocation.clone();
        let mut below = (*above).clone();
        below.lease = LeaseId(above.lease.0 + 1);
        below.enclave = one.world.pool.enclaves().keys().copied().find(|id| *id != b && *id != one.enclave).unwrap();
        below.loan = below.loan.map(|terms| LoanRef { of: loan, borrower: b, number: 1, ..terms });
        below.prev[2] = above.digest();
        let event = Event::Lent { allocation: Box::new(sign(below, &one.world.manager)), in_turn: None };
        let last = one.world.records.last().unwrap();
        let record = Record { seq: Seq(last.seq.0 + 1), event, ..last.clone() };
        assert_eq!(one.world.pool.absorb(&record).is_ok(), stands, "{said:?}");
    }
}

/// What is of no use: unpaid for ten seconds, not lent to the same again, and to others of the task where there is nobody else.
#[test]
fn who_is_of_no_use_is_avoided_and_not_paid_at_once() {
    for (seconds, charged) in [(0, 0), (10, 0), (36, 15)] {
        let mut one = running([lender("b", "beta"), lender("c", "gamma").at("gamma", "eu-1", 3)]);
        let (borrower, b) = (one.enclave, Machine::new("b").id);
        let (loan, lent) = one.borrow(terms()).unwrap();
        assert_eq!(lent, b);
        one.world.now = one.world.now.plus(seconds);
        one.give_back(borrower, loan, Some("delegator.silent"));
        let (end, cost) = one.last_end();
        assert!(matches!(&end, LeaseEnd::Unfit { why } if why.check == "delegator.silent") && !end.blames_enclave());
        assert_eq!(cost, MicroUsd(charged), "after {seconds} s");
        one.restored();
        let (_, other) = one.borrow(terms()).unwrap();
        assert_eq!(other, Machine::new("c").id);
        let why = one.refused(LoanTerms { exclude: vec![other], ..terms() });
        assert!(why.check == "loan.capacity" && why.fix.contains("rule nobody out"), "{why}");
    }
}

#[test]
fn one_borrowers_word_does_not_bind_the_others_of_its_task() {
    let lenders = [lender("b", "beta"), lender("c", "gamma").at("gamma", "eu-1", 3)];
    let alone = ["a", "z"].map(|name| Machine::new(name).slots(1));
    let mut world = World::new(alone.into_iter().chain(lenders));
    let request =
        request("client", "two", world.now, vec![delegating(), Fragment { name: "other".into(), ..delegating() }]);
    let request = sign(request, &world.client);
    let task = world.submit(&request);
    let (lease, enclave) = world.lease(task, 0).unwrap();
    let (other_lease, other) = world.lease(task, 1).unwrap();
    assert_ne!(enclave, other);
    let mut one = Running { world, task, lease, enclave };
    one.pass(2, delegable(None));
    (one.lease, one.enclave) = (other_lease, other);
    one.pass(2, delegable(None));
    let (b, c) = (Machine::new("b").id, Machine::new("c").id);
    let without_c = || LoanTerms { exclude: vec![c], ..terms() };
    let (loan, lent) = one.borrow(terms()).unwrap();
    assert_eq!(lent, b);
    one.give_back(other, loan, Some("delegator.unavailable"));
    (one.lease, one.enclave) = (lease, enclave);
    assert_eq!(one.borrow(terms()).unwrap().1, c);
    assert_eq!(one.borrow(without_c()).unwrap().1, b);
    (one.lease, one.enclave) = (other_lease, other);
    assert_eq!(one.refused(without_c()).check, "loan.capacity");
    one.restored();
}
