//! What an agent tells of itself as it happens: to its log, and to whoever asked to be told. Nothing here is secret.

use legation_core::{
    Bytes, Digest, EnclaveId, FragmentIndex, KeyId, LeaseId, Rejection, RevocationEpoch, Seq, SwarmName, TaskId, Term,
    UnixTime,
    monitor::{Monitored, Verdict},
    statement::Outcome,
};
use legation_log::Fork;

use crate::custody::Notice;

/// Something happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Status {
    /// A verifier gave a passport.
    Attested {
        /// This enclave.
        enclave: EnclaveId,
        /// How long the passport holds.
        until: UnixTime,
    },
    /// A verifier has not renewed its passport although most of its life is over.
    Overdue {
        /// The verifier, by its key.
        verifier: KeyId,
        /// Age of the passport, in seconds.
        age_seconds: u64,
        /// How long it still holds.
        until: UnixTime,
    },
    /// Knows of revocations, and has dropped what they cover.
    Heeded {
        /// The latest epoch.
        epoch: RevocationEpoch,
    },
    /// Ready for offers.
    Present {
        /// Address of the manager.
        manager: String,
        /// Leases that go on from before.
        running: usize,
        /// Highest term and journal position obeyed.
        obeyed: (Term, Seq),
    },
    /// Runs what was offered.
    Offer {
        /// Under which promise.
        lease: LeaseId,
        /// The task.
        task: TaskId,
        /// The fragment.
        fragment: FragmentIndex,
        /// Term and journal position of the offer, obeyed from here on.
        obeyed: (Term, Seq),
    },
    /// Joined a round of a swarm.
    Joined {
        /// The task.
        task: TaskId,
        /// Which round.
        round: u32,
        /// How many it judged, itself among them.
        members: usize,
    },
    /// Does not run what was offered, or does not join a swarm.
    Refused {
        /// Under which promise.
        lease: LeaseId,
        /// Why.
        why: Rejection,
    },
    /// Ran what was offered.
    Reported {
        /// Under which promise.
        lease: LeaseId,
        /// How it ended.
        outcome: Outcome,
    },
    /// How a run looks beside earlier ones of its module, as its report says.
    Monitored {
        /// Under which promise.
        lease: LeaseId,
        /// What the report says.
        monitored: Monitored,
    },
    /// Is lent to another enclave.
    Lent {
        /// The loan.
        loan: LeaseId,
        /// To whom.
        borrower: EnclaveId,
    },
    /// Has proven what it answered to a call.
    Proved {
        /// The loan that the call came under.
        loan: LeaseId,
        /// The answer.
        report: Digest,
        /// Bytes of the proof.
        size: Bytes,
    },
    /// Cannot prove what it answered to a call: it stays attested.
    Unproved {
        /// The loan that the call came under.
        loan: LeaseId,
        /// The answer.
        report: Digest,
        /// Why.
        why: Rejection,
    },
    /// The manager does not take a proof, or what was said instead of one.
    ProofRefused {
        /// The answer.
        report: Digest,
        /// Why.
        why: Rejection,
    },
    /// An enclave that was lent to this one dissented, or sent what does not verify.
    Distrusted {
        /// The loan.
        loan: LeaseId,
        /// Why.
        why: Rejection,
    },
    /// The manager has the report.
    Acknowledged {
        /// Under which promise.
        lease: LeaseId,
    },
    /// The manager stands by for another that leads, or for nobody yet.
    StandsBy {
        /// Address of the manager.
        manager: String,
        /// Its words.
        why: Rejection,
    },
    /// The manager, or this side, would not have the other.
    Turned {
        /// Address of the manager.
        manager: String,
        /// Why.
        why: Rejection,
    },
    /// There is no connection (any more).
    Disconnected {
        /// Address of the manager.
        manager: String,
        /// Why.
        why: String,
    },
    /// The manager's transparency log has two pasts: the evidence convinces whoever knows the log's key (`legation log verify`).
    LogForked {
        /// Address of the manager.
        manager: String,
        /// Both signed checkpoints, and the hashes that tell them apart.
        evidence: Box<Fork>,
    },
    /// A checkpoint of the manager's transparency log is not shown to continue what this agent heard before.
    LogUnproven {
        /// Address of the manager.
        manager: String,
        /// Why.
        why: String,
    },
    /// Something happened in the ceremonies of the swarm key that it helps to keep.
    Custody {
        /// Which swarm key.
        swarm: SwarmName,
        /// What.
        notice: Notice,
    },
    /// Takes no more work.
    Draining,
}

impl Status {
    /// Writes it to the log.
    pub(crate) fn log(&self) {
        match self {
            Self::Attested { enclave, until } => tracing::info!(enclave = %enclave.short(), %until, "attested"),
            Self::Overdue { verifier, age_seconds, until } => {
                tracing::warn!(verifier = %verifier.short(), age_seconds, %until, "passport is overdue for renewal: its verifier does not answer, or refuses");
            }
            Self::Heeded { epoch } => tracing::info!(epoch = epoch.0, "revocations heeded"),
            Self::Present { manager, running, obeyed: (term, seq) } => {
                tracing::info!(%manager, running, term = term.0, seq = seq.0, "present");
            }
            Self::Offer { lease, task, fragment, obeyed: (term, seq) } => {
                tracing::debug!(%lease, task = %task.short(), %fragment, term = term.0, seq = seq.0, "offer");
            }
            Self::Joined { task, round, members } => {
                tracing::info!(task = %task.short(), round, members, "joined a swarm");
            }
            Self::Refused { lease, why } => tracing::warn!(%lease, %why, "refused"),
            Self::Reported { lease, outcome } => tracing::debug!(%lease, ?outcome, "reported"),
            Self::Monitored { lease, monitored } => monitored_log(*lease, monitored),
            Self::Lent { loan, borrower } => tracing::debug!(%loan, borrower = %borrower.short(), "lent"),
            Self::Proved { loan, report, size } => tracing::info!(%loan, %report, %size, "proven"),
            Self::Unproved { loan, report, why } => {
                tracing::warn!(%loan, %report, %why, "an answer cannot be proven: it stays attested");
            }
            Self::ProofRefused { report, why } => tracing::warn!(%report, %why, "a proof is not taken"),
            Self::Distrusted { loan, why } => tracing::warn!(%loan, %why, "a delegate is not trusted any more"),
            Self::Acknowledged { lease } => tracing::trace!(%lease, "acknowledged"),
            Self::StandsBy { manager, why } => tracing::debug!(%manager, %why, "stands by"),
            Self::Turned { manager, why } => tracing::warn!(%manager, %why, "turned away"),
            Self::Disconnected { manager, why } => tracing::warn!(%manager, %why, "disconnected"),
            Self::LogForked { manager, evidence } => {
                let evidence = serde_json::to_string(evidence).unwrap_or_default();
                tracing::error!(%manager, evidence, "the transparency log has FORKED: give the evidence to its operator and to whoever relies on it");
            }
            Self::LogUnproven { manager, why } => {
                tracing::error!(%manager, why, "the transparency log is not shown to be the one known here");
            }
            Self::Custody { swarm, notice } => custody_log(swarm, notice),
            Self::Draining => tracing::info!("draining"),
        }
    }
}

/// Who holds the key concerns whoever runs the machine, and so does what keeps this one from it.
fn custody_log(swarm: &SwarmName, notice: &Notice) {
    match notice {
        Notice::Called { epoch, attempt, until } => {
            tracing::info!(%swarm, %epoch, attempt, %until, "called to keep a swarm key");
        }
        Notice::Found { dealer, why } => {
            tracing::warn!(%swarm, dealer = %dealer.short(), ?why, "a dealing of a swarm key is refused");
        }
        Notice::Confirmed { epoch, roster } => {
            tracing::info!(%swarm, %epoch, roster = %roster.short(), "has stored its share, and confirms");
        }
        Notice::GaveOver { epoch, to } => {
            tracing::info!(%swarm, %epoch, to = %to.short(), "has erased its share, and gives over");
        }
        Notice::Holds { epoch, roster, key, index } => {
            tracing::info!(%swarm, %epoch, roster = %roster.short(), key = %key.short(), index, "keeps a swarm key");
        }
        Notice::Refused { why } => tracing::warn!(%swarm, %why, "takes no part in a ceremony"),
        Notice::Unkept { why } => {
            tracing::error!(%swarm, %why, "state of the custodian is not stored: it says nothing that rests on it");
        }
    }
}

/// An alarm concerns whoever runs the machine; the rest is there for those who look.
fn monitored_log(lease: LeaseId, monitored: &Monitored) {
    let Monitored { verdict, evidence, calls, .. } = monitored;
    let worst = monitored.worst.map_or_else(String::new, |worst| worst.to_string());
    if *verdict >= Verdict::Suspect {
        tracing::warn!(%lease, %verdict, evidence, worst, %calls, "runs of this module have changed");
    } else {
        tracing::trace!(%lease, %verdict, evidence, "monitored");
    }
}
