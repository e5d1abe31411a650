//! What was verified or parsed before, by a digest of everything it was made from.
//!
//! A cache is bounded, and the oldest entry goes first when it is full. Its lock is held for one look-up or one
//! insertion, never while a signature is checked: two callers may do the same work at once, and either result is kept.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use legation_core::{Digest, UnixTime};

/// Most entries a cache holds.
pub const ENTRIES_MAX: usize = 4096;

/// Verdicts that hold between two dates. The caller owns it; it may be shared.
///
/// A verdict in it is used only inside its dates, so it never outlives a certificate or a list behind it; and as its
/// key covers whatever it was made from, a new list or another root makes a new entry.
#[derive(Debug)]
pub struct DatedCache<T>(Bounded<(RangeInclusive<UnixTime>, Arc<T>)>);

impl<T> DatedCache<T> {
    /// A cache of at most `capacity` entries, itself at most [`ENTRIES_MAX`]; 0 remembers nothing.
    pub fn new(capacity: usize) -> Self {
        Self(Bounded::new(capacity))
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, key: &Digest, at: UnixTime) -> Option<Arc<T>> {
        self.0.get(key).filter(|(dates, _)| dates.contains(&at)).map(|(_, value)| value)
    }

    pub(crate) fn insert(&self, key: Digest, dates: RangeInclusive<UnixTime>, value: Arc<T>) {
        self.0.insert(key, (dates, value));
    }
}

impl<T> Default for DatedCache<T> {
    fn default() -> Self {
        Self::new(ENTRIES_MAX)
    }
}

/// Entries that are good whenever they are there, or whose owner looks at their dates. What it gives is a clone.
pub(crate) struct Bounded<V> {
    capacity: usize,
    /// Most weight of all entries together, by whatever their owner weighs them.
    weight_max: usize,
    entries: Mutex<Entries<V>>,
}

struct Entries<V> {
    /// Each with its weight.
    by_key: BTreeMap<Digest, (V, usize)>,
    oldest_first: VecDeque<Digest>,
    weight: usize,
}

impl<V> Bounded<V> {
    /// Of at most `capacity` entries, itself at most [`ENTRIES_MAX`]; 0 remembers nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        Self::weighing(capacity, usize::MAX)
    }

    /// As [`Self::new`], and of at most this weight.
    pub(crate) fn weighing(capacity: usize, weight_max: usize) -> Self {
        let entries = Entries { by_key: BTreeMap::new(), oldest_first: VecDeque::new(), weight: 0 };
        Self { capacity: capacity.min(ENTRIES_MAX), weight_max, entries: Mutex::new(entries) }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    // A panic while the lock was held leaves at worst an entry that is never evicted early: go on.
    fn lock(&self) -> MutexGuard<'_, Entries<V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the place of what is there under `key`.
    pub(crate) fn insert(&self, key: Digest, value: V) {
        self.insert_weighing(key, value, 0);
    }

    /// As [`Self::insert`]; what weighs more than all may together is not kept.
    pub(crate) fn insert_weighing(&self, key: Digest, value: V, weight: usize) {
        if self.capacity == 0 || weight > self.weight_max {
            return;
        }
        let mut entries = self.lock();
        entries.weight = entries.weight.saturating_add(weight);
        match entries.by_key.insert(key, (value, weight)) {
            Some((_, before)) => entries.weight = entries.weight.saturating_sub(before),
            None => entries.oldest_first.push_back(key),
        }
        while entries.by_key.len() > self.capacity || entries.weight > self.weight_max {
            let Some(oldest) = entries.oldest_first.pop_front() else { break };
            let freed = entries.by_key.remove(&oldest).map_or(0, |(_, weight)| weight);
            entries.weight = entries.weight.saturating_sub(freed);
        }
    }
}

impl<V: Clone> Bounded<V> {
    pub(crate) fn get(&self, key: &Digest) -> Option<V> {
        self.lock().by_key.get(key).map(|(value, _)| value.clone())
    }

    /// What is under `key`, made and kept if it is not there.
    pub(crate) fn get_or<E>(&self, key: Digest, make: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(known) = self.get(&key) {
            return Ok(known);
        }
        let made = make()?;
        self.insert(key, made.clone());
        Ok(made)
    }
}

impl<V> std::fmt::Debug for Bounded<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bounded({} of {})", self.len(), self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn the_oldest_goes_first_and_a_second_insertion_takes_no_more_room() {
        let cache = Bounded::new(2);
        for (n, value) in [(1, "a"), (2, "b"), (2, "c"), (3, "d")] {
            cache.insert(key(n), value);
        }
        assert_eq!([1, 2, 3].map(|n| cache.get(&key(n))), [None, Some("c"), Some("d")]);
        assert_eq!(cache.len(), 2);
        assert_eq!(format!("{cache:?}"), "Bounded(2 of 2)");
        let none = Bounded::new(0);
        none.insert(key(1), "a");
        assert_eq!((none.get(&key(1)), none.len()), (None, 0));
        assert_eq!(Bounded::<u8>::new(usize::MAX).capacity, ENTRIES_MAX);
    }

    #[test]
    fn heavy_entries_push_out_older_ones() {
        let cache = Bounded::weighing(10, 100);
        for (n, weight) in [(1, 40), (2, 40), (2, 50), (3, 30), (4, 101)] {
            cache.insert_weighing(key(n), n, weight);
        }
        assert_eq!([1, 2, 3, 4].map(|n| cache.get(&key(n))), [None, Some(2), Some(3), None]);
    }

    #[test]
    fn what_is_there_is_not_made_again_and_what_fails_is_not_kept() {
        let cache = Bounded::new(2);
        assert_eq!(cache.get_or(key(1), || Err::<u8, _>("no")), Err("no"));
        assert_eq!(cache.get_or(key(1), || Ok::<_, &str>(7)), Ok(7));
        assert_eq!(cache.get_or(key(1), || Err::<u8, _>("no")), Ok(7));
        // The lock is free meanwhile.
        assert_eq!(cache.get_or(key(2), || Ok::<_, &str>(cache.len() as u8)), Ok(1));
    }

    #[test]
    fn an_entry_is_given_inside_its_dates_alone() {
        let cache = DatedCache::new(1);
        assert!(cache.is_empty());
        cache.insert(key(1), UnixTime(10)..=UnixTime(20), Arc::new("a"));
        for (at, expected) in [(9, None), (10, Some("a")), (20, Some("a")), (21, None)] {
            assert_eq!(cache.get(&key(1), UnixTime(at)).as_deref(), expected.as_ref(), "{at}");
        }
        assert_eq!(cache.get(&key(2), UnixTime(15)), None);
        cache.insert(key(1), UnixTime(30)..=UnixTime(40), Arc::new("b"));
        assert_eq!((cache.len(), cache.get(&key(1), UnixTime(15))), (1, None));
    }
}
