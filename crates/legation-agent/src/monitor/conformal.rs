//! From scores to conformal p-values that are exactly uniform and independent while the runs are exchangeable.
//!
//! Comparing every new score with the same `m` calibration scores does *not* give that: the p-values share the calibration, so one
//! that happened to turn out low makes all of them small, and whoever bets on small p-values wins without end although nothing
//! changed. Ranks among *all* scores so far are right (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", on
//! smoothed conformal predictors), but need all scores for ever. What is done here is in between, exact, and of fixed size:
//!
//! 1. The calibration scores cut the line into `m + 1` cells. Of later scores only the cell is remembered, as a count.
//! 2. While scores are exchangeable, the rank of a new one among the `m + t - 1` before it is uniform on `m + t` places, whatever
//!    the order of those before it is. Cell `k`, with `n_k` later scores in it, holds `1 + n_k` of these places. So the chance of
//!    cell `k`, given all cells before, is `(1 + n_k) / (m + t)`: a Pólya urn that starts with one ball of each colour.
//! 3. The p-value is the chance of the cells beyond, and a part of the chance of the cell itself drawn uniformly (smoothing). By 2
//!    it is uniform on (0, 1] given all p-values before.
//! 4. Equal scores are put in order by a number drawn for each run, once for its life: then none are equal, and 2 holds for scores
//!    of any distribution. Two equal draws of 64 bits are neglected.
//!
//! A change that lasts fills the outermost cell, and its p-values rise with it: after `j` such runs following `t` usual ones they are
//! below about `j / (m + t + j)`. That is what exchangeability costs; the martingale has to be quicker, and is.

use legation_core::Digest;

const DOMAIN: &[u8] = b"legation.monitor.draw.v1";
/// Binary digits of the smoothing, as many as a float has.
const DIGITS: u32 = 53;

/// The randomness of one run, from its seed: who knows the seeds and the runs, in their order, can compute all of this again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Draw {
    tie: u64,
    smooth: u64,
}

impl Draw {
    /// Independent of what the module draws from the same seed: SHA-256 over another domain.
    pub(super) fn of(seed: &[u8; 32]) -> Self {
        let digest = Digest::of_parts(&[DOMAIN, seed]);
        let word = |from: usize| {
            let bytes = digest.as_bytes().iter().skip(from).take(8);
            bytes.fold(0_u64, |word, byte| (word << 8) | u64::from(*byte))
        };
        Self { tie: word(0), smooth: word(8) }
    }

    /// Uniform on (0, 1], rounded up: a p-value may be too large, never too small.
    fn part(self) -> f64 {
        ((self.smooth >> (u64::BITS - DIGITS)) + 1) as f64 / (1_u64 << DIGITS) as f64
    }
}

/// A score that is equal to no other.
pub(super) type Ranked = (u64, u64);

/// A score with its run's draw.
pub(super) fn ranked(score: u64, draw: Draw) -> Ranked {
    (score, draw.tie)
}

/// Where new scores stand among those before.
#[derive(Clone, Debug)]
pub(super) struct Ranks {
    /// Ascending.
    calibration: Vec<Ranked>,
    /// Places in each cell, the lowest scores first: one more than there are later scores in it.
    places: Vec<u64>,
}

impl Ranks {
    /// Begins with these, in whatever order they came.
    pub(super) fn new(mut calibration: Vec<Ranked>) -> Self {
        calibration.sort_unstable();
        let places = vec![1; calibration.len().saturating_add(1)];
        Self { calibration, places }
    }

    /// The p-value of the next score: small when it is large. In (0, 1].
    pub(super) fn next(&mut self, score: u64, draw: Draw) -> f64 {
        let cell = self.calibration.partition_point(|known| *known < ranked(score, draw));
        let beyond: u64 = self.places.iter().skip(cell.saturating_add(1)).sum();
        let all: u64 = self.places.iter().sum();
        let Some(own) = self.places.get_mut(cell) else { return 1.0 };
        let p = (beyond as f64 + draw.part() * *own as f64) / all as f64;
        *own = own.saturating_add(1);
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(tie: u64, smooth: u64) -> Draw {
        Draw { tie, smooth }
    }

    #[test]
    fn p_values_are_places_beyond_and_a_part_of_the_own_cell() {
        let calibration = vec![(10, 0), (30, 0), (20, 0)];
        for (score, smooth, want) in [
            // Beyond all three: the outermost of four places.
            (31, u64::MAX, 1.0 / 4.0),
            (31, u64::MAX >> 1, 1.0 / 8.0),
            (25, u64::MAX, 2.0 / 4.0),
            (15, u64::MAX, 3.0 / 4.0),
            (9, u64::MAX, 1.0),
            (9, u64::MAX >> 1, 7.0 / 8.0),
        ] {
            let p = Ranks::new(calibration.clone()).next(score, draw(0, smooth));
            assert!((p - want).abs() < 1e-12, "{score}: {p}, not {want}");
        }
        // What came counts from then on.
        let mut ranks = Ranks::new(calibration);
        for n in 1..=50_u32 {
            let p = ranks.next(99, draw(0, u64::MAX));
            assert!((p - f64::from(n) / f64::from(n + 3)).abs() < 1e-12, "{n}: {p}");
        }
    }

    #[test]
    fn equal_scores_are_ordered_by_their_draws() {
        let of = |tie| Ranks::new(vec![(5, 10), (5, 20), (5, 30)]).next(5, draw(tie, u64::MAX));
        assert_eq!([of(0), of(15), of(25), of(31)], [1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn draws_depend_on_the_seed_alone_and_are_never_zero() {
        assert_eq!(Draw::of(&[1; 32]), Draw::of(&[1; 32]));
        assert_ne!(Draw::of(&[1; 32]), Draw::of(&[2; 32]));
        let (least, most) = (draw(0, 0).part(), draw(0, u64::MAX).part());
        assert!(least > 0.0 && least < 1e-15 && most == 1.0);
        let p = Ranks::new(vec![(1, 1)]).next(9, draw(0, 0));
        assert!(p > 0.0);
        // Nothing to compare with: every p-value is a draw.
        assert_eq!(Ranks::new(Vec::new()).next(9, draw(0, u64::MAX)), 1.0);
    }

    /// Deciles of p-values over exchangeable scores, all of them equal in one case: 20,000 draws, each decile within six standard
    /// deviations (42.4 each).
    #[test]
    fn p_values_are_uniform_whatever_the_scores_are() {
        let seed = |n: u64| *Digest::of(&n.to_le_bytes()).as_bytes();
        let distributions: [fn(u64) -> u64; 3] = [|_| 7, |n| n % 3, |n| n >> 8];
        for (which, score) in distributions.into_iter().enumerate() {
            let mut deciles = [0_u32; 10];
            for stream in 0..100_u64 {
                let draws = |k: u64| Draw::of(&seed(((which as u64) << 32) | (stream << 16) | k));
                let scored = |k: u64| score(Draw::of(&seed((1 << 62) | (stream << 16) | k)).tie);
                let mut ranks = Ranks::new((0..32).map(|k| ranked(scored(k), draws(k))).collect());
                for k in 32..232 {
                    let p = ranks.next(scored(k), draws(k));
                    deciles[((p * 10.0).ceil() as usize).clamp(1, 10) - 1] += 1;
                }
            }
            assert!(deciles.iter().all(|n| n.abs_diff(2000) < 255), "distribution {which}: {deciles:?}");
        }
    }
}
