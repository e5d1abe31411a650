//! Whether an offer may be run: pure judgement over signed statements, and what is left to do when it may.
//!
//! Signatures were checked when the statements were read ([`Signed`]); here it is checked who may say what. In this order:
//! 1. the manager is appointed by an operator that this agent obeys, and the appointment holds now (`offer.operator`,
//!    `offer.office`, `offer.dates`);
//! 2. the term is not older than one obeyed before (`offer.term`);
//! 3. the allocation is that manager's, is within a seat exactly when the request asks for a swarm (`offer.seat`; that this
//!    enclave joined that round is checked by its books), rests on this request and this appointment, names this enclave with its own provider,
//!    region and price, its lease runs (`offer.allocation`, `offer.enclave`, `offer.price`, `offer.lease`), and the fragment
//!    asks for no more than its limits allow (`limits.*`); limits that the manager left out cannot be missed here;
//! 4. the request is well formed and not over (`request.*`, `offer.request`), and has the fragment (`offer.fragment`);
//! 5. the own passport holds, is of a verifier that is trusted with the tenant's work, rests on nothing revoked, and satisfies
//!    the requirements of task and fragment and what the request says of its data (`offer.passport`, `offer.verifier`,
//!    `revocation`, `require.*`, `data.*`);
//! 6. what was read upstream is what completed reports of enclaves say that were themselves attested by an appointed verifier
//!    of the same trust, satisfy the requirements (`offer.upstream`), and rested on nothing that was revoked when they
//!    finished (`revocation`);
//! 7. the grants let this enclave run the fragment and read its inputs (`grant.*`);
//! 8. there is one key for each input, of its object, wrapped to this enclave (`offer.keys`);
//! 9. the demand fits into what is left (`offer.capacity`), inputs and output into what is held in memory (`offer.size`).

use legation_core::{
    Digest, EnclaveId, Fuel, LeaseId, MicroUsd, Millis, ObjectId, PublicKey, Rejection, Requirement, Revoked, Seq,
    Signed, TaskId, TenantId, Term, UnixTime,
    claims::Capacity,
    delegation::{InTurn, Sum, attenuate::purse},
    grant::{self, Use},
    prefer::DataTerms,
    requirement::Candidate,
    statement::{Allocation, Appointment, Grant, GrantSubject, Office, Outcome, Passport, Report, Request, Tier},
    swarm::{MEMBERS_MAX, SeatDemand},
    task::{Demand, Fragment, Input},
    unit::Bytes,
};
use legation_net::message::{Offer, Upstream};

use crate::passports;

/// How far clocks of different machines may differ, in seconds.
pub const SKEW: u64 = 60;
/// Most bytes of all inputs of one fragment, as they travel: they are held in memory.
pub const INPUT_BYTES_MAX: Bytes = Bytes::mib(128);
/// Largest output a fragment may ask for: it is held in memory until its report is acknowledged.
pub const OUTPUT_BYTES_MAX: Bytes = Bytes::mib(256);

/// What an agent knows of itself when it judges an offer.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The passport it would name, which also holds its configuration and its sealing key.
    pub passport: &'a Signed<Passport>,
    /// Appointment of that passport's verifier.
    pub appointment: &'a Signed<Appointment>,
    /// What is revoked, as far as it knows.
    pub revoked: &'a Revoked,
    /// Roots it obeys.
    pub operators: &'a [PublicKey],
    /// Highest term and journal position it obeyed.
    pub obeyed: (Term, Seq),
    /// What is left of its capacity.
    pub left: Capacity,
    /// Most linear memory that its engine gives one run.
    pub memory_max: Bytes,
    /// Now.
    pub now: UnixTime,
}

/// What an offer that may be run leaves to do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Under which promise.
    pub lease: LeaseId,
    /// The task.
    pub task: TaskId,
    /// For whom: not every verifier's passport counts for everybody.
    pub tenant: TenantId,
    /// What the task requires of every enclave, beside what the fragment requires.
    pub require: Requirement,
    /// What the request says of its data.
    pub data: DataTerms,
    /// What to run, on what.
    pub plan: Plan,
    /// What it may use.
    pub limits: Limits,
    /// What its report rests on beside the passport.
    pub rests_on: RestsOn,
    /// Not to be begun after this.
    pub start_by: UnixTime,
    /// To be reported by then.
    pub until: UnixTime,
    /// By what right it may have parts of it run by other enclaves, if it may.
    pub under: Option<Box<Under>>,
}

/// By what right an execution has parts of it run by other enclaves.
#[derive(Clone, Debug)]
pub struct Under {
    /// The request.
    pub request: Signed<Request>,
    /// Its own promise: of a fragment, or of a loan whose call it runs.
    pub own: Signed<Allocation>,
    /// The grants that it passes on, ascending by digest: each lets something be passed on.
    pub grants: Vec<Signed<Grant>>,
    /// All grants above those.
    pub above: Vec<Signed<Grant>>,
    /// What each enclave that is lent sets aside: as much as the execution itself has.
    pub demand: SeatDemand,
    /// What was handed on before by the same grants: by calls that ran earlier on the same loan.
    pub spent: Sum,
}

impl Under {
    /// What an enclave that is lent may borrow in turn: as much as the widest grant to it would pass on
    /// ([`legation_core::delegation::attenuate::widest`]).
    pub fn in_turn(&self) -> Option<InTurn> {
        let depth = self.grants.iter().map(|grant| grant.depth).min().unwrap_or(0).saturating_sub(1);
        let budget = purse(&self.grants).half().cost;
        (depth > 0 && budget > MicroUsd::ZERO).then_some(InTurn { depth, budget })
    }
}

/// What to run, on what, and for whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The fragment with its position.
    pub fragment: Fragment,
    /// Its position.
    pub index: legation_core::FragmentIndex,
    /// Its inputs, in order.
    pub inputs: Vec<Source>,
    /// Key that output and log are sealed to.
    pub owner: legation_core::SealingPublicKey,
    /// What every clock of the module shows.
    pub clock: UnixTime,
    /// Whether another fragment reads its output, so that there must be some.
    pub output_needed: bool,
}

/// One input: where it comes from and what it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The object.
    pub object: ObjectId,
    /// SHA-256 of its ciphertext.
    pub ciphertext: Digest,
    /// Bytes of its ciphertext.
    pub size: Bytes,
    /// Commitment to its plaintext.
    pub commitment: Digest,
    /// Its key, wrapped to this enclave.
    pub key: legation_core::task::WrappedKey,
}

/// What one execution may use: the least of what the fragment demands, and what its grants and the limits of its placement
/// allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Work.
    pub fuel: Fuel,
    /// Linear memory.
    pub memory: Bytes,
    /// Time by the demand.
    pub time: Millis,
    /// Time that the grants' budgets pay for; nothing when they pay for all of it.
    pub paid: Option<Millis>,
    /// Output.
    pub output: Bytes,
    /// Output and log together, sealed, where the placement limits what may leave.
    pub egress: Option<Bytes>,
}

/// What a report rests on, in its order; the passport comes after the allocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestsOn {
    /// The allocation.
    pub allocation: Digest,
    /// The grants, ascending.
    pub grants: Vec<Digest>,
    /// Reports of the fragments whose outputs are read, in order.
    pub upstream: Vec<Digest>,
}

/// Judges an offer: may this enclave run it, now?
///
/// # Errors
/// The first check that refuses.
pub fn judge_offer(offer: &Offer, standing: &Standing<'_>) -> Result<Work, Rejection> {
    let now = standing.now;
    appointed(&offer.appointment, Office::Manager, standing.operators, now)
        .map_err(|why| Rejection { claim: format!("{} of the manager", why.claim), ..why })?;
    term(offer, standing)?;
    let request = &offer.request;
    request.validate()?;
    if request.created > now.plus(SKEW) || now > request.expires {
        return Err(Rejection::new("offer.request", "dates of the request")
            .expected(format!("to cover {now}"))
            .got(format!("{} to {}", request.created, request.expires))
            .fix("make the request anew; check the clocks"));
    }
    let allocation = &offer.allocation;
    let fragment = request.fragment(allocation.fragment).ok_or_else(|| {
        Rejection::new("offer.fragment", "fragment of the allocation")
            .expected(format!("one of {}", request.fragments.len()))
            .got(allocation.fragment)
    })?;
    allocated(offer, fragment, standing)?;
    let passport = standing.passport;
    if now.plus(SKEW) < passport.issued || now > passport.expires {
        return Err(Rejection::new("offer.passport", "passport of this enclave")
            .expected(format!("to hold at {now}"))
            .got(format!("{} to {}", passport.issued, passport.expires))
            .fix("nothing: it is being renewed"));
    }
    if !standing.appointment.covers_tenant(&request.tenant) {
        return Err(passports::none_for(&request.tenant));
    }
    if let Some(revocation) = standing.revoked.of(passport) {
        return Err(revocation.refusal());
    }
    satisfies(passport, fragment, request)?;
    let inputs = sources(offer, fragment, standing)?;

    let objects: Vec<_> = inputs.iter().map(|i| i.object).collect();
    let enclave = passport.enclave_id();
    let used = Use { fragment: allocation.fragment, enclave, objects: &objects, at: now, revoked: standing.revoked };
    grant::check_use(request, &offer.grants, &used)?;
    fits(fragment, &inputs, standing)?;

    let binding = || offer.grants.iter().filter(|g| binds(g, allocation, enclave));
    let ends = binding().map(|g| g.expires).chain([allocation.until, request.expires]);
    let mut grants: Vec<_> = offer.grants.iter().map(Signed::digest).collect();
    grants.sort_unstable();
    grants.dedup();
    Ok(Work {
        lease: allocation.lease,
        task: allocation.task,
        tenant: request.tenant.clone(),
        require: request.require.clone(),
        data: request.data.clone(),
        limits: limits(fragment, allocation, binding()),
        rests_on: RestsOn {
            allocation: allocation.digest(),
            grants,
            upstream: offer.upstream.iter().map(|u| u.report.digest()).collect(),
        },
        plan: Plan {
            fragment: fragment.clone(),
            index: allocation.fragment,
            inputs,
            owner: request.owner_sealing(fragment).clone(),
            clock: request.created,
            output_needed: request.fragments.iter().any(|f| f.upstream().any(|up| up == allocation.fragment)),
        },
        start_by: ends.min().unwrap_or(allocation.until),
        until: allocation.until,
        under: under(offer, fragment, standing).map(Box::new),
    })
}

/// What the offer's grants let be passed on, where the request says that something may be.
fn under(offer: &Offer, fragment: &Fragment, standing: &Standing<'_>) -> Option<Under> {
    fragment.delegates.as_ref()?;
    let enclave = standing.passport.enclave_id();
    let counts = |grant: &&Signed<Grant>| {
        // A grant to a policy names no key that could prove possession.
        grant.subject == GrantSubject::Enclave(enclave)
            && binds(grant, &offer.allocation, enclave)
            && grant.depth > 0
            && grant.delegable.is_some()
            && standing.now <= grant.expires
            && standing.revoked.of_grant(grant).is_none()
    };
    let mut grants: Vec<_> = offer.grants.iter().filter(counts).cloned().collect();
    grants.sort_by_key(Signed::digest);
    grants.dedup_by_key(|grant| grant.digest());
    let Demand { cpu, memory, gpus, time, .. } = fragment.demand;
    (!grants.is_empty()).then(|| Under {
        request: offer.request.clone(),
        own: offer.allocation.clone(),
        grants,
        above: Vec::new(),
        demand: SeatDemand { cpu, memory, gpus, time },
        spent: Sum::ZERO,
    })
}

/// Check 1, and the same for verifiers.
pub(crate) fn appointed(
    appointment: &Signed<Appointment>,
    office: Office,
    operators: &[PublicKey],
    at: UnixTime,
) -> Result<(), Rejection> {
    if !operators.contains(&appointment.operator) {
        return Err(Rejection::new("offer.operator", "operator behind the appointment")
            .expected("one that this agent obeys")
            .got(appointment.operator.id())
            .fix("if you trust this operator, add its key to the configuration"));
    }
    if appointment.office != office {
        return Err(Rejection::new("offer.office", "office")
            .expected(format!("{office:?}"))
            .got(format!("{:?}", appointment.office)));
    }
    if at < appointment.not_before.minus(SKEW) || at > appointment.not_after {
        return Err(Rejection::new("offer.dates", "dates of the appointment")
            .expected(format!("to cover {at}"))
            .got(format!("{} to {}", appointment.not_before, appointment.not_after))
            .fix("have the operator appoint anew"));
    }
    Ok(())
}

/// Check 2.
fn term(offer: &Offer, standing: &Standing<'_>) -> Result<(), Rejection> {
    let refuse = |claim: &str, expected: String, got: Term| {
        Err(Rejection::new("offer.term", claim.to_owned())
            .expected(expected)
            .got(format!("term {}", got.0))
            .fix("another manager leads by now: this one must stop"))
    };
    if offer.term < standing.obeyed.0 {
        return refuse(
            "term of the manager",
            format!("at least term {}, obeyed before", standing.obeyed.0.0),
            offer.term,
        );
    }
    if offer.allocation.term > offer.term {
        return refuse(
            "term of the allocation",
            format!("at most that of the offer, {}", offer.term.0),
            offer.allocation.term,
        );
    }
    Ok(())
}

/// Check 3.
fn allocated(offer: &Offer, fragment: &Fragment, standing: &Standing<'_>) -> Result<(), Rejection> {
    let allocation = &offer.allocation;
    let refuse = |check: &str, claim: &str| Rejection::new(check, claim.to_owned());
    if allocation.manager != offer.appointment.key {
        return Err(refuse("offer.allocation", "signer of the allocation")
            .expected(format!("the appointed manager {}", offer.appointment.key.id()))
            .got(allocation.manager.id()));
    }
    let task = TaskId::new(offer.request.digest());
    let rests = [offer.request.digest(), offer.appointment.digest()];
    if allocation.seat.is_some() != offer.request.swarm.is_some() {
        return Err(refuse("offer.seat", "seat of the allocation")
            .expected(if offer.request.swarm.is_some() { "one: the request asks for a swarm" } else { "none" })
            .got(if allocation.seat.is_some() { "one" } else { "none" }));
    }
    let most = if allocation.seat.is_some() { 3 + usize::from(MEMBERS_MAX) } else { 3 };
    if allocation.task != task || allocation.prev.get(..2) != Some(&rests[..]) || allocation.prev.len() > most {
        return Err(refuse("offer.allocation", "what the allocation rests on")
            .expected(format!("request {task}, appointment {}, at most one earlier allocation", rests[1]))
            .got(allocation.prev.iter().map(Digest::to_string).collect::<Vec<_>>().join(", ")));
    }
    let own: EnclaveId = standing.passport.enclave_id();
    if allocation.enclave != own {
        return Err(refuse("offer.enclave", "enclave of the allocation").expected(own).got(allocation.enclave));
    }
    let now = standing.now;
    if allocation.from > now.plus(SKEW) || now >= allocation.until {
        return Err(refuse("offer.lease", "dates of the lease")
            .expected(format!("to cover {now}"))
            .got(format!("{} to {}", allocation.from, allocation.until))
            .fix("nothing: the manager leases anew; check the clocks if this repeats"));
    }
    let configuration = &standing.passport.configuration;
    let price = configuration.rate.per_hour(fragment.demand.cpu, fragment.demand.memory);
    let same = allocation.provider == configuration.provider
        && allocation.region == configuration.region
        && allocation.price_hour == price;
    if !same {
        return Err(refuse("offer.price", "provider, region and price of the allocation")
            .expected(format!("{}, {}, {price} per hour", configuration.provider, configuration.region))
            .got(format!("{}, {}, {} per hour", allocation.provider, allocation.region, allocation.price_hour)));
    }
    allocation.limits.as_ref().map_or(Ok(()), |limits| limits.check_work(&fragment.demand))
}

/// Check 5, for this enclave and for those upstream; the same as a receipt's.
fn satisfies(passport: &Passport, fragment: &Fragment, request: &Request) -> Result<(), Rejection> {
    meets(passport, fragment, &request.require, &request.data)
}

fn meets(passport: &Passport, fragment: &Fragment, require: &Requirement, data: &DataTerms) -> Result<(), Rejection> {
    let demand = &fragment.demand;
    let candidate = Candidate { passport, price_hour: passport.configuration.rate.per_hour(demand.cpu, demand.memory) };
    require.check(&candidate)?;
    fragment.require.check(&candidate)?;
    data.check(passport)
}

impl Work {
    /// Whether a report of it may name this passport, as far as the requirements go.
    pub(crate) fn accepts(&self, passport: &Passport) -> bool {
        meets(passport, &self.plan.fragment, &self.require, &self.data).is_ok()
    }
}

/// Checks 6 and 8: every input with its key.
fn sources(offer: &Offer, fragment: &Fragment, standing: &Standing<'_>) -> Result<Vec<Source>, Rejection> {
    let reading = fragment.upstream().count();
    if offer.upstream.len() != reading {
        return Err(Rejection::new("offer.upstream", "reports behind the inputs")
            .expected(format!("{reading}, one for each output that is read"))
            .got(offer.upstream.len()));
    }
    let recipient = standing.passport.sealing.digest();
    if offer.keys.len() != fragment.inputs.len() {
        return Err(Rejection::new("offer.keys", "keys of the inputs")
            .expected(format!("{}, one for each input", fragment.inputs.len()))
            .got(offer.keys.len()));
    }
    let mut upstream = offer.upstream.iter();
    let mut out = Vec::with_capacity(fragment.inputs.len());
    for (place, (input, key)) in fragment.inputs.iter().zip(&offer.keys).enumerate() {
        let (object, ciphertext, size, commitment) = match input {
            Input::Sealed(sealed) => (sealed.object, sealed.ciphertext, sealed.size, sealed.commitment),
            Input::Output { fragment } => {
                let none = || upstream_refusal(*fragment, "its report", "one", "none");
                let up = upstream.next().ok_or_else(none)?;
                let output = reported(up, *fragment, &offer.request, standing)?;
                (output.object, output.ciphertext, output.size, output.commitment)
            }
        };
        if key.object != object || key.recipient != recipient {
            return Err(Rejection::new("offer.keys", format!("key of input {place}"))
                .expected(format!("of object {object}, wrapped to {recipient}"))
                .got(format!("of object {}, wrapped to {}", key.object, key.recipient))
                .fix("wrap the key to the sealing key in this enclave's passport"));
        }
        out.push(Source { object, ciphertext, size, commitment, key: key.clone() });
    }
    Ok(out)
}

fn upstream_refusal(
    fragment: legation_core::FragmentIndex,
    what: &str,
    expected: impl std::fmt::Display,
    got: impl std::fmt::Display,
) -> Rejection {
    Rejection::new("offer.upstream", format!("{what} behind the output of fragment {fragment}"))
        .expected(expected)
        .got(got)
}

/// Check 6 for one report: its output, if it may be read.
fn reported<'a>(
    up: &'a Upstream,
    index: legation_core::FragmentIndex,
    request: &Signed<Request>,
    standing: &Standing<'_>,
) -> Result<&'a legation_core::task::OutputRef, Rejection> {
    let (report, passport): (&Report, &Passport) = (&up.report, &up.passport);
    let task = TaskId::new(request.digest());
    let fragment = request
        .fragment(index)
        .filter(|f| report.task == task && report.fragment == index && report.module == f.module)
        .ok_or_else(|| {
            upstream_refusal(
                index,
                "task, fragment and module of the report",
                format!("{task} {index}"),
                format!("{} {}", report.task, report.fragment),
            )
        })?;
    if passport.enclave != report.enclave || report.prev.get(1) != Some(&up.passport.digest()) {
        return Err(upstream_refusal(index, "passport", "the one the report rests on", passport.enclave_id()));
    }
    let rests = passport.prev.as_slice() == [up.appointment.digest()] && up.appointment.key == passport.verifier;
    if !rests || passport.ear.status == Tier::Contraindicated {
        return Err(upstream_refusal(
            index,
            "verifier of the passport",
            format!("the appointed verifier {}, affirming", up.appointment.key.id()),
            format!("{}, {:?}", passport.verifier.id(), passport.ear.status),
        ));
    }
    appointed(&up.appointment, Office::Verifier, standing.operators, passport.issued)
        .map_err(|why| Rejection { claim: format!("{} of the verifier behind fragment {index}", why.claim), ..why })?;
    if report.finished.plus(SKEW) < passport.issued || report.finished > passport.expires {
        return Err(upstream_refusal(
            index,
            "time of the execution",
            format!("under its passport, {} to {}", passport.issued, passport.expires),
            report.finished,
        ));
    }
    if !up.appointment.covers_tenant(&request.tenant) {
        return Err(upstream_refusal(
            index,
            "verifier of the passport",
            format!("one that is trusted with the work of {}", request.tenant),
            passport.verifier_id(),
        ));
    }
    if let Some(revocation) = standing.revoked.of(passport).filter(|r| r.at <= report.finished) {
        let why = revocation.refusal();
        return Err(Rejection { claim: format!("{} behind the output of fragment {index}", why.claim), ..why });
    }
    satisfies(passport, fragment, request)
        .map_err(|why| Rejection { claim: format!("{} behind fragment {index}", why.claim), ..why })?;
    match (&report.outcome, &report.output) {
        (Outcome::Completed, Some(output)) => Ok(output),
        (outcome, _) => {
            Err(upstream_refusal(index, "outcome of the report", "completed, with an output", format!("{outcome:?}")))
        }
    }
}

/// Check 9.
fn fits(fragment: &Fragment, inputs: &[Source], standing: &Standing<'_>) -> Result<(), Rejection> {
    let (demand, left) = (&fragment.demand, &standing.left);
    if demand.cpu > left.cpu || demand.memory > left.memory.min(standing.memory_max) || left.slots == 0 {
        return Err(Rejection::new("offer.capacity", "demand of the fragment")
            .expected(format!("at most {}, {} and a slot", left.cpu, left.memory.min(standing.memory_max)))
            .got(format!("{}, {} with {} slots left", demand.cpu, demand.memory, left.slots))
            .fix("wait until other work ends, or ask for less"));
    }
    let read: Bytes = inputs.iter().map(|i| i.size).sum();
    if read > INPUT_BYTES_MAX || demand.output > OUTPUT_BYTES_MAX {
        return Err(Rejection::new("offer.size", "size of the inputs and of the output asked for")
            .expected(format!("at most {INPUT_BYTES_MAX} and {OUTPUT_BYTES_MAX}"))
            .got(format!("{read} and {}", demand.output))
            .fix("split the work into more fragments"));
    }
    Ok(())
}

fn binds(grant: &Grant, allocation: &Allocation, enclave: EnclaveId) -> bool {
    grant.fragments.contains(&allocation.fragment)
        && match &grant.subject {
            GrantSubject::Enclave(subject) => *subject == enclave,
            GrantSubject::Policy(_) => true,
        }
}

/// The least of the demand, and what the grants that bind this execution and the limits of its placement allow.
fn limits<'a>(fragment: &Fragment, allocation: &Allocation, grants: impl Iterator<Item = &'a Signed<Grant>>) -> Limits {
    let mut demand = fragment.demand;
    // The demand was held against them: this keeps the work within them whatever becomes of that check.
    let said = allocation.limits.clone().unwrap_or_default();
    demand.memory = said.memory.map_or(demand.memory, |most| most.min(demand.memory));
    demand.fuel = said.fuel.map_or(demand.fuel, |most| most.min(demand.fuel));
    demand.time = said.time.map_or(demand.time, |most| most.min(demand.time));
    demand.output = said.egress.map_or(demand.output, |most| most.min(demand.output));
    let (mut fuel, mut budget) = (demand.fuel, None);
    for grant in grants {
        fuel = fuel.min(grant.fuel);
        budget = Some(budget.map_or(grant.budget, |b| grant.budget.min(b)));
    }
    // Rounded down, so that what is charged (rounded up) stays within.
    let pays = |budget: MicroUsd| {
        let millis = (u128::from(budget.0) * 3_600_000).checked_div(u128::from(allocation.price_hour.0))?;
        u64::try_from(millis).ok().map(Millis)
    };
    let paid = budget.and_then(pays).filter(|paid| *paid < demand.time);
    Limits { fuel, memory: demand.memory, time: demand.time, paid, output: demand.output, egress: said.egress }
}
