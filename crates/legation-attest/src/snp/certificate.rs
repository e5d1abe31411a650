//! One X.509 certificate as AMD's chain has them (VCEK specification 57230): parsed, bounded, owned, not believed.
//!
//! Only what AMD uses is let in: version 3; RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC
//! 4055); keys of RSA-4096 or P-384; no extension twice; no critical extension but basic constraints and key usage.

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use legation_core::{Rejection, UnixTime, encoding};
use x509_parser::{
    asn1_rs::BitString,
    certificate::X509Certificate,
    extensions::{ParsedExtension, X509Extension},
    prelude::FromDer,
    signature_algorithm::SignatureAlgorithm,
    time::ASN1Time,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name, X509Version},
};

use super::check::Check;
use crate::oid;

/// Largest certificate read, in bytes. AMD's have about 1.7 KiB.
pub const CERTIFICATE_MAX: usize = 8 * 1024;
/// Most extensions in one certificate. AMD's leaves have 11.
pub const EXTENSIONS_MAX: usize = 32;
/// Bits of the modulus of AMD's certifying keys.
const RSA_BITS: usize = 4096;
/// Bytes of an uncompressed point on P-384.
const POINT: usize = 97;

/// A public key of one of the two kinds in the chain.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// RSA-4096: DER `RSAPublicKey`.
    Rsa(Vec<u8>),
    /// P-384: uncompressed point.
    P384(Vec<u8>),
}

/// An extension under AMD's arc.
#[derive(Clone)]
pub(crate) struct AmdExtension {
    /// Contents octets of the identifier after [`oid::AMD`].
    pub(crate) id: Vec<u8>,
    /// Contents of the extension's OCTET STRING.
    pub(crate) value: Vec<u8>,
}

/// A parsed certificate.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) subject_text: String,
    pub(crate) common_name: String,
    /// Locality, empty when there is none: where a development certificate names its root.
    pub(crate) locality: String,
    pub(crate) issuer: Vec<u8>,
    pub(crate) issuer_text: String,
    pub(crate) serial: Vec<u8>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) key: Key,
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
    pub(crate) cert_sign: bool,
    pub(crate) crl_sign: bool,
    pub(crate) amd: Vec<AmdExtension>,
    signed: Signed,
}

/// Bytes and the RSASSA-PSS signature over them.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Signed {
    /// Whether `key` made the signature, with the parameters AMD uses.
    pub(crate) fn verifies_under(&self, key: &Key) -> bool {
        let Key::Rsa(key) = key else { return false };
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key).verify(&self.bytes, &self.signature).is_ok()
    }
}

/// Why bytes are not a certificate of the profile; a lowercase fragment.
type Why = String;

impl Certificate {
    /// Parses DER; `what` names the certificate in the refusal.
    pub(crate) fn parse(what: &str, der: &[u8]) -> Result<Self, Rejection> {
        Self::read(der).map_err(|why| {
            Check::Certificate
                .refuse(what, "an X.509 certificate of AMD's profile, in DER", why)
                .fix("send the certificate as AMD's key distribution service gave it")
        })
    }

    fn read(der: &[u8]) -> Result<Self, Why> {
        if der.len() > CERTIFICATE_MAX {
            return Err(format!("{} bytes, more than {CERTIFICATE_MAX}", der.len()));
        }
        let (rest, cert) = X509Certificate::from_der(der).map_err(|e| format!("no certificate ({e})"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the certificate", rest.len()));
        }
        let tbs = &cert.tbs_certificate;
        if tbs.version != X509Version::V3 {
            return Err(format!("X.509 version {}", tbs.version));
        }
        let signed = signed(tbs.as_ref(), &tbs.signature, &cert.signature_algorithm, &cert.signature_value)?;
        let mut read = Self {
            der: der.to_vec(),
            subject: tbs.subject.as_raw().to_vec(),
            subject_text: tbs.subject.to_string(),
            common_name: common_name(&tbs.subject)?,
            locality: tbs.subject.iter_locality().find_map(|l| l.as_str().ok()).unwrap_or_default().to_owned(),
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_text: tbs.issuer.to_string(),
            serial: serial(tbs.raw_serial()),
            not_before: time(tbs.validity.not_before)?,
            not_after: time(tbs.validity.not_after)?,
            key: key(&tbs.subject_pki)?,
            ca: false,
            path_len: None,
            cert_sign: false,
            crl_sign: false,
            amd: Vec::new(),
            signed,
        };
        unique(tbs.extensions())?;
        for extension in tbs.extensions() {
            read.extension(extension)?;
        }
        Ok(read)
    }

    fn extension(&mut self, extension: &X509Extension<'_>) -> Result<(), Why> {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => {
                self.ca = basic.ca;
                self.path_len = basic.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                self.cert_sign = usage.key_cert_sign();
                self.crl_sign = usage.crl_sign();
            }
            ParsedExtension::ParseError { error } => return Err(format!("extension {} ({error})", extension.oid)),
            _ if extension.critical => return Err(format!("critical extension {}", extension.oid)),
            _ => {
                if let Some(id) = extension.oid.as_bytes().strip_prefix(oid::AMD) {
                    self.amd.push(AmdExtension { id: id.to_vec(), value: extension.value.to_vec() });
                }
            }
        }
        Ok(())
    }

    /// Whether `issuer`'s key signed this certificate.
    pub(crate) fn signed_by(&self, issuer: &Self) -> bool {
        self.signed.verifies_under(&issuer.key)
    }

    /// Whether `at` is inside the dates, ends included (RFC 5280 section 4.1.2.5).
    pub(crate) fn covers(&self, at: UnixTime) -> bool {
        self.not_before <= at && at <= self.not_after
    }
}

/// The signed part with its signature, once both algorithm fields name the one algorithm AMD uses (RFC 5280 section
/// 4.1.1.2 wants them equal).
pub(crate) fn signed(
    bytes: &[u8],
    inner: &AlgorithmIdentifier<'_>,
    outer: &AlgorithmIdentifier<'_>,
    signature: &BitString<'_>,
) -> Result<Signed, Why> {
    if inner != outer {
        return Err("the two signature algorithm fields differ".to_owned());
    }
    let Ok(SignatureAlgorithm::RSASSA_PSS(pss)) = SignatureAlgorithm::try_from(outer) else {
        return Err(format!("signature algorithm {}", outer.algorithm));
    };
    let mask = pss.mask_gen_algorithm().map_err(|e| format!("mask generation ({e})"))?;
    let sha384 = pss.hash_algorithm_oid().as_bytes() == oid::SHA384
        && mask.mgf.as_bytes() == oid::MGF1
        && mask.hash.as_bytes() == oid::SHA384;
    if !sha384 || pss.salt_length() != 48 || pss.trailer_field() != 1 {
        return Err("RSASSA-PSS parameters other than SHA-384, MGF1 with SHA-384, salt of 48 bytes".to_owned());
    }
    if signature.unused_bits != 0 {
        return Err("signature of broken bytes".to_owned());
    }
    Ok(Signed { bytes: bytes.to_vec(), signature: signature.data.to_vec() })
}

/// Refuses too many extensions, and any twice.
fn unique(extensions: &[X509Extension<'_>]) -> Result<(), Why> {
    if extensions.len() > EXTENSIONS_MAX {
        return Err(format!("{} extensions, more than {EXTENSIONS_MAX}", extensions.len()));
    }
    for (i, extension) in extensions.iter().enumerate() {
        if extensions[..i].iter().any(|e| e.oid == extension.oid) {
            return Err(format!("extension {} twice", extension.oid));
        }
    }
    Ok(())
}

/// A serial number without the zeros that DER puts before a high bit.
pub(crate) fn serial(raw: &[u8]) -> Vec<u8> {
    let zeros = raw.iter().take_while(|b| **b == 0).count();
    raw[zeros..].to_vec()
}

/// A time of a certificate or list.
pub(crate) fn time(time: ASN1Time) -> Result<UnixTime, Why> {
    u64::try_from(time.timestamp()).map(UnixTime).map_err(|_| "a date before 1970".to_owned())
}

fn common_name(name: &X509Name<'_>) -> Result<String, Why> {
    let mut names = name.iter_common_name();
    let (Some(cn), None) = (names.next(), names.next()) else {
        return Err("not exactly one common name".to_owned());
    };
    cn.as_str().map(str::to_owned).map_err(|e| format!("common name ({e})"))
}

fn key(spki: &SubjectPublicKeyInfo<'_>) -> Result<Key, Why> {
    let data = spki.subject_public_key.data.as_ref();
    let algorithm = spki.algorithm.algorithm.as_bytes();
    if algorithm == oid::RSA_ENCRYPTION {
        let bits = spki.parsed().map(|key| key.key_size()).map_err(|e| format!("RSA key ({e})"))?;
        return if bits == RSA_BITS { Ok(Key::Rsa(data.to_vec())) } else { Err(format!("RSA key of {bits} bits")) };
    }
    let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    if algorithm != oid::EC_PUBLIC_KEY || curve.is_none_or(|c| c.as_bytes() != oid::SECP384R1) {
        return Err(format!("key algorithm {}", spki.algorithm.algorithm));
    }
    if data.len() != POINT || data[0] != 4 {
        return Err(format!("P-384 key {}..", encoding::hex(&data[..data.len().min(4)])));
    }
    Ok(Key::P384(data.to_vec()))
}
