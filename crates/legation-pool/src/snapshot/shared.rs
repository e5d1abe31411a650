//! What several things share, in a snapshot: written whole where it comes first, by its number after that; one value in memory again
//! when it is read. Statements are the same when their envelopes are; kinds of proofs when their keys are. A shared value may hold
//! others, which are numbered after it.
//!
//! Numbers are given within [`scope`]. Outside of one everything is written whole.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use legation_core::{Digest, Signed, dsse::Predicate};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IgnoredAny, SeqAccess, Visitor},
};

use crate::kind::Kind;

/// What may be shared.
pub(crate) trait Shareable: Any + Send + Sync {
    /// What it is the same by.
    fn name(&self) -> Digest;
}

impl<P: Predicate + Send + Sync + 'static> Shareable for Signed<P> {
    fn name(&self) -> Digest {
        self.digest()
    }
}

impl Shareable for Kind {
    fn name(&self) -> Digest {
        let (asked, appointment) = self.key();
        Digest::of_parts(&[asked.as_bytes(), appointment.as_bytes()])
    }
}

#[derive(Default)]
struct Table {
    written: BTreeMap<(TypeId, Digest), u64>,
    /// Nothing where a value is still being read: what is within it has a number of its own, after it.
    read: Vec<Option<Arc<dyn Any + Send + Sync>>>,
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
    TABLE.with_borrow_mut(|table| {
        let written = &mut table.as_mut()?.written;
        let next = written.len() as u64;
        match written.entry((TypeId::of::<T>(), name)) {
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
    d.deserialize_tuple(2, Either(PhantomData))
}

/// A number, or else a value.
struct Either<T>(PhantomData<T>);

impl<'de, T: Shareable + Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = Arc<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shared value, or the number of one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Arc<T>, A::Error> {
        let neither = || A::Error::custom("neither a shared value nor the number of one");
        if let Some(number) = pair.next_element::<Option<u64>>()?.ok_or_else(neither)? {
            let rest = pair.next_element::<Option<IgnoredAny>>()?;
            return if matches!(rest, Some(None)) { read(number).map_err(A::Error::custom) } else { Err(neither()) };
        }
        let place = TABLE.with_borrow_mut(|table| {
            let read = &mut table.as_mut()?.read;
            read.push(None);
            Some(read.len() - 1)
        });
        let value = Arc::new(pair.next_element::<Option<T>>()?.flatten().ok_or_else(neither)?);
        let kept: Arc<dyn Any + Send + Sync> = value.clone();
        TABLE.with_borrow_mut(|table| {
            let read = table.as_mut().zip(place).and_then(|(table, place)| table.read.get_mut(place));
            if let Some(read) = read {
                *read = Some(kept);
            }
        });
        Ok(value)
    }
}

/// What was read under this number.
fn read<T: Shareable>(number: u64) -> Result<Arc<T>, String> {
    let found = TABLE.with_borrow(|table| {
        let place = usize::try_from(number).ok()?;
        table.as_ref()?.read.get(place).cloned().flatten()
    });
    let typed = found.and_then(|found| found.downcast::<T>().ok());
    typed.ok_or_else(|| format!("shared value {number} is not there, or is another thing"))
}
