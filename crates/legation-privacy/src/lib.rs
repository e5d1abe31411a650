//! Differential privacy: what a query costs, the ledger of what was spent, and answers with noise.
//!
//! It is *not* a promise about modules: it knows records and noise, and neither who may ask nor whether what a module says beside
//! its answers is private. Nor is it durable: whoever drives it stores an [`Entry`] before it acts on it.
//!
//! | file | what |
//! |---|---|
//! | `unit` | rho in billionths, delta as `1e-k`, epsilon derived from both: integers that only ever round up |
//! | `ledger` | a budget and what was spent of it: checked before, never refunded |
//! | `query`, `plan` | what may be asked, within which bounds, with how much noise, at which exact price; no data is looked at |
//! | `mechanisms` | the answers, by `opendp` (feature `mechanisms`) |
//!
//! The price of everything is *zero-concentrated* differential privacy, rho-zCDP (Bun and Steinke 2016, arXiv 1605.02065): it adds
//! up over queries that are chosen one after the other, and `(epsilon, delta)` is a view of the sum. Neighbours are data sets that
//! differ by all records of one person, added or removed.
//!
//! Invariants:
//! 1. A price depends on query, records of a person and noise alone, never on data.
//! 2. All rounding is towards *more* spent and *less* left; books and prices hold no floating point.
//! 3. What a ledger has spent only grows, and never past its budget.
//! 4. An answer takes a [`Permit`] of the ledger of its records, which that ledger gives once for each entry and nobody can copy.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod ledger;
#[cfg(feature = "mechanisms")]
pub mod mechanisms;
mod plan;
mod query;
mod unit;

pub use ledger::{BookId, BookIdError, Broken, Entry, Ledger, Permit, Refused};
pub use plan::{Mechanism, NOISE_ONE, Noise, Plan, PlanError, RHO_MAX};
pub use query::{
    CANDIDATES_MAX, EDGES_MAX, Query, QueryError, RECORDS_PER_PERSON_MAX, RecordsPerPerson, THOUSANDTHS_MAX, VALUE_MAX,
};
pub use unit::{DELTA_EXPONENT_MAX, Delta, NanoEpsilon, NanoRho, UnitError};
