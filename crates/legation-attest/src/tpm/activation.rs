//! The verifier's side of credential activation (TPM 2.0 Library, Part 1, section 24): a secret that only the TPM of an
//! endorsement key can read, and only if the attestation key of that name is loaded in the same TPM.
//!
//! ```text
//! verifier                                                attester
//!    <---- certificates of EK, TPMT_PUBLIC of EK and AK ----
//!    ---- credential, encrypted secret: Challenge --------->   TPM2_ActivateCredential(AK, EK)
//!    <---- the secret --------------------------------------
//!    ---- KeyAttestation: Challenge::answer --------------->
//! ```
//! [`Challenge::new`] checks the key and the certificates before it makes anything, and [`Challenge::answer`] takes the
//! challenge with it: one secret is compared once, in constant time.
//!
//! Nothing here is random but one thing. The secret and every key come from the caller's bytes; RSAES-OAEP's own padding
//! comes from the library's generator, because the library takes none from outside. It hides the seed from outsiders
//! and decides nothing.

use aws_lc_rs::{
    agreement::{self, PrivateKey, UnparsedPublicKey, agree},
    cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    constant_time::verify_slices_are_equal,
    hmac,
    iv::FixedLength,
    rsa::{OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use legation_core::{
    Rejection, UnixTime,
    claims::TeeKind,
    dsse::{self, Signed},
    key::Signer,
    statement::{Appointment, KeyAttestation, Office},
};
use zeroize::Zeroizing;

use super::{
    Presented,
    algorithm::HashAlg,
    attestation_key,
    check::Check,
    endorsement::{self, KEY_ATTESTATION_LIFE_MAX},
    public::{Curve, Key, Public, Symmetric},
    roots::TpmRootSet,
    wire::sized,
};
use crate::x509::{self, ChainCache, Crl};

/// Bytes of randomness that one credential takes.
pub const RANDOM_LEN: usize = 64;
/// Bytes of a secret.
pub const SECRET_LEN: usize = 32;
/// How often an ephemeral key is derived anew when it is none of the curve's; the chance for one is under 2^-32.
const EPHEMERAL_TRIES: u8 = 8;
const CHECK: &str = "tpm.activation";
/// Label of the seed, with the zero that ends it (Part 1, section 24; Annex B.10.4, C.6.4).
const IDENTITY: &[u8] = b"IDENTITY\0";

/// An endorsement key with what its template says: how credentials for it are protected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ek {
    key: Key,
    name_alg: HashAlg,
    symmetric: Symmetric,
}

impl Ek {
    /// The key of this public area, which must be one that decrypts for its TPM alone.
    ///
    /// # Errors
    /// `tpm.activation` for other attributes, or without a symmetric algorithm.
    pub fn from_public(public: &Public) -> Result<Self, Rejection> {
        let fix = "send the endorsement key made by the TCG's template";
        if !public.attributes.endorses() {
            return Err(Rejection::new(CHECK, "attributes of the endorsement key")
                .expected("fixedTPM fixedParent sensitiveDataOrigin restricted decrypt, without sign")
                .got(public.attributes)
                .fix(fix));
        }
        match (public.symmetric, public.name_alg) {
            (Some(symmetric), name_alg) if name_alg.is_strong() => {
                Ok(Self { key: public.key.clone(), name_alg, symmetric })
            }
            (_, name_alg) => Err(Rejection::new(CHECK, "algorithms of the endorsement key")
                .expected("AES in CFB mode, and a name of SHA-256 or SHA-384")
                .got(name_alg)
                .fix(fix)),
        }
    }

    /// The key of a certificate, taken for one made by the TCG's templates: SHA-256 and AES-128 for RSA-2048 and P-256,
    /// SHA-384 and AES-256 above (EK Credential Profile, templates L and H).
    ///
    /// # Errors
    /// `tpm.activation` for a key of another kind.
    pub fn from_certificate(key: &x509::Key) -> Result<Self, Rejection> {
        let key = Key::from_certificate(key).map_err(|e| {
            Rejection::new(CHECK, "key of the endorsement key's certificate")
                .expected("RSA, P-256 or P-384")
                .got(e)
                .fix("send a certificate of an endorsement key made by the TCG's template")
        })?;
        let small = match &key {
            Key::Rsa { modulus, .. } => modulus.len() <= 256,
            Key::Ecc { curve, .. } => *curve == Curve::P256,
        };
        let (name_alg, bits) = if small { (HashAlg::Sha256, 128) } else { (HashAlg::Sha384, 256) };
        Ok(Self { key, name_alg, symmetric: Symmetric { bits } })
    }
}

/// What a TPM activates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// `TPM2B_ID_OBJECT`.
    pub id_object: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Vec<u8>,
}

/// Something in the library refused a key.
fn unusable(what: &str) -> Rejection {
    Rejection::new(CHECK, what).expected("one the library takes").got("another").fix("send another endorsement key")
}

/// Makes a credential that gives `secret` back where `ek` is, if the key named `ak_name` is there too. `random` must be
/// new for each.
///
/// # Errors
/// `tpm.activation` for a key that the library does not take.
pub fn make_credential(
    ek: &Ek,
    ak_name: &[u8],
    secret: &[u8; SECRET_LEN],
    random: &[u8; RANDOM_LEN],
) -> Result<Credential, Rejection> {
    let (seed, encrypted_secret) = match &ek.key {
        Key::Rsa { .. } => rsa_seed(ek, random)?,
        Key::Ecc { curve, x, .. } => ecc_seed(ek, *curve, x, random)?,
    };
    let bits = ek.symmetric.bits;
    let key = kdfa(ek.name_alg, &seed, b"STORAGE\0", ak_name, usize::from(bits / 8));
    let mut identity = Zeroizing::new(sized(secret));
    encrypt(&key, &mut identity).map_err(|()| unusable("symmetric key of the endorsement key"))?;
    let key = kdfa(ek.name_alg, &seed, b"INTEGRITY\0", &[], ek.name_alg.size());
    let integrity = mac(ek.name_alg, &key, &[&identity, ak_name]);
    let id_object = sized(&[sized(&integrity).as_slice(), &identity].concat());
    Ok(Credential { id_object, encrypted_secret: sized(&encrypted_secret) })
}

type Seed = Zeroizing<Vec<u8>>;

/// A seed of the caller's bytes, encrypted to the key (Annex B.10.4).
fn rsa_seed(ek: &Ek, random: &[u8; RANDOM_LEN]) -> Result<(Seed, Vec<u8>), Rejection> {
    let what = "RSA endorsement key";
    let seed = derive(random, b"legation-activation-seed", ek.name_alg.size());
    let algorithm = match ek.name_alg {
        HashAlg::Sha384 => &OAEP_SHA384_MGF1SHA384,
        _ => &OAEP_SHA256_MGF1SHA256,
    };
    let components = ek.key.rsa_components().ok_or_else(|| unusable(what))?;
    let key: PublicEncryptingKey = components.try_into().map_err(|_| unusable(what))?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| unusable(what))?;
    let mut out = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(algorithm, &seed, &mut out, Some(IDENTITY)).map_err(|_| unusable(what))?.to_vec();
    Ok((seed, encrypted))
}

/// A seed agreed on with an ephemeral key, and that key's point (Annex C.6.4).
fn ecc_seed(ek: &Ek, curve: Curve, x: &[u8], random: &[u8; RANDOM_LEN]) -> Result<(Seed, Vec<u8>), Rejection> {
    let what = "ECC endorsement key";
    let algorithm = match curve {
        Curve::P256 => &agreement::ECDH_P256,
        Curve::P384 => &agreement::ECDH_P384,
    };
    let key = |i| {
        let scalar = derive(random, &[b"legation-activation-ephemeral".as_slice(), &[i]].concat(), curve.size());
        PrivateKey::from_private_key(algorithm, &scalar).ok()
    };
    let ephemeral = (0..EPHEMERAL_TRIES).find_map(key).ok_or_else(|| unusable(what))?;
    let point = ephemeral.compute_public_key().map_err(|_| unusable(what))?;
    let (ours_x, ours_y) =
        point.as_ref().get(1..).and_then(|both| both.split_at_checked(curve.size())).unwrap_or_default();
    let theirs = UnparsedPublicKey::new(algorithm, ek.key.point().ok_or_else(|| unusable(what))?);
    let seed = agree(&ephemeral, theirs, unusable(what), |z| Ok(kdfe(ek.name_alg, z, ours_x, x)))?;
    Ok((seed, [sized(ours_x), sized(ours_y)].concat()))
}

/// The first `len` bytes, at most 48, of what the caller's bytes give under a label.
fn derive(random: &[u8; RANDOM_LEN], label: &[u8], len: usize) -> Seed {
    let mut out = mac(HashAlg::Sha384, random, &[label]);
    out.truncate(len);
    out
}

fn mac(alg: HashAlg, key: &[u8], parts: &[&[u8]]) -> Seed {
    let mut context = hmac::Context::with_key(&hmac::Key::new(alg.hmac(), key));
    parts.iter().for_each(|part| context.update(part));
    Zeroizing::new(context.sign().as_ref().to_vec())
}

/// KDFa (Part 1, section 11.4.10.2), for at most one block of output: no key here is longer than its hash.
fn kdfa(alg: HashAlg, key: &[u8], label: &[u8], context: &[u8], len: usize) -> Seed {
    let bits = (len as u32).saturating_mul(8).to_be_bytes();
    let mut out = mac(alg, key, &[&1_u32.to_be_bytes(), label, context, &bits]);
    out.truncate(len);
    out
}

/// KDFe (Part 1, section 11.4.10.3) for a seed as long as the hash.
fn kdfe(alg: HashAlg, z: &[u8], ours_x: &[u8], theirs_x: &[u8]) -> Seed {
    Zeroizing::new(alg.digest(&[&1_u32.to_be_bytes(), z, IDENTITY, ours_x, theirs_x]))
}

/// AES in CFB mode with an initialisation vector of zeros: every key is used once.
fn encrypt(key: &[u8], bytes: &mut [u8]) -> Result<(), ()> {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::cfb128).map_err(|_| ())?;
    let zeros = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(bytes, zeros).map(|_| ()).map_err(|_| ())
}

/// Two keys that are said to live in one TPM.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    /// `TPMT_PUBLIC` of the attestation key.
    pub ak: &'a [u8],
    /// Certificates of the endorsement key, leaf first, DER.
    pub ek: &'a [Vec<u8>],
    /// `TPMT_PUBLIC` of the endorsement key; without it, the key is taken for one made by the TCG's template.
    pub ek_public: Option<&'a [u8]>,
    /// Revocation lists, of any authority.
    pub crls: &'a [Crl],
    /// Seconds for which a list past its next update is still believed.
    pub grace: u64,
}

/// A credential that was given out, and the secret that must come back.
pub struct Challenge {
    credential: Credential,
    secret: Zeroizing<[u8; SECRET_LEN]>,
    kind: TeeKind,
    ak: Vec<u8>,
    ek: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Challenge({})", self.kind)
    }
}

impl Challenge {
    /// A challenge to the TPM of these keys, once the attestation key attests (`tpm.ak`) and the endorsement key's
    /// certificates end in a root of this kind (`tpm.root` to `tpm.certificate`). Both `secret` and `random` must be
    /// random and new.
    ///
    /// # Errors
    /// The first check that refuses, or `tpm.activation`.
    pub fn new<R: TpmRootSet>(
        claimed: &Claimed<'_>,
        roots: &R,
        cache: &ChainCache,
        at: UnixTime,
        secret: Zeroizing<[u8; SECRET_LEN]>,
        random: &Zeroizing<[u8; RANDOM_LEN]>,
    ) -> Result<Self, Rejection> {
        let ak = attestation_key(claimed.ak)?;
        let Claimed { crls, grace, .. } = *claimed;
        let presented = Presented { report: &[], endorsements: &[], operators: &[], crls, grace };
        let certified = endorsement::endorsement_key(claimed.ek, &presented, roots, cache, at, &mut |_| ())?.key;
        let ek = match claimed.ek_public {
            None => Ek::from_certificate(&certified)?,
            Some(bytes) => {
                let public = Public::parse(bytes).map_err(|e| {
                    Rejection::new(CHECK, "public area of the endorsement key")
                        .expected("a TPMT_PUBLIC")
                        .got(e)
                        .fix("send the public area as the TPM gave it")
                })?;
                endorsement::check_key(&certified, &public.key, "key of the endorsement key's certificate")?;
                Ek::from_public(&public)?
            }
        };
        let credential = make_credential(&ek, &ak.name(), &secret, random)?;
        Ok(Self { credential, secret, kind: R::KIND, ak: ak.bytes().to_vec(), ek: claimed.ek.to_vec() })
    }

    /// What the TPM must activate.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The verifier's word that the attestation key lives beside the endorsement key, for `seconds` from `at` on but no
    /// longer than its appointment, if `answer` is the secret.
    ///
    /// # Errors
    /// `tpm.activation` for another answer; `tpm.key-attestation` for a verifier that is not appointed for this.
    pub fn answer(
        self,
        answer: &[u8],
        verifier: &dyn Signer,
        appointment: &Signed<Appointment>,
        at: UnixTime,
        seconds: u64,
    ) -> Result<Signed<KeyAttestation>, Rejection> {
        if verify_slices_are_equal(&self.secret[..], answer).is_err() {
            return Err(Rejection::new(CHECK, "answer to the challenge")
                .expected("the secret")
                .got("something else")
                .fix("activate the credential in the TPM that holds both keys, and ask for a new challenge"));
        }
        let appointed = appointment.office == Office::Verifier
            && appointment.key == verifier.public_key()
            && appointment.covers_kind(self.kind)
            && appointment.not_before <= at
            && at <= appointment.not_after;
        if !appointed {
            return Err(Check::KeyAttestation
                .refuse("appointment of this verifier", format!("as verifier of {} at {at}", self.kind), "another")
                .fix("have an operator appoint this verifier for machines of this kind"));
        }
        let expires = at.plus(seconds.min(KEY_ATTESTATION_LIFE_MAX)).min(appointment.not_after);
        let word = KeyAttestation {
            verifier: verifier.public_key(),
            ak: self.ak,
            ek: self.ek,
            issued: at,
            expires,
            prev: vec![appointment.digest()],
        };
        Ok(dsse::sign(word, verifier))
    }
}
