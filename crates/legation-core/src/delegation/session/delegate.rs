//! The side that is asked: one loan, its queue, its answers.

use std::collections::VecDeque;

use super::{ANSWERS_MAX, Now, QUEUE_MAX, STALE_CHALLENGE, ToDelegate, ToDelegator, refuse};
use crate::{
    delegation::{
        Basis, Call, Lineage, Sum,
        attenuate::LINEAGE_MAX,
        call::{check_call, cost},
    },
    digest::Digest,
    dsse::{Envelope, Signed},
    id::LeaseId,
    receipt::SKEW,
    rejection::Rejection,
    revocation::Revoked,
    statement::{Allocation, Grant, Passport, Report, Request},
    time::UnixTime,
};

/// Check of a refusal because the call's number was used up.
const REPLAY: &str = "delegate.replay";

/// What the enclave knows while it decides.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Its own passport.
    pub passport: &'a Signed<Passport>,
    /// What is revoked.
    pub revoked: &'a Revoked,
}

/// What happens to a delegate.
#[derive(Clone, Debug)]
pub enum DelegateEvent {
    /// The channel to the delegator is up.
    Opened {
        /// Drawn at random for this session.
        challenge: Digest,
    },
    /// The delegator said this.
    Heard(Box<ToDelegate>),
    /// An execution ended, and this is its report.
    Ran {
        /// Signed by this enclave.
        report: Box<Signed<Report>>,
        /// What it rests on of calls that it made in turn.
        behind: Vec<Envelope>,
    },
    /// An execution did not come about or was stopped: its input was not as committed, its module not to be had, nobody waits.
    Failed {
        /// The call.
        call: Digest,
        /// Whether the module began to run.
        ran: bool,
        /// Why.
        why: Rejection,
    },
    /// The channel is gone.
    Closed,
    /// The loan ended.
    Ended,
    /// Nothing but time went by.
    Tick,
}

/// What a delegate wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DelegateAction {
    /// Say this to the delegator; lost if there is no channel.
    Send(Box<ToDelegator>),
    /// Take the input, hold it against the call's commitment, run the module, and say how it ended.
    Execute(Signed<Call>),
    /// End this execution; it will be said to have failed.
    Stop {
        /// The call.
        call: Digest,
    },
}

struct Running {
    call: Signed<Call>,
    stopped: bool,
}

struct Given {
    report: Signed<Report>,
    behind: Vec<Envelope>,
}

/// One loan at the enclave that was lent.
pub struct Delegate {
    request: Signed<Request>,
    loan: Signed<Allocation>,
    lineage: Option<Lineage>,
    challenge: Option<Digest>,
    /// Highest number seen: only what is above is new.
    last: u64,
    queue: VecDeque<Signed<Call>>,
    running: Option<Running>,
    given: VecDeque<Given>,
    /// Work and cost that were promised and not yet known to be less.
    spent: Sum,
    over: bool,
}

impl Delegate {
    /// A loan as the manager told of it: `loan` lends this enclave for parts of `request`, and both were checked as any offer is.
    pub fn new(request: Signed<Request>, loan: Signed<Allocation>) -> Self {
        Self {
            request,
            loan,
            lineage: None,
            challenge: None,
            last: 0,
            queue: VecDeque::new(),
            running: None,
            given: VecDeque::new(),
            spent: Sum::ZERO,
            over: false,
        }
    }

    /// The loan's promise.
    pub fn lease(&self) -> LeaseId {
        self.loan.lease
    }

    /// The grants that its calls rest on, once they were described.
    pub fn lineage(&self) -> Option<&Lineage> {
        self.lineage.as_ref()
    }

    /// Whether a call waits or runs here.
    pub fn holds(&self, call: &Digest) -> bool {
        let running = self.running.iter().map(|running| &running.call);
        running.chain(&self.queue).any(|held| held.digest() == *call)
    }

    /// Whether the answer to a call is kept here.
    pub fn has_answered(&self, call: &Digest) -> bool {
        self.given.iter().any(|given| given.report.answer.is_some_and(|answer| answer.call == *call))
    }

    /// When to come back with a tick, if nothing happens: a second after the first call that ends by itself.
    pub fn next_timeout(&self) -> Option<UnixTime> {
        let running = self.running.iter().filter(|running| !running.stopped).map(|running| &running.call);
        running.chain(&self.queue).map(|call| call.expires.plus(1)).min()
    }

    /// Takes what happened; gives what is to be done, in order.
    pub fn handle(&mut self, event: DelegateEvent, now: Now, standing: &Standing<'_>) -> Vec<DelegateAction> {
        let mut out = Vec::new();
        match event {
            DelegateEvent::Opened { challenge } => self.challenge = Some(challenge),
            DelegateEvent::Closed => self.challenge = None,
            DelegateEvent::Heard(message) => self.heard(*message, now, standing, &mut out),
            DelegateEvent::Ran { report, behind } => self.ran(*report, behind, &mut out),
            DelegateEvent::Failed { call, ran, why } => self.failed(call, ran, why, &mut out),
            DelegateEvent::Ended => self.end(&mut out),
            DelegateEvent::Tick => {}
        }
        self.expire(now, &mut out);
        self.cut(standing, &mut out);
        self.start(&mut out);
        out
    }

    fn heard(&mut self, message: ToDelegate, now: Now, standing: &Standing<'_>, out: &mut Vec<DelegateAction>) {
        match message {
            // Without a session there is nobody to answer.
            ToDelegate::Describe { .. } if self.challenge.is_none() => {}
            ToDelegate::Describe { loan, grant, grants } => {
                let said = match self.described(loan, grant, &grants, standing) {
                    Ok(challenge) => ToDelegator::Challenge { loan, challenge, last: self.last },
                    Err(why) => ToDelegator::Unavailable { loan, why },
                };
                send(out, said);
            }
            ToDelegate::Submit(call) => {
                let digest = call.digest();
                let said = match self.submitted(call, now, standing) {
                    Ok(Some(given)) => given,
                    Ok(None) => ToDelegator::Accepted { call: digest },
                    // Of a replay nobody knows any more what came of it.
                    Err(why) => ToDelegator::Refused { call: digest, ran: why.check == REPLAY, why },
                };
                send(out, said);
            }
            ToDelegate::Cancel { call } => self.cancel(call, out),
        }
    }

    /// The chain of grants, this enclave's own passport, and revocations: gives the challenge.
    fn described(
        &mut self,
        loan: LeaseId,
        grant: Digest,
        grants: &[Signed<Grant>],
        standing: &Standing<'_>,
    ) -> Result<Digest, Rejection> {
        self.lasts()?;
        if loan != self.loan.lease || grants.len() > LINEAGE_MAX {
            return Err(refuse("delegate.loan", "loan that is described")
                .expected(format!("{}, with at most {LINEAGE_MAX} grants", self.loan.lease))
                .got(format!("{loan}, with {}", grants.len())));
        }
        let closed = || refuse("delegate.session", "channel of the session").expected("one that is open").got("none");
        let challenge = self.challenge.ok_or_else(closed)?;
        // What is described again was walked once: the digest of a grant names all above it.
        let walked = match &self.lineage {
            Some(known) if known.leaf().digest() == grant => None,
            // The report of a call that is here rests on the grant that the call rests on.
            Some(known) if self.running.is_some() || !self.queue.is_empty() => {
                return Err(refuse("delegate.session", "grant that is described")
                    .expected(format!("{}, which calls that wait or run here rest on", known.leaf().digest()))
                    .got(grant)
                    .fix("describe the same grant again, or wait until its calls have ended"));
            }
            _ => {
                let find = |digest: &Digest| grants.iter().find(|grant| grant.digest() == *digest).cloned();
                Some(Lineage::of(&self.request, &grant, find)?)
            }
        };
        let lineage = walked.as_ref().or(self.lineage.as_ref()).ok_or_else(closed)?;
        let basis = Basis { request: &self.request, loan: &self.loan, lineage };
        basis.check()?;
        basis.admits(standing.passport)?;
        uncut(lineage, standing)?;
        self.lineage = walked.or(self.lineage.take());
        Ok(challenge)
    }

    /// Whether to run a call: a new one is queued; one that was answered gives its answer.
    fn submitted(
        &mut self,
        call: Signed<Call>,
        now: Now,
        standing: &Standing<'_>,
    ) -> Result<Option<ToDelegator>, Rejection> {
        let digest = call.digest();
        let answered = |given: &&Given| given.report.answer.is_some_and(|answer| answer.call == digest);
        if let Some(Given { report, behind }) = self.given.iter().find(answered) {
            return Ok(Some(ToDelegator::Answered { report: report.clone(), behind: behind.clone() }));
        }
        let mut pending = self.running.iter().map(|running| &running.call).chain(&self.queue);
        if pending.any(|known| known.digest() == digest) {
            return Ok(None);
        }
        self.lasts()?;
        let Some(lineage) = &self.lineage else {
            return Err(refuse(STALE_CHALLENGE, "session of the call").expected("one that was described").got("none"));
        };
        if call.number <= self.last {
            return Err(refuse(REPLAY, "number of the call")
                .expected(format!("above {}", self.last))
                .got(call.number)
                .fix("make a new call: this one was refused, or answered long ago"));
        }
        if self.challenge != Some(call.challenge) {
            return Err(refuse(STALE_CHALLENGE, "challenge of the call")
                .expected("that of this session")
                .got("another")
                .fix("describe the loan again and make the call anew"));
        }
        let basis = Basis { request: &self.request, loan: &self.loan, lineage };
        check_call(&basis, &call)?;
        // Whoever makes one is the borrower: from here on its number is used up, whatever comes of it.
        self.last = call.number;
        uncut(lineage, standing)?;
        if call.created > now.date.plus(SKEW) || call.expires < now.date {
            return Err(refuse("delegate.expired", "dates of the call")
                .expected(format!("to cover {}", now.date))
                .got(format!("{} to {}", call.created, call.expires)));
        }
        if self.queue.len() >= QUEUE_MAX {
            return Err(refuse("delegate.busy", "calls that wait")
                .expected(format!("less than {QUEUE_MAX}"))
                .got(self.queue.len())
                .fix("ask when this one has answered, or another enclave"));
        }
        let (spent, leaf) = (self.spent.plus(most(&self.loan, &call)), lineage.leaf());
        if !spent.is_within(Sum { fuel: leaf.fuel, cost: leaf.budget }) {
            return Err(refuse("delegate.fuel", "fuel and cost of all calls of the loan")
                .expected(format!("{} and {}", leaf.fuel, leaf.budget))
                .got(format!("{} and {}", spent.fuel, spent.cost)));
        }
        self.spent = spent;
        self.queue.push_back(call);
        Ok(None)
    }

    fn lasts(&self) -> Result<(), Rejection> {
        match self.over {
            false => Ok(()),
            true => Err(refuse("delegate.ended", "the loan").expected("one that lasts").got("one that ended")),
        }
    }

    fn cancel(&mut self, call: Digest, out: &mut Vec<DelegateAction>) {
        if let Some(at) = self.queue.iter().position(|waiting| waiting.digest() == call) {
            self.drop_queued(at, &cancelled(), out);
        } else {
            self.stop(|running| running.digest() == call, out);
        }
    }

    /// Has the running call ended, if it is one of these and was not stopped before.
    fn stop(&mut self, which: impl FnOnce(&Signed<Call>) -> bool, out: &mut Vec<DelegateAction>) {
        if let Some(running) = self.running.as_mut().filter(|running| !running.stopped && which(&running.call)) {
            running.stopped = true;
            out.push(DelegateAction::Stop { call: running.call.digest() });
        }
    }

    fn drop_queued(&mut self, at: usize, why: &Rejection, out: &mut Vec<DelegateAction>) {
        if let Some(call) = self.queue.remove(at) {
            self.spent = self.spent.minus(most(&self.loan, &call));
            send(out, ToDelegator::Refused { call: call.digest(), ran: false, why: why.clone() });
        }
    }

    /// Takes the running call away, if it is this one.
    fn take_running(&mut self, call: Digest) -> Option<Signed<Call>> {
        self.running.take_if(|running| running.call.digest() == call).map(|running| running.call)
    }

    fn ran(&mut self, report: Signed<Report>, behind: Vec<Envelope>, out: &mut Vec<DelegateAction>) {
        let Some(call) = report.answer.and_then(|answer| self.take_running(answer.call)) else { return };
        let most = most(&self.loan, &call);
        let used = Sum { fuel: report.usage.fuel, cost: cost(&self.loan, report.usage.micros) };
        self.spent = self.spent.minus(most.minus(used));
        send(out, ToDelegator::Answered { report: report.clone(), behind: behind.clone() });
        self.given.push_back(Given { report, behind });
        if self.given.len() > ANSWERS_MAX {
            self.given.pop_front();
        }
    }

    fn failed(&mut self, call: Digest, ran: bool, why: Rejection, out: &mut Vec<DelegateAction>) {
        if let Some(failed) = self.take_running(call) {
            // What it used before it was stopped nobody reports: it stays counted.
            if !ran {
                self.spent = self.spent.minus(most(&self.loan, &failed));
            }
            send(out, ToDelegator::Refused { call, ran, why });
        }
    }

    fn end(&mut self, out: &mut Vec<DelegateAction>) {
        self.over = true;
        self.drop_all(&cancelled(), out);
    }

    fn drop_all(&mut self, why: &Rejection, out: &mut Vec<DelegateAction>) {
        while !self.queue.is_empty() {
            self.drop_queued(0, why, out);
        }
        self.stop(|_| true, out);
    }

    /// What was revoked above cuts what runs here.
    fn cut(&mut self, standing: &Standing<'_>, out: &mut Vec<DelegateAction>) {
        if let Some(why) = self.lineage.as_ref().and_then(|lineage| uncut(lineage, standing).err()) {
            self.drop_all(&why, out);
        }
    }

    /// Calls past their end are stopped, or not begun.
    fn expire(&mut self, now: Now, out: &mut Vec<DelegateAction>) {
        let why = refuse("delegate.expired", "end of the call").expected(format!("after {}", now.date));
        while let Some(at) = self.queue.iter().position(|call| call.expires < now.date) {
            self.drop_queued(at, &why, out);
        }
        self.stop(|running| running.expires < now.date, out);
    }

    fn start(&mut self, out: &mut Vec<DelegateAction>) {
        if self.running.is_none()
            && let Some(call) = self.queue.pop_front()
        {
            out.push(DelegateAction::Execute(call.clone()));
            self.running = Some(Running { call, stopped: false });
        }
    }
}

fn send(out: &mut Vec<DelegateAction>, message: ToDelegator) {
    out.push(DelegateAction::Send(Box::new(message)));
}

/// What a call may use at most.
fn most(loan: &Allocation, call: &Call) -> Sum {
    Sum { fuel: call.demand.fuel, cost: cost(loan, call.demand.time.0.saturating_mul(1000)) }
}

fn cancelled() -> Rejection {
    refuse("delegate.cancelled", "the call").expected("somebody who waits for it").got("nobody")
}

/// Nothing that a chain of grants rests on is revoked.
fn uncut(lineage: &Lineage, standing: &Standing<'_>) -> Result<(), Rejection> {
    lineage.revoked(standing.revoked).map_or(Ok(()), |revocation| Err(revocation.refusal()))
}
