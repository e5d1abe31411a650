//! Preemption: work that may be pushed aside makes way for more urgent work that may push.
//!
//! 1. The claimant's account may preempt, the victim's work may be preempted, and the claimant's priority is strictly higher.
//! 2. Nobody is pushed aside unless the claimant is placed by it: on one enclave that is wanting in nothing but room. Of those that
//!    are looked at, the one with the fewest victims, then with the least work lost.
//! 3. A *claim* says so, in a record: the leases of the victims end after a grace, in which they may report as usual. Until then
//!    the enclave is kept for the claimant; nobody else slips in.
//! 4. A victim goes back to the front of its tenant's queue, without blame, at no cost of its share, and not counted as a try.
//! 5. No cascades, no ping-pong: what was pushed aside pushes nobody, and is pushed at most [`PREEMPTIONS_MAX`] times.
//! 6. Whoever is placed elsewhere meanwhile, or ends, gives its claim up: victims that still run are spared. So does whoever could
//!    not take the place for another reason than room: its account, its budget, its rules of spread. What its tenant and its task
//!    claim already counts as if it were leased.
//! 7. Victims are sought on ticks, and for what was submitted just now: by each line for its oldest, lines in the order of the queue;
//!    at a tick that cannot try all of them, for the first ones and for some that take turns.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use legation_core::{
    EnclaveId, FragmentId, FragmentIndex, LeaseId, Rejection, TaskId, TenantId, UnixTime, prefer::Priority,
    task::Demand,
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    enclave::Leaving,
    event::{Effect, Event, LeaseEnd},
    fair::FlowId,
    lease::Lease,
    place::Choice,
    pool::{Env, Pool},
    queue::{Chances, Class, flow_of},
    task::{FragmentState, Task},
    wanted::{Refusal, Wanted},
};

/// How often one fragment may be pushed aside.
pub const PREEMPTIONS_MAX: usize = 2;
/// Claims at once.
const CLAIMS_MAX: usize = 64;
/// Fragments for which victims are sought by one command.
const CLAIMANTS_MAX: usize = 16;
/// Of a line that claims places already, how many are looked at for the next to claim one.
const LINE_LOOKED_AT: usize = 256;
/// Leases that are looked at as victims for one fragment, the least urgent first.
const VICTIMS_LOOKED_AT: usize = 256;
/// Enclaves wanting in nothing but room that are looked at for one fragment.
const ENCLAVES_LOOKED_AT: usize = 32;

/// For whom a lease makes way, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Preemption {
    /// The claimant; not told to tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<FragmentId>,
    /// Whose it is; told to itself and to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// How urgent it is.
    pub priority: Priority,
    /// The last second of the victim.
    pub until: UnixTime,
}

impl Preemption {
    /// For whom, as far as it is told: `a1b2c3d4/0 of acme, priority 8`.
    pub fn for_whom(&self) -> String {
        let by = self.by.map_or("other work".to_owned(), |by| by.to_string());
        let of = self.tenant.as_ref().map_or(String::new(), |tenant| format!(" of {tenant}"));
        format!("{by}{of}, priority {}", self.priority)
    }
}

/// A place that is being cleared for a fragment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Where.
    pub enclave: EnclaveId,
    /// What makes way there.
    pub victims: BTreeSet<LeaseId>,
    /// When at the latest.
    pub until: UnixTime,
}

impl FragmentState {
    fn preemptions(&self) -> usize {
        let ends = self.attempts.iter().filter_map(|a| a.ended.as_ref());
        ends.filter(|end| matches!(end, LeaseEnd::Preempted { .. })).count()
    }
}

impl Pool {
    fn state_of(&self, fragment: FragmentId) -> Option<(&Task, &FragmentState)> {
        let task = self.tasks.get(&fragment.task)?;
        Some((task, task.fragments.get(usize::try_from(fragment.index.0).ok()?)?))
    }

    /// How urgent a lease is, if it may be pushed aside.
    fn may_be_pushed(&self, lease: &Lease) -> Option<Priority> {
        let (task, state) = self.state_of(lease.fragment)?;
        // What works in a seat leaves no room when it goes.
        let may = lease.preempted.is_none()
            && lease.seat.is_none()
            && self.accounts.of(&task.request.tenant).terms.preemptible
            && state.preemptions() < PREEMPTIONS_MAX;
        may.then_some(task.request.prefer.priority)
    }

    /// Brings the list of possible victims up to date with one lease.
    pub(crate) fn note_pushable(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.get(&id) else { return };
        if let Some(priority) = self.may_be_pushed(lease) {
            self.pushable.insert((priority, id));
        } else if let Some(task) = self.tasks.get(&lease.fragment.task) {
            self.pushable.remove(&(task.request.prefer.priority, id));
        }
    }

    /// Makes the list of possible victims anew.
    pub(crate) fn list_pushable(&mut self) {
        let able = self.leases.iter().filter_map(|(id, lease)| Some((self.may_be_pushed(lease)?, *id)));
        self.pushable = able.collect();
    }

    /// The claim of a fragment, if it has one.
    pub fn claim(&self, fragment: FragmentId) -> Option<&Claim> {
        self.claims.get(&fragment)
    }

    /// Has claimants whose places are free take them; ends claims that cannot be met. Of those that a command gave a chance to.
    pub(crate) fn settle_claims(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let claims = self.claims.iter().filter(|(fragment, claim)| match &out.chances {
            Chances::All | Chances::Left => true,
            Chances::At { enclaves, tasks, .. } => enclaves.contains(&claim.enclave) || tasks.contains(&fragment.task),
        });
        let claims: Vec<_> = claims.map(|(fragment, claim)| (*fragment, claim.enclave)).collect();
        let served = self.settle_those(claims, env, out)?;
        self.settle_claims_of(served, env, out)
    }

    /// The same of tenants that were leased something: their accounts, and the budgets of their tasks, have less room.
    pub(crate) fn settle_claims_of(
        &mut self,
        mut served: BTreeSet<TenantId>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        while !served.is_empty() {
            let of = |fragment: &FragmentId| self.tasks.get(&fragment.task).map(|task| &task.request.tenant);
            let claims = self.claims.iter().filter(|(fragment, _)| of(fragment).is_some_and(|t| served.contains(t)));
            let claims = claims.map(|(fragment, claim)| (*fragment, claim.enclave)).collect();
            served = self.settle_those(claims, env, out)?;
        }
        Ok(())
    }

    /// Settles these; gives the tenants that took a place.
    fn settle_those(
        &mut self,
        claims: Vec<(FragmentId, EnclaveId)>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<BTreeSet<TenantId>, Rejection> {
        let mut served = BTreeSet::new();
        for (fragment, id) in claims {
            match self.may_take(fragment, id, env.now) {
                Ok(Some(choice)) => {
                    served.extend(self.tasks.get(&fragment.task).map(|task| task.request.tenant.clone()));
                    self.lease(fragment, choice, env, out)?;
                }
                Ok(None) => {}
                Err(why) => {
                    let spared = self.claims.get(&fragment).map(|claim| claim.victims.clone()).unwrap_or_default();
                    out.record(self, env, Event::Unclaimed { fragment, why })?;
                    self.tell(&spared, out);
                }
            }
        }
        Ok(served)
    }

    /// Tells whoever watches the tasks of these leases to look again.
    fn tell<'a>(&self, leases: impl IntoIterator<Item = &'a LeaseId>, out: &mut Change) {
        let tasks = leases.into_iter().filter_map(|lease| Some(self.leases.get(lease)?.fragment.task));
        let tasks: BTreeSet<TaskId> = tasks.collect();
        out.effects.extend(tasks.into_iter().map(|task| Effect::TaskChanged { task }));
    }

    /// Whether a claimant can take its place now; nothing while it must wait for its victims.
    fn may_take(&self, fragment: FragmentId, id: EnclaveId, now: UnixTime) -> Result<Option<Choice>, String> {
        let gone = || "the enclave that was claimed is gone".to_owned();
        let enclave = self.enclaves.get(&id).ok_or_else(gone)?;
        let task = self.tasks.get(&fragment.task).ok_or_else(gone)?;
        let mut wanted = Wanted::new(self, task, fragment.index, now).ok_or_else(gone)?;
        let victims = self.claims.get(&fragment).map(|claim| &claim.victims);
        let clearing = victims.into_iter().flatten().any(|lease| self.leases.contains_key(lease));
        match wanted.judge(id, enclave) {
            Ok(standing) => Ok(Some(Choice {
                enclave: id,
                price_hour: standing.price_hour,
                considered: 1,
                eligible: 1,
                passed_over: Vec::new(),
                decided_by: format!("price {}/h, where less urgent work made way", standing.price_hour),
                seat: None,
            })),
            Err(Refusal::Capacity) if clearing => Ok(None),
            Err(why) => Err(wanted.rejection(why, id, enclave).check),
        }
    }

    /// Claims places for what waits, may push, and has a chance to. A line that finds nothing is not asked about again.
    pub(crate) fn claim_places(&mut self, chances: &Chances, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let Some((least, _)) = self.pushable.first().copied() else { return Ok(()) };
        let mut searches = 0;
        for (flow, class) in self.claimants(least, chances, env.now) {
            while searches < CLAIMANTS_MAX
                && self.claims.len() < CLAIMS_MAX
                && let Some(fragment) = self.next_claimant(&flow, class)
            {
                searches += 1;
                let Some((enclave, victims)) = self.victims(fragment, env.now) else { break };
                let until = env.now.plus(self.limits.preempt_grace_seconds);
                let told = victims.clone();
                out.record(self, env, Event::Claimed { fragment, enclave, victims, until })?;
                self.tell(&told, out);
            }
        }
        Ok(())
    }

    /// Lines that may push something aside and have a chance to, in the order in which they are asked about.
    fn claimants(&self, least: Priority, chances: &Chances, now: UnixTime) -> Vec<(FlowId, Class)> {
        let may = |flow: &FlowId| flow.0 < Reverse(least) && self.accounts.of(&flow.1).terms.may_preempt;
        let new = match chances {
            Chances::Left => return Vec::new(),
            Chances::At { new, .. } => Some(new),
            Chances::All => None,
        };
        let mut lines = Vec::new();
        let mut seen = BTreeSet::new();
        for (id, task) in new.into_iter().flatten().filter_map(|id| Some((*id, self.tasks.get(id)?))) {
            let flow = flow_of(&task.request);
            for index in (0..).map(FragmentIndex).take(if may(&flow) { task.fragments.len() } else { 0 }) {
                let place = self.queue.place(FragmentId { task: id, index });
                lines.extend(place.filter(|(class, _)| seen.insert(*class)).map(|(class, _)| (flow.clone(), class)));
            }
        }
        if new.is_some() {
            return lines;
        }
        let mut turn = self.queue.after(None);
        while let Some(at) = turn.filter(|(band, ..)| *band < Reverse(least)) {
            let id = (at.0, at.2.clone());
            let heads = self.queue.flow(&id).filter(|_| may(&id)).into_iter().flat_map(|flow| flow.heads());
            lines.extend(heads.map(|(_, class)| (id.clone(), class)));
            turn = self.queue.after(Some(&at));
        }
        // Those that find nothing are not in the way of the others for long.
        let first = CLAIMANTS_MAX / 2;
        if let Some(rest) = lines.get_mut(first..).filter(|rest| !rest.is_empty()) {
            rest.rotate_left(some_below(rest.len(), now));
        }
        lines
    }

    /// The first of a line that claims no place and was not pushed aside itself.
    fn next_claimant(&self, flow: &FlowId, class: Class) -> Option<FragmentId> {
        let line = self.queue.flow(flow)?.lines.get(&class)?;
        let mut spots = line.spots.iter().map(|(_, fragment)| *fragment).take(LINE_LOOKED_AT);
        spots.find(|fragment| {
            let pushed = self.state_of(*fragment).is_none_or(|(_, state)| state.preemptions() > 0);
            !pushed && !self.claims.contains_key(fragment)
        })
    }

    /// The enclave where a fragment fits when the fewest make way, and who they are.
    fn victims(&self, fragment: FragmentId, now: UnixTime) -> Option<(EnclaveId, Vec<LeaseId>)> {
        let task = self.tasks.get(&fragment.task)?;
        let mut wanted = Wanted::new(self, task, fragment.index, now)?.beside_claims();
        let mut there: BTreeMap<EnclaveId, Vec<LeaseId>> = BTreeMap::new();
        let less_urgent = self.pushable.range(..(task.request.prefer.priority, LeaseId(0)));
        for (_, lease) in less_urgent.take(VICTIMS_LOOKED_AT) {
            there.entry(self.leases.get(lease)?.enclave).or_default().push(*lease);
        }
        let mut best: Option<(usize, u64, EnclaveId, Vec<LeaseId>)> = None;
        let mut looked = 0;
        for (id, able) in there {
            let Some(enclave) = self.enclaves.get(&id).filter(|_| looked < ENCLAVES_LOOKED_AT) else { continue };
            if !matches!(wanted.judge(id, enclave), Err(Refusal::Capacity)) {
                continue;
            }
            looked += 1;
            let demand = &wanted.fragment.demand;
            let Some((victims, lost)) = self.fewest(id, able, demand, now) else { continue };
            // It begins when the last victim is gone; until then the place is kept for it, which a swarm could not have meanwhile.
            let begins = now.plus(self.limits.preempt_grace_seconds);
            let over = (now, begins.plus(self.lease_seconds(demand)));
            let booked = self.booking_against(task).is_some();
            if self.is_booked_soon(task, id, begins)
                || !self.fits_without((id, enclave), demand, over, (&victims, booked))
            {
                continue;
            }
            if best.as_ref().is_none_or(|(count, least, ..)| (victims.len(), lost) < (*count, *least)) {
                best = Some((victims.len(), lost, id, victims));
            }
        }
        best.map(|(_, _, id, victims)| (id, victims))
    }

    /// The fewest of `able` that leave room on an enclave, and the work lost with them: core milliseconds set aside so far.
    fn fewest(&self, id: EnclaveId, able: Vec<LeaseId>, demand: &Demand, now: UnixTime) -> Option<(Vec<LeaseId>, u64)> {
        let enclave = self.enclaves.get(&id)?;
        let lost = |lease: &LeaseId| {
            let known = self.leases.get(lease);
            known.map_or(0, |l| l.demand.cpu.0.saturating_mul(now.since(l.from)))
        };
        let leaves_room = |victims: &[LeaseId]| {
            let mut rest = Leaving::new(enclave, demand);
            for victim in victims {
                if let Some(lease) = self.leases.get(victim) {
                    rest.leaves(*victim, &lease.demand);
                }
            }
            rest.fits(demand)
        };
        let one = able.iter().filter(|lease| leaves_room(&[**lease])).min_by_key(|lease| (lost(lease), **lease));
        if let Some(one) = one {
            return Some((vec![*one], lost(one)));
        }
        // The least work lost first, until there is room; then whoever need not go stays.
        let mut able = able;
        able.sort_by_key(|lease| (lost(lease), *lease));
        let mut rest = Leaving::new(enclave, demand);
        let enough = able.iter().position(|victim| {
            self.leases.get(victim).is_some_and(|lease| {
                rest.leaves(*victim, &lease.demand);
                rest.fits(demand)
            })
        })?;
        able.truncate(enough.saturating_add(1));
        let mut victims = able.clone();
        for lease in able.iter().rev() {
            let others: Vec<_> = victims.iter().copied().filter(|v| v != lease).collect();
            if leaves_room(&others) {
                victims = others;
            }
        }
        let all = victims.iter().map(lost).fold(0, u64::saturating_add);
        Some((victims, all))
    }

    pub(crate) fn absorb_claimed(
        &mut self,
        fragment: FragmentId,
        enclave: EnclaveId,
        victims: &[LeaseId],
        until: UnixTime,
    ) -> Option<()> {
        let request = &self.tasks.get(&fragment.task)?.request;
        let (tenant, priority) = (request.tenant.clone(), request.prefer.priority);
        for victim in victims {
            let preemption = Preemption { by: Some(fragment), tenant: Some(tenant.clone()), priority, until };
            self.move_deadline(*victim, |lease| lease.preempted = Some(preemption));
            self.note_pushable(*victim);
        }
        self.enclaves.get_mut(&enclave)?.keep_for(Some(fragment));
        self.reindex_room(enclave);
        self.claims.insert(fragment, Claim { enclave, victims: victims.iter().copied().collect(), until });
        Some(())
    }

    /// A fragment claims nothing any more: victims that still run are spared.
    pub(crate) fn give_up_claim(&mut self, fragment: FragmentId) {
        let Some(claim) = self.claims.remove(&fragment) else { return };
        for victim in claim.victims {
            self.move_deadline(victim, |lease| lease.preempted = None);
            self.note_pushable(victim);
        }
        if let Some(enclave) = self.enclaves.get_mut(&claim.enclave) {
            enclave.keep_for(None);
        }
        self.reindex_room(claim.enclave);
    }

    pub(crate) fn audit_claims(&self) -> Result<(), String> {
        for (fragment, claim) in &self.claims {
            let kept = self.enclaves.get(&claim.enclave).is_none_or(|e| e.claimed() == Some(*fragment));
            if !kept || self.queue.place(*fragment).is_none() {
                return Err(format!("the claim of {fragment} is of nobody who waits, or the enclave does not know it"));
            }
        }
        let known = |id: &LeaseId, p: &Preemption| {
            p.by.and_then(|by| self.claims.get(&by)).is_some_and(|claim| claim.victims.contains(id))
        };
        let stray = self.leases.iter().find(|(id, l)| l.preempted.as_ref().is_some_and(|p| !known(id, p)));
        if let Some((id, _)) = stray {
            return Err(format!("{id} makes way for nobody"));
        }
        let claimed = self.enclaves.iter().find(|(id, e)| {
            e.claimed().is_some_and(|fragment| self.claims.get(&fragment).is_none_or(|c| c.enclave != **id))
        });
        if let Some((id, _)) = claimed {
            return Err(format!("{id} is kept for nobody"));
        }
        let able: BTreeSet<_> =
            self.leases.iter().filter_map(|(id, lease)| Some((self.may_be_pushed(lease)?, *id))).collect();
        if able == self.pushable { Ok(()) } else { Err("what may be pushed aside is not what is listed".to_owned()) }
    }
}

/// A number below `n` that is another with each second, as far as one can tell.
fn some_below(n: usize, now: UnixTime) -> usize {
    let mixed = now.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    usize::try_from(mixed).unwrap_or(0) % n.max(1)
}
