//! What a request for a swarm would come to, were it submitted now: its seats, which are what it pays for, or that too many
//! swarms wait already.

use std::collections::BTreeSet;

use legation_core::{MicroUsd, Rejection, Signed, TaskId, UnixTime, statement::Request};
use serde::{Deserialize, Serialize};

use super::{Rulings, WAITING_MAX};
use crate::{
    estimate::{Estimate, FragmentEstimate, Outlook, Place, nobody},
    place::Choice,
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
        let (task, chosen) = self.gang_of(request, members, now)?;
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

    /// The enclaves that would have the seats of a request, were it submitted now. The pool is the same afterwards.
    fn gang_of(&mut self, request: &Signed<Request>, members: usize, now: UnixTime) -> Option<(Task, Vec<Choice>)> {
        let id = TaskId::new(request.digest());
        let known = self.accounts.entries().contains_key(&request.tenant);
        self.tasks.insert(id, Task::new(request, None, self.seq));
        let chosen = if self.no_allocations(now).is_none() {
            self.choose_gang(id, members, BTreeSet::new(), &mut Rulings::default(), now)
        } else {
            Vec::new()
        };
        let task = self.tasks.remove(&id)?;
        if !known {
            self.accounts.close(&request.tenant);
        }
        Some((task, chosen))
    }

    /// Every swarm that waits is looked at one by one, so there are few of them; of one tenant, with this, at most half of what
    /// other tenants leave. One that is seated at once does not wait.
    pub(crate) fn check_gangs(&mut self, request: &Signed<Request>, now: UnixTime) -> Result<(), Rejection> {
        let Some(members) = request.swarm.as_ref().map(|terms| usize::from(terms.members)) else { return Ok(()) };
        let gangs = self.gangs.iter().filter_map(|(_, id)| self.swarm(*id));
        let waiting = gangs.filter(|(_, _, swarm)| swarm.seats.is_empty()).map(|(task, ..)| &task.request.tenant);
        let waiting: Vec<bool> = waiting.map(|tenant| *tenant == request.tenant).collect();
        let own = waiting.iter().filter(|own| **own).count();
        let most = WAITING_MAX.saturating_sub(waiting.len().saturating_sub(own)) / 2;
        if own < most || self.gang_of(request, members, now).is_some_and(|(_, chosen)| chosen.len() == members) {
            return Ok(());
        }
        let all = waiting.len();
        Err(Rejection::new("pool.queue", "swarms of the tenant that wait for seats")
            .expected(format!("at most {most} with this one, half of what other tenants leave of {WAITING_MAX}"))
            .got(own.saturating_add(1))
            .fix(format!("try again when one of them has its seats, or has ended; {all} swarms wait now")))
    }
}
