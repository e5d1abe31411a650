//! Kinds of machines, by the evidence they give.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kind of evidence, hence of the machine behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeeKind {
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
    /// Intel SGX.
    Sgx,
    /// AWS Nitro Enclaves.
    Nitro,
    /// A TPM 2.0: proves what booted, hides no memory from the host.
    Tpm,
    /// Azure confidential VM on SEV-SNP, behind its paravisor's vTPM.
    AzSnpVtpm,
    /// Azure confidential VM on TDX, behind its paravisor's vTPM.
    AzTdxVtpm,
    /// Byte-exact SEV-SNP reports under a development root: proves the protocol, never confidentiality.
    DevSnp,
    /// A TPM 2.0 under a development root, such as an emulator: proves the protocol, never confidentiality.
    DevTpm,
}

impl TeeKind {
    /// Every kind, in the order of their names in the requirement language.
    pub const ALL: [Self; 9] = [
        Self::SevSnp,
        Self::Tdx,
        Self::Sgx,
        Self::Nitro,
        Self::Tpm,
        Self::AzSnpVtpm,
        Self::AzTdxVtpm,
        Self::DevSnp,
        Self::DevTpm,
    ];

    /// Name in policies, requirements and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
            Self::Nitro => "nitro",
            Self::Tpm => "tpm",
            Self::AzSnpVtpm => "az-snp-vtpm",
            Self::AzTdxVtpm => "az-tdx-vtpm",
            Self::DevSnp => "dev-snp",
            Self::DevTpm => "dev-tpm",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it rests on a development root. Such a kind is verified against development roots and no others, and the
    /// others never against those.
    pub const fn is_development(self) -> bool {
        matches!(self, Self::DevSnp | Self::DevTpm)
    }
}

impl fmt::Display for TeeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
