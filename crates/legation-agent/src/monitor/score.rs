//! How far a run is from usual: features in thousandths of a binary logarithm, and their distance from the median in spreads.
//!
//! Everything is an integer, so nothing is ever "not a number" and all machines agree. Logarithms make a factor of three the same
//! distance at every size.

use legation_core::{Bytes, Fuel, monitor::Feature};

/// Number of features.
const FEATURES: usize = 4;
/// In the order of [`Features`].
const NAMES: [Feature; FEATURES] = [Feature::Fuel, Feature::Calls, Feature::Memory, Feature::Output];
/// Least spread, in thousandths of a binary logarithm: 1.4 %. A module that always did the same has a spread of 0, and would
/// otherwise be infinitely far from usual with the first byte more.
const SPREAD_MIN: u64 = 20;
/// Bytes of a page of linear memory (WebAssembly core specification, section 4.2.8).
const PAGE: u64 = 1 << 16;
/// Binary digits of a logarithm behind the point; thousandths need 10, and rounding to them some more.
const DIGITS: u32 = 16;

/// What is looked at of a run that completed. All of it is the same wherever module, input and seed are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Work done.
    pub fuel: Fuel,
    /// Bytes of all inputs.
    pub input: Bytes,
    /// Calls into the host.
    pub host_calls: u64,
    /// Most linear memory held.
    pub memory: Bytes,
    /// Bytes of output.
    pub output: Bytes,
}

/// A sample as it is compared, in thousandths of a binary logarithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Features([i64; FEATURES]);

impl From<&Sample> for Features {
    fn from(sample: &Sample) -> Self {
        let fuel = log2_of(sample.fuel.0);
        Self([
            fuel - log2_of(sample.input.0),
            log2_of(sample.host_calls) - fuel,
            log2_of(sample.memory.0.div_ceil(PAGE)),
            log2_of(sample.output.0),
        ])
    }
}

/// What is usual: median and median absolute deviation of each feature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Usual([(i64, u64); FEATURES]);

impl Usual {
    /// Of these runs, in whatever order they came.
    pub(super) fn of(runs: &[Features]) -> Self {
        let mut usual = [(0, SPREAD_MIN); FEATURES];
        for (place, (median, spread)) in usual.iter_mut().enumerate() {
            let values = || runs.iter().filter_map(move |run| run.0.get(place).copied());
            *median = middle(values().collect());
            let far = middle(values().map(|value| value.abs_diff(*median)).collect());
            *spread = far.max(SPREAD_MIN);
        }
        Self(usual)
    }

    /// Distance of a run, in thousandths of a spread, and the feature that is furthest.
    pub(super) fn score(&self, run: &Features) -> (u64, Feature) {
        let mut worst = (0, Feature::Fuel);
        for ((value, (median, spread)), name) in run.0.iter().zip(&self.0).zip(NAMES) {
            let far = value.abs_diff(*median).saturating_mul(1000) / (*spread).max(1);
            if far > worst.0 {
                worst = (far, name);
            }
        }
        worst
    }
}

/// The lower median; 0 of nothing.
fn middle<T: Ord + Copy + Default>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    let place = values.len().saturating_sub(1) / 2;
    values.get(place).copied().unwrap_or_default()
}

/// log2(n + 1) in thousandths, 0 to 64,000.
fn log2_of(n: u64) -> i64 {
    let n = n.saturating_add(1);
    let whole = n.ilog2();
    // The highest bit is moved to the top: a number from 1 up to 2 with 63 binary digits.
    i64::from(whole) * 1000 + fraction(n << (63 - whole))
}

/// The binary logarithm of a number from 1 up to 2, given with 63 binary digits, in thousandths: by squaring, digit after digit.
pub(super) fn fraction(mantissa: u64) -> i64 {
    let mut x = u128::from(mantissa);
    let mut digits = 0_i64;
    for _ in 0..DIGITS {
        x = (x * x) >> 63;
        digits <<= 1;
        if x >> 64 != 0 {
            digits |= 1;
            x >>= 1;
        }
    }
    (digits * 1000 + (1 << (DIGITS - 1))) >> DIGITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn features(fuel: u64, input: u64, host_calls: u64, memory: u64, output: u64) -> Features {
        let (fuel, input, memory, output) = (Fuel(fuel), Bytes(input), Bytes(memory), Bytes(output));
        Features::from(&Sample { fuel, input, host_calls, memory, output })
    }

    #[test]
    fn logarithms_are_right_to_a_thousandth() {
        for (n, want) in [
            (0, 0),
            (1, 1000),
            (2, 1585),
            (3, 2000),
            (4, 2322),
            (9, 3322),
            (99, 6644),
            (1023, 10_000),
            (999_999, 19_932),
            ((1 << 40) - 1, 40_000),
            (u64::MAX, 64_000),
        ] {
            assert_eq!(log2_of(n), want, "{n}");
        }
    }

    #[test]
    fn distance_is_counted_in_spreads_and_the_furthest_feature_is_named() {
        // Fuel by byte spreads by 100 thousandths around 5000; the rest never changes.
        let runs: Vec<_> = (-2..=2).map(|k| Features([5000 + 100 * k, -3000, 1000, 8000])).collect();
        let usual = Usual::of(&runs);
        assert_eq!(usual, Usual([(5000, 100), (-3000, SPREAD_MIN), (1000, SPREAD_MIN), (8000, SPREAD_MIN)]));
        for (run, want) in [
            ([5000, -3000, 1000, 8000], (0, Feature::Fuel)),
            ([5200, -3000, 1000, 8000], (2000, Feature::Fuel)),
            ([4800, -3000, 1000, 8000], (2000, Feature::Fuel)),
            ([5200, -3060, 1000, 8000], (3000, Feature::Calls)),
            ([5200, -3000, 1585, 8000], (29_250, Feature::Memory)),
            ([5200, -3000, 1585, 0], (400_000, Feature::Output)),
            // Three times the fuel by byte.
            ([6585, -4585, 1000, 8000], (79_250, Feature::Calls)),
        ] {
            assert_eq!(usual.score(&Features(run)), want, "{run:?}");
        }
    }

    #[test]
    fn a_factor_is_the_same_distance_at_every_size() {
        for (fuel, input) in [(1_000, 10), (1_000_000, 10_000), (1 << 40, 1 << 30)] {
            let (one, three) = (features(fuel, input, 5, PAGE, 9), features(3 * fuel, input, 5, PAGE, 9));
            let far = three.0[0] - one.0[0];
            assert!((1583..=1586).contains(&far), "{fuel}: {far}");
        }
        assert_eq!(features(0, 0, 0, 1, 0).0, [0, 0, 1000, 0]);
    }

    proptest! {
        #[test]
        fn no_run_is_too_extreme(
            runs in proptest::collection::vec(any::<[u64; 5]>(), 0..40),
            ends in proptest::collection::vec(proptest::sample::select(vec![0, 1, u64::MAX - 1, u64::MAX]), 5),
        ) {
            let of = |n: &[u64]| features(n[0], n[1], n[2], n[3], n[4]);
            let usual = Usual::of(&runs.iter().map(|n| of(n)).collect::<Vec<_>>());
            let (far, _) = usual.score(&of(&ends));
            // Two logarithms apart twice, over the least spread.
            prop_assert!(far <= 4 * 64_000 * 1000 / SPREAD_MIN);
        }

        #[test]
        fn what_is_usual_does_not_depend_on_the_order(mut runs in proptest::collection::vec(any::<[u64; 5]>(), 1..40)) {
            let of = |n: &[u64; 5]| features(n[0], n[1], n[2], n[3], n[4]);
            let there = Usual::of(&runs.iter().map(of).collect::<Vec<_>>());
            runs.reverse();
            prop_assert_eq!(Usual::of(&runs.iter().map(of).collect::<Vec<_>>()), there);
        }

        #[test]
        fn logarithms_never_fall(n in any::<u64>()) {
            prop_assert!(log2_of(n) <= log2_of(n.saturating_add(1)));
        }
    }
}
