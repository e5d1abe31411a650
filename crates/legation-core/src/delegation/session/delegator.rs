//! The side that asks: one execution, its loans, its questions.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    AWAY, BUSY, LOANS_MAX, Now, PROOF_COST, QUESTIONS_MAX, RESEND, RESENDS_MAX, SPENT, STALE_CHALLENGE, ToDelegate,
    ToDelegator, UNFIT_MAX, VAIN_MAX, after, refuse,
};
use crate::{
    delegation::{
        Basis, Call, Lineage, Sum,
        attenuate::{Onward, purse, widest},
        call::{check_answer, check_call, check_form, cost},
        judge::{Judge, Tally},
    },
    digest::Digest,
    dsse::{self, Envelope, Signed},
    id::LeaseId,
    key::Signer,
    proven::may_be_assured,
    receipt::SKEW,
    rejection::Rejection,
    revocation::{Revocation, Revoked},
    statement::{Allocation, Assurance, Committed, Grant, Passport, Report, Request},
    time::{Millis, UnixTime},
    unit::{Fuel, MicroUsd},
};

mod behind;
mod event;
mod job;
mod loan;
mod purse;
mod settle;
mod wants;

use behind::Below;
pub use event::{DelegatorAction, DelegatorEvent, JobId, Question, Settled, Want};
use job::{Attempt, Given, Job, due, submit};
use loan::{Loan, State};
use purse::Purse;

/// Check of a refusal because an answer rests on a passport that its question is not content with.
const REQUIRE: &str = "delegator.require";

/// One execution that hands parts on.
pub struct Delegator {
    signer: Arc<dyn Signer>,
    request: Signed<Request>,
    own: Signed<Allocation>,
    /// The grants that its own report will rest on, and all above them.
    grants: Vec<Signed<Grant>>,
    above: BTreeMap<Digest, Signed<Grant>>,
    /// How often delegates may pass on in turn.
    depth: u32,
    purse: Purse,
    /// What delegates handed on in turn, by what they answered.
    tally: Tally,
    loans: BTreeMap<LeaseId, Loan>,
    jobs: BTreeMap<JobId, Job>,
    /// When something happened last.
    date: UnixTime,
}

impl Delegator {
    /// An execution under `own` (of its fragment, or of a loan whose call it runs), that may pass on `grants`; `above` has all
    /// grants that those rest on. Delegates may pass on `depth` times in turn, as far as the grants let them.
    pub fn new(
        signer: Arc<dyn Signer>,
        request: Signed<Request>,
        own: Signed<Allocation>,
        grants: Vec<Signed<Grant>>,
        above: impl IntoIterator<Item = Signed<Grant>>,
        depth: u32,
    ) -> Self {
        Self {
            signer,
            request,
            own,
            above: above.into_iter().chain(grants.iter().cloned()).map(|grant| (grant.digest(), grant)).collect(),
            purse: Purse::new(purse(&grants), Sum::ZERO),
            tally: Tally::new(Judge::Delegator),
            grants,
            depth,
            loans: BTreeMap::new(),
            jobs: BTreeMap::new(),
            date: UnixTime(0),
        }
    }

    /// So much of the grants was handed on before: by executions of other calls on the same loan.
    #[must_use]
    pub fn having_spent(self, spent: Sum) -> Self {
        Self { purse: Purse::new(self.purse.most(), spent), ..self }
    }

    /// What was handed on so far, before this execution and by it, if every loan ended now.
    pub fn handed(&self) -> Sum {
        self.purse.handed(self.loans.values(), &self.tally)
    }

    /// What is left to hand on.
    pub fn left(&self) -> (Fuel, MicroUsd) {
        let left = self.purse.left();
        (left.fuel, left.cost)
    }

    /// When to come back with a tick, if nothing happens before.
    pub fn next_timeout(&self) -> Option<Millis> {
        let deadlines = self.jobs.values().map(|job| job.deadline);
        let waits = self.jobs.values().flat_map(|job| [job.decided, job.short]).flatten();
        // What was sent is sent again by the session once there is one.
        let opening =
            |lease: &LeaseId| self.loans.get(lease).is_some_and(|loan| matches!(loan.state, State::Describing { .. }));
        let attempts = self.jobs.values().flat_map(|job| &job.attempts).filter(|(lease, _)| !opening(lease));
        let attempts = attempts.map(|(_, attempt)| due(attempt));
        let loans = self.loans.values().filter_map(Loan::due);
        deadlines.chain(waits.map(|since| after(since, AWAY))).chain(attempts).chain(loans).min()
    }

    /// Takes what happened; gives what is to be done, in order.
    pub fn handle(&mut self, event: DelegatorEvent, now: Now, revoked: &Revoked) -> Vec<DelegatorAction> {
        let mut out = Vec::new();
        self.date = now.date;
        self.loans.values_mut().for_each(|loan| loan.wake(now.ms));
        match event {
            DelegatorEvent::Lent { loan, passport } => self.lent(*loan, *passport, now, revoked, &mut out),
            DelegatorEvent::Renewed { loan, passport } => {
                if let Some(loan) = self.loans.get_mut(&loan) {
                    loan.renew(*passport);
                }
            }
            DelegatorEvent::Opened(loan) => self.describe(loan, now, &mut out),
            DelegatorEvent::Closed(loan) => {
                if let Some(loan) = self.loans.get_mut(&loan) {
                    loan.state = State::Away { since: loan.state.since(now.ms) };
                }
            }
            DelegatorEvent::Gone(loan) => {
                self.lose(loan, &refuse("delegator.lost", "loan of the call").expected("one that lasts"), &mut out);
                self.part(loan);
            }
            DelegatorEvent::Ask { job, question } => self.ask(job, *question, now, &mut out),
            DelegatorEvent::Cancel(job) => {
                let why = refuse("delegator.cancelled", "the question").expected("somebody who waits").got("nobody");
                self.give_up(job, why, &mut out);
            }
            DelegatorEvent::Heard { loan, message, output } => {
                self.heard(loan, *message, output, now, revoked, &mut out);
            }
            DelegatorEvent::Tick => {}
        }
        self.cut(revoked, &mut out);
        self.advance(now, &mut out);
        out
    }

    fn lent(
        &mut self,
        loan: Signed<Allocation>,
        passport: Signed<Passport>,
        now: Now,
        revoked: &Revoked,
        out: &mut Vec<DelegatorAction>,
    ) {
        let lease = loan.lease;
        if self.loans.contains_key(&lease) {
            return;
        }
        match self.lineage_of(&loan, &passport, revoked) {
            Ok(lineage) => {
                let loan = Loan::new(loan, passport, lineage, now.ms);
                self.purse.spend(loan.onward());
                self.loans.insert(lease, loan);
            }
            Err(why) => out.push(DelegatorAction::GiveBack { loan: lease, why }),
        }
    }

    /// Passes the grants on to the enclave of a loan.
    fn lineage_of(
        &self,
        loan: &Signed<Allocation>,
        passport: &Signed<Passport>,
        revoked: &Revoked,
    ) -> Result<Lineage, Rejection> {
        if self.loans.len() >= LOANS_MAX {
            return Err(refuse("delegator.loans", "loans of one execution").expected(format!("at most {LOANS_MAX}")));
        }
        let mine = loan.loan.is_some_and(|terms| {
            terms.of == self.own.lease
                && terms.borrower == self.own.enclave
                && loan.prev.get(2) == Some(&self.own.digest())
        });
        if !mine {
            return Err(refuse("delegator.loan", "whose loan it is").expected(format!("under {}", self.own.lease)));
        }
        if let Some(revocation) = revoked.of(passport) {
            return Err(revocation.refusal());
        }
        let key = self.signer.public_key();
        let onward = Onward { depth: self.depth, most: self.purse.share(self.loans.values(), self.need(loan)) };
        let grant = widest(&self.grants, key, self.own.fragment, (loan.enclave, loan.until), onward)?;
        let grant = dsse::sign(grant, &*self.signer);
        let find = |digest: &Digest| match *digest == grant.digest() {
            true => Some(grant.clone()),
            false => self.above.get(digest).cloned(),
        };
        let lineage = Lineage::of(&self.request, &grant.digest(), find)?;
        if let Some(revocation) = lineage.revoked(revoked) {
            return Err(revocation.refusal());
        }
        let basis = Basis { request: &self.request, loan, lineage: &lineage };
        basis.check()?;
        basis.admits(passport)?;
        Ok(lineage)
    }

    /// What the largest question that waits needs of the purse, at the price of this loan.
    fn need(&self, loan: &Allocation) -> Sum {
        let need = |job: &Job| {
            let demand = &job.question.demand;
            let each = Sum { fuel: demand.fuel, cost: cost(loan, demand.time.0.saturating_mul(1000)) };
            each.times(u64::try_from(job.missing()).unwrap_or(u64::MAX))
        };
        self.jobs.values().map(need).fold(Sum::ZERO, Sum::most)
    }

    /// Begins a session.
    fn describe(&mut self, lease: LeaseId, now: Now, out: &mut Vec<DelegatorAction>) {
        let Some(loan) = self.loans.get_mut(&lease) else { return };
        loan.state = State::Describing { since: loan.state.since(now.ms), sent: now.ms };
        let message = loan.description();
        out.push(DelegatorAction::Send { loan: lease, message: Box::new(message) });
    }

    /// As [`Self::describe`], where there is a channel.
    fn describe_again(&mut self, lease: LeaseId, now: Now, out: &mut Vec<DelegatorAction>) {
        if self.loans.get(&lease).is_some_and(|loan| !matches!(loan.state, State::Away { .. })) {
            self.describe(lease, now, out);
        }
    }

    fn ask(&mut self, id: JobId, question: Question, now: Now, out: &mut Vec<DelegatorAction>) {
        match self.answerable(id, &question) {
            Ok(()) => drop(self.jobs.insert(id, Job::new(question, now.ms))),
            Err(why) => out.push(DelegatorAction::GaveUp { job: id, why }),
        }
    }

    /// Whether any enclave could answer a question, as far as it can be told without one.
    fn answerable(&self, id: JobId, question: &Question) -> Result<(), Rejection> {
        if self.jobs.len() >= QUESTIONS_MAX || self.jobs.contains_key(&id) {
            return Err(refuse("delegator.questions", "questions at once")
                .expected(format!("at most {QUESTIONS_MAX}, each of a name of its own"))
                .got(self.jobs.len()));
        }
        let (demand, most) = (question.demand, self.purse.most());
        if demand.fuel > most.fuel {
            return Err(refuse(SPENT, "fuel of the question")
                .expected(format!("at most {}", most.fuel))
                .got(demand.fuel));
        }
        if demand.fuel == Fuel::ZERO || demand.time == Millis(0) {
            return Err(refuse("delegator.demand", "demand of the question")
                .expected("some fuel and time")
                .got(format!("{}, {} ms", demand.fuel, demand.time.0)));
        }
        check_form(&question.args, question.input, demand.output)?;
        question.assurance.validate()?;
        may_be_assured(question.assurance, &self.request.data)?;
        let passed = || self.grants.iter().filter_map(|grant| grant.delegable.as_ref());
        if !passed().all(|passed| passed.modules.contains(&question.module)) {
            return Err(refuse("delegator.module", "module of the question")
                .expected("one that all grants let be handed on")
                .got(question.module));
        }
        let above = self.above.values().filter_map(|grant| grant.delegable.as_ref());
        match above.map(|passed| passed.assurance).find(|least| !question.assurance.covers(*least)) {
            None => Ok(()),
            Some(least) => Err(refuse("delegator.assurance", "assurance of the question")
                .expected(format!("{least} at least"))
                .got(question.assurance)),
        }
    }

    fn heard(
        &mut self,
        lease: LeaseId,
        message: ToDelegator,
        output: Option<Committed>,
        now: Now,
        revoked: &Revoked,
        out: &mut Vec<DelegatorAction>,
    ) {
        match message {
            ToDelegator::Challenge { loan, challenge, last } if loan == lease => {
                self.challenged(lease, challenge, last, now, out);
            }
            ToDelegator::Unavailable { loan, why } if loan == lease => {
                // Its word is about itself: whether a question can be handed on at all is not for one enclave to say.
                let why = refuse("delegator.unavailable", "session with the enclave").expected("one").got(why);
                self.give_back(lease, why, out);
            }
            ToDelegator::Accepted { call } => {
                // Said again it buys no more time.
                if let Some((_, attempt)) = self.attempt(lease, call).filter(|(_, attempt)| !attempt.accepted) {
                    (attempt.accepted, attempt.taken, attempt.sent) = (true, true, now.ms);
                }
            }
            ToDelegator::Refused { call, ran, why } => match self.attempt(lease, call).map(|(job, _)| job) {
                Some(job) => self.refused(job, lease, (ran, why), now, out),
                None => self.spoken(lease, call, ran),
            },
            ToDelegator::Answered { report, behind } => {
                let Some(answer) = report.answer else { return };
                let Some((job, _)) = self.attempt(lease, answer.call) else {
                    // It ran, and too late.
                    return self.spoken(lease, answer.call, true);
                };
                match self.verified((job, lease), &report, output, behind, now, revoked) {
                    Ok(behind) => self.taken((job, lease), report, behind),
                    // No lie: what a question requires its enclave is not told.
                    Err(why) if why.check == REQUIRE => self.give_back(lease, why, out),
                    Err(why) => self.distrust(lease, why, out),
                }
            }
            // About another loan than the channel's: nothing that it may speak of.
            ToDelegator::Challenge { .. } | ToDelegator::Unavailable { .. } => {}
        }
    }

    /// The attempt that waits for `call` on this loan.
    fn attempt(&mut self, lease: LeaseId, call: Digest) -> Option<(JobId, &mut Attempt)> {
        let job = self.loans.get(&lease)?.busy?;
        let attempt = self.jobs.get_mut(&job)?.attempts.get_mut(&lease)?;
        (attempt.call.digest() == call).then_some((job, attempt))
    }

    fn challenged(&mut self, lease: LeaseId, challenge: Digest, last: u64, now: Now, out: &mut Vec<DelegatorAction>) {
        let Some(loan) = self.loans.get_mut(&lease).filter(|loan| matches!(loan.state, State::Describing { .. }))
        else {
            return;
        };
        // Nobody but this side numbers calls.
        if last > loan.last {
            let why = refuse("delegator.number", "highest number that the enclave saw")
                .expected(format!("at most {}, the last that was signed", loan.last))
                .got(last);
            return self.distrust(lease, why, out);
        }
        loan.state = State::Ready { challenge };
        // What it may or may not have received is sent again: it runs it once in any case.
        let attempt = loan.busy.and_then(|job| self.jobs.get_mut(&job)).and_then(|job| job.attempts.get_mut(&lease));
        let Some(attempt) = attempt else { return };
        // A new session gives nobody more time than what it took on.
        if !attempt.accepted {
            if attempt.resent >= RESENDS_MAX {
                return self.give_back(lease, silent("answer of the enclave"), out);
            }
            (attempt.sent, attempt.resent) = (now.ms, attempt.resent.saturating_add(1));
        }
        submit(lease, attempt, out);
    }

    fn refused(
        &mut self,
        job: JobId,
        lease: LeaseId,
        (ran, why): (bool, Rejection),
        now: Now,
        out: &mut Vec<DelegatorAction>,
    ) {
        let Some(attempt) = self.release(job, lease) else { return };
        let Some(loan) = self.loans.get_mut(&lease) else { return };
        if ran {
            loan.ran_unseen();
        } else {
            loan.spent = loan.spent.minus(attempt.reserved);
            self.purse.back(attempt.reserved);
        }
        let enclave = loan.face.enclave;
        let Some(job) = self.jobs.get_mut(&job) else { return };
        // Said once, it may be so; an enclave that always says it is of no use.
        let stale = why.check == STALE_CHALLENGE && job.stale.insert(enclave);
        let busy = why.check == BUSY;
        // Whether there is room to prove a call is known only when it was this one's turn to be counted.
        let vain = busy && attempt.taken && attempt.call.assurance != Assurance::Proven && loan.took_in_vain();
        if busy {
            loan.rest(now.ms);
            // Nothing was tried.
            if !ran {
                job.made = job.made.saturating_sub(1);
            }
        }
        if vain || (!busy && !stale) {
            job.tried.insert(enclave);
        }
        // Each says it of itself: who has more room may find it less dear.
        if why.check == PROOF_COST {
            job.unfit = job.unfit.saturating_add(1);
            job.hopeless |= job.unfit >= UNFIT_MAX;
        }
        job.why = Some(why);
        if stale {
            self.describe_again(lease, now, out);
        }
        if vain {
            let why = refuse("delegator.busy", "calls that the enclave took").expected("answers");
            self.give_back(lease, why.got(format!("no room, {VAIN_MAX} times in a row")), out);
        }
    }

    /// An enclave says what became of a call that nobody waits for any more.
    fn spoken(&mut self, lease: LeaseId, call: Digest, ran: bool) {
        let Some(loan) = self.loans.get_mut(&lease) else { return };
        if let Some(reserved) = loan.settle(call, ran) {
            loan.spent = loan.spent.minus(reserved);
            self.purse.back(reserved);
        }
    }

    /// Takes an attempt off its question and its loan.
    fn release(&mut self, job: JobId, lease: LeaseId) -> Option<Attempt> {
        if let Some(loan) = self.loans.get_mut(&lease).filter(|loan| loan.busy == Some(job)) {
            loan.busy = None;
        }
        self.jobs.get_mut(&job)?.attempts.remove(&lease)
    }

    /// A loan is over. What its enclave might have handed on, and did not, comes back.
    fn part(&mut self, lease: LeaseId) -> bool {
        let Some(loan) = self.loans.remove(&lease) else { return false };
        self.purse.back(purse::unused(&loan, &self.tally));
        true
    }

    /// A loan is of no use: what its enclave was asked is asked of another.
    fn give_back(&mut self, lease: LeaseId, why: Rejection, out: &mut Vec<DelegatorAction>) {
        self.lose(lease, &why, out);
        if self.part(lease) {
            out.push(DelegatorAction::GiveBack { loan: lease, why });
        }
    }

    /// Whether an answer is one: by its report, the passport it names, what arrived, and all that it used in turn.
    fn verified(
        &self,
        (job, lease): (JobId, LeaseId),
        report: &Signed<Report>,
        output: Option<Committed>,
        behind: Vec<Envelope>,
        now: Now,
        revoked: &Revoked,
    ) -> Result<Below, Rejection> {
        let gone = || refuse("delegator.answer", "what the answer is about").expected("a call that waits").got("none");
        let loan = self.loans.get(&lease).ok_or_else(gone)?;
        let job = self.jobs.get(&job).ok_or_else(gone)?;
        let attempt = job.attempts.get(&lease).ok_or_else(gone)?;
        let passport = loan.passport(report.prev.get(1)).ok_or_else(|| {
            refuse("delegator.passport", "passport that the answer rests on")
                .expected("one that the enclave showed here")
                .got(report.prev.get(1).map_or("none".to_owned(), Digest::to_string))
        })?;
        if let Some(revocation) = revoked.of(passport).or_else(|| loan.lineage.revoked(revoked)) {
            return Err(revocation.refusal());
        }
        let basis = Basis { request: &self.request, loan: &loan.allocation, lineage: &loan.lineage };
        check_answer(&basis, &attempt.call, passport, report)?;
        // What its clock says of later, this execution's own report could not be later than.
        if report.finished > now.date.plus(SKEW) {
            return Err(refuse("delegator.time", "end of the execution")
                .expected(format!("no later than {}, now", now.date))
                .got(report.finished)
                .fix("set the clock of the other enclave"));
        }
        if report.answer.and_then(|answer| answer.output) != output {
            return Err(refuse("delegator.output", "output that arrived")
                .expected("what the report commits to")
                .got("something else"));
        }
        let mut below = behind::judge((&self.request, &self.tally), &loan.lineage, report, behind, revoked)?;
        loan.meets(job.question.require.as_ref(), passport).map_err(|why| {
            refuse(REQUIRE, "passport that the answer rests on").expected("one that satisfies the question").got(why)
        })?;
        below.loans.extend([loan.allocation.envelope().clone(), passport.envelope().clone()]);
        Ok(below)
    }

    fn taken(&mut self, (id, lease): (JobId, LeaseId), report: Signed<Report>, behind: Below) {
        let Some(attempt) = self.release(id, lease) else { return };
        let Some(loan) = self.loans.get_mut(&lease) else { return };
        loan.rested();
        let used = loan.used(report.usage.fuel, report.usage.micros).least(attempt.reserved);
        let unused = attempt.reserved.minus(used);
        loan.spent = loan.spent.minus(unused);
        self.purse.back(unused);
        if let Some(tally) = behind.tally {
            self.tally = tally;
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.tried.insert(loan.face.enclave);
        let mut statements = vec![loan.lineage.leaf().envelope().clone(), attempt.call.envelope().clone()];
        statements.push(report.envelope().clone());
        statements.extend(behind.statements);
        let given = Given { loan: lease, face: loan.face.clone(), report, statements, loans: behind.loans };
        job.given.push(given);
    }

    /// An enclave that lied is not asked again.
    fn distrust(&mut self, lease: LeaseId, why: Rejection, out: &mut Vec<DelegatorAction>) {
        self.lose(lease, &why, out);
        if let Some(loan) = self.loans.get_mut(&lease) {
            loan.distrusted = true;
        }
        out.push(DelegatorAction::Distrust { loan: lease, why });
    }

    /// The attempt of a loan comes to nothing. Unless its enclave says that it never ran, it stays spent.
    fn lose(&mut self, lease: LeaseId, why: &Rejection, out: &mut Vec<DelegatorAction>) {
        let Some(loan) = self.loans.get(&lease) else { return };
        let (enclave, busy) = (loan.face.enclave, loan.busy);
        let Some(job) = busy else { return };
        self.call_off(job, lease, out);
        if let Some(job) = self.jobs.get_mut(&job) {
            job.tried.insert(enclave);
            job.why = Some(why.clone());
        }
    }

    /// Nobody waits for the call of a question on a loan any more.
    fn call_off(&mut self, job: JobId, lease: LeaseId, out: &mut Vec<DelegatorAction>) {
        let Some(attempt) = self.release(job, lease) else { return };
        let call = attempt.call.digest();
        if let Some(loan) = self.loans.get_mut(&lease) {
            loan.owe(call, attempt.reserved);
        }
        out.push(DelegatorAction::Send { loan: lease, message: Box::new(ToDelegate::Cancel { call }) });
    }

    fn give_up(&mut self, id: JobId, why: Rejection, out: &mut Vec<DelegatorAction>) {
        if self.end(id, out).is_some() {
            out.push(DelegatorAction::GaveUp { job: id, why });
        }
    }

    /// Takes a question out, and tells those who still work on it.
    fn end(&mut self, id: JobId, out: &mut Vec<DelegatorAction>) -> Option<Job> {
        let running: Vec<LeaseId> = self.jobs.get(&id)?.attempts.keys().copied().collect();
        for lease in running {
            self.call_off(id, lease, out);
        }
        self.jobs.remove(&id)
    }

    /// What was revoked cuts the loans that rest on it; and every question, if it is what this execution was granted.
    fn cut(&mut self, revoked: &Revoked, out: &mut Vec<DelegatorAction>) {
        if revoked.is_empty() {
            return;
        }
        let cut = |loan: &Loan| loan.lineage.revoked(revoked).map(Revocation::refusal);
        let loans: Vec<_> = self.loans.iter().filter_map(|(lease, loan)| Some((*lease, cut(loan)?))).collect();
        for (lease, why) in loans {
            self.give_back(lease, why, out);
        }
        if let Some(revocation) = self.above.values().find_map(|grant| revoked.of_grant(grant)) {
            for id in self.jobs.keys().copied().collect::<Vec<_>>() {
                self.give_up(id, revocation.refusal(), out);
            }
        }
    }

    /// What time and the last event brought: what is due, what is settled, what can be asked.
    fn advance(&mut self, now: Now, out: &mut Vec<DelegatorAction>) {
        self.remind(now, out);
        // Twice: loans became free by what was settled.
        for _ in 0..2 {
            for id in self.jobs.keys().copied().collect::<Vec<_>>() {
                self.put(id, now, out);
                self.settle(id, now, out);
            }
        }
    }

    /// Sends again what was not answered. Who does not answer often enough, or has no session for too long, is given back: a loan
    /// costs while it lasts, and there is room for few.
    fn remind(&mut self, now: Now, out: &mut Vec<DelegatorAction>) {
        let leases: Vec<LeaseId> = self.loans.keys().copied().collect();
        for lease in leases {
            let Some(loan) = self.loans.get(&lease) else { continue };
            match loan.state {
                State::Away { since } | State::Describing { since, .. } if after(since, AWAY) <= now.ms => {
                    self.give_back(lease, silent("session with the enclave"), out);
                    continue;
                }
                State::Describing { sent, .. } => {
                    if after(sent, RESEND) <= now.ms {
                        self.describe(lease, now, out);
                    }
                    continue;
                }
                State::Away { .. } | State::Ready { .. } => {}
            }
            let busy = loan.busy;
            let attempt = busy.and_then(|job| self.jobs.get_mut(&job)).and_then(|job| job.attempts.get_mut(&lease));
            let Some(attempt) = attempt.filter(|attempt| due(attempt) <= now.ms) else { continue };
            if attempt.resent >= RESENDS_MAX {
                self.give_back(lease, silent("answer of the enclave"), out);
                continue;
            }
            (attempt.sent, attempt.resent, attempt.accepted) = (now.ms, attempt.resent.saturating_add(1), false);
            submit(lease, attempt, out);
        }
    }

    /// Puts a question to as many enclaves as it lacks and there are.
    fn put(&mut self, id: JobId, now: Now, out: &mut Vec<DelegatorAction>) {
        self.unfit(id);
        while let Some(job) = self.jobs.get(&id)
            && job.missing() > 0
            && now.ms < job.deadline
        {
            let need = Sum { fuel: job.question.demand.fuel, cost: MicroUsd::ZERO };
            if !need.is_within(self.purse.left()) {
                return self.lack(id, need, now, out);
            }
            let Some(lease) = self.pick(job) else {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.short = None;
                }
                return;
            };
            let need = self.loans.get(&lease).map_or(need, |loan| loan.most(&job.question.demand));
            if !need.is_within(self.purse.left()) {
                return self.lack(id, need, now, out);
            }
            let made = self.call(job, lease, need, now);
            let (Some(job), Some(loan)) = (self.jobs.get_mut(&id), self.loans.get_mut(&lease)) else { return };
            job.made = job.made.saturating_add(1);
            job.short = None;
            match made {
                Ok(attempt) => {
                    self.purse.spend(attempt.reserved);
                    loan.spent = loan.spent.plus(attempt.reserved);
                    (loan.last, loan.busy) = (attempt.call.number, Some(id));
                    submit(lease, &attempt, out);
                    job.attempts.insert(lease, attempt);
                }
                Err(why) => {
                    job.tried.insert(loan.face.enclave);
                    job.unfit = job.unfit.saturating_add(1);
                    job.why = Some(why);
                }
            }
            job.hopeless |= job.unfit >= UNFIT_MAX;
        }
    }

    /// Notes free loans on which a question would not fit even if they had taken no call before.
    fn unfit(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let demand = job.question.demand;
        for loan in self.loans.values().filter(|loan| loan.is_free() && !loan.could_have_room(&demand)) {
            if job.tried.insert(loan.face.enclave) {
                let (most, granted) = (loan.most(&demand), loan.granted());
                job.unfit = job.unfit.saturating_add(1);
                job.why = Some(
                    refuse(SPENT, "fuel and cost of the question")
                        .expected(format!("at most {} and {}, as can be granted", granted.fuel, granted.cost))
                        .got(format!("{} and {}", most.fuel, most.cost))
                        .fix("ask for less fuel or less time, or have more granted to hand on"),
                );
            }
        }
        job.hopeless |= job.unfit >= UNFIT_MAX;
    }

    /// Not enough is left to hand on. What runs may give some back, and loans may what they set aside; if neither, it is over.
    fn lack(&mut self, id: JobId, need: Sum, now: Now, out: &mut Vec<DelegatorAction>) {
        let left = self.purse.left();
        let why = refuse(SPENT, "fuel and budget left to hand on")
            .expected(format!("{} and {} at least", need.fuel, need.cost))
            .got(format!("{} and {}", left.fuel, left.cost))
            .fix("grant more to hand on, or ask for less at a time");
        let runs = self.jobs.values().any(|job| !job.attempts.is_empty());
        let idle = self.loans.iter().filter(|(_, loan)| loan.busy.is_none());
        let aside = idle.map(|(lease, loan)| (*lease, purse::unused(loan, &self.tally)));
        let aside: Vec<_> = aside.filter(|(_, unused)| *unused != Sum::ZERO).collect();
        let may_be = aside.iter().fold(left, |all, (_, unused)| all.plus(*unused));
        let owed = self.loans.values().any(Loan::owes);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.why = Some(why.clone());
        if runs || need.is_within(may_be) {
            job.short = None;
        }
        if runs {
            return;
        }
        if need.is_within(may_be) {
            for (lease, _) in aside {
                self.part(lease);
                out.push(DelegatorAction::GiveBack { loan: lease, why: why.clone() });
            }
            return;
        }
        // Calls that were given up a moment ago may never have run.
        let since = *job.short.get_or_insert(now.ms);
        job.hopeless = !owed || after(since, AWAY) <= now.ms;
    }

    /// A call of a question on a loan, for which so much is set aside.
    fn call(&self, job: &Job, lease: LeaseId, reserved: Sum, now: Now) -> Result<Attempt, Rejection> {
        let none = || refuse("delegator.loan", "loan of the call").expected("one with a session").got("none");
        let loan = self.loans.get(&lease).ok_or_else(none)?;
        let State::Ready { challenge } = loan.state else { return Err(none()) };
        let asked = &job.question;
        let seconds = Millis(job.deadline.0.saturating_sub(now.ms.0)).seconds_up();
        let last: UnixTime = loan.allocation.until.min(loan.lineage.expires()).min(self.request.expires);
        let number = loan
            .last
            .checked_add(1)
            .ok_or_else(|| refuse("delegator.number", "number of the call").got("none left"))?;
        let call = Call {
            delegator: self.signer.public_key(),
            task: self.own.task,
            fragment: self.own.fragment,
            loan: lease,
            number,
            question: asked.question,
            challenge,
            module: asked.module,
            args: asked.args.clone(),
            input: asked.input,
            demand: asked.demand,
            assurance: asked.assurance,
            created: now.date,
            expires: now.date.plus(seconds).min(last),
            prev: vec![loan.allocation.digest(), loan.lineage.leaf().digest()],
        };
        let basis = Basis { request: &self.request, loan: &loan.allocation, lineage: &loan.lineage };
        check_call(&basis, &call)?;
        let call = dsse::sign(call, &*self.signer);
        Ok(Attempt { call, accepted: false, taken: false, sent: now.ms, resent: 0, reserved })
    }
}

fn silent(claim: &str) -> Rejection {
    refuse("delegator.silent", claim).expected("one in time").got("none")
}
