//! What several things share, in a snapshot: written whole where it comes first, by its number after that; one value in memory again
//! when it is read. Statements are the same when their envelopes are; other things when they are one value in memory.
//!
//! Numbers are given within [`scope`]. Outside of one everything is written whole.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::BTreeMap,
    sync::Arc,
};

use legation_core::{
    Digest, Signed,
    claims::{CollateralItem, Evidence},
    dsse::Predicate,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// What may be shared.
pub(crate) trait Shareable: Any + Send + Sync {
    /// What it is the same by, beside its place in memory.
    fn name(&self) -> Option<Digest>;
}

impl<P: Predicate + Send + Sync + 'static> Shareable for Signed<P> {
    fn name(&self) -> Option<Digest> {
        Some(self.digest())
    }
}

impl Shareable for Evidence {
    fn name(&self) -> Option<Digest> {
        None
    }
}

impl Shareable for CollateralItem {
    fn name(&self) -> Option<Digest> {
        None
    }
}

#[derive(Default)]
struct Table {
    written: BTreeMap<(TypeId, usize, Option<Digest>), u64>,
    read: Vec<Arc<dyn Any + Send + Sync>>,
}

thread_local! {
    static TABLE: RefCell<Option<Table>> = const { RefCell::new(None) };
}

/// Runs `run` with numbers of its own.
pub(crate) fn scope<T>(run: impl FnOnce() -> T) -> T {
    let before = TABLE.replace(Some(Table::default()));
    let result = run();
    TABLE.replace(before);
    result
}

/// A shared value as one of several: what `with = "shared"` is for a field.
pub(crate) struct Same<T>(pub(crate) Arc<T>);

impl<T: Shareable + Serialize> Serialize for Same<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serialize(&self.0, s)
    }
}

impl<'de, T: Shareable + Deserialize<'de>> Deserialize<'de> for Same<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        deserialize(d).map(Same)
    }
}

/// The number of a value, if it was written before; gives it the next one otherwise.
fn known<T: Shareable>(value: &Arc<T>) -> Option<u64> {
    let name = value.name();
    // Values live as long as they are being written: none takes the place of another.
    let place = if name.is_some() { 0 } else { Arc::as_ptr(value).cast::<()>() as usize };
    TABLE.with_borrow_mut(|table| {
        let written = &mut table.as_mut()?.written;
        let next = written.len() as u64;
        match written.entry((TypeId::of::<T>(), place, name)) {
            std::collections::btree_map::Entry::Occupied(known) => Some(*known.get()),
            std::collections::btree_map::Entry::Vacant(new) => {
                new.insert(next);
                None
            }
        }
    })
}

pub(crate) fn serialize<T: Shareable + Serialize, S: Serializer>(value: &Arc<T>, s: S) -> Result<S::Ok, S::Error> {
    match known(value) {
        Some(number) => (Some(number), None::<&T>).serialize(s),
        None => (None::<u64>, Some(&**value)).serialize(s),
    }
}

pub(crate) fn deserialize<'de, T: Shareable + Deserialize<'de>, D: Deserializer<'de>>(
    d: D,
) -> Result<Arc<T>, D::Error> {
    match <(Option<u64>, Option<T>)>::deserialize(d)? {
        (None, Some(value)) => {
            let value = Arc::new(value);
            let kept: Arc<dyn Any + Send + Sync> = value.clone();
            TABLE.with_borrow_mut(|table| {
                if let Some(table) = table {
                    table.read.push(kept);
                }
            });
            Ok(value)
        }
        (Some(number), None) => {
            let found = TABLE.with_borrow(|table| {
                let place = usize::try_from(number).ok()?;
                table.as_ref()?.read.get(place).cloned()
            });
            let typed = found.and_then(|found| found.downcast::<T>().ok());
            typed.ok_or_else(|| D::Error::custom(format!("shared value {number} is not there, or is another thing")))
        }
        _ => Err(D::Error::custom("neither a shared value nor the number of one")),
    }
}

/// The same for a list of shared values.
pub(crate) mod list {
    use super::{Arc, Deserialize, Deserializer, Same, Serialize, Serializer, Shareable};

    pub(crate) fn serialize<T: Shareable + Serialize, S: Serializer>(all: &[Arc<T>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(all.iter().map(|value| Same(value.clone())))
    }

    pub(crate) fn deserialize<'de, T: Shareable + Deserialize<'de>, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<Arc<T>>, D::Error> {
        Ok(Vec::<Same<T>>::deserialize(d)?.into_iter().map(|same| same.0).collect())
    }
}
