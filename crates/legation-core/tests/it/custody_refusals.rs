//! What charters, calls and boards refuse, and by which check: tables.

use legation_core::{
    Digest, EnclaveId, ProviderId, RevocationEpoch, SwarmName, Term, UnixTime,
    custody::{
        Acceptance, Board, CALL_LIFE_MAX, Called, Charter, Confirmation, CustodyCall, CustodyWord, DEALING_MAX,
        Dealing, DealingRef, EPOCH_SECONDS_MAX, Epoch, Generation, Handover, LapseReason, Phase, ROSTER_MAX,
        RefusalReason, Succession, SwarmPublicKey, Threshold, ThresholdError, Took, WordError, WordKind,
    },
    dsse,
};

use crate::{
    custody::{
        Bend, LONG, Member, T0, after, by_manager, call_said, charter, charter_said, confirmation, first, handover, id,
        now, phase, roster, run_board, second,
    },
    world::digest,
};

#[test]
fn thresholds_are_majorities_that_no_provider_is() {
    use ThresholdError::{Members, Minority, Needed};
    for (t, n, expected) in [
        (2, 2, Ok(())),
        (2, 3, Ok(())),
        (5, 9, Ok(())),
        (6, 11, Ok(())),
        (33, 64, Ok(())),
        (64, 64, Ok(())),
        (1, 1, Err(Members { got: 1 })),
        (33, 65, Err(Members { got: 65 })),
        (1, 2, Err(Needed { needed: 1, members: 2 })),
        (0, 9, Err(Needed { needed: 0, members: 9 })),
        (10, 9, Err(Needed { needed: 10, members: 9 })),
        (4, 8, Err(Minority { needed: 4, members: 8 })),
        (u16::MAX, u16::MAX, Err(Members { got: u16::MAX })),
    ] {
        assert_eq!(Threshold::new(t, n).map(|_| ()), expected, "{t} of {n}");
        let text = format!(r#"{{"t":{t},"n":{n}}}"#);
        assert_eq!(serde_json::from_str::<Threshold>(&text).is_ok(), expected.is_ok(), "{text}");
    }
    assert_eq!(serde_json::to_string(&Threshold::new(5, 9).unwrap()).unwrap(), r#"{"t":5,"n":9}"#);
    assert!(serde_json::from_str::<Threshold>(r#"{"t":5,"n":9,"m":1}"#).is_err());
    for ((t, n), most, good) in [
        ((5, 9), 3, true),
        ((5, 9), 4, true),
        // One provider opens alone.
        ((5, 9), 5, false),
        // Without one, the others do not open.
        ((6, 9), 4, false),
        ((6, 9), 3, true),
        ((6, 11), 5, true),
        ((5, 9), 0, false),
        ((9, 9), 1, false),
        ((2, 3), 1, true),
        ((2, 2), 1, false),
        ((5, 9), u16::MAX, false),
    ] {
        let checked = Threshold::new(t, n).unwrap().check_providers(most);
        assert_eq!(
            checked.map_err(|e| e.check),
            if good { Ok(()) } else { Err("custody.providers".into()) },
            "{t}/{n}, {most}"
        );
    }
}

#[test]
fn charters_that_cannot_be_are_refused() {
    let check = |bend: fn(&mut Charter)| {
        let mut said = charter_said(1, (5, 9), None);
        bend(&mut said);
        said.validate().map_err(|why| why.check)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let bends: &[fn(&mut Charter)] = &[
        |c| c.number = 0,
        |c| c.prev = vec![digest("another")],
        |c| c.number = 2,
        |c| c.epoch_seconds = 59,
        |c| c.epoch_seconds = EPOCH_SECONDS_MAX + 1,
    ];
    for bend in bends {
        assert_eq!(check(*bend), Err("custody.charter".into()));
    }
    assert_eq!(check(|c| c.per_provider_max = 5), Err("custody.providers".into()));
    // And those that do not follow the one before.
    let one = charter(1, (5, 9), None);
    let follows = |bend: fn(&mut Charter)| {
        let mut said = charter_said(2, (6, 11), Some(one.digest()));
        bend(&mut said);
        said.check_follows(&one).map_err(|why| why.check)
    };
    assert_eq!(follows(|_| {}), Ok(()));
    let bends: &[fn(&mut Charter)] = &[
        |c| c.number = 1,
        |c| c.swarm = SwarmName::new("other").unwrap(),
        |c| c.prev = vec![digest("another")],
        |c| c.prev.clear(),
    ];
    for bend in bends {
        assert_eq!(follows(*bend), Err("custody.charter".into()));
    }
}

#[test]
fn calls_that_do_not_follow_are_refused() {
    let (succession, charter, _) = first();
    let before = succession.committee().unwrap();
    let new: Vec<usize> = (6..15).collect();
    let check = |bend: fn(&mut CustodyCall)| {
        let mut said = call_said(&charter, Some(before), &new, (1, None), T0);
        bend(&mut said);
        Board::open(by_manager(said), &charter, Some(before)).map(|_| ()).map_err(|why| why.check)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let cases: &[(&str, Bend<CustodyCall>, &str)] = &[
        ("one too few", |c| _ = c.members.pop(), "custody.members"),
        ("one twice", |c| c.members[1] = c.members[0].clone(), "custody.members"),
        ("another order", |c| c.members.swap(0, 1), "custody.members"),
        (
            "all with one provider",
            |c| {
                c.members.iter_mut().for_each(|m| m.provider = ProviderId::new("east").unwrap());
            },
            "custody.providers",
        ),
        ("another threshold", |c| c.threshold = Threshold::new(6, 9).unwrap(), "custody.charter"),
        (
            "another charter",
            |c| {
                c.charter = digest("charter");
                c.prev[0] = c.charter;
            },
            "custody.charter",
        ),
        ("one who is silently left out", |c| _ = c.removed.pop(), "custody.removed"),
        ("nobody named as removed", |c| c.removed.clear(), "custody.removed"),
        (
            "one removed who stays",
            |c| {
                c.removed.push(c.members[0].enclave);
                c.removed.sort_unstable();
            },
            "custody.removed",
        ),
        ("removed in another order", |c| c.removed.reverse(), "custody.removed"),
        ("a stale committee", |c| c.from.as_mut().unwrap().roster = digest("stale"), "custody.from"),
        ("a stale epoch", |c| c.from.as_mut().unwrap().epoch = Epoch(1), "custody.from"),
        ("no epoch after", |c| c.from.as_mut().unwrap().epoch = Epoch(u64::MAX), "custody.epoch"),
        (
            "a new key over a live one",
            |c| {
                c.from = None;
                c.removed.clear();
            },
            "custody.from",
        ),
        ("another generation", |c| c.generation = Generation(1), "custody.generation"),
        ("no time", |c| c.expires = c.called, "custody.dates"),
        ("too much time", |c| c.expires = c.called.plus(CALL_LIFE_MAX + 1), "custody.dates"),
        ("attempt 0", |c| c.attempt = 0, "custody.attempt"),
        ("nothing beneath", |c| c.prev.clear(), "custody.prev"),
        ("too much beneath", |c| c.prev.extend([digest("a"), digest("b")]), "custody.prev"),
        (
            "after the charter",
            |c| {
                c.called = UnixTime(T0 + 30 * 86_400);
                c.expires = c.called.plus(60);
            },
            "custody.charter",
        ),
    ];
    for (what, bend, refused) in cases {
        assert_eq!(check(*bend), Err((*refused).to_owned()), "{what}");
    }
    // The first key has nobody before it.
    let mut said = call_said(&charter, None, &(0..9).collect::<Vec<_>>(), (1, None), T0);
    said.removed = vec![id(19)];
    assert_eq!(Board::open(by_manager(said), &charter, None).unwrap_err().check, "custody.removed");
}

#[test]
fn one_call_after_the_other() {
    let (start, charter, _) = first();
    let before = start.committee().unwrap().clone();
    let last = start.past().unwrap().call().digest();
    let new: Vec<usize> = (6..15).collect();
    let said = |attempt, last, at| call_said(&charter, Some(&before), &new, (attempt, last), at);
    let check = |succession: &mut Succession, said: CustodyCall, at: u64| {
        succession.call(by_manager(said), UnixTime(at)).map_err(|why| why.check)
    };
    let later = T0 + 5000;
    let cases: &[(&str, Bend<CustodyCall>, &str)] = &[
        ("a second attempt first", |c| c.attempt = 2, "custody.attempt"),
        ("nothing of the call before", |c| _ = c.prev.pop(), "custody.prev"),
        ("another call before", |c| c.prev[2] = digest("another"), "custody.prev"),
        ("an older term", |c| c.term = Term(0), "custody.term"),
        ("from the future", |c| (c.called, c.expires) = (c.called.plus(10), c.expires.plus(10)), "custody.dates"),
        (
            "of the past",
            |c| (c.called, c.expires) = (c.called.minus(LONG + 1), c.expires.minus(LONG + 1)),
            "custody.dates",
        ),
    ];
    for (what, bend, refused) in cases {
        let mut call = said(1, Some(last), later);
        bend(&mut call);
        assert_eq!(check(&mut start.clone(), call, later), Err((*refused).to_owned()), "{what}");
    }
    let mut succession = start;
    let mut one = said(1, Some(last), later);
    one.revocations = RevocationEpoch(3);
    let one = by_manager(one);
    assert_eq!(succession.call(one.clone(), UnixTime(later)), Ok(()));
    assert_eq!(succession.call(one.clone(), UnixTime(later)), Ok(()));
    // While it is open, no other; when its time is over, the next attempt, which knows no fewer revocations.
    let two = |at, revocations| {
        let mut two = said(2, Some(one.digest()), at);
        two.revocations = RevocationEpoch(revocations);
        two
    };
    assert_eq!(check(&mut succession, two(later + 10, 3), later + 10), Err("custody.open".into()));
    let end = later + LONG + 1;
    assert_eq!(check(&mut succession, said(1, Some(one.digest()), end), end), Err("custody.attempt".into()));
    assert_eq!(check(&mut succession, two(end, 2), end), Err("custody.stale".into()));
    assert_eq!(check(&mut succession, two(end, 3), end), Ok(()));
    assert_eq!(succession.open().unwrap().call().attempt, 2);
    assert_eq!(succession.committee(), Some(&before));
    // A charter that is no successor changes nothing.
    assert_eq!(succession.charter(charter.clone()), Ok(()));
    assert!(succession.charter(crate::custody::charter(3, (5, 9), Some(digest("another")))).is_err());
    assert_eq!(succession.current_charter(), &charter);
}

/// Plays until the phase is one of these, one word at a time.
fn until(board: &mut Board, cast: &mut [Member], wanted: fn(&Phase) -> bool) {
    while !wanted(&phase(board)) {
        let words = board.words().len();
        'said: for member in &mut *cast {
            for word in member.due(&board.clone(), now()) {
                if board.absorb(&word, now()) == Ok(Took::Counted) {
                    break 'said;
                }
            }
        }
        assert!(board.words().len() > words, "stuck at {:?}", phase(board));
    }
}

fn find(cast: &[Member], is: impl Fn(&Member) -> bool) -> &Member {
    cast.iter().find(|member| is(member)).unwrap()
}

const NEW: [usize; 9] = [6, 7, 8, 9, 10, 11, 12, 13, 14];

#[test]
fn words_that_do_not_count_are_refused_and_change_nothing() {
    let (mut board, mut cast) = second(&NEW);
    let stranger = Member::new(19);
    let mut wrong = Vec::new();
    let mut check = |board: &mut Board, what: &str, word: CustodyWord, at: UnixTime, refused: &str| {
        let (words, skipped) = (board.words().len(), board.skipped());
        match board.absorb(&word, at) {
            Err(why) if why.check == refused && board.words().len() == words && board.skipped() == skipped + 1 => {}
            other => wrong.push(format!("{what}: {other:?}; wanted {refused}")),
        }
    };
    let call = board.call().digest();

    // Chairs.
    let new = Member::new(9);
    check(&mut board, "a chair of another call", new.say(new.chair(digest("call"))), now(), "custody.call");
    check(&mut board, "a stranger's chair", stranger.say(stranger.chair(call)), now(), "custody.member");
    let old = Member::new(0);
    check(&mut board, "a chair of one who goes", old.say(old.chair(call)), now(), "custody.member");
    check(&mut board, "a chair too late", new.say(new.chair(call)), after(), "custody.late");
    let early = Acceptance {
        ceremony: digest("ceremony"),
        member: new.party.key(),
        dealings: vec![DealingRef { dealer: id(0), dealing: digest("dealing") }],
        prev: vec![digest("dealing")],
    };
    check(&mut board, "an acceptance before the ceremony", new.say(early), now(), "custody.early");
    // The last second counts.
    assert_eq!(board.absorb(&new.say(new.chair(call)), UnixTime(T0 + LONG)), Ok(Took::Counted));
    let copy = {
        let thief = Member::new(10);
        let mut chair = thief.chair(call);
        chair.sealing = new.sealing(call);
        thief.say(chair)
    };
    check(&mut board, "a chair with another's key", copy, now(), "custody.sealing");

    // Dealings.
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Dealings { .. }));
    let dealer = Member::new(0);
    let mut dealing = dealer.dealing(&board);
    dealing.ceremony = digest("ceremony");
    check(&mut board, "a dealing of another ceremony", dealer.say(dealing), now(), "custody.ceremony");
    let word = new.say(new.dealing(&board));
    check(&mut board, "a dealing of a new member", word, now(), "custody.dealer");
    let word = dealer.say(dealer.dealing(&board));
    check(&mut board, "a dealing too late", word, after(), "custody.late");
    let mut dealing = dealer.dealing(&board);
    dealing.prev.pop();
    check(&mut board, "a dealing on too few chairs", dealer.say(dealing), now(), "custody.form");
    for (what, roster) in [("none", None), ("another", Some(b"another".to_vec()))] {
        let dealing = Dealing { roster, ..dealer.dealing(&board) };
        check(&mut board, &format!("a dealing with {what} roster"), dealer.say(dealing), now(), "custody.roster");
    }

    // Verdicts.
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Acceptances { .. }));
    let one = board.dealings().next().unwrap().clone();
    let mut word = new.acceptance(&board, &[&one]);
    word.dealings[0].dealing = digest("another");
    check(&mut board, "an acceptance of nothing", new.say(word), now(), "custody.dealing");
    let word = old.say(old.acceptance(&board, &[&one]));
    check(&mut board, "an acceptance of one who goes", word, now(), "custody.member");
    let mut word = new.refusal(&board, &one, RefusalReason::Unopened);
    word.dealing.dealer = id(19);
    check(&mut board, "a refusal of a stranger's", new.say(word), now(), "custody.dealing");
    let judged = board.has_judged(new.id(), &one.name());
    assert!(!judged);
    let word = new.say(new.acceptance(&board, &[&one]));
    check(&mut board, "an acceptance too late", word, after(), "custody.late");
    let late = find(&cast, |m| board.member_index(m.id()).is_some() && !board.has_judged(m.id(), &one.name()));
    let pending = late.say(late.refusal(&board, &one, RefusalReason::Mismatch));

    // Confirmations.
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Confirmations { .. }));
    let last = cast.iter().rfind(|m| board.member_index(m.id()).is_some()).unwrap();
    assert!(!board.confirmations().any(|c| c.member == last.party.key()));
    let said = confirmation(&board, last);
    let bent = |bend: &dyn Fn(&mut Confirmation)| {
        let mut said = said.clone();
        bend(&mut said);
        last.say(said)
    };
    check(&mut board, "another epoch", bent(&|c| c.epoch = Epoch(2)), now(), "custody.epoch");
    let key = SwarmPublicKey::from_bytes([8; SwarmPublicKey::LEN]);
    check(&mut board, "another key", bent(&|c| c.key = key.clone()), now(), "custody.key");
    let same = board.before().unwrap().roster;
    check(&mut board, "the roster before", bent(&|c| c.roster = same), now(), "custody.key");
    check(&mut board, "a confirmation too late", bent(&|_| {}), after(), "custody.late");
    let from = stranger.say(Confirmation { member: stranger.party.key(), ..said.clone() });
    check(&mut board, "a stranger's confirmation", from, now(), "custody.member");
    // It was accepted by then, so this is a contradiction and no new word.
    assert_eq!(board.absorb(&pending, now()), Ok(Took::Noted));

    // Handovers.
    let made_up = Handover {
        from: same,
        to: roster(&board),
        epoch: Epoch(1),
        member: old.party.key(),
        prev: vec![digest("confirmation"); 9],
    };
    check(&mut board, "a handover before all confirmed", old.say(made_up), now(), "custody.early");
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Handovers { .. }));
    let left = find(&cast, |m| board.dealer_index(m.id()).is_some() && !board.handovers().any(|(by, _)| by == m.id()));
    let said = handover(&board, left);
    let bent = |bend: &dyn Fn(&mut Handover)| {
        let mut said = said.clone();
        bend(&mut said);
        left.say(said)
    };
    check(&mut board, "from another roster", bent(&|h| h.from = digest("roster")), now(), "custody.from");
    check(&mut board, "to another epoch", bent(&|h| h.epoch = Epoch(2)), now(), "custody.from");
    check(&mut board, "on too few confirmations", bent(&|h| _ = h.prev.pop()), now(), "custody.form");
    let from = stranger.say(Handover { member: stranger.party.key(), ..said.clone() });
    check(&mut board, "a stranger's handover", from, now(), "custody.member");
    // But there is no deadline any more.
    assert_eq!(board.absorb(&left.say(said), after()), Ok(Took::Counted));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn words_of_bad_form_are_none() {
    let (mut board, mut cast) = second(&NEW);
    run_board(&mut board, &mut cast, now());
    let (old, new) = (find(&cast, |m| m.id() == id(0)), find(&cast, |m| m.id() == id(9)));
    let refused = |word: Result<CustodyWord, WordError>| match word {
        Err(WordError::Form(why)) => why.check,
        other => format!("{other:?}"),
    };
    macro_rules! bent {
        ($who:ident, $word:expr, |$it:ident| $bend:expr) => {{
            let mut $it = $word;
            $bend;
            refused(CustodyWord::open(dsse::sign($it, &$who.party).envelope()))
        }};
    }
    let one = board.dealings().next().unwrap().clone();
    let two: Vec<_> = board.dealings().take(2).collect();
    for (what, got) in [
        ("a chair on nothing", bent!(new, new.chair(digest("call")), |c| c.prev.clear())),
        ("a chair on another passport", bent!(new, new.chair(digest("call")), |c| c.passport = digest("other"))),
        ("an empty dealing", bent!(old, old.dealing(&board), |d| d.dealing.clear())),
        ("a huge dealing", bent!(old, old.dealing(&board), |d| d.dealing = vec![0; DEALING_MAX + 1])),
        ("a huge roster", bent!(old, old.dealing(&board), |d| d.roster = Some(vec![0; ROSTER_MAX + 1]))),
        ("an empty roster", bent!(old, old.dealing(&board), |d| d.roster = Some(Vec::new()))),
        ("a dealing on nothing", bent!(old, old.dealing(&board), |d| d.prev.clear())),
        ("a dealing on too much", bent!(old, old.dealing(&board), |d| d.prev = vec![digest("x"); 66])),
        ("an acceptance of none", bent!(new, new.acceptance(&board, &[]), |a| a.prev.clear())),
        ("an acceptance on none", bent!(new, new.acceptance(&board, &[&one]), |a| a.prev.clear())),
        ("an acceptance twice", bent!(new, new.acceptance(&board, &[&one, &one]), |a| a.prev.truncate(2))),
        ("acceptances in another order", bent!(new, new.acceptance(&board, &two), |a| a.dealings.reverse())),
        ("a refusal on none", bent!(new, new.refusal(&board, &one, RefusalReason::Commitment), |r| r.prev.clear())),
        ("a confirmation of none", bent!(new, confirmation(&board, new), |c| c.dealings.clear())),
        ("a confirmation on none", bent!(new, confirmation(&board, new), |c| c.prev.clear())),
        ("a handover to itself", bent!(old, handover(&board, old), |h| h.to = h.from)),
        ("a handover of a new key", bent!(old, handover(&board, old), |h| h.epoch = Epoch(0))),
        ("a handover on one", bent!(old, handover(&board, old), |h| h.prev.truncate(1))),
    ] {
        assert_eq!(got, "custody.form", "{what}");
    }
}

#[test]
fn what_a_ceremony_waits_for_is_named() {
    // Whoever is silent from a phase on is named when time is over.
    for (phase_of, silent) in [(0, 9), (1, 9), (2, 9)] {
        let (mut board, mut cast) = second(&NEW);
        let wanted: fn(&Phase) -> bool = match phase_of {
            0 => |phase| matches!(phase, Phase::Chairs { .. }),
            1 => |phase| matches!(phase, Phase::Acceptances { .. }),
            _ => |phase| matches!(phase, Phase::Confirmations { .. }),
        };
        until(&mut board, &mut cast, wanted);
        cast.retain(|member| member.id() != id(silent));
        run_board(&mut board, &mut cast, now());
        let missing = match phase(&board) {
            Phase::Chairs { missing } | Phase::Confirmations { missing } => missing,
            Phase::Acceptances { missing, complete: 0, needed: 5 } => missing,
            other => panic!("{other:?}"),
        };
        assert_eq!(missing, [id(silent)]);
        match board.phase(after()) {
            Phase::Lapsed(lapse) => {
                assert_eq!((lapse.why, &lapse.silent[..]), (LapseReason::Expired, &[id(silent)][..]));
            }
            other => panic!("{other:?}"),
        }
        assert!(board.committee().is_none());
    }
}

#[test]
fn one_refusal_keeps_a_dealing_out_and_too_many_end_the_call() {
    let (mut board, mut cast) = second(&NEW);
    let slandered: Vec<EnclaveId> = (0..4).map(id).collect();
    cast.iter_mut().find(|m| m.id() == id(9)).unwrap().slanders = slandered.iter().copied().collect();
    run_board(&mut board, &mut cast, now());
    // Five of nine are left, and enough.
    assert_eq!(phase(&board), Phase::InForce);
    assert!(board.settled().unwrap().iter().all(|d| !slandered.contains(&d.dealer)));

    let (mut board, mut cast) = second(&NEW);
    cast.iter_mut().find(|m| m.id() == id(9)).unwrap().slanders = (0..5).map(id).collect();
    run_board(&mut board, &mut cast, now());
    match phase(&board) {
        Phase::Lapsed(lapse) => {
            assert_eq!(lapse.why, LapseReason::Spoilt);
            assert_eq!(lapse.refused.len(), 5);
            assert!(lapse.refused.iter().all(|r| r.member == id(9) && r.why == RefusalReason::Mismatch));
            // Nobody else is named: the next attempt leaves out whom this one names.
            assert!(lapse.silent.is_empty() && lapse.divided.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn members_who_confirm_different_rosters_end_the_call() {
    let (mut board, mut cast) = second(&NEW);
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Confirmations { .. }));
    let settled = board.clone();
    let said = confirmation(&board, find(&cast, |m| m.id() == id(14)));
    let bends: &[fn(&mut Confirmation)] = &[
        |c| c.roster = digest("another"),
        |c| c.dealings[0].dealing = digest("another"),
        |c| _ = (c.dealings.pop(), c.prev.pop()),
    ];
    for bend in bends {
        let (mut board, mut cast) = second(&NEW);
        settled.words().iter().for_each(|said| _ = board.absorb(&said.word, said.at).unwrap());
        let mut lie = said.clone();
        bend(&mut lie);
        let lie = Member::new(14).say(lie);
        assert_eq!(board.absorb(&lie, now()), Ok(Took::Counted));
        // The others go on, so that it is seen who lies: of two, nobody knows.
        assert!(matches!(phase(&board), Phase::Confirmations { .. }));
        let mut two = board.clone();
        let other = Member::new(9);
        assert_eq!(two.absorb(&other.say(confirmation(&two, &other)), now()), Ok(Took::Counted));
        assert!(matches!(phase(&two), Phase::Confirmations { .. }));
        run_board(&mut board, &mut cast, now());
        let Phase::Lapsed(lapse) = phase(&board) else { panic!("{:?}", phase(&board)) };
        assert_eq!((lapse.why, &lapse.divided[..]), (LapseReason::Divided, &[id(14)][..]));
        assert!(lapse.silent.is_empty());
        assert_eq!(board.confirmations().count(), 9);
        assert!(board.handovers().next().is_none() && board.committee().is_none());
        // It says the truth, too, and too late: that names it.
        assert_eq!(board.absorb(&Member::new(14).say(said.clone()), now()), Ok(Took::Noted));
        let named: Vec<_> = board.equivocations().iter().map(|e| (e.by, e.kind, e.first)).collect();
        assert_eq!(named, [(id(14), WordKind::Confirmation, lie.digest())]);
        // Who said nothing until the end is named as well.
        let Phase::Lapsed(lapse) = two.phase(after()) else { panic!("{:?}", two.phase(after())) };
        assert_eq!((lapse.why, lapse.silent.len()), (LapseReason::Divided, 7));
        assert!(lapse.divided.contains(&id(14)));
    }
}

#[test]
fn a_handover_to_another_roster_is_kept_as_evidence() {
    let (mut board, mut cast) = second(&NEW);
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Handovers { given: 0, .. }));
    let liar = Member::new(0);
    let said = handover(&board, &liar);
    let away = Handover { to: digest("another"), prev: vec![digest("confirmation"); 2], ..said.clone() };
    let away = liar.say(away);
    assert_eq!(board.absorb(&away, now()), Ok(Took::Counted));
    assert_eq!(board.absorb(&away, now()), Ok(Took::Repeated));
    assert_eq!(phase(&board), Phase::Handovers { given: 0, needed: 5 });
    assert!(board.strays().all(|(by, word)| (by, word.to) == (liar.id(), digest("another"))));
    // The first that it said counts, which is for another committee: it is not one of the five.
    let said = liar.say(said);
    assert_eq!(board.absorb(&said, now()), Ok(Took::Noted));
    assert_eq!(phase(&board), Phase::Handovers { given: 0, needed: 5 });
    let e = board.equivocations()[0];
    assert_eq!((e.by, e.kind, e.first, e.second), (id(0), WordKind::Handover, away.digest(), said.digest()));
    assert!([&away, &said].iter().all(|word| board.words().iter().any(|said| said.word == **word)));
    run_board(&mut board, &mut cast, now());
    assert_eq!((phase(&board), board.handovers().count(), board.strays().count()), (Phase::InForce, 8, 1));
    // Without the others, it is not in force.
    let (mut board, mut cast) = second(&NEW);
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Handovers { given: 4, .. }));
    let left = find(&cast, |m| board.keeping().any(|keeps| keeps == m.id()));
    let away = Handover { to: digest("another"), ..handover(&board, left) };
    assert_eq!(board.absorb(&left.say(away), now()), Ok(Took::Counted));
    assert!(board.committee().is_none());
    assert_eq!((phase(&board), board.keeping().count()), (Phase::Handovers { given: 4, needed: 5 }, 4));
}

#[test]
fn a_revocation_overtakes_a_call() {
    let (mut succession, charter, mut cast) = first();
    let before = succession.committee().unwrap().clone();
    let first = succession.past().unwrap().call().digest();
    let (at, new) = (UnixTime(T0 + 1000), (6..15).collect::<Vec<_>>());
    let one = by_manager(call_said(&charter, Some(&before), &new, (1, Some(first)), at.0));
    succession.call(one.clone(), at).unwrap();
    let again = |revocations, at: UnixTime| {
        let others: Vec<usize> = (6..16).filter(|i| *i != 14).collect();
        let mut two = call_said(&charter, Some(&before), &others, (2, Some(one.digest())), at.0);
        two.revocations = RevocationEpoch(revocations);
        by_manager(two)
    };
    cast.extend((9..16).map(Member::new));
    // At any time, as long as one has not confirmed.
    let mut confirmed = 0;
    while confirmed < 9 {
        let mut other = succession.clone();
        assert_eq!(other.call(again(0, at), at).map_err(|why| why.check), Err("custody.open".to_owned()));
        assert_eq!(other.call(again(1, at), at), Ok(()));
        assert_eq!(other.open().unwrap().call().attempt, 2);
        let board = succession.open().unwrap().clone();
        let due = cast.iter_mut().flat_map(|member| member.due(&board, at));
        let counted = due.filter(|word| succession.say(word, at) == Ok(Took::Counted)).count();
        assert!(counted > 0);
        confirmed = succession.open().unwrap().confirmations().count();
    }
    // When all have, old members may have erased their shares.
    let late = UnixTime(at.0 + LONG + 1);
    for at in [at, late] {
        assert_eq!(succession.call(again(1, at), at).map_err(|why| why.check), Err("custody.open".to_owned()));
    }
    assert!(matches!(succession.open().unwrap().phase(late), Phase::Handovers { given: 0, .. }));
}

#[test]
fn whoever_says_two_things_is_named_and_the_first_counts() {
    let (mut board, mut cast) = second(&NEW);
    let call = board.call().digest();
    let mut expected = Vec::new();
    let mut twice = |board: &mut Board, first: CustodyWord, second: CustodyWord| {
        let took = (board.absorb(&first, now()), board.absorb(&second, now()), board.absorb(&second, now()));
        let named = (second.speaker().enclave_id(), second.kind());
        assert!(matches!(took.0, Ok(Took::Counted | Took::Repeated)), "{named:?}: {took:?}");
        assert_eq!((took.1, took.2), (Ok(Took::Noted), Ok(Took::Noted)), "{named:?}");
        expected.push(named);
    };
    let new = Member::new(9);
    let mut other = new.chair(call);
    other.sealing = Member::new(19).sealing(call);
    twice(&mut board, new.say(new.chair(call)), new.say(other));
    // The same chair on a new passport is the same chair.
    let mut renewed = new.chair(call);
    renewed.passport = digest("new passport");
    renewed.prev[1] = renewed.passport;
    assert_eq!(board.absorb(&new.say(renewed), now()), Ok(Took::Repeated));

    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Dealings { .. }));
    let dealer = Member::new(0);
    let mut other = dealer.dealing(&board);
    other.dealing.push(1);
    let said = dealer.say(dealer.dealing(&board));
    twice(&mut board, said, dealer.say(other));
    // Its dealing is void.
    assert!(!board.dealings().any(|d| d.dealer == dealer.party.key()));
    // The same on other statements beneath is the same.
    let mut same = dealer.dealing(&board);
    same.prev[1] = digest("another envelope");
    assert_eq!(board.absorb(&dealer.say(same), now()), Ok(Took::Repeated));

    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Acceptances { .. }));
    let one = board.dealings().last().unwrap().clone();
    let accepts = new.say(new.acceptance(&board, &[&one]));
    let refuses = new.say(new.refusal(&board, &one, RefusalReason::Unopened));
    twice(&mut board, accepts, refuses);
    assert!(board.dealings().any(|d| d.name() == one.name()));

    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Confirmations { .. }));
    let said = confirmation(&board, &new);
    let mut other = said.clone();
    other.roster = digest("another");
    twice(&mut board, new.say(said), new.say(other));

    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Handovers { .. }));
    let said = handover(&board, &dealer);
    let mut other = said.clone();
    other.to = digest("another");
    twice(&mut board, dealer.say(said), dealer.say(other));

    run_board(&mut board, &mut cast, now());
    assert_eq!(phase(&board), Phase::InForce);
    assert!(!board.settled().unwrap().iter().any(|d| d.dealer == dealer.id()));
    let named: Vec<_> = board.equivocations().iter().map(|e| (e.by, e.kind)).collect();
    assert_eq!(named, expected);
    // The evidence is on the board.
    for e in board.equivocations() {
        assert!([e.first, e.second].iter().all(|d| board.words().iter().any(|said| said.word.digest() == *d)));
    }
}

#[test]
fn nobody_is_left_behind_unnoticed() {
    // keep-protocol's refresh counted whoever was there, and left the others with shares that no longer fit. Here: a member who is absent at
    // any point keeps the committee from coming into force, and the old one stays.
    for absent in [6, 9, 14] {
        for from in [0_usize, 1, 2] {
            let (mut board, mut cast) = second(&NEW);
            let wanted: fn(&Phase) -> bool = match from {
                0 => |_| true,
                1 => |phase| matches!(phase, Phase::Acceptances { .. }),
                _ => |phase| matches!(phase, Phase::Confirmations { .. }),
            };
            until(&mut board, &mut cast, wanted);
            let old = board.before().unwrap().roster;
            let gone = cast.iter().position(|m| m.id() == id(absent)).unwrap();
            if board.confirmations().any(|c| c.member == cast[gone].party.key()) {
                continue;
            }
            let gone = cast.remove(gone);
            run_board(&mut board, &mut cast, now());
            assert!(board.committee().is_none() && board.agreed().is_none(), "{absent} from {from}");
            assert_eq!(board.handovers().count(), 0);
            // Everybody of the old committee still has its share.
            let holders = cast.iter().chain([&gone]).filter(|m| m.held.contains(&old)).count();
            assert_eq!(holders, 9);
            assert!(matches!(board.phase(after()), Phase::Lapsed(_)));
        }
    }
    // Nor can a call leave somebody out without saying so: `calls_that_do_not_follow_are_refused`.
}

#[test]
fn a_key_is_not_lost_when_words_are_hidden_at_the_end() {
    // All confirmed, four of five handed over and erased; the rest is hidden until long after the deadline.
    let (mut board, mut cast) = second(&(9..20).collect::<Vec<_>>());
    until(&mut board, &mut cast, |phase| matches!(phase, Phase::Handovers { given: 4, .. }));
    assert_eq!(board.phase(UnixTime(u64::MAX)), Phase::Handovers { given: 4, needed: 5 });
    // No other call can be made meanwhile, and the new ones keep what they confirmed.
    let to = board.agreed().unwrap().roster;
    let keep = cast.iter().filter(|m| m.held.contains(&to)).count();
    assert_eq!(keep, 11);
    run_board(&mut board, &mut cast, UnixTime(u64::MAX));
    assert_eq!(board.phase(UnixTime(u64::MAX)), Phase::InForce);
}

#[test]
fn called_members_have_one_spelling() {
    let call = call_said(&charter(1, (5, 9), None), None, &(0..9).collect::<Vec<_>>(), (1, None), T0);
    let text = serde_json::to_string(&call).unwrap();
    assert_eq!(serde_json::from_str::<CustodyCall>(&text).unwrap(), call);
    assert!(text.contains(r#""from":null"#));
    for (what, other) in [
        ("more", text.replacen('{', r#"{"more":1,"#, 1)),
        ("less", text.replacen(r#""attempt":1,"#, "", 1)),
        ("a member with more", text.replacen(r#"{"enclave""#, r#"{"more":1,"enclave""#, 1)),
        ("a threshold that is none", text.replacen(r#"{"t":5"#, r#"{"t":4"#, 1)),
    ] {
        assert!(serde_json::from_str::<CustodyCall>(&other).is_err(), "{what}");
    }
    let member: Called = serde_json::from_str(&serde_json::to_string(&call.members[0]).unwrap()).unwrap();
    assert_eq!(member, call.members[0]);
    assert_ne!(by_manager(call).digest(), Digest::of(b""));
}
