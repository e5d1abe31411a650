//! The thread that keeps the journal: it drives the [`Leadership`], makes batches durable, and has them delivered then.

use std::{sync::Arc, time::Duration};

use legation_core::Rejection;
use tracing::{error, info, warn};

use super::{
    Parts,
    batch::Batch,
    deliver::Delivery,
    pipe::{Order, Pipe, Work},
    standing::{Role, Standing},
};
use crate::{
    journal::{Journal, JournalError},
    leadership::{Fate, Leadership, Turn},
};

/// Shortest pause between two tries after the journal failed.
const AGAIN: Duration = Duration::from_millis(250);
/// How long whoever asked for something waits while it is unknown whether it was written: as long as clients have patience.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) struct Keeper {
    pub(super) journal: Box<dyn Journal>,
    pub(super) leadership: Leadership,
    pub(super) parts: Arc<Parts>,
    pub(super) pipe: Arc<Pipe>,
    pub(super) standing: Arc<Standing>,
    pub(super) delivery: Arc<Delivery>,
    /// Wakes the deciding thread.
    pub(super) wake: Box<dyn Fn() + Send>,
    /// A batch whose outcome is unknown, and since when.
    pub(super) held: Option<Batch>,
    pub(super) held_since: Duration,
    /// Whether it was said that the journal fails.
    pub(super) failing: bool,
}

impl Keeper {
    /// Turns until it is known whether this manager leads, or that it cannot.
    /// Says whether it does.
    pub(super) fn begin(&mut self) -> Result<bool, super::LeadError> {
        loop {
            match self.leadership.turn(&mut *self.journal, self.standing.now(), (self.parts.clock)())? {
                Turn::Began(began) => {
                    self.begins(began);
                    return Ok(true);
                }
                Turn::Refused(why) => return Err(why.into()),
                Turn::Ended(why) => return Err(why.into()),
                Turn::Quiet | Turn::Settled { .. } => {}
            }
            self.heard();
            let led = self.leadership.head().holder.as_ref().is_some_and(|holder| !holder.expired);
            if led && self.leadership.pool().is_some() && self.leadership.due() > self.standing.now() {
                info!("another manager leads: this one stands by");
                return Ok(false);
            }
            std::thread::sleep(self.leadership.due().saturating_sub(self.standing.now()));
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let now = self.standing.now();
            if self.leadership.due() <= now {
                self.turn(now);
            }
            let wait = self.leadership.due().saturating_sub(self.standing.now());
            if self.held.is_some() {
                let stops = self.pipe.is_stopping(wait);
                self.be_patient(stops);
                continue;
            }
            match self.pipe.take(wait) {
                Work::Batch(batch) => self.write(batch),
                Work::Anew => self.read_anew(&super::standing::read_anew()),
                Work::Nothing => {}
                Work::Stop(stopped) => {
                    self.standing.set_good_until(None);
                    self.standing.set_role(Role::Follows);
                    if let Err(why) = self.leadership.release(&mut *self.journal) {
                        warn!(%why, "the term could not be given back: others wait until it expires");
                    }
                    // The store is free before anybody hears that this manager has stopped.
                    drop(self);
                    let _ = stopped.send(());
                    return;
                }
            }
        }
    }

    fn heard(&self) {
        self.standing.heard(self.leadership.head(), self.leadership.seq());
    }

    fn turn(&mut self, now: Duration) {
        let turn = self.leadership.turn(&mut *self.journal, now, (self.parts.clock)());
        match turn {
            Ok(turn) => {
                self.turned(turn);
                self.standing.set_good_until(self.leadership.until().filter(|_| self.held.is_none()));
            }
            Err(why) => self.fails(&why),
        }
    }

    fn turned(&mut self, turn: Turn) {
        match turn {
            Turn::Quiet => {
                let leads = self.leadership.until().is_some();
                // The leader of an exclusive store did not touch it.
                if !leads || !self.journal.is_exclusive() {
                    self.works();
                }
                if !leads {
                    self.heard();
                }
            }
            Turn::Began(began) => {
                self.works();
                self.begins(began);
            }
            Turn::Settled { done } => self.settled(done),
            Turn::Ended(why) => self.ended(&why),
            Turn::Refused(why) => {
                error!(%why, "the pool does not accept this manager as its leader");
                self.failing = true;
                self.standing.trouble(why.to_string());
            }
        }
    }

    /// Says once that the journal fails; the reason is told to whoever asks for something.
    fn fails(&mut self, why: &JournalError) {
        if !std::mem::replace(&mut self.failing, true) {
            error!(%why, "the journal fails: nothing is accepted until it works again; what was acknowledged is safe");
        }
        self.standing.trouble(why.to_string());
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!("the journal works again");
            self.standing.no_trouble();
        }
    }

    fn begins(&mut self, began: Box<crate::leadership::Began>) {
        info!(term = began.term.0, seq = began.at.0, "this manager leads");
        self.standing.saved(began.snapshot);
        // It is its own leader: whoever led before is no longer told of.
        let mut head = self.leadership.head().clone();
        head.last = began.pool.seq();
        self.standing.heard(&head, began.pool.seq());
        self.standing.set_good_until(self.leadership.until());
        self.pipe.reign(true, Some(Order::Begin(began))).refuse(&self.standing.refusal());
        (self.wake)();
    }

    fn write(&mut self, batch: Batch) {
        if batch.records.is_empty() {
            // What is before it is durable.
            if self.standing.is_good() {
                self.delivery.deliver(batch);
            } else {
                batch.refuse(&self.standing.refusal());
            }
            return;
        }
        match self.leadership.append(&mut *self.journal, &batch.records, self.standing.now()) {
            Fate::Durable => self.durable(batch),
            Fate::Unknown(why) => {
                self.standing.set_stalled(true);
                self.standing.set_good_until(None);
                self.fails(&why);
                self.held = Some(batch);
                self.held_since = self.standing.now();
                // The deciding thread may wait for room: it has to refuse what comes.
                self.pipe.stall(true);
            }
            Fate::Refused(why) => {
                self.fails(&why);
                self.roll_back(batch);
            }
            Fate::Ended(why) => {
                self.ended(&why);
                batch.refuse(&self.standing.refusal());
            }
        }
    }

    fn durable(&mut self, batch: Batch) {
        self.works();
        if let Some(last) = batch.records.last() {
            self.standing.durable(last.seq);
        }
        self.parts.metrics.committed(batch.records.len());
        self.delivery.deliver(batch);
    }

    /// It is known what became of the batch in doubt.
    fn settled(&mut self, done: bool) {
        let Some(batch) = self.held.take() else { return };
        let leads = self.leadership.until().is_some();
        match (done, leads) {
            (true, true) => {
                info!("the last batch is in the journal after all");
                self.standing.set_stalled(false);
                self.pipe.stall(false);
                self.durable(batch);
            }
            (true, false) => batch.tell(&self.standing.refusal()),
            (false, true) => self.roll_back(batch),
            (false, false) => batch.refuse(&self.standing.refusal()),
        }
    }

    /// It stays unknown what became of a batch: who waits for it is told just that after [`PATIENCE`], or when this manager stops. What
    /// it leaves to be done stays, until it is known.
    fn be_patient(&mut self, stops: bool) {
        let over = self.standing.now().saturating_sub(self.held_since) >= PATIENCE;
        let Some(batch) = self.held.as_mut().filter(|_| stops || over) else { return };
        let trouble = self.standing.trouble_now().unwrap_or_default();
        batch.refuse_callers(&super::standing::cannot_tell(&trouble));
        if stops {
            warn!("it stays unknown whether the last batch is in the journal: whoever reads it next finds out");
            self.held = None;
            // What was decided after it was not written.
            let refusal = self.refusal_of_append();
            self.pipe.reign(false, Some(Order::End)).refuse(&refusal);
        }
    }

    /// A batch did not happen: neither did what was decided after it. The pool is read anew.
    fn roll_back(&mut self, batch: Batch) {
        self.standing.set_stalled(true);
        let refusal = self.refusal_of_append();
        batch.refuse(&refusal);
        self.read_anew(&refusal);
    }

    /// The pool as the journal has it takes the place of the deciding thread's; what was decided and is not written is refused.
    fn read_anew(&mut self, refusal: &Rejection) {
        self.pipe.reign(false, None).refuse(refusal);
        // The disk is full, most likely: it is not asked again at once.
        std::thread::sleep(AGAIN);
        match self.leadership.reload(&mut *self.journal) {
            Ok(pool) => {
                self.standing.durable(pool.seq());
                // Whoever asks now is told whether it works by whether its own record can be written.
                self.pipe.reign(true, Some(Order::Reset(Box::new(pool)))).refuse(refusal);
                (self.wake)();
            }
            Err(why) => self.ended(&why),
        }
    }

    fn refusal_of_append(&self) -> Rejection {
        super::standing::cannot_append(&self.standing.trouble_now().unwrap_or_default())
    }

    /// This manager leads no longer.
    fn ended(&mut self, why: &JournalError) {
        warn!(%why, "this manager leads no longer");
        if why.is_passing() {
            self.fails(why);
        }
        self.standing.set_good_until(None);
        self.standing.set_stalled(false);
        let open = self.pipe.reign(false, Some(Order::End));
        self.standing.set_role(Role::Follows);
        open.refuse(&self.standing.refusal());
        self.delivery.changes.wake_all();
        (self.wake)();
    }
}
