//! Why nobody could be lent, and what would have helped: nothing is guessed, each suggestion is tried.

use std::collections::BTreeMap;

use legation_core::{Bytes, Millicores, Millis, Rejection, UnixTime, delegation::LoanTerms, swarm::SeatDemand};

use super::{Basis, refuse};
use crate::{
    pool::Pool,
    wanted::{Asking, Wanted},
};

/// Enclaves that are looked at for the reasons: in a pool with more, they are told of so many. A refusal is decided where everything
/// is, and whoever asks may ask again.
const LOOKED_AT_MAX: usize = 256;
/// Reasons that are told.
const REASONS_MAX: usize = 4;

impl Pool {
    /// Nobody could be lent: the account has no room, or no enclave is fit and free.
    pub(super) fn nobody_lent(&self, basis: &Basis, terms: &LoanTerms, asking: &Asking, now: UnixTime) -> Rejection {
        let claim = "enclaves that could be lent now";
        let Some(task) = self.tasks.get(&basis.task) else { return refuse("loan.capacity", claim) };
        let demand = asking.pieces.first().map(|piece| piece.demand).unwrap_or_default();
        if let Some(why) = self.headroom(&task.request.tenant, &demand).refused {
            return why;
        }
        let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
        if let Some(mut wanted) = Wanted::loan(self, task, asking, now) {
            for (id, enclave) in self.enclaves.iter().take(LOOKED_AT_MAX) {
                if let Err(why) = wanted.lends(*id, enclave) {
                    let reason = reasons.entry(why.check().to_owned()).or_default();
                    *reason = reason.saturating_add(1);
                }
            }
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by(|(a, most), (b, next)| next.cmp(most).then_with(|| a.cmp(b)));
        let reasons = reasons.into_iter().take(REASONS_MAX).map(|(check, count)| format!("{count} {check}"));
        let reasons: Vec<_> = reasons.collect();
        let got = if reasons.is_empty() { "none: the pool has no enclaves".to_owned() } else { reasons.join(", ") };
        let helps = self.what_helps(basis, terms, asking, now);
        let fix = match helps.is_empty() {
            true => "ask again when other work has ended, or work with what is lent".to_owned(),
            false => format!("one of these would do: {}", helps.join("; ")),
        };
        refuse("loan.capacity", claim).expected("one at least").got(got).fix(fix)
    }

    /// Terms that ask for one thing less, by which somebody could be lent now. Nothing is judged anew but that.
    fn what_helps(&self, basis: &Basis, terms: &LoanTerms, asking: &Asking, now: UnixTime) -> Vec<String> {
        let SeatDemand { cpu, memory, time, .. } = terms.demand;
        let (cpu, memory) = (Millicores(cpu.0.div_ceil(2)), Bytes(memory.0.div_ceil(2)));
        let shorter = (terms.seconds / 2).max(time.seconds_up());
        let mut helps = Vec::new();
        let mut attempt = |asked: bool, words: String, change: &dyn Fn(&mut Asking)| {
            if !asked {
                return;
            }
            let mut less = asking.clone();
            change(&mut less);
            if self.choose_lender(basis.task, &less, now).is_some() {
                helps.push(words);
            }
        };
        attempt(terms.apart.is_some(), "ask for no diversity".to_owned(), &|less| less.diverse = None);
        attempt(!terms.exclude.is_empty(), "rule nobody out".to_owned(), &|less| {
            less.barred = self.of_no_use(basis).0;
            less.barred.extend(&basis.above);
        });
        // The borrower's own stands last.
        attempt(terms.require.is_some(), "ask for no requirement".to_owned(), &|less| drop(less.requires.pop()));
        attempt(terms.proven, "ask for answers that are attested".to_owned(), &|less| less.proven = false);
        attempt(true, format!("ask for {cpu}"), &|less| {
            less.pieces.iter_mut().for_each(|piece| piece.demand.cpu = cpu);
        });
        attempt(true, format!("ask for {memory}"), &|less| {
            less.pieces.iter_mut().for_each(|piece| piece.demand.memory = memory);
        });
        attempt(shorter < terms.seconds, format!("ask for {shorter} s"), &|less| {
            less.lasts = less.lasts.min(Millis(shorter.saturating_mul(1000)));
        });
        helps
    }
}
