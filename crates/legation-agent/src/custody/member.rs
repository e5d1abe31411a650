//! A custodian in the ceremonies of its swarm key, as a state machine without I/O: pages of boards and ticks go in, words come out.
//!
//! What it does in a ceremony, in this order, each as soon as the board lets it:
//! 1. it takes its chair, with a sealing key of this ceremony alone;
//! 2. as a dealer, it deals to those that it judged well: a secret that it draws, or the share that it has of a committee in force;
//! 3. it opens each dealing, and accepts or refuses it;
//! 4. when enough are settled it makes its share, stores it, and only then confirms the roster. The chair's key is wiped with the same write;
//! 5. when all confirmed, a member of the committee before erases its share, and only then says that it gave over;
//! 6. when the committee is in force, whatever share its coming made useless is erased.
//!
//! *Stored before said*: what it may not say otherwise (the chair's key, the dealing, vows, the share) is written by [`Keep`] before a word rests
//! on it. One that starts again from what was stored says the same again. Where writing fails, nothing is said, and it is tried again.
//!
//! *Said until seen*: each word is said again every [`AGAIN`] seconds until the board has it; there is no other answer.
//!
//! *Believed*: the order of words, no more. Signatures were checked when the words were read; who the committee before was, a roster says whose
//! digest the call has; in a handover no judgement of the new members is repeated: of the `t` dealers that it takes, one at least is honest and
//! judged them.

use std::collections::{BTreeMap, BTreeSet};

use legation_core::{
    Digest, EnclaveId, PublicKey, Rejection, Signed, Signer, SwarmName, UnixTime,
    custody::{
        Acceptance, Chair, Confirmation, CustodyWord, Dealing, DealingRef, Epoch, Handover, Refusal, RefusalReason,
    },
    dsse,
    statement::Appointment,
};
use legation_keys::{
    Entropy, SealingKey,
    swarm::{Roster, Share},
};
use legation_net::custody::{BoardNews, CustodyNews, Seen};
use zeroize::Zeroizing;

use super::{
    followed::{Followed, key_of},
    judge::{self, Standing},
    keep::{Keep, KeepError},
    kept::{DEALT_MAX, Held, Kept, SHARES_MAX},
};
use crate::offer::SKEW;

/// Seconds after which what is not on the board is said again.
pub const AGAIN: u64 = 2;
/// Seconds after which a question that was not answered is asked again.
const UNANSWERED: u64 = 5;
/// Seconds between two looks at the boards where something is not settled, although nobody said that they changed.
const LOOK_EVERY: u64 = 30;
/// Appointments of managers that are remembered.
const APPOINTMENTS_MAX: usize = 16;
/// Refusals that are remembered, so that each is told once.
const TOLD_MAX: usize = 64;

/// What the machine may do, beside thinking.
pub trait Hands {
    /// Its identity: what it signs words with.
    fn signer(&self) -> &dyn Signer;

    /// Randomness.
    fn entropy(&mut self) -> &mut dyn Entropy;

    /// Where its state is kept.
    fn keep(&mut self) -> &mut dyn Keep;
}

/// What a driver may do with the machine.
pub trait Machine {
    /// There is a channel to a manager, or another: everything is asked and said anew.
    fn connect(&mut self, standing: &Standing<'_>) -> Turn;

    /// The manager says that ceremonies went on.
    fn change(&mut self, standing: &Standing<'_>) -> Turn;

    /// The manager says how far they are.
    fn hear(&mut self, news: &CustodyNews, standing: &Standing<'_>, hands: &mut dyn Hands) -> Turn;

    /// Time has passed: to be called every second or so.
    fn tick(&mut self, standing: &Standing<'_>, hands: &mut dyn Hands) -> Turn;
}

/// What comes of it.
#[derive(Debug, Default)]
pub struct Turn {
    /// What is to be said, in this order.
    pub words: Vec<CustodyWord>,
    /// What is to be asked.
    pub ask: Option<Ask>,
    /// What happened.
    pub notices: Vec<Notice>,
}

/// What is known of the boards: `ToManager::AskCustody`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Of the ceremony that is under way.
    pub open: Option<Seen>,
    /// Of the one by which the committee came into force.
    pub past: Option<Seen>,
}

/// What happened to a custodian. Nothing here is secret.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// It takes a chair.
    Called {
        /// How often the key will have changed hands.
        epoch: Epoch,
        /// Which attempt.
        attempt: u32,
        /// Until when all must have confirmed.
        until: UnixTime,
    },
    /// It refuses a dealing.
    Found {
        /// Whose it is.
        dealer: EnclaveId,
        /// What is wrong with it.
        why: RefusalReason,
    },
    /// It stored its share, and confirms the roster.
    Confirmed {
        /// How often the key will have changed hands.
        epoch: Epoch,
        /// The roster.
        roster: Digest,
    },
    /// It erased its share, and gives over.
    GaveOver {
        /// How often the key will have changed hands.
        epoch: Epoch,
        /// The roster that it gives over to.
        to: Digest,
    },
    /// Its committee is in force.
    Holds {
        /// How often the key has changed hands.
        epoch: Epoch,
        /// The roster.
        roster: Digest,
        /// SHA-256 of the key.
        key: Digest,
        /// Index of its share, from 1.
        index: u16,
    },
    /// It takes no part in something, for this reason. Told once.
    Refused {
        /// Why.
        why: Rejection,
    },
    /// Its state could not be stored: it says nothing that rests on it. Told once.
    Unkept {
        /// Why.
        why: KeepError,
    },
}

/// Why there is no such machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// What was kept cannot be had.
    #[error("state of the custodian: {0}")]
    Keep(#[from] KeepError),
    /// What was kept is damaged, or another's.
    #[error(
        "state of the custodian of swarm key `{swarm}`: expected what a custodian stored, got something else: {why}"
    )]
    Kept {
        /// Of which swarm key.
        swarm: SwarmName,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why it does not do something.
enum Trouble {
    Refused(Rejection),
    Unkept(KeepError),
}

impl From<Rejection> for Trouble {
    fn from(why: Rejection) -> Self {
        Self::Refused(why)
    }
}

impl From<KeepError> for Trouble {
    fn from(why: KeepError) -> Self {
        Self::Unkept(why)
    }
}

/// What is said at most once in a while.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Saying {
    Chair,
    Dealing,
    Verdict(DealingRef),
    Confirmation,
    Handover,
}

/// The machine.
pub struct Member {
    me: PublicKey,
    kept: Kept,
    /// Why managers that called may be believed; the newest last.
    appointments: Vec<Signed<Appointment>>,
    open: Option<Followed>,
    past: Option<Followed>,
    /// When something was said, by its call.
    said: BTreeMap<(Digest, Saying), UnixTime>,
    told: BTreeSet<String>,
    /// Since when a question is not answered.
    asked: Option<UnixTime>,
    /// Something changed since that question.
    again: bool,
    /// When it last looked at the boards.
    looked: UnixTime,
    /// What the manager said of the open ceremony is of no use: it is to be had from its beginning.
    anew: bool,
}

fn bad(check: &str, claim: impl Into<String>) -> Rejection {
    Rejection::new(&format!("custody.{check}"), claim)
}

fn many(what: &str) -> Rejection {
    bad("attempts", what).expected("as many as are kept").got("more").fix("wait until the time of other calls is over")
}

impl Member {
    /// The machine of the one who signs, as it was when it stored last.
    ///
    /// # Errors
    /// What was kept cannot be read: it is never taken for none.
    pub fn start(swarm: SwarmName, hands: &mut dyn Hands) -> Result<Self, MemberError> {
        let me = hands.signer().public_key();
        let kept = match hands.keep().load()? {
            None => Kept::new(swarm, me),
            Some(bytes) => {
                Kept::from_bytes(&bytes, &swarm, me).map_err(|why| MemberError::Kept { swarm: swarm.clone(), why })?
            }
        };
        Ok(Self {
            me,
            kept,
            appointments: Vec::new(),
            open: None,
            past: None,
            said: BTreeMap::new(),
            told: BTreeSet::new(),
            asked: None,
            again: false,
            looked: UnixTime(0),
            anew: false,
        })
    }

    /// Which swarm key.
    pub fn swarm(&self) -> &SwarmName {
        &self.kept.swarm
    }

    /// Whether something is kept for an identity, of this boot or an earlier one.
    pub fn keeps(&self, key: PublicKey) -> bool {
        let own = key == self.me && !(self.kept.own.shares.is_empty() && self.kept.own.calls.is_empty());
        own || self.kept.former.iter().any(|role| role.who == key)
    }

    /// The rosters of which this boot has shares, and whether their committees were seen in force.
    pub fn rosters(&self) -> impl Iterator<Item = (&Roster, bool)> {
        self.kept.own.shares.iter().map(|held| (&held.roster, held.in_force))
    }

    /// The share that this boot has of a roster.
    pub fn share(&self, roster: Digest) -> Option<Share> {
        self.kept.own.held(roster)?.share()
    }

    fn id(&self) -> EnclaveId {
        self.me.enclave_id()
    }

    /// Stores what is to be kept from now on; only then it is.
    fn store(&mut self, next: Kept, hands: &mut dyn Hands) -> Result<(), KeepError> {
        hands.keep().store(&next.to_bytes()?)?;
        self.kept = next;
        Ok(())
    }

    /// Whether something is to be said now, which is noted.
    fn may_say(&mut self, call: Digest, what: Saying, now: UnixTime) -> bool {
        let said = self.said.get(&(call, what));
        if said.is_some_and(|at| now >= *at && now.since(*at) < AGAIN) {
            return false;
        }
        self.said.insert((call, what), now);
        true
    }

    fn tell(&mut self, trouble: Trouble, turn: &mut Turn) {
        let (text, notice) = match trouble {
            Trouble::Refused(why) => (why.to_string(), Notice::Refused { why }),
            Trouble::Unkept(why) => (why.to_string(), Notice::Unkept { why }),
        };
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        if self.told.insert(text) {
            turn.notices.push(notice);
        }
    }

    /// The question, unless one is not answered yet.
    fn ask(&mut self, now: UnixTime) -> Option<Ask> {
        if self.asked.is_some_and(|at| now >= at && now.since(at) < UNANSWERED) {
            self.again = true;
            return None;
        }
        (self.asked, self.again) = (Some(now), false);
        let open = self.open.as_ref().filter(|_| !self.anew).map(Followed::seen);
        Some(Ask { open, past: self.past.as_ref().map(Followed::seen) })
    }

    /// Follows one board on.
    fn follow(&mut self, known: Option<Followed>, news: &BoardNews, turn: &mut Turn) -> Option<Followed> {
        match Followed::take(known, news) {
            Ok(followed) => followed,
            Err(why) => {
                self.tell(why.into(), turn);
                None
            }
        }
    }

    fn learn_managers(&mut self, news: &CustodyNews, standing: &Standing<'_>) {
        for appointment in news.past.iter().chain(&news.open).filter_map(|board| board.appointment.as_ref()) {
            let known = self.appointments.iter().any(|known| known.digest() == appointment.digest());
            if known || !standing.operators.contains(&appointment.operator) {
                continue;
            }
            if self.appointments.len() >= APPOINTMENTS_MAX {
                self.appointments.remove(0);
            }
            self.appointments.push(appointment.clone());
        }
    }

    /// Says what is due on both boards.
    fn speak(&mut self, standing: &Standing<'_>, hands: &mut dyn Hands, turn: &mut Turn) {
        if let Err(why) = self.forget(standing.now, hands) {
            self.tell(why.into(), turn);
        }
        if let Some(mut past) = self.past.take() {
            if let Err(trouble) = self.part(&mut past, standing, hands, turn) {
                self.tell(trouble, turn);
            }
            self.past = Some(past);
        }
        if let Some(mut open) = self.open.take() {
            if let Err(trouble) = self.part(&mut open, standing, hands, turn) {
                self.tell(trouble, turn);
            }
            self.open = Some(open);
        }
    }

    /// Forgets what it has of calls whose time is over, by any clock.
    fn forget(&mut self, now: UnixTime, hands: &mut dyn Hands) -> Result<(), KeepError> {
        let earlier = now.minus(SKEW);
        if self.kept.own.calls.iter().all(|joined| earlier <= joined.expires) {
            return Ok(());
        }
        let mut next = self.kept.clone();
        next.own.forget_calls(earlier);
        self.store(next, hands)
    }

    /// Its part in one ceremony.
    fn part(
        &mut self,
        it: &mut Followed,
        standing: &Standing<'_>,
        hands: &mut dyn Hands,
        turn: &mut Turn,
    ) -> Result<(), Trouble> {
        self.hand_over(it, standing.now, hands, turn)?;
        self.come_into_force(it, hands, turn)?;
        let (is_member, is_dealer) =
            (it.board.member_index(self.id()).is_some(), it.board.dealer_index(self.id()).is_some());
        if it.board.agreed().is_some() || !it.is_alive(standing.now) || !(is_member || is_dealer) {
            return Ok(());
        }
        let own = &self.kept.own;
        judge::call(&self.kept.swarm, (it.board.call(), &it.charter), &self.appointments, own.charter, standing)?;
        judge::goes_on(it.board.call(), own)?;
        if is_member {
            self.sit(it, standing, hands, turn)?;
        }
        if let Some(ceremony) = it.board.ceremony().filter(|ceremony| self.kept.own.made_in(*ceremony).is_some()) {
            return self.confirm_again(it, ceremony, standing.now, hands, turn);
        }
        if !it.convene(&self.kept.own)? {
            return Ok(());
        }
        if let Err(why) = it.judge(standing) {
            // A passport may have ended, or not have been there.
            self.anew = true;
            return Err(why.into());
        }
        if is_dealer && it.board.settled().is_none() {
            self.deal(it, standing.now, hands, turn)?;
        }
        if is_member { self.accept_and_confirm(it, standing.now, hands, turn) } else { Ok(()) }
    }

    /// Step 1.
    fn sit(
        &mut self,
        it: &Followed,
        standing: &Standing<'_>,
        hands: &mut dyn Hands,
        turn: &mut Turn,
    ) -> Result<(), Trouble> {
        let call = it.board.call();
        let taken = it.board.ceremony().is_some() || it.board.chairs().any(|chair| chair.enclave == self.me);
        let Some(passport) = standing.passport.filter(|_| !taken) else { return Ok(()) };
        let seed = match self.kept.own.joined(call.digest()) {
            Some(joined) => joined.seed.clone(),
            None => {
                let mut seed = Zeroizing::new([0; 32]);
                hands.entropy().fill(&mut seed[..]);
                let mut next = self.kept.clone();
                let joined = next.own.join(call.digest(), call.expires);
                joined.ok_or_else(|| many("calls at one time"))?.seed = Some(seed.clone());
                next.own.charter = next.own.charter.max(it.charter.number);
                self.store(next, hands)?;
                let (epoch, attempt, until) = (it.board.epoch(), call.attempt, call.expires);
                turn.notices.push(Notice::Called { epoch, attempt, until });
                Some(seed)
            }
        };
        // It confirmed already: that its chair is gone is somebody else's doing, and another would be another word.
        let Some(seed) = seed else { return Ok(()) };
        if self.may_say(call.digest(), Saying::Chair, standing.now) {
            let sealing = SealingKey::from_seed(*seed).public().clone();
            let call = call.digest();
            let word = Chair { call, enclave: self.me, passport, sealing, prev: vec![call, passport] };
            turn.words.push(CustodyWord::Chair(dsse::sign(word, hands.signer())));
        }
        Ok(())
    }

    /// Step 2.
    fn deal(&mut self, it: &Followed, now: UnixTime, hands: &mut dyn Hands, turn: &mut Turn) -> Result<(), Trouble> {
        let call = it.board.call().digest();
        let dealt = |word: &CustodyWord| matches!(word, CustodyWord::Dealing(word) if word.dealer == self.me);
        let Some(ceremony) = it.ceremony() else { return Ok(()) };
        if it.board.words().iter().any(|said| dealt(&said.word)) {
            return Ok(());
        }
        let share = match ceremony.from() {
            None => None,
            // Of a committee that was not seen in force, or was handed over, it deals nothing.
            Some(from) => match self.kept.own.held(from.digest()).filter(|held| held.in_force) {
                Some(held) => held.share(),
                None => return Ok(()),
            },
        };
        let dealing = match self.kept.own.joined(call).and_then(|joined| joined.dealt.as_ref()) {
            Some((known, dealing)) if *known == ceremony.digest() => dealing.clone(),
            Some((known, _)) => {
                let why =
                    bad("ceremony", "ceremony of a call in which it dealt").expected(known).got(ceremony.digest());
                return Err(why.fix("wait for the next call").into());
            }
            None => {
                let made = match (&share, ceremony.index_of(self.id())) {
                    (Some(share), _) => ceremony.redeal(share, hands.entropy()),
                    (None, Some(index)) => ceremony.deal(index, hands.entropy()),
                    (None, None) => return Ok(()),
                };
                let made = made.map_err(|why| bad("dealing", "dealing").expected("one to each chair").got(why))?;
                let dealing = made.to_bytes();
                let mut next = self.kept.clone();
                if next.own.dealt().saturating_add(dealing.len()) > DEALT_MAX {
                    return Err(many("bytes of dealings").into());
                }
                let joined = next.own.join(call, it.board.call().expires);
                joined.ok_or_else(|| many("calls at one time"))?.dealt = Some((ceremony.digest(), dealing.clone()));
                self.store(next, hands)?;
                dealing
            }
        };
        if self.may_say(call, Saying::Dealing, now) {
            let prev = [call].into_iter().chain(it.board.chairs().map(Signed::digest)).collect();
            let roster = ceremony.from().map(Roster::to_bytes);
            let word = Dealing { ceremony: ceremony.digest(), dealer: self.me, dealing, roster, prev };
            turn.words.push(CustodyWord::Dealing(dsse::sign(word, hands.signer())));
        }
        Ok(())
    }

    /// Steps 3 and 4.
    fn accept_and_confirm(
        &mut self,
        it: &mut Followed,
        now: UnixTime,
        hands: &mut dyn Hands,
        turn: &mut Turn,
    ) -> Result<(), Trouble> {
        let Some(ceremony) = it.board.ceremony() else { return Ok(()) };
        let call = it.board.call().digest();
        let joined = self.kept.own.joined(call).and_then(|joined| joined.seed.as_ref());
        let key = joined.map(|seed| SealingKey::from_seed(**seed));
        let sits = |key: &SealingKey| {
            it.board.chairs().any(|chair| chair.enclave == self.me && chair.sealing == *key.public())
        };
        let Some(key) = key.filter(sits) else {
            let why = bad("sealing", "sealing key of the chair of this enclave");
            let why = why.expected("one that is kept here").got("none: its state was lost, or is an older one");
            return Err(why.fix("wait for the next call").into());
        };
        for (word, why) in it.open_dealings(self.id(), &key) {
            if let Some(why) = why {
                turn.notices.push(Notice::Found { dealer: word.dealer.enclave_id(), why });
            }
        }
        if it.board.settled().is_none() {
            self.judge_dealings(it, ceremony, now, hands, turn);
            return Ok(());
        }
        let Some((roster, share)) = it.conclude()? else { return Ok(()) };
        let mut next = self.kept.clone();
        if next.own.shares.len() >= SHARES_MAX {
            return Err(many("shares of attempts at one epoch").into());
        }
        let (epoch, digest) = (roster.epoch(), roster.digest());
        let word = next.own.vows.confirm(&it.board, self.me, (digest, key_of(&roster)), now)?;
        let held = Held::new(roster, &share);
        let unfit = || bad("roster", "share of the roster").expected("the one that the roster says").got("another");
        next.own.shares.push(held.ok_or_else(unfit)?);
        for joined in next.own.calls.iter_mut().filter(|joined| joined.call == call) {
            joined.seed = None;
        }
        self.store(next, hands)?;
        it.wipe();
        turn.notices.push(Notice::Confirmed { epoch, roster: digest });
        self.say_confirmation(call, word, now, hands, turn);
        Ok(())
    }

    /// Step 3: what it found of each dealing that it has not judged on the board.
    fn judge_dealings(
        &mut self,
        it: &Followed,
        ceremony: Digest,
        now: UnixTime,
        hands: &mut dyn Hands,
        turn: &mut Turn,
    ) {
        let (me, call) = (self.id(), it.board.call().digest());
        let mut good: Vec<(DealingRef, Digest)> = Vec::new();
        for word in it.board.dealings().filter(|word| !it.board.has_judged(me, &word.name())) {
            let name = word.name();
            let Some(found) = it.verdict(&name) else { continue };
            if !self.may_say(call, Saying::Verdict(name), now) {
                continue;
            }
            match found {
                None => good.push((name, word.digest())),
                Some(why) => {
                    let said = Refusal { ceremony, member: self.me, dealing: name, why, prev: vec![word.digest()] };
                    turn.words.push(CustodyWord::Refusal(dsse::sign(said, hands.signer())));
                }
            }
        }
        if good.is_empty() {
            return;
        }
        good.sort_unstable();
        let (dealings, prev) = good.into_iter().unzip();
        let said = Acceptance { ceremony, member: self.me, dealings, prev };
        turn.words.push(CustodyWord::Acceptance(dsse::sign(said, hands.signer())));
    }

    /// Step 4 where its share of this ceremony is stored: the same word again, until the board has it.
    fn confirm_again(
        &mut self,
        it: &Followed,
        ceremony: Digest,
        now: UnixTime,
        hands: &mut dyn Hands,
        turn: &mut Turn,
    ) -> Result<(), Trouble> {
        let seen = it.board.confirmations().any(|word| word.member == self.me);
        let (Some(held), Some(settled)) = (self.kept.own.made_in(ceremony), it.board.settled()) else { return Ok(()) };
        if seen {
            return Ok(());
        }
        // Settled dealings of another journal make another roster: it confirmed one.
        let same = held.roster.dealings().iter().map(|(_, dealing)| *dealing).eq(settled.iter().map(|d| d.dealing));
        if !same {
            let why = bad("fork", "settled dealings of a ceremony in which it confirmed");
            let why = why.expected(format!("those of roster {}", held.roster.digest().short())).got("others");
            return Err(why.fix("the manager showed two journals: tell its operator").into());
        }
        let named = (held.roster.digest(), key_of(&held.roster));
        let mut vows = self.kept.own.vows.clone();
        let word = vows.confirm(&it.board, self.me, named, now)?;
        if vows != self.kept.own.vows {
            let mut next = self.kept.clone();
            next.own.vows = vows;
            self.store(next, hands)?;
        }
        self.say_confirmation(it.board.call().digest(), word, now, hands, turn);
        Ok(())
    }

    fn say_confirmation(
        &mut self,
        call: Digest,
        word: Confirmation,
        now: UnixTime,
        hands: &mut dyn Hands,
        turn: &mut Turn,
    ) {
        if self.may_say(call, Saying::Confirmation, now) {
            turn.words.push(CustodyWord::Confirmation(dsse::sign(word, hands.signer())));
        }
    }

    /// Step 5.
    fn hand_over(
        &mut self,
        it: &Followed,
        now: UnixTime,
        hands: &mut dyn Hands,
        turn: &mut Turn,
    ) -> Result<(), Trouble> {
        let (Some(before), Some(agreed)) = (it.board.before(), it.board.agreed()) else { return Ok(()) };
        let (own, from) = (&self.kept.own, before.roster);
        let holds = own.held(from).is_some();
        if !before.has(self.id()) || !(holds || own.vows.has_left(from)) {
            return Ok(());
        }
        if holds && it.knows_before(own) != Some(true) {
            let why = bad("from", "committee that hands over, as the manager tells of it");
            let why = why.expected(format!("the one of roster {}", from.short())).got("other members, or another key");
            return Err(why.fix("the manager lies: tell its operator").into());
        }
        let mut next = self.kept.clone();
        let word: Handover = next.own.vows.hand_over(&it.board, self.me)?;
        let (epoch, to) = (word.epoch, agreed.roster);
        if holds || next.own.vows != own.vows {
            next.own.shares.retain(|held| held.roster.digest() != from);
            self.store(next, hands)?;
            turn.notices.push(Notice::GaveOver { epoch, to });
        }
        let unsaid = it.board.keeping().any(|member| member == self.id());
        if unsaid && self.may_say(it.board.call().digest(), Saying::Handover, now) {
            turn.words.push(CustodyWord::Handover(dsse::sign(word, hands.signer())));
        }
        Ok(())
    }

    /// Step 6.
    fn come_into_force(&mut self, it: &Followed, hands: &mut dyn Hands, turn: &mut Turn) -> Result<(), Trouble> {
        let Some(committee) = it.board.committee() else { return Ok(()) };
        // Shares are erased on the word of members whom a roster names, never on that of whom the manager names.
        if it.knows_before(&self.kept.own) != Some(true) {
            return Ok(());
        }
        let before = it.board.before().map(|before| before.roster);
        let mut next = self.kept.clone();
        let (mut changed, mut holds) = (false, None);
        if let Some(held) = next.own.shares.iter_mut().find(|held| held.roster.digest() == committee.roster)
            && !held.in_force
        {
            (held.in_force, changed) = (true, true);
            let index = held.roster.index_of(self.id()).map_or(0, |index| index.get());
            let (epoch, roster, key) = (committee.epoch, committee.roster, committee.key.id());
            holds = Some(Notice::Holds { epoch, roster, key, index });
        }
        changed |= next.own.supersede(before, committee.roster);
        for role in &mut next.former {
            changed |= role.supersede(before, committee.roster);
        }
        next.former.retain(|role| !role.shares.is_empty());
        if changed {
            self.store(next, hands)?;
            turn.notices.extend(holds);
        }
        Ok(())
    }

    /// Whether something may go on that nobody tells it of.
    fn is_unsettled(&self) -> bool {
        self.open.is_some() || self.kept.own.shares.iter().any(|held| !held.in_force) || !self.kept.former.is_empty()
    }
}

impl Machine for Member {
    fn connect(&mut self, standing: &Standing<'_>) -> Turn {
        self.asked = None;
        self.said.clear();
        Turn { ask: self.ask(standing.now), ..Turn::default() }
    }

    fn change(&mut self, standing: &Standing<'_>) -> Turn {
        Turn { ask: self.ask(standing.now), ..Turn::default() }
    }

    fn hear(&mut self, news: &CustodyNews, standing: &Standing<'_>, hands: &mut dyn Hands) -> Turn {
        let mut turn = Turn::default();
        (self.asked, self.looked) = (None, standing.now);
        if news.swarm != self.kept.swarm {
            let why = bad("swarm", "swarm key of the manager's news").expected(&self.kept.swarm).got(&news.swarm);
            self.tell(why.into(), &mut turn);
            return turn;
        }
        self.learn_managers(news, standing);
        let (mut open, mut past) = (self.open.take(), self.past.take());
        let calls: Vec<Digest> = news.past.iter().chain(&news.open).map(|board| board.call.digest()).collect();
        self.said.retain(|(call, _), _| calls.contains(call));
        if let Some(board) = &news.past {
            let same = |known: &mut Followed| known.board.call().digest() == board.call.digest();
            // The one that was under way may have come into force.
            let known = past.take_if(same).or_else(|| open.take_if(same));
            self.past = self.follow(known, board, &mut turn);
        }
        if let Some(board) = &news.open {
            let known = open.take();
            self.open = self.follow(known, board, &mut turn);
            if let Some(open) = &mut self.open {
                open.meet(&news.peers);
            }
        }
        self.anew = match &self.open {
            Some(_) => self.anew && news.peers.is_empty(),
            None => news.open.is_some(),
        };
        if news.more || self.again {
            turn.ask = self.ask(standing.now);
        }
        // The rest of the board may say otherwise.
        if !news.more {
            self.speak(standing, hands, &mut turn);
        }
        turn
    }

    fn tick(&mut self, standing: &Standing<'_>, hands: &mut dyn Hands) -> Turn {
        let mut turn = Turn::default();
        self.speak(standing, hands, &mut turn);
        let now = standing.now;
        let waited = |since: UnixTime, seconds| now < since || now.since(since) >= seconds;
        // A manager that has no charter for this key answers nothing: it says when it has one.
        let patience = if self.again || self.open.is_some() { UNANSWERED } else { LOOK_EVERY };
        let asked = self.asked.is_some_and(|at| waited(at, patience));
        let looks = self.asked.is_none()
            && ((self.anew && waited(self.looked, UNANSWERED))
                || (self.is_unsettled() && waited(self.looked, LOOK_EVERY)));
        if asked || looks {
            turn.ask = self.ask(now);
        }
        turn
    }
}
