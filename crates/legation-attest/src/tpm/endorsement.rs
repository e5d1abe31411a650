//! Why an attestation key is believed to live in a TPM: a cloud certified the key, or an appointed verifier saw a
//! credential activated beside an endorsement key that a maker certified.

use std::sync::Arc;

use legation_core::{
    Rejection, UnixTime,
    claims::{Anchor, RevocationCheck, TpmKey},
    dsse::{Envelope, Signed},
    encoding,
    id::KeyId,
    key::PublicKey,
    statement::{Appointment, KeyAttestation, Office},
};

use super::{
    Presented,
    cache::{Cache, Word},
    certificate::{self, Instance},
    check::Check,
    public::{Curve, Key, Public},
    roots::{self, TpmRootSet},
};
use crate::{
    check::Trail,
    oid,
    x509::{self, Chain, ChainCache, Rules, Trust},
};

/// Longest life of a verifier's word on an attestation key, in seconds: 30 days.
pub const KEY_ATTESTATION_LIFE_MAX: u64 = 30 * 24 * 3600;
/// Largest statement on an attestation key, and largest appointment, in bytes of JSON. One with a chain of three
/// certificates has about 10 KiB.
pub const STATEMENT_MAX: usize = 32 * 1024;

const RULES: Rules = Rules {
    certificate: Check::Endorsements.id(),
    root: Check::Root.id(),
    chain: Check::Chain.id(),
    dates: Check::Dates.id(),
    revocation: Some(Check::Revocation.id()),
    understood: &[oid::SUBJECT_ALT_NAME, EXTENDED_KEY_USAGE],
    purpose: None,
    signs: false,
    fix: "name the maker's root in the anchor file, and send every certificate below it",
};
/// extKeyUsage, 2.5.29.37 (RFC 5280): some makers mark it critical.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// What is known of a TPM besides its quotes.
pub(super) struct Endorsed {
    pub(super) anchor: Anchor,
    /// The certified key.
    pub(super) key: x509::Key,
    /// SHA-256 of the certified key's SubjectPublicKeyInfo, lower-case hex.
    pub(super) chip: String,
    pub(super) maker: String,
    pub(super) instance: Option<Instance>,
    pub(super) stale_since: Option<UnixTime>,
    pub(super) revocation: RevocationCheck,
    /// The verifier whose word is taken on the attestation key.
    pub(super) vouched: Option<KeyId>,
}

/// The chain of an endorsement or attestation key's certificate, verified.
fn chain<R: TpmRootSet>(
    certificates: &[Vec<u8>],
    presented: &Presented<'_>,
    roots: &R,
    cache: &ChainCache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Arc<Chain>, Rejection> {
    let ders: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let trust = Trust { roots: roots.roots(), crls: presented.crls, grace: presented.grace, rules: &RULES };
    x509::chain_on(&ders, &trust, cache, at, passed)
}

/// What a verified chain says, as far as the anchor file lets its root say it.
fn endorsed<R: TpmRootSet>(chain: &Chain, roots: &R) -> Result<Endorsed, Rejection> {
    let leaf = chain.leaf();
    let told = roots::told(roots, chain.anchor().name());
    let wanted = told.map(|told| told.key).unwrap_or_default();
    let kind = Key::from_certificate(&leaf.key).ok().and_then(|key| kind_of(&key));
    if kind != Some(wanted) {
        let name = chain.anchor().name();
        return Err(Check::Certificate
            .refuse(
                "kind of the certified key",
                format!("{wanted}, by which TPMs under root `{name}` are known"),
                kind.map_or_else(|| leaf.key.kind().to_owned(), |kind| kind.to_string()),
            )
            .fix("set `key` of `[tpm]` in the agent's configuration to the kind that the anchor file names"));
    }
    let google = told.is_some_and(|told| told.google);
    Ok(Endorsed {
        anchor: chain.anchor().clone(),
        key: leaf.key.clone(),
        chip: leaf.key_digest.to_string(),
        maker: certificate::maker(leaf),
        instance: if google { certificate::instance(leaf)? } else { None },
        stale_since: chain.stale_since(),
        revocation: RevocationCheck::of(chain.revocation_checked()),
        vouched: None,
    })
}

fn kind_of(key: &Key) -> Option<TpmKey> {
    match key {
        Key::Rsa { modulus, .. } => (modulus.len() == 256).then_some(TpmKey::Rsa2048),
        Key::Ecc { curve: Curve::P256, .. } => Some(TpmKey::EccP256),
        Key::Ecc { curve: Curve::P384, .. } => Some(TpmKey::EccP384),
    }
}

/// Checks why `ak` is believed.
pub(super) fn check<R: TpmRootSet>(
    ak: &Public,
    presented: &Presented<'_>,
    roots: &R,
    cache: &Cache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Endorsed, Rejection> {
    match presented.endorsements {
        [attestation, appointment] if attestation.first() == Some(&b'{') => {
            let key = Cache::key([attestation, appointment]);
            let known = cache.word(&key);
            let remembered = known.is_some();
            let word = match known {
                Some(word) => word,
                None => Arc::new(Word { attestation: open(attestation)?, appointment: open(appointment)? }),
            };
            let endorsed = endorsement_key(&word.attestation.ek, presented, roots, cache.chains(), at, passed)?;
            check_way(roots, &endorsed.anchor, false)?;
            check_word::<R>(&word.attestation, &word.appointment, ak, presented.operators, at)?;
            // Not before: whoever likes signs statements of any content with keys of their own.
            if !remembered {
                cache.remember(key, &word, attestation.len().saturating_add(appointment.len()));
            }
            passed(Check::KeyAttestation.id());
            Ok(Endorsed { vouched: Some(word.attestation.verifier.id()), ..endorsed })
        }
        certificates => {
            let chain = chain(certificates, presented, roots, cache.chains(), at, passed)?;
            let leaf = chain.leaf();
            certificate::check_attestation(leaf)?;
            check_key(&leaf.key, &ak.key, "key of the attestation key's certificate")?;
            let endorsed = endorsed(&chain, roots)?;
            check_way(roots, &endorsed.anchor, true)?;
            passed(Check::Certificate.id());
            // The authority says it itself.
            passed(Check::KeyAttestation.id());
            Ok(endorsed)
        }
    }
}

/// By one way alone is a TPM known under one root: clouds certify attestation keys, makers endorsement keys. The other key would
/// be another chip.
fn check_way<R: TpmRootSet>(roots: &R, anchor: &Anchor, by_attestation_key: bool) -> Result<(), Rejection> {
    let attests = roots::told(roots, anchor.name()).is_some_and(|told| told.attests);
    if attests == by_attestation_key {
        return Ok(());
    }
    let key = |attestation: bool| if attestation { "an attestation key" } else { "an endorsement key" };
    Err(Check::Certificate
        .refuse(
            "what the TPM's certificate is of",
            format!("{} under root `{}`", key(attests), anchor.name()),
            key(!attests),
        )
        .fix("send the other certificate, or set `attests` of the root in the anchor file to what it certifies"))
}

/// Checks the certificates of an endorsement key.
pub(super) fn endorsement_key<R: TpmRootSet>(
    certificates: &[Vec<u8>],
    presented: &Presented<'_>,
    roots: &R,
    cache: &ChainCache,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Endorsed, Rejection> {
    let chain = chain(certificates, presented, roots, cache, at, passed)?;
    certificate::check_endorsement(chain.leaf())?;
    let endorsed = endorsed(&chain, roots)?;
    passed(Check::Certificate.id());
    Ok(endorsed)
}

/// Refuses a certificate of another key.
pub(super) fn check_key(certified: &x509::Key, expected: &Key, claim: &str) -> Result<(), Rejection> {
    let found = Key::from_certificate(certified);
    if found.as_ref() == Ok(expected) {
        return Ok(());
    }
    let got = found.map_or_else(|e| e.to_string(), |key| key.describe());
    Err(Check::Certificate
        .refuse(claim, expected.describe(), got)
        .fix("send the certificate of the key that this report was made with"))
}

fn open<P: legation_core::dsse::Predicate>(json: &[u8]) -> Result<Signed<P>, Rejection> {
    if json.len() > STATEMENT_MAX {
        return Err(Check::Endorsements
            .refuse("size of a statement on the attestation key", format!("at most {STATEMENT_MAX} bytes"), json.len())
            .fix("send the endorsement key's chain without its root, and nothing else"));
    }
    let envelope: Result<Envelope, _> = serde_json::from_slice(json);
    let opened = envelope.map_err(|e| e.to_string()).and_then(|e| e.open::<P>().map_err(|e| e.to_string()));
    opened.map_err(|why| {
        Check::Endorsements
            .refuse("statement on the attestation key", "a key attestation, then the appointment of its verifier", why)
            .fix("have a verifier activate a credential for this key, and send both of its statements")
    })
}

/// Whether an appointed verifier says, for this time, that this key lives beside that endorsement key.
fn check_word<R: TpmRootSet>(
    word: &Signed<KeyAttestation>,
    appointment: &Signed<Appointment>,
    ak: &Public,
    operators: &[PublicKey],
    at: UnixTime,
) -> Result<(), Rejection> {
    let fix = "have an appointed verifier activate a credential for this key";
    let refuse =
        |claim: &str, expected: String, got: String| Err(Check::KeyAttestation.refuse(claim, expected, got).fix(fix));
    if !operators.contains(&appointment.operator) {
        return refuse(
            "operator of the appointment",
            "one of the anchor file".into(),
            appointment.operator.to_string(),
        );
    }
    if appointment.office != Office::Verifier || appointment.key != word.verifier {
        let got = format!("{} as {:?}", appointment.key, appointment.office);
        return refuse("office of the verifier", format!("{} as Verifier", word.verifier), got);
    }
    if !appointment.covers_kind(R::KIND) {
        return refuse("scope of the verifier", R::KIND.to_string(), "other kinds of machines".into());
    }
    // Whoever reads the report takes this word for the work of any tenant.
    if appointment.scope.as_ref().is_some_and(|scope| scope.tenants.is_some()) {
        return refuse("scope of the verifier", "all tenants".into(), "some tenants' work alone".into());
    }
    if word.prev != [appointment.digest()] {
        return refuse("appointment the key attestation rests on", appointment.digest().to_string(), "another".into());
    }
    if word.issued < appointment.not_before || appointment.not_after < word.issued {
        let expected = format!("{} to {}", appointment.not_before, appointment.not_after);
        return refuse("date of the key attestation", expected, word.issued.to_string());
    }
    if at < word.issued || word.expires < at || word.expires.since(word.issued) > KEY_ATTESTATION_LIFE_MAX {
        let expected = format!("{at} inside, and at most {KEY_ATTESTATION_LIFE_MAX} seconds in all");
        return refuse("life of the key attestation", expected, format!("{} to {}", word.issued, word.expires));
    }
    // So `at` is inside the appointment too.
    if appointment.not_after < word.expires {
        let expected = format!("at most {}, when the verifier's appointment ends", appointment.not_after);
        return refuse("end of the key attestation", expected, word.expires.to_string());
    }
    if word.ak != ak.bytes() {
        let got = Public::parse(&word.ak).map_or_else(|e| e.to_string(), |key| encoding::hex(&key.name()));
        return refuse("attestation key the verifier saw", encoding::hex(&ak.name()), got);
    }
    Ok(())
}
