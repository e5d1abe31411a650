//! The development root: an ARK and an ASK with their keys.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PSS_SHA384},
};
use legation_core::{ProviderId, UnixTime, claims::DevelopmentAnchor};
use zeroize::Zeroizing;

use super::{CERTIFICATE_YEARS, Chip, ChipSpec, DevelopmentError, der, hardware_random};
use crate::{
    pem,
    snp::{Certificate, DEVELOPMENT_ASK, Product},
    x509::Key,
};

/// Seconds of a year of 365 days.
const YEAR: u64 = 365 * 86_400;
/// Common name of a development ARK.
const ARK: &str = "ARK-DEV";
/// PEM labels.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";

/// A development root with its private keys. Whoever holds it can forge any development evidence under it.
pub struct DevelopmentRoot {
    name: String,
    ark: Certificate,
    ask: Certificate,
    ark_key: KeyPair,
    ask_key: KeyPair,
}

impl DevelopmentRoot {
    /// Makes a root with new RSA-4096 keys; valid from `now` for [`CERTIFICATE_YEARS`]. Takes seconds of computation.
    ///
    /// # Errors
    /// When `name` is not a name of the kind providers have, or keys cannot be made.
    pub fn generate(name: &str, now: UnixTime) -> Result<Self, DevelopmentError> {
        ProviderId::new(name).map_err(|e| DevelopmentError::Name(e.to_string()))?;
        let new_key = || KeyPair::generate(KeySize::Rsa4096).map_err(|_| DevelopmentError::Key("generate"));
        let (ark_key, ask_key) = (new_key()?, new_key()?);
        let (ark_name, ask_name) = (der::name(name, ARK), der::name(name, DEVELOPMENT_ASK));
        let ark = der::to_be_signed(&der::ToBeSigned {
            serial: &der::positive(now.0.max(1)),
            issuer: &ark_name,
            subject: &ark_name,
            dates: dates(now),
            spki: &der::rsa_spki(ark_key.public_key().as_ref()),
            extensions: &der::ca_extensions(None, true),
        });
        let ask = der::to_be_signed(&der::ToBeSigned {
            serial: &der::positive(now.0.max(1).saturating_add(1)),
            issuer: &ark_name,
            subject: &ask_name,
            dates: dates(now),
            spki: &der::rsa_spki(ask_key.public_key().as_ref()),
            extensions: &der::ca_extensions(Some(0), false),
        });
        let (ark, ask) = (sign(&ark, &ark_key)?, sign(&ask, &ark_key)?);
        Self::new(&ark, &ask, ark_key, ask_key)
    }

    fn new(ark: &[u8], ask: &[u8], ark_key: KeyPair, ask_key: KeyPair) -> Result<Self, DevelopmentError> {
        let parse = |what, der| Certificate::parse(what, der).map_err(|e| DevelopmentError::File(e.to_string()));
        let (ark, ask) = (parse("development ARK", ark)?, parse("development ASK", ask)?);
        let belongs = |cert: &Certificate, key: &KeyPair| cert.key == Key::Rsa(key.public_key().as_ref().to_vec());
        if !belongs(&ark, &ark_key) || !belongs(&ask, &ask_key) || !ark.signed_by(&ark) || !ask.signed_by(&ark) {
            return Err(DevelopmentError::File("certificates and keys do not belong together".to_owned()));
        }
        let name = ark.locality();
        ProviderId::new(&name).map_err(|e| DevelopmentError::Name(e.to_string()))?;
        Ok(Self { name, ark, ask, ark_key, ask_key })
    }

    /// Its name, as its certificates carry it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What an anchor file lists for this root to be trusted.
    pub fn anchor(&self) -> DevelopmentAnchor {
        DevelopmentAnchor { name: self.name.clone(), ark: self.ark.der.clone() }
    }

    /// Certificate of the ARK, DER.
    pub fn ark(&self) -> &[u8] {
        &self.ark.der
    }

    /// Certificate of the ASK, DER.
    pub fn ask(&self) -> &[u8] {
        &self.ask.der
    }

    /// Serial number of the ASK, for [`Self::revocation_list`].
    pub fn ask_serial(&self) -> Vec<u8> {
        self.ask.serial.clone()
    }

    /// Makes a chip with a new key; its certificate is valid from `now` for [`CERTIFICATE_YEARS`].
    ///
    /// # Errors
    /// For Turin, whose reports are not made here, or when keys cannot be made.
    pub fn issue(&self, spec: &ChipSpec, now: UnixTime) -> Result<Chip, DevelopmentError> {
        if spec.product == Product::Turin || spec.tcb.fmc.is_some() {
            return Err(DevelopmentError::Product(spec.product));
        }
        let key = super::chip::new_key()?;
        let point = key.public_key().as_ref();
        let vcek = der::to_be_signed(&der::ToBeSigned {
            serial: &der::positive(now.0.max(1)),
            issuer: &self.ask.subject,
            subject: &der::name(&self.name, "SEV-VCEK"),
            dates: dates(now),
            spki: &der::p384_spki(point),
            extensions: &der::vcek_extensions(spec.product, &spec.tcb, &spec.chip_id),
        });
        Chip::new(&sign(&vcek, &self.ask_key)?, &self.ask.der, key)
    }

    /// A revocation list of the ARK, DER, fresh for `seconds` from `now`.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn revocation_list(
        &self,
        serials: &[Vec<u8>],
        now: UnixTime,
        seconds: u64,
    ) -> Result<Vec<u8>, DevelopmentError> {
        sign(&der::revocation_list(&self.ark.subject, now, now.plus(seconds), serials), &self.ark_key)
    }

    /// The file of this root: PEM of both certificates and both private keys. Secret.
    ///
    /// # Errors
    /// When the library will not export the keys.
    pub fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, DevelopmentError> {
        let export = |key: &KeyPair| -> Result<Pkcs8V1Der<'static>, DevelopmentError> {
            key.as_der().map_err(|_| DevelopmentError::Key("export"))
        };
        let (ark_key, ask_key) = (export(&self.ark_key)?, export(&self.ask_key)?);
        Ok(pem::write(&[
            (CERTIFICATE, &self.ark.der),
            (CERTIFICATE, &self.ask.der),
            (PRIVATE_KEY, ark_key.as_ref()),
            (PRIVATE_KEY, ask_key.as_ref()),
        ]))
    }

    /// Reads the file of a root.
    ///
    /// # Errors
    /// When it is no such file, or its parts do not belong together.
    pub fn from_pem(text: &[u8]) -> Result<Self, DevelopmentError> {
        let blocks = pem::read(text).map_err(|e| DevelopmentError::File(e.to_string()))?;
        let labels: Vec<_> = blocks.iter().map(|b| b.label.as_str()).collect();
        let ([ark, ask, ark_key, ask_key], [CERTIFICATE, CERTIFICATE, PRIVATE_KEY, PRIVATE_KEY]) =
            (blocks.as_slice(), labels.as_slice())
        else {
            return Err(DevelopmentError::File("not ARK, ASK and their two private keys".to_owned()));
        };
        let import = |der: &[u8]| KeyPair::from_pkcs8(der).map_err(|_| DevelopmentError::Key("import"));
        Self::new(&ark.der, &ask.der, import(&ark_key.der)?, import(&ask_key.der)?)
    }
}

impl std::fmt::Debug for DevelopmentRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DevelopmentRoot({})", self.name)
    }
}

fn dates(now: UnixTime) -> (UnixTime, UnixTime) {
    (now, now.plus(CERTIFICATE_YEARS * YEAR))
}

/// A certificate or list from its signed part.
pub(crate) fn sign(to_be_signed: &[u8], key: &KeyPair) -> Result<Vec<u8>, DevelopmentError> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PSS_SHA384, &hardware_random(), to_be_signed, &mut signature)
        .map_err(|_| DevelopmentError::Key("sign with"))?;
    Ok(der::signed(to_be_signed, &signature))
}
