//! Release policies, labels, wrapped keys, releases: one spelling each, and what they let pass.

use legation_core::{
    Digest, EnclaveId, FragmentIndex, LeaseId, MicroUsd, ObjectId, ProviderId, Requirement, RevocationEpoch, TaskId,
    TenantId, UnixTime,
    claims::TeeKind,
    custody::{
        Asking, Called, Chair, CustodyRef, Epoch, Generation, Label, NanoRho, Only, PrivacyBound, Purpose,
        RELEASE_NAMES_MAX, RELEASE_TEXT_MAX, Release, ReleaseFor, ReleasePolicy, ReleaseRules, Released, SwarmSealed,
        Threshold, Version, ceremony_digest, check_chips,
    },
    dsse,
    requirement::Candidate,
    statement::{Passport, Tier},
};
use proptest::prelude::*;

use crate::{
    custody::{Bend, T0, charter},
    party::{Party, evidence},
    world::{digest, judged, key, passport_of},
};

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn rules() -> ReleaseRules {
    ReleaseRules {
        version: Version,
        tenant: tenant("acme"),
        owner: key("client"),
        work: ReleaseFor {
            tenants: vec![tenant("acme"), tenant("clinic")],
            modules: Only::Only(vec![digest("train.wasm")]),
            purposes: Only::Only(vec![Purpose::new("research").unwrap()]),
        },
        kinds: Only::Only(vec![TeeKind::SevSnp, TeeKind::DevSnp]),
        require: Requirement::parse("region == \"eu-north\"").unwrap(),
        privacy: Some(PrivacyBound { rho_max: NanoRho(50_000_000), delta_log10: -6 }),
        not_after: UnixTime(T0 + 1000),
    }
}

fn passport() -> Passport {
    let judged = judged("enclave-north", UnixTime(T0));
    let evidence = evidence(&judged);
    passport_of(judged, &evidence, UnixTime(T0), digest("appointment"))
}

#[test]
fn a_policy_lets_pass_what_it_names_and_nothing_else() {
    let (passport, clinic, research) = (passport(), tenant("clinic"), Purpose::new("research").unwrap());
    let (other_tenant, other_purpose) = (tenant("bank"), Purpose::new("marketing").unwrap());
    let asking = || Asking {
        tenant: &clinic,
        module: digest("train.wasm"),
        purpose: Some(&research),
        candidate: Candidate { passport: &passport, price_hour: MicroUsd(0) },
        privacy: Some(PrivacyBound { rho_max: NanoRho(50_000_000), delta_log10: -6 }),
    };
    let policy = ReleasePolicy::write(rules()).unwrap();
    let check =
        |rules: &ReleaseRules, asking: Asking<'_>, at: u64| rules.admit(&asking, UnixTime(at)).map_err(|why| why.check);
    assert_eq!(check(&policy, asking(), T0 + 1000), Ok(()));
    let spend = |rho, delta_log10| Some(PrivacyBound { rho_max: NanoRho(rho), delta_log10 });
    for (what, asking, refused) in [
        ("another tenant", Asking { tenant: &other_tenant, ..asking() }, "release.tenant"),
        ("another module", Asking { module: digest("leak.wasm"), ..asking() }, "release.module"),
        ("another purpose", Asking { purpose: Some(&other_purpose), ..asking() }, "release.purpose"),
        ("no purpose", Asking { purpose: None, ..asking() }, "release.purpose"),
        ("too much spent", Asking { privacy: spend(50_000_001, -6), ..asking() }, "release.privacy"),
        ("a larger delta", Asking { privacy: spend(1, -5), ..asking() }, "release.privacy"),
        ("nobody accounts", Asking { privacy: None, ..asking() }, "release.privacy"),
    ] {
        assert_eq!(check(&policy, asking, T0), Err(refused.to_owned()), "{what}");
    }
    assert_eq!(check(&policy, asking(), T0 + 1001), Err("release.dates".to_owned()));
    let bent = |bend: fn(&mut ReleaseRules)| {
        let mut rules = rules();
        bend(&mut rules);
        check(&rules, asking(), T0)
    };
    assert_eq!(bent(|r| r.kinds = Only::Only(vec![TeeKind::SevSnp])), Err("release.kind".to_owned()));
    assert_eq!(bent(|r| r.require = Requirement::parse("region == \"us\"").unwrap()), Err("require.region".to_owned()));
    let open: fn(&mut ReleaseRules) = |r| {
        (r.work.modules, r.work.purposes, r.kinds) = (Only::Any, Only::Any, Only::Any);
        r.privacy = None;
    };
    assert_eq!(bent(open), Ok(()));
    let mut any = rules();
    open(&mut any);
    assert_eq!(check(&any, Asking { purpose: None, privacy: None, module: digest("x"), ..asking() }, T0), Ok(()));
}

#[test]
fn policies_that_cannot_be_are_refused() {
    let check = |bend: fn(&mut ReleaseRules)| {
        let mut rules = rules();
        bend(&mut rules);
        ReleasePolicy::write(rules).map(|_| ()).map_err(|why| why.check)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let cases: &[(&str, Bend<ReleaseRules>)] = &[
        ("no tenant", |r| r.work.tenants.clear()),
        ("tenants in another order", |r| r.work.tenants.reverse()),
        ("a tenant twice", |r| r.work.tenants = vec![tenant("acme"); 2]),
        ("no module", |r| r.work.modules = Only::Only(Vec::new())),
        ("too many modules", |r| {
            let mut all: Vec<_> = (0..=RELEASE_NAMES_MAX).map(|i| digest(&i.to_string())).collect();
            all.sort_unstable();
            r.work.modules = Only::Only(all);
        }),
        ("a purpose twice", |r| r.work.purposes = Only::Only(vec![Purpose::new("a").unwrap(); 2])),
        ("no kind", |r| r.kinds = Only::Only(Vec::new())),
        ("no privacy to spend", |r| r.privacy = Some(PrivacyBound { rho_max: NanoRho(0), delta_log10: -6 })),
        ("a delta of one", |r| r.privacy = Some(PrivacyBound { rho_max: NanoRho(1), delta_log10: 0 })),
        ("a delta of nothing", |r| r.privacy = Some(PrivacyBound { rho_max: NanoRho(1), delta_log10: -31 })),
    ];
    for (what, bend) in cases {
        assert_eq!(check(*bend), Err("release.form".to_owned()), "{what}");
    }
    for bad in ["", "-a", ".a", "A", "a b", "a_b", &"a".repeat(64)] {
        assert!(Purpose::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_policy_has_one_text() {
    let policy = ReleasePolicy::write(rules()).unwrap();
    let text = policy.text().to_owned();
    assert_eq!(policy.digest(), Digest::of(text.as_bytes()));
    assert_eq!(ReleasePolicy::parse(&text).unwrap(), policy);
    assert!(text.starts_with(r#"{"version":"legation-release/v1","tenant":"acme","owner":""#), "{text}");
    assert!(text.contains(r#""for":{"tenants":["acme","clinic"],"modules":{"only":[""#), "{text}");
    let mut any = rules();
    (any.work.modules, any.privacy) = (Only::Any, None);
    let any = ReleasePolicy::write(any).unwrap().text().to_owned();
    assert!(any.contains(r#""modules":"any""#) && any.contains(r#""privacy":null"#), "{any}");
    let moved = text.replacen(r#""tenant":"acme","#, "", 1);
    let moved = format!(r#"{},"tenant":"acme"}}"#, moved.strip_suffix('}').unwrap());
    for (what, other, refused) in [
        ("white space", text.replacen(':', ": ", 1), "release.spelling"),
        ("a newline", format!("{text}\n"), "release.spelling"),
        ("another order", moved, "release.spelling"),
        ("an escape", text.replacen("acme", "\\u0061cme", 1), "release.spelling"),
        ("privacy left out", any.replacen(r#""privacy":null,"#, "", 1), "release.spelling"),
        ("modules left out", any.replacen(r#""modules":"any","#, "", 1), "release.form"),
        ("more", text.replacen('{', r#"{"more":1,"#, 1), "release.form"),
        (
            "a field twice",
            text.replacen(r#""tenant":"acme","#, r#""tenant":"acme","tenant":"acme","#, 1),
            "release.form",
        ),
        ("another version", text.replacen("release/v1", "release/v2", 1), "release.form"),
        (
            "a list for a struct",
            text.replacen(r#"{"rho_max":50000000,"delta_log10":-6}"#, "[50000000,-6]", 1),
            "release.form",
        ),
        ("a word for a list", any.replacen(r#""any""#, r#"{"any":null}"#, 1), "release.form"),
        ("a negative rho", text.replacen("50000000", "-1", 1), "release.form"),
        ("a rho of many digits", text.replacen("50000000", "99999999999999999999", 1), "release.form"),
        ("a requirement that is none", text.replacen("region ==", "region =", 1), "release.form"),
        ("an unknown kind", text.replacen("sev-snp", "sev-snq", 1), "release.form"),
        ("nothing", String::new(), "release.form"),
        ("too much", " ".repeat(RELEASE_TEXT_MAX + 1), "release.size"),
    ] {
        assert_ne!(other, text, "{what}");
        assert_eq!(ReleasePolicy::parse(&other).map_err(|why| why.check), Err(refused.to_owned()), "{what}: {other}");
    }
    assert_eq!(format!("{policy:?}"), format!("ReleasePolicy({} of acme)", policy.digest().short()));
}

#[test]
fn the_largest_policy_fits() {
    let name = |i: usize| format!("{}{i:03}", "n".repeat(60));
    let mut rules = rules();
    rules.work.tenants = (0..RELEASE_NAMES_MAX).map(|i| tenant(&name(i))).collect();
    let mut modules: Vec<_> = (0..RELEASE_NAMES_MAX).map(|i| digest(&name(i))).collect();
    modules.sort_unstable();
    rules.work.modules = Only::Only(modules);
    rules.work.purposes = Only::Only((0..RELEASE_NAMES_MAX).map(|i| Purpose::new(&name(i)).unwrap()).collect());
    rules.kinds = Only::Only(TeeKind::ALL.to_vec());
    rules.require = Requirement::parse(&format!("any{}", " ".repeat(4093))).unwrap();
    let policy = ReleasePolicy::write(rules).unwrap();
    assert!(policy.text().len() < RELEASE_TEXT_MAX);
    assert_eq!(ReleasePolicy::parse(policy.text()).unwrap(), policy);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_other_text_is_the_same_policy(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20, "[ -~\\n]{0,12}"), 1..4)
    ) {
        let policy = ReleasePolicy::write(rules()).unwrap();
        let mut text = policy.text().to_owned();
        for (at, cut, new) in edits {
            let at = at.index(text.len() + 1);
            text.replace_range(at..(at + cut).min(text.len()), &new);
        }
        if let Ok(read) = ReleasePolicy::parse(&text) {
            prop_assert_eq!(read.text(), &text);
            prop_assert!(read == policy || read.digest() != policy.digest());
        }
    }

    #[test]
    fn anything_is_read_without_a_panic(text in ".{0,300}", bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(ReleasePolicy::parse(&text).is_err());
        prop_assert!(SwarmSealed::from_bytes(&bytes).is_err());
        prop_assert!(serde_json::from_str::<CustodyRef>(&text).is_err());
    }
}

/// Computed outside this project, by Python's hashlib.
#[test]
fn digests_of_labels_and_ceremonies_do_not_change() {
    let label = Label {
        tenant: tenant("acme"),
        policy: digest("policy"),
        object: ObjectId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        generation: Generation(7),
    };
    let expected = "06f966d617f51ca4a1c47883e19d022220d6443a41f8b519b95ba79d4c5cd1d8";
    assert_eq!(label.digest().to_string(), expected);
    for other in [
        Label { tenant: tenant("acm"), ..label.clone() },
        Label { policy: digest("other"), ..label.clone() },
        Label { object: ObjectId::from_bytes([0; 16]), ..label.clone() },
        Label { generation: Generation(8), ..label.clone() },
    ] {
        assert_ne!(other.digest(), label.digest());
    }
    let chairs = [("a", "x"), ("b", "y")].map(|(enclave, key)| (EnclaveId::new(digest(enclave)), digest(key)));
    let of = |from| ceremony_digest(digest("call"), Threshold::new(2, 2).unwrap(), &chairs, from).to_string();
    assert_eq!(of(None), "353f716efa5d7e46e604643c4d5b18cca0cb7141e95eed5c569957991dc985f3");
    assert_eq!(of(Some(digest("from"))), "a572571749c91d7f73227c7aaefe239451e998d54049a23bdb27927a449aa5b6");
}

fn wrapped(swarm: Digest, label: Digest) -> SwarmSealed {
    let bytes = [&b"legation-lock-v1"[..], &swarm.as_bytes()[..], label.as_bytes(), &[9; 160]].concat();
    SwarmSealed::from_bytes(&bytes).unwrap()
}

#[test]
fn a_wrapped_key_is_of_one_object_of_one_tenant() {
    let (object, generation) = (ObjectId::from_bytes([1; 16]), Generation(0));
    let label = Label { tenant: tenant("acme"), policy: digest("policy"), object, generation };
    let (swarm, policy) = (digest("swarm"), label.policy);
    let key = wrapped(swarm, label.digest());
    let custody = CustodyRef { generation, policy, key: key.clone() };
    assert_eq!(custody.label(swarm, &label.tenant, object).unwrap(), label);
    let other = ObjectId::from_bytes([2; 16]);
    let check = |c: &CustodyRef, swarm, name: &str, object| {
        c.label(swarm, &tenant(name), object).map(|_| ()).map_err(|why| why.check)
    };
    assert_eq!(check(&custody, digest("other"), "acme", object), Err("custody.swarm".into()));
    assert_eq!(check(&custody, swarm, "clinic", object), Err("custody.label".into()));
    assert_eq!(check(&custody, swarm, "acme", other), Err("custody.label".into()));
    let stale = CustodyRef { generation: Generation(1), ..custody.clone() };
    assert_eq!(check(&stale, swarm, "acme", object), Err("custody.label".into()));
    let lax = CustodyRef { policy: digest("lax"), ..custody.clone() };
    assert_eq!(check(&lax, swarm, "acme", object), Err("custody.label".into()));

    let text = serde_json::to_string(&custody).unwrap();
    assert_eq!(serde_json::from_str::<CustodyRef>(&text).unwrap(), custody);
    for bytes in [&[][..], &key.as_bytes()[..239], &[&key.as_bytes()[..], &[0]].concat(), &[0; 240]] {
        assert_eq!(SwarmSealed::from_bytes(bytes).map_err(|why| why.check), Err("custody.sealed".into()));
    }
    let cut = text.replacen(r#""key":""#, r#""key":"AAAA"#, 1);
    assert!(serde_json::from_str::<CustodyRef>(&cut).is_err());
}

#[test]
fn releases_that_cannot_be_are_refused() {
    let release = || Release {
        custodian: key("client"),
        roster: digest("roster"),
        epoch: Epoch(4),
        task: TaskId::new(digest("task")),
        fragment: FragmentIndex(0),
        lease: LeaseId(9),
        enclave: EnclaveId::new(digest("enclave")),
        released: vec![
            Released { object: ObjectId::from_bytes([2; 16]), label: digest("label-2") },
            Released { object: ObjectId::from_bytes([1; 16]), label: digest("label-1") },
        ],
        revocations: RevocationEpoch(17),
        at: UnixTime(T0),
        prev: ["allocation", "passport", "own passport", "grant"].map(digest).to_vec(),
    };
    let check = |bend: fn(&mut Release)| {
        let mut said = release();
        bend(&mut said);
        said.validate().map_err(|why| why.check)
    };
    assert_eq!(check(|_| {}), Ok(()));
    let bends: &[fn(&mut Release)] = &[
        |r| r.released.clear(),
        |r| r.released = vec![r.released[0]; 300],
        |r| r.released[1].object = r.released[0].object,
        |r| r.released[1].label = r.released[0].label,
        |r| _ = r.prev.pop(),
        |r| r.prev = vec![digest("grant"); 1000],
    ];
    for bend in bends {
        assert_eq!(check(*bend), Err("custody.release".to_owned()));
    }
    let text = serde_json::to_string(&release()).unwrap();
    assert_eq!(serde_json::from_str::<Release>(&text).unwrap(), release());
    assert!(serde_json::from_str::<Release>(&text.replacen('{', r#"{"more":1,"#, 1)).is_err());
}

#[test]
fn charters_say_who_may_be_a_member() {
    let charter = charter(1, (5, 9), None);
    let check = |bend: fn(&mut Passport), at: u64| {
        let mut passport = passport();
        bend(&mut passport);
        let candidate = Candidate { passport: &passport, price_hour: MicroUsd(0) };
        charter.check_enclave(&candidate, UnixTime(at)).map_err(|why| why.check)
    };
    assert_eq!(check(|_| {}, T0 + 10), Ok(()));
    assert_eq!(check(|_| {}, T0), Err("custody.passport".into()));
    assert_eq!(check(|_| {}, T0 + 606), Err("custody.passport".into()));
    assert_eq!(check(|p| p.ear.status = Tier::Contraindicated, T0 + 10), Err("custody.passport".into()));
    assert_eq!(check(|p| p.claims.debug.value = true, T0 + 10), Err("custody.passport".into()));
    assert_eq!(check(|p| p.claims.confidential.value = false, T0 + 10), Err("require.confidential".into()));
}

#[test]
fn a_chair_is_taken_by_who_was_called() {
    let rules = charter(1, (5, 9), None);
    let signed = dsse::sign(passport(), &Party::new("verifier"));
    let enclave = Party::new("enclave-north");
    let (call, at) = (digest("call"), UnixTime(T0 + 10));
    let chair = |passport| Chair {
        call,
        enclave: enclave.key(),
        passport,
        sealing: enclave.sealing(),
        prev: vec![call, passport],
    };
    let called = |enclave: EnclaveId, provider: &str| Called { enclave, provider: ProviderId::new(provider).unwrap() };
    let check = |chair: &Chair, called: &Called, at| {
        rules.check_chair(chair, called, (&signed, MicroUsd(0)), at).map_err(|why| why.check)
    };
    let (own, id) = (chair(signed.digest()), enclave.key().enclave_id());
    assert_eq!(check(&own, &called(id, "north-hosting"), at), Ok(()));
    assert_eq!(check(&own, &called(id, "south-hosting"), at), Err("custody.provider".into()));
    assert_eq!(check(&own, &called(EnclaveId::new(digest("x")), "north-hosting"), at), Err("custody.passport".into()));
    assert_eq!(check(&chair(digest("x")), &called(id, "north-hosting"), at), Err("custody.passport".into()));
    let stolen = Chair { enclave: key("client"), ..own.clone() };
    assert_eq!(check(&stolen, &called(id, "north-hosting"), at), Err("custody.passport".into()));
    assert_eq!(check(&own, &called(id, "north-hosting"), UnixTime(T0 + 606)), Err("custody.passport".into()));
    // Nobody is two members by having two enclaves on one chip.
    let mut other = passport();
    other.enclave = key("client");
    assert_eq!(check_chips([&passport(), &other]).map_err(|why| why.check), Err("custody.chip".into()));
    other.claims.chip.value = "ef".repeat(32);
    assert_eq!(check_chips([&passport(), &other, &other]), Ok(()));
}
