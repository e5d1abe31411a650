//! What an enclave was shown to be: the claims a verifier drew from evidence, each with its source and confidence.
//!
//! * `kind`: kinds of machines; `evidence`: evidence as it travels; `binding`: what a boot binds to it;
//! * `collateral`: what vendors publish about machines, by name and digest; `tcb`: how current a machine's firmware is;
//! * `anchor`: what a verdict rests on; `revocation`: whether it was looked up that it still stands.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    id::{KeyId, Region},
    rejection::Rejection,
    time::UnixTime,
    unit::Bytes,
};

mod anchor;
mod binding;
mod collateral;
mod evidence;
mod kind;
mod revocation;
mod tcb;

pub use anchor::{Anchor, Anchors, DevelopmentAnchor, LogAnchor, TpmAnchor, TpmKey, WitnessAnchor};
pub use binding::{
    ADVERTISE_MAX, Capacity, Configuration, Custody, KEY_BINDING_DOMAIN, KeyBinding, Prover, Rate, Role,
};
pub use collateral::{COLLATERAL_MAX, COLLATERAL_NAME_MAX, CollateralItem, Shelf};
pub use evidence::{DEVICES_MAX, DeviceEvidence, DeviceKind, ENDORSEMENTS_MAX, EVIDENCE_MAX, Evidence};
pub use kind::TeeKind;
pub use revocation::RevocationCheck;
pub use tcb::{Shortfall, Tcb, TcbStatus};

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

/// What a verifier found in evidence. Typed and finite: what a kind of machine cannot show is absent, and whatever asks
/// for what is absent is refused. docs/confidence.md has the rules by which sources become confidence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Kind of machine.
    pub tee: Attested<TeeKind>,
    /// What the verdict rests on.
    pub anchor: Anchor,
    /// What was launched, lower-case hex: SEV-SNP launch measurement, TDX MRTD, SGX MRENCLAVE, Nitro PCR0; of a TPM, the
    /// SHA-256 over the quoted registers with their banks and numbers.
    pub measurement: Attested<String>,
    /// Further measurements and identities by name (`rtmr0`, `pcr4`, `mrsigner`, `hostdata`), lower-case hex, from the same
    /// source; docs/policy.md lists them.
    pub registers: BTreeMap<String, String>,
    /// Opaque identity of the chip (or of the endorsement key's holder), lower-case hex.
    pub chip: Attested<String>,
    /// Security version, and how current it is.
    pub tcb: Attested<Tcb>,
    /// Whether the owner may look inside.
    pub debug: Attested<bool>,
    /// Whether memory is hidden from the host: a TPM alone hides nothing.
    pub confidential: Attested<bool>,
    /// Hardware generation or product, such as `milan`.
    pub product: Attested<String>,
    /// Privilege level the report was asked from (SEV-SNP VMPL).
    pub vmpl: Option<Attested<u32>>,
    /// Where it stands, where somebody but the provider says so.
    pub region: Option<Attested<Region>>,
    /// Who operates the machine, where somebody but the provider says so: a cloud provider's name or account.
    pub operator: Option<Attested<String>>,
    /// Processor and platform features that the hardware reports, by name, such as `smt-disabled`. None where nobody says;
    /// and a name that is not among them says nothing: ask for what must be there.
    pub features: Option<Attested<BTreeSet<String>>>,
    /// Memory of the machine.
    pub memory: Option<Attested<Bytes>>,
    /// Accelerators with evidence of their own.
    pub gpus: Vec<Attested<Gpu>>,
    /// The verifier that saw the attestation key activated, where no certificate says whose it is: all of this rests on
    /// that word too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<KeyId>,
    /// Since when a piece of collateral behind this is past its next update: believed within a dated grace alone.
    pub stale_since: Option<UnixTime>,
    /// Whether revocation lists of its authorities were held against the chain of the report's key.
    #[serde(default)]
    pub revocation: RevocationCheck,
    /// What the report binds, lower-case hex: the 64 bytes of [`KeyBinding::report_data`], or the first 32 of them where
    /// the hardware has no room for more.
    pub report_data: String,
}

/// An accelerator as its own evidence shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Architecture, such as `hopper`.
    pub model: String,
    /// Version of the driver.
    pub driver: String,
    /// Version of the firmware.
    pub firmware: String,
    /// Identity of the chip: SHA-256 of its device certificate's key, lower-case hex.
    pub chip: String,
    /// Name of the root that its certificates end in, such as `nvidia-device-identity`; empty where nobody says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub anchor: String,
}

impl Claims {
    /// Claims with the hardware's own word on what every kind of machine shows, and nothing else: no registers, no
    /// privilege level, nothing that only some machines show.
    pub fn basic(
        tee: TeeKind,
        anchor: Anchor,
        measurement: String,
        chip: Attested<String>,
        tcb: Attested<Tcb>,
        product: Attested<String>,
        report_data: String,
    ) -> Self {
        Self {
            tee: Attested::hardware(tee),
            anchor,
            measurement: Attested::hardware(measurement),
            registers: BTreeMap::new(),
            chip,
            tcb,
            debug: Attested::hardware(false),
            confidential: Attested::hardware(true),
            product,
            vmpl: None,
            region: None,
            operator: None,
            features: None,
            memory: None,
            gpus: Vec::new(),
            vouched: None,
            stale_since: None,
            revocation: RevocationCheck::Unchecked,
            report_data,
        }
    }
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
    /// The collateral that was taken into account, ascending.
    pub collateral: Vec<Digest>,
}

/// Judges evidence as of a time against fixed anchors. Pure; `legation-attest` implements it.
pub trait EvidenceJudge {
    /// Verifies `evidence` as of `at`, with the collateral on `shelf`.
    ///
    /// # Errors
    /// The first check that refuses.
    fn judge(&self, evidence: &Evidence, shelf: &Shelf, at: UnixTime) -> Result<Judged, Rejection>;

    /// Seconds past its next update for which collateral is believed: nothing that rests on it holds for longer.
    fn grace_seconds(&self) -> u64 {
        u64::MAX
    }
}
