//! What a driver wishes of the manager: loans, each for one question; and how long it waits before it wishes again.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    EnclaveId, Millis, Rejection,
    delegation::{
        LoanTerms,
        session::{DelegatorEvent, JobId, Want},
        terms::EXCLUDED_MAX,
    },
    statement::Assurance,
};
use legation_net::message::ToManager;
use tokio::time::{Duration, Instant};

use super::{Driver, LINES_MAX, STUCK};

/// Check of a refusal by a manager that did not look for an enclave.
const ASKED_TOO_OFTEN: &str = "loan.busy";
/// The manager may refuse so many loans for a question in a row before it fails with the manager's reason.
const REFUSALS_MAX: u32 = 8;
/// So many enclaves may be of no use, one after the other, before others are asked for one at a time, each [`STUCK`] after the last.
const USELESS_MAX: u32 = 4;
/// A wish that nobody answered for so long is forgotten: what was said to it was lost.
const WISH: Duration = Duration::from_secs(10);

/// A loan that was asked for.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    job: JobId,
    since: Instant,
}

/// How the manager answered what was wished for one question, since it lent something for it.
#[derive(Default)]
pub(super) struct Patience {
    refusals: u32,
    last: Option<Instant>,
}

impl Patience {
    /// When it is asked again: what was refused a moment ago is not asked for at once.
    fn until(&self) -> Option<Instant> {
        self.last.map(|last| last + STUCK)
    }
}

impl Driver {
    /// When wishes are to be looked at again.
    pub(super) fn wishes_again(&self) -> Option<Instant> {
        let now = Instant::now();
        // What is past was looked at.
        let after = |at: &Instant| *at > now;
        let lost = self.wishes.values().map(|wish| wish.since + WISH).min();
        let refused = self.jobs.values().filter_map(|job| job.patience.until()).filter(after).min();
        let slow = self.slow().map(|since| since + STUCK).filter(|at| after(at) && !self.lacks().is_empty());
        let way = self.made_way.map(|since| since + STUCK).filter(after);
        [lost, refused, slow, way].into_iter().flatten().min()
    }

    /// Wishes that nobody answered.
    pub(super) fn forget_wishes(&mut self) {
        self.wishes.retain(|_, wish| wish.since.elapsed() < WISH);
    }

    pub(super) fn granted(&mut self, ask: u64) {
        let job = self.wishes.remove(&ask).and_then(|wish| self.jobs.get_mut(&wish.job));
        if let Some(job) = job {
            job.patience = Patience::default();
        }
    }

    pub(super) fn refused(&mut self, ask: u64, why: Rejection) {
        let Some(Wish { job: id, .. }) = self.wishes.remove(&ask) else { return };
        tracing::debug!(%why, "no enclave is lent");
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.patience.last = Some(Instant::now());
        // Nobody looked whether there is one.
        if why.check == ASKED_TOO_OFTEN {
            return self.step(DelegatorEvent::Tick);
        }
        job.patience.refusals = job.patience.refusals.saturating_add(1);
        // What no question can use takes room and budget that the next may need.
        if let Some(loan) = self.machine.spare() {
            self.part(loan, true);
            self.step(DelegatorEvent::Gone(loan));
        }
        let Some(job) = self.jobs.get(&id) else { return };
        let often = job.patience.refusals >= REFUSALS_MAX && !self.machine.hopes(id);
        // Who could prove it counted what that takes, and there is nobody else.
        let dear = self.machine.too_dear(id).cloned();
        match dear.or_else(|| often.then_some(why)) {
            Some(why) => self.fail(id, why),
            None => self.step(DelegatorEvent::Tick),
        }
    }

    /// When a loan was asked for last, where so many were of no use that others are asked for one at a time.
    fn slow(&self) -> Option<Instant> {
        self.wished.filter(|_| self.useless >= USELESS_MAX)
    }

    /// Loans that the questions lack, beside those that are on their way.
    fn lacks(&self) -> Vec<Want> {
        let mut coming: BTreeMap<JobId, usize> = BTreeMap::new();
        for wish in self.wishes.values() {
            let of = coming.entry(wish.job).or_default();
            *of = of.saturating_add(1);
        }
        let mut lacks = self.machine.wants();
        lacks.retain(|want| {
            let of = coming.entry(want.job).or_default();
            match (*of, &want.apart) {
                (0, None) => return true,
                // One after the other: each differs from those before it.
                (0, Some(_)) => {
                    *of = 1;
                    return true;
                }
                (_, None) => *of = of.saturating_sub(1),
                (_, Some(_)) => {}
            }
            false
        });
        lacks
    }

    /// Where there is room for no other loan, one that no question can use makes way.
    fn make_way(&mut self) {
        let full = self.loans.len().saturating_add(self.wishes.len()) >= LINES_MAX;
        let lately = self.made_way.is_some_and(|since| since.elapsed() < STUCK);
        if full
            && !lately
            && !self.lacks().is_empty()
            && let Some(loan) = self.machine.spare()
        {
            self.made_way = Some(Instant::now());
            self.part(loan, true);
            self.step(DelegatorEvent::Gone(loan));
        }
    }

    /// What is to be asked for now.
    fn wishes_now(&self) -> Vec<Want> {
        let now = Instant::now();
        let mut wants = self.lacks();
        let refused = |want: &Want| self.jobs.get(&want.job)?.patience.until();
        wants.retain(|want| refused(want).is_none_or(|until| until <= now));
        if wants.is_empty() && self.stuck.is_some_and(|since| since.elapsed() >= STUCK) {
            wants = self.machine.one_more();
        }
        let room = LINES_MAX.saturating_sub(self.loans.len()).saturating_sub(self.wishes.len());
        // The manager may look for one of them only: not always for the one that was asked first.
        wants.sort_by_key(|want| self.jobs.get(&want.job).map_or(0, |job| job.patience.refusals));
        // What was of no use each time is not asked for each time at once.
        let most = match self.slow() {
            None => room,
            Some(since) if since.elapsed() < STUCK => 0,
            Some(_) => room.min(1),
        };
        wants.truncate(most);
        wants
    }

    /// Tells the manager what it is to know; what it could not be told waits for another link.
    pub(super) async fn talk(&mut self) {
        self.make_way();
        let wants = self.wishes_now();
        if wants.is_empty() && self.returns.is_empty() {
            return;
        }
        let link = self.agent.link.borrow().clone();
        let Some(link) = link else { return };
        while let Some(loan) = self.returns.last().copied() {
            let word = ToManager::GiveBack { loan, why: self.shunned.get(&loan).cloned() };
            if link.sender.send_control(&word).await.is_err() {
                return;
            }
            self.returns.pop();
            self.shunned.remove(&loan);
        }
        for want in wants {
            let job = want.job;
            let Some(terms) = self.terms(want) else { continue };
            if let Err(why) = terms.validate() {
                tracing::debug!(%why, "no time is left for a loan");
                continue;
            }
            let ask = self.agent.borrowers.ask();
            let wish = ToManager::Borrow { ask, of: self.under.own.lease, terms: Box::new(terms) };
            if link.sender.send_control(&wish).await.is_err() {
                return;
            }
            let now = Instant::now();
            self.wishes.insert(ask, Wish { job, since: now });
            self.wished = Some(now);
            self.stuck = None;
        }
    }

    /// What the next loan is to be like.
    fn terms(&self, want: Want) -> Option<LoanTerms> {
        let question = &self.jobs.get(&want.job)?.question;
        // A second may turn on the way to the manager, who holds it against what is left then.
        let seconds = self.under.until().since(self.agent.now()).saturating_sub(1);
        let mut demand = self.under.demand;
        demand.time = demand.time.min(Millis(seconds.saturating_mul(1000)));
        // Who is away, or has said nothing yet, may come (back): meanwhile another is asked for elsewhere.
        let away = self.loans.values().filter(|loaned| !loaned.ready).map(|loaned| loaned.enclave);
        // There is room for so many; what is so now goes before what was once.
        let mut exclude: BTreeSet<EnclaveId> = away.chain(want.not).take(EXCLUDED_MAX).collect();
        let room = EXCLUDED_MAX.saturating_sub(exclude.len());
        exclude.extend(self.avoid.iter().take(room));
        let exclude = exclude.into_iter().collect();
        let proven = question.assurance == Assurance::Proven;
        let (require, in_turn) = (question.require.clone(), self.under.in_turn());
        Some(LoanTerms { demand, require, apart: want.apart, exclude, proven, in_turn, seconds })
    }
}
