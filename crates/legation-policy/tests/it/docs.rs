//! The policies of docs/policy.md load as they stand there.

use std::sync::Arc;

use legation_core::TenantId;
use legation_policy::{Options, Policy, References, Scope};

use crate::world::NOW;

#[test]
fn the_examples_of_the_documentation_load() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let text = std::fs::read_to_string(path).unwrap();
    let examples: Vec<_> = text.split("```cedar\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 3);
    for (i, example) in examples.into_iter().enumerate() {
        let scope = if i == 2 { Scope::Tenant(TenantId::new("acme").unwrap()) } else { Scope::Pool };
        let references = Arc::new(References::assumed(example));
        let name = scope.to_string();
        let policy = Policy::load(&name, example, references, Options::of(scope, false)).unwrap();
        assert_eq!(policy.warnings(NOW), [], "{example}");
    }
}
