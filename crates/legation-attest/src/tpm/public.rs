//! `TPMT_PUBLIC`: the public area of a key (TPM 2.0 Library, Part 2, section 12.2), restricted to the RSA and ECC keys
//! that attest and endorse.

use aws_lc_rs::signature::RsaPublicKeyComponents;
use legation_core::encoding;
use x509_parser::{prelude::FromDer as _, public_key::RSAPublicKey, x509::SubjectPublicKeyInfo};

use super::{
    algorithm::{self, HashAlg},
    wire::{Malformed, Reader, value},
};
use crate::x509;

/// Largest public area read, in bytes. One of RSA-4096 has about 600.
pub const PUBLIC_MAX: usize = 1024;
/// Bits of the RSA keys taken.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// The exponent that a zero stands for.
const RSA_EXPONENT: u32 = 65_537;

/// A public area.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Public {
    /// Hash algorithm of its name.
    pub name_alg: HashAlg,
    /// What the key may do.
    pub attributes: Attributes,
    /// Its symmetric algorithm, where it protects other keys or credentials.
    pub symmetric: Option<Symmetric>,
    /// Its signing scheme, where it has a fixed one.
    pub scheme: Option<Scheme>,
    /// The key.
    pub key: Key,
    bytes: Vec<u8>,
}

/// AES in CFB mode with keys of this many bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symmetric {
    /// 128 or 256.
    pub bits: u16,
}

/// A fixed signing scheme.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scheme {
    /// Which.
    pub kind: SchemeKind,
    /// With which hash.
    pub hash: HashAlg,
}

/// Kinds of signatures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemeKind {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa,
    /// RSASSA-PSS.
    RsaPss,
    /// ECDSA.
    Ecdsa,
}

/// A public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Key {
    /// RSA.
    Rsa {
        /// Modulus, big-endian without leading zeros.
        modulus: Vec<u8>,
        /// Public exponent.
        exponent: u32,
    },
    /// A point on a curve.
    Ecc {
        /// Which.
        curve: Curve,
        /// Both coordinates, each of the curve's size.
        x: Vec<u8>,
        /// See `x`.
        y: Vec<u8>,
    },
}

/// Curves of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl Curve {
    /// Bytes of a coordinate.
    pub const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// Its `TPM_ECC_CURVE`.
    const fn id(self) -> u16 {
        match self {
            Self::P256 => 0x0003,
            Self::P384 => 0x0004,
        }
    }
}

/// `TPMA_OBJECT`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// Never leaves its TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// Never leaves its parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made the secret part.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// Works on structures of the TPM alone.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// Decrypts.
    pub const DECRYPT: Self = Self(1 << 17);
    /// Signs.
    pub const SIGN: Self = Self(1 << 18);

    /// Names of those known here.
    const NAMES: [(Self, &'static str); 6] = [
        (Self::FIXED_TPM, "fixedTPM"),
        (Self::FIXED_PARENT, "fixedParent"),
        (Self::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin"),
        (Self::RESTRICTED, "restricted"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
    ];
    const MADE_HERE: u32 = Self::FIXED_TPM.0 | Self::FIXED_PARENT.0 | Self::SENSITIVE_DATA_ORIGIN.0;
    const USES: u32 = Self::RESTRICTED.0 | Self::DECRYPT.0 | Self::SIGN.0;

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the key was made in a TPM that it never leaves, and signs what that TPM says and nothing else.
    pub const fn attests(self) -> bool {
        self.0 & (Self::MADE_HERE | Self::USES) == Self::MADE_HERE | Self::RESTRICTED.0 | Self::SIGN.0
    }

    /// Whether the key was made in a TPM that it never leaves, and decrypts for that TPM and for nobody else.
    pub const fn endorses(self) -> bool {
        self.0 & (Self::MADE_HERE | Self::USES) == Self::MADE_HERE | Self::RESTRICTED.0 | Self::DECRYPT.0
    }
}

impl std::fmt::Display for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set: Vec<_> = Self::NAMES.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, name)| *name).collect();
        f.write_str(&if set.is_empty() { "none".to_owned() } else { set.join(" ") })
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attributes({self})")
    }
}

impl Public {
    /// Reads a `TPMT_PUBLIC`.
    ///
    /// # Errors
    /// What is wrong with the bytes, or that the key is of a kind this crate does not take.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > PUBLIC_MAX {
            return Err(Malformed::TooLarge { what: "the public area", got: bytes.len(), max: PUBLIC_MAX });
        }
        let mut r = Reader::new(bytes);
        let kind = r.u16("type")?;
        let name_alg = HashAlg::read(r.u16("nameAlg")?, "nameAlg")?;
        let attributes = Attributes(r.u32("objectAttributes")?);
        r.sized(HashAlg::Sha384.size(), "authPolicy")?;
        let symmetric = symmetric(&mut r)?;
        let scheme = scheme(&mut r)?;
        let key = match kind {
            algorithm::RSA => rsa(&mut r)?,
            algorithm::ECC => ecc(&mut r)?,
            other => return Err(value("type", format!("{other:#06x}, neither RSA nor ECC"))),
        };
        r.finish()?;
        Ok(Self { name_alg, attributes, symmetric, scheme, key, bytes: bytes.to_vec() })
    }

    /// Reads a `TPM2B_PUBLIC`: 16 bits of size, then a `TPMT_PUBLIC`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_sized(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let inner = r.sized(PUBLIC_MAX, "the public area")?;
        r.finish()?;
        Self::parse(inner)
    }

    /// The `TPMT_PUBLIC`, as it was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key's name: `nameAlg || H(TPMT_PUBLIC)` (Part 1, section 16).
    pub fn name(&self) -> Vec<u8> {
        [&self.name_alg.id().to_be_bytes()[..], &self.name_alg.digest(&[&self.bytes])].concat()
    }
}

/// `TPMT_SYM_DEF_OBJECT`.
fn symmetric(r: &mut Reader<'_>) -> Result<Option<Symmetric>, Malformed> {
    match r.u16("symmetric algorithm")? {
        algorithm::NULL => Ok(None),
        algorithm::AES => {
            let (bits, mode) = (r.u16("symmetric key size")?, r.u16("symmetric mode")?);
            if !matches!(bits, 128 | 256) || mode != algorithm::CFB {
                return Err(value("symmetric algorithm", format!("AES-{bits} in mode {mode:#06x}")));
            }
            Ok(Some(Symmetric { bits }))
        }
        other => Err(value("symmetric algorithm", format!("{other:#06x}"))),
    }
}

/// `TPMT_RSA_SCHEME` or `TPMT_ECC_SCHEME`: none, or one that signs.
fn scheme(r: &mut Reader<'_>) -> Result<Option<Scheme>, Malformed> {
    let kind = match r.u16("scheme")? {
        algorithm::NULL => return Ok(None),
        algorithm::RSASSA => SchemeKind::RsaSsa,
        algorithm::RSAPSS => SchemeKind::RsaPss,
        algorithm::ECDSA => SchemeKind::Ecdsa,
        other => return Err(value("scheme", format!("{other:#06x}"))),
    };
    let hash = HashAlg::read(r.u16("hash of the scheme")?, "hash of the scheme")?;
    Ok(Some(Scheme { kind, hash }))
}

fn rsa(r: &mut Reader<'_>) -> Result<Key, Malformed> {
    let bits = usize::from(r.u16("key size")?);
    let exponent = match r.u32("exponent")? {
        0 => RSA_EXPONENT,
        other => other,
    };
    let modulus = r.sized(RSA_BITS.end() / 8, "modulus")?;
    if modulus.len() != bits / 8 || bits % 8 != 0 {
        return Err(value("modulus", format!("{} bytes in a key of {bits} bits", modulus.len())));
    }
    Key::rsa(modulus, exponent)
}

fn ecc(r: &mut Reader<'_>) -> Result<Key, Malformed> {
    let curve = match r.u16("curve")? {
        id if id == Curve::P256.id() => Curve::P256,
        id if id == Curve::P384.id() => Curve::P384,
        other => return Err(value("curve", format!("{other:#06x}, neither P-256 nor P-384"))),
    };
    match r.u16("key derivation")? {
        algorithm::NULL => {}
        other => return Err(value("key derivation", format!("{other:#06x}"))),
    }
    let mut coordinate = |what| r.sized(curve.size(), what).map(|bytes| padded(bytes, curve.size()));
    let (x, y) = (coordinate("x")?, coordinate("y")?);
    Ok(Key::Ecc { curve, x, y })
}

/// A big-endian number with zeros in front: older TPMs leave leading zeros out.
pub(crate) fn padded(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![0; size.saturating_sub(bytes.len())];
    out.extend_from_slice(bytes);
    out
}

impl Key {
    /// An RSA key of a size and an exponent that are taken.
    ///
    /// # Errors
    /// Another size, a modulus that begins with a zero, an even exponent or one.
    pub fn rsa(modulus: &[u8], exponent: u32) -> Result<Self, Malformed> {
        let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let bits = (modulus.len() * 8).saturating_sub(zeros);
        if zeros != 0 || !RSA_BITS.contains(&bits) {
            return Err(value("RSA modulus", format!("{bits} bits")));
        }
        if exponent.is_multiple_of(2) || exponent < 3 {
            return Err(value("RSA exponent", exponent));
        }
        Ok(Self::Rsa { modulus: modulus.to_vec(), exponent })
    }

    /// The key in a DER SubjectPublicKeyInfo (RFC 3279, RFC 5480).
    ///
    /// # Errors
    /// Bytes that are none, or a key of a kind this crate does not take.
    pub fn from_spki(der: &[u8]) -> Result<Self, Malformed> {
        let (rest, spki) =
            SubjectPublicKeyInfo::from_der(der).map_err(|e| value("public key", format!("none ({e})")))?;
        if !rest.is_empty() {
            return Err(Malformed::Trailing(rest.len()));
        }
        let key = x509::Key::read(&spki).map_err(|why| value("public key", why))?;
        Self::from_certificate(&key)
    }

    /// The key of a certificate.
    ///
    /// # Errors
    /// A key of a kind this crate does not take.
    pub fn from_certificate(key: &x509::Key) -> Result<Self, Malformed> {
        let point = |curve: Curve, point: &[u8]| {
            let both = point.get(1..).and_then(|both| both.split_at_checked(curve.size()));
            let (x, y) = both.filter(|(_, y)| y.len() == curve.size()).ok_or_else(|| value("point", "cut short"))?;
            Ok(Self::Ecc { curve, x: x.to_vec(), y: y.to_vec() })
        };
        match key {
            x509::Key::P256(bytes) => point(Curve::P256, bytes),
            x509::Key::P384(bytes) => point(Curve::P384, bytes),
            x509::Key::Rsa(der) => {
                let (_, key) = RSAPublicKey::from_der(der).map_err(|e| value("RSA key", format!("none ({e})")))?;
                let zeros = key.modulus.iter().take_while(|b| **b == 0).count();
                let exponent =
                    key.exponent.iter().try_fold(0_u32, |n, b| n.checked_mul(256)?.checked_add(u32::from(*b)));
                let exponent = exponent.ok_or_else(|| value("RSA exponent", "over 32 bits"))?;
                Self::rsa(key.modulus.get(zeros..).unwrap_or_default(), exponent)
            }
            other => Err(value("public key", format!("a key of kind {}", other.kind()))),
        }
    }

    /// Its uncompressed point (SEC 1 section 2.3.3); none for RSA.
    pub(crate) fn point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Rsa { .. } => None,
            Self::Ecc { x, y, .. } => Some([&[4][..], x, y].concat()),
        }
    }

    /// The parts of an RSA key as the library takes them.
    pub(crate) fn rsa_components(&self) -> Option<RsaPublicKeyComponents<Vec<u8>>> {
        let Self::Rsa { modulus, exponent } = self else { return None };
        let e = exponent.to_be_bytes();
        let zeros = e.iter().take_while(|b| **b == 0).count();
        Some(RsaPublicKeyComponents { n: modulus.clone(), e: e[zeros..].to_vec() })
    }

    /// What names the key in a refusal: kind and the first bytes.
    pub(crate) fn describe(&self) -> String {
        let head = |bytes: &[u8]| encoding::hex(&bytes[..bytes.len().min(8)]);
        match self {
            Self::Rsa { modulus, .. } => format!("RSA-{} key {}..", modulus.len() * 8, head(modulus)),
            Self::Ecc { curve, x, .. } => format!("{curve:?} key {}..", head(x)),
        }
    }
}
