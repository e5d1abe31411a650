//! `legation evidence verify` on published evidence of every kind but SEV-SNP (see `evidence`): the verdicts that were
//! measured, at their times. The files are not part of the repository: where they are absent, these tests say so and pass.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::world::program;

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn published() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence");
    let found = path.canonicalize().ok();
    if found.is_none() {
        eprintln!("SKIPPED: published evidence is not at {}", path.display());
    }
    found
}

/// The collateral files of other projects in the one form that the command takes.
fn collateral(folder: &Path, name: &str, into: &Path) -> String {
    let value = match name {
        json if json.ends_with(".json") => return folder.join(json).to_str().unwrap().to_owned(),
        yaml if yaml.ends_with(".yaml") => from_yaml(&fs::read_to_string(folder.join(yaml)).unwrap()),
        fmspc => from_files(&folder.join("tdx/attestation-rs-collateral"), fmspc),
    };
    let path = into.join(format!("{}.json", name.replace('/', "-")));
    fs::write(&path, value.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Top-level keys with literal blocks.
fn from_yaml(text: &str) -> Value {
    let mut object = serde_json::Map::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        let text = match value.trim() {
            style @ ("|" | "|-" | ">" | ">-") => {
                let mut block = Vec::new();
                while let Some(line) = lines.next_if(|l| l.is_empty() || l.starts_with(' ')) {
                    block.push(line.trim_start());
                }
                block.join(if style.starts_with('|') { "\n" } else { "" }).trim_end().to_owned()
            }
            quoted => serde_json::from_str(quoted).unwrap(),
        };
        object.insert(key.to_owned(), text.into());
    }
    Value::Object(object)
}

fn from_files(folder: &Path, fmspc: &str) -> Value {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let hex = |name: &str| {
        let bytes = fs::read(folder.join(name)).unwrap();
        bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let signed = |name: &str, key: &str| {
        let text = text(name);
        let (body, signature) =
            text.strip_prefix(&format!("{{\"{key}\":")).unwrap().rsplit_once(",\"signature\":\"").unwrap();
        (body.to_owned(), signature.trim_end().trim_end_matches("\"}").to_owned())
    };
    let (tcb_info, tcb_info_signature) = signed(&format!("tcb_info_{fmspc}.json"), "tcbInfo");
    let (qe_identity, qe_identity_signature) = signed("td_qe_identity.json", "enclaveIdentity");
    json!({
        "pck_crl_issuer_chain": "",
        "root_ca_crl": hex("root_ca_crl.der"),
        "pck_crl": hex("pck_crl_platform.der"),
        "tcb_info_issuer_chain": text("tcb_signing_chain.pem"),
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_info_signature,
        "qe_identity_issuer_chain": text("qe_identity_signing_chain.pem"),
        "qe_identity": qe_identity,
        "qe_identity_signature": qe_identity_signature,
    })
}

async fn verdict(folder: &Path, args: &[&str], refused: Option<&str>) -> Value {
    let words: Vec<&str> = ["evidence", "verify", "--json"].iter().chain(args).copied().collect();
    let ran = program(folder, None, &words).await.ended(if refused.is_some() { 4 } else { 0 }, &[]);
    let verdict = ran.json();
    let found = verdict["checks"].as_array().unwrap().iter().find(|c| c["outcome"] == "refused");
    assert_eq!(found.map(|c| c["check"].as_str().unwrap()), refused, "{args:?}: {verdict:#}");
    if let Some(found) = found {
        let said = &found["rejection"];
        assert!(["claim", "expected", "got", "fix"].iter().all(|k| !said[k].as_str().unwrap().is_empty()), "{said}");
    }
    verdict
}

/// Quote, collateral, time, further words; the check that refuses; measurement and status of what is genuine.
type Row<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], Option<&'a str>, Option<(&'a str, &'a str)>);

#[tokio::test]
async fn intel_quotes_get_the_verdicts_that_were_measured() {
    let Some(folder) = published() else { return };
    let here = tempfile::tempdir().unwrap();
    let phala = "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7";
    let flashbots = "a5844e88897b70c318bef929ef4dfd6c7304c52c4bc9c3f39132f0fdccecf3eb5bab70110ee42a12509a31c037288694";
    let sgx = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb";
    let hardening = ["--allow-tcb", "configuration-and-sw-hardening-needed"];
    let status = "configuration-and-sw-hardening-needed";
    let table: [Row<'_>; 20] = [
        (
            "tdx/dcap-qvl/quote.bin",
            "tdx/dcap-qvl/collateral.json",
            "1751328000",
            &[],
            None,
            Some((phala, "up-to-date")),
        ),
        ("tdx/dcap-qvl/quote.bin", "tdx/dcap-qvl/collateral.json", "1750329146", &[], Some("dcap.freshness"), None),
        (
            "tdx/dcap-qvl/quote.bin",
            "tdx/dcap-qvl/collateral.json",
            "1750329147",
            &[],
            None,
            Some((phala, "up-to-date")),
        ),
        ("tdx/dcap-qvl/quote.bin", "tdx/dcap-qvl/collateral.json", "1752920164", &[], Some("dcap.freshness"), None),
        ("tdx/dcap-qvl/quote.bin", "tdx/dcap-qvl/collateral.json", "1795219200", &[], Some("dcap.freshness"), None),
        (
            "tdx/dcap-qvl-outdated/quote.bin",
            "tdx/dcap-qvl-outdated/collateral.json",
            "1771412331",
            &[],
            Some("dcap.tcb"),
            None,
        ),
        (
            "tdx/dcap-qvl-outdated/quote.bin",
            "tdx/dcap-qvl-outdated/collateral.json",
            "1774000000",
            &[],
            Some("dcap.tcb"),
            None,
        ),
        (
            "tdx/flashbots/quote-1766059550.bin",
            "tdx/flashbots/collateral-00.yaml",
            "1769507399",
            &[],
            None,
            Some((flashbots, "up-to-date")),
        ),
        (
            "tdx/flashbots/quote-1766059550.bin",
            "tdx/flashbots/collateral-00.yaml",
            "1772096505",
            &[],
            None,
            Some((flashbots, "up-to-date")),
        ),
        (
            "tdx/flashbots/quote-1766059550.bin",
            "tdx/flashbots/collateral-00.yaml",
            "1772096506",
            &[],
            Some("dcap.freshness"),
            None,
        ),
        ("tdx/trustee/quote-v5.dat", "90c06f000000", "1774995066", &[], Some("dcap.tcb"), None),
        ("tdx/go-tdx-guest/quote-v4-prod-SPR.dat", "50806f000000", "1774995526", &[], Some("dcap.form"), None),
        (
            "tdx/trustee/quote-v4.dat",
            "50806f000000",
            "1774995526",
            &[],
            Some("policy.debug"),
            Some(("", "out-of-date")),
        ),
        (
            "tdx/trustee/quote-v4.dat",
            "50806f000000",
            "1774995526",
            &["--allow-debug"],
            Some("policy.tcb"),
            Some(("", "out-of-date")),
        ),
        (
            "tdx/trustee/quote-v4.dat",
            "50806f000000",
            "1774995526",
            &["--allow-debug", "--allow-tcb", "out-of-date"],
            None,
            Some(("", "out-of-date")),
        ),
        ("sgx/dcap-qvl/quote.bin", "sgx/dcap-qvl/collateral.json", "1750330571", &hardening, None, Some((sgx, status))),
        (
            "sgx/dcap-qvl/quote.bin",
            "sgx/dcap-qvl/collateral.json",
            "1750330571",
            &[],
            Some("policy.tcb"),
            Some((sgx, status)),
        ),
        (
            "sgx/trustee/occlum_quote.dat",
            "sgx/dcap-qvl/collateral.json",
            "1751328000",
            &[],
            Some("dcap.collateral"),
            None,
        ),
        // Mixed up: another kind's collateral, and a development root's.
        (
            "tdx/dcap-qvl/quote.bin",
            "sgx/dcap-qvl/collateral.json",
            "1751328000",
            &[],
            Some("dcap.collateral-kind"),
            None,
        ),
        (
            "tdx/dcap-qvl/quote.bin",
            "tdx/mock-root/mock-dcap-collateral.yaml",
            "1751328000",
            &[],
            Some("dcap.root"),
            None,
        ),
    ];
    for (quote, items, at, words, refused, shows) in table {
        let items = collateral(&folder, items, here.path());
        let kind = if quote.starts_with("sgx/") { "sgx" } else { "tdx" };
        let mut args = vec![quote, "--kind", kind, "--at", at, "--collateral", &items];
        args.extend(words);
        let verdict = verdict(&folder, &args, refused).await;
        let claims = &verdict["claims"];
        match shows {
            Some((measurement, status)) => {
                assert!(measurement.is_empty() || claims["measurement"]["value"] == measurement, "{args:?}: {claims}");
                assert_eq!(claims["tcb"]["value"]["status"], status, "{args:?}");
            }
            None => assert!(claims.is_null(), "{args:?}"),
        }
    }
    let advisories = verdict(&folder, &["sgx/dcap-qvl/quote.bin", "--at", "1750330571"], Some("policy.tcb")).await;
    let advisories = &advisories["claims"]["tcb"]["value"]["advisories"];
    assert_eq!(*advisories, json!(["INTEL-SA-00289", "INTEL-SA-00615"]));
    // One bit.
    let mut quote = fs::read(folder.join("tdx/flashbots/quote-1766059550.bin")).unwrap();
    quote[600] ^= 1;
    fs::write(here.path().join("quote.bin"), quote).unwrap();
    let items = collateral(&folder, "tdx/flashbots/collateral-00.yaml", here.path());
    let args = ["quote.bin", "--at", "1769510999", "--collateral", &items];
    verdict(here.path(), &args, Some("dcap.signature")).await;
}

#[tokio::test]
async fn nitro_documents_get_the_verdicts_that_were_measured() {
    let Some(folder) = published() else { return };
    let beta = "f4d48b81a460c9916d1e685119074bf24660afd3e34fae9fca0a0d28d9d5599936332687e6f66fc890ac8cf150142d8b";
    let dstack = "5cb702954321826d7939d6da829a940d787fcf32357beb8eae1ddf33c28c17d36f3ac3ba6828fdf7edeed02889702da6";
    for (document, at, refused, pcr0) in [
        ("nitro/evervault/valid-beta.cbor", "1665651482", None, Some(beta)),
        ("nitro/evervault/valid-beta.cbor", "1665662283", Some("nitro.dates"), None),
        ("nitro/evervault/valid-beta.cbor", "1795219200", Some("nitro.dates"), None),
        ("nitro/dstack/nsm-response.bin", "1766668537", None, Some(dstack)),
        ("nitro/dstack/nsm-response.bin", "1766679338", Some("nitro.dates"), None),
        ("nitro/evervault/debug-mode.cbor", "1665582606", Some("policy.debug"), Some("")),
    ] {
        let verdict = verdict(&folder, &[document, "--at", at], refused).await;
        assert_eq!(verdict["kind"], "nitro");
        match pcr0 {
            Some(pcr0) => {
                let found = verdict["claims"]["measurement"]["value"].as_str().unwrap();
                assert!(pcr0.is_empty() || found == pcr0, "{document}: {found}");
                assert_eq!(verdict["claims"]["anchor"]["name"], "aws-nitro-g1");
            }
            None => assert!(verdict["claims"].is_null(), "{document} at {at}"),
        }
    }
    verdict(&folder, &["nitro/evervault/debug-mode.cbor", "--at", "1665582606", "--allow-debug"], None).await;
}

#[tokio::test]
async fn a_tpm_quote_gets_the_verdict_that_was_measured() {
    let Some(folder) = published() else { return };
    let folder = folder.join("tpm/keylime");
    let nonce = "db1db298db6d60e6385b7231743e9c3056a18003";
    let with = |nonce| {
        ["quote.out", "--kind", "tpm-quote", "--signature", "quotesig.out", "--key", "akpub.pem", "--nonce", nonce]
    };
    verdict(&folder, &with(nonce), None).await;
    verdict(&folder, &with("db1db298db6d60e6385b7231743e9c3056a18004"), Some("tpm-quote.nonce")).await;
    let other =
        ["quote.out", "--kind", "tpm-quote", "--signature", "quotesig.out", "--key", "ekpub.pem", "--nonce", nonce];
    verdict(&folder, &other, Some("tpm-quote.signature")).await;
    let args = ["evidence", "verify", "quote.out", "--kind", "tpm-quote"];
    program(&folder, None, &args).await.ended(2, &["needs --signature FILE"]);
}

#[tokio::test]
async fn azure_machines_and_gpus_get_the_verdicts_of_their_sources() {
    let Some(folder) = published() else { return };
    for report in ["az-snp-vtpm/evidence-v0.json", "az-snp-vtpm/evidence-v2.json", "az-snp-vtpm/evidence-genoa.json"] {
        let args = [report, "--kind", "az-snp-vtpm", "--at", "1775000000"];
        let verdict = verdict(&folder, &args, None).await;
        assert_eq!(verdict["claims"]["tee"]["value"], "az-snp-vtpm", "{report}");
    }
    let gpu = |report, chain| [report, "--kind", "nvidia-gpu", "--certificates", chain, "--at", "1775000000"];
    for (report, chain, refused) in [
        ("nvidia/hopperAttestationReport.txt", "nvidia/hopperCertChain.txt", None),
        ("nvidia/blackwellAttestationReport.txt", "nvidia/blackwellCertChain.txt", None),
        ("nvidia/hopperAttestationReportInvalidSignature.txt", "nvidia/hopperCertChain.txt", Some("nvidia.signature")),
        ("nvidia/hopperAttestationReport.txt", "nvidia/blackwellCertChain.txt", Some("nvidia.signature")),
    ] {
        let verdict = verdict(&folder, &gpu(report, chain), refused).await;
        assert_eq!(verdict["gpu"].is_null(), refused.is_some(), "{report}");
    }
}
