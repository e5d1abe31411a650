//! Votes between answers to one question.

use legation_core::{
    Bytes, Digest, FragmentIndex, Fuel, LeaseId, Signed, TaskId, UnixTime,
    delegation::vote::{SILENT, ballot, vote},
    dsse,
    statement::{Answer, Committed, Outcome, Report, Usage},
};
use proptest::prelude::*;

use crate::{party::Party, world::digest};

const ENCLAVES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// What one enclave says: how it ended, what it wrote, fuel, host calls.
type Said = (Option<&'static str>, u8, u8, u8);

fn answer(enclave: usize, (failed, output, fuel, trace): Said) -> Signed<Report> {
    let party = Party::new(ENCLAVES[enclave]);
    let named = |what: &str, n: u8| digest(&format!("{what} {n}"));
    let output = Committed { size: Bytes(1), commitment: named("output", output) };
    let report = Report {
        enclave: party.key(),
        task: TaskId::new(digest("task")),
        fragment: FragmentIndex(0),
        lease: LeaseId(enclave as u64),
        module: digest("module"),
        inputs: Vec::new(),
        seed: digest("seed"),
        outcome: failed.map_or(Outcome::Completed, |reason| Outcome::Failed { reason: reason.to_owned() }),
        output: None,
        log: None,
        usage: Usage { fuel: Fuel(fuel.into()), memory_peak: Bytes(enclave as u64), host_calls: 1, micros: 7 },
        started: UnixTime(enclave as u64),
        finished: UnixTime(100),
        answer: Some(Answer {
            call: digest(ENCLAVES[enclave]),
            output: failed.is_none().then_some(output),
            trace: named("trace", trace),
        }),
        dissent: Vec::new(),
        monitor: None,
        prev: Vec::new(),
    };
    dsse::sign(report, &party)
}

/// `c` for a usual answer, `d` for another output, `f` for other fuel, `t` for other host calls, `x` for exit 1, `r` for a
/// resource trap; in the order of the enclaves. The decision names them by their places.
fn decide(k: u8, said: &str) -> Result<[String; 3], String> {
    let said: Vec<Said> = said
        .chars()
        .map(|c| match c {
            'd' => (None, 1, 0, 0),
            'f' => (None, 0, 1, 0),
            't' => (None, 0, 0, 1),
            'x' => (Some("exit-1"), 0, 0, 0),
            'r' => (Some("deadline"), 0, 0, 0),
            _ => (None, 0, 0, 0),
        })
        .collect();
    let answers: Vec<_> = said.iter().enumerate().map(|(i, said)| answer(i, *said)).collect();
    let places = |chosen: &[Digest]| -> String {
        let place = |digest: &Digest| answers.iter().position(|a| a.digest() == *digest).unwrap().to_string();
        assert!(chosen.is_sorted());
        let mut places: Vec<_> = chosen.iter().map(place).collect();
        places.sort_unstable();
        places.concat()
    };
    match vote(k, &answers) {
        Ok(decision) => Ok([places(&decision.agreed), places(&decision.dissent), places(&decision.silent)]),
        Err(why) => Err(why.check),
    }
}

#[test]
fn more_than_half_of_all_that_were_asked_decide() {
    let decided = |agreed: &str, dissent: &str, silent: &str| Ok([agreed, dissent, silent].map(str::to_owned));
    let refused = |check: &str| Err(format!("vote.{check}"));
    for (k, said, wanted) in [
        (3, "ccc", decided("012", "", "")),
        (3, "ccd", decided("01", "2", "")),
        (3, "dcd", decided("02", "1", "")),
        (3, "ccr", decided("01", "", "2")),
        (3, "cc", decided("01", "", "")),
        (3, "xxc", decided("01", "2", "")),
        (3, "cdf", refused("tie")),
        (3, "cdr", refused("tie")),
        (3, "crr", refused("majority")),
        (3, "c", refused("majority")),
        (3, "", refused("majority")),
        (3, "rrr", refused("majority")),
        (2, "cc", decided("01", "", "")),
        (2, "cd", refused("tie")),
        (2, "c", refused("majority")),
        (4, "ccdd", refused("tie")),
        (4, "cccd", decided("012", "3", "")),
        (4, "ccd", refused("majority")),
        (5, "ccdft", refused("majority")),
        (5, "cccdd", decided("012", "34", "")),
        (5, "cccrr", decided("012", "", "34")),
        (9, "cccccdftx", decided("01234", "5678", "")),
        (1, "c", decided("0", "", "")),
        (2, "ccc", refused("answers")),
    ] {
        assert_eq!(decide(k, said), wanted, "{said} of {k}");
    }
}

#[test]
fn an_enclave_votes_once() {
    let (one, other) = (answer(1, (None, 0, 0, 0)), answer(1, (None, 1, 0, 0)));
    assert_eq!(vote(3, &[one.clone(), other]).unwrap_err().check, "vote.answers");
    assert_eq!(vote(3, &[one.clone(), one]).unwrap_err().check, "vote.answers");
}

#[test]
fn limits_do_not_vote_and_faults_do() {
    for trap in SILENT {
        assert_eq!(ballot(&answer(0, (Some(trap), 0, 0, 0))), None, "{trap}");
    }
    for fault in ["exit-1", "exit-2", "trap", "malformed-module", "out-of-fuel", "output-too-large"] {
        assert!(ballot(&answer(0, (Some(fault), 0, 0, 0))).is_some(), "{fault}");
    }
    let mut report = answer(0, (None, 0, 0, 0)).predicate().clone();
    report.answer = None;
    assert_eq!(ballot(&report), None, "a fragment's report");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Counted again by hand: at most one side can have more than half of all, and nobody else is ever believed.
    #[test]
    fn no_minority_is_ever_believed(k in 1_u8..10, said in prop::collection::vec((0_u8..3, 0_u8..2, 0_u8..8), 0..10)) {
        let said: Vec<Said> =
            said.into_iter().map(|(output, fuel, trap)| ((trap == 0).then_some("deadline"), output, fuel, 0)).collect();
        let answers: Vec<_> = said.iter().enumerate().map(|(i, said)| answer(i, *said)).collect();
        let votes: Vec<_> = said.iter().filter(|s| s.0.is_none()).collect();
        let largest = votes.iter().map(|one| votes.iter().filter(|other| *other == one).count()).max().unwrap_or(0);
        match vote(k, &answers) {
            Err(why) if answers.len() > usize::from(k) => prop_assert_eq!(why.check, "vote.answers"),
            Err(_) => prop_assert!(largest * 2 <= usize::from(k)),
            Ok(decision) => {
                prop_assert!(answers.len() <= usize::from(k));
                prop_assert!(largest * 2 > usize::from(k));
                prop_assert_eq!(decision.agreed.len(), largest);
                let all = decision.agreed.len() + decision.dissent.len() + decision.silent.len();
                prop_assert_eq!(all, answers.len());
                let of = |digest: &Digest| answers.iter().find(|a| a.digest() == *digest).unwrap();
                let first = ballot(of(&decision.agreed[0]));
                prop_assert!(decision.agreed.iter().all(|a| ballot(of(a)) == first));
                prop_assert!(decision.dissent.iter().all(|a| ballot(of(a)).is_some() && ballot(of(a)) != first));
                prop_assert!(decision.silent.iter().all(|a| ballot(of(a)).is_none()));
            }
        }
    }
}
