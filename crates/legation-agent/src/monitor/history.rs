//! The runs of one module for one tenant: what is usual, and the bet that it stays so.
//!
//! ```text
//! 16 runs: median and spread  ->  48 runs: calibration scores  ->  every further run: score, p-value, bet
//! '--------------------- learning ----------------------'         '---- normal, suspect, alarm ----'
//! ```
//! Invariants
//! 1. What is usual is fixed by the first runs and is never learnt anew: who changes slowly does not become usual. Scores of later
//!    runs are a fixed function of them then, so that they are exchangeable if the runs are.
//! 2. Runs count in the order in which they *began*, which says nothing of what they did. The order in which they end does: the
//!    quick ones come first, and a reference of quick ones would find all others slow. A run that ends before an earlier one
//!    waits for it to count; of too many that wait, the one they wait for is passed over.
//! 3. An alarm stays: capital that has won that much is not asked to prove itself again.
//! 4. Of fixed size, whatever comes: about 2 KiB, and what waits.

use std::collections::BTreeMap;

use legation_core::monitor::{Feature, Verdict};

use super::{
    conformal::{Draw, Ranked, Ranks, ranked},
    martingale::Martingale,
    score::{Features, Usual},
};

/// Runs that fix what is usual.
const FIT: usize = 16;
/// Runs after them that later ones are ranked among.
const CALIBRATION: usize = 48;
/// Runs that are over and wait for one that is not. At most as many run at a time ([`crate::engine::INSTANCES_MAX`]).
const WAITING_MAX: usize = 1024;
/// A capital of this part of an alarm's is suspect.
const SUSPECT_PART: f64 = 10.0;

/// A run as it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) features: Features,
    pub(super) draw: Draw,
}

/// What is said of a history after a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// In a word.
    pub verdict: Verdict,
    /// log2 of the capital in thousandths; 0 while learning.
    pub evidence: i32,
    /// What was furthest from usual in this run, where the verdict is `suspect` or `alarm` and the run completed.
    pub worst: Option<Feature>,
}

#[derive(Debug)]
enum Phase {
    Fitting(Vec<Features>),
    Calibrating { usual: Usual, scores: Vec<Ranked> },
    Watching { usual: Usual, ranks: Ranks, game: Martingale, alarmed: bool },
}

/// One history.
#[derive(Debug)]
pub(super) struct History {
    phase: Phase,
    /// Runs that began.
    begun: u64,
    /// The first that does not count yet.
    next: u64,
    /// Runs that are over, after one that is not; nothing where one does not count.
    waiting: BTreeMap<u64, Option<Entry>>,
    /// Capital that raises the alarm.
    alarm: f64,
}

impl History {
    pub(super) fn new(alarm: f64) -> Self {
        Self { phase: Phase::Fitting(Vec::new()), begun: 0, next: 0, waiting: BTreeMap::new(), alarm }
    }

    /// A run begins; gives its number.
    pub(super) fn begin(&mut self) -> u64 {
        let number = self.begun;
        self.begun = self.begun.saturating_add(1);
        number
    }

    /// A run is over; without an entry it does not count.
    pub(super) fn end(&mut self, number: u64, entry: Option<Entry>) {
        if number < self.next {
            return;
        }
        self.waiting.insert(number, entry);
        loop {
            match self.waiting.remove(&self.next) {
                Some(Some(entry)) => self.count(entry),
                Some(None) => {}
                None if self.waiting.len() >= WAITING_MAX => {}
                None => return,
            }
            self.next = self.next.saturating_add(1);
        }
    }

    fn count(&mut self, entry: Entry) {
        match &mut self.phase {
            Phase::Fitting(runs) => {
                runs.push(entry.features);
                if runs.len() >= FIT {
                    let usual = Usual::of(runs);
                    self.phase = Phase::Calibrating { usual, scores: Vec::with_capacity(CALIBRATION) };
                }
            }
            Phase::Calibrating { usual, scores } => {
                scores.push(ranked(usual.score(&entry.features).0, entry.draw));
                if scores.len() >= CALIBRATION {
                    let (usual, ranks) = (usual.clone(), Ranks::new(std::mem::take(scores)));
                    self.phase = Phase::Watching { usual, ranks, game: Martingale::default(), alarmed: false };
                }
            }
            Phase::Watching { usual, ranks, game, alarmed } => {
                if !*alarmed {
                    game.bet(ranks.next(usual.score(&entry.features).0, entry.draw));
                    *alarmed = game.capital() >= self.alarm;
                }
            }
        }
    }

    /// What is to be said now, to a run that did this.
    pub(super) fn judge(&self, run: Option<&Features>) -> Judged {
        let Phase::Watching { usual, game, alarmed, .. } = &self.phase else {
            return Judged { verdict: Verdict::Learning, evidence: 0, worst: None };
        };
        let verdict = if *alarmed {
            Verdict::Alarm
        } else if game.capital() >= self.alarm / SUSPECT_PART {
            Verdict::Suspect
        } else {
            Verdict::Normal
        };
        let worst = run.filter(|_| verdict >= Verdict::Suspect).map(|run| usual.score(run).1);
        Judged { verdict, evidence: game.log2(), worst }
    }
}
