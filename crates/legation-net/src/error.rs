//! How a channel fails or ends. Everything here may be shown and logged.

use std::{io, sync::Arc, time::Duration};

use legation_core::Rejection;

use crate::{frame::FrameError, tls::TlsError};

/// Why there is no channel, or not any more. The first reason stays.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelError {
    /// The connection could not be opened, or failed.
    #[error("connection failed: {0}")]
    Io(Arc<io::Error>),
    /// TLS was not agreed.
    #[error("TLS handshake failed: {0}")]
    Handshake(Arc<io::Error>),
    /// TLS was agreed, but on too little.
    #[error("TLS handshake failed: {0}")]
    Tls(#[from] TlsError),
    /// The handshake took longer than it may.
    #[error("handshake was not over after {after:?}")]
    HandshakeTimeout {
        /// The limit.
        after: Duration,
    },
    /// The peer sent what is not a frame.
    #[error("peer broke the framing: {0}")]
    Frame(#[from] FrameError),
    /// This side refused the peer.
    #[error("refused the peer: {0}")]
    Refused(Rejection),
    /// The peer refused this side.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Rejection),
    /// Nothing was heard of the peer.
    #[error("peer was silent for {after:?}")]
    Silent {
        /// The limit.
        after: Duration,
    },
    /// The peer took nothing.
    #[error("peer took nothing for {after:?}")]
    Stalled {
        /// The limit.
        after: Duration,
    },
    /// The connection ended without a word.
    #[error("connection was lost")]
    Lost,
    /// The peer closed the channel, as it may.
    #[error("peer closed the channel")]
    ClosedByPeer,
    /// This side closed the channel.
    #[error("channel is closed")]
    Closed,
}

impl ChannelError {
    pub(crate) fn io(error: io::Error) -> Self {
        // What ends a TCP connection under a peer that is gone, in the words of the platforms.
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Lost,
            _ => Self::Io(Arc::new(error)),
        }
    }

    /// What the peer is told when this ends the channel; nothing when there is nobody or nothing to tell.
    pub(crate) fn told(&self) -> Option<Rejection> {
        match self {
            Self::Refused(rejection) => Some(rejection.clone()),
            Self::Frame(error) => Some(Rejection::new("channel.frame", "framing").got(error)),
            Self::Silent { after } => {
                Some(Rejection::new("channel.silent", "signs of life").expected(format!("one every {after:?}")))
            }
            _ => None,
        }
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// It is over a limit, or has no JSON.
    #[error("message cannot be sent: {0}")]
    Frame(#[from] FrameError),
    /// The queue is full; nothing was sent.
    #[error("queue to the peer is full")]
    Full,
    /// The channel has ended.
    #[error("channel has ended: {0}")]
    Ended(#[from] ChannelError),
}
