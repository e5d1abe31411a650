//! What sets an enclave apart from most others: that it is revoked, cordoned, held back, kept for somebody. Few have any of it, so it
//! stands beside the enclave, and there is nothing where nothing is said.

use legation_core::{FragmentId, KeyId, Revocation};
use serde::{Deserialize, Serialize};

use crate::{
    enclave::{Cordon, Enclave, Withdrawal},
    retire::Hold,
};

/// What is said of an enclave beside what proves it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apart {
    revoked: Option<Box<Revocation>>,
    cordon: Option<Box<Cordon>>,
    withdrawal: Option<Box<Withdrawal>>,
    hold: Option<Box<Hold>>,
    claimed: Option<FragmentId>,
}

impl Enclave {
    /// Why it is no longer trusted, if so.
    pub fn revoked(&self) -> Option<&Revocation> {
        self.apart.as_ref()?.revoked.as_deref()
    }

    /// Why nothing is placed on it until it proves itself anew, if so.
    pub fn cordon(&self) -> Option<&Cordon> {
        self.apart.as_ref()?.cordon.as_deref()
    }

    /// The last passport that was taken back and that its verifier has not given anew.
    pub fn withdrawal(&self) -> Option<&Withdrawal> {
        self.apart.as_ref()?.withdrawal.as_deref()
    }

    /// Why nothing new is placed on it, as its operator says.
    pub fn hold(&self) -> Option<&Hold> {
        self.apart.as_ref()?.hold.as_deref()
    }

    /// The fragment that it is kept for: nothing else is placed on it.
    pub fn claimed(&self) -> Option<FragmentId> {
        self.apart.as_ref()?.claimed
    }

    pub(crate) fn revoke(&mut self, revocation: Revocation) {
        self.say(|apart| apart.revoked = Some(Box::new(revocation)));
    }

    pub(crate) fn cordon_off(&mut self, cordon: Cordon) {
        self.say(|apart| apart.cordon = Some(Box::new(cordon)));
    }

    pub(crate) fn note_withdrawal(&mut self, withdrawal: Withdrawal) {
        self.say(|apart| apart.withdrawal = Some(Box::new(withdrawal)));
    }

    /// A verifier vouches for it anew: whatever it was cordoned for is over.
    pub(crate) fn vouched_for(&mut self, verifier: KeyId) {
        if self.apart.is_some() {
            self.say(|apart| {
                apart.withdrawal.take_if(|withdrawal| withdrawal.verifier == verifier);
                apart.cordon = None;
            });
        }
    }

    pub(crate) fn set_hold(&mut self, hold: Option<Hold>) {
        if hold.is_some() || self.apart.is_some() {
            self.say(|apart| apart.hold = hold.map(Box::new));
        }
    }

    pub(crate) fn take_hold(&mut self) -> Option<Hold> {
        let hold = self.hold().cloned();
        self.set_hold(None);
        hold
    }

    /// Keeps it for a fragment, or for nobody any more.
    pub(crate) fn keep_for(&mut self, fragment: Option<FragmentId>) {
        if fragment.is_some() || self.apart.is_some() {
            self.say(|apart| apart.claimed = fragment);
        }
    }

    /// Changes what is said of it; where nothing is left to say, nothing is kept.
    fn say(&mut self, change: impl FnOnce(&mut Apart)) {
        let mut apart = self.apart.take().unwrap_or_default();
        change(&mut apart);
        self.apart = Some(apart).filter(|apart| **apart != Apart::default());
    }
}
