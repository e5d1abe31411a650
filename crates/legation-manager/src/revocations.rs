//! How revocations reach the agents: the signed list, who has it yet to heed, and how long that took.
//!
//! The time is from the command to the last of those who were present when the list went out: each has heeded it, or its
//! channel has ended.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use legation_core::{
    EnclaveId, Revocation, RevocationEpoch, RevocationList, Revoked, Signed, Signer, UnixTime, dsse,
    statement::Appointment,
};
use legation_net::message::ToAgent;
use serde::{Deserialize, Serialize};
use tracing::info;

/// A signed list with what makes it believable: what agents are sent, and what `legation revocations save` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRevocations {
    /// The manager's list.
    pub list: Signed<RevocationList>,
    /// The manager's appointment.
    pub appointment: Signed<Appointment>,
}

impl SignedRevocations {
    /// Signs everything that is revoked as of `now`.
    pub(crate) fn of(revoked: &Revoked, signer: &dyn Signer, appointment: &Signed<Appointment>, now: UnixTime) -> Self {
        let list = RevocationList {
            manager: signer.public_key(),
            at: now,
            epoch: revoked.epoch(),
            revocations: revoked.list(),
            prev: vec![appointment.digest()],
        };
        Self { list: dsse::sign(list, signer), appointment: appointment.clone() }
    }

    pub(crate) fn message(&self) -> ToAgent {
        ToAgent::Revocations { list: Box::new(self.list.clone()), appointment: Box::new(self.appointment.clone()) }
    }
}

/// Revocations as people see them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RevocationsView {
    /// The latest epoch.
    pub epoch: RevocationEpoch,
    /// All of them, ascending by epoch.
    pub entries: Vec<Revocation>,
    /// Agents that have heeded the latest, or are gone, of those that were present when it was sent.
    pub heeded_by: usize,
    /// Agents that were present then.
    pub of: usize,
    /// Milliseconds from the command to the last of them; nothing while one is missing.
    pub last_heeded_ms: Option<f64>,
}

/// The latest list on its way; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Pushed(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    signed: Option<Arc<SignedRevocations>>,
    began: Option<Instant>,
    of: usize,
    waiting: BTreeSet<(EnclaveId, u64)>,
    took: Option<Duration>,
}

impl State {
    /// Nobody waits any more: how long it took, the first time this is seen.
    fn settle(&mut self) -> Option<Duration> {
        if !self.waiting.is_empty() || self.took.is_some() || self.of == 0 {
            return None;
        }
        let (took, epoch) = (self.began?.elapsed(), self.signed.as_ref()?.list.epoch);
        self.took = Some(took);
        info!(epoch = epoch.0, agents = self.of, ms = took.as_secs_f64() * 1000.0, "revocation heeded by all");
        Some(took)
    }
}

impl Pushed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, signed: SignedRevocations, to: impl Iterator<Item = (EnclaveId, u64)>, began: Instant) {
        let waiting: BTreeSet<_> = to.collect();
        *self.state() =
            State { signed: Some(Arc::new(signed)), began: Some(began), of: waiting.len(), waiting, took: None };
    }

    pub(crate) fn latest(&self) -> Option<Arc<SignedRevocations>> {
        self.state().signed.clone()
    }

    pub(crate) fn heeded(&self, enclave: EnclaveId, connection: u64, epoch: RevocationEpoch) -> Option<Duration> {
        let mut state = self.state();
        if state.signed.as_ref().is_some_and(|s| epoch < s.list.epoch) {
            return None;
        }
        state.waiting.remove(&(enclave, connection));
        state.settle()
    }

    pub(crate) fn gone(&self, enclave: EnclaveId, connection: u64) {
        let mut state = self.state();
        if state.waiting.remove(&(enclave, connection)) {
            state.settle();
        }
    }

    pub(crate) fn view(&self) -> RevocationsView {
        let state = self.state();
        let list = state.signed.as_ref().map(|s| &s.list);
        RevocationsView {
            epoch: list.map_or(RevocationEpoch(0), |l| l.epoch),
            entries: list.map_or(Vec::new(), |l| l.revocations.clone()),
            heeded_by: state.of.saturating_sub(state.waiting.len()),
            of: state.of,
            last_heeded_ms: state.took.map(|took| took.as_secs_f64() * 1000.0),
        }
    }
}
