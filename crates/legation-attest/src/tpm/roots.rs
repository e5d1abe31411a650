//! What certificates of TPMs may end in. Roots of makers and clouds and roots of emulators are two types; nothing turns
//! one into the other, and [`verify`](super::verify) says which one it judges against.
//!
//! Makers of TPMs are too many to be compiled in: both come from the reader's anchor file. A root is taken only when
//! 1. its name is a name, and no other TPM root of the file, of whichever kind, has it or its key;
//! 2. it is a certificate authority and signed itself;
//! 3. for production: it is none that `swtpm` makes for its emulators.

use legation_core::{
    Digest, ProviderId, Rejection,
    claims::{Anchor, Anchors, TeeKind, TpmAnchor},
};

use crate::x509::{Certificate, Root};

/// Most TPM roots in one anchor file.
pub const TPM_ROOTS_MAX: usize = 64;
/// What the subjects of the authorities say that `swtpm_localca` makes.
const EMULATOR: &str = "swtpm";
const CHECK: &str = "roots.tpm";

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::TpmRoots {}
    impl Sealed for super::DevelopmentTpmRoots {}
}

/// Roots of one kind. Sealed: there are those of makers and clouds, and there are development ones.
pub trait TpmRootSet: sealed::Sealed {
    /// The kind of evidence that may end in these roots, and in no others.
    const KIND: TeeKind;

    /// The roots.
    fn roots(&self) -> &[Root];
}

/// Roots of makers of TPMs and of clouds, for `tpm`.
#[derive(Clone, Debug)]
pub struct TpmRoots(Vec<Root>);

/// Roots of emulators, for `dev-tpm`.
#[derive(Clone, Debug)]
pub struct DevelopmentTpmRoots(Vec<Root>);

impl TpmRoots {
    /// The roots of an anchor file that are not for development.
    ///
    /// # Errors
    /// `roots.tpm` for a root that is not taken, also for one of the other kind; see the module's list.
    pub fn new(anchors: &Anchors) -> Result<Self, Rejection> {
        read(anchors, false).map(Self)
    }
}

impl DevelopmentTpmRoots {
    /// The roots of an anchor file that are for development.
    ///
    /// # Errors
    /// As [`TpmRoots::new`].
    pub fn new(anchors: &Anchors) -> Result<Self, Rejection> {
        read(anchors, true).map(Self)
    }
}

impl TpmRootSet for TpmRoots {
    const KIND: TeeKind = TeeKind::Tpm;

    fn roots(&self) -> &[Root] {
        &self.0
    }
}

impl TpmRootSet for DevelopmentTpmRoots {
    const KIND: TeeKind = TeeKind::DevTpm;

    fn roots(&self) -> &[Root] {
        &self.0
    }
}

fn read(anchors: &Anchors, development: bool) -> Result<Vec<Root>, Rejection> {
    if anchors.tpm.len() > TPM_ROOTS_MAX {
        return Err(Rejection::new(CHECK, "number of TPM roots")
            .expected(format!("at most {TPM_ROOTS_MAX}"))
            .got(anchors.tpm.len())
            .fix("name only the makers whose TPMs are in the pool"));
    }
    let mut seen: Vec<(&str, Digest)> = Vec::new();
    let mut roots = Vec::new();
    for anchor in &anchors.tpm {
        let certificate = root(anchor)?;
        if seen.iter().any(|(name, key)| *name == anchor.name || *key == certificate.key_digest) {
            return Err(refuse(anchor, "name or key", "each once", "twice", "keep one of the two entries"));
        }
        seen.push((&anchor.name, certificate.key_digest));
        if anchor.development == development {
            let name = anchor.name.clone();
            let anchor = if development { Anchor::Development(name) } else { Anchor::Production(name) };
            roots.push(Root::given(anchor, certificate));
        }
    }
    Ok(roots)
}

fn root(anchor: &TpmAnchor) -> Result<Certificate, Rejection> {
    let name = &anchor.name;
    // The rule for names is the one for providers, tenants and regions.
    if let Err(e) = ProviderId::new(name) {
        return Err(refuse(anchor, "name", "lower-case letters, digits and dashes", &e.to_string(), "rename it"));
    }
    let certificate = Certificate::parse(CHECK, &format!("certificate of TPM root `{name}`"), &anchor.root)?;
    let authority = certificate.ca && certificate.usage.is_some_and(|usage| usage.certify);
    if !authority || certificate.subject != certificate.issuer || !certificate.signed_by(&certificate) {
        let fix = "name the root, not an intermediate: those travel with the evidence";
        return Err(refuse(anchor, "certificate", "a self-signed certificate authority", "none", fix));
    }
    if !anchor.development && certificate.subject_text.contains(EMULATOR) {
        let fix = "an emulator's root is a development root: set `development`";
        return Err(refuse(anchor, "subject", "a maker of TPMs or a cloud", &certificate.subject_text, fix));
    }
    Ok(certificate)
}

fn refuse(anchor: &TpmAnchor, claim: &str, expected: &str, got: &str, fix: &str) -> Rejection {
    Rejection::new(CHECK, format!("{claim} of TPM root `{}`", anchor.name)).expected(expected).got(got).fix(fix)
}
