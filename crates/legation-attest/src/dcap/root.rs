//! The root that quotes are verified under.

use legation_core::{Digest, Rejection, claims::Anchor};

use super::{certificate::Certificate, check::Check, collateral::Collateral, pck::Pck};

/// SHA-256 of Intel's SGX Root CA certificate, DER; it serves TDX as well. The certificate itself is compiled into
/// `dcap-qvl`.
const INTEL: [u8; 32] = [
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35, 0x0e, 0x74, 0x24,
    0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
];

/// Intel's root, compiled in. There is no development root for TDX or SGX, and no constructor that takes one: only this
/// crate's unit tests make another.
#[derive(Clone, Debug)]
pub struct IntelRoot {
    digest: Digest,
    /// A root of a unit test; `None` for the one in the library.
    custom: Option<Vec<u8>>,
}

impl IntelRoot {
    /// Intel's SGX Root CA.
    pub fn production() -> Self {
        Self { digest: Digest::from_bytes(INTEL), custom: None }
    }

    #[cfg(test)]
    pub(crate) fn custom(der: Vec<u8>) -> Self {
        Self { digest: Digest::of(&der), custom: Some(der) }
    }

    /// SHA-256 of its certificate.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What claims rest on.
    pub(crate) fn anchor(&self) -> Anchor {
        match self.custom {
            None => Anchor::Production("intel-sgx-root".to_owned()),
            Some(_) => Anchor::Development("intel-unit-test".to_owned()),
        }
    }

    /// The certificate, where it is not the library's own.
    pub(crate) fn custom_der(&self) -> Option<&[u8]> {
        self.custom.as_deref()
    }

    /// Refuses chains that end in anything else.
    pub(crate) fn check(&self, pck: &Pck, collateral: &Collateral) -> Result<(), Rejection> {
        let chains: [(&str, &[Certificate]); 4] = [
            ("PCK chain of the quote", &pck.chain),
            ("TCB info issuer chain", &collateral.tcb_chain),
            ("QE identity issuer chain", &collateral.qe_chain),
            ("PCK CRL issuer chain", &collateral.crl_chain),
        ];
        for (what, chain) in chains {
            if let Some(root) = chain.last()
                && root.digest != self.digest
            {
                let got = format!("{} ({})", root.subject_text, root.digest);
                return Err(Check::Root
                    .refuse(format!("root of the {what}"), format!("Intel SGX Root CA ({})", self.digest), got)
                    .fix("send what Intel certified: no other root vouches for TDX or SGX"));
            }
        }
        Ok(())
    }
}
