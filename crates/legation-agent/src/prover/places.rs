//! Room for executions that wait to be proven: so many together, so many of one tenant, and so many bytes.
//!
//! A place is held from before an execution runs until its proof is made. Proving is not charged: without a bound for each tenant, one
//! could hold all of them for hours.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Bytes, Rejection, TenantId};

/// Executions that wait to be proven, with the one that is.
const PLACES_MAX: usize = 16;
/// How many of them are of one tenant.
const TENANT_MAX: usize = PLACES_MAX / 4;
/// Bytes of modules and inputs that wait; a module counts with every input.
const HELD_MAX: u64 = 128 << 20;

/// What one tenant has of them.
#[derive(Default)]
struct Own {
    places: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Taken {
    by: BTreeMap<TenantId, Own>,
    held: u64,
}

/// All places of an agent.
#[derive(Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

/// One of them; free again when it is dropped.
pub(crate) struct Place {
    taken: Arc<Mutex<Taken>>,
    tenant: TenantId,
    turn: Arc<tokio::sync::Mutex<()>>,
    held: u64,
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // Every change leaves it whole.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn busy(claim: &str, expected: String) -> Rejection {
    Rejection::new("delegate.busy", claim.to_owned())
        .expected(expected)
        .got("as many")
        .fix("ask again later, or another enclave")
}

impl Places {
    /// Takes a place.
    ///
    /// # Errors
    /// `delegate.busy`: as many wait as may, in all or of this tenant.
    pub(super) fn take(&self, tenant: &TenantId) -> Result<Place, Rejection> {
        let mut taken = lock(&self.0);
        if taken.by.values().map(|own| own.places).sum::<usize>() >= PLACES_MAX {
            return Err(busy("executions that wait to be proven", format!("fewer than {PLACES_MAX}")));
        }
        let own = taken.by.entry(tenant.clone()).or_default();
        if own.places >= TENANT_MAX {
            return Err(busy("executions of one tenant that wait to be proven", format!("fewer than {TENANT_MAX}")));
        }
        own.places = own.places.saturating_add(1);
        Ok(Place { taken: self.0.clone(), tenant: tenant.clone(), turn: own.turn.clone(), held: 0 })
    }
}

impl Place {
    /// Waits for the turn of its tenant: one call of each waits to be counted, beside those of others.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Counts bytes that are kept as long as this place is.
    ///
    /// # Errors
    /// `delegate.busy`: too many are kept by what waits.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Rejection> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut taken = lock(&self.taken);
        let all = taken.held.saturating_add(bytes);
        if all > HELD_MAX {
            let most = format!("at most {} together", Bytes(HELD_MAX));
            return Err(busy("modules and inputs of executions that wait to be proven", most).got(Bytes(all)));
        }
        taken.held = all;
        self.held = self.held.saturating_add(bytes);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.held = taken.held.saturating_sub(self.held);
        if let Some(own) = taken.by.get_mut(&self.tenant) {
            own.places = own.places.saturating_sub(1);
        }
        taken.by.retain(|_, own| own.places > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn refused<T>(taken: Result<T, Rejection>) -> String {
        taken.err().unwrap().to_string()
    }

    #[test]
    fn no_tenant_takes_all_places_and_what_is_dropped_is_free() {
        let places = Places::default();
        let mut held: Vec<_> = (0..4).map(|_| places.take(&tenant("acme")).unwrap()).collect();
        assert!(refused(places.take(&tenant("acme"))).contains("one tenant"));
        for other in ["beta", "corp", "dune"] {
            held.extend((0..4).map(|_| places.take(&tenant(other)).unwrap()));
        }
        assert!(refused(places.take(&tenant("echo"))).contains("fewer than 16"));
        held.remove(0);
        drop(places.take(&tenant("acme")).unwrap());
        drop(held);
        assert!(lock(&places.0).by.is_empty());
    }

    #[tokio::test]
    async fn of_each_tenant_one_is_counted_at_a_time() {
        let places = Places::default();
        let (one, two) = (places.take(&tenant("acme")).unwrap(), places.take(&tenant("acme")).unwrap());
        let other = places.take(&tenant("beta")).unwrap();
        let turn = one.turn().await;
        let _others = other.turn().await;
        assert!(two.turn.try_lock().is_err());
        drop(turn);
        assert!(two.turn.try_lock().is_ok());
    }

    #[test]
    fn what_waits_keeps_so_many_bytes_and_no_more() {
        let places = Places::default();
        let (mut one, mut two) = (places.take(&tenant("acme")).unwrap(), places.take(&tenant("beta")).unwrap());
        one.hold(100 << 20).unwrap();
        assert!(refused(two.hold(29 << 20)).contains("modules and inputs"));
        two.hold(28 << 20).unwrap();
        drop(one);
        two.hold(100 << 20).unwrap();
    }
}
