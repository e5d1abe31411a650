//! Sealing as a stream: holds one segment, and gives it on when a byte after it arrives, because only then it is not the last.

use std::io::{self, Write};

use legation_core::{ObjectId, task::OutputRef};
use zeroize::Zeroizing;

use super::{ObjectKey, SEGMENT, SealError, Sealer};

/// Seals what is written to it into `W`.
///
/// Nothing is an object before [`SealWriter::finish`]: dropped without it, what was written is a truncated object, and is
/// refused by whoever opens it. [`Write::flush`] flushes `W`, but an incomplete segment stays here.
pub struct SealWriter<W> {
    inner: W,
    sealer: Sealer,
    buffer: Zeroizing<Vec<u8>>,
    broken: bool,
}

impl<W: Write> SealWriter<W> {
    /// Begins an object. `key` must be new: one key seals one object once.
    pub fn new(key: &ObjectKey, object: ObjectId, inner: W) -> Self {
        let buffer = Zeroizing::new(Vec::with_capacity(SEGMENT));
        Self { inner, sealer: Sealer::new(key, object), buffer, broken: false }
    }

    /// Writes the last segment, flushes, and says what names the object.
    ///
    /// # Errors
    /// Those of `W`; a [`SealError`] inside when the object is too long or an earlier write failed.
    pub fn finish(mut self) -> io::Result<(W, OutputRef)> {
        self.emit(true)?;
        self.inner.flush()?;
        Ok((self.inner, self.sealer.finish()))
    }

    fn emit(&mut self, last: bool) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(SealError::Broken));
        }
        // Until the whole segment is out, a second try would seal other bytes under the same nonce or leave a hole.
        self.broken = true;
        let tag = self.sealer.seal(&mut self.buffer, last).map_err(io::Error::other)?;
        self.inner.write_all(&self.buffer)?;
        self.inner.write_all(&tag)?;
        self.buffer.clear();
        self.broken = false;
        Ok(())
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken || (self.buffer.len() == SEGMENT && !bytes.is_empty()) {
            self.emit(false)?;
        }
        let taken = bytes.len().min(SEGMENT - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
