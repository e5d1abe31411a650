//! The measurements: what is done to the records, with noise at a scale, and what `opendp` says it costs.

use opendp::{
    combinators::{make_chain_mt, make_chain_tt},
    core::Measurement,
    domains::{AtomDomain, VectorDomain},
    error::{Error, Fallible},
    measurements::{make_gaussian, make_private_quantile},
    measures::ZeroConcentratedDivergence,
    metrics::{L2Distance, SymmetricDistance},
    transformations::{make_clamp, make_count, make_count_by_categories, make_sum},
};

use crate::plan::Plan;

/// How often a scale grows by its last place before the library's price must fit.
const STEPS_MAX: u32 = 64;

/// A list of such numbers, of unknown length.
type List<T> = VectorDomain<AtomDomain<T>>;
/// What is released of a list under zero-concentrated differential privacy, one record added or removed being a distance of 1.
pub(super) type Released<T, TO> = Measurement<List<T>, SymmetricDistance, ZeroConcentratedDivergence, TO>;

/// Why nothing was released.
#[derive(Debug)]
pub(super) enum Failed {
    /// The library's price is above the plan's.
    Uncertified,
    /// The library failed: the kind alone.
    Library(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Library(error.variant.to_string())
    }
}

/// The measurement at the first scale from `numerator / denominator` on at which the library's price is no more than the plan's.
pub(super) fn certified<T: opendp::traits::CheckAtom, TO>(
    plan: &Plan,
    (numerator, denominator): (u128, u128),
    make: impl Fn(f64) -> Fallible<Released<T, TO>>,
) -> Result<Released<T, TO>, Failed> {
    // Both are exact, and a price is below 2^53. The quotient may have been rounded up, so what is compared with is below it.
    let most = (plan.cost().0 as f64 / (1e9 * f64::from(plan.parts()))).next_down();
    let mut scale = quotient(numerator, denominator);
    for _ in 0..STEPS_MAX {
        let made = make(scale)?;
        if made.map(&plan.per_person().get())? <= most {
            return Ok(made);
        }
        scale = scale.next_up();
    }
    Err(Failed::Uncertified)
}

/// At least `numerator / denominator`, which is below 2^60, and at most two places above it.
fn quotient(numerator: u128, denominator: u128) -> f64 {
    let nearest = numerator as f64;
    // Up to 2^53 it is exact; above, a float is an integer, so the way back is exact.
    let above = if (nearest as u128) < numerator { nearest.next_up() } else { nearest };
    let whole = denominator.is_power_of_two();
    let divided = above / denominator as f64;
    if whole { divided } else { divided.next_up() }
}

fn list<T: opendp::traits::CheckAtom>() -> List<T> {
    VectorDomain::new(AtomDomain::new_non_nan())
}

/// How many records.
pub(super) fn noisy_count(scale: f64) -> Fallible<Released<i64, i64>> {
    let count = make_count::<i64, i64>(list(), SymmetricDistance)?;
    let noise = make_gaussian(count.output_domain.clone(), count.output_metric.clone(), scale, None)?;
    make_chain_mt(&noise, &count)
}

/// The sum of the records, each clamped.
pub(super) fn noisy_sum(bounds: (i64, i64), scale: f64) -> Fallible<Released<i64, i64>> {
    let clamp = make_clamp(list::<i64>(), SymmetricDistance, bounds)?;
    let sum = make_sum(clamp.output_domain.clone(), clamp.output_metric.clone())?;
    let noise = make_gaussian(sum.output_domain.clone(), sum.output_metric.clone(), scale, None)?;
    make_chain_mt(&noise, &make_chain_tt(&sum, &clamp)?)
}

/// How many records say each of these numbers.
pub(super) fn noisy_bins(bins: u32, scale: f64) -> Fallible<Released<u32, Vec<i64>>> {
    let categories = (0..bins).collect();
    let count = make_count_by_categories::<L2Distance<i64>, u32, i64>(list(), SymmetricDistance, categories, false)?;
    let noise = make_gaussian(count.output_domain.clone(), count.output_metric.clone(), scale, None)?;
    make_chain_mt(&noise, &count)
}

/// The candidate that a share of the records is below.
pub(super) fn noisy_choice(candidates: &[i64], share: f64, scale: f64) -> Fallible<Released<i64, i64>> {
    make_private_quantile(list(), SymmetricDistance, ZeroConcentratedDivergence, candidates.to_vec(), share, scale)
}

#[cfg(test)]
mod tests {
    use super::quotient;

    #[test]
    fn quotients_are_never_below_what_they_stand_for() {
        for (numerator, denominator) in
            [(1_u128, 65_536_u128), ((1 << 60) + 1, 65_536), (7, 65_536_000), (u128::from(u64::MAX), 65_536_000)]
        {
            let scale = quotient(numerator, denominator);
            // scale = mantissa * 2^exponent, compared without rounding.
            let (mut value, mut down) = (scale, 0_u32);
            while value.fract() != 0.0 {
                (value, down) = (value * 2.0, down + 1);
            }
            assert!((value as u128) * denominator >= numerator << down, "{numerator}/{denominator}");
            assert!(scale <= (numerator as f64 / denominator as f64).next_up().next_up().next_up());
        }
    }
}
