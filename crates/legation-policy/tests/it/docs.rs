//! The policies of the documentation load as they stand there.

use std::{path::Path, sync::Arc};

use legation_core::TenantId;
use legation_policy::{Options, Policy, References, Scope};

use crate::world::NOW;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)).unwrap()
}

fn load_without_warnings(example: &str, scope: Scope) {
    let references = Arc::new(References::assumed(example));
    let policy = Policy::load(&scope.to_string(), example, references, Options::of(scope, false)).unwrap();
    assert_eq!(policy.warnings(NOW), [], "{example}");
}

#[test]
fn the_policies_of_the_explanation_load() {
    let text = read("policy.md");
    let examples: Vec<_> = text.split("```cedar\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 7);
    for (i, example) in examples.into_iter().enumerate() {
        let scope = if i == 4 { Scope::Tenant(TenantId::new("acme").unwrap()) } else { Scope::Pool };
        load_without_warnings(example, scope);
    }
}

#[test]
fn the_policy_that_stands_alone_loads() {
    load_without_warnings(&read("examples/policy.cedar"), Scope::Pool);
}
