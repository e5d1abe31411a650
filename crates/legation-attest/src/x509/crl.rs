//! Certificate revocation lists (RFC 5280 section 5), complete and direct ones alone: an indirect, a delta or a partial
//! list says so in a critical extension, and is refused as such.

use std::{collections::BTreeSet, sync::Arc};

use legation_core::{Digest, Rejection, UnixTime};
use x509_parser::{
    extensions::{ParsedExtension, X509Extension},
    prelude::FromDer,
    revocation_list::CertificateRevocationList,
};

use super::{
    Why,
    certificate::{self, Certificate},
    signature::{Algorithm, Signed},
};

/// Largest list read, in bytes.
pub const CRL_MAX: usize = 1 << 20;
/// Most certificates in one list.
pub const REVOKED_MAX: usize = 16 * 1024;

/// A parsed list. [`Crl::verify`] says whether it is its issuer's and fresh.
#[derive(Clone)]
pub struct Crl {
    pub(crate) issuer: Vec<u8>,
    pub(crate) this_update: UnixTime,
    pub(crate) next_update: UnixTime,
    pub(crate) digest: Digest,
    /// Whether a critical extension says where the list is.
    pub(crate) has_point: bool,
    issuer_text: String,
    /// Shared: a list is cloned for each verdict, and may be long.
    revoked: Arc<BTreeSet<Vec<u8>>>,
    signed: Arc<Signed>,
}

impl Crl {
    /// Parses DER; `check` names the check that refuses.
    ///
    /// # Errors
    /// No complete direct list with a next update, or past a bound.
    pub fn parse(check: &str, der: &[u8]) -> Result<Self, Rejection> {
        Self::read(der).map_err(|why| {
            Rejection::new(check, "form of the revocation list")
                .expected("a complete X.509 revocation list with a next update, in DER")
                .got(why)
                .fix("fetch the list from its authority again")
        })
    }

    /// Parses DER; the error says why it is none.
    pub(crate) fn read(der: &[u8]) -> Result<Self, Why> {
        if der.len() > CRL_MAX {
            return Err(format!("{} bytes, more than {CRL_MAX}", der.len()));
        }
        let (rest, crl) = CertificateRevocationList::from_der(der).map_err(|e| format!("no list ({e})"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the list", rest.len()));
        }
        let tbs = &crl.tbs_cert_list;
        if tbs.revoked_certificates.len() > REVOKED_MAX {
            return Err(format!("{} entries, more than {REVOKED_MAX}", tbs.revoked_certificates.len()));
        }
        let entries = tbs.revoked_certificates.iter().flat_map(|r| r.extensions());
        if let Some(extension) = tbs.extensions().iter().filter(|e| !is_complete(e)).chain(entries).find(|e| e.critical)
        {
            return Err(format!("critical extension {}", extension.oid));
        }
        Ok(Self {
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_text: tbs.issuer.to_string(),
            this_update: certificate::time(tbs.this_update)?,
            next_update: certificate::time(tbs.next_update.ok_or("no next update")?)?,
            digest: Digest::of(der),
            // The one critical extension that was let through.
            has_point: tbs.extensions().iter().any(|e| e.critical),
            revoked: Arc::new(tbs.revoked_certificates.iter().map(|r| certificate::serial(r.raw_serial())).collect()),
            signed: Arc::new(Signed::read(der, tbs.as_ref(), &crl.signature_algorithm, &crl.signature_value)?),
        })
    }

    /// Checks that `issuer` signed it and may, and that it is fresh at `at`. Past its next update it is believed for
    /// `grace` seconds more, and the answer says since when it is stale.
    ///
    /// # Errors
    /// `check`, with what does not hold.
    pub fn verify(
        &self,
        check: &str,
        issuer: &Certificate,
        at: UnixTime,
        grace: u64,
    ) -> Result<Option<UnixTime>, Rejection> {
        let what = |claim: &str| format!("{claim} of the revocation list of {}", self.issuer_text);
        if !self.signed_by(issuer) {
            return Err(Rejection::new(check, what("signature"))
                .expected("by its issuer's key, which may sign lists")
                .got("another signature")
                .fix("fetch the list from its authority again"));
        }
        if at < self.this_update || self.next_update.plus(grace) < at {
            return Err(Rejection::new(check, what("dates"))
                .expected(format!("{} to {}", self.this_update, self.next_update))
                .got(at)
                .fix("fetch the list again: a stale one hides revocations"));
        }
        Ok((self.next_update < at).then_some(self.next_update))
    }

    /// Whether it is the list of `issuer`, whose key may sign lists and signed it.
    pub(crate) fn signed_by(&self, issuer: &Certificate) -> bool {
        let may = issuer.usage.is_some_and(|usage| usage.revoke) && issuer.subject == self.issuer;
        may && self.signed.verifies_under(&issuer.key)
    }

    /// How it was signed.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.signed.algorithm()
    }

    /// Whether the key of `issuer` signed it.
    pub(super) fn is_signed_by(&self, issuer: &Certificate) -> bool {
        self.signed.verifies_under(&issuer.key)
    }

    /// Whether it names this certificate of its issuer.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        certificate.issuer == self.issuer && self.revoked.contains(&certificate.serial)
    }

    /// SHA-256 of the DER.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// First moment it says anything about, and the promised moment of the next list.
    pub fn dates(&self) -> (UnixTime, UnixTime) {
        (self.this_update, self.next_update)
    }
}

/// An issuing distribution point that says where the list is and leaves nothing out is no reason to refuse it (RFC 5280
/// section 5.2.5).
fn is_complete(extension: &X509Extension<'_>) -> bool {
    let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension() else { return false };
    !(point.only_contains_user_certs
        || point.only_contains_ca_certs
        || point.only_contains_attribute_certs
        || point.indirect_crl
        || point.only_some_reasons.is_some())
}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crl({} until {}, {} entries)", self.issuer_text, self.next_update, self.revoked.len())
    }
}
