//! Enclaves as the pool knows them: proven by a passport, present or not, with so much left to lease.

use std::{collections::BTreeSet, sync::Arc};

use legation_core::{
    Bytes, Digest, EnclaveId, LeaseId, Millicores, Rejection, Signed, UnixTime,
    claims::{Capacity, Evidence, Rate},
    statement::{Appointment, Office, PASSPORT_LIFE_MAX, Passport, Tier},
    task::Demand,
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::{Change, holds},
    event::{Effect, Event, LeaseEnd},
    pool::{Env, Pool},
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

/// Passports of one enclave that are kept: a report may name the one before the last renewal.
const PROOFS_KEPT: usize = 4;

/// A passport with what is behind it.
#[derive(Clone, PartialEq, Debug)]
pub struct Proof {
    /// The passport.
    pub passport: Arc<Signed<Passport>>,
    /// Appointment of its verifier.
    pub appointment: Arc<Signed<Appointment>>,
    /// The evidence behind it.
    pub evidence: Arc<Evidence>,
}

/// What the passport says, at hand: placement looks at many enclaves, and passports are large.
#[derive(Clone, PartialEq, Debug)]
struct Facts {
    issued: UnixTime,
    expires: UnixTime,
    capacity: Capacity,
    rate: Rate,
    /// Digest of the sealing key.
    sealing: Digest,
    /// Digest of all that a requirement can ask about: enclaves of one kind satisfy the same requirements.
    kind: Digest,
}

impl Facts {
    fn of(passport: &Passport) -> Self {
        Self {
            issued: passport.issued,
            expires: passport.expires,
            capacity: passport.configuration.capacity,
            rate: passport.configuration.rate,
            sealing: passport.sealing.digest(),
            kind: kind(passport),
        }
    }
}

/// Digest of claims and configuration without what is each enclave's own, which no requirement can name.
fn kind(passport: &Passport) -> Digest {
    let mut claims = passport.claims.clone();
    claims.chip.value.clear();
    claims.report_data.clear();
    Digest::of_parts(&[&serde_json::to_vec(&claims).unwrap_or_default(), &passport.configuration.encode()])
}

/// One enclave.
#[derive(Clone, PartialEq, Debug)]
pub struct Enclave {
    /// Its current proof.
    pub proof: Proof,
    /// Proofs before it, newest last.
    earlier: Vec<Proof>,
    /// What placement asks of every enclave.
    facts: Facts,
    /// It takes no more offers, until it boots anew.
    draining: bool,
    /// Whether it can be reached.
    pub presence: Presence,
    /// Why it is no longer trusted, if so.
    pub revoked: Option<String>,
    /// What is leased of it.
    pub leases: BTreeSet<LeaseId>,
    /// Compute that is leased.
    pub cpu_leased: Millicores,
    /// Memory that is leased.
    pub memory_leased: Bytes,
}

impl Enclave {
    pub(crate) fn new(proof: Proof, now: UnixTime) -> Self {
        Self {
            facts: Facts::of(&proof.passport),
            proof,
            earlier: Vec::new(),
            draining: false,
            presence: Presence::Away { since: now },
            revoked: None,
            leases: BTreeSet::new(),
            cpu_leased: Millicores::ZERO,
            memory_leased: Bytes::ZERO,
        }
    }

    pub(crate) fn renew(&mut self, proof: Proof) {
        self.facts = Facts::of(&proof.passport);
        let before = std::mem::replace(&mut self.proof, proof);
        self.earlier.push(before);
        if self.earlier.len() >= PROOFS_KEPT {
            self.earlier.remove(0);
        }
    }

    /// The proof whose passport has this digest.
    pub fn proof_by(&self, passport: Digest) -> Option<&Proof> {
        std::iter::once(&self.proof).chain(self.earlier.iter().rev()).find(|p| p.passport.digest() == passport)
    }

    /// Its current passport.
    pub fn passport(&self) -> &Signed<Passport> {
        &self.proof.passport
    }

    /// Digest of its sealing key: what names it as the recipient of a wrapped key.
    pub(crate) fn sealing(&self) -> Digest {
        self.facts.sealing
    }

    pub(crate) fn arrive(&mut self) {
        self.presence = if self.draining { Presence::Draining } else { Presence::Here };
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
        if self.presence == Presence::Here {
            self.presence = Presence::Draining;
        }
    }

    fn is_away(&self) -> bool {
        matches!(self.presence, Presence::Away { .. })
    }

    /// What it offers in all.
    pub fn capacity(&self) -> Capacity {
        self.facts.capacity
    }

    /// What it costs.
    pub(crate) fn rate(&self) -> Rate {
        self.facts.rate
    }

    /// What kind of enclave it is: those of one kind satisfy the same requirements.
    pub(crate) fn kind(&self) -> Digest {
        self.facts.kind
    }

    /// Whether its passport holds at `now`.
    pub(crate) fn proven_at(&self, now: UnixTime) -> bool {
        self.facts.issued <= now && now <= self.facts.expires
    }

    /// Whether `demand` fits into what is left.
    pub fn fits(&self, demand: &Demand) -> bool {
        let all = self.capacity();
        self.has_slot()
            && self.cpu_leased.checked_add(demand.cpu).is_some_and(|cpu| cpu <= all.cpu)
            && self.memory_leased.checked_add(demand.memory).is_some_and(|memory| memory <= all.memory)
    }

    /// Whether it could take anything at all.
    pub(crate) fn has_room(&self) -> bool {
        self.presence == Presence::Here && self.revoked.is_none() && self.has_slot()
    }

    fn has_slot(&self) -> bool {
        (self.leases.len() as u64) < u64::from(self.capacity().slots)
    }

    pub(crate) fn take(&mut self, lease: LeaseId, demand: &Demand) {
        if self.leases.insert(lease) {
            self.cpu_leased = self.cpu_leased.saturating_add(demand.cpu);
            self.memory_leased = self.memory_leased.saturating_add(demand.memory);
        }
    }

    pub(crate) fn give_back(&mut self, lease: LeaseId, demand: &Demand) {
        if self.leases.remove(&lease) {
            self.cpu_leased = self.cpu_leased.saturating_sub(demand.cpu);
            self.memory_leased = self.memory_leased.saturating_sub(demand.memory);
        }
    }
}

impl Pool {
    /// A verifier admitted an enclave. One live identity per chip: another enclave that claims the chip of one that is
    /// here is refused; one whose predecessor is away replaces it.
    pub(crate) fn attested(
        &mut self,
        passport: Signed<Passport>,
        appointment: Signed<Appointment>,
        evidence: Evidence,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let id = passport.enclave_id();
        let known = self.enclaves.get(&id);
        if let Some(why) = known.and_then(|e| e.revoked.as_ref()) {
            return Err(revoked(id, why));
        }
        check_passport(&passport, &appointment, &evidence, env.now)?;
        match known {
            Some(known) if known.passport().digest() == passport.digest() => return Ok(()),
            Some(known) => check_renewal(known.passport(), &passport)?,
            None => {}
        }
        let twin = self.by_chip.get(&passport.claims.chip.value).copied().filter(|t| *t != id);
        if let Some(twin) = twin.filter(|t| self.enclaves.get(t).is_some_and(|e| !e.is_away())) {
            return Err(Rejection::new("pool.chip", "chip identity of the enclave")
                .expected("a chip that no other live enclave claims")
                .got(format!("the chip of enclave {}, which is here", twin.short()))
                .fix("stop the other agent on this machine first; if there is none, the chip's key has leaked"));
        }
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
            },
        )?;
        Ok(())
    }

    /// A pool that is full takes an enclave for one that it can forget.
    fn check_enclaves_max(&self, twin: Option<EnclaveId>, now: UnixTime) -> Result<(), Rejection> {
        let replaces = twin.and_then(|t| self.enclaves.get(&t)).is_some_and(|e| e.revoked.is_none());
        let full = self.enclaves.len() >= self.limits.enclaves_max;
        if full && !replaces && self.forgettable(now).is_none() {
            return Err(Rejection::new("pool.full", "enclaves of the pool")
                .expected(format!("fewer than {}", self.limits.enclaves_max))
                .got(self.enclaves.len())
                .fix("try again when an enclave has been away for longer than its passport holds"));
        }
        Ok(())
    }

    /// The enclave that is missed least: longest away, with nothing to do and a passport that is over.
    fn forgettable(&self, now: UnixTime) -> Option<EnclaveId> {
        let idle = self
            .enclaves
            .iter()
            .filter(|(_, e)| e.revoked.is_none() && e.leases.is_empty() && e.passport().expires < now);
        let away = idle.filter_map(|(id, e)| match e.presence {
            Presence::Away { since } => Some((since, *id)),
            _ => None,
        });
        away.min().map(|(_, id)| id)
    }

    pub(crate) fn absorb_attested(&mut self, proof: Proof, now: UnixTime) {
        let id = proof.passport.enclave_id();
        let chip = proof.passport.claims.chip.value.clone();
        if let Some(before) = self.by_chip.insert(chip, id).filter(|b| *b != id)
            && self.enclaves.get(&before).is_some_and(|e| e.revoked.is_none())
        {
            self.enclaves.remove(&before);
        }
        if let Some(enclave) = self.enclaves.get_mut(&id) {
            enclave.renew(proof);
            return;
        }
        if self.enclaves.len() >= self.limits.enclaves_max
            && let Some(oldest) = self.forgettable(now)
            && let Some(forgotten) = self.enclaves.remove(&oldest)
        {
            let chip = &forgotten.passport().claims.chip.value;
            if self.by_chip.get(chip) == Some(&oldest) {
                self.by_chip.remove(chip);
            }
        }
        self.enclaves.insert(id, Enclave::new(proof, now));
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
        if let Some(why) = &known.revoked {
            return Err(revoked(enclave, why));
        }
        let held = known.leases.clone();
        if known.is_away() {
            out.record(self, env, Event::Arrived { enclave })?;
        }
        for lease in held.iter().filter(|l| !running.contains(l)) {
            if self.leases.get(lease).is_some_and(|l| l.offered) {
                out.effects.push(Effect::Offer { enclave, lease: *lease });
            }
        }
        // What it runs for nobody: the lease was moved while it was away.
        for lease in running.iter().filter(|l| !held.contains(l)) {
            out.effects.push(Effect::Cancel { enclave, lease: *lease });
        }
        Ok(())
    }

    pub(crate) fn absorb_arrived(&mut self, id: EnclaveId, now: UnixTime) -> Option<()> {
        let enclave = self.enclaves.get_mut(&id)?;
        enclave.arrive();
        let held = enclave.leases.clone();
        // What ended while nobody led may be reported yet.
        let grace = now.plus(self.limits.return_seconds);
        for lease in held {
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

pub(crate) fn revoked(enclave: EnclaveId, why: &str) -> Rejection {
    Rejection::new("pool.revoked", format!("enclave {}", enclave.short()))
        .expected("not revoked")
        .got(format!("revoked: {why}"))
        .fix("a revoked enclave does not return: start the agent anew, and its new keys are judged anew")
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
    let longest = passport.issued.plus(PASSPORT_LIFE_MAX).min(appointment.not_after);
    if passport.expires > longest {
        return Err(bad("life of the passport").expected(format!("to {longest} at most")).got(passport.expires));
    }
    let digest = evidence.digest();
    if digest != passport.evidence {
        return Err(bad("evidence behind the passport").expected(passport.evidence).got(digest));
    }
    Ok(())
}

/// What one boot of an enclave cannot change: keys are wrapped to it, prices agreed and capacity leased by its passport.
fn check_renewal(before: &Passport, after: &Passport) -> Result<(), Rejection> {
    let same = before.sealing == after.sealing
        && before.configuration == after.configuration
        && before.claims.chip.value == after.claims.chip.value;
    if same {
        Ok(())
    } else {
        Err(Rejection::new("pool.renewal", format!("renewed passport of enclave {}", after.enclave_id().short()))
            .expected("the chip, sealing key and configuration of the one before")
            .got("others")
            .fix("start the agent anew: what is measured at its start is the same until it ends"))
    }
}
