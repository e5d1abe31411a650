//! One X.509 certificate as AMD's chain has them (VCEK specification 57230): a narrow profile over
//! [`x509::Certificate`](crate::x509::Certificate), parsed and not believed.
//!
//! Only what AMD uses is let in: RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC 4055); keys of
//! RSA-4096 or P-384; one common name; no extension that cannot be read, and no critical one but basic constraints and
//! key usage.

use std::ops::Deref;

use legation_core::Rejection;
use x509_parser::{asn1_rs::Oid, prelude::FromDer, x509::X509Name};

use super::check::Check;
use crate::{
    oid,
    x509::{self, Algorithm, Hash, Key},
};

/// Largest certificate read, in bytes. AMD's have about 1.7 KiB.
pub const CERTIFICATE_MAX: usize = 8 * 1024;
/// Bits of the modulus of AMD's certifying keys.
const RSA_BITS: usize = 4096;

/// A certificate of AMD's profile.
#[derive(Clone)]
pub(crate) struct Certificate {
    x509: x509::Certificate,
    pub(crate) common_name: String,
}

impl Certificate {
    /// Parses DER; `what` names the certificate in the refusal.
    pub(crate) fn parse(what: &str, der: &[u8]) -> Result<Self, Rejection> {
        Self::read(der).map_err(|why| {
            Check::Certificate
                .refuse(what, "an X.509 certificate of AMD's profile, in DER", why)
                .fix("send the certificate as AMD's key distribution service gave it")
        })
    }

    fn read(der: &[u8]) -> Result<Self, String> {
        if der.len() > CERTIFICATE_MAX {
            return Err(format!("{} bytes, more than {CERTIFICATE_MAX}", der.len()));
        }
        let x509 = x509::Certificate::read(der)?;
        check_algorithm(x509.algorithm())?;
        match &x509.key {
            Key::P384(_) => {}
            Key::Rsa(_) if x509.key.rsa_bits() == Some(RSA_BITS) => {}
            Key::Rsa(_) => return Err(format!("RSA key of {} bits", x509.key.rsa_bits().unwrap_or_default())),
            other => return Err(format!("{} key", other.kind())),
        }
        if let Some(extension) = x509.not_understood(&[]) {
            return Err(format!("critical extension {}", Oid::new(extension.id.as_slice().into())));
        }
        if let Some(why) = &x509.unread {
            return Err(why.clone());
        }
        let common_name = x509.common_name.clone().ok_or("not exactly one common name")?;
        Ok(Self { x509, common_name })
    }

    /// Locality of the subject, empty when there is none: where a development certificate names its root.
    pub(crate) fn locality(&self) -> String {
        let Ok((_, name)) = X509Name::from_der(&self.subject) else { return String::new() };
        name.iter_locality().find_map(|l| l.as_str().ok()).unwrap_or_default().to_owned()
    }

    /// Contents of the extension under AMD's arc with this identifier: its contents octets after [`oid::AMD`].
    pub(crate) fn amd(&self, id: &[u8]) -> Option<&[u8]> {
        let found = self.extensions.iter().find(|e| e.id.strip_prefix(oid::AMD) == Some(id));
        found.map(|e| e.value.as_slice())
    }
}

impl Deref for Certificate {
    type Target = x509::Certificate;

    fn deref(&self) -> &x509::Certificate {
        &self.x509
    }
}

/// Refuses what is signed in another way than AMD signs certificates and lists.
pub(super) fn check_algorithm(algorithm: Algorithm) -> Result<(), String> {
    match algorithm {
        Algorithm::Pss(Hash::Sha384) => Ok(()),
        other => Err(format!("signature by {other:?}, not RSASSA-PSS with SHA-384")),
    }
}
