//! Collateral: what vendors publish about machines (revocation lists, TCB levels, identities of quoting enclaves).
//!
//! An item has a name that says what it is about, and bytes that prove themselves: they are signed by the vendor. So
//! anybody may carry them. A verifier looks items up by name on a [`Shelf`]; a passport names by digest those that were
//! taken into account, and a receipt carries them, so that its reader can judge again offline.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{digest::Digest, encoding::b64};

/// Largest item, in bytes.
pub const COLLATERAL_MAX: usize = 1 << 20;
/// Longest name, in bytes.
pub const COLLATERAL_NAME_MAX: usize = 128;

/// One item.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralItem {
    /// What it is about, such as `intel/tdx/50806f000000/platform` or `amd/milan/crl`.
    pub name: String,
    /// As the vendor signed it.
    #[serde(with = "b64")]
    pub bytes: Vec<u8>,
}

impl CollateralItem {
    /// SHA-256 over name and bytes: its content address.
    pub fn digest(&self) -> Digest {
        Digest::of_parts(&[&(self.name.len() as u64).to_be_bytes(), self.name.as_bytes(), &self.bytes])
    }
}

/// Items at hand, one for each name.
#[derive(Clone, Default, Debug)]
pub struct Shelf {
    items: BTreeMap<String, (Digest, Arc<CollateralItem>)>,
}

impl Shelf {
    /// A shelf with nothing on it.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Puts an item there, in place of the one of its name.
    pub fn put(&mut self, item: Arc<CollateralItem>) {
        self.items.insert(item.name.clone(), (item.digest(), item));
    }

    /// The item of this name, with its digest.
    pub fn get(&self, name: &str) -> Option<(Digest, &CollateralItem)> {
        self.items.get(name).map(|(digest, item)| (*digest, item.as_ref()))
    }

    /// The items whose names begin with `prefix`, ascending by name.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (Digest, &'a CollateralItem)> {
        let from = self.items.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(name, _)| name.starts_with(prefix)).map(|(_, (digest, item))| (*digest, item.as_ref()))
    }

    /// All items, ascending by name.
    pub fn items(&self) -> impl Iterator<Item = &Arc<CollateralItem>> {
        self.items.values().map(|(_, item)| item)
    }

    /// The item with this digest.
    pub fn by_digest(&self, digest: &Digest) -> Option<&Arc<CollateralItem>> {
        self.items.values().find(|(d, _)| d == digest).map(|(_, item)| item)
    }
}

impl FromIterator<Arc<CollateralItem>> for Shelf {
    fn from_iter<I: IntoIterator<Item = Arc<CollateralItem>>>(items: I) -> Self {
        let mut shelf = Self::empty();
        for item in items {
            shelf.put(item);
        }
        shelf
    }
}
