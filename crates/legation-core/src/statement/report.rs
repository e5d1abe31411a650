//! Execution reports: what an enclave ran, on what, with what result.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    dsse::{Predicate, Subject},
    id::{FragmentIndex, LeaseId, TaskId},
    key::PublicKey,
    monitor::Monitored,
    task::OutputRef,
    time::UnixTime,
    unit::{Bytes, Fuel},
};

/// How an execution ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", from = "OutcomeWire")]
pub enum Outcome {
    /// The module ended with exit code 0.
    Completed,
    /// The module did not: the task's own fault, so that another enclave would not help.
    Failed {
        /// Short form, such as `out-of-fuel` or `exit-2`.
        reason: String,
    },
}

/// [`Outcome`] as it is read: a variant without fields lets unknown ones pass, one with no fields does not.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum OutcomeWire {
    Completed {},
    Failed { reason: String },
}

impl From<OutcomeWire> for Outcome {
    fn from(wire: OutcomeWire) -> Self {
        match wire {
            OutcomeWire::Completed {} => Self::Completed,
            OutcomeWire::Failed { reason } => Self::Failed { reason },
        }
    }
}

/// What an execution used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Work.
    pub fuel: Fuel,
    /// Largest linear memory.
    pub memory_peak: Bytes,
    /// Calls out of the module.
    pub host_calls: u64,
    /// Time from begin to end of execution, in microseconds.
    pub micros: u64,
}

/// Execution report: what an enclave ran, on what, with what result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Identity key of the enclave, which signs this.
    pub enclave: PublicKey,
    /// The task.
    pub task: TaskId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// Under which promise; of an answer to a call, the loan.
    pub lease: LeaseId,
    /// Module that ran, by SHA-256.
    pub module: Digest,
    /// Commitments of the plaintexts it read, in order.
    pub inputs: Vec<Digest>,
    /// Seed of its randomness, so that the execution can be repeated.
    pub seed: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote, sealed; nothing when it wrote nothing.
    pub output: Option<OutputRef>,
    /// What it logged, sealed; nothing when it logged nothing.
    pub log: Option<OutputRef>,
    /// What it used.
    pub usage: Usage,
    /// Begin of the execution.
    pub started: UnixTime,
    /// End of the execution.
    pub finished: UnixTime,
    /// Of the execution of a call: which, and what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Of the answers among `prev`, those that disagreed with the majority of their question, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dissent: Vec<Digest>,
    /// What the enclave's own monitor says of the execution; nothing where no module ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitored>,
    /// The allocation, the passport, the grants (ascending by digest), then of a fragment the reports of fragments whose
    /// outputs it read, of an answer its call; then the answers to calls that this execution made, each once.
    pub prev: Vec<Digest>,
}

/// Bytes that travel over a channel and stand in statements by their commitment alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committed {
    /// How many bytes.
    pub size: Bytes,
    /// Commitment to them, hiding and binding, under a key that travels beside them.
    pub commitment: Digest,
}

/// What came of a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The call, by the digest of its envelope.
    pub call: Digest,
    /// What the module wrote, of an execution that completed; nothing of one that failed.
    pub output: Option<Committed>,
    /// SHA-256 over its host calls in their order: the same for two executions that did the same.
    pub trace: Digest,
}

impl Predicate for Report {
    const TYPE: &'static str = "https://legation.dev/report/v1";

    fn signer(&self) -> PublicKey {
        self.enclave
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        if let Some(answer) = &self.answer {
            return vec![Subject::new("call", answer.call)];
        }
        let output = self.output.iter().map(|o| Subject::new("output", o.ciphertext));
        let log = self.log.iter().map(|o| Subject::new("log", o.ciphertext));
        let subjects: Vec<_> = output.chain(log).collect();
        // in-toto wants at least one subject: an execution without output is about its module.
        if subjects.is_empty() { vec![Subject::new("module", self.module)] } else { subjects }
    }
}
