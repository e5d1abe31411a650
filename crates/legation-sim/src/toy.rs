//! Swarm keys in numbers below a prime: what `legation-keys` does on a curve, with the same shape (shares on a polynomial, dealings with a
//! commitment and a sealed share for each member, rosters that dealings make, handing on by dealing one's share) and no secrecy at all.
//! Commitments are coefficients in the clear, and whoever knows a sealing key's public half can open what is sealed to it. That a share cannot
//! be had by who should not have it is not what is simulated; who has which, and when, is.

use legation_core::{
    Digest, EnclaveId, SealingPublicKey,
    custody::{Epoch, SwarmPublicKey, Threshold},
};

use crate::random::Random;

/// A prime: 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;
/// Bytes of a number where it is written.
const WIDTH: usize = 8;

/// A number below the prime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Number(u64);

impl Number {
    const ZERO: Self = Self(0);
    pub(crate) const ONE: Self = Self(1);

    pub(crate) fn draw(random: &mut Random) -> Self {
        Self(random.next() % PRIME)
    }

    fn wide(value: u128) -> Self {
        Self(u64::try_from(value % u128::from(PRIME)).unwrap_or(0))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self::wide(u128::from(self.0) + u128::from(other.0))
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self::wide(u128::from(self.0) + u128::from(PRIME - other.0))
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Self::wide(u128::from(self.0) * u128::from(other.0))
    }

    /// By Fermat: its power to the prime less two.
    fn inverse(self) -> Self {
        let (mut result, mut square, mut power) = (Self::ONE, self, PRIME - 2);
        while power > 0 {
            if power & 1 == 1 {
                result = result.times(square);
            }
            square = square.times(square);
            power >>= 1;
        }
        result
    }

    fn read(bytes: &[u8]) -> Option<Vec<Self>> {
        if !bytes.len().is_multiple_of(WIDTH) {
            return None;
        }
        let numbers = bytes.chunks_exact(WIDTH).map(|chunk| {
            let number = u64::from_be_bytes(chunk.try_into().ok()?);
            (number < PRIME).then_some(Self(number))
        });
        numbers.collect()
    }

    fn write(numbers: &[Self], to: &mut Vec<u8>) {
        for Self(number) in numbers {
            to.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Coefficients, the constant first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Polynomial(Vec<Number>);

impl Polynomial {
    /// With this constant and as many coefficients as open.
    pub(crate) fn draw(constant: Number, threshold: Threshold, random: &mut Random) -> Self {
        let others = (1..threshold.needed()).map(|_| Number::draw(random));
        Self(std::iter::once(constant).chain(others).collect())
    }

    pub(crate) fn at(&self, x: u16) -> Number {
        let x = Number(u64::from(x));
        self.0.iter().rev().fold(Number::ZERO, |sum, coefficient| sum.times(x).plus(*coefficient))
    }

    /// The sum of polynomials, each so many times.
    fn sum(parts: &[(Number, Self)]) -> Self {
        let longest = parts.iter().map(|(_, part)| part.0.len()).max().unwrap_or(0);
        let mut sum = vec![Number::ZERO; longest];
        for (weight, part) in parts {
            for (to, coefficient) in sum.iter_mut().zip(&part.0) {
                *to = to.plus(weight.times(*coefficient));
            }
        }
        Self(sum)
    }
}

/// What the value at `x` counts where a polynomial is interpolated at zero from its values at `all` (Lagrange).
pub(crate) fn weight(x: u16, all: &[u16]) -> Number {
    let number = |n: u16| Number(u64::from(n));
    let others = all.iter().filter(|other| **other != x);
    let (above, below) = others.fold((Number::ONE, Number::ONE), |(above, below), other| {
        (above.times(number(*other)), below.times(number(*other).minus(number(x))))
    });
    above.times(below.inverse())
}

/// The value at zero of the polynomial through these points.
pub(crate) fn interpolate(points: &[(u16, Number)]) -> Number {
    let all: Vec<u16> = points.iter().map(|(x, _)| *x).collect();
    points.iter().fold(Number::ZERO, |sum, (x, y)| sum.plus(weight(*x, &all).times(*y)))
}

/// The public half of a key: a digest, thrice.
pub(crate) fn public(secret: Number) -> SwarmPublicKey {
    let digest = Digest::of_parts(&[b"swarm key", &secret.0.to_be_bytes()]);
    let mut bytes = [0; SwarmPublicKey::LEN];
    bytes.iter_mut().zip(digest.as_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
    SwarmPublicKey::from_bytes(bytes)
}

/// A sealing key for one ceremony.
pub(crate) fn sealing_key(random: &mut Random) -> SealingPublicKey {
    let digest = Digest::of_parts(&[b"chair", &random.next().to_be_bytes(), &random.next().to_be_bytes()]);
    let mut bytes = [0; SealingPublicKey::LEN];
    bytes.iter_mut().zip(digest.as_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
    SealingPublicKey::from_bytes(bytes)
}

/// What hides a share on its way.
pub(crate) fn pad(sealing: &SealingPublicKey, ceremony: Digest, dealer: EnclaveId) -> Number {
    let about = [sealing.digest(), ceremony, dealer.digest()];
    let digest = Digest::of_parts(&[about[0].as_bytes(), about[1].as_bytes(), about[2].as_bytes()]);
    let bytes = digest.as_bytes().iter().take(WIDTH);
    Number(bytes.fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)) % PRIME)
}

/// A dealing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Dealt {
    pub(crate) polynomial: Polynomial,
    /// By the places of members.
    pub(crate) sealed: Vec<Number>,
}

impl Dealt {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        Number::write(&self.polynomial.0, &mut bytes);
        Number::write(&self.sealed, &mut bytes);
        bytes
    }

    pub(crate) fn read(bytes: &[u8], threshold: Threshold) -> Option<Self> {
        let mut numbers = Number::read(bytes)?;
        let (needed, members) = (usize::from(threshold.needed()), usize::from(threshold.members()));
        if numbers.len() != needed + members {
            return None;
        }
        let sealed = numbers.split_off(needed);
        Some(Self { polynomial: Polynomial(numbers), sealed })
    }
}

/// What a ceremony comes to: on this polynomial the shares of its members lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Roster {
    ceremony: Digest,
    epoch: Epoch,
    pub(crate) polynomial: Polynomial,
}

/// Bytes of a roster before its polynomial.
const HEAD: usize = 32 + WIDTH;

impl Roster {
    /// Of dealings, each so many times.
    pub(crate) fn made(ceremony: Digest, epoch: Epoch, parts: &[(Number, Polynomial)]) -> Self {
        Self { ceremony, epoch, polynomial: Polynomial::sum(parts) }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = self.ceremony.as_bytes().to_vec();
        bytes.extend_from_slice(&self.epoch.0.to_be_bytes());
        Number::write(&self.polynomial.0, &mut bytes);
        bytes
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (head, polynomial) = bytes.split_at_checked(HEAD)?;
        let (ceremony, epoch) = head.split_at_checked(32)?;
        Some(Self {
            ceremony: Digest::from_bytes(ceremony.try_into().ok()?),
            epoch: Epoch(u64::from_be_bytes(epoch.try_into().ok()?)),
            polynomial: Polynomial(Number::read(polynomial)?),
        })
    }

    pub(crate) fn key(&self) -> SwarmPublicKey {
        public(self.polynomial.at(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(polynomial: &Polynomial, members: u16) -> Vec<(u16, Number)> {
        (1..=members).map(|x| (x, polynomial.at(x))).collect()
    }

    #[test]
    fn as_many_as_open_open_and_fewer_do_not() {
        let mut random = Random::new(1);
        let secret = Number::draw(&mut random);
        let polynomial = Polynomial::draw(secret, Threshold::new(3, 5).unwrap(), &mut random);
        let all = shares(&polynomial, 5);
        for three in [[0, 1, 2], [0, 2, 4], [4, 3, 1]] {
            assert_eq!(interpolate(&three.map(|i| all[i])), secret);
        }
        assert_ne!(interpolate(&[all[0], all[4]]), secret);
        let seven = Number(7);
        assert_eq!(seven.times(seven.inverse()), Number::ONE);
        assert_eq!(Number::ZERO.minus(Number::ONE), Number(PRIME - 1));
    }

    #[test]
    fn shares_that_are_dealt_anew_make_other_shares_of_the_same_key() {
        let mut random = Random::new(2);
        let (old, new) = (Threshold::new(2, 3).unwrap(), Threshold::new(3, 5).unwrap());
        let secret = Number::draw(&mut random);
        let before = shares(&Polynomial::draw(secret, old, &mut random), 3);
        let dealers = [1_u16, 3];
        let parts = dealers.map(|x| {
            let (_, share) = before[usize::from(x) - 1];
            (weight(x, &dealers), Polynomial::draw(share, new, &mut random))
        });
        let roster = Roster::made(Digest::of(b"ceremony"), Epoch(1), &parts);
        assert_eq!(roster.key(), public(secret));
        let after = shares(&roster.polynomial, 5);
        assert_eq!(interpolate(&after[1..4]), secret);
        assert_ne!(interpolate(&[before[0], after[1], after[2]]), secret);
        assert_eq!(Roster::read(&roster.write()), Some(roster.clone()));
        assert_eq!(Roster::read(&roster.write()[1..]), None);
        let dealt = Dealt { polynomial: roster.polynomial, sealed: vec![Number::ONE; 5] };
        assert_eq!(Dealt::read(&dealt.write(), new), Some(dealt.clone()));
        assert_eq!(Dealt::read(&dealt.write(), old), None);
    }
}
