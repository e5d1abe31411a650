//! What a verdict rests on, and what a reader trusts.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

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
    /// Transparency logs, each once. Without one, receipts are not asked whether their statements are in a log.
    #[serde(default, deserialize_with = "distinct_logs", skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogAnchor>,
}

/// A transparency log as an anchor file names it, and who is to have watched it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogAnchor {
    /// First line of its checkpoints, and the name of its key (c2sp.org/tlog-checkpoint).
    pub origin: String,
    /// Its key.
    pub key: PublicKey,
    /// Witnesses whose cosignatures count, each under one name and one key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witnesses: Vec<WitnessAnchor>,
    /// How many of them must have cosigned the checkpoint of a receipt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quorum: u32,
}

/// A witness of a log (c2sp.org/tlog-cosignature).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessAnchor {
    /// The name of its key.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
}

/// A second log of one name would never be looked at, and a witness that stands there twice would count twice for the quorum.
fn distinct_logs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LogAnchor>, D::Error> {
    let logs = Vec::<LogAnchor>::deserialize(deserializer)?;
    let mut origins = BTreeSet::new();
    for log in &logs {
        if !origins.insert(&log.origin) {
            return Err(D::Error::custom(format!("the log `{}` stands there twice", log.origin)));
        }
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        if let Some(again) = log.witnesses.iter().find(|one| !names.insert(&one.name) || !keys.insert(one.key)) {
            let text = format!("the witness `{}` of the log `{}` has name or key of another", again.name, log.origin);
            return Err(D::Error::custom(text));
        }
    }
    Ok(logs)
}

fn is_zero(number: &u32) -> bool {
    *number == 0
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
    /// The kind of certified key that a TPM is known by under this root. A TPM has one of each kind, and each would be
    /// another chip: one that was revoked would come back under the next.
    #[serde(default, skip_serializing_if = "TpmKey::is_default")]
    pub key: TpmKey,
    /// Whether what it certifies are attestation keys (as clouds do) and not endorsement keys (as makers do): a TPM that was
    /// known by both would be two chips.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attests: bool,
    /// Whether it is Google's: then, and only then, its certificates are believed when they say where an instance stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub google: bool,
}

/// Kinds of keys that makers of TPMs and clouds certify (TCG EK Credential Profile 2.5, templates L-1, L-2 and H-3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum TpmKey {
    /// RSA of 2048 bits: nearly every TPM has a certified one.
    #[default]
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// NIST P-256.
    #[serde(rename = "ecc-p256")]
    EccP256,
    /// NIST P-384.
    #[serde(rename = "ecc-p384")]
    EccP384,
}

impl TpmKey {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::EccP256, Self::EccP384];

    /// Name in anchor files, configurations and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::EccP256 => "ecc-p256",
            Self::EccP384 => "ecc-p384",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for TpmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
