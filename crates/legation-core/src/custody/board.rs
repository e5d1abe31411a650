//! The board: what the words of one ceremony add up to, in the order of the journal. A pure fold, the same for the pool that keeps the journal,
//! for every member that follows it, and for whoever reads it later.
//!
//! It knows no curve: that a dealing is sound, its members say by accepting it, and that a roster is what the dealings make, by confirming it.
//! It is *not* where somebody is judged: who may be called, whose passport is good, who was revoked.
//!
//! ```text
//!  chairs ──► dealings ──► acceptances, refusals ──► confirmations ──► handovers ──► in force
//!  of all n   of any       of all n, for as many     of all n, of      of t old
//!  members    dealers      dealings as it takes      one roster        members (a first key: none)
//! ```
//! What counts:
//! 1. a word is of this call or ceremony, and by who may say it; what is not is refused, counted, and changes nothing;
//! 2. the first of each speaker, about each thing; the same again changes nothing; another one is *equivocation*: noted, with the name;
//! 3. a dealing brings the roster along that it hands on, by which new members judge it; where a key is made, none. It counts when it is
//!    *complete*: every new member accepted it. One refusal, one silent member, two dealings of one dealer, and it
//!    does not: nobody is a member who has not opened every share it needs, and no share is ever published;
//! 4. the dealings that count are as many as it takes (t, of the committee before; of the first, of its own), those that were complete first.
//!    Then it is *settled*, and no later word changes it;
//! 5. all n of the new members confirm one roster of the settled dealings, or the call comes to nothing. Who confirms one of other dealings
//!    saw another journal, or lies: it has spoken, and the ceremony cannot succeed;
//! 6. then, and only then, old members hand over, each once. With t of them the new committee is in force. Who hands over to another roster
//!    first does not count here afterwards.
//!
//! Words have until the call expires, but for handovers: once all confirmed, somebody may have handed over and erased, and there is no way
//! back. Whoever *confirmed* keeps its share until some roster of that epoch, or a later one, is in force: a manager that hides words
//! from some can delay, and cannot have the last shares erased.
//!
//! Why two rosters of an epoch cannot both be in force where members say each thing once ([`super::Vows`]), whatever the manager shows to
//! whom: each would need handovers of t old members; 2t > n, so one of them would have handed over twice. One that does is named by
//! whoever sees both. Nor can a member be left behind unnoticed, as it can be where shares are refreshed by whoever happens to be there: the
//! call names all members in full and all who are dropped, and each of the n has accepted every dealing that counts and confirmed the roster.
//! Old members who were absent at the end keep old shares ([`Board::keeping`]): at most n - t of them, which is fewer than t, and no new
//! committee counts them.

use std::collections::BTreeMap;

use super::{
    call::{Committee, CustodyCall, ceremony_digest, place},
    charter::Charter,
    terms::Epoch,
    words::{
        Acceptance, Chair, Confirmation, CustodyWord, Dealing, DealingRef, Handover, Refusal, RefusalReason, WordKind,
    },
};
use crate::{digest::Digest, dsse::Signed, id::EnclaveId, rejection::Rejection, time::UnixTime};

mod phase;

pub use phase::{Lapse, LapseReason, Phase, Refused};

/// What became of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Took {
    /// It is new, and kept: the first of its speaker about its thing.
    Counted,
    /// It was said before: nothing changed.
    Repeated,
    /// Its speaker had said otherwise: it is evidence of that. Where it also says something new, that counts.
    Noted,
}

/// A member said one thing and another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Equivocation {
    /// Who.
    pub by: EnclaveId,
    /// About what.
    pub kind: WordKind,
    /// Envelope of the first, which counts.
    pub first: Digest,
    /// Envelope of the other.
    pub second: Digest,
}

/// A word, and when the journal had it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The word.
    pub word: CustodyWord,
    /// When.
    pub at: UnixTime,
}

/// The words of one ceremony and what they add up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Board {
    call: Signed<CustodyCall>,
    epoch: Epoch,
    before: Option<Committee>,
    /// By the places of members.
    chairs: Vec<Option<Signed<Chair>>>,
    /// Once all chairs are taken.
    ceremony: Option<Digest>,
    /// In the order of the journal.
    dealt: Vec<Dealt>,
    /// Places in `dealt`, in the order in which they were complete.
    complete: Vec<usize>,
    /// The dealings that count, ascending.
    settled: Option<Vec<DealingRef>>,
    /// By the places of members.
    confirmed: Vec<Option<Signed<Confirmation>>>,
    /// The first of each member, to whatever roster.
    handed: BTreeMap<EnclaveId, Signed<Handover>>,
    words: Vec<Said>,
    equivocations: Vec<Equivocation>,
    skipped: u64,
}

/// A dealing and what members say of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Dealt {
    name: DealingRef,
    word: Signed<Dealing>,
    verdicts: BTreeMap<EnclaveId, Verdict>,
    /// Its dealer dealt otherwise, too.
    void: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Verdict {
    /// Nothing when it was accepted.
    refused: Option<RefusalReason>,
    /// Envelope that says so.
    said: Digest,
}

/// What a word changes.
struct Heard {
    /// Whether it says something new.
    new: bool,
    /// What its speaker said otherwise, first.
    against: Option<Digest>,
}

impl Heard {
    const NEW: Self = Self { new: true, against: None };

    /// Where there was a `first`.
    fn again(same: bool, first: Digest) -> Self {
        Self { new: false, against: (!same).then_some(first) }
    }
}

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim)
}

impl Board {
    /// The empty board of a call. Whether its manager was appointed is for the caller.
    ///
    /// # Errors
    /// The call does not follow charter and committee: see [`CustodyCall::check`].
    pub fn open(
        call: Signed<CustodyCall>,
        charter: &Signed<Charter>,
        before: Option<&Committee>,
    ) -> Result<Self, Rejection> {
        call.check(charter, before)?;
        let epoch = call.epoch().ok_or_else(|| refuse("custody.epoch", "epoch of the committee"))?;
        let members = call.members.len();
        Ok(Self {
            call,
            epoch,
            before: before.cloned(),
            chairs: vec![None; members],
            ceremony: None,
            dealt: Vec::new(),
            complete: Vec::new(),
            settled: None,
            confirmed: vec![None; members],
            handed: BTreeMap::new(),
            words: Vec::new(),
            equivocations: Vec::new(),
            skipped: 0,
        })
    }

    /// Takes the next word of the journal, which had it `at`.
    ///
    /// # Errors
    /// Why it does not count. Nothing has changed then, but for the count of such words.
    pub fn absorb(&mut self, word: &CustodyWord, at: UnixTime) -> Result<Took, Rejection> {
        let heard = word.validate().and_then(|()| match word {
            CustodyWord::Chair(word) => self.chair(word, at),
            CustodyWord::Dealing(word) => self.dealing(word, at),
            CustodyWord::Acceptance(word) => self.acceptance(word, at),
            CustodyWord::Refusal(word) => self.refusal(word, at),
            CustodyWord::Confirmation(word) => self.confirmation(word, at),
            CustodyWord::Handover(word) => self.handover(word),
        });
        let Heard { new, against } = match heard {
            Ok(heard) => heard,
            Err(why) => {
                self.skipped = self.skipped.saturating_add(1);
                return Err(why);
            }
        };
        let noted = against.is_some_and(|first| self.note(word, first));
        if new || noted {
            self.words.push(Said { word: word.clone(), at });
        }
        Ok(match (against, new) {
            (Some(_), _) => Took::Noted,
            (None, true) => Took::Counted,
            (None, false) => Took::Repeated,
        })
    }

    /// Keeps the first equivocation of a member about each kind of thing; says whether it is that.
    fn note(&mut self, word: &CustodyWord, first: Digest) -> bool {
        let (by, kind) = (word.speaker().enclave_id(), word.kind());
        if self.equivocations.iter().any(|e| e.by == by && e.kind == kind) {
            return false;
        }
        self.equivocations.push(Equivocation { by, kind, first, second: word.digest() });
        true
    }

    fn chair(&mut self, word: &Signed<Chair>, at: UnixTime) -> Result<Heard, Rejection> {
        if word.call != self.call.digest() {
            return Err(refuse("custody.call", "call of a chair").expected(self.call.digest()).got(word.call));
        }
        let seat = self.seat(word.enclave.enclave_id())?;
        if let Some(first) = &self.chairs[seat] {
            // A passport is renewed; what counts is the key.
            return Ok(Heard::again(first.sealing == word.sealing, first.digest()));
        }
        self.check_time(at)?;
        if let Some(other) = self.chairs.iter().flatten().find(|other| other.sealing == word.sealing) {
            return Err(refuse("custody.sealing", "sealing key of a chair")
                .expected("one of its own")
                .got(format!("that of {}", other.enclave.enclave_id().short()))
                .fix("make a key for this ceremony alone"));
        }
        self.chairs[seat] = Some(word.clone());
        let taken: Vec<_> =
            self.chairs.iter().flatten().map(|c| (c.enclave.enclave_id(), c.sealing.digest())).collect();
        if taken.len() == self.chairs.len() {
            let from = self.before.as_ref().map(|before| before.roster);
            self.ceremony = Some(ceremony_digest(self.call.digest(), self.call.threshold, &taken, from));
        }
        Ok(Heard::NEW)
    }

    fn dealing(&mut self, word: &Signed<Dealing>, at: UnixTime) -> Result<Heard, Rejection> {
        self.check_ceremony(word.ceremony)?;
        let name = word.name();
        if self.dealer_index(name.dealer).is_none() {
            return Err(refuse("custody.dealer", "who deals")
                .expected("a member of the committee that hands over, or of the first")
                .got(name.dealer.short()));
        }
        let (expected, got) = (self.call.from.map(|from| from.roster), word.roster.as_deref().map(Digest::of));
        if expected != got {
            let shown = |roster: Option<Digest>| roster.map_or_else(|| "none".to_owned(), |roster| roster.to_string());
            return Err(refuse("custody.roster", "roster that a dealing hands on")
                .expected(shown(expected))
                .got(shown(got))
                .fix("deal the share of the committee that the call names"));
        }
        if let Some(first) = self.dealt.iter_mut().find(|dealt| dealt.name.dealer == name.dealer) {
            first.void |= first.name != name && self.settled.is_none();
            return Ok(Heard::again(first.name == name, first.word.digest()));
        }
        self.check_time(at)?;
        self.check_unsettled()?;
        check_beneath(WordKind::Dealing, &word.prev, 1 + self.chairs.len())?;
        self.dealt.push(Dealt { name, word: word.clone(), verdicts: BTreeMap::new(), void: false });
        Ok(Heard::NEW)
    }

    fn acceptance(&mut self, word: &Signed<Acceptance>, at: UnixTime) -> Result<Heard, Rejection> {
        self.check_ceremony(word.ceremony)?;
        let verdict = Verdict { refused: None, said: word.digest() };
        self.verdicts(word.member.enclave_id(), &word.dealings, verdict, at)
    }

    fn refusal(&mut self, word: &Signed<Refusal>, at: UnixTime) -> Result<Heard, Rejection> {
        self.check_ceremony(word.ceremony)?;
        let verdict = Verdict { refused: Some(word.why), said: word.digest() };
        self.verdicts(word.member.enclave_id(), &[word.dealing], verdict, at)
    }

    fn verdicts(
        &mut self,
        member: EnclaveId,
        names: &[DealingRef],
        verdict: Verdict,
        at: UnixTime,
    ) -> Result<Heard, Rejection> {
        self.seat(member)?;
        let (mut new, mut against) = (Vec::new(), None);
        for name in names {
            let Some(index) = self.dealt.iter().position(|dealt| dealt.name == *name) else {
                return Err(refuse("custody.dealing", "dealing that is judged")
                    .expected("one on the board")
                    .got(format!("{} of {}", name.dealing.short(), name.dealer.short()))
                    .fix("wait until the board has it"));
            };
            match self.dealt[index].verdicts.get(&member) {
                None => new.push(index),
                Some(first) if first.refused.is_some() == verdict.refused.is_some() => {}
                Some(first) => against = Some(first.said),
            }
        }
        if !new.is_empty()
            && let Err(why) = self.check_time(at).and_then(|()| self.check_unsettled())
        {
            if against.is_none() {
                return Err(why);
            }
            new.clear();
        }
        // Where one word completes several, their order on the board decides.
        new.sort_unstable();
        let members = self.chairs.len();
        for index in &new {
            let dealt = &mut self.dealt[*index];
            dealt.verdicts.insert(member, verdict);
            if dealt.verdicts.len() == members && dealt.is_promising() {
                self.complete.push(*index);
            }
        }
        self.settle();
        Ok(Heard { new: !new.is_empty(), against })
    }

    /// Rule 4.
    fn settle(&mut self) {
        if self.settled.is_some() {
            return;
        }
        let dealt = &self.dealt;
        let mut first: Vec<DealingRef> = self
            .complete
            .iter()
            .map(|index| &dealt[*index])
            .filter(|dealt| !dealt.void)
            .map(|dealt| dealt.name)
            .take(usize::from(self.needed()))
            .collect();
        if first.len() == usize::from(self.needed()) {
            first.sort_unstable();
            self.settled = Some(first);
        }
    }

    fn confirmation(&mut self, word: &Signed<Confirmation>, at: UnixTime) -> Result<Heard, Rejection> {
        self.check_ceremony(word.ceremony)?;
        let seat = self.seat(word.member.enclave_id())?;
        if let Some(first) = &self.confirmed[seat] {
            let same = (first.roster, first.epoch) == (word.roster, word.epoch)
                && first.key == word.key
                && first.dealings == word.dealings;
            return Ok(Heard::again(same, first.digest()));
        }
        if self.settled.is_none() {
            return Err(refuse("custody.early", "confirmation of a roster")
                .expected("after enough dealings are complete")
                .got("before")
                .fix("wait until the board has settled on dealings"));
        }
        if word.epoch != self.epoch {
            return Err(refuse("custody.epoch", "epoch of a roster").expected(self.epoch).got(word.epoch));
        }
        if let Some(before) = self.before.as_ref().filter(|b| b.key != word.key || b.roster == word.roster) {
            return Err(refuse("custody.key", "key of a roster")
                .expected(format!("{}, in other hands", before.key.id()))
                .got(word.key.id()));
        }
        self.check_time(at)?;
        self.confirmed[seat] = Some(word.clone());
        Ok(Heard::NEW)
    }

    fn handover(&mut self, word: &Signed<Handover>) -> Result<Heard, Rejection> {
        let Some(before) = &self.before else {
            return Err(refuse("custody.from", "handover").expected("none: the key is new").got("one"));
        };
        if word.from != before.roster || word.epoch != self.epoch {
            return Err(refuse("custody.from", "committee that hands over")
                .expected(format!("roster {} to epoch {}", before.roster.short(), self.epoch))
                .got(format!("roster {} to epoch {}", word.from.short(), word.epoch)));
        }
        let member = word.member.enclave_id();
        if !before.has(member) {
            return Err(refuse("custody.member", "who hands over").expected("a member").got(member.short()));
        }
        if let Some(first) = self.handed.get(&member) {
            return Ok(Heard::again(first.to == word.to, first.digest()));
        }
        let Some(agreed) = self.agreed() else {
            return Err(refuse("custody.early", "handover")
                .expected("after all new members have confirmed one roster")
                .got("before"));
        };
        // One to another roster is kept, as the first that this member said: it is evidence of another journal.
        if agreed.roster == word.to {
            check_beneath(WordKind::Handover, &word.prev, self.chairs.len())?;
        }
        self.handed.insert(member, word.clone());
        Ok(Heard::NEW)
    }

    /// Place of a new member, from 0.
    fn seat(&self, enclave: EnclaveId) -> Result<usize, Rejection> {
        place(&self.call.members, enclave).map(|index| usize::from(index) - 1).ok_or_else(|| {
            refuse("custody.member", "who says this").expected("somebody who was called").got(enclave.short())
        })
    }

    fn check_time(&self, at: UnixTime) -> Result<(), Rejection> {
        if at <= self.call.expires {
            return Ok(());
        }
        Err(refuse("custody.late", "word of a ceremony")
            .expected(format!("until {}", self.call.expires))
            .got(at)
            .fix("wait for the next call"))
    }

    fn check_unsettled(&self) -> Result<(), Rejection> {
        if self.settled.is_none() {
            return Ok(());
        }
        Err(refuse("custody.settled", "word about dealings").expected("none: enough are complete").got("one"))
    }

    fn check_ceremony(&self, got: Digest) -> Result<(), Rejection> {
        match self.ceremony {
            Some(expected) if expected == got => Ok(()),
            Some(expected) => Err(refuse("custody.ceremony", "ceremony of a word").expected(expected).got(got)),
            None => Err(refuse("custody.early", "word of a ceremony")
                .expected("after all members have taken their chairs")
                .got("before")),
        }
    }

    /// How many dealings it takes: as many as open, of the committee before; of the first, of its own.
    pub fn needed(&self) -> u16 {
        self.before.as_ref().map_or(self.call.threshold, |before| before.threshold).needed()
    }

    /// Index of a dealer, from 1: its share's in the committee that hands over; in the first, its own to be.
    pub fn dealer_index(&self, enclave: EnclaveId) -> Option<u16> {
        place(self.before.as_ref().map_or(&self.call.members, |before| &before.members), enclave)
    }

    /// Index that a member's share will have, from 1.
    pub fn member_index(&self, enclave: EnclaveId) -> Option<u16> {
        place(&self.call.members, enclave)
    }

    /// The call.
    pub fn call(&self) -> &Signed<CustodyCall> {
        &self.call
    }

    /// How often the key will have changed hands.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The committee that hands over.
    pub fn before(&self) -> Option<&Committee> {
        self.before.as_ref()
    }

    /// Digest of the ceremony, once all chairs are taken.
    pub fn ceremony(&self) -> Option<Digest> {
        self.ceremony
    }

    /// Chairs that are taken, in the order of members.
    pub fn chairs(&self) -> impl Iterator<Item = &Signed<Chair>> {
        self.chairs.iter().flatten()
    }

    /// Dealings that may still count, or do, in the order of the journal: what members must judge.
    pub fn dealings(&self) -> impl Iterator<Item = &Signed<Dealing>> {
        self.dealt.iter().filter(|dealt| dealt.is_promising()).map(|dealt| &dealt.word)
    }

    /// Whether a member has judged a dealing.
    pub fn has_judged(&self, member: EnclaveId, dealing: &DealingRef) -> bool {
        self.dealt.iter().any(|dealt| dealt.name == *dealing && dealt.verdicts.contains_key(&member))
    }

    /// The dealings that count, ascending by dealer: what the roster is made of.
    pub fn settled(&self) -> Option<&[DealingRef]> {
        self.settled.as_deref()
    }

    /// Confirmations so far, in the order of members.
    pub fn confirmations(&self) -> impl Iterator<Item = &Signed<Confirmation>> {
        self.confirmed.iter().flatten()
    }

    /// A confirmation, once all new members have confirmed the same: there is no way back from here.
    pub fn agreed(&self) -> Option<&Signed<Confirmation>> {
        let settled = self.settled.as_deref()?;
        let first = self.confirmed.first()?.as_ref()?;
        let same = |c: &Option<Signed<Confirmation>>| {
            c.as_ref().is_some_and(|c| c.dealings == settled && c.roster == first.roster && c.key == first.key)
        };
        self.confirmed.iter().all(same).then_some(first)
    }

    /// Handovers to this committee so far, by member.
    pub fn handovers(&self) -> impl Iterator<Item = (EnclaveId, &Signed<Handover>)> {
        let to = self.agreed().map(|agreed| agreed.roster);
        self.handed.iter().filter(move |(_, word)| Some(word.to) == to).map(|(member, word)| (*member, word))
    }

    /// Handovers to other rosters of this epoch, by member: somebody kept two journals, or these members lie.
    pub fn strays(&self) -> impl Iterator<Item = (EnclaveId, &Signed<Handover>)> {
        let to = self.agreed().map(|agreed| agreed.roster);
        self.handed.iter().filter(move |(_, word)| Some(word.to) != to).map(|(member, word)| (*member, word))
    }

    /// Members of the committee before who are not known to have erased their shares, ascending.
    pub fn keeping(&self) -> impl Iterator<Item = EnclaveId> {
        let before = self.before.iter().flat_map(|before| &before.members).map(|member| member.enclave);
        before.filter(move |enclave| !self.handed.contains_key(enclave))
    }

    /// The new committee, once it is in force.
    pub fn committee(&self) -> Option<Committee> {
        let agreed = self.agreed()?;
        let needed = self.before.as_ref().map_or(0, |before| usize::from(before.threshold.needed()));
        if self.handovers().count() < needed {
            return None;
        }
        Some(Committee {
            call: self.call.digest(),
            ceremony: agreed.ceremony,
            epoch: self.epoch,
            generation: self.call.generation,
            roster: agreed.roster,
            key: agreed.key.clone(),
            threshold: self.call.threshold,
            members: self.call.members.clone(),
        })
    }

    /// All words that count or are evidence, in order: they make this board again.
    pub fn words(&self) -> &[Said] {
        &self.words
    }

    /// Who said one thing and another; both words are among [`Self::words`].
    pub fn equivocations(&self) -> &[Equivocation] {
        &self.equivocations
    }

    /// How many words did not count.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

impl Dealt {
    /// Whether it may still count, or does.
    fn is_promising(&self) -> bool {
        !self.void && self.verdicts.values().all(|verdict| verdict.refused.is_none())
    }
}

fn check_beneath(kind: WordKind, prev: &[Digest], expected: usize) -> Result<(), Rejection> {
    if prev.len() == expected {
        return Ok(());
    }
    Err(Rejection::new("custody.form", format!("statements beneath a {kind}")).expected(expected).got(prev.len()))
}
