//! Units of privacy: rho and epsilon in billionths, delta as a power of ten.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Billionths in a whole.
const NANO: u64 = 1_000_000_000;
/// The natural logarithm of ten in billionths, rounded up: 2.302585092994..
const LN_10: u128 = 2_302_585_093;
/// Largest exponent of a [`Delta`].
pub const DELTA_EXPONENT_MAX: u8 = 30;

/// Rho of zero-concentrated differential privacy, in billionths. As a price it was rounded up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoRho(pub u64);

/// Epsilon, in billionths, rounded up. What does not fit is `u64::MAX`, at which nothing is private any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoEpsilon(pub u64);

/// A probability of `10^-k`, with k of 1 to [`DELTA_EXPONENT_MAX`]; written as k.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Delta(u8);

/// Why a number is not one of these units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not from 1 to [`DELTA_EXPONENT_MAX`].
    #[error("the exponent of a delta is {0}, expected 1 to {DELTA_EXPONENT_MAX}")]
    DeltaExponent(u8),
    /// Negative, not a number, infinite, or more than billionths in 64 bits can say.
    #[error("not a rho from 0 to 18446744073")]
    Rho,
}

impl NanoRho {
    /// The least number of billionths that is not below `rho`, exactly: a binary fraction has a finite number of digits.
    ///
    /// # Errors
    /// Not a number from 0 to what fits.
    pub fn ceil(rho: f64) -> Result<Self, UnitError> {
        if !rho.is_finite() || rho < 0.0 {
            return Err(UnitError::Rho);
        }
        // rho = mantissa * 2^exponent (IEEE 754 binary64).
        let bits = rho.to_bits();
        let (field, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
        let (mantissa, field) = if field == 0 { (fraction, 1) } else { (fraction | (1 << 52), field) };
        // 53 and 30 bits: no overflow. The exponent is field - 1075, and what could be shifted left does not fit 64 bits.
        let product = u128::from(mantissa) * u128::from(NANO);
        let nano = match 1075_u64.checked_sub(field) {
            _ if product == 0 => 0,
            Some(right) if right < 128 => product.div_ceil(1 << right),
            Some(_) => 1,
            None => return Err(UnitError::Rho),
        };
        u64::try_from(nano).map(Self).map_err(|_| UnitError::Rho)
    }

    /// The sum, where it fits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// What is left of this after `spent`; nothing where more was spent.
    pub fn less(self, spent: Self) -> Self {
        Self(self.0.saturating_sub(spent.0))
    }

    /// An epsilon such that what is rho-zCDP is `(epsilon, delta)`-differentially private: `rho + 2 sqrt(rho ln(1/delta))`
    /// (Bun and Steinke 2016, proposition 1.3), every step rounded up. Tighter conversions exist; this one is exact in integers,
    /// and none gives more.
    pub fn epsilon(self, delta: Delta) -> NanoEpsilon {
        // Billionths times billionths, of which the root is billionths. At most 64 + 5 + 32 + 2 bits.
        let square = 4 * u128::from(self.0) * u128::from(delta.0) * LN_10;
        let root = ceil_sqrt(square);
        NanoEpsilon(u64::try_from(root + u128::from(self.0)).unwrap_or(u64::MAX))
    }
}

impl Delta {
    /// `10^-exponent`.
    ///
    /// # Errors
    /// The exponent is not from 1 to [`DELTA_EXPONENT_MAX`].
    pub fn new(exponent: u8) -> Result<Self, UnitError> {
        if (1..=DELTA_EXPONENT_MAX).contains(&exponent) {
            Ok(Self(exponent))
        } else {
            Err(UnitError::DeltaExponent(exponent))
        }
    }

    /// k of `10^-k`.
    pub fn exponent(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Delta {
    type Error = UnitError;

    fn try_from(exponent: u8) -> Result<Self, UnitError> {
        Self::new(exponent)
    }
}

impl From<Delta> for u8 {
    fn from(delta: Delta) -> Self {
        delta.0
    }
}

/// The least integer whose square is not below `square`.
pub(crate) fn ceil_sqrt(square: u128) -> u128 {
    let floor = square.isqrt();
    if floor * floor == square { floor } else { floor + 1 }
}

/// Billionths as a decimal number without zeros at its end.
fn billionths(nano: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (whole, fraction) = (nano / NANO, nano % NANO);
    if fraction == 0 {
        return write!(f, "{whole}");
    }
    let fraction = format!("{fraction:09}");
    write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
}

impl fmt::Display for NanoRho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        billionths(self.0, f)
    }
}

impl fmt::Debug for NanoRho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rho {self}")
    }
}

impl fmt::Display for NanoEpsilon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        billionths(self.0, f)
    }
}

impl fmt::Debug for NanoEpsilon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epsilon {self}")
    }
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1e-{}", self.0)
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delta {self}")
    }
}
