//! Opening as a stream: holds one segment, and reads one byte beyond it to know whether it is the last.

use std::io::{self, ErrorKind, Read};

use legation_core::{Digest, ObjectId, task::OutputRef};
use zeroize::{Zeroize, Zeroizing};

use super::{ObjectKey, OpenError, Opener, SEALED_SEGMENT, SEGMENT};

/// Opens the object that it reads from `R`.
///
/// Bytes come out when their segment was authenticated; the end (a `read` of 0) comes only after the last segment's flag and
/// the commitment were checked. A refusal is an [`io::Error`] of kind `InvalidData` with an [`OpenError`] inside
/// ([`OpenError::of`]), and comes again on every further `read`. Errors of `R` pass through and may be tried again.
pub struct OpenReader<R> {
    inner: R,
    commitment: Option<Digest>,
    state: State,
    sealed: Vec<u8>,
    filled: usize,
    plain: Zeroizing<Vec<u8>>,
    given: usize,
}

enum State {
    Reading(Box<Opener>),
    Done(OutputRef),
    Refused(OpenError),
}

impl<R: Read> OpenReader<R> {
    /// Begins to open an object; `commitment` is what its plaintext must have, if a statement says so.
    pub fn new(key: &ObjectKey, object: ObjectId, inner: R, commitment: Option<Digest>) -> Self {
        Self {
            inner,
            commitment,
            state: State::Reading(Box::new(Opener::new(key, object))),
            sealed: vec![0; SEALED_SEGMENT + 1],
            filled: 0,
            plain: Zeroizing::new(Vec::with_capacity(SEGMENT)),
            given: 0,
        }
    }

    /// What was opened: compare its `ciphertext` and `size` with the statement's.
    ///
    /// # Errors
    /// The object was refused, or not read to its end.
    pub fn finish(self) -> Result<(R, OutputRef), OpenError> {
        match self.state {
            State::Done(opened) if self.given == self.plain.len() => Ok((self.inner, opened)),
            State::Done(_) | State::Reading(_) => Err(OpenError::Unread),
            State::Refused(error) => Err(error),
        }
    }

    /// Reads until a segment and the byte after it are there, or the end.
    fn fill(&mut self) -> io::Result<()> {
        while self.filled < self.sealed.len() {
            match self.inner.read(&mut self.sealed[self.filled..]) {
                Ok(0) => break,
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Opens what `fill` left: the next segment.
    fn advance(&mut self, mut opener: Box<Opener>) -> Result<State, OpenError> {
        let last = self.filled < self.sealed.len();
        let sealed = &self.sealed[..self.filled.min(SEALED_SEGMENT)];
        self.plain.resize(sealed.len().saturating_sub(super::TAG), 0);
        opener.open(sealed, last, &mut self.plain)?;
        if last {
            return opener.finish(self.commitment.as_ref()).map(State::Done);
        }
        self.sealed[0] = self.sealed[SEALED_SEGMENT];
        self.filled = 1;
        Ok(State::Reading(opener))
    }
}

impl<R: Read> Read for OpenReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.plain.len() && !out.is_empty() {
            match &self.state {
                State::Done(_) => return Ok(0),
                State::Refused(error) => return Err(io::Error::new(ErrorKind::InvalidData, *error)),
                State::Reading(_) => self.fill()?,
            }
            self.given = 0;
            // `Unread` stands there only while the segment is opened.
            if let State::Reading(opener) = std::mem::replace(&mut self.state, State::Refused(OpenError::Unread)) {
                self.state = self.advance(opener).unwrap_or_else(|error| {
                    self.plain.zeroize();
                    State::Refused(error)
                });
            }
        }
        let taken = out.len().min(self.plain.len() - self.given);
        out[..taken].copy_from_slice(&self.plain[self.given..self.given + taken]);
        self.given += taken;
        Ok(taken)
    }
}
