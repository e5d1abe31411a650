//! What sets an enclave apart from most others: that it is revoked, cordoned, held back, kept for somebody. Few have any of it, so it
//! stands beside the enclave, and there is nothing where nothing is said.

use legation_core::{FragmentId, KeyId, Revocation, TenantId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::{
    enclave::{Cordon, Enclave, Withdrawal},
    retire::Hold,
    trust::marks::{Conduct, Marks},
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
    /// Reports of it that raised an alarm since its operator last lifted a cordon.
    #[serde(default, skip_serializing_if = "is_zero")]
    alarms: u32,
    /// What speaks against it.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    marks: Marks,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
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

    /// Reports of it that raised an alarm since its operator last lifted a cordon.
    pub fn alarms(&self) -> u32 {
        self.apart.as_ref().map_or(0, |apart| apart.alarms)
    }

    /// One more of its reports raised an alarm.
    pub(crate) fn alarmed(&mut self) {
        self.say(|apart| apart.alarms = apart.alarms.saturating_add(1));
    }

    /// What speaks against it, if anything does.
    pub(crate) fn marks(&self) -> Option<&Marks> {
        self.apart.as_ref().map(|apart| &apart.marks).filter(|marks| !marks.is_empty())
    }

    /// Something was found against it in a task of `tenant`.
    pub(crate) fn note(&mut self, tenant: &TenantId, conduct: Conduct, now: UnixTime) {
        self.say(|apart| apart.marks.note(tenant, conduct, now));
    }

    /// What was found against another boot of its machine holds for it.
    pub(crate) fn join_marks(&mut self, marks: Marks) {
        if !marks.is_empty() {
            self.say(|apart| apart.marks.join(marks));
        }
    }

    /// What speaks against it goes over to another boot of its machine.
    pub(crate) fn take_marks(&mut self) -> Marks {
        let mut marks = Marks::default();
        if self.marks().is_some() {
            self.say(|apart| marks = std::mem::take(&mut apart.marks));
        }
        marks
    }

    /// Forgets what counts no more.
    pub(crate) fn fade(&mut self, now: UnixTime) {
        if self.marks().is_some() {
            self.say(|apart| apart.marks.fade(now));
        }
    }

    /// Its alarms and all that speaks against it are forgiven.
    pub(crate) fn forgive(&mut self) {
        if self.alarms() > 0 || self.marks().is_some() {
            self.say(|apart| (apart.alarms, apart.marks) = (0, Marks::default()));
        }
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
