//! The words everyone shares: ids, units, requirements, tasks, signed statements and receipts.
//!
//! It is *not* a place for things that one other crate alone needs. It reads no clock, draws no randomness, opens nothing.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod data;
pub mod digest;
pub mod encoding;
pub mod id;
pub mod key;
pub mod limits;
pub mod logged;
pub mod monitor;
mod objects;
pub mod prefer;
pub mod printable;
pub mod rejection;
pub mod time;
pub mod unit;

pub use digest::{Digest, DigestWriter, sha512};
pub use id::{
    EnclaveId, FragmentId, FragmentIndex, KeyId, LeaseId, ObjectId, ProviderId, Region, ReservationId, RevocationEpoch,
    Seq, SwarmName, TaskId, TenantId, Term,
};
pub use key::{PublicKey, SealingPublicKey, Signature, Signer};
pub use limits::{Allowance, Encryption};
pub use rejection::Rejection;
pub use time::{Millis, UnixTime};
pub use unit::{Bytes, Fuel, GpuMillis, MibMillis, MicroUsd, Millicores, Milligpus};
pub mod claims;
pub mod custody;
pub mod delegation;
pub mod dsse;
pub mod requirement;
pub mod statement;
pub mod swarm;
pub mod task;
pub use dsse::{Envelope, Predicate, Signed};
pub use requirement::Requirement;
pub mod grant;
pub mod proven;
pub mod receipt;
pub mod revocation;
pub use receipt::Receipt;
pub use revocation::{Revocable, Revocation, RevocationList, Revoked};
