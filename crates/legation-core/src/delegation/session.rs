//! The conversation of a delegator with its delegates, as two machines without sockets, clocks or randomness: [`Delegator`] is
//! one execution with all its loans, [`Delegate`] one loan at the enclave that was lent.
//!
//! ```text
//! delegator                                        delegate
//!    | -- describe: the loan, the chain of grants --> |  chain, own policy, revocations
//!    | <-- challenge: drawn at random for this session |        (or unavailable, with the reason)
//!    | -- submit: a call, over that challenge ------> |  number, challenge, grant, room
//!    |      (its input follows on the channel)        |
//!    | <------ accepted | refused, with the reason -- |  (accepted: where an answer takes a while)
//!    |                                                |  execute: input as committed, then the module
//!    | <------------------------- answered: report -- |
//!    |      (its output follows on the channel)       |
//!    |  verify: report, passport, output as committed |
//! ```
//! A channel is attested by both sides before the first message, and each driver has held its peer against the passport that
//! the manager named ([`check_peer`](super::call::check_peer)). What the machines promise whatever the channel does:
//! 1. a delegate runs a call at most once. Submitted again, it gives the answer again, while it remembers it
//!    ([`ANSWERS_MAX`]), and refuses it then: numbers only ascend;
//! 2. a question ends by its deadline: with an answer that verified, or given up with the reason;
//! 3. no answer is taken that does not verify, with all that it used in turn, by the judgement that the delegator's own report
//!    will be held to ([`judge`](super::judge)); and none after its question ended;
//! 4. a delegate that is lost, silent, refuses or lies is left for another while the deadline lasts; a question that no enclave can
//!    answer ends at once;
//! 5. what is handed on, by a loan and by all, stays within what was granted: what is set aside counts as spent;
//! 6. all that waits is bounded, by the constants here.
//!
//! Inputs go in by `handle`, each with the time; what is to be done comes out. `next_timeout` says when to come back with
//! nothing but the time.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    dsse::{Envelope, Signed},
    id::LeaseId,
    rejection::Rejection,
    statement::{Grant, Report},
    time::{Millis, UnixTime},
};

use super::Call;

mod delegate;
mod delegator;

pub use delegate::{Delegate, DelegateAction, DelegateEvent, Standing};
pub use delegator::{Delegator, DelegatorAction, DelegatorEvent, JobId, Question, Settled, Want};

/// Calls of one loan that wait at its delegate, beside the one that runs.
pub const QUEUE_MAX: usize = 8;
/// Answers that a delegate keeps for one loan, to give them again.
pub const ANSWERS_MAX: usize = 64;
/// Loans of one delegator.
pub const LOANS_MAX: usize = 64;
/// Questions of one delegator at once.
pub const QUESTIONS_MAX: usize = 1024;
/// Calls made for one question, replicas and retries together.
pub const ATTEMPTS_MAX: u32 = 32;
/// Enclaves on whose loans a question does not fit, before it is given up: others will be no larger.
pub const UNFIT_MAX: u32 = 3;
/// So many calls in a row an enclave may take and then have no room for, before its loan is given back: it is paid meanwhile.
pub const VAIN_MAX: u8 = 3;
/// Statements that come with an answer: what its enclave handed on in turn.
pub const BEHIND_MAX: usize = 4096;
/// A message without an answer is sent again after so long.
pub const RESEND: Millis = Millis(2_000);
/// And so often, before the delegate is given back.
pub const RESENDS_MAX: u8 = 3;
/// An enclave without room is asked nothing for [`RESEND`], and twice as long each time that it still has none, up to this. Its
/// answer alone says that it has room again: to take a call costs it nothing.
pub const REST_MAX: Millis = Millis(32_000);
/// A delegate without a session, though it may have channels, is given back after so long.
pub const AWAY: Millis = Millis(5_000);
/// An answer may come so much later than the time of the call.
pub const GRACE: Millis = Millis(2_000);
/// How much longer still an answer may take that is to be proven: what that takes is counted first.
pub const PROOF_GRACE: Millis = Millis(60_000);

/// What a delegator says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToDelegate {
    /// What its calls will rest on.
    Describe {
        /// The loan.
        loan: LeaseId,
        /// The grant to the delegate.
        grant: Digest,
        /// That grant and all above it.
        grants: Vec<Signed<Grant>>,
    },
    /// Run this. Its input follows.
    Submit(Signed<Call>),
    /// Never mind.
    Cancel {
        /// The call.
        call: Digest,
    },
}

/// What a delegate says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToDelegator {
    /// It will take calls of this loan that name this challenge.
    Challenge {
        /// The loan.
        loan: LeaseId,
        /// Drawn at random for this session.
        challenge: Digest,
        /// The highest number it has seen.
        last: u64,
    },
    /// It takes no calls of this loan.
    Unavailable {
        /// The loan.
        loan: LeaseId,
        /// Why.
        why: Rejection,
    },
    /// It will run the call, or runs it. Of one that is answered or refused soon it need not be said.
    Accepted {
        /// The call.
        call: Digest,
    },
    /// It did not run the call, and will not; or gave it up.
    Refused {
        /// The call.
        call: Digest,
        /// Whether anything of it ran, or may have: then what was set aside for it stays spent.
        ran: bool,
        /// Why.
        why: Rejection,
    },
    /// What came of a call. Its output follows.
    Answered {
        /// The report.
        report: Signed<Report>,
        /// Every statement below it that the delegator does not know: of calls that this one made in turn, with the loans
        /// and passports behind them.
        behind: Vec<Envelope>,
    },
}

/// Now, twice: as statements date it, and as waiting counts it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Now {
    /// Date.
    pub date: UnixTime,
    /// Since any beginning; never goes back.
    pub ms: Millis,
}

/// Check of a refusal because the call names another session's challenge: it was not seen, and may be made anew.
pub const STALE_CHALLENGE: &str = "delegate.challenge";
/// Check of a refusal because what may be handed on is used up or set aside: it may be had again. It says nothing of an enclave.
pub const SPENT: &str = "delegator.spent";
/// Check of a refusal because the enclave has no room at the moment: it may be asked again.
pub const BUSY: &str = "delegate.busy";
/// Check of a refusal because a proof of the call would take more than the enclave has for one.
pub const PROOF_COST: &str = "delegate.proof";

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim.to_owned())
}

/// `wait` after `from`.
fn after(from: Millis, wait: Millis) -> Millis {
    Millis(from.0.saturating_add(wait.0))
}
