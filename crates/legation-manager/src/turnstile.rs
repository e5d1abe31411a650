//! Who may open a channel to this manager: agents and applicants, as [`AnchoredJudge`] has it, while this manager leads.
//!
//! While another leads, whoever comes is told where that one takes agents, in the handshake: an agent of several managers looks for
//! the leader by asking all of them, and must not take one that stands by for it.

use std::sync::OnceLock;

use legation_core::{PublicKey, Rejection, UnixTime, claims::Role};
use legation_net::{AnchoredJudge, Credential, Judge, Revocations, Standing};
use tokio::sync::watch;

use crate::leader::{self, Leader};

/// The judge of all channels.
pub(crate) struct Turnstile {
    judge: AnchoredJudge,
    /// Whether agents are let in.
    open: watch::Receiver<bool>,
    /// Set once there is one.
    leader: OnceLock<Leader>,
}

impl Turnstile {
    pub(crate) fn new(judge: AnchoredJudge, open: watch::Receiver<bool>) -> Self {
        Self { judge, open, leader: OnceLock::new() }
    }

    /// Whom to ask from now on where the leader is.
    pub(crate) fn follow(&self, leader: Leader) {
        let _ = self.leader.set(leader);
    }
}

impl Judge for Turnstile {
    fn judge(
        &self,
        role: Role,
        key: &PublicKey,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Standing, Rejection> {
        if !*self.open.borrow() {
            let there = self.leader.get().and_then(Leader::elsewhere);
            return Err(leader::standby(&there.map_or(String::new(), |there| there.agents)));
        }
        self.judge.judge(role, key, credential, now)
    }

    /// Channels of a manager that leads no longer are ended by their gate, with the reason.
    fn recheck(
        &self,
        role: Role,
        key: &PublicKey,
        credential: &Credential,
        now: UnixTime,
    ) -> Result<Standing, Rejection> {
        self.judge.recheck(role, key, credential, now)
    }

    fn revocations(&self) -> Option<&Revocations> {
        self.judge.revocations()
    }
}
