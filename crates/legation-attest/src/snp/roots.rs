//! What chains may end in. AMD's roots and development roots are two types; nothing turns one into the other, and
//! [`verify`](super::verify) says which one it judges against.
//!
//! AMD's ARK and ASK certificates come with the `sev` crate; each ARK is held against a fingerprint compiled in here,
//! so that a changed dependency is a refusal and not a new root. The ASVK, which certifies VLEKs, comes with the
//! evidence.
//!
//! A development root, named by the reader's anchor file, is taken only when
//! 1. its name is a name, and no other root of the file has it or its key;
//! 2. its key is none of AMD's, whatever the certificate around it says;
//! 3. its subject says [`DEVELOPMENT`];
//! 4. it is a certificate authority of AMD's profile and signed itself.

use legation_core::{
    Digest, DigestWriter, ProviderId, Rejection,
    claims::{Anchor, Anchors, TeeKind},
};
use sev::certs::snp::builtin;

use super::{certificate::Certificate, leaf::Holder, tcb::Product};
use crate::pem;

/// Most development roots in one anchor file.
pub const DEVELOPMENT_ROOTS_MAX: usize = 16;
/// What the subject of every development certificate says.
pub const DEVELOPMENT: &str = "DEVELOPMENT";
/// Common name of a development ASK.
pub(crate) const DEVELOPMENT_ASK: &str = "SEV-DEV";

/// AMD's certificates with the SHA-256 of the ARK's DER.
const BUILT_IN: [(Product, &[u8], &[u8], &str); 3] = [
    (
        Product::Milan,
        builtin::milan::ARK,
        builtin::milan::ASK,
        "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    ),
    (
        Product::Genoa,
        builtin::genoa::ARK,
        builtin::genoa::ASK,
        "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    ),
    (
        Product::Turin,
        builtin::turin::ARK,
        builtin::turin::ASK,
        "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
    ),
];

/// One root and what goes with it.
#[derive(Clone)]
pub struct Root {
    pub(crate) name: String,
    pub(crate) ark: Certificate,
    /// The one product the root is for; any for a development root.
    pub(crate) product: Option<Product>,
    /// Intermediate for evidence that brings none.
    pub(crate) ask: Option<Certificate>,
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Root({})", self.name)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::AmdRoots {}
    impl Sealed for super::DevelopmentRoots {}
}

/// Roots of one kind. Sealed: there are AMD's and there are development ones.
pub trait RootSet: sealed::Sealed {
    /// The kind of evidence that may end in these roots, and in no others.
    const KIND: TeeKind;

    /// The roots.
    fn roots(&self) -> &[Root];

    /// How a verdict names one of them.
    fn anchor(root: &Root) -> Anchor;

    /// Common name of the intermediate that may certify such a leaf under a root; none when no such leaf may be.
    fn intermediate_name(root: &Root, leaf: &LeafKind) -> Option<String>;

    /// Names this set in keys of a [`ChainCache`](super::ChainCache).
    fn digest(&self) -> Digest {
        let mut digest = DigestWriter::new();
        digest.update(Self::KIND.name().as_bytes());
        for root in self.roots() {
            digest.update(Digest::of(root.name.as_bytes()).as_bytes());
            digest.update(root.ark.fingerprint.as_bytes());
        }
        digest.finish()
    }
}

/// Whether a leaf certifies a chip's key or a cloud provider's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeafKind {
    /// VCEK.
    Chip,
    /// VLEK.
    Provider,
}

impl From<&Holder> for LeafKind {
    fn from(holder: &Holder) -> Self {
        match holder {
            Holder::Chip(_) => Self::Chip,
            Holder::Provider(_) => Self::Provider,
        }
    }
}

/// AMD's roots.
#[derive(Clone, Debug)]
pub struct AmdRoots(Vec<Root>);

impl AmdRoots {
    /// The roots of these products.
    ///
    /// # Errors
    /// `roots.built-in` when the certificates compiled in are not those this crate was written for.
    pub fn only(products: &[Product]) -> Result<Self, Rejection> {
        let wanted = BUILT_IN.iter().filter(|(product, ..)| products.contains(product));
        wanted.map(|(product, ark, ask, pin)| built_in(*product, ark, ask, pin)).collect::<Result<_, _>>().map(Self)
    }

    /// The roots of every product.
    ///
    /// # Errors
    /// As [`Self::only`].
    pub fn all() -> Result<Self, Rejection> {
        Self::only(&Product::ALL)
    }

    /// A root in the place of AMD's, to test what AMD's signing keys alone could try.
    #[cfg(test)]
    pub(super) fn in_place_of_amd(product: Product, ark: Certificate) -> Self {
        Self(vec![Root { name: "test".to_owned(), ark, product: Some(product), ask: None }])
    }
}

fn built_in(product: Product, ark: &[u8], ask: &[u8], pin: &str) -> Result<Root, Rejection> {
    let one = |what: &str, text: &[u8]| -> Result<Certificate, Rejection> {
        let blocks = pem::read(text).map_err(|e| Rejection::new("roots.built-in", what).got(e))?;
        match blocks.as_slice() {
            [block] => Certificate::parse(what, &block.der),
            _ => Err(Rejection::new("roots.built-in", what).expected("one certificate").got(blocks.len())),
        }
    };
    let ark = one("AMD's root key certificate", ark)?;
    let got = ark.fingerprint.to_string();
    if got != pin {
        return Err(Rejection::new("roots.built-in", format!("fingerprint of AMD's root for {product}"))
            .expected(pin)
            .got(got)
            .fix("this program was built with other roots than it was written for: do not use it"));
    }
    let ask = one("AMD's signing key certificate", ask)?;
    Ok(Root { name: format!("amd-{product}"), ark, product: Some(product), ask: Some(ask) })
}

impl RootSet for AmdRoots {
    const KIND: TeeKind = TeeKind::SevSnp;

    fn roots(&self) -> &[Root] {
        &self.0
    }

    fn anchor(root: &Root) -> Anchor {
        Anchor::Production(root.name.clone())
    }

    fn intermediate_name(root: &Root, leaf: &LeafKind) -> Option<String> {
        let product = root.product?.certified_name();
        Some(match leaf {
            LeafKind::Chip => format!("SEV-{product}"),
            LeafKind::Provider => format!("SEV-VLEK-{product}"),
        })
    }
}

/// Development roots.
#[derive(Clone, Debug)]
pub struct DevelopmentRoots(Vec<Root>);

impl DevelopmentRoots {
    /// The development roots of an anchor file.
    ///
    /// # Errors
    /// `roots.development` for a root that is not taken; see the module's list.
    pub fn new(anchors: &Anchors) -> Result<Self, Rejection> {
        let refuse = |name: &str, claim: &str| Rejection::new("roots.development", format!("{claim} of root `{name}`"));
        if anchors.development.len() > DEVELOPMENT_ROOTS_MAX {
            return Err(Rejection::new("roots.development", "number of development roots")
                .expected(format!("at most {DEVELOPMENT_ROOTS_MAX}"))
                .got(anchors.development.len()));
        }
        let amd = AmdRoots::all()?;
        let mut roots: Vec<Root> = Vec::new();
        for anchor in &anchors.development {
            let name = &anchor.name;
            // The rule for names is the one for providers, tenants and regions.
            ProviderId::new(name).map_err(|e| refuse(name, "name").got(e))?;
            let ark = Certificate::parse("certificate of a development root", &anchor.ark)?;
            if let Some(real) =
                amd.0.iter().find(|r| r.ark.key == ark.key || r.ask.as_ref().is_some_and(|a| a.key == ark.key))
            {
                return Err(refuse(name, "key")
                    .expected("a key of its own")
                    .got(format!("the key of {}", real.name))
                    .fix("AMD's roots are compiled in and are never development roots"));
            }
            if !ark.subject_text.contains(DEVELOPMENT) {
                return Err(refuse(name, "subject")
                    .expected(format!("a subject that says {DEVELOPMENT}"))
                    .got(&ark.subject_text)
                    .fix("make the root with `legation dev`"));
            }
            if !(ark.certifies() && ark.subject == ark.issuer && ark.signed_by(&ark)) {
                return Err(refuse(name, "certificate").expected("a self-signed certificate authority").got("none"));
            }
            if roots.iter().any(|r| r.name == *name || r.ark.key == ark.key) {
                return Err(refuse(name, "name or key").expected("each once").got("twice"));
            }
            roots.push(Root { name: name.clone(), ark, product: None, ask: None });
        }
        Ok(Self(roots))
    }
}

impl RootSet for DevelopmentRoots {
    const KIND: TeeKind = TeeKind::DevSnp;

    fn roots(&self) -> &[Root] {
        &self.0
    }

    fn anchor(root: &Root) -> Anchor {
        Anchor::Development(root.name.clone())
    }

    fn intermediate_name(_: &Root, leaf: &LeafKind) -> Option<String> {
        match leaf {
            LeafKind::Chip => Some(DEVELOPMENT_ASK.to_owned()),
            LeafKind::Provider => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use legation_core::claims::DevelopmentAnchor;

    use super::*;
    use crate::dev::der;

    fn refusal(ark: Vec<u8>) -> Rejection {
        let development = vec![DevelopmentAnchor { name: "mine".to_owned(), ark }];
        DevelopmentRoots::new(&Anchors { operators: Vec::new(), development, tpm: Vec::new(), logs: Vec::new() })
            .unwrap_err()
    }

    #[test]
    fn amds_key_is_refused_in_its_own_and_in_any_other_certificate() {
        for root in AmdRoots::all().unwrap().roots() {
            let (ark, ask) = (&root.ark, root.ask.as_ref().unwrap());
            for cert in [ark, ask] {
                assert!(refusal(cert.der.clone()).claim.starts_with("key of root"), "{}", root.name);
                // The same key under a subject that says DEVELOPMENT.
                let crate::x509::Key::Rsa(key) = &cert.key else { panic!("AMD's keys are RSA") };
                let subject = der::name("mine", "ARK-DEV");
                let tbs = der::to_be_signed(&der::ToBeSigned {
                    serial: &[1],
                    issuer: &subject,
                    subject: &subject,
                    dates: (legation_core::UnixTime(0), legation_core::UnixTime(4_000_000_000)),
                    spki: &der::rsa_spki(key),
                    extensions: &der::ca_extensions(None, true),
                });
                let forged = der::signed(&tbs, &[0; 512]);
                assert!(refusal(forged).claim.starts_with("key of root"), "{}", root.name);
            }
        }
    }
}
