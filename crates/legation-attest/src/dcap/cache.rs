//! What was verified before, so that a platform's next quote costs one signature.
//!
//! Which quote of a platform the library sees changes nothing but the signature over it: every other check of the library
//! reads the collateral, the time, what endorses the attestation key, the header, and a few fields of the body: TEE_TCB_SVN,
//! MRSIGNERSEAM, attributes and what TDX 1.5 adds. A remembered verdict is keyed by all of these, byte by byte, and holds
//! between dates. What remains to do is the signature, and the checks of this crate that read the body alone.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use legation_core::{
    Digest, DigestWriter, Rejection, UnixTime,
    claims::{Tcb, TeeKind},
};

use super::{
    IntelRoot,
    collateral::Collateral,
    quote::{Body, Quote},
};

/// Most platforms a cache holds.
pub const PLATFORMS_MAX: usize = 4096;
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

/// Verified platforms, parsed collaterals and their names. The caller owns it; it may be shared, and its locks are never held while
/// a signature is checked. The oldest entry goes first when it is full.
#[derive(Debug)]
pub struct Cache {
    platforms: Mutex<Bounded<Platform>>,
    collaterals: Mutex<Bounded<Collateral>>,
    names: Mutex<Bounded<String>>,
}

#[derive(Debug)]
struct Bounded<T> {
    capacity: usize,
    by_key: BTreeMap<Digest, Arc<T>>,
    oldest_first: VecDeque<Digest>,
}

impl<T> Bounded<T> {
    fn new(capacity: usize) -> Mutex<Self> {
        Mutex::new(Self { capacity, by_key: BTreeMap::new(), oldest_first: VecDeque::new() })
    }

    fn insert(&mut self, key: Digest, value: Arc<T>) {
        if self.capacity == 0 {
            return;
        }
        if self.by_key.insert(key, value).is_none() {
            self.oldest_first.push_back(key);
        }
        while self.by_key.len() > self.capacity {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            self.by_key.remove(&oldest);
        }
    }
}

// A panic while a lock was held leaves at worst an entry that is never evicted early: go on.
fn lock<T>(bounded: &Mutex<Bounded<T>>) -> std::sync::MutexGuard<'_, Bounded<T>> {
    bounded.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    /// A cache of at most `capacity` platforms, itself at most [`PLATFORMS_MAX`]; 0 remembers no platform.
    pub fn new(capacity: usize) -> Self {
        Self {
            platforms: Bounded::new(capacity.min(PLATFORMS_MAX)),
            collaterals: Bounded::new(COLLATERALS_MAX),
            names: Bounded::new(capacity.min(PLATFORMS_MAX)),
        }
    }

    /// How many platforms it holds.
    pub fn len(&self) -> usize {
        lock(&self.platforms).by_key.len()
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
        if let Some(known) = lock(&self.collaterals).by_key.get(&digest) {
            return Ok(Arc::clone(known));
        }
        let parsed = Arc::new(Collateral::parse(bytes)?);
        lock(&self.collaterals).insert(digest, Arc::clone(&parsed));
        Ok(parsed)
    }

    /// As [`collateral_name`](super::collateral_name), which is read from a PCK chain once.
    ///
    /// # Errors
    /// Those of [`collateral_name`](super::collateral_name).
    pub fn collateral_name(&self, quote: &[u8]) -> Result<String, Rejection> {
        let quote = Quote::parse(quote)?;
        let key = Digest::of_parts(&[quote.kind().name().as_bytes(), quote.chain]);
        if let Some(name) = lock(&self.names).by_key.get(&key) {
            return Ok(name.as_ref().clone());
        }
        let name = super::name_for(&quote)?;
        lock(&self.names).insert(key, Arc::new(name.clone()));
        Ok(name)
    }

    pub(crate) fn platform(&self, key: &Digest) -> Option<Arc<Platform>> {
        lock(&self.platforms).by_key.get(key).cloned()
    }

    pub(crate) fn insert(&self, key: Digest, platform: Arc<Platform>) {
        lock(&self.platforms).insert(key, platform);
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(PLATFORMS_MAX)
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
