//! Times, units, ids, keys and encodings: what their unit tests do not say.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use legation_core::{
    Bytes, Digest, EnclaveId, FragmentId, FragmentIndex, Fuel, KeyId, MicroUsd, Millicores, Millis, ObjectId,
    ProviderId, PublicKey, Region, Rejection, SealingPublicKey, Signature, TaskId, TenantId, UnixTime,
    claims::{Anchor, Anchors, Confidence, KeyBinding, Rate, TeeKind},
    encoding, sha512,
    task::{FRAGMENTS_MAX, INPUTS_MAX},
};

use crate::{
    party::Party,
    world::{Plan, build, key, sealed},
};

#[test]
fn digests_are_those_of_fips_180_4() {
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Digest::of(b"abc").to_string(), abc);
    assert_eq!(Digest::of_parts(&[b"a", b"", b"bc"]), Digest::of(b"abc"));
    assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    assert_eq!(abc.parse::<Digest>().unwrap(), Digest::of(b"abc"));
    assert_eq!(
        encoding::hex(&sha512(&[b"a", b"bc"])),
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    );
    assert_eq!(KeyBinding::report_data(b"x"), sha512(&[b"legation-key-v1x"]));
    for bad in [&abc[1..], &abc.to_uppercase(), &format!("{abc}00"), "", &format!(" {abc}")] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
        assert!(serde_json::from_str::<TaskId>(&format!("{bad:?}")).is_err(), "{bad}");
    }
}

#[test]
fn keys_are_those_of_rfc_8032_and_8410() {
    // RFC 8032 section 7.1, TEST 2.
    let seed = encoding::unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb").unwrap();
    let public = encoding::unhex_array("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c").unwrap();
    let signature = encoding::unhex_array(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    )
    .unwrap();
    let key = PublicKey::from_bytes(public);
    assert_eq!(Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref(), key.as_bytes());
    assert_eq!(key.verify(&[0x72], &Signature(signature)), Ok(()));
    assert!(key.verify(&[0x73], &Signature(signature)).is_err());
    assert!(key.verify(&[], &Signature(signature)).is_err());
    for i in 0..64 {
        let mut other = signature;
        other[i] ^= 1;
        assert!(key.verify(&[0x72], &Signature(other)).is_err(), "byte {i}");
    }
    // S + L is the same signature to a careless verifier (RFC 8032 section 5.1.7 wants S below L).
    let mut order = encoding::unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0_u16;
    for (byte, s) in order.iter_mut().zip(&signature[32..]) {
        carry += u16::from(*byte) + u16::from(*s);
        *byte = carry as u8;
        carry >>= 8;
    }
    let mut malleable = signature;
    malleable[32..].copy_from_slice(&order);
    assert!(carry == 0 && key.verify(&[0x72], &Signature(malleable)).is_err());

    let spki = key.spki();
    assert_eq!(encoding::hex(&spki[..12]), "302a300506032b6570032100");
    assert_eq!((PublicKey::from_spki(&spki), key.id().digest()), (Some(key), Digest::of(&spki)));
    assert_eq!(EnclaveId::from(key.id()), key.enclave_id());
    assert_eq!(KeyId::from(key.enclave_id()), key.id());
    for bad in [&spki[..43], &spki[1..], &[&spki[..], &[0]].concat(), &[]] {
        assert_eq!(PublicKey::from_spki(bad), None);
    }
    let mut x25519 = spki;
    x25519[8] = 0x6e;
    assert_eq!(PublicKey::from_spki(&x25519), None, "another curve");
    let text = key.to_string();
    assert_eq!(text.parse::<PublicKey>().unwrap(), key);
    for bad in [text.trim_end_matches('='), &text[4..], &format!("{text}\n"), &encoding::hex(key.as_bytes())] {
        assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
    }
    assert_eq!(format!("{key:?}"), format!("PublicKey({})", key.id().short()));

    let sealing = SealingPublicKey::from_bytes([7; SealingPublicKey::LEN]);
    let json = serde_json::to_string(&sealing).unwrap();
    assert_eq!(serde_json::from_str::<SealingPublicKey>(&json).unwrap(), sealing);
    let short = format!("{:?}", encoding::base64(&[7; SealingPublicKey::LEN - 1]));
    assert!(serde_json::from_str::<SealingPublicKey>(&short).is_err());
    assert_eq!(sealing.digest(), Digest::of(sealing.as_bytes()));
}

#[test]
fn names_are_like_dns_labels() {
    let longest = "a".repeat(63);
    for good in ["a", "0", "eu-north-1", "a-", "a--b", &longest] {
        assert_eq!(Region::new(good).unwrap().as_str(), good);
        assert_eq!(good.parse::<TenantId>().unwrap().to_string(), good);
        assert_eq!(serde_json::from_str::<ProviderId>(&format!("{good:?}")).unwrap().as_str(), good);
    }
    let long = "a".repeat(64);
    for bad in ["", "-a", "A", "a b", "a_b", "a.b", "\u{e5}", "a\n", "a\u{0}", &long, &"a".repeat(1 << 20)] {
        let error = Region::new(bad).unwrap_err().to_string();
        assert!(error.contains("is not a name: use 1 to 63 of a-z") && error.len() < 500, "{error}");
        assert!(serde_json::from_str::<ProviderId>(&serde_json::to_string(bad).unwrap()).is_err());
    }
}

#[test]
fn ids_read_as_they_are_written() {
    let object = ObjectId::from_bytes([0xab; 16]);
    assert_eq!(object.to_string(), "ab".repeat(16));
    assert_eq!("ab".repeat(16).parse::<ObjectId>().unwrap(), object);
    for bad in ["ab".repeat(15), "ab".repeat(17), "AB".repeat(16), String::new()] {
        assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
    }
    let task = TaskId::new(Digest::of(b"abc"));
    assert_eq!(FragmentId { task, index: FragmentIndex(3) }.to_string(), "ba7816bf8f01#3");
    assert_eq!(format!("{task:?}"), "TaskId(ba7816bf8f01)");
    assert_eq!(serde_json::to_string(&task).unwrap(), format!("\"{}\"", Digest::of(b"abc")));
    assert_eq!(serde_json::to_string(&FragmentIndex(3)).unwrap(), "3");
}

#[test]
fn times_and_quantities_stop_at_their_ends() {
    let (first, last) = (UnixTime(0), UnixTime(u64::MAX));
    assert_eq!((last.plus(1), first.minus(1), first.since(last), last.since(first)), (last, first, 0, u64::MAX));
    for (unix, text) in [
        (4_102_444_799, "2099-12-31T23:59:59Z"),
        (4_107_542_399, "2100-02-28T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (253_402_300_800, "10000-01-01T00:00:00Z"),
    ] {
        assert_eq!(UnixTime(unix).to_string(), text);
    }
    assert!(last.to_string().ends_with('Z'), "the end of time can be shown");
    assert_eq!([0, 1, 999, 1000, 1001].map(|ms| Millis(ms).seconds_up()), [0, 1, 1, 1, 2]);
    assert_eq!(Millis(u64::MAX).seconds_up(), 18_446_744_073_709_552);

    assert_eq!(Fuel(u64::MAX).saturating_add(Fuel(1)), Fuel(u64::MAX));
    assert_eq!(Fuel(1).saturating_sub(Fuel(2)), Fuel::ZERO);
    assert_eq!((Fuel(u64::MAX).checked_add(Fuel(1)), Fuel(1).checked_sub(Fuel(2))), (None, None));
    assert_eq!([MicroUsd(u64::MAX), MicroUsd(1)].into_iter().sum::<MicroUsd>(), MicroUsd(u64::MAX));
    assert_eq!((Bytes::kib(1), Bytes::mib(1), Bytes::gib(1)), (Bytes(1 << 10), Bytes(1 << 20), Bytes(1 << 30)));
    for (shown, text) in [
        (Fuel(9_999_999).to_string(), "9999999 fuel"),
        (Fuel(10_000_000).to_string(), "10 Mfuel"),
        (Bytes(1023).to_string(), "1023 B"),
        (Bytes(1024).to_string(), "1 KiB"),
        (Bytes((1 << 30) - 1).to_string(), "1023.9 MiB"),
        (MicroUsd(u64::MAX).to_string(), "18446744073709.551615 usd"),
        (Millicores(1).to_string(), "0.001 cores"),
    ] {
        assert_eq!(shown, text);
    }
}

#[test]
fn prices_are_rounded_up_and_do_not_overflow() {
    let rate = |core, gib| Rate { core_hour: MicroUsd(core), gib_hour: MicroUsd(gib) };
    for (rate, cpu, memory, hour) in [
        (rate(20_000, 5_000), 1000, Bytes::mib(512), 22_500),
        (rate(20_000, 5_000), 1, Bytes(0), 20),
        (rate(1, 0), 1, Bytes(0), 1),
        (rate(1, 1), 1, Bytes(1), 2),
        (rate(0, 0), u64::MAX, Bytes(u64::MAX), 0),
        (rate(u64::MAX, u64::MAX), u64::MAX, Bytes(u64::MAX), u64::MAX),
    ] {
        assert_eq!(rate.per_hour(Millicores(cpu), memory), MicroUsd(hour), "{rate:?} {cpu} {memory}");
    }
    let charge = |micros| rate(20_000, 5_000).charge(Millicores(1000), Bytes::mib(512), micros).0;
    assert_eq!([0, 1, 160_000, 160_001, 3_600_000_000].map(charge), [0, 1, 1, 2, 22_500]);
    assert_eq!(rate(u64::MAX, 0).charge(Millicores(u64::MAX), Bytes(0), u64::MAX), MicroUsd(u64::MAX));
}

#[test]
fn byte_strings_have_one_spelling() {
    for bytes in [&b""[..], b"a", b"ab", b"abc", &[0xff; 33]] {
        assert_eq!(encoding::unbase64(&encoding::base64(bytes)).unwrap(), bytes);
        assert_eq!(encoding::unhex(&encoding::hex(bytes)).unwrap(), bytes);
    }
    for bad in ["YQ", "YQ=", "YR==", "YQ==YQ==", "YQ==\n", " YQ==", "Y-==", "YQ\u{0}=", "\u{e5}"] {
        assert!(encoding::unbase64(bad).is_err(), "{bad:?}");
    }
    for bad in ["6", "6G", "61 ", "0x61", "6\u{e5}"] {
        assert!(encoding::unhex(bad).is_err(), "{bad:?}");
    }
    assert_eq!(encoding::unbase64_array::<2>("YQ==").unwrap_err().to_string(), "expected 2 bytes, got 1");
}

#[test]
fn anchors_and_kinds_read_as_they_are_written() {
    for (anchor, json, shown) in [
        (
            Anchor::Production("amd-milan".to_owned()),
            r#"{"kind":"production","name":"amd-milan"}"#,
            "production(amd-milan)",
        ),
        (Anchor::Development("bench".to_owned()), r#"{"kind":"development","name":"bench"}"#, "development(bench)"),
    ] {
        assert_eq!((serde_json::to_string(&anchor).unwrap().as_str(), anchor.to_string().as_str()), (json, shown));
        assert_eq!(serde_json::from_str::<Anchor>(json).unwrap(), anchor);
    }
    assert!(serde_json::from_str::<Anchor>(r#"{"kind":"production","name":"x","more":1}"#).is_err());
    let kinds = ["sev-snp", "tdx", "sgx", "nitro", "tpm", "az-snp-vtpm", "az-tdx-vtpm", "dev-snp", "dev-tpm"];
    assert_eq!(TeeKind::ALL.map(|k| k.to_string()), kinds);
    assert!(TeeKind::ALL.iter().all(|k| k.is_development() == k.name().starts_with("dev-")));
    assert!(TeeKind::ALL.iter().all(|k| TeeKind::named(k.name()) == Some(*k)));
    assert_eq!(
        serde_json::to_string(&TeeKind::ALL).unwrap(),
        r#"["sev-snp","tdx","sgx","nitro","tpm","az-snp-vtpm","az-tdx-vtpm","dev-snp","dev-tpm"]"#
    );
    assert!(Confidence(1000) > Confidence(999));
    let none: Anchors = serde_json::from_str(r#"{"operators":[]}"#).unwrap();
    assert_eq!(none, Anchors::default());
    assert!(serde_json::from_str::<Anchors>(r#"{"operators":[],"vendors":[]}"#).is_err());
}

#[test]
fn a_refusal_reads_as_one_line() {
    let bare = Rejection::new("a.b", "a claim");
    assert_eq!(bare.to_string(), "a.b: a claim");
    let whole = bare.clone().expected("this").got(7).fix("do that");
    assert_eq!(whole.to_string(), "a.b: a claim; expected this; got 7; do that");
    let json = r#"{"check":"a.b","claim":"a claim","expected":"this","got":"7","fix":"do that"}"#;
    assert_eq!(serde_json::to_string(&whole).unwrap(), json);
    assert_eq!(serde_json::from_str::<Rejection>(json).unwrap(), whole);
}

#[test]
fn requests_are_bounded() {
    use legation_core::{statement::Request, task::Input};
    type Change = fn(&mut Request);
    let world = build(Plan::single(), &crate::world::no_bend);
    let whole = world.envelopes.iter().find_map(|e| e.peek::<Request>().ok()).unwrap();
    let check = |change: Change| {
        let mut request = whole.clone();
        change(&mut request);
        request.validate().map_err(|why| why.check)
    };
    let table: [(&str, Change, Option<&str>); 20] = [
        ("as it is", |_| (), None),
        ("most fragments", |r| r.fragments = vec![bare(r); FRAGMENTS_MAX], None),
        ("a fragment too many", |r| r.fragments = vec![bare(r); FRAGMENTS_MAX + 1], Some("request.fragments")),
        ("no fragment", |r| r.fragments.clear(), Some("request.fragments")),
        ("a week", |r| r.expires = r.created.plus(604_800), None),
        ("a week and a second", |r| r.expires = r.created.plus(604_801), Some("request.expires")),
        ("no time", |r| r.expires = r.created, Some("request.expires")),
        ("a long name", |r| r.name = "x".repeat(4097), Some("request.name")),
        ("most inputs", |r| r.fragments[0].inputs = vec![Input::Sealed(sealed("x", None)); INPUTS_MAX], None),
        (
            "an input too many",
            |r| r.fragments[0].inputs = vec![Input::Sealed(sealed("x", None)); INPUTS_MAX + 1],
            Some("request.inputs"),
        ),
        ("arguments too many", |r| r.fragments[0].args = vec![String::new(); 65], Some("request.inputs")),
        ("a long argument", |r| r.fragments[0].args = vec!["x".repeat(4097)], Some("request.args")),
        ("an argument with NUL", |r| r.fragments[0].args = vec!["\0".to_owned()], Some("request.args")),
        ("a long name of a fragment", |r| r.fragments[0].name = "x".repeat(4097), Some("request.args")),
        (
            "a long name of an input",
            |r| {
                let Input::Sealed(input) = &mut r.fragments[0].inputs[0] else { return };
                input.name = "x".repeat(4097);
            },
            Some("request.args"),
        ),
        (
            "its own output",
            |r| r.fragments[0].inputs.push(Input::Output { fragment: FragmentIndex(0) }),
            Some("request.order"),
        ),
        ("no memory", |r| r.fragments[0].demand.memory = Bytes(0), Some("request.demand")),
        ("no fuel", |r| r.fragments[0].demand.fuel = Fuel(0), Some("request.demand")),
        ("no time for a fragment", |r| r.fragments[0].demand.time = Millis(0), Some("request.demand")),
        (
            "more output than there can be",
            |r| r.fragments[0].demand.output = Bytes(Bytes::gib(1).0 + 1),
            Some("request.demand"),
        ),
    ];
    for (what, change, refused) in table {
        assert_eq!(check(change).err().as_deref(), refused, "{what}");
    }
    // More subjects than an envelope may have.
    let mut request = whole;
    request.fragments[0].inputs = vec![Input::Sealed(sealed("x", None)); 255];
    request.fragments = vec![request.fragments[0].clone(); 16];
    request.validate().unwrap();
    request.fragments.push(request.fragments[0].clone());
    assert_eq!(request.validate().unwrap_err().check, "request.inputs");
}

fn bare(request: &legation_core::statement::Request) -> legation_core::task::Fragment {
    legation_core::task::Fragment { owner: None, inputs: Vec::new(), args: Vec::new(), ..request.fragments[0].clone() }
}

#[test]
fn results_are_what_nobody_reads() {
    use legation_core::{statement::Request, task::Input};
    let world = build(Plan { rounds: 1, ..Plan::default() }, &crate::world::no_bend);
    let mut request = world.envelopes.iter().find_map(|e| e.peek::<Request>().ok()).unwrap();
    assert_eq!(request.results(), [FragmentIndex(3)]);
    request.fragments[3].inputs.remove(1);
    assert_eq!(request.results(), [FragmentIndex(1), FragmentIndex(3)]);
    assert!(request.fragments[3].is_reducing() && !request.fragments[0].is_reducing());
    assert_eq!(request.fragments[3].upstream().collect::<Vec<_>>(), [FragmentIndex(0), FragmentIndex(2)]);
    request.fragments[3].inputs = vec![Input::Sealed(sealed("x", None))];
    assert_eq!(request.results().len(), 4);
    assert_eq!(request.owner_key(&request.fragments[0]), key("north"));
    assert_eq!(request.owner_sealing(&request.fragments[3]), &Party::new("client").sealing());
}
