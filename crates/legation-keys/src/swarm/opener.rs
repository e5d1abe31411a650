//! Partials are gathered and, when there are enough, open what was wrapped under their label.
//!
//! They are not verified one by one: the opening verifies itself, and only when it fails, each is looked at, and those that lied
//! are named and left out.

use std::collections::BTreeMap;

use legation_core::{Digest, custody::Label};

use super::{curve, release::Partial, roster::Roster, sealed::SwarmSealed, terms::ShareIndex};
use crate::object::ObjectKey;

/// Why a partial does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Of another committee, or another epoch of this one.
    #[error("of roster {got}, expected {expected}")]
    OtherRoster {
        /// The roster asked of.
        expected: Digest,
        /// The partial's.
        got: Digest,
    },
    /// On another label.
    #[error("on label {got}, expected {expected}")]
    OtherLabel {
        /// The label asked for.
        expected: Digest,
        /// The partial's.
        got: Digest,
    },
    /// The roster has no such member.
    #[error("the roster has no member {index}")]
    NotMember {
        /// Who it claims to be of.
        index: ShareIndex,
    },
    /// There is one of this member already.
    #[error("a second partial of member {member}")]
    Twice {
        /// Whose.
        member: ShareIndex,
    },
    /// Not the member's signature.
    #[error("member {member} lied: this is not its signature on the label")]
    Invalid {
        /// Who lied.
        member: ShareIndex,
    },
}

/// Why nothing opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Wrapped to another swarm.
    #[error("wrapped to swarm key {got}, not to {expected}")]
    OtherKey {
        /// This swarm's.
        expected: Digest,
        /// The key it names.
        got: Digest,
    },
    /// Wrapped under another label.
    #[error("wrapped under label {got}, not {expected}")]
    OtherLabel {
        /// The label that was released.
        expected: Digest,
        /// The label it names.
        got: Digest,
    },
    /// Too few partials.
    #[error("{have} partials, {need} open")]
    TooFew {
        /// There are.
        have: u16,
        /// It takes.
        need: u16,
    },
    /// Too few are left without those who lied.
    #[error("{} members lied ({}), which leaves {have} partials, and {need} open", .liars.len(), names(.liars))]
    Liars {
        /// Who.
        liars: Vec<ShareIndex>,
        /// Partials that are left.
        have: u16,
        /// It takes.
        need: u16,
    },
    /// The partials are good and it does not open: it was not wrapped to this key under this label, or altered.
    #[error("not wrapped to this key under this label, or altered")]
    Refused,
}

/// What was opened.
pub struct Opened {
    /// The object's key.
    pub key: ObjectKey,
    /// Members who are known to have lied: it opened without them.
    pub liars: Vec<ShareIndex>,
}

/// Gathers the partials of one roster on one label.
///
/// Who sent each, the caller has made sure of (sealing names nobody): else a stranger speaks for a member, and makes a liar of it.
pub struct Opener<'a> {
    roster: &'a Roster,
    label: Digest,
    parts: BTreeMap<ShareIndex, Partial>,
}

impl<'a> Opener<'a> {
    /// For what was wrapped to the key of `roster` under `label`.
    pub fn new(roster: &'a Roster, label: &Label) -> Self {
        Self { roster, label: label.digest(), parts: BTreeMap::new() }
    }

    /// Takes one partial of each member.
    ///
    /// # Errors
    /// It is of another roster or label, or not the first of its member: that one stays.
    pub fn add(&mut self, partial: Partial) -> Result<(), PartError> {
        let member = self.roster.claims(self.label, &partial)?;
        if self.parts.contains_key(&member) {
            return Err(PartError::Twice { member });
        }
        self.parts.insert(member, partial);
        Ok(())
    }

    /// How many partials are still missing.
    pub fn missing(&self) -> u16 {
        self.need().saturating_sub(have(self.parts.len()))
    }

    /// Opens with the partials that there are. More may be added, and it may be called again.
    ///
    /// # Errors
    /// There are too few good partials, or `sealed` is not what they open.
    pub fn open(&self, sealed: &SwarmSealed) -> Result<Opened, OpenError> {
        let key = self.roster.key().id();
        if sealed.key() != key {
            return Err(OpenError::OtherKey { expected: key, got: sealed.key() });
        }
        if sealed.label() != self.label {
            return Err(OpenError::OtherLabel { expected: self.label, got: sealed.label() });
        }
        if self.missing() > 0 {
            return Err(OpenError::TooFew { have: have(self.parts.len()), need: self.need() });
        }
        if let Some(key) = self.attempt(self.parts.values(), sealed) {
            return Ok(Opened { key, liars: Vec::new() });
        }
        let (good, bad): (Vec<&Partial>, Vec<&Partial>) =
            self.parts.values().partition(|partial| self.roster.verify_on(self.label, partial).is_ok());
        let liars: Vec<ShareIndex> = bad.iter().map(|partial| partial.member()).collect();
        if have(good.len()) < self.need() {
            return Err(OpenError::Liars { liars, have: have(good.len()), need: self.need() });
        }
        if liars.is_empty() {
            return Err(OpenError::Refused);
        }
        let key = self.attempt(good.into_iter(), sealed).ok_or(OpenError::Refused)?;
        Ok(Opened { key, liars })
    }

    /// Opens with the first of these partials that suffice, if they are all good.
    fn attempt<'p>(&self, parts: impl Iterator<Item = &'p Partial>, sealed: &SwarmSealed) -> Option<ObjectKey> {
        let (mut at, mut points) = (Vec::new(), Vec::new());
        for partial in parts.take(usize::from(self.need())) {
            at.push(partial.member());
            points.push(partial.point()?);
        }
        sealed.open(&curve::interpolate(&at, &points))
    }

    fn need(&self) -> u16 {
        self.roster.threshold().needed()
    }
}

/// Never more than there are members.
fn have(parts: usize) -> u16 {
    u16::try_from(parts).unwrap_or(u16::MAX)
}

fn names(members: &[ShareIndex]) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
