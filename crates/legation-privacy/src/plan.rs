//! A query with its noise and its exact price, before any data is seen.
//!
//! Noise is a multiple of what one person can change, in steps of 1/65536: [`Noise`] `m` stands for a standard deviation of
//! `m / 65536` times the sensitivity, so that its price is the same for every query,
//!
//! ```text
//! rho = sensitivity^2 / (2 deviation^2) = 2^31 / m^2       (discrete Gaussian: Canonne, Kamath, Steinke 2020, theorem 4)
//! rho = (2 sensitivity / scale)^2 / 8   = 2^31 / m^2       (exponential mechanism, by its bounded range: Cesar, Rogers 2021)
//! ```
//!
//! which integers compute exactly. A mean is a sum and a count, each with such noise, and costs twice that.

use serde::{Deserialize, Serialize};

use crate::{
    query::{Query, QueryError, RecordsPerPerson, THOUSANDTHS_MAX, middle, of_sum},
    unit::{NanoRho, ceil_sqrt},
};

/// Steps of [`Noise`] in one sensitivity.
pub const NOISE_ONE: u64 = 1 << 16;
/// Most that one query may cost: rho 100. Beyond it an answer is all but exact.
pub const RHO_MAX: NanoRho = NanoRho(100_000_000_000);
/// `2^31` in billionths of rho: the price of noise 1.
const UNIT_PRICE: u128 = (1 << 31) * 1_000_000_000;
/// Where noise reaches this, 64 bits do not hold the answer.
const DEVIATION_MAX: u128 = 1 << 60;

/// How much noise: a standard deviation (or scale) in units of 1/65536 of the sensitivity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Noise(u64);

/// What draws the noise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Integers, added to sums and counts.
    DiscreteGaussian,
    /// A candidate, the likelier the better it is.
    Exponential,
}

/// A query that can be paid for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    query: Query,
    per_person: RecordsPerPerson,
    noise: Noise,
    cost: NanoRho,
}

/// Why there is no such plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The query itself.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Nothing, or beyond [`RHO_MAX`].
    #[error("a query may cost rho 0.000000001 to {RHO_MAX}, not {0}")]
    Price(NanoRho),
    /// So much noise that 64 bits do not hold the answer.
    #[error("for rho {0} the noise would be larger than any answer: offer more, or narrow the bounds")]
    Drowned(NanoRho),
}

impl Plan {
    /// The query with the least noise that costs at most `offered`.
    ///
    /// # Errors
    /// The query is beyond its limits, or the offer is.
    pub fn within(query: Query, per_person: RecordsPerPerson, offered: NanoRho) -> Result<Self, PlanError> {
        query.check()?;
        if offered == NanoRho(0) || offered > RHO_MAX {
            return Err(PlanError::Price(offered));
        }
        let price = UNIT_PRICE * u128::from(parts(&query));
        // price / m^2 <= offered, as m^2 >= price / offered: at most 2^63, so m and the cost fit.
        let noise = ceil_sqrt(price.div_ceil(u128::from(offered.0)));
        let cost = price.div_ceil(noise * noise);
        let (Ok(noise), Ok(cost)) = (u64::try_from(noise), u64::try_from(cost)) else {
            return Err(PlanError::Price(offered));
        };
        let plan = Self { query, per_person, noise: Noise(noise), cost: NanoRho(cost) };
        if plan.deviations().any(|(numerator, denominator)| numerator / denominator >= DEVIATION_MAX) {
            return Err(PlanError::Drowned(offered));
        }
        Ok(plan)
    }

    /// The question.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// For how many records of one person it holds.
    pub fn per_person(&self) -> RecordsPerPerson {
        self.per_person
    }

    /// How much noise.
    pub fn noise(&self) -> Noise {
        self.noise
    }

    /// What it costs, exactly, rounded up to a billionth.
    pub fn cost(&self) -> NanoRho {
        self.cost
    }

    /// What draws the noise.
    pub fn mechanism(&self) -> Mechanism {
        match self.query {
            Query::Quantile { .. } => Mechanism::Exponential,
            Query::Count {} | Query::Sum { .. } | Query::Mean { .. } | Query::Histogram { .. } => {
                Mechanism::DiscreteGaussian
            }
        }
    }

    /// Standard deviations of the noise in the answer's own unit, exactly, as numerator and denominator: of the sum and of the
    /// count, of each bin, or the scale of a quantile in records.
    pub fn deviations(&self) -> impl Iterator<Item = (u128, u128)> {
        let one = u128::from(NOISE_ONE);
        let times =
            |one_record: u64| u128::from(self.noise.0) * u128::from(one_record) * u128::from(self.per_person.get());
        let (first, second) = match &self.query {
            Query::Count {} | Query::Histogram { .. } => ((times(1), one), None),
            Query::Sum { lower, upper } => ((times(of_sum(*lower, *upper)), one), None),
            Query::Mean { lower, upper } => {
                let sum = times(upper.abs_diff(middle(*lower, *upper)));
                ((sum, one), Some((times(1), one)))
            }
            // A record moves the score of a candidate by the larger of the two shares.
            Query::Quantile { thousandths, .. } => {
                let share = (*thousandths).max(THOUSANDTHS_MAX - *thousandths);
                ((times(u64::from(share)), one * u128::from(THOUSANDTHS_MAX)), None)
            }
        };
        [Some(first), second].into_iter().flatten()
    }

    /// How many draws of this noise the query takes, each of which costs.
    #[cfg(feature = "mechanisms")]
    pub(crate) fn parts(&self) -> u32 {
        parts(&self.query)
    }
}

fn parts(query: &Query) -> u32 {
    match query {
        Query::Mean { .. } => 2,
        Query::Count {} | Query::Sum { .. } | Query::Histogram { .. } | Query::Quantile { .. } => 1,
    }
}

impl Noise {
    /// In units of 1/65536 of the sensitivity.
    pub fn get(self) -> u64 {
        self.0
    }
}
