//! The `log` section: what holds, and each way in which it does not.

use legation_core::{
    Digest, Signer as _, UnixTime,
    claims::{Anchors, LogAnchor, WitnessAnchor},
    logged::{Logged, LoggedAt},
};
use legation_log::{
    Compared,
    cosign::cosign,
    gossip::compare,
    receipt::{InLog, check_section, section},
};

use crate::{Log, ORIGIN, entry, key};

const PLACES: [u64; 5] = [3, 4, 250, 256, 299];
const WITNESS: &str = "witness.example";

fn anchor(quorum: u32) -> LogAnchor {
    let witnesses = vec![WitnessAnchor { name: WITNESS.to_owned(), key: key(9).public_key() }];
    LogAnchor { origin: ORIGIN.to_owned(), key: key(1).public_key(), witnesses, quorum }
}

fn envelopes() -> Vec<Digest> {
    PLACES.iter().map(|place| entry("receipts", *place)).collect()
}

/// The last two are the results.
fn roots() -> Vec<Digest> {
    envelopes().split_off(3)
}

/// The proof of the first statement.
fn first_of(section: &mut Logged) -> &mut LoggedAt {
    section.proofs[0].as_mut().unwrap()
}

/// The section of a receipt with these statements, cosigned or not.
fn good(cosign_it: bool) -> Logged {
    let mut log = Log::of("receipts", 0, 300);
    let proofs: Vec<_> = PLACES.iter().map(|place| Some(log.prover.inclusion(*place, 300).unwrap())).collect();
    let mut checkpoint = log.checkpoint(300);
    if cosign_it {
        let signature = cosign(checkpoint.note().text(), WITNESS, &key(9), UnixTime(77)).unwrap();
        checkpoint.note_mut().add(signature).unwrap();
    }
    section(checkpoint.note(), &proofs)
}

fn refused(section: &Logged, quorum: u32) -> (String, String) {
    let invalid = check_section(section, &envelopes(), &roots(), &[anchor(quorum)], &[]).unwrap_err();
    (invalid.at, invalid.why.check)
}

#[test]
fn a_good_section_holds_and_shares_its_hashes() {
    let section = good(false);
    let hashes: usize = section.proofs.iter().flatten().map(|proof| proof.path.len()).sum();
    assert!(section.nodes.len() < hashes, "{} of {hashes}", section.nodes.len());
    let proven = InLog::Proven { origin: ORIGIN.to_owned(), size: 300, entries: 5, witnesses: Vec::new() };
    assert_eq!(check_section(&section, &envelopes(), &roots(), &[anchor(0)], &[]), Ok(proven));
    let witnesses = vec![(WITNESS.to_owned(), UnixTime(77))];
    let proven = InLog::Proven { origin: ORIGIN.to_owned(), size: 300, entries: 5, witnesses };
    assert_eq!(check_section(&good(true), &envelopes(), &roots(), &[anchor(1)], &[]), Ok(proven));
}

#[test]
fn each_way_in_which_it_does_not_hold_is_named() {
    let log = |check: &str| ("the log".to_owned(), check.to_owned());
    assert_eq!(refused(&good(false), 1), log("receipt.log.witnesses"));
    let bend = |bend: fn(&mut Logged)| {
        let mut section = good(false);
        bend(&mut section);
        refused(&section, 0)
    };
    assert_eq!(bend(|s| s.checkpoint = s.checkpoint.replace("\n300\n", "\n299\n")), log("receipt.log.checkpoint"));
    assert_eq!(bend(|s| s.checkpoint = s.checkpoint.replace("log.ex", "lag.ex")), log("receipt.log.checkpoint"));
    assert_eq!(bend(|s| s.checkpoint.push('\n')), log("receipt.log.checkpoint"));
    assert_eq!(bend(|s| drop(s.proofs.pop())), log("receipt.log.proofs"));
    assert_eq!(bend(|s| s.nodes.push(Digest::of(b""))), log("receipt.log.nodes"));
    let first = |check: &str| (format!("envelope 0 ({}) in the log", envelopes()[0].short()), check.to_owned());
    assert_eq!(bend(|s| s.nodes[0] = Digest::of(b"")), first("receipt.log.proof"));
    assert_eq!(bend(|s| first_of(s).index = 2), first("receipt.log.proof"));
    assert_eq!(bend(|s| first_of(s).path.clear()), first("receipt.log.proof"));
    assert_eq!(bend(|s| first_of(s).path[0] = 1), first("receipt.log.nodes"), "not in the order of first use");
    assert_eq!(bend(|s| first_of(s).path = vec![0; 64]), first("receipt.log.nodes"));
    assert_eq!(bend(|s| first_of(s).index = u64::MAX), first("receipt.log.proof"));
    assert_eq!(bend(|s| s.proofs.swap(0, 1)).1, "receipt.log.nodes");
}

#[test]
fn what_a_logged_result_rests_on_needs_no_proof_of_its_own_and_the_result_does() {
    let mut log = Log::of("receipts", 0, 300);
    let mut proofs: Vec<_> = PLACES.iter().map(|place| log.prover.inclusion(*place, 300).ok()).collect();
    proofs[1] = None;
    let checkpoint = log.checkpoint(300);
    let made = section(checkpoint.note(), &proofs);
    let found = check_section(&made, &envelopes(), &roots(), &[anchor(0)], &[]);
    assert!(matches!(found, Ok(InLog::Proven { entries: 4, .. })), "{found:?}");
    proofs[4] = None;
    let made = section(checkpoint.note(), &proofs);
    let invalid = check_section(&made, &envelopes(), &roots(), &[anchor(0)], &[]).unwrap_err();
    assert_eq!(invalid.why.check, "receipt.log.root");
    assert!(invalid.at.starts_with("envelope 4 "), "{}", invalid.at);
}

#[test]
fn a_statement_that_is_not_in_the_log_is_named() {
    let mut others = envelopes();
    others[2] = Digest::of(b"never logged");
    let invalid = check_section(&good(false), &others, &roots(), &[anchor(0)], &[]).unwrap_err();
    assert_eq!(invalid.why.check, "receipt.log.proof");
    assert!(invalid.at.contains(&others[2].short()), "{}", invalid.at);
}

#[test]
fn a_log_that_was_shown_to_have_forked_is_not_believed() {
    let (first, second) = (Log::of("receipts", 0, 9).checkpoint(9), Log::of("other", 0, 9).checkpoint(9));
    let Ok(Compared::Forked(fork)) = compare(&first, &second, None) else { panic!("a fork") };
    let invalid = check_section(&good(false), &envelopes(), &roots(), &[anchor(0)], &[*fork]).unwrap_err();
    assert_eq!(invalid.why.check, "receipt.log.forked");
}

#[test]
fn without_results_in_the_log_nothing_is_bound() {
    let mut log = Log::of("receipts", 0, 300);
    let empty = section(log.checkpoint(300).note(), &[None, None, None, None, None]);
    let strangers = [Digest::of(b"no statement of this receipt")];
    let (whole, mixed) = (good(false), [roots(), strangers.to_vec()].concat());
    let (none, strangers): (&[Digest], &[Digest]) = (&[], &strangers);
    for (section, roots) in [(&empty, strangers), (&empty, none), (&whole, none), (&whole, mixed.as_slice())] {
        let invalid = check_section(section, &envelopes(), roots, &[anchor(0)], &[]).unwrap_err();
        assert_eq!((invalid.at.as_str(), invalid.why.check.as_str()), ("the log", "receipt.log.root"));
    }
}

#[test]
fn a_hash_stands_there_once() {
    let mut twice = good(false);
    // The same hash once more, at the end of the last proof's way in place of where it stood: another spelling of one section.
    let last = twice.proofs[4].as_mut().unwrap().path.last_mut().unwrap();
    let again = twice.nodes[usize::try_from(*last).unwrap()];
    *last = u32::try_from(twice.nodes.len()).unwrap();
    twice.nodes.push(again);
    assert_eq!(refused(&twice, 0), ("the log".to_owned(), "receipt.log.nodes".to_owned()));
}

#[test]
fn a_quorum_counts_keys() {
    // One witness that was renamed, and left in the anchors under both names: it signs the same under either.
    let names = ["old.example", "new.example"];
    let mut checkpoint = Log::of("receipts", 0, 300).checkpoint(300);
    for name in names {
        let signature = cosign(checkpoint.note().text(), name, &key(9), UnixTime(77)).unwrap();
        checkpoint.note_mut().add(signature).unwrap();
    }
    let section = Logged { checkpoint: checkpoint.note().to_string(), ..good(false) };
    let witnesses = names.map(|name| WitnessAnchor { name: name.to_owned(), key: key(9).public_key() }).to_vec();
    let judged = |quorum| {
        let anchor = LogAnchor { witnesses: witnesses.clone(), ..anchor(quorum) };
        check_section(&section, &envelopes(), &roots(), &[anchor], &[])
    };
    assert!(matches!(judged(1), Ok(InLog::Proven { witnesses, .. }) if witnesses.len() == 1));
    assert_eq!(judged(2).unwrap_err().why.check, "receipt.log.witnesses");
}

#[test]
fn anchors_that_count_a_witness_or_name_a_log_twice_are_not_read() {
    let witness = |name: &str, number| WitnessAnchor { name: name.to_owned(), key: key(number).public_key() };
    let log = |origin: &str, witnesses: &[WitnessAnchor]| LogAnchor {
        origin: origin.to_owned(),
        witnesses: witnesses.to_vec(),
        ..anchor(0)
    };
    let read = |logs: Vec<LogAnchor>| {
        let text = serde_json::to_string(&Anchors { logs, ..Anchors::default() }).unwrap();
        serde_json::from_str::<Anchors>(&text).map_err(|e| e.to_string())
    };
    let (a, b) = (witness("a", 5), witness("b", 6));
    // A witness may watch several logs.
    read(vec![log("one", &[a.clone(), b.clone()]), log("two", &[a.clone(), b])]).unwrap();
    for (logs, said) in [
        (vec![log("one", &[]), log("one", &[])], "`one` stands there twice"),
        (vec![log("one", &[a.clone(), witness("a", 6)])], "name or key of another"),
        (vec![log("one", &[a.clone(), witness("b", 5)])], "name or key of another"),
        (vec![log("one", &[a.clone(), a])], "name or key of another"),
    ] {
        let why = read(logs).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}
