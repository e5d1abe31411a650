//! The tree as it grows. In memory is its right edge alone: the hashes of the tiles that are not full, and the peaks (roots of the
//! whole subtrees that the size in binary is made of). An append hashes the entry and, on average, one node.
//!
//! What an append completes is kept until [`Tree::flush`] puts it. Full tiles never change; a tile that is not full is put again
//! with more at its end, so a store that stopped half-way through a flush has no tile that is wrong, only some that are wider than
//! the size it remembers. [`Tree::restore`] takes their beginnings.

use std::{collections::BTreeMap, convert::Infallible};

use legation_core::Digest;

use crate::{
    SIZE_MAX,
    hash::{empty_root, leaf_hash, node_hash},
    tile::{ENTRY_MAX, HASH, HEIGHT, Level, TileId, WIDTH, beginning, push_entry},
};

/// Where tiles are kept, by name, each as wide as it was put last.
pub trait Tiles {
    /// Why the store failed.
    type Error;

    /// A tile or bundle; nothing when it was never put.
    ///
    /// # Errors
    /// The store failed.
    fn get(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Keeps a tile or bundle, instead of a beginning of it that was put before.
    ///
    /// # Errors
    /// The store failed.
    fn put(&mut self, tile: TileId, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Tiles in memory.
pub type MemoryTiles = BTreeMap<TileId, Vec<u8>>;

impl Tiles for MemoryTiles {
    type Error = Infallible;

    fn get(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(BTreeMap::get(self, &tile).cloned())
    }

    fn put(&mut self, tile: TileId, bytes: &[u8]) -> Result<(), Infallible> {
        self.insert(tile, bytes.to_vec());
        Ok(())
    }
}

impl<T: Tiles> Tiles for &mut T {
    type Error = T::Error;

    fn get(&mut self, tile: TileId) -> Result<Option<Vec<u8>>, T::Error> {
        (**self).get(tile)
    }

    fn put(&mut self, tile: TileId, bytes: &[u8]) -> Result<(), T::Error> {
        (**self).put(tile, bytes)
    }
}

/// Why tiles are of no use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TileFault<E> {
    /// The store failed.
    #[error("{0}")]
    Store(E),
    /// A tile that must be there is not, or not as wide.
    #[error("{tile} has not its first {width}")]
    Missing {
        /// Which.
        tile: TileId,
        /// How wide it must be.
        width: u16,
    },
    /// A proof of what is not in a tree of this size.
    #[error("there is no proof about {asked} in a tree of {size} entries")]
    Beyond {
        /// The entry, or the size of the older tree.
        asked: u64,
        /// The size.
        size: u64,
    },
}

/// The entry cannot be appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// It is too long.
    #[error("an entry of more than {ENTRY_MAX} bytes")]
    TooLong,
    /// The log is full.
    #[error("the log has {SIZE_MAX} entries, and takes no more")]
    Full,
}

/// A tree that grows.
#[derive(Clone, Default, Debug)]
pub struct Tree {
    size: u64,
    /// Roots of the whole subtrees, the largest first: one for each bit of the size.
    peaks: Vec<Digest>,
    /// Bytes of the tile of each level that is not full.
    edge: Vec<Vec<u8>>,
    /// The bundle that is not full.
    bundle: Vec<u8>,
    /// What became full since the last flush.
    full: Vec<(TileId, Vec<u8>)>,
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of this size out of its tiles.
    ///
    /// # Errors
    /// A tile of its right edge is missing, or the store failed.
    pub fn restore<T: Tiles>(size: u64, tiles: &mut T) -> Result<Self, TileFault<T::Error>> {
        if size > SIZE_MAX {
            return Err(TileFault::Beyond { asked: size, size: SIZE_MAX });
        }
        let mut tree = Self { size, ..Self::default() };
        let mut levels = 0;
        while size >> (HEIGHT * levels) > 0 {
            levels += 1;
        }
        for level in 0..levels {
            let tile = TileId {
                level: Level::Hashes(u8::try_from(level).unwrap_or_default()),
                index: size >> (HEIGHT * (level + 1)),
            };
            tree.edge.push(fetch(tiles, tile, tile.width_at(size))?);
        }
        for height in (0..levels * HEIGHT).rev().filter(|height| (size >> *height) & 1 == 1) {
            tree.peaks.extend(tree.peak(height));
        }
        let entries = TileId { level: Level::Entries, index: size / WIDTH };
        tree.bundle = fetch(tiles, entries, entries.width_at(size))?;
        Ok(tree)
    }

    /// The root of the whole subtree of this height at the right edge, out of the tile that has its parts.
    fn peak(&self, height: u32) -> Option<Digest> {
        let tile = self.edge.get(usize::try_from(height / HEIGHT).ok()?)?;
        let width = tile.len() / HASH;
        let parts = 1_usize << (height % HEIGHT);
        // What lies before it in the tile are the higher bits of the tile's width.
        let start = width & !(2 * parts - 1);
        let mut row: Vec<Digest> = hashes(tile.get(start * HASH..(start + parts) * HASH)?);
        while row.len() > 1 {
            row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        }
        row.pop()
    }

    /// Entries so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root hash (RFC 6962 section 2.1).
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |root, peak| node_hash(peak, &root))
    }

    /// Appends an entry; gives its position. Memory grows by what it completes until the next [`Self::flush`].
    ///
    /// # Errors
    /// The entry is too long, or the log full.
    pub fn append(&mut self, entry: &[u8]) -> Result<u64, AppendError> {
        let index = self.size;
        if index >= SIZE_MAX {
            return Err(AppendError::Full);
        }
        if !push_entry(&mut self.bundle, entry) {
            return Err(AppendError::TooLong);
        }
        if (index + 1).is_multiple_of(WIDTH) {
            let bundle = std::mem::take(&mut self.bundle);
            self.full.push((TileId { level: Level::Entries, index: index / WIDTH }, bundle));
        }
        let mut hash = leaf_hash(entry);
        self.push(0, &hash);
        // Every bit that the increment carries joins two subtrees of one height.
        for height in 1..=index.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            if height.is_multiple_of(HEIGHT) {
                self.push(height / HEIGHT, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = index + 1;
        Ok(index)
    }

    /// Adds a hash to the tile of this level that is not full; what entry `self.size` completes.
    fn push(&mut self, level: u32, hash: &Digest) {
        let (Ok(place), Ok(name)) = (usize::try_from(level), u8::try_from(level)) else { return };
        if self.edge.len() <= place {
            self.edge.resize(place + 1, Vec::new());
        }
        let Some(tile) = self.edge.get_mut(place) else { return };
        tile.extend_from_slice(hash.as_bytes());
        if tile.len() as u64 == WIDTH * HASH as u64 {
            let id = TileId { level: Level::Hashes(name), index: self.size >> (HEIGHT * (level + 1)) };
            self.full.push((id, std::mem::take(tile)));
        }
    }

    /// Tiles and bundles that wait to be put, beside those of the right edge.
    pub fn waiting(&self) -> usize {
        self.full.len()
    }

    /// Puts what became full, and the right edge.
    ///
    /// # Errors
    /// The store failed: what it took will be put again.
    pub fn flush<T: Tiles>(&mut self, tiles: &mut T) -> Result<(), T::Error> {
        for (tile, bytes) in &self.full {
            tiles.put(*tile, bytes)?;
        }
        for (level, bytes) in (0_u8..).zip(&self.edge).filter(|(_, bytes)| !bytes.is_empty()) {
            let index = self.size >> (HEIGHT * (u32::from(level) + 1));
            tiles.put(TileId { level: Level::Hashes(level), index }, bytes)?;
        }
        if !self.bundle.is_empty() {
            tiles.put(TileId { level: Level::Entries, index: self.size / WIDTH }, &self.bundle)?;
        }
        self.full.clear();
        Ok(())
    }
}

/// The beginning of a tile, as wide as asked; nothing of a tile of no width.
pub(crate) fn fetch<T: Tiles>(tiles: &mut T, tile: TileId, width: u16) -> Result<Vec<u8>, TileFault<T::Error>> {
    if width == 0 {
        return Ok(Vec::new());
    }
    let found = tiles.get(tile).map_err(TileFault::Store)?;
    let wide = found.as_deref().and_then(|bytes| beginning(tile.level, bytes, width));
    wide.map(<[u8]>::to_vec).ok_or(TileFault::Missing { tile, width })
}

/// The hashes of a tile.
pub(crate) fn hashes(tile: &[u8]) -> Vec<Digest> {
    tile.as_chunks::<HASH>().0.iter().map(|hash| Digest::from_bytes(*hash)).collect()
}
