//! One binary for every target: `LEGATION_FUZZ_TARGET` names it. `cargo xtask fuzz` builds and runs it.
//!
//! A target must not panic, whatever the bytes are; some also say what must hold of what was read.
#![no_main]

use std::sync::{Arc, LazyLock};

use legation_attest::{Judge, Roots, azure, dcap, nitro, nvidia, snp, tpm, x509};
use legation_core::{
    Envelope, Receipt, Requirement, UnixTime,
    claims::{Anchors, Evidence, EvidenceJudge as _, Shelf},
};
use legation_policy::{Options, Policy, References};
use libfuzzer_sys::fuzz_target;

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("snp-report", |data| {
        let _ = snp::Report::parse(data);
    }),
    ("snp-crl", |data| {
        let _ = snp::Crl::parse(data);
    }),
    ("x509-certificate", |data| {
        let _ = x509::Certificate::parse("fuzz", "certificate", data);
    }),
    ("x509-crl", |data| {
        let _ = x509::Crl::parse("fuzz", data);
    }),
    ("dcap-quote", |data| {
        let _ = (dcap::parse_quote(data).is_ok(), dcap::collateral_name(data));
    }),
    ("dcap-collateral", |data| {
        let _ = dcap::Collateral::parse(data);
    }),
    ("nitro-document", |data| {
        let _ = nitro::Document::parse(nitro::find_document(data));
    }),
    ("nvidia-transcript", |data| {
        let _ = nvidia::Transcript::parse(data);
    }),
    ("tpm-quote", |data| {
        let _ = tpm::Quote::parse(data);
    }),
    ("tpm-signature", |data| {
        let _ = tpm::Signature::parse(data);
    }),
    ("tpm-public", |data| {
        if let Ok(public) = tpm::Public::parse(data) {
            assert_eq!(public.bytes(), data, "a public area is its own bytes");
        }
        let _ = tpm::Key::from_spki(data);
    }),
    ("tpm-report", |data| {
        let _ = tpm::Report::parse(data);
    }),
    ("tpm-eventlog", |data| {
        if let Ok(log) = tpm::eventlog::EventLog::parse(data) {
            let _ = (log.replay(tpm::HashAlg::Sha256), log.replay_rtmrs());
        }
        let _ = tpm::eventlog::EventLog::parse_padded(data).is_ok();
    }),
    ("azure-report", |data| {
        let _ = (azure::Report::parse(data), azure::from_trustee_json(data));
    }),
    ("azure-hcl", |data| {
        let _ = azure::HclReport::parse(data);
    }),
    ("evidence", |data| {
        static JUDGE: LazyLock<Option<Judge>> = LazyLock::new(|| Roots::new(&Anchors::default()).ok().map(Judge::new));
        if let (Some(judge), Ok(evidence)) = (JUDGE.as_ref(), serde_json::from_slice::<Evidence>(data)) {
            let judged = judge.judge(&evidence, &Shelf::empty(), UnixTime(1_775_000_000));
            assert!(judged.is_err(), "nobody can guess a vendor's signature over a binding");
        }
    }),
    ("envelope", |data| {
        if let Ok(envelope) = serde_json::from_slice::<Envelope>(data) {
            let _ = (envelope.digest(), envelope.predicate_type());
        }
    }),
    ("receipt", |data| {
        let _ = Receipt::from_text(data);
    }),
    ("requirement", |data| {
        if let Ok(text) = std::str::from_utf8(data)
            && let Ok(requirement) = Requirement::parse(text)
        {
            assert_eq!(requirement.source(), text);
        }
    }),
    ("policy", |data| {
        if let Ok(text) = std::str::from_utf8(data) {
            let references = Arc::new(References::assumed(text));
            let _ = Policy::load("fuzz", text, references, Options::default());
        }
    }),
];

fuzz_target!(|data: &[u8]| {
    static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
        let name = std::env::var("LEGATION_FUZZ_TARGET").unwrap_or_default();
        let found = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run);
        found.unwrap_or_else(|| {
            let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            panic!("LEGATION_FUZZ_TARGET is `{name}`; it must be one of {}", names.join(" "))
        })
    });
    TARGET(data);
});
