//! The queue: fragments that wait for an enclave are placed first come first; what finds none keeps its place and lets others
//! pass.
//!
//! Invariant: after every command nothing waits that could be placed. So a command looks only at what it gave a chance
//! ([`Chances`]): at enclaves that came or have more room, and at tasks that are new or have more budget. Time gives
//! chances too (clocks that are set): a tick looks at everything.

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
};

use legation_core::{
    Digest, EnclaveId, FragmentId, FragmentIndex, Rejection, Seq, TaskId, UnixTime,
    prefer::{DataTerms, Preferences},
    statement::Request,
    task::{Demand, Fragment},
};

use crate::{
    apply::{Change, holds},
    enclave::Enclave,
    event::Event,
    place::{self, Choice, Nothing},
    pool::{Env, Pool},
    task::{Phase, Task},
};

/// What makes two fragments the same to every enclave that neither has tried, within their budgets: a digest of
/// requirements, demand, tenant, whose work not every verifier is trusted with, and what rules of placement can ask about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Class(Digest);

impl Class {
    pub(crate) fn of(request: &Request, index: FragmentIndex) -> Option<Self> {
        Some(Self::of_fragment(request, request.fragment(index)?))
    }

    pub(crate) fn of_fragment(request: &Request, fragment: &Fragment) -> Self {
        let Demand { cpu, memory, fuel, time, output, gpus } = fragment.demand;
        let (all, own) = (request.require.source().as_bytes(), fragment.require.source().as_bytes());
        let Preferences { near, within, priority, .. } = &request.prefer;
        let near = near.as_ref().map_or("", |region| region.as_str()).as_bytes();
        let within = within.map_or(u64::MAX, |within| within.0);
        let tenant = request.tenant.as_str().as_bytes();
        let data = match &request.data {
            data if *data == DataTerms::default() => Vec::new(),
            data => serde_json::to_vec(data).unwrap_or_default(),
        };
        let texts = [all, own, tenant, near, &data];
        // Lengths first: no two shapes have one spelling.
        let lengths = texts.iter().map(|text| text.len() as u64);
        let wishes = [within, request.budget.0, u64::from(priority.0)];
        let numbers = [cpu.0, memory.0, fuel.0, time.0, output.0, gpus.0];
        let numbers: Vec<u8> = lengths.chain(numbers).chain(wishes).flat_map(u64::to_be_bytes).collect();
        Self(Digest::of_parts(&[&numbers, all, own, tenant, near, &data, fragment.module.as_bytes()]))
    }
}

/// Where something may have become possible that was not before.
pub(crate) enum Chances {
    /// Everywhere.
    All,
    /// On these enclaves for whatever waits, and anywhere for these tasks.
    At { enclaves: BTreeSet<EnclaveId>, tasks: BTreeSet<TaskId> },
}

impl Default for Chances {
    fn default() -> Self {
        Self::At { enclaves: BTreeSet::new(), tasks: BTreeSet::new() }
    }
}

impl Chances {
    /// Notes what `event`, which is about to happen, makes possible.
    pub(crate) fn note(&mut self, pool: &Pool, event: &Event) {
        let Self::At { enclaves, tasks } = self else { return };
        match event {
            Event::Arrived { enclave } => {
                enclaves.insert(*enclave);
            }
            Event::Attested { passport, .. } => {
                enclaves.insert(passport.enclave_id());
            }
            Event::Submitted { request, .. } => {
                tasks.insert(TaskId::new(request.digest()));
            }
            _ => {}
        }
        let ended = match event {
            Event::LeaseEnded { lease, .. } => Some(lease),
            Event::Reported { report, .. } => Some(&report.lease),
            _ => None,
        };
        if let Some(lease) = ended.and_then(|lease| pool.leases.get(lease)) {
            enclaves.insert(lease.enclave);
            tasks.insert(lease.fragment.task);
            let tenant = pool.tasks.get(&lease.fragment.task).map(|t| &t.request.tenant);
            if tenant.is_some_and(|tenant| pool.accounts.is_limited(tenant)) {
                // What kept other tasks of the tenant waiting may have been its account, and not a place.
                *self = Self::All;
            }
        }
    }
}

/// A walk through the queue.
struct Walk {
    /// Enclaves with chances for everybody; nothing when all have.
    enclaves: Option<BTreeSet<EnclaveId>>,
    /// What waits of the tasks that have chances everywhere.
    own: BTreeSet<(Seq, FragmentId)>,
    /// What was looked at last.
    last: Option<(Seq, FragmentId)>,
    /// Classes for which there is no enclave at all, whoever asks.
    hopeless: BTreeSet<Class>,
    /// Classes for which `enclaves` are of no use, whoever asks.
    unfit: BTreeSet<Class>,
}

impl Pool {
    /// Places what waits and has a chance.
    pub(crate) fn place_queued(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        if self.queue.is_empty() || !self.may_allocate(env.now) {
            return Ok(());
        }
        let mut walk = self.walk(&out.chances);
        while let Some((fragment, choice)) = self.next_placed(&mut walk, env.now) {
            self.lease(fragment, choice, env, out)?;
        }
        Ok(())
    }

    /// Whether allocations made now would be believed.
    pub(crate) fn may_allocate(&self, now: UnixTime) -> bool {
        self.manager.as_ref().is_some_and(|m| holds(m, now))
    }

    fn walk(&self, chances: &Chances) -> Walk {
        let (enclaves, tasks) = match chances {
            Chances::All => (None, None),
            Chances::At { enclaves, tasks } => (Some(enclaves.clone()), Some(tasks)),
        };
        let known = tasks.into_iter().flatten().filter_map(|id| self.tasks.get(id).map(|t| (*id, t)));
        let own = known.flat_map(|(id, task)| {
            let queued = (0..).map(FragmentIndex).zip(&task.fragments).filter(|(_, f)| f.phase == Phase::Queued);
            queued.map(move |(index, f)| (f.queued_at, FragmentId { task: id, index }))
        });
        let own = own.collect();
        Walk { enclaves, own, last: None, hopeless: BTreeSet::new(), unfit: BTreeSet::new() }
    }

    /// Walks on to the next fragment that finds an enclave.
    fn next_placed(&self, walk: &mut Walk, now: UnixTime) -> Option<(FragmentId, Choice)> {
        if !self.classes.any_room() {
            return None;
        }
        if let Some(enclaves) = &mut walk.enclaves {
            enclaves.retain(|id| self.enclaves.get(id).is_some_and(Enclave::has_room));
        }
        let after = (walk.last.map_or(Unbounded, Excluded), Unbounded);
        let anyone = walk.enclaves.as_ref().is_none_or(|e| !e.is_empty());
        if anyone {
            for (key, class) in self.queue.range(after) {
                walk.last = Some(*key);
                if let Some(choice) = self.try_place(walk, *key, *class, now) {
                    return Some((key.1, choice));
                }
            }
        } else {
            // Only what the command itself set free or brought is left to look at.
            let own: Vec<_> = walk.own.range(after).copied().collect();
            for key in own {
                walk.last = Some(key);
                let Some(class) = self.queue.get(&key) else { continue };
                if let Some(choice) = self.try_place(walk, key, *class, now) {
                    return Some((key.1, choice));
                }
            }
        }
        None
    }

    fn try_place(&self, walk: &mut Walk, key: (Seq, FragmentId), class: Class, now: UnixTime) -> Option<Choice> {
        if walk.hopeless.contains(&class) {
            return None;
        }
        let FragmentId { task: id, index } = key.1;
        let task = self.tasks.get(&id)?;
        if let Some(enclaves) = &walk.enclaves
            && !walk.own.contains(&key)
            && (walk.unfit.contains(&class) || !self.any_fits(enclaves, task, index, class, &mut walk.unfit, now))
        {
            return None;
        }
        match place::choose(self, task, index, class, now) {
            Ok(choice) => Some(choice),
            // Leases taken from now on only leave less room: whoever asks for the same finds nothing either.
            Err(Nothing { for_anyone }) => {
                if for_anyone {
                    walk.hopeless.insert(class);
                }
                None
            }
        }
    }

    /// Whether one of `enclaves` could take a fragment; notes the class when they could not, whoever asked.
    fn any_fits(
        &self,
        enclaves: &BTreeSet<EnclaveId>,
        task: &Task,
        index: FragmentIndex,
        class: Class,
        unfit: &mut BTreeSet<Class>,
        now: UnixTime,
    ) -> bool {
        let known = enclaves.iter().filter_map(|id| Some((*id, self.enclaves.get(id)?)));
        match place::any_eligible(self, task, index, known, now) {
            Ok(()) => true,
            Err(Nothing { for_anyone }) => {
                if for_anyone {
                    unfit.insert(class);
                }
                false
            }
        }
    }
}
