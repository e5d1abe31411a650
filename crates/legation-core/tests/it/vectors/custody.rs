//! What is said of a swarm key, in two ceremonies: a first committee, and another that follows it with a member who refuses a dealing.

use std::collections::BTreeMap;

use legation_core::{
    Envelope, FragmentIndex, LeaseId, ObjectId, Predicate as _, PublicKey, RevocationEpoch, TaskId,
    custody::{
        Acceptance, Ack, Board, Chair, Charter, Confirmation, CustodyCall, Dealing, Handover, Incarnations, Refusal,
        Release, Released, Return, WordKind,
    },
    dsse,
};

use super::statements::listed;
use crate::{
    custody::{first, id, now, party, run_board, second},
    party::Party,
    world::digest,
};

/// The types of all kinds.
pub(super) const TYPES: [&str; 11] = [
    Charter::TYPE,
    CustodyCall::TYPE,
    Chair::TYPE,
    Dealing::TYPE,
    Acceptance::TYPE,
    Refusal::TYPE,
    Confirmation::TYPE,
    Handover::TYPE,
    Release::TYPE,
    Return::TYPE,
    Ack::TYPE,
];

pub(super) fn opens(kind: &str, envelope: &Envelope) -> bool {
    match kind {
        "charter" => envelope.open::<Charter>().is_ok(),
        "custody-call" => envelope.open::<CustodyCall>().is_ok(),
        "custody-chair" => envelope.open::<Chair>().is_ok(),
        "custody-dealing" => envelope.open::<Dealing>().is_ok(),
        "custody-acceptance" => envelope.open::<Acceptance>().is_ok(),
        "custody-refusal" => envelope.open::<Refusal>().is_ok(),
        "custody-confirmation" => envelope.open::<Confirmation>().is_ok(),
        "custody-handover" => envelope.open::<Handover>().is_ok(),
        "release" => envelope.open::<Release>().is_ok(),
        "custody-return" => envelope.open::<Return>().is_ok(),
        "custody-ack" => envelope.open::<Ack>().is_ok(),
        other => panic!("no kind {other}"),
    }
}

fn name_of(speaker: PublicKey) -> &'static str {
    (0..20).map(party).find(|party| party.key() == speaker).unwrap().name()
}

fn word(board: &Board, kind: WordKind) -> (Envelope, &'static str) {
    let said = board.words().iter().find(|said| said.word.kind() == kind).unwrap();
    (said.word.envelope().clone(), name_of(said.word.speaker()))
}

/// One statement of every kind, with who signed it.
pub(super) fn samples() -> BTreeMap<&'static str, (Envelope, &'static str)> {
    let (succession, charter, _) = first();
    let committee = succession.committee().unwrap();
    let (mut board, mut cast) = second(&(9..20).collect::<Vec<_>>());
    cast.iter_mut().find(|member| member.id() == id(9)).unwrap().slanders = [id(0)].into();
    run_board(&mut board, &mut cast, now());
    let release = Release {
        custodian: party(2).key(),
        roster: committee.roster,
        epoch: committee.epoch,
        task: TaskId::new(digest("task")),
        fragment: FragmentIndex(0),
        lease: LeaseId(9),
        enclave: Party::new("enclave-hub").key().enclave_id(),
        released: vec![Released { object: ObjectId::from_bytes([5; 16]), label: digest("label") }],
        revocations: RevocationEpoch(7),
        at: now(),
        prev: ["allocation", "passport", "passport of the custodian", "grant"].map(digest).to_vec(),
    };
    release.validate().unwrap();
    let boot = Party::new("boot-1");
    let back = dsse::sign(Return::new(committee, (boot.key(), digest("passport")), 1, &party(0)), &boot);
    let ack = Incarnations::default().hear(&back, committee, party(1).key()).unwrap();
    BTreeMap::from([
        ("charter", (charter.envelope().clone(), "operator")),
        ("custody-call", (board.call().envelope().clone(), "manager")),
        ("custody-chair", word(&board, WordKind::Chair)),
        ("custody-dealing", word(&board, WordKind::Dealing)),
        ("custody-acceptance", word(&board, WordKind::Acceptance)),
        ("custody-refusal", word(&board, WordKind::Refusal)),
        ("custody-confirmation", word(&board, WordKind::Confirmation)),
        ("custody-handover", word(&board, WordKind::Handover)),
        ("release", (dsse::sign(release, &party(2)).envelope().clone(), party(2).name())),
        ("custody-return", (back.envelope().clone(), "boot-1")),
        ("custody-ack", (dsse::sign(ack, &party(1)).envelope().clone(), party(1).name())),
    ])
}

/// Statements of a first ceremony where they differ: there is no committee, and no roster, before.
pub(super) fn of_the_first() -> [(&'static str, Envelope); 2] {
    let (succession, ..) = first();
    let board = succession.past().unwrap();
    [("custody-call", board.call().envelope().clone()), ("custody-dealing", word(board, WordKind::Dealing).0)]
}

/// The payload otherwise, as only statements of this kind can be.
pub(super) fn edits(kind: &str, text: &str) -> Vec<(&'static str, Vec<u8>, bool)> {
    let once = |find: &str, replace: &str| {
        assert!(text.contains(find), "{kind}: no {find}");
        text.replacen(find, replace, 1).into_bytes()
    };
    let array = |find: &str| listed(text, text.find(find).unwrap() + find.len());
    let threshold =
        |t: u16, n: u16| once("\"threshold\":{\"t\":5,\"n\":9}", &format!("\"threshold\":{{\"t\":{t},\"n\":{n}}}"));
    let null = |field: &str| {
        let at = text.find(&format!("\"{field}\":\"")).unwrap() + field.len() + 3;
        let end = text[at + 1..].find('"').unwrap() + at + 2;
        [&text[..at], "null", &text[end..]].concat().into_bytes()
    };
    match kind {
        "charter" => vec![
            ("all of the largest committee", threshold(64, 64), true),
            ("a committee past the largest", threshold(64, 65), false),
            ("a threshold of one", threshold(1, 1), false),
            ("a threshold that is no majority", threshold(4, 8), false),
            ("a threshold past the members", threshold(10, 9), false),
            ("an array in place of the threshold", array("\"threshold\":"), false),
            ("a requirement that is none", once("\"require\":\"", "\"require\":\"teeth == 1 and "), false),
            ("a swarm key that is no name", once("\"swarm\":\"main\"", "\"swarm\":\"Main\""), false),
        ],
        "custody-call" => vec![
            ("an array in place of a member", array("\"members\":["), false),
            ("an array in place of the committee before", array("\"from\":"), false),
            ("a committee before that is a text", once("\"from\":{", "\"from\":\"\",\"more\":{"), false),
        ],
        "custody-chair" => {
            vec![("a sealing key that is too long", once("\"sealing\":\"", "\"sealing\":\"AAAA"), false)]
        }
        "custody-dealing" => vec![
            ("base64 of another alphabet", once("\"dealing\":\"", "\"dealing\":\"AA-_"), false),
            ("a roster that is null", null("roster"), false),
        ],
        "custody-acceptance" => vec![("an array in place of a dealing", array("\"dealings\":["), false)],
        "custody-refusal" => vec![
            ("another reason", once("\"why\":\"mismatch\"", "\"why\":\"commitment\""), true),
            ("a reason that nobody knows", once("\"why\":\"mismatch\"", "\"why\":\"whim\""), false),
            ("an object in place of a word", once("\"why\":\"mismatch\"", "\"why\":{\"mismatch\":null}"), false),
        ],
        "custody-confirmation" => vec![("a swarm key that is too long", once("\"key\":\"", "\"key\":\"AAAA"), false)],
        "custody-handover" => vec![("an epoch as a text", once("\"epoch\":1", "\"epoch\":\"1\""), false)],
        "release" => vec![
            ("an object that is too long", once("\"object\":\"", "\"object\":\"00"), false),
            ("an array in place of what is released", array("\"released\":["), false),
        ],
        "custody-return" | "custody-ack" => vec![
            ("an index past two bytes", once("\"index\":", "\"index\":70000"), false),
            ("a count that is null", once("\"incarnation\":1", "\"incarnation\":null"), false),
        ],
        _ => Vec::new(),
    }
}
