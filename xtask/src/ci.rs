//! All that a change must pass, cheap steps first, with the time each took, and once more what was left out for want of something.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::repository::Repository;
use crate::{check, demo, guests, page, process, prover, test, tidy};

type Step = (&'static str, fn(&Repository) -> Result<()>);

const STEPS: [Step; 9] = [
    ("fmt", |repository| check::fmt(repository, true)),
    ("tidy", tidy::run),
    ("guests", |repository| guests::run(repository.root(), true)),
    ("lint", check::lint),
    ("test", |repository| test::run(repository, None)),
    ("demo", demo::run),
    ("by hand", by_hand),
    ("page", page::run),
    ("proof", prover::prove_one),
];

/// Runs every step, up to the first that fails.
pub(crate) fn run(repository: Repository) -> Result<()> {
    let repository = repository.like_ci();
    let started = Instant::now();
    let mut times = Vec::new();
    for (name, step) in STEPS {
        eprintln!("\n=== {name} ===");
        let start = Instant::now();
        let done = step(&repository);
        times.push((name, start.elapsed(), done.is_ok()));
        if let Err(error) = done {
            ended(&times, started.elapsed());
            return Err(error.context(format!("{name} failed")));
        }
    }
    ended(&times, started.elapsed());
    Ok(())
}

/// The last word: what was left out stands far above, and a run that left out much is not one that passed all.
fn ended(times: &[(&str, Duration, bool)], all: Duration) {
    eprintln!("\n{}", table(times, all));
    let skipped = process::all_skipped();
    if !skipped.is_empty() {
        eprintln!("SKIPPED here, for want of what each names: {}", skipped.len());
        skipped.iter().for_each(|what| eprintln!("  {what}"));
    }
}

/// What is checked by hand of the demo's receipt: the statements, and that they are in the transparency log.
const BY_HAND: [&str; 2] = ["docs/check-receipt.sh", "docs/check-log.sh"];

/// The demo's receipt, checked with openssl, jq and sha256sum alone; and once more with one byte changed.
fn by_hand(repository: &Repository) -> Result<()> {
    let demo = repository.root().join("target/demo");
    let (receipt, changed) = (demo.join("receipt.json"), demo.join("receipt-changed.json"));
    let mut bytes = std::fs::read(&receipt)?;
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    std::fs::write(&changed, bytes)?;
    for script in BY_HAND {
        let script = repository.root().join(script);
        let check = |receipt: &Path| {
            let mut command = Command::new(&script);
            let status = command.arg(receipt).arg(demo.join("anchors.json")).current_dir(repository.root()).status();
            status.with_context(|| format!("running {}", script.display()))
        };
        anyhow::ensure!(check(&receipt)?.success(), "the demo's receipt does not pass {}", script.display());
        anyhow::ensure!(check(&changed)?.code() == Some(1), "a changed receipt passes {}", script.display());
    }
    Ok(())
}

fn table(times: &[(&str, Duration, bool)], all: Duration) -> String {
    let line = |name: &str, time: Duration, end: &str| {
        format!("{name:<8}{:>4} min {:>2} s{end}\n", time.as_secs() / 60, time.as_secs() % 60)
    };
    let mut text = String::new();
    for (name, time, fine) in times {
        text.push_str(&line(name, *time, if *fine { "" } else { "  FAILED" }));
    }
    text.push_str(&line("all", all, ""));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_how_long_each_step_took_and_which_failed() {
        let times = [("fmt", Duration::from_secs(2), true), ("lint", Duration::from_secs(61), false)];
        let expect = "fmt        0 min  2 s\nlint       1 min  1 s  FAILED\nall        1 min  4 s\n";
        assert_eq!(table(&times, Duration::from_secs(64)), expect);
    }
}
