//! Forked logs: who compares two checkpoints finds out, and can show it to anybody.

use legation_core::Signer as _;
use legation_log::{
    Compared, Consistency, Fork, KeyKind, NoteKey,
    gossip::{GossipError, compare, compare_with},
};

use crate::{Log, ORIGIN, key, log_key};

/// A checkpoint of one story and a later one of another, with what the later log's tiles prove; `common` entries are the same.
fn compared(common: u64, old: u64, new: u64) -> Compared {
    let older = Log::of("told to one", common, old).checkpoint(old);
    let mut later = Log::of("told to another", common, new);
    let newer = later.checkpoint(new);
    let (seed, path) = later.prover.beginning(old, new).unwrap();
    compare_with(&older, &newer, &seed, &path).unwrap()
}

#[test]
fn a_log_that_only_grew_is_consistent_in_both_directions() {
    let mut log = Log::of("one", 0, 40);
    for (old, new) in [(1, 40), (8, 40), (13, 29), (39, 40)] {
        let (first, second) = (log.checkpoint(old), log.checkpoint(new));
        let proof = log.prover.consistency(old, new).unwrap();
        assert_eq!(compare(&first, &second, Some(&proof)), Ok(Compared::Grown));
        assert_eq!(compare(&second, &first, Some(&proof)), Ok(Compared::Older));
        assert_eq!(compare(&first, &first, None), Ok(Compared::Same));
        assert_eq!(compared(old, old, new), Compared::Grown);
    }
}

#[test]
fn every_fork_convicts_the_log_before_a_third_party() {
    for (common, old, new) in [(0, 1, 2), (5, 8, 9), (7, 8, 300), (12, 13, 40), (255, 256, 257), (256, 257, 400)] {
        let Compared::Forked(fork) = compared(common, old, new) else { panic!("{common} {old} {new}") };
        fork.verify(&log_key()).unwrap();
        let read: Fork = serde_json::from_str(&serde_json::to_string(&fork).unwrap()).unwrap();
        assert_eq!(read, *fork);
        // It convicts this log and no other.
        let other = NoteKey::new(ORIGIN, KeyKind::Log, key(2).public_key()).unwrap();
        assert!(fork.verify(&other).is_err());
        // Nothing of it can be changed or left out.
        let mut short = (*fork).clone();
        short.path.pop();
        assert!(short.verify(&log_key()).is_err());
        let swapped = Fork { older: fork.newer.clone(), newer: fork.older.clone(), ..(*fork).clone() };
        assert!(swapped.verify(&log_key()).is_err());
        assert!(Fork { seed: None, ..(*fork).clone() }.verify(&log_key()).is_err());
        let altered = Fork { older: fork.older.replace(&format!("\n{old}\n"), "\n3\n"), ..(*fork).clone() };
        assert!(altered.verify(&log_key()).is_err());
    }
}

#[test]
fn two_trees_of_one_size_need_no_proof() {
    let (first, second) = (Log::of("a", 3, 9).checkpoint(9), Log::of("b", 3, 9).checkpoint(9));
    let Ok(Compared::Forked(fork)) = compare(&first, &second, None) else { panic!("a fork") };
    assert_eq!((fork.seed, fork.path.len()), (None, 0));
    fork.verify(&log_key()).unwrap();
}

#[test]
fn an_honest_log_is_not_convicted() {
    let mut log = Log::of("honest", 0, 20);
    let (older, newer) = (log.checkpoint(13), log.checkpoint(20));
    let (seed, path) = log.prover.beginning(13, 20).unwrap();
    let fork = Fork { older: older.note().to_string(), newer: newer.note().to_string(), seed: Some(seed), path };
    assert_eq!(fork.verify(&log_key()), Err(GossipError::NoFork));
    // Hashes that lead nowhere are no evidence.
    let made_up = Fork { path: fork.path.iter().rev().copied().collect(), ..fork.clone() };
    assert!(matches!(made_up.verify(&log_key()), Err(GossipError::Proof(_))));
    let same = Fork { newer: fork.older.clone(), seed: None, path: Vec::new(), ..fork };
    assert_eq!(same.verify(&log_key()), Err(GossipError::NoFork));
}

#[test]
fn a_proof_about_others_says_nothing() {
    let mut log = Log::of("one", 0, 40);
    let (first, second) = (log.checkpoint(13), log.checkpoint(40));
    let elsewhere = log.prover.consistency(12, 40).unwrap();
    assert!(matches!(compare(&first, &second, Some(&elsewhere)), Err(GossipError::Sizes { old: 12, .. })));
    assert!(matches!(compare(&first, &second, None), Err(GossipError::Sizes { .. })));
    let broken = Consistency { old: 13, ..elsewhere };
    assert!(matches!(compare(&first, &second, Some(&broken)), Err(GossipError::Proof(_))));
}
