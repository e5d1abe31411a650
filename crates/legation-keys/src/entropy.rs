//! Randomness as an argument: whoever calls decides where it comes from, so that this crate stays pure and its tests repeat.

use std::convert::Infallible;

use hpke::rand_core::{TryCryptoRng, TryRng};

/// A source of cryptographically secure random bytes.
///
/// It cannot fail: a source that can is asked again, or ends the process, before a caller here ever sees a weak byte.
pub trait Entropy {
    /// Fills `out` with random bytes nobody can predict.
    fn fill(&mut self, out: &mut [u8]);
}

/// An [`Entropy`] as `hpke` wants it.
pub(crate) struct Source<'a>(pub(crate) &'a mut dyn Entropy);

impl TryRng for Source<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Source<'_> {}
