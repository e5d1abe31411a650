//! What was verified before, so that a platform's next quote costs one signature.
//!
//! Which quote of a platform the library sees changes nothing but the signature over it: every other check of the library
//! reads the collateral, the time, what endorses the attestation key, the header, and a few fields of the body: TEE_TCB_SVN,
//! MRSIGNERSEAM, attributes and what TDX 1.5 adds. A remembered verdict is keyed by all of these, byte by byte, and holds
//! between dates. What remains to do is the signature, and the checks of this crate that read the body alone.

use std::sync::Arc;

use legation_core::{
    Digest, DigestWriter, Rejection, UnixTime,
    claims::{Tcb, TeeKind},
};

use super::{
    IntelRoot,
    collateral::Collateral,
    quote::{Body, Quote},
};
use crate::cache::{Bounded, ENTRIES_MAX};

/// Most parsed collaterals a cache holds: one for each FMSPC and kind.
pub const COLLATERALS_MAX: usize = 256;

/// What a verdict says of the platform, the same for each of its quotes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Platform {
    pub(crate) tcb: Tcb,
    pub(crate) chip: String,
    pub(crate) fmspc: String,
    pub(crate) features: Vec<&'static str>,
    /// When the library's verdict holds: documents and certificates.
    pub(crate) from: UnixTime,
    pub(crate) until: UnixTime,
    /// When every certificate is valid.
    pub(crate) certificates: (UnixTime, UnixTime),
}

impl Platform {
    /// Whether it may be used for a verdict at `at`, made as of `as_of`.
    pub(crate) fn covers(&self, as_of: UnixTime, at: UnixTime) -> bool {
        let (from, until) = self.certificates;
        self.from <= as_of && as_of <= self.until && from <= at && at <= until
    }
}

/// Verified platforms, parsed collaterals and their names. The caller owns it; it may be shared, and its locks are never
/// held while a signature is checked. The oldest entry goes first when it is full.
#[derive(Debug)]
pub struct Cache {
    platforms: Bounded<Arc<Platform>>,
    collaterals: Bounded<Arc<Collateral>>,
    names: Bounded<String>,
}

impl Cache {
    /// A cache of at most `capacity` platforms, itself at most [`ENTRIES_MAX`]; 0 remembers no platform.
    pub fn new(capacity: usize) -> Self {
        Self {
            platforms: Bounded::new(capacity),
            collaterals: Bounded::new(COLLATERALS_MAX),
            names: Bounded::new(capacity),
        }
    }

    /// How many platforms it holds.
    pub fn len(&self) -> usize {
        self.platforms.len()
    }

    /// Whether it holds no platform.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The collateral in `bytes`, parsed once: `digest` is a digest over at least those bytes, such as that of the
    /// item they came in.
    ///
    /// # Errors
    /// `dcap.collateral-form`, as [`Collateral::parse`].
    pub fn collateral(&self, digest: Digest, bytes: &[u8]) -> Result<Arc<Collateral>, Rejection> {
        self.collaterals.get_or(digest, || Collateral::parse(bytes).map(Arc::new))
    }

    /// As [`collateral_name`](super::collateral_name), which is read from a PCK chain once.
    ///
    /// # Errors
    /// Those of [`collateral_name`](super::collateral_name).
    pub fn collateral_name(&self, quote: &[u8]) -> Result<String, Rejection> {
        let quote = Quote::parse(quote)?;
        let key = Digest::of_parts(&[quote.kind().name().as_bytes(), quote.chain]);
        self.names.get_or(key, || super::name_for(&quote))
    }

    pub(crate) fn platform(&self, key: &Digest) -> Option<Arc<Platform>> {
        self.platforms.get(key)
    }

    pub(crate) fn insert(&self, key: Digest, platform: Arc<Platform>) {
        self.platforms.insert(key, platform);
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(ENTRIES_MAX)
    }
}

/// Everything a verdict on `quote` depends on, but the time, what the claims repeat from the body, and the signature
/// over header and body.
pub(crate) fn key(kind: TeeKind, quote: &Quote<'_>, collateral: &Collateral, root: &IntelRoot) -> Digest {
    let mut key = DigestWriter::new();
    key.update(b"legation-dcap-platform-v1");
    // Fields of one length each for one version of a quote, so their borders need no marks.
    key.update(kind.name().as_bytes());
    key.update(root.digest().as_bytes());
    key.update(collateral.digest().as_bytes());
    key.update(quote.header);
    match &quote.body {
        Body::Sgx(report) => {
            key.update(report.attributes);
            key.update(&report.misc_select.to_le_bytes());
        }
        Body::Td(report) => {
            key.update(report.tee_tcb_svn);
            key.update(report.mr_signer_seam);
            key.update(report.seam_attributes);
            key.update(report.td_attributes);
            if let Some(later) = &report.later {
                key.update(later.bytes);
            }
        }
    }
    key.update(quote.endorsed);
    key.finish()
}
