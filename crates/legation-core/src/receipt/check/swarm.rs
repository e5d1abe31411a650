//! Check 5 for swarms: who was seated, who signed, and whether an allocation is within.
//!
//! 1. A seating is an appointed manager's, of a request that asks for a swarm, of as many members as it asks for (of no fewer than
//!    it must have, in a later round), after the seating of the round before.
//! 2. A membership is signed by an enclave of that list whose passport is the one that the list names, satisfies the request and its
//!    fragments at the price of the seat, is of a verifier that is trusted with its tenant's work, held then, and was not revoked;
//!    and it repeats the list.
//! 3. An allocation of such a request names a seat and rests on one membership of every member of its round, in order, all of
//!    one seating, in which its enclave has that seat, and no two on one chip. An allocation of another request names none.

use super::*;
use crate::{
    id::LeaseId,
    swarm::{Membership, Seating, SwarmTerms},
};

fn bad(claim: &str) -> Rejection {
    Rejection::new("receipt.swarm", claim.to_owned())
}

impl Chain<'_> {
    pub(super) fn seating(&self, envelope: &Envelope) -> Result<Signed<Seating>, Rejection> {
        let seating = envelope.open::<Seating>().map_err(unsigned)?;
        let request = self.find_request(seating.task)?;
        let Some(terms) = &request.swarm else {
            return Err(bad("seats of the task").expected("none: its request asks for no swarm"));
        };
        let follows = match seating.prev.as_slice() {
            [first, _] => *first == request.digest() && seating.round == 1,
            [first, _, before] => {
                *first == request.digest()
                    && matches!(self.opened.get(before), Some(Opened::Seating(old))
                        if old.task == seating.task
                            && old.round.checked_add(1) == Some(seating.round)
                            && old.term <= seating.term
                            && old.revocations <= seating.revocations)
            }
            _ => false,
        };
        let all = usize::from(terms.members);
        let few = if seating.round == 1 { all } else { usize::from(terms.least()) };
        if !follows || !seating.is_well_formed() || !(few..=all).contains(&seating.seats.len()) {
            return Err(bad("form of the seating")
                .expected(format!(
                    "{few} to {all} seats ascending by enclave, resting on the request, the manager's appointment and \
                     the seating of the round before"
                ))
                .got(format!("{} seats of round {}", seating.seats.len(), seating.round)));
        }
        self.appointed(seating.prev.get(1), &seating.manager, Office::Manager, seating.at)?;
        Ok(seating)
    }

    pub(super) fn membership(&mut self, envelope: &Envelope) -> Result<Signed<Membership>, Rejection> {
        let membership = envelope.open::<Membership>().map_err(unsigned)?;
        let request = self.find_request(membership.task)?;
        let rests = |at: usize| membership.prev.get(at).and_then(|d| self.opened.get(d));
        let (Some(Opened::Seating(seating)), Some(Opened::Passport(passport)), 3) =
            (rests(1), rests(2), membership.prev.len())
        else {
            return Err(
                bad("what the membership rests on").expected("the request, the seating and the member's passport")
            );
        };
        let enclave = membership.enclave.enclave_id();
        let same = Membership::of(seating, seating.digest(), membership.enclave);
        if membership.prev.first() != Some(&request.digest()) || same.as_ref() != Some(membership.predicate()) {
            return Err(bad("members that the member signed")
                .expected(format!(
                    "the list of round {} of its task, as it was seated, with itself in it",
                    seating.round
                ))
                .got("another"));
        }
        if passport.enclave != membership.enclave {
            return Err(bad("passport of the member").expected(enclave).got(passport.enclave_id()));
        }
        if seating.at < passport.issued.minus(SKEW) || seating.at > passport.expires {
            return Err(bad("dates of the member's passport")
                .expected(format!("to cover {}, when it was seated", seating.at))
                .got(format!("{} to {}", passport.issued, passport.expires)));
        }
        self.trusted_by(&request.tenant, passport)?;
        let price_hour = seating.seat(enclave).map(|s| s.price_hour).unwrap_or_default();
        let price = |terms: &SwarmTerms| passport.configuration.rate.per_hour(terms.seat.cpu, terms.seat.memory);
        let price = request.swarm.as_ref().map(price).unwrap_or_default();
        if price_hour != price {
            return Err(bad("price of the member's seat")
                .expected(format!("{price} per hour, as its passport says"))
                .got(format!("{price_hour} per hour")));
        }
        let candidate = Candidate { passport, price_hour };
        request.require.check(&candidate)?;
        request.fragments.first().map_or(Ok(()), |fragment| fragment.require.check(&candidate))?;
        request.data.check(passport)?;
        if let Some(revocation) = self.revoked.of(passport) {
            let what = format!("the {} behind a member of the swarm", revocation.what);
            if seating.revocations >= revocation.epoch || seating.at >= revocation.at {
                return Err(Rejection::new("receipt.revoked", what)
                    .expected(format!("not revoked at {}, when it was seated", seating.at))
                    .got(format!("revoked at {} (epoch {})", revocation.at, revocation.epoch.0)));
            }
            let warning = format!("{what} was revoked at {}, after it was seated: {}", revocation.at, revocation.why);
            self.warnings.insert(warning);
        }
        Ok(membership)
    }

    /// The memberships that an allocation rests on, if its request asks for a swarm.
    pub(super) fn within_swarm(
        &self,
        request: &Request,
        allocation: &Allocation,
        memberships: &[Digest],
    ) -> Result<(), Rejection> {
        let seat = match (&request.swarm, allocation.seat) {
            (None, None) if memberships.is_empty() => return Ok(()),
            (Some(_), Some(seat)) => seat,
            (asked, _) => {
                return Err(bad("seat of the allocation")
                    .expected(if asked.is_some() { "one: the request asks for a swarm" } else { "none" })
                    .got(if allocation.seat.is_some() { "one" } else { "none" }));
            }
        };
        let opened = memberships.iter().map(|digest| match self.opened.get(digest) {
            Some(Opened::Membership(membership)) => Ok(membership),
            _ => Err(bad("what the allocation rests on").expected("the memberships of its round").got(digest)),
        });
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        let Some(first) = opened.first() else {
            return Err(bad("memberships of the round").expected("one of every member").got("none"));
        };
        let wanted: Vec<EnclaveId> = first.members.iter().map(|m| m.enclave).collect();
        let signed: Vec<EnclaveId> = opened.iter().map(|m| m.enclave.enclave_id()).collect();
        let one_list = opened.iter().all(|m| {
            m.task == allocation.task
                && m.round == seat.round
                && m.members == first.members
                && m.prev.get(1) == first.prev.get(1)
        });
        if !one_list || wanted != signed {
            let show = |list: &[EnclaveId]| list.iter().map(EnclaveId::short).collect::<Vec<_>>().join(" ");
            return Err(bad("memberships of the round")
                .expected(format!("one of every member of round {}, of one list: {}", seat.round, show(&wanted)))
                .got(show(&signed))
                .fix("a member did not sign, or signed another list: the swarm was not formed"));
        }
        let has = |lease: LeaseId| first.members.iter().any(|m| m.enclave == allocation.enclave && m.lease == lease);
        if !has(seat.lease) {
            return Err(bad("enclave of the allocation")
                .expected(format!("the member of round {} with the seat {}", seat.round, seat.lease))
                .got(allocation.enclave));
        }
        let mut chips = BTreeSet::new();
        for membership in &opened {
            let passport = membership.prev.get(2).and_then(|d| self.opened.get(d));
            let apart = matches!(passport, Some(Opened::Passport(p)) if chips.insert(&p.claims.chip.value));
            if !apart {
                return Err(bad("chips of the members")
                    .expected("one each")
                    .got(format!("{} on the chip of another", membership.enclave.enclave_id().short())));
            }
        }
        let seating = first.prev.get(1).and_then(|d| self.opened.get(d));
        let dated = matches!(seating, Some(Opened::Seating(s)) if s.at <= allocation.from.plus(SKEW)
            && s.term <= allocation.term
            && s.seat(allocation.enclave).is_some_and(|s| allocation.until <= s.until));
        if !dated {
            return Err(bad("dates of the allocation")
                .expected("within those of its seat")
                .got(format!("{} to {}", allocation.from, allocation.until)));
        }
        Ok(())
    }
}
