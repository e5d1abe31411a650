//! A swarm key that the smallest committee holds, and what its members make: what a stranger would begin with.

use std::sync::LazyLock;

use legation_core::{Digest, EnclaveId, ObjectId, TenantId};
use legation_keys::{
    Entropy, ObjectKey, SealingKey,
    swarm::{
        Ceremony, Chair, Dealing, Generation, Label, Opener, Roster, SealedPartial, Share, ShareIndex, SwarmSealed,
        Threshold,
    },
};

/// Digest of what members were asked.
const ASK: Digest = Digest::from_bytes([7; 32]);
/// Members of each committee, all of whom are needed.
const MEMBERS: u16 = 2;

/// Repeatable bytes: nothing here is a secret.
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            chunk.copy_from_slice(&Digest::of(&self.0.to_be_bytes()).as_bytes()[..chunk.len()]);
        }
    }
}

/// A ceremony, with what only its members know.
struct Stage {
    ceremony: Ceremony,
    keys: Vec<SealingKey>,
}

/// The committee, and the ceremony in which it hands over.
pub struct Held {
    committee: Roster,
    shares: Vec<Share>,
    next: Stage,
    label: Label,
    asker: SealingKey,
    answers: Vec<SealedPartial>,
    /// Bytes of a dealing of that ceremony.
    pub dealing: Vec<u8>,
    /// Bytes of the committee's roster.
    pub roster: Vec<u8>,
    /// Bytes of the first member's share.
    pub share: Vec<u8>,
    /// Bytes of the first member's partial on a label.
    pub partial: Vec<u8>,
    /// Bytes of an object's key, wrapped under that label.
    pub sealed: Vec<u8>,
}

/// Made once.
pub static HELD: LazyLock<Option<Held>> = LazyLock::new(held);

fn stage(from: Option<Roster>, entropy: &mut Counter) -> Option<Stage> {
    let mut both: Vec<(EnclaveId, SealingKey)> =
        (0..MEMBERS).map(|at| (EnclaveId::new(Digest::of(&at.to_be_bytes())), SealingKey::generate(entropy))).collect();
    both.sort_by_key(|(enclave, _)| *enclave);
    let chairs =
        both.iter().map(|(enclave, key)| Chair::new(*enclave, key.public().clone()).ok()).collect::<Option<_>>()?;
    let ceremony = Ceremony::new(Digest::of(b"call"), Threshold::new(MEMBERS, MEMBERS).ok()?, chairs, from).ok()?;
    Some(Stage { ceremony, keys: both.into_iter().map(|(_, key)| key).collect() })
}

impl Stage {
    /// Each member with its key.
    fn members(&self) -> impl Iterator<Item = (ShareIndex, &SealingKey)> {
        (1..=MEMBERS).filter_map(ShareIndex::new).zip(&self.keys)
    }

    /// The roster and shares of what all members deal.
    fn conclude(&self, entropy: &mut Counter) -> Option<(Roster, Vec<Share>)> {
        let ceremony = &self.ceremony;
        let mut dealings = Vec::new();
        for (member, _) in self.members() {
            dealings.push(ceremony.deal(member, entropy).ok()?);
        }
        let checked: Vec<_> = dealings.iter().map(|dealing| ceremony.check(dealing).ok()).collect::<Option<_>>()?;
        let roster = ceremony.roster(&checked).ok()?;
        let mut shares = Vec::new();
        for (member, key) in self.members() {
            let parts: Vec<_> =
                dealings.iter().map(|dealing| ceremony.open(dealing, member, key).ok()).collect::<Option<_>>()?;
            shares.push(ceremony.share(&roster, &parts).ok()?);
        }
        Some((roster, shares))
    }
}

fn held() -> Option<Held> {
    let entropy = &mut Counter(0);
    let (committee, shares) = stage(None, entropy)?.conclude(entropy)?;
    let next = stage(Some(committee.clone()), entropy)?;
    let dealing = next.ceremony.redeal(shares.first()?, entropy).ok()?.to_bytes();
    let label = Label {
        tenant: TenantId::new("fuzz").ok()?,
        policy: Digest::of(b"policy"),
        object: ObjectId::from_bytes([9; 16]),
        generation: Generation(0),
    };
    let sealed = SwarmSealed::seal(&committee.key(), &label, &ObjectKey::from_bytes([8; 32]), entropy);
    let asker = SealingKey::generate(entropy);
    let mut answers = Vec::new();
    for share in &shares {
        answers.push(share.release(&label, asker.public(), ASK, entropy).ok()?);
    }
    Some(Held {
        roster: committee.to_bytes(),
        share: shares.first()?.to_bytes().to_vec(),
        partial: answers.first()?.to_bytes(),
        sealed: sealed.to_bytes().to_vec(),
        committee,
        shares,
        next,
        label,
        asker,
        answers,
        dealing,
    })
}

impl Held {
    /// Whether every member of the committee that follows gets its part of a dealing.
    pub fn is_dealt(&self, dealing: &Dealing) -> bool {
        self.next.members().all(|(member, key)| self.next.ceremony.open(dealing, member, key).is_ok())
    }

    /// Whether the committee's shares are those of a roster.
    pub fn is_roster(&self, roster: &Roster) -> bool {
        self.shares.iter().all(|share| share.fits(roster))
    }

    /// Whether a share is one of the committee's.
    pub fn is_share(&self, share: &Share) -> bool {
        share.fits(&self.committee)
    }

    /// Whether who asked gets a member's partial out of it.
    pub fn is_partial(&self, partial: &SealedPartial) -> bool {
        partial.open(&self.asker, ASK).is_ok_and(|partial| self.committee.verify_partial(&self.label, &partial).is_ok())
    }

    /// Whether who asked opens it.
    pub fn opens(&self, sealed: &SwarmSealed) -> bool {
        let mut opener = Opener::new(&self.committee, &self.label);
        let add = |answer: &SealedPartial| answer.open(&self.asker, ASK).is_ok_and(|part| opener.add(part).is_ok());
        self.answers.iter().all(add) && opener.open(sealed).is_ok()
    }

    /// What a corpus begins with.
    pub fn seeds(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("dealing", self.dealing.clone()),
            ("roster", self.roster.clone()),
            ("share", self.share.clone()),
            ("partial", self.partial.clone()),
            ("sealed", self.sealed.clone()),
        ]
    }
}
