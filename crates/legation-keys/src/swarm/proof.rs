//! The proof that a dealer knows every coefficient of what it committed to: Schnorr's, for all of them at once (Gennaro, Leigh,
//! Sundaram, Yerazunis, *Batching Schnorr identification scheme*, ASIACRYPT 2004), made non-interactive by Fiat and Shamir's
//! hash.
//!
//! ```text
//! hint      = g·k                                   k: secret, of fresh bytes, the constant, and all that the proof is about
//! challenge = hash to scalar (ceremony · dealer · points · hint)
//! response  = k + challenge·a_0 + challenge²·a_1 + ..
//! accepted  when the hint that these give, g·response - challenge·A_0 - challenge²·A_1 - .., hashes to the challenge
//! ```

use commonware_cryptography::bls12381::primitives::group::{G2, Scalar};
use commonware_math::algebra::{Additive, CryptoGroup, Ring, Space};
use commonware_parallel::Sequential;
use legation_core::Digest;
use zeroize::Zeroizing;

use super::{
    curve::{Commitment, Polynomial, g2_bytes, scalar_bytes},
    terms::ShareIndex,
    wire::{ReadError, Reader},
};
use crate::entropy::Entropy;

/// Separates the challenges (RFC 9380 section 3.1: a tag names application, suite and use).
const CHALLENGE: &[u8] = b"LEGATION-SWARM-V1-BLS12381_XMD:SHA-256_DEALING_CHALLENGE_";
/// Separates the nonces.
const NONCE: &[u8] = b"LEGATION-SWARM-V1-BLS12381_XMD:SHA-256_DEALING_NONCE_";

/// What a proof is bound to.
pub(super) struct Context {
    pub(super) ceremony: Digest,
    pub(super) dealer: ShareIndex,
}

/// A proof; both scalars are public.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proof {
    challenge: Scalar,
    response: Scalar,
}

impl Proof {
    /// Proves that `polynomial` is what `commitment` commits to; draws 32 bytes. The nonce depends on all that is proven, so that a
    /// source that repeats itself gives no two proofs with one nonce.
    pub(super) fn make(
        context: &Context,
        polynomial: &Polynomial,
        commitment: &Commitment,
        entropy: &mut dyn Entropy,
    ) -> Self {
        let mut drawn = Zeroizing::new([0; 32]);
        entropy.fill(&mut drawn[..]);
        let mut seed = Zeroizing::new(Vec::with_capacity(32 * (1 + polynomial.coefficients().len())));
        seed.extend_from_slice(&drawn[..]);
        for coefficient in polynomial.coefficients() {
            seed.extend_from_slice(&scalar_bytes(coefficient)[..]);
        }
        let about = Zeroizing::new([&seed[..], &context.bytes()].concat());
        let nonce = Scalar::map(NONCE, &about);
        let challenge = context.challenge(commitment, &(G2::generator() * &nonce));
        let mut response = Scalar::zero();
        for coefficient in polynomial.coefficients().iter().rev() {
            response += coefficient;
            response *= &challenge;
        }
        response += &nonce;
        Self { challenge, response }
    }

    pub(super) fn holds(&self, context: &Context, commitment: &Commitment) -> bool {
        let mut points = vec![G2::generator()];
        points.extend_from_slice(commitment.points());
        let mut scalars = vec![self.response.clone()];
        let mut power = Scalar::one();
        for _ in commitment.points() {
            power *= &self.challenge;
            scalars.push(-power.clone());
        }
        context.challenge(commitment, &G2::msm(&points[..], &scalars[..], &Sequential)) == self.challenge
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(Self { challenge: from.scalar("challenge of the proof")?, response: from.scalar("response of the proof")? })
    }

    pub(super) fn to_bytes(&self) -> [[u8; 32]; 2] {
        [*scalar_bytes(&self.challenge), *scalar_bytes(&self.response)]
    }
}

impl Context {
    fn bytes(&self) -> [u8; 34] {
        let mut bytes = [0; 34];
        bytes[..32].copy_from_slice(self.ceremony.as_bytes());
        bytes[32..].copy_from_slice(&self.dealer.get().to_be_bytes());
        bytes
    }

    fn challenge(&self, commitment: &Commitment, hint: &G2) -> Scalar {
        Scalar::map(CHALLENGE, &[&self.bytes()[..], &commitment.to_bytes(), &g2_bytes(hint)].concat())
    }
}
