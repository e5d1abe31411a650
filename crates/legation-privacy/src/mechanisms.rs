//! Answers with noise, by `opendp`, which proves its transformations and says for each measurement what it costs.
//!
//! An answer is made in this order:
//! 1. the permit is of the records' ledger and pays for the plan, or nothing is drawn;
//! 2. the measurement is built for the plan's noise, its scale rounded up;
//! 3. `opendp`'s own privacy map, which rounds up, must say no more than the plan's price, which was computed without it: the scale
//!    grows by last places until it does;
//! 4. it is invoked on the records.
//!
//! *Noise* comes from `rand`'s generator of this thread (ChaCha, seeded by the operating system, which in an enclave is the
//! enclave's own): `opendp` takes no generator as an argument. It samples exactly, by rejection, so *how long* it takes depends on
//! noise and data: whoever can measure that learns something that was not paid for. Answers are best sent at a time of their own.
//! *Errors* hold the kind of failure alone: `opendp`'s texts may hold data.

mod measurement;

use serde::{Deserialize, Serialize};

use self::measurement::{Failed, certified, noisy_bins, noisy_choice, noisy_count, noisy_sum};
use crate::{
    ledger::{BookId, Permit},
    plan::Plan,
    query::{Query, THOUSANDTHS_MAX, middle},
    unit::NanoRho,
};

/// An answer. Anything computed from it alone costs nothing more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// May be negative: noise is.
    Count {
        /// Records and noise.
        records: i64,
    },
    /// A sum and noise.
    Sum {
        /// It ends at the limits of 64 bits.
        value: i64,
    },
    /// A mean.
    Mean {
        /// In thousandths, within the bounds; nothing where noise left no record to divide by.
        thousandths: Option<i64>,
        /// Records and noise, as for a count.
        records: i64,
    },
    /// For each bin, records and noise.
    Histogram {
        /// One more than there are edges.
        bins: Vec<i64>,
    },
    /// A candidate.
    Quantile {
        /// Which.
        value: i64,
    },
}

/// Why there is no answer. What was paid stays spent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The permit is of another ledger than the records'.
    #[error("the permit is of ledger {got}, and the records are of {expected}")]
    OtherBook {
        /// The records'.
        expected: BookId,
        /// The permit's.
        got: BookId,
    },
    /// The permit is for less.
    #[error("the plan costs rho {cost}, and the permit is for rho {paid}")]
    Unpaid {
        /// What was paid.
        paid: NanoRho,
        /// The plan's price.
        cost: NanoRho,
    },
    /// The library and the plan do not agree on the price.
    #[error("opendp says of a {query} that it costs more than the plan does")]
    Uncertified {
        /// Of what.
        query: &'static str,
    },
    /// The library failed.
    #[error("opendp failed with {kind} on a {query}")]
    Failed {
        /// Of what.
        query: &'static str,
        /// Its kind of failure.
        kind: String,
    },
}

/// Draws the one answer that a permit is for, about the records of a data set whose ledger `book` is. Copies of the records are made
/// that nobody wipes.
///
/// # Errors
/// The permit is of another ledger or does not pay for the plan, or the library failed.
pub fn answer(permit: Permit, book: BookId, plan: &Plan, records: &[i64]) -> Result<Answer, AnswerError> {
    if permit.book() != book {
        return Err(AnswerError::OtherBook { expected: book, got: permit.book() });
    }
    if permit.rho() < plan.cost() {
        return Err(AnswerError::Unpaid { paid: permit.rho(), cost: plan.cost() });
    }
    let query = plan.query().name();
    draw(plan, records).map_err(|failed| match failed {
        Failed::Uncertified => AnswerError::Uncertified { query },
        Failed::Library(kind) => AnswerError::Failed { query, kind },
    })
}

fn draw(plan: &Plan, records: &[i64]) -> Result<Answer, Failed> {
    let mut scales = plan.deviations();
    let mut scale = || scales.next().ok_or(Failed::Uncertified);
    match plan.query() {
        Query::Count {} => {
            let count = certified(plan, scale()?, noisy_count)?;
            Ok(Answer::Count { records: count.invoke(&records.to_vec())? })
        }
        Query::Sum { lower, upper } => {
            let sum = certified(plan, scale()?, |scale| noisy_sum((*lower, *upper), scale))?;
            Ok(Answer::Sum { value: sum.invoke(&records.to_vec())? })
        }
        Query::Mean { lower, upper } => {
            let middle = middle(*lower, *upper);
            let bounds = (lower - middle, upper - middle);
            let sum = certified(plan, scale()?, |scale| noisy_sum(bounds, scale))?;
            let count = certified(plan, scale()?, noisy_count)?;
            let centred = records.iter().map(|x| (*x).clamp(*lower, *upper) - middle).collect();
            let (sum, count) = (sum.invoke(&centred)?, count.invoke(&centred)?);
            Ok(Answer::Mean { thousandths: mean((*lower, *upper), sum, count), records: count })
        }
        Query::Histogram { edges } => {
            let bins = u32::try_from(edges.len() + 1).map_err(|_| Failed::Uncertified)?;
            let histogram = certified(plan, scale()?, |scale| noisy_bins(bins, scale))?;
            Ok(Answer::Histogram { bins: histogram.invoke(&binned(edges, records))? })
        }
        Query::Quantile { candidates, thousandths } => {
            let choice = certified(plan, scale()?, |scale| noisy_choice(candidates, share(*thousandths), scale))?;
            Ok(Answer::Quantile { value: choice.invoke(&records.to_vec())? })
        }
    }
}

/// For each record the number of edges that are not above it: one record is in one bin.
fn binned(edges: &[i64], records: &[i64]) -> Vec<u32> {
    // There are few edges: `EDGES_MAX` fits.
    let bin = |x: &i64| u32::try_from(edges.partition_point(|edge| edge <= x)).unwrap_or(u32::MAX);
    records.iter().map(bin).collect()
}

/// Of a noisy sum of distances from the middle and a noisy count: thousandths, rounded to the nearest.
fn mean((lower, upper): (i64, i64), sum: i64, count: i64) -> Option<i64> {
    if count < 1 {
        return None;
    }
    let (sum, count) = (i128::from(sum) * 1000, i128::from(count));
    let from_middle = (2 * sum + count).div_euclid(2 * count);
    let thousandths = i128::from(middle(lower, upper)) * 1000 + from_middle;
    let within = thousandths.clamp(i128::from(lower) * 1000, i128::from(upper) * 1000);
    i64::try_from(within).ok()
}

/// A share that `opendp` reads as exactly so many thousandths. It multiplies by ten thousand and cuts off what is behind the point,
/// so the next number above does no harm, and the one below would.
fn share(thousandths: u16) -> f64 {
    match thousandths {
        0 => 0.0,
        THOUSANDTHS_MAX => 1.0,
        some => (f64::from(some) / f64::from(THOUSANDTHS_MAX)).next_up(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::RecordsPerPerson;

    #[test]
    fn records_go_into_the_bin_of_the_last_edge_not_above_them() {
        let edges = [-5, 0, 10];
        assert_eq!(binned(&edges, &[i64::MIN, -6, -5, -1, 0, 9, 10, i64::MAX]), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn means_are_rounded_to_the_nearest_thousandth_and_stay_within_bounds() {
        // Middle of 0 to 10 is 5: 3 records with 1 above it in all are a mean of 5 1/3.
        assert_eq!(mean((0, 10), 1, 3), Some(5333));
        assert_eq!(mean((0, 10), -1, 3), Some(4667));
        assert_eq!(mean((0, 10), 100, 3), Some(10_000));
        assert_eq!(mean((0, 10), i64::MIN, 1), Some(0));
        assert_eq!(mean((0, 10), 7, 0), None);
        assert_eq!(mean((0, 10), 7, -3), None);
    }

    /// What the library says of a price is what the plan says, for every kind of query, share and number of records.
    #[test]
    fn every_price_is_certified() {
        let check = |query: &Query, per_person: u32, offered: u64| {
            let people = RecordsPerPerson::new(per_person).unwrap();
            let plan = Plan::within(query.clone(), people, NanoRho(offered)).unwrap();
            let drawn = draw(&plan, &[1, 2, 3]);
            assert!(drawn.is_ok(), "{plan:?}: {drawn:?}");
        };
        let wide = 1 << 40;
        let queries = [
            Query::Count {},
            Query::Sum { lower: 0, upper: 1 },
            Query::Sum { lower: -3, upper: 7 },
            Query::Mean { lower: 18, upper: 99 },
            Query::Histogram { edges: vec![0] },
            Query::Histogram { edges: (0..64).collect() },
        ];
        for query in &queries {
            for offered in [1, 7, 1000, 12_345_678, 500_000_000, 1_000_000_000, 100_000_000_000] {
                for per_person in [1, 3, 1000] {
                    check(query, per_person, offered);
                }
            }
        }
        check(&Query::Sum { lower: -wide, upper: wide }, 1, 1_000_000);
        for thousandths in 0..=1000 {
            check(
                &Query::Quantile { candidates: vec![-1, 0, 5], thousandths },
                1 + u32::from(thousandths % 3),
                20_000_000,
            );
        }
    }
}
