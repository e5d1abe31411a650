//! Certificate revocation lists (RFC 5280 section 5) of AMD's roots: the ARK revokes its intermediates.
//!
//! The ASK certifies leaves but may not sign lists (its key usage has certificate signing alone), and every leaf we
//! have seen carries serial number 0, so a list can only name intermediates. AMD's profile over
//! [`x509::Crl`](crate::x509::Crl) lets no critical extension in: indirect and delta lists are refused as such. A list
//! is collateral: it is given by the verifier's owner, never by the party under judgement.

use legation_core::{Digest, Rejection, UnixTime};

use super::{
    certificate::{Certificate, check_algorithm},
    check::Check,
    roots::RootSet,
};
use crate::x509;

/// A parsed list; its signature and dates are checked when it is used.
#[derive(Clone, Debug)]
pub struct Crl(x509::Crl);

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
        let list = x509::Crl::read(der)?;
        if list.has_point {
            return Err("a critical extension".to_owned());
        }
        check_algorithm(list.algorithm())?;
        Ok(Self(list))
    }

    /// Whether it says that it is the list of `root`.
    pub(crate) fn is_of(&self, root: &Certificate) -> bool {
        self.0.issuer == root.subject
    }

    /// Checks that `root`, whose list this says it is, signed it, that it is fresh at `at` or within `grace` seconds of
    /// having been, and that `intermediate` is not on it. Says since when it is stale, if it is.
    pub(crate) fn check(
        &self,
        root: &Certificate,
        intermediate: &Certificate,
        grace: u64,
        at: UnixTime,
    ) -> Result<Option<UnixTime>, Rejection> {
        let stale = self.0.verify(Check::Revocation.id(), root, at, grace)?;
        if self.0.revokes(intermediate) {
            let claim = format!("entries of the revocation list of {}", root.subject_text);
            return Err(Check::Revocation
                .refuse(claim, "no entry for the intermediate", &intermediate.subject_text)
                .fix("the vendor revoked this signing key: machines it certifies need new certificates"));
        }
        Ok(stale)
    }

    /// SHA-256 of the DER.
    pub(crate) fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// When it was issued, and when the next one is due.
    pub fn dates(&self) -> (UnixTime, UnixTime) {
        self.0.dates()
    }

    /// Name of the root among `roots` that issued and signed it: what whoever keeps lists asks; judging does not.
    pub fn signed_under<'a, R: RootSet>(&self, roots: &'a R) -> Option<&'a str> {
        roots.roots().iter().find(|root| self.0.signed_by(&root.ark)).map(|root| root.name.as_str())
    }
}
