//! When a question is over, and by what.

use super::{
    Delegator, DelegatorAction, JobId, Settled,
    job::{Given, unanswered},
};
use crate::{
    delegation::{
        judge::HEAD,
        session::{ATTEMPTS_MAX, AWAY, Now, after, refuse},
        vote::{Decision, vote},
    },
    dsse::Signed,
    rejection::Rejection,
    statement::{Assurance, Report},
};

impl Delegator {
    /// Whether a question has its answer, or will have none.
    pub(super) fn settle(&mut self, id: JobId, now: Now, out: &mut Vec<DelegatorAction>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let spent = job.attempts.is_empty() && (job.hopeless || job.made >= ATTEMPTS_MAX);
        let (over, whole) = (job.deadline <= now.ms || spent, job.is_whole());
        let Assurance::Replicated { k, .. } = job.question.assurance else {
            if whole {
                self.done(id, None, out);
            } else if over {
                let why = unanswered(job);
                self.give_up(id, why, out);
            }
            return;
        };
        let quorum = job.given.len() >= usize::from(job.question.assurance.quorum());
        let alone = quorum && job.attempts.is_empty() && self.pick(job).is_none();
        if !whole && !over && !alone {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.decided = None;
            }
            return;
        }
        let reports: Vec<Signed<Report>> = job.given.iter().map(|given| given.report.clone()).collect();
        let decided = vote(k, &reports);
        if !whole && !over {
            // A majority agrees already, and for a while nobody was there to be asked beside it.
            let Some(job) = self.jobs.get_mut(&id) else { return };
            let since = *job.decided.get_or_insert(now.ms);
            if decided.is_err() || now.ms < after(since, AWAY) {
                job.decided = decided.is_ok().then_some(since);
                return;
            }
        }
        match decided {
            Ok(decision) => self.done(id, Some(decision), out),
            Err(why) => {
                let Some(job) = self.jobs.get(&id) else { return };
                let why = match whole {
                    true => why,
                    false if job.hopeless => unanswered(job),
                    false => Rejection { fix: unanswered(job).to_string(), ..why },
                };
                self.give_up(id, why, out);
            }
        }
    }

    fn done(&mut self, id: JobId, decision: Option<Decision>, out: &mut Vec<DelegatorAction>) {
        let Some(job) = self.end(id, out) else { return };
        let counts = |given: &&Given| decision.as_ref().is_none_or(|d| d.agreed.contains(&given.report.digest()));
        let Some(first) = job.given.iter().find(counts) else { return };
        let dissent = decision.as_ref().map(|d| d.dissent.clone()).unwrap_or_default();
        let settled = Settled {
            loan: first.loan,
            answers: job.given.iter().map(|given| given.report.digest()).collect(),
            report: first.report.clone(),
            statements: job.given.iter().flat_map(|given| given.statements.iter().cloned()).collect(),
            loans: job.given.iter().flat_map(|given| given.loans.iter().cloned()).collect(),
            dissent: dissent.clone(),
        };
        for given in job.given.iter().filter(|given| dissent.contains(&given.report.digest())) {
            let why =
                refuse("delegator.dissent", "answer of the enclave").expected("that of the majority").got("another");
            // What it was told by others in turn may be what it was wrong by: it is left, and nobody is told that it lied.
            if given.report.prev.len() > HEAD {
                self.give_back(given.loan, why, out);
                continue;
            }
            out.push(DelegatorAction::Distrust { loan: given.loan, why });
            if let Some(loan) = self.loans.get_mut(&given.loan) {
                loan.distrusted = true;
            }
        }
        out.push(DelegatorAction::Done { job: id, settled: Box::new(settled) });
    }
}
