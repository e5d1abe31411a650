//! `TPMT_SIGNATURE` (TPM 2.0 Library, Part 2, section 11.3.4) and how it is verified.
//!
//! A hash goes with a key: SHA-256 or SHA-384 with RSA, SHA-256 with P-256, SHA-384 with P-384; never SHA-1. A TPM's
//! RSASSA-PSS has a salt as long as the digest (FIPS 140) or as long as fits: both are taken, since the salt's length
//! is nothing a forger gains by.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RsaParameters, RsaPssSaltLength, UnparsedPublicKey,
};

use super::{
    algorithm::{self, HashAlg},
    public::{Curve, Key, RSA_BITS, Scheme, SchemeKind, padded},
    wire::{Malformed, Reader, sized, value},
};

/// Largest signature read, in bytes: RSA-4096 and its header.
pub const SIGNATURE_MAX: usize = 6 + RSA_4096;
const RSA_4096: usize = 512;

const PSS_SHA256_LONG: RsaParameters = RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
const PSS_SHA384_LONG: RsaParameters = RSA_PSS_2048_8192_SHA384.with_pss_salt_length(RsaPssSaltLength::Max);

/// A signature by a key of a TPM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// By which scheme.
    pub scheme: Scheme,
    /// One number of RSA, or `r` and `s`, as they came.
    parts: Parts,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Parts {
    Rsa(Vec<u8>),
    Ecdsa(Vec<u8>, Vec<u8>),
}

/// The signature is not by this key over these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not by this key over these bytes")]
pub struct NotSigned;

impl Signature {
    /// Reads a `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// What is wrong with the bytes, or that the signature is of a kind this crate does not take.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let kind = match r.u16("signature algorithm")? {
            algorithm::RSASSA => SchemeKind::RsaSsa,
            algorithm::RSAPSS => SchemeKind::RsaPss,
            algorithm::ECDSA => SchemeKind::Ecdsa,
            other => return Err(value("signature algorithm", format!("{other:#06x}"))),
        };
        let hash = HashAlg::read(r.u16("hash of the signature")?, "hash of the signature")?;
        let parts = match kind {
            SchemeKind::RsaSsa | SchemeKind::RsaPss => Parts::Rsa(r.sized(RSA_BITS.end() / 8, "signature")?.to_vec()),
            SchemeKind::Ecdsa => {
                let mut number = |what| r.sized(Curve::P384.size(), what).map(<[u8]>::to_vec);
                Parts::Ecdsa(number("r")?, number("s")?)
            }
        };
        r.finish()?;
        Ok(Self { scheme: Scheme { kind, hash }, parts })
    }

    /// `TPMT_SIGNATURE` of a bare RSASSA-PKCS1-v1_5 signature with SHA-256, as some attesters strip it.
    pub fn wrap_rsassa_sha256(signature: &[u8]) -> Vec<u8> {
        let head = [algorithm::RSASSA.to_be_bytes(), HashAlg::Sha256.id().to_be_bytes()].concat();
        [head, sized(signature)].concat()
    }

    /// Whether `key` made it over `message`.
    ///
    /// # Errors
    /// It did not, or key, scheme and hash do not go together.
    pub fn verify(&self, key: &Key, message: &[u8]) -> Result<(), NotSigned> {
        let ok = match (key, &self.parts) {
            (Key::Rsa { .. }, Parts::Rsa(signature)) => {
                let components = key.rsa_components().ok_or(NotSigned)?;
                let any = self.rsa_parameters();
                any.iter().any(|with| components.verify(with, message, signature).is_ok())
            }
            (Key::Ecc { curve, .. }, Parts::Ecdsa(r, s)) => {
                let algorithm = match (curve, self.scheme.hash) {
                    (Curve::P256, HashAlg::Sha256) => &ECDSA_P256_SHA256_FIXED,
                    (Curve::P384, HashAlg::Sha384) => &ECDSA_P384_SHA384_FIXED,
                    _ => return Err(NotSigned),
                };
                let fixed = [padded(r, curve.size()), padded(s, curve.size())].concat();
                let point = key.point().ok_or(NotSigned)?;
                UnparsedPublicKey::new(algorithm, point).verify(message, &fixed).is_ok()
            }
            _ => false,
        };
        if ok { Ok(()) } else { Err(NotSigned) }
    }

    fn rsa_parameters(&self) -> &'static [&'static RsaParameters] {
        match (self.scheme.kind, self.scheme.hash) {
            (SchemeKind::RsaSsa, HashAlg::Sha256) => &[&RSA_PKCS1_2048_8192_SHA256],
            (SchemeKind::RsaSsa, HashAlg::Sha384) => &[&RSA_PKCS1_2048_8192_SHA384],
            (SchemeKind::RsaPss, HashAlg::Sha256) => &[&RSA_PSS_2048_8192_SHA256, &PSS_SHA256_LONG],
            (SchemeKind::RsaPss, HashAlg::Sha384) => &[&RSA_PSS_2048_8192_SHA384, &PSS_SHA384_LONG],
            _ => &[],
        }
    }
}
