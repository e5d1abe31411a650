//! Names of collateral, typed: what an item is about, and so who may have signed it and where it is fetched.
//!
//! | name | item |
//! |---|---|
//! | `intel/{tdx,sgx}/{FMSPC}/{platform,processor}` | TCB info, QE identity and lists: JSON as `dcap-qvl` writes `QuoteCollateralV3` |
//! | `amd/{milan,genoa,turin}/{vcek,vlek}/crl` | revocation list of the ARK, DER |
//! | `vcek/{milan,genoa,turin}/{HWID}/{SVN}` | a chip's certificate, DER; HWID in base64url, SVN as `04-00-24-219` |
//! | `dev/{root}/crl` | revocation list of a development root, DER |
//! | `tpm/{root}/crl` | revocation list of a TPM root of the anchor file, DER |
//!
//! Judges read every item under `amd/`, `dev/` and `tpm/` as a revocation list, so chips' certificates have a branch of their own.

use std::{fmt, str::FromStr};

use legation_attest::snp::{LeafKind, Product, Vcek};
use legation_core::{ProviderId, Rejection, claims::COLLATERAL_NAME_MAX, encoding};

/// Kind of Intel machine that TCB info is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum IntelTee {
    /// Trust domains.
    Tdx,
    /// Enclaves.
    Sgx,
}

impl IntelTee {
    /// Name in URLs and item names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
        }
    }
}

/// Which of Intel's authorities certified a platform's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PckAuthority {
    /// Multi-package platforms.
    Platform,
    /// Single processors.
    Processor,
}

impl PckAuthority {
    /// Name in URLs and item names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// What an item is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CollateralName {
    /// Everything that judging a DCAP quote of a platform needs.
    Intel {
        /// Kind of machine.
        tee: IntelTee,
        /// Family, model, stepping and more of the platform: 12 lower-case hexadecimal digits.
        fmspc: String,
        /// Who certified its key.
        authority: PckAuthority,
    },
    /// The ARK's revocation list as AMD serves it for one kind of leaf.
    AmdList {
        /// The product.
        product: Product,
        /// Kind of leaf.
        leaf: LeafKind,
    },
    /// A chip's certificate.
    Vcek(Vcek),
    /// Revocation list of a development root.
    DevelopmentList {
        /// Its name in the anchor file.
        root: String,
    },
    /// Revocation list of a root of TPMs.
    TpmList {
        /// Its name in the anchor file.
        root: String,
    },
}

const fn leaf_name(leaf: LeafKind) -> &'static str {
    match leaf {
        LeafKind::Chip => "vcek",
        LeafKind::Provider => "vlek",
    }
}

impl fmt::Display for CollateralName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intel { tee, fmspc, authority } => write!(f, "intel/{}/{fmspc}/{}", tee.name(), authority.name()),
            Self::AmdList { product, leaf } => write!(f, "amd/{product}/{}/crl", leaf_name(*leaf)),
            Self::Vcek(vcek) => f.write_str(&vcek.name()),
            Self::DevelopmentList { root } => write!(f, "dev/{root}/crl"),
            Self::TpmList { root } => write!(f, "tpm/{root}/crl"),
        }
    }
}

impl FromStr for CollateralName {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        let read = || {
            if text.len() > COLLATERAL_NAME_MAX {
                return None;
            }
            let parts: Vec<_> = text.split('/').collect();
            match parts.as_slice() {
                ["intel", tee, fmspc, authority] => {
                    let tee = [IntelTee::Tdx, IntelTee::Sgx].into_iter().find(|t| t.name() == *tee)?;
                    let authority = [PckAuthority::Platform, PckAuthority::Processor]
                        .into_iter()
                        .find(|a| a.name() == *authority)?;
                    encoding::unhex_array::<6>(fmspc).ok()?;
                    Some(Self::Intel { tee, fmspc: (*fmspc).to_owned(), authority })
                }
                ["amd", product, leaf, "crl"] => {
                    let leaf = [LeafKind::Chip, LeafKind::Provider].into_iter().find(|l| leaf_name(*l) == *leaf)?;
                    Some(Self::AmdList { product: product.parse().ok()?, leaf })
                }
                ["vcek", ..] => Vcek::from_name(text).map(Self::Vcek),
                [tree @ ("dev" | "tpm"), root, "crl"] => {
                    // The rule for names of these roots is the one for providers.
                    ProviderId::new(root).ok()?;
                    let root = (*root).to_owned();
                    Some(if *tree == "dev" { Self::DevelopmentList { root } } else { Self::TpmList { root } })
                }
                _ => None,
            }
        };
        // One spelling for one thing: what reads back as something else is no name.
        read().filter(|name| name.to_string() == text).ok_or_else(|| {
            Rejection::new("collateral.name", "name of a piece of collateral")
                .expected(
                    "intel/{tdx,sgx}/FMSPC/{platform,processor}, amd/{milan,genoa,turin}/{vcek,vlek}/crl, \
                     vcek/PRODUCT/HWID/SVN, dev/ROOT/crl or tpm/ROOT/crl",
                )
                .got(text.chars().take(COLLATERAL_NAME_MAX).collect::<String>())
                .fix("see docs/collateral.md for the names")
        })
    }
}

#[cfg(test)]
mod tests {
    use legation_attest::snp::TcbVersion;

    use super::*;

    #[test]
    fn names_read_back_and_nothing_else_is_one() {
        let tcb = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
        let vcek = CollateralName::Vcek(Vcek { product: Product::Milan, hwid: vec![0xfb; 64], tcb });
        for name in [
            "intel/tdx/50806f000000/platform",
            "intel/sgx/00a067110000/processor",
            "amd/milan/vcek/crl",
            "amd/turin/vlek/crl",
            "dev/laptop/crl",
            "tpm/infineon-1/crl",
            &vcek.to_string(),
        ] {
            assert_eq!(name.parse::<CollateralName>().unwrap().to_string(), name);
        }
        for bad in [
            "",
            "intel/tdx/50806F000000/platform",
            "intel/tdx/50806f00000/platform",
            "intel/tdx/50806f000000/root",
            "amd/rome/vcek/crl",
            "amd/milan/vcek/crl/",
            "amd/milan/../crl",
            "dev/../crl",
            "dev//crl",
            "dev/UPPER/crl",
            "tpm/../crl",
            "tpm/infineon-1",
            "tpm/infineon-1/x/crl",
            "tpm/Infineon/crl",
            "/etc/passwd",
            &vcek.to_string().replace("04-00", "4-0"),
            &"a/".repeat(200),
        ] {
            assert_eq!(bad.parse::<CollateralName>().unwrap_err().check, "collateral.name", "{bad}");
        }
    }
}
