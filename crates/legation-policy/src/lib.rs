//! Policies: what an operator or a tenant accepts, as Cedar text with a schema, and the reference values it names.
//!
//! ```text
//! text --load--> Policy(rules, references) --appraise(claims, configuration, now)--> Ear | Rejection
//! ```
//! It is *not* where evidence is verified (`legation-attest`) or where policies are kept (the pool's journal). No clock, no
//! file, no socket: texts, claims and the time are arguments.
//!
//! * [`mod@reference`] holds reference values: what images measure, what firmware is current.
//! * [`policy`] loads a text and says everything that is wrong in it at once; [`schema`] is what it may ask about.
//! * [`placement`] says whose work may be where, and what it may use there.
//! * [`appraise`] decides; [`mod@dry_run`] decides about many and groups the reasons, for one policy or for two.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod amount;
pub mod appraise;
mod conjunct;
mod date;
pub mod dry_run;
mod explain;
mod facts;
pub mod placement;
pub mod policy;
pub mod problem;
pub mod reference;
mod rule;
mod scan;
pub mod schema;
pub mod starter;

pub use appraise::Admission;
pub use date::end_of_day;
pub use dry_run::{Change, DryRun, PolicyDiff, Reason, Verdict, diff, dry_run, place_dry_run};
pub use facts::Subject;
pub use placement::{Asked, PlaceQuestion};
pub use policy::{Options, Policy, Scope, ScopeError};
pub use problem::{PolicyError, Problem};
pub use reference::{ReferenceKind, ReferenceValue, References};
pub use starter::{THIS_BUILD, starter};
