//! Check 5 for what enclaves handed on: loans, grants that were passed on, calls, answers, and the reports that used them.
//!
//! 1. A loan is of a fragment whose request lets parts be passed on, rests on the borrower's own allocation, ends no later, and is
//!    no deeper than the request says. Calls go to another enclave than the borrower.
//! 2. A grant by an enclave narrows every grant it rests on, up to the owner's and every holder's.
//! 3. A call is within its loan and its grant; no number of a loan is used twice.
//! 4. An answer is within its call, under a passport that all of them accept, of a verifier that is trusted with its tenant's work;
//!    a call has one answer. All answers under a grant are together within it, within what every grant above lets be
//!    passed on, and within what the request lets be handed on of the fragment.
//! 5. A report uses answers to its own calls: made under its own allocation, with its own grants, while it ran. Each answer is
//!    used once. Of each question it used the one answer; or of a replicated one so many that a majority agrees, on enclaves as
//!    diverse as was asked; and it names exactly those that disagreed.
//! 6. The answer to a call of assurance `proven` is as good as one that is attested; that its proof is owed is noted, and what came
//!    of it is said of its execution (`proofs`).
//!
//! What whoever asked and the pool hold answers against as well is in [`crate::delegation::judge`].

use super::*;
use crate::{
    delegation::{
        Basis, Call, Lineage,
        attenuate::check_link,
        check_answer, check_call,
        judge::{Answered, HEAD, Judge, Tally, questions},
    },
    statement::{Assurance, LoanRef},
};

/// Most lineages that are kept at hand: they are gathered anew when they are forgotten.
const LINEAGES_MAX: usize = 256;

/// What was handed on so far.
pub(super) struct Handed {
    lineages: BTreeMap<Digest, Arc<Lineage>>,
    tally: Tally,
}

impl Default for Handed {
    fn default() -> Self {
        Self { lineages: BTreeMap::new(), tally: Tally::new(Judge::Receipt) }
    }
}

fn bad(what: &str, claim: &str) -> Rejection {
    Judge::Receipt.refuse(what, claim)
}

impl Chain<'_> {
    /// An allocation that lends an enclave to another.
    pub(super) fn lent(
        &self,
        request: &Signed<Request>,
        allocation: &Allocation,
        terms: &LoanRef,
    ) -> Result<(), Rejection> {
        let Some(most) = request.fragment(allocation.fragment).and_then(|fragment| fragment.delegates.as_ref()) else {
            return Err(bad("loan", "fragment of a loan").expected("one of which the request lets parts be passed on"));
        };
        let borrower = match allocation.prev.as_slice() {
            [first, _, of] if *first == request.digest() => match self.opened.get(of) {
                Some(Opened::Allocation(borrower)) => borrower,
                _ => return Err(rests_badly()),
            },
            _ => return Err(rests_badly()),
        };
        let own = borrower.task == allocation.task
            && borrower.fragment == allocation.fragment
            && borrower.lease == terms.of
            && borrower.lease < allocation.lease
            && borrower.term <= allocation.term
            && borrower.revocations <= allocation.revocations
            && borrower.enclave == terms.borrower;
        if !own {
            return Err(rests_badly().got(format!("{} of enclave {}", borrower.lease, borrower.enclave.short())));
        }
        if allocation.seat.is_some() || terms.number == 0 || allocation.enclave == terms.borrower {
            return Err(bad("loan", "form of a loan")
                .expected("numbered from 1, in no seat, of another enclave than the borrower"));
        }
        if allocation.from < borrower.from.minus(SKEW) || allocation.until > borrower.until {
            return Err(bad("loan", "dates of a loan")
                .expected(format!("within those of its borrower, {} to {}", borrower.from, borrower.until))
                .got(format!("{} to {}", allocation.from, allocation.until)));
        }
        let (mut depth, mut above) = (1, borrower);
        while above.loan.is_some() && depth <= most.depth {
            match above.prev.get(2).and_then(|of| self.opened.get(of)) {
                Some(Opened::Allocation(next)) => (depth, above) = (depth + 1, next),
                _ => break,
            }
        }
        if depth > most.depth {
            return Err(bad("loan", "depth of a loan").expected(format!("at most {}", most.depth)).got(depth));
        }
        Ok(())
    }

    /// A grant by an enclave: the link to those it rests on, which were checked before it.
    pub(super) fn passed_on(&self, request: &Signed<Request>, grant: &Signed<Grant>) -> Result<(), Rejection> {
        let missing = |digest: &Digest| {
            Rejection::new("delegation.missing", "a grant that another rests on")
                .expected(format!("grant {digest}"))
                .got("nothing")
        };
        let parents = grant.prev.iter().map(|digest| self.find_grant(digest).ok_or_else(|| missing(digest)));
        check_link(request, grant, &parents.collect::<Result<Vec<_>, _>>()?)
    }

    fn find_grant(&self, digest: &Digest) -> Option<Signed<Grant>> {
        match self.opened.get(digest) {
            Some(Opened::Grant(grant)) => Some(grant.clone()),
            _ => None,
        }
    }

    fn lineage(&mut self, request: &Signed<Request>, leaf: &Digest) -> Result<Arc<Lineage>, Rejection> {
        if let Some(known) = self.handed.lineages.get(leaf) {
            return Ok(known.clone());
        }
        let lineage = Arc::new(Lineage::of_checked(request, leaf, |digest| self.find_grant(digest))?);
        if self.handed.lineages.len() >= LINEAGES_MAX {
            self.handed.lineages.clear();
        }
        self.handed.lineages.insert(*leaf, lineage.clone());
        Ok(lineage)
    }

    pub(super) fn call(&mut self, envelope: &Envelope) -> Result<Signed<Call>, Rejection> {
        let call = envelope.open::<Call>().map_err(unsigned)?;
        let request = self.find_request(call.task)?.clone();
        let rests = |at: usize| call.prev.get(at).and_then(|digest| self.opened.get(digest));
        let (Some(Opened::Allocation(loan)), Some(Opened::Grant(grant)), 2) = (rests(0), rests(1), call.prev.len())
        else {
            return Err(bad("call", "what the call rests on").expected("the allocation of its loan, and a grant"));
        };
        let (loan, grant) = (loan.clone(), grant.digest());
        let lineage = self.lineage(&request, &grant)?;
        check_call(&Basis { request: &request, loan: &loan, lineage: &lineage }, &call)?;
        self.handed.tally.called(&call)?;
        Ok(call)
    }

    /// An answer to a call.
    pub(super) fn answer(&mut self, report: &Signed<Report>) -> Result<(), Rejection> {
        let request = self.find_request(report.task)?.clone();
        let rests = |at: usize| report.prev.get(at).and_then(|digest| self.opened.get(digest));
        let (
            Some(Opened::Allocation(loan)),
            Some(Opened::Passport(passport)),
            Some(Opened::Grant(grant)),
            Some(Opened::Call(call)),
        ) = (rests(0), rests(1), rests(2), rests(3))
        else {
            return Err(bad("answer", "what the answer rests on").expected(
                "the allocation of the loan, a passport, a grant, the call, then answers to calls of its own",
            ));
        };
        let (loan, passport, grant, call) = (loan.clone(), passport.clone(), grant.digest(), call.clone());
        let lineage = self.lineage(&request, &grant)?;
        let basis = Basis { request: &request, loan: &loan, lineage: &lineage };
        check_answer(&basis, &call, &passport, report)?;
        self.trusted_by(&request.tenant, &passport)?;
        let warning = self.unrevoked(report, &loan, &passport, lineage.grants())?;
        self.warnings.extend(warning);
        // Failures are attested, never proven.
        if call.assurance == Assurance::Proven && report.outcome == Outcome::Completed {
            self.ledger.owe(report.digest());
        }
        self.handed.tally.answered(&basis, &call, report)
    }

    /// The answers that a report used: its own, while it ran, each once, and as many as assure what was asked.
    pub(super) fn questions(&mut self, report: &Signed<Report>) -> Result<(), Rejection> {
        let mut answers = Vec::new();
        let head = if report.answer.is_some() { HEAD } else { 0 };
        for digest in report.prev.iter().skip(head) {
            match self.opened.get(digest) {
                Some(Opened::Report(answer)) if answer.answer.is_some() => answers.push(self.answered(answer)?),
                // What else the report of a fragment rests on, and in which order, was checked with it.
                _ if head == 0 => {}
                _ => {
                    return Err(bad("answer", "what the answer rests on, after its call")
                        .expected("answers to calls of its own")
                        .got(digest));
                }
            }
        }
        questions(Judge::Receipt, report, &answers)?;
        let used: Vec<Digest> = answers.iter().map(|one| one.answer.digest()).collect();
        used.iter().try_for_each(|answer| self.handed.tally.uses(answer))
    }

    /// An answer with what it rests on, all of which was checked before.
    fn answered<'o>(&'o self, answer: &'o Signed<Report>) -> Result<Answered<'o>, Rejection> {
        let opened = |digest: Option<&Digest>| digest.and_then(|digest| self.opened.get(digest));
        let rests = |at: usize| opened(answer.prev.get(at));
        let call = answer.answer.and_then(|answer| self.opened.get(&answer.call));
        match (rests(0), rests(1), rests(2), call) {
            (
                Some(Opened::Allocation(loan)),
                Some(Opened::Passport(passport)),
                Some(Opened::Grant(grant)),
                Some(Opened::Call(call)),
            ) => Ok(Answered { call, answer, loan, grant, passport }),
            _ => Err(bad("report", "what an answer rests on").expected("a loan, a passport, a grant and a call")),
        }
    }
}

fn rests_badly() -> Rejection {
    bad("loan", "what the allocation of a loan rests on")
        .expected("the request, the manager's appointment, and the borrower's own allocation, of the same fragment")
}
