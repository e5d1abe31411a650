//! What a receipt says of what ran, and what its reader demands of that.

use legation_core::{
    Digest, Region, Rejection,
    claims::{Anchor, Attested},
    receipt::{DEMANDS_MAX, Demands, Execution, Verdict},
    statement::Assurance,
};

use crate::{
    handed::{self, THREE, committed},
    world::{self, Said, digest, key, no_bend, output, verify},
};

const LEAD: &str = "lead.wasm";
const PART: &str = "part.wasm";
const NONE: [Rejection; 0] = [];

fn handed(plan: handed::Plan<'_>) -> (handed::World, Verdict) {
    let world = handed::build(plan, &no_bend);
    let verdict = verify(&world.receipt()).unwrap();
    (world, verdict)
}

fn label(labels: &world::Before, digest: Digest) -> &str {
    labels.iter().find(|(_, known)| **known == digest).map(|(label, _)| label.as_str()).unwrap()
}

#[test]
fn every_execution_stands_below_the_one_that_asked_for_it() {
    let (world, verdict) = handed(handed::Plan { dissent: &["c"], ..Default::default() });
    let line = |ran: &Execution| {
        let call = ran.call.map_or(String::new(), |called| {
            let dissents = if called.dissents { ", dissenting" } else { "" };
            format!(" to {} of {}{dissents}", label(&world.labels, called.call), label(&world.labels, called.used_by))
        });
        format!("{} {}{call} at {} in {}", ran.depth, label(&world.labels, ran.report), ran.provider, ran.region)
    };
    let lines: Vec<String> = verdict.executions.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "0 report at lead-hosting in eu-lead",
            "1 answer-a to call-a of report at a-hosting in eu-a",
            "1 answer-b to call-b of report at b-hosting in eu-b",
            "1 answer-c to call-c of report, dissenting at c-hosting in eu-c",
            "1 answer-d to call-d of report at d-hosting in eu-d",
            "2 answer-e to call-e of answer-d at e-hosting in eu-e",
            "3 answer-f to call-f of answer-e at f-hosting in eu-f",
        ]
    );

    let [lead, a, .., f] = verdict.executions.as_slice() else { panic!("seven ran: {lines:?}") };
    assert_eq!((lead.name.as_str(), lead.module, lead.assurance), ("lead", digest(LEAD), Assurance::Attested));
    assert_eq!((a.name.as_str(), a.module, a.assurance), ("lead", digest(PART), THREE));
    assert_eq!(lead.output.map(|output| output.commitment), Some(output("output").commitment));
    assert_eq!((a.output, f.output), (Some(committed("agreed")), Some(committed("deep"))));
    assert_eq!(lead.enclave, key("enclave-lead").enclave_id());
    assert_eq!(f.anchor, Anchor::Development(world::ROOT.to_owned()));
    let mut roots = ["grant-north", "grant-client"].map(|label| world.labels[label]);
    roots.sort_unstable();
    assert_eq!((lead.grants.as_slice(), a.grants.as_slice()), (&roots[..], &[world.labels["child-a"]][..]));
    // All passports were issued five seconds after the beginning.
    assert_eq!([lead.proof_age, a.proof_age, f.proof_age], [75, 30, 63]);
    assert_eq!(
        f.place(),
        format!("report {} (call {} of fragment #0)", f.report.short(), world.labels["call-f"].short())
    );
}

#[test]
fn rounds_stand_in_their_order_and_fragments_in_theirs() {
    let world = world::build(world::Plan::default(), &no_bend);
    let verdict = verify(&world.receipt()).unwrap();
    let labels: Vec<&str> = verdict.executions.iter().map(|ran| label(&world.labels, ran.report)).collect();
    let round = |round: &'static str| (0..4).map(move |fragment| format!("{round}/report-{fragment}"));
    assert_eq!(labels, round("r1").chain(round("r2")).collect::<Vec<_>>());
    for ran in &verdict.executions {
        let reads: Vec<u32> = ran.reads.iter().map(|index| index.0).collect();
        assert_eq!(reads, if ran.name == "reduce" { vec![0, 1, 2] } else { Vec::new() }, "{}", ran.name);
        assert_eq!((ran.depth, &ran.call), (0, &None));
    }
}

/// Every demand alone: what the chain of calls meets to the hair, and what it misses by as much.
#[test]
fn each_demand_is_met_or_named() {
    let (_, verdict) = handed(handed::Plan { dissent: &["c"], ..Default::default() });
    let (lead, part) = (digest(LEAD), digest(PART));
    let [first, .., last] = verdict.executions.as_slice() else { panic!("seven ran") };
    let names = ["lead", "a", "b", "c", "d", "e", "f"];
    let of = |form: &dyn Fn(&str) -> String, without: &str| {
        let all: Vec<String> = names.iter().filter(|name| **name != without).map(|name| form(name)).collect();
        format!("[{}]", all.join(","))
    };
    let provider = |name: &str| format!("\"{name}-hosting\"");
    let region = |name: &str| format!("\"eu-{name}\"");
    let three = "{\"replicated\":{\"k\":3,\"diverse\":\"provider\"}}";
    let (c, in_last) = (&verdict.executions[3], format!("in {}", last.place()));

    let met = [
        r#"{"anchors":["production(bench)","development(bench)"]}"#.to_owned(),
        r#"{"tee":["sev-snp","dev-snp"]}"#.to_owned(),
        format!(r#"{{"providers":{}}}"#, of(&provider, "")),
        format!(r#"{{"regions":{}}}"#, of(&region, "")),
        r#"{"jurisdictions":["us","eu"]}"#.to_owned(),
        r#"{"assurance":"attested"}"#.to_owned(),
        r#"{"assurance_of_calls":"attested"}"#.to_owned(),
        r#"{"maximum_proof_age":75}"#.to_owned(),
        r#"{"maximum_depth":3}"#.to_owned(),
        format!(r#"{{"modules":["{part}","{lead}"]}}"#),
        r#"{"completed":true}"#.to_owned(),
    ];
    for text in &met {
        let demands = Demands::from_json(text.as_bytes()).unwrap();
        assert_eq!(demands.unmet(&verdict, false), NONE, "{text}");
        assert_eq!(Demands::from_json(&serde_json::to_vec(&demands).unwrap()).unwrap(), demands, "{text}");
    }

    let missed = [
        (
            r#"{"anchors":["production(bench)"]}"#.to_owned(),
            "anchors",
            format!("development(bench) in {}", first.place()),
        ),
        (r#"{"tee":["sev-snp"]}"#.to_owned(), "tee", format!("dev-snp in {}", first.place())),
        (format!(r#"{{"providers":{}}}"#, of(&provider, "c")), "providers", format!("c-hosting in {}", c.place())),
        (format!(r#"{{"regions":{}}}"#, of(&region, "f")), "regions", format!("eu-f {in_last}")),
        (r#"{"jurisdictions":["us","e"]}"#.to_owned(), "jurisdictions", ", and 3 more".to_owned()),
        (r#"{"assurance":"proven"}"#.to_owned(), "assurance", format!("attested in {}", first.place())),
        (format!(r#"{{"assurance":{three}}}"#), "assurance", format!("attested {in_last}")),
        (format!(r#"{{"assurance_of_calls":{three}}}"#), "assurance_of_calls", format!("attested {in_last}")),
        (r#"{"maximum_proof_age":74}"#.to_owned(), "maximum_proof_age", format!("75 s in {}", first.place())),
        (r#"{"maximum_depth":2}"#.to_owned(), "maximum_depth", format!("3 {in_last}")),
        (format!(r#"{{"modules":["{part}"]}}"#), "modules", format!("{lead} in {}", first.place())),
        (r#"{"log":true}"#.to_owned(), "log", "not shown".to_owned()),
    ];
    for (text, check, got) in &missed {
        let demands = Demands::from_json(text.as_bytes()).unwrap();
        let unmet = demands.unmet(&verdict, false);
        let [why] = unmet.as_slice() else { panic!("{text}: {unmet:?}") };
        assert_eq!(why.check, format!("demand.{check}"), "{text}");
        assert!(why.got.contains(got.as_str()) && !why.expected.is_empty(), "{text}: {why}");
    }
    let logged = Demands { log: true, ..Demands::default() };
    assert_eq!(logged.unmet(&verdict, true), NONE);
}

#[test]
fn all_that_is_not_met_is_named_and_not_only_the_first() {
    let (_, mut verdict) = handed(handed::Plan::default());
    let text = r#"{
        "anchors": ["production(amd-milan)"], "tee": ["sev-snp", "tdx"], "providers": ["nobody"], "regions": ["eu-a"],
        "jurisdictions": ["us"], "assurance": "proven", "assurance_of_calls": "proven", "maximum_proof_age": 1,
        "maximum_depth": 0, "modules": ["0000000000000000000000000000000000000000000000000000000000000000"],
        "completed": true, "log": true
    }"#;
    let demands = Demands::from_json(text.as_bytes()).unwrap();
    let checks = |verdict: &Verdict| -> Vec<String> {
        demands.unmet(verdict, false).iter().map(|why| why.check.trim_start_matches("demand.").to_owned()).collect()
    };
    let all = [
        "anchors",
        "tee",
        "providers",
        "regions",
        "jurisdictions",
        "assurance",
        "assurance_of_calls",
        "maximum_proof_age",
        "maximum_depth",
        "modules",
    ];
    assert_eq!(checks(&verdict), [&all[..], &["log"]].concat());
    verdict.completed = false;
    assert_eq!(checks(&verdict), [&all[..], &["completed", "log"]].concat());
    // Where nothing ran, nothing is met.
    verdict.executions.clear();
    assert_eq!(checks(&verdict), [&all[..], &["completed", "log"]].concat());
}

#[test]
fn calls_may_be_assured_better_than_the_fragment_that_makes_them() {
    let demands = Demands { assurance_of_calls: Some(THREE), ..Demands::default() };
    for (deep, met) in [(0, true), (1, false)] {
        let (_, verdict) = handed(handed::Plan { deep, ..Default::default() });
        assert_eq!(demands.unmet(&verdict, false).is_empty(), met, "{deep}");
    }
    let (_, nothing_handed_on) = handed(handed::Plan { assured: None, deep: 0, ..Default::default() });
    assert_eq!(demands.unmet(&nothing_handed_on, false), NONE);
}

#[test]
fn a_region_that_somebody_attests_counts_beside_the_one_that_is_measured() {
    let elsewhere = |at: &str, said: Said<'_>, _: &world::Before| {
        if let ("enclave-f", Said::Enclave(judged)) = (at, said) {
            judged.claims.region = Some(Attested::endorsed(Region::new("us-east").unwrap()));
        }
    };
    let verdict = verify(&handed::build(handed::Plan::default(), &elsewhere).receipt()).unwrap();
    let demands = Demands { jurisdictions: Some(vec![Region::new("eu").unwrap()]), ..Demands::default() };
    let unmet = demands.unmet(&verdict, false);
    assert!(matches!(unmet.as_slice(), [why] if why.got.starts_with("us-east in ")), "{unmet:?}");
}

#[test]
fn members_of_a_swarm_who_ran_nothing_rest_on_anchors_too() {
    let (_, mut verdict) = handed(handed::Plan::single());
    let demands = Demands::from_json(br#"{"anchors":["development(bench)"]}"#).unwrap();
    assert_eq!(demands.unmet(&verdict, false), NONE);
    verdict.anchors.push("development(other)".to_owned());
    let unmet = demands.unmet(&verdict, false);
    assert!(matches!(unmet.as_slice(), [why] if why.got.contains("development(other)")), "{unmet:?}");
}

#[test]
fn a_task_that_failed_is_told_from_one_that_completed() {
    let plan = world::Plan { rounds: 1, failed: &[1], moved: false, ..Default::default() };
    let verdict = verify(&world::build(plan, &no_bend).receipt()).unwrap();
    let demands = Demands { completed: true, ..Demands::default() };
    let unmet = demands.unmet(&verdict, false);
    assert!(matches!(unmet.as_slice(), [why] if why.check == "demand.completed"), "{unmet:?}");
}

#[test]
fn demands_that_cannot_be_meant_are_refused() {
    for (text, check) in [
        ("", "demand.format"),
        ("[]", "demand.format"),
        ("{}", "demand.nothing"),
        (r#"{"log":false}"#, "demand.nothing"),
        (r#"{"log":true} "#, ""),
        (r#"{"log":true} {}"#, "demand.format"),
        (r#"{"log":true,"colour":"blue"}"#, "demand.format"),
        (r#"{"log":true,"log":true}"#, "demand.format"),
        (r#"{"log":1}"#, "demand.format"),
        (r#"{"tee":[]}"#, "demand.empty"),
        (r#"{"anchors":[],"log":true}"#, "demand.empty"),
        (r#"{"tee":"sev-snp"}"#, "demand.format"),
        (r#"{"tee":["snp"]}"#, "demand.format"),
        (r#"{"anchors":["amd-milan"]}"#, "demand.format"),
        (r#"{"regions":["EU"]}"#, "demand.format"),
        (r#"{"modules":["AB"]}"#, "demand.format"),
        (r#"{"maximum_depth":-1}"#, "demand.format"),
        (r#"{"maximum_proof_age":"600"}"#, "demand.format"),
        (r#"{"maximum_proof_age":0.5}"#, "demand.format"),
        (r#"{"assurance":"replicated"}"#, "demand.format"),
        (r#"{"assurance":{"replicated":{"k":1,"diverse":"chip"}}}"#, "assurance.replicas"),
        (r#"{"assurance_of_calls":{"replicated":{"k":99,"diverse":"chip"}}}"#, "assurance.replicas"),
    ] {
        let refused = Demands::from_json(text.as_bytes()).err().map_or(String::new(), |why| why.check);
        assert_eq!(refused, check, "{text}");
    }
    let large = vec![b' '; DEMANDS_MAX + 1];
    assert_eq!(Demands::from_json(&large).unwrap_err().check, "demand.size");
}
