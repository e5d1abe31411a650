//! Swarms: several enclaves at once for one task, all or none.
//!
//! ```text
//! request <- seating <- membership (one of each member) <- allocation <- report
//!    ^          |            |
//!    '----------'            '-> passport (its own)
//! ```
//! A request that asks for a swarm ([`SwarmTerms`]) is given *seats*: each a promise of one enclave that every fragment of the
//! task may be run there, one at a time, while the seat lasts. The manager says in one statement ([`Seating`]) who has the seats
//! of a *round*; every member judges the passports of all others by itself and signs that list ([`Membership`]). A round whose
//! every member signed the same list is *formed*: mutual attestation in the passport model of RFC 9334, possession of each key
//! proven by its signature over the list. Fragments are allocated to members of formed rounds alone, and their allocations rest
//! on all memberships of the round.

use serde::{Deserialize, Serialize};

use crate::{
    claims::TeeKind,
    digest::Digest,
    dsse::{Predicate, Subject},
    id::{EnclaveId, LeaseId, ProviderId, Region, RevocationEpoch, TaskId, Term},
    key::PublicKey,
    prefer::{Axis, SpreadRule},
    rejection::Rejection,
    requirement::Requirement,
    statement::{Placement, Request},
    task::{DEMAND_MAX, Demand, Fragment, GPUS_MAX, REQUEST_LIFE_MAX},
    time::{Millis, UnixTime},
    unit::{Bytes, Fuel, MicroUsd, Millicores, Milligpus},
};

/// Fewest members of a swarm.
pub const MEMBERS_MIN: u16 = 2;
/// Most members of a swarm.
pub const MEMBERS_MAX: u16 = 64;
/// A fragment may be repeated when it has run this many percent of the median, at least.
pub const SPECULATE_MIN: u16 = 110;
/// And at most.
pub const SPECULATE_MAX: u16 = 10_000;
/// What is taken when a request does not say.
pub const SPECULATE_DEFAULT: u16 = 150;

/// What a task asks of its swarm.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmTerms {
    /// Enclaves that work on the task at once: it begins with all of them or not at all.
    pub members: u16,
    /// With fewer than so many for longer than the pool waits, the swarm is dissolved; `members` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u16>,
    /// What every member sets aside for the task.
    pub seat: SeatDemand,
    /// A fragment that has run this many percent of the median of its module in this task is repeated on another member that
    /// has nothing to do; nothing is repeated without it.
    #[serde(default = "speculate_default")]
    pub speculate: Option<u16>,
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the type of the field")]
fn speculate_default() -> Option<u16> {
    Some(SPECULATE_DEFAULT)
}

/// What a seat sets aside: enough for each fragment of the task, one at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeatDemand {
    /// Compute.
    pub cpu: Millicores,
    /// Memory.
    pub memory: Bytes,
    /// Accelerators.
    #[serde(default, skip_serializing_if = "is_none")]
    pub gpus: Milligpus,
    /// Time for work in the seat at most: a pool adds what members have to join in and clients to grant. The seat is paid for while
    /// it lasts, for this time at most.
    pub time: Millis,
}

fn is_none(gpus: &Milligpus) -> bool {
    *gpus == Milligpus::ZERO
}

fn bad(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim.to_owned())
}

impl SwarmTerms {
    /// Members below which the swarm is dissolved.
    pub fn least(&self) -> u16 {
        self.least.unwrap_or(self.members)
    }

    /// What a seat asks of an enclave, as if it were a fragment: what the seat sets aside, and of work and output the most that
    /// any fragment asks for, so that limits of a placement that let the seat be let every fragment be.
    pub fn seat_of(&self, request: &Request) -> Fragment {
        let most = |of: fn(&Demand) -> u64| request.fragments.iter().map(|f| of(&f.demand)).max().unwrap_or(0);
        let first = request.fragments.first();
        let SeatDemand { cpu, memory, gpus, time } = self.seat;
        Fragment {
            name: "seat".to_owned(),
            owner: None,
            module: first.map_or_else(|| Digest::of(&[]), |f| f.module),
            args: Vec::new(),
            inputs: Vec::new(),
            demand: Demand {
                cpu,
                memory,
                gpus,
                time,
                fuel: Fuel(most(|d| d.fuel.0)),
                output: Bytes(most(|d| d.output.0)),
            },
            require: first.map_or_else(Requirement::any, |f| f.require.clone()),
            delegates: None,
        }
    }

    /// What it must satisfy, for this request.
    ///
    /// # Errors
    /// `swarm.members`, `swarm.least`, `swarm.speculate`, `swarm.reservation`, `swarm.seat`, `swarm.require`,
    /// `swarm.spread`, `swarm.delegates`: the first rule it breaks.
    pub fn validate(&self, request: &Request) -> Result<(), Rejection> {
        if !(MEMBERS_MIN..=MEMBERS_MAX).contains(&self.members) {
            return Err(bad("swarm.members", "members of the swarm")
                .expected(format!("{MEMBERS_MIN} to {MEMBERS_MAX}"))
                .got(self.members)
                .fix("ask for fewer, or leave the swarm out: fragments run side by side without one"));
        }
        if !(1..=self.members).contains(&self.least()) {
            return Err(bad("swarm.least", "fewest members of the swarm")
                .expected(format!("1 to {}, its members", self.members))
                .got(self.least())
                .fix("ask for more members, or for fewer at least"));
        }
        if let Some(percent) = self.speculate.filter(|p| !(SPECULATE_MIN..=SPECULATE_MAX).contains(p)) {
            return Err(bad("swarm.speculate", "when a fragment is repeated")
                .expected(format!("{SPECULATE_MIN} to {SPECULATE_MAX} percent of the median"))
                .got(percent)
                .fix("leave it out and nothing is repeated"));
        }
        if request.prefer.reservation.is_some() {
            return Err(bad("swarm.reservation", "reservation of a request that asks for a swarm")
                .expected("none: seats are found where there is room")
                .got("one")
                .fix("drop one of the two"));
        }
        if request.fragments.iter().any(|fragment| fragment.delegates.is_some()) {
            return Err(bad("swarm.delegates", "what fragments of a swarm let be handed on")
                .expected("nothing: data of members goes to members alone, and who is lent was judged by none of them")
                .got("some")
                .fix("drop `delegates`, or the swarm"));
        }
        self.check_seat(request)?;
        let first = request.fragments.first().map(|f| &f.require);
        if let Some(other) = request.fragments.iter().find(|f| Some(&f.require) != first) {
            return Err(bad("swarm.require", "requirements of the fragments")
                .expected("the same of all: any member may run any fragment")
                .got(other.require.source())
                .fix("require it of the whole task"));
        }
        self.check_spread(request)
    }

    fn check_seat(&self, request: &Request) -> Result<(), Rejection> {
        let SeatDemand { cpu, memory, gpus, time } = self.seat;
        let zero = cpu.0 == 0 || memory.0 == 0 || time.0 == 0;
        let absurd = cpu > DEMAND_MAX.0
            || memory > DEMAND_MAX.1
            || gpus.0 > GPUS_MAX
            || time.0 > REQUEST_LIFE_MAX.saturating_mul(1000);
        if zero || absurd || (gpus.0 > 1000 && !gpus.0.is_multiple_of(1000)) {
            return Err(bad("swarm.seat", "what a seat sets aside")
                .expected("cpu, memory and time above zero, within what a machine can have")
                .got(format!("{:?}", self.seat))
                .fix("ask for what the largest fragment needs, for as long as the task takes"));
        }
        let over = |f: &&Fragment| {
            let d = &f.demand;
            d.cpu > cpu || d.memory > memory || d.gpus > gpus || d.time > time
        };
        match request.fragments.iter().find(over) {
            None => Ok(()),
            Some(larger) => Err(bad("swarm.seat", "what a seat sets aside")
                .expected(format!("room for every fragment, `{}` among them: {:?}", larger.name, larger.demand))
                .got(format!("{:?}", self.seat))
                .fix("ask for larger seats, or for smaller fragments")),
        }
    }

    /// Members are never two on one chip, and rules of spread are about them: some can never be met.
    fn check_spread(&self, request: &Request) -> Result<(), Rejection> {
        for rule in &request.prefer.spread {
            let never = match (rule.axis, rule.rule) {
                (Axis::Enclave | Axis::Chip, SpreadRule::Same | SpreadRule::Together) => true,
                (Axis::Tee, SpreadRule::Distinct) => usize::from(self.members) > TeeKind::ALL.len(),
                _ => false,
            };
            if never {
                return Err(bad("swarm.spread", "rules of spread of a swarm")
                    .expected(format!("rules that {} members, each on a chip of its own, can meet", self.members))
                    .got(format!("`{}` {}", rule.rule, rule.axis))
                    .fix("drop the rule, or ask for fewer members"));
            }
        }
        Ok(())
    }
}

/// Which seat an allocation is within.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeatRef {
    /// The promise of the seat.
    pub lease: LeaseId,
    /// The formed round that its member is of.
    pub round: u32,
}

/// The manager's word on who has the seats of a swarm, in one round of it: all of them, those that stayed as well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seating {
    /// The manager, who signs this.
    pub manager: PublicKey,
    /// Its term.
    pub term: Term,
    /// The task.
    pub task: TaskId,
    /// Which round, counted from 1.
    pub round: u32,
    /// When.
    pub at: UnixTime,
    /// The seats, ascending by enclave.
    pub seats: Vec<Seat>,
    /// As of which revocation.
    pub revocations: RevocationEpoch,
    /// The request, the manager's appointment, the seating of the round before if any.
    pub prev: Vec<Digest>,
}

/// One seat.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// Who, by which passport, under which promise.
    pub member: Member,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// Begin of the promise.
    pub from: UnixTime,
    /// End of the promise.
    pub until: UnixTime,
    /// Price of one hour of the seat.
    pub price_hour: MicroUsd,
    /// Why this one.
    pub why: Placement,
}

/// One member as all members sign it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its passport.
    pub passport: Digest,
    /// The promise of its seat.
    pub lease: LeaseId,
}

impl Seating {
    /// The list that members sign.
    pub fn members(&self) -> Vec<Member> {
        self.seats.iter().map(|s| s.member).collect()
    }

    /// The seat of an enclave, if it has one.
    pub fn seat(&self, enclave: EnclaveId) -> Option<&Seat> {
        self.seats.iter().find(|s| s.member.enclave == enclave)
    }

    /// Whether it keeps the rules of its form: as many seats as a swarm may have, ascending by enclave, each promise once.
    pub fn is_well_formed(&self) -> bool {
        let mut leases: Vec<_> = self.seats.iter().map(|s| s.member.lease).collect();
        leases.sort_unstable();
        leases.dedup();
        (1..=usize::from(MEMBERS_MAX)).contains(&self.seats.len())
            && self.seats.is_sorted_by(|a, b| a.member.enclave < b.member.enclave)
            && leases.len() == self.seats.len()
            && self.round > 0
    }
}

impl Predicate for Seating {
    const TYPE: &'static str = "https://legation.dev/seating/v1";

    fn signer(&self) -> PublicKey {
        self.manager
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("request", self.task.digest())]
    }
}

/// A member's word that it judged the passports of all members of a round, and works with them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Identity key of the member, which signs this.
    pub enclave: PublicKey,
    /// The task.
    pub task: TaskId,
    /// Which round.
    pub round: u32,
    /// All members, ascending by enclave.
    pub members: Vec<Member>,
    /// The request, the seating, its own passport.
    pub prev: Vec<Digest>,
}

impl Membership {
    /// What `enclave` signs of a seating, if it has a seat.
    pub fn of(seating: &Seating, digest: Digest, enclave: PublicKey) -> Option<Self> {
        let own = seating.seat(enclave.enclave_id())?.member.passport;
        Some(Self {
            enclave,
            task: seating.task,
            round: seating.round,
            members: seating.members(),
            prev: vec![seating.task.digest(), digest, own],
        })
    }
}

impl Predicate for Membership {
    const TYPE: &'static str = "https://legation.dev/membership/v1";

    fn signer(&self) -> PublicKey {
        self.enclave
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        self.members.iter().map(|m| Subject::new("member", m.enclave.digest())).collect()
    }
}
