//! Revocation: one command, one record, one epoch; leases end, channels close, the work moves.
//!
//! What is revoked need not be known: it may come later. A revoked verifier takes nobody with it but enclaves whose every
//! proof was its own; those may return with a passport of another.

use legation_core::{
    EnclaveId, Rejection, Revocable, Revocation, RevocationEpoch, UnixTime,
    revocation::{NAME_MAX, REASON_MAX, REVOCATIONS_MAX, WEIGHT_MAX},
};

use crate::{
    apply::Change,
    enclave::Cordon,
    event::{Effect, Event, LeaseEnd},
    pool::{Env, Pool},
};

impl Pool {
    pub(crate) fn revoke(
        &mut self,
        what: Revocable,
        why: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        if self.revoked.get(&what).is_some() {
            return Ok(());
        }
        let why = why.get(..why.floor_char_boundary(REASON_MAX)).unwrap_or_default().to_owned();
        let epoch = RevocationEpoch(self.revoked.epoch().0.saturating_add(1));
        let revocation = Revocation { what, epoch, at: env.now, why };
        self.check_revocable(&revocation)?;
        let (refusal, verifier) = (revocation.refusal(), matches!(revocation.what, Revocable::Verifier(_)));
        let grant = match &revocation.what {
            Revocable::Grant(grant) => Some(*grant),
            _ => None,
        };
        out.record(self, env, Event::Revoked { revocation })?;
        out.effects.push(Effect::Revocations);
        for enclave in self.fallen(epoch) {
            out.effects.push(Effect::Close { enclave, why: refusal.clone() });
            self.end_leases_of(enclave, &LeaseEnd::Revoked, env, out)?;
            if !self.known(enclave)?.is_away() {
                out.record(self, env, Event::Left { enclave, why: "revoked".into() })?;
            }
        }
        if let Some(grant) = grant {
            self.end_ungranted(grant, &refusal, env, out)?;
        }
        if verifier {
            // Enclaves that have lost a proof and have another: what only the lost one was good for ends.
            self.lapse(env, out)?;
            self.end_unproven_leases(None, &LeaseEnd::Revoked, env, out)?;
        }
        // Who was revoked may have a share of a swarm key.
        self.tend_custody(true, env, out)
    }

    fn check_revocable(&self, revocation: &Revocation) -> Result<(), Rejection> {
        if let Revocable::Chip(name) | Revocable::Measurement(name) | Revocable::Anchor(name) = &revocation.what
            && !(1..=NAME_MAX).contains(&name.len())
        {
            return Err(Rejection::new("revocation.name", format!("name of the {}", revocation.what.kind()))
                .expected(format!("1 to {NAME_MAX} bytes"))
                .got(name.len())
                .fix("name it as its claims do: see `legation enclave show`"));
        }
        let weight = self.revoked.weight().saturating_add(revocation.weight());
        if self.revoked.len() >= REVOCATIONS_MAX || weight > WEIGHT_MAX {
            return Err(Rejection::new("revocation.full", "revocations of the pool")
                .expected(format!("at most {REVOCATIONS_MAX}, of {WEIGHT_MAX} bytes in all"))
                .got(format!("{} of {weight} bytes", self.revoked.len().saturating_add(1)))
                .fix("revoke what many have in common (provider, measurement, anchor) rather than each, with short reasons"));
        }
        Ok(())
    }

    /// Enclaves that fell with this revocation: revoked, or left without a proof by it.
    pub fn fallen(&self, epoch: RevocationEpoch) -> Vec<EnclaveId> {
        let of = |e: &crate::enclave::Enclave| {
            e.revoked().is_some_and(|r| r.epoch == epoch) || e.cordon().is_some_and(|c| c.revocation == Some(epoch))
        };
        self.enclaves.iter().filter(|(_, e)| of(e)).map(|(id, _)| *id).collect()
    }

    /// Every revocation so far, ascending by epoch.
    pub fn revocations_list(&self) -> Vec<Revocation> {
        self.revoked.list()
    }

    pub(crate) fn absorb_revoked(&mut self, revocation: &Revocation, now: UnixTime) {
        self.revoked.insert(revocation.clone());
        if matches!(revocation.what, Revocable::Verifier(_)) {
            self.drop_proofs(revocation, now);
            return;
        }
        for (id, enclave) in self.enclaves.iter_mut().filter(|(_, e)| e.revoked().is_none()) {
            if enclave.proofs.kept().any(|proof| enclave.rests_on(*id, proof, &revocation.what)) {
                enclave.revoke(revocation.clone());
                self.classes.room(enclave);
            }
        }
    }

    fn drop_proofs(&mut self, revocation: &Revocation, now: UnixTime) {
        let mut fewer = Vec::new();
        for (id, enclave) in self.enclaves.iter_mut() {
            let lost = enclave.proofs.drop_where(|proof| revocation.what.covers(proof.typical()));
            if lost && enclave.is_trusted() && !enclave.proofs.hold_at(now) {
                let why = revocation.refusal();
                enclave.cordon_off(Cordon { since: now, why, revocation: Some(revocation.epoch) });
            }
            if lost {
                self.classes.enter(*id, enclave);
                fewer.push(*id);
            }
        }
        fewer.into_iter().for_each(|id| self.look_at(id));
    }
}
