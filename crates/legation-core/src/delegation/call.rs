//! A call and its answer, held against what they rest on: the same functions for delegator, delegate and every reader of a
//! receipt.
//!
//! A call holds ([`check_call`]) when
//! 1. it rests on the allocation of a loan and on the grant by which the borrower passes its right on to that enclave, and is
//!    of their task and fragment;
//! 2. its signer is the borrower, to whom the enclave is lent, and the issuer of that grant;
//! 3. its module is among those granted;
//! 4. it asks for no more than the loan sets aside, the limits of its placement allow, and is granted;
//! 5. it is assured well enough for every grant above, and asks for a proof only of data that a proof may show;
//! 6. it ends before loan, grants and request do.
//!
//! An answer holds ([`check_answer`]) when
//! 1. it is of this call: enclave, task, fragment, loan, module, input and seed;
//! 2. it rests on the loan's allocation, a passport of its enclave, the grant and the call, in this order, then on answers to
//!    calls of its own;
//! 3. it was executed after the call was made and before it ended, within the loan, under that passport;
//! 4. it used no more than was asked for, allowed and granted;
//! 5. it has an output exactly when it completed, committed to and not sealed;
//! 6. the passport satisfies the request, the fragment, every grant above, and what is said of the data.
//!
//! Who judged the passport, and what is revoked, is for whoever asks: agents and readers know different things of it.

use serde::{Deserialize, Serialize};

use super::Lineage;
use crate::{
    digest::Digest,
    dsse::{Predicate, Signed, Subject},
    id::{EnclaveId, FragmentIndex, LeaseId, ProviderId, TaskId},
    key::PublicKey,
    proven::may_be_assured,
    receipt::{GRACE_MICROS, SKEW},
    rejection::Rejection,
    requirement::Candidate,
    statement::{Allocation, Assurance, Committed, GrantSubject, LoanRef, Outcome, Passport, Report, Request},
    task::{ARG_MAX, ARGS_MAX, Demand, Fragment},
    time::{Millis, UnixTime},
    unit::{Bytes, Fuel, MicroUsd},
};

/// Most bytes of a call's input, and of its output.
pub const CALL_BYTES_MAX: Bytes = Bytes::gib(1);

/// What a call may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallDemand {
    /// Work at most.
    pub fuel: Fuel,
    /// Linear memory at most.
    pub memory: Bytes,
    /// Time at most.
    pub time: Millis,
    /// Output at most.
    pub output: Bytes,
}

/// A part of a fragment that its enclave has another run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Identity key of the enclave that asks, which signs this.
    pub delegator: PublicKey,
    /// The task.
    pub task: TaskId,
    /// The fragment it is a part of.
    pub fragment: FragmentIndex,
    /// The promise of the enclave that is asked.
    pub loan: LeaseId,
    /// Which call of this loan, counted from 1 and always ascending: what is not above all before is a replay.
    pub number: u64,
    /// Drawn at random for what is asked: the same for all enclaves that are asked it, and the seed of their randomness.
    pub question: Digest,
    /// What the enclave that is asked drew at random for this session.
    pub challenge: Digest,
    /// Module to run, by SHA-256.
    pub module: Digest,
    /// Its arguments, after the program's name.
    pub args: Vec<String>,
    /// What it reads on standard input.
    pub input: Committed,
    /// What it may use.
    pub demand: CallDemand,
    /// How the result is assured.
    pub assurance: Assurance,
    /// When it was made.
    pub created: UnixTime,
    /// When it is given up.
    pub expires: UnixTime,
    /// The allocation of the loan, the grant to the enclave that is asked.
    pub prev: Vec<Digest>,
}

impl Predicate for Call {
    const TYPE: &'static str = "https://legation.dev/call/v1";

    fn signer(&self) -> PublicKey {
        self.delegator
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("module", self.module), Subject::new("input", self.input.commitment)]
    }
}

impl Call {
    /// Whether `other` asks the same: of another enclave, or at another time.
    pub fn asks_as(&self, other: &Self) -> bool {
        self.question == other.question
            && self.delegator == other.delegator
            && (self.task, self.fragment) == (other.task, other.fragment)
            && self.module == other.module
            && self.args == other.args
            && self.input == other.input
            && self.demand == other.demand
            && self.assurance == other.assurance
    }
}

/// What a call rests on.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    /// The request of the task.
    pub request: &'a Signed<Request>,
    /// The allocation of the loan.
    pub loan: &'a Signed<Allocation>,
    /// The grant to the enclave that is asked, and all above it.
    pub lineage: &'a Lineage,
}

fn bad(check: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("call.{check}"), claim.to_owned())
}

impl<'a> Basis<'a> {
    fn terms(&self) -> Result<&'a LoanRef, Rejection> {
        self.loan.predicate().loan.as_ref().ok_or_else(|| {
            bad("loan", "allocation that the call rests on").expected("one of a loan").got("one of a fragment")
        })
    }

    fn spec(&self) -> Result<&'a Fragment, Rejection> {
        let index = self.loan.fragment;
        self.request.predicate().fragment(index).ok_or_else(|| {
            bad("fragment", "fragment of the loan")
                .expected(format!("one of {}", self.request.fragments.len()))
                .got(index)
        })
    }

    /// Loan and grant are for each other: the borrower passes on to the enclave that it was lent.
    ///
    /// # Errors
    /// `call.loan`, `call.grant`.
    pub fn check(&self) -> Result<(), Rejection> {
        let (terms, grant) = (self.terms()?, self.lineage.leaf());
        if self.loan.task.digest() != self.request.digest() || grant.task != self.loan.task {
            return Err(bad("loan", "task of the loan and of the grant")
                .expected(TaskId::new(self.request.digest()))
                .got(format!("{} and {}", self.loan.task, grant.task)));
        }
        if self.lineage.fragment() != self.loan.fragment {
            return Err(bad("grant", "fragment of the grant")
                .expected(format!("that of the loan, {}", self.loan.fragment))
                .got(self.lineage.fragment()));
        }
        if grant.issuer.enclave_id() != terms.borrower || grant.subject != GrantSubject::Enclave(self.loan.enclave) {
            return Err(bad("grant", "grant behind the calls of the loan")
                .expected(format!("by {} to {}", terms.borrower.short(), self.loan.enclave.short()))
                .got(format!("one by {}", grant.issuer.enclave_id().short())));
        }
        Ok(())
    }

    /// What an execution of so many microseconds costs at the price of the loan, rounded up.
    pub fn cost(&self, micros: u64) -> MicroUsd {
        cost(self.loan, micros)
    }

    /// Whether the enclave of `passport` may be asked at all: by the request, its fragment, the grants and the terms of the data.
    ///
    /// # Errors
    /// `call.passport`; `require.*`, `data.*`.
    pub fn admits(&self, passport: &Passport) -> Result<(), Rejection> {
        if passport.enclave_id() != self.loan.enclave {
            return Err(bad("passport", "enclave that is asked")
                .expected(self.loan.enclave)
                .got(passport.enclave_id())
                .fix("talk to the enclave that was lent: another, even of the same image, is not it"));
        }
        let (terms, says) = (self.terms()?, &passport.configuration);
        let price = says.rate.per_hour(terms.demand.cpu, terms.demand.memory);
        if (&self.loan.provider, &self.loan.region, self.loan.price_hour) != (&says.provider, &says.region, price) {
            return Err(bad("passport", "provider, region and price of the loan")
                .expected(format!("{}, {}, {price} per hour", says.provider, says.region))
                .got(format!("{}, {}, {} per hour", self.loan.provider, self.loan.region, self.loan.price_hour)));
        }
        let candidate = Candidate { passport, price_hour: self.loan.price_hour };
        self.request.require.check(&candidate)?;
        self.spec()?.require.check(&candidate)?;
        self.lineage.admits(&candidate)?;
        self.request.data.check(passport)
    }
}

/// What an execution of so many microseconds costs at the price of a loan, rounded up.
pub fn cost(loan: &Allocation, micros: u64) -> MicroUsd {
    let hour = u128::from(loan.price_hour.0);
    MicroUsd(u64::try_from((hour * u128::from(micros)).div_ceil(3_600_000_000)).unwrap_or(u64::MAX))
}

/// Whether who is met on a channel is who the manager named: the same keys, in the same slot of the same chip, of the same owner.
/// An image alone is not enough: another enclave of the same image was not lent.
///
/// # Errors
/// `call.peer`.
pub fn check_peer(named: &Passport, met: &Passport) -> Result<(), Rejection> {
    let place = |passport: &Passport| {
        let says = &passport.configuration;
        (passport.enclave_id(), passport.claims.chip.value.clone(), says.slot, says.provider.clone())
    };
    let (expected, got) = (place(named), place(met));
    if expected == got && named.sealing == met.sealing {
        return Ok(());
    }
    let show = |(enclave, chip, slot, provider): (EnclaveId, String, u16, ProviderId)| {
        let end = chip.char_indices().nth(16).map_or(chip.len(), |(i, _)| i);
        format!(
            "enclave {} in slot {slot} of chip {} of {provider}",
            enclave.short(),
            chip.get(..end).unwrap_or_default()
        )
    };
    Err(bad("peer", "who is on the other end")
        .expected(show(expected))
        .got(show(got))
        .fix("break the channel: this is not the enclave that the manager named"))
}

/// Whether a call stays within what it rests on.
///
/// # Errors
/// `call.*`, `limits.*`, `delegation.assurance`, `proof.sensitivity`: the first rule it breaks.
pub fn check_call(basis: &Basis<'_>, call: &Call) -> Result<(), Rejection> {
    basis.check()?;
    let (loan, grant, terms) = (basis.loan, basis.lineage.leaf(), basis.terms()?);
    if call.prev != [loan.digest(), grant.digest()] {
        return Err(bad("prev", "what the call rests on")
            .expected(format!("the allocation of {} and the grant of its borrower", loan.lease))
            .got(call.prev.iter().map(Digest::short).collect::<Vec<_>>().join(", ")));
    }
    if (call.task, call.fragment, call.loan) != (loan.task, loan.fragment, loan.lease) {
        return Err(bad("loan", "task, fragment and loan of the call")
            .expected(format!("{}{} under {}", loan.task.short(), loan.fragment, loan.lease))
            .got(format!("{}{} under {}", call.task.short(), call.fragment, call.loan)));
    }
    let delegator: EnclaveId = call.delegator.enclave_id();
    if delegator != terms.borrower {
        return Err(bad("delegator", "who calls").expected(terms.borrower).got(delegator));
    }
    if !grant.modules.contains(&call.module) {
        return Err(bad("module", "module of the call").expected("one that is granted").got(call.module));
    }
    if call.number == 0 {
        return Err(bad("number", "number of the call").expected("1 or more").got(0));
    }
    check_form(&call.args, call.input, call.demand.output)?;
    within_loan(basis, terms, call)?;
    call.assurance.validate()?;
    may_be_assured(call.assurance, &basis.request.data)?;
    basis.lineage.assures(call.assurance)?;
    let last = loan.until.min(basis.lineage.expires()).min(basis.request.expires);
    if call.expires < call.created || call.created < loan.from.minus(SKEW) || call.expires > last {
        return Err(bad("expires", "dates of the call")
            .expected(format!("from {} to {last}, when loan, grants and request end", loan.from))
            .got(format!("{} to {}", call.created, call.expires)));
    }
    Ok(())
}

/// Sizes that no call exceeds, on whatever loan.
///
/// # Errors
/// `call.args`, `call.size`.
pub fn check_form(args: &[String], input: Committed, output: Bytes) -> Result<(), Rejection> {
    let longest = args.iter().map(String::len).max().unwrap_or(0);
    if args.len() > ARGS_MAX || longest > ARG_MAX || args.iter().any(|arg| arg.contains('\0')) {
        return Err(bad("args", "arguments of the call")
            .expected(format!("at most {ARGS_MAX} of {ARG_MAX} bytes, without NUL"))
            .got(format!("{} of at most {longest} bytes", args.len())));
    }
    if input.size > CALL_BYTES_MAX || output > CALL_BYTES_MAX {
        return Err(bad("size", "input and output of the call")
            .expected(format!("at most {CALL_BYTES_MAX} each"))
            .got(format!("{} and {output}", input.size))
            .fix("hand on sealed objects, or smaller parts"));
    }
    Ok(())
}

/// The call's demand lies within the loan, the grant and the limits of the placement.
fn within_loan(basis: &Basis<'_>, terms: &LoanRef, call: &Call) -> Result<(), Rejection> {
    let CallDemand { fuel, memory, time, output } = call.demand;
    let grant = basis.lineage.leaf();
    if fuel.0 == 0 || time.0 == 0 || memory > terms.demand.memory || time > terms.demand.time {
        return Err(bad("demand", "demand of the call")
            .expected(format!(
                "some fuel and time, within the loan: {}, {} ms",
                terms.demand.memory, terms.demand.time.0
            ))
            .got(format!("{fuel}, {memory}, {} ms", time.0)));
    }
    if fuel > grant.fuel {
        return Err(bad("fuel", "fuel of the call").expected(format!("{}, as granted", grant.fuel)).got(fuel));
    }
    let cost = basis.cost(time.0.saturating_mul(1000));
    if cost > grant.budget {
        return Err(bad("budget", "cost of the call at most")
            .expected(format!("{}, as granted", grant.budget))
            .got(cost));
    }
    let demand = Demand { cpu: terms.demand.cpu, gpus: terms.demand.gpus, memory, fuel, time, output };
    basis.loan.limits.as_ref().map_or(Ok(()), |limits| limits.check_work(&demand))
}

/// Whether an answer stays within its call and what both rest on. `call` has passed [`check_call`] on the same basis.
///
/// # Errors
/// `answer.*`, `limits.*`, `require.*`, `data.*`: the first rule it breaks.
pub fn check_answer(
    basis: &Basis<'_>,
    call: &Signed<Call>,
    passport: &Signed<Passport>,
    report: &Report,
) -> Result<(), Rejection> {
    let refuse = |check: &str, claim: &str| Rejection::new(&format!("answer.{check}"), claim.to_owned());
    let loan = basis.loan;
    let Some(answer) = report.answer.as_ref().filter(|answer| answer.call == call.digest()) else {
        return Err(refuse("call", "call that is answered")
            .expected(call.digest())
            .got(report.answer.map_or("none".to_owned(), |answer| answer.call.to_string())));
    };
    let (enclave, lent) = (report.enclave.enclave_id(), loan.enclave);
    if enclave != lent || (report.task, report.fragment, report.lease) != (call.task, call.fragment, call.loan) {
        return Err(refuse("enclave", "enclave, task, fragment and loan of the answer")
            .expected(format!("{}, {}{}, {}", lent.short(), call.task.short(), call.fragment, call.loan))
            .got(format!("{}, {}{}, {}", enclave.short(), report.task.short(), report.fragment, report.lease)));
    }
    if call.prev != [loan.digest(), basis.lineage.leaf().digest()] {
        return Err(refuse("call", "call that is answered")
            .expected("one of this loan and this grant")
            .got(call.digest()));
    }
    if report.monitor.is_some_and(|monitor| monitor.trace != answer.trace) {
        return Err(refuse("trace", "host calls of the answer")
            .expected(answer.trace)
            .got("what the enclave's own monitor says, which differs"));
    }
    if report.module != call.module {
        return Err(refuse("module", "module that ran").expected(call.module).got(report.module));
    }
    if report.inputs != [call.input.commitment] {
        return Err(refuse("input", "input of the answer").expected(call.input.commitment).got("another"));
    }
    if report.seed != call.question {
        return Err(refuse("seed", "seed of the execution").expected(call.question).got(report.seed));
    }
    let rests = [loan.digest(), passport.digest(), basis.lineage.leaf().digest(), call.digest()];
    if !report.prev.starts_with(&rests) {
        return Err(refuse("prev", "what the answer rests on")
            .expected("the allocation of the loan, the passport of its enclave, the grant, the call, in this order")
            .got(report.prev.iter().map(Digest::short).collect::<Vec<_>>().join(", ")));
    }
    when(basis, call, passport, report)?;
    used(basis, call, report)?;
    let completed = report.outcome == Outcome::Completed;
    let fits = answer.output.is_none_or(|output| output.size <= call.demand.output);
    if answer.output.is_some() != completed || !fits || report.output.is_some() || report.log.is_some() {
        return Err(refuse("output", "output of the answer")
            .expected(format!("of at most {}, exactly when it completed, and nothing sealed", call.demand.output))
            .got(answer.output.map_or("none".to_owned(), |output| output.size.to_string())));
    }
    basis.admits(passport)
}

/// The execution lies within call, loan and passport.
fn when(basis: &Basis<'_>, call: &Call, passport: &Passport, report: &Report) -> Result<(), Rejection> {
    let loan = basis.loan;
    let begins = call.created.max(loan.from);
    let ends = call.expires.min(loan.until).plus(SKEW).min(passport.expires);
    let in_time = report.started <= report.finished
        && report.started >= begins.minus(SKEW)
        && report.finished >= passport.issued.minus(SKEW)
        && report.finished <= ends;
    if in_time {
        return Ok(());
    }
    Err(Rejection::new("answer.time", "time of the execution")
        .expected(format!(
            "{begins} to {ends}: within call and loan, under a passport ({} to {})",
            passport.issued, passport.expires
        ))
        .got(format!("{} to {}", report.started, report.finished)))
}

/// What was used lies within what was asked for, allowed and granted.
fn used(basis: &Basis<'_>, call: &Call, report: &Report) -> Result<(), Rejection> {
    let (used, demand) = (&report.usage, &call.demand);
    if used.fuel > demand.fuel || used.memory_peak > demand.memory {
        return Err(Rejection::new("answer.usage", "fuel and memory used")
            .expected(format!("{}, {}", demand.fuel, demand.memory))
            .got(format!("{}, {}", used.fuel, used.memory_peak)));
    }
    let micros_max = demand.time.0.saturating_mul(1000).saturating_add(GRACE_MICROS);
    if report.outcome == Outcome::Completed && used.micros > micros_max {
        return Err(Rejection::new("answer.usage", "time used")
            .expected(format!("{} ms", demand.time.0))
            .got(format!("{} ms", used.micros / 1000)));
    }
    basis.loan.limits.as_ref().map_or(Ok(()), |limits| limits.check_report(report))
}
