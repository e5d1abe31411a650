//! The PCK certificate chain in a quote: which platform it is, and at which security version.
//!
//! Source: *Intel SGX PCK Certificate and Certificate Revocation List Profile Specification*.

use dcap_qvl::intel::{PckExtension, parse_pck_extension};
use legation_core::{Digest, Rejection, claims::TeeKind, encoding};

use super::{
    bytes::zeros,
    certificate::{self, Certificate},
    check::Check,
    quote::Quote,
};

/// Which authority issued a PCK certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Authority {
    Platform,
    Processor,
    /// Not one of Intel's.
    Other,
}

impl Authority {
    /// By the common name of its certificate.
    pub(crate) fn named(common_name: &str) -> Self {
        match common_name {
            "Intel SGX PCK Platform CA" => Self::Platform,
            "Intel SGX PCK Processor CA" => Self::Processor,
            _ => Self::Other,
        }
    }

    /// As Intel's provisioning service calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
            Self::Other => "other",
        }
    }
}

/// The chain of a quote: PCK certificate, its authority, the root.
#[derive(Debug)]
pub(crate) struct Pck {
    pub(crate) chain: Vec<Certificate>,
    pub(crate) extension: PckExtension,
    pub(crate) authority: Authority,
}

impl Pck {
    /// Reads the chain in `quote`.
    pub(crate) fn read(quote: &Quote<'_>) -> Result<Self, Rejection> {
        let chain = certificate::chain(Check::Certificate, "PCK certificate chain of the quote", quote.chain)?;
        let [leaf, authority, _root] = chain.as_slice() else {
            return Err(Check::Certificate
                .refuse("PCK certificate chain of the quote", "PCK certificate, authority, root", chain.len())
                .fix("configure the quoting service to put the whole PCK chain into quotes"));
        };
        let extension = parse_pck_extension(&leaf.der).map_err(|e| {
            Check::Certificate
                .refuse("extension of the PCK certificate", "Intel's SGX extension, whole", format!("{e:#}"))
                .fix("fetch the PCK certificate from Intel's provisioning service again")
        })?;
        let authority = Authority::named(&authority.subject_text);
        if authority == Authority::Other {
            return Err(Check::Certificate
                .refuse(
                    "authority of the PCK certificate",
                    "Intel SGX PCK Platform CA or Processor CA",
                    &leaf.issuer_text,
                )
                .fix("send the PCK certificate that Intel issued for the platform"));
        }
        Ok(Self { authority, extension, chain })
    }

    /// The PCK certificate.
    pub(crate) fn leaf(&self) -> Option<&Certificate> {
        self.chain.first()
    }

    /// FMSPC, lower-case hex.
    pub(crate) fn fmspc(&self) -> String {
        encoding::hex(&self.extension.fmspc)
    }

    /// What the certificate says of the platform, by name. Intel says it of those that the platform authority certifies; of
    /// the others, neither `smt` nor `smt-disabled` is said.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let flags = [
            (self.extension.smt_enabled, "smt"),
            (self.extension.dynamic_platform, "dynamic-platform"),
            (self.extension.cached_keys, "cached-keys"),
        ];
        let memory = match self.extension.sgx_type {
            0 => Some("memory-standard"),
            1 => Some("memory-scalable"),
            2 => Some("memory-scalable-integrity"),
            _ => None,
        };
        let single = (self.extension.smt_enabled == Some(false)).then_some("smt-disabled");
        let set = flags.into_iter().filter(|(set, _)| *set == Some(true)).map(|(_, name)| name);
        set.chain(single).chain(memory).collect()
    }

    /// SHA-256 of the platform's provisioning id, lower-case hex; where Intel left it zero, of the PCK certificate's key.
    pub(crate) fn chip(&self) -> String {
        let id: &[u8] = &self.extension.ppid;
        let id = self.leaf().filter(|_| zeros(id)).map_or(id, |leaf| leaf.key.as_slice());
        encoding::hex(Digest::of(id).as_bytes())
    }
}

/// The name of the collateral about a platform: `intel/tdx/50806f000000/platform`.
pub(crate) fn collateral_name(kind: TeeKind, fmspc: &str, authority: Authority) -> String {
    let kind = if kind == TeeKind::Sgx { "sgx" } else { "tdx" };
    format!("intel/{kind}/{fmspc}/{}", authority.name())
}
