//! Control messages between a delegator and the enclave that was lent to it: JSON in control frames, contents in data frames.
//!
//! ```text
//! delegator                                    delegate
//!   | Session: describe -------------------------->|
//!   |<------------------------- Session: challenge |
//!   | Submit, then the input on its stream ------->|
//!   |<------------------- Fetch (a module it lacks)|
//!   | data of that stream, or Missing ------------>|
//!   |<-- Session: accepted (if it takes a while)   |
//!   |<------------ Passport (what it answers by)   |
//!   |<------ Answered, then the output on a stream |
//! ```
//! The manager named one passport of the delegate; an answer may rest on another: a newer one, or another verifier's. So a delegate says
//! by which it answers before the first answer on each channel, and again where it changes: words arrive in the order in which they are
//! said.
//!
//! One channel carries one loan; the first message says which. What the words of the session mean is in
//! [`legation_core::delegation::session`]. A control message never comes after data that it announces: control overtakes data,
//! and whoever sends puts it first.

use std::fmt;

use legation_core::{
    Bytes, Digest, Envelope, ObjectId, Signed,
    delegation::{
        Call,
        session::{ToDelegate, ToDelegator},
    },
    encoding::{base64, unbase64_array},
    statement::{Committed, Report},
};
use legation_keys::{Entropy, ObjectKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::message::Peer;

/// Name of a call's input within what its key commits to.
const INPUT: ObjectId = ObjectId::from_bytes(*b"legation-call-in");
/// Name of a call's output.
const OUTPUT: ObjectId = ObjectId::from_bytes(*b"legation-callout");

/// What a delegator says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "say", content = "with", rename_all = "kebab-case")]
pub enum ToLent {
    /// A word of the session, other than a submitted call.
    Session(Box<ToDelegate>),
    /// A call. Its input follows as the data of a stream.
    Submit(Box<Submitted>),
    /// The module asked for on this stream is not here.
    Missing {
        /// Stream the delegate chose.
        stream: u64,
    },
}

/// A call on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submitted {
    /// The call.
    pub call: Signed<Call>,
    /// Stream of its input.
    pub stream: u64,
    /// What its input and output are committed to with.
    pub key: QuestionKey,
}

/// What a delegate says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "say", content = "with", rename_all = "kebab-case")]
pub enum ToBorrower {
    /// A word of the session, other than an answer.
    Session(Box<ToDelegator>),
    /// An answer. The output of a call that completed follows as the data of a stream.
    Answered(Box<Answered>),
    /// By which passport the answers that follow are given, until another is said; with the appointment of its verifier.
    Passport(Box<Peer>),
    /// Send the module with this digest on this stream.
    Fetch {
        /// SHA-256 of the module.
        digest: Digest,
        /// Stream the delegate chose.
        stream: u64,
    },
}

/// An answer on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The report.
    pub report: Signed<Report>,
    /// What it rests on of calls that the delegate made in turn.
    pub behind: Vec<Envelope>,
    /// Stream of the output, of a call that completed.
    pub stream: Option<u64>,
}

/// The secret with which input and outputs of one question are committed to: the same for all who are asked it, so that their
/// answers can be compared. A statement holds commitments alone.
#[derive(Clone, PartialEq, Eq)]
pub struct QuestionKey(Zeroizing<[u8; 32]>);

impl QuestionKey {
    /// A new one.
    pub fn generate(entropy: &mut dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(&mut bytes[..]);
        Self(bytes)
    }

    /// An input, as calls name it.
    pub fn input(&self, bytes: &[u8]) -> Committed {
        self.commit(INPUT, bytes)
    }

    /// An output, as answers name it.
    pub fn output(&self, bytes: &[u8]) -> Committed {
        self.commit(OUTPUT, bytes)
    }

    /// Key of the commitment to an input, for whoever proves: it opens and commits nothing else.
    pub fn input_key(&self) -> Zeroizing<[u8; 32]> {
        legation_keys::commitment_key(&ObjectKey::from_bytes(*self.0), INPUT)
    }

    /// Key of the commitment to an output, likewise.
    pub fn output_key(&self) -> Zeroizing<[u8; 32]> {
        legation_keys::commitment_key(&ObjectKey::from_bytes(*self.0), OUTPUT)
    }

    fn commit(&self, object: ObjectId, bytes: &[u8]) -> Committed {
        let commitment = legation_keys::commitment(&ObjectKey::from_bytes(*self.0), object, bytes);
        Committed { size: Bytes(bytes.len() as u64), commitment }
    }
}

impl fmt::Debug for QuestionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuestionKey(secret)")
    }
}

impl Serialize for QuestionKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&Zeroizing::new(base64(&self.0[..])))
    }
}

impl<'de> Deserialize<'de> for QuestionKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(d)?);
        unbase64_array(&text).map(|bytes| Self(Zeroizing::new(bytes))).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> QuestionKey {
        QuestionKey(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn a_commitment_is_of_one_key_one_side_and_one_text() {
        let base = key(1).input(b"text");
        assert_eq!(base, key(1).input(b"text"));
        for (name, other) in [
            ("key", key(2).input(b"text")),
            ("side", key(1).output(b"text")),
            ("text", key(1).input(b"texT")),
            ("length", key(1).input(b"text\0")),
        ] {
            assert_ne!(base.commitment, other.commitment, "{name}");
        }
    }

    #[test]
    fn a_key_travels_and_is_not_shown() {
        let json = serde_json::to_string(&key(7)).unwrap();
        assert_eq!(serde_json::from_str::<QuestionKey>(&json).unwrap(), key(7));
        assert!(serde_json::from_str::<QuestionKey>("\"AAAA\"").is_err());
        assert_eq!(format!("{:?}", key(7)), "QuestionKey(secret)");
    }
}
