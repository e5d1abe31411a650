//! A pool as bytes and back: a short cut past the journal's older records, never a truth of its own.
//!
//! ```text
//! version (4 bytes, big endian), CBOR { seq, term, .., enclaves, tasks, leases, .. }
//! ```
//! 1. Only what records made is written; indices are rebuilt from it.
//! 2. What several things share (kinds of proofs, requests, appointments) is written once ([`shared`]), and is shared again after.
//!    Passports, evidence and collateral are in none: the journal has them, and stores never drop records.
//! 3. `Pool::restore(Pool::snapshot(p)) == p`, under the same limits.
//! 4. Statements are opened again: each signature is checked, as when the journal is read.
//! 5. Another version is refused, not guessed at: the journal has everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use legation_core::{
    Digest, EnclaveId, FragmentId, LeaseId, ReservationId, Revocation, Revoked, Seq, Signed, SwarmName, TaskId, Term,
    UnixTime, statement::Appointment,
};
use serde::{Deserialize, Serialize};

use crate::{
    account::Accounts,
    brief::Piece,
    custody::SwarmKey,
    distance::Distances,
    enclave::Enclave,
    fair::{Clocks, Queue},
    lease::Lease,
    meter::History,
    policy::Policies,
    policy::snapshot::PoliciesImage,
    pool::{Limits, Pool},
    preempt::Claim,
    queue::{Class, flow_of},
    reserve::Booking,
    retire::Memory,
    sharing::Sharing,
    swarm::GangBooking,
    task::{Done, Phase, Task, TaskState},
};

pub(crate) mod shared;

use shared::Same;

/// Version of the snapshots this program writes and reads. A change of what is in one makes a new one; old snapshots are then
/// passed over. Since version 2 proofs are in brief. Since version 3 what few enclaves have is written of those alone,
/// and room may be booked for a swarm. Since version 4 enclaves may be lent. Since version 5 committees of
/// enclaves have swarm keys.
pub const SNAPSHOT_VERSION: u32 = 5;

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
    collateral: &'a BTreeMap<Digest, Piece>,
    collateral_kept: usize,
    policies: PoliciesImage,
    enclaves: &'a Sharing<EnclaveId, Enclave>,
    memory: &'a Memory,
    tasks: Vec<&'a Task>,
    ended: &'a VecDeque<TaskId>,
    forgotten: &'a BTreeSet<(UnixTime, TaskId)>,
    leases: &'a Sharing<LeaseId, Lease>,
    last_lease: LeaseId,
    claims: &'a BTreeMap<FragmentId, Claim>,
    ahead: Option<&'a GangBooking>,
    distances: &'a Distances,
    reservations: &'a BTreeMap<ReservationId, Booking>,
    accounts: &'a Accounts,
    clocks: Clocks,
    history: &'a History,
    swarm_keys: &'a BTreeMap<SwarmName, SwarmKey>,
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
    collateral: BTreeMap<Digest, Piece>,
    collateral_kept: usize,
    policies: PoliciesImage,
    enclaves: Sharing<EnclaveId, Enclave>,
    memory: Memory,
    tasks: Vec<Task>,
    ended: VecDeque<TaskId>,
    forgotten: BTreeSet<(UnixTime, TaskId)>,
    leases: Sharing<LeaseId, Lease>,
    last_lease: LeaseId,
    claims: BTreeMap<FragmentId, Claim>,
    ahead: Option<Box<GangBooking>>,
    distances: Distances,
    reservations: BTreeMap<ReservationId, Booking>,
    accounts: Accounts,
    clocks: Clocks,
    history: History,
    swarm_keys: BTreeMap<SwarmName, SwarmKey>,
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
            memory,
            slots: _,
            kinds: _,
            shown: _,
            collateral,
            collateral_kept,
            tasks,
            ended,
            leases,
            ends: _,
            deadlines: _,
            lapses: _,
            expiries: _,
            last_lease,
            claims,
            pushable: _,
            queue,
            gangs: _,
            seats: _,
            loans: _,
            ahead,
            searched: _,
            told: _,
            idempotency: _,
            forgotten,
            policies,
            permits: _,
            distances,
            reservations,
            seats_at: _,
            questions: _,
            accounts,
            history,
            swarm_keys,
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
            collateral,
            collateral_kept: *collateral_kept,
            policies: policies.image(),
            enclaves,
            memory,
            tasks: tasks.values().collect(),
            ended,
            forgotten,
            leases,
            last_lease: *last_lease,
            claims,
            ahead: ahead.as_deref(),
            distances,
            reservations,
            accounts,
            clocks: queue.clocks(),
            history,
            swarm_keys,
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
            collateral: owned.collateral,
            collateral_kept: owned.collateral_kept,
            policies,
            enclaves: owned.enclaves,
            memory: owned.memory,
            tasks: owned.tasks.into_iter().map(|task| (task.id(), task)).collect(),
            ended: owned.ended,
            forgotten: owned.forgotten,
            leases: owned.leases,
            last_lease: owned.last_lease,
            claims: owned.claims,
            ahead: owned.ahead,
            distances: owned.distances,
            reservations: owned.reservations,
            accounts: owned.accounts,
            history: owned.history,
            swarm_keys: owned.swarm_keys,
            ..Self::new(limits)
        };
        pool.index(owned.clocks);
        Ok(pool)
    }

    /// Rebuilds what only speeds things up.
    fn index(&mut self, clocks: Clocks) {
        let mut waiting = Vec::new();
        for (id, lease) in &self.leases {
            self.deadlines.put(lease.deadline().0, *id);
            self.ends.insert((lease.until, *id));
        }
        for (id, enclave) in self.enclaves.iter_mut() {
            enclave.proofs.adopt(&mut self.kinds);
            enclave.proofs.kept().for_each(|proof| self.shown.note(*id, proof));
        }
        let done = self.tasks.values_mut().flat_map(|task| &mut task.fragments).filter_map(|f| f.done.as_mut());
        done.flat_map(Done::proofs_mut).for_each(|proof| self.kinds.adopt(proof));
        let lending = self.tasks.values_mut().filter_map(|task| task.lending.as_deref_mut());
        let loans = lending.flat_map(|lending| lending.live.values_mut().chain(lending.kept.values_mut()));
        loans.flat_map(|loan| loan.proofs.values_mut()).for_each(|proof| self.kinds.adopt(proof));
        let swarms = self.tasks.values_mut().filter_map(|task| task.swarm.as_mut());
        swarms.flat_map(|swarm| swarm.proofs.values_mut()).for_each(|proof| self.kinds.adopt(proof));
        self.reindex_all();
        self.index_swarms();
        self.index_loans();
        let all: Vec<_> = self.enclaves.keys().copied().collect();
        all.into_iter().for_each(|id| self.look_at(id));
        for (id, task) in &self.tasks {
            if let Some(named) = &task.idempotency {
                self.idempotency.insert((task.request.client, named.key.clone()), (named.body, *id));
            }
            if task.state != TaskState::Live {
                continue;
            }
            self.expiries.insert((task.request.expires, *id));
            for ((index, spec), state) in task.request.indexed().zip(&task.fragments) {
                if state.phase == Phase::Queued && task.swarm.is_none() {
                    let spot = (state.age(), FragmentId { task: *id, index });
                    let class = Class::of_fragment(&task.request, spec);
                    waiting.push((flow_of(&task.request), class, spec.demand, spot));
                }
            }
        }
        self.queue = Queue::of(clocks, waiting);
        self.list_pushable();
        for (id, booking) in self.reservations.iter().filter(|(_, b)| b.ended.is_none()) {
            for seat in &booking.seats {
                self.seats_at.entry(seat.enclave).or_default().insert(*id);
            }
        }
    }
}
