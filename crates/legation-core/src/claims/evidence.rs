//! Evidence as it travels.

use serde::{Deserialize, Serialize};

use crate::{
    claims::TeeKind,
    digest::Digest,
    encoding::{b64, b64_list},
};

/// Largest evidence, endorsements and devices included, in bytes.
pub const EVIDENCE_MAX: usize = 512 * 1024;
/// Most endorsements beside one report.
pub const ENDORSEMENTS_MAX: usize = 8;
/// Most devices with evidence of their own in one machine.
pub const DEVICES_MAX: usize = 16;

/// Evidence as it travels: what the hardware signed, what endorses it, and what it binds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What kind of evidence `report` is.
    pub kind: TeeKind,
    /// The signed report, quote or document; what its bytes are is the kind's to say.
    #[serde(with = "b64")]
    pub report: Vec<u8>,
    /// Certificates for the report's key, leaf first, DER; never the root.
    #[serde(with = "b64_list")]
    pub endorsements: Vec<Vec<u8>>,
    /// Evidence of devices of the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceEvidence>,
    /// The [`KeyBinding`](super::KeyBinding) in the bytes that were hashed into the report.
    #[serde(with = "b64")]
    pub binding: Vec<u8>,
    /// The [`Configuration`](super::Configuration) in the bytes whose digest the binding carries.
    #[serde(with = "b64")]
    pub configuration: Vec<u8>,
}

/// Kind of a device with evidence of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// NVIDIA GPU in confidential mode: an SPDM measurement transcript.
    NvidiaGpu,
}

/// Evidence of one device, over the first 32 bytes of the machine's report data as its nonce.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEvidence {
    /// What kind of device.
    pub kind: DeviceKind,
    /// What it signed.
    #[serde(with = "b64")]
    pub report: Vec<u8>,
    /// Certificates for its key, leaf first, DER.
    #[serde(with = "b64_list")]
    pub endorsements: Vec<Vec<u8>>,
}

impl Evidence {
    /// SHA-256 of the compact JSON: the content address of this evidence in a receipt. Never an identity.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Bytes of all parts together, to be held against [`EVIDENCE_MAX`].
    pub fn size(&self) -> usize {
        let list = |items: &[Vec<u8>]| items.iter().map(Vec::len).sum::<usize>();
        let devices: usize = self.devices.iter().map(|d| d.report.len() + list(&d.endorsements)).sum();
        self.report.len() + list(&self.endorsements) + devices + self.binding.len() + self.configuration.len()
    }
}
