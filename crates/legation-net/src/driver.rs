//! The task behind a channel: reads, writes, and keeps watch.
//!
//! * **Reading** hands frames to the owner and waits while the owner's queue is full. It counts the peer's silence only while it
//!   waits for the socket, so a slow owner is not taken for a dead peer; and since the peer pings on its own, nothing has to
//!   be answered for it to be heard.
//! * **Writing** takes whatever is queued, protocol first, then control, then data, and writes it as one; it flushes when
//!   nothing is left. So a lone message leaves at once, and many leave together.
//! * **Watching** pings, and asks every so often whether the peer's standing still holds.
//!
//! Whichever ends first ends the channel. The peer is told with a close frame, then TLS's own close, and gets a moment to end
//! its side, because closing a socket over unread bytes would throw away what was just said.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use legation_core::{Rejection, claims::Role};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::{Semaphore, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::{
    channel::{INCOMING_QUEUE_BYTES_MAX, Incoming, Queued, Seat},
    endpoint::{Clock, Timing},
    error::ChannelError,
    frame::{self, DATA_MAX, Encoded, Frame, Kind},
    handshake::{Hello, Proof, Session},
    judge::{Credential, Judge, Standing},
    renewal::Renewals,
    revocations::{Revocations, Watcher},
    wire::{FrameReader, write_batch},
};

/// Most frames written at once.
const BATCH_FRAMES_MAX: usize = 64;
/// A batch with this many bytes takes no more.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// What the halves of a channel and its task share.
pub(crate) struct Shared {
    pub(crate) session: Arc<Session>,
    pub(crate) peer_role: Role,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    pub(crate) opened: Instant,
    pub(crate) standing: watch::Sender<Standing>,
    /// Why the channel has ended. Set once.
    pub(crate) ended: watch::Sender<Option<ChannelError>>,
    /// How the channel is to end.
    pub(crate) goodbye: watch::Sender<Option<Goodbye>>,
    pub(crate) renewals: Mutex<Renewals>,
    /// Renewals that are over.
    pub(crate) renewed: watch::Sender<u64>,
    pub(crate) urgent: mpsc::Sender<Encoded>,
    /// What the ping that was not answered yet says; zero when there is none.
    pub(crate) pinged: AtomicU64,
    pub(crate) round_trip_micros: AtomicU64,
}

/// How a channel is to end.
#[derive(Debug, Clone)]
pub(crate) enum Goodbye {
    /// After what is queued.
    Drain,
    /// At once, for this reason.
    Refuse(ChannelError),
}

/// What waits to be written.
pub(crate) struct Queues {
    pub(crate) urgent: mpsc::Receiver<Encoded>,
    pub(crate) control: mpsc::Receiver<Queued>,
    pub(crate) data: mpsc::Receiver<Encoded>,
}

/// What waits for the owner.
pub(crate) struct Inbox {
    pub(crate) queue: mpsc::Sender<(Incoming, usize)>,
    pub(crate) budget: Arc<Semaphore>,
}

impl Shared {
    /// Asks the task to end. A refusal overrides an ordinary end; nothing overrides a refusal.
    pub(crate) fn say_goodbye(&self, goodbye: Goodbye) {
        self.goodbye.send_if_modified(|said| match (&said, &goodbye) {
            (None, _) | (Some(Goodbye::Drain), Goodbye::Refuse(_)) => {
                *said = Some(goodbye);
                true
            }
            _ => false,
        });
    }

    /// Keeps the first reason.
    fn end(&self, why: ChannelError) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(why);
            }
            first
        });
    }

    /// The reason that counts when reading ended because of `why`: what this side decided before the peer reacted to it.
    fn settle(&self, why: ChannelError) -> ChannelError {
        match (&*self.goodbye.borrow(), why) {
            (Some(Goodbye::Refuse(decided)), _) => decided.clone(),
            (Some(Goodbye::Drain), ChannelError::ClosedByPeer | ChannelError::Lost) => ChannelError::Closed,
            (_, why) => why,
        }
    }

    /// Why the channel has ended.
    pub(crate) fn why(&self) -> ChannelError {
        self.ended.borrow().clone().unwrap_or(ChannelError::Closed)
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        match self.round_trip_micros.load(Ordering::Relaxed) {
            u64::MAX => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// Takes the answer to the last ping, once. A new least counts at once, a longer one by an eighth: what a busy peer or a full
    /// line adds passes.
    fn answered(&self, token: u64) {
        if token == 0 || self.pinged.compare_exchange(token, 0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let took = self.micros().saturating_sub(token);
        let before = self.round_trip_micros.load(Ordering::Relaxed);
        let now = if took < before { took } else { before.saturating_add(took.saturating_sub(before) / 8) };
        self.round_trip_micros.store(now, Ordering::Relaxed);
    }

    fn renewals(&self) -> MutexGuard<'_, Renewals> {
        self.renewals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to show another credential, unless an exchange is under way. `renewed` changes when that one or this one ends.
    pub(crate) fn begin_renewal(
        &self,
        credential: &Credential,
        renewed: &mut watch::Receiver<u64>,
    ) -> Result<bool, ChannelError> {
        // Under the lock, so that the hello leaves before the proof of the same exchange, and no end of one is missed.
        let mut renewals = self.renewals();
        renewed.mark_unchanged();
        match renewals.begin(credential) {
            None => Ok(false),
            Some(hello) => self.urge(Encoded::json(Kind::Hello, &hello)?).map(|()| true),
        }
    }

    /// Queues a frame of the protocol.
    fn urge(&self, frame: Encoded) -> Result<(), ChannelError> {
        self.urgent.try_send(frame).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => ChannelError::Stalled { after: Duration::ZERO },
            mpsc::error::TrySendError::Closed(_) => self.why(),
        })
    }

    fn hear(&self, hello: Hello) -> Result<(), ChannelError> {
        let now = (self.clock)();
        let mut renewals = self.renewals();
        let answer = renewals.hear(hello, &*self.judge, now).map_err(ChannelError::Refused)?;
        if let Some(hello) = answer.hello {
            self.urge(Encoded::json(Kind::Hello, &hello)?)?;
        }
        self.urge(Encoded::json(Kind::Proof, &answer.proof)?)
    }

    fn conclude(&self, proof: &Proof) -> Result<Standing, ChannelError> {
        let before = self.standing.borrow().clone();
        let mut renewals = self.renewals();
        let standing = renewals.conclude(proof, self.peer_role, &before).map_err(ChannelError::Refused)?;
        self.standing.send_replace(standing.clone());
        self.renewed.send_modify(|n| *n += 1);
        Ok(standing)
    }

    /// Whether the peer may still be at the other end.
    fn check(&self) -> Result<(), ChannelError> {
        let now = (self.clock)();
        let standing = self.standing.borrow().clone();
        if let Some(until) = standing.valid_until().filter(|until| now > *until) {
            return Err(ChannelError::Refused(
                Rejection::new("channel.lapsed", "standing of the peer")
                    .expected(format!("to hold at {now}"))
                    .got(format!("it held until {until}"))
                    .fix("attest again, and renew on the open channel before the passport ends"),
            ));
        }
        let after = self.timing.applicant;
        if !standing.is_admitted() && self.opened.elapsed() > after {
            return Err(ChannelError::Refused(
                Rejection::new("channel.applicant", "time for an applicant to be admitted")
                    .expected(format!("at most {after:?}"))
                    .fix("see why its evidence was refused"),
            ));
        }
        let (theirs, pending) = {
            let renewals = self.renewals();
            (renewals.theirs(), renewals.pending_since())
        };
        let after = self.timing.handshake;
        if pending.is_some_and(|since| since.elapsed() > after) {
            return Err(ChannelError::Refused(
                Rejection::new("channel.renewal", "time for a renewal").expected(format!("at most {after:?}")),
            ));
        }
        self.judge.recheck(self.peer_role, self.session.peer(), &theirs, now).map(drop).map_err(ChannelError::Refused)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Queues {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.control.is_empty() && self.data.is_empty()
    }

    fn try_next(&mut self) -> Option<Encoded> {
        if let Ok(frame) = self.urgent.try_recv() {
            return Some(frame);
        }
        if let Ok(queued) = self.control.try_recv() {
            return Some(queued.frame);
        }
        self.data.try_recv().ok()
    }
}

impl Inbox {
    /// Waits for room; nothing to wait for once the owner has gone, whose going ends the channel.
    async fn put(&self, incoming: Incoming, size: usize) {
        let share = size.clamp(1, INCOMING_QUEUE_BYTES_MAX);
        let Ok(permit) = self.budget.acquire_many(u32::try_from(share).unwrap_or(u32::MAX)).await else { return };
        permit.forget();
        // A failure means that the receiver is dropped, and its drop has said goodbye.
        let _ = self.queue.send((incoming, share)).await;
    }
}

/// Runs a channel to its end.
pub(crate) async fn drive<R, W>(
    mut reader: FrameReader<R>,
    writer: W,
    queues: Queues,
    inbox: Inbox,
    shared: Arc<Shared>,
    seat: Seat,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    {
        let mut writing = pin!(write(writer, queues, &shared));
        tokio::select! {
            why = read(&mut reader, &inbox, &shared) => {
                let why = shared.settle(why);
                shared.end(why.clone());
                shared.say_goodbye(Goodbye::Refuse(why));
                let _ = timeout(shared.timing.linger, writing).await;
            }
            why = &mut writing => shared.end(why),
            why = watch(&shared) => shared.end(why),
        }
    }
    drop(inbox);
    let _ = timeout(shared.timing.linger, reader.drain()).await;
    drop(seat);
}

async fn read<R: AsyncRead + Unpin>(reader: &mut FrameReader<R>, inbox: &Inbox, shared: &Shared) -> ChannelError {
    loop {
        let frame = match reader.next().await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        let done = match frame {
            Frame::Control(bytes) => {
                let size = bytes.len();
                inbox.put(Incoming::Control(bytes), size).await;
                Ok(())
            }
            Frame::Data { stream, last, bytes } => {
                let size = bytes.len();
                inbox.put(Incoming::Data { stream, last, bytes }, size).await;
                Ok(())
            }
            Frame::Ping(token) => {
                // A peer that pings faster than it reads gets fewer answers.
                let _ = shared.urge(Encoded::pong(token));
                Ok(())
            }
            Frame::Pong(token) => {
                shared.answered(token);
                Ok(())
            }
            Frame::Hello(json) => {
                frame::json(Kind::Hello, &json).map_err(ChannelError::Frame).and_then(|hello| shared.hear(hello))
            }
            Frame::Proof(json) => {
                let proof = frame::json(Kind::Proof, &json).map_err(ChannelError::Frame);
                match proof.and_then(|proof: Proof| shared.conclude(&proof)) {
                    Ok(standing) => {
                        inbox.put(Incoming::Renewed(standing), 0).await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Frame::Close(None) => Err(ChannelError::ClosedByPeer),
            Frame::Close(Some(reason)) => Err(ChannelError::RefusedByPeer(reason)),
        };
        if let Err(error) = done {
            return error;
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut queues: Queues, shared: &Shared) -> ChannelError {
    let after = shared.timing.stall;
    let mut goodbye = shared.goodbye.subscribe();
    let mut batch = Vec::with_capacity(BATCH_FRAMES_MAX);
    let why = loop {
        let said = goodbye.borrow_and_update().clone();
        match said {
            Some(Goodbye::Refuse(why)) => break why,
            Some(Goodbye::Drain) if queues.is_empty() => break ChannelError::Closed,
            _ => {}
        }
        tokio::select! {
            biased;
            Ok(()) = goodbye.changed() => continue,
            Some(frame) = queues.urgent.recv() => batch.push(frame),
            Some(queued) = queues.control.recv() => batch.push(queued.frame),
            // Several at once, so that whoever waits for room is woken once for all of them.
            1.. = queues.data.recv_many(&mut batch, BATCH_BYTES_MAX / DATA_MAX) => {}
        }
        let mut size = batch.iter().map(Encoded::size).sum::<usize>();
        while batch.len() < BATCH_FRAMES_MAX && size < BATCH_BYTES_MAX {
            let Some(frame) = queues.try_next() else { break };
            size += frame.size();
            batch.push(frame);
        }
        let last = queues.is_empty();
        if let Err(error) = write_batch(&mut writer, &batch, after, last).await {
            return error;
        }
        batch.clear();
    };
    let farewell = async {
        write_batch(&mut writer, &[Encoded::close(why.told().as_ref())], after, false).await?;
        writer.shutdown().await.map_err(ChannelError::io)
    };
    // The reason stands whether or not the peer can still be told.
    let _ = timeout(shared.timing.linger, farewell).await;
    why
}

/// Waits until something is revoked.
async fn revoked(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

fn look(shared: &Shared, watcher: &mut Option<Watcher>) {
    let epoch = watcher.as_mut().map(Watcher::epoch);
    if let Err(why) = shared.check() {
        shared.say_goodbye(Goodbye::Refuse(why));
    }
    if let Some((watcher, epoch)) = watcher.as_ref().zip(epoch) {
        watcher.looked(epoch);
    }
}

/// Pings and checks until it is time to end whatever the writer is still doing.
async fn watch(shared: &Shared) -> ChannelError {
    let every = |period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let (mut ping, mut check) = (every(shared.timing.ping), every(shared.timing.check));
    let mut watcher = shared.judge.revocations().map(Revocations::watcher);
    let mut goodbye = shared.goodbye.subscribe();
    let mut leave_by = None;
    loop {
        let said = goodbye.borrow_and_update().clone();
        if let Some(said) = said {
            let (grace, why) = match said {
                Goodbye::Drain => (shared.timing.stall, ChannelError::Closed),
                Goodbye::Refuse(why) => (shared.timing.linger, why),
            };
            let by = *leave_by.get_or_insert(Instant::now() + grace);
            tokio::select! {
                () = sleep_until(by.min(Instant::now() + grace)) => return why,
                _ = goodbye.changed() => {}
                () = revoked(&mut watcher) => look(shared, &mut watcher),
            }
            continue;
        }
        tokio::select! {
            _ = goodbye.changed() => {}
            _ = ping.tick() => {
                let token = shared.micros().max(1);
                shared.pinged.store(token, Ordering::Relaxed);
                let _ = shared.urge(Encoded::ping(token));
            }
            _ = check.tick() => look(shared, &mut watcher),
            () = revoked(&mut watcher) => look(shared, &mut watcher),
        }
    }
}
