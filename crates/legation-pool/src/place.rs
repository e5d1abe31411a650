//! Placement: which enclave gets a fragment, and why not the others.
//!
//! A plain scan behind the interface that an index will take: [`choose`] for the decision, [`survey`] for the reasons. An
//! enclave is eligible when it is here, proven by a verifier that is trusted with the tenant's work, neither revoked nor
//! cordoned, untried for this fragment, satisfies the requirements by that proof and has room within the budget. Among the eligible the order is: least used by this task, cheapest, least loaded, by name.

use std::{collections::BTreeMap, rc::Rc};

use legation_core::{
    Digest, EnclaveId, FragmentIndex, MicroUsd, Rejection, Revocable, Revocation, UnixTime,
    claims::Rate,
    requirement::Candidate,
    statement::PassedOver,
    task::{Demand, Fragment},
};

use crate::{
    enclave::{Enclave, Presence},
    pool::Pool,
    proofs::Current,
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
    Revoked(&'a Revocation),
    Cordoned(&'a Rejection),
    Draining,
    Away(UnixTime),
    Passport,
    Verifier,
    Tried(&'a Attempt),
    Requirement(Rc<Rejection>),
    /// What the task may then have cost, if that is a number at all.
    Budget(Option<MicroUsd>),
    Capacity,
}

/// Source of the requirement that every enclave satisfies.
const ANY: &str = "any";

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
        let verdict = eligible(&mut Terms::new(pool, task, fragment), index, *id, enclave, now);
        Some((*id, enclave, verdict.map_err(|why| why.rejection(task, fragment, *id, enclave))))
    })
}

pub(crate) fn choose(pool: &Pool, task: &Task, index: FragmentIndex, now: UnixTime) -> Result<Choice, Nothing> {
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    let (mut considered, mut own_past) = (0, false);
    let mut field = Field::default();
    let uses = task.uses(index);
    let fragment = task.request.fragment(index).ok_or(Nothing { for_anyone: false })?;
    let mut terms = Terms::new(pool, task, fragment);
    for (id, enclave) in &pool.enclaves {
        considered += 1;
        match eligible(&mut terms, index, *id, enclave, now) {
            Ok(price) => {
                let load = enclave.leases.len() as u64 * 1000 / u64::from(enclave.capacity().slots.max(1));
                field.enter((uses.get(id).copied().unwrap_or(0), price, load, *id));
            }
            Err(why) => {
                own_past |= why.is_own();
                match reasons.get_mut(why.check()) {
                    Some(enclaves) => *enclaves += 1,
                    None => drop(reasons.insert(why.check().to_owned(), 1)),
                }
            }
        }
    }
    let Some(best) = field.best else { return Err(Nothing { for_anyone: !own_past }) };
    let mut passed_over: Vec<_> = reasons.into_iter().map(|(check, enclaves)| PassedOver { check, enclaves }).collect();
    passed_over.sort_by(|a, b| b.enclaves.cmp(&a.enclaves).then_with(|| a.check.cmp(&b.check)));
    Ok(Choice {
        enclave: best.3,
        price_hour: best.1,
        considered,
        eligible: field.rivals,
        passed_over,
        decided_by: field.decided_by(),
    })
}

/// Whether any of `enclaves` could take a fragment.
pub(crate) fn any_eligible<'a>(
    pool: &Pool,
    task: &Task,
    index: FragmentIndex,
    enclaves: impl Iterator<Item = (EnclaveId, &'a Enclave)>,
    now: UnixTime,
) -> Result<(), Nothing> {
    let fragment = task.request.fragment(index).ok_or(Nothing { for_anyone: false })?;
    let mut terms = Terms::new(pool, task, fragment);
    let mut own_past = false;
    for (id, enclave) in enclaves {
        match eligible(&mut terms, index, id, enclave, now) {
            Ok(_) => return Ok(()),
            Err(why) => own_past |= why.is_own(),
        }
    }
    Err(Nothing { for_anyone: !own_past })
}

/// Those who could take a fragment: the best, and how many are like it.
#[derive(Default)]
struct Field {
    best: Option<Rank>,
    rivals: u32,
    /// Used as little by the task as the best.
    fresh: u32,
    /// And as cheap.
    cheap: u32,
    /// And as little loaded.
    lazy: u32,
}

impl Field {
    fn enter(&mut self, new: Rank) {
        self.rivals = self.rivals.saturating_add(1);
        let equal = self.best.map_or(0, |best| match (new.0 == best.0, new.1 == best.1, new.2 == best.2) {
            (false, _, _) => 0,
            (true, false, _) => 1,
            (true, true, false) => 2,
            (true, true, true) => 3,
        });
        let better = self.best.is_none_or(|best| new < best);
        let counts = [&mut self.fresh, &mut self.cheap, &mut self.lazy];
        for (place, count) in counts.into_iter().enumerate() {
            // Behind the first difference, whoever wins stands alone.
            match (place < equal, better) {
                (true, _) => *count = count.saturating_add(1),
                (false, true) => *count = 1,
                (false, false) => {}
            }
        }
        if better {
            self.best = Some(new);
        }
    }

    /// What made the best the best, in words.
    fn decided_by(&self) -> String {
        let Self { rivals, fresh, cheap, lazy, .. } = self;
        let mut by = match (rivals, cheap, lazy) {
            (1, _, _) => "the only one".to_owned(),
            (_, 1, _) => format!("cheapest of {fresh}"),
            (_, _, 1) => format!("least loaded of the {cheap} cheapest"),
            _ => format!("first by name of {lazy} alike"),
        };
        if fresh < rivals {
            by.push_str(&format!(", {fresh} used less by this task than {} others", rivals - fresh));
        }
        by
    }
}

/// What one fragment costs and whether its requirements are satisfied, remembered while many enclaves are looked at: prices
/// are divisions of 128-bit numbers, requirements compare texts, and many enclaves are alike.
struct Terms<'a> {
    pool: &'a Pool,
    task: &'a Task,
    fragment: &'a Fragment,
    last: Option<(Rate, MicroUsd, MicroUsd)>,
    unmet: BTreeMap<Digest, Option<Rc<Rejection>>>,
}

impl<'a> Terms<'a> {
    fn new(pool: &'a Pool, task: &'a Task, fragment: &'a Fragment) -> Self {
        Self { pool, task, fragment, last: None, unmet: BTreeMap::new() }
    }

    /// Price of an hour, and what a lease may cost at most.
    fn price(&mut self, rate: Rate) -> (MicroUsd, MicroUsd) {
        if let Some((known, price_hour, cost)) = self.last
            && known == rate
        {
            return (price_hour, cost);
        }
        let demand = &self.fragment.demand;
        let price_hour = rate.per_hour(demand.cpu, demand.memory);
        let cost = cost_max(price_hour, demand);
        self.last = Some((rate, price_hour, cost));
        (price_hour, cost)
    }

    /// What an enclave with this proof does not satisfy.
    fn unmet(&mut self, proof: &Current, price_hour: MicroUsd, now: UnixTime) -> Option<Rc<Rejection>> {
        let requirements = [&self.task.request.require, &self.fragment.require];
        if self.pool.is_without_policies() && requirements.iter().all(|r| r.source() == ANY) {
            return None;
        }
        let judge = || {
            if let Some(why) = self.pool.policy_refuses(&self.task.request.tenant, proof, now) {
                return Some(Rc::new(why));
            }
            let candidate = Candidate { passport: &proof.proof.passport, price_hour };
            requirements.iter().find_map(|r| r.check(&candidate).err()).map(Rc::new)
        };
        self.unmet.entry(proof.kind).or_insert_with(judge).clone()
    }
}

fn eligible<'a>(
    terms: &mut Terms<'a>,
    index: FragmentIndex,
    id: EnclaveId,
    enclave: &'a Enclave,
    now: UnixTime,
) -> Result<MicroUsd, Refusal<'a>> {
    if let Some(revocation) = &enclave.revoked {
        return Err(Refusal::Revoked(revocation));
    }
    match enclave.presence {
        Presence::Here => {}
        Presence::Draining => return Err(Refusal::Draining),
        Presence::Away { since } => return Err(Refusal::Away(since)),
    }
    if let Some(cordon) = &enclave.cordon {
        return Err(Refusal::Cordoned(&cordon.why));
    }
    if !enclave.proofs.hold_at(now) {
        return Err(Refusal::Passport);
    }
    let task = terms.task;
    if enclave.proofs.for_tenant(&task.request.tenant, now).next().is_none() {
        return Err(Refusal::Verifier);
    }
    if let Some(attempt) = task.tried(index, id) {
        return Err(Refusal::Tried(attempt));
    }
    let (price_hour, cost) = terms.price(enclave.rate());
    // The freshest proof that satisfies; if none does, what the freshest does not.
    let mut unmet = None;
    for proof in enclave.proofs.for_tenant(&task.request.tenant, now) {
        let Some(why) = terms.unmet(proof, price_hour, now) else {
            unmet = None;
            break;
        };
        unmet.get_or_insert(why);
    }
    if let Some(why) = unmet {
        return Err(Refusal::Requirement(why));
    }
    let cost = task.spent.checked_add(task.committed).and_then(|so_far| so_far.checked_add(cost));
    if cost.is_none_or(|cost| cost > task.request.budget) {
        return Err(Refusal::Budget(cost));
    }
    if !enclave.fits(&terms.fragment.demand) {
        return Err(Refusal::Capacity);
    }
    Ok(price_hour)
}

impl Refusal<'_> {
    /// Whether it is about this fragment's past or its task's budget: it says nothing about others.
    fn is_own(&self) -> bool {
        matches!(self, Self::Tried(_) | Self::Budget(_))
    }

    /// Short form of the check.
    fn check(&self) -> &str {
        match self {
            Self::Revoked(_) => "pool.revoked",
            Self::Cordoned(why) => &why.check,
            Self::Draining => "pool.draining",
            Self::Away(_) => "pool.away",
            Self::Passport => "pool.passport",
            Self::Verifier => "place.verifier",
            Self::Tried(_) => "pool.tried",
            Self::Requirement(why) => &why.check,
            Self::Budget(_) => "pool.budget",
            Self::Capacity => "pool.capacity",
        }
    }

    fn rejection(self, task: &Task, fragment: &Fragment, id: EnclaveId, enclave: &Enclave) -> Rejection {
        let refuse = Rejection::new(self.check(), format!("enclave {}", id.short()));
        match self {
            Self::Revoked(revocation) => refuse.expected("not revoked").got(match &revocation.what {
                Revocable::Enclave(_) => revocation.why.clone(),
                what => format!("the {what} is: {}", revocation.why),
            }),
            Self::Cordoned(why) => why.clone(),
            Self::Draining => refuse.expected("taking work").got("draining"),
            Self::Away(since) => refuse.expected("an open channel").got(format!("away since {since}")),
            Self::Passport => refuse
                .expected("a passport that holds now")
                .got(format!("{} to {}", enclave.passport().issued, enclave.passport().expires))
                .fix("its agent must attest again"),
            Self::Verifier => {
                let verifiers: Vec<_> = enclave.proofs().map(|p| p.passport.verifier_id().short()).collect();
                refuse
                    .expected(format!(
                        "a passport of a verifier that is trusted with the work of {}",
                        task.request.tenant
                    ))
                    .got(format!("passports of {}", verifiers.join(", ")))
                    .fix("have a verifier judge it that is appointed for this tenant")
            }
            Self::Tried(attempt) => refuse
                .expected("not tried for this fragment before")
                .got(attempt.ended.as_ref().map(ToString::to_string).unwrap_or_default()),
            Self::Requirement(why) => Rc::unwrap_or_clone(why),
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
