//! What a proof of execution costs: an example of `prover/host`, a workspace of its own.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::repository::Repository;
use crate::{process, prover};

/// Builds program and prover, and measures. Gives the command and what it found.
pub(super) fn measure(repository: &Repository, smoke: bool, args: &[String]) -> Result<(String, Value)> {
    let program = prover::program(repository)?;
    let mut command = prover::cargo(repository, &["run", "--release", "--package=legation-prover", "--example=proof"]);
    command.arg("--").arg("--program").arg(&program).arg("--keys").arg(prover::folder(repository).join("measured"));
    command.args(smoke.then_some("--smoke")).args(args).stdout(Stdio::piped());
    process::announce(&command);
    let child = command.spawn().with_context(|| format!("failed to start `{}`", process::shown(&command)))?;
    let out = child.wait_with_output().context("failed to wait for the measurement")?;
    if !out.status.success() {
        return Err(process::Failed::new(&command, out.status, "the measurement says why above").into());
    }
    let found = serde_json::from_slice(&out.stdout).context("the measurement printed something that is not JSON")?;
    // As it reads in the repository, wherever that lies here.
    let root = format!("{}/", repository.root().display());
    Ok((process::shown(&command).replace(&root, ""), found))
}
