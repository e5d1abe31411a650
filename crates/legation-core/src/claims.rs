//! What an enclave was shown to be: evidence as it travels, the claims a verifier drew from it, and the anchor it rests on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    digest::{Digest, sha512},
    encoding::{b64, b64_list},
    id::{ProviderId, Region},
    key::{PublicKey, SealingPublicKey},
    time::UnixTime,
    unit::{Bytes, MicroUsd, Millicores},
};

/// Largest evidence, endorsements included, in bytes.
pub const EVIDENCE_MAX: usize = 256 * 1024;
/// Most endorsements beside one piece of evidence.
pub const ENDORSEMENTS_MAX: usize = 8;
/// Domain of the hash that binds keys to evidence.
pub const KEY_BINDING_DOMAIN: &[u8] = b"legation-key-v1";

/// Kind of evidence, hence of the machine behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeeKind {
    /// AMD SEV-SNP.
    SevSnp,
    /// Byte-exact SEV-SNP reports under a development root: proves the protocol, never confidentiality.
    DevSnp,
}

impl TeeKind {
    /// Every kind, in the order of their names in the requirement language.
    pub const ALL: [Self; 2] = [Self::SevSnp, Self::DevSnp];

    /// Name in policies, requirements and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SevSnp => "sev-snp",
            Self::DevSnp => "dev-snp",
        }
    }
}

impl fmt::Display for TeeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Evidence as it travels: what the hardware signed, what endorses it, and what it binds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What kind of evidence `report` is.
    pub kind: TeeKind,
    /// The signed report or quote.
    #[serde(with = "b64")]
    pub report: Vec<u8>,
    /// Certificates for the report's key, leaf first, DER; never the root.
    #[serde(with = "b64_list")]
    pub endorsements: Vec<Vec<u8>>,
    /// The [`KeyBinding`] in the bytes that were hashed into the report.
    #[serde(with = "b64")]
    pub binding: Vec<u8>,
    /// The [`Configuration`] in the bytes whose digest the binding carries.
    #[serde(with = "b64")]
    pub configuration: Vec<u8>,
}

impl Evidence {
    /// SHA-256 of the compact JSON: the content address of this evidence in a receipt. Never an identity.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Bytes of all parts together, to be held against [`EVIDENCE_MAX`].
    pub fn size(&self) -> usize {
        self.report.len()
            + self.endorsements.iter().map(Vec::len).sum::<usize>()
            + self.binding.len()
            + self.configuration.len()
    }
}

/// What a party does in the pool; part of every binding and channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs tasks inside an enclave.
    Agent,
    /// Keeps the journal, places tasks.
    Manager,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Agent => "agent",
            Self::Manager => "manager",
        })
    }
}

/// What one boot of an enclave binds to its evidence. It is hashed in the bytes that travel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBinding {
    /// What the enclave does.
    pub role: Role,
    /// Identity key of this boot.
    pub identity: PublicKey,
    /// Sealing key of this boot.
    pub sealing: SealingPublicKey,
    /// SHA-256 of the boot image, as the software inside knows it.
    pub image: Digest,
    /// SHA-256 of the configuration that steers the agent.
    pub configuration: Digest,
    /// The keys are not used before.
    pub not_before: UnixTime,
    /// The keys are not used after.
    pub not_after: UnixTime,
    /// The verifier's nonce.
    pub nonce: Digest,
}

impl KeyBinding {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `SHA-512("legation-key-v1" || encoded)`: what the hardware report carries.
    pub fn report_data(encoded: &[u8]) -> [u8; 64] {
        sha512(&[KEY_BINDING_DOMAIN, encoded])
    }
}

/// What an agent says of itself and what steers it; measured into the evidence, so it cannot change unseen, but
/// region, provider and price remain the provider's word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Who owns the machine.
    pub provider: ProviderId,
    /// Where it stands.
    pub region: Region,
    /// How much of it is offered.
    pub capacity: Capacity,
    /// What it costs.
    pub rate: Rate,
    /// Keys whose appointments this agent obeys (the operator's roots).
    pub operators: Vec<PublicKey>,
}

impl Configuration {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How much an enclave offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Compute.
    pub cpu: Millicores,
    /// Memory for tasks.
    pub memory: Bytes,
    /// Fragments at once.
    pub slots: u32,
}

/// What an enclave costs; an hour of a fragment costs `cpu * core_hour + memory * gib_hour`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// One core for one hour.
    pub core_hour: MicroUsd,
    /// One GiB of memory for one hour.
    pub gib_hour: MicroUsd,
}

impl Rate {
    /// Price of one hour of this much, rounded up.
    pub fn per_hour(&self, cpu: Millicores, memory: Bytes) -> MicroUsd {
        let core = (u128::from(self.core_hour.0) * u128::from(cpu.0)).div_ceil(1000);
        let gib = (u128::from(self.gib_hour.0) * u128::from(memory.0)).div_ceil(1 << 30);
        MicroUsd(u64::try_from(core + gib).unwrap_or(u64::MAX))
    }

    /// Price of this much for `micros` microseconds, rounded up: what a fragment is charged.
    pub fn charge(&self, cpu: Millicores, memory: Bytes, micros: u64) -> MicroUsd {
        let hour = u128::from(self.per_hour(cpu, memory).0);
        MicroUsd(u64::try_from((hour * u128::from(micros)).div_ceil(3_600_000_000)).unwrap_or(u64::MAX))
    }
}

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

/// Where a claim comes from, strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Signed by the hardware.
    Hardware,
    /// Endorsed by the hardware's vendor.
    Endorsed,
    /// Said by software that was measured.
    MeasuredSoftware,
    /// Said by the provider.
    SelfDeclared,
}

/// How much to believe a claim, in thousandths: 1000 is certain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confidence(pub u16);

/// An attested attribute with where it comes from and how much to believe it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attested<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub source: Source,
    /// How much to believe it.
    pub confidence: Confidence,
}

impl<T> Attested<T> {
    /// A value the hardware signed.
    pub fn hardware(value: T) -> Self {
        Self { value, source: Source::Hardware, confidence: Confidence(1000) }
    }

    /// A value the vendor endorsed.
    pub fn endorsed(value: T) -> Self {
        Self { value, source: Source::Endorsed, confidence: Confidence(950) }
    }

    /// A value that measured software says.
    pub fn measured(value: T) -> Self {
        Self { value, source: Source::MeasuredSoftware, confidence: Confidence(800) }
    }

    /// A value that only the provider says.
    pub fn declared(value: T) -> Self {
        Self { value, source: Source::SelfDeclared, confidence: Confidence(300) }
    }
}

/// What a verifier found in evidence. Typed and finite; one variant of evidence fills all of it or is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Kind of machine.
    pub tee: Attested<TeeKind>,
    /// What the verdict rests on.
    pub anchor: Anchor,
    /// Launch measurement, lower-case hex.
    pub measurement: Attested<String>,
    /// Opaque identity of the chip (or of the endorsement key's holder), lower-case hex.
    pub chip: Attested<String>,
    /// Security version reported by the hardware, as the vendor writes it.
    pub tcb: Attested<String>,
    /// Whether the owner may look inside.
    pub debug: Attested<bool>,
    /// Hardware generation or product, such as `milan`.
    pub product: Attested<String>,
    /// Privilege level the report was asked from (SEV-SNP VMPL).
    pub vmpl: Attested<u32>,
    /// What the report binds, lower-case hex of the 64-byte report data.
    pub report_data: String,
}

/// What judging evidence against anchors gives: the claims, and what the evidence binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// What was attested.
    pub claims: Claims,
    /// The keys it binds.
    pub binding: KeyBinding,
    /// The configuration it binds.
    pub configuration: Configuration,
}

/// Judges evidence as of a time against fixed anchors. Pure; `legation-attest` implements it.
pub trait EvidenceJudge {
    /// Verifies `evidence` as of `at`.
    ///
    /// # Errors
    /// The first check that refuses.
    fn judge(&self, evidence: &Evidence, at: UnixTime) -> Result<Judged, crate::rejection::Rejection>;
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
