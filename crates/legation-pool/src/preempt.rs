//! Preemption: work that may be pushed aside makes way for more urgent work that may push.
//!
//! 1. The claimant's account may preempt, the victim's work may be preempted, and the claimant's priority is strictly higher.
//! 2. Nobody is pushed aside unless the claimant is placed by it: on one enclave that is wanting in nothing but room. Of those that
//!    are looked at, the one with the fewest victims, then with the least work lost.
//! 3. A *claim* says so, in a record: the leases of the victims end after a grace, in which they may report as usual. Until then
//!    the enclave is kept for the claimant; nobody else slips in.
//! 4. A victim goes back to the front of its tenant's queue, without blame, at no cost of its share, and not counted as a try.
//! 5. No cascades, no ping-pong: what was pushed aside pushes nobody, and is pushed at most [`PREEMPTIONS_MAX`] times.
//! 6. Whoever is placed elsewhere meanwhile, or ends, gives its claim up: victims that still run are spared.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{EnclaveId, FragmentId, LeaseId, Rejection, TenantId, UnixTime, prefer::Priority};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::{Event, LeaseEnd},
    lease::Lease,
    place::Choice,
    pool::{Env, Pool},
    queue::Chances,
    task::{FragmentState, Task},
    wanted::{Refusal, Wanted},
};

/// How often one fragment may be pushed aside.
pub const PREEMPTIONS_MAX: usize = 2;
/// Claims at once.
const CLAIMS_MAX: usize = 64;
/// Fragments for which victims are sought by one command.
const CLAIMANTS_MAX: usize = 16;
/// Leases that are looked at as victims for one fragment, the least urgent first.
const VICTIMS_LOOKED_AT: usize = 256;
/// Enclaves that are looked at for one fragment.
const ENCLAVES_LOOKED_AT: usize = 32;

/// For whom a lease makes way, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Preemption {
    /// The claimant.
    pub by: FragmentId,
    /// Whose it is.
    pub tenant: TenantId,
    /// How urgent it is.
    pub priority: Priority,
    /// The last second of the victim.
    pub until: UnixTime,
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

    /// Has claimants whose places are free take them; ends claims that cannot be met.
    pub(crate) fn settle_claims(&mut self, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let claims: Vec<_> = self.claims.iter().map(|(fragment, claim)| (*fragment, claim.enclave)).collect();
        for (fragment, id) in claims {
            match self.may_take(fragment, id, env.now) {
                Ok(Some(choice)) => self.lease(fragment, choice, env, out)?,
                Ok(None) => {}
                Err(why) => out.record(self, env, Event::Unclaimed { fragment, why })?,
            }
        }
        Ok(())
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
            Err(Refusal::Capacity | Refusal::Account(..) | Refusal::Budget(_)) if clearing => Ok(None),
            Err(why) => Err(wanted.rejection(why, id, enclave).check),
        }
    }

    /// Claims places for what waits, may push, and has a chance to.
    pub(crate) fn claim_places(&mut self, chances: &Chances, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let Some((least, _)) = self.pushable.first().copied() else { return Ok(()) };
        for fragment in self.claimants(least, chances) {
            if self.claims.len() >= CLAIMS_MAX {
                break;
            }
            if let Some((enclave, victims)) = self.victims(fragment, env.now) {
                let until = env.now.plus(self.limits.preempt_grace_seconds);
                out.record(self, env, Event::Claimed { fragment, enclave, victims, until })?;
            }
        }
        Ok(())
    }

    /// What waits and may push something aside, in the order of the queue.
    fn claimants(&self, least: Priority, chances: &Chances) -> Vec<FragmentId> {
        let bands = self.queue.bands.iter().take_while(|(band, _)| band.0 > least);
        let flows = bands.flat_map(|(_, band)| &band.flows);
        let pushing = flows.filter(|(tenant, _)| self.accounts.of(tenant).terms.may_preempt);
        let spots = pushing.flat_map(|(_, flow)| flow.lines.values()).flat_map(|line| &line.spots);
        let able = spots.map(|(_, fragment)| *fragment).take(VICTIMS_LOOKED_AT).filter(|fragment| {
            let chance = match chances {
                Chances::All => true,
                Chances::At { tasks, .. } => tasks.contains(&fragment.task),
            };
            let pushed = self.state_of(*fragment).is_none_or(|(_, state)| state.preemptions() > 0);
            chance && !pushed && !self.claims.contains_key(fragment)
        });
        able.take(CLAIMANTS_MAX).collect()
    }

    /// The enclave where a fragment fits when the fewest make way, and who they are.
    fn victims(&self, fragment: FragmentId, now: UnixTime) -> Option<(EnclaveId, Vec<LeaseId>)> {
        let task = self.tasks.get(&fragment.task)?;
        let mut wanted = Wanted::new(self, task, fragment.index, now)?;
        let mut there: BTreeMap<EnclaveId, Vec<LeaseId>> = BTreeMap::new();
        let less_urgent = self.pushable.range(..(task.request.prefer.priority, LeaseId(0)));
        for (_, lease) in less_urgent.take(VICTIMS_LOOKED_AT) {
            there.entry(self.leases.get(lease)?.enclave).or_default().push(*lease);
        }
        let mut best: Option<(usize, u64, EnclaveId, Vec<LeaseId>)> = None;
        for (id, able) in there.into_iter().take(ENCLAVES_LOOKED_AT) {
            let Some(enclave) = self.enclaves.get(&id) else { continue };
            if !matches!(wanted.judge(id, enclave), Err(Refusal::Capacity)) {
                continue;
            }
            let Some((victims, lost)) = self.fewest(id, able, wanted.fragment.demand, now) else { continue };
            if best.as_ref().is_none_or(|(count, least, ..)| (victims.len(), lost) < (*count, *least)) {
                best = Some((victims.len(), lost, id, victims));
            }
        }
        best.map(|(_, _, id, victims)| (id, victims))
    }

    /// The fewest of `able` that leave room on an enclave, and the work lost with them: core milliseconds set aside so far.
    fn fewest(
        &self,
        id: EnclaveId,
        able: Vec<LeaseId>,
        demand: legation_core::task::Demand,
        now: UnixTime,
    ) -> Option<(Vec<LeaseId>, u64)> {
        let enclave = self.enclaves.get(&id)?;
        let lost = |lease: &LeaseId| {
            let known = self.leases.get(lease);
            known.map_or(0, |l| l.demand.cpu.0.saturating_mul(now.since(l.from)))
        };
        let leaves_room = |victims: &[LeaseId]| {
            let mut rest = enclave.clone();
            for victim in victims {
                if let Some(lease) = self.leases.get(victim) {
                    rest.give_back(*victim, &lease.demand);
                }
            }
            rest.fits(&demand)
        };
        let one = able.iter().filter(|lease| leaves_room(&[**lease])).min_by_key(|lease| (lost(lease), **lease));
        if let Some(one) = one {
            return Some((vec![*one], lost(one)));
        }
        // The least work lost first, until there is room; then whoever need not go stays.
        let mut able = able;
        able.sort_by_key(|lease| (lost(lease), *lease));
        let enough = (2..=able.len()).find(|n| leaves_room(&able[..*n]))?;
        let mut victims = able[..enough].to_vec();
        for lease in able[..enough].iter().rev() {
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
            let preemption = Preemption { by: fragment, tenant: tenant.clone(), priority, until };
            self.move_deadline(*victim, |lease| lease.preempted = Some(preemption));
            self.note_pushable(*victim);
        }
        self.enclaves.get_mut(&enclave)?.claimed = Some(fragment);
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
            enclave.claimed = None;
        }
        self.reindex_room(claim.enclave);
    }

    pub(crate) fn audit_claims(&self) -> Result<(), String> {
        for (fragment, claim) in &self.claims {
            let kept = self.enclaves.get(&claim.enclave).is_none_or(|e| e.claimed == Some(*fragment));
            if !kept || self.queue.place(*fragment).is_none() {
                return Err(format!("the claim of {fragment} is of nobody who waits, or the enclave does not know it"));
            }
        }
        let known = |id: &LeaseId, p: &Preemption| self.claims.get(&p.by).is_some_and(|c| c.victims.contains(id));
        let stray = self.leases.iter().find(|(id, l)| l.preempted.as_ref().is_some_and(|p| !known(id, p)));
        if let Some((id, _)) = stray {
            return Err(format!("{id} makes way for nobody"));
        }
        let claimed = self.enclaves.iter().find(|(id, e)| {
            e.claimed.is_some_and(|fragment| self.claims.get(&fragment).is_none_or(|c| c.enclave != **id))
        });
        if let Some((id, _)) = claimed {
            return Err(format!("{id} is kept for nobody"));
        }
        let able: BTreeSet<_> =
            self.leases.iter().filter_map(|(id, lease)| Some((self.may_be_pushed(lease)?, *id))).collect();
        if able == self.pushable { Ok(()) } else { Err("what may be pushed aside is not what is listed".to_owned()) }
    }
}
