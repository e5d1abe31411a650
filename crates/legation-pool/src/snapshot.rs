//! A pool as bytes and back: a short cut past the journal's older records, never a truth of its own.
//!
//! ```text
//! version (4 bytes, big endian), CBOR { seq, term, .., enclaves, tasks, leases, .. }
//! ```
//! 1. Only what records made is written; indices are rebuilt from it.
//! 2. What several things share (passports, evidence, appointments) is written once ([`shared`]), and is shared again after.
//! 3. `Pool::restore(Pool::snapshot(p)) == p`, under the same limits.
//! 4. Statements are opened again: each signature is checked, as when the journal is read.
//! 5. Another version is refused, not guessed at: the journal has everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use legation_core::{
    EnclaveId, FragmentId, LeaseId, Revocation, Revoked, Seq, Signed, TaskId, Term, UnixTime, claims::CollateralItem,
    statement::Appointment,
};
use serde::{Deserialize, Serialize};

use crate::{
    account::Accounts,
    distance::Distances,
    enclave::Enclave,
    lease::Lease,
    meter::History,
    policy::Policies,
    policy::snapshot::PoliciesImage,
    pool::{Limits, Pool},
    queue::Class,
    task::{Phase, Task, TaskState},
};

pub(crate) mod shared;

use shared::Same;

/// Version of the snapshots this program writes and reads. A change of what is in one makes a new one; old snapshots are then
/// passed over.
pub const SNAPSHOT_VERSION: u32 = 1;

/// Why a snapshot cannot be written or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by another program.
    #[error("snapshot has version {found}; this program knows version {SNAPSHOT_VERSION}")]
    Version {
        /// Which.
        found: u32,
    },
    /// It is no snapshot, or not whole.
    #[error("snapshot cannot be read: {0}")]
    Unreadable(String),
    /// What it says makes no pool.
    #[error("snapshot does not hold together: {0}")]
    Impossible(String),
    /// It cannot be written.
    #[error("snapshot cannot be written: {0}")]
    Unwritable(String),
}

/// The pool without its indices, as it is written.
#[derive(Serialize)]
struct Image<'a> {
    seq: Seq,
    term: Term,
    at: UnixTime,
    manager: Option<Same<Signed<Appointment>>>,
    managers: Vec<Same<Signed<Appointment>>>,
    revoked: Vec<Revocation>,
    collateral: Vec<Same<CollateralItem>>,
    collateral_kept: usize,
    policies: PoliciesImage,
    enclaves: &'a BTreeMap<EnclaveId, Enclave>,
    by_slot: &'a BTreeMap<(String, u16), EnclaveId>,
    tasks: Vec<&'a Task>,
    ended: &'a VecDeque<TaskId>,
    forgotten: &'a BTreeSet<(UnixTime, TaskId)>,
    leases: &'a BTreeMap<LeaseId, Lease>,
    last_lease: LeaseId,
    distances: &'a Distances,
    accounts: &'a Accounts,
    history: &'a History,
}

/// As it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Owned {
    seq: Seq,
    term: Term,
    at: UnixTime,
    manager: Option<Same<Signed<Appointment>>>,
    managers: Vec<Same<Signed<Appointment>>>,
    revoked: Vec<Revocation>,
    collateral: Vec<Same<CollateralItem>>,
    collateral_kept: usize,
    policies: PoliciesImage,
    enclaves: BTreeMap<EnclaveId, Enclave>,
    by_slot: BTreeMap<(String, u16), EnclaveId>,
    tasks: Vec<Task>,
    ended: VecDeque<TaskId>,
    forgotten: BTreeSet<(UnixTime, TaskId)>,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: LeaseId,
    distances: Distances,
    accounts: Accounts,
    history: History,
}

impl Pool {
    /// The pool as bytes.
    ///
    /// # Errors
    /// Something in it cannot be written: a defect.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        // Whoever adds a field decides here whether it is written or rebuilt (in `rebuild`).
        let Self {
            limits: _,
            seq,
            term,
            manager,
            managers,
            revoked,
            enclaves,
            by_slot,
            collateral,
            collateral_kept,
            tasks,
            ended,
            leases,
            deadlines: _,
            lapses: _,
            expiries: _,
            last_lease,
            queue: _,
            idempotency: _,
            forgotten,
            policies,
            permits: _,
            distances,
            accounts,
            history,
            classes: _,
            at,
        } = self;
        let image = Image {
            seq: *seq,
            term: *term,
            at: *at,
            manager: manager.clone().map(Same),
            managers: managers.iter().cloned().map(Same).collect(),
            revoked: revoked.list(),
            collateral: collateral.values().cloned().map(Same).collect(),
            collateral_kept: *collateral_kept,
            policies: policies.image(),
            enclaves,
            by_slot,
            tasks: tasks.values().collect(),
            ended,
            forgotten,
            leases,
            last_lease: *last_lease,
            distances,
            accounts,
            history,
        };
        let mut bytes = SNAPSHOT_VERSION.to_be_bytes().to_vec();
        shared::scope(|| ciborium::into_writer(&image, &mut bytes))
            .map_err(|e| SnapshotError::Unwritable(e.to_string()))?;
        Ok(bytes)
    }

    /// The pool that `bytes` were made of, under `limits`.
    ///
    /// # Errors
    /// Another version, or not what [`Self::snapshot`] writes.
    pub fn restore(bytes: &[u8], limits: Limits) -> Result<Self, SnapshotError> {
        let Some((version, mut rest)) = bytes.split_first_chunk::<4>() else {
            return Err(SnapshotError::Unreadable("it is cut off".to_owned()));
        };
        let found = u32::from_be_bytes(*version);
        if found != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { found });
        }
        let owned: Owned =
            shared::scope(|| ciborium::from_reader(&mut rest)).map_err(|e| SnapshotError::Unreadable(e.to_string()))?;
        if !rest.is_empty() {
            return Err(SnapshotError::Unreadable(format!("{} bytes follow its end", rest.len())));
        }
        Self::rebuild(owned, limits)
    }

    fn rebuild(owned: Owned, limits: Limits) -> Result<Self, SnapshotError> {
        let policies =
            Policies::of_image(owned.policies, limits.allow_development).map_err(SnapshotError::Impossible)?;
        let mut pool = Self {
            seq: owned.seq,
            term: owned.term,
            at: owned.at,
            manager: owned.manager.map(|same| same.0),
            managers: owned.managers.into_iter().map(|same| same.0).collect(),
            revoked: owned.revoked.into_iter().collect::<Revoked>(),
            collateral: owned.collateral.into_iter().map(|same| (same.0.digest(), same.0)).collect(),
            collateral_kept: owned.collateral_kept,
            policies,
            enclaves: owned.enclaves,
            by_slot: owned.by_slot,
            tasks: owned.tasks.into_iter().map(|task| (task.id(), task)).collect(),
            ended: owned.ended,
            forgotten: owned.forgotten,
            leases: owned.leases,
            last_lease: owned.last_lease,
            distances: owned.distances,
            accounts: owned.accounts,
            history: owned.history,
            ..Self::new(limits)
        };
        pool.index();
        Ok(pool)
    }

    /// Rebuilds what only speeds things up.
    fn index(&mut self) {
        for (id, lease) in &self.leases {
            self.deadlines.put(lease.deadline().0, *id);
        }
        for (id, enclave) in &self.enclaves {
            self.lapses.put(enclave.proofs.until().unwrap_or(self.at).0, *id);
        }
        self.reindex_all();
        for (id, task) in &self.tasks {
            if let Some(named) = &task.idempotency {
                self.idempotency.insert((task.request.client, named.key.clone()), (named.body, *id));
            }
            if task.state != TaskState::Live {
                continue;
            }
            self.expiries.insert((task.request.expires, *id));
            for ((index, spec), state) in task.request.indexed().zip(&task.fragments) {
                if state.phase == Phase::Queued {
                    let place = (state.queued_at, FragmentId { task: *id, index });
                    self.queue.insert(place, Class::of_fragment(&task.request, spec));
                }
            }
        }
    }
}
