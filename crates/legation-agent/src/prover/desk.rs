//! What waits to be proven, what is being proven, and what the manager is still to be told.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use legation_core::{Digest, Rejection, Signed, TaskId, statement::ExecutionProof};
use tokio::time::Instant;

use super::Work;

/// Proofs that are kept for the manager, and their bytes: the oldest go first.
const DONE_MAX: usize = 64;
const DONE_BYTES_MAX: usize = 64 << 20;
/// A proof that the manager does not want for so long is dropped: the task was never reported.
const KEEP: Duration = Duration::from_secs(3600);
/// What was not answered is said again, first after the one, then at most after the other.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_LONGEST: Duration = Duration::from_secs(30);

/// What the manager is told of an execution.
#[derive(Clone)]
pub(super) enum Word {
    Proved(Box<Signed<ExecutionProof>>, Bytes),
    Unproved(Rejection),
}

impl Word {
    fn len(&self) -> usize {
        match self {
            Self::Proved(_, bytes) => bytes.len(),
            Self::Unproved(_) => 0,
        }
    }
}

/// What is done, and not yet in the journal.
struct Done {
    task: TaskId,
    word: Word,
    since: Instant,
    next: Instant,
    pause: Duration,
}

/// The one that is being proven.
struct Running {
    task: TaskId,
    report: Digest,
    done: u16,
    left: u64,
}

#[derive(Default)]
pub(super) struct Desk {
    pub(super) waiting: VecDeque<Work>,
    running: Option<Running>,
    done: BTreeMap<Digest, Done>,
}

/// How far something is that is not done.
pub(super) struct Far {
    pub(super) task: TaskId,
    pub(super) report: Digest,
    /// In thousandths.
    pub(super) done: u16,
    pub(super) seconds_left: u64,
}

/// Whole seconds of an estimate; what is none is none.
fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(0, |seconds| seconds.as_secs())
}

impl Desk {
    /// The next that is to be proven.
    pub(super) fn begin(&mut self) -> Option<Work> {
        let work = self.waiting.pop_front()?;
        let left = whole(work.estimate.seconds);
        self.running = Some(Running { task: work.task, report: work.report, done: 1, left });
        Some(work)
    }

    /// What is being proven is so far.
    pub(super) fn progress(&mut self, report: Digest, done: u16, left: u64) {
        if let Some(running) = self.running.as_mut().filter(|running| running.report == report) {
            (running.done, running.left) = (done, left);
        }
    }

    /// Something was proven, or cannot be; gives how many others are dropped for want of room.
    pub(super) fn end(&mut self, work: &Work, word: Word) -> usize {
        self.running = None;
        let now = Instant::now();
        self.done.insert(work.report, Done { task: work.task, word, since: now, next: now, pause: AGAIN_FIRST });
        let mut dropped = 0;
        let bytes = |done: &BTreeMap<Digest, Done>| done.values().map(|done| done.word.len()).sum::<usize>();
        while self.done.len() > DONE_MAX || (self.done.len() > 1 && bytes(&self.done) > DONE_BYTES_MAX) {
            let Some(oldest) = self.done.iter().min_by_key(|(_, done)| done.since).map(|(report, _)| *report) else {
                break;
            };
            self.done.remove(&oldest);
            dropped += 1;
        }
        dropped
    }

    /// How far everything is that is not done.
    pub(super) fn far(&self) -> Vec<Far> {
        let mut ahead = 0_u64;
        let mut all = Vec::new();
        if let Some(Running { task, report, done, left }) = &self.running {
            ahead = *left;
            all.push(Far { task: *task, report: *report, done: *done, seconds_left: *left });
        }
        for work in &self.waiting {
            ahead = ahead.saturating_add(whole(work.estimate.seconds));
            all.push(Far { task: work.task, report: work.report, done: 0, seconds_left: ahead });
        }
        all
    }

    /// What is to be told now.
    pub(super) fn due(&mut self) -> Vec<(TaskId, Digest, Word)> {
        let now = Instant::now();
        let due = self.done.iter_mut().filter(|(_, done)| done.next <= now);
        due.map(|(report, done)| {
            done.next = now + done.pause;
            done.pause = (done.pause * 2).min(AGAIN_LONGEST);
            (done.task, *report, done.word.clone())
        })
        .collect()
    }

    /// Everything is to be told again: the manager is another, or was away.
    pub(super) fn again(&mut self) {
        let now = Instant::now();
        for done in self.done.values_mut() {
            (done.next, done.pause) = (now, AGAIN_FIRST);
        }
    }

    /// What is done, if it is kept.
    pub(super) fn find(&self, report: &Digest) -> Option<(TaskId, Word)> {
        self.done.get(report).map(|done| (done.task, done.word.clone()))
    }

    /// The manager has it, or never will; whether it was kept.
    pub(super) fn forget(&mut self, report: &Digest) -> bool {
        self.done.remove(report).is_some()
    }

    /// Drops what nobody wanted for long; gives how many.
    pub(super) fn expire(&mut self) -> usize {
        let before = self.done.len();
        self.done.retain(|_, done| done.since.elapsed() < KEEP);
        before.saturating_sub(self.done.len())
    }
}
