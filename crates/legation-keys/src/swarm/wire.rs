//! Reading what strangers send: every field has one length and one spelling, and nothing follows the last.

use commonware_cryptography::bls12381::primitives::group::{G2, Private, Scalar};
use legation_core::{
    Digest,
    custody::{Threshold, ThresholdError},
};

use super::{
    curve::{self, G2_LEN, SCALAR_LEN},
    terms::ShareIndex,
};

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They do not begin as this kind of thing does.
    #[error("does not begin with `{expected}`")]
    Kind {
        /// What it begins with.
        expected: &'static str,
    },
    /// They end too early.
    #[error("ends within {part}")]
    Short {
        /// Where they end.
        part: &'static str,
    },
    /// Something follows the end.
    #[error("{extra} bytes follow the end")]
    Long {
        /// How many bytes.
        extra: usize,
    },
    /// A number is out of bounds.
    #[error("{part} is {got}, which is out of bounds")]
    Bounds {
        /// Which number.
        part: &'static str,
        /// The number.
        got: u16,
    },
    /// The threshold is none.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// Not the canonical encoding of a point of its group, or the identity.
    #[error("{part} is no point of its group")]
    Point {
        /// Which point.
        part: &'static str,
    },
    /// Not below the order of the group, or zero.
    #[error("{part} is no scalar other than zero")]
    Scalar {
        /// Which scalar.
        part: &'static str,
    },
    /// A list is not in ascending order, or names something twice.
    #[error("{part} are not in ascending order, or one is there twice")]
    Order {
        /// Which list.
        part: &'static str,
    },
    /// The first epoch has a roster before it, or a later one none.
    #[error("epoch and previous roster do not fit")]
    Epoch,
}

/// What is still to be read.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads what begins with `kind`.
    pub(super) fn new(bytes: &'a [u8], kind: &'static str) -> Result<Self, ReadError> {
        bytes.strip_prefix(kind.as_bytes()).map(Self).ok_or(ReadError::Kind { expected: kind })
    }

    pub(super) fn take(&mut self, len: usize, part: &'static str) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(ReadError::Short { part })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, part: &'static str) -> Result<&'a [u8; N], ReadError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ReadError::Short { part })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u16(&mut self, part: &'static str) -> Result<u16, ReadError> {
        self.array(part).map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(super) fn u64(&mut self, part: &'static str) -> Result<u64, ReadError> {
        self.array(part).map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(super) fn digest(&mut self, part: &'static str) -> Result<Digest, ReadError> {
        self.array(part).map(|bytes| Digest::from_bytes(*bytes))
    }

    pub(super) fn index(&mut self, part: &'static str) -> Result<ShareIndex, ReadError> {
        let got = self.u16(part)?;
        ShareIndex::new(got).ok_or(ReadError::Bounds { part, got })
    }

    pub(super) fn threshold(&mut self) -> Result<Threshold, ReadError> {
        Ok(Threshold::new(self.u16("threshold")?, self.u16("threshold")?)?)
    }

    pub(super) fn g2(&mut self, part: &'static str) -> Result<G2, ReadError> {
        curve::g2(self.array::<G2_LEN>(part)?).ok_or(ReadError::Point { part })
    }

    pub(super) fn scalar(&mut self, part: &'static str) -> Result<Scalar, ReadError> {
        self.secret(part).map(Private::expose_unwrap)
    }

    pub(super) fn secret(&mut self, part: &'static str) -> Result<Private, ReadError> {
        curve::private(self.array::<SCALAR_LEN>(part)?).ok_or(ReadError::Scalar { part })
    }

    /// Nothing follows.
    pub(super) fn end(self) -> Result<(), ReadError> {
        if self.0.is_empty() { Ok(()) } else { Err(ReadError::Long { extra: self.0.len() }) }
    }
}
