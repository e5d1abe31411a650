//! What a request for a swarm would come to, were it submitted now: its seats, which are what it pays for.

use legation_core::{MicroUsd, Signed, TaskId, UnixTime, statement::Request};
use serde::{Deserialize, Serialize};

use crate::{
    estimate::{Estimate, FragmentEstimate, Outlook, Place, nobody},
    pool::Pool,
    task::Task,
};

/// The seats that a swarm would be given.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SwarmEstimate {
    /// Seats that it asks for.
    pub members: u16,
    /// Those that could be given now, each for as long as a seat may last; all of them, or the swarm waits.
    pub seats: Vec<Place>,
}

impl Pool {
    /// The estimate of a request that asks for a swarm, after it was found that it may be submitted. Which member gets which
    /// fragment, and for how much of their time seats last, nobody knows beforehand: what is said to be expected is the most.
    pub(crate) fn estimate_swarm(&mut self, request: &Signed<Request>, now: UnixTime) -> Option<Estimate> {
        let terms = request.swarm.as_ref()?;
        let (id, members) = (TaskId::new(request.digest()), usize::from(terms.members));
        let seat = terms.seat_of(request);
        let known = self.accounts.entries().contains_key(&request.tenant);
        self.tasks.insert(id, Task::new(request, None, self.seq));
        let chosen = if self.no_allocations(now).is_none() { self.choose_gang(id, members, now) } else { Vec::new() };
        let task = self.tasks.remove(&id)?;
        if !known {
            self.accounts.close(&request.tenant);
        }
        let seats: Vec<_> = chosen.iter().filter_map(|choice| self.place_of(&task, &seat, choice, now)).collect();
        let seated = seats.len() == members;
        let fragments = request.indexed().map(|(index, fragment)| FragmentEstimate {
            fragment: index,
            name: fragment.name.clone(),
            outlook: match seated {
                true => Outlook::InSwarm { behind: fragment.upstream().collect() },
                false => self.queued(&task, index, (nobody(), &[]), now),
            },
        });
        let cost_max: MicroUsd = if seated { seats.iter().map(|p| p.cost_max).sum() } else { MicroUsd::ZERO };
        Some(Estimate {
            task: id,
            as_of: self.seq,
            fragments: fragments.collect(),
            cost_max,
            cost_expected: cost_max,
            budget: request.budget,
            account: self.account(&request.tenant),
            swarm: Some(SwarmEstimate { members: terms.members, seats }),
        })
    }
}
