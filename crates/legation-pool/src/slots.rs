//! Who has which slot of which chip: one live identity each.
//!
//! The enclaves say so themselves; here they are found. The table has the first bytes of the names of slots, and whoever may have such
//! a slot is asked for the whole of it. So it is derived, and two of them are always equal.

use std::{collections::BTreeSet, fmt};

use legation_core::{Digest, EnclaveId};

use crate::{enclave::Enclave, index::HostId, pool::Pool};

/// Enclaves, by their numbers in the index, and by the first bytes of the names of the slots that they have.
#[derive(Clone, Default)]
pub(crate) struct Slots(BTreeSet<(u64, HostId)>);

impl PartialEq for Slots {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({})", self.0.len())
    }
}

fn first_bytes(slot: &Digest) -> u64 {
    slot.as_bytes().first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}

fn entry(enclave: &Enclave) -> (u64, HostId) {
    (first_bytes(&enclave.slot()), enclave.host.0)
}

impl Slots {
    /// Notes an enclave that is in the index, if it has its slot.
    pub(crate) fn note(&mut self, enclave: &Enclave) {
        if enclave.fills_slot {
            self.0.insert(entry(enclave));
        }
    }

    /// Forgets an enclave.
    pub(crate) fn forget(&mut self, enclave: &Enclave) {
        if enclave.fills_slot {
            self.0.remove(&entry(enclave));
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn near(&self, slot: &Digest) -> impl Iterator<Item = HostId> {
        let first = first_bytes(slot);
        self.0.range((first, HostId(0))..=(first, HostId(u32::MAX))).map(|(_, host)| *host)
    }
}

impl Pool {
    /// Who has a slot of a chip.
    pub(crate) fn holder_of(&self, slot: &Digest) -> Option<EnclaveId> {
        let mut near = self.slots.near(slot).filter_map(|host| self.classes.enclave(host));
        let has = |id: &EnclaveId| self.enclaves.get(id).is_some_and(|e| e.fills_slot && e.slot() == *slot);
        near.find(has)
    }

    /// An enclave that is in the index has its slot from now on.
    pub(crate) fn fill_slot(&mut self, id: EnclaveId) {
        if let Some(enclave) = self.enclaves.get_mut(&id) {
            enclave.fills_slot = true;
            self.slots.note(enclave);
        }
    }

    /// An enclave has its slot no more.
    pub(crate) fn vacate_slot(&mut self, id: EnclaveId) {
        if let Some(enclave) = self.enclaves.get_mut(&id) {
            self.slots.forget(enclave);
            enclave.fills_slot = false;
        }
    }

    /// Holds the table against the enclaves: whoever is trusted has its slot, and nobody else has that one.
    pub(crate) fn audit_slots(&self) -> Result<(), String> {
        let having = self.enclaves.values().filter(|enclave| enclave.fills_slot).count();
        if having != self.slots.len() {
            return Err("slots of chips are of enclaves that are unknown or have others".to_owned());
        }
        let mut filling = self.enclaves.iter().filter(|(_, e)| e.fills_slot || e.revoked().is_none());
        match filling.find(|(id, e)| self.holder_of(&e.slot()) != Some(**id)) {
            None => Ok(()),
            Some((id, _)) => Err(format!("{id} has no slot of its chip, or another enclave has the same")),
        }
    }
}
