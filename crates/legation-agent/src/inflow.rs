//! Streams of a channel between agents: gathered up to what was allowed for each, in memory that is wiped.

use std::collections::BTreeMap;

use legation_core::Bytes;
use zeroize::Zeroizing;

/// More bytes came on a stream than were announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLong;

/// All of a stream.
type Whole = Result<Zeroizing<Vec<u8>>, TooLong>;

struct Gathering<T> {
    what: T,
    most: usize,
    bytes: Zeroizing<Vec<u8>>,
}

/// Streams that are expected, each with what it is for.
pub(crate) struct Inflow<T>(BTreeMap<u64, Gathering<T>>);

impl<T> Default for Inflow<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Inflow<T> {
    /// Expects at most `most` bytes on a stream. All of the room is set aside now: growing would leave copies that nobody wipes.
    pub(crate) fn expect(&mut self, stream: u64, most: Bytes, what: T) {
        let most = usize::try_from(most.0).unwrap_or(usize::MAX);
        self.0.insert(stream, Gathering { what, most, bytes: Zeroizing::new(Vec::with_capacity(most)) });
    }

    /// Takes the next bytes of a stream; all of it, once it ended. What nobody expects is let pass.
    pub(crate) fn data(&mut self, stream: u64, bytes: &[u8], last: bool) -> Option<(T, Whole)> {
        let gathering = self.0.get_mut(&stream)?;
        let fits = gathering.bytes.len().saturating_add(bytes.len()) <= gathering.most;
        if fits {
            gathering.bytes.extend_from_slice(bytes);
        }
        if fits && !last {
            return None;
        }
        let Gathering { what, bytes, .. } = self.0.remove(&stream)?;
        Some((what, if fits { Ok(bytes) } else { Err(TooLong) }))
    }

    /// Nobody waits for the others any more: their room is free.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.0.retain(|_, gathering| keep(&gathering.what));
    }

    /// Whether one of these is on its way.
    pub(crate) fn any(&self, which: impl Fn(&T) -> bool) -> bool {
        self.0.values().any(|gathering| which(&gathering.what))
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing more comes: the channel ended.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_all_of_what_was_announced_and_no_more() {
        let mut inflow = Inflow::default();
        inflow.expect(1, Bytes(6), "one");
        inflow.expect(2, Bytes(3), "two");
        inflow.expect(3, Bytes(0), "empty");
        assert!(inflow.data(1, b"abc", false).is_none());
        assert_eq!(inflow.data(2, b"abcd", false), Some(("two", Err(TooLong))));
        assert!(inflow.data(2, b"e", true).is_none() && inflow.data(9, b"x", true).is_none());
        assert_eq!(inflow.data(1, b"def", true), Some(("one", Ok(Zeroizing::new(b"abcdef".to_vec())))));
        assert_eq!(inflow.data(3, b"", true), Some(("empty", Ok(Zeroizing::new(Vec::new())))));
        assert!(inflow.is_empty());
        inflow.expect(4, Bytes(1), "gone");
        inflow.expect(5, Bytes(1), "kept");
        inflow.retain(|what| *what == "kept");
        assert!(inflow.data(4, b"x", true).is_none() && inflow.any(|what| *what == "kept"));
        inflow.clear();
        assert!(inflow.data(5, b"x", true).is_none() && inflow.is_empty());
    }
}
