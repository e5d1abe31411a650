//! Whose fault it is that a loan is of no use: an enclave is blamed for its own alone, because the pool remembers it.

use legation_core::{
    Rejection, Revoked,
    delegation::session::{BUSY, PROOF_COST, SPENT, STALE_CHALLENGE},
};

use crate::offer::Under;

/// Characters of each part of a reason that the manager is told.
const BRIEF: usize = 200;

/// Whether a loan is given back for what its borrower cannot do, or may not any more.
pub(super) fn is_borrowers(why: &Rejection, under: &Under, revoked: &Revoked) -> bool {
    match &*why.check {
        SPENT | "delegator.loans" | "delegator.loan" => true,
        "revocation" => under.grants.iter().chain(&under.above).any(|grant| revoked.of_grant(grant).is_some()),
        check => check.starts_with("delegation."),
    }
}

/// Whether a loan that the manager told of is refused for what its enclave is. All else is between the manager and the borrower, or
/// its clock.
pub(super) fn is_lenders(why: &Rejection) -> bool {
    matches!(&*why.check, "revocation" | "loan.address")
}

/// Whether an enclave that refuses a call which nobody called off, and which is to be proven or not, is of no use.
pub(super) fn is_useless(why: &Rejection, proven: bool) -> bool {
    match &*why.check {
        // Only a proof is too dear.
        PROOF_COST => !proven,
        // These are about the call, or the moment; all else is about the enclave, which is perhaps being stopped.
        STALE_CHALLENGE | BUSY | "delegate.expired" => false,
        _ => true,
    }
}

/// A reason as the manager is told it: whoever it came from may have written at any length.
pub(super) fn brief(why: &Rejection) -> Rejection {
    let cut = |text: &str| text.chars().take(BRIEF).collect::<String>();
    Rejection {
        check: cut(&why.check),
        claim: cut(&why.claim),
        expected: cut(&why.expected),
        got: cut(&why.got),
        fix: cut(&why.fix),
    }
}
