//! What is read of Intel's certificates besides what the library verifies: names, serial numbers, dates.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use legation_core::{Digest, Rejection, UnixTime, encoding};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::check::Check;
use crate::{
    pem,
    x509::{serial, time},
};

/// Largest certificate read, in bytes.
pub const CERTIFICATE_MAX: usize = 4096;
/// Most certificates in one chain.
pub const CHAIN_MAX: usize = 4;
/// What PEM calls a certificate.
const LABEL: &str = "CERTIFICATE";

/// A parsed certificate. Its signature is for the library.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) subject: Vec<u8>,
    pub(crate) subject_text: String,
    pub(crate) issuer: Vec<u8>,
    pub(crate) issuer_text: String,
    pub(crate) serial: Vec<u8>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// The key, as a point.
    pub(crate) key: Vec<u8>,
}

impl Certificate {
    fn read(der: &[u8]) -> Result<Self, String> {
        if der.len() > CERTIFICATE_MAX {
            return Err(format!("{} bytes, more than {CERTIFICATE_MAX}", der.len()));
        }
        let (rest, cert) = X509Certificate::from_der(der).map_err(|e| format!("no certificate ({e})"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the certificate", rest.len()));
        }
        let tbs = &cert.tbs_certificate;
        Ok(Self {
            der: der.to_vec(),
            digest: Digest::of(der),
            subject: tbs.subject.as_raw().to_vec(),
            subject_text: common_name(&tbs.subject),
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_text: common_name(&tbs.issuer),
            serial: serial(tbs.raw_serial()),
            not_before: time(tbs.validity.not_before)?,
            not_after: time(tbs.validity.not_after)?,
            key: tbs.subject_pki.subject_public_key.data.to_vec(),
        })
    }

    /// Whether `at` is inside the dates, ends included (RFC 5280 section 4.1.2.5).
    pub(crate) fn covers(&self, at: UnixTime) -> bool {
        self.not_before <= at && at <= self.not_after
    }

    /// Whether its key made `signature`, two numbers of 32 bytes, over `bytes`.
    pub(crate) fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        signed(&self.key, bytes, signature)
    }
}

/// Whether the key at the P-256 `point` made `signature`, two numbers of 32 bytes, over `bytes`, with SHA-256.
pub(crate) fn signed(point: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(bytes, signature).is_ok()
}

/// A chain as PEM, leaf first: two certificates at least, each issued by the next one by name.
pub(crate) fn chain(check: Check, what: &str, text: &[u8]) -> Result<Vec<Certificate>, Rejection> {
    read_chain(text).map_err(|why| {
        check
            .refuse(what, format!("2 to {CHAIN_MAX} X.509 certificates in PEM, each issued by the next"), why)
            .fix("send the chain as Intel's provisioning service gives it, leaf first, with the root")
    })
}

fn read_chain(text: &[u8]) -> Result<Vec<Certificate>, String> {
    let blocks = pem::read(text).map_err(|e| e.to_string())?;
    if !(2..=CHAIN_MAX).contains(&blocks.len()) || blocks.iter().any(|b| b.label != LABEL) {
        let labels: Vec<_> = blocks.iter().map(|b| b.label.as_str()).collect();
        return Err(labels.join(", "));
    }
    let chain = blocks.iter().map(|b| Certificate::read(&b.der)).collect::<Result<Vec<_>, _>>()?;
    for pair in chain.windows(2) {
        if let [lower, upper] = pair
            && lower.issuer != upper.subject
        {
            return Err(format!("{} after one issued by {}", upper.subject_text, lower.issuer_text));
        }
    }
    Ok(chain)
}

/// The chain in PEM again, for the library: what we read is what it reads, however the text was laid out. Without the
/// root, which it has of its own. Lines are left whole, and nothing is wiped as [`pem`] wipes: it is public.
pub(crate) fn to_pem(chain: &[Certificate]) -> String {
    let block = |cert: &Certificate| {
        format!("-----BEGIN {LABEL}-----\n{}\n-----END {LABEL}-----\n", encoding::base64(&cert.der))
    };
    let below = chain.split_last().map(|(_root, below)| below).unwrap_or_default();
    below.iter().map(block).collect()
}

/// The first common name, or the whole name where there is none.
pub(crate) fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let mut names = name.iter_common_name();
    names.next().and_then(|cn| cn.as_str().ok()).map_or_else(|| name.to_string(), str::to_owned)
}
