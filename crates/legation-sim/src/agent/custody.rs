//! A custodian: it follows the boards of its swarm key, holds them against charter and call as the product's code does, and says its part once
//! its board says that it is due. What it must not say otherwise are the product's [`Vows`]. Shares are toys ([`crate::toy`]).
//!
//! What outlives a restart of its process is in [`Kept`], and it is kept before what rests on it is said: the sealing key of its chair, its own
//! dealing, its vows, its shares. All else is asked for again.
//!
//! While there is trouble, some take part in a ceremony as they should not ([`Manner`]). Liars have their own keys and nothing else.

use std::collections::BTreeMap;

use legation_core::{
    Digest, EnclaveId, PublicKey, SealingPublicKey, Signed, Signer, UnixTime,
    custody::{
        Acceptance, Board, Chair, Confirmation, CustodyWord, Dealing, DealingRef, Epoch, Refusal, RefusalReason, Vows,
        WordKind,
    },
    dsse::sign,
};

use super::Agent;
use crate::{
    clock::{Instant, Span},
    defect::Defect,
    ether::Ether,
    fault::Fault,
    keys::Key,
    message::{BoardNews, CustodyNews, Seen, Timer, Up},
    oracle::Share,
    random::Random,
    toy::{self, Dealt, Number, Polynomial, Roster},
};

/// Between two questions that nobody gave reason to.
const ASK: (Span, Span) = (Span::millis(2500), Span::millis(3500));
/// A word that the board does not show is said again after so long.
const SAY_AGAIN: Span = Span::millis(1500);
/// For how long a custodian is gone that dies, or restarts.
const GONE: (Span, Span) = (Span::millis(300), Span::seconds(5));

/// What outlives a restart.
#[derive(Default)]
struct Kept {
    vows: Vows,
    /// By call.
    chairs: BTreeMap<Digest, SealingPublicKey>,
    /// By ceremony: one of an honest dealer.
    dealings: BTreeMap<Digest, Vec<Vec<u8>>>,
    /// By roster, with its bytes.
    shares: BTreeMap<Digest, (Share, Vec<u8>)>,
}

/// A custodian.
#[derive(Default)]
pub(super) struct Custodian {
    kept: Kept,
    open: Option<Board>,
    past: Option<Board>,
    /// It asked, and was not answered yet.
    asks: bool,
    /// Something changed since.
    again: bool,
    /// What it spoke of when.
    spoken: BTreeMap<Digest, Instant>,
    /// By call.
    manners: BTreeMap<Digest, Manner>,
}

/// How a custodian takes part in a ceremony.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Honest,
    /// Says nothing of this kind, nor of those after.
    Silent(WordKind),
    /// Refuses dealings that are sound.
    Slanders,
    /// Deals a share that it did not commit to, or not its own share.
    DealsBadly,
    DealsTwice,
    /// Confirms two rosters, the false one first or last.
    ConfirmsTwice {
        first: bool,
    },
    /// Is gone with its share before it says this.
    Dies(WordKind),
    /// Says it or not, and starts again with what it kept.
    Restarts(WordKind),
}

impl Manner {
    fn draw(random: &mut Random) -> Self {
        const KINDS: [WordKind; 5] =
            [WordKind::Chair, WordKind::Dealing, WordKind::Acceptance, WordKind::Confirmation, WordKind::Handover];
        let kind = *random.pick(&KINDS).unwrap_or(&WordKind::Chair);
        match random.range(0, 35) {
            0 => Self::Silent(kind),
            1 => Self::Slanders,
            2 => Self::DealsBadly,
            3 => Self::DealsTwice,
            4..=5 => Self::ConfirmsTwice { first: random.chance(500) },
            6 => Self::Dies(kind),
            7..=8 => Self::Restarts(kind),
            _ => Self::Honest,
        }
    }
}

/// With what it takes its turn at a board.
#[derive(Clone, Copy)]
struct Turn<'a> {
    board: &'a Board,
    boot: &'a Key,
    manner: Manner,
    /// By the agent's clock.
    now: UnixTime,
}

impl Turn<'_> {
    fn key(&self) -> PublicKey {
        self.boot.public_key()
    }

    fn enclave(&self) -> EnclaveId {
        self.boot.enclave()
    }

    /// Whether the board has a word of this kind by this custodian.
    fn has_said(&self, kind: WordKind) -> bool {
        let me = self.key();
        self.board.words().iter().any(|said| said.word.kind() == kind && said.word.speaker() == me)
    }

    /// The share that a dealing gives, with what the dealing commits to.
    fn opens(&self, dealing: &Signed<Dealing>, chair: Option<&SealingPublicKey>) -> Result<Opened, RefusalReason> {
        let dealer = dealing.dealer.enclave_id();
        let dealt = Dealt::read(&dealing.dealing, self.board.call().threshold).ok_or(RefusalReason::Commitment)?;
        let from = self.board.dealer_index(dealer).ok_or(RefusalReason::Commitment)?;
        if self.board.before().is_some() {
            let roster = dealing.roster.as_deref().and_then(Roster::read).ok_or(RefusalReason::Commitment)?;
            if roster.polynomial.at(from) != dealt.polynomial.at(0) {
                return Err(RefusalReason::Commitment);
            }
        }
        let index = self.board.member_index(self.enclave()).ok_or(RefusalReason::Unopened)?;
        let sealed = dealt.sealed.get(usize::from(index) - 1).ok_or(RefusalReason::Unopened)?;
        let chair = chair.ok_or(RefusalReason::Unopened)?;
        let value = sealed.minus(toy::pad(chair, dealing.ceremony, dealer));
        if value == dealt.polynomial.at(index) {
            Ok(Opened { from, value, polynomial: dealt.polynomial })
        } else {
            Err(RefusalReason::Mismatch)
        }
    }
}

/// A dealing, as the member sees it that opened its share.
struct Opened {
    /// Index of the dealer.
    from: u16,
    value: Number,
    polynomial: Polynomial,
}

/// A board as the manager tells it, on what is known of it. Nothing where the part before is missing: it is asked for again.
///
/// # Errors
/// The journal has what the board refuses.
fn follow(known: &[Option<Board>; 2], news: &BoardNews) -> Result<Option<Board>, String> {
    let same = known.iter().flatten().find(|board| board.call().digest() == news.call.digest());
    let mut board = match same {
        Some(board) => board.clone(),
        None if news.from == 0 => {
            Board::open(news.call.clone(), &news.charter, news.before.as_ref()).map_err(|why| why.to_string())?
        }
        None => return Ok(None),
    };
    if news.from <= board.words().len() {
        for said in &news.words {
            board.absorb(&said.word, said.at).map_err(|why| why.to_string())?;
        }
    }
    Ok(Some(board))
}

impl Custodian {
    /// What it asked by a channel that has ended is not answered.
    pub(super) fn waits_no_more(&mut self) {
        self.asks = false;
    }

    /// What it starts again with.
    fn restarted(&mut self) -> Self {
        Self { kept: std::mem::take(&mut self.kept), ..Self::default() }
    }

    /// Whether it is time to speak of something, for the first time or again.
    fn is_due(&mut self, about: Digest, now: Instant) -> bool {
        let due = self.spoken.get(&about).is_none_or(|said| now.since(*said) >= SAY_AGAIN);
        if due {
            self.spoken.insert(about, now);
        }
        due
    }

    fn erase(&mut self, ether: &mut Ether, enclave: EnclaveId, roster: Digest) {
        if self.kept.shares.remove(&roster).is_some() {
            ether.reach("custody: a share is erased");
            let verdict = ether.oracle.erases(enclave, roster);
            ether.judge(verdict);
        }
    }

    /// Shares of committees that were, and of attempts that came to nothing, when another is in force.
    fn erase_past(&mut self, ether: &mut Ether, enclave: EnclaveId) {
        let Some(committee) = self.past.as_ref().and_then(Board::committee) else { return };
        let is_past = |epoch: Epoch, roster: Digest| epoch <= committee.epoch && roster != committee.roster;
        let all = self.kept.shares.iter();
        let past: Vec<Digest> =
            all.filter(|(roster, (share, _))| is_past(share.epoch, **roster)).map(|(roster, _)| *roster).collect();
        for roster in past {
            self.erase(ether, enclave, roster);
        }
    }

    /// What it has to say now; what it rests on is kept.
    fn due(&mut self, ether: &mut Ether, turn: Turn<'_>, passport: Option<Digest>) -> Vec<CustodyWord> {
        let mut due: Vec<CustodyWord> = self.chair(ether, turn, passport).into_iter().collect();
        due.extend(self.deal(ether, turn));
        due.extend(self.judge(ether, turn));
        due.extend(self.confirm(ether, turn));
        due.extend(self.hand_over(ether, turn));
        due
    }

    fn chair(&mut self, ether: &mut Ether, turn: Turn<'_>, passport: Option<Digest>) -> Option<CustodyWord> {
        let call = turn.board.call().digest();
        turn.board.member_index(turn.enclave())?;
        let passport = passport.filter(|_| !turn.has_said(WordKind::Chair))?;
        if !self.is_due(call, ether.now) {
            return None;
        }
        let kept = self.kept.chairs.entry(call).or_insert_with(|| toy::sealing_key(&mut ether.random));
        let sealing = kept.clone();
        let chair = Chair { call, enclave: turn.key(), passport, sealing, prev: vec![call, passport] };
        Some(CustodyWord::Chair(sign(chair, turn.boot)))
    }

    fn deal(&mut self, ether: &mut Ether, turn: Turn<'_>) -> Vec<CustodyWord> {
        let board = turn.board;
        let Some(ceremony) = board.ceremony().filter(|_| board.settled().is_none()) else { return Vec::new() };
        if board.dealer_index(turn.enclave()).is_none() || turn.has_said(WordKind::Dealing) {
            return Vec::new();
        }
        let before = board.before().map(|before| self.kept.shares.get(&before.roster).cloned());
        // Of a committee whose share it has no more, it has nothing to hand on.
        if matches!(before, Some(None)) || !self.is_due(ceremony, ether.now) {
            return Vec::new();
        }
        let share = before.flatten();
        let dealings = match self.kept.dealings.get(&ceremony) {
            Some(dealings) => dealings.clone(),
            None => {
                let dealings = deal(ether, turn, ceremony, share.as_ref().map(|(share, _)| share.value));
                self.kept.dealings.insert(ceremony, dealings.clone());
                dealings
            }
        };
        let roster = share.map(|(_, roster)| roster);
        let prev: Vec<Digest> =
            std::iter::once(board.call().digest()).chain(board.chairs().map(Signed::digest)).collect();
        let word = |dealing: Vec<u8>| {
            let (roster, prev) = (roster.clone(), prev.clone());
            CustodyWord::Dealing(sign(Dealing { ceremony, dealer: turn.key(), dealing, roster, prev }, turn.boot))
        };
        dealings.into_iter().map(word).collect()
    }

    fn judge(&mut self, ether: &mut Ether, turn: Turn<'_>) -> Vec<CustodyWord> {
        let (board, member, mut said) = (turn.board, turn.key(), Vec::new());
        let Some(ceremony) = board.ceremony().filter(|_| board.settled().is_none()) else { return said };
        if board.member_index(turn.enclave()).is_none() {
            return said;
        }
        let mut sound = Vec::new();
        for dealing in board.dealings() {
            let name = dealing.name();
            if board.has_judged(turn.enclave(), &name) || !self.is_due(name.dealing, ether.now) {
                continue;
            }
            let chair = self.kept.chairs.get(&board.call().digest());
            let mut refused = turn.opens(dealing, chair).err();
            // It says the same of the same each time.
            if turn.manner == Manner::Slanders && refused.is_none() && name.dealing.as_bytes()[0].is_multiple_of(2) {
                ether.fault(Fault::CustodianSlanders);
                refused = Some(RefusalReason::Mismatch);
            }
            match refused {
                None => sound.push((name, dealing.digest())),
                Some(why) => {
                    ether.tally.reach(&format!("custody: a dealing is refused, {why:?}"));
                    let refusal = Refusal { ceremony, member, dealing: name, why, prev: vec![dealing.digest()] };
                    said.push(CustodyWord::Refusal(sign(refusal, turn.boot)));
                }
            }
        }
        sound.sort_unstable();
        if !sound.is_empty() {
            let (dealings, prev) = sound.into_iter().unzip();
            said.push(CustodyWord::Acceptance(sign(Acceptance { ceremony, member, dealings, prev }, turn.boot)));
        }
        said
    }

    /// The roster that the settled dealings make, and this custodian's share of it.
    fn combine(&self, turn: Turn<'_>) -> Option<(Roster, Share)> {
        let board = turn.board;
        let chair = self.kept.chairs.get(&board.call().digest());
        let named = |name: DealingRef| board.dealings().find(|dealing| dealing.name() == name);
        let opened = board.settled()?.iter().map(|name| turn.opens(named(*name)?, chair).ok());
        let opened: Vec<Opened> = opened.collect::<Option<_>>()?;
        let from: Vec<u16> = opened.iter().map(|opened| opened.from).collect();
        // The first key is a sum; where one is handed on, its shares are interpolated.
        let weight = |index: u16| if board.before().is_some() { toy::weight(index, &from) } else { Number::ONE };
        let values = opened.iter().map(|opened| weight(opened.from).times(opened.value));
        let value = values.reduce(Number::plus)?;
        let parts: Vec<_> = opened.iter().map(|opened| (weight(opened.from), opened.polynomial.clone())).collect();
        let roster = Roster::made(board.ceremony()?, board.epoch(), &parts);
        let index = board.member_index(turn.enclave())?;
        Some((roster, Share { epoch: board.epoch(), index, value }))
    }

    fn confirm(&mut self, ether: &mut Ether, turn: Turn<'_>) -> Vec<CustodyWord> {
        let (board, enclave) = (turn.board, turn.enclave());
        if board.settled().is_none() || turn.has_said(WordKind::Confirmation) {
            return Vec::new();
        }
        let Some((roster, share)) = self.combine(turn) else { return Vec::new() };
        let bytes = roster.write();
        let digest = Digest::of(&bytes);
        if !self.is_due(digest, ether.now) {
            return Vec::new();
        }
        let said = match self.kept.vows.confirm(board, turn.key(), (digest, roster.key()), turn.now) {
            Ok(said) => said,
            Err(why) => {
                ether.tally.reach(&format!("custody: does not confirm by {}", why.check));
                return Vec::new();
            }
        };
        if !ether.is(Defect::CountsAbsentMember) {
            ether.oracle.keeps(enclave, digest, share);
            self.kept.shares.insert(digest, (share, bytes));
        }
        let word = |said: Confirmation| CustodyWord::Confirmation(sign(said, turn.boot));
        let Manner::ConfirmsTwice { first } = turn.manner else { return vec![word(said)] };
        ether.fault(Fault::CustodianTwoRosters);
        let other = Confirmation { roster: Digest::of_parts(&[b"another", digest.as_bytes()]), ..said.clone() };
        if first { vec![word(other), word(said)] } else { vec![word(said), word(other)] }
    }

    fn hand_over(&mut self, ether: &mut Ether, turn: Turn<'_>) -> Option<CustodyWord> {
        let (board, enclave) = (turn.board, turn.enclave());
        let before = board.before().filter(|before| before.has(enclave))?.roster;
        if ether.is(Defect::ErasesTooEarly) && board.settled().is_some() {
            self.erase(ether, enclave, before);
        }
        board.agreed()?;
        if turn.has_said(WordKind::Handover) || !self.is_due(before, ether.now) {
            return None;
        }
        match self.kept.vows.hand_over(board, turn.key()) {
            Ok(said) => {
                let verdict = ether.oracle.hands_over(enclave, said.epoch, said.to);
                ether.judge(verdict);
                self.erase(ether, enclave, said.from);
                Some(CustodyWord::Handover(sign(said, turn.boot)))
            }
            // What came late shows a ceremony of long ago: it has handed over since.
            Err(why) => {
                ether.tally.reach(&format!("custody: does not hand over by {}", why.check));
                None
            }
        }
    }
}

/// A dealing of a secret: of a share, or of a part of a key that is new. Of who deals as it should not, two, or one that is bad.
fn deal(ether: &mut Ether, turn: Turn<'_>, ceremony: Digest, share: Option<Number>) -> Vec<Vec<u8>> {
    let threshold = turn.board.call().threshold;
    let mut secret = share.unwrap_or_else(|| Number::draw(&mut ether.random));
    let badly = turn.manner == Manner::DealsBadly;
    let not_its_own = badly && share.is_some() && ether.random.chance(500);
    if not_its_own {
        ether.fault(Fault::CustodianBadShare);
        secret = secret.plus(Number::ONE);
    }
    let one = |ether: &mut Ether| {
        let polynomial = Polynomial::draw(secret, threshold, &mut ether.random);
        let seal = |(index, chair): (u16, &Signed<Chair>)| {
            polynomial.at(index).plus(toy::pad(&chair.sealing, ceremony, turn.enclave()))
        };
        let mut sealed: Vec<Number> = (1..).zip(turn.board.chairs()).map(seal).collect();
        if badly && !not_its_own {
            ether.fault(Fault::CustodianBadShare);
            let victim = ether.random.below(sealed.len());
            sealed[victim] = sealed[victim].plus(Number::ONE);
        }
        Dealt { polynomial, sealed }.write()
    };
    let mut dealings = vec![one(ether)];
    if turn.manner == Manner::DealsTwice {
        ether.fault(Fault::CustodianTwoDealings);
        dealings.push(one(ether));
    }
    dealings
}

impl Agent {
    /// The custodian of this boot looks again by itself after a while.
    pub(super) fn tend_custody_soon(&self, ether: &mut Ether) {
        let pause = ether.between(ASK);
        ether.ring(self.node(), self.life, pause, Timer::Custody);
    }

    /// It asks, whether or not it waits for an answer: that may have been lost.
    pub(super) fn tend_custody(&mut self, ether: &mut Ether) {
        self.tend_custody_soon(ether);
        self.ask_custody(ether);
    }

    fn is_present(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.present)
    }

    fn ask_custody(&mut self, ether: &mut Ether) {
        let present = self.is_present();
        let Some(custody) = self.custody.as_mut().filter(|_| present) else { return };
        (custody.asks, custody.again) = (true, false);
        let (open, past) = (custody.open.as_ref().map(Seen::of), custody.past.as_ref().map(Seen::of));
        self.up(ether, Up::AskCustody { open, past });
    }

    /// The boards changed. Who waits for an answer asks once more when that has come.
    pub(super) fn custody_changed(&mut self, ether: &mut Ether) {
        match &mut self.custody {
            Some(custody) if custody.asks => custody.again = true,
            _ => self.ask_custody(ether),
        }
    }

    pub(super) fn hears_of_custody(&mut self, ether: &mut Ether, news: &CustodyNews) {
        let enclave = self.enclave();
        let Some(custody) = &mut self.custody else { return };
        let known = [custody.open.take(), custody.past.take()];
        let told = |news: &Option<BoardNews>| news.as_ref().map_or(Ok(None), |news| follow(&known, news));
        match (told(&news.open), told(&news.past)) {
            (Ok(open), Ok(past)) => (custody.open, custody.past) = (open, past),
            (Err(why), _) | (_, Err(why)) => {
                return ether.violate(format!("{} cannot follow its board: {why}", enclave.short()));
            }
        }
        custody.asks = false;
        let call = |board: &Option<Board>| board.as_ref().map(|board| board.call().digest());
        if let Some(past) = custody.past.as_ref().filter(|_| call(&known[1]) != call(&custody.past)) {
            let made = past.before().is_none();
            ether.reach(if made { "custody: a key is made" } else { "custody: a key changes hands" });
        }
        custody.erase_past(ether, enclave);
        let (open, past, again) = (custody.open.clone(), custody.past.clone(), custody.again);
        for board in past.into_iter().chain(open) {
            self.takes_turn(ether, &board);
        }
        if again {
            self.ask_custody(ether);
        }
    }

    fn manner(&mut self, ether: &mut Ether, board: &Board) -> Manner {
        let Some(custody) = self.custody.as_mut().filter(|_| !ether.calm) else { return Manner::Honest };
        let call = board.call().digest();
        if let Some(manner) = custody.manners.get(&call) {
            return *manner;
        }
        let manner = Manner::draw(&mut ether.random);
        custody.manners.insert(call, manner);
        manner
    }

    /// Says what is due on a board, while it is there to say it.
    fn takes_turn(&mut self, ether: &mut Ether, board: &Board) {
        if !self.is_present() {
            return;
        }
        let manner = self.manner(ether, board);
        let passport = self.passport.as_ref().map(|(passport, _)| passport.digest());
        let now = self.clock.unix(ether.now);
        let Some(custody) = &mut self.custody else { return };
        let due = custody.due(ether, Turn { board, boot: &self.boot, manner, now }, passport);
        for word in due {
            let kind = word.kind();
            match manner {
                Manner::Silent(from) if kind >= from => {
                    ether.fault(Fault::CustodianSilent);
                    ether.tell(self.node(), || format!("does not say its {kind}"));
                }
                Manner::Dies(from) if kind >= from => {
                    ether.fault(Fault::CustodianDies);
                    let down = ether.between(GONE);
                    return self.reboot(ether, down, "it fell in the middle of a ceremony");
                }
                Manner::Restarts(from) if kind >= from => {
                    ether.fault(Fault::CustodianRestarts);
                    if ether.random.chance(500) {
                        self.says_custody(ether, word);
                    }
                    return self.restart(ether);
                }
                _ => self.says_custody(ether, word),
            }
        }
    }

    fn says_custody(&self, ether: &mut Ether, word: CustodyWord) {
        ether.tell(self.node(), || format!("says a {}", word.kind()));
        self.up(ether, Up::Custody(Box::new(word)));
    }

    /// The process of a custodian ends in the middle of a ceremony. It comes back as the same enclave, with what it kept.
    fn restart(&mut self, ether: &mut Ether) {
        self.custody = self.custody.as_mut().map(Custodian::restarted);
        let down = ether.between(GONE);
        self.halt(ether, down, "it restarts in the middle of a ceremony");
    }
}
