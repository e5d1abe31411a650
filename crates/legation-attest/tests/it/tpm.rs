//! TPM evidence: a real `swtpm` that the test starts, and published quotes and logs. Not in the repository: the samples.

mod emulator;
mod played;
pub(crate) mod samples;

use std::collections::BTreeMap;

use legation_attest::{
    tpm::{
        Cache, Curve, DevelopmentTpmRoots, HashAlg, Pcrs, Presented, Public, Report, SECURE_BOOT, TpmRootSet, TpmRoots,
        activation::{Challenge, Claimed, Credential, Ek, make_credential},
        verify,
    },
    x509::ChainCache,
};
use legation_core::{
    PublicKey, Rejection, Signed, Signer as _, TenantId, UnixTime,
    claims::{Anchor, Anchors, Claims, Source, TeeKind, TpmAnchor, TpmKey},
    dsse, encoding,
    statement::{Appointment, KeyAttestation, Office, Scope},
};
use zeroize::Zeroizing;

use self::emulator::{EK_ECC, EK_RSA, Emulator};
use crate::world::{Key, NOW, appoint, check_of};

const SECRET: [u8; 32] = [0x5e; 32];
const RANDOM: [u8; 64] = [0x4a; 64];
const LIST: &str = "sha256:0,1,2,3,4,5,6,7,14";
const REGISTERS: [u8; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 14];
const DAY: u64 = 24 * 3600;

type Values = BTreeMap<u8, Vec<u8>>;

fn anchors(tpm: Vec<TpmAnchor>) -> Anchors {
    Anchors { tpm, ..Anchors::default() }
}

/// Values of one bank, for the registers of [`REGISTERS`].
fn pcrs(bank: HashAlg, values: &[u8]) -> Pcrs {
    let values = values.chunks(bank.size()).map(<[u8]>::to_vec);
    let of: Values = REGISTERS.into_iter().zip(values).collect();
    assert_eq!(of.len(), REGISTERS.len());
    Pcrs::from([(bank, of)])
}

/// A verifier's word that the TPM activated a credential for these keys, as the wire carries it.
struct Word {
    operator: Key,
    verifier: Key,
    appointment: Signed<Appointment>,
}

impl Word {
    fn new() -> Self {
        let (operator, verifier) = (Key::new(1), Key::new(2));
        let appointment = appoint(&operator, &verifier, Office::Verifier);
        Self { operator, verifier, appointment }
    }

    fn operators(&self) -> Vec<PublicKey> {
        vec![self.operator.public_key()]
    }

    fn signed(&self, change: impl FnOnce(&mut KeyAttestation), told: &Signed<KeyAttestation>) -> Vec<Vec<u8>> {
        let mut word = KeyAttestation::clone(told);
        change(&mut word);
        self.sent(&dsse::sign(word, &self.verifier))
    }

    fn sent(&self, word: &Signed<KeyAttestation>) -> Vec<Vec<u8>> {
        let json = |envelope: &dsse::Envelope| envelope.to_json().into_bytes();
        vec![json(word.envelope()), json(self.appointment.envelope())]
    }
}

/// `TPMT_PUBLIC` in the file that `tpm2_makecredential` would write.
fn credential_file(credential: &Credential) -> Vec<u8> {
    [&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1][..], &credential.id_object, &credential.encrypted_secret].concat()
}

/// Has the TPM activate a credential; whether it gave anything back, and what.
fn activate(tpm: &Emulator, ak: &str, ek: (&str, &str), credential: &Credential) -> Option<Vec<u8>> {
    tpm.write("credential", &credential_file(credential));
    let activation = ["tpm2_activatecredential", "-c", ak, "-C", ek.0, "-i", "credential", "-o", "secret"];
    let activated = if ek != EK_ECC {
        // All templates but that for P-384 ask for the endorsement hierarchy's own word.
        tpm.tool(&["tpm2_startauthsession", "--policy-session", "-S", "session"]);
        tpm.tool(&["tpm2_policysecret", "-S", "session", "-c", "e"]);
        let activated = tpm.try_tool(&[&activation[..], &["-P", "session:session"]].concat());
        tpm.tool(&["tpm2_flushcontext", "session"]);
        activated
    } else {
        tpm.try_tool(&activation)
    };
    tpm.tool(&["tpm2_flushcontext", "--transient-object"]);
    activated.then(|| tpm.read("secret"))
}

fn challenge(tpm: &Emulator, ak: &[u8], ek: (&str, &str), roots: &DevelopmentTpmRoots) -> Result<Challenge, Rejection> {
    let (chain, public) = (tpm.ek(ek), tpm.public(ek.0));
    let claimed = Claimed { ak, ek: &chain, ek_public: Some(&public), crls: &[], grace: 0 };
    Challenge::new(&claimed, roots, &ChainCache::new(0), NOW, Zeroizing::new(SECRET), &Zeroizing::new(RANDOM))
}

fn judge<R: TpmRootSet>(
    report: &Report,
    endorsements: &[Vec<u8>],
    operators: &[PublicKey],
    roots: &R,
    at: UnixTime,
) -> Result<Claims, Rejection> {
    let report = report.encode();
    let presented = Presented { report: &report, endorsements, operators, crls: &[], grace: 0 };
    let cache = Cache::new(8);
    let first = verify(&presented, roots, &cache, at);
    assert_eq!(verify(&presented, roots, &cache, at), first, "what is remembered changes no verdict");
    first
}

#[test]
fn an_emulated_tpm_is_believed_under_its_own_root_for_what_it_quoted() {
    let Some(tpm) = Emulator::start() else { return };
    let roots = DevelopmentTpmRoots::new(&anchors(vec![tpm.anchor("bench", true)])).unwrap();
    let word = Word::new();
    let operators = word.operators();
    let ak = tpm.attestation_key("ak.ctx", ["ecc", "sha256", "ecdsa"]);

    // Activation: the secret comes back, and nothing else is taken for it.
    let made = challenge(&tpm, &ak, EK_RSA, &roots).unwrap();
    let answer = activate(&tpm, "ak.ctx", EK_RSA, made.credential()).expect("the TPM holds both keys");
    assert_eq!(answer, SECRET);
    let told = made.answer(&answer, &word.verifier, &word.appointment, NOW, DAY).unwrap();
    assert_eq!((told.issued, told.expires), (NOW, NOW.plus(DAY)));
    let wrong = challenge(&tpm, &ak, EK_RSA, &roots).unwrap();
    let refused = wrong.answer(&[0; 32], &word.verifier, &word.appointment, NOW, DAY);
    assert_eq!(check_of(refused), "tpm.activation");

    // A quote over two registers that were extended, one by firmware's events as a log tells them.
    let log = samples::log(&[(7, samples::SECURE_BOOT_ON), (4, b"boot loader")]);
    for (register, data) in [(7_u8, samples::SECURE_BOOT_ON), (4, b"boot loader".as_slice())] {
        tpm.extend(register, &[("sha256", &HashAlg::Sha256.digest(&[data]))]);
    }
    tpm.extend(14, &[("sha256", &[0x11; 32])]);
    let nonce = [0xab; 32];
    let (quote, signature) = tpm.quote("ak.ctx", LIST, &nonce, &[]);
    let values = tpm.registers(LIST);
    let report = Report { quote, signature, ak: ak.clone(), pcrs: pcrs(HashAlg::Sha256, &values), log: Some(log) };
    let endorsements = word.sent(&told);
    let believed = |report: &Report| judge(report, &endorsements, &operators, &roots, NOW);
    let claims = believed(&report).unwrap();
    assert_eq!(claims.tee.value, TeeKind::DevTpm);
    assert_eq!(claims.anchor, Anchor::Development("bench".to_owned()));
    assert_eq!(claims.report_data, encoding::hex(&nonce));
    assert_ne!(claims.report_data, encoding::hex(&[0xac; 32]), "whoever asked with another nonce sees it");
    assert_eq!(claims.measurement.value, legation_attest::tpm::measurement(&report.pcrs).to_string());
    assert_ne!(claims.measurement.value, legation_core::Digest::of(&values).to_string());
    other_registers_of_the_same_values_measure_otherwise(&tpm, &report, &believed);
    assert_eq!((claims.measurement.source, claims.confidential.value), (Source::MeasuredSoftware, false));
    assert_eq!(claims.registers.len(), REGISTERS.len());
    let pcr14 = HashAlg::Sha256.digest(&[&[0; 32], &[0x11; 32]]);
    assert_eq!(claims.registers["pcr14"], encoding::hex(&pcr14));
    assert!(claims.features.unwrap().value.contains(SECURE_BOOT));
    assert_eq!(claims.vouched, Some(told.verifier.id()), "whoever is to be revoked with that word");
    assert_eq!(claims.product.value, "id:00001014");
    assert!(claims.tcb.value.version.starts_with("firmware "));

    every_flip_is_refused(&report, &believed);
    what_the_quote_is_not_over_is_refused(&tpm, &report, &believed);
    other_words_are_refused(&report, &word, &told, &roots);
    other_roots_are_refused(&tpm, &report, &endorsements, &operators);
}

/// Register 11, which no firmware extends and anybody may, holds what 8 holds: both quotes are over one digest.
fn other_registers_of_the_same_values_measure_otherwise(
    tpm: &Emulator,
    report: &Report,
    believed: &dyn Fn(&Report) -> Result<Claims, Rejection>,
) {
    for register in [8, 11] {
        tpm.extend(register, &[("sha256", &[0x33; 32])]);
    }
    let measured = |list: &str, last: u8| {
        let (quote, signature) = tpm.quote("ak.ctx", list, &[0xab; 32], &[]);
        let values = tpm.registers(list);
        let of: Values = (0..8).chain([last]).zip(values.chunks(32).map(<[u8]>::to_vec)).collect();
        let pcrs = Pcrs::from([(HashAlg::Sha256, of)]);
        let claims = believed(&Report { quote, signature, pcrs, ..report.clone() }).unwrap();
        (values, claims.measurement.value)
    };
    let (eight, eleven) = (measured("sha256:0,1,2,3,4,5,6,7,8", 8), measured("sha256:0,1,2,3,4,5,6,7,11", 11));
    assert_eq!(eight.0, eleven.0, "the same values");
    assert_ne!(eight.1, eleven.1, "of other registers");
}

fn every_flip_is_refused(report: &Report, believed: &dyn Fn(&Report) -> Result<Claims, Rejection>) {
    for byte in 0..report.quote.len() {
        let mut bad = report.clone();
        bad.quote[byte] ^= 1 << (byte % 8);
        let check = check_of(believed(&bad));
        assert!(matches!(check.as_str(), "tpm.quote" | "tpm.signature"), "byte {byte} of the quote: {check}");
    }
    for byte in 0..report.signature.len() {
        let mut bad = report.clone();
        bad.signature[byte] ^= 1 << (byte % 8);
        assert_eq!(check_of(believed(&bad)), "tpm.signature", "byte {byte} of the signature");
    }
    for byte in 0..report.ak.len() {
        let mut bad = report.clone();
        bad.ak[byte] ^= 1 << (byte % 8);
        assert!(believed(&bad).is_err(), "byte {byte} of the attestation key");
    }
    for (cut, check) in [(0, "tpm.quote"), (report.quote.len() - 1, "tpm.quote")] {
        let mut bad = report.clone();
        bad.quote.truncate(cut);
        assert_eq!(check_of(believed(&bad)), check);
    }
}

fn what_the_quote_is_not_over_is_refused(
    tpm: &Emulator,
    report: &Report,
    believed: &dyn Fn(&Report) -> Result<Claims, Rejection>,
) {
    let with = |change: &dyn Fn(&mut Report)| {
        let mut report = report.clone();
        change(&mut report);
        check_of(believed(&report))
    };
    let sha256 = |report: &mut Report, change: &dyn Fn(&mut Values)| {
        change(report.pcrs.get_mut(&HashAlg::Sha256).unwrap());
    };
    assert_eq!(with(&|r| sha256(r, &|of| drop(of.remove(&14)))), "tpm.selection");
    assert_eq!(with(&|r| sha256(r, &|of| drop(of.insert(15, vec![0; 32])))), "tpm.selection");
    assert_eq!(with(&|r| sha256(r, &|of| of.get_mut(&0).unwrap()[0] ^= 1)), "tpm.values");
    assert_eq!(with(&|r| r.pcrs = Pcrs::new()), "tpm.selection");
    assert_eq!(with(&|r| r.log = Some(samples::log(&[(4, b"boot loader")]))), "tpm.event-log", "an event left out");
    let moved = samples::log(&[(4, samples::SECURE_BOOT_ON), (7, b"boot loader")]);
    assert_eq!(with(&|r| r.log = Some(moved.clone())), "tpm.event-log");
    assert_eq!(with(&|r| r.log.as_mut().unwrap().truncate(90)), "tpm.event-log");
    assert_eq!(with(&|r| r.log = None), "ok", "no log is no lie");

    // Registers that something was measured into after the quote.
    tpm.extend(14, &[("sha256", &[0x22; 32])]);
    let later = pcrs(HashAlg::Sha256, &tpm.registers(LIST));
    assert_eq!(with(&|r| r.pcrs = later.clone()), "tpm.values");
    // A signature of another quote by the same key; quotes over too little or with a short nonce.
    let (_, other) = tpm.quote("ak.ctx", LIST, &[0xac; 32], &[]);
    assert_eq!(with(&|r| r.signature = other.clone()), "tpm.signature");
    let log = None;
    for (list, bank, len, check) in [
        ("sha1:0,1,2,3,4,5,6,7,14", HashAlg::Sha1, 32, "tpm.selection"),
        ("sha384:0,1,2,3,4,5,6,7,14", HashAlg::Sha384, 32, "ok"),
        (LIST, HashAlg::Sha256, 64, "ok"),
        (LIST, HashAlg::Sha256, 20, "tpm.qualifying-data"),
    ] {
        let (quote, signature) = tpm.quote("ak.ctx", list, &vec![7; len], &[]);
        let pcrs = pcrs(bank, &tpm.registers(list));
        let report = Report { quote, signature, pcrs, log: log.clone(), ak: report.ak.clone() };
        assert_eq!(check_of(believed(&report)), check, "{list} with {len} bytes");
    }
    let (quote, signature) = tpm.quote("ak.ctx", "sha256:0,1,2,3", &[7; 32], &[]);
    let values = tpm.registers("sha256:0,1,2,3");
    let of = (0..4).zip(values.chunks(32).map(<[u8]>::to_vec)).collect();
    let few = Report { quote, signature, pcrs: Pcrs::from([(HashAlg::Sha256, of)]), log, ak: report.ak.clone() };
    assert_eq!(check_of(believed(&few)), "tpm.selection");
}

fn other_words_are_refused(report: &Report, word: &Word, told: &Signed<KeyAttestation>, roots: &DevelopmentTpmRoots) {
    let operators = word.operators();
    let at = |endorsements: &[Vec<u8>], at| check_of(judge(report, endorsements, &operators, roots, at));
    let now = |endorsements: &[Vec<u8>]| at(endorsements, NOW);
    let sent = word.sent(told);
    assert_eq!(at(&sent, NOW.minus(1)), "tpm.key-attestation");
    assert_eq!(at(&sent, NOW.plus(DAY)), "ok");
    assert_eq!(at(&sent, NOW.plus(DAY + 1)), "tpm.key-attestation");
    assert_eq!(check_of(judge(report, &sent, &[], roots, NOW)), "tpm.key-attestation", "an operator nobody named");
    assert_eq!(now(&word.signed(|w| w.ak[8] ^= 0xff, told)), "tpm.key-attestation", "another attestation key");
    assert_eq!(now(&word.signed(|w| w.prev.clear(), told)), "tpm.key-attestation");
    assert_eq!(now(&word.signed(|w| w.issued = NOW.minus(2000), told)), "tpm.key-attestation", "not yet appointed");
    assert_eq!(now(&word.signed(|w| w.expires = NOW.plus(365 * DAY), told)), "tpm.key-attestation");
    assert_eq!(now(&word.signed(|w| drop(w.ek.pop()), told)), "tpm.root", "the authority between is missing");
    assert_eq!(now(&word.signed(|w| w.ek.reverse(), told)), "tpm.root");
    assert_eq!(now(&[sent[0].clone()]), "tpm.endorsements");
    assert_eq!(now(&[sent[1].clone(), sent[0].clone()]), "tpm.endorsements");
    assert_eq!(now(&[]), "tpm.endorsements");
    assert_eq!(now(&told.ek), "tpm.certificate", "an endorsement key does not attest");

    let offices = [
        (Office::Manager, None, "tpm.key-attestation"),
        (Office::Verifier, Some(vec![TeeKind::Tpm]), "tpm.key-attestation"),
        (Office::Verifier, Some(vec![TeeKind::DevTpm]), "ok"),
    ];
    for (office, kinds, check) in offices {
        let mut appointment = Appointment::clone(&appoint(&word.operator, &word.verifier, office));
        appointment.scope = kinds.map(|kinds| Scope { tenants: None, kinds: Some(kinds) });
        let appointment = dsse::sign(appointment, &word.operator);
        let other = Word { appointment, operator: Key::new(1), verifier: Key::new(2) };
        let prev = vec![other.appointment.digest()];
        assert_eq!(now(&other.signed(|w| w.prev = prev, told)), check, "{office:?}");
    }
    // Whom some tenants trust cannot vouch for a key that all would work on.
    let mut appointment = Appointment::clone(&appoint(&word.operator, &word.verifier, Office::Verifier));
    appointment.scope = Some(Scope { tenants: Some(vec![TenantId::new("acme").unwrap()]), kinds: None });
    let appointment = dsse::sign(appointment, &word.operator);
    let other = Word { appointment, operator: Key::new(1), verifier: Key::new(2) };
    let prev = vec![other.appointment.digest()];
    assert_eq!(now(&other.signed(|w| w.prev = prev, told)), "tpm.key-attestation", "some tenants' verifier");
}

fn other_roots_are_refused(tpm: &Emulator, report: &Report, endorsements: &[Vec<u8>], operators: &[PublicKey]) {
    let none = TpmRoots::new(&anchors(vec![tpm.anchor("bench", true)])).unwrap();
    assert_eq!(check_of(judge(report, endorsements, operators, &none, NOW)), "tpm.root", "never for production");
    let refused = TpmRoots::new(&anchors(vec![tpm.anchor("bench", false)]));
    assert_eq!(check_of(refused), "roots.tpm", "an emulator's root is no production root");
    let twice = anchors(vec![tpm.anchor("a", true), tpm.anchor("b", true)]);
    assert_eq!(check_of(DevelopmentTpmRoots::new(&twice)), "roots.tpm");
    let mut broken = tpm.anchor("bench", true);
    let last = broken.root.len() - 1;
    broken.root[last] ^= 1;
    assert_eq!(check_of(DevelopmentTpmRoots::new(&anchors(vec![broken]))), "roots.tpm");
}

#[test]
fn every_kind_of_key_attests_and_every_kind_of_endorsement_key_activates() {
    let Some(tpm) = Emulator::start() else { return };
    let under = |key| DevelopmentTpmRoots::new(&anchors(vec![TpmAnchor { key, ..tpm.anchor("bench", true) }])).unwrap();
    let (rsa, ecc) = (under(TpmKey::Rsa2048), under(TpmKey::EccP384));
    let roots_of = |ek| if ek == EK_RSA { &rsa } else { &ecc };
    let word = Word::new();
    let values = tpm.registers(LIST);
    let kinds: [([&str; 3], &[&str]); 5] = [
        (["rsa", "sha256", "rsassa"], &[]),
        (["rsa", "sha256", "rsapss"], &["--scheme", "rsapss"]),
        (["rsa", "sha384", "rsassa"], &["-g", "sha384"]),
        (["ecc", "sha256", "ecdsa"], &[]),
        (["ecc384", "sha384", "ecdsa"], &["-g", "sha384"]),
    ];
    for (i, (kind, more)) in kinds.into_iter().enumerate() {
        let context = format!("{i}.ctx");
        let ak = tpm.attestation_key(&context, kind);
        let ek = if i % 2 == 0 { EK_ECC } else { EK_RSA };
        let made = challenge(&tpm, &ak, ek, roots_of(ek)).unwrap();
        let answer = activate(&tpm, &context, ek, made.credential()).unwrap_or_else(|| panic!("{kind:?} under {ek:?}"));
        let told = made.answer(&answer, &word.verifier, &word.appointment, NOW, DAY).unwrap();
        let (quote, signature) = tpm.quote(&context, LIST, &[1; 32], more);
        let report = Report { quote, signature, ak, pcrs: pcrs(HashAlg::Sha256, &values), log: None };
        let claims = judge(&report, &word.sent(&told), &word.operators(), roots_of(ek), NOW);
        assert_eq!(check_of(claims), "ok", "{kind:?}");

        // Whose root knows its TPMs by the other kind of key does not know this one: one TPM is one chip.
        let other = if ek == EK_RSA { &ecc } else { &rsa };
        assert_eq!(check_of(challenge(&tpm, &report.ak, ek, other)), "tpm.certificate", "{kind:?}");
        let claims = judge(&report, &word.sent(&told), &word.operators(), other, NOW);
        assert_eq!(check_of(claims), "tpm.certificate", "{kind:?}");
    }

    // The credential for one key is nothing to another, nor to another name.
    let ak = tpm.public("0.ctx");
    for ek in [EK_RSA, EK_ECC] {
        let made = challenge(&tpm, &ak, ek, roots_of(ek)).unwrap();
        assert_eq!(activate(&tpm, "1.ctx", ek, made.credential()), None, "the credential names another key");
        let chain = tpm.ek(ek);
        // What the certificate alone says of the key is enough for the TCG's templates.
        let claimed = Claimed { ak: &ak, ek: &chain, ek_public: None, crls: &[], grace: 0 };
        let (secret, random) = (Zeroizing::new(SECRET), Zeroizing::new(RANDOM));
        let made = Challenge::new(&claimed, roots_of(ek), &ChainCache::new(0), NOW, secret, &random).unwrap();
        assert_eq!(activate(&tpm, "0.ctx", ek, made.credential()).as_deref(), Some(&SECRET[..]));
        let public = Public::parse(&tpm.public(ek.0)).unwrap();
        let mut name = Public::parse(&ak).unwrap().name();
        name[5] ^= 1;
        let forged = make_credential(&Ek::from_public(&public).unwrap(), &name, &SECRET, &RANDOM).unwrap();
        assert_eq!(activate(&tpm, "0.ctx", ek, &forged), None, "a name that is one bit off");
    }

    // An endorsement key on P-256, which the emulator does not certify.
    tpm.tool(&["tpm2_createek", "-c", "p256.ctx", "-G", "ecc"]);
    let public = Public::parse(&tpm.public("p256.ctx")).unwrap();
    assert!(matches!(public.key, legation_attest::tpm::Key::Ecc { curve: Curve::P256, .. }));
    let name = Public::parse(&ak).unwrap().name();
    let made = make_credential(&Ek::from_public(&public).unwrap(), &name, &SECRET, &RANDOM).unwrap();
    assert_eq!(activate(&tpm, "0.ctx", ("p256.ctx", ""), &made).as_deref(), Some(&SECRET[..]));

    // Keys that may sign anything attest nothing, and an attestation key endorses nothing.
    tpm.tool(&[
        "tpm2_create",
        "-C",
        EK_ECC.0,
        "-G",
        "ecc:ecdsa-sha256",
        "-u",
        "k.pub",
        "-r",
        "k.priv",
        "-c",
        "free.ctx",
    ]);
    let free = tpm.public("free.ctx");
    assert_eq!(check_of(challenge(&tpm, &free, EK_RSA, &rsa)), "tpm.ak");
    let chain = tpm.ek(EK_RSA);
    let claimed = Claimed { ak: &ak, ek: &chain, ek_public: Some(&ak), crls: &[], grace: 0 };
    let (secret, random) = (Zeroizing::new(SECRET), Zeroizing::new(RANDOM));
    let refused = Challenge::new(&claimed, &rsa, &ChainCache::new(0), NOW, secret, &random);
    assert_eq!(check_of(refused), "tpm.certificate", "the certificate is not of that key");
    let other = Emulator::start().unwrap();
    let made = challenge(&tpm, &ak, EK_ECC, &ecc).unwrap();
    other.attestation_key("0.ctx", ["rsa", "sha256", "rsassa"]);
    assert_eq!(activate(&other, "0.ctx", EK_ECC, made.credential()), None, "another TPM");
    let strange = challenge(&other, &ak, EK_RSA, &rsa);
    assert_eq!(check_of(strange), "tpm.chain", "another CA of the same name");
}
