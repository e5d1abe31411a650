//! Several lists of bits over the same rows, into which and out of which a row can be taken anywhere.

use std::ops::Range;

/// `LISTS` lists with a bit for each row, 64 rows to a word. The words of the same rows stand side by side, list by list: what changes
/// in one row changes neighbours.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows<const LISTS: usize>(Vec<u64>);

impl<const LISTS: usize> Rows<LISTS> {
    /// Words that a list has.
    pub(super) fn words(&self) -> usize {
        self.0.len() / LISTS
    }

    /// 64 rows of one list.
    pub(super) fn word(&self, word: usize, list: usize) -> u64 {
        self.0[word * LISTS + list]
    }

    /// Turns the bits of one row in some lists.
    pub(super) fn flip(&mut self, row: usize, lists: Range<usize>) {
        let (at, bit) = (row / 64 * LISTS, 1 << (row % 64));
        self.0[at + lists.start..at + lists.end].iter_mut().for_each(|word| *word ^= bit);
    }

    /// Puts a row in at `at`, unset in all lists, so that there are so many `rows`; those from there on move up.
    pub(super) fn insert(&mut self, at: usize, rows: usize) {
        let words = rows.div_ceil(64) * LISTS;
        self.0.reserve_exact(words.saturating_sub(self.0.len()));
        self.0.resize(words, 0);
        let (first, below) = (at / 64, (1_u64 << (at % 64)) - 1);
        for list in 0..LISTS {
            let mut carry = 0;
            for (n, word) in self.0.iter_mut().skip(list).step_by(LISTS).enumerate().skip(first) {
                let old = *word;
                *word = if n == first { old & below | (old & !below) << 1 } else { old << 1 | carry };
                carry = old >> 63;
            }
        }
    }

    /// Takes the row at `at` out, so that there are so many `rows`; those above it move down.
    pub(super) fn remove(&mut self, at: usize, rows: usize) {
        let (first, below) = (at / 64, (1_u64 << (at % 64)) - 1);
        for list in 0..LISTS {
            for n in first..self.words() {
                let (old, next) = (self.word(n, list), self.0.get((n + 1) * LISTS + list).copied().unwrap_or(0) << 63);
                let moved = if n == first { old & below | (old >> 1) & !below } else { old >> 1 };
                self.0[n * LISTS + list] = moved | next;
            }
        }
        self.0.truncate(rows.div_ceil(64) * LISTS);
        self.0.shrink_to_fit();
    }

    /// Bytes that they take.
    pub(super) fn weight(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::Rows;

    /// Rows that come and go at drawn places are those of a plain list that did the same.
    #[test]
    fn rows_move_as_in_a_list() {
        let (mut state, mut plain, mut rows) = (7_u64, Vec::<[bool; 3]>::new(), Rows::<3>::default());
        let mut below = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % n
        };
        for turn in 0..3000 {
            if plain.is_empty() || below(100) < if turn < 1500 { 60 } else { 40 } {
                let (at, from) = (below(plain.len() + 1), below(4));
                let to = from + below(4 - from);
                plain.insert(at, [0, 1, 2].map(|list| (from..to).contains(&list)));
                rows.insert(at, plain.len());
                rows.flip(at, from..to);
            } else {
                let at = below(plain.len());
                plain.remove(at);
                rows.remove(at, plain.len());
            }
            assert_eq!(rows.words(), plain.len().div_ceil(64));
            for (n, set) in plain.iter().enumerate() {
                let got = [0, 1, 2].map(|list| rows.word(n / 64, list) >> (n % 64) & 1 == 1);
                assert_eq!(got, *set, "row {n} of {} in turn {turn}", plain.len());
            }
            let set: u32 = plain.iter().flatten().map(|set| u32::from(*set)).sum();
            assert_eq!(rows.0.iter().map(|word| word.count_ones()).sum::<u32>(), set, "nothing beyond the last row");
        }
    }
}
