//! Why not this enclave: for every fragment of a task, the classes of enclaves with what rules them out, the ranking of those
//! that could take it, whether anybody known ever could, and what to ask instead to be placed now (`relax.rs`).
//!
//! A class is all enclaves that requirement, policy and price cannot tell apart: proofs of the same kinds. Within one, only
//! what is each enclave's own differs: whether it is here, trusted, untried, and has room.

use std::collections::BTreeMap;

use legation_core::{
    Digest, EnclaveId, FragmentId, FragmentIndex, MicroUsd, ProviderId, Region, Rejection, TaskId, UnixTime,
    claims::TeeKind,
    requirement::Candidate,
    statement::Placement,
    task::{Demand, Fragment},
};
use serde::{Deserialize, Serialize};

use crate::{
    enclave::Enclave,
    loan::LoanView,
    place,
    pool::Pool,
    preempt::{Claim, Preemption},
    rank::{self, Weighed},
    relax::{self, Relaxation},
    swarm::GangBooking,
    task::{Attempt, Phase, Task, TaskState, unknown},
    wanted::{Refusal, Standing, Wanted, cost_max},
};

/// Most classes shown; those that could take the fragment come first.
pub const CLASSES_SHOWN_MAX: usize = 256;
/// Enclaves of a class that are named.
const NAMED_MAX: usize = 3;
/// Most enclaves of a ranking that are shown.
const RANKED_MAX: usize = 10;
/// Fragments of a task for which it is tried out what could be asked instead.
const RELAXED_MAX: usize = 8;

/// The explanation of one fragment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// Which fragment.
    pub fragment: FragmentIndex,
    /// What people call it.
    pub name: String,
    /// What its enclave must satisfy: the task's requirement and its own.
    pub require: String,
    /// How it stands.
    pub phase: Phase,
    /// Its tries so far.
    pub attempts: Vec<Attempt>,
    /// Why each of them was chosen, in their order: as the allocations say.
    pub placements: Vec<Placement>,
    /// What it waits for beside an enclave, if anything.
    pub missing: Option<Rejection>,
    /// For whom it makes way, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted: Option<Preemption>,
    /// The place that is being cleared for it, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// What is booked for the swarm of its task, if anything is: its seats, by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booked: Option<GangBooking>,
    /// The enclaves that are or were lent for it: the last that ended, then those that live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loans: Vec<LoanView>,
    /// Whether anybody could take it now, later, or never as the pool is known. Nothing of what has run.
    pub outlook: Option<Prospect>,
    /// Every class of enclaves as of now: those that could take it first, then by price.
    pub classes: Vec<ClassVerdict>,
    /// Classes that are not shown.
    pub classes_left_out: usize,
    /// Those who could take it now, best first; the first ten.
    pub ranking: Vec<RankedEnclave>,
    /// What could be asked instead to be placed now, the least change first. Tried out, not guessed. Empty unless it waits for
    /// an enclave, or waited in vain.
    pub relaxations: Vec<Relaxation>,
}

/// Whether anybody can take a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Prospect {
    /// Somebody could now.
    Now {
        /// How many enclaves.
        enclaves: u32,
    },
    /// Nobody now; some would satisfy it when they are here, proven and free.
    Later {
        /// How many enclaves.
        enclaves: u32,
    },
    /// Nobody who is known would, even if it were here and empty.
    NobodyKnown,
}

/// A class of enclaves in an explanation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClassVerdict {
    /// Their owner.
    pub provider: ProviderId,
    /// Their place.
    pub region: Region,
    /// Their kind.
    pub tee: TeeKind,
    /// One hour of the fragment there.
    pub price_hour: MicroUsd,
    /// How many there are.
    pub enclaves: u32,
    /// How many could take it now.
    pub free: u32,
    /// What rules out the others, the most frequent first.
    pub why_not: Vec<WhyNot>,
    /// Names of some, those that could take it first.
    pub some: Vec<EnclaveId>,
}

/// What rules out enclaves of a class.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WhyNot {
    /// How many.
    pub enclaves: u32,
    /// The reason, in the case of the first of them.
    pub why: Rejection,
}

/// An enclave that could take a fragment, and how it compares.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RankedEnclave {
    /// Which.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// One hour of the fragment there.
    pub price_hour: MicroUsd,
    /// Its effective price, in billionths of a millionth of a dollar: smaller is better.
    pub effective: u64,
    /// What makes it dearer than its price, in words, such as `distance +8.0 %`.
    pub parts: String,
}

impl Pool {
    /// Explains a task, fragment by fragment, against the pool as of `now`.
    ///
    /// # Errors
    /// The task is unknown.
    pub fn explain(&self, id: TaskId, now: UnixTime) -> Result<Vec<Explanation>, Rejection> {
        let task = self.tasks.get(&id).ok_or_else(|| unknown(id))?;
        let mut searches = RELAXED_MAX;
        let mut all = Vec::new();
        for (index, fragment) in task.request.indexed() {
            let Some(state) = task.fragments.get(index.0 as usize) else { continue };
            let lease = match state.phase {
                Phase::Leased { lease } => self.leases.get(&lease),
                _ => None,
            };
            let live = task.state == TaskState::Live;
            // Of a task that ended without it, too: whoever asks then wants to know what to ask for next.
            let waits = state.phase == Phase::Queued;
            let missing = match lease {
                Some(lease) if live => self.missing(lease, now),
                None if live && waits => self.no_allocations(now),
                _ => None,
            };
            let field = Field::of(self, task, index, fragment, now);
            let outlook = field.outlook();
            let search = waits && missing.is_none() && searches > 0 && !matches!(outlook, Prospect::Now { .. });
            searches -= usize::from(search);
            let (classes, classes_left_out) = field.classes();
            all.push(Explanation {
                fragment: index,
                name: fragment.name.clone(),
                require: format!("({}) and ({})", task.request.require, fragment.require),
                phase: state.phase.clone(),
                attempts: state.attempts.clone(),
                placements: state.allocations.iter().map(|a| a.why.clone()).collect(),
                missing,
                preempted: lease.and_then(|l| l.preempted.clone()),
                claim: self.claim(FragmentId { task: id, index }).cloned(),
                booked: self.booked_for(id).cloned(),
                loans: LoanView::all(task).into_iter().filter(|loan| loan.fragment == index).collect(),
                outlook: (state.phase != Phase::Done).then_some(outlook),
                classes,
                classes_left_out,
                ranking: ranking(self, field.eligible),
                relaxations: if search { relax::relaxations(self, task, index, now) } else { Vec::new() },
            });
        }
        Ok(all)
    }

    /// Why nothing is placed at all, if so.
    pub(crate) fn no_allocations(&self, now: UnixTime) -> Option<Rejection> {
        let refusal = || {
            let until = self.manager.as_ref().map_or("no manager".to_owned(), |m| format!("until {}", m.not_after));
            Rejection::new("pool.term", "appointment of the manager")
                .expected(format!("to cover {now}"))
                .got(until)
                .fix("have the operator's root appoint the manager anew")
        };
        (!self.may_allocate(now)).then(refusal)
    }
}

/// All enclaves, seen by one fragment.
#[derive(Default)]
struct Field {
    classes: BTreeMap<(ProviderId, Region, TeeKind, Vec<Digest>), Class>,
    eligible: Vec<(EnclaveId, Standing)>,
    /// How many would satisfy it if they were here, proven and empty.
    ever: u32,
}

struct Class {
    verdict: ClassVerdict,
    reasons: BTreeMap<String, WhyNot>,
    /// Whether requirement, policies, budget and size would let it take the fragment.
    satisfies: bool,
}

impl Field {
    fn of(pool: &Pool, task: &Task, index: FragmentIndex, fragment: &Fragment, now: UnixTime) -> Self {
        let mut field = Self::default();
        let Some(mut wanted) = Wanted::new(pool, task, index, now) else { return field };
        for (id, enclave, verdict) in place::survey(pool, task, index, now) {
            let passport = enclave.typical();
            let configuration = &passport.configuration;
            let (provider, region, tee) = (&configuration.provider, &configuration.region, passport.claims.tee.value);
            let kinds = enclave.proofs.current().iter().map(|c| c.kind.digest()).collect();
            let class = field.classes.entry((provider.clone(), region.clone(), tee, kinds)).or_insert_with(|| Class {
                verdict: ClassVerdict {
                    provider: provider.clone(),
                    region: region.clone(),
                    tee,
                    price_hour: enclave.rate().per_hour(fragment.demand.cpu, fragment.demand.memory),
                    enclaves: 0,
                    free: 0,
                    why_not: Vec::new(),
                    some: Vec::new(),
                },
                reasons: BTreeMap::new(),
                satisfies: satisfies(pool, task, fragment, enclave, now),
            });
            let shown = &mut class.verdict;
            shown.enclaves = shown.enclaves.saturating_add(1);
            let apart =
                |verdict: Result<u32, Refusal<'_>>| matches!(verdict, Err(Refusal::Spread(..) | Refusal::Tried(_)));
            let barred = apart(wanted.kind_within(passport, enclave.rate())) || apart(wanted.enclave_within(id));
            if class.satisfies && enclave.revoked().is_none() && !barred {
                field.ever = field.ever.saturating_add(1);
            }
            match verdict {
                Ok(standing) => {
                    shown.some.insert((shown.free as usize).min(shown.some.len()), id);
                    shown.free = shown.free.saturating_add(1);
                    field.eligible.push((id, standing));
                }
                Err(why) => {
                    shown.some.push(id);
                    let reason = class.reasons.entry(why.check.clone()).or_insert(WhyNot { enclaves: 0, why });
                    reason.enclaves = reason.enclaves.saturating_add(1);
                }
            }
            shown.some.truncate(NAMED_MAX);
        }
        field
    }

    fn outlook(&self) -> Prospect {
        match (u32::try_from(self.eligible.len()).unwrap_or(u32::MAX), self.ever) {
            (0, 0) => Prospect::NobodyKnown,
            (0, enclaves) => Prospect::Later { enclaves },
            (enclaves, _) => Prospect::Now { enclaves },
        }
    }

    /// The classes as they are shown, and how many are not.
    fn classes(&self) -> (Vec<ClassVerdict>, usize) {
        let shown = |class: &Class| {
            let mut why_not: Vec<_> = class.reasons.values().cloned().collect();
            why_not.sort_by(|a, b| b.enclaves.cmp(&a.enclaves).then_with(|| a.why.check.cmp(&b.why.check)));
            ClassVerdict { why_not, ..class.verdict.clone() }
        };
        let mut all: Vec<_> = self.classes.values().map(shown).collect();
        all.sort_by_key(|c| (c.free == 0, c.price_hour));
        let left_out = all.len().saturating_sub(CLASSES_SHOWN_MAX);
        all.truncate(CLASSES_SHOWN_MAX);
        (all, left_out)
    }
}

/// Whether enclaves like this one would take the fragment if they were here, proven and empty.
fn satisfies(pool: &Pool, task: &Task, fragment: &Fragment, enclave: &Enclave, now: UnixTime) -> bool {
    let Demand { cpu, memory, gpus, .. } = fragment.demand;
    let (all, price_hour) = (enclave.capacity(), enclave.rate().per_hour(cpu, memory));
    let fits = cpu <= all.cpu && memory <= all.memory && all.slots > 0 && gpus.0 <= enclave.total().gpus;
    let cost = task.spent.checked_add(cost_max(price_hour, &fragment.demand));
    let meets = |passport| {
        let candidate = Candidate { passport, price_hour };
        task.request.require.check(&candidate).is_ok() && fragment.require.check(&candidate).is_ok()
    };
    let prefer = &task.request.prefer;
    let ms = prefer.near.as_ref().and_then(|near| pool.distances.ms(near, rank::region(enclave.typical())));
    let near = rank::distance(prefer, &Weighed::new(prefer.weights), ms).is_some();
    let proofs = enclave.proofs.current();
    let proven = proofs.iter().any(|c| {
        c.appointment().covers_tenant(&task.request.tenant)
            && pool.policy_refuses(&task.request.tenant, &c.kind, now).is_none()
            && meets(c.typical())
    });
    fits && near
        && cost.is_some_and(|cost| cost <= task.request.budget)
        && (proven || proofs.is_empty() && meets(enclave.typical()))
}

/// Those who could take a fragment, best first, with what makes their rank.
fn ranking(pool: &Pool, mut eligible: Vec<(EnclaveId, Standing)>) -> Vec<RankedEnclave> {
    eligible.sort_by_key(|(id, standing)| (standing.effective, *id));
    let ranked = |(id, standing): (EnclaveId, Standing)| {
        let configuration = &pool.enclaves.get(&id)?.typical().configuration;
        Some(RankedEnclave {
            enclave: id,
            provider: configuration.provider.clone(),
            region: configuration.region.clone(),
            price_hour: standing.price_hour,
            effective: standing.effective,
            parts: standing.parts.words(),
        })
    };
    eligible.into_iter().take(RANKED_MAX).filter_map(ranked).collect()
}
