//! Every encoding of the swarm key: altered, cut, extended, misspelt.

use commonware_codec::{Copying, Decode};
use commonware_cryptography::bls12381::primitives::group::G2;
use legation_core::Digest;
use legation_keys::swarm::{
    Ceremony, Dealing, MEMBERS_MAX, OpenError, ReadError, Roster, SealedPartial, Share, SwarmKey, SwarmSealed,
    ThresholdError, UnsealError,
};
use proptest::prelude::*;

use crate::{
    Counter,
    swarm::{
        ASK, Committee, Seats, asker, ceremony, found, gather, hand_on, index, label, partial, refusal, seats,
        threshold, wrapped,
    },
    swarm_attack::ORDER,
};

/// The smallest committee, its successor, and what they say.
struct World {
    old: Committee,
    new: Committee,
    seats: Seats,
    ceremony: Ceremony,
    dealing: Vec<u8>,
    partial: Vec<u8>,
    sealed: Vec<u8>,
}

fn world() -> World {
    let old = found(900, threshold(2, 2));
    let new = hand_on(&old, &[0, 1], 910, threshold(2, 2));
    let seats = seats(920, 2);
    let ceremony = ceremony(&seats, 920, threshold(2, 2), Some(&old.roster));
    let dealing = ceremony.redeal(&old.shares[1], &mut Counter::new(921)).unwrap().to_bytes();
    let part = new.shares[0].release(&label("acme"), asker().public(), ASK, &mut Counter::new(922)).unwrap();
    let sealed = wrapped(&new.roster.key(), &label("acme")).to_bytes().to_vec();
    World { partial: part.to_bytes(), old, new, seats, ceremony, dealing, sealed }
}

/// Where a dealing of 2 of 2 has what.
const PARCELS: usize = 54 + 2 * 96 + 64;
const PARCEL: usize = 1120 + 48;

/// `bytes` with one bit changed, at every place but those inside of long ciphertexts, where some do.
fn flipped(bytes: &[u8], long: impl Fn(usize) -> bool) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).filter(move |at| !long(*at) || at % 37 == 0).map(move |at| {
        let mut bad = bytes.to_vec();
        bad[at] ^= 1 << (at % 8);
        (at, bad)
    })
}

#[test]
fn a_dealing_does_not_survive_a_flipped_bit() {
    let World { seats, ceremony, dealing, .. } = world();
    let encapsulated = |at: usize| at >= PARCELS && (at - PARCELS) % PARCEL < 1120;
    for (at, bad) in flipped(&dealing, encapsulated) {
        let Ok(dealing) = Dealing::from_bytes(&bad) else { continue };
        let checked = ceremony.check(&dealing);
        if at < PARCELS {
            assert!(checked.is_err(), "byte {at}");
            continue;
        }
        // What is sealed to one member only that member can judge.
        let member = (at - PARCELS) / PARCEL;
        assert!(checked.is_ok(), "byte {at}");
        for (other, key) in seats.keys.iter().enumerate() {
            let opened = ceremony.open(&dealing, index(other as u16 + 1), key);
            assert_eq!(opened.is_ok(), other != member, "byte {at} for member {other}");
        }
    }
    for at in [54, 54 + 96] {
        let mut negated = dealing.clone();
        negated[at] ^= 0x20;
        assert!(ceremony.check(&Dealing::from_bytes(&negated).unwrap()).is_err(), "point {at} with another sign");
    }
}

#[test]
fn a_roster_with_a_flipped_bit_is_another() {
    let World { old, new, .. } = world();
    for (roster, share) in [(&old.roster, &old.shares[0]), (&new.roster, &new.shares[0])] {
        for (at, bad) in flipped(&roster.to_bytes(), |_| false) {
            let Ok(other) = Roster::from_bytes(&bad) else { continue };
            assert_ne!(other.digest(), roster.digest(), "byte {at}");
            assert!(!share.fits(&other), "byte {at}");
            assert_eq!(other.to_bytes(), bad, "byte {at}: one spelling");
        }
    }
}

#[test]
fn a_share_with_a_flipped_bit_fits_nothing() {
    let World { new, .. } = world();
    for (at, bad) in flipped(&new.shares[1].to_bytes(), |_| false) {
        assert!(!Share::from_bytes(&bad).is_ok_and(|share| share.fits(&new.roster)), "byte {at}");
    }
}

#[test]
fn a_partial_with_a_flipped_bit_opens_nothing() {
    let World { new, partial: sealed, .. } = world();
    let asker = asker();
    for (at, bad) in flipped(&sealed, |at| (82..82 + 1120).contains(&at)) {
        let Ok(sealed) = SealedPartial::from_bytes(&bad) else { continue };
        let expected = Some(UnsealError::Unopened { member: sealed.member() });
        assert_eq!(sealed.open(&asker, ASK).err(), expected, "byte {at}");
    }
    let good = SealedPartial::from_bytes(&sealed).unwrap().open(&asker, ASK).ok().unwrap();
    new.roster.verify_partial(&label("acme"), &good).unwrap();
}

#[test]
fn a_wrapped_key_with_a_flipped_bit_opens_nothing() {
    let World { new, sealed, .. } = world();
    let label = label("acme");
    let opener = gather(&new.roster, &new.shares, &label);
    for (at, bad) in flipped(&sealed, |_| false) {
        let Ok(sealed) = SwarmSealed::from_bytes(&bad) else { continue };
        let why = refusal(&opener, &sealed);
        let fits = match at {
            16..48 => matches!(why, OpenError::OtherKey { .. }),
            48..80 => matches!(why, OpenError::OtherLabel { .. }),
            _ => why == OpenError::Refused,
        };
        assert!(fits, "byte {at}: {why}");
    }
    let mut negated = sealed.clone();
    negated[80] ^= 0x20;
    assert_eq!(refusal(&opener, &SwarmSealed::from_bytes(&negated).unwrap()), OpenError::Refused);
}

/// Whether these bytes are what they are read as.
type Reads = fn(&[u8]) -> Result<(), ReadError>;

fn readers() -> [Reads; 5] {
    [
        |bytes| Dealing::from_bytes(bytes).map(drop),
        |bytes| Roster::from_bytes(bytes).map(drop),
        |bytes| Share::from_bytes(bytes).map(drop),
        |bytes| SealedPartial::from_bytes(bytes).map(drop),
        |bytes| SwarmSealed::from_bytes(bytes).map(drop),
    ]
}

#[test]
fn nothing_is_read_that_is_cut_extended_or_of_another_kind() {
    let World { new, dealing, partial, sealed, .. } = world();
    let encodings = [dealing, new.roster.to_bytes(), new.shares[0].to_bytes().to_vec(), partial, sealed];
    for (own, bytes) in encodings.iter().enumerate() {
        for (kind, read) in readers().iter().enumerate() {
            match read(bytes) {
                Ok(()) => assert_eq!(kind, own),
                Err(why) => assert!(kind != own && matches!(why, ReadError::Kind { .. }), "{own} as {kind}: {why}"),
            }
        }
        let read = readers()[own];
        for len in (0..bytes.len()).filter(|len| *len < 300 || len % 41 == 0 || *len + 50 > bytes.len()) {
            let why = read(&bytes[..len]).unwrap_err();
            let expected =
                if len < 16 { matches!(why, ReadError::Kind { .. }) } else { matches!(why, ReadError::Short { .. }) };
            assert!(expected, "{own} cut to {len}: {why}");
        }
        let extended = [&bytes[..], &[0]].concat();
        assert_eq!(read(&extended), Err(ReadError::Long { extra: 1 }));
    }
}

#[test]
fn numbers_out_of_bounds_are_refused_before_anything_is_read() {
    let World { old, new, dealing, partial, .. } = world();
    let with = |bytes: &[u8], at: usize, number: u16| {
        let mut bad = bytes.to_vec();
        bad[at..at + 2].copy_from_slice(&number.to_be_bytes());
        bad
    };
    for got in [0, MEMBERS_MAX + 1, u16::MAX] {
        let refused = Some(ReadError::Bounds { part: "dealer", got });
        assert_eq!(Dealing::from_bytes(&with(&dealing, 48, got)).err(), refused);
        let refused = Some(ReadError::Bounds { part: "index", got });
        assert_eq!(SealedPartial::from_bytes(&with(&partial, 80, got)).err(), refused);
        assert_eq!(Share::from_bytes(&with(&new.shares[0].to_bytes(), 56, got)).err(), refused);
        let members = Some(ReadError::Threshold(ThresholdError::Members { got }));
        assert_eq!(Dealing::from_bytes(&with(&dealing, 52, got)).err(), members);
        assert_eq!(Roster::from_bytes(&with(&new.roster.to_bytes(), 90, got)).err(), members);
    }
    let roster = new.roster.to_bytes();
    let count = 92 + 2 * 32;
    for got in [0, 1, 65, u16::MAX] {
        let refused = Err(ReadError::Bounds { part: "number of dealings", got });
        assert_eq!(Roster::from_bytes(&with(&roster, count, got)), refused);
    }
    assert_eq!(Roster::from_bytes(&with(&roster, count + 2 + 34, 1)), Err(ReadError::Order { part: "dealers" }));
    let first = old.roster.to_bytes();
    let refused = Err(ReadError::Bounds { part: "dealer", got: 3 });
    assert_eq!(Roster::from_bytes(&with(&first, count + 2 + 34, 3)), refused);
    // The members the other way round; an epoch without its previous roster, and the reverse.
    let mut swapped = roster.clone();
    swapped[92..124].copy_from_slice(&roster[124..156]);
    swapped[124..156].copy_from_slice(&roster[92..124]);
    assert_eq!(Roster::from_bytes(&swapped), Err(ReadError::Order { part: "members" }));
    let mut orphan = roster.clone();
    orphan[56..88].fill(0);
    assert_eq!(Roster::from_bytes(&orphan), Err(ReadError::Epoch));
    let mut early = roster;
    early[48..56].fill(0);
    assert_eq!(Roster::from_bytes(&early), Err(ReadError::Epoch));
}

#[test]
fn points_and_scalars_have_one_spelling() {
    let World { new, .. } = world();
    let refused = Err(ReadError::Point { part: "swarm key" });
    let good = new.roster.key().to_bytes();
    let mut infinity = [0; 96];
    infinity[0] = 0xc0;
    let (mut signed, mut uncompressed) = (infinity, good);
    signed[0] = 0xe0;
    uncompressed[0] &= 0x7f;
    // The field's prime, added to an abscissa that is small enough for the flags to stay: both halves, each beyond its range.
    let mut unreduced = [0xff; 96];
    unreduced[0] = 0x9f;
    for bad in [[0; 96], infinity, signed, uncompressed, unreduced] {
        assert_eq!(SwarmKey::from_bytes(&bad), refused);
    }
    // About half of all abscissas are those of points on the curve, and none of those is in the group.
    let mut seen = 0;
    for low in 0..64 {
        let mut bytes = [0; 96];
        (bytes[0], bytes[95]) = (0x80, low);
        assert_eq!(SwarmKey::from_bytes(&bytes), refused, "{low}");
        let why = G2::decode_cfg(Copying(&bytes), &()).unwrap_err().to_string();
        seen += u32::from(why.contains("Outside"));
    }
    assert!(seen > 16, "{seen} of 64 are on the curve: the check of the group was not reached");

    let share = new.shares[0].to_bytes();
    let mut order = ORDER;
    let with = |scalar: &[u8]| Share::from_bytes(&[&share[..58], scalar].concat()).err();
    let refused = Some(ReadError::Scalar { part: "share" });
    assert_eq!(with(&order), refused);
    order[31] = 2;
    assert_eq!(with(&order), refused);
    order[31] = 0;
    assert_eq!(with(&order), None);
    assert_eq!(with(&[0; 32]), refused);
    assert_eq!(with(&[0xff; 32]), refused);
}

#[test]
fn what_is_shown_is_no_secret() {
    let World { new, dealing, sealed, .. } = world();
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        Dealing::from_bytes(&dealing).unwrap(),
        new.roster,
        new.roster.key(),
        SwarmSealed::from_bytes(&sealed).unwrap()
    );
    let (dealing, roster) = (Digest::of(&dealing).short(), new.roster.digest().short());
    let (key, label) = (new.roster.key().id().short(), label("acme").digest().short());
    let expected = format!(
        "Dealing({dealing}, by 2, 2 of 2) Roster({roster}, epoch 1, 2 of 2, SwarmKey({key})) SwarmKey({key}) \
         SwarmSealed(to {key} under {label})"
    );
    assert_eq!(shown, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Noise, with and without the right beginning, is read as nothing and does no harm.
    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..400), kind in 0usize..5) {
        let kinds = ["legation-deal-v1", "legation-rost-v1", "legation-held-v1", "legation-part-v1", "legation-lock-v1"];
        for read in readers() {
            prop_assert!(read(&noise).is_err());
        }
        let begun = [kinds[kind].as_bytes(), &noise].concat();
        prop_assert!(kind == 2 && noise.len() == 74 || readers()[kind](&begun).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed in a wrapped key, or in a partial under way, it opens as before or not at all.
    #[test]
    fn altered_bytes_open_nothing(
        at in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        bits in 1u8..,
        more in any::<u8>(),
    ) {
        thread_local!(static WORLD: World = world());
        WORLD.with(|world| {
            let label = label("acme");
            let alter = |bytes: &[u8]| {
                let mut bad = bytes.to_vec();
                bad[at.index(bytes.len())] ^= bits;
                bad[other.index(bytes.len())] ^= more;
                bad
            };
            let bad = alter(&world.sealed);
            if bad != world.sealed && let Ok(sealed) = SwarmSealed::from_bytes(&bad) {
                let opener = gather(&world.new.roster, &world.new.shares, &label);
                prop_assert!(opener.open(&sealed).is_err());
            }
            let bad = alter(&world.partial);
            if bad != world.partial && let Ok(sealed) = SealedPartial::from_bytes(&bad) {
                prop_assert!(sealed.open(&asker(), ASK).is_err());
            }
            let own = partial(&world.new.shares[0], &label);
            prop_assert!(world.new.roster.verify_partial(&label, &own).is_ok());
            Ok(())
        })?;
    }
}
