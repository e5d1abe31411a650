//! What one fragment wants, held against a kind of enclave and against an enclave: every question of eligibility has its one
//! answer here, for the index that decides and for the scan that explains.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use legation_core::{
    Digest, EnclaveId, FragmentId, FragmentIndex, MicroUsd, ProviderId, Region, Rejection, Revocable, Revocation,
    UnixTime,
    claims::{Rate, TeeKind},
    prefer::{Axis, Preferences, SpreadRule},
    requirement::Candidate,
    statement::Passport,
    task::{Demand, Fragment},
};

use crate::{
    account::{Book, Headroom},
    brief::Brief,
    chip::Chip,
    classes::Near,
    enclave::{Enclave, Presence, amount},
    index::Amount,
    kind::Kind,
    pool::Pool,
    rank::{self, Parts, Weighed},
    retire::Hold,
    swarm,
    task::{Attempt, Task},
};

mod asking;

pub(crate) use asking::Asking;

/// Source of the requirement that every enclave satisfies.
const ANY: &str = "any";

/// Why an enclave is passed over, cheap to say while many are looked at; in words by [`Wanted::rejection`].
pub(crate) enum Refusal<'a> {
    Revoked(&'a Revocation),
    Cordoned(&'a Rejection),
    Draining,
    Held(&'a Hold),
    /// It is a custodian that runs no modules.
    Custody,
    /// Others have it reserved or booked, from then.
    Reserved(UnixTime),
    /// It is no seat of the reservation that the request names.
    Seat(&'static str),
    /// It is kept for a more urgent fragment.
    Claimed(FragmentId),
    Away(UnixTime),
    Passport,
    Verifier,
    Tried(&'a Attempt),
    Requirement(Rc<Rejection>),
    /// What the task may then have cost, if that is a number at all.
    Budget(Option<MicroUsd>),
    /// Milliseconds of the round trip, if known.
    Distance(Option<u32>),
    Spread(Axis, SpreadRule),
    /// What the tenant's account has no room for, at this cost.
    Account(Rc<Headroom>, MicroUsd),
    Capacity,
}

/// The check that refuses where there is no room.
pub(crate) const CAPACITY: &str = "pool.capacity";

impl Refusal<'_> {
    /// Whether it is about this fragment's past or its task: it says nothing about others.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Tried(_) | Self::Budget(_) | Self::Spread(..))
    }

    /// Short form of the check.
    pub(crate) fn check(&self) -> &str {
        match self {
            Self::Revoked(_) => "pool.revoked",
            Self::Cordoned(why) => &why.check,
            Self::Draining => "pool.draining",
            Self::Held(_) => "pool.held",
            Self::Custody => "pool.custody",
            Self::Reserved(_) => "place.reserved",
            Self::Seat(_) => "place.seat",
            Self::Claimed(_) => "pool.claimed",
            Self::Away(_) => "pool.away",
            Self::Passport => "pool.passport",
            Self::Verifier => "place.verifier",
            Self::Tried(_) => "pool.tried",
            Self::Requirement(why) => &why.check,
            Self::Budget(_) => "pool.budget",
            Self::Distance(_) => "place.distance",
            Self::Spread(..) => "place.spread",
            Self::Account(room, _) => room.check(),
            Self::Capacity => CAPACITY,
        }
    }
}

/// What a lease of `demand` costs at most at this price.
pub(crate) fn cost_max(price_hour: MicroUsd, demand: &Demand) -> MicroUsd {
    let cost = (u128::from(price_hour.0) * u128::from(demand.time.0)).div_ceil(3_600_000);
    MicroUsd(u64::try_from(cost).unwrap_or(u64::MAX))
}

/// Where another fragment of the task is, or was run.
#[derive(Clone, PartialEq, Debug)]
struct Place {
    enclave: EnclaveId,
    provider: ProviderId,
    region: Region,
    /// Unknown of an enclave that is forgotten and left no report.
    tee: Option<TeeKind>,
    chip: Option<Chip>,
}

impl Place {
    fn on(id: EnclaveId, enclave: &Enclave) -> Self {
        let passport = enclave.typical();
        Self {
            enclave: id,
            provider: passport.configuration.provider.clone(),
            region: rank::region(passport).clone(),
            tee: Some(passport.claims.tee.value),
            chip: Some(enclave.chip().clone()),
        }
    }
}

/// What one fragment wants.
pub(crate) struct Wanted<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) task: &'a Task,
    pub(crate) fragment: &'a Fragment,
    pub(crate) index: FragmentIndex,
    pub(crate) now: UnixTime,
    pub(crate) need: Amount,
    pub(crate) weighed: Weighed,
    /// How far regions are from where the task wants to be.
    pub(crate) near: Option<Arc<Near>>,
    /// Where the other fragments are, if rules of spread ask.
    others: Vec<Place>,
    /// What another lease may cost within the budget.
    left: MicroUsd,
    /// What the tenant's account has room for.
    account: Rc<Headroom>,
    /// Of a seat: enclaves that are passed over.
    seat: Option<&'a BTreeSet<EnclaveId>>,
    /// Of a loan: what it asks beside.
    asking: Option<&'a Asking>,
    last: Option<(Rate, MicroUsd, MicroUsd)>,
    unmet: BTreeMap<Digest, Option<Rc<Rejection>>>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(pool: &'a Pool, task: &'a Task, index: FragmentIndex, now: UnixTime) -> Option<Self> {
        let fragment = task.request.fragment(index)?;
        let others = if task.request.prefer.spread.is_empty() { Vec::new() } else { places(pool, task, index) };
        Some(Self::of(pool, task, (index, fragment), others, now))
    }

    /// What a seat of a swarm wants beside the enclaves that have seats, `barred` aside: a chip of its own, whatever else.
    pub(crate) fn seat(
        pool: &'a Pool,
        task: &'a Task,
        seat: &'a Fragment,
        taken: &[EnclaveId],
        barred: &'a BTreeSet<EnclaveId>,
        now: UnixTime,
    ) -> Self {
        let known = taken.iter().filter_map(|id| Some((*id, pool.enclaves.get(id)?)));
        let others = known.map(|(id, enclave)| Place::on(id, enclave));
        // No fragment has such a number.
        let index = FragmentIndex(u32::MAX);
        Self { seat: Some(barred), ..Self::of(pool, task, (index, seat), others.collect(), now) }
    }

    fn of(
        pool: &'a Pool,
        task: &'a Task,
        (index, fragment): (FragmentIndex, &'a Fragment),
        others: Vec<Place>,
        now: UnixTime,
    ) -> Self {
        let prefer = &task.request.prefer;
        let mut account = pool.headroom(&task.request.tenant, &fragment.demand);
        // What is committed for its reservation is what its leases there are paid from.
        let booking = prefer.reservation.and_then(|id| pool.reservations.get(&id));
        let held = booking.map_or(MicroUsd::ZERO, |booking| booking.held());
        account.left = account.left.map(|left| left.saturating_add(held));
        Self {
            pool,
            task,
            fragment,
            index,
            now,
            need: amount(&fragment.demand),
            weighed: Weighed::new(prefer.weights),
            near: prefer.near.as_ref().map(|place| pool.classes.near(place, &pool.distances)),
            others,
            left: task.request.budget.saturating_sub(task.spent.saturating_add(task.committed)),
            account: Rc::new(account),
            seat: None,
            asking: None,
            last: None,
            unmet: BTreeMap::new(),
        }
    }

    /// Whether it is a seat of a swarm, and no fragment.
    pub(crate) fn is_seat(&self) -> bool {
        self.seat.is_some()
    }

    /// How long a loan lasts, if it is one.
    pub(crate) fn loan_lasts(&self) -> Option<legation_core::Millis> {
        self.asking.map(|asking| asking.lasts)
    }

    /// Counts what is being cleared for others of the tenant, and of the task, as if it were leased to them already.
    pub(crate) fn beside_claims(mut self) -> Self {
        let (own, tenant) = (self.task.id_of(self.index), &self.task.request.tenant);
        let mut held = Book::default();
        for (fragment, claim) in self.pool.claims.iter().filter(|(fragment, _)| **fragment != own) {
            let task = self.pool.tasks.get(&fragment.task).filter(|task| task.request.tenant == *tenant);
            let spec = task.and_then(|task| task.request.fragment(fragment.index));
            let (Some(spec), Some(enclave)) = (spec, self.pool.enclaves.get(&claim.enclave)) else { continue };
            let demand = &spec.demand;
            let cost = cost_max(enclave.rate().per_hour(demand.cpu, demand.memory), demand);
            held.cpu = held.cpu.saturating_add(demand.cpu);
            held.memory = held.memory.saturating_add(demand.memory);
            held.gpus = held.gpus.saturating_add(demand.gpus);
            held.leases = held.leases.saturating_add(1);
            held.committed = held.committed.saturating_add(cost);
            if fragment.task == own.task {
                self.left = self.left.saturating_sub(cost);
                if !self.prefer().spread.is_empty() {
                    self.others.push(Place::on(claim.enclave, enclave));
                }
            }
        }
        if held.leases > 0 {
            self.account = Rc::new(Headroom {
                refused: self.pool.quota_beside(tenant, &held, &self.fragment.demand),
                left: self.account.left.map(|left| left.saturating_sub(held.committed)),
            });
        }
        self
    }

    pub(crate) fn prefer(&self) -> &'a Preferences {
        &self.task.request.prefer
    }

    /// Price of an hour, and what a lease may cost at most.
    pub(crate) fn price(&mut self, rate: Rate) -> (MicroUsd, MicroUsd) {
        if let Some((known, price_hour, cost)) = self.last
            && known == rate
        {
            return (price_hour, cost);
        }
        let demand = &self.fragment.demand;
        let price_hour = rate.per_hour(demand.cpu, demand.memory);
        let cost = self.asking.map_or_else(|| cost_max(price_hour, demand), |asking| asking.cost(price_hour));
        self.last = Some((rate, price_hour, cost));
        (price_hour, cost)
    }

    /// Whether a kind of enclave satisfies requirements and policies: the same answer for whoever asks for the same.
    pub(crate) fn admits(&self, kind: &Kind, price_hour: MicroUsd) -> Result<(), Rejection> {
        let request = &self.task.request;
        if let Some(asking) = self.asking {
            return asking.permits(self.pool, self.task, kind, price_hour, self.now).map(|_| ());
        }
        let requirements = [&request.require, &self.fragment.require];
        if self.pool.is_unruled(request) && requirements.iter().all(|r| r.source() == ANY) {
            return Ok(());
        }
        self.pool.permits(request, self.fragment, kind, price_hour, self.now)?;
        let candidate = Candidate { passport: kind.typical(), price_hour };
        requirements.iter().try_for_each(|r| r.check(&candidate))
    }

    /// Whether a kind of enclave is within this task's own bounds: its budget and its rules of spread. What it costs beside.
    pub(crate) fn kind_within(&mut self, passport: &Passport, rate: Rate) -> Result<u32, Refusal<'a>> {
        let (_, cost) = self.price(rate);
        if cost > self.left {
            let (spent, committed) = (self.task.spent, self.task.committed);
            let all = spent.checked_add(committed).and_then(|so_far| so_far.checked_add(cost));
            return Err(Refusal::Budget(all));
        }
        if !self.account.has_room(cost) {
            return Err(Refusal::Account(self.account.clone(), cost));
        }
        if let Some(asking) = self.asking {
            return asking.kind_apart(passport);
        }
        let region = rank::region(passport);
        self.spread(|axis, other| match axis {
            Axis::Provider => Some(other.provider == passport.configuration.provider),
            Axis::Tee => other.tee.map(|tee| tee == passport.claims.tee.value),
            Axis::Region => Some(other.region == *region),
            Axis::Chip | Axis::Enclave => None,
        })
    }

    /// Whether an enclave is: within reservations, not tried before, and within the rules of spread. What it costs beside.
    pub(crate) fn enclave_within(&self, id: EnclaveId) -> Result<u32, Refusal<'a>> {
        self.seated(id)?;
        if let Some(barred) = self.seat {
            return self.seat_within(id, barred);
        }
        if let Some(asking) = self.asking {
            return asking.apart(self.pool, id);
        }
        self.apart(id)
    }

    /// Asks nothing about the tenant's account from now on.
    pub(crate) fn without_account(mut self) -> Self {
        self.account = Rc::new(Headroom { refused: None, left: None });
        self
    }

    /// Whether an enclave was not tried before and is within the rules of spread. What it costs beside.
    pub(crate) fn apart(&self, id: EnclaveId) -> Result<u32, Refusal<'a>> {
        if let Some(attempt) = self.task.tried(self.index, id) {
            return Err(Refusal::Tried(attempt));
        }
        let uses = self.task.used(id, self.index);
        if self.others.is_empty() {
            return Ok(uses.saturating_mul(rank::USE));
        }
        let chip = self.pool.enclaves.get(&id).map(Enclave::chip);
        let cost = self.spread(|axis, other| match axis {
            Axis::Chip => other.chip.as_ref().zip(chip).map(|(a, b)| a == b),
            Axis::Enclave => Some(other.enclave == id),
            Axis::Provider | Axis::Tee | Axis::Region => None,
        })?;
        let together = self.prefer().spread.iter().any(|s| {
            matches!(s.rule, SpreadRule::Same | SpreadRule::Together) && matches!(s.axis, Axis::Enclave | Axis::Chip)
        });
        Ok(cost.saturating_add(if together { 0 } else { uses.saturating_mul(rank::USE) }))
    }

    /// Whether an enclave could have a seat beside the other members, whatever runs there, and how it would rank.
    pub(crate) fn member(&mut self, id: EnclaveId, enclave: &'a Enclave) -> Result<Standing, Refusal<'a>> {
        let standing = self.stands(id, enclave)?;
        if let Some(barred) = self.seat {
            self.seat_within(id, barred)?;
        }
        Ok(standing)
    }

    /// Whether an enclave may be a member beside the others: it did not fail this swarm before, nor was it lost too often, and its
    /// chip is none of theirs.
    fn seat_within(&self, id: EnclaveId, barred: &BTreeSet<EnclaveId>) -> Result<u32, Refusal<'a>> {
        let gone = self.task.swarm.as_deref().map(|swarm| swarm.gone.as_slice()).unwrap_or_default();
        if let Some(attempt) = swarm::bars(gone, id) {
            return Err(Refusal::Tried(attempt));
        }
        let chip = self.pool.enclaves.get(&id).map(Enclave::chip);
        if barred.contains(&id) || self.others.iter().any(|o| o.enclave == id || o.chip.as_ref() == chip) {
            return Err(Refusal::Spread(Axis::Chip, SpreadRule::Distinct));
        }
        Ok(0)
    }

    /// Whether nothing speaks about single enclaves: no past, no other fragments, nothing that is set aside while it lasts.
    pub(crate) fn is_plain(&self) -> bool {
        let reserved = self.prefer().reservation.is_some() || !self.pool.seats_at.is_empty();
        let booked = self.pool.booking_against(self.task).is_some_and(|booking| booking.at <= self.ends());
        let alone = self.seat.is_none() && self.asking.is_none();
        alone && self.task.uses.0.is_empty() && self.others.is_empty() && !reserved && !booked
    }

    /// Goes through the rules of spread that `shares` can answer.
    fn spread(&self, shares: impl Fn(Axis, &Place) -> Option<bool>) -> Result<u32, Refusal<'a>> {
        let mut cost = 0_u32;
        for rule in &self.prefer().spread {
            let mut known = self.others.iter().filter_map(|other| shares(rule.axis, other));
            let bad = match rule.rule {
                SpreadRule::Distinct | SpreadRule::Apart => known.any(|shared| shared),
                SpreadRule::Same | SpreadRule::Together => known.any(|shared| !shared),
            };
            match (bad, rule.rule) {
                (false, _) => {}
                (true, SpreadRule::Distinct | SpreadRule::Same) => return Err(Refusal::Spread(rule.axis, rule.rule)),
                (true, SpreadRule::Apart | SpreadRule::Together) => cost = cost.saturating_add(rank::APART),
            }
        }
        Ok(cost)
    }

    /// What the distance of an enclave costs, if it is near enough.
    fn distance(&self, passport: &Passport) -> Result<u32, Refusal<'a>> {
        let prefer = self.prefer();
        let ms = prefer.near.as_ref().and_then(|near| self.pool.distances.ms(near, rank::region(passport)));
        rank::distance(prefer, &self.weighed, ms).ok_or(Refusal::Distance(ms))
    }

    /// Whether an enclave could take the fragment now, and how it would rank: what the index finds, asked of one.
    pub(crate) fn judge(&mut self, id: EnclaveId, enclave: &'a Enclave) -> Result<Standing, Refusal<'a>> {
        let standing = self.stands(id, enclave)?;
        if let Some(other) = enclave.claimed()
            && self.task.id_of(self.index) != other
        {
            return Err(Refusal::Claimed(other));
        }
        self.seated(id)?;
        if enclave.fits(&self.fragment.demand) { Ok(standing) } else { Err(Refusal::Capacity) }
    }

    /// The same whatever runs there, and whoever it is kept or reserved for.
    pub(crate) fn stands(&mut self, id: EnclaveId, enclave: &'a Enclave) -> Result<Standing, Refusal<'a>> {
        let now = self.now;
        if let Some(revocation) = enclave.revoked() {
            return Err(Refusal::Revoked(revocation));
        }
        match enclave.presence() {
            Presence::Here => {}
            Presence::Draining => return Err(Refusal::Draining),
            Presence::Away { since } => return Err(Refusal::Away(since)),
        }
        if let Some(cordon) = enclave.cordon() {
            return Err(Refusal::Cordoned(&cordon.why));
        }
        if let Some(hold) = enclave.hold() {
            return Err(Refusal::Held(hold));
        }
        if enclave.is_alone() {
            return Err(Refusal::Custody);
        }
        if !enclave.proofs.hold_at(now) {
            return Err(Refusal::Passport);
        }
        let tenant = &self.task.request.tenant;
        if enclave.proofs.for_tenant(tenant, now).next().is_none() {
            return Err(Refusal::Verifier);
        }
        let own = self.apart(id)?;
        // The best of the proofs that satisfy; if none does, what the freshest does not.
        let mut best: Option<Standing> = None;
        let mut first = None;
        for proof in enclave.proofs.for_tenant(tenant, now) {
            match self.standing(proof, enclave, own) {
                Ok(standing) if best.as_ref().is_none_or(|b| standing.effective < b.effective) => best = Some(standing),
                Ok(_) => {}
                Err(why) => first = first.or(Some(why)),
            }
        }
        match (best, first) {
            (Some(best), _) => Ok(best),
            (None, Some(why)) => Err(why),
            (None, None) => Err(Refusal::Verifier),
        }
    }

    fn standing(&mut self, proof: &Brief, enclave: &Enclave, own: u32) -> Result<Standing, Refusal<'a>> {
        let passport = proof.typical();
        let (price_hour, _) = self.price(enclave.rate());
        let known = self.unmet.get(&proof.kind.digest()).cloned();
        let unmet = known.unwrap_or_else(|| {
            let unmet = self.admits(&proof.kind, price_hour).err().map(Rc::new);
            self.unmet.insert(proof.kind.digest(), unmet.clone());
            unmet
        });
        if let Some(why) = unmet {
            return Err(Refusal::Requirement(why));
        }
        let distance = self.distance(passport)?;
        let spread = self.kind_within(passport, enclave.rate())?;
        let holds = (proof.issued.0, proof.expires.0);
        Ok(self.rank(passport, enclave, holds, distance, spread.saturating_add(own)))
    }

    fn rank(&self, passport: &Passport, enclave: &Enclave, holds: (u64, u64), distance: u32, spread: u32) -> Standing {
        use crate::index::{RegionId, Terms, effective, own_parts};
        let rate = enclave.rate();
        let (age, misfit) = own_parts(&enclave.room(), &self.need, &enclave.total(), self.now.0, holds);
        let Weighed { index, .. } = self.weighed;
        let posture = u64::from(rank::posture(passport)) * index.posture / 100;
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        // As the search sums it: age and fit are divided together.
        let own = (age * index.posture + misfit * index.fit) / 100;
        let fit = misfit * index.fit / 100;
        let parts = Parts {
            distance,
            posture: short(posture + own.saturating_sub(fit)),
            fit: short(fit.min(own)),
            spread,
            trust: self.doubt(enclave),
        };
        let terms = Terms {
            region: RegionId(0),
            core_hour: rate.core_hour.0,
            gib_hour: rate.gib_hour.0,
            posture: 0,
            gpus: false,
        };
        let demand = &self.fragment.demand;
        Standing {
            price_hour: rate.per_hour(demand.cpu, demand.memory),
            effective: effective(&terms, &self.need, index.cost, parts.total()),
            parts,
        }
    }

    /// What doubt in an enclave costs, in thousandths of the price, weighed.
    fn doubt(&self, enclave: &Enclave) -> u32 {
        self.weighed.doubt(enclave.doubt(self.now, rank::DOUBT))
    }

    /// The same by its name.
    pub(crate) fn doubt_of(&self, id: EnclaveId) -> u32 {
        self.pool.enclaves.get(&id).map_or(0, |enclave| self.doubt(enclave))
    }

    /// A refusal in words.
    pub(crate) fn rejection(&self, why: Refusal<'_>, id: EnclaveId, enclave: &Enclave) -> Rejection {
        let Self { task, fragment, .. } = self;
        let refuse = Rejection::new(why.check(), format!("enclave {}", id.short()));
        match why {
            Refusal::Revoked(revocation) => refuse.expected("not revoked").got(match &revocation.what {
                Revocable::Enclave(_) => revocation.why.clone(),
                what => format!("the {what} is: {}", revocation.why),
            }),
            Refusal::Cordoned(why) => why.clone(),
            Refusal::Draining => refuse.expected("taking work").got("draining"),
            Refusal::Held(hold) => refuse
                .expected("not cordoned by its operator")
                .got(format!("cordoned since {}: {}", hold.since, hold.why))
                .fix("have the operator lift it by `legation enclave uncordon`"),
            Refusal::Custody => refuse.expected("one that runs modules").got("a custodian that runs none"),
            Refusal::Reserved(from) => refuse
                .expected("room that nobody has reserved while the lease may last")
                .got(format!("none from {from} on"))
                .fix("shorten the time limit, or wait until the reservation ends or the swarm has its seats"),
            Refusal::Seat(why) => refuse
                .expected("a free seat of the reservation that the request names")
                .got(why)
                .fix("wait until a seat is free; see `legation reserve show`"),
            Refusal::Claimed(other) => {
                let other = self.pool.tasks.get(&other.task).map(|other_task| &other_task.request);
                let of = other.filter(|other| other.tenant != task.request.tenant).map_or("", |_| " of another tenant");
                let priority = other.map_or(0, |other| other.prefer.priority.0);
                refuse
                    .expected("not kept for others")
                    .got(format!("kept for work{of} of priority {priority}, which is more urgent than what runs there"))
                    .fix("wait until it is placed")
            }
            Refusal::Away(since) => refuse.expected("an open channel").got(format!("away since {since}")),
            Refusal::Passport => refuse
                .expected("a passport that holds now")
                .got(format!("{} to {}", enclave.proof().issued, enclave.proof().expires))
                .fix("its agent must attest again"),
            Refusal::Verifier => {
                let verifiers: Vec<_> = enclave.proofs().map(|p| p.verifier().short()).collect();
                refuse
                    .expected(format!(
                        "a passport of a verifier that is trusted with the work of {}",
                        task.request.tenant
                    ))
                    .got(format!("passports of {}", verifiers.join(", ")))
                    .fix("have a verifier judge it that is appointed for this tenant")
            }
            Refusal::Tried(attempt) => refuse
                .expected("not tried for this fragment before")
                .got(attempt.ended.as_ref().map(ToString::to_string).unwrap_or_default()),
            Refusal::Requirement(why) => Rc::unwrap_or_clone(why),
            Refusal::Account(room, cost) => room.refuses(cost).unwrap_or(refuse),
            Refusal::Budget(cost) => refuse
                .expected(format!("within the budget of {}", task.request.budget))
                .got(cost.map_or("more than can be counted".to_owned(), |cost| format!("up to {cost} with this one")))
                .fix("raise the budget or shorten the time limit"),
            Refusal::Distance(ms) => {
                let prefer = self.prefer();
                let near = prefer.near.as_ref().map(ToString::to_string).unwrap_or_default();
                let within = prefer.within.map_or(0, |within| within.0);
                refuse
                    .expected(format!("a round trip to {near} of at most {within} ms"))
                    .got(ms.map_or("nobody has measured it".to_owned(), |ms| format!("{ms} ms")))
                    .fix("allow a longer round trip, or have the operator add the distance")
            }
            Refusal::Spread(axis, rule) => {
                let (expected, got) = match rule {
                    SpreadRule::Same | SpreadRule::Together => ("that of the task's other fragments", "another"),
                    SpreadRule::Distinct | SpreadRule::Apart => {
                        ("that no other fragment of the task has", "one that has")
                    }
                };
                refuse
                    .expected(format!("{axis}: one {expected}"))
                    .got(got)
                    .fix(format!("wait for such an enclave, or drop the rule `{rule}` of {axis}"))
            }
            Refusal::Capacity => {
                let room = enclave.room();
                let gpus = |share: u16, whole: u16| match fragment.demand.gpus.0 {
                    0 => String::new(),
                    _ if whole > 0 => format!(", {whole} whole accelerators"),
                    _ => format!(", 0.{share:03} of an accelerator"),
                };
                let wanted = match fragment.demand.gpus.0 {
                    0 => String::new(),
                    _ => format!(", {}", fragment.demand.gpus),
                };
                refuse
                    .expected(format!("{}, {}{wanted} and a slot", fragment.demand.cpu, fragment.demand.memory))
                    .got(format!(
                        "{}, {}{} and {} slots left",
                        enclave.capacity().cpu.saturating_sub(enclave.cpu_leased()),
                        enclave.capacity().memory.saturating_sub(enclave.memory_leased()),
                        gpus(room.share, room.whole),
                        room.slots,
                    ))
                    .fix("wait until other work ends, or ask for less")
            }
        }
    }
}

/// How an enclave that could take a fragment ranks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) price_hour: MicroUsd,
    /// Smaller is better.
    pub(crate) effective: u64,
    pub(crate) parts: Parts,
}

/// Where the other fragments of a task are, or were run.
fn places(pool: &Pool, task: &Task, except: FragmentIndex) -> Vec<Place> {
    let mut places = Vec::new();
    for (index, state) in (0..).map(FragmentIndex).zip(&task.fragments) {
        let Some(last) = state.attempts.last().filter(|a| index != except && a.ended.is_none()) else { continue };
        let enclave = pool.enclaves.get(&last.enclave);
        let done = state.done.as_ref();
        let passport = done.map(|done| done.proof.typical()).or(enclave.map(Enclave::typical));
        let chip = done.map(|done| &done.chip).or(enclave.map(Enclave::chip));
        let place = Place {
            enclave: last.enclave,
            provider: last.provider.clone(),
            region: passport.map_or(&last.region, rank::region).clone(),
            tee: passport.map(|p| p.claims.tee.value),
            chip: chip.cloned(),
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}
