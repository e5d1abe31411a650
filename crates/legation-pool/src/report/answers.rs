//! Answers that a report rests on: judged as every reader of a receipt will judge them, by the same judgement
//! (`legation_core::delegation::judge`). What it wants to know that others do not is found here.
//!
//! 1. Each answer came with the report, is named once, and so are its call and every grant between it and those of the task; nothing
//!    else came (`report.attached`).
//! 2. Each loan is of this task, for this very lease, however deep, and lived when the answer was finished; each call is within its
//!    loan and its grant; no number of a loan is used twice.
//! 3. Each answer is within its call, under a passport that the enclave had while it was lent, of a verifier that is
//!    trusted with the tenant's work, not revoked when the answer was finished; a call has one answer.
//! 4. Each answer is the report's own: to a call of its enclave, on a loan under its promise, by a grant that passes on grants of its
//!    own, while it ran.
//! 5. Of each question it used the one answer, or a majority of diverse replicas, and names exactly those that disagreed.
//! 6. All answers under a grant are together within it, within what each grant above lets be passed on, and within what the
//!    request lets be handed on of the fragment.
//! 7. With what came with other reports of the task, a receipt has room for it (`report.attached`).
//! 8. The same of each answer, for answers that it rests on itself.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use legation_core::{
    Digest, EnclaveId, Envelope, LeaseId, Rejection, Seq, Signed,
    delegation::{
        Call, Lineage,
        judge::{Answered, HEAD, Judge, Judging, Shelf, Tally, cut},
    },
    statement::{Allocation, Grant, Passport, Report},
};

use crate::{
    attached::{Attached, Carried},
    offer::Recorded,
    pool::Pool,
    task::{Answers, SKEW, Task},
};

fn bad(what: &str, claim: &str) -> Rejection {
    Judge::Pool.refuse(what, claim)
}

/// What came with a report, and what the pool knows of it.
struct Known<'a> {
    pool: &'a Pool,
    task: &'a Task,
    attached: &'a Attached,
    /// The task's own grants.
    grants: BTreeMap<Digest, &'a Signed<Grant>>,
    /// The lease of the fragment.
    root: LeaseId,
    /// Whether a loan or passport was asked for that the pool does not know, or that had ended: nobody else can tell.
    unheard: Cell<bool>,
}

impl<'a> Known<'a> {
    fn of(pool: &'a Pool, task: &'a Task, report: &Report, attached: &'a Attached) -> Self {
        // Without answers nobody asks for grants.
        let own = task.grants.iter().filter(|_| !attached.answers.is_empty());
        let grants = own.map(|grant| (grant.digest(), grant)).collect();
        Self { pool, task, attached, grants, root: report.lease, unheard: Cell::new(false) }
    }
}

impl Pool {
    /// Whether the answers that a report names hold.
    pub(super) fn check_answers(
        &self,
        task: &Task,
        report: &Signed<Report>,
        answers: &[Digest],
        attached: &Attached,
    ) -> Result<(), Rejection> {
        attached.check_room(task)?;
        let known = Known::of(self, task, report, attached);
        let mut judging = Judging::new(&task.request, &known, Tally::new(Judge::Pool));
        judging.uses(report, answers)?;
        judging.finish(attached.envelopes.iter().map(Envelope::digest)).map(drop)
    }

    /// Who misled the enclave of a report that is refused: one that was lent to it, and whose own answer, signed by it, rests on a loan or a
    /// passport that the pool does not know, or on an answer that does, however deep. Whoever borrows cannot tell.
    pub(super) fn misled_by(&self, report: &Signed<Report>, attached: &Attached, why: &Rejection) -> Option<EnclaveId> {
        if ![bad("loan", ""), bad("passport", "")].iter().any(|of| of.check == why.check) {
            return None;
        }
        let task = self.tasks.get(&report.task)?;
        let lending = task.lending.as_deref()?;
        report.prev.iter().find_map(|digest| {
            let answer = attached.answers.get(digest)?;
            let loan = lending.loan(answer.lease).filter(|loan| loan.terms.of == report.lease)?;
            let (lent, passport) = (answer.enclave.enclave_id() == loan.enclave, answer.prev.get(1)?);
            let known = Known::of(self, task, report, attached);
            let mut judging = Judging::new(&task.request, &known, Tally::new(Judge::Pool));
            let below = answer.prev.get(HEAD..).unwrap_or_default();
            let fails = known.passport(answer, passport).is_err() || judging.uses(answer, below).is_err();
            (lent && fails && known.unheard.get()).then_some(loan.enclave)
        })
    }

    /// What a report rests on of answers that came with it; nothing where it names loans or proofs that are not known.
    pub(crate) fn answers_of(&self, report: &Report, attached: &[Envelope], at: Seq) -> Option<Option<Box<Answers>>> {
        if attached.is_empty() {
            return Some(None);
        }
        let lending = self.tasks.get(&report.task)?.lending.as_deref()?;
        let mut answers = Answers {
            records: vec![Recorded::of(at, attached)],
            managers: Vec::new(),
            proofs: Vec::new(),
            carried: Carried::of(attached),
        };
        let (mut loans, mut passports) = (BTreeSet::new(), BTreeSet::new());
        for answer in attached.iter().filter_map(|envelope| envelope.peek::<Report>().ok()) {
            let loan = lending.loan(answer.lease).filter(|loan| loan.root == report.lease)?;
            if loans.insert(answer.lease) {
                answers.records.push(Recorded::of(loan.at, [loan.allocation.envelope()]));
                let manager = *loan.allocation.prev.get(1)?;
                if !answers.managers.contains(&manager) {
                    answers.managers.push(manager);
                }
            }
            let passport = *answer.prev.get(1)?;
            if passports.insert(passport) {
                answers.proofs.push(self.lender_proof(report.task, answer.lease, passport)?.clone());
            }
        }
        Some(Some(Box::new(answers)))
    }

    /// Notes what a report rests on; what else was lent for it is forgotten.
    pub(crate) fn keep_answers(&mut self, report: &Report, answers: Option<Box<Answers>>) -> Option<()> {
        let index = usize::try_from(report.fragment.0).ok()?;
        self.tasks.get_mut(&report.task)?.fragments.get_mut(index)?.done.as_mut()?.answers = answers;
        self.forget_loans(report.task, report.lease);
        Some(())
    }
}

impl Shelf for Known<'_> {
    fn answer(&self, digest: &Digest) -> Option<&Signed<Report>> {
        self.attached.answers.get(digest)
    }

    fn call(&self, digest: &Digest) -> Option<&Signed<Call>> {
        self.attached.calls.get(digest)
    }

    /// Those of enclaves came with the report, the others are the task's.
    fn grant(&self, digest: &Digest) -> Option<&Signed<Grant>> {
        self.attached.grants.get(digest).or_else(|| self.grants.get(digest).copied())
    }

    fn loan(&self, answer: &Report) -> Result<&Signed<Allocation>, Rejection> {
        let lending = self.task.lending.as_deref();
        let loan = lending.and_then(|lending| lending.loan(answer.lease)).filter(|loan| loan.root == self.root);
        // By the name of the allocation, too: one that says otherwise of the same loan was never given, and only the pool can tell.
        let Some(loan) = loan.filter(|loan| answer.prev.first() == Some(&loan.allocation.digest())) else {
            self.unheard.set(true);
            return Err(bad("loan", "loan behind an answer").expected("one for this lease").got(answer.lease));
        };
        match loan.ended {
            Some(ended) if answer.finished > ended.plus(SKEW) => {
                // Its borrower was told: whoever is above that was not.
                self.unheard.set(true);
                Err(bad("loan", "loan behind an answer")
                    .expected(format!("one that lived when it was finished, {}", answer.finished))
                    .got(format!("{}, which ended at {ended}", answer.lease)))
            }
            _ => Ok(&loan.allocation),
        }
    }

    /// A passport behind an answer: given to the enclave, while it was lent, by a verifier that is trusted with the tenant's work.
    fn passport(&self, answer: &Report, digest: &Digest) -> Result<&Signed<Passport>, Rejection> {
        let proof = self.pool.lender_proof(self.task.id(), answer.lease, *digest);
        let (Some(passport), Some(proof)) = (self.attached.passports.get(digest), proof) else {
            // One that is known, and was not read from the journal, is nobody's fault.
            self.unheard.set(self.unheard.get() || proof.is_none());
            return Err(bad("passport", "passport that an answer rests on")
                .expected("one this pool knows")
                .got(digest));
        };
        let tenant = &self.task.request.tenant;
        if proof.appointment().covers_tenant(tenant) {
            return Ok(passport);
        }
        self.unheard.set(true);
        Err(bad("passport", "verifier of the passport that an answer rests on")
            .expected(format!("one that is trusted with the work of {tenant}"))
            .got(proof.verifier().short()))
    }

    fn stands(&self, answered: &Answered<'_>, lineage: &Lineage) -> Result<(), Rejection> {
        cut(&self.pool.revoked, answered, lineage).map_or(Ok(()), |revocation| Err(revocation.refusal()))
    }
}
