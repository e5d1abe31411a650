//! AWS Nitro Enclaves: from an attestation document to claims.
//!
//! It is pure: the time is an argument. No revocation list is looked at: AWS's guide says to leave them out, since leaf
//! certificates live three hours (those above them live for days, and name lists); the claims say `unchecked`. It takes no policy: whether a debug enclave or an image is
//! acceptable is for [`crate::appraisal`].
//!
//! Sources: *AWS Nitro Enclaves User Guide*, "Verifying the root of trust", with the fingerprint of the root;
//! *Attestation process* of the Nitro Security Module; RFC 9052 and RFC 9053 (COSE), RFC 8949 (CBOR), RFC 5280.
//!
//! [`verify`] makes these checks, in this order; each has the stable name that its rejection carries:
//!
//!  1. `nitro.size`: the document has at most [`DOCUMENT_MAX`] bytes.
//!  2. `nitro.cose`: it is one untagged COSE_Sign1 in the shortest spelling with nothing behind it; its protected
//!     header is `{1: -35}`, ES384; its unprotected header is empty; its signature has 96 bytes.
//!  3. `nitro.payload`: the payload is one CBOR map in the shortest spelling (the map itself may go without its length,
//!     as newer modules write it); every field that AWS defines is there once (user data, nonce and public key at most
//!     once) and inside its bounds, no other is there; the digest is SHA-384. Documents of a NitroTPM, which the same
//!     root signs, name their registers otherwise and end here.
//!  4. `nitro.pcrs`: registers are numbered 0 to 31, have 32, 48 or 64 bytes; 0, 1 and 2 are there.
//!  5. `nitro.certificate`: leaf and bundle are X.509 of version 3, at most [`crate::x509::LINKS_MAX`] of them.
//!  6. `nitro.root`: the bundle begins with AWS's root, pinned by the SHA-256 of its DER.
//!  7. `nitro.chain`: names, authorities, path lengths and signatures hold from the root to the leaf; the leaf's key is
//!     for signatures.
//!  8. `nitro.dates`: every certificate is inside its dates at `at`.
//!  9. `nitro.signature`: the leaf's key, on P-384, signed header and payload as they came.
//! 10. `nitro.timestamp`: the document was made inside the leaf's dates, and at most [`SKEW`] seconds after `at`.
//! 11. `nitro.module`: the module's name is that of an enclave on an EC2 instance, and the leaf and its issuer name the
//!     same.
//!
//! ECDSA lets anybody turn a signature into a second valid one for the same bytes. So the hash of a document is never
//! its identity.
//!
//! What the claims say: `measurement` is PCR0, the image; all zeros there mean a debug enclave, whose console its
//! parent reads. `chip` is the SHA-256 of the parent instance's id: Nitro hardware has no identity of its own in the
//! document, and the instance is what AWS says the enclave runs on. So it is endorsed, and two enclaves of one
//! instance share it. An enclave is hidden from its parent instance and its owner, not from AWS.

mod check;
mod document;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use legation_core::{
    Digest, Region, Rejection, UnixTime,
    claims::{Anchor, Attested, Claims, Tcb, TeeKind},
    encoding,
};

pub use check::Check;
pub use document::{CERTIFICATE_MAX, DOCUMENT_MAX, Document, MODULE_MAX, USER_DATA_MAX, find_document};

use crate::{
    check::Trail,
    x509::{self, Certificate, Chain, ChainCache, Key, Root, Rules, Trust},
};

/// SHA-256 of the DER of AWS's root, as its user guide publishes it
/// (64:1A:03:21:A3:E2:44:EF:E4:56:46:31:95:D6:06:31:7E:D7:CD:CC:3C:17:56:E0:98:93:F3:C6:8F:79:BB:5B).
pub const ROOT: Digest = Digest::from_bytes([
    0x64, 0x1a, 0x03, 0x21, 0xa3, 0xe2, 0x44, 0xef, 0xe4, 0x56, 0x46, 0x31, 0x95, 0xd6, 0x06, 0x31, 0x7e, 0xd7, 0xcd,
    0xcc, 0x3c, 0x17, 0x56, 0xe0, 0x98, 0x93, 0xf3, 0xc6, 0x8f, 0x79, 0xbb, 0x5b,
]);
/// Name of AWS's root in verdicts.
pub const ROOT_NAME: &str = "aws-nitro-g1";
/// Seconds by which a document may be ahead of the verifier's clock.
pub const SKEW: u64 = 60;
/// How the names of the issuers of leaves end.
const PARENT_SUFFIX: &str = ".aws.nitro-enclaves";
/// Registers that are claimed even when they are zeros: image, kernel, application, role, instance, signer.
const ALWAYS_CLAIMED: [u8; 6] = [0, 1, 2, 3, 4, 8];

/// How chains of documents are judged.
const RULES: Rules = Rules {
    certificate: Check::Certificate.id(),
    root: Check::Root.id(),
    chain: Check::Chain.id(),
    dates: Check::Dates.id(),
    revocation: None,
    understood: &[],
    purpose: None,
    signs: true,
    fix: "send the document as the Nitro Security Module gave it: it carries its own certificates",
};

/// Which root documents must end in. AWS's is the only one outside of this crate's tests, and theirs never passes for
/// it.
#[derive(Clone, Copy)]
enum Trusted {
    Aws,
    #[cfg(test)]
    Test(Digest),
}

impl Trusted {
    fn root(self) -> Root {
        match self {
            Self::Aws => Root::pinned(Anchor::Production(ROOT_NAME.to_owned()), ROOT),
            #[cfg(test)]
            Self::Test(fingerprint) => Root::pinned(Anchor::Development("test".to_owned()), fingerprint),
        }
    }
}

/// Verifies a document against AWS's root as of `at`. The module's list says what is checked.
///
/// # Errors
/// The first check that refuses.
pub fn verify(document: &[u8], at: UnixTime, cache: &ChainCache) -> Result<Claims, Rejection> {
    verify_on(document, at, cache, &mut |_| ())
}

/// As [`verify`], noting each check that passes.
pub(crate) fn verify_on(
    document: &[u8],
    at: UnixTime,
    cache: &ChainCache,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    verify_under(Trusted::Aws, document, at, cache, passed)
}

fn verify_under(
    trusted: Trusted,
    bytes: &[u8],
    at: UnixTime,
    cache: &ChainCache,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let document = Document::parse_on(bytes, passed)?;
    // The bundle has the root first, a chain the leaf.
    let ders: Vec<&[u8]> =
        std::iter::once(&document.certificate).chain(document.bundle.iter().rev()).map(Vec::as_slice).collect();
    let roots = [trusted.root()];
    let trust = Trust { roots: &roots, crls: &[], grace: 0, rules: &RULES };
    let chain = x509::chain_on(&ders, &trust, cache, at, passed)?;
    check_signature(&document, chain.leaf())?;
    passed(Check::Signature.id());
    check_timestamp(&document, chain.leaf(), at)?;
    passed(Check::Timestamp.id());
    let parent = Parent::read(&document, chain.leaf())?;
    passed(Check::Module.id());
    Ok(claims(&document, &chain, &parent))
}

fn check_signature(document: &Document, leaf: &Certificate) -> Result<(), Rejection> {
    let refuse = |got: &str| {
        Err(Check::Signature
            .refuse("signature of the document", "by the leaf's key on P-384 over header and payload", got)
            .fix("send the document as the Nitro Security Module gave it"))
    };
    let Key::P384(key) = leaf.key() else { return refuse(leaf.key().kind()) };
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key);
    match key.verify(&document.signed, &document.signature) {
        Ok(()) => Ok(()),
        Err(_) => refuse("another signature"),
    }
}

fn check_timestamp(document: &Document, leaf: &Certificate, at: UnixTime) -> Result<(), Rejection> {
    let made = UnixTime(document.timestamp_ms / 1000);
    if made > at.plus(SKEW) {
        return Err(Check::Timestamp
            .refuse("time of the document", format!("at most {SKEW} s after {at}"), made)
            .fix("set the clock of the verifier"));
    }
    if !leaf.covers(made) {
        return Err(Check::Timestamp
            .refuse(
                "time of the document",
                format!("{} to {}, the leaf's dates", leaf.not_before, leaf.not_after),
                made,
            )
            .fix("ask the Nitro Security Module for a new document"));
    }
    Ok(())
}

/// The EC2 instance that an enclave runs on, as the document and AWS's certificates name it.
struct Parent {
    instance: String,
    region: Option<Region>,
}

impl Parent {
    /// Reads `i-0123-enc4567`; the leaf is `i-0123-enc4567.REGION.aws`, its issuer `i-0123.REGION.aws.nitro-enclaves`.
    fn read(document: &Document, leaf: &Certificate) -> Result<Self, Rejection> {
        let module = document.module_id.as_str();
        let refuse = |claim: &str, expected: String, got: &str| {
            Err(Check::Module
                .refuse(claim, expected, got)
                .fix("send the document of an enclave as the Nitro Security Module gave it"))
        };
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let parts = module.strip_prefix("i-").and_then(|rest| rest.split_once("-enc"));
        let Some((instance, _)) = parts.filter(|(instance, enclave)| is_hex(instance) && is_hex(enclave)) else {
            return refuse("name of the module", "i-INSTANCE-encENCLAVE".to_owned(), module);
        };
        let subject = leaf.common_name.as_deref().unwrap_or_default();
        let place = subject.strip_prefix(module).and_then(|rest| rest.strip_prefix('.'));
        let Some(place) = place.and_then(|rest| rest.strip_suffix(".aws")) else {
            return refuse("common name of the leaf", format!("{module}.REGION.aws"), subject);
        };
        let instance = format!("i-{instance}");
        let issuer = leaf.issuer_common_name.as_deref().unwrap_or_default();
        if issuer != format!("{instance}.{place}{PARENT_SUFFIX}") {
            return refuse("common name of the leaf's issuer", format!("{instance}.{place}{PARENT_SUFFIX}"), issuer);
        }
        // A place that is no name of a region is no claim about one.
        Ok(Self { instance, region: place.parse().ok() })
    }
}

fn claims(document: &Document, chain: &Chain, parent: &Parent) -> Claims {
    let is_zero = |value: &[u8]| value.iter().all(|b| *b == 0);
    let image = document.registers.get(&0).map(Vec::as_slice).unwrap_or_default();
    let claimed = |number: &u8, value: &[u8]| ALWAYS_CLAIMED.contains(number) || !is_zero(value);
    let registers: BTreeMap<_, _> = document
        .registers
        .iter()
        .filter(|(number, value)| claimed(number, value))
        .map(|(number, value)| (format!("pcr{number}"), encoding::hex(value)))
        .collect();
    // Legation's agents have the 64 bytes of their key binding signed, or the first 32; other data binds nothing here.
    let bound = document.user_data.as_deref().filter(|data| matches!(data.len(), 32 | 64)).unwrap_or_default();
    let claims = Claims::basic(
        TeeKind::Nitro,
        chain.anchor().clone(),
        encoding::hex(image),
        Attested::endorsed(Digest::of(parent.instance.as_bytes()).to_string()),
        Attested::hardware(Tcb::unknown("nitro")),
        Attested::endorsed("nitro".to_owned()),
        encoding::hex(bound),
    );
    Claims {
        registers,
        debug: Attested::hardware(is_zero(image)),
        region: parent.region.clone().map(Attested::endorsed),
        operator: Some(Attested::endorsed("aws".to_owned())),
        ..claims
    }
}
