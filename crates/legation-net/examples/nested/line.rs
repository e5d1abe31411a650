//! A connection that takes no more bytes a second than a line does: over the loopback nothing else stands for a network.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// Bytes a second: 1 Gbit/s.
pub(crate) const RATE: f64 = 125e6;
/// How far the line may be behind before a writer waits: tokio's timers count milliseconds.
const BEHIND: Duration = Duration::from_millis(8);

pub(crate) struct Line {
    tcp: TcpStream,
    /// When all that was written is through.
    free: Instant,
    wait: Pin<Box<Sleep>>,
}

impl Line {
    pub(crate) fn of(tcp: TcpStream) -> Self {
        let now = Instant::now();
        Self { tcp, free: now, wait: Box::pin(sleep_until(now)) }
    }

    /// Waits until half of what the line is behind is through.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.free > now + BEHIND {
            self.wait.as_mut().reset(self.free - BEHIND / 2);
            ready!(self.wait.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    fn wrote(&mut self, bytes: usize) {
        self.free = self.free.max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / RATE);
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx));
        let bytes = ready!(Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs))?;
        this.wrote(bytes);
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}
