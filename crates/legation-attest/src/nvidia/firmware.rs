//! Which firmware a GPU's leaf was issued for: the extensions of TCG's DICE in it.
//!
//! The boot ROM signs the leaf for the key of one firmware, and writes the SHA-384 of that firmware into it: on Hopper
//! as a composite device id (2.23.133.5.4.1 as NVIDIA uses it), from Blackwell on as DiceTcbInfo with a list of
//! firmware identities (2.23.133.5.4.1.1; here the list is field 6).

use x509_parser::{
    asn1_rs::{Any, Class, Tag},
    prelude::FromDer,
};

use crate::{oid, x509::Certificate};

/// 2.23.133.5.4.1.
const COMPOSITE_DEVICE_ID: &[u8] = &[0x67, 0x81, 0x05, 0x05, 0x04, 0x01];
/// 2.23.133.5.4.1.1.
const TCB_INFO: &[u8] = &[0x67, 0x81, 0x05, 0x05, 0x04, 0x01, 0x01];
/// fwids of DiceTcbInfo.
const FWIDS: Tag = Tag(6);
/// Most elements read in one sequence.
const ELEMENTS_MAX: usize = 16;

/// The firmware the leaf was issued for: the first identity it names, the one that its key depends on.
pub(crate) fn certified(leaf: &Certificate) -> Option<[u8; 48]> {
    if let Some(extension) = leaf.extension_of(COMPOSITE_DEVICE_ID) {
        // SEQUENCE { version, SubjectPublicKeyInfo, SEQUENCE { hash, digest } }
        return identity(elements(whole(&extension.value)?.data)?.get(2)?);
    }
    let extension = leaf.extension_of(TCB_INFO)?;
    let info = elements(whole(&extension.value)?.data)?;
    let list = info.into_iter().find(|e| e.class() == Class::ContextSpecific && e.tag() == FWIDS)?;
    identity(elements(list.data)?.first()?)
}

/// One SEQUENCE and nothing behind it.
fn whole(bytes: &[u8]) -> Option<Any<'_>> {
    let (rest, any) = Any::from_der(bytes).ok()?;
    (rest.is_empty() && any.tag() == Tag::Sequence).then_some(any)
}

fn elements(mut bytes: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let (rest, any) = Any::from_der(bytes).ok().filter(|_| elements.len() < ELEMENTS_MAX)?;
        elements.push(any);
        bytes = rest;
    }
    Some(elements)
}

/// `SEQUENCE { sha384, OCTET STRING }`.
fn identity(sequence: &Any<'_>) -> Option<[u8; 48]> {
    let parts = elements(sequence.data)?;
    let [hash, digest] = parts.as_slice() else { return None };
    let right = hash.tag() == Tag::Oid && hash.data == oid::SHA384 && digest.tag() == Tag::OctetString;
    if right { digest.data.try_into().ok() } else { None }
}
