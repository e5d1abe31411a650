//! Between the thread that decides and the thread that makes durable: one open batch that grows while the one before is written.
//!
//! 1. What is decided in one reign belongs to it: when a reign ends, or the pool is read anew, its number changes, and what still
//!    comes of the old one is handed back.
//! 2. A full batch makes the deciding thread wait: nothing here grows without bound. While it is unknown what became of the batch
//!    before, nobody waits: nothing more is decided then, so one more batch comes at most.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use legation_pool::Pool;
use tokio::sync::oneshot;

use super::batch::Batch;
use crate::leadership::Began;

/// Records in one batch at which deciding waits for writing.
pub(super) const BATCH_MAX: usize = 256;

/// Verdicts and answers in one batch at which it does.
const OUTCOMES_MAX: usize = 4096;

/// What the deciding thread is told.
pub(super) enum Order {
    /// It decides from now on.
    Begin(Box<Began>),
    /// The pool as the journal has it: something decided did not happen.
    Reset(Box<Pool>),
    /// It decides no longer.
    End,
}

/// What the writing thread finds.
pub(super) enum Work {
    /// A batch to write.
    Batch(Batch),
    /// Nothing came in time.
    Nothing,
    /// Everything is written, and the pool is to be read anew.
    Anew,
    /// Everything is written, and somebody waits for the end.
    Stop(oneshot::Sender<()>),
}

impl Batch {
    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_MAX || self.outcomes.len() >= OUTCOMES_MAX
    }
}

#[derive(Default)]
struct State {
    reign: u64,
    /// Whether batches are taken.
    open: bool,
    batch: Batch,
    /// Whether a batch is being written.
    writing: bool,
    /// Whether it is unknown what became of the batch before.
    stalled: bool,
    /// Whether the deciding thread's pool is of no more use.
    anew: bool,
    order: Option<Order>,
    stop: Option<oneshot::Sender<()>>,
}

impl State {
    /// Whether there is nothing to do for the writing thread.
    fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.stop.is_none() && !self.anew
    }
}

/// The open batch.
#[derive(Default)]
pub(super) struct Pipe {
    state: Mutex<State>,
    /// Something came.
    work: Condvar,
    /// There is room.
    room: Condvar,
}

/// What became of something pushed.
pub(super) enum Pushed {
    /// It is in the open batch.
    Taken,
    /// Nothing undurable is before it, and it has no records: do it now.
    Now(Batch),
    /// Its reign is over.
    Over(Batch),
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the open batch; waits while that is full.
    pub(super) fn push(&self, reign: u64, mut more: Batch) -> Pushed {
        let mut state = self.state();
        while state.open && state.reign == reign && !state.stalled && state.batch.is_full() {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.open || state.reign != reign {
            return Pushed::Over(more);
        }
        if more.records.is_empty() && !state.writing && state.batch.is_empty() {
            return Pushed::Now(more);
        }
        state.batch.records.append(&mut more.records);
        state.batch.outcomes.append(&mut more.outcomes);
        drop(state);
        self.work.notify_one();
        Pushed::Taken
    }

    /// What the deciding thread is to do, and the reign it is of.
    pub(super) fn order(&self) -> Option<(u64, Order)> {
        let mut state = self.state();
        let order = state.order.take()?;
        Some((state.reign, order))
    }

    /// Waits at most `wait` for work. What is taken counts as being written until the next call.
    pub(super) fn take(&self, wait: Duration) -> Work {
        let mut state = self.state();
        state.writing = false;
        if state.is_idle() {
            let idle = |state: &mut State| state.is_idle();
            state = self.work.wait_timeout_while(state, wait, idle).unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.batch.is_empty() {
            state.writing = true;
            let batch = std::mem::take(&mut state.batch);
            drop(state);
            self.room.notify_one();
            return Work::Batch(batch);
        }
        match state.stop.take() {
            Some(stop) => Work::Stop(stop),
            None if std::mem::take(&mut state.anew) => Work::Anew,
            None => Work::Nothing,
        }
    }

    /// Says that it is unknown, or known again, what became of the batch before.
    pub(super) fn stall(&self, stalled: bool) {
        self.state().stalled = stalled;
        self.room.notify_one();
    }

    /// Has the pool of this reign read anew once everything is written that was decided with it.
    pub(super) fn read_anew(&self, reign: u64) {
        let mut state = self.state();
        if state.open && state.reign == reign {
            state.anew = true;
            drop(state);
            self.work.notify_one();
        }
    }

    /// Waits at most `wait` for somebody who waits for the end; says whether somebody does.
    pub(super) fn is_stopping(&self, wait: Duration) -> bool {
        let goes_on = |state: &mut State| state.stop.is_none();
        let waited = self.work.wait_timeout_while(self.state(), wait, goes_on);
        waited.unwrap_or_else(PoisonError::into_inner).0.stop.is_some()
    }

    /// Begins another reign with an order to the deciding thread; gives what was open of the one before.
    pub(super) fn reign(&self, open: bool, order: Option<Order>) -> Batch {
        let mut state = self.state();
        state.reign = state.reign.wrapping_add(1);
        state.open = open;
        state.stalled = false;
        state.anew = false;
        state.order = order;
        let batch = std::mem::take(&mut state.batch);
        drop(state);
        self.room.notify_one();
        batch
    }

    /// Runs `tell` if this reign is the current one, and before another can begin.
    pub(super) fn during(&self, reign: u64, tell: impl FnOnce()) {
        let state = self.state();
        if state.reign == reign && state.open {
            tell();
        }
    }

    /// Has the writing thread end once everything is written.
    pub(super) fn stop(&self, stopped: oneshot::Sender<()>) {
        self.state().stop = Some(stopped);
        self.work.notify_one();
    }
}
