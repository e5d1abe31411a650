//! What an agent tells of itself as it happens: to its log, and to whoever asked to be told. Nothing here is secret.

use legation_core::{
    EnclaveId, FragmentIndex, KeyId, LeaseId, Rejection, RevocationEpoch, Seq, TaskId, Term, UnixTime,
    statement::Outcome,
};

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
            Self::Acknowledged { lease } => tracing::trace!(%lease, "acknowledged"),
            Self::StandsBy { manager, why } => tracing::debug!(%manager, %why, "stands by"),
            Self::Turned { manager, why } => tracing::warn!(%manager, %why, "turned away"),
            Self::Disconnected { manager, why } => tracing::warn!(%manager, %why, "disconnected"),
            Self::Draining => tracing::info!("draining"),
        }
    }
}
