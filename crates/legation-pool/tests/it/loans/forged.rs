//! Loans that no pool can have made: refused by the pool that reads them, and by the judgement of histories.

use legation_core::{Seq, Term, statement::Allocation};
use legation_pool::{Event, Record, check_history};

use super::*;

/// The last allocation of a loan, otherwise, signed by the manager.
fn lent(one: &Running, change: impl FnOnce(&mut Allocation)) -> Event {
    let last = one.world.records.iter().rev().find_map(|record| match &record.event {
        Event::Lent { allocation, .. } => Some((**allocation).clone()),
        _ => None,
    });
    let mut allocation = (*last.unwrap()).clone();
    allocation.lease = LeaseId(allocation.lease.0 + 1);
    if let Some(terms) = &mut allocation.loan {
        terms.number += 1;
    }
    change(&mut allocation);
    Event::Lent { allocation: Box::new(sign(allocation, &one.world.manager)), in_turn: None }
}

#[test]
fn forged_loans_are_found() {
    let mut one = running([lender("b", "beta").slots(1), lender("c", "gamma")]);
    let exclude = vec![Machine::new("c").id];
    let (loan, b) = one.borrow(LoanTerms { exclude, ..terms() }).unwrap();
    let c = Machine::new("c").id;
    let ended = |lease, charged| Event::LeaseEnded { lease, why: LeaseEnd::Expired, charged };
    let free = MicroUsd(0);
    let own = one.lease;
    let borrower = one.enclave;
    let misled = |by| {
        let why = LeaseEnd::Misled { by, why: Rejection::new("report.loan", "loan behind an answer") };
        Event::LeaseEnded { lease: own, why, charged: None }
    };
    // What is wrong, the check of the history, and whether the pool that reads it refuses it, too: it does not judge capacity.
    let cases: Vec<(&str, &str, bool, Vec<Event>)> = vec![
        ("good", "", false, vec![lent(&one, |a| a.enclave = c)]),
        ("of an older term", "history.allocation", false, vec![lent(&one, |a| (a.enclave, a.term) = (c, Term(0)))]),
        (
            "for longer",
            "history.loan",
            true,
            vec![lent(&one, |a| {
                (a.enclave, a.until) = (c, a.until.plus(10_000));
            })],
        ),
        (
            "not counted",
            "history.loan",
            true,
            vec![lent(&one, |a| {
                a.enclave = c;
                a.loan.as_mut().unwrap().number = 1;
            })],
        ),
        (
            "for nothing",
            "history.loan",
            true,
            vec![lent(&one, |a| {
                a.enclave = c;
                a.loan.as_mut().unwrap().of = LeaseId(99);
            })],
        ),
        ("to another", "history.loan", true, vec![lent(&one, |a| a.loan.as_mut().unwrap().borrower = c)]),
        ("to nobody", "history.loan", true, vec![lent(&one, |a| a.loan = None)]),
        ("of the borrower", "history.loan", true, vec![lent(&one, |a| a.enclave = borrower)]),
        (
            "on another promise",
            "history.loan",
            true,
            vec![lent(&one, |a| {
                a.enclave = c;
                a.prev[2] = Digest::of(b"other");
            })],
        ),
        ("more than there is", "history.capacity", false, vec![lent(&one, |a| a.enclave = b)]),
        ("ended for nothing", "history.loan", true, vec![ended(loan, None)]),
        ("ended twice", "history.ended", true, vec![ended(loan, Some(free)), ended(loan, Some(free))]),
        ("too dear", "history.budget", true, vec![ended(loan, Some(MicroUsd(u64::MAX)))]),
        ("outlived", "history.loan", true, vec![ended(own, None)]),
        ("misled", "", false, vec![ended(loan, Some(free)), misled(b)]),
        ("misled by another", "history.loan", true, vec![ended(loan, Some(free)), misled(c)]),
        ("a lease that is paid", "history.loan", true, vec![ended(loan, Some(free)), ended(own, Some(free))]),
    ];
    for (claim, check, by_pool, events) in cases {
        let mut records = one.world.records.clone();
        let mut pool = one.world.pool.clone();
        let mut refused = false;
        for event in events {
            let last = records.last().unwrap();
            let record = Record { seq: Seq(last.seq.0 + 1), event, ..last.clone() };
            let before = pool.clone();
            if pool.absorb(&record).is_err() {
                refused = true;
                assert!(pool == before, "{claim}: a record that cannot follow changed the pool");
            }
            records.push(record);
        }
        assert_eq!(refused, by_pool, "{claim}");
        let judged = check_history(&records).err().map(|why| why.check).unwrap_or_default();
        assert_eq!(judged, check, "{claim}");
    }
}
