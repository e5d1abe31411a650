//! The sealed store as readers and repairers meet it: holders that are lost, lie, or mix things up.

use std::ops::Range;

use legation_core::{Bytes, ObjectId};
use legation_keys::{
    ObjectKey, SEGMENT,
    store::{
        Altered, Code, KeyCommitment, Manifest, MendError, MendStep, Mender, OpenError, Opener, PIECE, Path,
        PieceError, PieceList, Position, Step, StripeIndex, Why,
    },
};
use proptest::prelude::*;

use crate::{
    plaintext,
    store::{OBJECT, Stored, at, code, key},
};

/// What a holder answers when it is asked for a piece: nothing when it is lost.
type Answer<'a> = dyn FnMut(Position, StripeIndex) -> Option<(Vec<u8>, Path)> + 'a;

/// Reads to the end or a refusal, from holders that answer like this.
fn read(opener: &mut Opener, answer: &mut Answer<'_>) -> (Vec<u8>, Result<(), OpenError>) {
    let mut out = Vec::new();
    loop {
        match opener.step() {
            Ok(Step::Want { stripe, positions }) => {
                assert!(!positions.is_empty());
                for position in positions {
                    match answer(position, stripe) {
                        Some((bytes, path)) => {
                            let before = opener.altered().len();
                            let given = opener.give(position, stripe, &bytes, &path);
                            assert_eq!(given.is_err(), opener.altered().len() > before, "{given:?}");
                        }
                        None => opener.lose(position),
                    }
                }
            }
            Ok(Step::Plain(bytes)) => out.extend_from_slice(bytes),
            Ok(Step::End) => return (out, Ok(())),
            Err(error) => return (out, Err(error)),
        }
    }
}

fn opener(stored: &Stored) -> Opener {
    Opener::new(&key(), stored.manifest.clone()).unwrap()
}

/// An object, of which sizes, codes and edges differ.
fn objects() -> impl Strategy<Value = Stored> {
    let len = prop_oneof![0..200usize, SEGMENT - 2..SEGMENT + 2, 0..9 * SEGMENT];
    (1..5_u8, 0..5_u8, len).prop_map(|(data, parity, len)| Stored::new(code(data, parity), len))
}

/// As many of its positions as may be lost, or `more`.
fn some(code: Code, seed: u64, more: usize) -> Vec<Position> {
    let mut positions: Vec<_> = code.positions().collect();
    let mut drawn = Vec::new();
    let mut seed = seed;
    while drawn.len() < usize::from(code.parity()) + more && !positions.is_empty() {
        drawn.push(positions.swap_remove((seed % positions.len() as u64) as usize));
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
    }
    drawn
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.manifest.layout())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_loss_that_the_code_bears_reads(stored in objects(), seed: u64, from: u64, to: u64) {
        let code = stored.manifest.layout().code();
        let lost = some(code, seed, 0);
        let mut holders = |position, stripe| (!lost.contains(&position)).then(|| stored.answer(position, stripe));
        let (out, result) = read(&mut opener(&stored), &mut holders);
        prop_assert_eq!(result, Ok(()));
        prop_assert!(out == stored.text);

        let len = stored.text.len() as u64 + 1;
        let (from, to) = (from % len, to % len);
        let range = from.min(to)..from.max(to);
        let mut part = Opener::range(&key(), stored.manifest.clone(), range.clone()).unwrap();
        let (out, result) = read(&mut part, &mut holders);
        prop_assert_eq!(result, Ok(()));
        prop_assert!(out == stored.text[range.start as usize..range.end as usize]);
        prop_assert_eq!(part.offset(), Bytes(range.end));
    }

    #[test]
    fn one_loss_more_gives_a_true_prefix_and_passes_when_a_holder_is_back(stored in objects(), seed: u64) {
        let code = stored.manifest.layout().code();
        let lost = some(code, seed, 1);
        let mut opener = opener(&stored);
        let (mut out, result) = read(&mut opener, &mut |position, stripe| {
            (!lost.contains(&position)).then(|| stored.answer(position, stripe))
        });
        prop_assert!(stored.text.starts_with(&out));
        match result {
            // A short object does without some fragments of data.
            Ok(()) => prop_assert!(out.len() == stored.text.len()),
            Err(OpenError::TooFew(few)) => {
                prop_assert!(few.have < few.need && few.altered.is_empty());
                opener.regain(lost[0]);
                let (rest, result) = read(&mut opener, &mut |position, stripe| {
                    (!lost[1..].contains(&position)).then(|| stored.answer(position, stripe))
                });
                prop_assert_eq!(result, Ok(()));
                out.extend(rest);
                prop_assert!(out == stored.text);
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }

    #[test]
    fn any_flip_is_found_and_its_fragment_named(stored in objects(), seed: u64, stripe: u32, bit: usize, whole: bool) {
        let layout = stored.manifest.layout();
        let liars = some(layout.code(), seed, 0);
        let bad = StripeIndex(stripe % layout.stripes());
        let mut opener = opener(&stored);
        let mut lies = Vec::new();
        let (out, result) = read(&mut opener, &mut |position, stripe| {
            let (mut piece, path) = stored.answer(position, stripe);
            let mut path = path.to_bytes();
            if liars.contains(&position) && (whole || stripe == bad) {
                match bit % (8 * (piece.len() + path.len())) {
                    bit if bit < 8 * piece.len() => piece[bit / 8] ^= 1 << (bit % 8),
                    bit => path[bit / 8 - piece.len()] ^= 1 << (bit % 8),
                }
                lies.push((position, stripe));
            }
            Some((piece, Path::from_bytes(&path).unwrap()))
        });
        prop_assert_eq!(result, Ok(()));
        prop_assert!(out == stored.text);
        // Who was asked for a piece and lied is named with it, once; nobody else is.
        let named: Vec<_> = opener.altered().iter().map(|altered| (altered.position, altered.stripe)).collect();
        prop_assert_eq!(named, lies);
        for altered in opener.altered() {
            let root = stored.manifest.fragments()[at(altered.position)];
            let lie = matches!(altered.why, Why::Digest { expected, got } if expected == root && got != root);
            prop_assert!(lie, "{altered}");
        }
    }

    #[test]
    fn lost_fragments_are_made_anew_without_the_key(stored in objects(), seed: u64, liar: bool) {
        let code = stored.manifest.layout().code();
        let mut lost = some(code, seed, 0);
        let liar = if liar { lost.pop() } else { None };
        let mut mender = Mender::new(stored.manifest.clone(), &lost).unwrap();
        let mut made = vec![Vec::new(); usize::from(code.fragments())];
        loop {
            match mender.step() {
                Ok(MendStep::Want { stripe, positions }) => {
                    for position in positions {
                        prop_assert!(!lost.contains(&position));
                        let (mut piece, path) = stored.answer(position, stripe);
                        if liar == Some(position) {
                            piece[0] ^= 1;
                        }
                        prop_assert_eq!(mender.give(position, stripe, &piece, &path).is_err(), liar == Some(position));
                    }
                }
                Ok(MendStep::Made(stripe)) => {
                    for piece in stripe.pieces() {
                        prop_assert_eq!(piece.digest, stored.digests[at(piece.position)][piece.stripe.0 as usize]);
                        made[at(piece.position)].push(piece.bytes.to_vec());
                    }
                }
                Ok(MendStep::End) => break,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        prop_assert!(mender.altered().iter().all(|altered| Some(altered.position) == liar));
        for position in code.positions() {
            let expected = if lost.contains(&position) { &stored.pieces[at(position)][..] } else { &[] };
            prop_assert!(made[at(position)] == expected, "{position}");
        }
        for (position, list) in mender.into_lists() {
            prop_assert!(list == stored.lists[at(position)]);
        }
    }
}

/// Answers for one fragment are replaced; it must be named for that, and the object read.
fn check_named(
    stored: &Stored,
    bad: Position,
    stripe: StripeIndex,
    answer: (Vec<u8>, Path),
    why: Option<Why>,
    what: &str,
) {
    let mut opener = opener(stored);
    let (out, result) = read(&mut opener, &mut |position, now| {
        Some(if (position, now) == (bad, stripe) { answer.clone() } else { stored.answer(position, now) })
    });
    assert_eq!(result, Ok(()), "{what}");
    assert!(out == stored.text, "{what}");
    let named: Vec<_> = opener.altered().iter().map(|altered| (altered.position, altered.stripe)).collect();
    assert_eq!(named, [(bad, stripe)], "{what}");
    if why.is_some() {
        assert_eq!(why, Some(opener.altered()[0].why), "{what}");
    }
    // The same by whoever has no key, and one piece only.
    let refused = stored.manifest.check(bad, stripe, &answer.0, &answer.1);
    assert_eq!(refused, Err(PieceError::Altered(opener.altered()[0])), "{what}");
}

#[test]
fn pieces_cut_moved_or_of_other_objects_are_refused() {
    let code = code(3, 2);
    let len = 8 * SEGMENT + 100;
    let stored = Stored::new(code, len);
    let another = Stored::of(ObjectId::from_bytes([7; 16]), code, plaintext(len), &[len]);
    let shorter = Stored::new(code, len - SEGMENT);
    let (bad, stripe) = (Position(1), StripeIndex(1));
    let (piece, path) = stored.answer(bad, stripe);
    let check = |answer, why, what| check_named(&stored, bad, stripe, answer, why, what);
    for cut in [0, 1, 16, PIECE - 16, PIECE - 1] {
        let why = Why::Length { expected: PIECE, got: cut };
        check((piece[..cut].to_vec(), path.clone()), Some(why), "cut");
    }
    let why = Why::Length { expected: PIECE, got: PIECE + 1 };
    check(([&piece[..], b"x"].concat(), path.clone()), Some(why), "extended");
    check(stored.answer(bad, StripeIndex(0)), None, "the stripe before");
    check((stored.pieces[1][0].clone(), path.clone()), None, "the stripe before, with this one's path");
    check(stored.answer(Position(2), stripe), None, "another fragment");
    check(stored.answer(Position(3), stripe), None, "parity");
    check(another.answer(bad, stripe), None, "another object");
    check((another.pieces[1][1].clone(), path.clone()), None, "another object, with this one's path");
    check((shorter.pieces[1][1].clone(), shorter.path(bad, stripe)), None, "the same bytes in a shorter object");
    let expected = path.len();
    let bytes = path.to_bytes();
    for other in [&bytes[..0], &bytes[32..], &[&bytes[..], &[0; 32]].concat()] {
        let why = Why::Path { expected, got: other.len() / 32 };
        check((piece.clone(), Path::from_bytes(other).unwrap()), Some(why), "path of another length");
    }
}

#[test]
fn what_is_not_wanted_blames_nobody() {
    let stored = Stored::new(code(3, 2), 4 * SEGMENT);
    let mut opener = opener(&stored);
    let (piece, path) = stored.answer(Position(0), StripeIndex(0));
    let unwanted = |position, stripe| Err(PieceError::Unwanted { position, stripe });
    for (position, stripe) in [(0, 1), (0, 9), (5, 0), (31, 0), (32, 0), (255, 0), (1, u32::MAX)] {
        let (position, stripe) = (Position(position), StripeIndex(stripe));
        assert_eq!(opener.give(position, stripe, &piece, &path), unwanted(position, stripe), "{position} {stripe}");
    }
    let (first, zero) = (Position(0), StripeIndex(0));
    assert_eq!(opener.give(first, zero, &piece, &path), Ok(()));
    assert_eq!(opener.give(first, zero, &piece, &path), unwanted(first, zero), "twice");
    // The last stripe has one piece of data.
    assert_eq!(
        stored.manifest.check(Position(1), StripeIndex(1), &piece, &path),
        unwanted(Position(1), StripeIndex(1))
    );
    assert!(opener.altered().is_empty());
    assert!(opener.give(Position(2), zero, &piece, &path).is_err());
    assert_eq!(opener.altered().len(), 1);
    let (own, own_path) = stored.answer(Position(2), zero);
    assert_eq!(opener.give(Position(2), zero, &own, &own_path), unwanted(Position(2), zero), "it had its chance");
}

/// A range, and the pieces that it takes: position and stripe.
type Taken<'a> = (Range<u64>, &'a [(u8, u32)]);

#[test]
fn ranges_ask_for_what_they_hold_and_no_more() {
    let stored = Stored::new(code(3, 2), 7 * SEGMENT + 10);
    let segment = SEGMENT as u64;
    let cases: [Taken<'_>; 7] = [
        (0..0, &[]),
        (0..1, &[(0, 0)]),
        (segment - 1..segment + 1, &[(0, 0), (1, 0)]),
        (4 * segment..5 * segment, &[(1, 1)]),
        (2 * segment + 5..4 * segment, &[(2, 0), (0, 1)]),
        (7 * segment..7 * segment + 10, &[(1, 2)]),
        (7 * segment + 10..7 * segment + 10, &[]),
    ];
    for (range, expected) in cases {
        let mut asked = Vec::new();
        let mut opener = Opener::range(&key(), stored.manifest.clone(), range.clone()).unwrap();
        let (out, result) = read(&mut opener, &mut |position, stripe| {
            asked.push((position.0, stripe.0));
            Some(stored.answer(position, stripe))
        });
        assert_eq!((result, &asked[..]), (Ok(()), expected), "{range:?}");
        assert!(out == stored.text[range.start as usize..range.end as usize], "{range:?}");
    }
    let size = Bytes(stored.text.len() as u64);
    for range in [Range { start: 2, end: 1 }, 0..size.0 + 1, u64::MAX - 1..u64::MAX] {
        let refused = Opener::range(&key(), stored.manifest.clone(), range.clone()).map(drop);
        assert_eq!(refused, Err(OpenError::Range { range, size }));
    }
}

#[test]
fn wrong_keys_and_manifests_that_do_not_fit_open_nothing() {
    let stored = Stored::new(code(2, 1), 3 * SEGMENT);
    let other = ObjectKey::from_bytes([3; 32]);
    let (expected, got) = (stored.manifest.commitment(), KeyCommitment::of(&other, OBJECT));
    let refused = Opener::new(&other, stored.manifest.clone()).map(drop);
    assert_eq!(refused, Err(OpenError::WrongKey { expected, got }));

    // Somebody names these fragments as an object under another key: every piece is the manifest's, and nothing opens.
    let mut bytes = stored.manifest.to_bytes();
    bytes[42..74].copy_from_slice(got.as_bytes());
    let mut forged = Opener::new(&other, Manifest::from_bytes(&bytes).unwrap()).unwrap();
    let mut honest = |position, stripe| Some(stored.answer(position, stripe));
    let inconsistent = Err(OpenError::Inconsistent { segment: 0 });
    for _ in 0..2 {
        assert_eq!(read(&mut forged, &mut honest), (Vec::new(), inconsistent.clone()), "a refusal stays");
    }
    assert!(forged.altered().is_empty());

    // An empty object is authenticated too, although there is nothing to give out.
    let empty = Stored::new(code(2, 1), 0);
    let mut bytes = empty.manifest.to_bytes();
    bytes[42..74].copy_from_slice(got.as_bytes());
    let mut forged = Opener::new(&other, Manifest::from_bytes(&bytes).unwrap()).unwrap();
    let mut honest = |position, stripe| Some(empty.answer(position, stripe));
    assert_eq!(read(&mut forged, &mut honest), (Vec::new(), inconsistent));

    // A size that is not the object's: the last segment is flagged, and has another length.
    for size in [3 * SEGMENT as u64 - 1, 2 * SEGMENT as u64, 3 * SEGMENT as u64 + 1] {
        let mut bytes = stored.manifest.to_bytes();
        bytes[32..40].copy_from_slice(&size.to_be_bytes());
        let mut forged = Opener::new(&key(), Manifest::from_bytes(&bytes).unwrap()).unwrap();
        let (out, result) = read(&mut forged, &mut |position, stripe| {
            stored.pieces[at(position)].get(stripe.0 as usize).map(|_| stored.answer(position, stripe))
        });
        assert!(result.is_err() && stored.text.starts_with(&out) && out.len() < stored.text.len(), "{size}");
    }
}

/// Data of one object and parity of another, sealed under one key: only who has the key can do this, and readers who lose other
/// fragments would read something else.
#[test]
fn no_manifest_names_two_objects() {
    let (code, len) = (code(2, 2), 5 * SEGMENT + 9);
    let (one, other) = (Stored::new(code, len), Stored::of(OBJECT, code, vec![7; len], &[len]));
    let parity = 74 + 2 * 32;
    let mut bytes = one.manifest.to_bytes();
    bytes[parity..].copy_from_slice(&other.manifest.to_bytes()[parity..]);
    let manifest = Manifest::from_bytes(&bytes).unwrap();
    let mut holders = |position: Position, stripe: StripeIndex| {
        Some(if position.0 < 2 { one.answer(position, stripe) } else { other.answer(position, stripe) })
    };
    let (out, result) = read(&mut Opener::new(&key(), manifest.clone()).unwrap(), &mut holders);
    assert_eq!(result, Ok(()));
    assert!(out == one.text);

    // All of it restored, or the last stripe alone: up to the last segment it is of one of the two, and there it ends.
    for from in 0..3 {
        let mut opener = Opener::new(&key(), manifest.clone()).unwrap();
        let (out, result) = read(&mut opener, &mut |position, stripe| {
            (position.0 >= 2 || stripe.0 < from).then(|| holders(position, stripe)).flatten()
        });
        assert_eq!(result, Err(OpenError::Restored { position: Position(0) }), "{from}");
        assert_eq!(out.len(), 5 * SEGMENT, "{from}");
        let turn = from as usize * 2 * SEGMENT;
        assert!(out[..turn] == one.text[..turn] && out[turn..].iter().all(|byte| *byte == 7), "{from}");
        assert!(opener.altered().is_empty());
        let again = read(&mut opener, &mut holders);
        assert_eq!(again, (Vec::new(), Err(OpenError::Restored { position: Position(0) })), "a refusal stays");
    }
    let mut mender = Mender::new(manifest, &[Position(0), Position(1)]).unwrap();
    let refused = loop {
        match mender.step() {
            Ok(MendStep::Want { stripe, positions }) => {
                for position in positions {
                    let (piece, path) = other.answer(position, stripe);
                    mender.give(position, stripe, &piece, &path).unwrap();
                }
            }
            Ok(MendStep::Made(_)) => {}
            Ok(MendStep::End) => break None,
            Err(refused) => break Some(refused),
        }
    };
    assert_eq!(refused, Some(MendError::Inconsistent { position: Position(0) }));
}

#[test]
fn repair_goes_on_and_is_held_against_the_manifest() {
    let stored = Stored::new(code(2, 2), 9 * SEGMENT + 3);
    for position in stored.manifest.layout().code().positions() {
        let pieces = stored.manifest.layout().pieces(position);
        for done in 0..=pieces {
            let mut list = PieceList::new();
            stored.digests[at(position)][..done as usize].iter().for_each(|digest| list.push(*digest));
            let mut mender = Mender::resume(stored.manifest.clone(), position, list).unwrap();
            assert_eq!(
                mend(&mut mender, &stored).unwrap(),
                stored.pieces[at(position)][done as usize..],
                "{position} {done}"
            );
            assert!(mender.into_lists() == [(position, stored.lists[at(position)].clone())]);
        }
        let mut wrong = PieceList::new();
        wrong.push(stored.digests[at(position)][1]);
        let mut mender = Mender::resume(stored.manifest.clone(), position, wrong).unwrap();
        assert_eq!(mend(&mut mender, &stored), Err(MendError::Inconsistent { position }));
        let mut long = stored.lists[at(position)].clone();
        long.push(stored.digests[0][0]);
        let refused = Mender::resume(stored.manifest.clone(), position, long).map(drop);
        assert_eq!(refused, Err(MendError::Position { position }));
    }
    for position in [4, 31, 32, 255].map(Position) {
        let refused = Mender::new(stored.manifest.clone(), &[Position(0), position]).map(drop);
        assert_eq!(refused, Err(MendError::Position { position }));
    }
    let mut mender = Mender::new(stored.manifest.clone(), &[Position(0), Position(1), Position(2)]).unwrap();
    mender.regain(Position(0));
    assert!(matches!(mender.step(), Err(MendError::TooFew(few)) if (few.have, few.need) == (1, 2)));
}

fn mend(mender: &mut Mender, stored: &Stored) -> Result<Vec<Vec<u8>>, MendError> {
    let mut made = Vec::new();
    loop {
        match mender.step()? {
            MendStep::Want { stripe, positions } => {
                for position in positions {
                    let (piece, path) = stored.answer(position, stripe);
                    mender.give(position, stripe, &piece, &path).unwrap();
                }
            }
            MendStep::Made(stripe) => made.extend(stripe.pieces().iter().map(|piece| piece.bytes.to_vec())),
            MendStep::End => return Ok(made),
        }
    }
}

#[test]
fn refusals_say_who_and_what() {
    let stored = Stored::new(code(2, 1), 3 * SEGMENT);
    let (mut piece, path) = stored.answer(Position(1), StripeIndex(0));
    piece.pop();
    let Err(PieceError::Altered(altered)) = stored.manifest.check(Position(1), StripeIndex(0), &piece, &path) else {
        panic!("it is cut")
    };
    assert_eq!(altered.to_string(), "fragment 1 is altered at stripe 0: piece has 65551 bytes, expected 65552");
    let mut opener = opener(&stored);
    opener.lose(Position(0));
    let (_, result) = read(&mut opener, &mut |_, _| Some((piece.clone(), path.clone())));
    let Err(OpenError::TooFew(few)) = result else { panic!("one is left") };
    assert_eq!(few.altered.first().map(|Altered { position, .. }| *position), Some(Position(1)));
    let expected = "stripe 0 cannot be read: it takes 2 of its pieces, and 0 are to be had; \
                    fragment 1 is altered at stripe 0: piece has 65551 bytes, expected 65552";
    assert!(few.to_string().starts_with(expected), "{few}");
}
