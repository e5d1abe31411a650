//! Custodians that restart: back at their index with enough acknowledgements, unless their disk was put back.

use legation_core::{
    Digest, Signed,
    custody::{Ack, Committee, Incarnations, Return, Returned},
    dsse,
};

use crate::{
    custody::{first, id, party},
    party::Party,
    world::digest,
};

/// The next boots of member 0.
const BOOTS: [&str; 4] = ["boot-1", "boot-2", "boot-3", "boot-4"];

fn committee() -> Committee {
    first().0.committee().unwrap().clone()
}

fn returns(committee: &Committee, boot: usize, incarnation: u64) -> Signed<Return> {
    let boot = Party::new(BOOTS[boot]);
    dsse::sign(Return::new(committee, (boot.key(), digest("passport")), incarnation, &party(0)), &boot)
}

fn acks(
    by: &mut [(usize, Incarnations)],
    word: &Signed<Return>,
    committee: &Committee,
) -> Vec<Result<Signed<Ack>, String>> {
    by.iter_mut()
        .map(|(i, known)| {
            let peer = party(*i);
            known.hear(word, committee, peer.key()).map(|ack| dsse::sign(ack, &peer)).map_err(|why| why.check)
        })
        .collect()
}

#[test]
fn a_disk_that_was_put_back_is_noticed() {
    let committee = committee();
    let mut peers: Vec<_> = (1..9).map(|i| (i, Incarnations::default())).collect();
    // It restarts, and five of its peers hear it.
    let one = returns(&committee, 0, 1);
    let good: Vec<_> = acks(&mut peers[..5], &one, &committee).into_iter().map(Result::unwrap).collect();
    let returned = Returned::new(one.clone(), good.clone(), &committee).unwrap();
    assert_eq!((returned.word(), returned.acks().len()), (&one, 5));
    assert_eq!(peers[0].1.boot_of(id(0)), Some(Party::new(BOOTS[0]).key().enclave_id()));
    // It asks again, as after a lost answer, and they say the same.
    let again: Vec<_> = acks(&mut peers[..5], &one, &committee).into_iter().map(Result::unwrap).collect();
    assert_eq!(again, good);
    // Its old disk starts elsewhere with the same count: at most the three who had not heard are fooled, and that is too few.
    let old = returns(&committee, 1, 1);
    let heard = acks(&mut peers, &old, &committee);
    assert!(heard[..5].iter().all(|ack| ack.as_ref().unwrap_err() == "custody.rollback"));
    let fooled: Vec<_> = heard.into_iter().flatten().collect();
    assert_eq!(fooled.len(), 3);
    assert_eq!(Returned::new(old, fooled, &committee).unwrap_err().check, "custody.acks");
    // The true one goes on counting, and what is stored stands.
    let two = returns(&committee, 2, 2);
    let heard: Vec<_> = acks(&mut peers, &two, &committee).into_iter().map(Result::unwrap).collect();
    assert!(Returned::new(two, heard, &committee).is_ok());
    let stored = serde_json::to_string(&peers[0].1).unwrap();
    let mut known: Incarnations = serde_json::from_str(&stored).unwrap();
    for (boot, incarnation) in [(0, 1), (3, 2), (3, 1)] {
        let word = returns(&committee, boot, incarnation);
        assert_eq!(known.hear(&word, &committee, party(1).key()).unwrap_err().check, "custody.rollback");
    }
}

#[test]
fn returns_that_are_none_are_refused() {
    let committee = committee();
    let check = |bend: &dyn Fn(&mut Return), vouch: bool| {
        let boot = Party::new(BOOTS[0]);
        let mut said = Return::new(&committee, (boot.key(), digest("passport")), 1, &party(0));
        bend(&mut said);
        if vouch {
            said.vouched = legation_core::Signer::sign(&party(0), &said.message()).0.to_vec();
        }
        said.check(&committee).map_err(|why| why.check)
    };
    assert_eq!(check(&|_| {}, false), Ok(()));
    let refused = Err("custody.return".to_owned());
    // What the old identity did not vouch for.
    let bends: &[fn(&mut Return)] = &[
        |r| r.enclave = Party::new("attacker").key(),
        |r| r.incarnation = 2,
        |r| r.prev[0] = digest("another passport"),
        |r| r.vouched.clear(),
        |r| r.vouched[63] ^= 1,
        |r| r.vouched.push(0),
    ];
    for bend in bends {
        assert_eq!(check(bend, false), refused);
    }
    // And what it may not.
    let bends: &[fn(&mut Return)] = &[
        |r| r.roster = digest("stale"),
        |r| r.index += 1,
        |r| r.index = 0,
        |r| r.incarnation = 0,
        |r| r.enclave = r.was,
        |r| r.prev.clear(),
        |r| r.was = Party::new("attacker").key(),
    ];
    for bend in bends {
        assert_eq!(check(bend, true), refused);
    }
    // A stranger has no place at all.
    let boot = Party::new(BOOTS[0]);
    let said = Return::new(&committee, (boot.key(), digest("passport")), 1, &Party::new("attacker"));
    assert_eq!(said.check(&committee).unwrap_err().check, "custody.return");
}

#[test]
fn acknowledgements_count_once_each() {
    let committee = committee();
    let word = returns(&committee, 0, 1);
    let mut peers: Vec<_> = (1..9).map(|i| (i, Incarnations::default())).collect();
    let good: Vec<_> = acks(&mut peers, &word, &committee).into_iter().map(Result::unwrap).collect();
    let check =
        |acks: Vec<Signed<Ack>>| Returned::new(word.clone(), acks, &committee).map(|_| ()).map_err(|why| why.check);
    assert_eq!(check(good[..5].to_vec()), Ok(()));
    let refused = Err("custody.acks".to_owned());
    assert_eq!(check(good[..4].to_vec()), refused);
    assert_eq!(check([&good[..4], &good[..1]].concat()), refused);
    let by = |name: &Party, bend: fn(&mut Ack)| {
        let mut ack = good[4].predicate().clone();
        ack.member = name.key();
        bend(&mut ack);
        [&good[..4], &[dsse::sign(ack, name)]].concat()
    };
    let fifth = party(5);
    assert_eq!(check(by(&fifth, |_| {})), Ok(()));
    assert_eq!(check(by(&Party::new("attacker"), |_| {})), refused);
    assert_eq!(check(by(&party(0), |_| {})), refused);
    assert_eq!(check(by(&fifth, |a| a.incarnation = 2)), refused);
    assert_eq!(check(by(&fifth, |a| a.index = 9)), refused);
    assert_eq!(check(by(&fifth, |a| a.roster = digest("stale"))), refused);
    assert_eq!(check(by(&fifth, |a| a.prev = vec![Digest::of(b"another")])), refused);
}
