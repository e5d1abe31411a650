//! Words from outside that the pool keeps: cut to a length, because whoever says them may say too much.

use legation_core::Rejection;

/// Longest text kept of what others say, in bytes.
pub(crate) const TEXT_MAX: usize = 1024;

/// `text`, cut to [`TEXT_MAX`] bytes at most.
pub(crate) fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default().to_owned()
}

/// `why` with each of its texts cut.
pub(crate) fn cut_rejection(why: &Rejection) -> Rejection {
    Rejection {
        check: cut(&why.check),
        claim: cut(&why.claim),
        expected: cut(&why.expected),
        got: cut(&why.got),
        fix: cut(&why.fix),
    }
}

#[cfg(test)]
mod tests {
    use super::{TEXT_MAX, cut};

    #[test]
    fn texts_are_cut_between_characters() {
        for (said, kept) in [(0, 0), (TEXT_MAX, TEXT_MAX), (TEXT_MAX + 1, TEXT_MAX)] {
            assert_eq!(cut(&"a".repeat(said)).len(), kept);
        }
        // Two bytes each, one byte off.
        assert_eq!(cut(&format!("a{}", "\u{e9}".repeat(TEXT_MAX))).len(), TEXT_MAX - 1);
    }
}
