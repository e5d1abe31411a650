//! What a verdict rests on, and what a reader trusts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{encoding::b64, key::PublicKey};

/// What a verdict rests on in the end. Production and development are different variants, not different names: nothing
/// turns one into the other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Anchor {
    /// A hardware vendor's root compiled into the verifier, such as `amd-milan`.
    Production(String),
    /// A development root of the given name. Says nothing about confidentiality.
    Development(String),
}

impl Anchor {
    /// The name of the root, whichever kind it is.
    pub fn name(&self) -> &str {
        match self {
            Self::Production(name) | Self::Development(name) => name,
        }
    }

    /// Whether anything resting on this says *development*.
    pub fn is_development(&self) -> bool {
        matches!(self, Self::Development(_))
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Production(name) => write!(f, "production({name})"),
            Self::Development(name) => write!(f, "development({name})"),
        }
    }
}

/// What a reader trusts: operators' roots, and development roots where the reader admits them at all. Vendors' roots are
/// compiled in. This is the anchor file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// Roots that appoint verifiers and managers.
    pub operators: Vec<PublicKey>,
    /// Development roots, by name. An empty list refuses every development enclave.
    #[serde(default)]
    pub development: Vec<DevelopmentAnchor>,
    /// Roots of TPM makers and of clouds that certify TPMs, by name. Vendors of processors are compiled in; TPM makers are
    /// too many. An empty list refuses every TPM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tpm: Vec<TpmAnchor>,
}

/// A root that certifies TPMs (endorsement keys or attestation keys), as an anchor file names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmAnchor {
    /// Its name, shown in every verdict.
    pub name: String,
    /// Whether it certifies emulators: then what rests on it is development.
    pub development: bool,
    /// Self-signed certificate of the root, DER.
    #[serde(with = "b64")]
    pub root: Vec<u8>,
}

/// A development root as an anchor file names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevelopmentAnchor {
    /// Its name, shown in every verdict.
    pub name: String,
    /// Self-signed certificate of the development ARK, DER.
    #[serde(with = "b64")]
    pub ark: Vec<u8>,
}
