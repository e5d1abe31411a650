//! A map whose copies share their values: a copy of the pool, to be saved as of now while it goes on, costs little more than its
//! keys. A value that is changed while a copy lives is copied then, and only then.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, btree_map},
    fmt,
    ops::Index,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A [`BTreeMap`] that shares its values with its clones.
#[derive(Clone, PartialEq, Eq)]
pub struct Sharing<K, V>(BTreeMap<K, Arc<V>>);

impl<K, V> Default for Sharing<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Sharing<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What [`Sharing::iter`] goes over.
pub(crate) type Iter<'a, K, V> =
    std::iter::Map<btree_map::Iter<'a, K, Arc<V>>, fn((&'a K, &'a Arc<V>)) -> (&'a K, &'a V)>;

impl<K: Ord, V> Sharing<K, V> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|value| &**value)
    }

    /// Whether there is a value for a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// All, in the order of the keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, &**value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> btree_map::Keys<'_, K, Arc<V>> {
        self.0.keys()
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.0.values().map(|value| &**value)
    }

    /// The last, by its key.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.0.last_key_value().map(|(key, value)| (key, &**value))
    }

    /// Puts a value in; says whether there was another.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        self.0.insert(key, Arc::new(value)).is_some()
    }
}

impl<K: Ord, V: Clone> Sharing<K, V> {
    /// The value of a key, to be changed: in this map alone.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key).map(Arc::make_mut)
    }

    /// All values, to be changed: in this map alone.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.values_mut().map(Arc::make_mut)
    }

    /// All, to be changed: in this map alone.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (key, Arc::make_mut(value)))
    }

    /// Takes a value out.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).map(Arc::unwrap_or_clone)
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Sharing<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Sharing<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        Self(all.into_iter().map(|(key, value)| (key, Arc::new(value))).collect())
    }
}

impl<K: Ord, V> Index<&K> for Sharing<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}

impl<K: Serialize + Ord, V: Serialize> Serialize for Sharing<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Sharing<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut one: Sharing<u8, Vec<u8>> = (0..3).map(|n| (n, vec![n])).collect();
        let copy = one.clone();
        assert!(std::ptr::eq(one.get(&1).unwrap(), copy.get(&1).unwrap()), "shared");
        one.get_mut(&1).unwrap().push(9);
        one.values_mut().for_each(|value| value.push(7));
        for (_, value) in one.iter_mut() {
            value.push(8);
        }
        assert_eq!(one.remove(&0), Some(vec![0, 7, 8]));
        assert!(!one.insert(4, vec![4]) && one.insert(4, vec![5]));
        let flat = |map: &Sharing<u8, Vec<u8>>| map.into_iter().map(|(k, v)| (*k, v.clone())).collect::<Vec<_>>();
        assert_eq!(flat(&one), [(1, vec![1, 9, 7, 8]), (2, vec![2, 7, 8]), (4, vec![5])]);
        assert_eq!(flat(&copy), [(0, vec![0]), (1, vec![1]), (2, vec![2])]);
        let text = serde_json::to_string(&copy).unwrap();
        assert_eq!(text, r#"{"0":[0],"1":[1],"2":[2]}"#);
        assert_eq!(serde_json::from_str::<Sharing<u8, Vec<u8>>>(&text).unwrap(), copy);
    }
}
