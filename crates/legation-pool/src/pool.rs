//! The state, and the only place where it changes: [`Pool::absorb`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use legation_core::{
    Digest, EnclaveId, FragmentId, LeaseId, PublicKey, ReservationId, RevocationEpoch, Revoked, Seq, Signed, Signer,
    SwarmName, TaskId, Term, UnixTime, prefer::Priority, statement::Appointment, task::Demand,
};

use crate::{
    account::Accounts,
    brief::{Behind, Brief, Piece},
    classes::Classes,
    custody::SwarmKey,
    distance::Distances,
    enclave::Enclave,
    event::{Event, RECORD_VERSION, RECORD_VERSION_OLDEST, Record},
    fair::Queue,
    gpus::Shown,
    index::HostId,
    kind::Kinds,
    lease::Lease,
    meter::History,
    permit::Permits,
    policy::Policies,
    preempt::Claim,
    reserve::Booking,
    retire::Memory,
    sharing::Sharing,
    slots::Slots,
    swarm::{GangBooking, Searched},
    task::Task,
    wait::Told,
    wheel::Due,
};

/// What bounds a pool. Every queue and table has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Enclaves known at once.
    pub enclaves_max: usize,
    /// Tasks that have not ended.
    pub live_tasks_max: usize,
    /// Ended tasks kept for questions; the oldest are forgotten (the journal keeps them).
    pub ended_tasks_kept: usize,
    /// Fragments that wait for an enclave; of one tenant, no more than half of what the other tenants leave of them.
    pub queue_max: usize,
    /// Enclaves tried for one fragment before its task fails.
    pub attempts_max: u32,
    /// Seconds a client has to grant after an enclave was found.
    pub grant_seconds: u64,
    /// Seconds a lease lasts beyond the fragment's own time limit.
    pub lease_margin_seconds: u64,
    /// How often in a row a task's client may fail to grant in time before the task fails.
    pub ungranted_max: u32,
    /// Seconds that work has left that makes way for more urgent work.
    pub preempt_grace_seconds: u64,
    /// Enclaves that one chip may hold at once, each in a slot of its own.
    pub slots_per_chip: u16,
    /// Seconds that enclaves have to return after a new manager began, before their work moves.
    pub return_seconds: u64,
    /// Seconds that members of a swarm have to join a round of it.
    pub join_seconds: u64,
    /// Seconds that a swarm may have fewer members than it must before it is dissolved.
    pub regroup_seconds: u64,
    /// Reports of an enclave with an alarm of its monitor after which it is cordoned; 0 never.
    pub alarms_max: u32,
    /// Dissents of an enclave after which it is cordoned, those in tasks of one tenant as two at most; 0 never.
    pub dissents_max: u32,
    /// Seconds that a ceremony has in which a swarm key is made or changes hands.
    pub ceremony_seconds: u64,
    /// Seconds that a custodian may be away, or unproven, before its committee is replaced by one without it.
    pub custody_grace_seconds: u64,
    /// Whether development machines are let in where the pool's policy admits them.
    pub allow_development: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enclaves_max: 100_000,
            live_tasks_max: 100_000,
            ended_tasks_kept: 10_000,
            queue_max: 100_000,
            attempts_max: 8,
            grant_seconds: 30,
            lease_margin_seconds: 15,
            ungranted_max: 3,
            preempt_grace_seconds: 30,
            slots_per_chip: 1,
            return_seconds: 15,
            join_seconds: 15,
            regroup_seconds: 60,
            alarms_max: 0,
            dissents_max: 0,
            ceremony_seconds: 120,
            custody_grace_seconds: 120,
            allow_development: false,
        }
    }
}

/// Time and the manager's key, as arguments.
pub(crate) struct Env<'a> {
    pub(crate) now: UnixTime,
    pub(crate) signer: &'a dyn Signer,
}

/// The whole pool.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    pub(crate) limits: Limits,
    pub(crate) seq: Seq,
    pub(crate) term: Term,
    pub(crate) manager: Option<Arc<Signed<Appointment>>>,
    /// Appointments of managers before, oldest first: allocations of known tasks may rest on them.
    pub(crate) managers: Vec<Arc<Signed<Appointment>>>,
    pub(crate) revoked: Revoked,
    pub(crate) enclaves: Sharing<EnclaveId, Enclave>,
    /// What the operator said of enclaves that are not among them.
    pub(crate) memory: Memory,
    /// Who has which slot of which chip.
    pub(crate) slots: Slots,
    /// What proofs have in common.
    pub(crate) kinds: Kinds,
    /// Who may show which accelerator.
    pub(crate) shown: Shown,
    /// Where collateral behind passports is, by its digest.
    pub(crate) collateral: BTreeMap<Digest, Piece>,
    /// How many pieces of it there may be before those that no proof names are forgotten.
    pub(crate) collateral_kept: usize,
    pub(crate) tasks: Sharing<TaskId, Task>,
    pub(crate) ended: VecDeque<TaskId>,
    pub(crate) leases: Sharing<LeaseId, Lease>,
    /// Leases by their last second.
    pub(crate) ends: BTreeSet<(UnixTime, LeaseId)>,
    /// Leases by when something must happen to them at the latest.
    pub(crate) deadlines: Due<LeaseId>,
    /// Enclaves by when a passport of theirs ends.
    pub(crate) lapses: Due<HostId>,
    pub(crate) expiries: BTreeSet<(UnixTime, TaskId)>,
    pub(crate) last_lease: LeaseId,
    /// Places that are being cleared, by for whom.
    pub(crate) claims: BTreeMap<FragmentId, Claim>,
    /// Leases that may be pushed aside, the least urgent first.
    pub(crate) pushable: BTreeSet<(Priority, LeaseId)>,
    /// Fragments that wait for an enclave.
    pub(crate) queue: Queue,
    /// How these stand, as far as anybody asked since the last record.
    pub(crate) told: Told,
    /// Live tasks that ask for swarms, first come first.
    pub(crate) gangs: BTreeSet<(Seq, TaskId)>,
    /// Whose swarm a seat is of.
    pub(crate) seats: BTreeMap<LeaseId, TaskId>,
    /// Whose loan a lease is.
    pub(crate) loans: BTreeMap<LeaseId, TaskId>,
    /// What is booked for a swarm that waits.
    pub(crate) ahead: Option<Box<GangBooking>>,
    /// When room for one was searched last.
    pub(crate) searched: Searched,
    /// What clients called their tries: body and task.
    pub(crate) idempotency: BTreeMap<(PublicKey, String), (Digest, TaskId)>,
    /// Tasks that ran and were forgotten, until their requests expire.
    pub(crate) forgotten: BTreeSet<(UnixTime, TaskId)>,
    /// Policies and the reference values they are held to.
    pub(crate) policies: Policies,
    /// How far regions are from each other.
    pub(crate) distances: Distances,
    /// The index over the enclaves.
    pub(crate) classes: Classes,
    /// What their rules of placement said.
    pub(crate) permits: Permits,
    /// Seats that are set aside, and those that were lately.
    pub(crate) reservations: BTreeMap<ReservationId, Booking>,
    /// Who has seats on each enclave.
    pub(crate) seats_at: BTreeMap<EnclaveId, BTreeSet<ReservationId>>,
    /// What a dry run holds until it has answered, beside reservations.
    pub(crate) questions: BTreeMap<LeaseId, Demand>,
    /// What tenants may do, and do.
    pub(crate) accounts: Accounts,
    /// What past runs of modules took.
    pub(crate) history: History,
    /// Swarm keys, and who has them.
    pub(crate) swarm_keys: BTreeMap<SwarmName, SwarmKey>,
    /// Time of the last record.
    pub(crate) at: UnixTime,
}

/// A journal that no pool can have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Written by a program this one does not know.
    #[error(
        "record {seq:?} has version {version}; this program knows versions {RECORD_VERSION_OLDEST} to {RECORD_VERSION}"
    )]
    Version {
        /// Where.
        seq: Seq,
        /// Which.
        version: u32,
    },
    /// Records are missing or doubled.
    #[error("record {got:?} follows record {after:?}")]
    Gap {
        /// Last good position.
        after: Seq,
        /// Position found.
        got: Seq,
    },
    /// A record is about something that is not there.
    #[error("record {seq:?} is about {what}, which the records before do not know")]
    Unknown {
        /// Where.
        seq: Seq,
        /// About what.
        what: String,
    },
    /// A record says what cannot have happened.
    #[error("record {seq:?} says what cannot follow the records before: {what}")]
    Impossible {
        /// Where.
        seq: Seq,
        /// What.
        what: String,
    },
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            seq: Seq(0),
            term: Term(0),
            manager: None,
            managers: Vec::new(),
            revoked: Revoked::default(),
            enclaves: Sharing::new(),
            memory: Memory::default(),
            slots: Slots::default(),
            kinds: Kinds::default(),
            shown: Shown::default(),
            collateral: BTreeMap::new(),
            collateral_kept: crate::enclave::COLLATERAL_KEPT,
            tasks: Sharing::new(),
            ended: VecDeque::new(),
            leases: Sharing::new(),
            ends: BTreeSet::new(),
            deadlines: Due::default(),
            lapses: Due::default(),
            expiries: BTreeSet::new(),
            last_lease: LeaseId(0),
            claims: BTreeMap::new(),
            pushable: BTreeSet::new(),
            queue: Queue::default(),
            gangs: BTreeSet::new(),
            seats: BTreeMap::new(),
            loans: BTreeMap::new(),
            ahead: None,
            searched: Searched::default(),
            told: Told::default(),
            idempotency: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            policies: Policies::default(),
            distances: Distances::default(),
            classes: Classes::default(),
            permits: Permits::default(),
            reservations: BTreeMap::new(),
            questions: BTreeMap::new(),
            seats_at: BTreeMap::new(),
            accounts: Accounts::default(),
            history: History::default(),
            swarm_keys: BTreeMap::new(),
            at: UnixTime(0),
        }
    }

    /// Position of the last record.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Current term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Current revocation epoch.
    pub fn revocations(&self) -> RevocationEpoch {
        self.revoked.epoch()
    }

    /// Everything that is revoked.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// The enclaves, by name.
    pub fn enclaves(&self) -> &Sharing<EnclaveId, Enclave> {
        &self.enclaves
    }

    /// The tasks, by name.
    pub fn tasks(&self) -> &Sharing<TaskId, Task> {
        &self.tasks
    }

    /// The leases, by name.
    pub fn leases(&self) -> &Sharing<LeaseId, Lease> {
        &self.leases
    }

    /// Changes the pool by one record: the only way it changes. Gives the leases that became ready to be offered.
    ///
    /// # Errors
    /// A record that cannot follow the ones before it. The pool is then as it was before.
    pub fn absorb(&mut self, record: &Record) -> Result<Vec<LeaseId>, Corrupt> {
        self.may_follow(record)?;
        self.seq = record.seq;
        self.term = record.term;
        self.at = record.at;
        self.fall_due(record.at);
        let leases = &self.leases;
        self.deadlines.advance(record.at.0, |id| leases.contains_key(&id));
        // What `may_follow` let through is known here; the error is for a defect between the two.
        let impossible = || Corrupt::Impossible { seq: record.seq, what: "its parts do not fit".into() };
        self.change(record).ok_or_else(impossible)
    }

    fn change(&mut self, record: &Record) -> Option<Vec<LeaseId>> {
        let now = record.at;
        match &record.event {
            Event::TermBegan { appointment } => self.absorb_term(appointment, now),
            Event::Attested { passport, appointment, evidence: _, collateral } => {
                for (nth, item) in collateral.iter().enumerate() {
                    // What another record holds already stays where it is: proofs name that place.
                    self.collateral.entry(item.digest()).or_insert(Piece::new(record.seq, nth)?);
                }
                let pieces = passport.collateral.iter().map(|digest| self.collateral.get(digest).copied());
                let proof = Brief {
                    passport: passport.digest(),
                    at: record.seq,
                    issued: passport.issued,
                    expires: passport.expires,
                    behind: self.kinds.behind(Behind::new(pieces.collect::<Option<_>>()?, passport)),
                    kind: self.kinds.of(passport, appointment),
                };
                self.absorb_attested(passport, proof, now, record.version);
                self.forget_collateral();
            }
            Event::Arrived { enclave } => self.absorb_arrived(*enclave, now)?,
            Event::Left { enclave, .. } => {
                self.enclaves.get_mut(enclave)?.leave(now);
                self.reindex_room(*enclave);
            }
            Event::Draining { enclave } => {
                self.enclaves.get_mut(enclave)?.drain();
                self.reindex_room(*enclave);
            }
            Event::Cordoned { enclave, why, author } => self.absorb_cordoned(*enclave, why, author, now)?,
            Event::Uncordoned { enclave, .. } => self.absorb_uncordoned(*enclave),
            Event::Decommissioned { enclave, why, author } => {
                self.absorb_decommissioned(*enclave, why, author, now)?;
            }
            Event::DistancesSet { rows, .. } => self.absorb_distances(rows),
            Event::DistancesMeasured { rows } => self.absorb_measured(rows),
            Event::Revoked { revocation } => self.absorb_revoked(revocation, now),
            Event::Lapsed { enclave, why } | Event::Barred { enclave, why } => {
                self.absorb_lapsed(*enclave, why, now)?
            }
            Event::Withdrawn { enclave, verifier, why } => self.absorb_withdrawn(*enclave, *verifier, why, now)?,
            Event::Submitted { request, idempotency } => {
                self.absorb_submitted(request, idempotency.as_ref(), record.seq);
            }
            Event::Granted { grant, keys } => return self.absorb_granted(grant, keys, now),
            Event::Leased { allocation } => {
                return self.absorb_leased(allocation, now).map(|ready| ready.into_iter().collect());
            }
            Event::Lent { allocation, in_turn } => self.absorb_lent(allocation, *in_turn, record.seq)?,
            Event::Claimed { fragment, enclave, victims, until } => {
                self.absorb_claimed(*fragment, *enclave, victims, *until)?;
            }
            Event::Unclaimed { fragment, .. } => self.give_up_claim(*fragment),
            Event::LeaseEnded { lease, why, charged: None } => {
                self.absorb_lease_ended(*lease, why, (record.seq, now))?;
            }
            Event::LeaseEnded { lease, why, charged: Some(charged) } => {
                self.absorb_loan_ended(*lease, why, *charged, now)?;
            }
            Event::Reported { report, aggregate, keys, charged, metered, attached } => {
                let answers = self.answers_of(report, attached, record.seq)?;
                self.absorb_reported(report, aggregate.as_deref(), keys, (*metered, *charged), (record.seq, now))?;
                self.note_conduct(report, attached, now);
                self.keep_answers(report, answers)?;
                self.note_owed(report, attached)?;
            }
            Event::Proved { task, statement } => self.absorb_proved(*task, statement, record.seq)?,
            Event::Unproved { task, report, why } => self.absorb_unproved(*task, *report, why)?,
            Event::SwarmSeated { seating } => self.absorb_seated(seating, now)?,
            Event::SwarmJoined { membership } => self.absorb_joined(membership)?,
            Event::SeatsEnded { task, seats, why } => self.absorb_seats_ended(*task, seats, why, now)?,
            Event::GangBooked { booking } => self.ahead = Some(booking.clone()),
            Event::GangUnbooked { task, why } => self.absorb_unbooked(*task, why, now)?,
            Event::Reserved { booking } => self.absorb_reserved(booking, record.seq),
            Event::Reseated { reservation, seat, enclave, price_hour } => {
                self.absorb_reseated(*reservation, *seat, *enclave, *price_hour, record.at)?;
            }
            Event::SeatsShort { reservation, seats } => self.absorb_seats_short(*reservation, seats, record.at)?,
            Event::ReservationEnded { reservation, why, charged } => {
                self.absorb_reservation_ended(*reservation, why, *charged)?;
            }
            Event::AccountSet { tenant, terms, .. } => self.absorb_account(tenant.as_ref(), terms, record.seq),
            Event::ReferenceAdded { value, .. } => self.absorb_reference(value, record.seq)?,
            Event::ReferenceExpired { name, end, .. } => self.absorb_expiry(name, *end, record.seq)?,
            Event::PolicySet { scope, text, author } => self.absorb_policy(scope, text, author, now, record.seq)?,
            Event::CharterSet { charter, .. } => self.absorb_charter(charter),
            Event::CustodyAsked { swarm, .. } => self.absorb_asked(swarm, now)?,
            Event::CustodyCalled { swarm, call, why } => self.absorb_called(swarm, call, *why)?,
            Event::CustodySaid { swarm, word } => self.absorb_said(swarm, word, now)?,
            Event::CustodyEnded { swarm, why, left_out, .. } => self.absorb_call_ended(swarm, *why, left_out, now)?,
            Event::TaskEnded { task, state } => self.absorb_task_ended(*task, state, now)?,
        }
        Some(Vec::new())
    }

    /// A manager began: enclaves are away until they return; leases live on that long.
    fn absorb_term(&mut self, appointment: &Signed<Appointment>, now: UnixTime) {
        let before = self.manager.replace(Arc::new(appointment.clone()));
        self.managers.extend(before);
        // Kept is what an allocation of a known task rests on.
        let tasks = self.tasks.values().flat_map(|t| &t.fragments).flat_map(|f| &f.allocations);
        let rounds = self.tasks.values().filter_map(|t| t.swarm.as_ref()).flat_map(|s| &s.rounds);
        let seatings = rounds.filter_map(|r| r.seating.prev.get(1).copied());
        let lent = self.tasks.values().flat_map(Task::loan_managers);
        let wanted: BTreeSet<Digest> =
            tasks.filter_map(|a| a.prev.get(1).copied()).chain(seatings).chain(lent).collect();
        let mut seen = BTreeSet::from([appointment.digest()]);
        self.managers.retain(|m| wanted.contains(&m.digest()) && seen.insert(m.digest()));
        for enclave in self.enclaves.values_mut() {
            enclave.leave(now);
            self.classes.room(enclave);
        }
        let return_by = now.plus(self.limits.return_seconds);
        let open: Vec<_> = self.leases.keys().copied().collect();
        for lease in open {
            self.move_deadline(lease, |l| l.return_by = Some(return_by));
        }
        self.keep_seats(return_by);
        self.keep_loans(return_by);
    }
}
