//! Who asks for enclaves to hand calls to, and is refused: a refusal is the dearest answer that the pool has, since it says what would
//! have helped. Whoever gets many hears the last one again, or that it asks too often, without the pool being asked.
//!
//! Under each promise a borrower may be refused [`BURST`] times at once, and once more each second: what one tenant's fragment asks
//! for in vain is not another's loss, where one enclave runs both. What is lent counts for nothing, and so does asking under what is
//! not one's own, which is refused at once. It is kept by the promise and not by the channel: a new channel is no new beginning.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use legation_core::{EnclaveId, LeaseId, Rejection, delegation::LoanTerms};

/// Refusals that a borrower may have at once under one promise.
const BURST: u32 = 4;
/// How long each counts.
const EACH: Duration = Duration::from_secs(1);
/// Promises that are kept before those are looked for that count no more.
const KEPT_MIN: usize = 64;

/// The last refusal under one promise.
struct Refused {
    terms: LoanTerms,
    why: Rejection,
    /// When all refusals under it will have counted.
    until: Instant,
}

/// Who was refused lately: borrowers with the promise that they asked under.
type Borrower = (EnclaveId, LeaseId);

/// Borrowers that were refused lately.
#[derive(Default)]
pub(crate) struct Borrowing(Mutex<HashMap<Borrower, Refused>>);

impl Borrowing {
    fn lock(&self) -> MutexGuard<'_, HashMap<Borrower, Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the pool is to be asked.
    ///
    /// # Errors
    /// The last refusal, where the same is asked for; else `loan.busy`.
    pub(crate) fn heard(
        &self,
        enclave: EnclaveId,
        of: LeaseId,
        terms: &LoanTerms,
        now: Instant,
    ) -> Result<(), Rejection> {
        let refused = self.lock();
        let Some(last) =
            refused.get(&(enclave, of)).filter(|last| last.until.saturating_duration_since(now) > EACH * (BURST - 1))
        else {
            return Ok(());
        };
        // Time goes on meanwhile, and it is the same all the same.
        let same = LoanTerms { seconds: terms.seconds, ..last.terms.clone() } == *terms;
        if same {
            return Err(last.why.clone());
        }
        Err(Rejection::new("loan.busy", "how often enclaves are asked for in vain")
            .expected(format!("{BURST} times at once, and once more each second"))
            .got(format!("more; the last time: {}", last.why))
            .fix("ask again in a second"))
    }

    /// A borrower is refused by the pool.
    pub(crate) fn refused(&self, enclave: EnclaveId, (of, terms): (LeaseId, LoanTerms), why: &Rejection, now: Instant) {
        // Others are refused before it is looked whether the promise is its own.
        let looked = ["loan.", "account."].iter().any(|family| why.check.starts_with(family));
        if !looked || why.check == "loan.lease" {
            return;
        }
        let mut refused = self.lock();
        if refused.len() >= KEPT_MIN {
            refused.retain(|_, last| last.until > now);
        }
        let before = refused.get(&(enclave, of)).map_or(now, |last| last.until.max(now));
        refused.insert((enclave, of), Refused { terms, why: why.clone(), until: before + EACH });
    }
}

#[cfg(test)]
mod tests {
    use legation_core::{Bytes, Digest, Millicores, Millis, swarm::SeatDemand};

    use super::*;

    fn terms(cpu: u64, seconds: u64) -> LoanTerms {
        let (cpu, time) = (Millicores(cpu), Millis(1000));
        let demand = SeatDemand { cpu, memory: Bytes::mib(64), gpus: Default::default(), time };
        LoanTerms { demand, require: None, apart: None, exclude: Vec::new(), proven: false, in_turn: None, seconds }
    }

    /// Asks so often at once; says how often the pool was asked, and what the others were told.
    fn ask(all: &Borrowing, (who, of): (EnclaveId, u64), terms: &LoanTerms, now: Instant) -> (u32, Vec<String>) {
        let of = LeaseId(of);
        let (mut asked, mut told) = (0, Vec::new());
        for _ in 0..16 {
            match all.heard(who, of, terms, now) {
                Ok(()) => {
                    asked += 1;
                    all.refused(who, (of, terms.clone()), &Rejection::new("loan.capacity", "nobody"), now);
                }
                Err(why) => told.push(why.check),
            }
        }
        told.dedup();
        (asked, told)
    }

    #[test]
    fn the_pool_refuses_a_borrower_so_often_and_once_more_each_second() {
        let (all, began) = (Borrowing::default(), Instant::now());
        let id = |n| (EnclaveId::new(Digest::from_bytes([n; 32])), 1);
        let at = |ms| began + Duration::from_millis(ms);
        let same = vec!["loan.capacity".to_owned()];
        assert_eq!(ask(&all, id(1), &terms(100, 60), at(0)), (4, same.clone()));
        // Others are heard, and it is under another promise; of other terms, nothing is known.
        assert_eq!(ask(&all, id(2), &terms(100, 60), at(0)), (4, same.clone()));
        assert_eq!(ask(&all, (id(1).0, 2), &terms(100, 60), at(0)), (4, same.clone()));
        assert_eq!(ask(&all, id(1), &terms(200, 60), at(500)), (0, vec!["loan.busy".to_owned()]));
        assert_eq!(ask(&all, id(1), &terms(100, 59), at(999)), (0, same.clone()));
        assert_eq!(ask(&all, id(1), &terms(100, 59), at(1000)), (1, same.clone()));
        assert_eq!(ask(&all, id(1), &terms(100, 50), at(3500)), (2, same.clone()));
        assert_eq!(ask(&all, id(1), &terms(100, 10), at(60_000)), (4, same));
    }

    #[test]
    fn who_is_refused_no_more_is_forgotten() {
        let (all, began) = (Borrowing::default(), Instant::now());
        for n in 0..KEPT_MIN * 4 {
            let id = EnclaveId::new(Digest::of(&n.to_be_bytes()));
            let why = Rejection::new("loan.capacity", "nobody");
            let now = began + Duration::from_millis(100 * n as u64);
            all.refused(id, (LeaseId(1), terms(100, 60)), &why, now);
        }
        assert!(all.lock().len() <= KEPT_MIN);
        // Nor is anything kept of asking under promises that are not its own.
        let (all, id) = (Borrowing::default(), EnclaveId::new(Digest::of(b"broken")));
        for of in 0..1000 {
            all.refused(id, (LeaseId(of), terms(100, 60)), &Rejection::new("loan.lease", "promise"), began);
        }
        assert!(all.lock().is_empty());
    }
}
