//! Attacks on the swarm key, and the library's own arithmetic beside ours.

use std::{convert::Infallible, num::NonZeroU32};

use commonware_codec::{Copying, Decode, Encode, EncodeFixed};
use commonware_cryptography::bls12381::{
    primitives::{
        group::{G1, G2, Private, Scalar, Share as TheirShare},
        ops::threshold as theirs,
        sharing::{ModeVersion, Sharing},
        variant::MinSig,
    },
    tle::{self, Block, Ciphertext},
};
use commonware_math::{
    algebra::{Additive, CryptoGroup, Field, Ring},
    poly::Poly,
};
use commonware_parallel::Sequential;
use commonware_utils::Participant;
use hpke::{
    Deserializable, Kem, OpModeS, Serializable,
    aead::AesGcm256,
    kdf::HkdfSha256,
    kem::XWing,
    rand_core::{TryCryptoRng, TryRng},
    single_shot_seal_with_rng,
};
use legation_core::{Digest, SealingPublicKey};
use legation_keys::{
    Entropy, ObjectKey, SealingKey,
    swarm::{
        Ceremony, CombineError, Dealing, DealingError, OpenError, Opener, SealedPartial, Share, SwarmSealed,
        UnsealError,
    },
};

use crate::{
    Counter,
    swarm::{
        ASK, NEW, OLD, asker, ceremony, checked, conclude, found, gather, hand_on, index, label, object_key, partial,
        refusal, seats, threshold, wrapped,
    },
};

const NAMESPACE: &[u8] = b"legation-swarm-release-v1";
const CHALLENGE: &[u8] = b"LEGATION-SWARM-V1-BLS12381_XMD:SHA-256_DEALING_CHALLENGE_";

/// A source as the libraries want it.
struct Source(Counter);

impl TryRng for Source {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Source {}

fn scalar(value: u64) -> Scalar {
    Scalar::map(b"test", &value.to_be_bytes())
}

fn small(value: u64) -> Scalar {
    Scalar::from_u64(value)
}

fn private(share: &Share) -> Private {
    Private::decode_cfg(Copying(&share.to_bytes()[58..]), &()).unwrap()
}

fn secret(share: &Share) -> Scalar {
    private(share).expose_unwrap()
}

/// Lagrange's coefficients at zero for these abscissas.
fn weights(at: &[u64]) -> Vec<Scalar> {
    let of = |own: u64| {
        at.iter()
            .filter(|other| **other != own)
            .fold(Scalar::one(), |product, other| product * &(small(*other) * &(small(*other) - &small(own)).inv()))
    };
    at.iter().map(|own| of(*own)).collect()
}

/// The value at zero of what has these values.
fn at_zero(at: &[u64], values: &[Scalar]) -> Scalar {
    weights(at).iter().zip(values).fold(Scalar::zero(), |sum, (weight, value)| sum + &(weight.clone() * value))
}

/// Plain threshold HPKE as it is often described: a point is encapsulated, the schedule takes in that point and the label, and who
/// holds a share looks at the label, judges who asks, and multiplies the point that it is given.
mod plain {
    use super::*;

    pub(super) struct Sealed {
        pub(super) label: &'static str,
        pub(super) u: G1,
        pub(super) masked: [u8; 32],
    }

    pub(super) fn seal(public: &G1, label: &'static str, key: [u8; 32], r: &Scalar) -> Sealed {
        let u = G1::generator() * r;
        Sealed { label, u, masked: mask(&(*public * r), &u, label, key) }
    }

    /// That the label is bound here helps nobody: whoever has the shared point computes this with whatever label it likes.
    pub(super) fn mask(shared: &G1, u: &G1, label: &str, key: [u8; 32]) -> [u8; 32] {
        let pad = Digest::of_parts(&[&shared.encode(), &u.encode(), label.as_bytes()]);
        std::array::from_fn(|at| key[at] ^ pad.as_bytes()[at])
    }

    /// What an honest member answers to somebody who may read what is labelled `may`, and nothing else.
    pub(super) fn release(share: &Scalar, may: &str, sealed: &Sealed) -> Option<G1> {
        (sealed.label == may).then(|| sealed.u * share)
    }
}

#[test]
fn blinding_opens_plain_threshold_hpke() {
    // A key shared 2 of 3, and the victim's object under the victim's label.
    let (key, slope) = (scalar(1), scalar(2));
    let shares: Vec<Scalar> = (1..=3).map(|at| key.clone() + &(slope.clone() * &small(at))).collect();
    let public = G1::generator() * &key;
    let secret = *b"what only the victim's may read!";
    let victim = plain::seal(&public, "victim", secret, &scalar(3));
    assert!(shares.iter().all(|share| plain::release(share, "mallory", &victim).is_none()));

    // Mallory may read what is labelled "mallory", and asks for the blinded point of the victim's ciphertext under that label.
    let blind = scalar(4);
    let asked = plain::Sealed { label: "mallory", u: victim.u + &(G1::generator() * &blind), masked: [0; 32] };
    let answers: Vec<G1> = shares[..2].iter().map(|share| plain::release(share, "mallory", &asked).unwrap()).collect();
    let sum = weights(&[1, 2]).iter().zip(answers).fold(G1::zero(), |sum, (weight, answer)| sum + &(answer * weight));
    let shared = sum - &(public * &blind);
    assert_eq!(
        plain::mask(&shared, &victim.u, victim.label, victim.masked),
        secret,
        "every member judged well, and the victim's object is open"
    );
}

#[test]
fn blinding_opens_nothing_of_ours() {
    // Mallory has every answer on its own label, from every member, and the victim's ciphertext.
    let (roster, shares) = (&NEW.roster, &NEW.shares);
    let (victims, mallorys) = (label("victim"), label("mallory"));
    let victim = wrapped(&roster.key(), &victims);
    let mallory = gather(roster, shares, &mallorys);
    assert_eq!(mallory.open(&wrapped(&roster.key(), &mallorys)).ok().unwrap().key, object_key());

    // As it is; with Mallory's label on it; and blinded besides, by what Mallory knows and by what it can multiply.
    let (expected, got) = (mallorys.digest(), victims.digest());
    assert_eq!(refusal(&mallory, &victim), OpenError::OtherLabel { expected, got });
    let relabelled = |u: &G2| {
        let mut bytes = victim.to_bytes();
        bytes[48..80].copy_from_slice(mallorys.digest().as_bytes());
        bytes[80..176].copy_from_slice(&u.encode_fixed::<96>());
        SwarmSealed::from_bytes(&bytes).unwrap()
    };
    let u = G2::decode_cfg(Copying(&victim.to_bytes()[80..176]), &()).unwrap();
    let (blind, key) = (scalar(5), G2::decode_cfg(Copying(&roster.key().to_bytes()), &()).unwrap());
    for blinded in [u, u + &(G2::generator() * &blind), u * &blind, u + &(key * &blind), key] {
        assert_eq!(refusal(&mallory, &relabelled(&blinded)), OpenError::Refused);
    }
    // And what is blinded does not open under the victim's label either: ciphertexts cannot be changed into one another.
    let owner = gather(roster, shares, &victims);
    let mut bytes = relabelled(&(u + &(G2::generator() * &blind))).to_bytes();
    bytes[48..80].copy_from_slice(victims.digest().as_bytes());
    assert_eq!(refusal(&owner, &SwarmSealed::from_bytes(&bytes).unwrap()), OpenError::Refused);
    assert_eq!(owner.open(&victim).ok().unwrap().key, object_key());

    // A ciphertext to another swarm opens neither as it is nor renamed.
    let stranger = found(700, threshold(2, 2));
    let theirs = wrapped(&stranger.roster.key(), &victims);
    let (expected, got) = (roster.key().id(), stranger.roster.key().id());
    assert_eq!(refusal(&owner, &theirs), OpenError::OtherKey { expected, got });
    let mut bytes = theirs.to_bytes();
    bytes[16..48].copy_from_slice(roster.key().id().as_bytes());
    assert_eq!(refusal(&owner, &SwarmSealed::from_bytes(&bytes).unwrap()), OpenError::Refused);
}

#[test]
fn one_less_than_needed_fits_every_key() {
    // Whatever the key were, there is a fifth share that makes it so beside the four that are known: the four say nothing about it.
    let four: Vec<Scalar> = OLD.shares[..4].iter().map(secret).collect();
    let at = [1, 2, 3, 4, 5];
    let weights = weights(&at);
    let known = weights.iter().zip(&four).fold(Scalar::zero(), |sum, (weight, share)| sum + &(weight.clone() * share));
    for guess in (0..16).map(scalar) {
        let fifth = (guess.clone() - &known) * &weights[4].inv();
        let five: Vec<Scalar> = four.iter().cloned().chain([fifth]).collect();
        assert!(at_zero(&at, &five) == guess);
    }
    let five: Vec<Scalar> = OLD.shares[..5].iter().map(secret).collect();
    let key = at_zero(&at, &five);
    assert_eq!((G2::generator() * &key).encode_fixed::<96>(), OLD.roster.key().to_bytes());
    // Interpolating four as if four were needed gives another key.
    let other = at_zero(&at[..4], &four);
    assert_ne!((G2::generator() * &other).encode_fixed::<96>(), OLD.roster.key().to_bytes());
    // A reshare draws anew: with one key behind them, shares at one place have nothing in common.
    let again = hand_on(&OLD, &[0, 1, 2, 3, 4], 800, threshold(5, 9));
    assert!(again.shares.iter().zip(&OLD.shares).all(|(new, old)| secret(new) != secret(old)));
    assert!(at_zero(&at, &again.shares[..5].iter().map(secret).collect::<Vec<_>>()) == key);
}

/// The library's view of a roster.
fn sharing(roster: &legation_keys::swarm::Roster) -> Sharing<MinSig> {
    let (needed, members) = (roster.threshold().needed(), roster.threshold().members());
    let bytes = roster.to_bytes();
    let points = &bytes[bytes.len() - 96 * usize::from(needed)..];
    let encoded = [&[0][..], &u32::from(members).to_be_bytes(), &[needed as u8], points].concat();
    Sharing::decode_cfg(Copying(&encoded), &(NonZeroU32::new(64).unwrap(), ModeVersion::v0())).unwrap()
}

#[test]
fn the_library_computes_the_same() {
    let label = label("acme");
    let digest = label.digest();
    for committee in [&*OLD, &*NEW] {
        let sharing = sharing(&committee.roster);
        let needed = usize::from(committee.roster.threshold().needed());
        assert_eq!(sharing.public().encode_fixed::<96>(), committee.roster.key().to_bytes());
        let partials: Vec<_> = (0..)
            .zip(&committee.shares)
            .map(|(at, share)| {
                let share = TheirShare::new(Participant::new(at), private(share));
                assert!(share.public::<MinSig>() == sharing.partial_public(share.index).unwrap());
                theirs::sign_message::<MinSig>(&share, NAMESPACE, digest.as_bytes())
            })
            .collect();
        for partial in &partials {
            theirs::verify_message::<MinSig>(&sharing, NAMESPACE, digest.as_bytes(), partial).unwrap();
        }
        let signature = theirs::recover::<MinSig, _>(&sharing, &partials[2..2 + needed], &Sequential).unwrap();

        // What we wrap, it opens; what it wraps, we open.
        let ours = wrapped(&committee.roster.key(), &label).to_bytes();
        let u = G2::decode_cfg(Copying(&ours[80..176]), &()).unwrap();
        let block = |at: usize| Block::new(ours[at..at + 32].try_into().unwrap());
        let opened = tle::decrypt::<MinSig>(&signature, &Ciphertext { u, v: block(176), w: block(208) }).unwrap();
        assert_eq!(ObjectKey::from_bytes(opened[..].try_into().unwrap()), object_key());
        let target = (NAMESPACE, &digest.as_bytes()[..]);
        let message = Block::new([9; 32]);
        let mut source = Source(Counter::new(1));
        let theirs = tle::encrypt::<_, MinSig>(&mut source, *sharing.public(), target, &message).unwrap();
        let bytes = [&ours[..80], &theirs.u.encode_fixed::<96>(), &theirs.v[..], &theirs.w[..]].concat();
        let opener = gather(&committee.roster, &committee.shares[1..], &label);
        let opened = opener.open(&SwarmSealed::from_bytes(&bytes).unwrap()).ok().unwrap();
        assert_eq!(opened.key, ObjectKey::from_bytes([9; 32]));
    }
    // A dealing is a polynomial of the library, and what each member opens is that polynomial's value at its place.
    let three = seats(810, 3);
    let ceremony = ceremony(&three, 810, threshold(2, 3), None);
    let dealing = ceremony.deal(index(1), &mut Counter::new(811)).unwrap().to_bytes();
    let secret = Poly::<Scalar>::new(Source(Counter::new(811)), 1);
    let committed = Poly::<G2>::commit(secret.clone()).encode();
    assert_eq!(dealing[54..54 + 2 * 96], committed[1..], "the same draws give the same coefficients");
    let resealed = |at: usize| {
        let mut parcel = dealing.clone();
        let (info, aad) = (
            [&b"legation-deal-v1"[..], ceremony.digest().as_bytes(), &[0, 1], &[0, at as u8]].concat(),
            Digest::of(&dealing[54..54 + 2 * 96 + 64]),
        );
        let share = secret.eval(&small(at as u64)).encode_fixed::<32>();
        let from = 54 + 2 * 96 + 64 + 1168 * (at - 1);
        parcel[from..from + 1168].copy_from_slice(&seal(three.keys[at - 1].public(), &info, aad.as_bytes(), &share));
        Dealing::from_bytes(&parcel).unwrap()
    };
    for at in 1..=3 {
        assert!(ceremony.open(&resealed(at), index(at as u16), &three.keys[at - 1]).is_ok());
    }
}

/// Seals as a dealer or member would, whatever it likes.
fn seal(to: &SealingPublicKey, info: &[u8], aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let to = <XWing as Kem>::PublicKey::from_bytes(to.as_bytes()).unwrap();
    let mut source = Source(Counter::new(820));
    let (encapsulated, sealed) =
        single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(&OpModeS::Base, &to, info, plain, aad, &mut source)
            .unwrap();
    [&encapsulated.to_bytes()[..], &sealed].concat()
}

/// The order of the groups: no scalar.
pub(crate) const ORDER: [u8; 32] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd, 0xa4,
    0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
];

#[test]
fn a_dealer_that_gives_something_else_is_named() {
    let three = seats(830, 3);
    let ceremony = ceremony(&three, 830, threshold(2, 3), None);
    let good = ceremony.deal(index(2), &mut Counter::new(831)).unwrap().to_bytes();
    // Header, two points, the proof, three parcels; the second parcel is replaced.
    let (points, parcels) = (16 + 32 + 6, 16 + 32 + 6 + 2 * 96 + 64);
    let info = [&b"legation-deal-v1"[..], ceremony.digest().as_bytes(), &[0, 2], &[0, 2]].concat();
    let aad = Digest::of(&good[points..parcels]);
    let (dealer, member) = (index(2), index(2));
    let (mismatch, unopened) = (DealingError::Mismatch { dealer, member }, DealingError::Unopened { dealer, member });
    let other_info = [&info[..info.len() - 1], &[3]].concat();
    let one = small(1).encode_fixed::<32>();
    let cases: [(&str, Vec<u8>, DealingError); 6] = [
        ("another share", seal(three.keys[1].public(), &info, aad.as_bytes(), &one), mismatch),
        ("zero", seal(three.keys[1].public(), &info, aad.as_bytes(), &[0; 32]), mismatch),
        ("the order", seal(three.keys[1].public(), &info, aad.as_bytes(), &ORDER), mismatch),
        ("for another member", seal(three.keys[1].public(), &other_info, aad.as_bytes(), &one), unopened),
        ("to another key", seal(three.keys[0].public(), &info, aad.as_bytes(), &one), unopened),
        ("to another commitment", seal(three.keys[1].public(), &info, &[0; 32], &one), unopened),
    ];
    for (what, parcel, expected) in cases {
        let mut bytes = good.clone();
        bytes[parcels + 1168..parcels + 2 * 1168].copy_from_slice(&parcel);
        let dealing = Dealing::from_bytes(&bytes).unwrap();
        assert!(ceremony.check(&dealing).is_ok(), "{what}: nobody else can see it");
        assert_eq!(ceremony.open(&dealing, member, &three.keys[1]).err(), Some(expected), "{what}");
        assert!(ceremony.open(&dealing, index(1), &three.keys[0]).is_ok(), "{what}: nor others who open theirs");
    }
}

#[test]
fn a_dealing_of_something_else_than_the_share_is_refused() {
    let three = seats(840, 3);
    let ceremony = ceremony(&three, 840, threshold(2, 3), Some(&OLD.roster));
    let good = ceremony.redeal(&OLD.shares[3], &mut Counter::new(841)).unwrap().to_bytes();
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        edit(&mut bytes);
        ceremony.check(&Dealing::from_bytes(&bytes).unwrap()).err()
    };
    assert_eq!(with(&|_| ()), None);
    let (dealer, other) = (index(4), index(5));
    assert_eq!(with(&|bytes| bytes[49] = 5), Some(DealingError::Constant { dealer: other }), "another's name on it");
    let outsider = Some(DealingError::Dealer { dealer: index(10), dealers: 9 });
    assert_eq!(with(&|bytes| bytes[49] = 10), outsider);
    assert_eq!(
        with(&|bytes| bytes[54] ^= 0x20),
        Some(DealingError::Constant { dealer }),
        "the share with another sign"
    );
    assert_eq!(with(&|bytes| bytes[150] ^= 0x20), Some(DealingError::Unproven { dealer }), "another slope");
    assert_eq!(with(&|bytes| bytes[309] ^= 1), Some(DealingError::Unproven { dealer }), "another proof");
    let wider = seats(842, 4);
    let other = crate::swarm::ceremony(&wider, 840, threshold(3, 4), Some(&OLD.roster));
    let mut bytes = other.redeal(&OLD.shares[3], &mut Counter::new(841)).unwrap().to_bytes();
    bytes[16..48].copy_from_slice(ceremony.digest().as_bytes());
    let expected = DealingError::Threshold { expected: threshold(2, 3), got: threshold(3, 4) };
    assert_eq!(ceremony.check(&Dealing::from_bytes(&bytes).unwrap()).err(), Some(expected));
}

/// Members 2 and 3 of 3 of 3 collude. Dealer 3 waits for the others' dealings, and commits to what cancels them: it gives the
/// honest member a share that fits, and the sum is a key that it knows.
#[test]
fn a_key_cannot_be_forced_by_cancelling_the_others() {
    let three = seats(850, 3);
    let ceremony = ceremony(&three, 850, threshold(3, 3), None);
    let others: Vec<Vec<u8>> = (1..=2)
        .map(|at| ceremony.deal(index(at), &mut Counter::new(850 + u64::from(at))).unwrap().to_bytes())
        .collect();
    let constant = |dealing: &[u8]| G2::decode_cfg(Copying(&dealing[54..150]), &()).unwrap();
    let (known, to_honest, anything) = (scalar(1), scalar(2), scalar(3));
    let forced = G2::generator() * &known;
    // A polynomial of degree 2 in the exponent by its values at 0, 1 and 2: nobody knows its coefficients.
    let at_0 = forced - &constant(&others[0]) - &constant(&others[1]);
    let (at_1, at_2) = (G2::generator() * &to_honest, G2::generator() * &anything);
    let half = small(2).inv();
    let square = (at_2 - &(at_1 * &small(2)) + &at_0) * &half;
    let linear = at_1 - &at_0 - &square;
    assert!(at_0 + &linear + &square == at_1, "the honest member's share fits what is committed to");
    assert!(
        at_0 + &constant(&others[0]) + &constant(&others[1]) == forced,
        "the key would be one that the dealer knows"
    );

    // All that is missing is the proof; one of a dealing of its own does not do.
    let mut bytes = ceremony.deal(index(3), &mut Counter::new(853)).unwrap().to_bytes();
    assert!(ceremony.check(&Dealing::from_bytes(&bytes).unwrap()).is_ok());
    for (at, point) in [at_0, linear, square].iter().enumerate() {
        bytes[54 + 96 * at..150 + 96 * at].copy_from_slice(&point.encode_fixed::<96>());
    }
    let dealer = index(3);
    assert_eq!(ceremony.check(&Dealing::from_bytes(&bytes).unwrap()).err(), Some(DealingError::Unproven { dealer }));
    // Nor does another dealer's dealing under one's own name.
    let mut copied = others[0].clone();
    copied[49] = 3;
    assert_eq!(ceremony.check(&Dealing::from_bytes(&copied).unwrap()).err(), Some(DealingError::Unproven { dealer }));
}

/// A dealing of these coefficients, proof and all, by the description of the format alone.
fn dealt(ceremony: &Ceremony, dealer: u16, coefficients: &[Scalar], keys: &[SealingKey]) -> Dealing {
    let context = [&ceremony.digest().as_bytes()[..], &dealer.to_be_bytes()].concat();
    let points: Vec<u8> = coefficients.iter().flat_map(|a| (G2::generator() * a).encode_fixed::<96>()).collect();
    let nonce = scalar(77);
    let hint = (G2::generator() * &nonce).encode_fixed::<96>();
    let challenge = Scalar::map(CHALLENGE, &[&context[..], &points, &hint].concat());
    let (mut response, mut power) = (nonce, Scalar::one());
    for coefficient in coefficients {
        power *= &challenge;
        response += &(power.clone() * coefficient);
    }
    let proof = [challenge.encode_fixed::<32>(), response.encode_fixed::<32>()].concat();
    let (needed, members) = (ceremony.threshold().needed().to_be_bytes(), ceremony.threshold().members().to_be_bytes());
    let mut bytes = [&b"legation-deal-v1"[..], &context, &needed, &members, &points, &proof].concat();
    let aad = Digest::of_parts(&[&points, &proof]);
    for (at, key) in (1u16..).zip(keys) {
        let x = small(u64::from(at));
        let share = coefficients.iter().rev().fold(Scalar::zero(), |value, a| value * &x + a);
        let info = [&b"legation-deal-v1"[..], &context, &at.to_be_bytes()].concat();
        bytes.extend(seal(key.public(), &info, aad.as_bytes(), &share.encode_fixed::<32>()));
    }
    Dealing::from_bytes(&bytes).unwrap()
}

#[test]
fn dealings_that_cancel_each_other_make_nothing() {
    let two = seats(860, 2);
    let ceremony = ceremony(&two, 860, threshold(2, 2), None);
    let (constant, slope) = (scalar(1), scalar(2));
    let one = dealt(&ceremony, 1, &[constant.clone(), slope.clone()], &two.keys);
    // Whoever knows another's secrets can prove what cancels them: a key of zero, or one that every share is.
    for other in [[-constant.clone(), scalar(3)], [scalar(3), -slope.clone()]] {
        let both = checked(&ceremony, &[one.clone(), dealt(&ceremony, 2, &other, &two.keys)]);
        assert_eq!(ceremony.roster(&both), Err(CombineError::Degenerate));
    }
    let other = dealt(&ceremony, 2, &[scalar(3), scalar(4)], &two.keys);
    let committee = conclude(&ceremony, &two, &[one, other]);
    let (key, slope) = (constant + &scalar(3), slope + &scalar(4));
    assert_eq!((G2::generator() * &key).encode_fixed::<96>(), committee.roster.key().to_bytes());
    assert!(secret(&committee.shares[1]) == key + &(slope * &small(2)));
}

#[test]
fn a_member_that_answers_with_nonsense_is_named() {
    let label = label("acme");
    let asker = asker();
    let share = &NEW.shares[4];
    let good = share.release(&label, asker.public(), ASK, &mut Counter::new(1)).unwrap().to_bytes();
    let info =
        [&b"legation-part-v1"[..], NEW.roster.digest().as_bytes(), label.digest().as_bytes(), &[0, 5], ASK.as_bytes()]
            .concat();
    let mut infinity = [0; 48];
    infinity[0] = 0xc0;
    for nonsense in [[0; 48], infinity, [0xff; 48], [0x80; 48]] {
        let bytes = [&good[..82], &seal(asker.public(), &info, &[], &nonsense)].concat();
        let opened = SealedPartial::from_bytes(&bytes).unwrap().open(&asker, ASK);
        assert_eq!(opened.err(), Some(UnsealError::Malformed { member: index(5) }));
    }
    // A point of the group that is no signature: taken, and named when it matters.
    let point = (G1::generator() * &scalar(1)).encode_fixed::<48>();
    let bytes = [&good[..82], &seal(asker.public(), &info, &[], &point)].concat();
    let lie = SealedPartial::from_bytes(&bytes).unwrap().open(&asker, ASK).ok().unwrap();
    let mut opener = Opener::new(&NEW.roster, &label);
    opener.add(lie).unwrap();
    for share in [0, 1, 2, 3, 5, 6] {
        opener.add(partial(&NEW.shares[share], &label)).unwrap();
    }
    let opened = opener.open(&wrapped(&NEW.roster.key(), &label)).ok().unwrap();
    assert_eq!((opened.key, opened.liars), (object_key(), vec![index(5)]));
}
