//! Enclaves as the pool knows them: proven by a passport, present or not, with so much left to lease.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Digest, EnclaveId, KeyId, LeaseId, Rejection, Revocable, RevocationEpoch, Signed, UnixTime,
    claims::{ADVERTISE_MAX, Capacity, Claims, CollateralItem, Evidence, Rate},
    statement::{Appointment, Office, PASSPORT_LIFE_MAX, Passport, Tier},
    task::Demand,
};
use serde::{Deserialize, Serialize};

use crate::{
    apart::Apart,
    apply::{Change, holds},
    brief::{Brief, Piece},
    chip::Chip,
    classes::Handle,
    event::{Effect, Event, LeaseEnd},
    index::{Amount, Room},
    kind::shared_part,
    lapse::Looked,
    load::{Load, WHOLE},
    pool::{Env, Pool},
    proofs::{Earlier, Proofs, VERIFIERS_MAX},
    text::cut,
};

/// Whether an enclave can be reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Presence {
    /// An attested channel to it is open.
    Here,
    /// It finishes what it has and takes no more.
    Draining,
    /// There is no channel.
    Away {
        /// Since when.
        since: UnixTime,
    },
}

/// Why nothing is placed on an enclave until it proves itself anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cordon {
    /// Since when.
    pub since: UnixTime,
    /// Why.
    pub why: Rejection,
    /// The revocation that took its last proof, if one did.
    pub revocation: Option<RevocationEpoch>,
}

/// A verifier took its passport back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Which verifier, by its key.
    pub verifier: KeyId,
    /// When.
    pub at: UnixTime,
    /// Why.
    pub why: Rejection,
}

/// Pieces of collateral that are kept without a look at whether a proof names them.
pub(crate) const COLLATERAL_KEPT: usize = 256;

/// One enclave. There may be very many: what few have stands beside it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enclave {
    pub(crate) proofs: Proofs,
    /// Its chip and the digest of its sealing key: all its passports say the same.
    chip: Chip,
    sealing: Digest,
    /// There is no channel to it..
    away: bool,
    /// ..since then; zero where there is one.
    since: UnixTime,
    /// It takes no more offers, until it boots anew.
    draining: bool,
    /// It has its slot of its chip: nobody else attested there since.
    pub(crate) fills_slot: bool,
    /// Why nothing, or not everything, is placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) apart: Option<Box<Apart>>,
    /// What is leased of it, and what of its accelerators is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) load: Option<Box<Load>>,
    /// Its number in the index.
    #[serde(skip)]
    pub(crate) host: Handle,
    /// When it is looked at next.
    #[serde(skip)]
    pub(crate) looked: Looked,
}

impl Enclave {
    pub(crate) fn new(passport: &Passport, proof: Brief, now: UnixTime) -> Self {
        Self {
            chip: Chip::new(&passport.claims.chip.value),
            sealing: passport.sealing.digest(),
            proofs: Proofs::new(proof),
            away: true,
            since: now,
            draining: false,
            fills_slot: false,
            apart: None,
            load: Load::of_gpus(passport.claims.gpus.len()),
            host: Handle::default(),
            looked: Looked::default(),
        }
    }

    /// Takes a new proof: whatever it was cordoned for is over. Of those before it, `earlier` are kept.
    pub(crate) fn renew(&mut self, proof: Brief, earlier: Earlier) {
        self.vouched_for(proof.verifier());
        self.renew_gpus(proof.typical().claims.gpus.len());
        self.proofs.take(proof, earlier);
    }

    /// The newest of its proofs that count; when none does, the newest it had.
    pub fn proof(&self) -> &Brief {
        self.proofs.newest()
    }

    /// The proof whose passport has this digest, if it is kept and was not taken back.
    pub fn proof_by(&self, passport: Digest) -> Option<&Brief> {
        self.proofs.by(passport)
    }

    /// Proofs of it that count while their passports hold, one of each verifier, the freshest first.
    pub fn proofs(&self) -> impl Iterator<Item = &Brief> {
        self.proofs.current().iter()
    }

    /// What requirements, policies, prices and ranking see of the proof that [`Self::proof`] gives.
    pub fn typical(&self) -> &Passport {
        self.proof().typical()
    }

    /// The claims of that proof, as far as people are shown them: without what its report bound.
    pub(crate) fn claims(&self) -> Claims {
        let mut claims = self.typical().claims.clone();
        claims.chip.value = self.chip.name();
        for (gpu, chip) in claims.gpus.iter_mut().zip(self.proof().gpus()) {
            gpu.value.chip = chip.name();
        }
        claims
    }

    pub(crate) fn chip(&self) -> &Chip {
        &self.chip
    }

    /// What names its slot of its chip.
    pub(crate) fn slot(&self) -> Digest {
        self.chip.slot(self.typical().configuration.slot)
    }

    /// Whether a proof of it, whose name is `id`, rests on something.
    pub(crate) fn rests_on(&self, id: EnclaveId, proof: &Brief, what: &Revocable) -> bool {
        match what {
            Revocable::Enclave(enclave) => *enclave == id,
            Revocable::Chip(chip) => {
                let chip = Chip::new(chip);
                self.chip == chip || proof.gpus().contains(&chip)
            }
            what => what.covers(proof.typical()),
        }
    }

    /// Digest of its sealing key: what names it as the recipient of a wrapped key.
    pub fn sealing(&self) -> Digest {
        self.sealing
    }

    /// Whether it can be reached.
    pub fn presence(&self) -> Presence {
        match (self.away, self.draining) {
            (true, _) => Presence::Away { since: self.since },
            (false, true) => Presence::Draining,
            (false, false) => Presence::Here,
        }
    }

    pub(crate) fn arrive(&mut self) {
        (self.away, self.since) = (false, UnixTime(0));
    }

    /// The channel is gone.
    pub(crate) fn leave(&mut self, now: UnixTime) {
        (self.away, self.since) = (true, now);
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// What it offers in all.
    pub fn capacity(&self) -> Capacity {
        self.typical().configuration.capacity
    }

    /// What it costs.
    pub(crate) fn rate(&self) -> Rate {
        self.typical().configuration.rate
    }

    /// Whether `demand` fits into what is left.
    pub fn fits(&self, demand: &Demand) -> bool {
        self.room().fits(&amount(demand))
    }

    /// What is left, as placement sees it.
    pub(crate) fn room(&self) -> Room {
        let all = self.capacity();
        let leased = u32::try_from(self.leases().len()).unwrap_or(u32::MAX);
        let (share, whole) = left_of(self.gpus_left());
        Room {
            cpu: all.cpu.saturating_sub(self.cpu_leased()).0,
            memory: all.memory.saturating_sub(self.memory_leased()).0,
            slots: all.slots.saturating_sub(leased),
            share,
            whole,
        }
    }

    /// What there is in all, as placement sees it.
    pub(crate) fn total(&self) -> Amount {
        let all = self.capacity();
        Amount { cpu: all.cpu.0, memory: all.memory.0, gpus: self.gpus_left().len() as u64 * u64::from(WHOLE) }
    }

    /// Whether it could take anything at all.
    pub(crate) fn has_room(&self) -> bool {
        self.is_open() && self.has_slot()
    }

    /// Whether it takes work of anybody: it is here, trusted, and kept neither back nor for somebody.
    pub(crate) fn is_open(&self) -> bool {
        let kept = self.claimed().is_some() || self.hold().is_some();
        self.presence() == Presence::Here && self.is_trusted() && !kept && !self.is_alone()
    }

    /// Whether it is a custodian that runs no modules.
    pub(crate) fn is_alone(&self) -> bool {
        self.typical().configuration.custody.as_ref().is_some_and(|custody| custody.alone)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether work may be placed on it at all: neither revoked nor cordoned.
    pub(crate) fn is_trusted(&self) -> bool {
        self.revoked().is_none() && self.cordon().is_none()
    }

    fn has_slot(&self) -> bool {
        (self.leases().len() as u64) < u64::from(self.capacity().slots)
    }
}

/// What would be left of an enclave as its leases go, one after the other.
pub(crate) struct Leaving<'a> {
    enclave: &'a Enclave,
    room: Room,
    /// What is left of its accelerators, where that is asked.
    gpus: Vec<u16>,
}

impl<'a> Leaving<'a> {
    /// Nobody has gone yet; `demand` is what room is sought for.
    pub(crate) fn new(enclave: &'a Enclave, demand: &Demand) -> Self {
        let gpus = if demand.gpus.0 > 0 { enclave.gpus_left().to_vec() } else { Vec::new() };
        Self { enclave, room: enclave.room(), gpus }
    }

    /// A lease of it, of this demand, goes.
    pub(crate) fn leaves(&mut self, lease: LeaseId, demand: &Demand) {
        self.room.cpu = self.room.cpu.saturating_add(demand.cpu.0);
        self.room.memory = self.room.memory.saturating_add(demand.memory.0);
        self.room.slots = self.room.slots.saturating_add(1);
        for (gpu, share) in self.enclave.gpus_of(lease) {
            if let Some(left) = self.gpus.get_mut(*gpu) {
                *left = left.saturating_add(*share).min(WHOLE);
            }
        }
        (self.room.share, self.room.whole) = left_of(&self.gpus);
    }

    /// Whether `demand`, for which it was made, fits into what is left now.
    pub(crate) fn fits(&self, demand: &Demand) -> bool {
        self.room.fits(&amount(demand))
    }
}

/// The most that is left of one accelerator, and how many are whole.
fn left_of(gpus: &[u16]) -> (u16, u16) {
    let whole = gpus.iter().filter(|left| **left == WHOLE).count();
    (gpus.iter().copied().max().unwrap_or(0), u16::try_from(whole).unwrap_or(u16::MAX))
}

/// What a demand sets aside.
pub(crate) fn amount(demand: &Demand) -> Amount {
    Amount { cpu: demand.cpu.0, memory: demand.memory.0, gpus: demand.gpus.0 }
}

/// What names chip and slot of an enclave: one live identity each.
pub(crate) fn slot_of(passport: &Passport) -> Digest {
    Chip::new(&passport.claims.chip.value).slot(passport.configuration.slot)
}

/// Accelerators that claims name: model and chip.
fn gpus_of(passport: &Passport) -> Vec<(String, Chip)> {
    let gpus = passport.claims.gpus.iter().map(|gpu| &gpu.value);
    gpus.map(|gpu| (gpu.model.clone(), Chip::new(&gpu.chip))).collect()
}

impl Pool {
    /// A verifier admitted an enclave. One live identity per slot of a chip: another enclave that claims the slot of one that
    /// is here is refused; one whose predecessor is away replaces it. A GPU of one that is here is refused likewise.
    pub(crate) fn attested(
        &mut self,
        passport: Signed<Passport>,
        appointment: Signed<Appointment>,
        evidence: Evidence,
        collateral: Vec<CollateralItem>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let id = passport.enclave_id();
        if let Some(revocation) = self.revoked.of(&passport) {
            return Err(revocation.refusal());
        }
        let known = self.enclaves.get(&id);
        if let Some(revocation) = known.and_then(Enclave::revoked) {
            return Err(revocation.refusal());
        }
        if let Some(retired) = self.memory.retired(&passport) {
            return Err(retired.refusal(id));
        }
        check_passport(&passport, &appointment, &evidence, env.now)?;
        self.check_policy(&passport, &appointment, env.now)?;
        self.check_slot(&passport)?;
        let collateral = self.new_collateral(&passport, collateral)?;
        if let Some(known) = known {
            let verifier = passport.verifier_id();
            if known.proofs.of_verifier(verifier).is_some_and(|p| p.passport == passport.digest()) {
                return Ok(());
            }
            check_renewal(known, &passport)?;
            if !known.proofs.has_room_for(verifier, env.now) {
                return Err(Rejection::new("pool.verifiers", format!("verifiers of enclave {}", id.short()))
                    .expected(format!("at most {VERIFIERS_MAX} with passports that hold"))
                    .got("another")
                    .fix("let fewer verifiers judge this enclave"));
            }
        }
        let twin = self.holder_of(&slot_of(&passport)).filter(|t| *t != id);
        if let Some(twin) = twin.filter(|t| self.enclaves.get(t).is_some_and(|e| !e.is_away())) {
            let slot = passport.configuration.slot;
            return Err(Rejection::new("pool.chip", format!("chip identity of enclave {}, slot {slot}", id.short()))
                .expected("a slot of a chip that no other live enclave claims")
                .got(format!("that of enclave {}, which is here", twin.short()))
                .fix("stop the other agent on this machine first, or give this one a slot of its own; if there is no other, the chip's key has leaked"));
        }
        self.check_gpus(id, &gpus_of(&passport), twin)?;
        if known.is_none() {
            self.check_enclaves_max(twin, env.now)?;
        }
        if let Some(twin) = twin {
            self.end_leases_of(twin, &LeaseEnd::EnclaveLost { why: "its machine booted anew".into() }, env, out)?;
        }
        out.record(
            self,
            env,
            Event::Attested {
                passport: Box::new(passport),
                appointment: Box::new(appointment),
                evidence: Box::new(evidence),
                collateral,
            },
        )?;
        Ok(())
    }

    /// A chip has as many slots as the operator says.
    fn check_slot(&self, passport: &Passport) -> Result<(), Rejection> {
        let (slot, slots) = (passport.configuration.slot, self.limits.slots_per_chip);
        if slot < slots {
            return Ok(());
        }
        Err(Rejection::new("pool.slot", format!("slot of enclave {} on its chip", passport.enclave_id().short()))
            .expected(format!("less than {slots}, the slots of a chip in this pool"))
            .got(slot)
            .fix("set `slot` of the agent lower, or have the operator raise `slots_per_chip` of the manager"))
    }

    /// Of the collateral that a passport rests on, what the journal does not hold yet.
    fn new_collateral(
        &self,
        passport: &Passport,
        collateral: Vec<CollateralItem>,
    ) -> Result<Vec<CollateralItem>, Rejection> {
        let mut given: BTreeMap<Digest, CollateralItem> = collateral.into_iter().map(|c| (c.digest(), c)).collect();
        let mut new = Vec::new();
        for digest in &passport.collateral {
            if self.collateral.contains_key(digest) {
                continue;
            }
            let item = given.remove(digest).ok_or_else(|| {
                Rejection::new("pool.passport", "collateral behind the passport").expected(digest).got("nothing")
            })?;
            new.push(item);
        }
        Ok(new)
    }

    /// Forgets collateral that no proof names any more, now and then: a look at all proofs for as many new pieces.
    pub(crate) fn forget_collateral(&mut self) {
        if self.collateral.len() <= self.collateral_kept {
            return;
        }
        let kept = self.enclaves.values().flat_map(|e| e.proofs.kept());
        let named: BTreeSet<Piece> = kept.flat_map(|proof| proof.pieces()).copied().collect();
        self.collateral.retain(|_, piece| named.contains(piece));
        self.collateral_kept = self.collateral.len().saturating_mul(2).max(COLLATERAL_KEPT);
    }

    /// A pool that is full takes an enclave for one that it can forget.
    fn check_enclaves_max(&self, twin: Option<EnclaveId>, now: UnixTime) -> Result<(), Rejection> {
        let replaces = twin.and_then(|t| self.enclaves.get(&t)).is_some_and(|e| e.revoked().is_none());
        let full = self.enclaves.len() >= self.limits.enclaves_max;
        if full && !replaces && self.forgettable(now).is_none() {
            return Err(Rejection::new("pool.full", "enclaves of the pool")
                .expected(format!("fewer than {}", self.limits.enclaves_max))
                .got(self.enclaves.len())
                .fix("try again when an enclave has been away for longer than its passport holds"));
        }
        Ok(())
    }

    /// The enclave that is missed least: with nothing to do and proofs that are over, longest away; those that are revoked
    /// last, so that they are shown while there is room.
    fn forgettable(&self, now: UnixTime) -> Option<EnclaveId> {
        let idle = self.enclaves.iter().filter(|(_, e)| e.is_idle() && e.proofs.are_over_at(now));
        let away = idle.filter_map(|(id, e)| match e.presence() {
            Presence::Away { since } => Some((e.revoked().is_some(), since, *id)),
            _ => None,
        });
        away.min().map(|(_, _, id)| id)
    }

    /// Whether a proof rests on this piece of collateral.
    pub fn rests_on(&self, proof: &Brief, collateral: &Digest) -> bool {
        self.collateral.get(collateral).is_some_and(|piece| proof.pieces().contains(piece))
    }

    pub(crate) fn absorb_attested(&mut self, passport: &Passport, proof: Brief, now: UnixTime, version: u32) {
        let id = passport.enclave_id();
        self.accounts.note_rate(passport.configuration.rate);
        let before = self.holder_of(&slot_of(passport)).filter(|b| *b != id);
        // What the operator said of the machine, and what was found against it, holds for its next boot: a drain alone was of the
        // one that drained.
        let gone = before.and_then(|before| self.enclaves.get_mut(&before));
        let (hold, marks) = gone.map(|gone| (gone.take_hold(), gone.take_marks())).unwrap_or_default();
        if let Some(before) = before {
            self.reindex_room(before);
            self.vacate_slot(before);
            if self.enclaves.get(&before).is_some_and(|e| e.revoked().is_none())
                && let Some(gone) = self.enclaves.remove(&before)
            {
                self.memory.keep(before, &gone, self.seq);
                self.classes.leave(&gone);
            }
        }
        self.shown.note(id, &proof);
        if self.enclaves.contains_key(&id) {
            self.vacate_slot(id);
            if let Some(enclave) = self.enclaves.get_mut(&id) {
                enclave.renew(proof, Earlier::of(enclave.is_idle(), version));
                enclave.fade(now);
                enclave.join_marks(marks);
                if hold.is_some() {
                    enclave.set_hold(hold);
                }
            }
        } else {
            self.make_room(now);
            let mut enclave = Enclave::new(passport, proof, now);
            enclave.set_hold(hold);
            enclave.join_marks(marks);
            self.memory.recall(id, &mut enclave);
            self.enclaves.insert(id, enclave);
        }
        self.shown.sweep(&self.enclaves);
        self.keep_lenders_proof(id);
        self.reindex(id);
        self.fill_slot(id);
        self.look_at(id);
    }

    /// A full pool forgets the enclave that is missed least.
    fn make_room(&mut self, now: UnixTime) {
        if self.enclaves.len() < self.limits.enclaves_max {
            return;
        }
        let Some(oldest) = self.forgettable(now) else { return };
        self.vacate_slot(oldest);
        if let Some(forgotten) = self.enclaves.remove(&oldest) {
            self.memory.keep(oldest, &forgotten, self.seq);
            self.classes.leave(&forgotten);
        }
    }

    /// An attested channel is open: the enclave can be offered work. Leases of it that it no longer knows are offered again;
    /// the others go on. What it works on for nobody, it is told to stop.
    pub(crate) fn arrived(
        &mut self,
        enclave: EnclaveId,
        running: &[LeaseId],
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let known = self.known(enclave)?;
        if let Some(revocation) = known.revoked() {
            return Err(revocation.refusal());
        }
        let held = self.work_at(enclave);
        let cordon = known.cordon().map(|cordon| cordon.why.clone());
        if known.is_away() {
            let gpus = known.typical().claims.gpus.iter().map(|gpu| gpu.value.model.clone());
            let gpus: Vec<_> = gpus.zip(known.proof().gpus().iter().cloned()).collect();
            self.check_gpus(enclave, &gpus, None)?;
            out.record(self, env, Event::Arrived { enclave })?;
        }
        // Its passport may hold yet by its dates: it does not know.
        if let Some(why) = cordon {
            out.effects.push(Effect::Reattest { enclave, why: format!("nothing is placed on it: {why}") });
        }
        for lease in held.iter().filter(|l| !running.contains(l)) {
            if self.leases.get(lease).is_some_and(|l| l.offered) {
                out.effects.push(Effect::Offer { enclave, lease: *lease });
            } else if self.loan(*lease).is_some() {
                out.effects.push(Effect::Lend { enclave, loan: *lease });
            }
        }
        let borrowed = self.borrowed_by(enclave);
        for loan in borrowed.iter().filter(|loan| !running.contains(loan)) {
            out.effects.push(Effect::Lent { enclave, loan: *loan, ask: None });
        }
        // What it runs for nobody: the lease was moved while it was away.
        for lease in running.iter().filter(|l| !held.contains(l) && !borrowed.contains(l)) {
            out.effects.push(Effect::Cancel { enclave, lease: *lease });
        }
        let swarms: BTreeSet<_> =
            self.known(enclave)?.leases().iter().filter_map(|lease| self.seat_task(*lease)).collect();
        out.effects.extend(
            swarms
                .into_iter()
                .filter(|task| self.is_asked_to_join(*task, enclave))
                .map(|task| Effect::Enlist { enclave, task }),
        );
        self.tell_custodian(enclave, out);
        Ok(())
    }

    pub(crate) fn absorb_arrived(&mut self, id: EnclaveId, now: UnixTime) -> Option<()> {
        let enclave = self.enclaves.get_mut(&id)?;
        enclave.arrive();
        self.look_at(id);
        self.reindex_room(id);
        // What ended while nobody led may be reported yet.
        let grace = now.plus(self.limits.return_seconds);
        let seats: Vec<_> = self.seats_where(Some(id), |_, _| true);
        for (lease, _) in seats {
            self.seat_mut(lease)?.return_by = None;
        }
        self.lenders_return(id);
        for lease in self.work_at(id) {
            self.move_deadline(lease, |l| {
                if l.return_by.take().is_some() {
                    l.grace = Some(grace);
                }
            });
        }
        Some(())
    }

    /// The channel is gone: its work moves at once.
    pub(crate) fn lost(
        &mut self,
        enclave: EnclaveId,
        why: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.known(enclave)?.is_away() {
            return Ok(());
        }
        let why = cut(why);
        out.record(self, env, Event::Left { enclave, why: why.clone() })?;
        self.end_leases_of(enclave, &LeaseEnd::EnclaveLost { why }, env, out)?;
        Ok(())
    }

    /// The enclave takes no more offers, also when it leaves and returns; what it has, it finishes.
    pub(crate) fn drain(&mut self, enclave: EnclaveId, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        if !self.known(enclave)?.draining {
            out.record(self, env, Event::Draining { enclave })?;
        }
        Ok(())
    }

    pub(crate) fn known(&self, enclave: EnclaveId) -> Result<&Enclave, Rejection> {
        self.enclaves.get(&enclave).ok_or_else(|| {
            Rejection::new("pool.enclave", "the enclave")
                .expected("one of the pool")
                .got(enclave)
                .fix("see `legation enclave list`")
        })
    }
}

/// What a verifier gave holds together, so that a receipt made of it will verify.
fn check_passport(
    passport: &Signed<Passport>,
    appointment: &Signed<Appointment>,
    evidence: &Evidence,
    now: UnixTime,
) -> Result<(), Rejection> {
    let bad = |claim: &str| Rejection::new("pool.passport", claim);
    if !passport.valid_at(now) || passport.ear.status == Tier::Contraindicated {
        return Err(bad("dates and status of the passport")
            .expected(format!("to cover {now}, not contraindicated"))
            .got(format!("{} to {}, {:?}", passport.issued, passport.expires, passport.ear.status)));
    }
    let appointed = appointment.key == passport.verifier
        && appointment.office == Office::Verifier
        && holds(appointment, passport.issued);
    if !appointed || passport.prev != [appointment.digest()] {
        return Err(bad("verifier of the passport")
            .expected(format!("verifier {}, appointed at {}", passport.verifier_id().short(), passport.issued))
            .got(format!("an appointment of {} as {:?}", appointment.key.id().short(), appointment.office)));
    }
    let kind = passport.claims.tee.value;
    if !appointment.covers_kind(kind) {
        return Err(bad("kinds of machines its verifier is trusted with")
            .expected(kind)
            .got("not among them")
            .fix("have this kind judged by a verifier that is appointed for it"));
    }
    let longest = passport.issued.plus(PASSPORT_LIFE_MAX).min(appointment.not_after);
    if passport.expires > longest {
        return Err(bad("life of the passport").expected(format!("to {longest} at most")).got(passport.expires));
    }
    let address = passport.configuration.advertise.as_ref().map_or(1, String::len);
    if !(1..=ADVERTISE_MAX).contains(&address) {
        return Err(bad("address of the enclave").expected(format!("1 to {ADVERTISE_MAX} bytes")).got(address));
    }
    passport.configuration.check_custody()?;
    let digest = evidence.digest();
    if digest != passport.evidence {
        return Err(bad("evidence behind the passport").expected(passport.evidence).got(digest));
    }
    Ok(())
}

/// What one boot of an enclave cannot change: keys are wrapped to it, prices agreed and capacity leased by its passport.
fn check_renewal(before: &Enclave, after: &Passport) -> Result<(), Rejection> {
    let same = before.sealing == after.sealing.digest()
        && before.typical().configuration == shared_part(&after.configuration)
        && before.chip == Chip::new(&after.claims.chip.value);
    if same {
        Ok(())
    } else {
        Err(Rejection::new("pool.renewal", format!("renewed passport of enclave {}", after.enclave_id().short()))
            .expected("the chip, sealing key and configuration of the one before")
            .got("others")
            .fix("start the agent anew: what is measured at its start is the same until it ends"))
    }
}
