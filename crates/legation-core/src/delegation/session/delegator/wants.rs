//! Which loans the questions can use, and which they lack.

use std::collections::BTreeSet;

use super::{
    Delegator, JobId, PROOF_COST, Want,
    job::Job,
    loan::{Face, Loan},
};
use crate::{
    delegation::{Apart, terms::EXCLUDED_MAX},
    id::{EnclaveId, LeaseId},
    rejection::Rejection,
    statement::Diversity,
};

impl Delegator {
    /// The loans that the questions lack, beside those that are here and those whose enclave has no session yet.
    pub fn wants(&self) -> Vec<Want> {
        let (mut taken, mut wants) = (BTreeSet::new(), Vec::new());
        let payable = |job: &Job| job.question.demand.fuel <= self.purse.left().fuel;
        for (id, job) in self.jobs.iter().filter(|(_, job)| payable(job)) {
            let (mut beside, mut lacks) = (self.faces(job), 0_usize);
            for _ in 0..job.missing() {
                let open = self.loans.iter().filter(|(lease, loan)| loan.is_open() && !taken.contains(*lease));
                match open.into_iter().find(|(_, loan)| self.fits(loan, job, &beside)) {
                    Some((lease, loan)) => {
                        taken.insert(*lease);
                        beside.push(&loan.face);
                    }
                    None => lacks = lacks.saturating_add(1),
                }
            }
            wants.extend(std::iter::repeat_n(self.want(*id, job, &beside), lacks));
        }
        wants
    }

    /// One loan more for each question that those that are here do not get on.
    pub fn one_more(&self) -> Vec<Want> {
        let open = self.jobs.iter().filter(|(_, job)| job.missing() > 0);
        open.map(|(id, job)| self.want(*id, job, &self.faces(job))).collect()
    }

    /// What a loan for a question is to be like, beside those who were asked it or can be.
    fn want(&self, id: JobId, job: &Job, beside: &[&Face]) -> Want {
        let from: BTreeSet<EnclaveId> = beside.iter().map(|face| face.enclave).collect();
        let from = from.into_iter().take(EXCLUDED_MAX).collect();
        let resting = self.loans.values().filter(|loan| loan.rests.is_some()).map(|loan| loan.face.enclave);
        let not = job.tried.iter().copied().chain(resting).collect();
        Want { job: id, apart: job.diverse().map(|by| Apart { by, from }), not }
    }

    /// Whether somebody is asked a question, or a loan that is here could take it once it is free.
    pub fn hopes(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| {
            let beside = self.faces(job);
            !job.attempts.is_empty()
                || self.loans.values().any(|loan| !loan.distrusted && self.fits(loan, job, &beside))
        })
    }

    /// Why no proof of a question is to be had of an enclave that counted what it takes. Another may have more room for it.
    pub fn too_dear(&self, job: JobId) -> Option<&Rejection> {
        let job = self.jobs.get(&job).filter(|job| job.attempts.is_empty())?;
        job.why.as_ref().filter(|why| why.check == PROOF_COST)
    }

    /// A loan that waits, and that no open question can use: to be given back where there is no room for another.
    pub fn spare(&self) -> Option<LeaseId> {
        let open = || self.jobs.values().filter(|job| job.missing() > 0);
        let useless = |loan: &Loan| loan.is_free() && !open().any(|job| self.fits(loan, job, &self.faces(job)));
        self.loans.iter().find(|(_, loan)| useless(loan)).map(|(lease, _)| *lease)
    }

    /// Those who have answered a question, or are about to.
    fn faces<'a>(&'a self, job: &'a Job) -> Vec<&'a Face> {
        let running = job.attempts.keys().filter_map(|lease| self.loans.get(lease)).map(|loan| &loan.face);
        running.chain(job.given.iter().map(|given| &given.face)).collect()
    }

    /// The first free loan whose enclave was not asked, and is diverse from those that were.
    pub(super) fn pick(&self, job: &Job) -> Option<LeaseId> {
        let beside = self.faces(job);
        let mut free = self.loans.iter().filter(|(_, loan)| loan.is_free());
        free.find(|(_, loan)| self.fits(loan, job, &beside)).map(|(lease, _)| *lease)
    }

    /// Whether a loan is one for a question, beside those who were asked it.
    fn fits(&self, loan: &Loan, job: &Job, beside: &[&Face]) -> bool {
        let by = job.diverse().unwrap_or(Diversity::Chip);
        loan.assures(job.question.assurance)
            && !job.tried.contains(&loan.face.enclave)
            && loan.has_room(&job.question.demand)
            && loan.satisfies(job.question.require.as_ref(), self.date)
            && beside.iter().all(|other| loan.face.is_apart(other, by))
    }
}
