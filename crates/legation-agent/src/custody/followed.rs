//! One ceremony as a member follows it: the board that the manager's pages make, and what of it can be computed.

use std::collections::BTreeMap;

use legation_core::{
    EnclaveId, Rejection, Signed, UnixTime,
    custody::{
        Board, Charter, Committee, CustodyWord, Dealing, DealingRef, MEMBERS_MAX, Phase, RefusalReason, SwarmPublicKey,
    },
};
use legation_keys::{
    SealingKey,
    swarm::{self, Ceremony, Chair, Checked, DealingError, Roster, Share, ShareIndex, Subshare},
};
use legation_net::{
    custody::{BoardNews, Seen},
    message::Peer,
};

use super::{
    judge::{self, Standing},
    kept::Role,
};

/// A ceremony.
pub(super) struct Followed {
    pub(super) charter: Signed<Charter>,
    pub(super) board: Board,
    /// Who is called, as far as the manager said.
    peers: Vec<Peer>,
    /// Whether those were judged well: once, as passports end while a ceremony goes on. What is revoked is looked at each time.
    judged: bool,
    /// Once all chairs are taken, and it is known what is handed on.
    ceremony: Option<Ceremony>,
    /// What was found of each dealing: nothing where it is good.
    verdicts: BTreeMap<DealingRef, Option<RefusalReason>>,
    /// What the good ones gave.
    parts: Vec<Subshare>,
}

fn bad(check: &str, claim: impl Into<String>) -> Rejection {
    Rejection::new(&format!("custody.{check}"), claim)
}

/// Whether a committee, as the manager tells it, is the one of this roster: nobody else says who its members are.
fn is_of(before: &Committee, roster: &Roster) -> bool {
    let members = before.members.iter().map(|member| member.enclave);
    before.roster == roster.digest()
        && before.epoch == roster.epoch()
        && before.threshold == roster.threshold()
        && *before.key.as_bytes() == roster.key().to_bytes()
        && members.eq(roster.members().iter().copied())
}

impl Followed {
    /// A board from its first word on.
    ///
    /// # Errors
    /// The call does not follow its charter and the committee before.
    fn open(news: &BoardNews) -> Result<Self, Rejection> {
        Ok(Self {
            board: Board::open(news.call.clone(), &news.charter, news.before.as_ref())?,
            charter: news.charter.clone(),
            peers: Vec::new(),
            judged: false,
            ceremony: None,
            verdicts: BTreeMap::new(),
            // Never grown: growing would leave copies behind.
            parts: Vec::with_capacity(usize::from(MEMBERS_MAX)),
        })
    }

    /// The ceremony with what a page has of it beyond `known`; nothing where the page is about what came after words that are not known.
    ///
    /// # Errors
    /// The page makes no board.
    pub(super) fn take(known: Option<Self>, news: &BoardNews) -> Result<Option<Self>, Rejection> {
        let known = known.filter(|known| known.board.call().digest() == news.call.digest());
        let mut followed = match known {
            Some(known) if known.seen().words == news.from => known,
            // From the first word on: what was opened and judged stays so.
            Some(known) if news.from == 0 => Self { board: Self::open(news)?.board, ..known },
            None if news.from == 0 => Self::open(news)?,
            known => return Ok(known),
        };
        for heard in &news.words {
            followed.board.absorb(&heard.word, heard.at)?;
        }
        if followed.seen() != news.seen() {
            return Err(bad("board", "words of a board, as the manager tells them")
                .expected("words that count or are evidence, each once")
                .got(format!("{} of {} that do", followed.seen().words, news.seen().words)));
        }
        // A journal that lost its end may have other chairs now.
        let ceremony = followed.board.ceremony();
        if followed.ceremony.as_ref().is_some_and(|made| Some(made.digest()) != ceremony) {
            followed.ceremony = None;
            followed.verdicts.clear();
            followed.parts.clear();
        }
        Ok(Some(followed))
    }

    /// How much of it is known.
    pub(super) fn seen(&self) -> Seen {
        let words = u32::try_from(self.board.words().len()).unwrap_or(u32::MAX);
        Seen { call: self.board.call().digest(), words }
    }

    /// Learns who is called.
    pub(super) fn meet(&mut self, peers: &[Peer]) {
        if peers.is_empty() || self.judged {
            return;
        }
        let called = |peer: &&Peer| self.board.member_index(peer.passport.enclave_id()).is_some();
        self.peers = peers.iter().filter(called).cloned().collect();
    }

    /// Judges who is called: once well, and each time whether nobody was revoked since.
    ///
    /// # Errors
    /// The first check of [`super::judge`] that refuses.
    pub(super) fn judge(&mut self, standing: &Standing<'_>) -> Result<(), Rejection> {
        if self.judged {
            return judge::revoked_since(&self.peers, standing);
        }
        judge::members(self.board.call(), &self.charter, &self.peers, standing)?;
        self.judged = true;
        Ok(())
    }

    /// Whether it can come to something still.
    pub(super) fn is_alive(&self, now: UnixTime) -> bool {
        !matches!(self.board.phase(now), Phase::Lapsed(_))
    }

    /// The roster that is handed on: of the member's own share, else beside some dealing, whose digest the board holds against the call.
    fn roster_before(&self, own: &Role) -> Option<Roster> {
        let before = self.board.before()?;
        let held = own.held(before.roster).map(|held| held.roster.clone());
        held.or_else(|| {
            let beside = |word: &CustodyWord| match word {
                CustodyWord::Dealing(word) => word.roster.as_deref().and_then(|bytes| Roster::from_bytes(bytes).ok()),
                _ => None,
            };
            self.board.words().iter().find_map(|said| beside(&said.word))
        })
    }

    /// Whether the committee before is what the manager tells of it, where that can be known; where a key is made there is none.
    pub(super) fn knows_before(&self, own: &Role) -> Option<bool> {
        let Some(before) = self.board.before() else { return Some(true) };
        self.roster_before(own).map(|roster| is_of(before, &roster))
    }

    /// Makes the ceremony, once all chairs are taken and it is known what is handed on. Whether it is there now.
    ///
    /// # Errors
    /// `custody.from`: the committee before is another than the manager tells; `custody.ceremony`: these chairs make no ceremony, or
    /// another.
    pub(super) fn convene(&mut self, own: &Role) -> Result<bool, Rejection> {
        let Some(digest) = self.board.ceremony().filter(|_| self.ceremony.is_none()) else {
            return Ok(self.ceremony.is_some());
        };
        let from = match self.board.before() {
            None => None,
            Some(before) => match self.roster_before(own) {
                None => return Ok(false),
                Some(roster) if is_of(before, &roster) => Some(roster),
                Some(roster) => {
                    return Err(bad("from", "committee that hands over, as the manager tells of it")
                        .expected(format!("the one of roster {}", roster.digest().short()))
                        .got(format!("{} members of {}", before.members.len(), before.roster.short())));
                }
            },
        };
        let no_ceremony = |why: String| bad("ceremony", "chairs of a ceremony").expected("such as make one").got(why);
        let chairs = self.board.chairs().map(|chair| Chair::new(chair.enclave.enclave_id(), chair.sealing.clone()));
        let chairs = chairs.collect::<Result<Vec<_>, _>>().map_err(|why| no_ceremony(why.to_string()))?;
        let call = self.board.call();
        let made = Ceremony::new(call.digest(), call.threshold, chairs, from);
        let made = made.map_err(|why| no_ceremony(why.to_string()))?;
        if made.digest() != digest {
            return Err(bad("ceremony", "digest of the ceremony").expected(digest).got(made.digest()));
        }
        self.ceremony = Some(made);
        Ok(true)
    }

    /// The ceremony.
    pub(super) fn ceremony(&self) -> Option<&Ceremony> {
        self.ceremony.as_ref()
    }

    /// Opens what dealings that may count, or do, give the member, whose chair's key is `key`; says which dealings are new to it, and what it
    /// found of each.
    pub(super) fn open_dealings(
        &mut self,
        me: EnclaveId,
        key: &SealingKey,
    ) -> Vec<(Signed<Dealing>, Option<RefusalReason>)> {
        let Some((ceremony, index)) = self.ceremony.as_ref().and_then(|c| Some((c, c.index_of(me)?))) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for word in self.board.dealings().filter(|word| !self.verdicts.contains_key(&word.name())) {
            let dealer = self.board.dealer_index(word.dealer.enclave_id());
            match open(ceremony, word, dealer, index, key) {
                Ok(part) => {
                    self.parts.push(part);
                    found.push((word.clone(), None));
                }
                Err(Some(why)) => found.push((word.clone(), Some(why))),
                // It has not the key of its chair.
                Err(None) => {}
            }
        }
        self.verdicts.extend(found.iter().map(|(word, why)| (word.name(), *why)));
        found
    }

    /// What was found of a dealing.
    pub(super) fn verdict(&self, dealing: &DealingRef) -> Option<Option<RefusalReason>> {
        self.verdicts.get(dealing).copied()
    }

    /// The roster that the settled dealings make, and the member's share; nothing before they are settled, or where it did not open them all.
    ///
    /// # Errors
    /// `custody.roster`: they make none.
    pub(super) fn conclude(&self) -> Result<Option<(Roster, Share)>, Rejection> {
        let (Some(ceremony), Some(settled)) = (&self.ceremony, self.board.settled()) else { return Ok(None) };
        let part = |name: &DealingRef| {
            let part = self.parts.iter().find(|part| part.checked().dealing() == name.dealing);
            part.filter(|part| Some(part.checked().dealer().get()) == self.board.dealer_index(name.dealer))
        };
        let counted: Option<Vec<Checked>> = settled.iter().map(|name| Some(part(name)?.checked().clone())).collect();
        let Some(counted) = counted else { return Ok(None) };
        let none = |why: swarm::CombineError| {
            bad("roster", "roster of the settled dealings").expected("one, of the same key").got(why)
        };
        let roster = ceremony.roster(&counted).map_err(none)?;
        let share = ceremony.share(&roster, &self.parts).map_err(none)?;
        Ok(Some((roster, share)))
    }

    /// Wipes what dealings gave.
    pub(super) fn wipe(&mut self) {
        self.parts.clear();
    }
}

/// The key of a roster, as words name it.
pub(super) fn key_of(roster: &Roster) -> SwarmPublicKey {
    SwarmPublicKey::from_bytes(roster.key().to_bytes())
}

/// What one dealing gives; why it is refused, if that is the dealing's fault.
fn open(
    ceremony: &Ceremony,
    word: &Dealing,
    dealer: Option<u16>,
    member: ShareIndex,
    key: &SealingKey,
) -> Result<Subshare, Option<RefusalReason>> {
    let commitment = Some(RefusalReason::Commitment);
    let dealing = swarm::Dealing::from_bytes(&word.dealing).map_err(|_| commitment)?;
    // Only who signed it may have dealt it.
    if dealer != Some(dealing.dealer().get()) {
        return Err(commitment);
    }
    ceremony.open(&dealing, member, key).map_err(|why| match why {
        DealingError::Unopened { .. } => Some(RefusalReason::Unopened),
        DealingError::Mismatch { .. } => Some(RefusalReason::Mismatch),
        DealingError::OtherMember { .. } => None,
        DealingError::OtherCeremony { .. }
        | DealingError::Threshold { .. }
        | DealingError::Dealer { .. }
        | DealingError::Constant { .. }
        | DealingError::Unproven { .. } => commitment,
    })
}
