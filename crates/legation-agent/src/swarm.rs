//! Whether to join a round of a swarm: pure judgement, by each member for itself, over all the others.
//!
//! Signatures were checked when the statements were read. In this order:
//! 1. the manager is appointed by an operator that this agent obeys, and the appointment holds now (`offer.operator`,
//!    `offer.office`, `offer.dates`); its term is not older than one obeyed before (`offer.term`);
//! 2. the request is well formed, not over, and asks for a swarm; the seating is that manager's, rests on this request and this
//!    appointment, has as many seats as are asked for (in a later round as many as must be, at least), and this enclave among them
//!    (`swarm.request`, `swarm.seating`);
//! 3. there is a passport for each seat, the one it names, of its enclave; it holds now, and is of a verifier that an obeyed
//!    operator appointed and that is trusted with the tenant's work (`swarm.passport`, `swarm.verifier`);
//! 4. it rests on nothing that is revoked as far as this agent knows, and satisfies what the task and its fragments require and what
//!    the task says of its data (`revocation`, `require.*`, `data.*`);
//! 5. no two members are on one chip (`swarm.chip`).
//!
//! The evidence behind the passports is not judged again here: that is the passport model (RFC 9334, section 5.1). Receipts carry
//! it for whoever trusts no verifier.

use std::collections::BTreeSet;

use legation_core::{
    Millis, PublicKey, Rejection, Revoked, TaskId, Term, UnixTime,
    requirement::Candidate,
    statement::{Office, Request, Tier},
    swarm::{Membership, Seat},
};
use legation_net::message::{Enlist, Peer};

use crate::offer::{SKEW, appointed};

/// What an agent knows of itself when it judges a round.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Its identity key.
    pub identity: PublicKey,
    /// Roots it obeys.
    pub operators: &'a [PublicKey],
    /// What is revoked, as far as it knows.
    pub revoked: &'a Revoked,
    /// Highest term it obeyed.
    pub obeyed: Term,
    /// Now.
    pub now: UnixTime,
}

fn bad(check: &str, claim: impl Into<String>) -> Rejection {
    Rejection::new(check, claim)
}

/// Judges a round of a swarm: what this enclave signs, if it joins.
///
/// # Errors
/// The first check that refuses.
pub fn judge(enlist: &Enlist, standing: &Standing<'_>) -> Result<Membership, Rejection> {
    let now = standing.now;
    appointed(&enlist.appointment, Office::Manager, standing.operators, now)
        .map_err(|why| Rejection { claim: format!("{} of the manager", why.claim), ..why })?;
    if enlist.term < standing.obeyed || enlist.seating.term > enlist.term {
        return Err(bad("offer.term", "term of the manager that seats")
            .expected(format!("at least {}, obeyed before", standing.obeyed.0))
            .got(format!("{}, of a seating of term {}", enlist.term.0, enlist.seating.term.0))
            .fix("another manager leads by now: this one must stop"));
    }
    let membership = seated(enlist, standing)?;
    if enlist.members.len() != enlist.seating.seats.len() {
        return Err(bad("swarm.passport", "passports of the members")
            .expected(enlist.seating.seats.len())
            .got(enlist.members.len()));
    }
    let mut chips = BTreeSet::new();
    for (seat, peer) in enlist.seating.seats.iter().zip(&enlist.members) {
        member(seat, peer, &enlist.request, standing).map_err(|why| Rejection {
            claim: format!("{} of member {}", why.claim, seat.member.enclave.short()),
            ..why
        })?;
        if !chips.insert(&peer.passport.claims.chip.value) {
            return Err(bad("swarm.chip", "chips of the members").expected("one each").got("two members on one chip"));
        }
    }
    Ok(membership)
}

/// Check 2.
fn seated(enlist: &Enlist, standing: &Standing<'_>) -> Result<Membership, Rejection> {
    let (request, seating, now) = (&enlist.request, &enlist.seating, standing.now);
    request.validate()?;
    let asked = request.swarm.as_ref().filter(|_| request.created <= now.plus(SKEW) && now <= request.expires);
    let Some(terms) = asked else {
        return Err(bad("swarm.request", "request of the swarm")
            .expected(format!("one that asks for a swarm, whose dates cover {now}"))
            .got(format!("{} to {}", request.created, request.expires)));
    };
    let rests = [request.digest(), enlist.appointment.digest()];
    let all = usize::from(terms.members);
    let few = if seating.round == 1 { all } else { usize::from(terms.least()) };
    let fits = seating.manager == enlist.appointment.key
        && seating.task == TaskId::new(request.digest())
        && seating.prev.get(..2) == Some(&rests[..])
        && seating.prev.len() <= 3
        && seating.is_well_formed()
        && (few..=all).contains(&seating.seats.len())
        && seating.at <= now.plus(SKEW);
    let own = Membership::of(seating, seating.digest(), standing.identity).filter(|_| fits);
    own.ok_or_else(|| {
        bad("swarm.seating", "the seating")
            .expected(format!(
                "of the appointed manager, resting on the request and its appointment, of {few} to {all} seats, with this \
                 enclave in it"
            ))
            .got(format!("{} seats of round {}", seating.seats.len(), seating.round))
    })
}

/// Checks 3 and 4, of one member.
fn member(seat: &Seat, peer: &Peer, request: &Request, standing: &Standing<'_>) -> Result<(), Rejection> {
    let (passport, now) = (&peer.passport, standing.now);
    let named = passport.digest() == seat.member.passport && passport.enclave_id() == seat.member.enclave;
    let holds = passport.issued <= now.plus(SKEW) && now <= passport.expires && seat.until > now;
    if !named || !holds || passport.ear.status == Tier::Contraindicated {
        return Err(bad("swarm.passport", "the passport")
            .expected(format!("the one that is seated, holding at {now}, affirming"))
            .got(format!("{}, {} to {}", passport.enclave_id().short(), passport.issued, passport.expires)));
    }
    let rests = passport.prev.as_slice() == [peer.appointment.digest()] && peer.appointment.key == passport.verifier;
    if !rests
        || !peer.appointment.covers_tenant(&request.tenant)
        || !peer.appointment.covers_kind(passport.claims.tee.value)
    {
        return Err(bad("swarm.verifier", "verifier of the passport")
            .expected(format!("one that is appointed for such machines and the work of {}", request.tenant))
            .got(passport.verifier_id().short()));
    }
    appointed(&peer.appointment, Office::Verifier, standing.operators, passport.issued)?;
    if let Some(revocation) = standing.revoked.of(passport) {
        return Err(revocation.refusal());
    }
    let spec = request.swarm.as_ref().map(|terms| terms.seat_of(request));
    let price_hour = spec.as_ref().map(|s| passport.configuration.rate.per_hour(s.demand.cpu, s.demand.memory));
    let price_hour = price_hour.unwrap_or_default();
    if price_hour != seat.price_hour
        || seat.until.since(seat.from) > life_max(spec.map_or(Millis(0), |s| s.demand.time))
    {
        return Err(bad("swarm.price", "price and life of the seat")
            .expected(format!("{price_hour} per hour, for as long as is asked for"))
            .got(format!("{} per hour, {} to {}", seat.price_hour, seat.from, seat.until)));
    }
    let candidate = Candidate { passport, price_hour };
    request.require.check(&candidate)?;
    // The fragments of a swarm all require the same.
    request.fragments.first().map_or(Ok(()), |fragment| fragment.require.check(&candidate))?;
    request.data.check(passport)
}

/// Seconds that a seat may be promised: what is asked for, and what a manager leaves beside it.
fn life_max(time: Millis) -> u64 {
    time.seconds_up().saturating_add(SKEW.saturating_mul(10))
}
