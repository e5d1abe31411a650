//! One judgement of answers, for everybody who relies on them: the delegator before it takes one, the pool before it takes a
//! report, and every reader of a receipt. What one of them refuses, none of them may let pass: the next would refuse the whole
//! report for it.
//!
//! 1. No number of a loan is used twice, a call has one answer, an answer is used once ([`Tally`]).
//! 2. What was used under a grant is within it, under grants below it within what it lets be passed on, and for a fragment
//!    within what its request lets be handed on at all ([`Tally`]).
//! 3. A report uses answers to its own calls: made by its enclave, on loans under its own promise, by a grant that rests on grants
//!    of its own, while it ran ([`questions`]).
//! 4. Of each question it used the one answer; or of a replicated one so many that a majority agrees, on enclaves as diverse as
//!    was asked; and it names exactly those that disagreed ([`questions`]).
//! 5. The answer to a call of assurance `proven` is attested at first, and is taken as such: its proof comes after it, and whoever
//!    reads the receipt says whether it is there ([`crate::proven`]).
//! 6. The same of each answer, for the answers that it rests on itself ([`Judging`]).
//!
//! Where statements lie, who judged passports and what is revoked is for whoever asks ([`Shelf`]).

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Basis, Call, Lineage, check_answer, check_call, sum::Sum, vote};
use crate::{
    digest::Digest,
    dsse::Signed,
    id::{FragmentIndex, LeaseId, TaskId},
    receipt::SKEW,
    rejection::Rejection,
    revocation::{Revocation, Revoked},
    statement::{Allocation, Assurance, Diversity, Grant, Passport, Report, Request},
};

/// What an answer rests on before the answers to calls of its own: allocation, passport, grant, call.
pub const HEAD: usize = 4;

/// Who judges; refusals begin with the word of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judge {
    /// A reader of a receipt.
    Receipt,
    /// The pool, of a report.
    Pool,
    /// Whoever asked, of an answer.
    Delegator,
}

impl Judge {
    /// A refusal by this judge, about `what`.
    pub fn refuse(self, what: &str, claim: &str) -> Rejection {
        let begins = match self {
            Self::Receipt => "receipt",
            Self::Pool => "report",
            Self::Delegator => "delegator",
        };
        Rejection::new(&format!("{begins}.{what}"), claim.to_owned())
    }

    /// About how a report uses answers.
    fn of_use(self, claim: &str) -> Rejection {
        self.refuse(if self == Self::Receipt { "report" } else { "answer" }, claim)
    }
}

/// An answer with what it rests on.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The call.
    pub call: &'a Signed<Call>,
    /// The answer.
    pub answer: &'a Signed<Report>,
    /// The loan that the call was made on.
    pub loan: &'a Signed<Allocation>,
    /// The grant to the enclave that was asked.
    pub grant: &'a Signed<Grant>,
    /// The passport of that enclave.
    pub passport: &'a Signed<Passport>,
}

/// Whether a report uses answers as it may: its own, while it ran, as many as assure what was asked; and whether it names exactly
/// those that disagreed.
///
/// # Errors
/// `.report` (of receipts), `.answer`; `.question`, `.dissent`; `vote.*`: the first rule that it breaks.
pub fn questions(judge: Judge, report: &Report, answers: &[Answered<'_>]) -> Result<(), Rejection> {
    let mut questions: BTreeMap<Digest, Vec<Answered<'_>>> = BTreeMap::new();
    for one in answers {
        is_own(judge, report, one)?;
        questions.entry(one.call.question).or_default().push(*one);
    }
    let mut dissent = Vec::new();
    for (question, answers) in &questions {
        let at = |why: Rejection| Rejection { claim: format!("{} (question {})", why.claim, question.short()), ..why };
        dissent.extend(assured(judge, answers).map_err(at)?);
    }
    dissent.sort_unstable();
    if report.dissent == dissent {
        return Ok(());
    }
    let show = |list: &[Digest]| match list {
        [] => "none".to_owned(),
        some => some.iter().map(Digest::short).collect::<Vec<_>>().join(" "),
    };
    Err(judge
        .refuse("dissent", "answers that disagreed, as the report names them")
        .expected(show(&dissent))
        .got(show(&report.dissent)))
}

/// A call is the report's own: of its enclave, under its allocation and its grants, and answered while it ran.
fn is_own(judge: Judge, report: &Report, one: &Answered<'_>) -> Result<(), Rejection> {
    let Answered { call, answer, loan, grant, .. } = *one;
    let own = call.delegator == report.enclave
        && (call.task, call.fragment) == (report.task, report.fragment)
        && loan.prev.get(2) == report.prev.first();
    if !own {
        return Err(judge
            .of_use("calls whose answers the report uses")
            .expected(format!("its own, on loans under {}", report.lease))
            .got(format!("one of enclave {} on {}", call.delegator.enclave_id().short(), call.loan)));
    }
    if let Some(other) = grant.prev.iter().find(|parent| !report.prev.contains(parent)) {
        return Err(judge
            .of_use("grants that were passed on for a call")
            .expected("those that the report rests on")
            .got(other));
    }
    if answer.started < report.started.minus(SKEW) || answer.finished > report.finished.plus(SKEW) {
        return Err(judge
            .of_use("time of a call")
            .expected(format!("while the execution that made it lasted, {} to {}", report.started, report.finished))
            .got(format!("{} to {}", answer.started, answer.finished)));
    }
    Ok(())
}

/// Whether answers to one question assure what was asked; gives those that disagreed.
fn assured(judge: Judge, answers: &[Answered<'_>]) -> Result<Vec<Digest>, Rejection> {
    let Some(first) = answers.first() else { return Ok(Vec::new()) };
    if let Some(other) = answers.iter().find(|one| !one.call.asks_as(first.call)) {
        return Err(judge
            .refuse("question", "calls of one question")
            .expected("the same module, arguments, input, demand and assurance")
            .got(format!("others in call {}", other.call.digest().short())));
    }
    match first.call.assurance {
        // Proofs follow: until one is there, and is good, nobody counts the result as more than attested.
        Assurance::Attested | Assurance::Proven if answers.len() == 1 => Ok(Vec::new()),
        one @ (Assurance::Attested | Assurance::Proven) => {
            let claim = format!("answers to one question that is to be {one}");
            Err(judge.refuse("question", &claim).expected("one").got(answers.len()))
        }
        Assurance::Replicated { k, diverse: by } => {
            diverse(judge, answers, by)?;
            let reports: Vec<_> = answers.iter().map(|one| one.answer.clone()).collect();
            vote::vote(k, &reports).map(|decision| decision.dissent)
        }
    }
}

/// No two of these are of machines that are the same in respect of what was asked, and never of one chip.
fn diverse(judge: Judge, answers: &[Answered<'_>], by: Diversity) -> Result<(), Rejection> {
    let mut seen = BTreeSet::new();
    for Answered { answer, passport, .. } in answers {
        let kind = match by {
            Diversity::Chip => None,
            Diversity::Provider => Some(passport.configuration.provider.to_string()),
            Diversity::Tee => Some(passport.claims.tee.value.to_string()),
        };
        let apart = seen.insert((Diversity::Chip, passport.claims.chip.value.clone()))
            && kind.is_none_or(|kind| seen.insert((by, kind)));
        if !apart {
            return Err(judge
                .refuse("question", "enclaves that ran one question")
                .expected(format!("no two of one chip, no two of one {}", by.axis()))
                .got(format!("{} beside another", answer.enclave.enclave_id().short())));
        }
    }
    Ok(())
}

/// The revocation that cuts an answer: of its enclave, of a grant above, or of who signed one; known before it was finished, or
/// when the enclave was lent. What is revoked later does not change what was done before.
pub fn cut<'r>(revoked: &'r Revoked, one: &Answered<'_>, lineage: &Lineage) -> Option<&'r Revocation> {
    let all = revoked.of(one.passport).into_iter().chain(lineage.revoked(revoked));
    let first = all.min_by_key(|revocation| revocation.epoch)?;
    (one.answer.finished >= first.at || one.loan.revocations >= first.epoch).then_some(first)
}

/// What was handed on so far, by calls, answers and grants.
#[derive(Clone, Debug)]
pub struct Tally {
    judge: Judge,
    /// Numbers of calls. Leases are counted by each pool for itself, so a loan is named with its task.
    numbers: BTreeSet<(TaskId, LeaseId, u64)>,
    /// Calls that have an answer.
    answered: BTreeSet<Digest>,
    /// Answers that a report used.
    used: BTreeSet<Digest>,
    /// What was used under a grant, under grants below it, and for a fragment.
    under: BTreeMap<(Digest, FragmentIndex), Sum>,
    below: BTreeMap<(Digest, FragmentIndex), Sum>,
    parts: BTreeMap<(TaskId, FragmentIndex), Sum>,
}

impl Tally {
    /// Nothing so far.
    pub fn new(judge: Judge) -> Self {
        Self {
            judge,
            numbers: BTreeSet::new(),
            answered: BTreeSet::new(),
            used: BTreeSet::new(),
            under: BTreeMap::new(),
            below: BTreeMap::new(),
            parts: BTreeMap::new(),
        }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// `.call`: another of this loan has its number.
    pub fn called(&mut self, call: &Call) -> Result<(), Rejection> {
        if self.numbers.insert((call.task, call.loan, call.number)) {
            return Ok(());
        }
        Err(self.judge.refuse("call", "numbers of the calls of one loan").expected("each once").got(call.number))
    }

    /// Counts an answer that holds on `basis`, and what it used.
    ///
    /// # Errors
    /// `.answer`: its call has another; `.handed`: together it is more than a grant or the request lets be handed on.
    pub fn answered(&mut self, basis: &Basis<'_>, call: &Signed<Call>, answer: &Report) -> Result<(), Rejection> {
        if !self.answered.insert(call.digest()) {
            return Err(self.judge.refuse("answer", "answers to one call").expected("one").got("another"));
        }
        let (lineage, judge) = (basis.lineage, self.judge);
        let (leaf, fragment) = (lineage.leaf(), lineage.fragment());
        let micros = answer.usage.micros.min(call.demand.time.0.saturating_mul(1000));
        let used = Sum { fuel: answer.usage.fuel, cost: basis.cost(micros) };
        let most = Sum { fuel: leaf.fuel, cost: leaf.budget };
        let what = || format!("calls under a grant ({})", leaf.digest().short());
        within(judge, add(&mut self.under, (leaf.digest(), fragment), used), most, what)?;
        for grant in lineage.above() {
            let Some(passed) = &grant.delegable else { continue };
            let most = Sum { fuel: passed.fuel, cost: passed.budget };
            let what = || format!("calls under all that was passed on of a grant ({})", grant.digest().short());
            within(judge, add(&mut self.below, (grant.digest(), fragment), used), most, what)?;
        }
        let most = basis.request.fragment(fragment).and_then(|spec| spec.delegates.as_ref());
        let most = most.map_or(Sum::ZERO, |most| Sum { fuel: most.fuel, cost: most.budget });
        let what = || format!("all calls for fragment {fragment}");
        within(judge, add(&mut self.parts, (call.task, fragment), used), most, what)
    }

    /// Counts the use of an answer.
    ///
    /// # Errors
    /// `.report` (of receipts), `.answer`: it was used before.
    pub fn uses(&mut self, answer: &Digest) -> Result<(), Rejection> {
        if self.used.insert(*answer) {
            return Ok(());
        }
        Err(self.judge.of_use("use of an answer").expected("once").got(format!("{answer} again")))
    }

    /// What was used under grants below this one.
    pub fn below(&self, grant: &Digest, fragment: FragmentIndex) -> Sum {
        self.below.get(&(*grant, fragment)).copied().unwrap_or_default()
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, Sum>, key: K, more: Sum) -> Sum {
    let sum = sums.entry(key).or_default();
    *sum = sum.plus(more);
    *sum
}

fn within(judge: Judge, sum: Sum, most: Sum, what: impl Fn() -> String) -> Result<(), Rejection> {
    if sum.is_within(most) {
        return Ok(());
    }
    Err(judge
        .refuse("handed", &format!("fuel and cost of {}", what()))
        .expected(format!("at most {} and {}", most.fuel, most.cost))
        .got(format!("{} and {}", sum.fuel, sum.cost)))
}

/// Where the statements behind answers are, with their signatures checked, and what else whoever asks knows of them.
pub trait Shelf {
    /// The answer of this digest.
    fn answer(&self, digest: &Digest) -> Option<&Signed<Report>>;

    /// The call of this digest.
    fn call(&self, digest: &Digest) -> Option<&Signed<Call>>;

    /// The grant of this digest.
    fn grant(&self, digest: &Digest) -> Option<&Signed<Grant>>;

    /// The loan that an answer is of.
    ///
    /// # Errors
    /// There is none that it may be of.
    fn loan(&self, answer: &Report) -> Result<&Signed<Allocation>, Rejection>;

    /// The passport of this digest, for whose answer it is.
    ///
    /// # Errors
    /// There is none, or nobody who is trusted with it gave it.
    fn passport(&self, answer: &Report, digest: &Digest) -> Result<&Signed<Passport>, Rejection>;

    /// Nothing that cuts an answer is revoked.
    ///
    /// # Errors
    /// The revocation.
    fn stands(&self, answered: &Answered<'_>, lineage: &Lineage) -> Result<(), Rejection>;
}

/// The judgement of what a report used, with all that its answers used in turn.
pub struct Judging<'a, S> {
    request: &'a Signed<Request>,
    shelf: &'a S,
    tally: Tally,
    lineages: BTreeMap<Digest, Arc<Lineage>>,
    /// Grants that hold with all above them: each is checked once, however many leaves it has.
    checked: RefCell<BTreeSet<Digest>>,
    needed: BTreeSet<Digest>,
}

impl<'a, S: Shelf> Judging<'a, S> {
    /// For a task, beside what was counted before.
    pub fn new(request: &'a Signed<Request>, shelf: &'a S, tally: Tally) -> Self {
        Self { request, shelf, tally, lineages: BTreeMap::new(), checked: RefCell::default(), needed: BTreeSet::new() }
    }

    /// Judges the answers that a report used, and those that they used in turn: no deeper than grants let be passed on.
    ///
    /// # Errors
    /// `.attached`: a statement is missing; the rules of this module, [`check_call`] and [`check_answer`].
    pub fn uses(&mut self, report: &Report, answers: &[Digest]) -> Result<(), Rejection> {
        let shelf = self.shelf;
        let mut judged = Vec::new();
        for digest in answers {
            let answer = shelf.answer(digest).ok_or_else(|| self.missing("answer", digest))?;
            self.needed.insert(*digest);
            self.tally.uses(digest)?;
            judged.push(self.answer(answer)?);
        }
        questions(self.tally.judge, report, &judged)?;
        // Each of these rests on a grant that is one less deep than the one before.
        for one in judged {
            self.uses(one.answer, one.answer.prev.get(HEAD..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn missing(&self, what: &str, digest: &Digest) -> Rejection {
        let claim = format!("{what} that the report rests on");
        self.tally.judge.refuse("attached", &claim).expected(digest).got("nothing")
    }

    /// One answer, with its call and what both rest on.
    fn answer(&mut self, answer: &'a Signed<Report>) -> Result<Answered<'a>, Rejection> {
        let (shelf, judge) = (self.shelf, self.tally.judge);
        let (Some(said), [_, passport, grant, ..]) = (answer.answer, answer.prev.as_slice()) else {
            return Err(judge
                .refuse("answer", "what an answer rests on")
                .expected("allocation, passport, grant, and the call that it answers"));
        };
        let call = shelf.call(&said.call).ok_or_else(|| self.missing("call", &said.call))?;
        let loan = shelf.loan(answer)?;
        let lineage = self.lineage(grant)?;
        let basis = Basis { request: self.request, loan, lineage: &lineage };
        check_call(&basis, call)?;
        let passport = shelf.passport(answer, passport)?;
        check_answer(&basis, call, passport, answer)?;
        let grant = shelf.grant(grant).ok_or_else(|| self.missing("grant", grant))?;
        let answered = Answered { call, answer, loan, grant, passport };
        shelf.stands(&answered, &lineage)?;
        self.tally.called(call)?;
        self.tally.answered(&basis, call, answer)?;
        self.needed.extend([said.call, loan.digest(), passport.digest()]);
        Ok(answered)
    }

    /// The grant behind a call with all above it.
    fn lineage(&mut self, leaf: &Digest) -> Result<Arc<Lineage>, Rejection> {
        if let Some(known) = self.lineages.get(leaf) {
            return Ok(known.clone());
        }
        let shelf = self.shelf;
        let find = |digest: &Digest| shelf.grant(digest).cloned();
        let lineage = Arc::new(Lineage::of_beside(self.request, leaf, find, &self.checked)?);
        self.needed.extend(lineage.grants().map(Signed::digest));
        self.lineages.insert(*leaf, lineage.clone());
        Ok(lineage)
    }

    /// What was counted, if nothing came but what is needed.
    ///
    /// # Errors
    /// `.attached`: what nobody needs.
    pub fn finish(self, came: impl IntoIterator<Item = Digest>) -> Result<Tally, Rejection> {
        match came.into_iter().find(|came| !self.needed.contains(came)) {
            None => Ok(self.tally),
            Some(other) => Err(self
                .tally
                .judge
                .refuse("attached", "statements that came with the report")
                .expected("those that it rests on, and nothing else")
                .got(other)),
        }
    }
}
