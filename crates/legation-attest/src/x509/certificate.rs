//! One certificate (RFC 5280 section 4): parsed, bounded, owned, not believed.

use legation_core::{Digest, Rejection, UnixTime};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{ParsedExtension, X509Extension},
    prelude::FromDer,
    time::ASN1Time,
    x509::{X509Name, X509Version},
};

use super::{
    Why,
    signature::{Algorithm, Key, Signed},
};
use crate::oid;

/// Largest certificate read, in bytes.
pub const CERTIFICATE_MAX: usize = 16 * 1024;
/// Most extensions in one certificate.
pub const EXTENSIONS_MAX: usize = 32;
/// Most purposes in one extended key usage.
const PURPOSES_MAX: usize = 16;

/// subjectKeyIdentifier, 2.5.29.14 (RFC 5280).
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];
/// authorityKeyIdentifier, 2.5.29.35 (RFC 5280).
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
/// extKeyUsage, 2.5.29.37 (RFC 5280).
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];

/// A parsed certificate. Nothing in it is believed before [`verify`](super::verify) says so.
#[derive(Clone)]
pub struct Certificate {
    pub(crate) der: Vec<u8>,
    pub(crate) fingerprint: Digest,
    /// SHA-256 of its SubjectPublicKeyInfo, DER: what names the key, whatever certificate is around it.
    pub(crate) key_digest: Digest,
    pub(crate) key: Key,
    pub(crate) subject: Vec<u8>,
    pub(crate) subject_text: String,
    /// The one common name of the subject, where there is exactly one.
    pub(crate) common_name: Option<String>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) issuer_text: String,
    /// The one common name of the issuer, where there is exactly one.
    pub(crate) issuer_common_name: Option<String>,
    pub(crate) serial: Vec<u8>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
    pub(crate) usage: Option<Usage>,
    /// Extended key usages: contents octets of their identifiers.
    pub(crate) purposes: Vec<Vec<u8>>,
    pub(crate) key_id: Option<Vec<u8>>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    /// Every extension: contents octets of the identifier, whether critical, contents of the OCTET STRING.
    pub(crate) extensions: Vec<Extension>,
    /// Why an extension cannot be read that nothing here asks for, where there is one.
    pub(crate) unread: Option<String>,
    signed: Signed,
}

/// What a key may be used for (RFC 5280 section 4.2.1.3); the bits this crate asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// digitalSignature.
    pub sign: bool,
    /// keyCertSign.
    pub certify: bool,
    /// cRLSign.
    pub revoke: bool,
}

/// One extension as it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Extension {
    /// Contents octets of its object identifier.
    pub id: Vec<u8>,
    /// Whether whoever does not understand it must refuse.
    pub critical: bool,
    /// Contents of its OCTET STRING.
    pub value: Vec<u8>,
}

impl Certificate {
    /// Parses DER without anything behind it; `what` names the certificate in the refusal, `check` the check that
    /// refuses.
    ///
    /// # Errors
    /// Not a certificate of version 3 with a key and a signature of the known kinds, or past a bound.
    pub fn parse(check: &str, what: &str, der: &[u8]) -> Result<Self, Rejection> {
        Self::read(der).map_err(|why| {
            Rejection::new(check, what)
                .expected("an X.509 certificate of version 3, in DER")
                .got(why)
                .fix("send the certificate as its authority issued it")
        })
    }

    /// Parses DER; the error says why it is none.
    pub(crate) fn read(der: &[u8]) -> Result<Self, Why> {
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
        let signed = Signed::read(der, tbs.as_ref(), &cert.signature_algorithm, &cert.signature_value)?;
        let mut read = Self {
            der: der.to_vec(),
            fingerprint: Digest::of(der),
            key_digest: Digest::of(tbs.subject_pki.raw),
            key: Key::read(&tbs.subject_pki)?,
            subject: tbs.subject.as_raw().to_vec(),
            subject_text: tbs.subject.to_string(),
            common_name: common_name(&tbs.subject),
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_text: tbs.issuer.to_string(),
            issuer_common_name: common_name(&tbs.issuer),
            serial: serial(tbs.raw_serial()),
            not_before: time(tbs.validity.not_before)?,
            not_after: time(tbs.validity.not_after)?,
            ca: false,
            path_len: None,
            usage: None,
            purposes: Vec::new(),
            key_id: None,
            authority_key_id: None,
            extensions: Vec::new(),
            unread: None,
            signed,
        };
        if tbs.extensions().len() > EXTENSIONS_MAX {
            return Err(format!("{} extensions, more than {EXTENSIONS_MAX}", tbs.extensions().len()));
        }
        for extension in tbs.extensions() {
            read.extension(extension)?;
        }
        Ok(read)
    }

    fn extension(&mut self, extension: &X509Extension<'_>) -> Result<(), Why> {
        let id = extension.oid.as_bytes();
        if self.extensions.iter().any(|e| e.id == id) {
            return Err(format!("extension {} twice", extension.oid));
        }
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => {
                self.ca = basic.ca;
                self.path_len = basic.path_len_constraint;
            }
            ParsedExtension::KeyUsage(usage) => {
                self.usage = Some(Usage {
                    sign: usage.digital_signature(),
                    certify: usage.key_cert_sign(),
                    revoke: usage.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(_) => self.purposes = purposes(extension.value)?,
            ParsedExtension::SubjectKeyIdentifier(id) => self.key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            // One that nobody asks for may be of a form that this parser does not know; a critical one must be
            // understood by name, and these never go unread.
            ParsedExtension::ParseError { error } => {
                let why = format!("extension {} ({error})", extension.oid);
                if extension.critical || is_ours(id) {
                    return Err(why);
                }
                self.unread.get_or_insert(why);
            }
            _ => {}
        }
        let (id, value) = (id.to_vec(), extension.value.to_vec());
        self.extensions.push(Extension { id, critical: extension.critical, value });
        Ok(())
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The DER as it came.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its public key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// SHA-256 of its SubjectPublicKeyInfo, DER: the name of the key, whatever certificate is around it.
    pub fn key_digest(&self) -> Digest {
        self.key_digest
    }

    /// Subject, for people.
    pub fn subject_text(&self) -> &str {
        &self.subject_text
    }

    /// The extension of this identifier (contents octets).
    pub fn extension_of(&self, id: &[u8]) -> Option<&Extension> {
        self.extensions.iter().find(|e| e.id == id)
    }

    /// Whether its extended key usage names this purpose (contents octets).
    pub fn has_purpose(&self, purpose: &[u8]) -> bool {
        self.purposes.iter().any(|p| p == purpose)
    }

    /// Whether `issuer`'s key signed this certificate, over the bytes that came.
    pub fn signed_by(&self, issuer: &Self) -> bool {
        self.signed.verifies_under(&issuer.key)
    }

    /// Whether `at` is inside the dates, ends included (RFC 5280 section 4.1.2.5).
    pub fn covers(&self, at: UnixTime) -> bool {
        self.not_before <= at && at <= self.not_after
    }

    /// Whether it may issue certificates, as far as it says so itself.
    pub(crate) fn certifies(&self) -> bool {
        self.ca && self.usage.is_some_and(|usage| usage.certify)
    }

    /// Whether it says anything of an authority: no leaf does.
    pub(crate) fn claims_authority(&self) -> bool {
        self.ca || self.usage.is_some_and(|usage| usage.certify)
    }

    /// How it was signed.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.signed.algorithm()
    }

    /// Critical extensions beside basic constraints and key usage that are not among `understood`.
    pub(crate) fn not_understood(&self, understood: &[&[u8]]) -> Option<&Extension> {
        self.extensions.iter().filter(|e| e.critical).find(|e| {
            let id = e.id.as_slice();
            id != oid::BASIC_CONSTRAINTS && id != oid::KEY_USAGE && !understood.contains(&id)
        })
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({}, {})", self.subject_text, self.fingerprint.short())
    }
}

fn is_ours(id: &[u8]) -> bool {
    [oid::BASIC_CONSTRAINTS, oid::KEY_USAGE, EXTENDED_KEY_USAGE, SUBJECT_KEY_IDENTIFIER, AUTHORITY_KEY_IDENTIFIER]
        .contains(&id)
}

/// The identifiers of an extended key usage. The parser's own reading sorts well-known ones apart; here all are alike.
fn purposes(value: &[u8]) -> Result<Vec<Vec<u8>>, Why> {
    use x509_parser::asn1_rs::{Oid, SequenceOf};
    let (rest, ids) = SequenceOf::<Oid<'_>>::from_der(value).map_err(|e| format!("extended key usage ({e})"))?;
    if !rest.is_empty() || ids.len() > PURPOSES_MAX {
        return Err("extended key usage of another form".to_owned());
    }
    Ok(ids.iter().map(|id| id.as_bytes().to_vec()).collect())
}

/// A serial number without the zeros that DER puts before a high bit.
pub(crate) fn serial(raw: &[u8]) -> Vec<u8> {
    raw.iter().copied().skip_while(|b| *b == 0).collect()
}

/// A time of a certificate or list.
pub(crate) fn time(time: ASN1Time) -> Result<UnixTime, Why> {
    u64::try_from(time.timestamp()).map(UnixTime).map_err(|_| "a date before 1970".to_owned())
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    let mut names = name.iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}
