//! Certificate revocation lists (RFC 5280 section 5) of AMD's roots: the ARK revokes its intermediates.
//!
//! The ASK certifies leaves but may not sign lists (its key usage has certificate signing alone), and every leaf we
//! have seen carries serial number 0, so a list can only name intermediates. Indirect and delta lists have critical
//! extensions and are refused as such. A list is collateral: it is given by the verifier's owner, never by the party under judgement.

use std::collections::BTreeSet;

use legation_core::{Digest, Rejection, UnixTime};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use super::{
    certificate::{self, Certificate, Signed},
    check::Check,
    roots::{Root, RootSet},
};

/// Largest list read, in bytes.
pub const CRL_MAX: usize = 1 << 20;
/// Most certificates in one list.
pub const REVOKED_MAX: usize = 16 * 1024;

/// A parsed list; its signature and dates are checked when it is used.
#[derive(Clone)]
pub struct Crl {
    pub(crate) issuer: Vec<u8>,
    pub(crate) this_update: UnixTime,
    pub(crate) next_update: UnixTime,
    pub(crate) digest: Digest,
    issuer_text: String,
    revoked: BTreeSet<Vec<u8>>,
    signed: Signed,
}

impl Crl {
    /// Parses DER.
    ///
    /// # Errors
    /// `snp.crl` when it is no list of the profile.
    pub fn parse(der: &[u8]) -> Result<Self, Rejection> {
        Self::read(der).map_err(|why| {
            Check::Revocation
                .refuse("form of the revocation list", "an X.509 CRL of AMD's profile, in DER", why)
                .fix("fetch the list of the product from AMD's key distribution service again")
        })
    }

    fn read(der: &[u8]) -> Result<Self, String> {
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
        if let Some(extension) = tbs.extensions().iter().chain(entries).find(|e| e.critical) {
            return Err(format!("critical extension {}", extension.oid));
        }
        Ok(Self {
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_text: tbs.issuer.to_string(),
            this_update: certificate::time(tbs.this_update)?,
            next_update: certificate::time(tbs.next_update.ok_or("no next update")?)?,
            digest: Digest::of(der),
            revoked: tbs.revoked_certificates.iter().map(|r| certificate::serial(r.raw_serial())).collect(),
            signed: certificate::signed(tbs.as_ref(), &tbs.signature, &crl.signature_algorithm, &crl.signature_value)?,
        })
    }

    /// Checks that `root`, whose list this says it is, signed it, that it is fresh at `at` or within `grace` seconds of
    /// having been, and that `intermediate` is not on it. Says whether it is stale.
    pub(crate) fn check(
        &self,
        root: &Certificate,
        intermediate: &Certificate,
        grace: u64,
        at: UnixTime,
    ) -> Result<bool, Rejection> {
        let what = |claim: &str| format!("{claim} of the revocation list of {}", self.issuer_text);
        if !root.crl_sign || !self.signed.verifies_under(&root.key) {
            return Err(Check::Revocation.refuse(what("signature"), "by the root's key", "another signature"));
        }
        if at < self.this_update || self.next_update.plus(grace) < at {
            let dates = format!("{} to {}", self.this_update, self.next_update);
            return Err(Check::Revocation
                .refuse(what("dates"), dates, at)
                .fix("fetch the list again: a stale one hides revocations"));
        }
        if self.revoked.contains(&intermediate.serial) {
            return Err(Check::Revocation
                .refuse(what("entries"), "no entry for the intermediate", &intermediate.subject_text)
                .fix("the vendor revoked this signing key: machines it certifies need new certificates"));
        }
        Ok(self.next_update < at)
    }

    /// When it was issued, and when the next one is due.
    pub fn dates(&self) -> (UnixTime, UnixTime) {
        (self.this_update, self.next_update)
    }
}

/// What whoever keeps lists asks of them; judging uses none of it.
impl Crl {
    /// Name of the root among `roots` that issued and signed it.
    pub fn signed_under<'a, R: RootSet>(&self, roots: &'a R) -> Option<&'a str> {
        let issued = |root: &&Root| root.ark.subject == self.issuer && root.ark.crl_sign;
        let root = roots.roots().iter().filter(issued).find(|root| self.signed.verifies_under(&root.ark.key))?;
        Some(&root.name)
    }
}

impl std::fmt::Debug for Crl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crl({} until {}, {} entries)", self.issuer_text, self.next_update, self.revoked.len())
    }
}
