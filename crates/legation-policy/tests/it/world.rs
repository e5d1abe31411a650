//! Enclaves as a verifier would have judged them, and policies about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use legation_core::{
    Bytes, MicroUsd, Millicores, ProviderId, Region, UnixTime,
    claims::{Anchor, Attested, Capacity, Claims, Configuration, Rate, RevocationCheck, Tcb, TeeKind},
};
use legation_policy::{Options, Policy, PolicyError, ReferenceKind, ReferenceValue, References, Subject};

/// 2026-11-21, noon.
pub(crate) const NOW: UnixTime = UnixTime(1_795_262_400);

/// Measurement of the image that policies know.
pub(crate) fn known() -> String {
    "ab".repeat(48)
}

/// An enclave.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) claims: Claims,
    pub(crate) configuration: Configuration,
}

impl Guest {
    /// A Milan guest of the known image.
    pub(crate) fn milan() -> Self {
        let claims = Claims::basic(
            TeeKind::SevSnp,
            Anchor::Production("amd-milan".into()),
            known(),
            Attested::hardware("c0ffee".into()),
            Attested::hardware(Tcb::unknown("blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219")),
            Attested::endorsed("milan".into()),
            String::new(),
        );
        let configuration = Configuration {
            provider: ProviderId::new("aurora").unwrap(),
            region: Region::new("eu-north").unwrap(),
            capacity: Capacity { cpu: Millicores(4000), memory: Bytes::gib(8), slots: 4 },
            rate: Rate { core_hour: MicroUsd(1), gib_hour: MicroUsd(1) },
            slot: 0,
            operators: Vec::new(),
            advertise: None,
            prover: None,
            custody: None,
        };
        let (vmpl, revocation) = (Some(Attested::hardware(0)), RevocationCheck::Checked);
        Self { claims: Claims { vmpl, revocation, ..claims }, configuration }
    }

    /// The same, changed.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Claims)) -> Self {
        change(&mut self.claims);
        self
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { claims: &self.claims, configuration: &self.configuration }
    }
}

/// An image's reference value.
pub(crate) fn image(name: &str, measurement: String, expires: Option<UnixTime>) -> ReferenceValue {
    ReferenceValue {
        name: name.into(),
        value: ReferenceKind::Image {
            measurement,
            registers: BTreeMap::new(),
            tees: BTreeSet::from([TeeKind::SevSnp, TeeKind::DevSnp]),
        },
        owner: "ops".into(),
        made: UnixTime(1_700_000_000),
        expires,
        source: "file agent.bin".into(),
    }
}

/// A firmware's reference value.
pub(crate) fn firmware(name: &str, product: &str, minimum: &str) -> ReferenceValue {
    ReferenceValue {
        name: name.into(),
        value: ReferenceKind::Firmware { product: product.parse().unwrap(), minimum: minimum.parse().unwrap() },
        owner: "ops".into(),
        made: UnixTime(1_700_000_000),
        expires: None,
        source: "published by the vendor".into(),
    }
}

/// `known`, `other` and an expired one of a third image.
pub(crate) fn references() -> Arc<References> {
    let expired = image("old", "ef".repeat(48), Some(NOW.minus(1)));
    Arc::new(References::new([image("known", known(), None), image("other", "cd".repeat(48), None), expired]).unwrap())
}

pub(crate) fn load(text: &str) -> Result<Policy, PolicyError> {
    Policy::load("test", text, references(), Options::default())
}

/// A policy of one permit with this condition.
pub(crate) fn when(condition: &str) -> Policy {
    load(&format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};")).unwrap()
}
