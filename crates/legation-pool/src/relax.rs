//! What could be asked instead, so that a fragment that waits is placed now: one thing less or one thing lower at a time.
//!
//! Nothing is guessed: each suggestion is the whole request with that change, held against the pool by the same placement that
//! serves requests. Numbers are found by halving: less demand, more budget and a longer way never rule an enclave out, so the
//! least change that is enough is found in as many tries as the number has digits.

use std::{collections::BTreeMap, sync::Arc};

use legation_core::{
    Bytes, FragmentIndex, MicroUsd, Millicores, Milligpus, Millis, PublicKey, Requirement, Signature, Signed, Signer,
    UnixTime, dsse,
    prefer::SpreadRule,
    requirement::{Candidate, Relaxed},
    statement::Request,
    task::{Demand, Fragment},
    unit::change,
};
use serde::{Deserialize, Serialize};

use crate::{
    place,
    pool::Pool,
    queue::Class,
    task::{FragmentState, Task},
};

/// Thousandths of one accelerator.
const WHOLE: u64 = 1000;
/// Most suggestions.
pub const RELAXATIONS_MAX: usize = 8;
/// Most requests that are tried for one fragment.
const TRIES_MAX: u32 = 512;
/// Most ways of moving one conjunct that are tried.
const MOVES_MAX: usize = 8;
/// What dropping a rule of spread counts as, in thousandths of change.
const SPREAD_DROPPED: u32 = 600;
/// The longest round trip that is suggested.
const WITHIN_MAX: u64 = 2000;

/// One change of a request by which its fragment would be placed now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Relaxation {
    /// What of the request changes.
    pub of: Relaxable,
    /// How it is.
    pub from: String,
    /// What to ask instead; nothing: drop it.
    pub to: Option<String>,
    /// How much that is, in thousandths of what it was.
    pub change: u32,
    /// How many enclaves could then take the fragment now.
    pub enclaves: u32,
    /// One hour of it where it would go.
    pub price_hour: MicroUsd,
}

/// What of a request can be relaxed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relaxable {
    /// A part of a requirement.
    Require,
    /// Compute.
    Cpu,
    /// Memory.
    Memory,
    /// Compute and memory together.
    CpuAndMemory,
    /// Accelerators.
    Gpus,
    /// The time limit: what it may cost at most grows with it.
    Time,
    /// The budget.
    Budget,
    /// A rule of spread.
    Spread,
    /// The longest round trip.
    Within,
}

/// What could be asked instead for a fragment that waits.
pub(crate) fn relaxations(pool: &Pool, task: &Task, index: FragmentIndex, now: UnixTime) -> Vec<Relaxation> {
    let Some(mut asked) = WhatIf::new(pool, task, index, now) else { return Vec::new() };
    asked.requirements(true);
    asked.requirements(false);
    asked.demand();
    asked.budget();
    asked.preferences();
    let mut found = std::mem::take(&mut asked.found);
    found.sort_by(|(a, _), (b, _)| (a.change, a.of, &a.to).cmp(&(b.change, b.of, &b.to)));
    found.truncate(RELAXATIONS_MAX);
    found.into_iter().filter_map(|(relaxation, request)| asked.counted(relaxation, request)).collect()
}

/// Whose word is nobody's: a request that is only tried is never sent, journalled or believed.
pub(crate) struct Nobody;

impl Signer for Nobody {
    fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes([0; 32])
    }

    fn sign(&self, _: &[u8]) -> Signature {
        Signature([0; 64])
    }
}

/// A task as it would be with another request.
struct WhatIf<'a> {
    pool: &'a Pool,
    original: &'a Signed<Request>,
    task: Task,
    index: FragmentIndex,
    now: UnixTime,
    tries: u32,
    found: Vec<(Relaxation, Arc<Signed<Request>>)>,
}

impl<'a> WhatIf<'a> {
    fn new(pool: &'a Pool, task: &'a Task, index: FragmentIndex, now: UnixTime) -> Option<Self> {
        task.request.fragment(index)?;
        // Its past counts, not what it holds: results and statements stay where they are.
        let fragments = task.fragments.iter().map(|f| FragmentState {
            phase: f.phase.clone(),
            attempts: f.attempts.clone(),
            allocations: Vec::new(),
            done: None,
            copy: None,
            queued_at: f.queued_at,
        });
        let task = Task {
            request: task.request.clone(),
            state: task.state.clone(),
            fragments: fragments.collect(),
            grants: Vec::new(),
            keys: Vec::new(),
            spent: task.spent,
            committed: task.committed,
            swarm: None,
            lending: None,
            owed: Default::default(),
            uses: task.uses.clone(),
            idempotency: None,
            ungranted: task.ungranted,
        };
        let original = pool.tasks.get(&task.id()).map(|known| &*known.request)?;
        Some(Self { pool, original, task, index, now, tries: TRIES_MAX, found: Vec::new() })
    }

    /// Makes the request another one.
    fn ask(&mut self, change: impl FnOnce(&mut Request)) {
        let mut request = self.original.predicate().clone();
        change(&mut request);
        self.task.request = Arc::new(dsse::sign(request, &Nobody));
    }

    fn ask_of_fragment(&mut self, change: impl FnOnce(&mut Fragment)) {
        let index = self.index.0 as usize;
        self.ask(|request| {
            if let Some(fragment) = request.fragments.get_mut(index) {
                change(fragment);
            }
        });
    }

    /// Whether it would be placed with the request as it is asked now.
    fn is_placed(&mut self) -> bool {
        let Some(left) = self.tries.checked_sub(1) else { return false };
        self.tries = left;
        let shape = Class::of(&self.task.request, self.index);
        shape.is_some_and(|shape| place::choose(self.pool, &self.task, self.index, shape, self.now).is_ok())
    }

    /// Suggests the request as it is asked now.
    fn suggest(&mut self, of: Relaxable, from: String, to: Option<String>, change: u32) {
        let relaxation = Relaxation { of, from, to, change, enclaves: 0, price_hour: MicroUsd::ZERO };
        self.found.push((relaxation, self.task.request.clone()));
    }

    /// Counts who could take it with this request.
    fn counted(&mut self, relaxation: Relaxation, request: Arc<Signed<Request>>) -> Option<Relaxation> {
        self.task.request = request;
        let able =
            place::survey(self.pool, &self.task, self.index, self.now).filter_map(|(_, _, verdict)| verdict.ok());
        let (mut enclaves, mut best) = (0_u32, None);
        for standing in able {
            enclaves = enclaves.saturating_add(1);
            let price = (standing.effective, standing.price_hour);
            best = Some(best.map_or(price, |known: (u64, MicroUsd)| known.min(price)));
        }
        best.map(|(_, price_hour)| Relaxation { enclaves, price_hour, ..relaxation })
    }

    /// The task's requirement, or the fragment's own: each conjunct moved, or dropped.
    fn requirements(&mut self, of_task: bool) {
        let of_fragment = self.original.fragment(self.index).map(|f| &f.require);
        let Some(require) = (if of_task { Some(&self.original.require) } else { of_fragment }) else { return };
        for conjunct in 0..require.conjuncts() {
            let Some(dropped) = require.without(conjunct) else { continue };
            self.require(of_task, &dropped);
            if !self.is_placed() {
                continue;
            }
            let mut moves: BTreeMap<(u32, Option<String>), (u32, Relaxed)> = BTreeMap::new();
            let mut all = 0_u32;
            for (_, enclave, verdict) in place::survey(self.pool, &self.task, self.index, self.now) {
                let Ok(standing) = verdict else { continue };
                all = all.saturating_add(1);
                let candidate = Candidate { passport: enclave.typical(), price_hour: standing.price_hour };
                let Some(moved) = require.admitting(conjunct, &candidate) else { continue };
                let (many, _) = moves.entry((moved.change, moved.to.clone())).or_insert((0, moved));
                *many = many.saturating_add(1);
                while moves.len() > MOVES_MAX {
                    moves.pop_last();
                }
            }
            self.suggest(Relaxable::Require, dropped.from, None, dropped.change);
            // Of two numbers the nearer; of two names the one that more enclaves have.
            let nearest = moves.keys().next().map(|(change, _)| *change);
            let nearest = moves.into_iter().filter(|((change, _), _)| Some(*change) == nearest);
            let best = nearest.map(|(_, found)| found).max_by_key(|(many, _)| *many);
            let Some((many, moved)) = best else { continue };
            self.require(of_task, &moved);
            if self.is_placed() {
                // Dropping it is said where it brings more than moving it.
                if many == all {
                    self.found.pop();
                }
                self.suggest(Relaxable::Require, moved.from, moved.to, moved.change);
            }
        }
    }

    fn require(&mut self, of_task: bool, relaxed: &Relaxed) {
        let put = |place: &mut Requirement| *place = relaxed.requirement.clone();
        if of_task {
            self.ask(|request| put(&mut request.require));
        } else {
            self.ask_of_fragment(|fragment| put(&mut fragment.require));
        }
    }

    fn demand(&mut self) {
        let Some(demand) = self.original.fragment(self.index).map(|f| f.demand) else { return };
        let cpu = |n: u64| Demand { cpu: Millicores(n), ..demand };
        let memory = |n: u64| Demand { memory: Bytes(n), ..demand };
        let gpus = |n: u64| Demand { gpus: Milligpus(n), ..demand };
        let whole = |n: u64| gpus(n * WHOLE);
        let time = |n: u64| Demand { time: Millis(n), ..demand };
        let before = self.found.len();
        self.lower(Relaxable::Cpu, demand.cpu.0, cpu, |d| d.cpu.to_string());
        self.lower(Relaxable::Memory, demand.memory.0, memory, |d| d.memory.to_string());
        if self.found.len() == before {
            let part = |of: u64, n: u64| u64::try_from(u128::from(of) * u128::from(n) / 1000).unwrap_or(of).max(1);
            let both = |n: u64| Demand {
                cpu: Millicores(part(demand.cpu.0, n)),
                memory: Bytes(part(demand.memory.0, n)),
                ..demand
            };
            self.lower(Relaxable::CpuAndMemory, 1000, both, |d| format!("{} and {}", d.cpu, d.memory));
        }
        // Fewer whole ones, or a share of one; never none.
        let before = self.found.len();
        if demand.gpus.0 > WHOLE {
            self.lower(Relaxable::Gpus, demand.gpus.0 / WHOLE, whole, |d| d.gpus.to_string());
        }
        if demand.gpus.0 > 1 && self.found.len() == before {
            let most = demand.gpus.0.min(WHOLE);
            self.lower(Relaxable::Gpus, most, gpus, |d| d.gpus.to_string());
        }
        self.lower(Relaxable::Time, demand.time.0, time, |d| format!("{}.{:03} s", d.time.0 / 1000, d.time.0 % 1000));
    }

    /// The largest demand under `from` that is placed.
    fn lower(&mut self, of: Relaxable, from: u64, demand: impl Fn(u64) -> Demand, words: impl Fn(&Demand) -> String) {
        let least = 1;
        if least >= from || !self.is_placed_asking(demand(least)) {
            return;
        }
        let (mut good, mut bad) = (least, from);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.is_placed_asking(demand(middle)) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        // As it was found to be placed, and not as it was tried last.
        if self.is_placed_asking(demand(good)) {
            let was = self.original.fragment(self.index).map_or(demand(from), |f| f.demand);
            let (was, new) = (words(&was), words(&demand(good)));
            self.suggest(of, was, Some(new), change(from, good));
        }
    }

    fn is_placed_asking(&mut self, demand: Demand) -> bool {
        self.ask_of_fragment(|fragment| fragment.demand = demand);
        self.is_placed()
    }

    /// Asks the least number above `from` that is placed, `most` at most.
    fn raise(&mut self, from: u64, most: u64, put: impl Fn(&mut Request, u64)) -> Option<u64> {
        let mut placed = |n: u64| {
            self.ask(|request| put(request, n));
            self.is_placed()
        };
        if from >= most || !placed(most) {
            return None;
        }
        let (mut bad, mut good) = (from, most);
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            if placed(middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        placed(good).then_some(good)
    }

    fn budget(&mut self) {
        let from = self.original.budget;
        let most = from.0.saturating_mul(1 << 20).max(1 << 40);
        if let Some(budget) = self.raise(from.0, most, |request, n| request.budget = MicroUsd(n)) {
            let to = MicroUsd(budget).to_string();
            self.suggest(Relaxable::Budget, from.to_string(), Some(to), change(from.0, budget));
        }
    }

    fn preferences(&mut self) {
        let prefer = self.original.prefer.clone();
        for (n, rule) in prefer.spread.iter().enumerate() {
            if !matches!(rule.rule, SpreadRule::Distinct | SpreadRule::Same) {
                continue;
            }
            self.ask(|request| {
                request.prefer.spread.remove(n);
            });
            if self.is_placed() {
                self.suggest(Relaxable::Spread, format!("{} {}", rule.rule, rule.axis), None, SPREAD_DROPPED);
            }
        }
        let Some(within) = prefer.within else { return };
        if let Some(ms) = self.raise(within.0, WITHIN_MAX, |request, n| request.prefer.within = Some(Millis(n))) {
            let to = Some(format!("{ms} ms"));
            self.suggest(Relaxable::Within, format!("{} ms", within.0), to, change(within.0, ms));
        }
    }
}
