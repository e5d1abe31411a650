//! COSE receipts (RFC 9942): that an entry is in a log, as one signed CBOR object that any reader of COSE understands.
//!
//! ```text
//! 18([                                              COSE_Sign1 (RFC 9052)
//!   << {1: -8, 4: kid, 395: 1} >>,                  EdDSA; SHA-256 of the key's SubjectPublicKeyInfo; RFC9162_SHA256
//!   {396: {-1: [<< [size, index, [+ hash]] >>]}},   one proof of inclusion (RFC 9942 section 5.2)
//!   nil,                                            the payload is the root, and is not in it: the proof leads there
//!   signature ])
//! ```
//! The path is an array of byte strings, without elements in a tree of one entry. There is one spelling, deterministic CBOR (RFC 8949
//! section 4.2.1); another is refused, as are other labels. Whoever reads it needs the entry and the log's key, and nothing else.
//! What is signed is the root: the size is what the proof needs, and roots of other sizes are reached with it, too.

use coset::{
    CoseSign1, CoseSign1Builder, HeaderBuilder, Label, TaggedCborSerializable as _,
    cbor::{self, Value},
    iana,
};
use legation_core::{Digest, PublicKey, Rejection, Signature, Signer};

use crate::{
    hash::leaf_hash,
    proof::{Inclusion, PATH_MAX},
};

/// Longest receipt read, in bytes.
pub const RECEIPT_MAX: usize = 4096;
/// What the media type of RFC 9942 is.
pub const CONTENT_TYPE: &str = "application/cose; cose-type=\"cose-sign1\"";

/// Verifiable data structure (RFC 9942 section 4).
const VDS: i64 = 395;
/// Proofs of it.
const VDP: i64 = 396;
/// A binary tree by RFC 9162 with SHA-256.
const RFC9162_SHA256: i64 = 1;
/// Proofs of inclusion among the proofs.
const INCLUSION: i64 = -1;

/// Makes the receipt that `entry` is where `proof` says.
///
/// # Errors
/// The proof leads nowhere, or is too long for a receipt.
pub fn sign(proof: &Inclusion, entry: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, Rejection> {
    let root = root(proof, entry)?;
    let key = signer.public_key();
    let made = builder(proof, &key)?
        .create_detached_signature(root.as_bytes(), &[], |message| signer.sign(message).0.to_vec())
        .build();
    made.to_tagged_vec().map_err(|e| malformed().got(e))
}

/// Verifies a receipt for `entry` by the log's key; gives the proof and the root that the log signed.
///
/// # Errors
/// Another spelling, another entry, or another key's.
pub fn verify(receipt: &[u8], entry: &[u8], key: &PublicKey) -> Result<(Inclusion, Digest), Rejection> {
    if receipt.len() > RECEIPT_MAX {
        return Err(malformed().expected(format!("at most {RECEIPT_MAX} bytes")).got(receipt.len()));
    }
    let read = CoseSign1::from_tagged_slice(receipt).map_err(|e| malformed().got(e))?;
    let proof = inclusion(&read).ok_or_else(|| malformed().got("no proof of inclusion in its place"))?;
    // Whatever else it may say, it says nothing else than this.
    let again = builder(&proof, key)?.signature(read.signature.clone()).build().to_tagged_vec();
    if again.map_err(|e| malformed().got(e))? != receipt {
        return Err(malformed()
            .expected("deterministic CBOR with the labels of the format, and the id of this key")
            .got("another spelling, or another key"));
    }
    let root = root(&proof, entry)?;
    let message = builder(&proof, key)?.build().tbs_detached_data(root.as_bytes(), &[]);
    let signature = <[u8; 64]>::try_from(read.signature.as_slice()).map_err(|_| malformed().got("its signature"))?;
    key.verify(&message, &Signature(signature)).map_err(|e| {
        Rejection::new("cose.signature", "signature of the COSE receipt")
            .expected(format!("key {} over the root that the entry and its proof lead to", key.id()))
            .got(e)
            .fix("take the receipt for this statement, from the log that the anchors name")
    })?;
    Ok((proof, root))
}

fn malformed() -> Rejection {
    Rejection::new("cose.format", "the COSE receipt").expected("a receipt of inclusion by RFC 9942")
}

fn root(proof: &Inclusion, entry: &[u8]) -> Result<Digest, Rejection> {
    proof.root(&leaf_hash(entry)).map_err(|e| Rejection::new("cose.proof", "proof of the COSE receipt").got(e))
}

fn builder(proof: &Inclusion, key: &PublicKey) -> Result<CoseSign1Builder, Rejection> {
    if proof.path.len() > PATH_MAX {
        return Err(malformed().got(format!("a path of {} hashes", proof.path.len())));
    }
    let path = proof.path.iter().map(|hash| Value::Bytes(hash.as_bytes().to_vec())).collect();
    let array = Value::Array(vec![Value::from(proof.size), Value::from(proof.index), Value::Array(path)]);
    let mut bytes = Vec::new();
    cbor::ser::into_writer(&array, &mut bytes).map_err(|e| malformed().got(e))?;
    let proofs = Value::Map(vec![(Value::from(INCLUSION), Value::Array(vec![Value::Bytes(bytes)]))]);
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::EdDSA)
        .key_id(Digest::of(&key.spki()).as_bytes().to_vec())
        .value(VDS, Value::from(RFC9162_SHA256))
        .build();
    Ok(CoseSign1Builder::new().protected(protected).unprotected(HeaderBuilder::new().value(VDP, proofs).build()))
}

/// The proof in its place; whether anything else stands beside it is seen when it is written again.
fn inclusion(read: &CoseSign1) -> Option<Inclusion> {
    let proofs = &read.unprotected.rest.iter().find(|(label, _)| *label == Label::Int(VDP))?.1;
    let (_, list) = proofs.as_map()?.iter().find(|(name, _)| *name == Value::from(INCLUSION))?;
    let [Value::Bytes(bytes)] = list.as_array()?.as_slice() else { return None };
    let array: Value = cbor::de::from_reader(bytes.as_slice()).ok()?;
    let [Value::Integer(size), Value::Integer(index), Value::Array(path)] = array.as_array()?.as_slice() else {
        return None;
    };
    if path.len() > PATH_MAX {
        return None;
    }
    let hash = |value: &Value| Some(Digest::from_bytes(value.as_bytes()?.as_slice().try_into().ok()?));
    Some(Inclusion {
        size: u64::try_from(*size).ok()?,
        index: u64::try_from(*index).ok()?,
        path: path.iter().map(hash).collect::<Option<Vec<_>>>()?,
    })
}
