//! What whoever merely listens finds out.

use legation_core::{Digest, Signer as _};
use legation_log::{Checkpoint, KeyKind, NoteKey, SignedCheckpoint, observer::*};

use crate::{Log, ORIGIN, key, log_key};

fn hear(observer: &mut Observer, log: &mut Log, old: u64, new: u64) -> Heard {
    let note = log.checkpoint(new).note().to_string();
    let (seed, path) = if old == 0 || old == new {
        (None, Vec::new())
    } else {
        let (seed, path) = log.prover.beginning(old, new).unwrap();
        (Some(seed), path)
    };
    observer.hear(Told { note: &note, key: &log_key().to_string(), old, seed, path: &path }).unwrap()
}

#[test]
fn a_growing_log_is_followed_and_asked_for_what_is_missing() {
    let (mut observer, mut log) = (Observer::default(), Log::of("one", 0, 300));
    assert_eq!(hear(&mut observer, &mut log, 0, 5), Heard::Taken { size: 5 });
    assert_eq!(hear(&mut observer, &mut log, 5, 8), Heard::Taken { size: 8 });
    assert_eq!(hear(&mut observer, &mut log, 8, 8), Heard::Known);
    let note = log.checkpoint(8).note().to_string();
    assert_eq!(hear(&mut observer, &mut log, 0, 5), Heard::Less { size: 8, note }, "somebody is behind");
    assert_eq!(hear(&mut observer, &mut log, 9, 300), Heard::Ask { size: 8 });
    assert_eq!(hear(&mut observer, &mut log, 0, 300), Heard::Ask { size: 8 });
    assert_eq!(hear(&mut observer, &mut log, 8, 300), Heard::Taken { size: 300 });
}

#[test]
fn who_never_shows_it_is_reported_once_until_something_is_shown() {
    let (mut observer, mut log) = (Observer::default(), Log::of("one", 0, 300));
    hear(&mut observer, &mut log, 0, 20);
    // Larger without a proof, or about another tree, or smaller: nothing of it is about the one remembered.
    let tellings = [(0, 100), (19, 101), (0, 3)];
    let mut unshown = |observer: &mut Observer| {
        let all = tellings.iter().cycle().take(30).map(|(old, new)| hear(observer, &mut log, *old, *new));
        all.enumerate()
            .filter(|(_, heard)| matches!(heard, Heard::Unshown { .. }))
            .map(|(at, _)| at)
            .collect::<Vec<_>>()
    };
    let patience = usize::try_from(PATIENCE).unwrap();
    assert_eq!(unshown(&mut observer), [patience - 1]);
    assert_eq!(unshown(&mut observer), [0_usize; 0], "it was said");
    let mut same = Log::of("one", 0, 300);
    assert_eq!(hear(&mut observer, &mut same, 20, 21), Heard::Taken { size: 21 });
    assert_eq!(unshown(&mut observer), [patience - 1]);
    assert_eq!(hear(&mut observer, &mut same, 21, 21), Heard::Known);
    assert_eq!(unshown(&mut observer), [patience - 1]);
}

#[test]
fn an_answer_with_nothing_in_it_is_not_asked_for_again() {
    let (mut observer, mut log) = (Observer::default(), Log::of("one", 0, 300));
    hear(&mut observer, &mut log, 0, 20);
    let note = log.checkpoint(30).note().to_string();
    let key = log_key().to_string();
    let empty = Told { note: &note, key: &key, old: 20, seed: None, path: &[] };
    // As a manager tells it: the checkpoint alone, and then the answer, which is none.
    let mut round = || {
        let told = Told { old: 0, ..empty };
        [observer.hear(told).unwrap(), observer.hear(empty).unwrap()]
    };
    assert_eq!(round(), [Heard::Ask { size: 20 }, Heard::Unshown { size: 20 }]);
    for _ in 0..2 * PATIENCE {
        assert_eq!(round(), [Heard::Ask { size: 20 }, Heard::Known], "it was said");
    }
    assert_eq!(hear(&mut observer, &mut log, 20, 30), Heard::Taken { size: 30 });
    let note = log.checkpoint(40).note().to_string();
    let again = Told { note: &note, old: 30, ..empty };
    assert_eq!(observer.hear(again), Ok(Heard::Unshown { size: 30 }));
}

#[test]
fn a_fork_is_noticed_at_whatever_size() {
    for (seen, told) in [(8, 8), (8, 9), (9, 300), (255, 256)] {
        let (mut one, mut other) = (Log::of("one", 5, 300), Log::of("other", 5, 300));
        let mut observer = Observer::default();
        hear(&mut observer, &mut one, 0, seen);
        let Heard::Forked(fork) = hear(&mut observer, &mut other, seen, told) else { panic!("{seen} and {told}") };
        fork.verify(&log_key()).unwrap();
        // What was believed stays.
        assert_eq!(hear(&mut observer, &mut one, seen, 300), Heard::Taken { size: 300 });
    }
}

#[test]
fn strangers_are_not_taken_for_the_log() {
    let (mut observer, mut log) = (Observer::default(), Log::of("one", 0, 9));
    hear(&mut observer, &mut log, 0, 9);
    let other = NoteKey::new(ORIGIN, KeyKind::Log, key(2).public_key()).unwrap();
    let note = log.checkpoint(9).note().to_string();
    let told = |key| Told { note: &note, key, old: 0, seed: None, path: &[] };
    let text = other.to_string();
    assert_eq!(observer.hear(told(&text)), Ok(Heard::OtherKey { origin: ORIGIN.to_owned() }));
    assert!(Observer::default().hear(told(&text)).is_err(), "signed by another");
    assert!(observer.hear(told("no key")).is_err());
    for number in 1..LOGS_MAX {
        let (key_text, note) = stranger(number);
        observer.hear(Told { note: &note, key: &key_text, ..told(&text) }).unwrap();
    }
    let (key_text, note) = stranger(LOGS_MAX);
    assert!(observer.hear(Told { note: &note, key: &key_text, ..told(&text) }).is_err(), "too many");
}

fn stranger(number: usize) -> (String, String) {
    let origin = format!("log-{number}.example");
    let known = NoteKey::new(&origin, KeyKind::Log, key(3).public_key()).unwrap();
    let signed: SignedCheckpoint = Checkpoint { origin, size: 1, root: Digest::of(b"") }.sign(&key(3)).unwrap();
    (known.to_string(), signed.note().to_string())
}
