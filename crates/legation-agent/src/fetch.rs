//! Objects that come over a channel, by digest: put together from data frames, hashed as they come, and believed only when the
//! digest is the one asked for.
//!
//! Invariants: what is held never exceeds what was allowed for the object; nothing is given out before its digest was checked;
//! when the channel ends every object that is still under way is lost, and says so.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use legation_core::{Digest, DigestWriter, Rejection, unit::Bytes};
use legation_net::StreamId;
use tokio::sync::oneshot;

/// Room set aside at once for an object, in bytes; more only as bytes arrive.
const ROOM: u64 = 64 * 1024;

/// Why an object is not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The channel ended: ask again on the next.
    #[error("channel ended before the object was here")]
    Lost,
    /// The manager has no such object.
    #[error("manager has no object {digest}")]
    Missing { digest: Digest },
    /// More bytes than allowed.
    #[error("object {digest} is larger than {max}")]
    TooLarge { digest: Digest, max: Bytes },
    /// The bytes are others.
    #[error("bytes sent as object {digest} have digest {got}")]
    Other { digest: Digest, got: Digest },
}

impl FetchError {
    /// As the reason of a refusal.
    pub(crate) fn rejection(&self, what: &str) -> Rejection {
        let refuse = |check: &str| Rejection::new(check, what.to_owned());
        match self {
            Self::Lost => refuse("fetch.lost").expected("all of it").got(self),
            Self::Missing { digest } => refuse("fetch.missing")
                .expected(format!("object {digest}"))
                .got("nothing: the manager does not have it")
                .fix("upload it before submitting the task"),
            Self::TooLarge { max, .. } => refuse("fetch.size").expected(format!("at most {max}")).got(self),
            Self::Other { digest, got } => refuse("fetch.digest")
                .expected(digest)
                .got(got)
                .fix("what the manager keeps was altered: upload it anew"),
        }
    }
}

type Answer = oneshot::Sender<Result<Vec<u8>, FetchError>>;

struct Assembly {
    digest: Digest,
    max: Bytes,
    hash: DigestWriter,
    bytes: Vec<u8>,
    answer: Answer,
}

/// Objects under way on one channel.
#[derive(Default)]
pub(crate) struct Fetches {
    next: AtomicU64,
    open: Mutex<Option<HashMap<u64, Assembly>>>,
}

impl Fetches {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(1), open: Mutex::new(Some(HashMap::new())) }
    }

    /// A stream nobody used on this channel.
    pub(crate) fn stream(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Expects an object of at most `max` bytes on a new stream: ask for it there.
    pub(crate) fn expect(&self, digest: Digest, max: Bytes) -> (u64, oneshot::Receiver<Result<Vec<u8>, FetchError>>) {
        let (answer, receiver) = oneshot::channel();
        let stream = self.stream();
        let room = usize::try_from(max.0.min(ROOM)).unwrap_or_default();
        let assembly = Assembly { digest, max, hash: DigestWriter::new(), bytes: Vec::with_capacity(room), answer };
        if let Some(open) = &mut *self.lock() {
            open.insert(stream, assembly);
        }
        (stream, receiver)
    }

    /// Takes the next bytes of a stream. Streams that nobody waits for any more are let pass.
    pub(crate) fn data(&self, stream: StreamId, bytes: &[u8], last: bool) {
        // The assembly is taken out while it is worked on: one task reads the channel, so nobody misses it.
        let Some(mut assembly) = self.take(stream.0) else { return };
        if assembly.answer.is_closed() {
            return;
        }
        if (assembly.bytes.len() + bytes.len()) as u64 > assembly.max.0 {
            let (digest, max) = (assembly.digest, assembly.max);
            let _ = assembly.answer.send(Err(FetchError::TooLarge { digest, max }));
            return;
        }
        assembly.hash.update(bytes);
        assembly.bytes.extend_from_slice(bytes);
        if !last {
            if let Some(open) = &mut *self.lock() {
                open.insert(stream.0, assembly);
            }
            return;
        }
        let got = assembly.hash.finish();
        let digest = assembly.digest;
        let result = if got == digest { Ok(assembly.bytes) } else { Err(FetchError::Other { digest, got }) };
        let _ = assembly.answer.send(result);
    }

    /// The manager has nothing for a stream.
    pub(crate) fn missing(&self, stream: u64) {
        if let Some(assembly) = self.take(stream) {
            let digest = assembly.digest;
            let _ = assembly.answer.send(Err(FetchError::Missing { digest }));
        }
    }

    /// The channel ended: whatever is under way, or asked for from now on, is lost.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    fn take(&self, stream: u64) -> Option<Assembly> {
        self.lock().as_mut()?.remove(&stream)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Assembly>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_what_was_asked_for_or_a_reason() {
        let good = Digest::of(b"abcdef");
        let missing = FetchError::Missing { digest: good };
        let large = FetchError::TooLarge { digest: good, max: Bytes(6) };
        let other = FetchError::Other { digest: good, got: Digest::of(b"abcdeX") };
        for (pieces, expected) in [
            (&["abc", "def"][..], Ok(b"abcdef".to_vec())),
            (&["abcdef", ""], Ok(b"abcdef".to_vec())),
            (&["abc", "deX"], Err(other)),
            (&["abc", "defg"], Err(large)),
            (&[], Err(missing)),
        ] {
            let fetches = Fetches::new();
            let (stream, mut receiver) = fetches.expect(good, Bytes(6));
            for (i, piece) in pieces.iter().enumerate() {
                fetches.data(StreamId(stream), piece.as_bytes(), i + 1 == pieces.len());
            }
            if pieces.is_empty() {
                fetches.missing(stream);
            }
            assert_eq!(receiver.try_recv().unwrap(), expected);
        }
    }

    #[test]
    fn nothing_survives_its_channel_or_its_owner() {
        let fetches = Fetches::new();
        let (stream, mut receiver) = fetches.expect(Digest::of(b"a"), Bytes(9));
        fetches.data(StreamId(stream), b"a", false);
        fetches.close();
        assert!(receiver.try_recv().is_err());
        assert!(fetches.expect(Digest::of(b"a"), Bytes(9)).1.try_recv().is_err());
        fetches.data(StreamId(stream), b"b", true);

        let fetches = Fetches::new();
        let (stream, receiver) = fetches.expect(Digest::of(b"a"), Bytes(9));
        drop(receiver);
        fetches.data(StreamId(stream), b"a", false);
        assert!(fetches.lock().as_ref().unwrap().is_empty());
        fetches.data(StreamId(99), b"a", true);
    }
}
