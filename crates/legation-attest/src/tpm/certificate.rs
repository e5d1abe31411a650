//! What certificates of TPMs say beside their keys (TCG EK Credential Profile, version 2.5).
//!
//! A certificate of an endorsement key names that purpose; so does one of an attestation key, but Google's name the
//! other's, or none. What cannot be mistaken is what the key is for: an endorsement key decrypts, an attestation key
//! signs. So an attestation key's certificate has the digitalSignature bit and none of those for keys that decrypt.

use legation_core::{Rejection, encoding, printable};
use x509_parser::{
    asn1_rs::{Any, Boolean, Class, FromDer, Integer, Sequence, Tag, Utf8String},
    extensions::{GeneralName, KeyUsage, SubjectAlternativeName},
};

use super::check::Check;
use crate::{oid, x509::Certificate};

/// Longest text taken from a certificate, in bytes.
const TEXT_MAX: usize = 256;
/// The product of a TPM whose certificate names no maker.
const UNNAMED: &str = "tpm";

/// Where Google says an instance runs (extension 1.3.6.1.4.1.11129.2.1.21).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Such as `us-central1-a`.
    pub zone: String,
    /// Id of the project.
    pub project: String,
    /// Name of the instance.
    pub name: String,
}

/// The leaf is for an endorsement key.
pub(super) fn check_endorsement(leaf: &Certificate) -> Result<(), Rejection> {
    if leaf.has_purpose(oid::TCG_EK_CERTIFICATE) {
        return Ok(());
    }
    Err(Check::Certificate
        .refuse("purpose of the endorsement key's certificate", "2.23.133.8.1 in its extended key usage", "others")
        .fix("send the certificate the TPM's maker stored in it"))
}

/// The leaf is for a key that attests.
pub(super) fn check_attestation(leaf: &Certificate) -> Result<(), Rejection> {
    let known = [oid::TCG_AK_CERTIFICATE, oid::TCG_EK_CERTIFICATE];
    if !leaf.purposes.is_empty() && !known.iter().any(|purpose| leaf.has_purpose(purpose)) {
        return Err(Check::Certificate
            .refuse("purpose of the attestation key's certificate", "2.23.133.8.3 in its extended key usage", "others")
            .fix("send the certificate the cloud issued for this key"));
    }
    let usage = leaf.extension_of(oid::KEY_USAGE).and_then(|e| KeyUsage::from_der(&e.value).ok());
    let signs = usage.as_ref().is_some_and(|(_, u)| u.digital_signature());
    let decrypts = usage.is_some_and(|(_, u)| u.key_encipherment() || u.data_encipherment() || u.key_agreement());
    if !signs || decrypts {
        return Err(Check::Certificate
            .refuse("key usage of the attestation key's certificate", "digital signature and no decryption", "others")
            .fix("have an endorsement key's TPM activate a credential instead of sending its certificate"));
    }
    Ok(())
}

/// The maker that a certificate names (TPMManufacturer in the subject alternative name): its four letters in lower case,
/// or the text as it stands.
pub(crate) fn maker(leaf: &Certificate) -> String {
    let named = leaf.extension_of(oid::SUBJECT_ALT_NAME).and_then(|e| manufacturer(&e.value));
    let fits = |text: &String| (1..=TEXT_MAX).contains(&text.len()) && *text == printable::one_line(text);
    let Some(text) = named.filter(fits) else { return UNNAMED.to_owned() };
    let id = text.strip_prefix("id:").and_then(|hex| encoding::unhex(&hex.to_ascii_lowercase()).ok());
    let letters = id.map(|id| id.into_iter().take_while(|b| *b != 0).collect::<Vec<u8>>());
    match letters.map(String::from_utf8) {
        Some(Ok(letters)) if !letters.is_empty() && letters.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            letters.to_ascii_lowercase()
        }
        _ => text.to_ascii_lowercase(),
    }
}

fn manufacturer(value: &[u8]) -> Option<String> {
    let (_, names) = SubjectAlternativeName::from_der(value).ok()?;
    let directories = names.general_names.iter().filter_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name),
        _ => None,
    });
    let mut attributes = directories.flat_map(|name| name.iter_attributes());
    let found = attributes.find(|attribute| attribute.attr_type().as_bytes() == oid::TCG_TPM_MANUFACTURER)?;
    found.as_str().ok().map(str::to_owned)
}

/// The instance that a certificate names, if it is one of Google's production machines.
///
/// # Errors
/// `tpm.certificate` when the extension is there and cannot be read.
pub(crate) fn instance(leaf: &Certificate) -> Result<Option<Instance>, Rejection> {
    let Some(extension) = leaf.extension_of(oid::GOOGLE_INSTANCE) else { return Ok(None) };
    read_instance(&extension.value).ok_or_else(|| {
        Check::Certificate
            .refuse("instance that the certificate names", "zone, project, instance and security properties", "others")
            .fix("send the certificate the cloud issued for this key")
    })
}

/// `SEQUENCE { zone, projectNumber, projectID, instanceID, instanceName, [0] SEQUENCE { .., [1] isProduction, .. } }`.
/// Outer none: not that; inner none: that, of a machine that is not in production.
fn read_instance(value: &[u8]) -> Option<Option<Instance>> {
    fn text(bytes: &[u8]) -> Option<(&[u8], String)> {
        let (rest, text) = Utf8String::from_der(bytes).ok()?;
        let text = text.string();
        (text.len() <= TEXT_MAX).then_some((rest, text))
    }
    let (rest, fields) = Sequence::from_der(value).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let (rest, zone) = text(&fields.content)?;
    let (rest, _) = Integer::from_der(rest).ok()?;
    let (rest, project) = text(rest)?;
    let (rest, _) = Integer::from_der(rest).ok()?;
    let (rest, name) = text(rest)?;
    let production = if rest.is_empty() { false } else { is_production(rest)? };
    Some(production.then_some(Instance { zone, project, name }))
}

fn is_production(properties: &[u8]) -> Option<bool> {
    let (rest, outer) = Any::from_der(properties).ok()?;
    if !rest.is_empty() || outer.header.class() != Class::ContextSpecific || outer.header.tag() != Tag(0) {
        return None;
    }
    let (rest, fields) = Sequence::from_der(outer.data).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut rest: &[u8] = &fields.content;
    while !rest.is_empty() {
        let (behind, field) = Any::from_der(rest).ok()?;
        if field.header.class() == Class::ContextSpecific && field.header.tag() == Tag(1) {
            return Boolean::from_der(field.data).ok().map(|(_, production)| production.bool());
        }
        rest = behind;
    }
    Some(false)
}
