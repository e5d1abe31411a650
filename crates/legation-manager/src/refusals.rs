//! The last refusals of attestation: who was refused, when, by which verifier, and why. Kept in memory only; what a verifier
//! took back from an enclave of the pool is in the journal.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use legation_core::{EnclaveId, Rejection, UnixTime, claims::TeeKind};
use serde::{Deserialize, Serialize};

/// Refusals kept.
const REFUSALS_MAX: usize = 256;
/// Longest text kept of a verifier's refusal, in bytes.
const TEXT_MAX: usize = 1024;

/// One refusal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    pub at: UnixTime,
    /// The enclave of the key that asked.
    pub enclave: EnclaveId,
    /// The kind of machine it says it is; nothing when it came to no evidence.
    pub tee: Option<TeeKind>,
    /// The verifier that refused, by its name; nothing when it was the pool.
    pub verifier: Option<String>,
    /// Why.
    pub why: Rejection,
}

/// The last ones, oldest first.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<VecDeque<Refusal>>);

impl Refusals {
    pub(crate) fn note(&self, mut refusal: Refusal) {
        let cut = |text: &mut String| text.truncate(text.floor_char_boundary(TEXT_MAX));
        let why = &mut refusal.why;
        [&mut why.check, &mut why.claim, &mut why.expected, &mut why.got, &mut why.fix].into_iter().for_each(cut);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= REFUSALS_MAX {
            kept.pop_front();
        }
        kept.push_back(refusal);
    }

    /// Newest first, of one enclave or of all.
    pub(crate) fn list(&self, enclave: Option<EnclaveId>) -> Vec<Refusal> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().filter(|r| enclave.is_none_or(|only| r.enclave == only)).cloned().collect()
    }
}
