//! Why an attestation key is believed to live in a TPM: a cloud certified the key, or an appointed verifier saw a
//! credential activated beside an endorsement key that a maker certified.

use std::sync::Arc;

use legation_core::{
    Rejection, UnixTime,
    claims::Anchor,
    dsse::{Envelope, Signed},
    encoding,
    key::PublicKey,
    statement::{Appointment, KeyAttestation, Office},
};

use super::{
    Presented,
    cache::{Cache, Word},
    certificate::{self, Instance},
    check::Check,
    public::{Key, Public},
    roots::TpmRootSet,
};
use crate::{
    check::Trail,
    oid,
    x509::{self, Chain, ChainCache, Rules, Trust},
};

/// Longest life of a verifier's word on an attestation key, in seconds: 30 days.
pub const KEY_ATTESTATION_LIFE_MAX: u64 = 30 * 24 * 3600;

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

fn endorsed(chain: &Chain, instance: Option<Instance>) -> Endorsed {
    Endorsed {
        anchor: chain.anchor().clone(),
        key: chain.leaf().key.clone(),
        chip: chain.leaf().key_digest.to_string(),
        maker: certificate::maker(chain.leaf()),
        instance,
        stale_since: chain.stale_since(),
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
            let word = cache.word([attestation, appointment], || {
                Ok(Word { attestation: open(attestation)?, appointment: open(appointment)? })
            })?;
            let endorsed = endorsement_key(&word.attestation.ek, presented, roots, cache.chains(), at, passed)?;
            check_word::<R>(&word.attestation, &word.appointment, ak, presented.operators, at)?;
            passed(Check::KeyAttestation.id());
            Ok(endorsed)
        }
        certificates => {
            let chain = chain(certificates, presented, roots, cache.chains(), at, passed)?;
            let leaf = chain.leaf();
            certificate::check_attestation(leaf)?;
            check_key(&leaf.key, &ak.key, "key of the attestation key's certificate")?;
            let instance = certificate::instance(leaf)?;
            passed(Check::Certificate.id());
            // The authority says it itself.
            passed(Check::KeyAttestation.id());
            Ok(endorsed(&chain, instance))
        }
    }
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
    let instance = certificate::instance(chain.leaf())?;
    passed(Check::Certificate.id());
    Ok(endorsed(&chain, instance))
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
    if word.ak != ak.bytes() {
        let got = Public::parse(&word.ak).map_or_else(|e| e.to_string(), |key| encoding::hex(&key.name()));
        return refuse("attestation key the verifier saw", encoding::hex(&ak.name()), got);
    }
    Ok(())
}
