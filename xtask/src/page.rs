//! The browser's check of receipts: its own tests against `vectors/`, then the demo's receipt, as it is and with a byte changed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::repository::Repository;
use crate::{prerequisites, process};

/// What the check answers of a receipt that does not hold: the exit code of `legation receipt verify`.
const INVALID: i32 = 6;

/// Runs the tests of the page, and its check of the receipts that the demo left and that `by hand` changed.
///
/// # Errors
/// When a test fails, or the page says something else of the demo's receipts than it must.
pub(crate) fn run(repository: &Repository) -> Result<()> {
    if let Err(lack) = prerequisites::node() {
        process::skipped(&format!("nothing of web/receipt was tested: {lack:#}"));
        return Ok(());
    }
    let mut tests = Command::new("node");
    tests.args(["--test", "web/receipt/test.mjs"]).current_dir(repository.root());
    process::run(&mut tests, "see the failures above; the same again: `node --test web/receipt/test.mjs`")?;

    let demo = repository.root().join("target/demo");
    let check = |receipt: &Path| {
        let mut command = Command::new("node");
        command.arg("web/receipt/check.mjs").arg(receipt).arg(demo.join("anchors.json"));
        process::announce(&command);
        let status = command.current_dir(repository.root()).status().context("failed to start node")?;
        anyhow::Ok(status.code())
    };
    let (whole, changed) = (demo.join("receipt.json"), demo.join("receipt-changed.json"));
    ensure!(check(&whole)? == Some(0), "the demo's receipt does not hold in web/receipt");
    ensure!(check(&changed)? == Some(INVALID), "a changed receipt holds in web/receipt");
    Ok(())
}
