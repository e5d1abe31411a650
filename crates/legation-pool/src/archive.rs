//! Where whole proofs are: the journal's records, as far as somebody has them at hand.
//!
//! The pool keeps [`Brief`](crate::Brief)s and reads nothing itself: whoever drives it reads the records at
//! [`Brief::positions`](crate::Brief::positions) and shows them here.

use std::{borrow::Borrow, collections::BTreeMap};

use legation_core::Seq;

use crate::event::Record;

/// Records of a journal.
pub trait Archive {
    /// The record at a position, if it is at hand.
    fn record(&self, at: Seq) -> Option<&Record>;
}

impl<R: Borrow<Record>> Archive for BTreeMap<Seq, R> {
    fn record(&self, at: Seq) -> Option<&Record> {
        self.get(&at).map(Borrow::borrow)
    }
}

/// Records without gaps, such as a whole journal.
impl Archive for [Record] {
    fn record(&self, at: Seq) -> Option<&Record> {
        let place = at.0.checked_sub(self.first()?.seq.0)?;
        self.get(usize::try_from(place).ok()?)
    }
}

impl Archive for Vec<Record> {
    fn record(&self, at: Seq) -> Option<&Record> {
        self.as_slice().record(at)
    }
}
