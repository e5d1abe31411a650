//! Builds the demonstration and hands over to it.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::repository::Repository;
use crate::{prerequisites, process};

/// Builds it and becomes it: stdout, signals and exit code are its own.
///
/// # Errors
/// When it cannot be built or started; otherwise this does not return.
pub(crate) fn become_it(repository: &Repository, args: &[String]) -> Result<()> {
    let program = build(repository)?;
    let mut demo = Command::new(&program);
    demo.args(args);
    process::announce(&demo);
    Err(demo.exec()).with_context(|| format!("failed to start {}", program.display()))
}

/// Builds it and runs it to its end.
pub(crate) fn run(repository: &Repository) -> Result<()> {
    let program = build(repository)?;
    process::run(Command::new(program).current_dir(repository.root()), "`cargo xtask demo` shows it again")
}

/// Both binaries in one go, because the demonstration starts the other one, which lies beside it.
fn build(repository: &Repository) -> Result<PathBuf> {
    prerequisites::to_build()?;
    let features = prerequisites::features();
    let mut cargo = repository.cargo(&["build", "--package=legation", "--package=legation-demo", "--bins", features]);
    process::run(&mut cargo, "the demonstration does not compile; see above")?;
    Ok(Metadata::of_members(repository)?.target_directory.join("debug").join("legation-demo"))
}
