//! Receipts: the evidence of a computation in one JSON file, and its verification with nothing but anchors.
//!
//! Checks, in this order; the first that fails is named with the link it failed on:
//! 1. the text is the one spelling of this receipt (so a change of any byte is a change of content);
//! 2. envelopes stand in the order of a depth-first walk from the roots, none missing, none superfluous;
//! 3. every envelope is signed by the key its office demands, and every office leads to an anchor:
//!    appointment by an operator of the anchors; passport by an appointed verifier; allocation by an appointed manager;
//!    request by its client; grant by an owner or holder the request names; report and aggregate by an enclave with a passport;
//! 4. the evidence behind each passport is judged again, as of the passport's issue, and says what the passport says;
//! 5. every statement stays within those it rests on: allocation and grants within the request, report within allocation,
//!    grants, passport and the requirements, call and answer within loan and grants, aggregate over exactly the reports its
//!    inputs came from; no fragment is reported twice, no task costs more than its budget; in a swarm, an allocation rests on
//!    a membership by every member of its round, all of the same list, which has the enclave that runs the fragment; what an
//!    enclave handed on rests on a loan of its own promise and on a chain of grants that only narrows, down from the owner's
//!    and every holder's ([`crate::delegation`]);
//! 6. the roots are the results of the task the receipt names, or exactly reports that failed; and the revocation it names
//!    is the latest that the allocations of the task took into account;
//! 7. proofs of executions stand beside the statements ascending by report, one of each at most, of executions that were to be
//!    proven; each is of what its report says, and a reader who knows its program finds it good ([`crate::proven`]). Where one is not
//!    there, or of a program that the reader does not know, the execution is attested.
//!
//! A reader who also has a list of revocations ([`Receipt::verify_with`]) checks in addition:
//! 8. no report was finished, nor its work allocated, after something that it rests on was revoked. What was revoked later is
//!    a warning: the work was done before.
//!
//! What it cannot show: that nothing was left out which no statement rests on, such as a second fragment's failure in a task
//! that failed, or a revocation after the last allocation, to whoever has no list of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    claims::{Anchor, Anchors, CollateralItem, Evidence, EvidenceJudge},
    delegation::Call,
    digest::Digest,
    dsse::{Envelope, EnvelopeError, Predicate, Signed},
    id::{EnclaveId, FragmentIndex, RevocationEpoch, TaskId},
    logged::Logged,
    objects,
    proven::{ExecutionJudge, NoJudge, PROOFS_MAX, ProofItem, open_item},
    rejection::Rejection,
    revocation::{RevocationList, Revoked},
    statement::{Aggregate, Allocation, Appointment, Grant, Outcome, Passport, Report, Request},
    swarm::{Membership, Seating},
    task::OutputRef,
    time::UnixTime,
};

mod bounds;
mod check;
mod demand;
mod describe;
mod execution;
mod tree;

pub(crate) use bounds::{GRACE_MICROS, SKEW};
pub use demand::{AnchorName, DEMANDS_MAX, Demands};
pub use execution::{Called, Execution};
pub use tree::Branch;

/// The one version of the format.
pub const VERSION: &str = "legation-receipt/v1";
/// Largest receipt file, in bytes.
pub const RECEIPT_MAX: usize = 64 << 20;
/// Most envelopes in one receipt.
pub const ENVELOPES_MAX: usize = 65_536;

/// The evidence of one task: statements closed under `prev`, and the evidence behind their passports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Always [`VERSION`].
    pub version: String,
    /// The task it is the receipt of.
    pub task: TaskId,
    /// The latest revocation that the allocations of the task took into account.
    pub revocations: RevocationEpoch,
    /// Statements that give the task's results: aggregates and reports, in the order of the fragments. Of a task that
    /// failed, reports that failed.
    pub roots: Vec<Digest>,
    /// All statements, in the order of a depth-first walk from the roots: whatever a statement rests on stands before it.
    pub envelopes: Vec<Envelope>,
    /// The evidence behind the passports, ascending by digest.
    pub evidence: Vec<Evidence>,
    /// The collateral that judging it took into account, ascending by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collateral: Vec<CollateralItem>,
    /// Proofs of executions that were to be proven, ascending by report, one of each at most: as far as they are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<ProofItem>,
    /// That all of them are in a transparency log; `legation-log` judges it. A receipt may be without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Logged>,
}

/// How a valid receipt is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Every enclave rests on a production root.
    Valid,
    /// At least one rests on a development root: proves the protocol, not confidentiality.
    ValidButDevelopment,
}

/// What a valid receipt proves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// How to read it.
    pub standing: Standing,
    /// The task.
    pub task: TaskId,
    /// What people call it.
    pub name: String,
    /// Whether every fragment completed.
    pub completed: bool,
    /// The latest revocation that its allocations took into account.
    pub revocations: RevocationEpoch,
    /// Roots everything rests on, by name.
    pub anchors: Vec<String>,
    /// The results, sealed, in the order of the fragments.
    pub results: Vec<Option<OutputRef>>,
    /// What a reader should know although nothing is wrong: dated exceptions that were made.
    pub warnings: Vec<String>,
    /// What ran: tasks in the order of the receipt, their fragments in order, and below each what it handed on.
    pub executions: Vec<Execution>,
    /// Every link in the order of the receipt.
    pub links: Vec<Link>,
}

/// One link of the chain as people read it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Name of the envelope.
    pub digest: Digest,
    /// Kind of statement.
    pub kind: String,
    /// What it says, in one line.
    pub says: String,
    /// What it rests on.
    pub prev: Vec<Digest>,
}

/// Why a receipt is not valid, and which link fails first.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{at}: {why}")]
pub struct Invalid {
    /// The link, such as `report 3f2a.. (fragment #1)`.
    pub at: String,
    /// Why.
    pub why: Rejection,
}

/// A statement in the chain, opened.
enum Opened {
    Appointment(Signed<Appointment>),
    Passport(Signed<Passport>),
    Request(Signed<Request>),
    Allocation(Signed<Allocation>),
    Grant(Signed<Grant>),
    Call(Signed<Call>),
    Report(Signed<Report>),
    Aggregate(Signed<Aggregate>),
    Seating(Signed<Seating>),
    Membership(Signed<Membership>),
}

impl Receipt {
    /// Puts together the closure of `roots` out of `envelopes` and `evidence`, in the one order. `known` is the latest
    /// revocation that whoever assembles knows of: the receipt itself says what the task's allocations say.
    ///
    /// # Errors
    /// A statement or evidence that is in nobody's hands, too many statements, or an allocation as of a later revocation
    /// than `known`.
    pub fn assemble(
        task: TaskId,
        known: RevocationEpoch,
        roots: Vec<Digest>,
        envelopes: impl IntoIterator<Item = Envelope>,
        evidence: impl IntoIterator<Item = Evidence>,
        collateral: impl IntoIterator<Item = CollateralItem>,
    ) -> Result<Self, Rejection> {
        let all: BTreeMap<Digest, Envelope> = envelopes.into_iter().map(|e| (e.digest(), e)).collect();
        let order = walk(&roots, |d| all.get(d))?;
        let mut chosen = Vec::with_capacity(order.len());
        let (mut wanted, mut wanted_collateral) = (BTreeSet::new(), BTreeSet::new());
        let mut revocations = None;
        for digest in &order {
            // `walk` found every digest it returned.
            let Some(envelope) = all.get(digest) else { continue };
            if let Ok(passport) = envelope.peek::<Passport>() {
                wanted.insert(passport.evidence);
                wanted_collateral.extend(passport.collateral);
            } else if let Ok(allocation) = envelope.peek::<Allocation>()
                && allocation.task == task
            {
                revocations = revocations.max(Some(allocation.revocations));
            }
            chosen.push(envelope.clone());
        }
        let revocations = revocations.unwrap_or(known);
        if revocations > known {
            return Err(Rejection::new("receipt.revocations", "revocations that an allocation took into account")
                .expected(format!("at most {}, the latest known here", known.0))
                .got(revocations.0)
                .fix("ask the manager again"));
        }
        let mut evidence: BTreeMap<Digest, Evidence> = evidence.into_iter().map(|e| (e.digest(), e)).collect();
        evidence.retain(|digest, _| wanted.contains(digest));
        if let Some(digest) = wanted.iter().find(|d| !evidence.contains_key(d)) {
            return Err(Rejection::new("receipt.evidence", "evidence behind a passport")
                .expected(digest)
                .got("nothing")
                .fix("ask the manager, or take it from the receipt of the earlier task"));
        }
        let evidence = evidence.into_values().collect();
        let mut collateral: BTreeMap<_, _> = collateral.into_iter().map(|c| (c.digest(), c)).collect();
        collateral.retain(|digest, _| wanted_collateral.contains(digest));
        if let Some(digest) = wanted_collateral.iter().find(|d| !collateral.contains_key(d)) {
            return Err(Rejection::new("receipt.collateral", "collateral behind a passport")
                .expected(digest)
                .got("nothing")
                .fix("ask the manager, or take it from the receipt of the earlier task"));
        }
        let collateral = collateral.into_values().collect();
        Ok(Self {
            version: VERSION.to_owned(),
            task,
            revocations,
            roots,
            envelopes: chosen,
            evidence,
            collateral,
            proofs: Vec::new(),
            log: None,
        })
    }

    /// The same receipt with those of these proofs beside its statements that are of its reports, in the one order. They are
    /// not judged: [`Self::verify_proven`] does that. Nothing rests on a proof, so none is a reason to refuse the rest: what is
    /// none is left out, and so is what there is no room for, first come, first served. Of two of one report the first is taken.
    pub fn with_proofs(mut self, proofs: impl IntoIterator<Item = ProofItem>) -> Self {
        self.proofs.clear();
        let own: BTreeSet<Digest> = self.envelopes.iter().map(Envelope::digest).collect();
        let mut room = RECEIPT_MAX.saturating_sub(self.to_text().len()).saturating_sub(PROOFS_KEY.len());
        let mut chosen = BTreeMap::new();
        for item in proofs {
            if chosen.len() >= PROOFS_MAX {
                break;
            }
            let Ok(statement) = open_item(&item) else { continue };
            if !own.contains(&statement.report) || chosen.contains_key(&statement.report) {
                continue;
            }
            // And a comma.
            let need = serde_json::to_string(&item).map_or(usize::MAX, |text| text.len().saturating_add(1));
            if let Some(left) = room.checked_sub(need) {
                room = left;
                chosen.insert(statement.report, item);
            }
        }
        self.proofs = chosen.into_values().collect();
        self
    }

    /// The one spelling: compact JSON and a newline.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Whether a file of so many bytes can be a receipt: to be asked before it is read.
    ///
    /// # Errors
    /// `receipt.size`.
    pub fn check_size(bytes: u64) -> Result<(), Invalid> {
        if usize::try_from(bytes).is_ok_and(|bytes| bytes <= RECEIPT_MAX) {
            return Ok(());
        }
        let why = Rejection::new("receipt.size", "size of the receipt");
        Err(Invalid {
            at: "the file".to_owned(),
            why: why.expected(format!("at most {RECEIPT_MAX} bytes")).got(format!("{bytes} bytes")),
        })
    }

    /// Reads the one spelling.
    ///
    /// # Errors
    /// Not a receipt, or another spelling of one.
    pub fn from_text(text: &[u8]) -> Result<Self, Invalid> {
        let file = |why: Rejection| Invalid { at: "the file".to_owned(), why };
        Self::check_size(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
        let receipt: Self = serde_json::from_slice(text)
            .map_err(|e| file(Rejection::new("receipt.format", "content of the file").expected("a receipt").got(e)))?;
        if receipt.to_text().as_bytes() != text {
            return Err(file(
                Rejection::new("receipt.spelling", "spelling of the receipt")
                    .expected("compact JSON in the order of the format, ending with one newline")
                    .got("the same content in another spelling, or bytes that do not belong to it")
                    .fix("use the file as it was written"),
            ));
        }
        Ok(receipt)
    }

    /// Verifies everything, offline, trusting only `anchors` (and the vendors' roots that `judge` holds).
    ///
    /// # Errors
    /// The first link that fails, and why.
    pub fn verify(&self, anchors: &Anchors, judge: &dyn EvidenceJudge) -> Result<Verdict, Invalid> {
        self.verify_with(anchors, judge, None)
    }

    /// As [`Self::verify`], knowing also what was revoked: a list that [`RevocationList::open`] has opened. Proofs of executions
    /// are not judged: what was to be proven is attested.
    ///
    /// # Errors
    /// The first link that fails, and why.
    pub fn verify_with(
        &self,
        anchors: &Anchors,
        judge: &dyn EvidenceJudge,
        revocations: Option<&RevocationList>,
    ) -> Result<Verdict, Invalid> {
        self.verify_proven(anchors, judge, &NoJudge, revocations)
    }

    /// As [`Self::verify_with`], by a reader who can judge proofs of executions.
    ///
    /// # Errors
    /// The first link that fails, and why; a proof that is not good is one.
    pub fn verify_proven(
        &self,
        anchors: &Anchors,
        judge: &dyn EvidenceJudge,
        executions: &dyn ExecutionJudge,
        revocations: Option<&RevocationList>,
    ) -> Result<Verdict, Invalid> {
        check::Chain::new(self, anchors, judge, executions, revocations)?.verify()
    }
}

/// What a list of proofs adds to the text of a receipt, beside its items.
const PROOFS_KEY: &str = ",\"proofs\":[]";

fn too_many(proofs: usize) -> Rejection {
    Rejection::new("receipt.proofs", "proofs of execution").expected(format!("at most {PROOFS_MAX}")).got(proofs)
}

/// Depth-first walk over `prev` from `roots`: every statement after all it rests on, each once.
fn walk<'a>(roots: &[Digest], find: impl Fn(&Digest) -> Option<&'a Envelope>) -> Result<Vec<Digest>, Rejection> {
    #[derive(Deserialize)]
    struct Peek {
        predicate: PeekPredicate,
    }
    #[derive(Deserialize)]
    struct PeekPredicate {
        #[serde(default)]
        prev: Vec<Digest>,
    }
    enum Step {
        Enter(Digest),
        Leave(Digest),
    }
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    let mut stack: Vec<Step> = roots.iter().rev().map(|d| Step::Enter(*d)).collect();
    while let Some(step) = stack.pop() {
        match step {
            Step::Leave(digest) => order.push(digest),
            Step::Enter(digest) => {
                if !seen.insert(digest) {
                    continue;
                }
                if seen.len() > ENVELOPES_MAX {
                    return Err(Rejection::new("receipt.size", "number of statements")
                        .expected(format!("at most {ENVELOPES_MAX}")));
                }
                let envelope = find(&digest).ok_or_else(|| {
                    Rejection::new("receipt.missing", "a statement that another rests on")
                        .expected(format!("envelope {digest}"))
                        .got("nothing: it was removed or changed")
                })?;
                let peek: Peek = objects::from_slice(envelope.payload()).map_err(|e| {
                    Rejection::new("receipt.statement", format!("envelope {digest}")).expected("a statement").got(e)
                })?;
                stack.push(Step::Leave(digest));
                stack.extend(peek.predicate.prev.iter().rev().map(|d| Step::Enter(*d)));
            }
        }
    }
    Ok(order)
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::ValidButDevelopment => "valid but development",
        })
    }
}
