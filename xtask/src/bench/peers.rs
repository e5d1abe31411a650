//! What others do, measured beside what is done here: `bench/peers`, a workspace of its own. It has packages that nothing else needs
//! and that may not be had here, so figures of ours never fail for want of them: there is `null` in their place, and it is said
//! loudly.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;
use crate::repository::Repository;

/// Their figures; `null` in a smoke test, which compiles nothing of theirs, and where they cannot be had.
pub(super) fn measure(repository: &Repository, smoke: bool) -> Value {
    if smoke {
        eprintln!("xtask: bench/peers is left out of a smoke test");
        return Value::Null;
    }
    build_and_run(repository).unwrap_or_else(|error| {
        eprintln!("xtask: WARNING: OTHERS WERE NOT MEASURED, `peers` IS NULL: {error:#}");
        Value::Null
    })
}

fn build_and_run(repository: &Repository) -> Result<Value> {
    let workspace = repository.root().join("bench/peers");
    let target = repository.root().join("target/peers");
    let mut build = repository.cargo(&["build", "--release", "--manifest-path"]);
    build.arg(workspace.join("Cargo.toml")).arg("--target-dir").arg(&target);
    build.args(workspace.join("Cargo.lock").exists().then_some("--locked"));
    process::run(&mut build, "bench/peers does not compile, or its packages cannot be fetched; see above")?;
    let mut command = Command::new(target.join("release/legation-peers"));
    process::announce(&command);
    let text = process::output(&mut command)?;
    serde_json::from_str(&text).context("bench/peers printed something that is not JSON")
}
