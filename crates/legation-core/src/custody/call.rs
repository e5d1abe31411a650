//! Calls: the manager asks certain enclaves to become the next committee. And committees, as those who follow know them.

use serde::{Deserialize, Serialize};

use super::{
    charter::Charter,
    terms::{Epoch, Generation, MEMBERS_MAX, SwarmPublicKey, Threshold},
};
use crate::{
    digest::Digest,
    dsse::{Predicate, Signed, Subject},
    id::{EnclaveId, ProviderId, RevocationEpoch, Term},
    key::PublicKey,
    rejection::Rejection,
    time::UnixTime,
};

/// Longest time that a call gives its ceremony, in seconds.
pub const CALL_LIFE_MAX: u64 = 3600;

/// One who is called, and whose machine it is: judges hold the latter against its passport.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Called {
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
}

/// Which committee hands over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// How often the key had changed hands.
    pub epoch: Epoch,
    /// Digest of its roster.
    pub roster: Digest,
}

/// The manager calls the next committee: in full, so that nobody is a member by having been one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodyCall {
    /// The manager, who signs this.
    pub manager: PublicKey,
    /// Its term.
    pub term: Term,
    /// The charter.
    pub charter: Digest,
    /// Which key.
    pub generation: Generation,
    /// The committee that hands over; without it, a new key is made.
    pub from: Option<Standing>,
    /// Which attempt at this committee, from 1.
    pub attempt: u32,
    /// How many hold the key, how many open: the charter's.
    pub threshold: Threshold,
    /// The members to be, ascending.
    pub members: Vec<Called>,
    /// Members of the committee before who are not called again, ascending: all of them.
    pub removed: Vec<EnclaveId>,
    /// As of which revocation.
    pub revocations: RevocationEpoch,
    /// When.
    pub called: UnixTime,
    /// Until when all members must have confirmed.
    pub expires: UnixTime,
    /// The charter, the manager's appointment, the call before if any.
    pub prev: Vec<Digest>,
}

/// A committee in force: what those who follow must know of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committee {
    /// The call that it followed.
    pub call: Digest,
    /// The ceremony in which it came about.
    pub ceremony: Digest,
    /// How often the key had changed hands.
    pub epoch: Epoch,
    /// Which key.
    pub generation: Generation,
    /// Digest of its roster.
    pub roster: Digest,
    /// The key.
    pub key: SwarmPublicKey,
    /// How many have a share, how many open.
    pub threshold: Threshold,
    /// Who, ascending; the place of a member, from 1, is the index of its share.
    pub members: Vec<Called>,
}

impl Committee {
    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.from`.
    pub fn validate(&self) -> Result<(), Rejection> {
        let all = self.members.len() == usize::from(self.threshold.members());
        if all && self.members.is_sorted_by(|a, b| a.enclave < b.enclave) {
            return Ok(());
        }
        Err(bad("custody.from", "members of a committee")
            .expected(format!("{}, each once, ascending", self.threshold.members()))
            .got(self.members.len()))
    }

    /// Whether an enclave is a member.
    pub fn has(&self, enclave: EnclaveId) -> bool {
        self.index_of(enclave).is_some()
    }

    /// Index of the share of a member, from 1.
    pub fn index_of(&self, enclave: EnclaveId) -> Option<u16> {
        place(&self.members, enclave)
    }
}

/// What dealings are bound to: SHA-256 of `"legation-ceremony-v1"` · digest of the call · t (2) · n (2) · enclave and SHA-256 of the sealing key
/// of each chair, in the order of members · digest of the roster before, if there is one.
pub fn ceremony_digest(
    call: Digest,
    threshold: Threshold,
    chairs: &[(EnclaveId, Digest)],
    from: Option<Digest>,
) -> Digest {
    let mut about = b"legation-ceremony-v1".to_vec();
    about.extend_from_slice(call.as_bytes());
    about.extend_from_slice(&threshold.needed().to_be_bytes());
    about.extend_from_slice(&threshold.members().to_be_bytes());
    for (enclave, sealing) in chairs {
        about.extend_from_slice(enclave.digest().as_bytes());
        about.extend_from_slice(sealing.as_bytes());
    }
    if let Some(from) = from {
        about.extend_from_slice(from.as_bytes());
    }
    Digest::of(&about)
}

/// The place of an enclave among members who stand in ascending order, from 1.
pub(super) fn place(members: &[Called], enclave: EnclaveId) -> Option<u16> {
    let at = members.binary_search_by_key(&enclave, |m| m.enclave).ok()?;
    u16::try_from(at + 1).ok()
}

fn bad(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim)
}

impl CustodyCall {
    /// How often the key will have changed hands; nothing where no epoch follows.
    pub fn epoch(&self) -> Option<Epoch> {
        match self.from {
            None => Some(Epoch(0)),
            Some(from) => from.epoch.0.checked_add(1).map(Epoch),
        }
    }

    /// What it must satisfy in itself.
    ///
    /// # Errors
    /// `custody.members`, `custody.removed`, `custody.dates`, `custody.attempt`, `custody.epoch`, `custody.prev`: the first rule it breaks.
    pub fn validate(&self) -> Result<(), Rejection> {
        if self.members.len() != usize::from(self.threshold.members())
            || !self.members.is_sorted_by(|a, b| a.enclave < b.enclave)
        {
            return Err(bad("custody.members", "members who are called")
                .expected(format!("{}, each once, ascending", self.threshold.members()))
                .got(self.members.len()));
        }
        if self.removed.len() > usize::from(MEMBERS_MAX)
            || !self.removed.is_sorted_by(|a, b| a < b)
            || (self.from.is_none() && !self.removed.is_empty())
        {
            return Err(bad("custody.removed", "members who are not called again")
                .expected("members of the committee before, each once, ascending")
                .got(self.removed.len()));
        }
        if self.expires <= self.called || self.expires.since(self.called) > CALL_LIFE_MAX {
            return Err(bad("custody.dates", "time for the ceremony")
                .expected(format!("1 to {CALL_LIFE_MAX} seconds"))
                .got(format!("from {} to {}", self.called, self.expires)));
        }
        if self.attempt == 0 {
            return Err(bad("custody.attempt", "number of the attempt").expected("1 or more").got(0));
        }
        if self.epoch().is_none() {
            return Err(bad("custody.epoch", "epoch of the committee").expected("one that can be counted"));
        }
        if !(2..=3).contains(&self.prev.len()) || self.prev.first() != Some(&self.charter) {
            return Err(bad("custody.prev", "what the call rests on")
                .expected("the charter, the manager's appointment, the call before if any")
                .got(format!("{} statements", self.prev.len())));
        }
        Ok(())
    }

    /// Whether it follows the charter, and the committee in force if there is one. Whether its manager was appointed is for the caller.
    ///
    /// # Errors
    /// As [`Self::validate`]; `custody.charter`, `custody.providers`, `custody.from`, `custody.generation`.
    pub fn check(&self, charter: &Signed<Charter>, before: Option<&Committee>) -> Result<(), Rejection> {
        self.validate()?;
        charter.validate()?;
        if self.charter != charter.digest() {
            return Err(bad("custody.charter", "charter of the call")
                .expected(charter.digest())
                .got(self.charter)
                .fix("call by the newest charter"));
        }
        if self.threshold != charter.threshold {
            return Err(bad("custody.charter", "threshold").expected(charter.threshold).got(self.threshold));
        }
        if self.expires > charter.not_after {
            return Err(bad("custody.charter", "end of the call")
                .expected(format!("{}, the charter's, at the latest", charter.not_after))
                .got(self.expires)
                .fix("let the operator sign a new charter"));
        }
        charter.check_members(&self.members)?;
        self.check_from(before)
    }

    /// Whoever was a member is called or named as removed: the one list without the other would leave members behind unnoticed.
    fn check_from(&self, before: Option<&Committee>) -> Result<(), Rejection> {
        before.map_or(Ok(()), Committee::validate)?;
        let standing = before.map(|b| Standing { epoch: b.epoch, roster: b.roster });
        if self.from != standing {
            let shown = |from: Option<Standing>| {
                from.map_or_else(|| "none".to_owned(), |f| format!("epoch {}, roster {}", f.epoch, f.roster.short()))
            };
            return Err(bad("custody.from", "committee that hands over")
                .expected(shown(standing))
                .got(shown(self.from))
                .fix("call anew, from the committee in force"));
        }
        let generation = before.map_or(Generation(0), |b| b.generation);
        if self.generation != generation {
            return Err(bad("custody.generation", "key that is handed over").expected(generation).got(self.generation));
        }
        let left: Vec<EnclaveId> = before
            .iter()
            .flat_map(|b| &b.members)
            .map(|m| m.enclave)
            .filter(|enclave| place(&self.members, *enclave).is_none())
            .collect();
        if left != self.removed {
            return Err(bad("custody.removed", "members who are not called again")
                .expected(format!("{}, all of them named", left.len()))
                .got(self.removed.len())
                .fix("name whoever was a member and is not called"));
        }
        Ok(())
    }
}

impl Predicate for CustodyCall {
    const TYPE: &'static str = "https://legation.dev/custody-call/v1";

    fn signer(&self) -> PublicKey {
        self.manager
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        self.members.iter().map(|m| Subject::new("member", m.enclave.digest())).collect()
    }
}
