//! The pool: THE state machine of Legation. Commands go in, events and effects come out; events are the truth.
//!
//! [`Pool::apply`] judges one command as of `now` and either refuses it with a reason or changes the pool by events. Whoever
//! drives it appends the events to the journal *before* anything is answered, and performs the effects after. A pool
//! rebuilt by [`Pool::absorb`] from the same events is equal to the one that made them.
//!
//! It reads no clock, draws no randomness and performs no I/O. It never sees a plaintext, a data key or a private key of
//! an enclave: keys pass through it wrapped.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod account;
mod apart;
mod apply;
mod archive;
mod attached;
mod audit;
mod brief;
mod chip;
mod classes;
mod custody;
mod discreet;
mod distance;
mod enclave;
mod estimate;
mod event;
mod explain;
mod fair;
mod follow;
mod footprint;
mod gpus;
mod grant;
mod history;
pub mod index;
mod kind;
mod lapse;
mod lease;
mod load;
mod loan;
mod meter;
mod offer;
mod owed;
mod permit;
mod place;
mod policy;
mod pool;
mod preempt;
mod proofs;
mod queue;
mod rank;
mod reference;
mod relax;
mod report;
mod reserve;
mod retire;
mod revoke;
mod seats;
mod sharing;
mod slots;
mod snapshot;
mod swarm;
mod task;
mod text;
mod trust;
mod view;
mod wait;
mod wanted;
mod wheel;

pub use account::{AccountTerms, AccountView, Book, Headroom, Quota, WEIGHT_DEFAULT, WEIGHT_MAX};
pub use apply::{Applied, Command, DEFECT};
pub use archive::Archive;
pub use attached::{ATTACHED_BYTES_MAX, ATTACHED_MAX, Attached, TASK_ATTACHED_BYTES_MAX, TASK_ATTACHED_MAX};
pub use brief::{Brief, Proof};
pub use custody::{
    Boards, CallEnd, CallReason, CallStage, CallView, CommitteeView, CustodyView, Grounds, MemberState, MemberView,
    SWARM_KEYS_MAX,
};
pub use distance::{KnownRoundTrip, REGIONS_MAX, RoundTrip, Source};
pub use enclave::{Cordon, Enclave, Presence, Withdrawal};
pub use estimate::{Estimate, FragmentEstimate, Outlook, Place, Wait};
pub use event::{Effect, Event, IdempotencyKey, LeaseEnd, RECORD_VERSION, RECORD_VERSION_OLDEST, Record};
pub use explain::{CLASSES_SHOWN_MAX, ClassVerdict, Explanation, Prospect, RankedEnclave, WhyNot};
pub use footprint::Part;
pub use history::{Acknowledged, HistoryFacts, LeaseFacts, Obeyed, TaskFacts, TermFacts, check_history};
pub use lease::Lease;
pub use loan::{LOANS_EVER_MAX, LOANS_MAX, Lending, Loan, LoanParts, LoanView};
pub use meter::Metered;
pub use offer::{OfferParts, ReceiptOutline, ReceiptParts, Recorded, UpstreamParts};
pub use owed::{Owed, OwedView, PROOF_UNKNOWN, PROOFS_BYTES_MAX, Progress, Stands};
pub use place::Ranked;
pub use policy::{PolicyVersion, PolicyView};
pub use pool::{Corrupt, Limits, Pool};
pub use preempt::{Claim, PREEMPTIONS_MAX, Preemption};
pub use reference::ReferenceView;
pub use relax::{RELAXATIONS_MAX, Relaxable, Relaxation};
pub use reserve::{Booking, ReservationEnd, ReservationTerms, ReservationView, SEATS_MAX, Seat};
pub use retire::{Hold, Retired};
pub use sharing::Sharing;
pub use snapshot::{SNAPSHOT_VERSION, SnapshotError};
pub use swarm::{
    EnlistParts, GangBooking, HeldSeat, Round, SeatView, Swarm, SwarmEstimate, SwarmStage, SwarmView, Unbooked,
};
pub use task::{Answers, Attempt, Done, FragmentState, Phase, Task, TaskState};
pub use trust::{MarkView, TrustView};
pub use view::{
    ClaimView, EnclaveView, FragmentView, GraceView, Need, Needs, PoolView, ProofView, TaskView, UpstreamKey,
};
pub use wait::Waiting;
