//! The swarm key: made by a committee, handed on to others, released under labels; and everybody who lies on the way, named.

use std::sync::LazyLock;

use expect_test::expect_file;
use legation_core::{Digest, EnclaveId, ObjectId, SealingPublicKey, TenantId, custody};
use legation_keys::{
    ObjectKey, SealingKey, WrapError,
    swarm::{
        Ceremony, CeremonyError, Chair, Checked, CombineError, DealError, Dealing, DealingError, Epoch, Generation,
        Label, OpenError, Opener, PartError, Partial, Roster, Share, ShareIndex, Subshare, SwarmKey, SwarmSealed,
        Threshold, ThresholdError, UnsealError,
    },
};
use proptest::prelude::*;

use crate::Counter;

pub(crate) const ASK: Digest = Digest::from_bytes([7; 32]);

pub(crate) fn object_key() -> ObjectKey {
    ObjectKey::from_bytes(*b"the key of one object, 32 bytes!")
}

pub(crate) fn threshold(needed: u16, members: u16) -> Threshold {
    Threshold::new(needed, members).unwrap()
}

pub(crate) fn index(at: u16) -> ShareIndex {
    ShareIndex::new(at).unwrap()
}

pub(crate) fn label(tenant: &str) -> Label {
    Label {
        tenant: TenantId::new(tenant).unwrap(),
        policy: Digest::of(b"who may"),
        object: ObjectId::from_bytes([5; 16]),
        generation: Generation(0),
    }
}

/// Sealing keys for a ceremony, and their chairs in order.
pub(crate) struct Seats {
    pub(crate) keys: Vec<SealingKey>,
    pub(crate) chairs: Vec<Chair>,
}

pub(crate) fn seats(seed: u64, members: u16) -> Seats {
    let mut entropy = Counter::new(seed);
    let mut both: Vec<(EnclaveId, SealingKey)> = (0..members)
        .map(|at| {
            let enclave = EnclaveId::new(Digest::of_parts(&[&seed.to_be_bytes(), &at.to_be_bytes()]));
            (enclave, SealingKey::generate(&mut entropy))
        })
        .collect();
    both.sort_by_key(|(enclave, _)| *enclave);
    let chairs = both.iter().map(|(enclave, key)| Chair::new(*enclave, key.public().clone()).unwrap()).collect();
    Seats { keys: both.into_iter().map(|(_, key)| key).collect(), chairs }
}

/// A committee in force.
pub(crate) struct Committee {
    pub(crate) roster: Roster,
    pub(crate) shares: Vec<Share>,
}

pub(crate) fn ceremony(seats: &Seats, seed: u64, threshold: Threshold, from: Option<&Roster>) -> Ceremony {
    Ceremony::new(Digest::of(&seed.to_be_bytes()), threshold, seats.chairs.clone(), from.cloned()).unwrap()
}

/// What every member opens of these dealings: by member, by dealing.
pub(crate) fn opened(ceremony: &Ceremony, seats: &Seats, dealings: &[Dealing]) -> Vec<Vec<Subshare>> {
    let open = |at: usize, key| {
        let member = index(at as u16 + 1);
        dealings.iter().map(|dealing| ceremony.open(dealing, member, key).ok().unwrap()).collect()
    };
    seats.keys.iter().enumerate().map(|(at, key)| open(at, key)).collect()
}

pub(crate) fn checked(ceremony: &Ceremony, dealings: &[Dealing]) -> Vec<Checked> {
    dealings.iter().map(|dealing| ceremony.check(dealing).ok().unwrap()).collect()
}

pub(crate) fn conclude(ceremony: &Ceremony, seats: &Seats, dealings: &[Dealing]) -> Committee {
    let roster = ceremony.roster(&checked(ceremony, dealings)).unwrap();
    let parts = opened(ceremony, seats, dealings);
    let shares = parts.iter().map(|parts| ceremony.share(&roster, parts).ok().unwrap()).collect();
    Committee { roster, shares }
}

/// Everybody deals, everybody opens.
pub(crate) fn found(seed: u64, threshold: Threshold) -> Committee {
    let seats = seats(seed, threshold.members());
    let ceremony = ceremony(&seats, seed, threshold, None);
    let mut entropy = Counter::new(seed + 1);
    let dealings: Vec<Dealing> =
        (1..=threshold.members()).map(|at| ceremony.deal(index(at), &mut entropy).unwrap()).collect();
    conclude(&ceremony, &seats, &dealings)
}

/// These members of `old` (from 0) hand on to a new committee.
pub(crate) fn hand_on(old: &Committee, dealers: &[usize], seed: u64, threshold: Threshold) -> Committee {
    let seats = seats(seed, threshold.members());
    let ceremony = ceremony(&seats, seed, threshold, Some(&old.roster));
    let mut entropy = Counter::new(seed + 1);
    let dealings: Vec<Dealing> =
        dealers.iter().map(|at| ceremony.redeal(&old.shares[*at], &mut entropy).unwrap()).collect();
    conclude(&ceremony, &seats, &dealings)
}

/// 5 of 9, and the disjoint 6 of 11 that have its key after them.
pub(crate) static OLD: LazyLock<Committee> = LazyLock::new(|| found(100, threshold(5, 9)));
pub(crate) static NEW: LazyLock<Committee> = LazyLock::new(|| hand_on(&OLD, &[8, 0, 3, 5, 6], 200, threshold(6, 11)));

pub(crate) fn asker() -> SealingKey {
    SealingKey::generate(&mut Counter::new(9))
}

/// A partial as it arrives at who asked.
pub(crate) fn partial(share: &Share, label: &Label) -> Partial {
    let asker = asker();
    let sealed = share.release(label, asker.public(), ASK, &mut Counter::new(10)).unwrap();
    sealed.open(&asker, ASK).ok().unwrap()
}

pub(crate) fn gather<'a, 'b>(
    roster: &'a Roster,
    shares: impl IntoIterator<Item = &'b Share>,
    label: &Label,
) -> Opener<'a> {
    let mut opener = Opener::new(roster, label);
    for share in shares {
        opener.add(partial(share, label)).unwrap();
    }
    opener
}

pub(crate) fn wrapped(key: &SwarmKey, label: &Label) -> SwarmSealed {
    SwarmSealed::seal(key, label, &object_key(), &mut Counter::new(11))
}

/// Why nothing opened.
pub(crate) fn refusal(opener: &Opener<'_>, sealed: &SwarmSealed) -> OpenError {
    opener.open(sealed).err().unwrap()
}

/// A share as if it were of another roster: what a member that kept an old one would make of it.
pub(crate) fn disguised(share: &Share, roster: &Roster, index: u16) -> Share {
    let mut bytes = share.to_bytes().to_vec();
    bytes[16..48].copy_from_slice(roster.digest().as_bytes());
    bytes[48..56].copy_from_slice(&roster.epoch().0.to_be_bytes());
    bytes[56..58].copy_from_slice(&index.to_be_bytes());
    Share::from_bytes(&bytes).ok().unwrap()
}

#[test]
fn a_key_outlives_its_committees() {
    let (old, new) = (&*OLD, &*NEW);
    let (a, b) = (label("acme"), label("bank"));
    let (early, late) = (wrapped(&old.roster.key(), &a), wrapped(&new.roster.key(), &b));
    assert_eq!(old.roster.key(), new.roster.key());
    assert_eq!((old.roster.epoch(), new.roster.epoch()), (Epoch(0), Epoch(1)));
    assert_eq!((old.roster.previous(), new.roster.previous()), (None, Some(old.roster.digest())));
    assert!(old.roster.members().iter().all(|member| !new.roster.members().contains(member)));
    for committee in [old, new] {
        let needed = usize::from(committee.roster.threshold().needed());
        for (sealed, label) in [(&early, &a), (&late, &b)] {
            for shares in [&committee.shares[..needed], &committee.shares[committee.shares.len() - needed..]] {
                let opened = gather(&committee.roster, shares, label).open(sealed).ok().unwrap();
                assert_eq!(opened.key, object_key());
                assert!(opened.liars.is_empty());
            }
        }
        for (at, share) in committee.shares.iter().enumerate() {
            assert!(share.fits(&committee.roster));
            assert_eq!(share.index(), index(at as u16 + 1));
            assert_eq!(committee.roster.index_of(committee.roster.members()[at]), Some(share.index()));
            committee.roster.verify_partial(&a, &partial(share, &a)).unwrap();
        }
    }
    // The same people again with another threshold, and one who stays in office.
    let third = hand_on(new, &[0, 1, 2, 3, 4, 5], 300, threshold(2, 3));
    assert_eq!(third.roster.key(), old.roster.key());
    assert_eq!(gather(&third.roster, &third.shares[1..], &a).open(&early).ok().unwrap().key, object_key());
}

#[test]
fn too_few_open_nothing_and_old_shares_do_not_help() {
    let (old, new) = (&*OLD, &*NEW);
    let label = label("acme");
    let sealed = wrapped(&old.roster.key(), &label);
    let opener = gather(&new.roster, &new.shares[..5], &label);
    assert_eq!(opener.missing(), 1);
    assert_eq!(refusal(&opener, &sealed), OpenError::TooFew { have: 5, need: 6 });

    // Honestly named, an old partial is of another roster.
    let mut opener = gather(&new.roster, &new.shares[..5], &label);
    let got = old.roster.digest();
    let other = PartError::OtherRoster { expected: new.roster.digest(), got };
    assert_eq!(opener.add(partial(&old.shares[0], &label)), Err(other));

    // Disguised, it is a lie; any number of them beside t-1 new ones, and t-1 old beside one new, open nothing.
    for (young, aged) in [(5, 1), (5, 4), (4, 4), (3, 4), (1, 5), (2, 9)] {
        let mut opener = gather(&new.roster, &new.shares[..young], &label);
        let liars: Vec<ShareIndex> = (0..aged).map(|at| index((young + at) as u16 + 1)).collect();
        for (share, liar) in old.shares[..aged].iter().zip(&liars) {
            opener.add(partial(&disguised(share, &new.roster, liar.get()), &label)).unwrap();
        }
        let expected = OpenError::Liars { liars, have: young as u16, need: 6 };
        assert_eq!(refusal(&opener, &sealed), expected, "{young} new and {aged} old");
    }
    // At their own places too: old shares 2 to 5 beside new share 1, as if nothing had been handed on.
    let mut opener = gather(&old.roster, [&disguised(&new.shares[0], &old.roster, 1)], &label);
    old.shares[1..5].iter().for_each(|share| opener.add(partial(share, &label)).unwrap());
    let expected = OpenError::Liars { liars: vec![index(1)], have: 4, need: 5 };
    assert_eq!(refusal(&opener, &sealed), expected);
}

#[test]
fn liars_are_named_and_worked_around() {
    let new = &*NEW;
    let label = label("acme");
    let sealed = wrapped(&new.roster.key(), &label);
    // Members 1 and 3 answer with the shares of others.
    let liars = [disguised(&new.shares[8], &new.roster, 1), disguised(&new.shares[9], &new.roster, 3)];
    for liar in &liars {
        assert!(!liar.fits(&new.roster));
        let member = liar.index();
        let expected = Err(PartError::Invalid { member });
        assert_eq!(new.roster.verify_partial(&label, &partial(liar, &label)), expected);
    }
    let mut opener = gather(&new.roster, &liars, &label);
    for share in [&new.shares[1], &new.shares[3], &new.shares[4], &new.shares[5], &new.shares[6]] {
        opener.add(partial(share, &label)).unwrap();
    }
    let named = vec![index(1), index(3)];
    assert_eq!(refusal(&opener, &sealed), OpenError::Liars { liars: named.clone(), have: 5, need: 6 });
    opener.add(partial(&new.shares[7], &label)).unwrap();
    let opened = opener.open(&sealed).ok().unwrap();
    assert_eq!((opened.key, opened.liars), (object_key(), named));

    assert_eq!(opener.add(partial(&new.shares[0], &label)), Err(PartError::Twice { member: index(1) }));
    let stranger = disguised(&new.shares[0], &new.roster, 12);
    assert_eq!(opener.add(partial(&stranger, &label)), Err(PartError::NotMember { index: index(12) }));
}

#[test]
fn a_partial_opens_for_its_ask_alone() {
    let new = &*NEW;
    let (label, asker) = (label("acme"), asker());
    let share = &new.shares[2];
    let sealed = share.release(&label, asker.public(), ASK, &mut Counter::new(1)).unwrap();
    assert_eq!((sealed.roster(), sealed.label(), sealed.member()), (new.roster.digest(), label.digest(), index(3)));
    let unopened = Some(UnsealError::Unopened { member: index(3) });
    assert_eq!(sealed.open(&asker, Digest::from_bytes([8; 32])).err(), unopened);
    assert_eq!(sealed.open(&SealingKey::generate(&mut Counter::new(2)), ASK).err(), unopened);
    assert_eq!(sealed.open(&asker, ASK).err(), None);
    let nothing = SealingPublicKey::from_bytes([0; SealingPublicKey::LEN]);
    let expected = WrapError::Recipient { recipient: nothing.digest() };
    assert_eq!(share.release(&label, &nothing, ASK, &mut Counter::new(1)).err(), Some(expected));
}

#[test]
fn thresholds_and_indices_have_bounds() {
    for (needed, members) in [(2, 2), (2, 3), (3, 3), (3, 4), (5, 9), (6, 11), (33, 64), (64, 64)] {
        let threshold = threshold(needed, members);
        assert_eq!((threshold.needed(), threshold.members()), (needed, members));
        assert_eq!(threshold.to_string(), format!("{needed} of {members}"));
    }
    for members in [0, 1, 65, u16::MAX] {
        assert_eq!(Threshold::new(2, members), Err(ThresholdError::Members { got: members }));
    }
    for (needed, members) in [(0, 2), (1, 2), (3, 2), (10, 9), (u16::MAX, 64)] {
        assert_eq!(Threshold::new(needed, members), Err(ThresholdError::Needed { needed, members }));
    }
    for (needed, members) in [(2, 4), (4, 9), (5, 10), (32, 64)] {
        assert_eq!(Threshold::new(needed, members), Err(ThresholdError::Minority { needed, members }));
    }
    assert!([0, 65, u16::MAX].iter().all(|at| ShareIndex::new(*at).is_none()));
}

#[test]
fn a_ceremony_has_its_chairs_in_order() {
    let call = Digest::of(b"call");
    let three = seats(1, 3);
    let new = |chairs: Vec<Chair>| Ceremony::new(call, threshold(2, 3), chairs, None).err();
    let [a, b, c] = [0, 1, 2].map(|at| three.chairs[at].clone());
    assert_eq!(new(vec![a.clone(), b.clone(), c.clone()]), None);
    assert_eq!(new(vec![a.clone(), b.clone()]), Some(CeremonyError::Chairs { expected: 3, got: 2 }));
    let enclave = a.enclave();
    assert_eq!(new(vec![b.clone(), a.clone(), c.clone()]), Some(CeremonyError::Order { enclave }));
    assert_eq!(new(vec![a.clone(), a.clone(), c.clone()]), Some(CeremonyError::Order { enclave }));
    let twin = Chair::new(c.enclave(), a.sealing().clone()).unwrap();
    let enclave = c.enclave();
    assert_eq!(new(vec![a.clone(), b.clone(), twin]), Some(CeremonyError::SharedKey { enclave }));
    let mut nothing = *a.sealing().as_bytes();
    nothing[1184..].fill(0);
    assert!(Chair::new(enclave, SealingPublicKey::from_bytes(nothing)).is_err());

    let digest = |call: &[u8], of: (u16, u16), seats: &Seats, from: Option<&Roster>| {
        Ceremony::new(Digest::of(call), threshold(of.0, of.1), seats.chairs.clone(), from.cloned()).unwrap().digest()
    };
    let digests = [
        digest(b"call", (2, 3), &three, None),
        digest(b"again", (2, 3), &three, None),
        digest(b"call", (3, 3), &three, None),
        digest(b"call", (2, 3), &seats(2, 3), None),
        digest(b"call", (2, 3), &three, Some(&OLD.roster)),
        digest(b"call", (2, 3), &three, Some(&NEW.roster)),
    ];
    for (at, digest) in digests.iter().enumerate() {
        assert!(!digests[..at].contains(digest), "{at}");
    }
}

#[test]
fn labels_differ_by_every_field() {
    let base = label("acme");
    let named = |tenant: &str| Label { tenant: TenantId::new(tenant).unwrap(), ..base.clone() };
    let longest = "a".repeat(63);
    let labels = [
        base.clone(),
        named("acm"),
        named("acmee"),
        named(&longest),
        named(&longest[1..]),
        Label { policy: Digest::of(b"who else may"), ..base.clone() },
        Label { object: ObjectId::from_bytes([6; 16]), ..base.clone() },
        Label { generation: Generation(1), ..base.clone() },
    ];
    let opener = gather(&NEW.roster, &NEW.shares, &base);
    for (at, label) in labels.iter().enumerate() {
        assert!(labels[..at].iter().all(|other| other.digest() != label.digest()), "{at}");
        assert_eq!(opener.open(&wrapped(&NEW.roster.key(), label)).is_ok(), at == 0, "{at}");
    }
}

#[test]
fn who_deals_what() {
    let three = seats(20, 3);
    let first = ceremony(&three, 20, threshold(2, 3), None);
    let later = ceremony(&three, 20, threshold(2, 3), Some(&OLD.roster));
    let mut entropy = Counter::new(3);
    let held = &OLD.shares[4];
    assert_eq!(first.redeal(held, &mut entropy).err(), Some(DealError::First));
    assert_eq!(later.deal(index(1), &mut entropy).err(), Some(DealError::Later));
    let (dealer, dealers) = (index(4), 3);
    assert_eq!(first.deal(dealer, &mut entropy).err(), Some(DealError::Dealer { dealer, dealers }));
    for other in [&NEW.shares[4], &disguised(&OLD.shares[3], &OLD.roster, 5)] {
        let expected = DealError::Share { expected: OLD.roster.digest(), got: other.roster() };
        assert_eq!(later.redeal(other, &mut entropy).err(), Some(expected));
    }
    let dealing = later.redeal(held, &mut entropy).unwrap();
    assert_eq!(
        (dealing.dealer(), dealing.ceremony(), dealing.threshold()),
        (index(5), later.digest(), threshold(2, 3))
    );
    let expected = DealingError::OtherCeremony { expected: first.digest(), got: later.digest() };
    assert_eq!(first.check(&dealing).err(), Some(expected));
    let member = index(1);
    assert_eq!(later.open(&dealing, member, &three.keys[1]).err(), Some(DealingError::OtherMember { member }));
    assert_eq!(
        later.open(&dealing, index(9), &three.keys[1]).err(),
        Some(DealingError::OtherMember { member: index(9) })
    );
    assert!(later.open(&dealing, member, &three.keys[0]).is_ok());
}

#[test]
fn which_dealings_count() {
    let three = seats(30, 3);
    let first = ceremony(&three, 30, threshold(2, 3), None);
    let mut entropy = Counter::new(4);
    let dealings: Vec<Dealing> = (1..=3).map(|at| first.deal(index(at), &mut entropy).unwrap()).collect();
    let all = checked(&first, &dealings);
    let pick = |which: &[usize]| first.roster(&which.iter().map(|at| all[*at].clone()).collect::<Vec<_>>());
    assert_eq!(pick(&[0, 1, 2]).unwrap(), pick(&[2, 0, 1]).unwrap());
    assert_ne!(pick(&[0, 1]).unwrap().key(), pick(&[0, 2]).unwrap().key());
    assert_eq!(pick(&[0]), Err(CombineError::Count { least: 2, most: 3, got: 1 }));
    assert_eq!(pick(&[0, 1, 2, 1]), Err(CombineError::Count { least: 2, most: 3, got: 4 }));
    assert_eq!(pick(&[1, 0, 1]), Err(CombineError::Twice { dealer: index(2) }));

    let parts = opened(&first, &three, &dealings[..2]);
    let roster = pick(&[0, 2]).unwrap();
    assert_eq!(first.share(&roster, &parts[0]).err(), Some(CombineError::Missing { dealer: index(3) }));
    assert_eq!(first.share(&OLD.roster, &parts[0]).err(), Some(CombineError::OtherCeremony));
    let roster = pick(&[0, 1]).unwrap();
    let mut parts = parts.into_iter();
    let (mut one, two) = (parts.next().unwrap(), parts.next().unwrap());
    one.truncate(1);
    one.extend(two.into_iter().skip(1));
    assert_eq!(first.share(&roster, &one).err(), Some(CombineError::Parts));

    // After the first committee exactly t_old: which ones must be settled, as any more would change every share.
    let later = ceremony(&three, 31, threshold(2, 3), Some(&OLD.roster));
    let dealings: Vec<Dealing> = OLD.shares.iter().map(|held| later.redeal(held, &mut entropy).unwrap()).collect();
    let all = checked(&later, &dealings);
    for count in [4, 6, 9] {
        assert_eq!(later.roster(&all[..count]), Err(CombineError::Count { least: 5, most: 5, got: count }));
    }
    assert_eq!(later.roster(&all[..5]).unwrap().key(), later.roster(&all[4..]).unwrap().key());
    let stranger = checked(&first, &[first.deal(index(1), &mut entropy).unwrap()]);
    let mixed = [&all[..4], &stranger].concat();
    assert_eq!(later.roster(&mixed), Err(CombineError::OtherCeremony));
}

#[test]
fn who_did_not_deal_has_a_share_all_the_same() {
    let three = seats(50, 3);
    let first = ceremony(&three, 50, threshold(2, 3), None);
    let mut entropy = Counter::new(51);
    let dealings: Vec<Dealing> = [1, 2].map(|at| first.deal(index(at), &mut entropy).unwrap()).into();
    let committee = conclude(&first, &three, &dealings);
    let label = label("acme");
    let sealed = wrapped(&committee.roster.key(), &label);
    let opened = gather(&committee.roster, &committee.shares[1..], &label).open(&sealed).ok().unwrap();
    assert_eq!(opened.key, object_key());
    // And hands it on.
    let next = hand_on(&committee, &[2, 0], 52, threshold(3, 4));
    assert_eq!(next.roster.key(), committee.roster.key());
    let opened = gather(&next.roster, &next.shares[1..], &label).open(&sealed).ok().unwrap();
    assert_eq!(opened.key, object_key());
}

#[test]
fn formats_do_not_change_silently() {
    let committee = found(40, threshold(2, 3));
    let three = seats(41, 3);
    let ceremony = ceremony(&three, 41, threshold(2, 3), Some(&committee.roster));
    let dealing = ceremony.redeal(&committee.shares[1], &mut Counter::new(42)).unwrap();
    let label = label("acme");
    let sealed = wrapped(&committee.roster.key(), &label);
    let part = committee.shares[0].release(&label, asker().public(), ASK, &mut Counter::new(43)).unwrap();
    let lines = [
        ("label", 0, label.digest()),
        ("ceremony", 0, ceremony.digest()),
        ("swarm key", SwarmKey::LEN, committee.roster.key().id()),
        ("dealing", dealing.to_bytes().len(), dealing.digest()),
        ("roster", committee.roster.to_bytes().len(), committee.roster.digest()),
        ("share", committee.shares[0].to_bytes().len(), Digest::of(&committee.shares[0].to_bytes())),
        ("sealed partial", part.to_bytes().len(), Digest::of(&part.to_bytes())),
        ("sealed key", SwarmSealed::LEN, Digest::of(&sealed.to_bytes())),
    ];
    let text: String = lines.iter().map(|(what, len, digest)| format!("{what:<15} {len:>5} {digest}\n")).collect();
    expect_file!["golden/swarm-v1.txt"].assert_eq(&text);
    assert!(Dealing::from_bytes(&dealing.to_bytes()).unwrap() == dealing);
    assert_eq!(Roster::from_bytes(&committee.roster.to_bytes()).unwrap(), committee.roster);
    assert!(Share::from_bytes(&committee.shares[2].to_bytes()).ok().unwrap().fits(&committee.roster));
    assert_eq!(SwarmSealed::from_bytes(&sealed.to_bytes()).unwrap(), sealed);
    // The same fields stand where those look for them who know of no curves.
    let named = custody::SwarmSealed::from_bytes(&sealed.to_bytes()).unwrap();
    assert_eq!((named.key(), named.label()), (committee.roster.key().id(), label.digest()));
    let largest = dealing.to_bytes().len() + (64 - 2) * 96 + (64 - 3) * 1168;
    assert!(largest <= custody::DEALING_MAX, "a dealing for 64 of 64 has {largest} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// Committees of any size and threshold, handed on by any sufficient dealers, released by any sufficient members, in any order.
    #[test]
    fn any_committees_keep_the_key(
        seed in 1_000u64..1_000_000,
        sizes in prop::collection::vec((2u16..=6, 0u16..=6), 2..=3),
        order in prop::collection::vec(any::<u32>(), 6),
    ) {
        let of = |(members, extra): (u16, u16)| threshold((members / 2 + 1 + extra % 3).min(members).max(2), members);
        let shuffled = |members: u16, needed: u16| {
            let mut all: Vec<usize> = (0..usize::from(members)).collect();
            all.sort_by_key(|at| order[*at]);
            all.truncate(usize::from(needed));
            all
        };
        let label = label("acme");
        let mut committee = found(seed * 10, of(sizes[0]));
        let (key, sealed) = (committee.roster.key(), wrapped(&committee.roster.key(), &label));
        for (at, size) in (1..).zip(&sizes[1..]) {
            let from = committee.roster.threshold();
            committee = hand_on(&committee, &shuffled(from.members(), from.needed()), seed * 10 + at, of(*size));
            prop_assert_eq!(committee.roster.key(), key.clone());
            let now = committee.roster.threshold();
            let who = shuffled(now.members(), now.needed());
            let opener = gather(&committee.roster, who.iter().map(|at| &committee.shares[*at]), &label);
            prop_assert_eq!(opener.open(&sealed).ok().unwrap().key, object_key());
            let few = gather(&committee.roster, who[1..].iter().map(|at| &committee.shares[*at]), &label);
            prop_assert!(few.open(&sealed).is_err());
        }
    }
}
