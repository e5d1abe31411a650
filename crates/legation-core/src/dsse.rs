//! DSSE envelopes (secure-systems-lab DSSE v1) around in-toto Statements v1, signed with Ed25519.
//!
//! An envelope is kept as it travels: its payload bytes are what was signed, its digest is the SHA-256 of its compact JSON
//! in the field order below, which `jq -c` reproduces. Reading takes exactly these fields, with hexadecimal and base64 in
//! their one spelling; white space and the order of fields do not reach the digest, so an envelope has one digest. (Files
//! that must not change by a byte hold their whole text against the one spelling: see [`crate::receipt`].) In a payload, structs
//! are objects and words are texts: other readers would find nothing in the arrays that serde reads in their place.
//!
//! `{"payloadType":"application/vnd.in-toto+json","payload":"<base64>","signatures":[{"keyid":"<hex>","sig":"<base64>"}]}`

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    digest::Digest,
    encoding::{self, EncodingError, Text},
    id::KeyId,
    key::{BadSignature, PublicKey, Signature, Signer},
    objects,
};

/// The one payload type (in-toto attestation framework v1).
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// `_type` of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Largest payload accepted, in bytes.
pub const PAYLOAD_MAX: usize = 1 << 20;
/// Most subjects in one statement.
pub const SUBJECTS_MAX: usize = 4096;

/// One signed statement as it travels. Clones share its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Arc<[u8]>,
    keyid: KeyId,
    signature: Signature,
    digest: Digest,
}

/// What a statement is about: something with a digest.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What it is called in the statement, such as `output`.
    pub name: String,
    /// Its digests; ours have exactly SHA-256.
    pub digest: SubjectDigest,
}

/// The digest set of a subject, restricted to SHA-256.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectDigest {
    /// SHA-256.
    pub sha256: Digest,
}

impl Subject {
    /// A subject by name and digest.
    pub fn new(name: impl Into<String>, sha256: Digest) -> Self {
        Self { name: name.into(), digest: SubjectDigest { sha256 } }
    }
}

/// What a statement says. Each predicate has one type URI and lists the envelopes it rests on.
pub trait Predicate: Serialize + DeserializeOwned {
    /// The predicate type URI.
    const TYPE: &'static str;
    /// Digests of the envelopes this one rests on, so that statements form a closed DAG.
    fn prev(&self) -> &[Digest];
    /// What the statement is about.
    fn subjects(&self) -> Vec<Subject>;
    /// The key it names as its signer. Whether that key *may* say this is for the reader to check.
    fn signer(&self) -> PublicKey;
}

/// An in-toto Statement v1 with a predicate of ours.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement<P> {
    /// Always [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// Always `P::TYPE`.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What it says.
    pub predicate: P,
}

/// A statement whose signature, by the key it names, was checked, with the envelope it came in. It travels as its envelope
/// and is checked whenever it is read; whether that key may say this is for the reader to check. Clones share it.
#[derive(PartialEq, Eq, Debug)]
pub struct Signed<P> {
    envelope: Envelope,
    predicate: Arc<P>,
}

impl<P> Clone for Signed<P> {
    fn clone(&self) -> Self {
        Self { envelope: self.envelope.clone(), predicate: self.predicate.clone() }
    }
}

/// Why an envelope was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the one JSON spelling of an envelope.
    #[error("not an envelope: {0}")]
    Malformed(String),
    /// Payload or part of it is larger than allowed.
    #[error("{what} is larger than {max}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Signed by another key than the one it should be signed by.
    #[error("signed by key {got}, expected key {expected}")]
    WrongKey {
        /// Key that should have signed.
        expected: KeyId,
        /// Key named in the envelope.
        got: KeyId,
    },
    /// The signature is not over this payload by this key.
    #[error("signature does not verify under key {key}")]
    BadSignature {
        /// Key named in the envelope.
        key: KeyId,
    },
    /// The payload is not a statement of the wanted type.
    #[error("not a `{wanted}` statement: {why}")]
    WrongStatement {
        /// Type URI wanted.
        wanted: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// Pre-authentication encoding of DSSE v1: what is signed.
fn pae(payload: &[u8]) -> Vec<u8> {
    const { assert!(PAYLOAD_TYPE.len() == 28) }
    let length = payload.len().to_string();
    [b"DSSEv1 28 ", PAYLOAD_TYPE.as_bytes(), b" ", length.as_bytes(), b" ", payload].concat()
}

/// A statement that waits for its signature: for keys that may be out of reach, such as those in a hardware token, which a [`Signer`]
/// must not be.
pub struct Unsigned<P> {
    payload: Vec<u8>,
    message: Vec<u8>,
    predicate: P,
}

/// Writes `predicate` as a statement that is to be signed.
pub fn unsigned<P: Predicate>(predicate: P) -> Unsigned<P> {
    let statement = Statement {
        statement_type: STATEMENT_TYPE.to_owned(),
        subject: predicate.subjects(),
        predicate_type: P::TYPE.to_owned(),
        predicate,
    };
    // Our predicates are plain data with string keys: writing them to JSON cannot fail.
    let payload = serde_json::to_vec(&statement).unwrap_or_default();
    Unsigned { message: pae(&payload), payload, predicate: statement.predicate }
}

/// Signs `predicate` as a statement.
pub fn sign<P: Predicate>(predicate: P, signer: &dyn Signer) -> Signed<P> {
    let unsigned = unsigned(predicate);
    let signature = signer.sign(&unsigned.message);
    unsigned.with(signer.public_key().id(), signature)
}

impl<P: Predicate> Unsigned<P> {
    /// The bytes to sign.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The statement with its signature, which is checked: it may have come a long way.
    ///
    /// # Errors
    /// It is not over this statement by the key that the statement names as its signer.
    pub fn signed(self, signature: Signature) -> Result<Signed<P>, BadSignature> {
        let key = self.predicate.signer();
        key.verify(&self.message, &signature)?;
        Ok(self.with(key.id(), signature))
    }
}

impl<P> Unsigned<P> {
    fn with(self, key: KeyId, signature: Signature) -> Signed<P> {
        let (encoded, sig) = (encoding::base64(&self.payload), encoding::base64(&signature.0));
        let envelope = Envelope::new((self.payload, &encoded), key, (signature, &sig));
        Signed { envelope, predicate: Arc::new(self.predicate) }
    }
}

impl Envelope {
    /// Payload and signature, each with its base64.
    fn new((payload, encoded): (Vec<u8>, &str), keyid: KeyId, (signature, sig): (Signature, &str)) -> Self {
        let key = encoding::hex(keyid.digest().as_bytes());
        let digest = Digest::of_parts(&Self::pieces(encoded, &key, sig).map(str::as_bytes));
        Self { payload: payload.into(), keyid, signature, digest }
    }

    /// The one JSON spelling, in pieces.
    fn pieces<'a>(encoded: &'a str, keyid: &'a str, sig: &'a str) -> [&'a str; 7] {
        const HEAD: &str = r#"{"payloadType":"application/vnd.in-toto+json","payload":""#;
        [HEAD, encoded, r#"","signatures":[{"keyid":""#, keyid, r#"","sig":""#, sig, r#""}]}"#]
    }

    /// The one JSON spelling.
    pub fn to_json(&self) -> String {
        let (payload, sig) = (encoding::base64(&self.payload), encoding::base64(&self.signature.0));
        Self::pieces(&payload, &self.keyid.to_string(), &sig).concat()
    }

    /// SHA-256 of [`Self::to_json`]: the name of this envelope in `prev`.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Name of the key the envelope says it is signed by. A hint until the signature was checked.
    pub fn keyid(&self) -> KeyId {
        self.keyid
    }

    /// The bytes that were signed (before pre-authentication encoding).
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Type URI of the statement inside, unchecked: to choose what to open it as.
    pub fn predicate_type(&self) -> Result<String, EnvelopeError> {
        #[derive(Deserialize)]
        struct Peek {
            #[serde(rename = "predicateType")]
            predicate_type: String,
        }
        objects::from_slice::<Peek>(&self.payload)
            .map(|p| p.predicate_type)
            .map_err(|e| EnvelopeError::Malformed(e.to_string()))
    }

    /// Reads the statement without believing it: for finding the key that must have signed it.
    pub fn peek<P: Predicate>(&self) -> Result<P, EnvelopeError> {
        self.statement().map(|s| s.predicate)
    }

    fn statement<P: Predicate>(&self) -> Result<Statement<P>, EnvelopeError> {
        let wrong = |why: String| EnvelopeError::WrongStatement { wanted: P::TYPE, why };
        if self.payload.len() > PAYLOAD_MAX {
            return Err(EnvelopeError::TooLarge { what: "payload", max: PAYLOAD_MAX });
        }
        let statement: Statement<P> = objects::from_slice(&self.payload).map_err(|e| wrong(e.to_string()))?;
        if statement.statement_type != STATEMENT_TYPE {
            return Err(wrong(format!("_type is `{}`", statement.statement_type)));
        }
        if statement.predicate_type != P::TYPE {
            return Err(wrong(format!("predicateType is `{}`", statement.predicate_type)));
        }
        if statement.subject.len() > SUBJECTS_MAX {
            return Err(EnvelopeError::TooLarge { what: "number of subjects", max: SUBJECTS_MAX });
        }
        if statement.subject != statement.predicate.subjects() {
            return Err(wrong("subjects do not match the predicate".to_owned()));
        }
        Ok(statement)
    }

    /// Checks that this envelope holds a `P` and is signed by the key that it names as its signer.
    ///
    /// # Errors
    /// Another key, a bad signature, or a payload that is no statement of this type.
    pub fn open<P: Predicate>(&self) -> Result<Signed<P>, EnvelopeError> {
        let predicate = self.statement::<P>()?.predicate;
        let key = predicate.signer();
        let expected = key.id();
        if self.keyid != expected {
            return Err(EnvelopeError::WrongKey { expected, got: self.keyid });
        }
        key.verify(&pae(&self.payload), &self.signature).map_err(|_| EnvelopeError::BadSignature { key: expected })?;
        Ok(Signed { envelope: self.clone(), predicate: Arc::new(predicate) })
    }

    /// As [`Self::open`], and the signer is `key`.
    ///
    /// # Errors
    /// As [`Self::open`], or another signer.
    pub fn open_by<P: Predicate>(&self, key: &PublicKey) -> Result<Signed<P>, EnvelopeError> {
        let signed = self.open::<P>()?;
        if signed.predicate.signer() == *key {
            Ok(signed)
        } else {
            Err(EnvelopeError::WrongKey { expected: key.id(), got: self.keyid })
        }
    }
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({} by {}, {} bytes)", self.digest.short(), self.keyid.short(), self.payload.len())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(rename = "payloadType", borrow)]
    payload_type: Text<'a>,
    #[serde(borrow)]
    payload: Text<'a>,
    #[serde(borrow)]
    signatures: Vec<WireSignature<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature<'a> {
    keyid: KeyId,
    #[serde(borrow)]
    sig: Text<'a>,
}

impl TryFrom<Wire<'_>> for Envelope {
    type Error = EnvelopeError;

    fn try_from(wire: Wire<'_>) -> Result<Self, EnvelopeError> {
        let bad = |e: EncodingError| EnvelopeError::Malformed(e.to_string());
        let (Text(payload_type), Text(text)) = (wire.payload_type, wire.payload);
        if payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::Malformed(format!("payloadType is `{payload_type}`")));
        }
        let [signature] = wire.signatures.as_slice() else {
            return Err(EnvelopeError::Malformed(format!("{} signatures, expected one", wire.signatures.len())));
        };
        if text.len() > PAYLOAD_MAX.div_ceil(3) * 4 {
            return Err(EnvelopeError::TooLarge { what: "payload", max: PAYLOAD_MAX });
        }
        let payload = encoding::unbase64(&text).map_err(bad)?;
        if payload.len() > PAYLOAD_MAX {
            return Err(EnvelopeError::TooLarge { what: "payload", max: PAYLOAD_MAX });
        }
        let Text(signed) = &signature.sig;
        let sig = Signature(encoding::unbase64_array(signed).map_err(bad)?);
        // Only one base64 text gives these bytes: it is the one the encoder writes.
        Ok(Self::new((payload, &text), signature.keyid, (sig, signed)))
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Out<'a> {
            #[serde(rename = "payloadType")]
            payload_type: &'a str,
            payload: &'a str,
            signatures: [OutSignature; 1],
        }
        #[derive(Serialize)]
        struct OutSignature {
            keyid: KeyId,
            sig: String,
        }
        let signature = OutSignature { keyid: self.keyid, sig: encoding::base64(&self.signature.0) };
        let payload = encoding::base64(&self.payload);
        Out { payload_type: PAYLOAD_TYPE, payload: &payload, signatures: [signature] }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Wire::deserialize(d)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl<P> Signed<P> {
    /// The envelope it came in.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// What it says.
    pub fn predicate(&self) -> &P {
        &self.predicate
    }

    /// Name of the envelope.
    pub fn digest(&self) -> Digest {
        self.envelope.digest
    }
}

impl<P> std::ops::Deref for Signed<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.predicate
    }
}

impl<P> Serialize for Signed<P> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.envelope.serialize(s)
    }
}

impl<'de, P: Predicate> Deserialize<'de> for Signed<P> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Envelope::deserialize(d)?.open().map_err(serde::de::Error::custom)
    }
}
