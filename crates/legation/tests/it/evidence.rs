//! `legation evidence verify` on published reports of real machines. They are not part of the repository: where they are
//! absent, these tests say so and pass.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::world::{Ran, program};

/// Published reports, beside the repository.
fn published() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence/snp");
    let found = path.canonicalize().ok();
    if found.is_none() {
        eprintln!("SKIPPED: published SEV-SNP reports are not at {}", path.display());
    }
    found
}

async fn verify(folder: &Path, args: &[&str]) -> Ran {
    let args: Vec<&str> = ["evidence", "verify"].iter().chain(args).copied().collect();
    program(folder, None, &args).await
}

/// The check that refused, and what it said.
fn refusal(verdict: &Value) -> Option<(&str, &Value)> {
    let refused = verdict["checks"].as_array().unwrap().iter().find(|c| c["outcome"] == "refused")?;
    Some((refused["check"].as_str().unwrap(), &refused["rejection"]))
}

/// Times at which certificates of the sets hold, and do not.
const IN_2020: &str = "1600000000";
const IN_2023: &str = "1700000000";
const IN_2025: &str = "1750000000";
const IN_2026: &str = "1775000000";
const IN_2031: &str = "1925000000";

#[tokio::test]
async fn published_reports_get_the_verdicts_that_were_measured() {
    let Some(folder) = published() else { return };
    let milan = "a1f3930413247bb38cfc171579ea3c12d5fe4901f0c792f63fd75d98f1ef827c23500644e0e692e6be917f9050d3d38c";
    let vlek = "8922ebbdd00ec2c541f36a6e7a82a8773a7accb451ed67bc94e740dbe92c93c4e8c9af857f5ceeb5a493df2a570d7bf0";
    let debug = "b07af9620f3b839b47996422ddec6058338951d984e312115131ea82705eaf5b6bdf8a9ece31a5a608eb0cf2e4872b01";
    let genoa = "5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca1";
    let turin = "6d6c354511d6f7c6d7504668903dc5bdc066a048b651840d8d03fb85299ebfa142fccf1d1b0baca496841bdf243619d4";
    // Report, certificate, as of when; the check that refuses; what a genuine report shows: root, measurement, level.
    type Shows<'a> = Option<(&'a str, &'a str, u32)>;
    let table: [(&str, &str, &str, Option<&str>, Shows<'_>); 16] = [
        ("milan-v2/report.bin", "milan-v2/vcek.der", IN_2023, None, Some(("amd-milan", milan, 0))),
        ("milan-v2/report.bin", "milan-v2/vcek.der", IN_2020, Some("snp.dates"), None),
        ("milan-v2/report.bin", "milan-v2/vcek.der", IN_2031, Some("snp.dates"), None),
        ("milan-v2/report.bin", "milan-v2/vcek-invalid-legacy.der", IN_2023, Some("snp.chain"), None),
        ("milan-go/report.bin", "milan-go/vcek.der", IN_2023, Some("policy.debug"), Some(("amd-milan", debug, 0))),
        ("milan-vlek/report.bin", "milan-vlek/vlek.der", IN_2025, None, Some(("amd-milan", vlek, 1))),
        ("milan-vlek/report.bin", "milan-vlek/vlek.der", IN_2023, Some("snp.dates"), None),
        ("milan-vlek/report.bin", "milan-vlek/vlek.der", IN_2026, Some("snp.dates"), None),
        ("genoa-ms/report.bin", "genoa-ms/vcek.pem", IN_2026, None, Some(("amd-genoa", genoa, 0))),
        ("genoa-ms/report.bin", "genoa-ms/vcek.pem", IN_2023, Some("snp.dates"), None),
        // Under another product's roots.
        ("genoa-ms/report.bin", "milan-v2/vcek.der", IN_2026, Some("snp.product"), None),
        ("turin-ms/report.bin", "turin-ms/vcek.pem", IN_2026, None, Some(("amd-turin", turin, 0))),
        ("turin-ms/report.bin", "turin-ms/vcek.pem", IN_2023, Some("snp.dates"), None),
        // Another chip of the same product.
        ("turin-ms/report.bin", "turin-virtee/vcek.der", IN_2026, Some("snp.chip-id"), None),
        ("milan-v2/report.bin", "milan-go/vcek.der", IN_2023, Some("snp.chip-id"), None),
        ("milan-vlek/report.bin", "milan-v2/vcek.der", IN_2025, Some("snp.signing-key"), None),
    ];
    for (report, certificate, at, refused, shows) in table {
        let args = [report, "--kind", "snp", "--at", at, "--vcek", certificate, "--json"];
        let ran = verify(&folder, &args).await.ended(if refused.is_some() { 4 } else { 0 }, &[]);
        let verdict = ran.json();
        let case = format!("{report} with {certificate} at {at}: {verdict:#}");
        assert_eq!(verdict["verdict"], if refused.is_some() { "invalid" } else { "valid" }, "{case}");
        assert_eq!(
            (&verdict["kind"], &verdict["at"]),
            (&"sev-snp".into(), &at.parse::<u64>().unwrap().into()),
            "{case}"
        );
        assert_eq!(refusal(&verdict).map(|(check, _)| check), refused, "{case}");
        let claims = &verdict["claims"];
        match shows {
            Some((root, measurement, level)) => {
                assert_eq!(claims["anchor"]["name"], root, "{case}");
                assert_eq!(claims["measurement"]["value"], measurement, "{case}");
                assert_eq!(claims["vmpl"]["value"], level, "{case}");
                assert_eq!(claims["debug"]["value"], refused == Some("policy.debug"), "{case}");
            }
            // Nothing is shown of what is not known to be genuine.
            None => assert!(claims.is_null(), "{case}"),
        }
        // People are told the same.
        let ran = verify(&folder, &args[..7]).await.ended(if refused.is_some() { 4 } else { 0 }, &[]);
        let last = ran.out().lines().last().unwrap().to_owned();
        assert!(last.starts_with(if refused.is_some() { "INVALID as of " } else { "valid as of " }), "{last}");
        if let Some(check) = refused {
            assert!(ran.out().lines().any(|l| l.starts_with("REFUSED") && l.contains(check)), "{}", ran.out());
        }
        assert_eq!(ran.out().contains("measurement "), shows.is_some(), "{}", ran.out());
    }
    // A report that production refuses is taken by whoever says so.
    let args = ["milan-go/report.bin", "--at", IN_2023, "--vcek", "milan-go/vcek.der", "--allow-debug"];
    verify(&folder, &args).await.ended(0, &[]);
    // The certificate beside the report is found by its usual names.
    verify(&folder, &["milan-vlek/report.bin", "--at", IN_2025]).await.ended(0, &[]);
    // Without a time, the verdict is as of now.
    verify(&folder, &["milan-vlek/report.bin"]).await.ended(4, &[]);
    // Reports of real machines are none of a development root's.
    let verdict = verify(&folder, &["milan-v2/report.bin", "--kind", "dev-snp", "--json"]).await.ended(4, &[]).json();
    assert_eq!(refusal(&verdict).map(|(check, _)| check), Some("snp.root"), "{verdict:#}");
}

#[tokio::test]
async fn one_bit_makes_a_published_report_worthless() {
    let Some(folder) = published() else { return };
    let here = tempfile::tempdir().unwrap();
    let report = fs::read(folder.join("milan-v2/report.bin")).unwrap();
    fs::copy(folder.join("milan-v2/vcek.der"), here.path().join("vcek.der")).unwrap();
    // Report data, measurement, id of the chip, policy, and the signature itself.
    for at in [0x50, 0x90, 0x1a0, 0x08, 0x2a0] {
        let mut changed = report.clone();
        changed[at] ^= 1;
        fs::write(here.path().join("report.bin"), changed).unwrap();
        verify(here.path(), &["report.bin", "--at", IN_2023]).await.ended(4, &[]);
    }
    fs::write(here.path().join("report.bin"), report).unwrap();
    verify(here.path(), &["report.bin", "--at", IN_2023]).await.ended(0, &[]);
}

#[tokio::test]
async fn files_that_are_no_reports_are_said_to_be_none() {
    let Some(folder) = published() else { return };
    let mut files: Vec<_> = fs::read_dir(folder.join("roots")).unwrap().map(|f| f.unwrap().path()).collect();
    files.push(folder.join("turin-virtee/vcek.der"));
    files.push(folder.join("../tdx/dcap-qvl/quote.bin"));
    files.push(folder.join("../sgx/dcap-qvl/quote.bin"));
    for file in &files {
        let name = file.to_str().unwrap();
        let bytes = fs::metadata(file).unwrap().len();
        let ran =
            verify(&folder, &[name, "--kind", "snp", "--vcek", "milan-v2/vcek.der", "--json"]).await.ended(4, &[]);
        let verdict = ran.json();
        let (check, why) = refusal(&verdict).unwrap();
        assert_eq!((check, &why["expected"]), ("snp.length", &"1184 bytes".into()), "{name}: {why}");
        assert_eq!(why["got"], format!("{bytes} bytes"), "{name}: {why}");
        // As a certificate, none of them will do either.
        let ran = verify(&folder, &["milan-v2/report.bin", "--at", IN_2026, "--vcek", name, "--json"]).await;
        let verdict = ran.ended(4, &[]).json();
        let (check, _) = refusal(&verdict).unwrap();
        assert!(["snp.certificate", "snp.root", "snp.chip-id"].contains(&check), "{name}: {check}");
    }
    let root = folder.join("roots/milan-ark.pem");
    verify(&folder, &[root.to_str().unwrap()])
        .await
        .ended(2, &["no certificate beside", "milan-ark.pem", "--vcek FILE"]);
    verify(&folder, &["nowhere.bin"]).await.ended(2, &["cannot read nowhere.bin"]);
    verify(&folder, &["milan-v2/report.bin", "--vcek", "nowhere.der"]).await.ended(2, &["cannot read nowhere.der"]);
    verify(&folder, &["milan-v2/report.bin", "--kind", "vax"])
        .await
        .ended(2, &["vax", "possible values: snp, dev-snp"]);
    verify(&folder, &["milan-v2/report.bin", "--kind", "tdx"]).await.ended(2, &["needs --collateral FILE"]);
    verify(&folder, &["milan-v2/report.bin", "--at", "yesterday"]).await.ended(2, &["yesterday"]);
}
