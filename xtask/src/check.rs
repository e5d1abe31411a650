//! Formatting and lints.

use anyhow::Result;

use crate::repository::Repository;
use crate::{prerequisites, process};

pub(crate) fn fmt(repository: &Repository, check: bool) -> Result<()> {
    let args: &[&str] = if check { &["fmt", "--all", "--", "--check"] } else { &["fmt", "--all"] };
    process::run(&mut repository.cargo(args), if check { "run `cargo xtask fmt`" } else { "see above" })
}

/// Clippy over all code, then rustdoc over ours: links and examples in documentation rot unseen otherwise.
pub(crate) fn lint(repository: &Repository) -> Result<()> {
    prerequisites::to_build()?;
    let features = prerequisites::features();
    let mut clippy = repository.cargo(&["clippy", "--workspace", "--all-targets", features, "--", "-D", "warnings"]);
    process::run(&mut clippy, "mend the lints above, or expect one with a reason: #[expect(lint, reason = \"...\")]")?;
    let mut doc = repository.cargo(&["doc", "--workspace", "--no-deps", features]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut doc, "mend the documentation above (RUSTDOCFLAGS=\"-D warnings\")")
}
