//! How many hold a key and how many open with it, how often it changed hands, and the public half of it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    digest::Digest,
    encoding::{self, Text},
    rejection::Rejection,
};

/// Fewest members of a committee.
pub const MEMBERS_MIN: u16 = 2;
/// Most members of a committee: every one of them is sealed a share by every dealer.
pub const MEMBERS_MAX: u16 = 64;

/// `t` of `n`: 2 ≤ t ≤ n ≤ [`MEMBERS_MAX`], and 2t > n.
///
/// Two sets of `t` have a member in common, so that a committee whose members each leave it once cannot hand over to two others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Numbers", into = "Numbers")]
pub struct Threshold {
    needed: u16,
    members: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    t: u16,
    n: u16,
}

/// Why these numbers are not a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// Too few or too many members.
    #[error("{got} members, expected {MEMBERS_MIN} to {MEMBERS_MAX}")]
    Members {
        /// The members asked for.
        got: u16,
    },
    /// One alone would open, or more are needed than there are.
    #[error("{needed} of {members} are needed, expected 2 to {members}")]
    Needed {
        /// The needed.
        needed: u16,
        /// The members.
        members: u16,
    },
    /// Not a majority: two sets that open need not meet.
    #[error("{needed} of {members} is no majority: two sets of {needed} need not have a member in common")]
    Minority {
        /// The needed.
        needed: u16,
        /// The members.
        members: u16,
    },
}

impl Threshold {
    /// `needed` of `members`.
    ///
    /// # Errors
    /// The bounds of this type.
    pub const fn new(needed: u16, members: u16) -> Result<Self, ThresholdError> {
        if members < MEMBERS_MIN || members > MEMBERS_MAX {
            return Err(ThresholdError::Members { got: members });
        }
        if needed < 2 || needed > members {
            return Err(ThresholdError::Needed { needed, members });
        }
        if 2 * needed <= members {
            return Err(ThresholdError::Minority { needed, members });
        }
        Ok(Self { needed, members })
    }

    /// How many open.
    pub const fn needed(self) -> u16 {
        self.needed
    }

    /// How many have a share.
    pub const fn members(self) -> u16 {
        self.members
    }

    /// Whether at most `most` members with one provider keep it so that no provider opens alone, and that the others open without any one.
    ///
    /// # Errors
    /// `custody.providers`.
    pub fn check_providers(self, most: u16) -> Result<(), Rejection> {
        let Self { needed, members } = self;
        if (1..needed).contains(&most) && members.saturating_sub(most) >= needed {
            return Ok(());
        }
        // Where t = n, nobody may be missing: no bound will do.
        let room = (needed - 1).min(members - needed);
        let expected = if room == 0 { "a smaller threshold".to_owned() } else { format!("1 to {room} for {self}") };
        Err(Rejection::new("custody.providers", "most members with one provider")
            .expected(expected)
            .got(most)
            .fix("fewer than open, so that no provider opens alone, and so many that the others open without it"))
    }
}

impl TryFrom<Numbers> for Threshold {
    type Error = ThresholdError;

    fn try_from(Numbers { t, n }: Numbers) -> Result<Self, ThresholdError> {
        Self::new(t, n)
    }
}

impl From<Threshold> for Numbers {
    fn from(Threshold { needed, members }: Threshold) -> Self {
        Self { t: needed, n: members }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.needed, self.members)
    }
}

/// How often a key has changed hands: 0 for the committee that made it, and one more with each that follows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which swarm key of several in a row: a new one has no share in common with the one before. Handing shares on does not change it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The public half of a swarm key, a compressed point of G2 of BLS12-381: what owners wrap to. It outlives every committee that has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwarmPublicKey(Box<[u8; Self::LEN]>);

impl SwarmPublicKey {
    /// Bytes of a key.
    pub const LEN: usize = 96;

    /// Wraps the bytes; whether they are a valid key is found when something is wrapped to it.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(Box::new(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// SHA-256 of the bytes: what names the key.
    pub fn id(&self) -> Digest {
        Digest::of(&self.0[..])
    }
}

impl fmt::Debug for SwarmPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SwarmPublicKey({})", self.id().short())
    }
}

impl Serialize for SwarmPublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encoding::base64(&self.0[..]))
    }
}

impl<'de> Deserialize<'de> for SwarmPublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(d)?;
        encoding::unbase64_array(&text).map(Self::from_bytes).map_err(serde::de::Error::custom)
    }
}
