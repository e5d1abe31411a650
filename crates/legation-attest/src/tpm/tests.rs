//! A published machine of Google's: quotes over three banks, the certificate of its attestation key, its event log. Its
//! nonce has two bytes, so that [`verify`] as a whole refuses it; its parts are held against each other here.

use std::path::Path;

use legation_core::claims::{Anchors, Source, TeeKind, TpmAnchor, TpmKey};

use super::*;

/// Inside the dates of every certificate here: 2026-02-13.
const T: UnixTime = UnixTime(1_771_000_000);

/// The little of protobuf that the sample needs: fields by number, varints and byte strings.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let len = bytes.iter().position(|b| b & 0x80 == 0).unwrap() + 1;
        let (number, rest) = bytes.split_at(len);
        *bytes = rest;
        number.iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f))
    }
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let number = varint(&mut bytes);
        match key & 7 {
            0 => out.push((key >> 3, number, &[][..])),
            2 => {
                let (field, rest) = bytes.split_at(number as usize);
                bytes = rest;
                out.push((key >> 3, 0, field));
            }
            other => panic!("wire type {other}"),
        }
    }
    out
}

struct Machine {
    reports: Vec<Report>,
    endorsements: Vec<Vec<u8>>,
    roots: TpmRoots,
    anchor: TpmAnchor,
}

/// The roots of an anchor file with this one in it.
fn roots(anchor: &TpmAnchor) -> TpmRoots {
    TpmRoots::new(&Anchors { tpm: vec![anchor.clone()], ..Anchors::default() }).unwrap()
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn machine() -> Option<Machine> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence/tpm/gce");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no published TPM evidence at {}", folder.display());
        return None;
    }
    // The certificates are PEM or DER, whatever their names say.
    let certificate = |name: &str| {
        let bytes = read(&folder.join(name));
        crate::pem::read(&bytes).map_or(bytes, |blocks| blocks[0].der.to_vec())
    };
    let sample = read(&folder.join("gce-cos-85-nonce9009.pb"));
    let parts = fields(&sample);
    let one = |number: u64| parts.iter().find(|(n, ..)| *n == number).unwrap().2.to_vec();
    let quotes = parts.iter().filter(|(n, ..)| *n == 2);
    let reports = quotes.map(|(_, _, quote)| {
        let quote = fields(quote);
        let pcrs = fields(quote[2].2);
        let bank = HashAlg::of_id(pcrs[0].1 as u16).unwrap();
        let entry = |(_, _, entry): &(u64, u64, &[u8])| {
            let entry = fields(entry);
            (entry[0].1 as u8, entry[1].2.to_vec())
        };
        let pcrs = Pcrs::from([(bank, pcrs[1..].iter().map(entry).collect())]);
        let (quote, signature) = (quote[0].2.to_vec(), quote[1].2.to_vec());
        Report { quote, signature, ak: one(1), pcrs, log: Some(one(3)) }
    });
    let root = certificate("tpm_ek_root_1.cer");
    let key = TpmKey::Rsa2048;
    let anchor = TpmAnchor { name: "google".to_owned(), development: false, root, key, attests: true, google: true };
    Some(Machine {
        reports: reports.collect(),
        endorsements: vec![one(6), certificate("tpm_ek_intermediate_2.crt")],
        roots: roots(&anchor),
        anchor,
    })
}

#[expect(clippy::disallowed_methods, reason = "published evidence is a file")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Everything [`verify`] does, for a quote over a nonce of two bytes and over all 24 registers.
fn believed(report: &Report, endorsements: &[Vec<u8>], roots: &TpmRoots, at: UnixTime) -> Result<Claims, Rejection> {
    let presented = Presented { report: &[], endorsements, operators: &[], crls: &[], grace: 0 };
    let ak = attestation_key(&report.ak)?;
    let given = Given { quote: &report.quote, signature: &report.signature, pcrs: &report.pcrs, barred: &[] };
    let quoted = quoted_on(&given, &ak.key, ak.scheme, &[], &mut |_| ())?;
    let endorsed = endorsement::check(&ak, &presented, roots, &Cache::new(0), at, &mut |_| ())?;
    let log = check_log(report.log.as_deref().unwrap(), &report.pcrs)?;
    Ok(claims::<TpmRoots>(&quoted, &report.pcrs, endorsed, Some(&log)))
}

fn check_of(result: Result<Claims, Rejection>) -> String {
    result.map_or_else(|r| r.check, |_| "ok".to_owned())
}

#[test]
fn a_published_machine_of_googles_is_believed_with_its_place() {
    let Some(Machine { reports, endorsements, roots, anchor }) = machine() else { return };
    let verdicts: Vec<_> = reports.iter().map(|r| check_of(believed(r, &endorsements, &roots, T))).collect();
    assert_eq!(verdicts, ["tpm.selection", "ok", "ok"], "SHA-1 alone, SHA-256, SHA-384");
    let claims = believed(&reports[1], &endorsements, &roots, T).unwrap();
    assert_eq!((claims.tee.value, claims.report_data.as_str()), (TeeKind::Tpm, "9009"));
    assert_eq!((claims.product.value.as_str(), claims.product.source), ("goog", Source::Endorsed));
    assert_eq!(claims.region.unwrap().value.as_str(), "us-central1-a");
    assert_eq!(claims.operator.unwrap().value, "google-cloud");
    assert_eq!(claims.features.unwrap().value.into_iter().collect::<Vec<_>>(), [SECURE_BOOT]);
    assert_eq!(claims.registers.len(), 24);

    // A root that nobody called Google's says nothing of places, and one whose TPMs are known by another kind of key has
    // none of this kind.
    let other = super::tests::roots(&TpmAnchor { google: false, ..anchor.clone() });
    let claims = believed(&reports[1], &endorsements, &other, T).unwrap();
    assert_eq!((claims.region, claims.operator), (None, None));
    let other = super::tests::roots(&TpmAnchor { key: TpmKey::EccP256, ..anchor });
    assert_eq!(check_of(believed(&reports[1], &endorsements, &other, T)), "tpm.certificate");

    // It quotes registers that any program may reset: as evidence of a TPM of production it would not do.
    let ak = attestation_key(&reports[1].ak).unwrap();
    let Report { quote, signature, pcrs, .. } = &reports[1];
    let given = Given { quote, signature, pcrs, barred: &RESETTABLE };
    let refusal = quoted_on(&given, &ak.key, ak.scheme, &[], &mut |_| ()).err().unwrap();
    assert_eq!((refusal.check.as_str(), refusal.got.as_str()), ("tpm.selection", "sha256:16,23"));

    // As evidence, all of it is right but the nonce, which is too short to bind anything.
    let report = reports[1].encode();
    let presented = Presented { report: &report, endorsements: &endorsements, operators: &[], crls: &[], grace: 0 };
    let refusal = verify(&presented, &roots, &Cache::new(0), T).unwrap_err();
    assert_eq!(refusal.check, "tpm.qualifying-data");
    assert_eq!(Report::parse(&report).as_ref(), Ok(&reports[1]));
}

#[test]
fn a_certificate_of_another_key_time_or_root_is_refused() {
    let Some(Machine { reports, endorsements, roots, .. }) = machine() else { return };
    let report = &reports[1];
    let with = |endorsements: &[Vec<u8>], at| check_of(believed(report, endorsements, &roots, at));
    assert_eq!(with(&endorsements[..1], T), "tpm.root");
    assert_eq!(with(&endorsements[1..], T), "tpm.chain", "an authority is no TPM");
    assert_eq!(with(&endorsements, UnixTime(1_600_000_000)), "tpm.dates");
    for byte in [4, 100, 700, 1200] {
        let mut bad = endorsements.clone();
        bad[0][byte] ^= 1;
        let check = with(&bad, T);
        assert!(matches!(check.as_str(), "tpm.chain" | "tpm.endorsements" | "tpm.root"), "byte {byte}: {check}");
    }
    let mut other = Public::parse(&report.ak).unwrap();
    if let Key::Rsa { modulus, .. } = &mut other.key {
        modulus[9] ^= 1;
    }
    let presented = Presented { report: &[], endorsements: &endorsements, operators: &[], crls: &[], grace: 0 };
    let refused = endorsement::check(&other, &presented, &roots, &Cache::new(0), T, &mut |_| ());
    assert_eq!(refused.err().map(|r| r.check).as_deref(), Some("tpm.certificate"));
    let nobody = TpmRoots::new(&Anchors::default()).unwrap();
    assert_eq!(check_of(believed(report, &endorsements, &nobody, T)), "tpm.root");
}

#[test]
fn a_log_of_another_boot_or_of_banks_that_were_not_quoted_is_refused() {
    let Some(Machine { reports, endorsements, roots, .. }) = machine() else { return };
    let with = |change: &dyn Fn(&mut Report)| {
        let mut report = reports[1].clone();
        change(&mut report);
        check_of(believed(&report, &endorsements, &roots, T))
    };
    assert_eq!(with(&|_| ()), "ok");
    let len = reports[1].log.as_ref().unwrap().len();
    for at in [200, len / 3, len / 2] {
        assert_eq!(with(&|r| r.log.as_mut().unwrap().truncate(at)), "tpm.event-log", "cut at {at}");
    }
    let log = EventLog::parse(reports[1].log.as_deref().unwrap()).unwrap();
    let digest = log.events.iter().find(|e| e.extends()).and_then(|e| e.digest(HashAlg::Sha256)).unwrap();
    let at = reports[1].log.as_ref().unwrap().windows(32).position(|w| w == digest).unwrap();
    assert_eq!(with(&|r| r.log.as_mut().unwrap()[at] ^= 1), "tpm.event-log");
    assert_eq!(with(&|r| r.log = Some(Vec::new())), "tpm.event-log");
}
