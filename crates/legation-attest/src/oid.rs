//! Contents octets of the object identifiers that certificates of this crate are read and written with.

/// id-RSASSA-PSS, 1.2.840.113549.1.1.10 (RFC 4055).
pub(crate) const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// id-mgf1, 1.2.840.113549.1.1.8 (RFC 4055).
pub(crate) const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
/// rsaEncryption, 1.2.840.113549.1.1.1 (RFC 3279).
pub(crate) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-sha384, 2.16.840.1.101.3.4.2.2 (RFC 4055).
pub(crate) const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
/// id-ecPublicKey, 1.2.840.10045.2.1 (RFC 5480).
pub(crate) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// secp384r1, 1.3.132.0.34 (RFC 5480).
pub(crate) const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// basicConstraints, 2.5.29.19 (RFC 5280).
pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// keyUsage, 2.5.29.15 (RFC 5280).
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// cRLNumber, 2.5.29.20 (RFC 5280).
pub(crate) const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];

/// organizationalUnitName, 2.5.4.11.
pub(crate) const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 0x04, 0x0b];
/// countryName, 2.5.4.6.
pub(crate) const COUNTRY: &[u8] = &[0x55, 0x04, 0x06];
/// localityName, 2.5.4.7.
pub(crate) const LOCALITY: &[u8] = &[0x55, 0x04, 0x07];
/// organizationName, 2.5.4.10.
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
/// commonName, 2.5.4.3.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// AMD's arc for VCEK and VLEK extensions, 1.3.6.1.4.1.3704.1 (VCEK specification 57230, certificate extensions).
pub(crate) const AMD: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01];
/// structVersion, relative to [`AMD`].
pub(crate) const AMD_STRUCT_VERSION: &[u8] = &[1];
/// productName, relative to [`AMD`].
pub(crate) const AMD_PRODUCT_NAME: &[u8] = &[2];
/// blSPL: boot loader, relative to [`AMD`].
pub(crate) const AMD_BL_SPL: &[u8] = &[3, 1];
/// teeSPL: PSP operating system, relative to [`AMD`].
pub(crate) const AMD_TEE_SPL: &[u8] = &[3, 2];
/// snpSPL: SNP firmware, relative to [`AMD`].
pub(crate) const AMD_SNP_SPL: &[u8] = &[3, 3];
/// spl_4 to spl_7: reserved components, relative to [`AMD`].
pub(crate) const AMD_RESERVED_SPL: [&[u8]; 4] = [&[3, 4], &[3, 5], &[3, 6], &[3, 7]];
/// ucodeSPL: microcode, relative to [`AMD`].
pub(crate) const AMD_UCODE_SPL: &[u8] = &[3, 8];
/// fmcSPL: first mutable code, Turin on, relative to [`AMD`].
pub(crate) const AMD_FMC_SPL: &[u8] = &[3, 9];
/// hwID: the chip, VCEK only, relative to [`AMD`].
pub(crate) const AMD_HWID: &[u8] = &[4];
/// cspID: the cloud provider that holds a VLEK, relative to [`AMD`].
pub(crate) const AMD_CSP_ID: &[u8] = &[5];

/// extKeyUsage of an endorsement key's certificate, 2.23.133.8.1 (TCG EK Credential Profile).
pub(crate) const TCG_EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
/// extKeyUsage of an attestation key's certificate, 2.23.133.8.3 (TCG EK Credential Profile).
pub(crate) const TCG_AK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x03];
/// TPMManufacturer, 2.23.133.2.1 (TCG EK Credential Profile).
pub(crate) const TCG_TPM_MANUFACTURER: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x01];
/// subjectAltName, 2.5.29.17 (RFC 5280).
pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Google's description of a Compute Engine instance, 1.3.6.1.4.1.11129.2.1.21.
pub(crate) const GOOGLE_INSTANCE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x01, 0x15];
