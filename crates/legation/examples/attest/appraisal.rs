//! Appraisal of one machine by a policy of 20 rules, admitted and refused with its explanation.

use std::{collections::BTreeMap, fmt::Write as _, hint::black_box, sync::Arc};

use legation::exit::{Exit, Failure};
use legation_attest::Appraiser as _;
use legation_core::{
    Bytes, Digest, MicroUsd, Millicores, ProviderId, PublicKey, Region, UnixTime,
    claims::{
        Anchor, Attested, Capacity, Claims, Configuration, Judged, KeyBinding, Rate, Role, Tcb, TcbStatus, TeeKind,
    },
};
use legation_keys::{IdentityKey, SealingKey};
use legation_net::OsEntropy;
use legation_policy::{Options, Policy, ReferenceKind, ReferenceValue, References, Scope};
use serde_json::{Value, json};

use crate::kinds::{round, thread_cpu};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// Ten images, ten exclusions.
fn policy() -> String {
    let mut text = String::new();
    for i in 0..10 {
        let _ = writeln!(
            text,
            "@id(\"image-{i}\") permit (principal in Image::\"image-{i}\", action == Action::\"admit\", resource) when {{ \
             !principal.debug && principal.tcb.status in [TcbStatus::\"up-to-date\", TcbStatus::\"sw-hardening-needed\"] && \
             principal.confidence.region >= 300 }};"
        );
    }
    let conditions = [
        "principal.debug",
        "principal has vmpl && principal.vmpl > 0",
        "principal.region like \"cn-*\"",
        "!principal.confidential",
        "principal.provider == \"mallory\"",
        "principal.stale_collateral",
        "principal.tee == Tee::\"tpm\"",
        "principal.tcb.advisories.contains(\"INTEL-SA-00615\")",
        "principal.memory < 1048576",
        "principal.gpu_count > 8",
    ];
    for (i, condition) in conditions.iter().enumerate() {
        let _ = writeln!(text, "@id(\"not-{i}\") forbid (principal, action, resource) when {{ {condition} }};");
    }
    text
}

pub(super) fn measure(rounds: u32) -> Result<Value, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failure, e.to_string());
    let values = (0..10).map(|i| ReferenceValue {
        name: format!("image-{i}"),
        value: ReferenceKind::Image {
            measurement: format!("{i:02x}").repeat(48),
            registers: BTreeMap::new(),
            tees: [TeeKind::SevSnp].into(),
        },
        owner: "bench".to_owned(),
        made: NOW,
        expires: None,
        source: "bench".to_owned(),
    });
    let references = Arc::new(References::new(values).map_err(|why| Failure::refused(Exit::Failure, &why))?);
    let policy =
        Policy::load("bench", &policy(), references, Options::of(Scope::Pool, false)).map_err(|e| failed(&e))?;
    let good = judged("07".repeat(48)).map_err(|e| failed(&e))?;
    let bad = judged("ff".repeat(48)).map_err(|e| failed(&e))?;
    if policy.appraise(&good, NOW).is_err() || policy.appraise(&bad, NOW).is_ok() {
        return Err(failed(&"the policy does not do what it is for"));
    }
    let cost = |of: &Judged| {
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let began = thread_cpu();
            for _ in 0..rounds {
                let _ = black_box(policy.appraise(black_box(of), NOW));
            }
            best = best.min((thread_cpu() - began) / f64::from(rounds) * 1e6);
        }
        round(best)
    };
    Ok(json!({
        "what": "20 rules: 10 permits of an image each, 10 forbids; Cedar, CPU time of one core",
        "admitted_us": cost(&good), "refused_and_explained_us": cost(&bad), "aim_us": 30,
    }))
}

fn judged(measurement: String) -> Result<Judged, legation_core::id::NameError> {
    let identity: PublicKey = legation_core::Signer::public_key(&IdentityKey::generate(&mut OsEntropy));
    let tcb = Tcb { status: TcbStatus::UpToDate, ..Tcb::unknown("blSPL=4&teeSPL=0&snpSPL=24&ucodeSPL=219") };
    let claims = Claims::basic(
        TeeKind::SevSnp,
        Anchor::Production("amd-milan".to_owned()),
        measurement,
        Attested::hardware("11".repeat(64)),
        Attested::hardware(tcb),
        Attested::endorsed("milan".to_owned()),
        "22".repeat(64),
    );
    let configuration = Configuration {
        provider: ProviderId::new("aurora")?,
        region: Region::new("eu-north")?,
        capacity: Capacity { cpu: Millicores(1000), memory: Bytes::gib(2), slots: 4 },
        rate: Rate { core_hour: MicroUsd(10_000), gib_hour: MicroUsd(1000) },
        slot: 0,
        operators: Vec::new(),
        advertise: None,
        prover: None,
        custody: None,
    };
    let binding = KeyBinding {
        role: Role::Agent,
        identity,
        sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
        image: Digest::of(b"image"),
        configuration: Digest::of(&configuration.encode()),
        not_before: NOW,
        not_after: NOW.plus(86_400),
        nonce: Digest::of(b"nonce"),
    };
    Ok(Judged {
        claims: Claims { vmpl: Some(Attested::hardware(0)), ..claims },
        binding,
        configuration,
        collateral: Vec::new(),
    })
}
