//! Boards under any order, any repetition and any nonsense of words, and managers that show different journals to different members.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use legation_core::{
    Digest, EnclaveId, UnixTime,
    custody::{
        Acceptance, Board, Chair, Confirmation, CustodyWord, Dealing, DealingRef, Epoch, Handover, LapseReason, Phase,
        Refusal, RefusalReason, Said, SwarmPublicKey, Took, WordKind,
    },
};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestCaseError, TestRunner},
};

use crate::{
    custody::{
        Member, T0, after, by_manager, call_said, first, id, members, now, phase, roster_before, run_board, second,
    },
    world::digest,
};

const NEW: [usize; 9] = [6, 7, 8, 9, 10, 11, 12, 13, 14];

fn cases(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// An empty board, and all the words that bring it into force.
fn whole() -> (Board, Vec<Said>) {
    let (empty, mut cast) = second(&NEW);
    let mut board = empty.clone();
    run_board(&mut board, &mut cast, now());
    assert_eq!(phase(&board), Phase::InForce);
    (empty, board.words().to_vec())
}

/// The board that a restart makes of the words that were kept, with as many refused words beside them: they change only their count.
fn rebuilt(empty: &Board, board: &Board) -> Board {
    let mut again = empty.clone();
    for said in board.words() {
        again.absorb(&said.word, said.at).unwrap();
    }
    let stranger = Member::new(19);
    let junk = stranger.say(stranger.chair(board.call().digest()));
    while again.skipped() < board.skipped() {
        assert_eq!(again.absorb(&junk, now()).unwrap_err().check, "custody.member");
    }
    again
}

#[test]
fn any_order_comes_to_the_same_or_to_nothing() {
    let (empty, words) = whole();
    let mut board = empty.clone();
    words.iter().for_each(|said| _ = board.absorb(&said.word, said.at));
    let (committee, settled) = (board.committee().unwrap(), board.settled().unwrap().to_vec());
    let in_force = Cell::new(0_u32);
    // Anywhere, several times, and some not at all; then all in order again, as when everybody says anew what is not on the board.
    let strategy = (prop::collection::vec(any::<Index>(), 0..120), 0_usize..3);
    cases(150)
        .run(&strategy, |(order, again)| {
            let mut board = empty.clone();
            let hear = |board: &mut Board, said: &Said| {
                let (before, skipped) = (board.words().len(), board.skipped());
                match board.absorb(&said.word, said.at) {
                    Ok(Took::Counted) => assert_eq!(board.words().len(), before + 1),
                    Ok(Took::Repeated) => assert_eq!(board.words().len(), before),
                    Ok(Took::Noted) => panic!("nobody says two things"),
                    Err(_) => assert_eq!((board.words().len(), board.skipped()), (before, skipped + 1)),
                }
            };
            for index in order {
                hear(&mut board, index.get(&words));
            }
            for _ in 0..again {
                words.iter().for_each(|said| hear(&mut board, said));
            }
            prop_assert!(board.equivocations().is_empty());
            match board.committee() {
                None => prop_assert!(again == 0 || board.settled().is_some_and(|other| other != settled)),
                Some(other) => {
                    in_force.set(in_force.get() + 1);
                    prop_assert_eq!(&other, &committee);
                }
            }
            // What counted makes the same board again.
            prop_assert_eq!(&rebuilt(&empty, &board), &board);
            Ok(())
        })
        .unwrap();
    assert!(in_force.get() > 20, "{} of them came into force", in_force.get());
}

/// A word of these choices, true in parts: digests that are on some board or on none, members or strangers, lists of any length.
fn nonsense(board: &Board, choice: &[u8]) -> Option<CustodyWord> {
    let at = |i: usize| usize::from(*choice.get(i).unwrap_or(&0));
    let who = Member::new(at(0) % 20);
    let pool: Vec<Digest> = [digest("nothing"), board.call().digest(), board.before()?.roster]
        .into_iter()
        .chain(board.ceremony())
        .chain(board.words().iter().map(|said| said.word.digest()))
        .collect();
    let some = |i: usize| pool[at(i) % pool.len()];
    let ceremony = board.ceremony().filter(|_| at(2) > 20).unwrap_or_else(|| some(2));
    let dealt: Vec<DealingRef> = board.dealings().map(|d| d.name()).collect();
    let named = |i: usize| match dealt.len() {
        0 => DealingRef { dealer: Member::new(at(i) % 20).id(), dealing: some(i + 1) },
        len => dealt[at(i) % len],
    };
    let list = |i: usize| {
        let mut list: Vec<_> = (0..at(i) % 7).map(|n| named(i + n)).collect();
        list.sort_unstable();
        list.dedup_by_key(|name| name.dealer);
        list
    };
    let prev = |n: usize| vec![some(5); n];
    let key = SwarmPublicKey::from_bytes([if at(6) > 30 { 7 } else { 9 }; SwarmPublicKey::LEN]);
    let member = who.party.key();
    let roster = if at(3) > 128 { digest("roster") } else { some(3) };
    let word = match at(1) % 6 {
        0 => {
            let mut chair: Chair = who.chair(if at(2) > 20 { board.call().digest() } else { some(2) });
            chair.sealing = Member::new(at(4) % 20).sealing(chair.call);
            who.say(chair)
        }
        1 => {
            let dealing = vec![choice.get(3).copied()?; 1 + at(4)];
            let roster = match at(7) % 16 {
                0 => None,
                1 => Some(vec![7]),
                _ => roster_before(board),
            };
            who.say(Dealing { ceremony, dealer: member, dealing, roster, prev: prev(3 + at(5) % 8) })
        }
        2 => {
            let dealings = board.settled().filter(|_| at(4) > 60).map_or_else(|| list(6), <[_]>::to_vec);
            if dealings.is_empty() {
                return None;
            }
            let prev = prev(dealings.len());
            who.say(Acceptance { ceremony, member, dealings, prev })
        }
        3 => who.say(Refusal { ceremony, member, dealing: named(4), why: RefusalReason::Unopened, prev: prev(1) }),
        4 => {
            let dealings = board.settled().filter(|_| at(4) > 60).map_or_else(|| list(7), <[_]>::to_vec);
            if dealings.is_empty() {
                return None;
            }
            let (epoch, prev) = (Epoch(u64::from(at(7) > 10)), prev(dealings.len() + 1));
            who.say(Confirmation { ceremony, roster, key, epoch, member, dealings, prev })
        }
        _ => {
            let from = if at(4) > 30 { board.before()?.roster } else { some(4) };
            let to = board.agreed().filter(|_| at(6) > 60).map_or(roster, |agreed| agreed.roster);
            if from == to {
                return None;
            }
            let prev = prev(if at(7) > 60 { 9 } else { 2 + at(7) });
            who.say(Handover { from, to, epoch: Epoch(1), member, prev })
        }
    };
    Some(word)
}

#[test]
fn whatever_is_said_a_committee_needs_all_its_members() {
    let (empty, words) = whole();
    let counts = Cell::new((0_u32, 0_u32));
    // True words, the next one or any, with nonsense among them.
    let step = prop_oneof![
        2 => any::<Index>().prop_map(Err::<Vec<u8>, Index>),
        3 => prop::collection::vec(any::<u8>(), 12).prop_map(Ok::<Vec<u8>, Index>),
    ];
    cases(150)
        .run(&(0..words.len(), prop::collection::vec(step, 0..60)), |(head, steps)| {
            let mut board = empty.clone();
            words[..head].iter().for_each(|said| _ = board.absorb(&said.word, said.at));
            let mut next = head;
            for step in steps {
                let word = match step {
                    Err(index) if index.index(4) == 0 => index.get(&words).word.clone(),
                    Err(_) => {
                        next += 1;
                        words[(next - 1) % words.len()].word.clone()
                    }
                    Ok(choice) => match nonsense(&board, &choice) {
                        Some(word) => word,
                        None => continue,
                    },
                };
                let late = word.digest().as_bytes()[0] < 8;
                let at = if late { UnixTime(u64::MAX) } else { now() };
                let before = board.clone();
                match board.absorb(&word, at) {
                    Ok(Took::Counted) => counts.set((counts.get().0 + 1, counts.get().1)),
                    Ok(Took::Repeated) => prop_assert_eq!(&board, &before),
                    Ok(Took::Noted) => {}
                    Err(_) => prop_assert_eq!(board.words(), before.words()),
                }
                // No way back, and no way round.
                prop_assert!(before.settled().is_none_or(|settled| board.settled() == Some(settled)));
                prop_assert!(before.agreed().is_none() || board.agreed() == before.agreed());
                prop_assert!(before.committee().is_none() || board.committee() == before.committee());
                for at in [now(), UnixTime(u64::MAX)] {
                    if matches!(before.phase(at), Phase::Lapsed(_)) && matches!(before.phase(now()), Phase::Lapsed(_)) {
                        prop_assert!(matches!(board.phase(at), Phase::Lapsed(_)));
                    }
                }
                if board.committee().is_some() {
                    prop_assert_eq!(board.confirmations().count(), 9);
                    prop_assert!(board.handovers().count() >= 5);
                    let agreed = board.agreed().unwrap();
                    prop_assert!(board.confirmations().all(|c| c.roster == agreed.roster && c.key == agreed.key));
                    let settled = board.settled().unwrap();
                    prop_assert!(board.confirmations().all(|c| c.dealings == settled));
                    prop_assert!(board.handovers().all(|(_, word)| word.to == agreed.roster));
                    prop_assert!(board.strays().all(|(_, word)| word.to != agreed.roster));
                }
            }
            counts.set((counts.get().0, counts.get().1 + u32::from(board.committee().is_some())));
            prop_assert_eq!(&rebuilt(&empty, &board), &board);
            Ok(())
        })
        .unwrap();
    let (words, committees) = counts.get();
    assert!(words > 300 && committees > 5, "{words} words counted, {committees} committees came into force");
}

/// What happened in all cases of the test below.
#[derive(Default, Debug)]
struct Tally {
    in_force: u32,
    lapsed: u32,
    restarts: u32,
    crashes: u32,
    lies: u32,
}

#[test]
fn ceremonies_survive_crashes_and_name_their_liars() {
    let (empty, _) = second(&NEW);
    let old = empty.before().unwrap().roster;
    let tally = RefCell::new(Tally::default());
    let strategy = (
        prop::collection::btree_set(0_usize..15, 0..3),
        any::<bool>(),
        prop::collection::vec((0_u8..12, any::<Index>(), any::<[u8; 12]>()), 0..150),
    );
    cases(60)
        .run(&strategy, |(liars, silent, events)| {
            let lying: BTreeSet<EnclaveId> = liars.iter().map(|i| id(*i)).collect();
            let liars: Vec<usize> = liars.into_iter().collect();
            let mut tally = tally.borrow_mut();
            let mut cast = members(0..15);
            cast[..9].iter_mut().for_each(|member| _ = member.held.insert(old));
            let mut board = empty.clone();
            let mut flying: Vec<CustodyWord> = Vec::new();
            for (what, index, mut choice) in events {
                let who = usize::from(choice[0]) % cast.len();
                match what {
                    // Somebody sees the journal as it was a while ago, and says what is due.
                    0..=4 => {
                        let kept = board.words();
                        let seen = kept.len().saturating_sub(usize::from(choice[1] % 8));
                        let mut view = empty.clone();
                        for said in &kept[..seen] {
                            prop_assert!(view.absorb(&said.word, said.at).is_ok());
                        }
                        flying.extend(cast[who].due(&view, now()));
                    }
                    // Words arrive, in any order, some of them twice.
                    5..=8 => {
                        for n in 0..=choice[2] % 4 {
                            if flying.is_empty() {
                                break;
                            }
                            let at = (index.index(flying.len()) + usize::from(n)) % flying.len();
                            let again = choice[1] < 64;
                            let word = if again { flying[at].clone() } else { flying.swap_remove(at) };
                            let took = board.absorb(&word, now());
                            prop_assert!(lying.contains(&word.speaker().enclave_id()) || took != Ok(Took::Noted));
                        }
                    }
                    // Somebody crashes: what it said and nobody has is lost. What it stored before it said so is not.
                    9 => {
                        let key = cast[who].party.key();
                        flying.retain(|word| word.speaker() != key);
                        tally.crashes += 1;
                    }
                    // Somebody lies; but nobody knows another's sealing key before it has its chair.
                    10 => {
                        if let Some(liar) = liars.get(usize::from(choice[0]) % liars.len().max(1)) {
                            choice[0] = u8::try_from(*liar).unwrap();
                            if choice[1] % 6 == 0 {
                                choice[4] = 15 + choice[4] % 4;
                            }
                            flying.extend(nonsense(&board, &choice));
                            tally.lies += 1;
                        }
                    }
                    // Whoever keeps the board starts anew.
                    _ => {
                        let again = rebuilt(&empty, &board);
                        prop_assert_eq!(&again, &board);
                        board = again;
                        tally.restarts += 1;
                    }
                }
            }
            // At last everything arrives, and everybody speaks who wants to.
            for word in &flying {
                _ = board.absorb(word, now());
            }
            cast.retain(|member| !(silent && lying.contains(&member.id())));
            run_board(&mut board, &mut cast, now());
            prop_assert_eq!(&rebuilt(&empty, &board), &board);

            // Whoever is named lies, and the evidence is there.
            for e in board.equivocations() {
                prop_assert!(lying.contains(&e.by));
                let has = |digest: Digest| board.words().iter().any(|said| said.word.digest() == digest);
                prop_assert!(has(e.first) && has(e.second));
            }
            prop_assert!(board.strays().all(|(by, _)| lying.contains(&by)));
            let honest: Vec<&Member> = cast.iter().filter(|member| !lying.contains(&member.id())).collect();
            match board.phase(after()) {
                Phase::InForce => {
                    tally.in_force += 1;
                    let committee = board.committee().unwrap();
                    prop_assert_eq!(board.confirmations().count(), 9);
                    for member in honest {
                        prop_assert_eq!(member.held.contains(&committee.roster), committee.has(member.id()));
                        prop_assert!(!member.held.contains(&old));
                        prop_assert!(board.keeping().all(|keeps| keeps != member.id()));
                    }
                }
                Phase::Lapsed(lapse) => {
                    tally.lapsed += 1;
                    let named =
                        lapse.silent.iter().chain(&lapse.divided).chain(lapse.refused.iter().map(|r| &r.member));
                    let named: BTreeSet<EnclaveId> = named.copied().collect();
                    prop_assert!(named.is_subset(&lying));
                    // Who dealt two dealings spoils none but its own: somebody else must have lied, too, or be silent.
                    prop_assert!(!named.is_empty());
                    // Nothing is lost: everybody who was honest still has its old share.
                    for member in honest {
                        let was = empty.dealer_index(member.id()).is_some();
                        prop_assert_eq!(member.held.contains(&old), was);
                    }
                }
                other => return Err(TestCaseError::fail(format!("it hangs: {other:?}"))),
            }
            Ok(())
        })
        .unwrap();
    let Tally { in_force, lapsed, restarts, crashes, lies } = tally.into_inner();
    let all = [in_force > 15, lapsed > 3, restarts > 50, crashes > 50, lies > 50];
    assert!(
        all == [true; 5],
        "{in_force} in force, {lapsed} lapsed, {restarts} restarts, {crashes} crashes, {lies} lies"
    );
}

/// A manager that forks: two calls of one epoch, each with a board of its own, and members that hear now the one, now the other.
fn fork(steps: &[(u8, bool)], overlap: bool) -> (Board, Board) {
    let (succession, charter, mut cast) = first();
    let before = succession.committee().unwrap();
    let (left, right): (Vec<usize>, Vec<usize>) =
        if overlap { ((3..12).collect(), (6..15).collect()) } else { ((0..9).collect(), (9..18).collect()) };
    let board = |members: &[usize], attempt| {
        let call = by_manager(call_said(&charter, Some(before), members, (attempt, None), T0));
        Board::open(call, &charter, Some(before)).unwrap()
    };
    let mut boards = [board(&left, 1), board(&right, 2)];
    cast.extend(members(9..18));
    for (who, which) in steps {
        let len = cast.len();
        let board = &mut boards[usize::from(*which)];
        for word in cast[usize::from(*who) % len].due(&board.clone(), now()) {
            _ = board.absorb(&word, now());
        }
    }
    let [left, right] = boards;
    (left, right)
}

#[test]
fn two_committees_of_one_epoch_cannot_both_come_into_force() {
    let won = RefCell::new([0_u32; 3]);
    // Everybody hears of both for three rounds: chairs, dealings, acceptances. Then members hear now of the one, now of the other.
    let strategy = (prop::collection::vec(any::<(u8, bool)>(), 10..160), any::<bool>());
    cases(60)
        .run(&strategy, |(order, overlap)| {
            let mut steps: Vec<(u8, bool)> = Vec::new();
            for which in [false, true, false, true, false, true] {
                steps.extend((0..18).map(|who| (who, which)));
            }
            steps.extend(order);
            let (left, right) = fork(&steps, overlap);
            let in_force = [left.committee(), right.committee()].iter().flatten().count();
            won.borrow_mut()[in_force] += 1;
            prop_assert!(in_force < 2);
            // Nor has anybody handed over on both.
            for (by, word) in left.handovers() {
                prop_assert!(right.handovers().all(|(other, said)| other != by || said.to == word.to));
            }
            Ok(())
        })
        .unwrap();
    let won = won.into_inner();
    assert!(won[0] > 0 && won[1] > 0 && won[2] == 0, "none, one, two in force: {won:?}");
}

#[test]
fn one_call_shown_in_two_orders_comes_into_force_once() {
    // The same call and chairs, but members see dealings in different orders: other dealings settle, other rosters result.
    let (empty, mut cast) = second(&NEW);
    let mut chairs = empty.clone();
    for member in &mut cast {
        for word in member.due(&chairs.clone(), now()).into_iter().take(1) {
            _ = chairs.absorb(&word, now());
        }
    }
    assert!(chairs.ceremony().is_some());
    let dealings: Vec<CustodyWord> = cast.iter().take(9).map(|dealer| dealer.say(dealer.dealing(&chairs))).collect();
    let shown = |of: &[CustodyWord]| {
        let mut board = chairs.clone();
        of.iter().for_each(|word| assert_eq!(board.absorb(word, now()), Ok(Took::Counted)));
        let called = |m: &&Member| chairs.member_index(m.id()).is_some();
        for member in cast.iter().filter(called) {
            let all: Vec<_> = board.dealings().cloned().collect();
            let word = member.say(member.acceptance(&board, &all.iter().collect::<Vec<_>>()));
            assert_eq!(board.absorb(&word, now()), Ok(Took::Counted));
        }
        board
    };
    let (mut one, mut two) = (shown(&dealings[..5]), shown(&dealings[4..]));
    assert_ne!(one.settled(), two.settled());
    // Whoever confirmed on one board does not on the other.
    let mut both = 0;
    for (n, member) in cast.iter_mut().enumerate() {
        let (first, second) = if n % 2 == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        for board in [first, second] {
            for word in member.due(&board.clone(), now()) {
                both += u32::from(matches!(word, CustodyWord::Confirmation(_)));
                _ = board.absorb(&word, now());
            }
        }
    }
    assert_eq!(both, 9);
    assert_eq!(one.confirmations().count() + two.confirmations().count(), 9);
    for board in [&one, &two] {
        assert!(board.agreed().is_none() && board.committee().is_none());
        assert!(!matches!(board.phase(now()), Phase::Lapsed(_)));
    }
    // When the journals meet, it is seen: those who confirmed another roster have spoken, and will not confirm this one.
    let others: Vec<_> = one.confirmations().cloned().collect();
    for word in &others {
        assert_eq!(two.absorb(&CustodyWord::Confirmation(word.clone()), now()), Ok(Took::Counted));
    }
    let Phase::Lapsed(lapse) = two.phase(now()) else { panic!("it goes on") };
    assert_eq!((lapse.why, lapse.silent.len()), (LapseReason::Divided, 0));
    assert_eq!(lapse.divided, others.iter().map(|c| c.member.enclave_id()).collect::<Vec<_>>());
}

#[test]
fn one_who_hands_over_twice_is_found_when_journals_meet() {
    // Members 0 to 8 hold the key; five hand over on the left, and one of them lies on the right, too.
    let (mut left, mut right) = fork(&[], false);
    let (_, _, mut cast) = first();
    cast.extend(members(9..18));
    let confirmed = |board: &mut Board, cast: &mut [Member]| {
        while board.agreed().is_none() {
            for member in &mut *cast {
                let words = member.due(&board.clone(), now());
                for word in words.into_iter().filter(|w| !matches!(w, CustodyWord::Handover(_))) {
                    _ = board.absorb(&word, now());
                }
            }
        }
    };
    confirmed(&mut left, &mut cast);
    let (_, _, mut fresh) = first();
    fresh.extend(members(9..18));
    confirmed(&mut right, &mut fresh);
    let hand = |board: &mut Board, who: &Member| {
        let word = who.say(crate::custody::handover(board, who));
        assert_eq!(board.absorb(&word, now()), Ok(Took::Counted));
        word
    };
    let lefts: Vec<_> = cast[..5].iter().map(|m| hand(&mut left, m)).collect();
    // The liar is member 4: it has forgotten its vows.
    let rights: Vec<_> = cast[4..9].iter().map(|m| hand(&mut right, m)).collect();
    assert!(left.committee().is_some() && right.committee().is_some());
    // In whatever order they meet.
    for (board, theirs) in [(&mut left, &rights), (&mut right, &lefts)] {
        let committee = board.committee();
        let took: Vec<_> = theirs.iter().map(|word| (word.speaker(), board.absorb(word, now()))).collect();
        let found: Vec<_> = took.iter().filter(|(_, took)| *took == Ok(Took::Noted)).map(|(by, _)| *by).collect();
        assert_eq!(found, [cast[4].party.key()]);
        assert!(took.iter().all(|(by, took)| *by == cast[4].party.key() || *took == Ok(Took::Counted)));
        let named: Vec<_> = board.equivocations().iter().map(|e| (e.by, e.kind)).collect();
        assert_eq!(named, [(id(4), WordKind::Handover)]);
        // The others only tell that there are two journals, and change nothing.
        assert_eq!((board.strays().count(), board.handovers().count()), (4, 5));
        assert_eq!(board.committee(), committee);
    }
    let said = |board: &Board| (board.equivocations()[0].first, board.equivocations()[0].second);
    assert_eq!(said(&left), (lefts[4].digest(), rights[0].digest()));
    assert_eq!(said(&right), (rights[0].digest(), lefts[4].digest()));
}
