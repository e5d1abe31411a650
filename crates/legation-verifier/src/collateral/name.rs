//! Names of collateral, typed: what an item is about, and so who may have signed it and where it is fetched.
//!
//! | name | item |
//! |---|---|
//! | `intel/{tdx,sgx}/{FMSPC}/{platform,processor}` | TCB info, QE identity and lists: JSON as `dcap-qvl` writes `QuoteCollateralV3` |
//! | `amd/{milan,genoa,turin}/{vcek,vlek}/crl` | revocation list of the ARK, DER |
//! | `vcek/{milan,genoa,turin}/{HWID}/{SVN}` | a chip's certificate, DER; HWID in base64url, SVN as `04-00-24-219` |
//! | `dev/{root}/crl` | revocation list of a development root, DER |
//!
//! Judges read every item under `amd/` and `dev/` as a revocation list, so chips' certificates have a branch of their own.

use std::{fmt, str::FromStr};

use legation_attest::snp::{LeafKind, Product};
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
    Vcek {
        /// The product.
        product: Product,
        /// The chip's id: 64 bytes, 8 of Turin.
        hwid: Vec<u8>,
        /// Security versions in the order of AMD's query: (FMC,) boot loader, TEE, SNP, microcode.
        svn: Vec<u8>,
    },
    /// Revocation list of a development root.
    DevelopmentList {
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
            Self::Vcek { product, hwid, svn } => {
                let svn: Vec<_> = svn.iter().map(|v| format!("{v:02}")).collect();
                write!(f, "vcek/{product}/{}/{}", base64url(hwid), svn.join("-"))
            }
            Self::DevelopmentList { root } => write!(f, "dev/{root}/crl"),
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
                ["vcek", product, hwid, svn] => {
                    let product: Product = product.parse().ok()?;
                    let hwid = unbase64url(hwid)?;
                    let svn = svn.split('-').map(|v| v.parse().ok()).collect::<Option<Vec<u8>>>()?;
                    let lengths = if product == Product::Turin { (8, 5) } else { (64, 4) };
                    ((hwid.len(), svn.len()) == lengths).then_some(Self::Vcek { product, hwid, svn })
                }
                ["dev", root, "crl"] => {
                    // The rule for names of development roots is the one for providers.
                    ProviderId::new(root).ok()?;
                    Some(Self::DevelopmentList { root: (*root).to_owned() })
                }
                _ => None,
            }
        };
        // One spelling for one thing: what reads back as something else is no name.
        read().filter(|name| name.to_string() == text).ok_or_else(|| {
            Rejection::new("collateral.name", "name of a piece of collateral")
                .expected(
                    "intel/{tdx,sgx}/FMSPC/{platform,processor}, amd/{milan,genoa,turin}/{vcek,vlek}/crl, \
                     vcek/PRODUCT/HWID/SVN or dev/ROOT/crl",
                )
                .got(text.chars().take(COLLATERAL_NAME_MAX).collect::<String>())
                .fix("see docs/collateral.md for the names")
        })
    }
}

fn base64url(bytes: &[u8]) -> String {
    encoding::base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn unbase64url(text: &str) -> Option<Vec<u8>> {
    let mut text = text.replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    encoding::unbase64(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_nothing_else_is_one() {
        let vcek = CollateralName::Vcek { product: Product::Milan, hwid: vec![0xfb; 64], svn: vec![4, 0, 24, 219] };
        let turin = CollateralName::Vcek { product: Product::Turin, hwid: vec![1; 8], svn: vec![1, 2, 3, 4, 5] };
        assert!(vcek.to_string().ends_with("/04-00-24-219"), "{vcek}");
        for name in [
            "intel/tdx/50806f000000/platform",
            "intel/sgx/00a067110000/processor",
            "amd/milan/vcek/crl",
            "amd/turin/vlek/crl",
            "dev/laptop/crl",
            &vcek.to_string(),
            &turin.to_string(),
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
            "/etc/passwd",
            &vcek.to_string().replace("04-00", "4-0"),
            &vcek.to_string().replace("milan", "turin"),
            &"a/".repeat(200),
        ] {
            assert_eq!(bad.parse::<CollateralName>().unwrap_err().check, "collateral.name", "{bad}");
        }
    }
}
