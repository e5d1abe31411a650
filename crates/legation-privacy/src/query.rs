//! What may be asked of a list of integers, and by how much one record can change the true answer.
//!
//! Bounds, edges and candidates are the asker's and public. Records are clamped to bounds, because refusing a record would say
//! something about it; the query's own numbers are refused beyond the limits here, because they say nothing about anybody.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Largest bound, edge or candidate, either side of zero: 2^40. Sums of more than 2^23 records that large end at the limits of 64
/// bits.
pub const VALUE_MAX: i64 = 1 << 40;
/// Most edges of a histogram; it has one bin more.
pub const EDGES_MAX: usize = 4096;
/// Most candidates of a quantile.
pub const CANDIDATES_MAX: usize = 4096;
/// Most records of one person.
pub const RECORDS_PER_PERSON_MAX: u32 = 1000;
/// A whole, for quantiles.
pub const THOUSANDTHS_MAX: u16 = 1000;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// How many records there are.
    Count {},
    /// The sum of the records, each clamped to the bounds.
    Sum {
        /// Least value that counts.
        lower: i64,
        /// Largest value that counts.
        upper: i64,
    },
    /// The mean of the records, each clamped to the bounds.
    Mean {
        /// Least value that counts.
        lower: i64,
        /// Largest value that counts.
        upper: i64,
    },
    /// How many records are below the first edge, from each edge to below the next, and from the last on.
    Histogram {
        /// Strictly increasing.
        edges: Vec<i64>,
    },
    /// The candidate that parts the records best, so many thousandths of them being below it.
    Quantile {
        /// Strictly increasing.
        candidates: Vec<i64>,
        /// 500 is the median.
        thousandths: u16,
    },
}

/// How many records one person may have among all, from 1 to [`RECORDS_PER_PERSON_MAX`]. Whoever makes the list sees to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RecordsPerPerson(u32);

/// Why a query is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The lower bound is not below the upper one.
    #[error("the bounds are {lower} to {upper}: the lower must be below the upper")]
    Bounds {
        /// As asked.
        lower: i64,
        /// As asked.
        upper: i64,
    },
    /// Beyond [`VALUE_MAX`].
    #[error("{what} is {got}, beyond {VALUE_MAX} either side of zero")]
    Value {
        /// Which number.
        what: &'static str,
        /// As asked.
        got: i64,
    },
    /// None, or too many.
    #[error("{got} {what}, expected 1 to {max}")]
    Number {
        /// Of what.
        what: &'static str,
        /// As asked.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not strictly increasing.
    #[error("{what} are not in increasing order, each once: see number {at}, counted from 1")]
    Order {
        /// Of what.
        what: &'static str,
        /// The first that is not above the one before.
        at: usize,
    },
    /// A quantile beyond the whole.
    #[error("{0} thousandths, expected at most {THOUSANDTHS_MAX}")]
    Thousandths(u16),
    /// Not from 1 to [`RECORDS_PER_PERSON_MAX`].
    #[error("{0} records of one person, expected 1 to {RECORDS_PER_PERSON_MAX}")]
    PerPerson(u32),
}

impl Query {
    /// Checks every number.
    ///
    /// # Errors
    /// The first that is beyond its limit.
    pub fn check(&self) -> Result<(), QueryError> {
        match self {
            Self::Count {} => Ok(()),
            Self::Sum { lower, upper } | Self::Mean { lower, upper } => {
                value("the lower bound", *lower)?;
                value("the upper bound", *upper)?;
                if lower < upper { Ok(()) } else { Err(QueryError::Bounds { lower: *lower, upper: *upper }) }
            }
            Self::Histogram { edges } => list("edges", edges, EDGES_MAX),
            Self::Quantile { candidates, thousandths } => {
                list("candidates", candidates, CANDIDATES_MAX)?;
                if *thousandths <= THOUSANDTHS_MAX { Ok(()) } else { Err(QueryError::Thousandths(*thousandths)) }
            }
        }
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Count {} => "count",
            Self::Sum { .. } => "sum",
            Self::Mean { .. } => "mean",
            Self::Histogram { .. } => "histogram",
            Self::Quantile { .. } => "quantile",
        }
    }
}

/// By how much one record, clamped to such bounds, changes a sum.
pub(crate) fn of_sum(lower: i64, upper: i64) -> u64 {
    lower.unsigned_abs().max(upper.unsigned_abs())
}

/// What is taken off every value before a mean's sum, so that one record changes it least. The bounds have been checked.
pub(crate) fn middle(lower: i64, upper: i64) -> i64 {
    lower + (upper - lower) / 2
}

fn value(what: &'static str, got: i64) -> Result<(), QueryError> {
    if (-VALUE_MAX..=VALUE_MAX).contains(&got) { Ok(()) } else { Err(QueryError::Value { what, got }) }
}

fn list(what: &'static str, values: &[i64], max: usize) -> Result<(), QueryError> {
    if values.is_empty() || values.len() > max {
        return Err(QueryError::Number { what, got: values.len(), max });
    }
    for got in [values.first(), values.last()].into_iter().flatten() {
        value(what, *got)?;
    }
    match values.windows(2).position(|pair| pair[0] >= pair[1]) {
        Some(before) => Err(QueryError::Order { what, at: before + 2 }),
        None => Ok(()),
    }
}

impl RecordsPerPerson {
    /// One record for each person.
    pub const ONE: Self = Self(1);

    /// So many.
    ///
    /// # Errors
    /// Not from 1 to [`RECORDS_PER_PERSON_MAX`].
    pub fn new(records: u32) -> Result<Self, QueryError> {
        if (1..=RECORDS_PER_PERSON_MAX).contains(&records) {
            Ok(Self(records))
        } else {
            Err(QueryError::PerPerson(records))
        }
    }

    /// How many.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for RecordsPerPerson {
    type Error = QueryError;

    fn try_from(records: u32) -> Result<Self, QueryError> {
        Self::new(records)
    }
}

impl From<RecordsPerPerson> for u32 {
    fn from(records: RecordsPerPerson) -> Self {
        records.0
    }
}

impl fmt::Display for RecordsPerPerson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
