//! The search for room that a gang could be booked.

use std::collections::BTreeSet;

use legation_core::{
    Bytes, EnclaveId, MicroUsd, Millicores, Milligpus, TaskId, UnixTime,
    task::{Demand, Fragment},
};

use super::{ENDS_MAX, GangBooking, HORIZON, LATE_MAX, LOOKS_MAX, RECHECKS_MAX};
use crate::{
    account::Book,
    pool::Pool,
    swarm::{Rulings, seat_cost, seating::DETOURS_MAX},
    task::Task,
    wanted::{Refusal, Wanted},
};

/// Why an enclave could not be a member beside others, whatever runs there.
pub(super) enum Unable {
    /// Nor without the others: the check that it does not pass.
    Alone(String),
    /// The others are why.
    Beside,
    /// Rules of placement refuse a fragment there.
    Ruled,
}

/// A search for one gang.
struct Search<'a> {
    task: TaskId,
    seat: Fragment,
    now: UnixTime,
    rulings: &'a mut Rulings,
    /// Those who could have a seat, and what an hour of it costs.
    able: Vec<(EnclaveId, MicroUsd)>,
    /// Those who could, if it were not for others of these.
    beside: BTreeSet<EnclaveId>,
    /// Those who could not.
    unfit: BTreeSet<EnclaveId>,
    /// Leases and fragments that may yet be looked at.
    looks: usize,
    /// How often rules of placement were asked and refused.
    refusals: usize,
}

impl Pool {
    /// The earliest time at which as many enclaves as a gang asks for have room for it, and which these are, by what ends and where.
    /// What is booked now does not count.
    pub(super) fn find_ahead(
        &mut self,
        id: TaskId,
        ends: &[(UnixTime, EnclaveId)],
        rulings: &mut Rulings,
        now: UnixTime,
    ) -> Option<GangBooking> {
        let (task, terms, swarm) = self.swarm(id)?;
        let (members, seat) = (usize::from(terms.members), terms.seat_of(&task.request));
        let unfit = swarm.shunned_at(now);
        if !self.quota_holds(task, &seat.demand, u64::from(terms.members)) {
            return None;
        }
        let free = self.choose_gang(id, members, unfit.clone(), rulings, now);
        if free.len() >= members {
            // It is seated with its next chance.
            return None;
        }
        let able = free.into_iter().map(|c| (c.enclave, c.price_hour)).collect();
        let (looks, refusals, beside) = (LOOKS_MAX, 0, BTreeSet::new());
        let search = &mut Search { task: id, seat, now, rulings, able, beside, unfit, looks, refusals };
        let task = self.tasks.get(&id)?;
        let demand = search.seat.demand;
        let life = self.seat_seconds(&demand).saturating_add(LATE_MAX);
        let mut rechecks = RECHECKS_MAX;
        for (until, enclave) in ends {
            let at = (*until).max(now).plus(1);
            if at > task.request.expires {
                return None;
            }
            let over = (at, at.plus(life));
            self.meet_ahead(search, *enclave, over)?;
            if search.able.len() < members {
                continue;
            }
            // What one of them has now may be reserved by then. Without it others may do.
            let leases = |id: &EnclaveId| self.enclaves.get(id).map_or(0, |enclave| enclave.leases().len());
            let walks = search.able.iter().map(|(id, _)| leases(id).saturating_add(1));
            rechecks = rechecks.checked_sub(walks.fold(0, usize::saturating_add))?;
            let fits = |id: EnclaveId| {
                let enclave = self.enclaves.get(&id);
                enclave.is_some_and(|enclave| self.fits_unbooked((id, enclave), &demand, over))
            };
            search.able.retain(|(id, _)| fits(*id));
            if search.able.len() < members {
                for other in std::mem::take(&mut search.beside) {
                    if search.able.len() < members {
                        self.meet_ahead(search, other, over)?;
                    } else {
                        search.beside.insert(other);
                    }
                }
            }
            if search.able.len() == members {
                let enclaves = search.able.iter().map(|(id, _)| *id).collect();
                let booking = GangBooking { task: id, enclaves, at, until: over.1, demand };
                return self.can_pay(task, &search.able, &demand).then_some(booking);
            }
        }
        None
    }

    /// Notes of an enclave whether it could have a seat in a time; nothing when the search has looked at as much as it may.
    fn meet_ahead(&self, search: &mut Search<'_>, id: EnclaveId, over: (UnixTime, UnixTime)) -> Option<()> {
        let met = search.unfit.contains(&id) || search.beside.contains(&id);
        if met || search.able.iter().any(|(known, _)| *known == id) {
            return Some(());
        }
        let (Some(task), Some(known)) = (self.tasks.get(&search.task), self.enclaves.get(&id)) else {
            return Some(());
        };
        search.looks = search.looks.checked_sub(known.leases().len().saturating_add(1))?;
        if known.claimed().is_some() || !self.fits_unbooked((id, known), &search.seat.demand, over) {
            return Some(());
        }
        let others: Vec<EnclaveId> = search.able.iter().map(|(id, _)| *id).collect();
        let (none, before) = (BTreeSet::new(), search.rulings.asked());
        let wanted = Wanted::seat(self, task, &search.seat, &others, &none, search.now);
        let found = self.could_join(wanted, id, search.rulings);
        let asked = search.rulings.asked().saturating_sub(before);
        search.looks = search.looks.checked_sub(asked)?;
        match found {
            Ok(price_hour) => search.able.push((id, price_hour)),
            Err(Unable::Beside) => {
                search.beside.insert(id);
            }
            Err(Unable::Alone(_)) => {
                search.unfit.insert(id);
            }
            Err(Unable::Ruled) => {
                search.unfit.insert(id);
                // Of those of a kind that is known to be refused there may be many.
                search.refusals = search.refusals.saturating_add(usize::from(asked > 0));
                if search.refusals > DETOURS_MAX {
                    return None;
                }
            }
        }
        Some(())
    }

    /// What an hour of a seat costs on an enclave that could be a member beside others, whatever runs there.
    pub(super) fn could_join<'a>(
        &'a self,
        mut wanted: Wanted<'a>,
        id: EnclaveId,
        rulings: &mut Rulings,
    ) -> Result<MicroUsd, Unable> {
        let (task, now) = (wanted.task, wanted.now);
        let Some(enclave) = self.enclaves.get(&id) else { return Err(Unable::Alone("pool.enclave".to_owned())) };
        let standing = wanted.member(id, enclave).map_err(|why| match why {
            Refusal::Spread(..) => Unable::Beside,
            why => Unable::Alone(why.check().to_owned()),
        })?;
        if self.is_unruled(&task.request) || self.may_run_all(task.id(), id, rulings, now) {
            Ok(standing.price_hour)
        } else {
            Err(Unable::Ruled)
        }
    }

    /// Whether the quota of a task's tenant has room for all of its seats now.
    fn quota_holds(&self, task: &Task, demand: &Demand, members: u64) -> bool {
        let others = members.saturating_sub(1);
        let beside = Book {
            cpu: Millicores(demand.cpu.0.saturating_mul(others)),
            memory: Bytes(demand.memory.0.saturating_mul(others)),
            gpus: Milligpus(demand.gpus.0.saturating_mul(others)),
            leases: others,
            ..Book::default()
        };
        self.quota_beside(&task.request.tenant, &beside, demand).is_none()
    }

    /// Whether the budgets of a task and of its tenant have room for all of these seats now.
    fn can_pay(&self, task: &Task, seats: &[(EnclaveId, MicroUsd)], demand: &Demand) -> bool {
        let costs = seats.iter().map(|(_, price_hour)| seat_cost(*price_hour, demand));
        let all = costs.fold(MicroUsd::ZERO, MicroUsd::saturating_add);
        let left = task.request.budget.saturating_sub(task.spent.saturating_add(task.committed));
        all <= left && self.check_left(&task.request.tenant, all).is_ok()
    }

    /// When what is leased, seated or reserved ends, and where; the first first, as far as is booked ahead.
    pub(super) fn ends_ahead(&self, now: UnixTime) -> Vec<(UnixTime, EnclaveId)> {
        let horizon = now.plus(HORIZON);
        let leases = self.ends.iter().take_while(|(until, _)| *until <= horizon).filter_map(|(until, id)| {
            let lease = self.leases.get(id).filter(|lease| lease.seat.is_none())?;
            Some((*until, lease.enclave))
        });
        let swarms = self.gangs.iter().filter_map(|(_, id)| self.swarm(*id));
        let seats = swarms.flat_map(|(_, _, swarm)| swarm.seats.values().map(|seat| (seat.until, seat.enclave)));
        let reserved = self.seats_at.iter().flat_map(|(enclave, ids)| {
            let live = ids.iter().filter_map(|id| self.reservations.get(id)).filter(|booking| booking.ended.is_none());
            live.map(move |booking| (booking.terms.until, *enclave))
        });
        let beside = seats.chain(reserved).filter(|(until, _)| *until <= horizon);
        let mut ends: Vec<_> = leases.take(ENDS_MAX).chain(beside).collect();
        if ends.len() > ENDS_MAX {
            ends.select_nth_unstable(ENDS_MAX);
            ends.truncate(ENDS_MAX);
        }
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}
