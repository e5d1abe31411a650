//! What certificates of TPMs may end in. Roots of makers and clouds and roots of emulators are two types; nothing turns
//! one into the other, and [`verify`](super::verify) says which one it judges against.
//!
//! Makers of TPMs are too many to be compiled in: both come from the reader's anchor file. A root is taken only when
//! 1. its name is a name, and no other TPM root of the file, of whichever kind, has it or its key;
//! 2. it is a certificate authority and signed itself;
//! 3. for production: it is none that `swtpm` makes for its emulators; for development: it is not called Google's.
//!
//! An anchor file says two things of a root beside its certificate: by which kind of key it knows a TPM, and whether it is
//! Google's. Neither is in the certificate, and neither is taken from one.

use legation_core::{
    Digest, ProviderId, Rejection,
    claims::{Anchor, Anchors, TeeKind, TpmAnchor, TpmKey},
};

use crate::x509::{Certificate, Crl, Root};

/// Most TPM roots in one anchor file.
pub const TPM_ROOTS_MAX: usize = 64;
/// What the subjects of the authorities say that `swtpm_localca` makes.
const EMULATOR: &str = "swtpm";
const CHECK: &str = "roots.tpm";

mod sealed {
    use super::{Certificate, DevelopmentTpmRoots, TpmKey, TpmRoots};

    /// What is known of a root beside what chains need.
    #[derive(Clone, Debug)]
    pub struct Told {
        pub(crate) name: String,
        pub(crate) certificate: Certificate,
        pub(crate) key: TpmKey,
        pub(crate) attests: bool,
        pub(crate) google: bool,
    }

    pub trait Sealed {
        fn told(&self) -> &[Told];
    }

    impl Sealed for TpmRoots {
        fn told(&self) -> &[Told] {
            &self.told
        }
    }

    impl Sealed for DevelopmentTpmRoots {
        fn told(&self) -> &[Told] {
            &self.told
        }
    }
}

use sealed::Told;

/// Roots of one kind. Sealed: there are those of makers and clouds, and there are development ones.
pub trait TpmRootSet: sealed::Sealed {
    /// The kind of evidence that may end in these roots, and in no others.
    const KIND: TeeKind;

    /// The roots.
    fn roots(&self) -> &[Root];

    /// Name of the root among these that issued and signed a revocation list, whatever its dates.
    fn issuer_of(&self, list: &Crl) -> Option<&str> {
        let (issued, _) = list.dates();
        let root = self.told().iter().find(|root| list.verify(CHECK, &root.certificate, issued, 0).is_ok())?;
        Some(&root.name)
    }
}

/// What the anchor file says of the root of this name.
pub(super) fn told<'r, R: TpmRootSet>(roots: &'r R, name: &str) -> Option<&'r Told> {
    roots.told().iter().find(|root| root.name == name)
}

/// Roots of makers of TPMs and of clouds, for `tpm`.
#[derive(Clone, Debug)]
pub struct TpmRoots {
    roots: Vec<Root>,
    told: Vec<Told>,
}

/// Roots of emulators, for `dev-tpm`.
#[derive(Clone, Debug)]
pub struct DevelopmentTpmRoots {
    roots: Vec<Root>,
    told: Vec<Told>,
}

impl TpmRoots {
    /// The roots of an anchor file that are not for development.
    ///
    /// # Errors
    /// `roots.tpm` for a root that is not taken, also for one of the other kind; see the module's list.
    pub fn new(anchors: &Anchors) -> Result<Self, Rejection> {
        read(anchors, false).map(|(roots, told)| Self { roots, told })
    }
}

impl DevelopmentTpmRoots {
    /// The roots of an anchor file that are for development.
    ///
    /// # Errors
    /// As [`TpmRoots::new`].
    pub fn new(anchors: &Anchors) -> Result<Self, Rejection> {
        read(anchors, true).map(|(roots, told)| Self { roots, told })
    }
}

impl TpmRootSet for TpmRoots {
    const KIND: TeeKind = TeeKind::Tpm;

    fn roots(&self) -> &[Root] {
        &self.roots
    }
}

impl TpmRootSet for DevelopmentTpmRoots {
    const KIND: TeeKind = TeeKind::DevTpm;

    fn roots(&self) -> &[Root] {
        &self.roots
    }
}

fn read(anchors: &Anchors, development: bool) -> Result<(Vec<Root>, Vec<Told>), Rejection> {
    if anchors.tpm.len() > TPM_ROOTS_MAX {
        return Err(Rejection::new(CHECK, "number of TPM roots")
            .expected(format!("at most {TPM_ROOTS_MAX}"))
            .got(anchors.tpm.len())
            .fix("name only the makers whose TPMs are in the pool"));
    }
    let mut seen: Vec<(&str, Digest)> = Vec::new();
    let (mut roots, mut told) = (Vec::new(), Vec::new());
    for anchor in &anchors.tpm {
        let certificate = root(anchor)?;
        if seen.iter().any(|(name, key)| *name == anchor.name || *key == certificate.key_digest) {
            return Err(refuse(anchor, "name or key", "each once", "twice", "keep one of the two entries"));
        }
        seen.push((&anchor.name, certificate.key_digest));
        if anchor.development == development {
            let TpmAnchor { name, key, attests, google, .. } = anchor.clone();
            told.push(Told { name: name.clone(), certificate: certificate.clone(), key, attests, google });
            let anchor = if development { Anchor::Development(name) } else { Anchor::Production(name) };
            roots.push(Root::given(anchor, certificate));
        }
    }
    Ok((roots, told))
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
    if anchor.development && anchor.google {
        let fix = "leave `google` out: no emulator is Google's";
        return Err(refuse(anchor, "operator", "none, of a development root", "google", fix));
    }
    Ok(certificate)
}

fn refuse(anchor: &TpmAnchor, claim: &str, expected: &str, got: &str, fix: &str) -> Rejection {
    Rejection::new(CHECK, format!("{claim} of TPM root `{}`", anchor.name)).expected(expected).got(got).fix(fix)
}
