//! Why not this enclave: for every fragment of a task, every enclave with the reason that rules it out, or its price.

use legation_core::{
    EnclaveId, FragmentIndex, MicroUsd, ProviderId, Region, Rejection, TaskId, UnixTime, claims::TeeKind,
    statement::Placement,
};
use serde::Serialize;

use crate::{
    place,
    pool::Pool,
    task::{Attempt, Phase, TaskState, unknown},
};

/// The explanation of one fragment.
#[derive(Clone, PartialEq, Debug, Serialize)]
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
    /// Why the last choice was made.
    pub placement: Option<Placement>,
    /// What it waits for beside an enclave, if anything.
    pub missing: Option<Rejection>,
    /// Every enclave, as of now.
    pub enclaves: Vec<WhyNot>,
}

/// One enclave in an explanation.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct WhyNot {
    /// Which.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// Its kind.
    pub tee: TeeKind,
    /// One hour of the fragment there, if it could take it now.
    pub price_hour: Option<MicroUsd>,
    /// Why it could not.
    pub why_not: Option<Rejection>,
}

impl Pool {
    /// Explains a task, fragment by fragment, against the pool as of `now`.
    ///
    /// # Errors
    /// The task is unknown.
    pub fn explain(&self, id: TaskId, now: UnixTime) -> Result<Vec<Explanation>, Rejection> {
        let task = self.tasks.get(&id).ok_or_else(|| unknown(id))?;
        let explain = |(index, fragment): (FragmentIndex, &legation_core::task::Fragment)| {
            let state = task.fragments.get(index.0 as usize)?;
            let lease = match state.phase {
                Phase::Leased { lease } => self.leases.get(&lease),
                _ => None,
            };
            Some(Explanation {
                fragment: index,
                name: fragment.name.clone(),
                require: format!("({}) and ({})", task.request.require, fragment.require),
                phase: state.phase.clone(),
                attempts: state.attempts.clone(),
                placement: state.allocations.last().map(|a| a.why.clone()),
                missing: match (&task.state, lease) {
                    (TaskState::Live, Some(lease)) => self.missing(lease, now),
                    (TaskState::Live, None) if state.phase == Phase::Queued => self.no_allocations(now),
                    _ => None,
                },
                enclaves: place::survey(self, task, index, now)
                    .map(|(id, enclave, verdict)| {
                        let passport = enclave.passport();
                        let (price_hour, why_not) = match verdict {
                            Ok(price) => (Some(price), None),
                            Err(why) => (None, Some(why)),
                        };
                        WhyNot {
                            enclave: id,
                            provider: passport.configuration.provider.clone(),
                            region: passport.configuration.region.clone(),
                            tee: passport.claims.tee.value,
                            price_hour,
                            why_not,
                        }
                    })
                    .collect(),
            })
        };
        Ok(task.request.indexed().filter_map(explain).collect())
    }

    /// Why nothing is placed at all, if so.
    fn no_allocations(&self, now: UnixTime) -> Option<Rejection> {
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
