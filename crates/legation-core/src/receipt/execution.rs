//! What ran, as a valid receipt proves it: every execution with the enclave that ran it, in the order of the tree that they form.
//!
//! A receipt's links say in words what each statement says. Here the statements about one execution are put side by side (report,
//! passport, request, call), for whoever demands something of them ([`super::Demands`]) or draws them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Anchor, Digest, EnclaveId, FragmentIndex, Link, Opened, Outcome, Rejection, Report, Signed, TaskId, UnixTime,
};
use crate::{
    claims::TeeKind,
    id::{LeaseId, ProviderId, Region},
    monitor,
    proven::{Ledger, ProofState},
    statement::{Assurance, Committed},
    unit::Fuel,
};

/// One execution: of a fragment, or of a part that another execution handed on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Execution {
    /// Its report, by the digest of the envelope.
    pub report: Digest,
    /// The task.
    pub task: TaskId,
    /// The fragment that it is, or is a part of.
    pub fragment: FragmentIndex,
    /// What people call the fragment. A stranger's word.
    pub name: String,
    /// How often the work was handed on before it ran here: 0 for a fragment, 1 for a part that its enclave had run elsewhere.
    pub depth: u32,
    /// Of a part: the call that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Called>,
    /// The fragments whose outputs it read, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<FragmentIndex>,
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its owner: measured, not attested.
    pub provider: ProviderId,
    /// Its place: measured, not attested.
    pub region: Region,
    /// Its place by whoever attests it, where somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_attested: Option<Region>,
    /// Kind of machine.
    pub tee: TeeKind,
    /// The root that its evidence rests on.
    pub anchor: Anchor,
    /// The module that ran, by SHA-256.
    pub module: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// Its output: how many bytes (of a fragment: sealed), and the commitment to the plaintext.
    pub output: Option<Committed>,
    /// Work.
    pub fuel: Fuel,
    /// The promise it ran under; of a part, the loan.
    pub lease: LeaseId,
    /// The grants it ran under, ascending.
    pub grants: Vec<Digest>,
    /// How its result is assured: `proven` only where a proof is there and was found good, before that attested.
    pub assurance: Assurance,
    /// How far its proof is, where it was to be proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofState>,
    /// What the enclave's own monitor said of it, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<monitor::Verdict>,
    /// When it was finished.
    pub finished: UnixTime,
    /// Seconds from the judgement of the enclave's evidence (its passport's issue) to the end of the execution.
    pub proof_age: u64,
}

/// The call that an execution answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Called {
    /// The call, by the digest of its envelope.
    pub call: Digest,
    /// Its number on its loan.
    pub number: u64,
    /// The question that it puts: the same for replicas.
    pub question: Digest,
    /// The report of the execution that asked, and used the answer.
    pub used_by: Digest,
    /// Whether the answer disagreed with the majority.
    pub dissents: bool,
}

impl Execution {
    /// How refusals name it: `report 3f2a5b… (fragment #1)`.
    pub fn place(&self) -> String {
        match &self.call {
            None => format!("report {} (fragment {})", self.report.short(), self.fragment),
            Some(called) => {
                format!("report {} (call {} of fragment {})", self.report.short(), called.call.short(), self.fragment)
            }
        }
    }

    /// Where it ran, by its own word and by whoever attests it.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        std::iter::once(&self.region).chain(&self.region_attested)
    }
}

/// An execution that is still to be described.
struct Waiting {
    report: Digest,
    depth: u32,
    used_by: Option<Digest>,
}

/// Every execution of a chain whose statements were all checked: tasks in the order of the receipt, their fragments in order,
/// and below each the answers that it used.
///
/// # Errors
/// `receipt.execution`: a statement behind a report is not there, which the checks of reports leave no room for.
pub(super) fn executions(
    links: &[Link],
    opened: &BTreeMap<Digest, Opened>,
    ledger: &Ledger,
) -> Result<Vec<Execution>, Rejection> {
    let report = |digest: &Digest| match opened.get(digest) {
        Some(Opened::Report(report)) => Some(report),
        _ => None,
    };
    let tasks: BTreeMap<Digest, usize> = links.iter().enumerate().map(|(place, link)| (link.digest, place)).collect();
    let fragments = links.iter().filter_map(|link| report(&link.digest)).filter(|report| report.answer.is_none());
    let mut tops: Vec<_> = fragments.map(|r| (tasks.get(&r.task.digest()).copied(), r.fragment, r.digest())).collect();
    tops.sort_unstable();
    let mut waiting: Vec<Waiting> =
        tops.into_iter().rev().map(|(_, _, report)| Waiting { report, depth: 0, used_by: None }).collect();
    let mut out = Vec::new();
    // Every answer is used once, and statements rest on earlier ones only: so each is described once.
    while let Some(next) = waiting.pop() {
        let missing = || {
            Rejection::new("receipt.execution", "statements behind a report")
                .expected("its passport, its request and its call")
                .got(format!("less, for report {}", next.report))
        };
        let signed = report(&next.report).ok_or_else(missing)?;
        out.push(describe(&next, signed, opened, ledger).ok_or_else(missing)?);
        let answers =
            signed.prev.iter().rev().filter(|&digest| report(digest).is_some_and(|other| other.answer.is_some()));
        let below = |answer: &Digest| Waiting {
            report: *answer,
            depth: next.depth.saturating_add(1),
            used_by: Some(next.report),
        };
        waiting.extend(answers.map(below));
    }
    Ok(out)
}

fn describe(
    place: &Waiting,
    report: &Signed<Report>,
    opened: &BTreeMap<Digest, Opened>,
    ledger: &Ledger,
) -> Option<Execution> {
    let Some(Opened::Passport(passport)) = report.prev.get(1).and_then(|digest| opened.get(digest)) else {
        return None;
    };
    let Some(Opened::Request(request)) = opened.get(&report.task.digest()) else { return None };
    let fragment = request.fragment(report.fragment)?;
    let (call, asked) = match (&report.answer, place.used_by) {
        (None, None) => (None, request.assurance),
        (Some(answer), Some(used_by)) => {
            let Some(Opened::Call(call)) = opened.get(&answer.call) else { return None };
            let Some(Opened::Report(user)) = opened.get(&used_by) else { return None };
            let called = Called {
                call: answer.call,
                number: call.number,
                question: call.question,
                used_by,
                dissents: user.dissent.contains(&place.report),
            };
            (Some(called), call.assurance)
        }
        _ => return None,
    };
    let proof = ledger.state(&place.report);
    // What is promised is one thing, what is shown another.
    let assurance = match asked {
        Assurance::Proven if proof != Some(ProofState::Good) => Assurance::Attested,
        asked => asked,
    };
    let output = match &report.answer {
        Some(answer) => answer.output,
        None => report.output.as_ref().map(|left| Committed { size: left.size, commitment: left.commitment }),
    };
    let is_grant = |digest: &&Digest| matches!(opened.get(*digest), Some(Opened::Grant(_)));
    Some(Execution {
        report: place.report,
        task: report.task,
        fragment: report.fragment,
        name: fragment.name.clone(),
        depth: place.depth,
        reads: if call.is_none() { fragment.upstream().collect() } else { Vec::new() },
        call,
        enclave: report.enclave.enclave_id(),
        provider: passport.configuration.provider.clone(),
        region: passport.configuration.region.clone(),
        region_attested: passport.claims.region.as_ref().map(|region| region.value.clone()),
        tee: passport.claims.tee.value,
        anchor: passport.claims.anchor.clone(),
        module: report.module,
        outcome: report.outcome.clone(),
        output,
        fuel: report.usage.fuel,
        lease: report.lease,
        grants: report.prev.iter().filter(is_grant).copied().collect(),
        assurance,
        proof,
        monitor: report.monitor.as_ref().map(|monitored| monitored.verdict),
        finished: report.finished,
        proof_age: report.finished.since(passport.issued),
    })
}
