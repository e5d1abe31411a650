//! Whether to lend this enclave, and whether to borrow another: pure judgement over signed statements.
//!
//! Signatures were checked when the statements were read. In this order:
//! 1. the manager is appointed by an operator that this agent obeys, and the appointment holds now (`offer.operator`,
//!    `offer.office`, `offer.dates`); its term is not older than one obeyed before (`offer.term`);
//! 2. the request is well formed and not over (`request.*`, `loan.request`);
//! 3. the allocation is that manager's, lends somebody, rests on this request, this appointment and the borrower's own promise, ends
//!    no later than that, and holds now (`loan.allocation`, `loan.dates`);
//! 4. this enclave is the side of it that it should be, and the other side is the enclave of the passport that came along
//!    (`loan.enclave`);
//! 5. that passport holds, is of a verifier that an obeyed operator appointed and that is trusted with the tenant's work, and
//!    rests on nothing that is revoked as far as this agent knows (`passport.*`, `loan.verifier`, `revocation`).
//!
//! [`judge_later`] judges a passport by which the enclave that is lent answers in place of that one: it is of the same enclave in the
//! same place (`call.peer`), and passes check 5.
//!
//! What the grants let be called, what the request requires of whoever is called, and the price are checked when calls are described
//! ([`legation_core::delegation::call`]), by the same functions as in every receipt.

use legation_core::{
    Bytes, EnclaveId, PublicKey, Rejection, Revoked, Signed, TaskId, TenantId, Term, UnixTime,
    claims::Capacity,
    delegation::call::check_peer,
    statement::{Allocation, LoanRef, Office, Passport},
};
use legation_net::message::{Lending, Peer};

use crate::offer::{SKEW, appointed};

/// What an agent knows of itself when it judges a loan.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// This enclave.
    pub identity: EnclaveId,
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
    Rejection::new(&format!("loan.{check}"), claim)
}

/// Judges a loan of this enclave: may the borrower's calls be taken?
///
/// # Errors
/// The first check that refuses; `offer.capacity` where the loan does not fit into `left` and the memory of one run.
pub fn judge_lend(
    lending: &Lending,
    left: &Capacity,
    memory_max: Bytes,
    standing: &Standing<'_>,
) -> Result<(), Rejection> {
    let terms = judge(lending, standing)?;
    sides(lending, lending.allocation.enclave, standing.identity, terms.borrower)?;
    other(&lending.other, &lending.request.tenant, standing)?;
    let memory = left.memory.min(memory_max);
    if terms.demand.cpu > left.cpu || terms.demand.memory > memory || left.slots == 0 {
        return Err(Rejection::new("offer.capacity", "demand of the loan")
            .expected(format!("at most {}, {memory} and a slot", left.cpu))
            .got(format!("{}, {} with {} slots left", terms.demand.cpu, terms.demand.memory, left.slots))
            .fix("wait until other work ends, or borrow less"));
    }
    Ok(())
}

/// Judges a loan to this enclave, for an execution under `own`: may calls be handed there?
///
/// # Errors
/// The first check that refuses; `loan.address` where nobody could reach that enclave.
pub fn judge_lent(lending: &Lending, own: &Signed<Allocation>, standing: &Standing<'_>) -> Result<(), Rejection> {
    let terms = judge(lending, standing)?;
    if lending.borrower.digest() != own.digest() {
        return Err(bad("allocation", "promise that the loan is for").expected(own.lease).got(lending.borrower.lease));
    }
    sides(lending, terms.borrower, standing.identity, lending.allocation.enclave)?;
    other(&lending.other, &lending.request.tenant, standing)?;
    if lending.other.passport.configuration.advertise.is_none() {
        return Err(bad("address", "where the enclave that is lent takes channels")
            .expected("an address in its passport")
            .got("none")
            .fix("configure `listen` and `advertise` of its agent"));
    }
    Ok(())
}

/// Judges a passport by which an enclave that is lent answers, beside the one that the manager named: it counts if the manager could
/// have named it.
///
/// # Errors
/// `call.peer` where it is of another enclave, or of another place; else as for check 5.
pub fn judge_later(
    later: &Peer,
    named: &Passport,
    tenant: &TenantId,
    standing: &Standing<'_>,
) -> Result<(), Rejection> {
    check_peer(named, &later.passport)?;
    other(later, tenant, standing)
}

/// Checks 1 to 3.
fn judge<'a>(lending: &'a Lending, standing: &Standing<'_>) -> Result<&'a LoanRef, Rejection> {
    let now = standing.now;
    appointed(&lending.appointment, Office::Manager, standing.operators, now)
        .map_err(|why| Rejection { claim: format!("{} of the manager", why.claim), ..why })?;
    let (allocation, borrower, request) = (&lending.allocation, &lending.borrower, &lending.request);
    if lending.term < standing.obeyed || allocation.term > lending.term {
        return Err(Rejection::new("offer.term", "term of the manager that lends")
            .expected(format!("at least {}, obeyed before, and no less than the allocation's", standing.obeyed.0))
            .got(format!("{}, of an allocation of term {}", lending.term.0, allocation.term.0))
            .fix("another manager leads by now: this one must stop"));
    }
    request.validate()?;
    if request.created > now.plus(SKEW) || now > request.expires {
        return Err(bad("request", "dates of the request")
            .expected(format!("to cover {now}"))
            .got(format!("{} to {}", request.created, request.expires)));
    }
    let Some(terms) = allocation.predicate().loan.as_ref() else {
        return Err(bad("allocation", "the allocation").expected("one of a loan").got("one of a fragment"));
    };
    let task = TaskId::new(request.digest());
    let rests = [request.digest(), lending.appointment.digest(), borrower.digest()];
    let fits = allocation.manager == lending.appointment.key
        && allocation.prev == rests
        && allocation.seat.is_none()
        && (allocation.task, allocation.fragment) == (task, borrower.fragment)
        && borrower.task == task
        && (terms.of, terms.borrower) == (borrower.lease, borrower.enclave)
        && terms.borrower != allocation.enclave
        && terms.number > 0
        && request.fragment(allocation.fragment).is_some_and(|fragment| fragment.delegates.is_some());
    if !fits {
        return Err(bad("allocation", "the allocation of the loan")
            .expected(format!(
                "by the appointed manager, of {task}, resting on its request, the appointment and the borrower's promise {}, \
                 of a fragment that may hand parts on",
                borrower.lease
            ))
            .got(format!("of {}{}, for {} of {}", allocation.task, allocation.fragment, terms.of, terms.borrower.short())));
    }
    if allocation.from > now.plus(SKEW) || now >= allocation.until || allocation.until > borrower.until {
        return Err(bad("dates", "dates of the loan")
            .expected(format!("to cover {now}, and to end by {}, with the borrower's promise", borrower.until))
            .got(format!("{} to {}", allocation.from, allocation.until))
            .fix("nothing: the manager lends anew; check the clocks if this repeats"));
    }
    Ok(terms)
}

/// Check 4.
fn sides(lending: &Lending, mine: EnclaveId, identity: EnclaveId, theirs: EnclaveId) -> Result<(), Rejection> {
    let met = lending.other.passport.enclave_id();
    if mine == identity && met == theirs {
        return Ok(());
    }
    Err(bad("enclave", "enclaves of the loan")
        .expected(format!("{} on this side, {} on the other", identity.short(), theirs.short()))
        .got(format!("{} and {}", mine.short(), met.short())))
}

/// Check 5.
fn other(peer: &Peer, tenant: &TenantId, standing: &Standing<'_>) -> Result<(), Rejection> {
    let (passport, appointment, now) = (&peer.passport, &peer.appointment, standing.now);
    let at = if passport.issued <= now.plus(SKEW) { now.max(passport.issued) } else { now };
    legation_attest::passport::check(passport, appointment, standing.operators, at)?;
    if !appointment.covers_tenant(tenant) {
        return Err(bad("verifier", "verifier of the other side's passport")
            .expected(format!("one that is trusted with the work of {tenant}"))
            .got(passport.verifier_id()));
    }
    standing.revoked.of(passport).map_or(Ok(()), |revocation| Err(revocation.refusal()))
}
