//! A witness: what it signs, what it refuses with which status, and that it never takes a step back.

use std::collections::BTreeMap;

use legation_core::{Digest, Signer as _, UnixTime, encoding::base64};
use legation_log::{
    AddCheckpoint, KeyKind, Note, NoteKey, Refused, Witness,
    cosign::cosigned,
    note::{NOTE_MAX, NoteSignature, SIGNATURES_MAX, signature_lines},
    witness::{REQUEST_MAX, Seen, Signing},
};

use crate::{Log, ORIGIN, key, log_key};

const NAME: &str = "witness.example";
const NOW: UnixTime = UnixTime(1_800_000_000);

fn fresh() -> Witness {
    Witness::new(NAME, [log_key()], BTreeMap::new()).unwrap()
}

fn request(log: &mut Log, old: u64, new: u64) -> AddCheckpoint {
    let path = log.prover.consistency(old, new).unwrap().path;
    AddCheckpoint { old, path, note: log.checkpoint(new).note().clone() }
}

fn sign(witness: &mut Witness, request: &AddCheckpoint) -> Result<Signing, Refused> {
    let signing = witness.judge(request, &key(9), NOW)?;
    witness.remember(&signing);
    Ok(signing)
}

#[test]
fn it_signs_a_log_that_grows_and_remembers_that() {
    let (mut witness, mut log) = (fresh(), Log::of("one", 0, 300));
    let known = NoteKey::new(NAME, KeyKind::Witness, key(9).public_key()).unwrap();
    let mut old = 0;
    for new in [0, 1, 1, 7, 256, 300] {
        let asked = request(&mut log, old, new);
        assert_eq!(AddCheckpoint::parse(&asked.to_string()), Ok(asked.clone()), "the form of the request");
        let signing = sign(&mut witness, &asked).unwrap();
        assert_eq!((signing.seen.size, signing.origin.as_str()), (new, ORIGIN));
        let note = Note::parse(&signing.seen.note).unwrap();
        assert_eq!(cosigned(&note, &known), Ok(NOW));
        note.verify(&log_key()).unwrap();
        old = new;
    }
    // After a restart it goes on from there.
    let mut again = Witness::new(NAME, [log_key()], witness.memory().clone()).unwrap();
    assert_eq!(sign(&mut again, &request(&mut log, 0, 300)).unwrap_err(), Refused::Stale { size: 300 });
    sign(&mut again, &request(&mut log, 300, 300)).unwrap();
}

#[test]
fn what_was_judged_but_not_remembered_binds_nobody() {
    let (witness, mut log) = (fresh(), Log::of("one", 0, 9));
    let first = witness.judge(&request(&mut log, 0, 5), &key(9), NOW).unwrap();
    let second = witness.judge(&request(&mut log, 0, 9), &key(9), NOW).unwrap();
    assert_ne!(first.signature, second.signature);
    assert_eq!(witness.seen(ORIGIN), None);
}

#[test]
fn each_refusal_has_its_status() {
    let (mut witness, mut log) = (fresh(), Log::of("one", 6, 40));
    sign(&mut witness, &request(&mut log, 0, 20)).unwrap();
    let good = request(&mut log, 20, 40);
    let mut other = Log::of("two", 6, 40);

    let unknown = Witness::new(NAME, [], BTreeMap::new()).unwrap();
    let stranger = NoteKey::new(ORIGIN, KeyKind::Log, key(2).public_key()).unwrap();
    let stranger = Witness::new(NAME, [stranger], BTreeMap::new()).unwrap();
    let short = AddCheckpoint { path: good.path[1..].to_vec(), ..good.clone() };
    let backwards = AddCheckpoint { note: log.checkpoint(7).note().clone(), ..good.clone() };
    let first = AddCheckpoint { old: 0, path: vec![Digest::of(b"")], note: good.note.clone() };
    for (witness, request, status) in [
        (&unknown, &good, 404),
        (&stranger, &good, 403),
        (&witness, &backwards, 400),
        (&witness, &request(&mut log, 19, 40), 409),
        (&witness, &request(&mut other, 20, 20), 409),
        (&witness, &request(&mut other, 20, 40), 422),
        (&witness, &short, 422),
        (&fresh(), &first, 422),
    ] {
        let why = witness.judge(request, &key(9), NOW).unwrap_err();
        assert_eq!(why.status(), status, "{why}");
    }
    assert!(matches!(witness.judge(&request(&mut other, 20, 20), &key(9), NOW), Err(Refused::Forked(_))));
    let Err(Refused::Forked(fork)) = witness.judge(&request(&mut other, 20, 40), &key(9), NOW) else {
        panic!("the proof shows another beginning")
    };
    fork.verify(&log_key()).unwrap();
    sign(&mut witness, &good).unwrap();
    let back = AddCheckpoint { old: 40, path: Vec::new(), note: log.checkpoint(20).note().clone() };
    assert_eq!(witness.judge(&back, &key(9), NOW).unwrap_err().status(), 400, "never smaller");
}

#[test]
fn a_memory_that_is_not_its_own_stops_it() {
    let (mut witness, mut log) = (fresh(), Log::of("one", 0, 9));
    sign(&mut witness, &request(&mut log, 0, 9)).unwrap();
    let mut memory = witness.memory().clone();
    memory.get_mut(ORIGIN).unwrap().size = 8;
    assert!(Witness::new(NAME, [log_key()], memory).is_err());
}

#[test]
fn requests_have_one_form() {
    let good = request(&mut Log::of("one", 0, 40), 20, 40).to_string();
    AddCheckpoint::parse(&good).unwrap();
    let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
    let many = good.replacen("old 20\n", &format!("old 20\n{}", hash.repeat(63)), 1);
    let large = format!("{good}{}", " ".repeat(REQUEST_MAX));
    for bad in [
        "",
        "old 20\n",
        &good.replacen("old 20", "old 020", 1),
        &good.replacen("old 20", "new 20", 1),
        &good.replacen("old 20", "old -1", 1),
        &good.replacen("old 20\n", "old 20\nAAAA\n", 1),
        &good.replacen("old 20\n", "", 1),
        &good.replace("\n\n", "\n"),
        good.trim_end(),
        &many,
        &large,
    ] {
        assert!(AddCheckpoint::parse(bad).is_err(), "{bad:?}");
    }
}

/// A line of signature under the log's name and an id that is nobody's.
fn padding(bytes: usize) -> NoteSignature {
    let line = format!("\u{2014} {ORIGIN} {}\n", base64(&vec![7; bytes]));
    signature_lines(&line).unwrap().remove(0)
}

#[test]
fn lines_that_anybody_can_add_are_not_remembered_and_a_fork_is_still_convicted() {
    let (mut witness, mut log) = (fresh(), Log::of("one", 6, 40));
    sign(&mut witness, &request(&mut log, 0, 20)).unwrap();
    let mut padded = request(&mut log, 20, 20);
    padded.note.add(padding(6000)).unwrap();
    // As long as a note may be, to the byte of base64: with one more signature it could not be read again.
    let left = NOTE_MAX - padded.note.to_string().len() - ORIGIN.len() - 6;
    padded.note.add(padding(left / 4 * 3)).unwrap();
    let length = padded.note.to_string().len();
    assert!(length <= NOTE_MAX && length + 100 > NOTE_MAX, "{length}");
    let signing = sign(&mut witness, &padded).unwrap();
    let note = Note::parse(&signing.seen.note).unwrap();
    assert_eq!(note.signatures().len(), 2, "the log's and its own: {note}");

    // The memory is as good as ever: a restart, a fork, and growth.
    let witness = Witness::new(NAME, [log_key()], witness.memory().clone()).unwrap();
    let fork = request(&mut Log::of("two", 6, 40), 20, 40);
    let Err(Refused::Forked(fork)) = witness.judge(&fork, &key(9), NOW) else { panic!("no evidence") };
    fork.verify(&log_key()).unwrap();
    witness.judge(&request(&mut log, 20, 40), &key(9), NOW).unwrap();
}

#[test]
fn the_same_line_of_the_log_again_and_again_is_remembered_once() {
    let (mut witness, mut log) = (fresh(), Log::of("one", 0, 9));
    let asked = request(&mut log, 0, 9).to_string();
    let line = asked.lines().last().unwrap().to_owned();
    let again = format!("{asked}{}", format!("{line}\n").repeat(SIGNATURES_MAX - 1));
    let signing = sign(&mut witness, &AddCheckpoint::parse(&again).unwrap()).unwrap();
    assert_eq!(Note::parse(&signing.seen.note).unwrap().signatures().len(), 2);
}

#[test]
fn a_checkpoint_that_leaves_no_room_for_a_signature_is_refused() {
    let mut log = Log::of("one", 0, 9);
    let text = log.checkpoint(9).note().text().to_owned();
    let long = |more: usize| {
        let note = Note::sign(&format!("{text}{}\n", "x".repeat(more)), ORIGIN, &key(1)).unwrap();
        AddCheckpoint { old: 0, path: Vec::new(), note }
    };
    let spare = NOTE_MAX - long(0).note.to_string().len();
    let why = fresh().judge(&long(spare), &key(9), NOW).unwrap_err();
    assert_eq!(why.status(), 400, "{why}");
    fresh().judge(&long(spare - 200), &key(9), NOW).unwrap();
}

#[test]
fn a_memory_that_cannot_be_read_signs_nothing() {
    let (mut witness, mut log) = (fresh(), Log::of("one", 0, 40));
    let mut signing = sign(&mut witness, &request(&mut log, 0, 20)).unwrap();
    let root = signing.seen.root;
    signing.seen = Seen { size: 20, root, note: "lost".to_owned() };
    witness.remember(&signing);
    let why = witness.judge(&request(&mut log, 20, 40), &key(9), NOW).unwrap_err();
    assert!(matches!(why, Refused::Memory(_)) && why.status() == 500, "{why}");
}

#[test]
fn the_same_tree_is_known_to_be_signed() {
    let (mut witness, mut log) = (fresh(), Log::of("one", 0, 40));
    let first = witness.judge(&request(&mut log, 0, 20), &key(9), NOW).unwrap();
    assert!(!witness.has_signed(&first));
    witness.remember(&first);
    assert!(witness.has_signed(&witness.judge(&request(&mut log, 20, 20), &key(9), UnixTime(NOW.0 + 1)).unwrap()));
    assert!(!witness.has_signed(&witness.judge(&request(&mut log, 20, 40), &key(9), NOW).unwrap()));
}
