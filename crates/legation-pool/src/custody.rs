//! Swarm keys: who has each, and the ceremonies in which committees of custodians come by it ([`legation_core::custody`]).
//!
//! ```text
//! charter ──► call ──► words of members ──► in force ──► (epoch over, member lost, asked) ──► call ..
//!              │  ▲                                                                            │
//!              └──┴── came to nothing: the next attempt does without who was silent ◄──────────┘
//! ```
//! 1. The operator whose root appointed the manager signs the charter; everything after that happens without it.
//! 2. A committee is called when there is none; when a member was revoked (at once, also in the middle of a ceremony), is gone, drains,
//!    is cordoned, or is away or unproven for longer than it may; when the operator asks; when the charter changed; and when the epoch is
//!    over.
//! 3. Whoever is called attested as a custodian of this key, by a verifier that is not of some tenants alone, is here and takes work, and is
//!    as the charter requires. Members stay; others are taken in turn from the providers that have fewest, one of each chip. Who was silent
//!    before, or was most at odds with others, comes last.
//! 4. No call is made that cannot succeed: where too few can be called, or too few members are here to hand over, the view says what is
//!    missing, and it is tried again.
//! 5. At most one call of a key is open. It ends when its time is over, when too few dealings are left, when members are divided, or when
//!    one of them is revoked; never once all new members have confirmed. The next attempt waits a little longer each time.
//! 6. What is said is held against the board of its ceremony: it counts nothing that somebody said before, and computes on no curve.
//!
//! The boards here follow the rules of [`legation_core::custody::Succession`], by which everybody else follows; histories are held against
//! that (`history/custody.rs`). It cannot be made of a snapshot, and these can.

use std::collections::BTreeSet;

use legation_core::{
    Digest, EnclaveId, Rejection, Revocable, RevocationEpoch, Signed, SwarmName, UnixTime,
    custody::{Board, Called, Charter, Committee, CustodyCall, CustodyWord, Generation, Standing},
    dsse,
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::{Change, defect},
    event::{Effect, Event},
    pool::{Env, Pool},
    text::cut,
};

mod ceremony;
mod choose;
mod status;

pub use ceremony::{CallEnd, CallReason};
use ceremony::{Ceremony, Ended};
pub use status::{Boards, CallStage, CallView, CommitteeView, CustodyView, Grounds, MemberState, MemberView};

/// Swarm keys of one pool at most.
pub const SWARM_KEYS_MAX: usize = 64;
/// Seconds between two looks at whether committees are to be called, beside those after what was said, asked for or revoked: each may be at
/// all enclaves.
pub(crate) const CHOOSE_EVERY: u64 = 4;

/// A swarm key as the pool keeps it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwarmKey {
    /// The newest.
    charter: Signed<Charter>,
    /// The ceremony that is under way, or came to nothing.
    open: Option<Ceremony>,
    /// That by which the committee came into force: late handovers still arrive.
    past: Option<Ceremony>,
    /// Since when the committee is in force; zero where there is none.
    since: UnixTime,
    /// When the operator asked for another.
    asked: Option<UnixTime>,
    /// Who is called only where there is nobody else, until a committee is in force.
    left_out: BTreeSet<EnclaveId>,
}

/// Whether a word is of this ceremony.
fn is_of(board: &Board, word: &CustodyWord) -> bool {
    match word {
        CustodyWord::Chair(word) => word.call == board.call().digest(),
        CustodyWord::Dealing(word) => Some(word.ceremony) == board.ceremony(),
        CustodyWord::Acceptance(word) => Some(word.ceremony) == board.ceremony(),
        CustodyWord::Refusal(word) => Some(word.ceremony) == board.ceremony(),
        CustodyWord::Confirmation(word) => Some(word.ceremony) == board.ceremony(),
        CustodyWord::Handover(word) => word.epoch == board.epoch(),
    }
}

impl SwarmKey {
    fn new(charter: Signed<Charter>) -> Self {
        Self { charter, open: None, past: None, since: UnixTime(0), asked: None, left_out: BTreeSet::new() }
    }

    /// The committee in force.
    fn committee(&self) -> Option<Committee> {
        self.past.as_ref()?.board.committee()
    }

    /// The ceremony that goes on.
    fn under_way(&self) -> Option<&Ceremony> {
        self.open.as_ref().filter(|open| open.ended.is_none())
    }

    fn last_call(&self) -> Option<&Signed<CustodyCall>> {
        self.open.as_ref().or(self.past.as_ref()).map(|ceremony| ceremony.board.call())
    }

    /// The past ceremony, if a word is of that.
    fn heard_late(&self, word: &CustodyWord) -> Option<&Ceremony> {
        self.past.as_ref().filter(|past| is_of(&past.board, word))
    }

    /// The board with one more word, if that says something new.
    ///
    /// # Errors
    /// Why it does not count.
    pub(crate) fn hears(&self, word: &CustodyWord, at: UnixTime) -> Result<Option<Board>, Rejection> {
        let ceremony = self.heard_late(word).or(self.under_way()).ok_or_else(|| {
            Rejection::new("custody.open", "word of a ceremony")
                .expected("one that is under way")
                .got("none")
                .fix("wait for the next call")
        })?;
        // The board counts what it refuses: a copy is asked, which shares the words.
        let mut board = ceremony.board.clone();
        board.absorb(word, at)?;
        Ok((board.words().len() > ceremony.board.words().len()).then_some(board))
    }

    /// Whether a call may come to nothing, for this reason, as of these revocations.
    pub(crate) fn may_end(&self, call: Digest, why: CallEnd, revocations: RevocationEpoch, at: UnixTime) -> bool {
        let open = self.under_way().filter(|open| open.board.call().digest() == call);
        open.is_some_and(|open| match why {
            CallEnd::Revoked => open.may_be_overtaken(revocations),
            why => open.lapse(at).is_some_and(|(known, _)| known == why),
        })
    }
}

impl Pool {
    fn swarm_key(&self, swarm: &SwarmName) -> Result<&SwarmKey, Rejection> {
        self.swarm_keys.get(swarm).ok_or_else(|| {
            Rejection::new("custody.unknown", format!("swarm key `{swarm}`"))
                .expected("one that an operator's charter is for")
                .got("none")
                .fix("have the operator sign a charter")
        })
    }

    /// The operator says what it asks of every committee from now on.
    pub(crate) fn set_charter(
        &mut self,
        charter: Signed<Charter>,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let swarm = charter.swarm.clone();
        let known = self.swarm_keys.get(&swarm);
        if known.is_some_and(|known| known.charter.digest() == charter.digest()) {
            return Ok(());
        }
        self.charter_may_follow(&charter)?;
        let operator = self.manager.as_ref().map(|manager| manager.operator);
        if operator != Some(charter.operator) {
            return Err(Rejection::new("custody.operator", "root that signed the charter")
                .expected(operator.map_or_else(|| "the operator's".to_owned(), |root| root.id().to_string()))
                .got(charter.operator.id())
                .fix("sign it with the root that appointed the manager"));
        }
        if charter.not_after <= env.now {
            return Err(Rejection::new("custody.charter", "end of the charter")
                .expected(format!("after {}", env.now))
                .got(charter.not_after)
                .fix("check the clock, or sign one that holds longer"));
        }
        if known.is_none() && self.swarm_keys.len() >= SWARM_KEYS_MAX {
            return Err(Rejection::new("custody.many", "swarm keys of the pool")
                .expected(format!("at most {SWARM_KEYS_MAX}"))
                .got("another")
                .fix("use one that is there"));
        }
        out.record(self, env, Event::CharterSet { charter: Box::new(charter), author: cut(author) })?;
        self.tell_custodians(&swarm, out);
        self.tend_key(&swarm, true, env, out)
    }

    /// Whether a charter may follow the one before, if there is one.
    pub(crate) fn charter_may_follow(&self, charter: &Signed<Charter>) -> Result<(), Rejection> {
        charter.validate()?;
        self.swarm_keys.get(&charter.swarm).map_or(Ok(()), |known| charter.check_follows(&known.charter))
    }

    /// The operator wants another committee. Where one is being made already, that is it.
    pub(crate) fn rotate_key(
        &mut self,
        swarm: &SwarmName,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let key = self.swarm_key(swarm)?;
        if key.asked.is_none() && key.under_way().is_none() {
            out.record(self, env, Event::CustodyAsked { swarm: swarm.clone(), author: cut(author) })?;
        }
        self.tend_key(swarm, true, env, out)
    }

    /// A custodian says its part.
    pub(crate) fn say_custody(
        &mut self,
        enclave: EnclaveId,
        word: CustodyWord,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let known = self.known(enclave)?;
        if let Some(revocation) = known.revoked() {
            return Err(revocation.refusal());
        }
        let speaker = word.speaker().enclave_id();
        if speaker != enclave {
            return Err(Rejection::new("custody.speaker", format!("who says a {}", word.kind()))
                .expected(format!("{}, whose channel it is", enclave.short()))
                .got(speaker.short()));
        }
        let custody = known.typical().configuration.custody.as_ref();
        let swarm = custody.map(|custody| custody.swarm.clone()).ok_or_else(|| {
            Rejection::new("custody.swarm", format!("swarm key of enclave {}", enclave.short()))
                .expected("one, by its configuration")
                .got("none")
                .fix("set `[custody]` of the agent")
        })?;
        if let CustodyWord::Chair(chair) = &word
            && !known.proof_by(chair.passport).is_some_and(|proof| proof.holds_at(env.now))
        {
            return Err(Rejection::new("custody.passport", "passport of a chair")
                .expected("one of this enclave that holds now")
                .got(chair.passport)
                .fix("let the enclave attest again"));
        }
        if self.swarm_key(&swarm)?.hears(&word, env.now)?.is_some() {
            out.record(self, env, Event::CustodySaid { swarm: swarm.clone(), word: Box::new(word) })?;
            self.tell_custodians(&swarm, out);
        }
        self.tend_key(&swarm, true, env, out)
    }

    /// Ends calls that came to nothing; where it is time to `search`, calls who is to be called.
    pub(crate) fn tend_custody(&mut self, search: bool, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let swarms: Vec<SwarmName> = self.swarm_keys.keys().cloned().collect();
        swarms.iter().try_for_each(|swarm| self.tend_key(swarm, search, env, out))
    }

    fn tend_key(&mut self, swarm: &SwarmName, search: bool, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        self.end_call(swarm, env, out)?;
        let Some(key) = self.swarm_keys.get(swarm).filter(|_| search) else { return Ok(()) };
        let Some(why) = self.call_due(key, env.now) else { return Ok(()) };
        // Where too few can be called, nothing is done: the view says what is missing.
        let Ok(members) = self.choose(key, env.now) else { return Ok(()) };
        let call = Box::new(dsse::sign(self.next_call(key, members, env)?, env.signer));
        out.record(self, env, Event::CustodyCalled { swarm: swarm.clone(), call, why })?;
        self.tell_custodians(swarm, out);
        Ok(())
    }

    fn end_call(&mut self, swarm: &SwarmName, env: &Env<'_>, out: &mut Change) -> Result<(), Rejection> {
        let Some(open) = self.swarm_keys.get(swarm).and_then(SwarmKey::under_way) else { return Ok(()) };
        let fell = open.board.call().members.iter().any(|member| self.is_revoked(member.enclave));
        let end = match fell && open.may_be_overtaken(self.revoked.epoch()) {
            true => Some((CallEnd::Revoked, BTreeSet::new())),
            false => open.lapse(env.now),
        };
        let Some((why, left_out)) = end else { return Ok(()) };
        let call = open.board.call().digest();
        let left_out = left_out.into_iter().collect();
        out.record(self, env, Event::CustodyEnded { swarm: swarm.clone(), call, why, left_out })?;
        self.tell_custodians(swarm, out);
        Ok(())
    }

    /// Until when a call has time that is made now.
    fn call_expires(&self, key: &SwarmKey, now: UnixTime) -> UnixTime {
        let seconds = self.limits.ceremony_seconds.clamp(1, legation_core::custody::CALL_LIFE_MAX);
        now.plus(seconds).min(key.charter.not_after)
    }

    fn next_call(&self, key: &SwarmKey, members: Vec<Called>, env: &Env<'_>) -> Result<CustodyCall, Rejection> {
        let manager = self.manager.as_ref().ok_or_else(|| defect("a manager that calls"))?;
        let before = key.committee();
        let from = before.as_ref().map(|before| Standing { epoch: before.epoch, roster: before.roster });
        let last = key.last_call();
        let again = last.filter(|last| last.from == from);
        let attempt = again.map_or(Some(1), |last| last.attempt.checked_add(1));
        let attempt = attempt.ok_or_else(|| defect("attempts at a committee"))?;
        let stays = |enclave: &EnclaveId| members.binary_search_by_key(enclave, |member| member.enclave).is_ok();
        let old = before.iter().flat_map(|before| &before.members).map(|member| member.enclave);
        let removed: Vec<EnclaveId> = old.filter(|enclave| !stays(enclave)).collect();
        Ok(CustodyCall {
            manager: manager.key,
            term: self.term,
            charter: key.charter.digest(),
            generation: before.as_ref().map_or(Generation(0), |before| before.generation),
            from,
            attempt,
            threshold: key.charter.threshold,
            members,
            removed,
            revocations: self.revoked.epoch(),
            called: env.now,
            expires: self.call_expires(key, env.now),
            prev: [key.charter.digest(), manager.digest()].into_iter().chain(last.map(Signed::digest)).collect(),
        })
    }

    /// Whether a call may be the next record.
    pub(crate) fn call_may_follow(
        &self,
        swarm: &SwarmName,
        call: &Signed<CustodyCall>,
        at: UnixTime,
    ) -> Result<(), &'static str> {
        let key = self.swarm_keys.get(swarm).ok_or("a committee is called without a charter")?;
        let manager = self.manager.as_ref().ok_or("a committee is called by nobody")?;
        let last = key.last_call();
        let again = last.filter(|last| last.from == call.from);
        let attempt = again.map_or(Some(1), |last| last.attempt.checked_add(1));
        let leads = call.manager == manager.key && call.term == self.term && call.revocations == self.revoked.epoch();
        let rests =
            call.prev.get(1) == Some(&manager.digest()) && call.prev.get(2).copied() == last.map(Signed::digest);
        let timely = (call.called..=call.expires).contains(&at);
        let fell = call.members.iter().any(|member| self.is_revoked(member.enclave));
        for (fits, what) in [
            (key.under_way().is_none(), "a committee is called while another is"),
            (leads, "a committee is called by who does not lead, or as of other revocations"),
            (rests, "a call does not rest on the one before, or on its manager's appointment"),
            (attempt == Some(call.attempt), "attempts at a committee are not counted by one"),
            (timely, "a committee is called at another time than the call says"),
            (!fell, "somebody is called that is revoked"),
        ] {
            if !fits {
                return Err(what);
            }
        }
        let opens = Board::open(call.clone(), &key.charter, key.committee().as_ref()).is_ok();
        if opens { Ok(()) } else { Err("a call does not follow its charter and the committee in force") }
    }

    fn is_revoked(&self, enclave: EnclaveId) -> bool {
        let known = self.enclaves.get(&enclave).is_some_and(|known| known.revoked().is_some());
        known || self.revoked.get(&Revocable::Enclave(enclave)).is_some()
    }

    /// Everybody with a part in the ceremonies who is here is told to look.
    fn tell_custodians(&self, swarm: &SwarmName, out: &mut Change) {
        let Some(key) = self.swarm_keys.get(swarm) else { return };
        let mut all: BTreeSet<EnclaveId> = BTreeSet::new();
        for board in key.past.iter().chain(&key.open).map(|ceremony| &ceremony.board) {
            all.extend(board.call().members.iter().map(|member| member.enclave));
            all.extend(board.before().into_iter().flat_map(|before| &before.members).map(|member| member.enclave));
        }
        for enclave in all {
            let effect = Effect::Custody { enclave, swarm: swarm.clone() };
            if self.enclaves.get(&enclave).is_some_and(|known| !known.is_away()) && !out.effects.contains(&effect) {
                out.effects.push(effect);
            }
        }
    }

    /// A custodian that arrived looks at what it missed.
    pub(crate) fn tell_custodian(&self, enclave: EnclaveId, out: &mut Change) {
        let known = self.enclaves.get(&enclave);
        let custody = known.and_then(|known| known.typical().configuration.custody.as_ref());
        if let Some(custody) = custody.filter(|custody| self.swarm_keys.contains_key(&custody.swarm)) {
            out.effects.push(Effect::Custody { enclave, swarm: custody.swarm.clone() });
        }
    }

    pub(crate) fn absorb_charter(&mut self, charter: &Signed<Charter>) {
        match self.swarm_keys.get_mut(&charter.swarm) {
            Some(known) => known.charter = charter.clone(),
            None => {
                self.swarm_keys.insert(charter.swarm.clone(), SwarmKey::new(charter.clone()));
            }
        }
    }

    pub(crate) fn absorb_asked(&mut self, swarm: &SwarmName, at: UnixTime) -> Option<()> {
        self.swarm_keys.get_mut(swarm)?.asked = Some(at);
        Some(())
    }

    pub(crate) fn absorb_called(
        &mut self,
        swarm: &SwarmName,
        call: &Signed<CustodyCall>,
        why: CallReason,
    ) -> Option<()> {
        let key = self.swarm_keys.get_mut(swarm)?;
        let (charter, before) = (key.charter.clone(), key.committee());
        let board = Board::open(call.clone(), &charter, before.as_ref()).ok()?;
        key.open = Some(Ceremony { charter, why, board, ended: None });
        Some(())
    }

    pub(crate) fn absorb_said(&mut self, swarm: &SwarmName, word: &CustodyWord, at: UnixTime) -> Option<()> {
        let key = self.swarm_keys.get_mut(swarm)?;
        let board = key.hears(word, at).ok()??;
        if key.heard_late(word).is_some() {
            key.past.as_mut()?.board = board;
            return Some(());
        }
        let open = Ceremony { board, ..key.open.take()? };
        if open.board.committee().is_none() {
            key.open = Some(open);
            return Some(());
        }
        (key.past, key.since, key.asked) = (Some(open), at, None);
        key.left_out.clear();
        Some(())
    }

    pub(crate) fn absorb_call_ended(
        &mut self,
        swarm: &SwarmName,
        why: CallEnd,
        left_out: &[EnclaveId],
        at: UnixTime,
    ) -> Option<()> {
        let key = self.swarm_keys.get_mut(swarm)?;
        key.open.as_mut()?.ended = Some(Ended { at, why });
        key.left_out.extend(left_out);
        Some(())
    }

    pub(crate) fn audit_custody(&self) -> Result<(), String> {
        for (swarm, key) in &self.swarm_keys {
            let committee = key.committee();
            let open = key.open.as_ref();
            for (fits, what) in [
                (key.charter.swarm == *swarm, "is filed under another name"),
                (key.past.is_some() == committee.is_some(), "is held by a committee that is not in force"),
                (open.is_none_or(|o| o.board.before() == committee.as_ref()), "is handed over by who has it not"),
                (open.is_none_or(|o| o.board.committee().is_none()), "has a committee in force that does not count"),
                (open.is_some() || key.left_out.is_empty(), "leaves somebody out of no call"),
            ] {
                if !fits {
                    return Err(format!("swarm key {swarm} {what}"));
                }
            }
        }
        Ok(())
    }
}
