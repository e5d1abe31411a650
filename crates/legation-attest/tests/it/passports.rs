//! Passports: admitted, issued, opened, and tampered with.

use legation_attest::{
    Verifier, admit,
    appraisal::PASSPORT_SECONDS_MAX,
    dev::Guest,
    passport::{issue, open},
};
use legation_core::{
    Envelope, PublicKey, Rejection, Signed, Signer as _, UnixTime,
    claims::{Anchor, EvidenceJudge as _, KeyBinding, Shelf, TeeKind},
    dsse,
    statement::{Appointment, Ear, Office, Passport, Tier},
};

use crate::world::{Key, MEASUREMENT, NOW, appoint, binding, check_of, configuration, evidence, nonce, world};

fn passport() -> Signed<Passport> {
    admit(&world().as_verifier(), &evidence(), &Shelf::empty(), &nonce(1), NOW).unwrap()
}

fn opened(passport: &Envelope, at: UnixTime) -> Result<Signed<Passport>, Rejection> {
    let world = world();
    open(passport, world.appointment.envelope(), &[world.operator.public_key()], at)
}

#[test]
fn an_admitted_enclave_has_a_passport_that_opens() {
    let evidence = evidence();
    let passport = admit(&world().as_verifier(), &evidence, &Shelf::empty(), &nonce(1), NOW).unwrap();
    assert_eq!((passport.issued, passport.expires), (NOW, NOW.plus(600)));
    assert_eq!((passport.enclave, &passport.sealing), (binding().identity, &binding().sealing));
    assert_eq!((passport.evidence, passport.enclave_id()), (evidence.digest(), Key::new(9).public_key().enclave_id()));
    assert_eq!(passport.ear.status, Tier::Warning);
    for (at, expected) in [
        (NOW, "ok"),
        (NOW.plus(600), "ok"),
        (NOW.plus(601), "passport.dates"),
        (NOW.minus(1), "passport.dates"),
        (NOW.minus(1001), "passport.appointment-dates"),
        (NOW.plus(100_001), "passport.appointment-dates"),
    ] {
        assert_eq!(check_of(opened(passport.envelope(), at)), expected, "{at}");
    }
    assert_eq!(opened(passport.envelope(), NOW).unwrap(), passport);
}

#[test]
fn a_replayed_nonce_is_refused() {
    let refusal = admit(&world().as_verifier(), &evidence(), &Shelf::empty(), &nonce(2), NOW).unwrap_err();
    assert_eq!((refusal.check.as_str(), refusal.got), ("admit.nonce", nonce(1).to_string()));
}

#[test]
fn every_step_of_admission_can_refuse() {
    let world = world();
    let mut bad = evidence();
    bad.report[0x90] ^= 1;
    assert_eq!(check_of(admit(&world.as_verifier(), &bad, &Shelf::empty(), &nonce(1), NOW)), "snp.signature");
    let unknown = world.chip.evidence(&Guest::new([9; 48]), &binding(), &configuration()).unwrap();
    assert_eq!(
        check_of(admit(&world.as_verifier(), &unknown, &Shelf::empty(), &nonce(1), NOW)),
        "appraisal.measurement"
    );
    let manager = appoint(&world.operator, &world.verifier, Office::Manager);
    let other = appoint(&world.operator, &Key::new(3), Office::Verifier);
    for appointment in [&manager, &other] {
        let verifier = Verifier { appointment, ..world.as_verifier() };
        assert_eq!(check_of(admit(&verifier, &evidence(), &Shelf::empty(), &nonce(1), NOW)), "passport.verifier");
    }
}

#[test]
fn a_passport_never_outlives_keys_or_appointment() {
    let world = world();
    let short = KeyBinding { not_after: NOW.plus(5), ..binding() };
    let evidence = world.chip.evidence(&Guest::new(MEASUREMENT), &short, &configuration()).unwrap();
    let passport = admit(&world.as_verifier(), &evidence, &Shelf::empty(), &nonce(1), NOW).unwrap();
    assert_eq!(passport.expires, NOW.plus(5));
    assert_eq!(
        check_of(admit(&world.as_verifier(), &evidence, &Shelf::empty(), &nonce(1), NOW.plus(5))),
        "passport.life"
    );
    let ending = Appointment { not_after: NOW.plus(3), ..world.appointment.predicate().clone() };
    let appointment = &dsse::sign(ending, &world.operator);
    let ending_too =
        admit(&Verifier { appointment, ..world.as_verifier() }, &evidence, &Shelf::empty(), &nonce(1), NOW).unwrap();
    assert_eq!(ending_too.expires, NOW.plus(3));

    let judged = world.judge.judge(&evidence, &Shelf::empty(), NOW).unwrap();
    let ear = passport.ear.clone();
    let issue =
        |ear: Ear, at, seconds| issue(&world.verifier, &world.appointment, &judged, &evidence, ear, at, seconds);
    for (seconds, expected) in
        [(0, "passport.life"), (1, "ok"), (PASSPORT_SECONDS_MAX + 1, "passport.life"), (u64::MAX, "passport.life")]
    {
        assert_eq!(check_of(issue(ear.clone(), NOW, seconds)), expected, "{seconds}");
    }
    assert_eq!(check_of(issue(ear.clone(), NOW.minus(2000), 60)), "passport.verifier");
    let contraindicated = Ear { status: Tier::Contraindicated, ..ear };
    assert_eq!(check_of(issue(contraindicated, NOW, 60)), "passport.status");
}

/// A passport changed by the verifier itself, hence properly signed.
fn resigned(change: impl Fn(&mut Passport)) -> String {
    let mut changed = passport().predicate().clone();
    change(&mut changed);
    let signer = if changed.verifier == world().verifier.public_key() { &world().verifier } else { &Key::new(3) };
    check_of(opened(dsse::sign(changed, signer).envelope(), NOW))
}

#[test]
fn a_passport_that_says_something_else_is_refused() {
    type Change = fn(&mut Passport);
    let table: &[(&str, &str, Change)] = &[
        ("nothing changed", "ok", |_| ()),
        ("another verifier", "passport.signature", |p| p.verifier = Key::new(3).public_key()),
        ("no appointment", "passport.prev", |p| p.prev.clear()),
        ("another appointment", "passport.prev", |p| p.prev = vec![nonce(7)]),
        ("one thing more", "passport.prev", |p| p.prev.push(nonce(7))),
        ("one hour", "ok", |p| p.expires = p.issued.plus(PASSPORT_SECONDS_MAX)),
        ("one hour and a second", "passport.life", |p| p.expires = p.issued.plus(PASSPORT_SECONDS_MAX + 1)),
        ("ends before it begins", "passport.life", |p| p.expires = p.issued.minus(1)),
        ("issued tomorrow", "passport.dates", |p| {
            p.issued = NOW.plus(10);
            p.expires = NOW.plus(20);
        }),
        ("issued before the appointment", "passport.appointment-dates", |p| {
            p.issued = NOW.minus(1001);
            p.expires = NOW.plus(1);
        }),
        ("contraindicated", "passport.status", |p| p.ear.status = Tier::Contraindicated),
        ("affirmed against its vector", "passport.status", |p| p.ear.status = Tier::Affirming),
        ("development affirmed", "passport.status", |p| {
            p.ear.status = Tier::Affirming;
            p.ear.vector.values_mut().for_each(|v| *v = 2);
        }),
        ("empty vector", "passport.status", |p| p.ear.vector.clear()),
        ("production anchor on development", "passport.status", |p| {
            p.claims.anchor = Anchor::Production("amd-milan".to_owned());
        }),
        ("development anchor on production", "passport.status", |p| p.claims.tee.value = TeeKind::SevSnp),
    ];
    for (what, expected, change) in table {
        assert_eq!(resigned(change), *expected, "{what}");
    }
}

#[test]
fn an_appointment_must_be_by_an_operator_the_reader_trusts() {
    let world = world();
    let passport = passport();
    let rogue = Key::new(4);
    let by_rogue = appoint(&rogue, &world.verifier, Office::Verifier);
    let manager = appoint(&world.operator, &world.verifier, Office::Manager);
    let lapsed =
        dsse::sign(Appointment { not_after: NOW.minus(1), ..world.appointment.predicate().clone() }, &world.operator);
    // Names the operator, signed by somebody else.
    let forged = dsse::sign(world.appointment.predicate().clone(), &rogue);
    let trusted = [Key::new(8).public_key(), world.operator.public_key()];
    let none: [PublicKey; 0] = [];
    let table: &[(&str, &str, &Envelope, &[PublicKey])] = &[
        ("as issued", "ok", world.appointment.envelope(), &trusted),
        ("nobody trusted", "passport.operator", world.appointment.envelope(), &none),
        ("by a rogue", "passport.operator", by_rogue.envelope(), &trusted),
        ("rogue trusted, passport under another", "passport.prev", by_rogue.envelope(), &[rogue.public_key()]),
        ("forged", "passport.operator", forged.envelope(), &trusted),
        ("to another office", "passport.office", manager.envelope(), &trusted),
        ("lapsed", "passport.appointment-dates", lapsed.envelope(), &trusted),
        ("a passport in its place", "passport.operator", passport.envelope(), &trusted),
    ];
    for (what, expected, appointment, operators) in table {
        assert_eq!(check_of(open(passport.envelope(), appointment, operators, NOW)), *expected, "{what}");
    }
    let swapped = open(world.appointment.envelope(), world.appointment.envelope(), &trusted, NOW);
    assert_eq!(check_of(swapped), "passport.signature", "an appointment in the passport's place");
}

#[test]
fn every_changed_character_of_a_passport_is_refused() {
    let json = passport().envelope().to_json();
    let mut tried = 0;
    for at in (0..json.len()).step_by(7) {
        let mut bytes = json.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let Ok(envelope) = serde_json::from_slice::<Envelope>(&bytes) else { continue };
        tried += 1;
        assert!(opened(&envelope, NOW).is_err(), "character {at}");
    }
    assert!(tried > 100, "only {tried} changes still read as an envelope");
}
