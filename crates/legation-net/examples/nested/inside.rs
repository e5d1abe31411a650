//! A stream of bytes inside a channel: what a channel that is carried over another one is opened over.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use legation_net::{Channel, ChannelError, Incoming, Receiver, SendError, Sender, StreamId, frame::DATA_MAX};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

type Sending = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>;
type Receiving = Pin<Box<dyn Future<Output = (Receiver, Result<Incoming, ChannelError>)> + Send>>;

/// One end of it.
pub(crate) struct Inside {
    sender: Sender,
    /// The piece that waits for room, if one does.
    sending: Option<Sending>,
    receiving: Receiving,
    /// What has come and was not read yet.
    left: Bytes,
}

impl Inside {
    pub(crate) fn of(channel: Channel) -> Self {
        let (sender, receiver) = channel.split();
        Self { sender, sending: None, receiving: next(receiver), left: Bytes::new() }
    }

    /// Waits until what was written has room in the channel, which sends it by itself.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sending) = &mut self.sending else { return Poll::Ready(Ok(())) };
        let sent = ready!(sending.as_mut().poll(cx));
        self.sending = None;
        Poll::Ready(sent.map_err(io::Error::other))
    }
}

fn next(mut receiver: Receiver) -> Receiving {
    Box::pin(async move {
        let got = receiver.recv().await;
        (receiver, got)
    })
}

impl AsyncRead for Inside {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.left.is_empty() {
            let (receiver, got) = ready!(this.receiving.as_mut().poll(cx));
            this.receiving = next(receiver);
            match got {
                Ok(Incoming::Data { bytes, .. }) => this.left = bytes,
                Ok(_) => {}
                // The end of the channel is the end of the stream.
                Err(_) => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.left.split_to(this.left.len().min(buf.remaining()));
        buf.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Inside {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Several records of TLS leave in one frame.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_sent(cx))?;
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut piece = BytesMut::with_capacity(all.min(DATA_MAX));
        for buf in bufs {
            let room = DATA_MAX - piece.len();
            piece.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        let len = piece.len();
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let (sender, piece) = (this.sender.clone(), piece.freeze());
        this.sending = Some(Box::pin(async move { sender.send_data(StreamId(1), piece, false).await }));
        // Where there is room it has left with this; where not, whoever writes or flushes next waits for it.
        match this.poll_sent(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(len)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }
}
