//! The queue: what waits for an enclave is placed in the order of `fair.rs`; what finds none keeps its place and lets others pass.
//!
//! Invariant: after every command nothing waits that could be placed. So a command looks only at what it gave a chance
//! ([`Chances`]): at enclaves that came or have more room, and at tasks that are new or have more budget. Time gives
//! chances too (clocks that are set): a tick looks at everything. Of each line (what is of one tenant and asks for the same) one
//! fragment is tried; where it finds nothing for reasons that are not its own, the rest of the line is not. Lines are met one by one,
//! and no further once no enclave of the chance has room.

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
    fair::{Age, Flow, FlowId, Spot, Turn},
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

    /// What asks for the same and for more beside: no fragment is of it.
    pub(crate) fn beside(self, more: Digest) -> Self {
        Self(Digest::of_parts(&[b"beside", self.0.as_bytes(), more.as_bytes()]))
    }
}

/// Where something may have become possible that was not before.
pub(crate) enum Chances {
    /// Everywhere.
    All,
    /// Everywhere, by what a lease left of an account: nobody is pushed aside for that before the next tick.
    Left,
    /// On these enclaves for whatever waits, and anywhere for these tasks; of which these are new.
    At { enclaves: BTreeSet<EnclaveId>, tasks: BTreeSet<TaskId>, new: BTreeSet<TaskId> },
}

impl Default for Chances {
    fn default() -> Self {
        Self::At { enclaves: BTreeSet::new(), tasks: BTreeSet::new(), new: BTreeSet::new() }
    }
}

impl Chances {
    fn are_none(&self) -> bool {
        matches!(self, Self::At { enclaves, tasks, .. } if enclaves.is_empty() && tasks.is_empty())
    }

    /// Notes what `event`, which is about to happen, makes possible.
    pub(crate) fn note(&mut self, pool: &Pool, event: &Event) {
        let Self::At { enclaves, tasks, new } = self else { return };
        if let Some(fragment) = event.task().zip(event.fragment()) {
            let claim = pool.claims.get(&FragmentId { task: fragment.0, index: fragment.1 });
            enclaves.extend(claim.filter(|_| !matches!(event, Event::Claimed { .. })).map(|claim| claim.enclave));
        }
        let ends = matches!(event, Event::SwarmSeated { .. } | Event::GangUnbooked { .. } | Event::TaskEnded { .. });
        if let Some(booking) = event.task().filter(|_| ends).and_then(|task| pool.booked_for(task)) {
            enclaves.extend(booking.enclaves.iter().copied());
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
                new.insert(TaskId::new(request.digest()));
            }
            _ => {}
        }
        if may_end_claims(event) {
            enclaves.extend(pool.claims.values().map(|claim| claim.enclave));
        }
        let ended = match event {
            Event::LeaseEnded { lease, .. } => Some(lease),
            Event::Reported { report, .. } => Some(&report.lease),
            _ => None,
        };
        let lease = ended.and_then(|lease| pool.leases.get(lease)).map(|lease| (lease.enclave, lease.fragment.task));
        let loan = ended.and_then(|lease| pool.loan(*lease)).map(|(task, loan)| (loan.enclave, task));
        if let Some((enclave, task)) = lease.or(loan) {
            enclaves.insert(enclave);
            tasks.insert(task);
            let tenant = pool.tasks.get(&task).map(|t| &t.request.tenant);
            if tenant.is_some_and(|tenant| pool.accounts.is_limited(tenant)) {
                // What kept other tasks of the tenant waiting may have been its account, and not a place.
                *self = Self::Left;
            }
        }
    }
}

/// Whether an event may leave claims of no use although nothing was leased or ended.
fn may_end_claims(event: &Event) -> bool {
    !matches!(
        event,
        Event::Submitted { .. }
            | Event::Granted { .. }
            | Event::Leased { .. }
            | Event::Claimed { .. }
            | Event::Unclaimed { .. }
            | Event::LeaseEnded { .. }
            | Event::Reported { .. }
            | Event::TaskEnded { .. }
            | Event::CharterSet { .. }
            | Event::CustodyAsked { .. }
            | Event::CustodyCalled { .. }
            | Event::CustodySaid { .. }
            | Event::CustodyEnded { .. }
    )
}

/// What of a flow is left to be tried.
#[derive(Default)]
struct Agenda {
    /// Heads of lines up to here were tried.
    heads_to: Option<(Spot, Class)>,
    /// Those that come after a head that was.
    next: BTreeMap<Spot, Class>,
    /// Those that have chances everywhere.
    own: BTreeMap<Spot, Class>,
}

impl Agenda {
    /// The oldest that is left, and whether the next of its line is to be tried after it. Where no enclave has a chance for
    /// everybody, of those that have chances of their own.
    fn pop(&mut self, flow: Option<&Flow>, anyone: bool) -> Option<(Spot, Class, bool)> {
        let first = |of: &BTreeMap<Spot, Class>| of.first_key_value().map(|(spot, class)| (*spot, *class));
        let head = flow.filter(|_| anyone).and_then(|flow| flow.head_after(self.heads_to));
        let next = first(&self.next).filter(|_| anyone);
        let (spot, class) = head.into_iter().chain(next).chain(first(&self.own)).min()?;
        if head == Some((spot, class)) {
            self.heads_to = head;
        }
        self.next.remove(&spot);
        self.own.remove(&spot);
        Some((spot, class, anyone && [head, next].contains(&Some((spot, class)))))
    }

    fn is_over(&self, flow: Option<&Flow>, anyone: bool) -> bool {
        let more =
            anyone && (!self.next.is_empty() || flow.is_some_and(|flow| flow.head_after(self.heads_to).is_some()));
        self.own.is_empty() && !more
    }
}

/// A walk through the queue.
struct Walk {
    /// Enclaves with chances for everybody; nothing when all have.
    enclaves: Option<BTreeSet<EnclaveId>>,
    /// Whether any of them has room yet.
    anyone: bool,
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
        let behind = self.place_swarms(env, out)?;
        self.place_fragments(env, out)?;
        if behind.is_empty() {
            return Ok(());
        }
        self.seat_swarms(behind, env, out)?;
        self.place_fragments(env, out)
    }

    fn place_fragments(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        if self.queue.is_empty() || !self.may_allocate(env.now) {
            return Ok(());
        }
        loop {
            self.settle_claims(env, out)?;
            let chances = std::mem::take(&mut out.chances);
            let mut walk = self.walk(&chances);
            let mut served = BTreeSet::new();
            while let Some((fragment, choice)) = self.next_placed(&mut walk, env.now) {
                if !self.claims.is_empty() {
                    served.extend(self.tasks.get(&fragment.task).map(|task| task.request.tenant.clone()));
                }
                self.lease(fragment, choice, env, out)?;
            }
            self.settle_claims_of(served, env, out)?;
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
            Chances::All | Chances::Left => (None, None),
            Chances::At { enclaves, tasks, .. } => (Some(enclaves.clone()), Some(tasks)),
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
            anyone: true,
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
        if walk.anyone && walk.enclaves.as_ref().is_some_and(BTreeSet::is_empty) {
            walk.anyone = false;
            let own = walk.own.keys().filter(|flow| !walk.met.contains_key(*flow));
            let own: Vec<_> = own.cloned().collect();
            for flow in own {
                self.meet(walk, flow);
            }
        }
        loop {
            if walk.anyone {
                self.meet_next(walk);
            }
            let turn = walk.turns.pop_first()?;
            let id = (turn.0, turn.2.clone());
            let flow = self.queue.flow(&id);
            let Some((spot, class, leads)) = walk.met.get_mut(&id).and_then(|agenda| agenda.pop(flow, walk.anyone))
            else {
                continue;
            };
            let found = self.try_place(walk, (&id, spot), class, now);
            let spent = walk.hopeless.contains(&class) || walk.unfit.contains(&class);
            if leads
                && !spent
                && let Some(next) = flow.and_then(|flow| flow.next(class, spot))
                && let Some(agenda) = walk.met.get_mut(&id)
            {
                agenda.next.insert(next, class);
            }
            match found {
                Some(choice) => {
                    walk.served = Some(id);
                    return Some((spot.1, choice));
                }
                None => self.turn_of(walk, id),
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
                self.meet(walk, flow);
            }
        }
    }

    fn meet(&self, walk: &mut Walk, flow: FlowId) {
        let own = walk.own.get(&flow).cloned().unwrap_or_default();
        walk.met.insert(flow.clone(), Agenda { own, ..Agenda::default() });
        self.turn_of(walk, flow);
    }

    /// Gives a flow of which something is left its turn.
    fn turn_of(&self, walk: &mut Walk, flow: FlowId) {
        let left = |agenda: &Agenda| !agenda.is_over(self.queue.flow(&flow), walk.anyone);
        if walk.met.get(&flow).is_some_and(left) {
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
        // Most lines find too little room: that is asked first, for nothing else need be known for it.
        let need = task.request.fragment(index).map(|fragment| fragment.demand);
        if need.is_some_and(|need| !known.clone().any(|(_, enclave)| enclave.fits(&need))) {
            unfit.insert(class);
            return false;
        }
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
