//! Polynomials over the scalars of BLS12-381, secret ones and committed ones. Abscissas are public, and small: what a computation
//! does depends on them alone, never on a secret.

use commonware_codec::{Copying, Decode, EncodeFixed};
use commonware_cryptography::bls12381::primitives::group::{G1, G2, Private, Scalar};
use commonware_math::algebra::{Additive, CryptoGroup, Field, Random, Ring, Space};
use commonware_parallel::Sequential;
use zeroize::Zeroizing;

use super::terms::ShareIndex;
use crate::entropy::{Entropy, Source};

/// Bytes of a compressed point of G1.
pub(super) const G1_LEN: usize = 48;
/// Bytes of a compressed point of G2.
pub(super) const G2_LEN: usize = 96;
/// Bytes of a scalar.
pub(super) const SCALAR_LEN: usize = 32;

/// The point that these bytes are: canonical, in the subgroup, not the identity.
pub(super) fn g1(bytes: &[u8; G1_LEN]) -> Option<G1> {
    G1::decode_cfg(Copying(bytes), &()).ok()
}

/// The point that these bytes are: canonical, in the subgroup, not the identity.
pub(super) fn g2(bytes: &[u8; G2_LEN]) -> Option<G2> {
    G2::decode_cfg(Copying(bytes), &()).ok()
}

/// The secret that these bytes are: below the order, not zero.
pub(super) fn private(bytes: &[u8; SCALAR_LEN]) -> Option<Private> {
    Private::decode_cfg(Copying(bytes), &()).ok()
}

pub(super) fn g1_bytes(point: &G1) -> Zeroizing<[u8; G1_LEN]> {
    Zeroizing::new(point.encode_fixed())
}

pub(super) fn g2_bytes(point: &G2) -> [u8; G2_LEN] {
    point.encode_fixed()
}

pub(super) fn scalar_bytes(scalar: &Scalar) -> Zeroizing<[u8; SCALAR_LEN]> {
    Zeroizing::new(scalar.encode_fixed())
}

pub(super) fn private_bytes(private: &Private) -> Zeroizing<[u8; SCALAR_LEN]> {
    private.expose(scalar_bytes)
}

/// `g` times a secret, in time that does not depend on it.
pub(super) fn public(private: &Private) -> G2 {
    private.expose(|scalar| G2::generator() * scalar)
}

/// A secret polynomial; each coefficient is wiped when dropped.
pub(super) struct Polynomial(Vec<Scalar>);

impl Polynomial {
    /// Of degree `needed - 1`, with this constant or one that is drawn; draws 64 bytes for each coefficient.
    pub(super) fn draw(constant: Option<&Private>, needed: u16, entropy: &mut dyn Entropy) -> Self {
        // Never grown: growing would leave a copy behind.
        let mut coefficients = Vec::with_capacity(usize::from(needed));
        if let Some(constant) = constant {
            coefficients.push(constant.expose(|scalar| scalar.clone()));
        }
        while coefficients.len() < usize::from(needed) {
            coefficients.push(Scalar::random(Source(entropy)));
        }
        Self(coefficients)
    }

    pub(super) fn coefficients(&self) -> &[Scalar] {
        &self.0
    }

    pub(super) fn at(&self, index: ShareIndex) -> Private {
        let x = abscissa(index);
        let mut value = Scalar::zero();
        for coefficient in self.0.iter().rev() {
            value *= &x;
            value += coefficient;
        }
        Private::new(value)
    }

    pub(super) fn commit(&self) -> Commitment {
        Commitment(self.0.iter().map(|coefficient| G2::generator() * coefficient).collect())
    }
}

/// A polynomial in the exponent: public, with at least one coefficient.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Commitment(Vec<G2>);

impl Commitment {
    pub(super) fn new(points: Vec<G2>) -> Self {
        Self(points)
    }

    pub(super) fn points(&self) -> &[G2] {
        &self.0
    }

    /// What belongs to the key that is shared.
    pub(super) fn constant(&self) -> G2 {
        self.0.first().copied().unwrap_or_else(G2::zero)
    }

    /// What belongs to the share at `index`, by Horner's rule: an abscissa has 7 bits, its powers would have 255.
    pub(super) fn at(&self, index: ShareIndex) -> G2 {
        let x = [u64::from(index.get())];
        self.0.iter().rev().fold(G2::zero(), |value, point| value.scale(&x) + point)
    }

    /// Whether a coefficient is the identity: what reads this back would refuse it, and a leading one lowers the threshold.
    pub(super) fn is_degenerate(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|point| *point == G2::zero())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(g2_bytes).collect()
    }
}

/// How dealings become one: added up, or weighted so that the constant is what was shared before.
pub(super) enum Mix {
    Sum,
    Weights(Vec<Scalar>),
}

impl Mix {
    /// Weighted by Lagrange's coefficients at zero for these abscissas, no two of which are equal.
    pub(super) fn at_zero(of: &[ShareIndex]) -> Self {
        Self::Weights(weights(of))
    }

    pub(super) fn commitments(&self, of: &[&Commitment]) -> Commitment {
        let len = of.iter().map(|commitment| commitment.0.len()).min().unwrap_or(0);
        let column = |at: usize| of.iter().map(|commitment| commitment.0[at]).collect::<Vec<_>>();
        Commitment((0..len).map(|at| self.points(&column(at))).collect())
    }

    pub(super) fn privates(&self, of: &[&Private]) -> Private {
        let mut sum = Scalar::zero();
        match self {
            Self::Sum => of.iter().for_each(|part| part.expose(|part| sum += part)),
            Self::Weights(weights) => {
                for (part, weight) in of.iter().zip(weights) {
                    part.expose(|part| sum += &(part.clone() * weight));
                }
            }
        }
        Private::new(sum)
    }

    fn points(&self, column: &[G2]) -> G2 {
        match self {
            Self::Sum => column.iter().fold(G2::zero(), |sum, point| sum + point),
            Self::Weights(weights) => G2::msm(column, &weights[..], &Sequential),
        }
    }
}

/// The value at zero of the polynomial in G1 that has these values at these abscissas, no two of which are equal.
pub(super) fn interpolate(at: &[ShareIndex], values: &[G1]) -> G1 {
    G1::msm(values, &weights(at)[..], &Sequential)
}

/// Lagrange's coefficients at zero: the product of x_j / (x_j - x_i) over all others.
fn weights(at: &[ShareIndex]) -> Vec<Scalar> {
    at.iter()
        .map(|own| {
            let (mut above, mut below) = (Scalar::one(), Scalar::one());
            for other in at.iter().filter(|other| *other != own) {
                let x = abscissa(*other);
                above *= &x;
                below *= &(x - &abscissa(*own));
            }
            above * &below.inv()
        })
        .collect()
}

fn abscissa(index: ShareIndex) -> Scalar {
    Scalar::from_u64(u64::from(index.get()))
}
