//! How far an enclave is trusted after what it did: alarms of its own monitor, and answers that others contradict.
//!
//! 1. A report that was taken names the answers that disagreed with the majority of their question; the pool held that vote against
//!    the answers themselves before (`report/answers.rs`). Whoever signed such an answer **dissented**, once for each report, however
//!    often it says so. An answer that rests on answers of others may be wrong by theirs: then whoever signed any of them has a
//!    **hint**, and nobody a dissent.
//! 2. A report that says `alarm` ([`Verdict::Alarm`]) is a hint, too: the runs of a module have changed there, by chance in at most 1
//!    of 100 histories. Other inputs are a change too, and a tenant can bring them about. So is every answer of an enclave that was
//!    lent, for that enclave, with the report that rests on it. It is the enclave's own word: a broken one may stay silent. Replicas,
//!    not this, find those.
//! 3. Both are **marks** ([`marks`] has the arithmetic): they make the enclave dearer wherever enclaves are compared
//!    (`rank.rs`), less and less as time passes, and end nothing that runs. What tasks of one tenant can bring about is bounded.
//! 4. Marks are the machine's: they go over to whatever boots on its slot of its chip. What is found of an enclave that is gone by
//!    then is, too.
//! 5. Who misled a borrower (`report/answers.rs`) has a hint by the record that ends that borrower's lease: what it signed may rest on
//!    another's lie, which it could not tell either.
//! 6. Where the operator says so, an enclave is cordoned at its n-th report with an alarm ([`Limits::alarms_max`](crate::Limits)), or
//!    dissent ([`Limits::dissents_max`](crate::Limits)). Whoever lifts the cordon forgives everything.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Digest, EnclaveId, Envelope, LeaseId, Rejection, TaskId, TenantId, UnixTime, monitor::Verdict, statement::Report,
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    enclave::Enclave,
    event::LeaseEnd,
    pool::{Env, Pool},
};

pub(crate) mod marks;

use marks::{Conduct, Mark};

/// Who cordons for alarms, in the words of the record.
const MONITOR: &str = "monitor";
/// Who cordons for dissents.
const VOTE: &str = "vote";

/// What speaks against an enclave, as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrustView {
    /// How much it is doubted now, in thousandths: placement counts it as dearer by three times as much.
    pub doubt: u32,
    /// Its dissents, as they count for the operator's limit: no more than two in tasks of one tenant.
    pub dissents: u32,
    /// Reports that raised an alarm since its operator last lifted a cordon.
    pub alarms: u32,
    /// When the last of all of it was found; nothing where only alarms are left that weigh nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<UnixTime>,
    /// The same by the tenants in whose tasks it was found; told to the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<MarkView>,
}

/// What was found in tasks of one tenant, as its operator sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MarkView {
    /// Whose tasks.
    pub tenant: TenantId,
    /// Reports with an answer of it that the majority contradicts.
    pub dissents: u32,
    /// Reports with an alarm of it, or with an answer that it had a part in and that the majority contradicts.
    pub hints: u32,
    /// The last of them.
    pub last: UnixTime,
}

/// Who did what, by one report. Each is named with a lease or loan of its own, under which it signed.
#[derive(Default)]
struct Found {
    /// Who raised an alarm: once, however many of its answers say so.
    alarms: BTreeSet<EnclaveId>,
    marks: BTreeMap<EnclaveId, (LeaseId, Conduct)>,
}

impl Found {
    fn by(report: &Report, attached: &[Envelope]) -> Self {
        let answers = attached.iter().filter_map(|envelope| Some((envelope.digest(), envelope.peek::<Report>().ok()?)));
        let answers: BTreeMap<Digest, Report> = answers.collect();
        let all = || std::iter::once(report).chain(answers.values());
        let mut found = Self::default();
        for said in all().filter(|said| said.monitor.is_some_and(|monitor| monitor.verdict == Verdict::Alarm)) {
            found.alarms.insert(said.enclave.enclave_id());
            found.mark(said, Conduct::Hint);
        }
        for digest in all().flat_map(|said| &said.dissent) {
            let Some(answer) = answers.get(digest) else { continue };
            let parts = behind(answer, &answers);
            let conduct = if parts.is_empty() { Conduct::Dissent } else { Conduct::Hint };
            found.mark(answer, conduct);
            parts.into_iter().for_each(|part| found.mark(part, Conduct::Hint));
        }
        found
    }

    /// A dissent says more than a hint; twice the same is once.
    fn mark(&mut self, said: &Report, conduct: Conduct) {
        let new = (said.lease, conduct);
        let known = self.marks.entry(said.enclave.enclave_id()).or_insert(new);
        if conduct == Conduct::Dissent {
            *known = new;
        }
    }
}

/// The answers that an answer rests on, however deep.
fn behind<'a>(answer: &'a Report, all: &'a BTreeMap<Digest, Report>) -> Vec<&'a Report> {
    let (mut parts, mut seen, mut open) = (Vec::new(), BTreeSet::new(), vec![answer]);
    while let Some(one) = open.pop() {
        for (digest, part) in one.prev.iter().filter_map(|digest| all.get_key_value(digest)) {
            if seen.insert(digest) {
                parts.push(part);
                open.push(part);
            }
        }
    }
    parts
}

impl Enclave {
    /// How much it is doubted, as a part of `whole`.
    pub(crate) fn doubt(&self, now: UnixTime, whole: u32) -> u32 {
        self.marks().map_or(0, |marks| marks.doubt(now, whole))
    }

    /// What speaks against it, if anything does.
    pub fn trust(&self, now: UnixTime) -> Option<TrustView> {
        let (marks, alarms) = (self.marks(), self.alarms());
        let view = |mark: &Mark| MarkView {
            tenant: mark.tenant.clone(),
            dissents: mark.dissents,
            hints: mark.hints,
            last: mark.at,
        };
        let found: Vec<_> = marks.into_iter().flat_map(|marks| marks.live(now)).map(view).collect();
        (alarms > 0 || !found.is_empty()).then(|| TrustView {
            doubt: self.doubt(now, 1000),
            dissents: marks.map_or(0, |marks| marks.dissents(now)),
            alarms,
            last: found.iter().map(|mark| mark.last).max(),
            found,
        })
    }
}

impl Pool {
    /// Notes what a report says of the enclaves that it rests on. Loans of its lease must be known yet.
    pub(crate) fn note_conduct(&mut self, report: &Report, attached: &[Envelope], now: UnixTime) {
        let Found { alarms, marks } = Found::by(report, attached);
        for enclave in alarms {
            if let Some(enclave) = self.enclaves.get_mut(&enclave) {
                enclave.alarmed();
            }
        }
        for (enclave, (lease, conduct)) in marks {
            self.mark(report.task, (enclave, lease), conduct, now);
        }
    }

    /// Notes who misled the enclave of a lease that ended so. Its loans must be known yet.
    pub(crate) fn note_misled(&mut self, (task, of): (TaskId, LeaseId), why: &LeaseEnd, now: UnixTime) {
        let LeaseEnd::Misled { by, .. } = why else { return };
        let lending = self.tasks.get(&task).and_then(|task| task.lending.as_deref());
        let mut kept = lending.into_iter().flat_map(|lending| &lending.kept);
        let loan = kept.find(|(_, loan)| loan.root == of && loan.enclave == *by).map(|(id, _)| *id);
        if let Some(loan) = loan {
            self.mark(task, (*by, loan), Conduct::Hint, now);
        }
    }

    /// Notes what an enclave did under a lease or a loan of a task.
    fn mark(&mut self, task: TaskId, (enclave, lease): (EnclaveId, LeaseId), conduct: Conduct, now: UnixTime) {
        let Some(tenant) = self.tasks.get(&task).map(|task| task.request.tenant.clone()) else { return };
        let place = self.slot_lent(task, lease);
        if let Some(id) = self.bearer(enclave, place) {
            if let Some(bearer) = self.enclaves.get_mut(&id) {
                bearer.note(&tenant, conduct, now);
            }
            self.reindex_room(id);
        } else if let Some(place) = place {
            self.memory.note((enclave, place), (&tenant, conduct), (self.seq, now));
        }
    }

    /// The slot of its chip that an enclave had when it was lent.
    fn slot_lent(&self, task: TaskId, loan: LeaseId) -> Option<Digest> {
        let lending = self.tasks.get(&task)?.lending.as_deref()?;
        lending.loan(loan).map(|loan| loan.place)
    }

    /// Who bears what an enclave did: itself, or where it is gone, whatever has its place now.
    fn bearer(&self, enclave: EnclaveId, place: Option<Digest>) -> Option<EnclaveId> {
        if self.enclaves.contains_key(&enclave) { Some(enclave) } else { self.holder_of(&place?) }
    }

    /// Who is to be looked at once this report is noted. Loans of its lease must be known yet.
    pub(crate) fn conspicuous(&self, report: &Report, attached: &[Envelope]) -> BTreeSet<EnclaveId> {
        let marks = Found::by(report, attached).marks;
        let marks = marks.into_iter();
        marks.filter_map(|(enclave, (lease, _))| self.bearer(enclave, self.slot_lent(report.task, lease))).collect()
    }

    /// Cordons an enclave of which something was found, if it is as often as the operator wants to hear.
    pub(crate) fn heed(&mut self, enclave: EnclaveId, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let Some(known) = self.enclaves.get(&enclave) else { return Ok(()) };
        let (alarms, dissents) = (known.alarms(), known.marks().map_or(0, |marks| marks.dissents(env.now)));
        let reached = |count: u32, most: u32| most > 0 && count >= most;
        let (why, author) = if reached(dissents, self.limits.dissents_max) {
            (format!("the majority of replicas contradicted {dissents} answers of it"), VOTE)
        } else if reached(alarms, self.limits.alarms_max) {
            (format!("reports of it raised {alarms} alarms: its runs are unlike those before"), MONITOR)
        } else {
            return Ok(());
        };
        self.keep_back(enclave, &why, author, env, out)
    }
}
