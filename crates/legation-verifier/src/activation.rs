//! Credentials for TPMs from a verifier that remembers nothing.
//!
//! ```text
//! agent                                        verifier
//!   ---- AK, EK, certificates of EK ------------->   makes a secret, a credential of it, and a ticket
//!   <--- credential, encrypted secret, ticket ---
//!   TPM2_ActivateCredential: the secret
//!   ---- AK, EK, certificates, ticket, secret --->   the ticket says that this secret was made for these keys
//!   <--- KeyAttestation -------------------------
//! ```
//! A ticket is `time (8 bytes) || HMAC-SHA-256(key, domain || secret || SHA-256 of AK, of EK, of the certificates ||
//! time)`. It tells nothing of the secret. Any replica knows it, by the key they share. It may be answered again while
//! it is young: that gives the same word about the same keys once more.

use std::sync::Arc;

use aws_lc_rs::hmac;
use legation_attest::{
    Roots,
    tpm::{
        TpmRootSet,
        activation::{Challenge, Claimed, RANDOM_LEN},
    },
    x509::{ChainCache, Crl},
};
use legation_core::{
    Digest, Rejection, Signed, Signer, UnixTime,
    claims::Shelf,
    statement::{Appointment, KeyAttestation},
};
use zeroize::Zeroizing;

use crate::{Current, door::TpmKeys, random};

/// How long a ticket may be answered, in seconds.
pub const TICKET_SECONDS: u64 = 120;
/// Bytes of a ticket.
pub const TICKET_LEN: usize = 40;
/// Bytes of a secret.
pub const SECRET_LEN: usize = 32;
/// Largest public area and certificate, in bytes.
pub const PART_MAX: usize = 8 * 1024;
/// Most certificates of an endorsement key.
pub const CERTIFICATES_MAX: usize = 8;
/// How long a word on an attestation key may be shown, in seconds: a day.
pub const KEY_ATTESTATION_SECONDS: u64 = 86_400;
/// Domain of tickets.
const DOMAIN: &[u8] = b"legation-activation-ticket-v1";
/// Label under which the tickets' key comes from the secret of the challenges.
const KEY_LABEL: &[u8] = b"legation-activation-key-v1";

/// A credential: `TPM2B_ID_OBJECT` and `TPM2B_ENCRYPTED_SECRET`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// `TPM2B_ID_OBJECT`.
    pub id_object: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Vec<u8>,
}

/// The cryptography of TPMs, pure: it trusts endorsement keys under fixed roots.
pub trait Endorsements: Send + Sync {
    /// Checks the keys and the certificates as of `at`, and hides `secret` in a credential for them.
    ///
    /// # Errors
    /// Why these keys get none.
    fn credential(
        &self,
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        at: UnixTime,
    ) -> Result<Credential, Rejection>;

    /// The word of `verifier` on the attestation key of `keys`, once it is known that its TPM read `secret`.
    ///
    /// # Errors
    /// The keys or the certificates are not accepted as of `at`, or the verifier is not appointed for this.
    fn attest(
        &self,
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        verifier: &dyn Signer,
        appointment: &Signed<Appointment>,
        at: UnixTime,
    ) -> Result<Signed<KeyAttestation>, Rejection>;
}

/// Endorsement keys under the roots of an anchor file, with the revocation lists on the shelf.
#[derive(Debug)]
pub struct TpmEndorsements {
    roots: Roots,
    shelf: Arc<Current<Shelf>>,
    grace: u64,
    cache: ChainCache,
}

impl TpmEndorsements {
    /// Trusts the TPM roots of `roots`; believes a list past its next update for `grace` seconds.
    pub fn new(roots: Roots, shelf: Arc<Current<Shelf>>, grace: u64) -> Self {
        Self { roots, shelf, grace, cache: ChainCache::default() }
    }

    /// Under production roots, or else under development ones: no key is under both.
    fn challenge(
        &self,
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        at: UnixTime,
    ) -> Result<Challenge, Rejection> {
        let why = match self.under(&self.roots.tpm, keys, secret, at) {
            Err(why) if why.check == "tpm.root" => why,
            answer => return answer,
        };
        self.under(&self.roots.development_tpm, keys, secret, at)
            .map_err(|other| if other.check == "tpm.root" { why } else { other })
    }

    fn under<R: TpmRootSet>(
        &self,
        roots: &R,
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        at: UnixTime,
    ) -> Result<Challenge, Rejection> {
        let shelf = self.shelf.get();
        let lists: Vec<Crl> =
            shelf.under("tpm/").map(|(_, item)| Crl::parse("tpm.crl", &item.bytes)).collect::<Result<_, _>>()?;
        let claimed = Claimed {
            ak: &keys.ak,
            ek: &keys.certificates,
            ek_public: Some(keys.ek.as_slice()).filter(|ek| !ek.is_empty()),
            crls: &lists,
            grace: self.grace,
        };
        let chance = Zeroizing::new(random::<RANDOM_LEN>()?);
        Challenge::new(&claimed, roots, &self.cache, at, secret.clone(), &chance)
    }
}

impl Endorsements for TpmEndorsements {
    fn credential(
        &self,
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        at: UnixTime,
    ) -> Result<Credential, Rejection> {
        let challenge = self.challenge(keys, secret, at)?;
        let made = challenge.credential();
        Ok(Credential { id_object: made.id_object.clone(), encrypted_secret: made.encrypted_secret.clone() })
    }

    /// Checks keys and certificates anew: nothing of the first request is remembered.
    fn attest(
        &self,
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        verifier: &dyn Signer,
        appointment: &Signed<Appointment>,
        at: UnixTime,
    ) -> Result<Signed<KeyAttestation>, Rejection> {
        self.challenge(keys, secret, at)?.answer(&secret[..], verifier, appointment, at, KEY_ATTESTATION_SECONDS)
    }
}

/// What replicas of one verifier recognise their tickets by.
pub(crate) struct TicketKey(hmac::Key);

impl TicketKey {
    /// The key that goes with the secret of the challenges.
    pub(crate) fn new(challenge_secret: &[u8; 32]) -> Self {
        let secret = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, challenge_secret), KEY_LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()))
    }

    /// A ticket for a secret that was hidden for `keys`.
    pub(crate) fn issue(&self, keys: &TpmKeys, secret: &Zeroizing<[u8; SECRET_LEN]>, now: UnixTime) -> Vec<u8> {
        let mut ticket = now.0.to_be_bytes().to_vec();
        ticket.extend_from_slice(self.tag(keys, secret, now).as_ref());
        ticket
    }

    /// Whether `ticket` is one for this secret and these keys, and young.
    ///
    /// # Errors
    /// `activation.ticket` or `activation.old`.
    pub(crate) fn check(
        &self,
        ticket: &[u8],
        keys: &TpmKeys,
        secret: &Zeroizing<[u8; SECRET_LEN]>,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let refuse = || {
            Rejection::new("activation.ticket", "ticket of the activation")
                .expected("this verifier's, with the secret and the keys it was given for")
                .got("another")
                .fix("activate the credential in the TPM that holds both keys, and send what came with it")
        };
        let (time, tag) = ticket.split_first_chunk::<8>().filter(|_| ticket.len() == TICKET_LEN).ok_or_else(refuse)?;
        let time = UnixTime(u64::from_be_bytes(*time));
        let expected = self.tag(keys, secret, time);
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), tag).map_err(|_| refuse())?;
        let last = time.plus(TICKET_SECONDS);
        // Replicas' clocks differ a little.
        if now < time.minus(TICKET_SECONDS) || last < now {
            return Err(Rejection::new("activation.old", "age of the ticket")
                .expected(format!("answered by {last}"))
                .got(now)
                .fix("ask for a credential anew, and check the clocks of this verifier's replicas"));
        }
        Ok(())
    }

    fn tag(&self, keys: &TpmKeys, secret: &Zeroizing<[u8; SECRET_LEN]>, time: UnixTime) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(DOMAIN);
        mac.update(&secret[..]);
        for part in [Digest::of(&keys.ak), Digest::of(&keys.ek), certificates(keys)] {
            mac.update(part.as_bytes());
        }
        mac.update(&time.0.to_be_bytes());
        mac.sign()
    }
}

/// One digest for a list: of the digests of its members.
fn certificates(keys: &TpmKeys) -> Digest {
    let digests: Vec<_> = keys.certificates.iter().map(|der| Digest::of(der)).collect();
    Digest::of_parts(&digests.iter().map(|d| d.as_bytes().as_slice()).collect::<Vec<_>>())
}

/// Bounds of what somebody sends.
pub(crate) fn check_size(keys: &TpmKeys) -> Result<(), Rejection> {
    let largest = keys.certificates.iter().chain([&keys.ak, &keys.ek]).map(Vec::len).max().unwrap_or_default();
    if largest > PART_MAX || keys.certificates.len() > CERTIFICATES_MAX {
        return Err(Rejection::new("activation.size", "size of the TPM's keys")
            .expected(format!("parts of at most {PART_MAX} bytes, at most {CERTIFICATES_MAX} certificates"))
            .got(format!("{largest} bytes, {} certificates", keys.certificates.len()))
            .fix("send the two public areas and the endorsement key's chain"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn keys() -> TpmKeys {
        TpmKeys { ak: vec![1; 20], ek: vec![2; 20], certificates: vec![vec![3; 20], vec![4; 20]] }
    }

    #[test]
    fn a_ticket_is_for_one_secret_one_set_of_keys_and_two_minutes() {
        let (key, secret) = (TicketKey::new(&[1; 32]), Zeroizing::new([9; 32]));
        let ticket = key.issue(&keys(), &secret, NOW);
        let check = |ticket: &[u8], keys: &TpmKeys, secret: [u8; 32], at| {
            key.check(ticket, keys, &Zeroizing::new(secret), at).map_err(|r| r.check)
        };
        assert_eq!(check(&ticket, &keys(), *secret, NOW), Ok(()));
        assert_eq!(check(&ticket, &keys(), *secret, NOW.plus(TICKET_SECONDS)), Ok(()));
        assert_eq!(check(&ticket, &keys(), *secret, NOW.plus(TICKET_SECONDS + 1)), Err("activation.old".to_owned()));
        assert_eq!(check(&ticket, &keys(), *secret, NOW.minus(TICKET_SECONDS + 1)), Err("activation.old".to_owned()));
        let wrong = Err("activation.ticket".to_owned());
        assert_eq!(check(&ticket, &keys(), [8; 32], NOW), wrong);
        let changes: [fn(&mut TpmKeys); 5] = [
            |k| k.ak[0] ^= 1,
            |k| k.ek[0] ^= 1,
            |k| k.certificates[1][0] ^= 1,
            |k| k.certificates.swap(0, 1),
            |k| k.certificates.truncate(1),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut other = keys();
            change(&mut other);
            assert_eq!(check(&ticket, &other, *secret, NOW), wrong, "change {i}");
        }
        for bit in 0..ticket.len() * 8 {
            let mut other = ticket.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&other, &keys(), *secret, NOW), wrong, "bit {bit}");
        }
        for len in 0..ticket.len() {
            assert_eq!(check(&ticket[..len], &keys(), *secret, NOW), wrong);
        }
        assert_eq!(TicketKey::new(&[2; 32]).check(&ticket, &keys(), &secret, NOW).map_err(|r| r.check), wrong);
    }
}
