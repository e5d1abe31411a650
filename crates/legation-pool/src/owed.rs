//! Proofs of executions that a task is owed: which answers were to be proven, and what came of that.
//!
//! ```text
//! a report is taken, with answers to calls of assurance `proven`
//!    -> each of them is owed a proof -- Unproved --> failed --+
//!                                    \------- Proved ---------+--> there
//! ```
//! 1. An answer counts at once, attested. That its proof is owed ends nothing and keeps nobody: neither the task nor a lease waits.
//! 2. A proof is taken from the enclave that answered alone, of an answer that a report rests on that was taken, once; also when
//!    the task is over, as long as it is remembered.
//! 3. It is of the claim that this very answer makes: the pool keeps what a proof of that makes public, one digest. Whether it is good
//!    the pool cannot tell, and says to nobody: readers of the receipt judge it ([`legation_core::proven`]).
//! 4. What a task is owed is bounded by what a receipt may have, in number and in bytes. What is beyond stays attested. Each prover
//!    has as much of the room as it owes of the proofs: whatever it sends in their place takes nothing from the others.
//!
//! The journal has the statement; the proof's bytes are an object that it names.

use std::collections::BTreeMap;

use legation_core::{
    Bytes, Digest, EnclaveId, Envelope, FragmentIndex, LeaseId, PublicKey, Rejection, Seq, Signed, TaskId, UnixTime,
    delegation::Call,
    proven::{PROOF_MAX, PROOFS_MAX},
    statement::{Assurance, ExecutionClaim, ExecutionProof, Report},
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::Event,
    offer::Recorded,
    pool::{Env, Pool},
    task::Task,
    text::cut_rejection,
};

/// Most bytes of the proofs of one task: in base64, with everything else, they fit into a receipt.
pub const PROOFS_BYTES_MAX: u64 = 40 << 20;

/// The check of a proof of what is not known here: it may be known later.
pub const PROOF_UNKNOWN: &str = "proof.unknown";

/// An execution that is to be proven.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Owed {
    /// The fragment that it was for.
    pub fragment: FragmentIndex,
    /// The loan that it ran under.
    pub loan: LeaseId,
    /// Who ran it, and is to prove it.
    pub prover: PublicKey,
    /// What a proof of it makes public.
    pub(crate) public: Digest,
    /// How far it is.
    pub stands: Stands,
}

/// How far a proof is, as far as the journal knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stands {
    /// It is being made, or its prover is gone.
    Awaited,
    /// It is there.
    There {
        /// Where the statement is.
        record: Recorded,
        /// The proof's bytes: an object.
        proof: Digest,
        /// How many.
        size: Bytes,
        /// When it was made.
        made: UnixTime,
    },
    /// There will be none.
    Failed {
        /// Why, as its prover says.
        why: Rejection,
    },
}

/// A proof that is owed, as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwedView {
    /// The report that it is of.
    pub report: Digest,
    /// The fragment that the execution was for.
    pub fragment: FragmentIndex,
    /// The loan that it ran under.
    pub loan: LeaseId,
    /// Who ran it, and is to prove it.
    pub prover: EnclaveId,
    /// How far it is.
    pub stands: Stands,
    /// How far its prover says that it is, while it is made; not in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How far a prover says that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// In thousandths.
    pub done: u16,
    /// Seconds until it is there, about.
    pub seconds_left: u64,
}

fn bad(what: &str, claim: &str) -> Rejection {
    Rejection::new(&format!("proof.{what}"), claim.to_owned())
}

impl OwedView {
    /// What a task is owed, by report.
    pub(crate) fn all(task: &Task) -> Vec<Self> {
        let view = |(report, owed): (&Digest, &Owed)| Self {
            report: *report,
            fragment: owed.fragment,
            loan: owed.loan,
            prover: owed.prover.enclave_id(),
            stands: owed.stands.clone(),
            progress: None,
        };
        task.owed.iter().map(view).collect()
    }
}

impl Task {
    /// Where the statements are about the proofs that came, ascending by report.
    pub(crate) fn proofs_there(&self) -> impl Iterator<Item = Recorded> {
        self.owed.values().filter_map(|owed| match owed.stands {
            Stands::There { record, .. } => Some(record),
            Stands::Awaited | Stands::Failed { .. } => None,
        })
    }

    /// Bytes of the proofs that came: of all provers, or of one.
    fn proof_bytes(&self, of: Option<&PublicKey>) -> u64 {
        let owed = self.owed.values().filter(|owed| of.is_none_or(|prover| owed.prover == *prover));
        let sizes = owed.map(|owed| match owed.stands {
            Stands::There { size, .. } => size.0,
            Stands::Awaited | Stands::Failed { .. } => 0,
        });
        sizes.fold(0, u64::saturating_add)
    }

    /// Bytes that the proofs of one prover may have together: its part of the room.
    fn proof_room(&self, prover: &PublicKey) -> u64 {
        let own = self.owed.values().filter(|owed| owed.prover == *prover).count() as u64;
        let part = PROOFS_BYTES_MAX.saturating_mul(own).checked_div(self.owed.len() as u64);
        part.unwrap_or(PROOFS_BYTES_MAX)
    }
}

impl Pool {
    /// Whether a proof of this report is still to come from this enclave.
    ///
    /// # Errors
    /// `proof.unknown`, `proof.enclave`: none is owed by it, or not yet.
    pub fn owes(&self, enclave: EnclaveId, task: TaskId, report: Digest) -> Result<bool, Rejection> {
        self.owed_by(enclave, task, report).map(|owed| !matches!(owed.stands, Stands::There { .. }))
    }

    fn owed_by(&self, enclave: EnclaveId, task: TaskId, report: Digest) -> Result<&Owed, Rejection> {
        let owed = self.tasks.get(&task).and_then(|task| task.owed.get(&report)).ok_or_else(|| {
            Rejection::new(PROOF_UNKNOWN, "report that a proof of execution is of")
                .expected("one that was to be proven, behind a report of the task that was taken")
                .got(report)
                .fix("send it again when the task has been reported; tasks that ended long ago are forgotten")
        })?;
        if owed.prover.enclave_id() == enclave {
            return Ok(owed);
        }
        Err(bad("enclave", "who proves an execution")
            .expected(format!("{}, which ran it", owed.prover.enclave_id()))
            .got(enclave))
    }

    /// An enclave has proven an execution of its own.
    pub(crate) fn prove(
        &mut self,
        enclave: EnclaveId,
        task: TaskId,
        statement: Signed<ExecutionProof>,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let owed = self.owed_by(enclave, task, statement.report)?;
        if let Stands::There { record, .. } = owed.stands {
            // Told again: it is there.
            return match Recorded::of(record.at, [statement.envelope()]) == record {
                true => Ok(()),
                false => Err(bad("superfluous", "proofs of one execution").expected("one").got("another")),
            };
        }
        self.check_proof(task, &statement)?;
        let known = self.enclaves.get(&enclave).and_then(|enclave| enclave.typical().configuration.prover);
        if let Some(proves) = known.filter(|proves| proves.program != statement.program) {
            return Err(bad("program", "program behind a proof of execution")
                .expected(format!("{}, which its enclave attested", proves.program))
                .got(statement.program));
        }
        out.record(self, env, Event::Proved { task, statement: Box::new(statement) })
    }

    /// An enclave cannot prove an execution of its own.
    pub(crate) fn unprove(
        &mut self,
        enclave: EnclaveId,
        (task, report): (TaskId, Digest),
        why: &Rejection,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        match self.owed_by(enclave, task, report)?.stands {
            Stands::Awaited => out.record(self, env, Event::Unproved { task, report, why: cut_rejection(why) }),
            // Told again, or too late.
            Stands::There { .. } | Stands::Failed { .. } => Ok(()),
        }
    }

    /// Whether a statement is about an execution that is owed a proof, claims what that execution says, and has room.
    pub(crate) fn check_proof(&self, task: TaskId, statement: &ExecutionProof) -> Result<(), Rejection> {
        let unknown = || Rejection::new(PROOF_UNKNOWN, "report that a proof of execution is of").got(statement.report);
        let task = self.tasks.get(&task).ok_or_else(unknown)?;
        let owed = task.owed.get(&statement.report).ok_or_else(unknown)?;
        if matches!(owed.stands, Stands::There { .. }) {
            return Err(bad("superfluous", "proofs of one execution").expected("one").got("a second"));
        }
        if statement.prover != owed.prover || statement.prev != [statement.report] {
            return Err(bad("statement", "statement of a proof of execution")
                .expected("one by the enclave that ran it, which rests on its report alone")
                .got(statement.prover.enclave_id()));
        }
        if statement.claim.public_value() != owed.public {
            return Err(bad("claim", "claim of a proof of execution").expected("what the report says").got("another"));
        }
        let most = u64::try_from(PROOF_MAX).unwrap_or(u64::MAX);
        if statement.size.0 > most {
            return Err(bad("size", "size of a proof of execution").expected(Bytes(most)).got(statement.size));
        }
        let prover = &statement.prover;
        for (what, most, came) in [
            ("proofs of one task by one enclave", task.proof_room(prover), task.proof_bytes(Some(prover))),
            // Those that came before more was owed may have had a larger part.
            ("proofs of one task", PROOFS_BYTES_MAX, task.proof_bytes(None)),
        ] {
            let all = came.saturating_add(statement.size.0);
            if all > most {
                return Err(bad("room", what)
                    .expected(format!("at most {} together, as a receipt has room for", Bytes(most)))
                    .got(Bytes(all))
                    .fix("have less of one task proven"));
            }
        }
        Ok(())
    }

    /// Whether a proof of this report is awaited: there can be word now that there will be none.
    pub fn may_be_unproved(&self, task: TaskId, report: Digest) -> bool {
        let owed = self.tasks.get(&task).and_then(|task| task.owed.get(&report));
        owed.is_some_and(|owed| owed.stands == Stands::Awaited)
    }

    /// Notes which of the answers that came with a report are to be proven.
    pub(crate) fn note_owed(&mut self, report: &Report, attached: &[Envelope]) -> Option<()> {
        let calls = attached.iter().filter_map(|envelope| Some((envelope.digest(), envelope.peek::<Call>().ok()?)));
        let calls: BTreeMap<Digest, Call> = calls.filter(|(_, call)| call.assurance == Assurance::Proven).collect();
        if calls.is_empty() {
            return Some(());
        }
        let task = self.tasks.get_mut(&report.task)?;
        let clock = task.request.created;
        for envelope in attached {
            let Ok(answer) = envelope.peek::<Report>() else { continue };
            let Some(call) = answer.answer.as_ref().and_then(|said| calls.get(&said.call)) else { continue };
            // Failures are attested, never proven.
            let Ok(claim) = ExecutionClaim::of(&answer, &call.args, clock) else { continue };
            if task.owed.len() >= PROOFS_MAX {
                break;
            }
            let owed = Owed {
                fragment: answer.fragment,
                loan: answer.lease,
                prover: answer.enclave,
                public: claim.public_value(),
                stands: Stands::Awaited,
            };
            task.owed.insert(envelope.digest(), owed);
        }
        Some(())
    }

    pub(crate) fn absorb_proved(&mut self, task: TaskId, statement: &Signed<ExecutionProof>, at: Seq) -> Option<()> {
        let owed = self.tasks.get_mut(&task)?.owed.get_mut(&statement.report)?;
        let record = Recorded::of(at, [statement.envelope()]);
        let ExecutionProof { proof, size, made, .. } = statement.predicate();
        owed.stands = Stands::There { record, proof: *proof, size: *size, made: *made };
        Some(())
    }

    pub(crate) fn absorb_unproved(&mut self, task: TaskId, report: Digest, why: &Rejection) -> Option<()> {
        self.tasks.get_mut(&task)?.owed.get_mut(&report)?.stands = Stands::Failed { why: why.clone() };
        Some(())
    }
}
