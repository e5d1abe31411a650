//! Custodians that come back after a restart, and how one whose disk was put back is noticed.
//!
//! A boot is a new enclave. One that has the sealed state of a member asks its peers to be heard at the old index: it says so with both
//! identities, the old one's key being in that state, and counts how often it came back. Each peer remembers the highest count it heard of
//! ([`Incarnations`]), refuses any that is not higher, and says so ([`Ack`]). With the acknowledgements of as many as open, it is back
//! ([`Returned`]): two such sets have a peer in common, so of two copies of one state one is refused.
//!
//! The limit: where the disks of all were put back at once, nobody is left to notice.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::call::Committee;
use crate::{
    digest::Digest,
    dsse::{Predicate, Signed, Subject},
    encoding::b64,
    id::EnclaveId,
    key::{PublicKey, Signature, Signer},
    rejection::Rejection,
};

/// Separates what the old identity signs from everything else.
const DOMAIN: &[u8] = b"legation-return-v1";

/// A restarted custodian asks for its old place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Return {
    /// Identity key of this boot, which signs this.
    pub enclave: PublicKey,
    /// Digest of the roster that it is of.
    pub roster: Digest,
    /// Index of its share, from 1.
    pub index: u16,
    /// How often it came back: more than ever before.
    pub incarnation: u64,
    /// Identity key by which it is in the roster.
    pub was: PublicKey,
    /// Signature by `was` over all above ([`Return::message`]).
    #[serde(with = "b64")]
    pub vouched: Vec<u8>,
    /// Passport of this boot.
    pub prev: Vec<Digest>,
}

impl Return {
    /// As the old identity vouches for it.
    pub fn new(
        committee: &Committee,
        (enclave, passport): (PublicKey, Digest),
        incarnation: u64,
        was: &dyn Signer,
    ) -> Self {
        let mut word = Self {
            enclave,
            roster: committee.roster,
            index: committee.index_of(was.public_key().enclave_id()).unwrap_or_default(),
            incarnation,
            was: was.public_key(),
            vouched: Vec::new(),
            prev: vec![passport],
        };
        word.vouched = was.sign(&word.message()).0.to_vec();
        word
    }

    /// What the old identity signs: `"legation-return-v1"` · roster (32) · index (2) · incarnation (8) · old key (32) · new key (32) ·
    /// passport (32).
    pub fn message(&self) -> Vec<u8> {
        let passport = self.prev.first().map_or(&[][..], |passport| passport.as_bytes());
        [
            DOMAIN,
            self.roster.as_bytes(),
            &self.index.to_be_bytes(),
            &self.incarnation.to_be_bytes(),
            self.was.as_bytes(),
            self.enclave.as_bytes(),
            passport,
        ]
        .concat()
    }

    /// Whether it is by a member of the committee, by both its identities. That the new one's passport is good, and of the same machine, is
    /// for the caller.
    ///
    /// # Errors
    /// `custody.return`.
    pub fn check(&self, committee: &Committee) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("custody.return", claim);
        if self.roster != committee.roster {
            return Err(bad("committee that it comes back to").expected(committee.roster).got(self.roster));
        }
        if committee.index_of(self.was.enclave_id()) != Some(self.index) {
            return Err(bad("place that it comes back to").expected("its own").got(self.index));
        }
        if self.enclave == self.was || self.prev.len() != 1 || self.incarnation == 0 {
            return Err(bad("return").expected("a new identity, its passport, a count of 1 or more"));
        }
        let vouched: Option<[u8; 64]> = self.vouched.as_slice().try_into().ok();
        let good = vouched.is_some_and(|vouched| self.was.verify(&self.message(), &Signature(vouched)).is_ok());
        if good { Ok(()) } else { Err(bad("signature by the old identity").got("another")) }
    }
}

impl Predicate for Return {
    const TYPE: &'static str = "https://legation.dev/custody-return/v1";

    fn signer(&self) -> PublicKey {
        self.enclave
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::new("was", self.was.id().digest()), Subject::new("roster", self.roster)]
    }
}

/// A custodian's word that it heard of no higher count, and will hear this boot at that place from now on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Identity key of the peer by which it is in the roster, which signs this.
    pub member: PublicKey,
    /// Digest of the roster.
    pub roster: Digest,
    /// Index of the share.
    pub index: u16,
    /// The count.
    pub incarnation: u64,
    /// The return.
    pub prev: Vec<Digest>,
}

impl Predicate for Ack {
    const TYPE: &'static str = "https://legation.dev/custody-ack/v1";

    fn signer(&self) -> PublicKey {
        self.member
    }

    fn prev(&self) -> &[Digest] {
        &self.prev
    }

    fn subjects(&self) -> Vec<Subject> {
        self.prev.iter().map(|d| Subject::new("return", *d)).collect()
    }
}

/// What a custodian knows of its peers' counts. It is stored before an acknowledgement leaves.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incarnations {
    heard: BTreeMap<EnclaveId, Heard>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heard {
    incarnation: u64,
    /// The boot that came back with that count.
    boot: EnclaveId,
}

impl Incarnations {
    /// Hears a peer that came back, and gives what `member` says of it. The same boot with the same count may ask again.
    ///
    /// # Errors
    /// `custody.return`; `custody.rollback`: a count as high or higher was heard before.
    pub fn hear(&mut self, word: &Signed<Return>, committee: &Committee, member: PublicKey) -> Result<Ack, Rejection> {
        word.check(committee)?;
        let (was, now) =
            (word.was.enclave_id(), Heard { incarnation: word.incarnation, boot: word.enclave.enclave_id() });
        if let Some(known) = self.heard.get(&was).filter(|known| known.incarnation >= now.incarnation && **known != now)
        {
            return Err(Rejection::new("custody.rollback", "how often a custodian came back")
                .expected(format!("more than {}", known.incarnation))
                .got(now.incarnation)
                .fix("its disk was put back, or copied: let the committee change without it"));
        }
        // Whoever is in the committee is remembered: there are never more.
        self.heard.retain(|enclave, _| committee.has(*enclave));
        self.heard.insert(was, now);
        Ok(Ack {
            member,
            roster: word.roster,
            index: word.index,
            incarnation: word.incarnation,
            prev: vec![word.digest()],
        })
    }

    /// The boot that is to be heard in the place of a member, where that is another than itself.
    pub fn boot_of(&self, member: EnclaveId) -> Option<EnclaveId> {
        self.heard.get(&member).map(|heard| heard.boot)
    }
}

/// A return that enough peers acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Returned {
    word: Signed<Return>,
    acks: Vec<Signed<Ack>>,
}

impl Returned {
    /// The return with its acknowledgements.
    ///
    /// # Errors
    /// `custody.return`; `custody.acks`: too few, or not of this return by other members.
    pub fn new(word: Signed<Return>, acks: Vec<Signed<Ack>>, committee: &Committee) -> Result<Self, Rejection> {
        word.check(committee)?;
        let bad = |claim: &str| Rejection::new("custody.acks", claim);
        let mut by = BTreeSet::new();
        for ack in &acks {
            let same = (ack.roster, ack.index, ack.incarnation) == (word.roster, word.index, word.incarnation);
            if !same || ack.prev != [word.digest()] {
                return Err(bad("acknowledgement of a return").expected("one of this return").got("one of another"));
            }
            let peer = ack.member.enclave_id();
            if ack.member == word.was || !committee.has(peer) || !by.insert(peer) {
                return Err(bad("acknowledgement of a return").expected("each by another member").got(peer.short()));
            }
        }
        if by.len() < usize::from(committee.threshold.needed()) {
            return Err(bad("acknowledgements of a return").expected(committee.threshold.needed()).got(by.len()));
        }
        Ok(Self { word, acks })
    }

    /// The return.
    pub fn word(&self) -> &Signed<Return> {
        &self.word
    }

    /// Its acknowledgements.
    pub fn acks(&self) -> &[Signed<Ack>] {
        &self.acks
    }
}
