//! Custody: a cast of custodians with real signatures and toy mathematics, and ceremonies among them. A dealing here is a name, a roster the
//! digest of what was dealt, a share the memory of a roster; who says what, and when, is as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex},
};

use legation_core::{
    Digest, EnclaveId, Envelope, Predicate, ProviderId, Requirement, RevocationEpoch, SealingPublicKey, Signed, Signer,
    SwarmName, Term, UnixTime,
    custody::{
        Acceptance, Board, Called, Chair, Charter, Committee, Confirmation, CustodyCall, CustodyWord, Dealing, Epoch,
        Generation, Handover, Phase, Refusal, RefusalReason, Standing, Succession, SwarmPublicKey, Threshold, Took,
        Vows, WordKind,
    },
    dsse,
};

use crate::{party::Party, world::digest};

/// Makes something of what was good.
pub(crate) type Bend<T> = fn(&mut T);

/// When calls are made.
pub(crate) const T0: u64 = 1_800_000_000;
/// How long a ceremony may take.
pub(crate) const LONG: u64 = 600;
const NAMES: [&str; 20] = [
    "c00", "c01", "c02", "c03", "c04", "c05", "c06", "c07", "c08", "c09", "c10", "c11", "c12", "c13", "c14", "c15",
    "c16", "c17", "c18", "c19",
];

pub(crate) fn party(i: usize) -> Party {
    Party::new(NAMES[i])
}

pub(crate) fn id(i: usize) -> EnclaveId {
    party(i).key().enclave_id()
}

pub(crate) fn now() -> UnixTime {
    UnixTime(T0 + 1)
}

pub(crate) fn after() -> UnixTime {
    UnixTime(T0 + LONG + 1)
}

pub(crate) fn toy_key() -> SwarmPublicKey {
    SwarmPublicKey::from_bytes([7; SwarmPublicKey::LEN])
}

/// Every third with one provider.
pub(crate) fn called(members: &[usize]) -> Vec<Called> {
    let provider = |i: usize| ProviderId::new(["east", "north", "west"][i % 3]).unwrap();
    let mut called: Vec<_> = members.iter().map(|i| Called { enclave: id(*i), provider: provider(*i) }).collect();
    called.sort_unstable_by_key(|c| c.enclave);
    called
}

pub(crate) fn charter_said(number: u32, (t, n): (u16, u16), prev: Option<Digest>) -> Charter {
    Charter {
        operator: Party::new("operator").key(),
        swarm: SwarmName::new("main").unwrap(),
        number,
        threshold: Threshold::new(t, n).unwrap(),
        require: Requirement::parse("confidential == true").unwrap(),
        per_provider_max: t.min(n - t + 1).saturating_sub(1).max(1),
        epoch_seconds: 86_400,
        not_after: UnixTime(T0 + 30 * 86_400),
        prev: prev.into_iter().collect(),
    }
}

pub(crate) fn charter(number: u32, of: (u16, u16), prev: Option<Digest>) -> Signed<Charter> {
    dsse::sign(charter_said(number, of, prev), &Party::new("operator"))
}

/// A call of these members, as a manager should make it.
pub(crate) fn call_said(
    charter: &Signed<Charter>,
    before: Option<&Committee>,
    members: &[usize],
    (attempt, last): (u32, Option<Digest>),
    at: u64,
) -> CustodyCall {
    let members = called(members);
    let stays = |enclave| members.iter().any(|m| m.enclave == enclave);
    let old = before.iter().flat_map(|b| &b.members).map(|m| m.enclave);
    CustodyCall {
        manager: Party::new("manager").key(),
        term: Term(1),
        charter: charter.digest(),
        generation: Generation(0),
        from: before.map(|b| Standing { epoch: b.epoch, roster: b.roster }),
        attempt,
        threshold: charter.threshold,
        removed: old.filter(|enclave| !stays(*enclave)).collect(),
        members,
        revocations: RevocationEpoch(0),
        called: UnixTime(at),
        expires: UnixTime(at + LONG),
        prev: [charter.digest(), digest("appointment")].into_iter().chain(last).collect(),
    }
}

pub(crate) fn by_manager(call: CustodyCall) -> Signed<CustodyCall> {
    dsse::sign(call, &Party::new("manager"))
}

/// All rosters that were made, by their digests: whoever holds a share has its roster.
static ROSTERS: LazyLock<Mutex<BTreeMap<Digest, Vec<u8>>>> = LazyLock::new(Mutex::default);

/// What the settled dealings make.
pub(crate) fn roster(board: &Board) -> Digest {
    let mut about = board.ceremony().unwrap().as_bytes().to_vec();
    for name in board.settled().unwrap() {
        about.extend_from_slice(name.dealing.as_bytes());
    }
    let digest = Digest::of(&about);
    ROSTERS.lock().unwrap().insert(digest, about);
    digest
}

/// The roster that dealings on a board hand on.
pub(crate) fn roster_before(board: &Board) -> Option<Vec<u8>> {
    board.before().and_then(|before| ROSTERS.lock().unwrap().get(&before.roster).cloned())
}

/// A custodian that does as it should, but for the dealings that it refuses without reason.
pub(crate) struct Member {
    pub(crate) party: Party,
    pub(crate) vows: Vows,
    /// Rosters of which it has a share.
    pub(crate) held: BTreeSet<Digest>,
    /// Dealers that it slanders.
    pub(crate) slanders: BTreeSet<EnclaveId>,
}

impl Member {
    pub(crate) fn new(i: usize) -> Self {
        Self { party: party(i), vows: Vows::default(), held: BTreeSet::new(), slanders: BTreeSet::new() }
    }

    pub(crate) fn id(&self) -> EnclaveId {
        self.party.key().enclave_id()
    }

    pub(crate) fn sealing(&self, call: Digest) -> SealingPublicKey {
        let own = Digest::of_parts(&[self.id().digest().as_bytes(), call.as_bytes()]);
        let mut bytes = [0; SealingPublicKey::LEN];
        bytes[..32].copy_from_slice(own.as_bytes());
        SealingPublicKey::from_bytes(bytes)
    }

    pub(crate) fn chair(&self, call: Digest) -> Chair {
        let passport = digest("passport");
        Chair { call, enclave: self.party.key(), passport, sealing: self.sealing(call), prev: vec![call, passport] }
    }

    pub(crate) fn dealing(&self, board: &Board) -> Dealing {
        let ceremony = board.ceremony().unwrap();
        let prev = [board.call().digest()].into_iter().chain(board.chairs().map(Signed::digest)).collect();
        let dealing = [&ceremony.as_bytes()[..], self.id().digest().as_bytes()].concat();
        Dealing { ceremony, dealer: self.party.key(), dealing, roster: roster_before(board), prev }
    }

    pub(crate) fn acceptance(&self, board: &Board, of: &[&Signed<Dealing>]) -> Acceptance {
        let mut named: Vec<_> = of.iter().map(|d| (d.name(), d.digest())).collect();
        named.sort_unstable();
        let (dealings, prev) = named.into_iter().unzip();
        Acceptance { ceremony: board.ceremony().unwrap(), member: self.party.key(), dealings, prev }
    }

    pub(crate) fn refusal(&self, board: &Board, of: &Signed<Dealing>, why: RefusalReason) -> Refusal {
        let (ceremony, member) = (board.ceremony().unwrap(), self.party.key());
        Refusal { ceremony, member, dealing: of.name(), why, prev: vec![of.digest()] }
    }

    pub(crate) fn say<P: Predicate>(&self, word: P) -> CustodyWord {
        CustodyWord::open(dsse::sign(word, &self.party).envelope()).unwrap()
    }

    /// What it should have said by now; some of it, it has.
    pub(crate) fn due(&mut self, board: &Board, now: UnixTime) -> Vec<CustodyWord> {
        let (me, id) = (self.party.key(), self.id());
        let (is_member, is_dealer) = (board.member_index(id).is_some(), board.dealer_index(id).is_some());
        let mut due = Vec::new();
        if is_member && !board.chairs().any(|chair| chair.enclave == me) {
            due.push(self.say(self.chair(board.call().digest())));
        }
        if board.ceremony().is_some() {
            if is_dealer && board.before().is_none_or(|before| self.held.contains(&before.roster)) {
                due.push(self.say(self.dealing(board)));
            }
            let (bad, good): (Vec<_>, Vec<_>) = board
                .dealings()
                .filter(|d| is_member && board.settled().is_none() && !board.has_judged(id, &d.name()))
                .partition(|d| self.slanders.contains(&d.dealer.enclave_id()));
            due.extend(bad.into_iter().map(|d| self.say(self.refusal(board, d, RefusalReason::Mismatch))));
            if !good.is_empty() {
                due.push(self.say(self.acceptance(board, &good)));
            }
        }
        if board.settled().is_some() && is_member {
            let roster = roster(board);
            if let Ok(word) = self.vows.confirm(board, me, (roster, toy_key()), now) {
                self.held.insert(roster);
                due.push(self.say(word));
            }
        }
        if let Ok(word) = self.vows.hand_over(board, me) {
            self.held.remove(&word.from);
            due.push(self.say(word));
        }
        due
    }
}

pub(crate) fn members(of: std::ops::Range<usize>) -> Vec<Member> {
    of.map(Member::new).collect()
}

/// Everybody says what is due until nobody has anything new to say; what the journal then has, in order.
pub(crate) fn run(succession: &mut Succession, cast: &mut [Member], at: UnixTime) -> Vec<CustodyWord> {
    run_but(succession, cast, at, |_| false)
}

/// The same where words like these get lost.
fn run_but(
    succession: &mut Succession,
    cast: &mut [Member],
    at: UnixTime,
    lost: impl Fn(&CustodyWord) -> bool,
) -> Vec<CustodyWord> {
    let mut journal = Vec::new();
    loop {
        let before = journal.len();
        for member in &mut *cast {
            let Some(board) = succession.open().or(succession.past()).cloned() else { return journal };
            for word in member.due(&board, at) {
                if !lost(&word) && succession.say(&word, at) == Ok(Took::Counted) {
                    journal.push(word);
                }
            }
        }
        if journal.len() == before {
            return journal;
        }
    }
}

/// The same on one board.
pub(crate) fn run_board(board: &mut Board, cast: &mut [Member], at: UnixTime) {
    loop {
        let before = board.words().len();
        for member in &mut *cast {
            for word in member.due(&board.clone(), at) {
                _ = board.absorb(&word, at);
            }
        }
        if board.words().len() == before {
            return;
        }
    }
}

/// A committee of 5 of 9 in force, its charter, its members, and the state it is in.
pub(crate) fn first() -> (Succession, Signed<Charter>, Vec<Member>) {
    let charter = charter(1, (5, 9), None);
    let mut succession = Succession::begin(charter.clone()).unwrap();
    let call = call_said(&charter, None, &(0..9).collect::<Vec<_>>(), (1, None), T0);
    succession.call(by_manager(call), UnixTime(T0)).unwrap();
    let mut cast = members(0..9);
    run(&mut succession, &mut cast, now());
    assert_eq!(succession.committee().unwrap().epoch, Epoch(0));
    (succession, charter, cast)
}

/// A board of that committee and a call of these, and everybody in it.
pub(crate) fn second(new: &[usize]) -> (Board, Vec<Member>) {
    let (succession, charter, old) = first();
    let charter = if new.len() == 9 { charter } else { charter_of(&charter, new.len()) };
    let before = succession.committee().unwrap();
    let call = by_manager(call_said(&charter, Some(before), new, (1, None), T0));
    let board = Board::open(call, &charter, Some(before)).unwrap();
    let mut cast = old;
    cast.extend(new.iter().filter(|i| **i >= 9).map(|i| Member::new(*i)));
    (board, cast)
}

fn charter_of(before: &Signed<Charter>, n: usize) -> Signed<Charter> {
    let n = u16::try_from(n).unwrap();
    charter(2, (n / 2 + 1, n), Some(before.digest()))
}

pub(crate) fn phase(board: &Board) -> Phase {
    board.phase(now())
}

#[test]
fn five_of_nine_hand_over_to_six_others_of_eleven() {
    let (mut succession, one, mut cast) = first();
    let before = succession.committee().unwrap().clone();
    assert_eq!((before.members.len(), before.threshold.needed()), (9, 5));
    assert!(cast.iter().all(|member| member.held.contains(&before.roster)));
    let two = charter(2, (6, 11), Some(one.digest()));
    succession.charter(two.clone()).unwrap();
    let last = succession.past().unwrap().call().digest();
    let call = call_said(&two, Some(&before), &(9..20).collect::<Vec<_>>(), (1, Some(last)), T0 + 1000);
    assert_eq!(call.removed.len(), 9);
    succession.call(by_manager(call), UnixTime(T0 + 1000)).unwrap();
    cast.extend(members(9..20));
    run(&mut succession, &mut cast, UnixTime(T0 + 1001));
    let committee = succession.committee().unwrap();
    assert_eq!((committee.epoch, committee.threshold.needed(), committee.members.len()), (Epoch(1), 6, 11));
    assert_eq!((&committee.key, committee.generation), (&before.key, before.generation));
    // Who gave over has nothing left, and the late ones do so after all.
    assert_eq!(succession.past().unwrap().handovers().count(), 9);
    for member in &cast {
        let new = committee.has(member.id());
        assert_eq!(member.held, if new { [committee.roster].into() } else { BTreeSet::new() });
        assert_eq!(member.vows.has_left(before.roster), !new);
    }
}

#[test]
fn as_many_as_open_are_enough_to_hand_over() {
    let (mut board, mut cast) = second(&(9..20).collect::<Vec<_>>());
    // Four of nine are gone; all of the new ones are there.
    cast.drain(..4);
    run_board(&mut board, &mut cast, now());
    assert_eq!(board.settled().unwrap().len(), 5);
    assert_eq!(phase(&board), Phase::InForce);
    let (mut board, mut cast) = second(&(9..20).collect::<Vec<_>>());
    cast.drain(..5);
    run_board(&mut board, &mut cast, now());
    assert_eq!(phase(&board), Phase::Dealings { dealt: 4, needed: 5 });
    assert!(board.committee().is_none());
}

#[test]
fn old_members_who_were_absent_keep_shares_that_nobody_counts() {
    let (mut succession, one, mut cast) = first();
    let before = succession.committee().unwrap().clone();
    let mut absent: Vec<Member> = cast.drain(..4).collect();
    let two = charter(2, (6, 11), Some(one.digest()));
    succession.charter(two.clone()).unwrap();
    let last = succession.past().unwrap().call().digest();
    let new: Vec<usize> = (9..20).collect();
    let call = by_manager(call_said(&two, Some(&before), &new, (1, Some(last)), T0 + 1000));
    succession.call(call.clone(), UnixTime(T0 + 1000)).unwrap();
    cast.extend(members(9..20));
    run(&mut succession, &mut cast, UnixTime(T0 + 1001));
    let committee = succession.committee().unwrap().clone();
    // They still have their shares, and it is known who; there are too few of them to open anything.
    let mut names: Vec<_> = absent.iter().map(Member::id).collect();
    names.sort_unstable();
    assert_eq!(succession.past().unwrap().keeping().collect::<Vec<_>>(), names);
    assert!(absent.iter().all(|m| m.held.contains(&before.roster) && m.vows.may_release(before.epoch)));
    assert!(absent.len() < usize::from(before.threshold.needed()));
    assert!(absent.iter().all(|m| !committee.has(m.id())));
    // Nobody is called from the old committee again,
    let at = T0 + 3000;
    let stale = call_said(&two, Some(&before), &(0..11).collect::<Vec<_>>(), (2, Some(call.digest())), at);
    assert_eq!(succession.call(by_manager(stale), UnixTime(at)).unwrap_err().check, "custody.from");
    // and they deal and hand over nothing in the next ceremony.
    let next = by_manager(call_said(&two, Some(&committee), &new, (1, Some(call.digest())), at));
    let mut board = Board::open(next, &two, Some(&committee)).unwrap();
    for member in &mut cast {
        for word in member.due(&board.clone(), UnixTime(at)).into_iter().take(1) {
            _ = board.absorb(&word, UnixTime(at));
        }
    }
    let old = &absent[0];
    let dealing = old.say(old.dealing(&board));
    assert_eq!(board.absorb(&dealing, UnixTime(at)).unwrap_err().check, "custody.dealer");
    let away = old.say(handover(succession.past().unwrap(), old));
    assert_eq!(board.absorb(&away, UnixTime(at)).unwrap_err().check, "custody.from");
    // When they are back, they hand over after all.
    run(&mut succession, &mut absent, UnixTime(at));
    assert_eq!(succession.past().unwrap().keeping().count(), 0);
    assert!(absent.iter().all(|m| m.held.is_empty() && !m.vows.may_release(before.epoch)));
    assert_eq!(succession.committee(), Some(&committee));
}

#[test]
fn vows_are_of_what_can_be() {
    let (mut board, mut cast) = second(&(6..15).collect::<Vec<_>>());
    let before = board.before().unwrap().clone();
    let mut vows = Vows::default();
    let me = party(9).key();
    let mut confirm = |board: &Board, roster, key, at| {
        vows.confirm(board, me, (roster, key), at).map(|_| ()).map_err(|why| why.check)
    };
    let refused = |check: &str| Err(check.to_owned());
    assert_eq!(confirm(&board, digest("roster"), toy_key(), now()), refused("custody.early"));
    // All but what confirms and hands over.
    loop {
        let words = board.words().len();
        for member in &mut cast {
            let due = member.due(&board.clone(), now()).into_iter();
            for word in due.filter(|word| word.kind() < WordKind::Confirmation) {
                _ = board.absorb(&word, now());
            }
        }
        if board.words().len() == words {
            break;
        }
    }
    let other = SwarmPublicKey::from_bytes([8; SwarmPublicKey::LEN]);
    assert_eq!(confirm(&board, roster(&board), other, now()), refused("custody.key"));
    assert_eq!(confirm(&board, before.roster, toy_key(), now()), refused("custody.key"));
    assert_eq!(confirm(&board, roster(&board), toy_key(), after()), refused("custody.late"));
    // None of these was a vow; this is one, and it holds for ever.
    assert_eq!(confirm(&board, roster(&board), toy_key(), now()), Ok(()));
    assert_eq!(confirm(&board, roster(&board), toy_key(), after()), Ok(()));
    assert_eq!(confirm(&board, digest("another"), toy_key(), now()), refused("custody.fork"));
    let why = Vows::default().confirm(&board, party(0).key(), (roster(&board), toy_key()), now()).unwrap_err();
    assert_eq!(why.check, "custody.member");
    let mut old = Vows::default();
    assert_eq!(old.hand_over(&board, party(0).key()).unwrap_err().check, "custody.early");
    assert_eq!(old.hand_over(&board, me).unwrap_err().check, "custody.member");
    assert!(old.may_release(before.epoch));
}

#[test]
fn a_committee_that_cannot_be_hands_nothing_over() {
    let (succession, charter, _) = first();
    let good = succession.committee().unwrap();
    let check = |bend: fn(&mut Committee)| {
        let mut before = good.clone();
        bend(&mut before);
        let call = by_manager(call_said(&charter, Some(&before), &(6..15).collect::<Vec<_>>(), (1, None), T0));
        Board::open(call, &charter, Some(&before)).map(|_| ()).map_err(|why| why.check)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let bends: &[fn(&mut Committee)] = &[
        |c| c.members.reverse(),
        |c| c.members[1] = c.members[0].clone(),
        |c| _ = c.members.pop(),
        |c| c.threshold = Threshold::new(5, 8).unwrap(),
    ];
    for bend in bends {
        let why = check(*bend).unwrap_err();
        assert!(["custody.from", "custody.removed"].contains(&why.as_str()), "{why}");
    }
}

#[test]
fn some_stay_some_go_some_come() {
    let new: Vec<usize> = (3..12).collect();
    let (mut board, mut cast) = second(&new);
    let before = board.before().unwrap().roster;
    run_board(&mut board, &mut cast, now());
    let committee = board.committee().unwrap();
    for member in &cast {
        assert!(!member.held.contains(&before));
        assert_eq!(member.held.contains(&committee.roster), committee.has(member.id()));
    }
    // The place in the new committee is not that in the old one.
    let moved = |i: &usize| board.member_index(id(*i)) != board.dealer_index(id(*i));
    assert!((3..9).collect::<Vec<_>>().iter().any(moved));
}

#[test]
fn the_next_attempt_leaves_out_who_was_silent() {
    let (mut succession, charter, mut cast) = first();
    let before = succession.committee().unwrap().clone();
    let last = succession.past().unwrap().call().digest();
    let one = by_manager(call_said(&charter, Some(&before), &(6..15).collect::<Vec<_>>(), (1, Some(last)), T0 + 1000));
    succession.call(one.clone(), UnixTime(T0 + 1000)).unwrap();
    cast.extend(members(9..16));
    // One says everything but that it has its share.
    let lost = |word: &CustodyWord| word.kind() == WordKind::Confirmation && word.speaker() == party(14).key();
    let said = run_but(&mut succession, &mut cast, UnixTime(T0 + 1001), lost);
    let kinds: BTreeSet<_> = said.iter().map(CustodyWord::kind).collect();
    assert!(kinds.iter().eq(&[WordKind::Chair, WordKind::Dealing, WordKind::Acceptance, WordKind::Confirmation]));
    let gone = cast.iter_mut().find(|member| member.id() == id(14)).unwrap();
    let late = gone.due(succession.open().unwrap(), UnixTime(T0 + 1001));
    assert!(late.iter().any(lost));
    let end = UnixTime(T0 + 1000 + LONG + 1);
    let Phase::Lapsed(lapse) = succession.open().unwrap().phase(end) else { panic!("it goes on") };
    assert_eq!(lapse.silent, [id(14)]);
    let others: Vec<usize> = (6..16).filter(|i| *i != 14).collect();
    let two = call_said(&charter, Some(&before), &others, (2, Some(one.digest())), end.0);
    succession.call(by_manager(two), end).unwrap();
    // What was said in the first attempt counts for nothing in the second, whether that has begun or not.
    let replay = |succession: &mut Succession, other: &str| {
        for word in said.iter().chain(&late) {
            let expected = if word.kind() == WordKind::Chair { "custody.call" } else { other };
            assert_eq!(succession.say(word, end).unwrap_err().check, expected, "{:?}", word.kind());
        }
    };
    replay(&mut succession, "custody.early");
    run_but(&mut succession, &mut cast, end, |word| word.kind() != WordKind::Chair);
    replay(&mut succession, "custody.ceremony");
    run_but(&mut succession, &mut cast, end, |word| word.kind() == WordKind::Handover);
    replay(&mut succession, "custody.ceremony");
    run(&mut succession, &mut cast, end);
    let committee = succession.committee().unwrap();
    assert_eq!((committee.epoch, committee.has(id(14)), committee.has(id(15))), (Epoch(1), false, true));
    // A word with no ceremony to hear it is none.
    let mut empty = Succession::begin(charter).unwrap();
    assert_eq!(empty.say(&said[0], end).unwrap_err().check, "custody.open");
}

#[test]
fn a_crash_of_anybody_replays_from_the_same_words() {
    let (mut board, mut cast) = second(&(6..15).collect::<Vec<_>>());
    let empty = board.clone();
    run_board(&mut board, &mut cast, now());
    assert_eq!(phase(&board), Phase::InForce);
    let mut again = empty.clone();
    let mut said: BTreeMap<EnclaveId, Vec<Envelope>> = BTreeMap::new();
    for (n, step) in board.words().iter().enumerate() {
        // Whoever starts anew from what the journal has so far comes to the same, and would say the same in the same bytes.
        let mut fresh = empty.clone();
        board.words()[..n].iter().for_each(|said| _ = fresh.absorb(&said.word, said.at).unwrap());
        assert_eq!(fresh, again);
        assert_eq!(again.absorb(&step.word, step.at), Ok(Took::Counted));
        said.entry(step.word.speaker().enclave_id()).or_default().push(step.word.envelope().clone());
    }
    assert_eq!(again, board);
    // One that lost all but its keys and its vows says again what it said, and it changes nothing.
    for member in &mut cast {
        let before = board.words().len();
        for word in member.due(&board.clone(), now()) {
            assert_eq!(board.absorb(&word, after()), Ok(Took::Repeated), "{:?}", word.kind());
            assert!(said[&member.id()].contains(word.envelope()));
        }
        assert_eq!(board.words().len(), before);
    }
    // Vows are stored, and stand.
    let stored = serde_json::to_string(&cast[0].vows).unwrap();
    assert_eq!(serde_json::from_str::<Vows>(&stored).unwrap(), cast[0].vows);
}

#[test]
fn words_travel_as_their_envelopes() {
    let (mut board, mut cast) = second(&(6..15).collect::<Vec<_>>());
    run_board(&mut board, &mut cast, now());
    for said in board.words() {
        let text = serde_json::to_string(&said.word).unwrap();
        assert_eq!(text, said.word.envelope().to_json());
        assert_eq!(serde_json::from_str::<CustodyWord>(&text).unwrap(), said.word);
        assert_eq!(said.word.digest(), said.word.envelope().digest());
    }
    let other = charter(1, (5, 9), None);
    let why = CustodyWord::open(other.envelope()).unwrap_err().to_string();
    assert!(why.contains("is no word of a ceremony"), "{why}");
    // A stranger's signature under a member's name.
    let forged = crate::party::Impostor { own: Party::new("attacker"), claimed: party(9).key() };
    let chair = Member::new(9).chair(board.call().digest());
    assert!(CustodyWord::open(dsse::sign(chair, &forged as &dyn Signer).envelope()).is_err());
}

/// The words that a handover and a confirmation are made of, for tests that bend them.
pub(crate) fn handover(board: &Board, member: &Member) -> Handover {
    Vows::default().hand_over(board, member.party.key()).unwrap()
}

pub(crate) fn confirmation(board: &Board, member: &Member) -> Confirmation {
    Vows::default().confirm(board, member.party.key(), (roster(board), toy_key()), now()).unwrap()
}
