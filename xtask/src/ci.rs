//! All that a change must pass, cheap steps first, with the time each took.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::repository::Repository;
use crate::{check, demo, guests, test, tidy};

type Step = (&'static str, fn(&Repository) -> Result<()>);

const STEPS: [Step; 7] = [
    ("fmt", |repository| check::fmt(repository, true)),
    ("tidy", tidy::run),
    ("guests", |repository| guests::run(repository.root(), true)),
    ("lint", check::lint),
    ("test", |repository| test::run(repository, None)),
    ("demo", demo::run),
    ("by hand", by_hand),
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
            eprintln!("\n{}", table(&times, started.elapsed()));
            return Err(error.context(format!("{name} failed")));
        }
    }
    eprintln!("\n{}", table(&times, started.elapsed()));
    Ok(())
}

/// The demo's receipt, checked with openssl, jq and sha256sum alone; and once more with one byte changed.
fn by_hand(repository: &Repository) -> Result<()> {
    let script = repository.root().join("docs/check-receipt.sh");
    let demo = repository.root().join("target/demo");
    let check = |receipt: &Path| {
        let status =
            Command::new(&script).arg(receipt).arg(demo.join("anchors.json")).current_dir(repository.root()).status();
        status.with_context(|| format!("running {}", script.display()))
    };
    let receipt = demo.join("receipt.json");
    anyhow::ensure!(check(&receipt)?.success(), "the demo's receipt does not pass {}", script.display());
    let mut bytes = std::fs::read(&receipt)?;
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    let changed = demo.join("receipt-changed.json");
    std::fs::write(&changed, bytes)?;
    anyhow::ensure!(check(&changed)?.code() == Some(1), "a changed receipt passes {}", script.display());
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
