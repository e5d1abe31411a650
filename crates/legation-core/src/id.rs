//! A type per noun. Which word when:
//!
//! * [`KeyId`] names any signing key; [`EnclaveId`] is the `KeyId` of an enclave's identity key, used when the *enclave* is meant.
//! * [`TaskId`] is the digest of the client's signed request: whoever holds the request can compute it.
//! * [`FragmentId`] is one piece of a task; [`LeaseId`] is one promise of one enclave for one fragment.
//! * [`ObjectId`] names a sealed object; the [`Digest`] of its ciphertext names the bytes.
//! * [`ProviderId`], [`TenantId`], [`Region`], [`SwarmName`] are names people choose: `[a-z0-9][a-z0-9-]*`, at most 63 characters.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    digest::Digest,
    encoding::{self, EncodingError},
};

/// Longest name of a provider, tenant or region, in bytes (as a DNS label).
pub const NAME_MAX: usize = 63;

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// Wraps the digest that is this id.
            pub const fn new(digest: Digest) -> Self {
                Self(digest)
            }

            /// The digest that is this id.
            pub const fn digest(&self) -> Digest {
                self.0
            }

            /// The first 12 hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.short())
            }
        }

        impl FromStr for $name {
            type Err = EncodingError;

            fn from_str(text: &str) -> Result<Self, EncodingError> {
                text.parse().map(Self)
            }
        }
    };
}

digest_id! {
    /// SHA-256 of the DER SubjectPublicKeyInfo of a signing key.
    KeyId
}
digest_id! {
    /// SHA-256 of the DER SubjectPublicKeyInfo of an enclave's identity key: one boot of one enclave.
    EnclaveId
}
digest_id! {
    /// SHA-256 of the envelope of the client's request.
    TaskId
}

impl From<KeyId> for EnclaveId {
    fn from(key: KeyId) -> Self {
        Self(key.0)
    }
}

impl From<EnclaveId> for KeyId {
    fn from(enclave: EnclaveId) -> Self {
        Self(enclave.0)
    }
}

/// Position of a fragment in its task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct FragmentIndex(pub u32);

/// One piece of a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct FragmentId {
    /// The task.
    pub task: TaskId,
    /// Which of its fragments.
    pub index: FragmentIndex,
}

impl fmt::Display for FragmentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for FragmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.task.short(), self.index)
    }
}

/// One promise of one enclave for one fragment; the number counts leases of the pool since its beginning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease-{}", self.0)
    }
}

/// One reservation: the number is that of the record that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug)]
#[serde(transparent)]
pub struct ReservationId(pub u64);

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reservation-{}", self.0)
    }
}

impl std::str::FromStr for ReservationId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("reservation-").unwrap_or(text).parse().map(Self)
    }
}

/// Term of a manager: grows with every leader; an agent obeys no offer of an older one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub struct Term(pub u64);

/// Position in the journal; the first record is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub struct Seq(pub u64);

/// How many revocations there have been: every verdict says as of which.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub struct RevocationEpoch(pub u64);

/// Name of a sealed object: 16 random bytes chosen by whoever seals it, authenticated with every segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 16]);

impl ObjectId {
    /// Wraps 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::hex(&self.0))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl FromStr for ObjectId {
    type Err = EncodingError;

    fn from_str(text: &str) -> Result<Self, EncodingError> {
        encoding::unhex_array(text).map(Self)
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        encoding::from_text(d)
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not a name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit")]
pub struct NameError {
    got: String,
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks and wraps a name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                let ok = (1..=NAME_MAX).contains(&text.len())
                    && !text.starts_with('-')
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                if ok { Ok(Self(text.into())) } else { Err(NameError { got: text.chars().take(80).collect() }) }
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                encoding::from_text(d)
            }
        }
    };
}

name_id! {
    /// Who owns the machine.
    ProviderId
}
name_id! {
    /// On whose account tasks run.
    TenantId
}
name_id! {
    /// Where the machine stands.
    Region
}
name_id! {
    /// Which swarm key ([`crate::custody`]).
    SwarmName
}
