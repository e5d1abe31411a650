//! Whatever happens to borrowers and lenders: after each step the books fit, a second pool that absorbs the records is equal, and
//! the history holds (`World::apply`).

use legation_core::Term;
use proptest::prelude::*;

use super::*;

/// The promises that something could be borrowed under, each with who holds it.
fn promises(one: &Running) -> Vec<(LeaseId, EnclaveId)> {
    let leases = one.world.pool.leases().iter().map(|(id, lease)| (*id, lease.enclave));
    leases.chain(loans(one).into_iter().map(|(id, lender, _)| (id, lender))).collect()
}

/// Loans that live: who is lent to whom.
fn loans(one: &Running) -> Vec<(LeaseId, EnclaveId, EnclaveId)> {
    let lending = one.world.pool.tasks()[&one.task].lending.as_ref();
    let live = lending.into_iter().flat_map(|lending| &lending.live);
    live.map(|(id, loan)| (*id, loan.enclave, loan.terms.borrower)).collect()
}

fn picked<T: Clone>(all: &[T], pick: u8) -> Option<T> {
    all.get(usize::from(pick).checked_rem(all.len())?).cloned()
}

/// One step; what is refused changes nothing, which `World::apply` sees to.
fn step(one: &mut Running, action: u8, pick: u8) -> Option<()> {
    let machines: Vec<EnclaveId> = one.world.machines.keys().copied().collect();
    let command = match action {
        0..=3 => {
            let (of, enclave) = picked(&promises(one), pick)?;
            let diverse = [None, Some(Diversity::Chip), Some(Diversity::Provider)][usize::from(pick % 3)];
            let little = Some(InTurn { depth: 1, budget: MicroUsd(60) });
            let in_turn = [terms().in_turn, little, None][usize::from(pick / 3 % 3)];
            let lent = loans(one).into_iter().filter(|(_, _, borrower)| *borrower == enclave).map(|(_, lent, _)| lent);
            let terms = diverse.map_or_else(terms, |by| apart(by, &lent.collect::<Vec<_>>()));
            let terms = LoanTerms { in_turn, seconds: 10 + u64::from(pick), ..terms };
            Command::Borrow { enclave, ask: 1, of, terms: Box::new(terms) }
        }
        4 => {
            let (loan, _, borrower) = picked(&loans(one), pick)?;
            let why = pick.is_multiple_of(2).then(|| Rejection::new("delegator.silent", "an answer"));
            Command::GiveBack { enclave: borrower, loan, why }
        }
        5 => Command::Lost { enclave: picked(&machines, pick)?, why: "reset".into() },
        6 => Command::Arrived { enclave: picked(&machines, pick)?, running: Vec::new() },
        7 => {
            let (lease, enclave, _) = picked(&loans(one), pick)?;
            Command::Refuse { enclave, lease, why: Rejection::new("agent.busy", "the engine") }
        }
        8 => {
            let waits = one.world.pool.leases().iter().find(|(_, lease)| !lease.offered).map(|(id, _)| *id)?;
            passing(&one.world, waits, &Key::new("client"), 2, delegable(None))
        }
        9 => {
            let term = Term(one.world.pool.term().0 + 1);
            let manager = one.world.appointment(&one.world.manager, legation_core::statement::Office::Manager);
            Command::BeginTerm { term, appointment: Box::new(manager) }
        }
        _ => Command::Tick,
    };
    drop(one.world.apply(command));
    Some(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_of_loans_fit_whatever_happens(steps in prop::collection::vec((0_u8..12, any::<u8>()), 1..48)) {
        let mut one = running([lender("b", "beta"), lender("c", "gamma"), lender("d", "beta")]);
        for (action, pick) in steps {
            one.world.now = one.world.now.plus(u64::from(pick % 9));
            step(&mut one, action, pick);
            for (loan, lender, borrower) in loans(&one) {
                prop_assert!(lender != borrower);
                for side in [lender, borrower] {
                    prop_assert!(one.world.pool.loan_parts(loan, side).is_ok());
                }
            }
        }
        one.restored();
        let task = one.task;
        if one.world.state(task) == legation_pool::TaskState::Live {
            one.world.apply(Command::Cancel { task }).unwrap();
        }
        prop_assert!(loans(&one).is_empty());
        prop_assert!(one.world.pool.enclaves().values().all(|enclave| enclave.leases().is_empty()));
    }
}
