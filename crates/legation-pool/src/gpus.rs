//! Who shows which accelerator. An accelerator is in one machine: who claims one of an enclave that is here is refused.
//!
//! The table says who may show one: everybody whose kept proofs do, and perhaps some whose proofs did. Each is looked at before it is
//! believed. So it is derived, and two of them are always equal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use legation_core::{EnclaveId, Rejection};

use crate::{
    brief::Brief,
    chip::Chip,
    enclave::Enclave,
    footprint::{block, tree},
    pool::Pool,
    sharing::Sharing,
};

/// Fewest entries at which it is looked for those that nobody shows any more.
const SWEPT_MIN: usize = 64;

/// Enclaves by accelerators that they may show.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    by_chip: BTreeMap<Chip, BTreeSet<EnclaveId>>,
    sweep_at: usize,
}

impl PartialEq for Shown {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown({} accelerators)", self.by_chip.len())
    }
}

impl Shown {
    /// Notes what a proof of an enclave shows.
    pub(crate) fn note(&mut self, id: EnclaveId, proof: &Brief) {
        for chip in proof.gpus() {
            self.by_chip.entry(chip.clone()).or_default().insert(id);
        }
    }

    /// Forgets what nobody shows any more, now and then: a look at all for as many new ones.
    pub(crate) fn sweep(&mut self, enclaves: &Sharing<EnclaveId, Enclave>) {
        if self.by_chip.len() <= self.sweep_at {
            return;
        }
        self.by_chip.retain(|chip, all| {
            let shows = |proof: &Brief| proof.gpus().contains(chip);
            all.retain(|id| enclaves.get(id).is_some_and(|e| e.proofs.kept().any(shows)));
            !all.is_empty()
        });
        self.sweep_at = self.by_chip.len().saturating_mul(2).max(SWEPT_MIN);
    }

    /// Bytes that it takes, about.
    pub(crate) fn weight(&self) -> usize {
        let all = self.by_chip.iter();
        let each: usize = all.map(|(chip, ids)| block(chip.weight()) + tree::<EnclaveId, ()>(ids.len())).sum();
        tree::<Chip, BTreeSet<EnclaveId>>(self.by_chip.len()) + each
    }
}

impl Pool {
    /// Whether an enclave may show these accelerators, each by its model and chip. `twin` makes way for it.
    pub(crate) fn check_gpus(
        &self,
        id: EnclaveId,
        gpus: &[(String, Chip)],
        twin: Option<EnclaveId>,
    ) -> Result<(), Rejection> {
        for (model, chip) in gpus {
            let claims = |other: &EnclaveId| {
                *other != id
                    && Some(*other) != twin
                    && self.enclaves.get(other).is_some_and(|enclave| {
                        !enclave.is_away() && enclave.revoked().is_none() && enclave.proof().gpus().contains(chip)
                    })
            };
            let other = self.shown.by_chip.get(chip).and_then(|all| all.iter().find(|other| claims(other)));
            if let Some(other) = other {
                return Err(Rejection::new("pool.gpu", format!("{model} GPU of enclave {}", id.short()))
                    .expected("a GPU that no other live enclave claims")
                    .got(format!("that of enclave {}, which is here", other.short()))
                    .fix("give each machine GPUs of its own; if no other has it, a machine shows a GPU that is not its own"));
            }
        }
        Ok(())
    }
}
