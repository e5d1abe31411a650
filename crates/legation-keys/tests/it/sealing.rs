//! Wrapped keys: the X-Wing vectors of the draft, RFC 9180 recomputed beside the library, and refusals.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use expect_test::expect_file;
use legation_core::{
    Digest, FragmentIndex, ObjectId, SealingPublicKey, TaskId, encoding,
    task::{Direction, WrapUse, WrappedKey},
};
use legation_keys::{ENCAPSULATED_LEN, KeyTextError, ObjectKey, SealingKey, UnwrapError, WRAPPED_LEN, WrapError, wrap};

use crate::{Counter, Script};

/// draft-connolly-cfrg-xwing-kem appendix C: seed, encapsulation randomness, shared secret, SHA-256 of public key and ciphertext.
const VECTORS: [[&str; 5]; 3] = [
    [
        "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
        "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e235b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
        "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
        "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
        "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
    ],
    [
        "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
        "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdefaee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
        "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
        "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
        "1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154",
    ],
    [
        "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
        "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
        "953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f",
        "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
        "d3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6",
    ],
];

const KEY: [u8; 32] = [0x42; 32];
const OBJECT: ObjectId = ObjectId::from_bytes([0x17; 16]);

fn used_for() -> WrapUse {
    WrapUse {
        task: TaskId::new(Digest::from_bytes([1; 32])),
        fragment: FragmentIndex(2),
        module: Digest::from_bytes([3; 32]),
        direction: Direction::Input,
    }
}

fn recipient() -> SealingKey {
    SealingKey::from_seed(encoding::unhex_array(VECTORS[0][0]).unwrap())
}

fn wrapped() -> WrappedKey {
    wrap(&ObjectKey::from_bytes(KEY), OBJECT, recipient().public(), &used_for(), &mut Counter::new(1)).unwrap()
}

/// AEAD key and nonce of an HPKE base-mode context (RFC 9180 sections 4 and 5.1), written from the RFC.
fn key_schedule(shared: &[u8], info: &[u8]) -> ([u8; 32], [u8; 12]) {
    let suite = [&b"HPKE"[..], &[0x64, 0x7a], &[0, 1], &[0, 2]].concat();
    let hmac = |key: &[u8], parts: &[&[u8]]| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat());
        <[u8; 32]>::try_from(tag.as_ref()).unwrap()
    };
    let extract = |salt: &[u8], label: &[u8], ikm: &[u8]| hmac(salt, &[b"HPKE-v1", &suite, label, ikm]);
    let context = [&[0][..], &extract(b"", b"psk_id_hash", b""), &extract(b"", b"info_hash", info)].concat();
    let secret = extract(shared, b"secret", b"");
    let expand = |label: &[u8], len: u8| hmac(&secret, &[&[0, len], b"HPKE-v1", &suite, label, &context, &[1]]);
    (expand(b"key", 32), expand(b"base_nonce", 12)[..12].try_into().unwrap())
}

#[test]
fn published_vectors_and_an_independent_key_schedule() {
    let info = [&b"legation-wrap-v1"[..], &[1; 32], &[0, 0, 0, 2], &[3; 32], &[0], &[0; 8]].concat();
    for [seed, randomness, shared, public, ciphertext] in VECTORS {
        let key = SealingKey::from_seed(encoding::unhex_array(seed).unwrap());
        assert_eq!(key.public().digest().to_string(), public);
        let mut entropy = Script(encoding::unhex(randomness).unwrap());
        let wrapped = wrap(&ObjectKey::from_bytes(KEY), OBJECT, key.public(), &used_for(), &mut entropy).unwrap();
        assert!(entropy.0.is_empty(), "wrapping draws 64 bytes");
        assert_eq!(Digest::of(&wrapped.encapsulated).to_string(), ciphertext);
        assert_eq!((wrapped.encapsulated.len(), wrapped.sealed.len()), (ENCAPSULATED_LEN, WRAPPED_LEN));

        let (aead, nonce) = key_schedule(&encoding::unhex(shared).unwrap(), &info);
        let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &aead).unwrap());
        let mut sealed = wrapped.sealed.clone();
        let opened =
            aead.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(OBJECT.as_bytes()), &mut sealed).unwrap();
        assert_eq!(opened, KEY);
        assert_eq!(key.unwrap(&wrapped, &used_for()), Ok(ObjectKey::from_bytes(KEY)));
    }
}

#[test]
fn format_does_not_change_silently() {
    let [seed, randomness, ..] = VECTORS[0];
    let key = SealingKey::from_seed(encoding::unhex_array(seed).unwrap());
    let mut text = format!("key file  {}", &*key.to_text());
    for direction in [Direction::Input, Direction::Output, Direction::Log] {
        let used_for = WrapUse { direction, ..used_for() };
        let mut entropy = Script(encoding::unhex(randomness).unwrap());
        let wrapped = wrap(&ObjectKey::from_bytes(KEY), OBJECT, key.public(), &used_for, &mut entropy).unwrap();
        text += &format!("{:<9} {}\n", format!("{direction:?}").to_lowercase(), encoding::hex(&wrapped.sealed));
    }
    expect_file!["golden/wrap-v1.txt"].assert_eq(&text);
}

#[test]
fn opens_only_for_what_it_was_wrapped_for() {
    let (key, wrapped, used) = (recipient(), wrapped(), used_for());
    assert_eq!(key.unwrap(&wrapped, &used), Ok(ObjectKey::from_bytes(KEY)));
    let uses = [
        ("task", WrapUse { task: TaskId::new(Digest::from_bytes([9; 32])), ..used }),
        ("fragment", WrapUse { fragment: FragmentIndex(3), ..used }),
        ("module", WrapUse { module: Digest::from_bytes([9; 32]), ..used }),
        ("output", WrapUse { direction: Direction::Output, ..used }),
        ("log", WrapUse { direction: Direction::Log, ..used }),
    ];
    for (what, other) in uses {
        assert_eq!(key.unwrap(&wrapped, &other), Err(UnwrapError::Refused), "{what}");
    }
    let renamed = WrappedKey { object: ObjectId::from_bytes([0; 16]), ..wrapped.clone() };
    assert_eq!(key.unwrap(&renamed, &used), Err(UnwrapError::Refused));

    let other = SealingKey::generate(&mut Counter::new(2));
    let (wrapped_to, own) = (wrapped.recipient, other.public().digest());
    assert_eq!(other.unwrap(&wrapped, &used), Err(UnwrapError::OtherRecipient { wrapped_to, own }));
    let relabelled = WrappedKey { recipient: own, ..wrapped };
    assert_eq!(other.unwrap(&relabelled, &used), Err(UnwrapError::Refused));
}

#[test]
fn altered_parts_are_refused() {
    let (key, wrapped, used) = (recipient(), wrapped(), used_for());
    for at in 0..WRAPPED_LEN {
        let mut bad = wrapped.clone();
        bad.sealed[at] ^= 1;
        assert_eq!(key.unwrap(&bad, &used), Err(UnwrapError::Refused), "sealed byte {at}");
    }
    for at in (0..ENCAPSULATED_LEN).step_by(31).chain([1087, 1088, 1119]) {
        let mut bad = wrapped.clone();
        bad.encapsulated[at] ^= 1;
        assert_eq!(key.unwrap(&bad, &used), Err(UnwrapError::Refused), "encapsulated byte {at}");
    }
    for len in [0, 1, ENCAPSULATED_LEN - 1, ENCAPSULATED_LEN + 1] {
        let mut bad = wrapped.clone();
        bad.encapsulated.resize(len, 0);
        let expected = UnwrapError::Length { part: "encapsulated key", expected: ENCAPSULATED_LEN, got: len };
        assert_eq!(key.unwrap(&bad, &used), Err(expected));
    }
    for len in [0, 16, WRAPPED_LEN - 1, WRAPPED_LEN + 1] {
        let mut bad = wrapped.clone();
        bad.sealed.resize(len, 0);
        let expected = UnwrapError::Length { part: "sealed object key", expected: WRAPPED_LEN, got: len };
        assert_eq!(key.unwrap(&bad, &used), Err(expected));
    }
}

/// Points of low order on Curve25519 and its twist, in every spelling that matters (RFC 7748 section 6.1, libsodium's list).
fn low_order_points() -> Vec<[u8; 32]> {
    let p_plus = |low: u8| {
        let mut point = [0xff; 32];
        (point[0], point[31]) = (low, 0x7f);
        point
    };
    let small = |value: u8| {
        let mut point = [0; 32];
        point[0] = value;
        point
    };
    let mut points = vec![
        small(0),
        small(1),
        encoding::unhex_array("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800").unwrap(),
        encoding::unhex_array("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157").unwrap(),
        p_plus(0xec),
        p_plus(0xed),
        p_plus(0xee),
    ];
    let high_bit: Vec<_> = points
        .iter()
        .map(|p| {
            let mut p = *p;
            p[31] |= 0x80;
            p
        })
        .collect();
    points.extend(high_bit);
    points
}

#[test]
fn keys_that_hide_nothing_are_refused() {
    let good = *recipient().public().as_bytes();
    let (used, key) = (used_for(), ObjectKey::from_bytes(KEY));
    let mut bad = vec![("zero", [0; SealingPublicKey::LEN]), ("ones", [0xff; SealingPublicKey::LEN])];
    let mut zero_vector = good;
    zero_vector[..1152].fill(0);
    bad.push(("zero ML-KEM vector", zero_vector));
    let mut unreduced = good;
    (unreduced[0], unreduced[1]) = (0xff, 0xff);
    bad.push(("unreduced ML-KEM vector", unreduced));
    for point in low_order_points() {
        let mut low_order = good;
        low_order[1184..].copy_from_slice(&point);
        bad.push(("low-order X25519", low_order));

        let mut degenerate = wrapped();
        degenerate.encapsulated[1088..].copy_from_slice(&point);
        assert_eq!(recipient().unwrap(&degenerate, &used), Err(UnwrapError::Degenerate), "{}", encoding::hex(&point));
    }
    for (what, bytes) in bad {
        let public = SealingPublicKey::from_bytes(bytes);
        let expected = WrapError::Recipient { recipient: public.digest() };
        assert_eq!(wrap(&key, OBJECT, &public, &used, &mut Counter::new(1)), Err(expected), "{what}");
    }
}

#[test]
fn fresh_randomness_gives_fresh_bytes() {
    let mut entropy = Counter::new(5);
    let key = ObjectKey::generate(&mut entropy);
    let [a, b] = [(); 2].map(|()| wrap(&key, OBJECT, recipient().public(), &used_for(), &mut entropy).unwrap());
    assert!(a.encapsulated != b.encapsulated && a.sealed != b.sealed);
    assert_eq!(recipient().unwrap(&a, &used_for()), recipient().unwrap(&b, &used_for()));
    assert_eq!(recipient().unwrap(&b, &used_for()), Ok(key));
}

#[test]
fn key_files() {
    let sealing = recipient();
    let object = ObjectKey::from_bytes(KEY);
    assert_eq!(SealingKey::from_text(&sealing.to_text()).unwrap().public(), sealing.public());
    assert_eq!(
        SealingKey::from_text(&format!("{}\r\n\n", sealing.to_text().trim_end())).unwrap().public(),
        sealing.public()
    );
    assert_eq!(ObjectKey::from_text(&object.to_text()), Ok(ObjectKey::from_bytes(KEY)));

    let kind = |e| matches!(e, KeyTextError::Kind { expected: "legation-sealing-key-v1:" });
    let encoding = |e| matches!(e, KeyTextError::Encoding(_));
    let line = sealing.to_text();
    let line = line.trim_end();
    let long = format!("{line}{}", " ".repeat(300));
    for text in ["", "x", &object.to_text(), &format!(" {line}"), &long] {
        assert!(kind(SealingKey::from_text(text).unwrap_err()), "{text}");
    }
    for text in
        [&line[..line.len() - 1], &format!("{line}AAAA"), "legation-sealing-key-v1:", "legation-sealing-key-v1:AAAA"]
    {
        assert!(encoding(SealingKey::from_text(text).unwrap_err()), "{text}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?} {:?}", recipient(), ObjectKey::from_bytes(KEY));
    assert_eq!(shown, format!("SealingKey({}, private) ObjectKey(secret)", recipient().public().digest().short()));
}
