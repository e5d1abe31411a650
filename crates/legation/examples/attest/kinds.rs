//! Verifications per second and core of each kind: our verifier with nothing remembered and with chains remembered, beside
//! the bare call of the library (or the bare signature) in the same loop. CPU time of the thread, best of several batches.

use std::{fs, hint::black_box, path::PathBuf};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use dcap_qvl::{QuoteCollateralV3, verify::QuoteVerifier};
use legation::exit::{Exit, Failure};
use legation_attest::{AmdRoots, azure, dcap, nitro, snp, tpm, x509};
use legation_core::{UnixTime, claims::TeeKind};
use serde_json::{Value, json};
use sev::{
    certs::snp::{Certificate, Chain, Verifiable as _, builtin, ca},
    firmware::guest::AttestationReport,
    parser::ByteParser as _,
};

/// Batches of each measurement; the best counts, since other programs share the machine.
const BATCHES: usize = 5;

/// Microseconds of this thread's CPU that `work` takes.
fn cost(seconds: f64, mut work: impl FnMut() -> bool) -> f64 {
    assert!(work(), "what is measured must succeed");
    let began = thread_cpu();
    let mut rounds = 0_u32;
    while thread_cpu() - began < seconds / 10.0 {
        black_box(work());
        rounds += 1;
    }
    let rounds = rounds.max(1) * 2;
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let began = thread_cpu();
        for _ in 0..rounds {
            black_box(work());
        }
        best = best.min((thread_cpu() - began) / f64::from(rounds));
    }
    best * 1e6
}

/// Seconds of CPU this thread has had (proc(5), schedstat).
pub(super) fn thread_cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: u64 = text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "seconds, not centuries")]
    let seconds = nanoseconds as f64 / 1e9;
    seconds
}

fn row(kind: &str, library: (&str, f64), cold: Option<f64>, cached: Option<f64>, aim: Value) -> Value {
    let per_second = |us: f64| (1e6 / us).round();
    json!({
        "kind": kind,
        "library": library.0, "library_us": round(library.1), "library_per_second": per_second(library.1),
        "cold_us": cold.map(round), "cold_per_second": cold.map(per_second),
        "cached_us": cached.map(round), "cached_per_second": cached.map(per_second),
        "cold_over_library": cold.map(|us| round(us / library.1)),
        "aim": aim,
    })
}

pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, format!("{what}: {why}"))
}

/// All kinds. Without published evidence beside the repository, only what needs none.
pub(super) fn measure(seconds: f64) -> Result<Vec<Value>, Failure> {
    let mut rows = vec![tpm_quote(seconds)?];
    let samples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence");
    if !samples.is_dir() {
        eprintln!("SKIPPED: no published evidence at {}: only TPM quotes are measured", samples.display());
        return Ok(rows);
    }
    let read = |name: &str| fs::read(samples.join(name)).map_err(|e| failed(name, &e));

    let (report, vcek) = (read("snp/milan-v2/report.bin")?, read("snp/milan-v2/vcek.der")?);
    let at = UnixTime(1_750_000_000);
    let roots = AmdRoots::all().map_err(|why| Failure::refused(Exit::Failure, &why))?;
    let presented = snp::Presented { report: &report, leaf: &vcek, intermediate: None, crls: &[], grace: 0 };
    let (cold, warm) = (snp::ChainCache::new(0), snp::ChainCache::default());
    let snp_with = |cache: &snp::ChainCache| snp::verify(&presented, &roots, cache, at).is_ok();
    let library = cost(seconds, || sev_crate(&report, &vcek).is_ok());
    let (cold, warm) = (cost(seconds, || snp_with(&cold)), cost(seconds, || snp_with(&warm)));
    rows.push(row(
        "sev-snp",
        ("sev 8: chain and report, without dates, chip and TCB", library),
        Some(cold),
        Some(warm),
        json!({"cached_per_second": 1300}),
    ));

    for (kind, folder, at) in [(TeeKind::Tdx, "tdx", 1_751_328_000_u64), (TeeKind::Sgx, "sgx", 1_751_328_000)] {
        let quote = read(&format!("{folder}/dcap-qvl/quote.bin"))?;
        let text = read(&format!("{folder}/dcap-qvl/collateral.json"))?;
        let theirs: QuoteCollateralV3 = serde_json::from_slice(&text).map_err(|e| failed("collateral", &e))?;
        let library = cost(seconds, || QuoteVerifier::new_prod().verify(&quote, &theirs, at).is_ok());
        let ours = dcap::Collateral::parse(&text).map_err(|why| Failure::refused(Exit::Failure, &why))?;
        let root = dcap::IntelRoot::production();
        let presented = dcap::Presented { kind, quote: &quote, collateral: &ours, grace_seconds: 0 };
        let with = |cache: &dcap::Cache| dcap::verify(&presented, &root, cache, UnixTime(at)).is_ok();
        let (cold, warm) = (dcap::Cache::new(0), dcap::Cache::default());
        let (cold, warm) = (cost(seconds, || with(&cold)), cost(seconds, || with(&warm)));
        rows.push(row(
            kind.name(),
            ("dcap-qvl 0.7.1 with ring", library),
            Some(cold),
            Some(warm),
            json!({"cold_over_library": 1.1, "per_second": 1600}),
        ));
    }

    let document = read("nitro/evervault/valid-beta.cbor")?;
    let at = UnixTime(1_665_651_482);
    let with = |cache: &x509::ChainCache| nitro::verify(&document, at, cache).is_ok();
    let (cold, warm) = (x509::ChainCache::new(0), x509::ChainCache::default());
    let signature = p384_signature(seconds, &report, &vcek)?;
    let (cold, warm) = (cost(seconds, || with(&cold)), cost(seconds, || with(&warm)));
    rows.push(row(
        "nitro",
        ("one ECDSA P-384 verification", signature),
        Some(cold),
        Some(warm),
        json!({"cached_per_second": 5 * 236}),
    ));

    let (report, endorsements) = azure::from_trustee_json(&read("az-snp-vtpm/evidence-v2.json")?)
        .map_err(|why| Failure::refused(Exit::Failure, &why))?;
    let (report, at) = (report.encode(), UnixTime(1_775_000_000));
    let with = |cache: &snp::ChainCache| azure::verify_snp(&report, &endorsements, &roots, cache, &[], 0, at).is_ok();
    let (cold, warm) = (snp::ChainCache::new(0), snp::ChainCache::default());
    let (cold, warm) = (cost(seconds, || with(&cold)), cost(seconds, || with(&warm)));
    rows.push(row("az-snp-vtpm", ("one ECDSA P-384 verification", signature), Some(cold), Some(warm), Value::Null));
    Ok(rows)
}

/// The `sev` crate on the same report: what it checks, and no more.
fn sev_crate(report: &[u8], vcek: &[u8]) -> std::io::Result<()> {
    let chain = Chain {
        ca: ca::Chain { ark: builtin::milan::ark()?, ask: builtin::milan::ask()? },
        vek: Certificate::from_der(vcek)?,
    };
    let report = AttestationReport::from_bytes(report)?;
    (&chain, &report).verify()
}

/// The signature of a SEV-SNP report alone.
fn p384_signature(seconds: f64, report: &[u8], vcek: &[u8]) -> Result<f64, Failure> {
    let parsed = snp::Report::parse(report).map_err(|why| Failure::refused(Exit::Failure, &why))?;
    let signed = snp::signed_part(report).unwrap_or_default();
    let point = find_point(vcek).ok_or_else(|| failed("VCEK", &"no P-384 key found"))?;
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
    Ok(cost(seconds, || key.verify(signed, &parsed.signature).is_ok()))
}

/// The uncompressed P-384 point behind its BIT STRING header (03 62 00 04).
fn find_point(der: &[u8]) -> Option<&[u8]> {
    let at = der.windows(4).position(|w| w == [0x03, 0x62, 0x00, 0x04])? + 3;
    der.get(at..at + 97)
}

/// A quote of an ECC key: parsed, its signature and nonce checked; beside the bare signature.
fn tpm_quote(seconds: f64) -> Result<Value, Failure> {
    let random = SystemRandom::new();
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(|e| failed("key", &e))?;
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).map_err(|e| failed("key", &e))?;
    let nonce = [7_u8; 32];
    let mut quote = vec![0xff, b'T', b'C', b'G', 0x80, 0x18, 0, 34, 0, 0x0b];
    quote.extend([1; 32]);
    quote.extend([0, 32]);
    quote.extend(nonce);
    quote.extend(1_u64.to_be_bytes());
    quote.extend([0; 8]);
    quote.push(1);
    quote.extend(1_u64.to_be_bytes());
    quote.extend([0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0, 0, 0, 32]);
    quote.extend([9; 32]);
    let fixed = pair.sign(&random, &quote).map_err(|e| failed("signature", &e))?;
    let mut signature = vec![0, 0x18, 0, 0x0b, 0, 32];
    signature.extend(&fixed.as_ref()[..32]);
    signature.extend([0, 32]);
    signature.extend(&fixed.as_ref()[32..]);
    let spki = pair.public_key().as_der().map_err(|e| failed("key", &e))?;
    let key = tpm::Key::from_spki(spki.as_ref()).map_err(|e| failed("key", &e))?;
    let bare = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    let library = cost(seconds, || bare.verify(&quote, fixed.as_ref()).is_ok());
    let ours = cost(seconds, || {
        let parsed = tpm::Quote::parse(&quote);
        let signed = tpm::Signature::parse(&signature);
        matches!((parsed, signed), (Ok(parsed), Ok(signed))
            if parsed.extra_data == nonce && signed.verify(&key, &quote).is_ok())
    });
    Ok(row(
        "tpm (ECC quote)",
        ("one ECDSA P-256 verification", library),
        Some(ours),
        None,
        json!({"per_second": 15_000}),
    ))
}
