//! The little DER (X.690) that development certificates need, written and never read.

use legation_core::UnixTime;

use crate::{
    oid,
    snp::{DEVELOPMENT, Product, TcbVersion},
};

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[n]`, constructed.
const CONTEXT: u8 = 0xa0;

/// What is signed of a certificate.
pub(crate) struct ToBeSigned<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) dates: (UnixTime, UnixTime),
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: &'a [Vec<u8>],
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = vec![tag];
    match len {
        0..=0x7f => out.push(len as u8),
        0x80..=0xff => out.extend([0x81, len as u8]),
        _ => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// INTEGER of a positive big-endian number without leading zeros.
fn integer(number: &[u8]) -> Vec<u8> {
    match number.first() {
        None => tlv(INTEGER, &[&[0]]),
        Some(0x80..) => tlv(INTEGER, &[&[0], number]),
        Some(_) => tlv(INTEGER, &[number]),
    }
}

fn byte(value: u8) -> Vec<u8> {
    integer(if value == 0 { &[] } else { std::slice::from_ref(&value) })
}

/// UTCTime through 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5).
fn time(time: UnixTime) -> Vec<u8> {
    let digits: String = time.to_string().chars().filter(char::is_ascii_digit).collect();
    match digits.as_str() {
        early if early < "2050" => tlv(UTC_TIME, &[&early.as_bytes()[2..], b"Z"]),
        late => tlv(GENERALIZED_TIME, &[late.as_bytes(), b"Z"]),
    }
}

/// The subject of a development certificate: it says DEVELOPMENT, that it is not AMD's, and which root it is of.
pub(crate) fn name(root: &str, common_name: &str) -> Vec<u8> {
    let unit = format!("legation {DEVELOPMENT}");
    let attribute = |id: &[u8], tag: u8, text: &str| {
        tlv(SET, &[&tlv(SEQUENCE, &[&tlv(OID, &[id]), &tlv(tag, &[text.as_bytes()])])])
    };
    tlv(
        SEQUENCE,
        &[
            &attribute(oid::ORGANIZATIONAL_UNIT, UTF8_STRING, &unit),
            &attribute(oid::COUNTRY, PRINTABLE_STRING, "XX"),
            &attribute(oid::LOCALITY, UTF8_STRING, root),
            &attribute(oid::ORGANIZATION, UTF8_STRING, "legation development root - NOT AMD"),
            &attribute(oid::COMMON_NAME, UTF8_STRING, common_name),
        ],
    )
}

/// SubjectPublicKeyInfo of a DER `RSAPublicKey` (RFC 3279).
pub(crate) fn rsa_spki(key: &[u8]) -> Vec<u8> {
    let algorithm = tlv(SEQUENCE, &[&tlv(OID, &[oid::RSA_ENCRYPTION]), &tlv(NULL, &[])]);
    tlv(SEQUENCE, &[&algorithm, &tlv(BIT_STRING, &[&[0], key])])
}

/// SubjectPublicKeyInfo of a point on P-384 (RFC 5480).
pub(crate) fn p384_spki(point: &[u8]) -> Vec<u8> {
    let algorithm = tlv(SEQUENCE, &[&tlv(OID, &[oid::EC_PUBLIC_KEY]), &tlv(OID, &[oid::SECP384R1])]);
    tlv(SEQUENCE, &[&algorithm, &tlv(BIT_STRING, &[&[0], point])])
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384, salt of 48 bytes (RFC 4055), spelled as AMD's certificates spell it.
fn pss() -> Vec<u8> {
    let sha384 = tlv(SEQUENCE, &[&tlv(OID, &[oid::SHA384]), &tlv(NULL, &[])]);
    let mgf1 = tlv(SEQUENCE, &[&tlv(OID, &[oid::MGF1]), &sha384]);
    let parameters = [
        tlv(CONTEXT, &[&sha384]),
        tlv(CONTEXT | 1, &[&mgf1]),
        tlv(CONTEXT | 2, &[&byte(48)]),
        tlv(CONTEXT | 3, &[&byte(1)]),
    ];
    tlv(SEQUENCE, &[&tlv(OID, &[oid::RSASSA_PSS]), &tlv(SEQUENCE, &[&parameters.concat()])])
}

pub(crate) fn extension(id: &[&[u8]], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    tlv(SEQUENCE, &[&tlv(OID, id), &critical, &tlv(OCTET_STRING, &[value])])
}

/// Extensions of a certificate authority, critical as AMD's are.
pub(crate) fn ca_extensions(path_len: Option<u8>, crl_sign: bool) -> Vec<Vec<u8>> {
    let path_len = path_len.map(byte).unwrap_or_default();
    let constraints = tlv(SEQUENCE, &[&tlv(BOOLEAN, &[&[0xff]]), &path_len]);
    // Bits from the left: 5 keyCertSign, 6 cRLSign; the first byte counts unused ones.
    let usage: &[u8] = if crl_sign { &[1, 0x06] } else { &[2, 0x04] };
    vec![
        extension(&[oid::BASIC_CONSTRAINTS], true, &constraints),
        extension(&[oid::KEY_USAGE], true, &tlv(BIT_STRING, &[usage])),
    ]
}

/// Extensions of a VCEK (VCEK specification 57230), in AMD's order.
pub(crate) fn vcek_extensions(product: Product, tcb: &TcbVersion, hwid: &[u8]) -> Vec<Vec<u8>> {
    let amd = |id: &[u8], value: &[u8]| extension(&[oid::AMD, id], false, value);
    let mut out = vec![
        amd(oid::AMD_STRUCT_VERSION, &byte(0)),
        amd(oid::AMD_PRODUCT_NAME, &tlv(IA5_STRING, &[product.certified_name().as_bytes()])),
        amd(oid::AMD_BL_SPL, &byte(tcb.bootloader)),
        amd(oid::AMD_TEE_SPL, &byte(tcb.tee)),
    ];
    out.extend(oid::AMD_RESERVED_SPL.map(|id| amd(id, &byte(0))));
    out.push(amd(oid::AMD_SNP_SPL, &byte(tcb.snp)));
    out.push(amd(oid::AMD_UCODE_SPL, &byte(tcb.microcode)));
    out.push(amd(oid::AMD_HWID, hwid));
    out
}

/// The extension that makes a leaf a VLEK. There are no development VLEKs; tests forge them.
#[cfg(test)]
pub(crate) fn csp_extension(id: &str) -> Vec<u8> {
    extension(&[oid::AMD, oid::AMD_CSP_ID], false, &tlv(IA5_STRING, &[id.as_bytes()]))
}

/// The signed part of a certificate.
pub(crate) fn to_be_signed(cert: &ToBeSigned<'_>) -> Vec<u8> {
    let (from, until) = cert.dates;
    tlv(
        SEQUENCE,
        &[
            &tlv(CONTEXT, &[&byte(2)]),
            &integer(cert.serial),
            &pss(),
            cert.issuer,
            &tlv(SEQUENCE, &[&time(from), &time(until)]),
            cert.subject,
            cert.spki,
            &tlv(CONTEXT | 3, &[&tlv(SEQUENCE, &[&cert.extensions.concat()])]),
        ],
    )
}

/// The signed part of a revocation list of version 2 (RFC 5280 section 5.1).
pub(crate) fn revocation_list(issuer: &[u8], now: UnixTime, next: UnixTime, serials: &[Vec<u8>]) -> Vec<u8> {
    let entries =
        serials.iter().map(|serial| tlv(SEQUENCE, &[&integer(serial), &time(now)])).collect::<Vec<_>>().concat();
    // The list of entries is absent rather than empty.
    let entries = if entries.is_empty() { entries } else { tlv(SEQUENCE, &[&entries]) };
    let number = extension(&[oid::CRL_NUMBER], false, &integer(&positive(now.0)));
    tlv(
        SEQUENCE,
        &[&byte(1), &pss(), issuer, &time(now), &time(next), &entries, &tlv(CONTEXT, &[&tlv(SEQUENCE, &[&number])])],
    )
}

/// Signed part, algorithm and signature together: a certificate or a list.
pub(crate) fn signed(to_be_signed: &[u8], signature: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[to_be_signed, &pss(), &tlv(BIT_STRING, &[&[0], signature])])
}

/// A number as its big-endian bytes without leading zeros.
pub(crate) fn positive(number: u64) -> Vec<u8> {
    number.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect()
}
