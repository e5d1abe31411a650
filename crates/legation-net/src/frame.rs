//! Frames: `u32` length of what follows, `u8` kind, payload; numbers big-endian. Nothing here touches a socket.
//!
//! | kind | payload | at most |
//! |---|---|---|
//! | 1 hello | JSON [`Hello`](crate::handshake::Hello) | [`HELLO_MAX`] |
//! | 2 proof | JSON [`Proof`](crate::handshake::Proof) | [`PROOF_MAX`] |
//! | 3 control | JSON, the owner's | [`CONTROL_MAX`] |
//! | 4 data | `u64` stream, `u8` flags (1: last of the stream), bytes | [`DATA_MAX`] bytes |
//! | 5 ping, 6 pong | `u64` token | |
//! | 7 close | JSON `Rejection` or `null` | [`CLOSE_MAX`] |
//!
//! A length is held against the limit of its kind as soon as the five bytes of the head are there, so a peer can make nobody
//! wait for, or set memory aside for, a frame that is refused in the end. Before the handshake is over only hello, proof and
//! close are read at all.

use bytes::{Buf, Bytes, BytesMut};
use legation_core::Rejection;
use serde::Serialize;

/// Largest hello, in bytes.
pub const HELLO_MAX: usize = 64 * 1024;
/// Largest proof, in bytes.
pub const PROOF_MAX: usize = 256;
/// Largest control message, in bytes.
pub const CONTROL_MAX: usize = 1 << 20;
/// Most bytes of a stream in one data frame.
pub const DATA_MAX: usize = 64 * 1024;
/// Largest close, in bytes: room for five clipped fields, all of their characters escaped.
pub const CLOSE_MAX: usize = 16 * 1024;
/// Most characters of each field of a reason that travels in a close.
pub const REASON_CHARS_MAX: usize = 500;

/// Bytes before the payload: length and kind.
pub(crate) const HEAD: usize = 5;
/// Bytes before the bytes of a stream: head, stream, flags.
pub(crate) const DATA_HEAD: usize = HEAD + 9;
const LAST: u8 = 1;

/// One direction of one transfer within a channel; whoever sends chooses the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A frame as it was read. Contents share memory with what was read from the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Who the peer says it is; not parsed yet.
    Hello(Bytes),
    /// Its proof; not parsed yet.
    Proof(Bytes),
    /// A message for the owner.
    Control(Bytes),
    /// Part of a stream.
    Data {
        /// Which stream.
        stream: StreamId,
        /// Whether the stream ends here.
        last: bool,
        /// Its next bytes.
        bytes: Bytes,
    },
    /// To be answered with the same token.
    Ping(u64),
    /// Answers a ping.
    Pong(u64),
    /// The peer ends the channel, for this reason if it is not the ordinary end.
    Close(Option<Rejection>),
}

/// Kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Frame::Hello`].
    Hello = 1,
    /// [`Frame::Proof`].
    Proof = 2,
    /// [`Frame::Control`].
    Control = 3,
    /// [`Frame::Data`].
    Data = 4,
    /// [`Frame::Ping`].
    Ping = 5,
    /// [`Frame::Pong`].
    Pong = 6,
    /// [`Frame::Close`].
    Close = 7,
}

/// Which frames may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Hello, proof and close.
    Handshake,
    /// All of them.
    Open,
}

/// Why bytes are not a frame. The connection is of no use after that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such kind.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// A kind that may not come before the handshake is over.
    #[error("{0:?} frame before the end of the handshake")]
    Early(Kind),
    /// Over the limit of its kind.
    #[error("{kind:?} frame of {got} bytes is over its limit of {max}")]
    TooLarge {
        /// Which kind.
        kind: Kind,
        /// The limit, in bytes.
        max: usize,
        /// What the peer announced, in bytes.
        got: usize,
    },
    /// Shorter than its kind is, or longer than a kind of fixed length is.
    #[error("{kind:?} frame of {got} bytes has not the length of its kind")]
    Length {
        /// Which kind.
        kind: Kind,
        /// What the peer announced, in bytes.
        got: usize,
    },
    /// Flags that do not exist.
    #[error("data frame with flags {0:#04x}")]
    Flags(u8),
    /// Not the JSON it should be.
    #[error("{kind:?} frame is malformed: {why}")]
    Malformed {
        /// Which kind.
        kind: Kind,
        /// What is wrong.
        why: String,
    },
}

impl Kind {
    const ALL: [Self; 7] = [Self::Hello, Self::Proof, Self::Control, Self::Data, Self::Ping, Self::Pong, Self::Close];

    fn of(byte: u8) -> Result<Self, FrameError> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(FrameError::Kind(byte))
    }

    /// Shortest and longest payload, in bytes.
    const fn bounds(self) -> (usize, usize) {
        match self {
            Self::Hello => (1, HELLO_MAX),
            Self::Proof => (1, PROOF_MAX),
            Self::Control => (0, CONTROL_MAX),
            Self::Data => (DATA_HEAD - HEAD, DATA_HEAD - HEAD + DATA_MAX),
            Self::Ping | Self::Pong => (8, 8),
            Self::Close => (1, CLOSE_MAX),
        }
    }
}

/// The kind and the payload's length, once the head is there.
fn head(buffer: &[u8], phase: Phase) -> Result<Option<(Kind, usize)>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let Some(kind) = rest.first() else { return Ok(None) };
    let kind = Kind::of(*kind)?;
    if phase == Phase::Handshake && !matches!(kind, Kind::Hello | Kind::Proof | Kind::Close) {
        return Err(FrameError::Early(kind));
    }
    // The length counts the kind as well; a length of nothing is as wrong as a payload too short.
    let got = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let (min, max) = kind.bounds();
    match got.checked_sub(1) {
        Some(payload) if payload > max && min != max => Err(FrameError::TooLarge { kind, max, got: payload }),
        Some(payload) if (min..=max).contains(&payload) => Ok(Some((kind, payload))),
        _ => Err(FrameError::Length { kind, got }),
    }
}

/// How many more bytes the frame at the front of `buffer` needs; at least one.
pub(crate) fn missing(buffer: &[u8], phase: Phase) -> usize {
    match head(buffer, phase) {
        Ok(Some((_, payload))) => (HEAD + payload).saturating_sub(buffer.len()).max(1),
        _ => HEAD.saturating_sub(buffer.len()).max(1),
    }
}

/// Takes the frame at the front of `buffer`, once all of it is there.
///
/// # Errors
/// When what is there cannot become a frame that may come in this `phase`.
pub fn decode(buffer: &mut BytesMut, phase: Phase) -> Result<Option<Frame>, FrameError> {
    let Some((kind, payload)) = head(buffer, phase)? else { return Ok(None) };
    if buffer.len() < HEAD + payload {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let mut payload = buffer.split_to(payload).freeze();
    Ok(Some(match kind {
        Kind::Hello => Frame::Hello(payload),
        Kind::Proof => Frame::Proof(payload),
        Kind::Control => Frame::Control(payload),
        Kind::Data => {
            let stream = StreamId(payload.get_u64());
            let flags = payload.get_u8();
            if flags & !LAST != 0 {
                return Err(FrameError::Flags(flags));
            }
            Frame::Data { stream, last: flags == LAST, bytes: payload }
        }
        Kind::Ping => Frame::Ping(payload.get_u64()),
        Kind::Pong => Frame::Pong(payload.get_u64()),
        Kind::Close => Frame::Close(json::<Option<Rejection>>(kind, &payload)?.map(|reason| printable(&reason))),
    }))
}

/// Reads the JSON of a frame of `kind`.
pub(crate) fn json<T: serde::de::DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|e| FrameError::Malformed { kind, why: e.to_string() })
}

/// A reason as it may travel and be printed: short, and without control characters that would steer a terminal.
fn printable(reason: &Rejection) -> Rejection {
    let clip = |text: &str| -> String {
        text.chars().take(REASON_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    };
    Rejection {
        check: clip(&reason.check),
        claim: clip(&reason.claim),
        expected: clip(&reason.expected),
        got: clip(&reason.got),
        fix: clip(&reason.fix),
    }
}

/// A frame as it is written: a head of its own, and contents that are not copied.
#[derive(Debug, Clone)]
pub struct Encoded {
    head: [u8; DATA_HEAD],
    head_len: usize,
    body: Bytes,
}

impl Encoded {
    /// A frame whose payload is `extra` and then `body`; both together are within the limit of `kind`.
    fn new(kind: Kind, extra: &[u8], body: Bytes) -> Self {
        let mut head = [0; DATA_HEAD];
        let length = u32::try_from(1 + extra.len() + body.len()).unwrap_or(u32::MAX);
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4] = kind as u8;
        let head_len = HEAD + extra.len();
        head[HEAD..head_len].copy_from_slice(extra);
        Self { head, head_len, body }
    }

    /// A frame of `kind` that holds `value` as JSON.
    ///
    /// # Errors
    /// When that is over the limit of its kind, or the value has no JSON.
    pub fn json<T: Serialize + ?Sized>(kind: Kind, value: &T) -> Result<Self, FrameError> {
        let body = serde_json::to_vec(value).map_err(|e| FrameError::Malformed { kind, why: e.to_string() })?;
        let (_, max) = kind.bounds();
        if body.len() > max {
            return Err(FrameError::TooLarge { kind, max, got: body.len() });
        }
        Ok(Self::new(kind, &[], body.into()))
    }

    /// Part of a stream.
    ///
    /// # Errors
    /// When `bytes` is longer than [`DATA_MAX`].
    pub fn data(stream: StreamId, bytes: Bytes, last: bool) -> Result<Self, FrameError> {
        if bytes.len() > DATA_MAX {
            return Err(FrameError::TooLarge { kind: Kind::Data, max: DATA_MAX, got: bytes.len() });
        }
        let mut extra = [0; DATA_HEAD - HEAD];
        extra[..8].copy_from_slice(&stream.0.to_be_bytes());
        extra[8] = if last { LAST } else { 0 };
        Ok(Self::new(Kind::Data, &extra, bytes))
    }

    /// A ping with this token.
    pub fn ping(token: u64) -> Self {
        Self::new(Kind::Ping, &token.to_be_bytes(), Bytes::new())
    }

    /// The answer to the ping with this token.
    pub fn pong(token: u64) -> Self {
        Self::new(Kind::Pong, &token.to_be_bytes(), Bytes::new())
    }

    /// The end of a channel. The reason is clipped so that it always fits.
    pub fn close(reason: Option<&Rejection>) -> Self {
        let body = serde_json::to_vec(&reason.map(printable)).unwrap_or_else(|_| b"null".to_vec());
        debug_assert!(body.len() <= CLOSE_MAX, "a clipped reason fits");
        Self::new(Kind::Close, &[], body.into())
    }

    /// Its two pieces, to be written one after the other.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head[..self.head_len], &self.body]
    }

    /// Bytes on the wire.
    pub fn size(&self) -> usize {
        self.head_len + self.body.len()
    }

    /// All of it in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len() + 1).unwrap();
        [&length.to_be_bytes()[..], &[kind], payload].concat()
    }

    #[test]
    fn frames_come_back_as_they_went() {
        let reason = Rejection::new("channel.dates", "dates").got("yesterday");
        let data = |last| Encoded::data(StreamId(u64::MAX), Bytes::from_static(b"abc"), last).unwrap();
        for (encoded, frame) in [
            (Encoded::json(Kind::Hello, "h").unwrap(), Frame::Hello(Bytes::from_static(b"\"h\""))),
            (Encoded::json(Kind::Control, &[1, 2]).unwrap(), Frame::Control(Bytes::from_static(b"[1,2]"))),
            (data(false), Frame::Data { stream: StreamId(u64::MAX), last: false, bytes: Bytes::from_static(b"abc") }),
            (data(true), Frame::Data { stream: StreamId(u64::MAX), last: true, bytes: Bytes::from_static(b"abc") }),
            (Encoded::ping(7), Frame::Ping(7)),
            (Encoded::pong(8), Frame::Pong(8)),
            (Encoded::close(None), Frame::Close(None)),
            (Encoded::close(Some(&reason)), Frame::Close(Some(reason))),
        ] {
            let wire = encoded.to_vec();
            assert_eq!(wire.len(), encoded.size());
            // Byte by byte: nothing is taken before it is whole, and what follows stays.
            let mut buffer = BytesMut::new();
            for byte in &wire {
                assert_eq!(decode(&mut buffer, Phase::Open), Ok(None));
                buffer.extend_from_slice(&[*byte]);
            }
            buffer.extend_from_slice(b"rest");
            assert_eq!(decode(&mut buffer, Phase::Open), Ok(Some(frame)));
            assert_eq!(&buffer[..], b"rest");
        }
    }

    #[test]
    fn limits_bind_on_the_head_alone() {
        let head = |payload: u32, kind: Kind| [&(payload + 1).to_be_bytes()[..], &[kind as u8]].concat();
        let max = |n: usize| u32::try_from(n).unwrap();
        for (kind, limit) in [
            (Kind::Hello, HELLO_MAX),
            (Kind::Proof, PROOF_MAX),
            (Kind::Control, CONTROL_MAX),
            (Kind::Data, DATA_MAX + 9),
            (Kind::Close, CLOSE_MAX),
        ] {
            let at = decode(&mut BytesMut::from(&head(max(limit), kind)[..]), Phase::Open);
            assert_eq!(at, Ok(None), "{kind:?}");
            let over = decode(&mut BytesMut::from(&head(max(limit) + 1, kind)[..]), Phase::Open);
            assert_eq!(over, Err(FrameError::TooLarge { kind, max: limit, got: limit + 1 }));
        }
        assert!(Encoded::data(StreamId(0), vec![0; DATA_MAX].into(), true).is_ok());
        assert!(Encoded::data(StreamId(0), vec![0; DATA_MAX + 1].into(), true).is_err());
        assert!(Encoded::json(Kind::Control, &"x".repeat(CONTROL_MAX - 2)).is_ok());
        assert!(Encoded::json(Kind::Control, &"x".repeat(CONTROL_MAX - 1)).is_err());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (wire, phase, error) in [
            (raw(0, b""), Phase::Open, FrameError::Kind(0)),
            (raw(8, b""), Phase::Open, FrameError::Kind(8)),
            (raw(3, b"{}"), Phase::Handshake, FrameError::Early(Kind::Control)),
            (raw(5, b"1234567"), Phase::Open, FrameError::Length { kind: Kind::Ping, got: 8 }),
            (raw(6, b"123456789"), Phase::Open, FrameError::Length { kind: Kind::Pong, got: 10 }),
            (raw(4, b"12345678"), Phase::Open, FrameError::Length { kind: Kind::Data, got: 9 }),
            (raw(4, b"12345678\x02"), Phase::Open, FrameError::Flags(2)),
            (vec![0, 0, 0, 0, 3], Phase::Open, FrameError::Length { kind: Kind::Control, got: 0 }),
        ] {
            assert_eq!(decode(&mut BytesMut::from(&wire[..]), phase), Err(error));
        }
        let close = decode(&mut BytesMut::from(&raw(7, b"{}")[..]), Phase::Open);
        assert!(matches!(close, Err(FrameError::Malformed { kind: Kind::Close, .. })));
    }

    #[test]
    fn reasons_are_clipped_and_cannot_steer_a_terminal() {
        let worst = "\u{1b}".repeat(2 * CLOSE_MAX);
        let reason = Rejection::new(&worst, &worst).expected(&worst).got(&worst).fix(&worst);
        let encoded = Encoded::close(Some(&reason));
        assert!(encoded.size() <= CLOSE_MAX);
        // Whoever sends it need not have built it as we do.
        let theirs = br#"{"check":"x\u001b[2J","claim":"y","expected":"","got":"","fix":""}"#;
        let Ok(Some(Frame::Close(Some(read)))) = decode(&mut BytesMut::from(&raw(7, theirs)[..]), Phase::Open) else {
            panic!("not a close");
        };
        assert_eq!(read.check, "x\u{fffd}[2J");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for phase in [Phase::Handshake, Phase::Open] {
                let mut buffer = BytesMut::from(&bytes[..]);
                while let Ok(Some(_)) = decode(&mut buffer, phase) {}
                prop_assert!(buffer.len() <= bytes.len());
                prop_assert!(missing(&buffer, phase) <= HEAD + CONTROL_MAX);
            }
        }
    }
}
