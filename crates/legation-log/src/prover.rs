//! Proofs made from tiles (RFC 6962 sections 2.1.1 and 2.1.2): for any tree that the log has been.
//!
//! Nodes between the levels of tiles are hashed when a tile is first looked into, and kept: [`TILES_MAX`] tiles at most, the oldest
//! goes first. A proof out of tiles that are kept hashes nothing but the right edge of its tree.

use std::collections::{BTreeMap, VecDeque};

use legation_core::Digest;

use crate::{
    SIZE_MAX,
    hash::{empty_root, node_hash, split},
    proof::{Consistency, Inclusion},
    tile::{HEIGHT, Level, TileId, WIDTH},
    tree::{TileFault, Tiles, fetch, hashes},
};

/// Tiles whose nodes are kept: 16 KiB each.
pub const TILES_MAX: usize = 1024;

/// Makes proofs out of tiles.
pub struct Prover<T> {
    tiles: T,
    kept: BTreeMap<TileId, Opened>,
    order: VecDeque<TileId>,
    most: usize,
}

/// A tile with the nodes above its hashes: rows from its hashes up, each half as long.
struct Opened {
    rows: Vec<Vec<Digest>>,
}

impl Opened {
    fn new(tile: &[u8]) -> Self {
        let mut rows = vec![hashes(tile)];
        while let Some(row) = rows.last().filter(|row| row.len() > 1) {
            let above = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
            rows.push(above);
        }
        Self { rows }
    }

    fn width(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    fn node(&self, height: u32, place: u64) -> Option<Digest> {
        self.rows.get(usize::try_from(height).ok()?)?.get(usize::try_from(place).ok()?).copied()
    }
}

impl<T: Tiles> Prover<T> {
    /// Over these tiles.
    pub fn new(tiles: T) -> Self {
        Self::keeping(tiles, TILES_MAX)
    }

    /// Over these tiles, keeping the nodes of `most` of them.
    pub fn keeping(tiles: T, most: usize) -> Self {
        Self { tiles, kept: BTreeMap::new(), order: VecDeque::new(), most: most.max(1) }
    }

    /// The store.
    pub fn tiles(&mut self) -> &mut T {
        &mut self.tiles
    }

    /// The root of the tree as it was when it had `size` entries.
    ///
    /// # Errors
    /// Tiles are missing, or the store failed.
    pub fn root(&mut self, size: u64) -> Result<Digest, TileFault<T::Error>> {
        check::<T::Error>(size, size)?;
        if size == 0 { Ok(empty_root()) } else { self.range(0, size) }
    }

    /// That entry `index` is in the tree of `size` entries.
    ///
    /// # Errors
    /// It is not; tiles are missing, or the store failed.
    pub fn inclusion(&mut self, index: u64, size: u64) -> Result<Inclusion, TileFault<T::Error>> {
        check::<T::Error>(index.saturating_add(1), size)?;
        let mut path = Vec::new();
        let (mut start, mut end) = (0, size);
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                start = middle;
            }
        }
        // Nothing above reads the entry itself: a log that is shorter has none.
        self.range(index, size.min(index + 1))?;
        path.reverse();
        Ok(Inclusion { index, size, path })
    }

    /// That the tree of `old` entries is the beginning of the one of `new`.
    ///
    /// # Errors
    /// It cannot be; tiles are missing, or the store failed.
    pub fn consistency(&mut self, old: u64, new: u64) -> Result<Consistency, TileFault<T::Error>> {
        check::<T::Error>(old, new)?;
        if old == 0 || old == new {
            return Ok(Consistency { old, new, path: Vec::new() });
        }
        let (seed, mut path) = self.beginning(old, new)?;
        if !old.is_power_of_two() {
            path.insert(0, seed);
        }
        Ok(Consistency { old, new, path })
    }

    /// The hash of the last whole subtree of the tree of `old` entries, and the rest of its consistency proof: what
    /// [`crate::proof::fold`] takes. Unlike the proof itself it shows what the newer tree begins with whether or not that is what
    /// somebody remembers.
    ///
    /// # Errors
    /// As [`Self::consistency`]; also for `old` zero or `new`.
    pub fn beginning(&mut self, old: u64, new: u64) -> Result<(Digest, Vec<Digest>), TileFault<T::Error>> {
        check::<T::Error>(old, new)?;
        if old == 0 || old == new {
            return Err(TileFault::Beyond { asked: old, size: new });
        }
        let mut path = Vec::new();
        let (mut start, mut end) = (0, new);
        while end != old {
            let middle = start + split(end - start);
            if old <= middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Ok((self.range(start, end)?, path))
    }

    /// The hash of the entries from `start` to before `end`, where `start` is a multiple of the whole subtree that fits.
    fn range(&mut self, start: u64, end: u64) -> Result<Digest, TileFault<T::Error>> {
        let mut whole = Vec::new();
        let mut at = start;
        while at < end {
            let left = end - at;
            let height = left.ilog2();
            whole.push(self.node(height, at >> height)?);
            at += 1 << height;
        }
        let mut parts = whole.into_iter().rev();
        let last = parts.next().unwrap_or_else(empty_root);
        Ok(parts.fold(last, |right, left| node_hash(&left, &right)))
    }

    /// The root of a whole subtree: of the `index`-th of this height.
    fn node(&mut self, height: u32, index: u64) -> Result<Digest, TileFault<T::Error>> {
        let (level, above) = (height / HEIGHT, height % HEIGHT);
        let first = index << above;
        let tile = TileId { level: Level::Hashes(u8::try_from(level).unwrap_or(u8::MAX)), index: first / WIDTH };
        let place = first % WIDTH;
        let width = u16::try_from(place + (1 << above)).unwrap_or(u16::MAX);
        let missing: TileFault<T::Error> = TileFault::Missing { tile, width };
        let known = self.kept.get(&tile).filter(|opened| opened.width() >= usize::from(width));
        if let Some(node) = known.and_then(|opened| opened.node(above, place >> above)) {
            return Ok(node);
        }
        let bytes = self.tiles.get(tile).map_err(TileFault::Store)?.unwrap_or_default();
        let opened = Opened::new(&bytes);
        let node = opened.node(above, place >> above).ok_or(missing)?;
        self.keep(tile, opened);
        Ok(node)
    }

    fn keep(&mut self, tile: TileId, opened: Opened) {
        if self.kept.insert(tile, opened).is_none() {
            self.order.push_back(tile);
        }
        while self.order.len() > self.most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.kept.remove(&oldest);
        }
    }

    /// The bytes of a tile or bundle, `width` hashes or entries of it.
    ///
    /// # Errors
    /// It is missing or not as wide, or the store failed.
    pub fn tile(&mut self, tile: TileId, width: u16) -> Result<Vec<u8>, TileFault<T::Error>> {
        fetch(&mut self.tiles, tile, width)
    }
}

fn check<E>(asked: u64, size: u64) -> Result<(), TileFault<E>> {
    if size > SIZE_MAX || asked > size { Err(TileFault::Beyond { asked, size }) } else { Ok(()) }
}
