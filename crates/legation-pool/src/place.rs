//! Placement: which enclave gets a fragment, and why not the others.
//!
//! A plain scan behind the interface that an index will take: [`choose`] for the decision, [`survey`] for the reasons. An
//! enclave is eligible when it is here, proven, unrevoked, untried for this fragment, satisfies the requirements and has
//! room within the budget. Among the eligible the order is: least used by this task, cheapest, least loaded, by name.

use std::collections::BTreeMap;

use legation_core::{
    EnclaveId, FragmentIndex, MicroUsd, Rejection, UnixTime,
    requirement::Candidate,
    statement::PassedOver,
    task::{Demand, Fragment},
};

use crate::{
    enclave::{Enclave, Presence},
    pool::Pool,
    task::{Attempt, Task},
};

/// The decision for one fragment.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) enclave: EnclaveId,
    pub(crate) price_hour: MicroUsd,
    pub(crate) considered: u32,
    pub(crate) eligible: u32,
    pub(crate) passed_over: Vec<PassedOver>,
    pub(crate) decided_by: String,
}

/// No enclave for a fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nothing {
    /// Nor for any other fragment with the same requirements and demand: neither its budget nor its past ruled one out.
    pub(crate) for_anyone: bool,
}

/// Why an enclave is passed over, cheap to say while many are looked at; in words by [`Refusal::rejection`].
enum Refusal<'a> {
    Revoked(&'a str),
    Draining,
    Away(UnixTime),
    Passport,
    Tried(&'a Attempt),
    Requirement(Box<Rejection>),
    /// What the task may then have cost, if that is a number at all.
    Budget(Option<MicroUsd>),
    Capacity,
}

/// Order among the eligible: smaller is better.
type Rank = (usize, MicroUsd, u64, EnclaveId);

/// What one lease of `demand` may cost at most.
pub(crate) fn cost_max(price_hour: MicroUsd, demand: &Demand) -> MicroUsd {
    let cost = (u128::from(price_hour.0) * u128::from(demand.time.0)).div_ceil(3_600_000);
    MicroUsd(u64::try_from(cost).unwrap_or(u64::MAX))
}

/// Every enclave with its price, or the reason that rules it out.
pub(crate) fn survey<'a>(
    pool: &'a Pool,
    task: &'a Task,
    index: FragmentIndex,
    now: UnixTime,
) -> impl Iterator<Item = (EnclaveId, &'a Enclave, Result<MicroUsd, Rejection>)> {
    let fragment = task.request.fragment(index);
    pool.enclaves.iter().filter_map(move |(id, enclave)| {
        let fragment = fragment?;
        let verdict = eligible(task, fragment, index, *id, enclave, now);
        Some((*id, enclave, verdict.map_err(|why| why.rejection(task, fragment, *id, enclave))))
    })
}

pub(crate) fn choose(pool: &Pool, task: &Task, index: FragmentIndex, now: UnixTime) -> Result<Choice, Nothing> {
    let mut considered = 0;
    let mut eligible_ones: Vec<Rank> = Vec::new();
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    let mut own_past = false;
    let uses = task.uses(index);
    let fragment = task.request.fragment(index).ok_or(Nothing { for_anyone: false })?;
    for (id, enclave) in &pool.enclaves {
        considered += 1;
        match eligible(task, fragment, index, *id, enclave, now) {
            Ok(price) => {
                let load = enclave.leases.len() as u64 * 1000 / u64::from(enclave.capacity().slots.max(1));
                eligible_ones.push((uses.get(id).copied().unwrap_or(0), price, load, *id));
            }
            Err(why) => {
                own_past |= matches!(why, Refusal::Tried(_) | Refusal::Budget(_));
                match reasons.get_mut(why.check()) {
                    Some(enclaves) => *enclaves += 1,
                    None => drop(reasons.insert(why.check().to_owned(), 1)),
                }
            }
        }
    }
    let Some(best) = eligible_ones.iter().min().copied() else { return Err(Nothing { for_anyone: !own_past }) };
    let mut passed_over: Vec<_> = reasons.into_iter().map(|(check, enclaves)| PassedOver { check, enclaves }).collect();
    passed_over.sort_by(|a, b| b.enclaves.cmp(&a.enclaves).then_with(|| a.check.cmp(&b.check)));
    Ok(Choice {
        enclave: best.3,
        price_hour: best.1,
        considered,
        eligible: u32::try_from(eligible_ones.len()).unwrap_or(u32::MAX),
        passed_over,
        decided_by: decided_by(&eligible_ones, best),
    })
}

/// What made `best` the best, in words.
fn decided_by(eligible: &[Rank], (uses, price, load, _): Rank) -> String {
    let rivals = eligible.len();
    let fresh = eligible.iter().filter(|r| r.0 == uses).count();
    let cheap = eligible.iter().filter(|r| r.0 == uses && r.1 == price).count();
    let lazy = eligible.iter().filter(|r| r.0 == uses && r.1 == price && r.2 == load).count();
    let mut by = match (rivals, cheap, lazy) {
        (1, _, _) => "the only one".to_owned(),
        (_, 1, _) => format!("cheapest of {fresh}"),
        (_, _, 1) => format!("least loaded of the {cheap} cheapest"),
        _ => format!("first by name of {lazy} alike"),
    };
    if fresh < rivals {
        by.push_str(&format!(", {} used less by this task than {} others", fresh, rivals - fresh));
    }
    by
}

fn eligible<'a>(
    task: &'a Task,
    fragment: &Fragment,
    index: FragmentIndex,
    id: EnclaveId,
    enclave: &'a Enclave,
    now: UnixTime,
) -> Result<MicroUsd, Refusal<'a>> {
    if let Some(why) = &enclave.revoked {
        return Err(Refusal::Revoked(why));
    }
    match enclave.presence {
        Presence::Here => {}
        Presence::Draining => return Err(Refusal::Draining),
        Presence::Away { since } => return Err(Refusal::Away(since)),
    }
    let passport = enclave.passport();
    if !passport.valid_at(now) {
        return Err(Refusal::Passport);
    }
    if let Some(attempt) = task.tried(index, id) {
        return Err(Refusal::Tried(attempt));
    }
    let configuration = &passport.configuration;
    let price_hour = configuration.rate.per_hour(fragment.demand.cpu, fragment.demand.memory);
    let candidate = Candidate { claims: &passport.claims, configuration, price_hour };
    for require in [&task.request.require, &fragment.require] {
        require.check(&candidate).map_err(|why| Refusal::Requirement(Box::new(why)))?;
    }
    let cost = cost_with(task, price_hour, &fragment.demand);
    if cost.is_none_or(|cost| cost > task.request.budget) {
        return Err(Refusal::Budget(cost));
    }
    if !enclave.fits(&fragment.demand) {
        return Err(Refusal::Capacity);
    }
    Ok(price_hour)
}

/// What the task may have cost with one lease more.
fn cost_with(task: &Task, price_hour: MicroUsd, demand: &Demand) -> Option<MicroUsd> {
    task.spent.checked_add(task.committed)?.checked_add(cost_max(price_hour, demand))
}

impl Refusal<'_> {
    /// Short form of the check.
    fn check(&self) -> &str {
        match self {
            Self::Revoked(_) => "pool.revoked",
            Self::Draining => "pool.draining",
            Self::Away(_) => "pool.away",
            Self::Passport => "pool.passport",
            Self::Tried(_) => "pool.tried",
            Self::Requirement(why) => &why.check,
            Self::Budget(_) => "pool.budget",
            Self::Capacity => "pool.capacity",
        }
    }

    fn rejection(self, task: &Task, fragment: &Fragment, id: EnclaveId, enclave: &Enclave) -> Rejection {
        let refuse = Rejection::new(self.check(), format!("enclave {}", id.short()));
        match self {
            Self::Revoked(why) => refuse.expected("not revoked").got(why),
            Self::Draining => refuse.expected("taking work").got("draining"),
            Self::Away(since) => refuse.expected("an open channel").got(format!("away since {since}")),
            Self::Passport => refuse
                .expected("a passport that holds now")
                .got(format!("{} to {}", enclave.passport().issued, enclave.passport().expires))
                .fix("its agent must attest again"),
            Self::Tried(attempt) => refuse
                .expected("not tried for this fragment before")
                .got(attempt.ended.as_ref().map(ToString::to_string).unwrap_or_default()),
            Self::Requirement(why) => *why,
            Self::Budget(cost) => refuse
                .expected(format!("within the budget of {}", task.request.budget))
                .got(cost.map_or("more than can be counted".to_owned(), |cost| format!("up to {cost} with this one")))
                .fix("raise the budget or shorten the time limit"),
            Self::Capacity => refuse
                .expected(format!("{}, {} and a slot", fragment.demand.cpu, fragment.demand.memory))
                .got(format!(
                    "{}, {} and {} slots left",
                    enclave.capacity().cpu.saturating_sub(enclave.cpu_leased),
                    enclave.capacity().memory.saturating_sub(enclave.memory_leased),
                    u64::from(enclave.capacity().slots).saturating_sub(enclave.leases.len() as u64)
                ))
                .fix("wait until other work ends, or ask for less"),
        }
    }
}
