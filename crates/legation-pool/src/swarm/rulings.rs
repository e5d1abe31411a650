//! Rulings: whether the rules of placement permit every fragment of a task where one of its seats would be, asked once for all
//! enclaves of the same kinds and rate, as long as one command lasts.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{Digest, EnclaveId, FragmentIndex, TaskId, UnixTime, statement::Request};

use crate::{pool::Pool, queue::Class};

/// Of which task, the kinds of the proofs that count for its tenant, and what a core and a GiB cost an hour.
type Key = (TaskId, Vec<Digest>, (u64, u64));

/// What was found so far.
#[derive(Default)]
pub(crate) struct Rulings {
    /// Of each task, one fragment of all that are the same to every rule.
    pieces: BTreeMap<TaskId, Vec<FragmentIndex>>,
    known: BTreeMap<Key, bool>,
    /// How many fragments were asked about, and not remembered.
    asked: usize,
}

impl Rulings {
    /// How many fragments were asked about so far.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }
}

impl Pool {
    /// Whether the rules of placement permit every fragment of a task on an enclave: a function of the kinds of its proofs, and of
    /// its rate.
    pub(super) fn may_run_all(&self, id: TaskId, enclave: EnclaveId, rulings: &mut Rulings, now: UnixTime) -> bool {
        let (Some(task), Some(enclave)) = (self.tasks.get(&id), self.enclaves.get(&enclave)) else { return false };
        let (request, rate) = (&task.request, enclave.rate());
        let kinds = enclave.proofs.for_tenant(&request.tenant, now).map(|proof| proof.kind.digest());
        let key = (id, kinds.collect::<Vec<Digest>>(), (rate.core_hour.0, rate.gib_hour.0));
        if let Some(known) = rulings.known.get(&key) {
            return *known;
        }
        let pieces = rulings.pieces.entry(id).or_insert_with(|| different(request));
        rulings.asked = rulings.asked.saturating_add(pieces.len());
        let may = pieces.iter().filter_map(|index| request.fragment(*index)).all(|fragment| {
            let price_hour = rate.per_hour(fragment.demand.cpu, fragment.demand.memory);
            self.limits_at(request, fragment, enclave, price_hour, now).is_ok()
        });
        rulings.known.insert(key, may);
        may
    }
}

/// The first of all fragments that no rule can tell apart.
fn different(request: &Request) -> Vec<FragmentIndex> {
    let mut seen = BTreeSet::new();
    let first = request.indexed().filter(|(_, fragment)| seen.insert(Class::of_fragment(request, fragment)));
    first.map(|(index, _)| index).collect()
}
