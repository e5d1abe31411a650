//! TPMs that are played: a maker's authority, certified keys and quotes are made here. So there are TPMs under production
//! roots, which no emulator's are, with banks and registers of any value.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use legation_attest::{
    Judge, Roots,
    tpm::{Cache, DevelopmentTpmRoots, RESETTABLE, STATEMENT_MAX, TpmRoots, WORDS_BYTES_MAX, eventlog},
};
use legation_core::{
    Digest,
    claims::{CollateralItem, Evidence, EvidenceJudge as _, KeyBinding, Shelf},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use super::{samples::SECURE_BOOT_ON, *};
use crate::world::{binding, configuration};

const P256: TpmKey = TpmKey::EccP256;
const BANKS: [HashAlg; 2] = [HashAlg::Sha256, HashAlg::Sha384];

/// A certificate with its key.
struct Node {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
}

fn params(name: &str) -> CertificateParams {
    let moment = |at: UnixTime| date_time_ymd(1970, 1, 1) + Duration::from_secs(at.0);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (moment(NOW.minus(DAY)), moment(NOW.plus(400 * DAY)));
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(name: &str, serial: u64) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

fn issue(params: CertificateParams, issuer: Option<&Node>) -> Node {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = match issuer {
        None => params.self_signed(&key).unwrap(),
        Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)).unwrap(),
    };
    Node { der: certificate.der().to_vec(), params, key }
}

/// A maker of TPMs.
struct Maker {
    root: Node,
    middle: Node,
}

impl Maker {
    fn new(name: &str) -> Self {
        let root = issue(authority(&format!("{name} root"), 1), None);
        let middle = issue(authority(&format!("{name} middle"), 2), Some(&root));
        Self { root, middle }
    }

    fn anchor(&self, name: &str) -> TpmAnchor {
        TpmAnchor {
            name: name.to_owned(),
            development: false,
            root: self.root.der.clone(),
            key: P256,
            attests: true,
            google: false,
        }
    }

    /// A certificate of a new key with this purpose (under 2.23.133.8), the key, and the one above it.
    fn certify(&self, purpose: u64, change: impl FnOnce(&mut CertificateParams)) -> (KeyPair, Vec<Vec<u8>>) {
        let mut params = params("a TPM's key");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, purpose])];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let leaf = issue(params, Some(&self.middle));
        (leaf.key, vec![leaf.der, self.middle.der.clone()])
    }

    /// A TPM whose attestation key is certified.
    fn tpm(&self, change: impl FnOnce(&mut CertificateParams)) -> Tpm {
        let (key, chain) = self.certify(3, change);
        Tpm { key, chain }
    }

    /// A list of its root that revokes this serial number.
    fn list(&self, revoked: u64) -> Vec<u8> {
        let dates = params("unused");
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(revoked),
            revocation_time: dates.not_before,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: dates.not_before,
            next_update: dates.not_after,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&Issuer::from_params(&self.root.params, &self.root.key)).unwrap().der().to_vec()
    }
}

/// An attestation key, and what certifies it.
struct Tpm {
    key: KeyPair,
    chain: Vec<Vec<u8>>,
}

impl Tpm {
    /// `TPMT_PUBLIC` of the key: P-256, ECDSA with SHA-256; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth,
    /// restricted, sign.
    fn public(&self) -> Vec<u8> {
        let begin = [0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10];
        let (x, y) = self.key.public_key_raw()[1..].split_at(32);
        [&begin, &[0, 32][..], x, &[0, 32], y].concat()
    }

    fn report(&self, pcrs: Pcrs, nonce: &[u8], log: Option<Vec<u8>>) -> Report {
        let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
        let values: Vec<u8> = pcrs.values().flat_map(|of| of.values().flatten().copied()).collect();
        let mut quote = vec![0xff, b'T', b'C', b'G', 0x80, 0x18];
        quote.extend([sized(&[1; 34]), sized(nonce)].concat());
        // Clock, resets, restarts, safe, firmware.
        quote.extend([&[0; 16][..], &[1], &[0; 8]].concat());
        quote.extend((pcrs.len() as u32).to_be_bytes());
        for (bank, of) in &pcrs {
            let bits = of.keys().fold(0_u32, |bits, register| bits | 1 << register);
            quote.extend([&bank.id().to_be_bytes()[..], &[3], &bits.to_le_bytes()[..3]].concat());
        }
        quote.extend(sized(&HashAlg::Sha256.digest(&[&values])));
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.serialize_der()).unwrap();
        let signed = pair.sign(&SystemRandom::new(), &quote).unwrap();
        let (r, s) = signed.as_ref().split_at(32);
        let signature = [&[0, 0x18, 0, 0x0b][..], &sized(r), &sized(s)].concat();
        Report { quote, signature, ak: self.public(), pcrs, log }
    }
}

/// Registers of one bank that all hold the same.
fn alike(registers: impl IntoIterator<Item = u8>, bank: HashAlg) -> (HashAlg, Values) {
    (bank, registers.into_iter().map(|register| (register, vec![0x77; bank.size()])).collect())
}

fn roots(anchor: TpmAnchor) -> TpmRoots {
    TpmRoots::new(&anchors(vec![anchor])).unwrap()
}

#[test]
fn a_measurement_is_of_banks_and_registers_not_of_values_alone() {
    let maker = Maker::new("maker");
    let (tpm, roots) = (maker.tpm(|_| ()), roots(maker.anchor("maker")));
    let mut measurements = Vec::new();
    for pcrs in [
        Pcrs::from([alike(0..10, HashAlg::Sha256)]),
        Pcrs::from([alike((0..8).chain([8, 11]), HashAlg::Sha256)]),
        Pcrs::from([alike((0..8).chain([14, 15]), HashAlg::Sha256)]),
        Pcrs::from([alike(0..8, HashAlg::Sha256), alike(0..1, HashAlg::Sha384)]),
        Pcrs::from([alike(0..8, HashAlg::Sha256), alike(1..2, HashAlg::Sha384)]),
        Pcrs::from([alike(0..8, HashAlg::Sha384)]),
    ] {
        let claims =
            judge(&tpm.report(pcrs.clone(), &[5; 32], None), &tpm.chain, &[], &roots, NOW).unwrap().measurement.value;
        let parts = pcrs.iter().flat_map(|(bank, of)| {
            of.iter().map(|(register, value)| [&bank.id().to_be_bytes()[..], &[*register], value].concat())
        });
        let whole = [b"legation-tpm-registers-v1".to_vec(), parts.flatten().collect()].concat();
        assert_eq!(claims, Digest::of(&whole).to_string());
        measurements.push(claims);
    }
    let all = measurements.len();
    measurements.sort();
    measurements.dedup();
    assert_eq!(measurements.len(), all, "one for each selection");
}

#[test]
fn registers_that_any_program_may_reset_are_quoted_by_development_tpms_alone() {
    let maker = Maker::new("maker");
    let tpm = maker.tpm(|_| ());
    let production = roots(maker.anchor("maker"));
    let development = TpmAnchor { development: true, ..maker.anchor("maker") };
    let development = DevelopmentTpmRoots::new(&anchors(vec![development])).unwrap();
    for more in (8..24).map(|register| vec![register]).chain([vec![], vec![8, 16]]) {
        let barred = more.iter().any(|register| RESETTABLE.contains(register));
        for bank in [vec![], vec![alike(more.iter().copied(), HashAlg::Sha384)]] {
            // Beside registers 0 to 7, or in a bank of their own.
            let own = if bank.is_empty() { more.clone() } else { Vec::new() };
            let pcrs: Pcrs = [alike((0..8).chain(own), HashAlg::Sha256)].into_iter().chain(bank).collect();
            let report = tpm.report(pcrs, &[5; 32], None);
            let told = check_of(judge(&report, &tpm.chain, &[], &production, NOW));
            assert_eq!(told, if barred { "tpm.selection" } else { "ok" }, "{more:?}");
            assert_eq!(check_of(judge(&report, &tpm.chain, &[], &development, NOW)), "ok", "{more:?}");
        }
    }
}

#[test]
fn secure_boot_is_what_a_replayed_bank_measured() {
    let maker = Maker::new("maker");
    let (tpm, roots) = (maker.tpm(|_| ()), roots(maker.anchor("maker")));
    let off = [&SECURE_BOOT_ON[..SECURE_BOOT_ON.len() - 1], &[0]].concat();
    let (on, off) = (SECURE_BOOT_ON, off.as_slice());
    // A TPM whose register 7 measured this once, in each bank its own.
    let measured = |banks: &[(HashAlg, &[u8], std::ops::Range<u8>)]| -> Pcrs {
        let bank = |(bank, data, registers): &(HashAlg, &[u8], std::ops::Range<u8>)| {
            let zeros = vec![0; bank.size()];
            let seven = bank.digest(&[&zeros, &bank.digest(&[data])]);
            let value = |register| if register == 7 { seven.clone() } else { zeros.clone() };
            (*bank, registers.clone().map(|register| (register, value(register))).collect())
        };
        banks.iter().map(bank).collect()
    };
    // A log that shows `on`, with the digests of these data.
    let log = |digests: &[(HashAlg, &[u8])]| {
        let banks: Vec<_> = digests.iter().map(|(bank, _)| *bank).collect();
        let digests = digests.iter().map(|(bank, data)| bank.digest(&[data])).collect();
        samples::log_in(&banks, &[(7, eventlog::EV_EFI_VARIABLE_DRIVER_CONFIG, digests, on)])
    };
    let [short, long] = BANKS;
    let told = |pcrs, log| {
        let claims = judge(&tpm.report(pcrs, &[5; 32], Some(log)), &tpm.chain, &[], &roots, NOW);
        claims.map(|claims| claims.features.map(|f| f.value.contains(SECURE_BOOT))).map_err(|refusal| refusal.check)
    };
    assert_eq!(told(measured(&[(short, on, 0..8)]), log(&[(short, on)])), Ok(Some(true)));
    assert_eq!(told(measured(&[(short, on, 0..8)]), log(&[(short, on), (long, on)])), Ok(Some(true)));
    assert_eq!(told(measured(&[(short, on, 0..8), (long, on, 0..8)]), log(&[(short, on), (long, on)])), Ok(Some(true)));
    // It was off. The log's other bank, which nobody quoted, says on.
    assert_eq!(told(measured(&[(short, off, 0..8)]), log(&[(short, off), (long, on)])), Ok(None));
    assert_eq!(told(measured(&[(long, off, 0..8)]), log(&[(short, on), (long, off)])), Ok(None));
    // The other bank was quoted, but for what tells.
    assert_eq!(told(measured(&[(short, off, 0..8), (long, on, 0..7)]), log(&[(short, off), (long, on)])), Ok(None));
    let refused = Err("tpm.event-log".to_owned());
    assert_eq!(told(measured(&[(short, off, 0..8), (long, on, 0..7)]), log(&[(long, on)])), refused);
    assert_eq!(told(measured(&[(short, off, 0..8)]), log(&[(long, on)])), refused);
    assert_eq!(told(measured(&[(short, off, 0..8), (long, off, 0..8)]), log(&[(short, off), (long, on)])), refused);
}

/// Where Google says an instance stands.
fn instance(zone: &str) -> CustomExtension {
    let der = |tag: u8, content: &[u8]| [&[tag, content.len() as u8][..], content].concat();
    let production = der(0xa0, &der(0x30, &der(0xa1, &der(1, &[0xff]))));
    let number = der(2, &[7]);
    let texts = [zone, "project", "name"].map(|text| der(0x0c, text.as_bytes()));
    let fields = [&texts[0], &number, &texts[1], &number, &texts[2], &production].map(Vec::as_slice).concat();
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 11_129, 2, 1, 21], der(0x30, &fields))
}

#[test]
fn a_root_says_places_only_if_it_is_googles_and_knows_tpms_by_one_kind_of_key() {
    let maker = Maker::new("maker");
    let tpm = maker.tpm(|params| params.custom_extensions = vec![instance("us-central1-a")]);
    let report = tpm.report(Pcrs::from([alike(0..8, HashAlg::Sha256)]), &[5; 32], None);
    let under = |anchor| judge(&report, &tpm.chain, &[], &roots(anchor), NOW);
    let plain = under(maker.anchor("maker")).unwrap();
    assert_eq!((plain.operator, plain.region), (None, None), "whoever makes TPMs is not Google");
    let google = under(TpmAnchor { google: true, ..maker.anchor("google") }).unwrap();
    assert_eq!(google.operator.unwrap().value, "google-cloud");
    assert_eq!(google.region.unwrap().value.as_str(), "us-central1-a");
    let development = TpmAnchor { google: true, development: true, ..maker.anchor("bench") };
    assert_eq!(check_of(DevelopmentTpmRoots::new(&anchors(vec![development]))), "roots.tpm");
    for key in [TpmKey::Rsa2048, TpmKey::EccP384] {
        assert_eq!(check_of(under(TpmAnchor { key, ..maker.anchor("maker") })), "tpm.certificate", "{key}");
    }

    // As files have it: what is not said is the least.
    let json = serde_json::json!({ "name": "m", "development": false, "root": encoding::base64(&maker.root.der) });
    let read: TpmAnchor = serde_json::from_value(json.clone()).unwrap();
    assert_eq!((read.key, read.google), (TpmKey::Rsa2048, false));
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
    for key in TpmKey::ALL {
        let anchor = TpmAnchor { key, google: true, ..read.clone() };
        let text = serde_json::to_string(&anchor).unwrap();
        assert_eq!(serde_json::from_str::<TpmAnchor>(&text).unwrap(), anchor);
        assert!(key == TpmKey::default() || text.contains(&format!("\"key\":\"{key}\"")), "{text}");
    }
}

#[test]
fn statements_are_remembered_once_believed_and_within_a_bound_and_end_with_their_appointment() {
    let maker = Maker::new("maker");
    let endorses = TpmAnchor { attests: false, ..maker.anchor("maker") };
    let (roots, word) = (roots(endorses), Word::new());
    let (_, ek) = maker.certify(1, |params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    let tpm = maker.tpm(|_| ());
    let told = KeyAttestation {
        verifier: word.verifier.public_key(),
        ak: tpm.public(),
        ek,
        issued: NOW,
        expires: NOW.plus(DAY),
        prev: vec![word.appointment.digest()],
    };
    let told = dsse::sign(told, &word.verifier);
    let report = tpm.report(Pcrs::from([alike(0..8, HashAlg::Sha256)]), &[5; 32], None).encode();
    let operators = word.operators();
    let judged = |cache: &Cache, endorsements: &[Vec<u8>], operators: &[PublicKey]| {
        let presented = Presented { report: &report, endorsements, operators, crls: &[], grace: 0 };
        check_of(verify(&presented, &roots, cache, NOW))
    };
    let held = |cache: &Cache| {
        let text = format!("{cache:?}");
        let words = text.split("words: Bounded(").nth(1).and_then(|t| t.split(' ').next());
        words.and_then(|n| n.parse::<usize>().ok()).unwrap_or_else(|| panic!("{text}"))
    };

    let cache = Cache::default();
    // By a verifier whom a stranger appointed; of another key; too long by a certificate; too large.
    let sent = word.sent(&told);
    assert_eq!(judged(&cache, &sent, &[]), "tpm.key-attestation");
    assert_eq!(judged(&cache, &word.signed(|w| w.ak[8] ^= 0xff, &told), &operators), "tpm.key-attestation");
    let long = word.signed(|w| w.ek = vec![vec![0x30; 20]; 9], &told);
    assert_eq!(judged(&cache, &long, &operators), "tpm.endorsements");
    let padded = |n: usize, to: usize| {
        let mut padded = sent[n].clone();
        padded.splice(1..1, vec![b' '; to.saturating_sub(sent[n].len())]);
        padded
    };
    for n in [0, 1] {
        let mut large = sent.clone();
        large[n] = padded(n, STATEMENT_MAX + 1);
        assert_eq!(judged(&cache, &large, &operators), "tpm.endorsements", "statement {n}");
        large[n] = padded(n, STATEMENT_MAX);
        assert_eq!(judged(&Cache::new(0), &large, &operators), "ok", "statement {n}");
    }
    assert_eq!(held(&cache), 0, "nothing of what was refused is held");
    assert_eq!(judged(&cache, &sent, &operators), "ok");
    assert_eq!(judged(&cache, &sent, &operators), "ok");
    assert_eq!(held(&cache), 1);
    let most = WORDS_BYTES_MAX / (2 * STATEMENT_MAX - 1000);
    for less in 0..most + 10 {
        let pair = [padded(0, STATEMENT_MAX - less), padded(1, STATEMENT_MAX)];
        assert_eq!(judged(&cache, &pair, &operators), "ok");
    }
    assert!((2..=most).contains(&held(&cache)), "{cache:?} of at most {most}");

    let end = word.appointment.not_after;
    for (expires, check) in [(end, "ok"), (end.plus(1), "tpm.key-attestation")] {
        assert_eq!(judged(&cache, &word.signed(|w| w.expires = expires, &told), &operators), check, "{expires}");
    }
}

#[test]
fn a_list_of_a_root_revokes_and_is_named_by_verdicts_under_that_root_alone() {
    let (maker, other) = (Maker::new("maker"), Maker::new("other"));
    let tpm = maker.tpm(|_| ());
    let both = anchors(vec![maker.anchor("maker"), other.anchor("other")]);
    let judge = Judge::new(Roots::new(&both).unwrap());
    let bound = serde_json::to_vec(&binding()).unwrap();
    let nonce = KeyBinding::report_data(&bound);
    let report = tpm.report(Pcrs::from([alike(0..8, HashAlg::Sha256)]), &nonce[..32], None);
    let evidence = Evidence {
        kind: TeeKind::Tpm,
        report: report.encode(),
        endorsements: tpm.chain.clone(),
        devices: Vec::new(),
        binding: bound,
        configuration: configuration().encode(),
    };
    let shelf = |lists: &[(&str, Vec<u8>)]| {
        let mut shelf = Shelf::empty();
        for (name, bytes) in lists {
            shelf.put(Arc::new(CollateralItem { name: (*name).to_owned(), bytes: bytes.clone() }));
        }
        shelf
    };
    let (ours, theirs) = (("tpm/maker/crl", maker.list(9)), ("tpm/other/crl", other.list(9)));
    let judged = judge.judge(&evidence, &shelf(&[ours.clone(), theirs]), NOW).unwrap();
    let item = CollateralItem { name: ours.0.to_owned(), bytes: ours.1 };
    assert_eq!(judged.collateral, [item.digest()]);
    // The authority that certified this TPM has serial number 2.
    let revoked = shelf(&[("tpm/maker/crl", maker.list(2))]);
    assert_eq!(check_of(judge.judge(&evidence, &revoked, NOW)), "tpm.crl");
    assert_eq!(check_of(judge.judge(&evidence, &shelf(&[("tpm/other/crl", other.list(2))]), NOW)), "ok");
}
