//! Names of tiles and bundles of entries, as c2sp.org/tlog-tiles has them.
//!
//! A tile holds up to 256 consecutive hashes of one level (levels are eight heights of the tree apart), each 32 bytes; a bundle the
//! entries under a tile of level 0, each after its length in two bytes, most significant first. On the wire a tile that is not
//! full is another resource for each width; a store keeps the widest, of which the others are the beginning.

use std::{fmt, str::FromStr};

/// Hashes in a full tile, and entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Heights of the tree in a tile.
pub const HEIGHT: u32 = 8;
/// Bytes of a hash.
pub const HASH: usize = 32;
/// Longest entry, in bytes.
pub const ENTRY_MAX: usize = u16::MAX as usize;
/// Highest level that C2SP names.
pub const LEVEL_MAX: u8 = 63;
/// Longest path read, in bytes.
pub const PATH_TEXT_MAX: usize = 64;

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// The entries themselves.
    Entries,
    /// Hashes of the nodes at this many times eight above the leaves.
    Hashes(u8),
}

/// Which tile, whatever its width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TileId {
    /// What it holds.
    pub level: Level,
    /// Its number within the level, counted from zero.
    pub index: u64,
}

/// Which tile, as wide as this: what C2SP gives a path to. As text `tile/0/x001/067.p/5`, `tile/entries/000`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TilePath {
    /// Which.
    pub tile: TileId,
    /// Hashes or entries in it: 1 to 256.
    pub width: u16,
}

/// The text is not the path of a tile, in its one spelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the path of a tile (c2sp.org/tlog-tiles), such as tile/0/x001/067 or tile/entries/000.p/5")]
pub struct NotAPath;

impl TileId {
    /// Its path at its full width or less.
    pub fn of_width(self, width: u16) -> TilePath {
        TilePath { tile: self, width }
    }

    /// How wide it is in a tree of this size; zero when it is not in that tree.
    pub fn width_at(self, size: u64) -> u16 {
        let level = match self.level {
            Level::Entries => 0,
            Level::Hashes(level) => u32::from(level),
        };
        let hashes = size.checked_shr(level.saturating_mul(HEIGHT)).unwrap_or_default();
        let before = self.index.saturating_mul(WIDTH);
        u16::try_from(hashes.saturating_sub(before).min(WIDTH)).unwrap_or_default()
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Entries => f.write_str("tile/entries/")?,
            Level::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for (place, group) in groups.iter().enumerate().rev() {
            match place {
                0 => write!(f, "{group:03}")?,
                _ => write!(f, "x{group:03}/")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tile)?;
        if u64::from(self.width) < WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl FromStr for TilePath {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let read = || {
            let (level, rest) = text.strip_prefix("tile/")?.split_once('/')?;
            let level = match level {
                "entries" => Level::Entries,
                number => Level::Hashes(number.parse::<u8>().ok().filter(|level| *level <= LEVEL_MAX)?),
            };
            let (path, width) = match rest.split_once(".p/") {
                Some((path, width)) => {
                    (path, width.parse::<u16>().ok().filter(|width| (1..WIDTH).contains(&u64::from(*width)))?)
                }
                None => (rest, 256),
            };
            let mut index = 0_u64;
            for group in path.split('/') {
                let group = group.trim_start_matches('x').parse::<u64>().ok().filter(|group| *group < 1000)?;
                index = index.checked_mul(1000)?.checked_add(group)?;
            }
            Some(Self { tile: TileId { level, index }, width })
        };
        // There is one spelling: the one that would have been written.
        let found = if text.len() <= PATH_TEXT_MAX { read() } else { None };
        found.filter(|path| path.to_string() == text).ok_or(NotAPath)
    }
}

/// Adds an entry to a bundle; does nothing with one that is too long, and says so.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// The entries of a bundle; nothing when it is cut off, or has more than a bundle may.
pub fn entries(bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut found, mut rest) = (Vec::new(), bundle);
    while !rest.is_empty() {
        let (entry, after) = first_entry(rest)?;
        found.push(entry);
        if found.len() as u64 > WIDTH {
            return None;
        }
        rest = after;
    }
    Some(found)
}

fn first_entry(bundle: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bundle.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// The beginning of a tile or bundle, `width` hashes or entries of it; nothing when it has not as many.
pub fn beginning(level: Level, bytes: &[u8], width: u16) -> Option<&[u8]> {
    match level {
        Level::Hashes(_) => bytes.get(..usize::from(width) * HASH),
        Level::Entries => {
            let mut rest = bytes;
            for _ in 0..width {
                rest = first_entry(rest)?.1;
            }
            bytes.get(..bytes.len() - rest.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        let hashes = |level, index| TileId { level: Level::Hashes(level), index };
        let entries = |index| TileId { level: Level::Entries, index };
        for (path, text) in [
            (hashes(0, 0).of_width(256), "tile/0/000"),
            (hashes(0, 273).of_width(112), "tile/0/273.p/112"),
            (hashes(1, 1_234_067).of_width(256), "tile/1/x001/x234/067"),
            (hashes(63, 1000).of_width(1), "tile/63/x001/000.p/1"),
            (entries(5).of_width(255), "tile/entries/005.p/255"),
            (hashes(0, u64::MAX).of_width(256), "tile/0/x018/x446/x744/x073/x709/x551/615"),
        ] {
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path), "{text}");
        }
        for bad in [
            "",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/001/000",
            "tile/0/x000/000",
            "tile/0/x001",
            "tile/0/xx001/000",
            "tile/0/1000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p/1.p/1",
            "tile/data/000",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/x001/x018/x446/x744/x073/x709/x551/615",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/../000",
        ] {
            assert_eq!(bad.parse::<TilePath>(), Err(NotAPath), "{bad}");
        }
    }

    #[test]
    fn widths_are_those_of_the_specification() {
        let width = |level, index, size| TileId { level: Level::Hashes(level), index }.width_at(size);
        // The example of c2sp.org/tlog-tiles.
        for (level, index, expected) in
            [(0, 0, 256), (0, 272, 256), (0, 273, 112), (0, 274, 0), (1, 0, 256), (1, 1, 17), (2, 0, 1), (3, 0, 0)]
        {
            assert_eq!(width(level, index, 70_000), expected, "level {level}, tile {index}");
        }
        assert_eq!(width(1, 0, 256), 1);
        assert_eq!(width(63, 0, u64::MAX), 0);
    }

    #[test]
    fn bundles_are_read_as_they_were_written_and_refused_when_cut() {
        let mut bundle = Vec::new();
        for entry in [&b"one"[..], b"", b"three"] {
            assert!(push_entry(&mut bundle, entry));
        }
        assert!(!push_entry(&mut bundle, &vec![0; ENTRY_MAX + 1]), "too long");
        assert_eq!(entries(&bundle).unwrap(), [&b"one"[..], b"", b"three"]);
        assert_eq!(beginning(Level::Entries, &bundle, 2).map(<[u8]>::len), Some(7));
        assert_eq!(beginning(Level::Entries, &bundle, 4), None);
        assert_eq!(beginning(Level::Hashes(0), &[0; 64], 2).map(<[u8]>::len), Some(64));
        assert_eq!(beginning(Level::Hashes(0), &[0; 64], 3), None);
        for cut in [1, 4, bundle.len() - 1] {
            assert_eq!(entries(bundle.get(..cut).unwrap()), None, "{cut}");
        }
        assert_eq!(entries(&[0; 2 * 257]), None, "too many");
    }
}
