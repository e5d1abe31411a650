//! Which member of its committee one is.

use std::fmt;

use legation_core::custody::MEMBERS_MAX;

/// A member's place in its committee, from 1: the abscissa of its share. Zero, where the key itself is, is not one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShareIndex(u16);

impl ShareIndex {
    /// Place `index` of a committee of the largest size, if there is such a place.
    pub const fn new(index: u16) -> Option<Self> {
        if index >= 1 && index <= MEMBERS_MAX { Some(Self(index)) } else { None }
    }

    /// The place, from 1.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The same as an index into a list.
    pub(super) fn place(self) -> usize {
        usize::from(self.0) - 1
    }

    /// The places of a committee of so many.
    pub(super) fn all(members: u16) -> impl Iterator<Item = Self> {
        (1..=members).map(Self)
    }
}

impl fmt::Display for ShareIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
