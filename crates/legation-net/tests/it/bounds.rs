//! Limits: queues, connections, handshakes, tasks, writes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use legation_core::claims::Role;
use legation_net::{
    Bounds, ChannelError, DATA_QUEUE_MAX, INCOMING_QUEUE_BYTES_MAX, Incoming, Listener, SendError, StreamId, Timing,
    frame::{CONTROL_MAX, DATA_MAX, Encoded},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};

use crate::{
    raw::Raw,
    world::{AGENT, NOW, TIMING, World, listen, pair, passport},
};

/// What the kernel may hold of one loopback connection, generously.
const SOCKET_BUFFERS: usize = 16 << 20;

#[tokio::test]
async fn a_slow_reader_makes_the_sender_wait() {
    let world = World::new();
    let (agent, mut manager) = pair(&world.agent(), world.manager()).await;
    let (sender, _receiver) = agent.split();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let total = 256 << 20;
    let flood = tokio::spawn(async move {
        let piece = Bytes::from(vec![5; DATA_MAX]);
        while counter.load(Ordering::Relaxed) < total {
            sender.send_data(StreamId(1), piece.clone(), false).await.unwrap();
            counter.fetch_add(DATA_MAX, Ordering::Relaxed);
        }
        sender
    });
    // Until nothing moves any more.
    let mut before = usize::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let queues = INCOMING_QUEUE_BYTES_MAX + 2 * DATA_QUEUE_MAX * DATA_MAX + (4 << 20);
    assert!(before <= SOCKET_BUFFERS + queues, "{before} bytes went somewhere");
    let mut got = 0;
    while got < total {
        let Incoming::Data { bytes, .. } = manager.receiver().recv().await.unwrap() else { panic!("not data") };
        assert!(bytes.iter().all(|b| *b == 5));
        got += bytes.len();
    }
    drop(flood.await.unwrap());
}

#[tokio::test]
async fn a_full_control_queue_says_so() {
    let world = World::new();
    let timing = Timing { stall: Duration::from_millis(800), ..TIMING };
    let (mut listener, address) = listen(world.manager().with_timing(timing)).await;
    let mut raw = Raw::dial(address, AGENT, Role::Agent).await;
    raw.handshake(passport(AGENT, NOW, NOW + 600)).await;
    let manager = listener.accept().await.unwrap().channel.unwrap();
    let sender = manager.sender();
    let message = "m".repeat(CONTROL_MAX / 2);
    let mut taken = 0;
    let full = loop {
        match sender.try_send(&message) {
            Ok(()) => taken += message.len(),
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(full, SendError::Full), "{full}");
    assert!(taken < SOCKET_BUFFERS + (16 << 20), "{taken}");
    assert!(matches!(sender.try_send(&"m".repeat(CONTROL_MAX)), Err(SendError::Frame(_))));
    // The peer pings, so it lives, but it takes nothing: that is not allowed to last either.
    let end = loop {
        raw.send(&Encoded::ping(1).to_vec()).await;
        if let Ok(end) = timeout(Duration::from_millis(100), sender.closed()).await {
            break end;
        }
    };
    assert!(matches!(end, ChannelError::Stalled { .. }), "{end}");
}

#[tokio::test]
async fn control_overtakes_data() {
    let world = World::new();
    let (agent, mut manager) = pair(&world.agent(), world.manager()).await;
    let (sender, _receiver) = agent.split();
    let flood = sender.clone();
    let flood = tokio::spawn(async move {
        let piece = Bytes::from(vec![0; DATA_MAX]);
        for _ in 0..4096 {
            flood.send_data(StreamId(1), piece.clone(), false).await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    sender.send_control("urgent").await.unwrap();
    let mut data = 0;
    while !matches!(manager.receiver().recv().await.unwrap(), Incoming::Control(_)) {
        data += 1;
    }
    // It waits for what the sockets already hold, not for what is queued behind.
    assert!(data < 1000, "{data} data frames came first");
    while data < 4096 {
        manager.receiver().recv().await.unwrap();
        data += 1;
    }
    flood.await.unwrap();
}

/// Counts the writes to a connection.
struct Counting {
    tcp: TcpStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn messages_that_wait_together_leave_together() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let writes = Arc::new(AtomicUsize::new(0));
    let tcp = Counting { tcp: TcpStream::connect(address).await.unwrap(), writes: writes.clone() };
    let agent = world.agent();
    let (near, far) = tokio::join!(agent.connect_over(tcp, None), listener.accept());
    let (near, mut far) = (near.unwrap(), far.unwrap().channel.unwrap());
    writes.store(0, Ordering::Relaxed);
    for i in 0..640 {
        near.sender().try_send(&i).unwrap();
    }
    for i in 0..640 {
        assert_eq!(far.receiver().recv().await.unwrap(), Incoming::Control(i.to_string().into()));
    }
    let writes = writes.load(Ordering::Relaxed);
    assert!(writes <= 20, "{writes} writes for 640 messages");
}

#[tokio::test]
async fn channels_at_once_are_bounded() {
    let world = World::new();
    let bounds = Bounds { handshakes: 2, channels: 2 };
    let mut listener = Listener::bind("127.0.0.1:0", Arc::new(world.manager()), bounds).await.unwrap();
    let address = listener.address();
    let agent = world.agent();
    let mut held = Vec::new();
    for _ in 0..2 {
        let (near, far) = tokio::join!(agent.connect(address, None), listener.accept());
        held.push((near.unwrap(), far.unwrap().channel.unwrap()));
    }
    assert!(agent.connect(address, None).await.is_err(), "a third channel");
    held.pop();
    // The seat is free once both sides have ended.
    let mut tries = 0;
    while agent.connect(address, None).await.is_err() {
        tries += 1;
        assert!(tries < 50, "no seat came free");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_hundred_channels_leave_no_task_behind() {
    let world = World::new();
    let (mut listener, address) = listen(world.manager()).await;
    let agent = Arc::new(world.agent());
    let baseline = Handle::current().metrics().num_alive_tasks();
    let accepting = tokio::spawn(async move {
        for _ in 0..200 {
            let mut channel = listener.accept().await.unwrap().channel.unwrap();
            tokio::spawn(async move {
                assert!(matches!(channel.receiver().recv().await.unwrap(), Incoming::Control(_)));
                channel.sender().send_control("pong").await.unwrap();
                channel.sender().closed().await;
            });
        }
        listener
    });
    let mut dialling = tokio::task::JoinSet::new();
    for i in 0..200 {
        let agent = agent.clone();
        dialling.spawn(async move {
            let mut channel = agent.connect(address, None).await.unwrap();
            channel.sender().send_control("ping").await.unwrap();
            assert!(matches!(channel.receiver().recv().await.unwrap(), Incoming::Control(_)));
            if i % 2 == 0 {
                channel.sender().close().await;
            }
        });
        if i % 20 == 19 {
            while let Some(done) = dialling.join_next().await {
                done.unwrap();
            }
        }
    }
    let listener = accepting.await.unwrap();
    let mut tries = 0;
    while Handle::current().metrics().num_alive_tasks() > baseline {
        tries += 1;
        assert!(tries < 100, "{} tasks are left", Handle::current().metrics().num_alive_tasks() - baseline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(listener);
}
