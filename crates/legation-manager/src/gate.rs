//! The gate: attested channels of agents. Applicants attest here and nothing else; attested agents take offers, fetch and
//! store objects, and report.
//!
//! One task per channel reads; one writes what the leader decides. An agent that misbehaves loses its channel, and with it
//! its leases: the pool moves the work.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_core::{Digest, EnclaveId, LeaseId, Rejection};
use legation_keys::Entropy;
use legation_net::{
    Arrival, Channel, ChannelError, Incoming, Listener, OsEntropy, Receiver, SendError, Sender, Standing, StreamId,
    frame::CONTROL_MAX,
    message::{Enlist, Lending, Offer, ToAgent, ToManager},
};
use legation_pool::{Brief, Command, EnlistParts, LoanParts, OfferParts, Pool, Progress};
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    task::AbortHandle,
};
use tracing::{info, warn};

use crate::{
    Clock,
    attestation::Attestation,
    borrowing::Borrowing,
    calls::{Calls, Change},
    doors::Doors,
    effects::{Effects, ToLink},
    gossip,
    leader::{self, Leader},
    log::Log,
    metrics::Metrics,
    objects::{Incoming as IncomingObject, Objects},
    proving::Proving,
    refusals::Refusals,
    round_trips::RoundTrips,
};

mod custody;
mod loans;
mod proofs;
mod reports;

pub(crate) use custody::RefusedWords;

/// Objects one agent may fetch at once.
const FETCHES_MAX: usize = 8;
/// Objects one agent may store at once.
const STORES_MAX: usize = 64;
/// Pause before an object is looked for again in a store that failed.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a report waits for the objects it names, which come on streams of their own.
const OBJECT_WAIT: Duration = Duration::from_secs(30);
/// How long an offer waits for a store that does not answer.
const ARCHIVE_WAIT: Duration = Duration::from_secs(5);
/// Leases one agent may say it still works on.
const RUNNING_MAX: usize = 4096;
/// Pause before a loss that could not be recorded is tried again.
const LOSS_AGAIN: Duration = Duration::from_millis(500);
/// Longest time over which agents are asked to attest again.
const REATTEST_SPREAD_MAX: Duration = Duration::from_secs(60);
/// Between two of them where that is shorter.
const REATTEST_APART: Duration = Duration::from_millis(20);
/// How long a channel may take to end that is turned away.
const TURN_AWAY_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked how far an agent is.
const ROUND_TRIP_LOOK: Duration = Duration::from_secs(5);
/// Reports of one agent that are being taken at once.
const REPORTS_MAX: usize = 512;

/// What every channel works with.
pub(crate) struct Gate {
    pub(crate) leader: Leader,
    pub(crate) effects: Effects,
    pub(crate) objects: Arc<Objects>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) stored: Notify,
    /// The last call to attest again, while it is being spread.
    pub(crate) spreading: Mutex<Option<AbortHandle>>,
    /// What those who were away missed.
    pub(crate) called: Mutex<Calls>,
    /// Whether agents are let in: while this manager leads. Channels of one such time end with it.
    pub(crate) open: watch::Sender<bool>,
    /// How far agents are.
    pub(crate) round_trips: RoundTrips,
    /// How far proofs of executions are.
    pub(crate) proving: Proving,
    /// Who was refused enclaves to hand calls to.
    pub(crate) borrowing: Borrowing,
    /// Custodians whose words were refused.
    pub(crate) refused_words: RefusedWords,
    /// The transparency log, where one is kept.
    pub(crate) log: Option<Log>,
}

impl Gate {
    /// Lets agents in from now on.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Ends every channel and lets nobody in: another leads.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
        self.called().clear();
    }

    /// What whoever comes to a standby is told: where the leader takes agents.
    fn standby(&self) -> Rejection {
        leader::standby(&self.leader.elsewhere().map_or(String::new(), |there| there.agents))
    }

    /// Has every present agent attest again, because of `why`. A later call takes the place of one that is still being spread.
    pub(crate) fn reattest_all(&self, why: &str) {
        self.called().all((self.clock)(), why);
        let spreading = self.reattest(self.effects.attached(), why);
        let mut current = self.spreading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = current.replace(spreading) {
            before.abort();
        }
    }

    /// Has all whom a change of collateral concerns attest again.
    pub(crate) async fn collateral_changed(&self, change: Change) {
        self.called().by((self.clock)(), change.clone());
        let concerned = move |pool: &Pool| {
            let concerns = |p: &Brief| change.concerns(&p.typical().claims, |digest| pool.rests_on(p, digest));
            let all = pool.enclaves().iter();
            all.filter(|(_, e)| e.proofs().any(concerns)).map(|(id, _)| *id).collect::<Vec<_>>()
        };
        match self.leader.ask(concerned).await {
            Ok(enclaves) => drop(self.reattest(enclaves, "collateral changed")),
            Err(_) => self.reattest_all("collateral changed"),
        }
    }

    /// Has these attest again, spread over a bounded time so that verifiers are not asked by all at once.
    fn reattest(&self, mut enclaves: Vec<EnclaveId>, why: &str) -> AbortHandle {
        let jitter = |n: usize| {
            let mut bytes = [0; 8];
            OsEntropy.fill(&mut bytes);
            usize::try_from(u64::from_le_bytes(bytes) % (n.max(1) as u64)).unwrap_or(0)
        };
        for last in (1..enclaves.len()).rev() {
            enclaves.swap(last, jitter(last + 1));
        }
        info!(enclaves = enclaves.len(), why, "asked to attest again");
        let (effects, why) = (self.effects.clone(), why.to_owned());
        let number = u32::try_from(enclaves.len()).unwrap_or(u32::MAX).max(1);
        let pause = REATTEST_APART.min(REATTEST_SPREAD_MAX / number);
        let spreading = tokio::spawn(async move {
            for enclave in enclaves {
                effects.reattest(enclave, &why);
                tokio::time::sleep(pause).await;
            }
        });
        spreading.abort_handle()
    }

    fn called(&self) -> MutexGuard<'_, Calls> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls one that was away, or was being judged, when others were called.
    pub(crate) async fn call_again(&self, enclave: EnclaveId) {
        let calls = self.called().clone();
        if calls.is_empty() {
            return;
        }
        let missed = move |pool: &Pool| {
            let known = pool.enclaves().get(&enclave)?;
            let rests_on = |proof| move |digest: &Digest| pool.rests_on(proof, digest);
            let proofs = known.proofs().map(|proof| (&proof.typical().claims, rests_on(proof)));
            let proven = known.proofs().map(|proof| proof.issued).max()?;
            calls.missed(proven, &proofs.collect::<Vec<_>>())
        };
        if let Ok(Some(why)) = self.leader.ask(missed).await {
            self.effects.reattest(enclave, &why);
        }
    }

    /// Records that an enclave is gone. While the journal or the leader cannot take it, it is tried again: work must move.
    async fn lose(&self, enclave: EnclaveId, why: &str) {
        loop {
            match self.leader.apply(Command::Lost { enclave, why: why.to_owned() }).await {
                Ok(_) => break,
                Err(refusal) if transient(&refusal) => {
                    warn!(%enclave, %refusal, "loss could not be recorded yet");
                    tokio::time::sleep(LOSS_AGAIN).await;
                    if self.effects.is_attached(enclave) {
                        return;
                    }
                }
                Err(refusal) => {
                    warn!(%enclave, %refusal, "loss is not recorded");
                    return;
                }
            }
        }
        // It came back while this was on its way: let it arrive anew, so that the books and the channel agree.
        if self.effects.is_attached(enclave) {
            let why = Rejection::new("channel.overtaken", "this channel").got("the end of the one before came later");
            self.effects.close(enclave, why);
        }
    }
}

/// Whether the same may succeed in a moment.
fn transient(why: &Rejection) -> bool {
    matches!(why.check.as_str(), "manager.busy" | "manager.objects" | "journal.append" | "manager.unsettled")
}

/// Accepts agents until the listener ends.
pub(crate) async fn serve(gate: Arc<Gate>, mut listener: Listener) {
    let mut number = 0;
    while let Some(Arrival { from, channel }) = listener.accept().await {
        match channel {
            Err(error) => info!(%from, %error, "an agent was not let in"),
            Ok(channel) if !*gate.open.borrow() => turn_away(&gate, channel),
            Ok(channel) => {
                number += 1;
                tokio::spawn(Connection::new(gate.clone(), channel, number).run());
            }
        }
    }
}

/// Waits until this manager leads no longer.
async fn closed(open: &mut watch::Receiver<bool>) {
    let _ = open.wait_for(|open| !open).await;
}

/// Tells an agent where the leader is, and ends the channel.
fn turn_away(gate: &Gate, channel: Channel) {
    let (sender, receiver) = channel.split();
    sender.revoke(gate.standby());
    tokio::spawn(async move {
        let _ = tokio::time::timeout(TURN_AWAY_WAIT, sender.closed()).await;
        drop(receiver);
    });
}

struct Connection {
    gate: Arc<Gate>,
    number: u64,
    sender: Sender,
    receiver: Receiver,
    standing: Standing,
    attestation: Attestation,
    /// Set once the agent said it is present: its enclave, and what writes to it.
    present: Option<(EnclaveId, tokio::task::JoinHandle<()>)>,
    fetches: Arc<Semaphore>,
    reports: Arc<Semaphore>,
    asked_log: Arc<Semaphore>,
    asked_custody: Arc<Semaphore>,
}

/// A store in progress.
type Stores<'a> = HashMap<StreamId, IncomingObject<'a>>;

impl Connection {
    fn new(gate: Arc<Gate>, channel: Channel, number: u64) -> Self {
        let (sender, receiver) = channel.split();
        let standing = sender.standing();
        let (fetches, reports) = (Arc::new(Semaphore::new(FETCHES_MAX)), Arc::new(Semaphore::new(REPORTS_MAX)));
        let attestation = Attestation::new(gate.clone(), sender.clone());
        let (asked_log, asked_custody) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        Self {
            gate,
            number,
            sender,
            receiver,
            standing,
            attestation,
            present: None,
            fetches,
            reports,
            asked_log,
            asked_custody,
        }
    }

    async fn run(mut self) {
        let gate = self.gate.clone();
        let mut stores = Stores::new();
        let mut open = gate.open.subscribe();
        let mut look = tokio::time::interval(ROUND_TRIP_LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = loop {
            let next = tokio::select! {
                next = self.receiver.recv() => match next {
                    Ok(next) => next,
                    Err(end) => break end,
                },
                () = closed(&mut open) => {
                    self.sender.revoke(gate.standby());
                    break self.sender.closed().await;
                }
                _ = look.tick() => {
                    self.measure();
                    continue;
                }
            };
            let handled = match next {
                Incoming::Renewed(standing) => {
                    self.standing = standing;
                    Ok(())
                }
                Incoming::Data { stream, last, bytes } => self.data(&mut stores, stream, last, &bytes).await,
                Incoming::Control(bytes) => match serde_json::from_slice(&bytes) {
                    Ok(message) => self.message(&gate.objects, &mut stores, message).await,
                    Err(e) => Err(Rejection::new("channel.message", "a message").expected("one of ours").got(e)),
                },
            };
            if let Err(why) = handled {
                warn!(agent = %self.name(), %why, "channel ends");
                self.sender.revoke(why);
                break self.sender.closed().await;
            }
        };
        drop(stores);
        self.leave(&end).await;
    }

    fn name(&self) -> String {
        match &self.standing {
            Standing::Attested(passport) => passport.enclave_id().short(),
            _ => format!("applicant {}", self.number),
        }
    }

    /// Notes how far a present agent is.
    fn measure(&self) {
        if let (Some((enclave, _)), Standing::Attested(passport), Some(took)) =
            (&self.present, &self.standing, self.sender.round_trip())
        {
            self.gate.round_trips.note(*enclave, &passport.configuration.region, took);
        }
    }

    async fn leave(self, end: &ChannelError) {
        let Some((enclave, writer)) = self.present else { return };
        writer.abort();
        if self.gate.effects.detach(enclave, self.number) {
            self.gate.round_trips.forget(enclave);
            info!(%enclave, %end, "enclave left");
            // Whoever leads now has it away already.
            if *self.gate.open.borrow() {
                self.gate.lose(enclave, &end.to_string()).await;
            }
        }
    }

    fn enclave(&self) -> Result<EnclaveId, Rejection> {
        match &self.standing {
            Standing::Attested(passport) => Ok(passport.enclave_id()),
            other => Err(Rejection::new("channel.applicant", "standing of the agent")
                .expected("attested")
                .got(other)
                .fix("attest first: an applicant may only ask for a challenge and answer it")),
        }
    }

    async fn message<'a>(
        &mut self,
        objects: &'a Objects,
        stores: &mut Stores<'a>,
        message: ToManager,
    ) -> Result<(), Rejection> {
        match message {
            message @ (ToManager::AskChallenge
            | ToManager::Evidence(_)
            | ToManager::AskActivation { .. }
            | ToManager::Activated { .. }) => self.attestation.step(message),
            ToManager::Present { running, obeyed } => {
                let enclave = self.enclave()?;
                if running.len() > RUNNING_MAX {
                    let why = Rejection::new("channel.running", "leases the agent still works on");
                    return Err(why.expected(format!("at most {RUNNING_MAX}")).got(running.len()));
                }
                self.check_tail(obeyed).await?;
                if self.present.is_none() {
                    let orders = self.gate.effects.attach(enclave, self.number);
                    let writer = tokio::spawn(write(self.gate.clone(), enclave, self.sender.clone(), orders));
                    self.present = Some((enclave, writer));
                    self.gate.effects.tell_revocations(enclave);
                }
                self.gate.leader.apply(Command::Arrived { enclave, running }).await?;
                info!(%enclave, "enclave is present");
                self.gate.call_again(enclave).await;
                Ok(())
            }
            ToManager::Refuse { lease, why } => {
                let enclave = self.enclave()?;
                info!(%enclave, %lease, %why, "offer refused");
                // The lease may have ended meanwhile.
                match self.gate.leader.apply(Command::Refuse { enclave, lease, why }).await {
                    // Closing makes it a loss, which is tried until it is recorded.
                    Err(why) if transient(&why) => Err(why),
                    _ => Ok(()),
                }
            }
            ToManager::Join(membership) => {
                let enclave = self.enclave()?;
                let round = membership.round;
                match self.gate.leader.apply(Command::Join { enclave, membership }).await {
                    Err(why) if transient(&why) => Err(why),
                    // The round may have been followed by another meanwhile.
                    Err(why) => {
                        info!(%enclave, round, %why, "a member is not taken");
                        Ok(())
                    }
                    Ok(_) => Ok(()),
                }
            }
            ToManager::Borrow { ask, of, terms } => {
                let enclave = self.enclave()?;
                loans::borrow(&self.gate, &self.sender, enclave, (ask, of, terms)).await
            }
            ToManager::GiveBack { loan, why } => {
                let enclave = self.enclave()?;
                loans::give_back(&self.gate, enclave, loan, why).await
            }
            ToManager::Report(reported) => {
                let enclave = self.enclave()?;
                let turn = self.reports.clone().acquire_owned().await;
                let (gate, sender) = (self.gate.clone(), self.sender.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    reports::take(gate, sender, enclave, reported).await;
                });
                Ok(())
            }
            ToManager::Proving { task, report, done, seconds_left } => {
                let enclave = self.enclave()?;
                proofs::note(&self.gate, enclave, (task, report), Progress { done, seconds_left }).await;
                Ok(())
            }
            ToManager::Proved { task, statement, stored } => {
                let enclave = self.enclave()?;
                let turn = self.reports.clone().acquire_owned().await;
                let (gate, sender) = (self.gate.clone(), self.sender.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    proofs::take(gate, sender, enclave, (task, statement, stored)).await;
                });
                Ok(())
            }
            ToManager::Unproved { task, report, why } => {
                let enclave = self.enclave()?;
                proofs::give_up(&self.gate, &self.sender, enclave, (task, report, why)).await;
                Ok(())
            }
            ToManager::Fetch { digest, stream } => {
                self.enclave()?;
                let turn = self.fetches.clone().acquire_owned().await;
                let (gate, sender) = (self.gate.clone(), self.sender.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    send_object(&gate, &sender, &digest, StreamId(stream)).await;
                });
                Ok(())
            }
            ToManager::Store { digest, stream } => {
                self.enclave()?;
                if stores.len() >= STORES_MAX {
                    let why = Rejection::new("channel.stores", "objects stored at once");
                    return Err(why.expected(format!("at most {STORES_MAX}")));
                }
                let incoming = objects.begin(digest).await.map_err(|e| e.refusal())?;
                stores.insert(StreamId(stream), incoming);
                Ok(())
            }
            ToManager::Heeded { epoch } => {
                let enclave = self.enclave()?;
                if let Some(took) = self.gate.effects.heeded(enclave, self.number, epoch) {
                    self.gate.metrics.heeded(took);
                }
                Ok(())
            }
            ToManager::AskLog { old, note } => {
                self.enclave()?;
                self.tell_log(old, note);
                Ok(())
            }
            ToManager::AskCustody { swarm, open, past } => {
                let enclave = self.enclave()?;
                let turn = self.asked_custody.clone().acquire_owned().await;
                let (gate, sender) = (self.gate.clone(), self.sender.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    custody::tell(&gate, &sender, enclave, (swarm, [open, past])).await;
                });
                Ok(())
            }
            ToManager::Custody(word) => {
                let enclave = self.enclave()?;
                custody::say(&self.gate, enclave, word).await;
                Ok(())
            }
            ToManager::Draining => {
                let enclave = self.enclave()?;
                info!(%enclave, "enclave drains");
                self.gate.leader.apply(Command::Drain { enclave }).await?;
                Ok(())
            }
        }
    }

    async fn data(&self, stores: &mut Stores<'_>, stream: StreamId, last: bool, bytes: &[u8]) -> Result<(), Rejection> {
        let Some(store) = stores.get_mut(&stream) else {
            return Err(Rejection::new("channel.stream", "stream of the data").expected("one announced by `store`"));
        };
        store.write(bytes).await.map_err(|e| e.refusal())?;
        if last && let Some(store) = stores.remove(&stream) {
            let size = store.finish().await.map_err(|e| e.refusal())?;
            self.gate.metrics.stored(size);
            self.gate.stored.notify_waiters();
        }
        Ok(())
    }

    /// Shows an agent that the log continues what it remembers, and heeds what that is. One at a time, and beside the channel: the
    /// log's file is read.
    fn tell_log(&self, old: u64, note: Option<String>) {
        let (Some(log), Ok(turn)) = (self.gate.log.clone(), self.asked_log.clone().try_acquire_owned()) else { return };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let _turn = turn;
            match tokio::task::spawn_blocking(move || gossip::answer(&log, old, note.as_deref())).await {
                Ok(Ok(Some(message))) => drop(sender.send_control(&message).await),
                Ok(Ok(None)) => {}
                Ok(Err(why)) => info!(%why, "an agent is not told of the transparency log"),
                Err(_) => {}
            }
        });
    }

    /// An agent that obeyed what this journal does not hold has seen records that were lost: working with it could break
    /// promises it knows of. It is refused, loudly; when all are, the journal lost its end. (One agent's word alone does not
    /// stop a manager: a broken enclave could.)
    async fn check_tail(&self, obeyed: (legation_core::Term, legation_core::Seq)) -> Result<(), Rejection> {
        let (term, began) = self.gate.leader.began()?;
        let end = self.gate.leader.ask(legation_pool::Pool::seq).await?;
        // Of an earlier term, only what this journal held when this term began can have been obeyed.
        let known = match obeyed.0.cmp(&term) {
            std::cmp::Ordering::Less => obeyed.1 < began,
            std::cmp::Ordering::Equal => obeyed.1 <= end,
            std::cmp::Ordering::Greater => false,
        };
        if known {
            return Ok(());
        }
        let why = Rejection::new("manager.lost-tail", "end of the journal")
            .expected(format!("at least term {} position {}, which an agent says it obeyed", obeyed.0.0, obeyed.1.0))
            .got(format!("term {}, begun at position {}, now at {}", term.0, began.0, end.0))
            .fix("if agents agree, the journal lost its end: restore a newer copy of it before this pool goes on");
        tracing::error!(%why, "an agent knows more than the journal");
        Err(why)
    }
}

/// Ends a channel that nobody writes to any more, however its writer ended: its enclave would be here and hear nothing.
struct Written(Sender);

impl Drop for Written {
    fn drop(&mut self) {
        // The first reason counts: where the channel ends already, this changes nothing.
        let why = Rejection::new("channel.silent", "this channel").got("nobody writes to it any more");
        self.0.revoke(why.fix("come back on another"));
    }
}

/// Writes what the leader decides for one enclave, in order, until the channel ends.
async fn write(gate: Arc<Gate>, enclave: EnclaveId, sender: Sender, mut orders: mpsc::UnboundedReceiver<ToLink>) {
    let written = Written(sender);
    let sender = &written.0;
    let mut told = None;
    while let Some(order) = orders.recv().await {
        match order {
            ToLink::Revocations => {
                let latest = gate.effects.signed_revocations();
                let Some(signed) = latest.filter(|signed| told != Some(signed.list.epoch)) else { continue };
                told = Some(signed.list.epoch);
                if !sent(enclave, sender.send_control(&signed.message()).await) {
                    return;
                }
            }
            ToLink::Say(message) => {
                if !sent(enclave, sender.send_control(&message).await) {
                    return;
                }
            }
            ToLink::Offer(parts) => {
                let Some(offer) = offer(&gate, enclave, &parts).await else { continue };
                match sender.send_control(&ToAgent::Offer(Box::new(offer))).await {
                    Ok(()) => {}
                    Err(SendError::Ended(_)) => return,
                    Err(why) => unsent(&gate, enclave, parts.allocation.lease, &why).await,
                }
            }
            ToLink::Enlist(parts) => {
                let Some(enlist) = enlist(&gate, enclave, &parts).await else { continue };
                match sender.send_control(&ToAgent::Enlist(Box::new(enlist))).await {
                    Ok(()) => {}
                    Err(SendError::Ended(_)) => return,
                    Err(why) => {
                        if let Some(seat) = parts.seating.seat(enclave) {
                            unsent(&gate, enclave, seat.member.lease, &why).await;
                        }
                    }
                }
            }
            ToLink::Lend(parts) => {
                let loan = parts.allocation.lease;
                match lending(&gate, enclave, &parts).await {
                    Ok(lending) => match sender.send_control(&ToAgent::Lend(Box::new(lending))).await {
                        Ok(()) => {}
                        Err(SendError::Ended(_)) => return,
                        Err(why) => unsent(&gate, enclave, loan, &why).await,
                    },
                    Err(why) => give_up(&gate, Command::Refuse { enclave, lease: loan, why }).await,
                }
            }
            ToLink::Lent(ask, parts) => {
                let loan = parts.allocation.lease;
                let Ok(lending) = lending(&gate, enclave, &parts).await else {
                    give_up(&gate, Command::GiveBack { enclave, loan, why: None }).await;
                    continue;
                };
                match sender.send_control(&ToAgent::Lent { ask, loan: Box::new(lending) }).await {
                    Ok(()) => {}
                    Err(SendError::Ended(_)) => return,
                    Err(why) => {
                        tracing::error!(%enclave, %loan, %why, "a borrower cannot be told who is lent");
                        give_up(&gate, Command::GiveBack { enclave, loan, why: None }).await;
                    }
                }
            }
            ToLink::Close(why) => sender.revoke(why),
        }
    }
}

/// Gives up in an agent's place what it cannot be told of.
async fn give_up(gate: &Gate, command: Command) {
    if let Err(why) = gate.leader.apply(command).await {
        info!(%why, "what cannot be told is left to its end");
    }
}

/// A loan as one side of it is told, with the passport of the other. Waits a while for a store that does not answer.
async fn lending(gate: &Gate, enclave: EnclaveId, parts: &LoanParts) -> Result<Lending, Rejection> {
    let deadline = tokio::time::Instant::now() + ARCHIVE_WAIT;
    loop {
        match gate.leader.archive_for_agents().lending(parts).await {
            Err(why) if why.check == "archive.store" && tokio::time::Instant::now() < deadline => {
                warn!(%enclave, %why, "a loan waits for the journal");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(why) => {
                tracing::error!(%enclave, loan = %parts.allocation.lease, %why, "a loan cannot be told");
                return Err(why);
            }
            lending => return lending,
        }
    }
}

/// Whether the channel goes on. A message that cannot be sent is passed over, loudly: those that come after it can.
fn sent(enclave: EnclaveId, result: Result<(), SendError>) -> bool {
    match result {
        Ok(()) => true,
        Err(SendError::Ended(_)) => false,
        Err(why) => {
            tracing::error!(%enclave, %why, "a message to an agent is passed over");
            true
        }
    }
}

/// What cannot be sent, because it is too large, is refused in the agent's place: its task hears why, and the channel goes on.
async fn unsent(gate: &Gate, enclave: EnclaveId, lease: LeaseId, why: &SendError) {
    let why = Rejection::new("offer.message", "size of an offer with all that it rests on")
        .expected(format!("at most {CONTROL_MAX} bytes in one message"))
        .got(why)
        .fix("put long arguments into inputs, or split the work into tasks of fewer fragments and inputs");
    tracing::error!(%enclave, %lease, %why, "an offer cannot be sent");
    let refused = gate.leader.apply(Command::Refuse { enclave, lease, why }).await;
    if let Err(why) = refused {
        info!(%enclave, %lease, %why, "the lease is left to its end");
    }
}

/// A call to join a swarm with the passports of its members. Where it cannot be made the seat is refused in the agent's place.
async fn enlist(gate: &Gate, enclave: EnclaveId, parts: &EnlistParts) -> Option<Enlist> {
    let lease = parts.seating.seat(enclave)?.member.lease;
    let deadline = tokio::time::Instant::now() + ARCHIVE_WAIT;
    loop {
        match gate.leader.archive_for_agents().enlist(parts).await {
            Ok(enlist) => return Some(enlist),
            Err(why) if why.check == "archive.store" && tokio::time::Instant::now() < deadline => {
                warn!(%enclave, %lease, %why, "a call to join a swarm waits for the journal");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(why) => {
                tracing::error!(%enclave, %lease, %why, "a call to join a swarm cannot be made");
                let _ = gate.leader.apply(Command::Refuse { enclave, lease, why }).await;
                return None;
            }
        }
    }
}

/// An offer with the passports that it rests on. One that cannot be made is refused in the agent's place, so that its task hears why.
async fn offer(gate: &Gate, enclave: EnclaveId, parts: &OfferParts) -> Option<Offer> {
    let lease = parts.allocation.lease;
    let deadline = tokio::time::Instant::now() + ARCHIVE_WAIT;
    loop {
        match gate.leader.archive_for_agents().offer(parts).await {
            Ok(offer) => return Some(offer),
            Err(why) if why.check == "archive.store" && tokio::time::Instant::now() < deadline => {
                warn!(%enclave, %lease, %why, "an offer waits for the journal");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(why) => {
                tracing::error!(%enclave, %lease, %why, "an offer cannot be made");
                let refused = gate.leader.apply(Command::Refuse { enclave, lease, why }).await;
                if let Err(why) = refused {
                    info!(%enclave, %lease, %why, "the lease is left to its end");
                }
                return None;
            }
        }
    }
}

async fn send_object(gate: &Gate, sender: &Sender, digest: &Digest, stream: StreamId) {
    let missing = || ToAgent::Missing { stream: stream.0 };
    let mut object = match gate.objects.read(digest).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let _ = sender.send_control(&missing()).await;
            return;
        }
        Err(why) => {
            warn!(%digest, %why, "object cannot be read");
            // A store that failed is not one that lacks the object: the agent asks again on its next channel.
            match why.refusal() {
                why if transient(&why) => sender.revoke(why),
                _ => drop(sender.send_control(&missing()).await),
            }
            return;
        }
    };
    let mut left = object.size();
    loop {
        match object.next().await {
            Ok(piece) => {
                let piece = piece.unwrap_or_default();
                left = left.saturating_sub(piece.len() as u64);
                let last = left == 0 || piece.is_empty();
                if sender.send_data(stream, piece, last).await.is_err() || last {
                    return;
                }
            }
            Err(why) => {
                warn!(%digest, %why, "object cannot be read");
                match why.refusal() {
                    why if transient(&why) => sender.revoke(why),
                    _ => drop(sender.send_control(&missing()).await),
                }
                return;
            }
        }
    }
}
