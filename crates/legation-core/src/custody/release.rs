//! Releases: a custodian says what it let whom open, and on what grounds. What it answered is between the two.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::terms::Epoch;
use crate::{
    digest::Digest,
    dsse::{Predicate, Subject},
    id::{EnclaveId, FragmentIndex, LeaseId, ObjectId, RevocationEpoch, TaskId},
    key::PublicKey,
    rejection::Rejection,
    task::INPUTS_MAX,
    time::UnixTime,
};

/// Most grants that a release rests on: one of every holder.
pub const RELEASE_GRANTS_MAX: usize = INPUTS_MAX + 1;

/// One object's key, as a custodian let it be opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// The object.
    pub object: ObjectId,
    /// Digest of the label that it was opened under.
    pub label: Digest,
}

/// A custodian's word on what it released.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Identity key of the custodian, which signs this.
    pub custodian: PublicKey,
    /// Digest of the roster in force.
    pub roster: Digest,
    /// Of that.
    pub epoch: Epoch,
    /// The task.
    pub task: TaskId,
    /// The fragment.
    pub fragment: FragmentIndex,
    /// The promise under which the enclave runs it.
    pub lease: LeaseId,
    /// To whom.
    pub enclave: EnclaveId,
    /// What, in the order of the fragment's inputs.
    pub released: Vec<Released>,
    /// As of which revocation.
    pub revocations: RevocationEpoch,
    /// When.
    pub at: UnixTime,
    /// The allocation, the enclave's passport, the custodian's own, the grants.
    pub prev: Vec<Digest>,
}

impl Release {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.release`.
    pub fn validate(&self) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("custody.release", claim);
        if !(1..=INPUTS_MAX).contains(&self.released.len()) {
            return Err(bad("objects of a release").expected(format!("1 to {INPUTS_MAX}")).got(self.released.len()));
        }
        let objects: BTreeSet<_> = self.released.iter().map(|r| r.object).collect();
        let labels: BTreeSet<_> = self.released.iter().map(|r| r.label).collect();
        if objects.len() != self.released.len() || labels.len() != self.released.len() {
            return Err(bad("objects of a release").expected("each once, each under a label of its own"));
        }
        if !(4..=3 + RELEASE_GRANTS_MAX).contains(&self.prev.len()) {
            return Err(bad("what a release rests on")
                .expected("the allocation, two passports, the grants")
                .got(format!("{} statements", self.prev.len())));
        }
        Ok(())
    }
}

impl Predicate for Release {
    const TYPE: &'static str = "https://legation.dev/release/v1";

    fn signer(&self) -> PublicKey {
        self.custodian
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        self.released.iter().map(|r| Subject::new("label", r.label)).collect()
    }
}
