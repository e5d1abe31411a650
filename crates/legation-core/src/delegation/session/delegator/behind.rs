//! What comes behind an answer whose enclave handed parts on in turn.
//!
//! Everything that statements say to each other is judged here. Not whether the pool ever gave a loan, or took a passport: both come signed,
//! by keys whose appointments nobody sends along, and a manager that began a new term has another key than the one before. Of that the
//! pool judges, and blames whoever was lent and signed for it.

use std::collections::BTreeMap;

use crate::{
    delegation::{
        Call, Lineage,
        judge::{Answered, HEAD, Judge, Judging, Shelf, Tally},
        session::BEHIND_MAX,
    },
    digest::Digest,
    dsse::{Envelope, Predicate, Signed},
    rejection::Rejection,
    revocation::Revoked,
    statement::{Allocation, Grant, Passport, Report, Request},
};

/// What an answer used in turn, judged.
#[derive(Default)]
pub(super) struct Below {
    /// What is counted with it, where its enclave may hand anything on.
    pub(super) tally: Option<Tally>,
    /// Loans and passports: whoever lends knows them, and no report brings them along.
    pub(super) loans: Vec<Envelope>,
    /// Grants, calls and answers.
    pub(super) statements: Vec<Envelope>,
}

/// Judges what an answer under `lineage` used in turn as the delegator's own report will be judged, beside what was counted
/// before.
pub(super) fn judge(
    (request, tally): (&Signed<Request>, &Tally),
    lineage: &Lineage,
    report: &Signed<Report>,
    behind: Vec<Envelope>,
    revoked: &Revoked,
) -> Result<Below, Rejection> {
    let used = report.prev.get(HEAD..).unwrap_or_default();
    if behind.len() > BEHIND_MAX {
        return Err(bad("statements behind an answer").expected(format!("at most {BEHIND_MAX}")).got(behind.len()));
    }
    if lineage.leaf().delegable.is_none() {
        if used.is_empty() && report.dissent.is_empty() && behind.is_empty() {
            return Ok(Below::default());
        }
        return Err(bad("what an answer used in turn").expected("nothing: its enclave may hand nothing on").got(
            format!("{} answers, {} that disagree, {} statements", used.len(), report.dissent.len(), behind.len()),
        ));
    }
    let opened = Behind::open(&behind)?;
    let known = Known { behind: &opened, lineage, revoked };
    let mut judging = Judging::new(request, &known, tally.clone());
    judging.uses(report, used)?;
    let tally = judging.finish(behind.iter().map(Envelope::digest))?;
    let (loans, statements) = behind.into_iter().partition(|envelope| opened.is_of_loan(&envelope.digest()));
    Ok(Below { tally: Some(tally), loans, statements })
}

/// The statements behind an answer, by digest, with their signatures checked.
#[derive(Default)]
struct Behind {
    answers: BTreeMap<Digest, Signed<Report>>,
    calls: BTreeMap<Digest, Signed<Call>>,
    grants: BTreeMap<Digest, Signed<Grant>>,
    loans: BTreeMap<Digest, Signed<Allocation>>,
    passports: BTreeMap<Digest, Signed<Passport>>,
}

fn bad(claim: &str) -> Rejection {
    Judge::Delegator.refuse("behind", claim)
}

fn open<P: Predicate>(envelope: &Envelope, into: &mut BTreeMap<Digest, Signed<P>>) -> Result<(), Rejection> {
    let signed = envelope.open::<P>().map_err(|e| bad("signature of a statement behind an answer").got(e))?;
    into.insert(envelope.digest(), signed);
    Ok(())
}

impl Behind {
    /// Opens what came behind an answer.
    fn open(envelopes: &[Envelope]) -> Result<Self, Rejection> {
        let mut opened = Self::default();
        for envelope in envelopes {
            let kind = envelope.predicate_type().map_err(|e| bad("a statement behind an answer").got(e))?;
            match kind.as_str() {
                Report::TYPE => open(envelope, &mut opened.answers)?,
                Call::TYPE => open(envelope, &mut opened.calls)?,
                Grant::TYPE => open(envelope, &mut opened.grants)?,
                Allocation::TYPE => open(envelope, &mut opened.loans)?,
                Passport::TYPE => open(envelope, &mut opened.passports)?,
                other => {
                    return Err(bad("kind of a statement behind an answer")
                        .expected("an answer, a call, a grant by an enclave, a loan or a passport")
                        .got(other));
                }
            }
        }
        Ok(opened)
    }

    /// Whether a statement tells of a loan.
    fn is_of_loan(&self, digest: &Digest) -> bool {
        self.loans.contains_key(digest) || self.passports.contains_key(digest)
    }
}

/// What came behind an answer, with the grants that were known before.
struct Known<'a> {
    behind: &'a Behind,
    /// The grants down to the one that the answer rests on.
    lineage: &'a Lineage,
    revoked: &'a Revoked,
}

impl Shelf for Known<'_> {
    fn answer(&self, digest: &Digest) -> Option<&Signed<Report>> {
        self.behind.answers.get(digest)
    }

    fn call(&self, digest: &Digest) -> Option<&Signed<Call>> {
        self.behind.calls.get(digest)
    }

    fn grant(&self, digest: &Digest) -> Option<&Signed<Grant>> {
        self.behind.grants.get(digest).or_else(|| self.lineage.grant(digest))
    }

    fn loan(&self, answer: &Report) -> Result<&Signed<Allocation>, Rejection> {
        let named = answer.prev.first();
        named.and_then(|digest| self.behind.loans.get(digest)).ok_or_else(|| bad("loan behind an answer").got("none"))
    }

    fn passport(&self, _: &Report, digest: &Digest) -> Result<&Signed<Passport>, Rejection> {
        self.behind.passports.get(digest).ok_or_else(|| bad("passport behind an answer").expected(digest).got("none"))
    }

    fn stands(&self, answered: &Answered<'_>, lineage: &Lineage) -> Result<(), Rejection> {
        let cut = self.revoked.of(answered.passport).or_else(|| lineage.revoked(self.revoked));
        cut.map_or(Ok(()), |revocation| Err(revocation.refusal()))
    }
}
