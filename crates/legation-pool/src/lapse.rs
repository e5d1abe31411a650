//! Lapse: an enclave whose every proof is over, was taken back, or is refused by the pool's policy as it is now, is cordoned
//! and its work moves at once. A new passport restores it.

use std::collections::BTreeSet;

use legation_core::{EnclaveId, KeyId, Rejection, TenantId, UnixTime};

use crate::{
    apply::Change,
    enclave::{Cordon, Enclave, Withdrawal},
    event::{Effect, Event, LeaseEnd},
    pool::{Env, Pool},
    text::cut_rejection,
};

/// The check that says that proofs ran out.
pub(crate) const LAPSED: &str = "pool.lapsed";

/// The second after which an enclave is looked at next, as far as that is known: a hint, and two are always equal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looked(pub(crate) u64);

impl Default for Looked {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl PartialEq for Looked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Pool {
    /// Cordons whoever has lapsed and can be reached or holds leases. Of others nobody asks, and no record is made.
    pub(crate) fn lapse(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        // Only those whose passports end are looked at; an enclave that is away and idle, when it comes back.
        let hosts = self.lapses.take(env.now.0).into_iter();
        let due: BTreeSet<EnclaveId> = hosts.filter_map(|host| self.classes.enclave(host)).collect();
        let (over, not_yet): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|id| self.enclaves.get(id).is_some_and(|e| e.proofs.are_over_at(env.now)));
        not_yet.into_iter().for_each(|id| self.look_at(id));
        let known = over.into_iter().filter_map(|id| self.enclaves.get(&id).map(|e| (id, e)));
        let lapsed =
            known.filter(|(_, e)| e.is_trusted() && e.proofs.are_over_at(env.now) && !(e.is_away() && e.is_idle()));
        let lapsed: Vec<_> = lapsed.map(|(id, e)| (id, e.proofs.until().unwrap_or(e.proof().expires))).collect();
        for (enclave, until) in lapsed {
            let why = Rejection::new(LAPSED, format!("passports of enclave {}", enclave.short()))
                .expected(format!("one that holds at {}", env.now))
                .got(format!("none: the last held until {until}"))
                .fix("its agent must attest again: see whether it runs, and whether its verifiers answer");
            self.cordon(Event::Lapsed { enclave, why: why.clone() }, enclave, why, env, out)?;
        }
        if !self.is_to_look(env.now) {
            return Ok(());
        }
        for (enclave, why) in self.refused_now(env.now) {
            let why = cut_rejection(&why);
            self.cordon(Event::Barred { enclave, why: why.clone() }, enclave, why, env, out)?;
        }
        // A proof for another tenant's work keeps an enclave in, and no work of this one.
        let why = Rejection::new("pool.unproven", "proofs for the work of this tenant")
            .expected("one that holds and that the pool's policy admits")
            .got("none")
            .fix("see `legation enclave show` for the enclave's proofs");
        self.end_unproven_leases(None, &LeaseEnd::Lapsed { why }, env, out)
    }

    /// Has an enclave looked at once its last proof is over, unless it is looked at before that anyway.
    pub(crate) fn look_at(&mut self, id: EnclaveId) {
        let Some(enclave) = self.enclaves.get_mut(&id) else { return };
        let until = enclave.proofs.until().unwrap_or(self.at).0;
        if enclave.looked.0 > until || !self.lapses.is_ahead(enclave.looked.0) {
            enclave.looked = Looked(until);
            self.lapses.put(until, enclave.host.0);
        }
    }

    /// Goes on to `now`: whoever is looked at then and is not over is looked at again later.
    pub(crate) fn fall_due(&mut self, now: UnixTime) {
        for host in self.lapses.fall_due(now.0) {
            let Some(id) = self.classes.enclave(host) else { continue };
            match self.enclaves.get(&id) {
                Some(enclave) if enclave.proofs.are_over_at(now) => self.lapses.keep(host),
                Some(_) => self.look_at(id),
                None => {}
            }
        }
    }

    fn cordon(
        &mut self,
        event: Event,
        enclave: EnclaveId,
        why: Rejection,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        out.record(self, env, event)?;
        let mut held = self.work_at(enclave);
        // Both sides of a loan hear of its end by itself.
        held.retain(|lease| self.loan(*lease).is_none());
        self.end_leases_of(enclave, &LeaseEnd::Lapsed { why }, env, out)?;
        if !self.known(enclave)?.is_away() {
            out.effects.extend(held.into_iter().map(|lease| Effect::Cancel { enclave, lease }));
        }
        Ok(())
    }

    /// A verifier takes its passport back: whatever rested on it alone ends, and loans whose answers may rest on it.
    pub(crate) fn withdraw(
        &mut self,
        enclave: EnclaveId,
        verifier: KeyId,
        why: &Rejection,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let known = self.known(enclave)?;
        if known.proofs.of_verifier(verifier).is_none() {
            return Ok(());
        }
        let why = cut_rejection(why);
        out.record(self, env, Event::Withdrawn { enclave, verifier, why: why.clone() })?;
        let known = self.known(enclave)?;
        if known.revoked().is_some() {
            return Ok(());
        }
        let here = !known.is_away();
        // Whatever other proofs it has: what is answered by this one counts no more, and borrowers are told so.
        for loan in self.loans_resting_on(enclave, verifier) {
            self.end_loan(loan, LeaseEnd::Lapsed { why: why.clone() }, env, out)?;
        }
        let known = self.known(enclave)?;
        if known.proofs.hold_at(env.now) {
            self.end_unproven_leases(Some(enclave), &LeaseEnd::Lapsed { why: why.clone() }, env, out)?;
        } else if known.cordon().is_none() {
            self.cordon(Event::Lapsed { enclave, why: why.clone() }, enclave, why.clone(), env, out)?;
        }
        if here {
            out.effects.push(Effect::Reattest { enclave, why: format!("a verifier took its passport back: {why}") });
        }
        Ok(())
    }

    /// Ends leases, of `enclave` or of all, whose tenant no proof of their enclave that is kept and not over is good for.
    pub(crate) fn end_unproven_leases(
        &mut self,
        enclave: Option<EnclaveId>,
        why: &LeaseEnd,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let held = self.leases.iter().filter(|(_, l)| enclave.is_none_or(|only| l.enclave == only));
        let unproven = held.filter(|(_, lease)| {
            let task = self.tasks.get(&lease.fragment.task);
            let enclave = self.enclaves.get(&lease.enclave);
            !task.zip(enclave).is_some_and(|(task, e)| self.is_proven_for(&task.request.tenant, e, env.now))
        });
        let mut unproven: Vec<_> = unproven.map(|(id, l)| (*id, l.enclave)).collect();
        unproven.extend(self.seats_where(enclave, |task, of| {
            let task = self.tasks.get(&task);
            !task
                .zip(self.enclaves.get(&of))
                .is_some_and(|(task, e)| self.is_proven_for(&task.request.tenant, e, env.now))
        }));
        for loan in self.loans_unproven(enclave, |tenant, lender| self.is_proven_for(tenant, lender, env.now)) {
            self.end_lease(loan, why.clone(), env, out)?;
        }
        for (lease, enclave) in unproven {
            self.end_lease(lease, why.clone(), env, out)?;
            if self.enclaves.get(&enclave).is_some_and(|e| !e.is_away()) {
                out.effects.push(Effect::Cancel { enclave, lease });
            }
        }
        Ok(())
    }

    /// Whether a proof of an enclave that is kept and not over is good for the work of a tenant.
    fn is_proven_for(&self, tenant: &TenantId, enclave: &Enclave, now: UnixTime) -> bool {
        enclave
            .proofs
            .current()
            .iter()
            .any(|c| now <= c.expires && c.appointment().covers_tenant(tenant) && !self.is_refused(&c.kind, now))
    }

    pub(crate) fn absorb_lapsed(&mut self, enclave: EnclaveId, why: &Rejection, now: UnixTime) -> Option<()> {
        let cordon = Cordon { since: now, why: why.clone(), revocation: None };
        self.enclaves.get_mut(&enclave)?.cordon_off(cordon);
        self.reindex_room(enclave);
        Some(())
    }

    pub(crate) fn absorb_withdrawn(
        &mut self,
        enclave: EnclaveId,
        verifier: KeyId,
        why: &Rejection,
        now: UnixTime,
    ) -> Option<()> {
        let known = self.enclaves.get_mut(&enclave)?;
        known.proofs.drop_where(|proof| proof.verifier() == verifier);
        known.note_withdrawal(Withdrawal { verifier, at: now, why: why.clone() });
        self.reindex(enclave);
        self.look_at(enclave);
        Some(())
    }
}
