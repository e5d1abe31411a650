//! Swarms as people see them.

use legation_core::{EnclaveId, FragmentIndex, LeaseId, MicroUsd, ProviderId, Region, TaskId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::{
    event::LeaseEnd,
    pool::Pool,
    task::{Attempt, Task, TaskState},
};

/// How a swarm stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwarmStage {
    /// It waits for seats.
    Waiting,
    /// It has seats, and no round of it is formed.
    Forming,
    /// It works.
    Formed,
    /// Its task has ended: everything was given back.
    Dissolved,
}

/// A swarm as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SwarmView {
    /// How it stands.
    pub stage: SwarmStage,
    /// Members it asks for.
    pub members: u16,
    /// Members it must have.
    pub least: u16,
    /// When fragments are repeated, in percent of the median; never without it.
    pub speculate: Option<u16>,
    /// The round whose members work, if one is formed.
    pub round: Option<u32>,
    /// The last round that was seated.
    pub last_round: u32,
    /// The seats it holds.
    pub seats: Vec<SeatView>,
    /// Seats that ended.
    pub gone: Vec<Attempt>,
    /// What seats that ended cost.
    pub charged: MicroUsd,
    /// Fragments that were or are given to two members at once.
    pub repeated: u32,
    /// When it has its seats at the latest, if room is booked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booked: Option<UnixTime>,
}

/// A seat as people see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeatView {
    /// The promise.
    pub lease: LeaseId,
    /// By whom.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// One hour of it.
    pub price_hour: MicroUsd,
    /// Why this one.
    pub decided_by: String,
    /// Until when, at the latest.
    pub until: UnixTime,
    /// Whether it joined the last round.
    pub joined: bool,
    /// The fragment it works on.
    pub works_on: Option<FragmentIndex>,
    /// Whether another member works on that as well.
    pub repeats: bool,
}

impl SwarmView {
    pub(crate) fn of(pool: &Pool, task: &Task) -> Option<Self> {
        let (terms, swarm) = (task.request.swarm.as_ref()?, task.swarm.as_ref()?);
        let last = swarm.rounds.last();
        let seats = swarm.seats.iter().filter_map(|(lease, seat)| {
            let said = last?.seating.seat(seat.enclave)?;
            let works_on = seat.work.and_then(|work| pool.leases.get(&work)).map(|l| l.fragment.index);
            let state = works_on.and_then(|index| task.fragments.get(usize::try_from(index.0).ok()?));
            Some(SeatView {
                lease: *lease,
                enclave: seat.enclave,
                provider: said.provider.clone(),
                region: said.region.clone(),
                price_hour: seat.price_hour,
                decided_by: said.why.decided_by.clone(),
                until: seat.until,
                joined: last.is_some_and(|round| round.has_joined(seat.enclave)),
                works_on,
                repeats: state.is_some_and(|s| s.copy.is_some()),
            })
        });
        let stage = match (&task.state, swarm.seats.is_empty(), swarm.formed()) {
            (TaskState::Live, true, _) => SwarmStage::Waiting,
            (TaskState::Live, false, None) => SwarmStage::Forming,
            (TaskState::Live, false, Some(_)) => SwarmStage::Formed,
            _ => SwarmStage::Dissolved,
        };
        let repeated = task.fragments.iter().filter(|f| {
            let raced = |end: &LeaseEnd| matches!(end, LeaseEnd::Superseded | LeaseEnd::FailedCopy { .. });
            f.copy.is_some() || f.attempts.iter().any(|a| a.ended.as_ref().is_some_and(raced))
        });
        Some(Self {
            stage,
            members: terms.members,
            least: terms.least(),
            speculate: terms.speculate,
            round: swarm.formed().map(|r| r.seating.round),
            last_round: last.map_or(0, |r| r.seating.round),
            seats: seats.collect(),
            gone: swarm.gone.clone(),
            charged: swarm.charged,
            repeated: u32::try_from(repeated.count()).unwrap_or(u32::MAX),
            booked: pool.booked_for(task.id()).map(|booking| booking.at),
        })
    }
}

impl Pool {
    /// The swarm of a task, if it asks for one.
    pub fn swarm_view(&self, task: TaskId) -> Option<SwarmView> {
        SwarmView::of(self, self.tasks.get(&task)?)
    }
}
