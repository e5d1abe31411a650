//! Published quotes of Intel TDX and SGX, each at a time and with the verdict it must have. Not in the repository.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use legation_attest::dcap::{self, Cache, Check, Collateral, IntelRoot, Presented, QUOTE_MAX};
use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{Anchor, Claims, RevocationCheck, Source, TcbStatus, TeeKind},
    encoding,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::{folder, read};

/// Inside the dates of `tdx/dcap-qvl` and `sgx/dcap-qvl`: 2025-07-01.
const T: u64 = 1_751_328_000;
/// Inside the dates of the sets whose levels are in `tdx/attestation-rs-collateral`.
const T_50806F: u64 = 1_774_995_526;
const T_90C06F: u64 = 1_774_995_066;

/// Where the folders of TDX and SGX are.
fn samples() -> Option<PathBuf> {
    folder("tdx")?.parent().map(Path::to_path_buf)
}

fn text(folder: &Path, name: &str) -> String {
    String::from_utf8(read(folder, name)).unwrap()
}

/// The little YAML of the collateral files: top-level keys with a block, folded or not, or a quoted string.
fn yaml(text: &str) -> Value {
    let mut object = serde_json::Map::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        let value = match value.trim() {
            style @ ("|" | "|-" | ">" | ">-") => {
                let mut block = Vec::new();
                while let Some(line) = lines.next_if(|l| l.is_empty() || l.starts_with(' ')) {
                    block.push(line.trim_start());
                }
                let joined = block.join(if style.starts_with('|') { "\n" } else { "" });
                Value::String(joined.trim_end().to_owned())
            }
            quoted => serde_json::from_str(quoted).unwrap(),
        };
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}

/// The set that comes in files, as JSON.
fn from_files(folder: &Path, fmspc: &str) -> Value {
    let file = |name: &str| format!("tdx/attestation-rs-collateral/{name}");
    // {"tcbInfo":{..},"signature":".."}: the inner object is signed as it stands.
    let signed = |name: &str, key: &str| {
        let text = text(folder, &file(name));
        let start = format!("{{\"{key}\":");
        let (body, signature) = text.strip_prefix(&start).unwrap().rsplit_once(",\"signature\":\"").unwrap();
        (body.to_owned(), signature.trim_end().trim_end_matches("\"}").to_owned())
    };
    let (tcb_info, tcb_info_signature) = signed(&format!("tcb_info_{fmspc}.json"), "tcbInfo");
    let (qe_identity, qe_identity_signature) = signed("td_qe_identity.json", "enclaveIdentity");
    json!({
        "pck_crl_issuer_chain": "",
        "root_ca_crl": encoding::hex(&read(folder, &file("root_ca_crl.der"))),
        "pck_crl": encoding::hex(&read(folder, &file("pck_crl_platform.der"))),
        "tcb_info_issuer_chain": text(folder, &file("tcb_signing_chain.pem")),
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_info_signature,
        "qe_identity_issuer_chain": text(folder, &file("qe_identity_signing_chain.pem")),
        "qe_identity": qe_identity,
        "qe_identity_signature": qe_identity_signature,
    })
}

fn form(folder: &Path, name: &str) -> Value {
    match name {
        "50806f000000" | "90c06f000000" => from_files(folder, name),
        yaml_file if yaml_file.ends_with(".yaml") => yaml(&text(folder, yaml_file)),
        json_file => serde_json::from_slice(&read(folder, json_file)).unwrap(),
    }
}

fn parsed(form: &Value) -> Collateral {
    Collateral::parse(&serde_json::to_vec(form).unwrap()).unwrap()
}

fn collateral(folder: &Path, name: &str) -> Collateral {
    parsed(&form(folder, name))
}

fn verdict(
    kind: TeeKind,
    quote: &[u8],
    collateral: &Collateral,
    grace_seconds: u64,
    at: u64,
) -> Result<Claims, Rejection> {
    let presented = Presented { kind, quote, collateral, grace_seconds };
    dcap::verify(&presented, &IntelRoot::production(), &Cache::new(0), UnixTime(at))
}

fn check_of<T>(result: &Result<T, Rejection>) -> String {
    result.as_ref().map_or_else(|r| r.check.clone(), |_| "ok".to_owned())
}

const TDX: (&str, &str) = ("tdx/dcap-qvl/quote.bin", "tdx/dcap-qvl/collateral.json");
const SGX: (&str, &str) = ("sgx/dcap-qvl/quote.bin", "sgx/dcap-qvl/collateral.json");
const FLASHBOTS: (&str, &str) = ("tdx/flashbots/quote-1766059550.bin", "tdx/flashbots/collateral-00.yaml");
const OUTDATED: (&str, &str) = ("tdx/dcap-qvl-outdated/quote.bin", "tdx/dcap-qvl-outdated/collateral.json");

#[test]
fn published_quotes_have_the_verdicts_they_must_have() {
    let Some(folder) = samples() else { return };
    use TeeKind::{Sgx, Tdx};
    // Kind, quote, collateral, time, grace, expected check that refuses.
    let table: &[(TeeKind, &str, &str, u64, u64, &str)] = &[
        (Tdx, TDX.0, TDX.1, T, 0, "ok"),
        // From the issue of the last document to the last second of the first one that ends: here the PCK CRL, 928 seconds
        // before the TCB info (1752920163), which its source gives as the end. The library refuses from the same second.
        (Tdx, TDX.0, TDX.1, 1_750_329_146, 0, "dcap.freshness"),
        (Tdx, TDX.0, TDX.1, 1_750_329_147, 0, "ok"),
        (Tdx, TDX.0, TDX.1, 1_752_919_234, 0, "ok"),
        (Tdx, TDX.0, TDX.1, 1_752_919_235, 0, "dcap.freshness"),
        (Tdx, TDX.0, TDX.1, 1_752_920_164, 0, "dcap.freshness"),
        (Tdx, TDX.0, TDX.1, 1_752_919_235, 1, "ok"),
        (Tdx, TDX.0, TDX.1, 1_752_919_235 + 86_399, 86_400, "ok"),
        (Tdx, TDX.0, TDX.1, 1_752_919_235 + 86_400, 86_400, "dcap.freshness"),
        (Tdx, TDX.0, TDX.1, 1_795_262_400, 0, "dcap.freshness"),
        (Tdx, TDX.0, TDX.1, 0, u64::MAX, "dcap.freshness"),
        (Tdx, TDX.0, TDX.1, u64::MAX, 0, "dcap.freshness"),
        // However long the grace, certificates end.
        (Tdx, TDX.0, TDX.1, u64::MAX, u64::MAX, "dcap.dates"),
        (Tdx, FLASHBOTS.0, FLASHBOTS.1, 1_769_507_398, 0, "dcap.freshness"),
        (Tdx, FLASHBOTS.0, FLASHBOTS.1, 1_769_507_399, 0, "ok"),
        (Tdx, FLASHBOTS.0, FLASHBOTS.1, 1_772_096_505, 0, "ok"),
        (Tdx, FLASHBOTS.0, FLASHBOTS.1, 1_772_096_506, 0, "dcap.freshness"),
        (Sgx, SGX.0, SGX.1, 1_750_330_570, 0, "dcap.freshness"),
        (Sgx, SGX.0, SGX.1, 1_750_330_571, 0, "ok"),
        (Sgx, SGX.0, SGX.1, 1_752_919_278, 0, "ok"),
        (Sgx, SGX.0, SGX.1, 1_752_919_279, 0, "dcap.freshness"),
        // Below every level.
        (Tdx, OUTDATED.0, OUTDATED.1, 1_771_412_331, 0, "dcap.tcb"),
        (Tdx, OUTDATED.0, OUTDATED.1, 1_773_000_000, 0, "dcap.tcb"),
        // Its PCK CRL ends a minute before its TCB info (1774003335), and for the library too.
        (Tdx, OUTDATED.0, OUTDATED.1, 1_774_003_274, 0, "dcap.tcb"),
        (Tdx, OUTDATED.0, OUTDATED.1, 1_774_003_275, 0, "dcap.freshness"),
        (Tdx, OUTDATED.0, OUTDATED.1, 1_774_003_335, 0, "dcap.freshness"),
        (Tdx, OUTDATED.0, OUTDATED.1, 1_774_003_335, 61, "dcap.tcb"),
        (Tdx, OUTDATED.0, OUTDATED.1, 1_771_412_330, 0, "dcap.freshness"),
        (Tdx, "tdx/trustee/quote-v5.dat", "90c06f000000", T_90C06F, 0, "dcap.tcb"),
        // Bytes that are no zeros behind the quote; without them it is below every level.
        (Tdx, "tdx/go-tdx-guest/quote-v4-prod-SPR.dat", "50806f000000", T_50806F, 0, "dcap.form"),
        // Genuine and debugged: for the policy.
        (Tdx, "tdx/trustee/quote-v4.dat", "50806f000000", T_50806F, 0, "ok"),
        // Collateral of another platform, authority or kind; evidence of another kind.
        (Tdx, TDX.0, FLASHBOTS.1, 1_770_000_000, 0, "dcap.collateral"),
        (Tdx, FLASHBOTS.0, TDX.1, T, 0, "dcap.collateral"),
        (Tdx, "tdx/trustee/quote-v5.dat", "50806f000000", T_50806F, 0, "dcap.collateral"),
        (Tdx, "tdx/ccel-gcp/cos-113-tdx-quote.dat", TDX.1, T, 0, "dcap.collateral"),
        (Sgx, "sgx/trustee/occlum_quote.dat", SGX.1, T, 0, "dcap.collateral"),
        (Tdx, TDX.0, SGX.1, T, 0, "dcap.collateral-kind"),
        (Sgx, SGX.0, TDX.1, T, 0, "dcap.collateral-kind"),
        (Sgx, TDX.0, TDX.1, T, 0, "dcap.kind"),
        (Tdx, SGX.0, SGX.1, T, 0, "dcap.kind"),
        (TeeKind::SevSnp, TDX.0, TDX.1, T, 0, "dcap.kind"),
        (TeeKind::DevSnp, TDX.0, TDX.1, T, 0, "dcap.kind"),
        (TeeKind::AzTdxVtpm, SGX.0, SGX.1, T, 0, "dcap.kind"),
        // Collateral of a development root is none.
        (Tdx, TDX.0, "tdx/mock-root/mock-dcap-collateral.yaml", T, 0, "dcap.root"),
        (Tdx, "az-tdx-vtpm/td-quote.bin", TDX.1, T, 0, "dcap.collateral"),
    ];
    for (kind, quote, items, at, grace, expected) in table {
        let result = verdict(*kind, &read(&folder, quote), &collateral(&folder, items), *grace, *at);
        assert_eq!(check_of(&result), *expected, "{kind} {quote} with {items} at {at}: {result:?}");
        if let Err(rejection) = result {
            assert!(!rejection.fix.is_empty() && Check::ALL.iter().any(|c| c.id() == rejection.check), "{rejection}");
        }
    }

    let spr = read(&folder, "tdx/go-tdx-guest/quote-v4-prod-SPR.dat");
    let result = verdict(TeeKind::Tdx, &spr[..4935], &collateral(&folder, "50806f000000"), 0, T_50806F);
    assert_eq!(check_of(&result), "dcap.tcb", "below every level, as published: {result:?}");
}

/// Where the source of the samples names other last seconds (those of the TCB info, 1752920163 and 1774003335): the bare
/// library ends with the PCK CRL as well, at the second of its next update, as we do.
#[test]
fn the_bare_library_ends_with_the_first_document_that_ends() {
    let Some(folder) = samples() else { return };
    let ends = |(quote, items): (&str, &str), at: u64| {
        let set: dcap_qvl::QuoteCollateralV3 = serde_json::from_slice(&read(&folder, items)).unwrap();
        let result = dcap_qvl::verify::QuoteVerifier::new_prod().verify(&read(&folder, quote), &set, at);
        result.map_or_else(|e| format!("{e:#}"), |report| report.status)
    };
    for (sample, at, expected) in [
        (TDX, 1_752_919_234, "UpToDate"),
        (TDX, 1_752_919_235, "CrlExpired"),
        (TDX, 1_752_920_163, "CrlExpired"),
        (TDX, 1_752_920_164, "TCBInfo expired"),
        (OUTDATED, 1_774_003_274, "No matching TCB level found"),
        (OUTDATED, 1_774_003_275, "CrlExpired"),
        (OUTDATED, 1_774_003_335, "CrlExpired"),
        (OUTDATED, 1_774_003_336, "QE Identity expired"),
    ] {
        let found = ends(sample, at);
        assert!(found.contains(expected), "{} at {at}: {found}", sample.0);
    }
}

#[test]
fn claims_say_what_a_quote_and_its_collateral_show() {
    let Some(folder) = samples() else { return };
    let claims = |kind, (quote, items): (&str, &str), grace, at| {
        verdict(kind, &read(&folder, quote), &collateral(&folder, items), grace, at).unwrap()
    };

    let tdx = claims(TeeKind::Tdx, TDX, 0, T);
    assert_eq!(
        tdx.measurement.value,
        "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
    );
    assert_eq!((tdx.tee.value, tdx.anchor.clone()), (TeeKind::Tdx, Anchor::Production("intel-sgx-root".to_owned())));
    assert_eq!(
        (tdx.measurement.source, tdx.chip.source, tdx.tcb.source),
        (Source::Hardware, Source::Endorsed, Source::Endorsed)
    );
    let names: Vec<_> = tdx.registers.keys().map(String::as_str).collect();
    let expected = ["mrconfigid", "mrowner", "mrownerconfig", "mrseam", "rtmr0", "rtmr1", "rtmr2", "rtmr3"];
    assert_eq!(names, expected);
    assert!(tdx.registers.values().all(|hex| hex.len() == 96) && tdx.report_data.len() == 128);
    assert_eq!((tdx.chip.value.len(), tdx.product.value.as_str()), (64, "b0c06f000000"));
    let tcb = &tdx.tcb.value;
    assert_eq!((tcb.status, tcb.level.as_deref(), tcb.advisories.len()), (TcbStatus::UpToDate, Some("2024-03-13"), 0));
    assert!(tcb.shortfall.is_empty(), "{:?}", tcb.shortfall);
    let version =
        "cpuSvn=03030202040100050000000000000000&pceSvn=11&teeTcbSvn=06010300000000000000000000000000&qeSvn=6";
    assert_eq!(tcb.version, version);
    assert!(!tdx.debug.value && tdx.confidential.value && tdx.stale_since.is_none());
    assert_eq!(tdx.revocation, RevocationCheck::Checked);
    let features = tdx.features.unwrap().value;
    for name in ["tdx-1.0", "sept-ve-disable", "avx512", "amx", "smt", "dynamic-platform", "cached-keys"] {
        assert!(features.contains(name), "{name} in {features:?}");
    }
    assert!(!features.contains("pks") && !features.contains("kl"));

    let stale = claims(TeeKind::Tdx, TDX, 86_400, 1_752_920_164);
    assert_eq!(stale.stale_since, Some(UnixTime(1_752_919_235)), "the PCK CRL's next update");
    assert_eq!((stale.measurement, stale.tcb, stale.chip), (tdx.measurement, tdx.tcb, tdx.chip));

    let flashbots = claims(TeeKind::Tdx, FLASHBOTS, 0, 1_770_000_000);
    assert_eq!(
        flashbots.measurement.value,
        "a5844e88897b70c318bef929ef4dfd6c7304c52c4bc9c3f39132f0fdccecf3eb5bab70110ee42a12509a31c037288694"
    );
    assert_eq!(flashbots.tcb.value.status, TcbStatus::UpToDate);

    let debug = claims(TeeKind::Tdx, ("tdx/trustee/quote-v4.dat", "50806f000000"), 0, T_50806F);
    assert!(debug.debug.value, "a debugged domain says so; whether that passes is for the policy");
    assert_eq!(debug.tcb.value.status, TcbStatus::OutOfDate);
    let short: Vec<_> = debug.tcb.value.shortfall.iter().map(ToString::to_string).collect();
    assert!(!short.is_empty() && short.iter().any(|s| s.contains("-svn")), "{short:?}");
    assert!(debug.tcb.value.advisories.is_sorted());

    let sgx = claims(TeeKind::Sgx, SGX, 0, T);
    let features = sgx.features.clone().unwrap().value;
    // Its processor authority says nothing of it, and so do we.
    assert!(!features.contains("smt") && !features.contains("smt-disabled"), "{features:?}");
    assert_eq!(sgx.measurement.value, "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb");
    assert_eq!(sgx.tcb.value.status, TcbStatus::ConfigurationAndSwHardeningNeeded);
    assert_eq!(sgx.tcb.value.advisories, ["INTEL-SA-00289", "INTEL-SA-00615"]);
    let names: Vec<_> = sgx.registers.keys().map(String::as_str).collect();
    assert_eq!((names, sgx.product.value.as_str()), (vec!["isvprodid", "isvsvn", "mrsigner"], "00a067110000"));
    assert_eq!((sgx.registers["isvprodid"].as_str(), sgx.registers["isvsvn"].as_str()), ("0000", "0000"));
}

#[test]
fn a_quote_names_the_collateral_it_needs_and_the_collateral_says_its_name() {
    let Some(folder) = samples() else { return };
    let cache = Cache::default();
    for (quote, name) in [
        (TDX.0, "intel/tdx/b0c06f000000/platform"),
        (SGX.0, "intel/sgx/00a067110000/processor"),
        (FLASHBOTS.0, "intel/tdx/00806f050000/platform"),
        ("tdx/ccel-gcp/cos-113-tdx-quote.dat", "intel/tdx/00806f050000/platform"),
        ("tdx/trustee/quote-v4.dat", "intel/tdx/50806f000000/platform"),
        ("tdx/trustee/quote-v5.dat", "intel/tdx/90c06f000000/platform"),
    ] {
        let bytes = read(&folder, quote);
        assert_eq!(dcap::collateral_name(&bytes).unwrap(), name, "{quote}");
        for round in ["read", "remembered"] {
            assert_eq!(cache.collateral_name(&bytes).unwrap(), name, "{quote} {round}");
        }
    }
    assert!(cache.collateral_name(b"").is_err());
    assert!(dcap::collateral_name(&read(&folder, "az-tdx-vtpm/td-quote.bin")).unwrap().starts_with("intel/tdx/"));
    let occlum = dcap::collateral_name(&read(&folder, "sgx/trustee/occlum_quote.dat")).unwrap();
    assert!(occlum.starts_with("intel/sgx/"), "{occlum}");

    let set = collateral(&folder, TDX.1);
    assert_eq!(set.name(), "intel/tdx/b0c06f000000/platform");
    let freshness = set.freshness();
    let earliest = freshness.next().unwrap();
    assert_eq!((earliest.what.as_str(), freshness.next_update()), ("PCK CRL", UnixTime(1_752_919_235)));
    assert_eq!((freshness.issued(), freshness.expires()), (UnixTime(1_750_329_147), UnixTime(1_752_919_235)));
    assert_eq!(freshness.documents.len(), 4);
    assert!(freshness.certificates.iter().any(|c| c.what.contains("TCB Signing")), "{:?}", freshness.certificates);
    assert_eq!(collateral(&folder, SGX.1).name(), "intel/sgx/00a067110000/processor");
    assert_eq!(collateral(&folder, SGX.1).freshness().next().unwrap().what, "QE identity");
}

/// Where the signed parts of a quote lie: header and body, signature, key, and the quoting enclave's report with its
/// signature and data.
fn signed_parts(quote: &[u8]) -> Vec<usize> {
    let parsed = dcap::parse_quote(quote).unwrap();
    let body = parsed.signed_part().len();
    // The size of what follows; then signature and key; in later versions type and size; then report, signature, data.
    let (auth, nested) = (body + 4, if parsed.version() == 3 { 0 } else { 6 });
    let qe = auth + 128 + nested;
    (0..body).chain(auth..auth + 128).chain(qe..qe + 384 + 64 + 2 + 32).collect()
}

fn flips(kind: TeeKind, quote: &[u8], set: &Collateral, cache: &Cache, at: u64, step: usize) -> BTreeSet<String> {
    let root = IntelRoot::production();
    let verify = |quote: &[u8]| {
        let presented = Presented { kind, quote, collateral: set, grace_seconds: 0 };
        dcap::verify(&presented, &root, cache, UnixTime(at))
    };
    let expected = verify(quote).unwrap();
    let mut bytes = quote.to_vec();
    let mut names = BTreeSet::new();
    for byte in signed_parts(quote).into_iter().step_by(step) {
        bytes[byte] ^= 1 << (byte % 8);
        let result = verify(&bytes);
        assert!(result.is_err(), "{kind} bit {} of byte {byte}", byte % 8);
        names.insert(check_of(&result));
        bytes[byte] ^= 1 << (byte % 8);
    }
    assert_eq!(verify(&bytes).unwrap(), expected);
    names
}

#[test]
fn a_flipped_bit_in_any_signed_byte_is_refused_with_and_without_a_cache() {
    let Some(folder) = samples() else { return };
    for (kind, (quote, items)) in [(TeeKind::Tdx, TDX), (TeeKind::Sgx, SGX)] {
        let (quote, set) = (read(&folder, quote), collateral(&folder, items));
        for cache in [Cache::new(0), Cache::default()] {
            let names = flips(kind, &quote, &set, &cache, T, 1);
            for name in ["dcap.version", "dcap.algorithm", "dcap.qe-binding", "dcap.signature", "dcap.qe-signature"] {
                assert!(names.contains(name), "{name} in {names:?}");
            }
        }
    }
}

/// The other published quotes, a byte in seven.
#[test]
fn a_flipped_bit_in_other_published_quotes_is_refused() {
    let Some(folder) = samples() else { return };
    for (quote, items, at) in
        [(FLASHBOTS.0, FLASHBOTS.1, 1_770_000_000), ("tdx/trustee/quote-v4.dat", "50806f000000", T_50806F)]
    {
        let (quote, set, cache) = (read(&folder, quote), collateral(&folder, items), Cache::default());
        let names = flips(TeeKind::Tdx, &quote, &set, &cache, at, 7);
        assert!(names.contains("dcap.signature") && names.contains("dcap.qe-signature"), "{names:?}");
    }
}

#[test]
fn a_flipped_bit_in_collateral_is_refused() {
    let Some(folder) = samples() else { return };
    let quote = read(&folder, TDX.0);
    let original = form(&folder, TDX.1);
    let original = original.as_object().unwrap();
    let mut tried = 0;
    for key in ["tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature", "root_ca_crl", "pck_crl"] {
        let text = original[key].as_str().unwrap();
        for at in (0..text.len()).step_by(37) {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            if changed.eq_ignore_ascii_case(text) {
                continue;
            }
            let mut form = original.clone();
            form[key] = Value::String(changed);
            tried += 1;
            let Ok(set) = Collateral::parse(&serde_json::to_vec(&form).unwrap()) else { continue };
            let result = verdict(TeeKind::Tdx, &quote, &set, 0, T);
            assert!(result.is_err(), "byte {at} of {key}");
        }
    }
    assert!(tried > 200, "{tried}");
    for (key, expected) in
        [("tcb_info_signature", "dcap.collateral-signature"), ("qe_identity_signature", "dcap.collateral-signature")]
    {
        let mut form = original.clone();
        let signature = form[key].as_str().unwrap();
        form[key] = Value::String(format!("{}{}", &signature[2..], &signature[..2]));
        let result = verdict(TeeKind::Tdx, &quote, &parsed(&Value::Object(form)), 0, T);
        assert_eq!(check_of(&result), expected);
    }
}

#[test]
fn collateral_that_is_not_whole_is_refused_when_it_is_parsed() {
    let Some(folder) = samples() else { return };
    let original = form(&folder, TDX.1);
    let keys: Vec<String> = original.as_object().unwrap().keys().cloned().collect();
    let refused = |form: &Value, what: &str| {
        let result = Collateral::parse(&serde_json::to_vec(form).unwrap());
        assert_eq!(check_of(&result), "dcap.collateral-form", "{what}");
    };
    for key in &keys {
        let mut absent = original.clone();
        absent.as_object_mut().unwrap().remove(key);
        refused(&absent, key);
        for wrong in [json!(1), json!("zz"), json!(null)] {
            let mut changed = original.clone();
            changed[key] = wrong.clone();
            refused(&changed, &format!("{key}: {wrong}"));
        }
    }
    let mut more = original.clone();
    more["unknown"] = json!("");
    refused(&more, "a key more");
    let text = serde_json::to_string(&original).unwrap();
    let twice = text.replacen('{', "{\"pck_crl\":\"00\",", 1);
    assert_eq!(check_of(&Collateral::parse(twice.as_bytes())), "dcap.collateral-form", "a key twice");
    let padded = format!("{text}{}", " ".repeat(1 << 20));
    assert_eq!(check_of(&Collateral::parse(padded.as_bytes())), "dcap.collateral-form", "too large");
    for (from, to) in [
        ("\"version\":3", "\"version\":2"),
        ("\"tcbType\":0", "\"tcbType\":1"),
        ("\"id\":\"TDX\"", "\"id\":\"SNP\""),
        ("2025-06-19T10:16:03Z", "2025-06-19 10:16:03"),
        ("UpToDate", "Splendid"),
    ] {
        let mut changed = original.clone();
        let info = changed["tcb_info"].as_str().unwrap();
        assert!(info.contains(from), "{from}");
        changed["tcb_info"] = Value::String(info.replacen(from, to, 1));
        refused(&changed, to);
    }
}

#[test]
fn a_cached_platform_gives_the_same_verdicts_until_a_date_ends() {
    let Some(folder) = samples() else { return };
    let (quote, set) = (read(&folder, TDX.0), collateral(&folder, TDX.1));
    let (root, cache) = (IntelRoot::production(), Cache::default());
    let verify = |quote: &[u8], set: &Collateral, grace_seconds, at| {
        let presented = Presented { kind: TeeKind::Tdx, quote, collateral: set, grace_seconds };
        dcap::verify(&presented, &root, &cache, UnixTime(at))
    };
    assert!(cache.is_empty());
    let first = verify(&quote, &set, 0, T).unwrap();
    assert_eq!(cache.len(), 1);
    assert_eq!(verify(&quote, &set, 0, T).unwrap(), first);
    for (grace, at, expected) in [
        (0, 1_750_329_146, "dcap.freshness"),
        (0, 1_750_329_147, "ok"),
        (0, 1_752_919_234, "ok"),
        (0, 1_752_919_235, "dcap.freshness"),
        (10, 1_752_919_235, "ok"),
        (10, 1_752_919_245, "dcap.freshness"),
        (u64::MAX, u64::MAX, "dcap.dates"),
        (0, 0, "dcap.freshness"),
    ] {
        let result = verify(&quote, &set, grace, at);
        assert_eq!(check_of(&result), expected, "{at}");
        let uncached = verdict(TeeKind::Tdx, &quote, &set, grace, at);
        assert_eq!(result, uncached, "{at}");
    }
    assert_eq!(cache.len(), 1, "one platform, whatever the time");
    // Zeros behind a quote are not part of it.
    let padded = [quote.clone(), vec![0; 100]].concat();
    assert_eq!(verify(&padded, &set, 0, T).unwrap(), first);
    assert_eq!(cache.len(), 1);
    // Other collateral is another key, even where it says the same.
    let mut other = form(&folder, TDX.1);
    other["pck_crl_issuer_chain"] = json!("");
    assert_eq!(verify(&quote, &parsed(&other), 0, T).unwrap(), first);
    assert_eq!(cache.len(), 2);
    // And what was refused is not remembered.
    let mut forged = quote.clone();
    forged[300] ^= 1;
    assert_eq!(check_of(&verify(&forged, &set, 0, T)), "dcap.signature");
    assert_eq!(cache.len(), 2);

    let json = read(&folder, TDX.1);
    let digest = Digest::of(&json);
    let a = cache.collateral(digest, &json).unwrap();
    let b = cache.collateral(digest, b"not looked at again").unwrap();
    assert_eq!((a.digest(), a.name()), (b.digest(), b.name()));
    assert_eq!(check_of(&cache.collateral(Digest::of(b"x"), b"x")), "dcap.collateral-form");
}

#[test]
fn quotes_that_are_cut_or_too_long_are_refused() {
    let Some(folder) = samples() else { return };
    for quote in [TDX.0, SGX.0, OUTDATED.0] {
        let quote = read(&folder, quote);
        let whole = quote.len() - quote.iter().rev().take_while(|b| **b == 0).count();
        for len in 0..whole {
            let result = dcap::parse_quote(&quote[..len]);
            assert!(matches!(check_of(&result).as_str(), "dcap.form" | "dcap.version"), "{len}: {result:?}");
        }
        let longer = |byte: u8, len: usize| [quote.clone(), vec![byte; len - quote.len()]].concat();
        assert_eq!(check_of(&dcap::parse_quote(&longer(0, QUOTE_MAX))), "ok");
        assert_eq!(check_of(&dcap::parse_quote(&longer(0, QUOTE_MAX + 1))), "dcap.size");
        assert_eq!(check_of(&dcap::parse_quote(&longer(1, quote.len() + 1))), "dcap.form");
    }
}

/// Our reading of a quote beside the library's.
#[test]
fn the_library_reads_the_same_quote() {
    let Some(folder) = samples() else { return };
    for name in [
        TDX.0,
        SGX.0,
        FLASHBOTS.0,
        OUTDATED.0,
        "tdx/trustee/quote-v4.dat",
        "tdx/trustee/quote-v5.dat",
        "tdx/ccel-gcp/cos-113-tdx-quote.dat",
        "az-tdx-vtpm/td-quote.bin",
        "sgx/trustee/occlum_quote.dat",
    ] {
        let bytes = read(&folder, name);
        let (ours, theirs) = (dcap::parse_quote(&bytes).unwrap(), dcap_qvl::quote::Quote::parse(&bytes).unwrap());
        assert_eq!(ours.signed_part().len(), theirs.signed_length(), "{name}");
        assert_eq!((ours.version(), ours.kind() == TeeKind::Sgx), (theirs.header.version, theirs.header.is_sgx()));
        let report_data = match (theirs.report.as_td10(), theirs.report.as_sgx()) {
            (Some(td), _) => td.report_data,
            (_, Some(sgx)) => sgx.report_data,
            _ => panic!("{name}"),
        };
        assert_eq!(*ours.report_data(), report_data, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_of_no_meaning_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..6000), version in 3_u8..6) {
        let _ = dcap::parse_quote(&bytes);
        prop_assert!(Collateral::parse(&bytes).is_err());
        let mut begun = bytes.clone();
        if let Some(head) = begun.get_mut(..8) {
            head.copy_from_slice(&[version, 0, 2, 0, if version == 3 { 0 } else { 0x81 }, 0, 0, 0]);
        }
        let _ = dcap::parse_quote(&begun);
        prop_assert!(dcap::collateral_name(&begun).is_err());
    }

    #[test]
    fn mutated_quotes_and_collateral_never_panic_and_never_say_anything_else(
        sgx in any::<bool>(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        len in proptest::option::of(0_usize..9000),
        in_collateral in any::<bool>(),
    ) {
        let Some(folder) = samples() else { return Ok(()) };
        let (kind, (quote, items)) = if sgx { (TeeKind::Sgx, SGX) } else { (TeeKind::Tdx, TDX) };
        let (mut quote, mut json) = (read(&folder, quote), read(&folder, items));
        let expected = verdict(kind, &quote, &Collateral::parse(&json).unwrap(), 0, T).unwrap();
        let target = if in_collateral { &mut json } else { &mut quote };
        for (at, value) in changes {
            let at = at % target.len();
            target[at] = value;
        }
        if let Some(len) = len {
            target.resize(len, 0);
        }
        let _ = dcap::collateral_name(&quote);
        if let Ok(set) = Collateral::parse(&json) {
            // What no signature covers, such as the case of hex or how PEM is laid out, may be changed without effect.
            if let Ok(claims) = verdict(kind, &quote, &set, 0, T) {
                prop_assert_eq!(claims, expected);
            }
        }
    }
}

/// `cargo test -p legation-attest --test it -- --ignored --nocapture verifications_per_second`
#[test]
#[ignore = "a measurement, not a test"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn verifications_per_second() {
    /// On-CPU time of this thread, in seconds.
    fn cpu() -> f64 {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e9
    }
    let Some(folder) = samples() else { return };
    let root = IntelRoot::production();
    for (kind, (quote, items)) in [(TeeKind::Tdx, TDX), (TeeKind::Sgx, SGX)] {
        let (quote, json) = (read(&folder, quote), read(&folder, items));
        let set = Collateral::parse(&json).unwrap();
        let library: dcap_qvl::QuoteCollateralV3 = serde_json::from_slice(&json).unwrap();
        let (cold, warm) = (Cache::new(0), Cache::default());
        let verify = |cache: &Cache| {
            let presented = Presented { kind, quote: &quote, collateral: &set, grace_seconds: 0 };
            dcap::verify(&presented, &root, cache, UnixTime(T)).unwrap();
        };
        verify(&warm);
        let runs: [(&str, u32, &dyn Fn()); 5] = [
            ("library", 500, &|| {
                dcap_qvl::verify::QuoteVerifier::new_prod().verify(&quote, &library, T).unwrap();
            }),
            ("cold", 500, &|| verify(&cold)),
            ("cached", 5000, &|| verify(&warm)),
            ("cached, with name and item", 5000, &|| {
                warm.collateral_name(&quote).unwrap();
                warm.collateral(Digest::of(b"item"), &json).unwrap();
                verify(&warm);
            }),
            ("parsing collateral", 500, &|| {
                Collateral::parse(&json).unwrap();
            }),
        ];
        for (what, times, run) in runs {
            let best = (0..5).map(|_| {
                let before = cpu();
                (0..times).for_each(|_| run());
                (cpu() - before) / f64::from(times)
            });
            let best = best.fold(f64::MAX, f64::min);
            println!("{kind} {what}: {:.1} us, {:.0} per second per core", best * 1e6, 1.0 / best);
        }
    }
}
