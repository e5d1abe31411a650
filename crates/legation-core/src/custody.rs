//! Custody of swarm keys: the words by which a committee of enclaves comes to hold a key that none of them has, hands it on, and releases
//! with it. (A task's *swarm* of enclaves is something else: [`crate::swarm`].)
//!
//! ```text
//! charter <- call <- chair <- dealing <- acceptance
//!            ^ '---- (next) call            |  refusal
//!            '------- confirmation <--------'
//!                          '-- handover                return <- ack        allocation, passports, grants <- release
//! ```
//! *Custody* is what is done, a *custodian* is an enclave that does it, a *committee* is all of them in one epoch, a *roster* is the public
//! outcome of a ceremony (its bytes and mathematics are in `legation-keys`; here it is a digest), a *charter* is what the operator asks of
//! every committee.
//!
//! | who | says | how often |
//! |---|---|---|
//! | the operator | [`Charter`]: threshold, requirement, bound per provider | rarely: its root stays offline |
//! | the manager | [`CustodyCall`]: these are the next committee | each attempt |
//! | members, dealers | [`CustodyWord`] | once each, about each thing ([`Vows`]) |
//! | a custodian | [`Release`]: it let this enclave open these | each time |
//! | a restarted one, its peers | [`Return`], [`Ack`] | each restart |
//!
//! [`Board`] says what the words of one ceremony add up to, [`Succession`] who has the key; [`ReleasePolicy`] is what an owner says of who may open,
//! [`Label`] what its digest is bound into. Nothing here computes on a curve, and nothing reads a clock: both are the callers'.

mod board;
mod call;
mod charter;
mod incarnation;
mod label;
mod policy;
mod release;
mod succession;
mod terms;
mod vows;
mod words;

pub use self::{
    board::{Board, Equivocation, Lapse, LapseReason, Phase, Refused, Said, Took},
    call::{CALL_LIFE_MAX, Called, Committee, CustodyCall, Standing, ceremony_digest},
    charter::{Charter, EPOCH_SECONDS_MAX, EPOCH_SECONDS_MIN, check_chips},
    incarnation::{Ack, Incarnations, Return, Returned},
    label::{CustodyRef, Label, SwarmSealed},
    policy::{
        Asking, DELTA_LOG10, NanoRho, Only, PURPOSE_MAX, PrivacyBound, Purpose, PurposeError, RELEASE_NAMES_MAX,
        RELEASE_TEXT_MAX, RELEASE_VERSION, ReleaseFor, ReleasePolicy, ReleaseRules, Version,
    },
    release::{RELEASE_GRANTS_MAX, Release, Released},
    succession::Succession,
    terms::{Epoch, Generation, MEMBERS_MAX, MEMBERS_MIN, SwarmPublicKey, Threshold, ThresholdError},
    vows::{CONFIRMED_MAX, Vows},
    words::{
        Acceptance, Chair, Confirmation, CustodyWord, DEALING_MAX, Dealing, DealingRef, Handover, ROSTER_MAX, Refusal,
        RefusalReason, WordError, WordKind,
    },
};
