//! Delegation: an enclave whose task is running has others run parts of it, and can prove what they did.
//!
//! * The **delegator** is the enclave whose task hands a part on; the **delegate** runs it; one such part is a **call**.
//! * A **loan** is the manager's promise of a delegate to a delegator: an [`Allocation`](crate::statement::Allocation) with a
//!   [`LoanRef`](crate::statement::LoanRef), under the delegator's own promise. Many calls flow over one loan, one at a time; the
//!   manager sees none of them.
//! * A **question** is what the delegator's task asks. It is put as one call, or as several replicas, and again elsewhere when a
//!   delegate is lost.
//!
//! ```text
//! request <- grant <-------- grant (by the delegator) <- call <- report with an answer (by the delegate)
//!    ^         ^                                          |            |              ^
//!    '- allocation <- allocation of the loan <------------'------------'   report ----'
//! ```
//! Every right goes down by [`attenuate`]: an enclave passes on no more than what it was given to pass on, with its own
//! signature as the proof that it is the one it was given to. [`call`] holds a call and its answer against what they rest on;
//! whoever delegates, whoever is delegated to and every reader of a receipt run the same functions. [`session`] is the
//! conversation between the two, without sockets or clocks. [`vote`] decides between replicas, and [`judge`] holds all answers
//! together against what was granted.
//!
//! What it is *not*: it finds no delegates (the pool lends them), proves no chips (channels and passports do), and reads no
//! bytes of inputs or outputs (their commitments are compared, where they arrive).

pub mod attenuate;
pub mod call;
pub mod judge;
pub mod session;
pub mod sum;
pub mod terms;
pub mod vote;

pub use attenuate::{Lineage, attenuates};
pub use call::{Basis, Call, CallDemand, check_answer, check_call};
pub use sum::Sum;
pub use terms::{Apart, InTurn, LoanTerms};
