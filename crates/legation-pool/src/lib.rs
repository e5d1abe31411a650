//! The pool: THE state machine of Legation. Commands go in, events and effects come out; events are the truth.
//!
//! [`Pool::apply`] judges one command as of `now` and either refuses it with a reason or changes the pool by events. Whoever
//! drives it appends the events to the journal *before* anything is answered, and performs the effects after. A pool
//! rebuilt by [`Pool::absorb`] from the same events is equal to the one that made them.
//!
//! It reads no clock, draws no randomness and performs no I/O. It never sees a plaintext, a data key or a private key of
//! an enclave: keys pass through it wrapped.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod apply;
mod audit;
mod enclave;
mod event;
mod explain;
mod follow;
mod grant;
mod lapse;
mod lease;
mod offer;
mod place;
mod policy;
mod pool;
mod proofs;
mod queue;
mod reference;
mod report;
mod revoke;
mod task;
mod text;
mod view;

pub use apply::{Applied, Command};
pub use enclave::{Cordon, Enclave, Presence, Withdrawal};
pub use event::{Effect, Event, IdempotencyKey, LeaseEnd, RECORD_VERSION, Record};
pub use explain::{Explanation, WhyNot};
pub use lease::Lease;
pub use offer::{OfferParts, ReceiptParts, UpstreamParts};
pub use policy::{PolicyVersion, PolicyView};
pub use pool::{Corrupt, Limits, Pool};
pub use proofs::Proof;
pub use reference::ReferenceView;
pub use task::{Attempt, Done, FragmentState, Phase, Task, TaskState};
pub use view::{ClaimView, EnclaveView, FragmentView, GraceView, Needs, PoolView, ProofView, TaskView, UpstreamKey};
