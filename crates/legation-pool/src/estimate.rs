//! What a request would come to, were it submitted now: nothing is journalled, and the pool is left as it was.
//!
//! It asks what the submission asks, in the same order, and refuses for the same reasons. Each fragment that could be placed
//! is placed for the length of the question: capacity, commitments and tries are taken as a lease takes them and given back
//! before the answer, so that fragments get in each other's way as they would. [`Pool::estimate`] of a request and its
//! submission right after choose the same enclaves.

use std::collections::BTreeMap;

use legation_core::{
    Allowance, EnclaveId, FragmentIndex, LeaseId, MicroUsd, ProviderId, Region, Rejection, Seq, Signed, TaskId,
    UnixTime,
    claims::TeeKind,
    statement::{Grant, PassedOver, Request},
    task::{Demand, Fragment},
};
use serde::{Deserialize, Serialize};

use crate::{
    account::AccountView,
    place::{self, Choice},
    pool::Pool,
    queue::Class,
    swarm::SwarmEstimate,
    task::{Attempt, Phase, Task},
    wanted,
};

/// What a request would come to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Estimate {
    /// The task it would be.
    pub task: TaskId,
    /// As of which record.
    pub as_of: Seq,
    /// Its fragments.
    pub fragments: Vec<FragmentEstimate>,
    /// What those that can be placed now, or behind others, cost at most.
    pub cost_max: MicroUsd,
    /// What they are expected to cost.
    pub cost_expected: MicroUsd,
    /// What the task may cost.
    pub budget: MicroUsd,
    /// The account it would be charged to, as it is.
    pub account: AccountView,
    /// The seats of its swarm, if it asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmEstimate>,
}

/// What a fragment would come to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FragmentEstimate {
    /// Which.
    pub fragment: FragmentIndex,
    /// What people call it.
    pub name: String,
    /// How it would stand.
    pub outlook: Outlook,
}

/// How a fragment would stand.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outlook {
    /// It would be placed at once.
    Placed(Place),
    /// It reads outputs of others. Were they there, it would be placed so now.
    Behind {
        /// Fragments that it reads.
        behind: Vec<FragmentIndex>,
        /// Where it would be placed, if anywhere.
        place: Option<Place>,
    },
    /// It would be run by whichever member of the swarm is free.
    InSwarm {
        /// Fragments that it reads, if it does.
        behind: Vec<FragmentIndex>,
    },
    /// It would wait for an enclave.
    Queued {
        /// The most frequent reason that rules an enclave out; where there is no enclave at all, that.
        why: Rejection,
        /// How many enclaves each reason rules out, most frequent first.
        passed_over: Vec<PassedOver>,
        /// Fragments that go before it, as things are now.
        ahead: u64,
        /// When there is room, as far as that is known.
        wait: Option<Wait>,
    },
}

/// How long until a fragment is placed, behind those that go before it: see `wait.rs` for when it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wait {
    /// Seconds at most, if what stands in the way takes all of its time and nobody comes who may go before.
    pub seconds_max: u64,
    /// Seconds, if modules run as long as they did before; what never ran takes all of its time.
    pub seconds_expected: u64,
}

/// Where a fragment would be placed, at what cost.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// Its kind.
    pub tee: TeeKind,
    /// Why this one.
    pub decided_by: String,
    /// Enclaves that could take it.
    pub eligible: u32,
    /// Enclaves looked at.
    pub considered: u32,
    /// One hour of it there.
    pub price_hour: MicroUsd,
    /// What it costs at most.
    pub cost_max: MicroUsd,
    /// What it is expected to cost: by the mean of past runs of its module for this tenant, else the most.
    pub cost_expected: MicroUsd,
    /// Past runs that this rests on.
    pub past_runs: u64,
    /// What it may use there, where policies limit that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Allowance>,
}

/// What was taken for the length of a question.
struct Held {
    enclave: EnclaveId,
    lease: LeaseId,
    demand: Demand,
    cost_max: MicroUsd,
}

impl Pool {
    /// What a submission of this request would come to, as of `now`. The pool is the same afterwards.
    ///
    /// # Errors
    /// What the submission would be refused for; `task.known`: it was submitted before.
    pub fn estimate(
        &mut self,
        request: Signed<Request>,
        grants: &[Signed<Grant>],
        now: UnixTime,
    ) -> Result<Estimate, Rejection> {
        let id = TaskId::new(request.digest());
        if self.tasks.contains_key(&id) {
            return Err(Rejection::new("task.known", format!("task {}", id.short()))
                .expected("a request that was not submitted yet")
                .got("one that was")
                .fix("see `legation task show`"));
        }
        self.check_submission(&request, grants, now)?;
        self.check_queue(&request, now)?;
        if let Some(estimate) = self.estimate_swarm(&request, now) {
            return Ok(estimate);
        }
        let known = self.accounts.entries().contains_key(&request.tenant);
        let mut task = Task::new(&request, None, self.seq);
        let (mut held, mut also) = (Vec::new(), Vec::new());
        let mut fragments = Vec::new();
        for (index, fragment) in request.indexed() {
            let outlook = self.outlook(&mut task, index, fragment, (&mut held, &mut also), now);
            fragments.push(FragmentEstimate { fragment: index, name: fragment.name.clone(), outlook });
        }
        self.release(&request, &held, known);
        let places = || fragments.iter().filter_map(|f| f.outlook.place());
        Ok(Estimate {
            task: id,
            as_of: self.seq,
            cost_max: places().map(|p| p.cost_max).sum(),
            cost_expected: places().map(|p| p.cost_expected).sum(),
            fragments,
            budget: request.budget,
            account: self.account(&request.tenant),
            swarm: None,
        })
    }

    /// How many of a request's fragments would be placed at once, beside each other. The pool is the same afterwards.
    pub(crate) fn placed_at_once(&mut self, request: &Signed<Request>, now: UnixTime) -> usize {
        if !self.may_allocate(now) || !self.classes.any_room() {
            return 0;
        }
        let known = self.accounts.entries().contains_key(&request.tenant);
        let mut task = Task::new(request, None, self.seq);
        let mut held = Vec::new();
        for (index, fragment) in request.indexed().filter(|(_, fragment)| !fragment.is_reducing()) {
            let class = Class::of_fragment(request, fragment);
            if let Ok(choice) = place::choose(self, &task, index, class, now) {
                self.hold(&mut task, index, fragment, &choice, &mut held);
            }
        }
        self.release(request, &held, known);
        held.len()
    }

    fn outlook(
        &mut self,
        task: &mut Task,
        index: FragmentIndex,
        fragment: &Fragment,
        (held, also): (&mut Vec<Held>, &mut Vec<Demand>),
        now: UnixTime,
    ) -> Outlook {
        let choice = match self.no_allocations(now) {
            Some(why) => Err(why),
            None => {
                place::choose(self, task, index, Class::of_fragment(&task.request, fragment), now).map_err(|_| nobody())
            }
        };
        let behind: Vec<_> = fragment.upstream().collect();
        if !behind.is_empty() {
            return Outlook::Behind { behind, place: choice.ok().and_then(|c| self.place_of(task, fragment, &c, now)) };
        }
        let found = choice.and_then(|choice| {
            let place = self.place_of(task, fragment, &choice, now).ok_or_else(nobody)?;
            Ok((choice, place))
        });
        match found {
            Ok((choice, place)) => {
                self.hold(task, index, fragment, &choice, held);
                Outlook::Placed(place)
            }
            Err(why) => {
                let outlook = self.queued(task, index, (why, also), now);
                also.push(fragment.demand);
                outlook
            }
        }
    }

    pub(crate) fn place_of(&self, task: &Task, fragment: &Fragment, choice: &Choice, now: UnixTime) -> Option<Place> {
        let enclave = self.enclaves.get(&choice.enclave)?;
        let passport = enclave.typical();
        let cost_max = wanted::cost_max(choice.price_hour, &fragment.demand);
        let past = self.history.of(&task.request.tenant, fragment.module);
        let expected = past.and_then(|past| past.mean_micros()).map(|micros| {
            let Demand { cpu, memory, .. } = fragment.demand;
            passport.configuration.rate.charge(cpu, memory, micros).min(cost_max)
        });
        Some(Place {
            enclave: choice.enclave,
            provider: passport.configuration.provider.clone(),
            region: passport.configuration.region.clone(),
            tee: passport.claims.tee.value,
            decided_by: choice.decided_by.clone(),
            eligible: choice.eligible,
            considered: choice.considered,
            price_hour: choice.price_hour,
            cost_max,
            cost_expected: expected.unwrap_or(cost_max),
            past_runs: past.map_or(0, |past| past.runs),
            limits: self.limits_at(&task.request, fragment, enclave, choice.price_hour, now).ok()?,
        })
    }

    /// Takes what a lease would take.
    fn hold(
        &mut self,
        task: &mut Task,
        index: FragmentIndex,
        fragment: &Fragment,
        choice: &Choice,
        held: &mut Vec<Held>,
    ) {
        // No lease has such a number: they are counted by one.
        let lease = LeaseId(u64::MAX.saturating_sub(held.len() as u64));
        let one = Held {
            enclave: choice.enclave,
            lease,
            demand: fragment.demand,
            cost_max: wanted::cost_max(choice.price_hour, &fragment.demand),
        };
        if let Some(enclave) = self.enclaves.get_mut(&one.enclave) {
            enclave.take(lease, &one.demand);
            let configuration = &enclave.typical().configuration;
            if let Some(state) = task.fragments.get_mut(index.0 as usize) {
                state.phase = Phase::Leased { lease };
                state.attempts.push(Attempt {
                    lease,
                    enclave: one.enclave,
                    provider: configuration.provider.clone(),
                    region: configuration.region.clone(),
                    ended: None,
                });
            }
        }
        task.uses.note(one.enclave);
        self.reindex_room(one.enclave);
        task.committed = task.committed.saturating_add(one.cost_max);
        self.accounts.queue(&task.request.tenant, 1);
        self.accounts.take(&task.request.tenant, &one.demand, one.cost_max);
        // In a seat it takes nothing that is not reserved already.
        match task.request.prefer.reservation {
            Some(reservation) => self.sit_down_in(reservation, lease, one.enclave, one.cost_max),
            None => drop(self.questions.insert(lease, one.demand)),
        }
        held.push(one);
    }

    /// Gives back what was held, the last first; the account's book, too, if it was not `known`.
    fn release(&mut self, request: &Request, held: &[Held], known: bool) {
        for one in held.iter().rev() {
            self.questions.remove(&one.lease);
            if let Some(reservation) = request.prefer.reservation {
                self.stand_up_from(reservation, one.lease, one.cost_max);
            }
            if let Some(enclave) = self.enclaves.get_mut(&one.enclave) {
                enclave.give_back(one.lease, &one.demand);
            }
            self.reindex_room(one.enclave);
            self.accounts.give_back(&request.tenant, &one.demand, one.cost_max);
        }
        if !known {
            self.accounts.close(&request.tenant);
        }
    }

    /// Why a fragment would wait, and for how long, behind those of its task that would wait, too.
    pub(crate) fn queued(
        &self,
        task: &Task,
        index: FragmentIndex,
        (why, also): (Rejection, &[Demand]),
        now: UnixTime,
    ) -> Outlook {
        let mut reasons: BTreeMap<String, (u32, Rejection)> = BTreeMap::new();
        for (_, _, verdict) in place::survey(self, task, index, now) {
            let Err(why) = verdict else { continue };
            reasons.entry(why.check.clone()).or_insert_with(|| (0, why)).0 += 1;
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
        let passed_over =
            reasons.iter().map(|(check, (enclaves, _))| PassedOver { check: check.clone(), enclaves: *enclaves });
        let waiting = self.waiting(task, index, also, now);
        Outlook::Queued {
            passed_over: passed_over.collect(),
            why: match reasons.into_iter().next() {
                Some((_, (_, first))) if self.may_allocate(now) => first,
                _ => why,
            },
            ahead: waiting.map_or(self.queue.len() as u64, |waiting| waiting.ahead),
            wait: waiting.and_then(|waiting| waiting.wait),
        }
    }
}

/// Where there is no enclave to say why.
pub(crate) fn nobody() -> Rejection {
    Rejection::new("place.nobody", "enclaves of the pool")
        .expected("one that could take the fragment")
        .got("none")
        .fix("wait for an enclave, or relax the requirements")
}

impl Outlook {
    /// Where it would be placed, now or behind others.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Placed(place) => Some(place),
            Self::Behind { place, .. } => place.as_ref(),
            Self::Queued { .. } | Self::InSwarm { .. } => None,
        }
    }
}
