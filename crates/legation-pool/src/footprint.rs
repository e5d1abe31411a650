//! How much memory the pool takes for its enclaves, by part: what its own values and their allocations hold.
//!
//! An estimate from below: what the allocator rounds up, and what tasks and accounts take, is none of it. Nodes of a tree are taken to be
//! two thirds full, as they are after insertions in no order.

use legation_core::{Digest, EnclaveId, LeaseId};

use crate::{
    brief::Piece,
    enclave::{Cordon, Enclave, Withdrawal},
    pool::Pool,
};

/// What one part takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is, in words.
    pub name: &'static str,
    /// Bytes, for all enclaves.
    pub bytes: usize,
}

/// Bytes of a tree with so many entries.
fn tree<K, V>(entries: usize) -> usize {
    entries.saturating_mul(size_of::<(K, V)>()).saturating_mul(3) / 2
}

impl Pool {
    /// What the enclaves take, by part.
    pub fn footprint(&self) -> Vec<Part> {
        let each = |weight: fn(&Enclave) -> usize| self.enclaves.values().map(weight).sum::<usize>();
        let held = |enclave: &Enclave| {
            let leases = tree::<LeaseId, ()>(enclave.leases.len());
            leases
                + enclave.gpus_left.capacity() * size_of::<u16>()
                + tree::<LeaseId, [usize; 4]>(enclave.gpus_leased.len())
        };
        let reasons = |enclave: &Enclave| {
            let revoked = enclave.revoked.as_deref().map_or(0, |r| size_of_val(r) + r.weight());
            let cordon = enclave.cordon.as_ref().map_or(0, |_| size_of::<Cordon>());
            revoked + cordon + enclave.withdrawal.as_ref().map_or(0, |_| size_of::<Withdrawal>())
        };
        let shared = self.kinds.weight();
        let part = |name, bytes| Part { name, bytes };
        vec![
            part("the enclaves themselves", tree::<EnclaveId, Enclave>(self.enclaves.len())),
            part("proofs in brief", each(|e| size_of_val(e.proofs.kept()))),
            part("identities of chips", each(|e| e.chip().weight())),
            part("leases and accelerators", each(held) + self.shown.weight()),
            part("why some take no work", each(reasons)),
            part("slots of chips", tree::<Digest, EnclaveId>(self.by_slot.len())),
            part("the index of placement", self.classes.weight()),
            part("when proofs end", self.lapses.weight()),
            part("where collateral is", tree::<Digest, Piece>(self.collateral.len())),
            part("kinds of proofs and what else is shared", shared),
        ]
    }
}
