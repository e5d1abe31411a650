//! Evidence of Azure's confidential VMs, as the Confidential Containers project publishes it.

use std::path::Path;

use legation_attest::{
    AmdRoots,
    azure::{HclReport, Report, Runtime, from_trustee_json, verify_snp, verify_tdx},
    snp::ChainCache,
    tpm::{HashAlg, Pcrs, Quote, Signature},
};
use legation_core::{
    Rejection, UnixTime,
    claims::{Anchor, Attested, Claims, RevocationCheck, Source, Tcb, TeeKind},
    encoding,
};

use crate::{
    samples::{folder, read},
    world::check_of,
};

/// Inside the dates of every VCEK here: 2026-02-13.
const T: UnixTime = UnixTime(1_771_000_000);

fn sample(folder: &Path, name: &str) -> (Report, Vec<Vec<u8>>) {
    from_trustee_json(&read(folder, name)).unwrap()
}

fn snp(report: &Report, endorsements: &[Vec<u8>]) -> Result<Claims, Rejection> {
    verify_snp(&report.encode(), endorsements, &AmdRoots::all().unwrap(), &ChainCache::default(), &[], 0, T)
}

/// What the quote was asked with, as text where it is one.
const CHALLENGE: &[u8] = b"challenge";

#[test]
fn published_vms_on_snp_are_believed_for_what_their_vtpm_quoted() {
    let Some(folder) = folder("az-snp-vtpm") else { return };
    for (name, product, qualifying) in [
        ("evidence-v0.json", "milan", CHALLENGE.len()),
        ("evidence-v2.json", "milan", 48),
        ("evidence-genoa.json", "genoa", 48),
    ] {
        let (report, endorsements) = sample(&folder, name);
        let claims = snp(&report, &endorsements).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(claims.tee.value, TeeKind::AzSnpVtpm);
        assert_eq!(claims.anchor, Anchor::Production(format!("amd-{product}")));
        assert_eq!((claims.product.value.as_str(), claims.debug.value), (product, false));
        assert_eq!((claims.vmpl.unwrap().value, claims.confidential.value), (0, true));
        assert_eq!(claims.report_data.len(), 2 * qualifying, "{name}");
        assert_eq!(claims.registers.keys().filter(|name| name.starts_with("pcr")).count(), 24);
        // The paravisor's, beside the guest's.
        assert!(claims.registers.contains_key("idkeydigest"), "{:?}", claims.registers.keys());
        assert_eq!(claims.registers["pcr7"], encoding::hex(&report.pcrs[&HashAlg::Sha256][&7]));
        let features = claims.features.unwrap();
        assert_eq!(features.source, Source::MeasuredSoftware);
        assert!(features.value.contains("smt") || features.value.contains("smt-disabled"), "{name}: {features:?}");
        assert_eq!(claims.revocation, RevocationCheck::Unchecked, "no list was given");
    }
    let (report, endorsements) = sample(&folder, "evidence-v0.json");
    assert_eq!(snp(&report, &endorsements).unwrap().report_data, encoding::hex(CHALLENGE));
}

#[test]
fn no_byte_that_counts_may_change() {
    let Some(folder) = folder("az-snp-vtpm") else { return };
    let (report, endorsements) = sample(&folder, "evidence-v0.json");
    let refused = |report: &Report| check_of(snp(report, &endorsements));
    assert_eq!(refused(&report), "ok");
    let flip = |byte: usize| 1 << (byte % 8);
    for byte in 0..report.quote.len() {
        let mut bad = report.clone();
        bad.quote[byte] ^= flip(byte);
        assert!(matches!(refused(&bad).as_str(), "tpm.quote" | "tpm.signature"), "byte {byte} of the quote");
    }
    for byte in 0..report.signature.len() {
        let mut bad = report.clone();
        bad.signature[byte] ^= flip(byte);
        assert_eq!(refused(&bad), "tpm.signature", "byte {byte} of the signature");
    }
    // The header says nothing but which layout it is; everything from the hardware's report on is bound.
    let signed = HclReport::parse(&report.hcl).unwrap();
    let end = report.hcl.iter().rposition(|b| *b != 0).unwrap() + 1;
    assert!(end > 1236 && signed.runtime.len() == end - 1236);
    let free = 1220..1224;
    for byte in (32..report.hcl.len()).step_by(3).filter(|byte| !free.contains(byte)) {
        let mut bad = report.clone();
        bad.hcl[byte] ^= flip(byte);
        assert_ne!(refused(&bad), "ok", "byte {byte} of the paravisor's report");
    }
    for register in 0..24 {
        let mut bad = report.clone();
        bad.pcrs.get_mut(&HashAlg::Sha256).unwrap().get_mut(&register).unwrap()[9] ^= 1;
        assert_eq!(refused(&bad), "tpm.values");
    }
}

#[test]
fn parts_of_different_vms_do_not_go_together() {
    let Some(folder) = folder("az-snp-vtpm") else { return };
    let (v0, v0_endorsements) = sample(&folder, "evidence-v0.json");
    let (genoa, genoa_endorsements) = sample(&folder, "evidence-genoa.json");
    assert!(check_of(snp(&v0, &genoa_endorsements)).starts_with("snp."), "another chip's certificate");
    assert_eq!(check_of(snp(&v0, &[])), "az.endorsements");
    let three = [v0_endorsements.clone(), genoa_endorsements.clone(), genoa_endorsements].concat();
    assert_eq!(check_of(snp(&v0, &three)), "az.endorsements");
    let other = Report { hcl: genoa.hcl.clone(), ..v0.clone() };
    assert_eq!(check_of(snp(&other, &v0_endorsements)), "tpm.signature", "another vTPM's attestation key");
    // The hardware's report of one, the runtime data of the other.
    let mixed = [&genoa.hcl[..32], &genoa.hcl[32..1216], &v0.hcl[1216..]].concat();
    let mixed = Report { hcl: mixed, ..v0.clone() };
    let (_, genoa_endorsements) = sample(&folder, "evidence-genoa.json");
    assert_eq!(check_of(snp(&mixed, &genoa_endorsements)), "az.binding");
    let tdx = verify_tdx(&v0.encode(), &[], |_| unreachable!("of another kind"));
    assert_eq!(check_of(tdx), "az.hcl");
    let mut json: serde_json::Value = serde_json::from_slice(&v0.encode()).unwrap();
    json["more"] = 1.into();
    let unknown = serde_json::to_vec(&json).unwrap();
    assert_eq!(check_of(Report::parse(&unknown)), "az.report");
    assert_eq!(Report::parse(&v0.encode()), Ok(v0));
}

/// Signature, message and 24 registers, each behind its length where that may differ: 8 bytes, little-endian.
fn bare_quote(bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Pcrs) {
    let sized = |bytes: &[u8]| {
        let (len, rest) = bytes.split_at(8);
        let (field, rest) = rest.split_at(u64::from_le_bytes(len.try_into().unwrap()) as usize);
        (field.to_vec(), rest.to_vec())
    };
    let (signature, rest) = sized(bytes);
    let (message, rest) = sized(&rest);
    let registers = (0..).zip(rest[8..].chunks(32).map(<[u8]>::to_vec)).collect();
    (signature, message, Pcrs::from([(HashAlg::Sha256, registers)]))
}

#[test]
fn parts_in_files_of_their_own_are_believed_together() {
    let Some(folder) = folder("az-snp-vtpm") else { return };
    let hcl = read(&folder, "hcl-report.bin");
    let runtime = Runtime::parse(HclReport::parse(&hcl).unwrap().runtime).unwrap();
    assert_eq!(runtime.secure_boot, Some(true));
    let (bare, quote, pcrs) = bare_quote(&read(&folder, "quote.bin"));
    let report = Report { hcl, quote, signature: Signature::wrap_rsassa_sha256(&bare), pcrs, td_quote: None };
    let text = String::from_utf8(read(&folder, "vcek.pem")).unwrap();
    let blocks =
        text.split("-----END CERTIFICATE-----").filter_map(|block| block.split_once("-----BEGIN CERTIFICATE-----"));
    let chain: Vec<_> = blocks.map(|(_, b)| encoding::unbase64(&b.replace(['\r', '\n'], "")).unwrap()).collect();
    let claims = snp(&report, &chain[..2]).unwrap();
    assert!(claims.features.unwrap().value.contains("secure-boot"));
    assert_eq!(check_of(snp(&report, &chain)), "az.endorsements", "the root is not sent");

    // Another machine's quote, which came without its key.
    let (message, bare) = (read(&folder, "tpm-quote.msg"), read(&folder, "tpm-quote.sig"));
    let signature = Signature::parse(&Signature::wrap_rsassa_sha256(&bare)).unwrap();
    assert_eq!(Quote::parse(&message).unwrap().extra_data, CHALLENGE);
    assert!(signature.verify(&runtime.ak, &message).is_err());
}

/// What the TDX verifier would say of a quote: this module is tested without it.
fn tdx_claims(quote: &[u8]) -> Claims {
    // Quote version 4: the report body begins at byte 48, with MRTD at 136 and the report data at 520.
    let field = |at: usize, len: usize| encoding::hex(&quote[48 + at..48 + at + len]);
    let tcb = Attested::hardware(Tcb::unknown("test"));
    let (chip, product) = (Attested::hardware("00".to_owned()), Attested::endorsed("tdx".to_owned()));
    let anchor = Anchor::Production("intel".to_owned());
    Claims::basic(TeeKind::Tdx, anchor, field(136, 48), chip, tcb, product, field(520, 64))
}

#[test]
fn a_published_vm_on_tdx_is_bound_to_its_quote() {
    let Some(folder) = folder("az-tdx-vtpm") else { return };
    let (report, endorsements) = sample(&folder, "evidence-v0.json");
    assert!(endorsements.is_empty());
    let verify = |report: &Report| verify_tdx(&report.encode(), &[], |quote| Ok(tdx_claims(quote)));
    let claims = verify(&report).unwrap();
    assert_eq!((claims.tee.value, claims.report_data), (TeeKind::AzTdxVtpm, encoding::hex(CHALLENGE)));
    assert!(claims.measurement.value.starts_with("024a32b070383331"));
    assert_eq!(claims.registers.len(), 24);

    let without = Report { td_quote: None, ..report.clone() };
    assert_eq!(check_of(verify(&without)), "az.endorsements");
    assert_eq!(check_of(verify_tdx(&report.encode(), &[vec![0]], |quote| Ok(tdx_claims(quote)))), "az.endorsements");
    let refusal = |_: &[u8]| Err(Rejection::new("tdx.signature", "signature"));
    assert_eq!(check_of(verify_tdx(&report.encode(), &[], refusal)), "tdx.signature");
    let with = |at: usize| {
        let mut bad = report.clone();
        bad.td_quote.as_mut().unwrap()[48 + at] ^= 1;
        check_of(verify(&bad))
    };
    assert_eq!((with(520), with(583), with(136)), ("az.binding".into(), "az.binding".into(), "az.trust-domain".into()));
    let as_snp = check_of(snp(&report, &[vec![0]]));
    assert_eq!(as_snp, "az.hcl");
}
