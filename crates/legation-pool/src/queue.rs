//! The queue: what waits for an enclave is placed in the order of `fair.rs`; what finds none keeps its place and lets others pass.
//!
//! Invariant: after every command nothing waits that could be placed. So a command looks only at what it gave a chance
//! ([`Chances`]): at enclaves that came or have more room, and at tasks that are new or have more budget. Time gives
//! chances too (clocks that are set): a tick looks at everything. Of each line (what is of one tenant and asks for the same) one
//! fragment is tried; where it finds nothing for reasons that are not its own, the rest of the line is not.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use legation_core::{
    Digest, EnclaveId, FragmentId, FragmentIndex, Rejection, TaskId, UnixTime,
    prefer::{DataTerms, Preferences},
    statement::Request,
    task::{Demand, Fragment},
};

use crate::{
    apply::{Change, holds},
    enclave::Enclave,
    event::{Event, LeaseEnd},
    fair::{Age, FlowId, Spot, Turn},
    place::{self, Choice, Nothing},
    pool::{Env, Pool},
    task::{FragmentState, Phase, Task},
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
        let Preferences { near, within, priority, reservation, .. } = &request.prefer;
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
        let seat = reservation.map_or(u64::MAX, |reservation| reservation.0);
        let wishes = [within, request.budget.0, u64::from(priority.0), seat];
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
    fn are_none(&self) -> bool {
        matches!(self, Self::At { enclaves, tasks } if enclaves.is_empty() && tasks.is_empty())
    }

    /// Notes what `event`, which is about to happen, makes possible.
    pub(crate) fn note(&mut self, pool: &Pool, event: &Event) {
        let Self::At { enclaves, tasks } = self else { return };
        if let Some(fragment) = event.task().zip(event.fragment()) {
            let claim = pool.claims.get(&FragmentId { task: fragment.0, index: fragment.1 });
            enclaves.extend(claim.filter(|_| !matches!(event, Event::Claimed { .. })).map(|claim| claim.enclave));
        }
        match event {
            Event::TaskEnded { task, .. } => {
                let claims = pool.claims.iter().filter(|(fragment, _)| fragment.task == *task);
                enclaves.extend(claims.map(|(_, claim)| claim.enclave));
            }
            Event::Arrived { enclave } | Event::Uncordoned { enclave, .. } | Event::Reseated { enclave, .. } => {
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

/// What of a flow is left to be tried: whether it leads its line, so that the next of the line is tried after it.
type Agenda = BTreeMap<Spot, (Class, bool)>;

/// A walk through the queue.
struct Walk {
    /// Enclaves with chances for everybody; nothing when all have.
    enclaves: Option<BTreeSet<EnclaveId>>,
    /// What waits of the tasks that have chances everywhere.
    own: BTreeMap<FlowId, BTreeMap<Spot, Class>>,
    /// Flows up to here were met.
    met_to: Option<Turn>,
    /// What is left of the flows that were met.
    met: BTreeMap<FlowId, Agenda>,
    /// Those of them with something left, in their order.
    turns: BTreeSet<Turn>,
    /// Of which something was placed last: its turn has changed.
    served: Option<FlowId>,
    /// Classes for which there is no enclave at all, whoever asks.
    hopeless: BTreeSet<Class>,
    /// Classes for which `enclaves` are of no use, whoever asks.
    unfit: BTreeSet<Class>,
}

/// The flow that a request's fragments wait in.
pub(crate) fn flow_of(request: &Request) -> FlowId {
    (Reverse(request.prefer.priority), request.tenant.clone())
}

impl FragmentState {
    /// How old it is, as something that waits.
    pub(crate) fn age(&self) -> Age {
        let last = self.attempts.last().and_then(|attempt| attempt.ended.as_ref());
        Age { later: !matches!(last, Some(LeaseEnd::Preempted { .. })), since: self.queued_at }
    }
}

impl Pool {
    /// Notes that a fragment waits from now on.
    pub(crate) fn enqueue(&mut self, id: FragmentId) -> Option<()> {
        let task = self.tasks.get(&id.task)?;
        // A swarm's fragments go to its members.
        if task.swarm.is_some() {
            return Some(());
        }
        let spec = task.request.fragment(id.index)?;
        let age = task.fragments.get(usize::try_from(id.index.0).ok()?)?.age();
        let class = Class::of_fragment(&task.request, spec);
        self.queue.put(flow_of(&task.request), class, spec.demand, (age, id));
        Some(())
    }

    /// Places what waits and has a chance.
    pub(crate) fn place_queued(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        self.place_swarms(env, out)?;
        if self.queue.is_empty() || !self.may_allocate(env.now) {
            return Ok(());
        }
        self.settle_claims(env, out)?;
        loop {
            let chances = std::mem::take(&mut out.chances);
            let mut walk = self.walk(&chances);
            while let Some((fragment, choice)) = self.next_placed(&mut walk, env.now) {
                self.lease(fragment, choice, env, out)?;
            }
            self.claim_places(&chances, env, out)?;
            // Whoever was placed elsewhere than it claimed leaves its claim to others.
            if out.chances.are_none() {
                return Ok(());
            }
        }
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
        let mut own: BTreeMap<FlowId, BTreeMap<Spot, Class>> = BTreeMap::new();
        for (id, task) in tasks.into_iter().flatten().filter_map(|id| self.tasks.get(id).map(|t| (*id, t))) {
            for (index, state) in (0..).map(FragmentIndex).zip(&task.fragments) {
                let fragment = FragmentId { task: id, index };
                let place = Some(state).filter(|f| f.phase == Phase::Queued).and_then(|_| self.queue.place(fragment));
                if let Some((class, age)) = place {
                    own.entry(flow_of(&task.request)).or_default().insert((age, fragment), class);
                }
            }
        }
        Walk {
            enclaves,
            own,
            met_to: None,
            met: BTreeMap::new(),
            turns: BTreeSet::new(),
            served: None,
            hopeless: BTreeSet::new(),
            unfit: BTreeSet::new(),
        }
    }

    /// Walks on to the next fragment that finds an enclave.
    fn next_placed(&self, walk: &mut Walk, now: UnixTime) -> Option<(FragmentId, Choice)> {
        if let Some(served) = walk.served.take() {
            self.turn_of(walk, served);
        }
        if let Some(enclaves) = &mut walk.enclaves {
            enclaves.retain(|id| self.enclaves.get(id).is_some_and(Enclave::has_room));
        }
        if !self.classes.any_room() {
            return None;
        }
        // Else only what the command itself set free or brought is left to look at.
        let anyone = walk.enclaves.as_ref().is_none_or(|e| !e.is_empty());
        if !anyone {
            let unmet: Vec<_> = walk.own.keys().filter(|flow| !walk.met.contains_key(*flow)).cloned().collect();
            unmet.into_iter().for_each(|flow| self.meet(walk, flow, false));
        }
        loop {
            if anyone {
                self.meet_next(walk);
            }
            let turn = walk.turns.pop_first()?;
            let flow = (turn.0, turn.2.clone());
            let Some((spot, (class, leads))) = walk.met.get_mut(&flow).and_then(BTreeMap::pop_first) else { continue };
            let found = self.try_place(walk, (&flow, spot), class, now);
            let spent = walk.hopeless.contains(&class) || walk.unfit.contains(&class);
            if leads
                && anyone
                && !spent
                && let Some(next) = self.queue.flow(&flow).and_then(|f| f.next(class, spot))
            {
                walk.met.entry(flow.clone()).or_default().insert(next, (class, true));
            }
            match found {
                Some(choice) => {
                    walk.served = Some(flow);
                    return Some((spot.1, choice));
                }
                None => self.turn_of(walk, flow),
            }
        }
    }

    /// Meets flows until the first of those that were met is the first of all.
    fn meet_next(&self, walk: &mut Walk) {
        while let Some(turn) = self.queue.after(walk.met_to.as_ref())
            && walk.turns.first().is_none_or(|first| turn < *first)
        {
            let flow = (turn.0, turn.2.clone());
            walk.met_to = Some(turn);
            // One that was served since comes by again.
            if !walk.met.contains_key(&flow) {
                self.meet(walk, flow, true);
            }
        }
    }

    fn meet(&self, walk: &mut Walk, flow: FlowId, lines: bool) {
        let heads = self.queue.flow(&flow).filter(|_| lines).into_iter().flat_map(|f| f.heads());
        let mut agenda: Agenda = heads.map(|(spot, class)| (spot, (class, true))).collect();
        for (spot, class) in walk.own.get(&flow).into_iter().flatten() {
            agenda.entry(*spot).or_insert((*class, false));
        }
        walk.met.insert(flow.clone(), agenda);
        self.turn_of(walk, flow);
    }

    /// Gives a flow of which something is left its turn.
    fn turn_of(&self, walk: &mut Walk, flow: FlowId) {
        if walk.met.get(&flow).is_some_and(|agenda| !agenda.is_empty()) {
            walk.turns.extend(self.queue.turn(&flow));
        }
    }

    fn try_place(&self, walk: &mut Walk, (flow, spot): (&FlowId, Spot), class: Class, now: UnixTime) -> Option<Choice> {
        if walk.hopeless.contains(&class) {
            return None;
        }
        let FragmentId { task: id, index } = spot.1;
        let task = self.tasks.get(&id)?;
        let own = || walk.own.get(flow).is_some_and(|own| own.contains_key(&spot));
        if let Some(enclaves) = &walk.enclaves
            && !own()
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
