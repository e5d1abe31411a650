//! Keys and signatures of certificates and lists, over raw bytes, by the algorithms in use today and no others.
//!
//! ECDSA on P-256, P-384 and P-521 and RSA (PKCS#1 v1.5 and PSS, 2048 to 4096 bits), each with SHA-256, SHA-384 or
//! SHA-512; Ed25519. PSS has one hash throughout and a salt of its length. SHA-1 is not among them.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use legation_core::encoding;
use x509_parser::{
    asn1_rs::BitString,
    prelude::FromDer,
    public_key::RSAPublicKey,
    signature_algorithm::SignatureAlgorithm,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use super::Why;
use crate::oid;

/// ecdsa-with-SHA256, -SHA384, -SHA512, 1.2.840.10045.4.3.2 to 4 (RFC 5758).
const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// sha256-, sha384-, sha512WithRSAEncryption, 1.2.840.113549.1.1.11 to 13 (RFC 4055), without the last number.
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// id-Ed25519, 1.3.101.112 (RFC 8410).
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// id-sha256, -sha384, -sha512, 2.16.840.1.101.3.4.2.1 to 3, without the last number.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// secp256r1, 1.2.840.10045.3.1.7 (RFC 5480).
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp521r1, 1.3.132.0.35 (RFC 5480).
const SECP521R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

/// Fewest and most bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// P-256: uncompressed point, 65 bytes.
    P256(Vec<u8>),
    /// P-384: uncompressed point, 97 bytes.
    P384(Vec<u8>),
    /// P-521: uncompressed point, 133 bytes.
    P521(Vec<u8>),
    /// RSA of 2048 to 4096 bits: DER `RSAPublicKey` (RFC 8017).
    Rsa(Vec<u8>),
    /// Ed25519: 32 bytes (RFC 8032).
    Ed25519(Vec<u8>),
}

/// A hash of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How a signature was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// ECDSA, the signature as a DER sequence of two integers.
    Ecdsa(Hash),
    /// RSASSA-PKCS1-v1_5.
    Pkcs1(Hash),
    /// RSASSA-PSS, MGF1 with the same hash, salt as long as the hash.
    Pss(Hash),
    /// Ed25519.
    Ed25519,
}

impl Key {
    /// Whether the owner of this key made `signature` over `message`; never when key and algorithm are of two families.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        use Hash::{Sha256, Sha384, Sha512};
        let (verifier, key): (&'static dyn VerificationAlgorithm, &[u8]) = match (self, algorithm) {
            (Self::P256(key), Algorithm::Ecdsa(Sha256)) => (&signature::ECDSA_P256_SHA256_ASN1, key),
            (Self::P256(key), Algorithm::Ecdsa(Sha384)) => (&signature::ECDSA_P256_SHA384_ASN1, key),
            (Self::P256(key), Algorithm::Ecdsa(Sha512)) => (&signature::ECDSA_P256_SHA512_ASN1, key),
            (Self::P384(key), Algorithm::Ecdsa(Sha256)) => (&signature::ECDSA_P384_SHA256_ASN1, key),
            (Self::P384(key), Algorithm::Ecdsa(Sha384)) => (&signature::ECDSA_P384_SHA384_ASN1, key),
            (Self::P384(key), Algorithm::Ecdsa(Sha512)) => (&signature::ECDSA_P384_SHA512_ASN1, key),
            (Self::P521(key), Algorithm::Ecdsa(Sha256)) => (&signature::ECDSA_P521_SHA256_ASN1, key),
            (Self::P521(key), Algorithm::Ecdsa(Sha384)) => (&signature::ECDSA_P521_SHA384_ASN1, key),
            (Self::P521(key), Algorithm::Ecdsa(Sha512)) => (&signature::ECDSA_P521_SHA512_ASN1, key),
            (Self::Rsa(key), Algorithm::Pkcs1(Sha256)) => (&signature::RSA_PKCS1_2048_8192_SHA256, key),
            (Self::Rsa(key), Algorithm::Pkcs1(Sha384)) => (&signature::RSA_PKCS1_2048_8192_SHA384, key),
            (Self::Rsa(key), Algorithm::Pkcs1(Sha512)) => (&signature::RSA_PKCS1_2048_8192_SHA512, key),
            (Self::Rsa(key), Algorithm::Pss(Sha256)) => (&signature::RSA_PSS_2048_8192_SHA256, key),
            (Self::Rsa(key), Algorithm::Pss(Sha384)) => (&signature::RSA_PSS_2048_8192_SHA384, key),
            (Self::Rsa(key), Algorithm::Pss(Sha512)) => (&signature::RSA_PSS_2048_8192_SHA512, key),
            (Self::Ed25519(key), Algorithm::Ed25519) => (&signature::ED25519, key),
            _ => return false,
        };
        UnparsedPublicKey::new(verifier, key).verify(message, signature).is_ok()
    }

    /// Bits of the modulus of an RSA key; none for others.
    pub(crate) fn rsa_bits(&self) -> Option<usize> {
        let Self::Rsa(key) = self else { return None };
        RSAPublicKey::from_der(key).ok().map(|(_, key)| key.key_size())
    }

    /// Kind, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
            Self::P521(_) => "P-521",
            Self::Rsa(_) => "RSA",
            Self::Ed25519(_) => "Ed25519",
        }
    }

    /// The key of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
    pub(crate) fn read(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, Why> {
        let bits = &spki.subject_public_key;
        let data = bits.data.as_ref();
        if bits.unused_bits != 0 {
            return Err("key of broken bytes".to_owned());
        }
        let algorithm = spki.algorithm.algorithm.as_bytes();
        if algorithm == oid::RSA_ENCRYPTION {
            let size = spki.parsed().map(|key| key.key_size()).map_err(|e| format!("RSA key ({e})"))?;
            return if RSA_BITS.contains(&size) {
                Ok(Self::Rsa(data.to_vec()))
            } else {
                Err(format!("RSA key of {size} bits, not {} to {}", RSA_BITS.start(), RSA_BITS.end()))
            };
        }
        if algorithm == ED25519 {
            let right = data.len() == 32 && spki.algorithm.parameters.is_none();
            return if right {
                Ok(Self::Ed25519(data.to_vec()))
            } else {
                Err("Ed25519 key of another form".to_owned())
            };
        }
        let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        let Some(curve) = curve.filter(|_| algorithm == oid::EC_PUBLIC_KEY) else {
            return Err(format!("key algorithm {}", spki.algorithm.algorithm));
        };
        let (key, point) = match curve.as_bytes() {
            SECP256R1 => (Self::P256(data.to_vec()), 65),
            oid::SECP384R1 => (Self::P384(data.to_vec()), 97),
            SECP521R1 => (Self::P521(data.to_vec()), 133),
            _ => return Err(format!("elliptic curve {curve}")),
        };
        if data.len() != point || data.first() != Some(&4) {
            return Err(format!("{} key {}..", key.kind(), encoding::hex(&data[..data.len().min(4)])));
        }
        Ok(key)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

/// Bytes and the signature over them.
#[derive(Clone)]
pub(super) struct Signed {
    bytes: Vec<u8>,
    algorithm: Algorithm,
    signature: Vec<u8>,
}

impl Signed {
    /// The signed part with its signature, once both algorithm fields have the same bytes (RFC 5280 section 4.1.1.2)
    /// and everything around the signed part is DER: nothing but a signature vouches for those bytes.
    pub(super) fn read(
        der: &[u8],
        bytes: &[u8],
        outer: &AlgorithmIdentifier<'_>,
        signature: &BitString<'_>,
    ) -> Result<Self, Why> {
        if signature.unused_bits != 0 {
            return Err("signature of broken bytes".to_owned());
        }
        if !is_wrapped(der, bytes, &signature.data).unwrap_or(false) {
            return Err("no DER around the signed part, or two signature algorithm fields that differ".to_owned());
        }
        Ok(Self { bytes: bytes.to_vec(), algorithm: algorithm(outer)?, signature: signature.data.to_vec() })
    }

    /// How the signature says it was made.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the owner of `key` made the signature.
    pub(super) fn verifies_under(&self, key: &Key) -> bool {
        key.verifies(self.algorithm, &self.bytes, &self.signature)
    }
}

/// Whether `der` is `SEQUENCE { signed, the algorithm inside signed, BIT STRING of signature }` and nothing else.
fn is_wrapped(der: &[u8], signed: &[u8], signature: &[u8]) -> Option<bool> {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    let outer = Element::read(der)?;
    let first = Element::read(outer.contents)?;
    let algorithm = Element::read(first.rest)?;
    let value = Element::read(algorithm.rest)?;
    // Inside: perhaps a version, perhaps a serial number, then the algorithm.
    let mut inner = Element::read(first.contents)?;
    while inner.tag != SEQUENCE {
        inner = Element::read(inner.rest)?;
    }
    Some(
        outer.tag == SEQUENCE
            && outer.rest.is_empty()
            && first.tag == SEQUENCE
            && first.whole == signed
            && algorithm.tag == SEQUENCE
            && algorithm.whole == inner.whole
            && value.tag == BIT_STRING
            && value.rest.is_empty()
            && value.contents.split_first() == Some((&0, signature)),
    )
}

/// One DER element (X.690 section 10.1): a tag of one byte, the shortest length.
struct Element<'a> {
    tag: u8,
    whole: &'a [u8],
    contents: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, length) = match *bytes {
            [_, length @ 0..=0x7f, ..] => (2, usize::from(length)),
            [_, 0x81, length @ 0x80..=0xff, ..] => (3, usize::from(length)),
            [_, 0x82, high @ 1..=0xff, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
            [_, 0x83, high @ 1..=0xff, middle, low, ..] => (5, u32::from_be_bytes([0, high, middle, low]) as usize),
            _ => return None,
        };
        let (whole, rest) = bytes.split_at_checked(head + length)?;
        Some(Self { tag: *whole.first()?, whole, contents: whole.get(head..)?, rest })
    }
}

fn algorithm(id: &AlgorithmIdentifier<'_>) -> Result<Algorithm, Why> {
    let unknown = || Err(format!("signature algorithm {}", id.algorithm));
    let bytes = id.algorithm.as_bytes();
    let bare = id.parameters.is_none();
    if bytes == oid::RSASSA_PSS {
        return pss(id).map(Algorithm::Pss);
    }
    if bytes == ED25519 && bare {
        return Ok(Algorithm::Ed25519);
    }
    let Some((last, arc)) = bytes.split_last() else { return unknown() };
    match (arc, last) {
        (ECDSA_SHA2, 2) if bare => Ok(Algorithm::Ecdsa(Hash::Sha256)),
        (ECDSA_SHA2, 3) if bare => Ok(Algorithm::Ecdsa(Hash::Sha384)),
        (ECDSA_SHA2, 4) if bare => Ok(Algorithm::Ecdsa(Hash::Sha512)),
        (PKCS1, 11) => Ok(Algorithm::Pkcs1(Hash::Sha256)),
        (PKCS1, 12) => Ok(Algorithm::Pkcs1(Hash::Sha384)),
        (PKCS1, 13) => Ok(Algorithm::Pkcs1(Hash::Sha512)),
        _ => unknown(),
    }
}

fn pss(id: &AlgorithmIdentifier<'_>) -> Result<Hash, Why> {
    let Ok(SignatureAlgorithm::RSASSA_PSS(pss)) = SignatureAlgorithm::try_from(id) else {
        return Err("RSASSA-PSS parameters that cannot be read".to_owned());
    };
    let mask = pss.mask_gen_algorithm().map_err(|e| format!("mask generation ({e})"))?;
    let (hash, salt) = match pss.hash_algorithm_oid().as_bytes().split_last() {
        Some((1, SHA2)) => (Hash::Sha256, 32),
        Some((2, SHA2)) => (Hash::Sha384, 48),
        Some((3, SHA2)) => (Hash::Sha512, 64),
        _ => return Err(format!("RSASSA-PSS with hash {}", pss.hash_algorithm_oid())),
    };
    let one_hash = mask.mgf.as_bytes() == oid::MGF1 && mask.hash.as_bytes() == pss.hash_algorithm_oid().as_bytes();
    if !one_hash || pss.salt_length() != salt || pss.trailer_field() != 1 {
        return Err("RSASSA-PSS parameters other than one hash, MGF1, and a salt of its length".to_owned());
    }
    Ok(hash)
}
