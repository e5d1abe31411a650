//! What certificates say, before anybody verified them: doors of the fuzzer's, which cannot sign, to parsers that lie behind a
//! signature. In no other build.

use legation_core::Rejection;

use crate::{
    nvidia, pem,
    snp::{Certificate, LeafCertificate},
    tpm, x509,
};

/// Reads a certificate of AMD's profile, and the extensions of a VCEK or VLEK in it.
///
/// # Errors
/// `snp.certificate` or `snp.extensions`.
pub fn snp_leaf(der: &[u8]) -> Result<(), Rejection> {
    LeafCertificate::read(&Certificate::parse("certificate", der)?).map(|_| ())
}

/// Reads what a TPM's certificate says beside its key: maker and, of Google's, the instance.
///
/// # Errors
/// That of the certificate's form, or `tpm.certificate`.
pub fn tpm_certificate(der: &[u8]) -> Result<(String, Option<tpm::Instance>), Rejection> {
    let certificate = x509::Certificate::parse("fuzz", "certificate", der)?;
    Ok((tpm::maker(&certificate), tpm::instance(&certificate)?))
}

/// Reads the firmware that a GPU's certificate names in DICE's extensions.
///
/// # Errors
/// That of the certificate's form.
pub fn gpu_firmware(der: &[u8]) -> Result<Option<[u8; 48]>, Rejection> {
    Ok(nvidia::firmware_named(&x509::Certificate::parse("fuzz", "certificate", der)?))
}

/// Reads PEM, and says how many blocks there are; what is written of them reads as the same.
pub fn pem_blocks(text: &[u8]) -> Option<usize> {
    let blocks = pem::read(text).ok()?;
    let parts: Vec<(&str, &[u8])> = blocks.iter().map(|b| (b.label.as_str(), b.der.as_ref())).collect();
    let again = pem::read(&pem::write(&parts)).ok();
    assert_eq!(again.map(|blocks| blocks.len()), Some(blocks.len()), "what was read can be written and read");
    Some(blocks.len())
}
