//! Where a custodian's state is kept: bytes that are written whole or not at all, and read back by the next boot of the same machine.

use std::fmt;

use zeroize::Zeroizing;

/// Keeps bytes over restarts, sealed or in memory. What was stored last is loaded; nothing else ever is.
pub trait Keep: Send {
    /// What was stored last, if anything ever was.
    ///
    /// # Errors
    /// It is there, and cannot be had.
    fn load(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, KeepError>;

    /// Stores these bytes in place of what was there. When it returns well, they outlast the process as long as anything here does; else what
    /// was there before is still there.
    ///
    /// # Errors
    /// Nothing was stored.
    fn store(&mut self, bytes: &[u8]) -> Result<(), KeepError>;
}

/// Why nothing was stored, or nothing could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeepError(pub String);

/// Keeps in memory alone: a restart loses it.
#[derive(Default)]
pub struct InMemory(Option<Zeroizing<Vec<u8>>>);

impl Keep for InMemory {
    fn load(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, KeepError> {
        Ok(self.0.clone())
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), KeepError> {
        self.0 = Some(Zeroizing::new(bytes.to_vec()));
        Ok(())
    }
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InMemory({} bytes)", self.0.as_ref().map_or(0, |kept| kept.len()))
    }
}
