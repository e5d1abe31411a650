//! Delegation proofs. What they allow is in [`crate::grant`] and [`crate::delegation`].

use serde::{Deserialize, Serialize};

use super::Assurance;
use crate::{
    digest::Digest,
    dsse::{Predicate, Subject},
    id::{EnclaveId, FragmentIndex, ObjectId, TaskId},
    key::PublicKey,
    requirement::Requirement,
    time::UnixTime,
    unit::{Fuel, MicroUsd},
};

/// Who may act on a grant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GrantSubject {
    /// This enclave.
    Enclave(EnclaveId),
    /// Any enclave whose passport satisfies the requirements of the request with this digest.
    Policy(Digest),
}

/// Delegation proof: the issuer lets an enclave run fragments, and, where it holds keys of inputs, read those inputs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Who signs this: the client, the owner of a fragment, the holder of an input, or a delegating enclave.
    pub issuer: PublicKey,
    /// The task.
    pub task: TaskId,
    /// Fragments it covers, ascending.
    pub fragments: Vec<FragmentIndex>,
    /// Who may act on it.
    pub subject: GrantSubject,
    /// Modules that may run, by SHA-256; of a grant by an enclave, ascending.
    pub modules: Vec<Digest>,
    /// Work at most, per fragment; of a grant by an enclave, of all calls under it together.
    pub fuel: Fuel,
    /// Cost at most, per fragment; of a grant by an enclave, of all calls under it together.
    pub budget: MicroUsd,
    /// How often it may be passed on.
    pub depth: u32,
    /// Until when.
    pub expires: UnixTime,
    /// Sealed objects whose keys the issuer releases with this.
    pub releases: Vec<ObjectId>,
    /// What may be passed on; nothing without it, and then the depth is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegable: Option<Delegable>,
    /// The request; or the grants that an enclave passes on, ascending by digest.
    pub prev: Vec<Digest>,
}

/// What the subject of a grant may pass on to other enclaves: in sum, over all calls and everything below them, and per
/// fragment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegable {
    /// Modules that they may run, by SHA-256, ascending.
    pub modules: Vec<Digest>,
    /// Work at most.
    pub fuel: Fuel,
    /// Cost at most.
    pub budget: MicroUsd,
    /// Of the objects that the grant releases, those whose keys may go on, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<ObjectId>,
    /// How calls are assured, at least.
    pub assurance: Assurance,
    /// What every enclave below must satisfy, beside what the request and the grants above ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Requirement>,
}

impl Predicate for Grant {
    const TYPE: &'static str = "https://legation.dev/grant/v1";

    fn signer(&self) -> PublicKey {
        self.issuer
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        self.modules.iter().map(|m| Subject::new("module", *m)).collect()
    }
}
