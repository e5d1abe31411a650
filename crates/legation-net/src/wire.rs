//! Frames on a stream of bytes: reads into one buffer that the frames share, writes many frames at once without copying them.

use std::{
    io::{self, IoSlice},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::{
    error::ChannelError,
    frame::{self, Encoded, Frame, Phase},
};

/// Read buffer of a connection that carries small frames, in bytes: one TLS record.
const SMALL_BUFFER: usize = 16 * 1024;
/// Read buffer of a connection that carries bulk, in bytes: a few data frames.
const LARGE_BUFFER: usize = 256 * 1024;
/// Most large buffers kept for use again.
const SPENT_MAX: usize = 8;
/// Least room to read into, in bytes.
const ROOM_MIN: usize = 4 * 1024;

/// Takes frames off a stream.
pub(crate) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    /// Large buffers that were read full; each serves again once all frames in it are dropped.
    spent: Vec<BytesMut>,
    phase: Phase,
    silence: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads the frames of a handshake until [`Self::open`] is called. Fails when no byte comes for as long as `silence`.
    pub(crate) fn new(io: R, silence: Duration) -> Self {
        Self { io, buffer: BytesMut::new(), spent: Vec::new(), phase: Phase::Handshake, silence }
    }

    /// From here on every frame may come.
    pub(crate) fn open(&mut self) {
        self.phase = Phase::Open;
    }

    /// The next frame. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Frame, ChannelError> {
        loop {
            if let Some(frame) = frame::decode(&mut self.buffer, self.phase)? {
                return Ok(frame);
            }
            self.make_room();
            match timeout(self.silence, self.io.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(ChannelError::Lost),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(ChannelError::io(error)),
                Err(_) => return Err(ChannelError::Silent { after: self.silence }),
            }
        }
    }

    /// Reads and forgets until the peer ends the stream.
    pub(crate) async fn drain(&mut self) {
        loop {
            self.buffer.clear();
            self.make_room();
            if !matches!(self.io.read_buf(&mut self.buffer).await, Ok(n) if n > 0) {
                return;
            }
        }
    }

    /// Room for what the frame at hand lacks, within reason: memory follows what was received, not what was announced.
    fn make_room(&mut self) {
        let missing = frame::missing(&self.buffer, self.phase);
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare >= missing.min(ROOM_MIN) {
            return;
        }
        let size = if missing > SMALL_BUFFER { LARGE_BUFFER } else { SMALL_BUFFER };
        if self.buffer.try_reclaim(size) {
            return;
        }
        // Frames are still in use there, so what is left of it moves. Fresh memory costs a page fault every 4 KiB, which is
        // felt in bulk; a connection that carries none gives its spare memory back.
        if size == SMALL_BUFFER {
            self.spent.clear();
        }
        let again = self.spent.iter_mut().position(|old| old.try_reclaim(size));
        let mut fresh = match again {
            Some(i) => self.spent.swap_remove(i),
            None => BytesMut::with_capacity(self.buffer.len() + size),
        };
        fresh.extend_from_slice(&self.buffer);
        let mut old = std::mem::replace(&mut self.buffer, fresh);
        if size == LARGE_BUFFER && self.spent.len() < SPENT_MAX {
            old.clear();
            self.spent.push(old);
        }
    }
}

/// Writes all of `batch`; the stream may still hold some of it unless `flush` is set. Fails when the peer takes nothing for as
/// long as `stall`.
pub(crate) async fn write_batch<W: AsyncWrite + Unpin>(
    io: &mut W,
    batch: &[Encoded],
    stall: Duration,
    flush: bool,
) -> Result<(), ChannelError> {
    let mut slices: Vec<IoSlice<'_>> =
        batch.iter().flat_map(Encoded::parts).filter(|p| !p.is_empty()).map(IoSlice::new).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match within(stall, io.write_vectored(left)).await? {
            0 => return Err(ChannelError::Lost),
            n => IoSlice::advance_slices(&mut left, n),
        }
    }
    if flush { within(stall, io.flush()).await } else { Ok(()) }
}

async fn within<T>(after: Duration, io: impl Future<Output = io::Result<T>>) -> Result<T, ChannelError> {
    match timeout(after, io).await {
        Ok(done) => done.map_err(ChannelError::io),
        Err(_) => Err(ChannelError::Stalled { after }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::{CONTROL_MAX, DATA_MAX, Kind, StreamId};

    const WAIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_mixed_stream_of_frames_arrives_whole() {
        let (mut near, far) = tokio::io::duplex(10_000);
        let frames: Vec<Encoded> = (0..200_u64)
            .map(|i| match i % 4 {
                0 => Encoded::ping(i),
                1 => Encoded::json(Kind::Control, &"c".repeat(usize::try_from(i).unwrap())).unwrap(),
                2 => Encoded::data(StreamId(i), vec![i as u8; DATA_MAX].into(), false).unwrap(),
                _ if i == 199 => Encoded::json(Kind::Control, &"x".repeat(CONTROL_MAX - 2)).unwrap(),
                _ => Encoded::data(StreamId(i), Bytes::new(), true).unwrap(),
            })
            .collect();
        let mut expected: BytesMut = frames.iter().flat_map(Encoded::to_vec).collect();
        let writing = tokio::spawn(async move {
            for batch in frames.chunks(7) {
                write_batch(&mut near, batch, WAIT, true).await.unwrap();
            }
        });
        let mut reader = FrameReader::new(far, WAIT);
        reader.open();
        // Some frames are kept, as a slow owner does, so that both ways of making room are taken.
        let mut kept = Vec::new();
        for i in 0..200 {
            let frame = reader.next().await.unwrap();
            assert_eq!(Some(&frame), frame::decode(&mut expected, Phase::Open).unwrap().as_ref(), "frame {i}");
            if i % 3 == 0 {
                kept.push(frame);
            }
        }
        writing.await.unwrap();
        assert!(matches!(reader.next().await, Err(ChannelError::Lost)));
        assert_eq!(kept.len(), 67);
    }

    #[test]
    fn memory_follows_what_was_received() {
        let mut reader = FrameReader::new(tokio::io::empty(), WAIT);
        reader.open();
        let announced = u32::try_from(CONTROL_MAX + 1).unwrap().to_be_bytes();
        reader.buffer.extend_from_slice(&[&announced[..], &[Kind::Control as u8]].concat());
        reader.make_room();
        assert!(reader.buffer.capacity() <= LARGE_BUFFER + SMALL_BUFFER, "{}", reader.buffer.capacity());
    }
}
