//! Grants and keys that come in for a task, and whether a lease has all it needs to be offered.
//!
//! Nobody can spoil what another granted:
//! 1. a grant that has expired counts for nothing, beside others that have not;
//! 2. a key is taken only from the holder of its object, wrapped to the enclave that is granted.

use legation_core::{
    Digest, EnclaveId, FragmentIndex, LeaseId, ObjectId, PublicKey, Rejection, Signed, UnixTime, grant,
    statement::{Grant, GrantSubject, Request},
    task::WrappedKey,
};

use crate::{
    apply::{Change, defect},
    event::Event,
    lease::Lease,
    pool::{Env, Pool},
    task::Task,
};

/// Most grants kept for one task.
pub(crate) const GRANTS_MAX: usize = 8192;
/// Most bytes of grants kept for one task.
const GRANT_BYTES_MAX: usize = 32 << 20;
/// Most wrapped keys kept for one task.
const KEYS_MAX: usize = 65_536;
/// Largest wrapped key, both parts together, in bytes: an X-Wing encapsulation is 1120 bytes, a sealed object key 48.
const WRAPPED_MAX: usize = 2048;

impl Pool {
    pub(crate) fn grant(
        &mut self,
        grant: Signed<Grant>,
        keys: Vec<WrappedKey>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let task = self.live_task(grant.task)?;
        check_new(&task.request, &grant, env.now)?;
        self.check_released(task, &grant, &keys)?;
        let known = task.grants.iter().any(|g| g.digest() == grant.digest());
        let fresh: Vec<_> = keys.into_iter().filter(|k| !task.keys.contains(k)).collect();
        if known && fresh.is_empty() {
            return Ok(());
        }
        check_room(task, std::slice::from_ref(&grant), fresh.len())?;
        out.record(self, env, Event::Granted { grant: Box::new(grant), keys: fresh })?;
        Ok(())
    }

    /// Keys that come with a grant: of objects that its issuer holds and its fragments read, wrapped to its enclave.
    fn check_released(&self, task: &Task, grant: &Grant, keys: &[WrappedKey]) -> Result<(), Rejection> {
        check_wrapped(keys)?;
        let Some(first) = keys.first() else { return Ok(()) };
        let held = held_objects(task, grant);
        let bad = |got: &dyn std::fmt::Display| {
            Rejection::new("grant.keys", "a key sent with the grant")
                .expected("of an object that the grant releases, its issuer holds and its fragments read")
                .got(got)
        };
        if let Some(stray) = keys.iter().find(|k| !grant.releases.contains(&k.object) || !held.contains(&k.object)) {
            return Err(bad(&stray.object));
        }
        let GrantSubject::Enclave(enclave) = grant.subject else { return Err(bad(&first.object)) };
        let recipient = self.known(enclave)?.sealing();
        match keys.iter().find(|k| k.recipient != recipient) {
            None => Ok(()),
            Some(other) => Err(Rejection::new("grant.recipient", "whom a key sent with the grant is wrapped to")
                .expected(format!("enclave {}, sealing key {recipient}", enclave.short()))
                .got(other.recipient)
                .fix("wrap the key to the sealing key in the enclave's passport")),
        }
    }

    pub(crate) fn absorb_granted(
        &mut self,
        grant: &Signed<Grant>,
        keys: &[WrappedKey],
        now: UnixTime,
    ) -> Option<Vec<LeaseId>> {
        let task = self.tasks.get_mut(&grant.task)?;
        if !task.grants.iter().any(|g| g.digest() == grant.digest()) {
            task.grants.push(grant.clone());
        }
        task.keys.extend(keys.iter().cloned());
        task.ungranted.rounds = 0;
        let leases: Vec<_> = grant
            .fragments
            .iter()
            .filter_map(|index| Some(task.fragments.get(usize::try_from(index.0).ok()?)?.leases()))
            .flatten()
            .collect();
        Some(leases.into_iter().filter_map(|lease| self.offer_if_ready(lease, now)).collect())
    }

    /// Whether the lease has all it needs to be offered and was not yet; marks it as offered.
    pub(crate) fn offer_if_ready(&mut self, id: LeaseId, now: UnixTime) -> Option<LeaseId> {
        let lease = self.leases.get(&id)?;
        if lease.offered || self.missing(lease, now).is_some() {
            return None;
        }
        self.move_deadline(id, |l| l.offered = true);
        Some(id)
    }

    /// What still keeps a lease from being offered.
    pub(crate) fn missing(&self, lease: &Lease, now: UnixTime) -> Option<Rejection> {
        let unknown = || Some(defect("a lease of something unknown"));
        let Some(task) = self.tasks.get(&lease.fragment.task) else { return unknown() };
        let Some(fragment) = task.request.fragment(lease.fragment.index) else { return unknown() };
        let Some(objects) = task.objects(fragment) else { return unknown() };
        let Some(enclave) = self.enclaves.get(&lease.enclave) else { return unknown() };
        let used = grant::Use {
            fragment: lease.fragment.index,
            enclave: lease.enclave,
            objects: &objects,
            at: now,
            revoked: &self.revoked,
        };
        let grants = task.grants_at(lease.fragment.index, lease.enclave, now);
        if let Err(why) = grant::check_use(&task.request, &grants, &used) {
            return Some(why);
        }
        if objects.is_empty() {
            return None;
        }
        let recipient = enclave.sealing();
        objects.iter().find(|o| task.key_for(**o, recipient).is_none()).map(|object| {
            Rejection::new("grant.keys", "keys of the inputs")
                .expected(format!("the key of object {object}, wrapped to the enclave"))
                .got("none")
        })
    }
}

impl Task {
    /// Grants that concern a fragment on an enclave, ascending by digest, each once.
    pub fn grants_for(&self, index: FragmentIndex, enclave: EnclaveId) -> Vec<Signed<Grant>> {
        let mut grants: Vec<_> = self.grants.iter().filter(|g| g.covers(index, enclave)).cloned().collect();
        grants.sort_by_key(Signed::digest);
        grants.dedup_by_key(|g| g.digest());
        grants
    }

    /// Those of [`Self::grants_for`] that hold at `now`.
    pub(crate) fn grants_at(&self, index: FragmentIndex, enclave: EnclaveId, now: UnixTime) -> Vec<Signed<Grant>> {
        let mut grants = self.grants_for(index, enclave);
        grants.retain(|g| now <= g.expires);
        grants
    }

    /// The key of `object` wrapped to `recipient`, if released: the newest.
    pub(crate) fn key_for(&self, object: ObjectId, recipient: Digest) -> Option<&WrappedKey> {
        self.keys.iter().rev().find(|k| k.object == object && k.recipient == recipient)
    }
}

/// A grant that may come in now: within its request, and not over.
pub(crate) fn check_new(request: &Signed<Request>, grant: &Grant, now: UnixTime) -> Result<(), Rejection> {
    grant::check_grant(request, grant)?;
    if now > grant.expires {
        return Err(Rejection::new("grant.expires", "end of the grant")
            .expected(format!("not before {now}"))
            .got(grant.expires)
            .fix("grant again; check the clock"));
    }
    Ok(())
}

/// Whether so many grants and keys more may be kept for a task.
pub(crate) fn check_room(task: &Task, grants: &[Signed<Grant>], keys: usize) -> Result<(), Rejection> {
    check_total(task.grants.iter().chain(grants), task.keys.len() + keys)
}

/// Whether a task may have these grants and so many keys.
pub(crate) fn check_total<'a>(grants: impl Iterator<Item = &'a Signed<Grant>>, keys: usize) -> Result<(), Rejection> {
    let (mut number, mut bytes) = (0_usize, 0_usize);
    for grant in grants {
        number += 1;
        bytes = bytes.saturating_add(grant.envelope().payload().len());
    }
    if number > GRANTS_MAX || bytes > GRANT_BYTES_MAX || keys > KEYS_MAX {
        return Err(Rejection::new("grant.many", "grants and keys of the task")
            .expected(format!("at most {GRANTS_MAX} grants of {GRANT_BYTES_MAX} bytes, and {KEYS_MAX} keys"))
            .got(format!("{number} of {bytes} bytes, and {keys}"))
            .fix("let one grant cover several fragments"));
    }
    Ok(())
}

/// Bounds the bytes that keys come in.
pub(crate) fn check_wrapped(keys: &[WrappedKey]) -> Result<(), Rejection> {
    match keys.iter().map(|k| k.encapsulated.len().saturating_add(k.sealed.len())).find(|n| *n > WRAPPED_MAX) {
        None => Ok(()),
        Some(size) => Err(Rejection::new("grant.wrapped", "size of a wrapped key")
            .expected(format!("at most {WRAPPED_MAX} bytes"))
            .got(size)),
    }
}

/// Objects that the fragments of `grant` read and its issuer holds, as far as they exist.
fn held_objects(task: &Task, grant: &Grant) -> Vec<ObjectId> {
    let issuer: PublicKey = grant.issuer;
    let mut held = Vec::new();
    for fragment in grant.fragments.iter().filter_map(|i| task.request.fragment(*i)) {
        let by_issuer = fragment.inputs.iter().filter(|i| task.request.holder(fragment, i) == Some(issuer));
        held.extend(by_issuer.filter_map(|input| task.object(input)));
    }
    held
}
