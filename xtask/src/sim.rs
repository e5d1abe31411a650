//! Builds the simulation and runs it.

use std::process::Command;

use anyhow::Result;

use crate::metadata::Metadata;
use crate::repository::Repository;
use crate::{prerequisites, process};

/// Builds `legation-sim` and runs it with `args`: stdout and exit code are its own.
///
/// # Errors
/// When it cannot be built, or an invariant does not hold.
pub(crate) fn run(repository: &Repository, args: &[String]) -> Result<()> {
    prerequisites::to_build()?;
    // Together with its test, so that dependencies have the features that tests give them: nothing is compiled twice.
    let targets = ["--bin=legation-sim", "--test=simulation"];
    let mut build = repository.cargo(&["build", "--workspace", prerequisites::features()]);
    build.args(targets);
    process::run(&mut build, "the simulation does not compile; see above")?;
    let program = Metadata::of_members(repository)?.target_directory.join("debug").join("legation-sim");
    process::run(
        Command::new(program).args(args).current_dir(repository.root()),
        "an invariant does not hold, or a kind of fault never happened; the last lines say how to see it again",
    )
}
