//! Trees over the digests of a fragment's pieces, in the shape of RFC 6962: the sealer's, which remembers a logarithm of them; a
//! holder's, which proves any piece out of a file of digests; and the path that comes with a piece, and proves it to anybody.
//!
//! A holder keeps the list of its pieces' digests (32 bytes each, in order) beside its fragment, and of that list
//! [`PieceList`] in memory: a digest for each [`PAGE`] of them and the tree above. So a piece is read with its path from one
//! page of the file.

use super::{
    FragmentDigest, PieceDigest,
    digest::{inner, root},
};

/// Digests in a page of a list: 8 KiB.
pub const PAGE: u32 = 256;
/// Most digests in a [`Path`]: a fragment has at most 2^24 pieces.
pub const PATH_MAX: usize = 24;

/// The tree of pieces that arrive in order, as the roots of its complete subtrees, largest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Frontier {
    count: u32,
    peaks: Vec<PieceDigest>,
}

impl Frontier {
    pub(super) fn push(&mut self, digest: PieceDigest) {
        let mut node = digest;
        for _ in 0..self.count.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = inner(&left, &node);
            }
        }
        self.peaks.push(node);
        self.count += 1;
    }

    pub(super) fn root(&self) -> FragmentDigest {
        root(self.node())
    }

    /// The node over all of them.
    fn node(&self) -> Option<PieceDigest> {
        self.peaks.iter().rev().copied().reduce(|right, left| inner(&left, &right))
    }

    pub(super) fn peaks(&self) -> &[PieceDigest] {
        &self.peaks
    }

    /// The tree of `count` pieces with these peaks; nothing when it has another number of them.
    pub(super) fn restore(count: u32, peaks: Vec<PieceDigest>) -> Option<Self> {
        (peaks.len() == Self::peak_count(count)).then_some(Self { count, peaks })
    }

    /// How many peaks the tree of `count` pieces has.
    pub(super) fn peak_count(count: u32) -> usize {
        count.count_ones() as usize
    }
}

/// What leads from a piece's digest to its fragment's root: the digests beside the way up, lowest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path(Vec<PieceDigest>);

impl Path {
    /// As it travels: the digests one after another.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(PieceDigest::as_bytes).copied().collect()
    }

    /// Reads what travelled; nothing when it is no whole number of digests, or more than [`PATH_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digests, []) = bytes.as_chunks::<32>() else { return None };
        (digests.len() <= PATH_MAX).then(|| Self(digests.iter().copied().map(PieceDigest::from_bytes).collect()))
    }

    /// How many digests it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none: the path of the only piece.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many digests the path of a piece has, in a fragment of `count`.
    pub(super) fn expected(index: u32, count: u32) -> usize {
        siblings(index, count).filter(Option::is_some).count()
    }

    /// The root that it leads to from the piece at `index` of `count`; nothing when it is longer or shorter than such a path.
    pub(super) fn climb(&self, digest: PieceDigest, index: u32, count: u32) -> Option<FragmentDigest> {
        let mut beside = self.0.iter();
        let mut node = digest;
        for sibling in siblings(index, count) {
            match sibling {
                Some(Side::Left) => node = inner(beside.next()?, &node),
                Some(Side::Right) => node = inner(&node, beside.next()?),
                None => {}
            }
        }
        beside.next().is_none().then(|| root(Some(node)))
    }
}

enum Side {
    Left,
    Right,
}

/// Level by level, on which side of the way from leaf `index` of `count` to the root a node stands, if one does.
fn siblings(index: u32, count: u32) -> impl Iterator<Item = Option<Side>> {
    let last = count.saturating_sub(1);
    (0..32_u32).take_while(move |level| last >> level > 0).map(move |level| match index >> level {
        at if at % 2 == 1 => Some(Side::Left),
        at if at < last >> level => Some(Side::Right),
        _ => None,
    })
}

/// Every level of the tree over these digests, the root last. A node without a sibling is carried up as it is.
fn levels(digests: Vec<PieceDigest>) -> Vec<Vec<PieceDigest>> {
    let mut levels = vec![digests];
    while let Some(below) = levels.last()
        && below.len() > 1
    {
        let pairs = below.chunks(2);
        let above = pairs.filter_map(|pair| pair.iter().copied().reduce(|left, right| inner(&left, &right))).collect();
        levels.push(above);
    }
    levels
}

/// Why a page of a list is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// There is no such piece, or it is not on this page.
    #[error("piece {index} is not here: the list has {count} digests")]
    Absent {
        /// Its index, or that of the first on the page.
        index: u32,
        /// Digests of the list.
        count: u32,
    },
    /// It is not this page of this list.
    #[error("page {page} of the list of digests is altered or cut")]
    Altered {
        /// Its index.
        page: u32,
    },
}

/// The tree over a list of digests that is itself elsewhere, but for the end that fills no page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PieceList {
    count: u32,
    /// The tree of what follows the last whole page.
    end: Frontier,
    /// Roots of whole pages, then of 2, 4, 8.. of them; complete ones only.
    levels: Vec<Vec<PieceDigest>>,
}

/// A page of a list, held against it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListPage {
    index: u32,
    levels: Vec<Vec<PieceDigest>>,
}

impl PieceList {
    /// The list of no piece.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many digests it has.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the digest of the next piece.
    pub fn push(&mut self, digest: PieceDigest) {
        self.end.push(digest);
        self.count += 1;
        if self.end.count < PAGE {
            return;
        }
        let Some(mut node) = std::mem::take(&mut self.end).node() else { return };
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(node);
            match self.levels[level][..] {
                [.., left, right] if self.levels[level].len().is_multiple_of(2) => node = inner(&left, &right),
                _ => break,
            }
        }
    }

    /// The fragment's digest.
    pub fn root(&self) -> FragmentDigest {
        root(self.edge(self.levels.len()))
    }

    /// Takes a page from the file of digests: `bytes` are those of its digests, [`PAGE`] of them but for the last page.
    ///
    /// # Errors
    /// There is no such page, or it is not the one that this list was made of.
    pub fn page(&self, index: u32, bytes: &[u8]) -> Result<ListPage, ListError> {
        let first = index.saturating_mul(PAGE);
        let len = self.count.saturating_sub(first).min(PAGE);
        if len == 0 {
            return Err(ListError::Absent { index: first, count: self.count });
        }
        let altered = ListError::Altered { page: index };
        let (digests, []) = bytes.as_chunks::<32>() else { return Err(altered) };
        if digests.len() != len as usize {
            return Err(altered);
        }
        let levels = levels(digests.iter().copied().map(PieceDigest::from_bytes).collect());
        let whole = self.levels.first().and_then(|roots| roots.get(index as usize)).copied();
        let expected = whole.or_else(|| self.end.node());
        let got = levels.last().and_then(|root| root.first()).copied();
        if got != expected {
            return Err(altered);
        }
        Ok(ListPage { index, levels })
    }

    /// The path of a piece on a page of this list.
    ///
    /// # Errors
    /// The piece is not on this page.
    pub fn path(&self, page: &ListPage, index: u32) -> Result<Path, ListError> {
        let absent = ListError::Absent { index, count: self.count };
        if index >= self.count || index / PAGE != page.index {
            return Err(absent);
        }
        let mut path = Vec::new();
        let mut at = (index % PAGE) as usize;
        for level in &page.levels {
            path.extend(level.get(at ^ 1));
            at /= 2;
        }
        let mut at = page.index as usize;
        let last = (self.count - 1) / PAGE;
        for level in (0..PATH_MAX).take_while(|level| last >> level > 0) {
            let sibling = at ^ 1;
            if sibling <= (last >> level) as usize {
                let complete = self.levels.get(level).and_then(|nodes| nodes.get(sibling)).copied();
                path.push(complete.or_else(|| self.edge(level)).ok_or(absent)?);
            }
            at /= 2;
        }
        Ok(Path(path))
    }

    /// The node over what is in no complete subtree of 2^`level` pages: the right edge of the tree.
    fn edge(&self, level: usize) -> Option<PieceDigest> {
        let mut node = self.end.node();
        for nodes in self.levels.iter().take(level) {
            if let Some(left) = nodes.last().filter(|_| nodes.len() % 2 == 1) {
                node = Some(node.map_or(*left, |right| inner(left, &right)));
            }
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use legation_core::ObjectId;

    use super::*;
    use crate::store::{Position, StripeIndex, piece_digest};

    /// RFC 6962 section 2.1, word for word.
    fn rfc(digests: &[PieceDigest]) -> PieceDigest {
        match digests {
            [one] => *one,
            _ => {
                let (left, right) = digests.split_at(digests.len().next_power_of_two() / 2);
                inner(&rfc(left), &rfc(right))
            }
        }
    }

    #[test]
    fn trees_are_those_of_the_rfc_and_every_path_leads_to_the_root() {
        let digest = |i| piece_digest(ObjectId::from_bytes([1; 16]), Position(0), StripeIndex(i), b"");
        let digests: Vec<_> = (0..1100).map(digest).collect();
        let (mut frontier, mut list) = (Frontier::default(), PieceList::new());
        assert_eq!(frontier.root(), list.root());
        for count in 1..=1100_u32 {
            let (now, at) = (&digests[..count as usize], count as usize - 1);
            frontier.push(digests[at]);
            list.push(digests[at]);
            assert_eq!(Frontier::restore(count, frontier.peaks().to_vec()), Some(frontier.clone()));
            if !(count < 40 || count % 255 < 4 || count % 97 == 0) {
                continue;
            }
            let root = root(Some(rfc(now)));
            assert_eq!((frontier.root(), list.root()), (root, root), "{count}");
            for index in (0..count).filter(|i| count < 40 || i % 61 == 0 || count - i < 3) {
                let on = index / PAGE;
                let bytes: Vec<u8> =
                    now.chunks(256).nth(on as usize).unwrap().iter().flat_map(|d| *d.as_bytes()).collect();
                let page = list.page(on, &bytes).unwrap();
                let path = list.path(&page, index).unwrap();
                assert_eq!(path.len(), Path::expected(index, count));
                assert_eq!(path.climb(now[index as usize], index, count), Some(root), "{index} of {count}");
                assert_eq!(Path::from_bytes(&path.to_bytes()), Some(path.clone()));
                let other = (index + 1) % count;
                assert_ne!(path.climb(now[index as usize], other, count), Some(root).filter(|_| count > 1));
                let longer = Path([&path.0[..], &[root_as_piece(root)]].concat());
                assert_eq!(longer.climb(now[index as usize], index, count), None);
                let mut bad = bytes.clone();
                bad[31] ^= 1;
                for bad in [&bad[..], &bytes[32..], &bytes[1..], &[]] {
                    assert_eq!(list.page(on, bad), Err(ListError::Altered { page: on }), "{index} of {count}");
                }
                assert!(list.path(&page, count).is_err() && list.page(on + 5, &bytes).is_err());
            }
        }
    }

    fn root_as_piece(root: FragmentDigest) -> PieceDigest {
        PieceDigest::from_bytes(*root.as_bytes())
    }

    #[test]
    fn paths_are_bounded() {
        assert_eq!(Path::from_bytes(&[0; 32 * PATH_MAX]).map(|path| path.len()), Some(PATH_MAX));
        for len in [1, 31, 33, 32 * (PATH_MAX + 1)] {
            assert_eq!(Path::from_bytes(&vec![0; len]), None);
        }
        assert_eq!(Path::expected(0, 1 << 24), PATH_MAX);
        assert_eq!(Path::expected(u32::MAX, 0), 0);
        assert_eq!(Frontier::restore(3, Vec::new()), None);
    }
}
