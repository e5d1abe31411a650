//! Dry runs and differences over many enclaves.

use legation_policy::{Verdict, diff, dry_run};

use crate::world::{Guest, NOW, load};

fn pool() -> Vec<(String, Guest)> {
    let guests = (0..41).map(|i| {
        let guest = Guest::milan().with(|c| match i {
            0 => c.debug.value = true,
            1 | 2 => c.measurement.value = "00".repeat(48),
            3 => c.confidential.value = false,
            _ => {}
        });
        (format!("enclave-{i}"), guest)
    });
    guests.collect()
}

const POLICY: &str = "@id(\"known\") permit (principal in Image::\"known\", action, resource);\n\
    @id(\"no-debug\") forbid (principal, action, resource) when { principal.debug };";

#[test]
fn a_dry_run_counts_and_groups() {
    let pool = pool();
    let subjects = || pool.iter().map(|(name, guest)| (name.clone(), guest.subject()));
    let run = dry_run(&load(POLICY).unwrap(), subjects(), NOW);
    assert_eq!((run.enclaves, run.refused, run.affirmed, run.warned), (41, 3, 37, 1));
    let reasons: Vec<_> = run.reasons.iter().map(|r| (r.why.check.as_str(), r.enclaves, r.named.join(" "))).collect();
    assert_eq!(
        reasons,
        [("policy.known", 2, "enclave-1 enclave-2".to_owned()), ("policy.no-debug", 1, "enclave-0".to_owned())]
    );
    let text = run.to_string();
    assert!(
        text.starts_with("policy `test` would refuse 3 of 41, because 2 fail policy.known: expected principal in"),
        "{text}"
    );
}

#[test]
fn a_difference_names_who_is_let_in_or_out() {
    let pool = pool();
    let subjects = || pool.iter().map(|(name, guest)| (name.clone(), guest.subject()));
    let old = load(POLICY).unwrap();
    let new = load(&format!(
        "{}\n@id(\"debug-too\") @grace(\"2027-01-31\") @why(\"x\") permit (principal, action, resource) \
         when {{ principal.debug || principal.measurement like \"00*\" }};",
        POLICY.lines().next().unwrap()
    ))
    .unwrap();
    let found = diff(&old, &new, subjects(), NOW);
    assert_eq!(
        (found.added.as_slice(), found.removed.as_slice()),
        (&["debug-too".to_owned()][..], &["no-debug".to_owned()][..])
    );
    let names: Vec<_> = found.changes.iter().map(|c| c.enclave.as_str()).collect();
    assert_eq!(names, ["enclave-0", "enclave-1", "enclave-2"]);
    // Enclave 0 is of a known image: the lasting permit admits it.
    assert!(matches!(&found.changes[0].after, Verdict::Admitted { until: None, .. }));
    assert!(matches!(&found.changes[1].after, Verdict::Admitted { until: Some(_), .. }));
    assert!(matches!(&found.changes[1].before, Verdict::Refused { why } if why.check == "policy.known"));
    assert!(found.to_string().contains("3 of 41 enclaves change"));
    assert!(diff(&old, &old, subjects(), NOW).changes.is_empty());
}
