//! How much memory the pool takes for its enclaves, by part: what its own values and their allocations hold, as allocators hand them out.
//!
//! An estimate: what allocators keep beside is none of it, nor what tasks and accounts take. Nodes of a tree are taken to be two thirds
//! full, as they are after insertions in no order.

use std::sync::Arc;

use legation_core::{Digest, EnclaveId, LeaseId, Revocation};

use crate::{
    apart::Apart,
    brief::Piece,
    enclave::{Cordon, Enclave, Withdrawal},
    index::HostId,
    load::Load,
    pool::Pool,
    retire::Hold,
    trust::marks::Marks,
};

/// What one part takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is, in words.
    pub name: &'static str,
    /// Bytes, for all enclaves.
    pub bytes: usize,
}

/// Entries that a node of a tree has room for, in the standard library.
const NODE: usize = 11;

/// What an allocation of so many bytes takes: multiples of 16, above 128 four sizes for each doubling, as of mimalloc.
pub(crate) fn block(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.div_ceil(step).saturating_mul(step)
}

/// What a value takes that is shared: it stands behind two counters.
pub(crate) fn shared_block<T>() -> usize {
    block(size_of::<T>() + 2 * size_of::<usize>())
}

/// What a tree of so many entries takes.
pub(crate) fn tree<K, V>(entries: usize) -> usize {
    // Keys, values, the node above and two numbers; inner nodes have the nodes below besides.
    let leaf = NODE * (size_of::<K>() + size_of::<V>()) + 2 * size_of::<usize>();
    let inner = leaf + (NODE + 1) * size_of::<usize>();
    let leaves = entries.saturating_mul(3).div_ceil(2 * NODE);
    let above = if leaves > 1 { leaves.saturating_mul(3).div_ceil(2 * NODE) } else { 0 };
    leaves.saturating_mul(block(leaf)).saturating_add(above.saturating_mul(block(inner)))
}

/// What may stand beside an enclave: `there` says whether it does.
fn beside<T>(there: bool) -> usize {
    if there { block(size_of::<T>()) } else { 0 }
}

/// What stands beside one that runs something, or has accelerators.
fn held(enclave: &Enclave) -> usize {
    let Some(load) = &enclave.load else { return 0 };
    let (left, having) = load.devices();
    // A lease mostly has few of them.
    let few = block(4 * size_of::<(usize, u16)>());
    let devices = block(left) + tree::<LeaseId, Vec<(usize, u16)>>(having) + having * few;
    beside::<Load>(true) + tree::<LeaseId, ()>(enclave.leases().len()) + devices
}

/// What stands beside one that takes no work, or that something speaks against; without texts, but for those of a revocation.
fn reasons(enclave: &Enclave) -> usize {
    let revoked = enclave.revoked().map_or(0, |why| beside::<Revocation>(true) + why.weight());
    let said = beside::<Cordon>(enclave.cordon().is_some())
        + beside::<Withdrawal>(enclave.withdrawal().is_some())
        + beside::<Hold>(enclave.hold().is_some());
    let marks = enclave.marks().map_or(0, Marks::weigh);
    beside::<Apart>(enclave.apart.is_some()) + revoked + said + marks
}

impl Pool {
    /// What the enclaves take, by part.
    pub fn footprint(&self) -> Vec<Part> {
        let each = |weight: fn(&Enclave) -> usize| self.enclaves.values().map(weight).sum::<usize>();
        let count = self.enclaves.len();
        let part = |name, bytes| Part { name, bytes };
        vec![
            part("the enclaves themselves", count * shared_block::<Enclave>()),
            part("the enclaves by name", tree::<EnclaveId, Arc<Enclave>>(count)),
            part("proofs in brief beside the current one", each(|e| block(e.proofs.weight()))),
            part("identities of chips", each(|e| block(e.chip().weight()))),
            part("leases and accelerators", each(held) + self.shown.weight()),
            part("why some take no work", each(reasons)),
            part("slots of chips", tree::<(u64, HostId), ()>(self.slots.len())),
            part("the index of placement", self.classes.weight()),
            part("when proofs end", self.lapses.weight()),
            part("where collateral is", tree::<Digest, Piece>(self.collateral.len())),
            part("kinds of proofs and what else is shared", self.kinds.weight()),
        ]
    }
}
