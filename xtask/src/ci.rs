//! All that a change must pass, cheap steps first, with the time each took.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::repository::Repository;
use crate::{check, demo, guests, test, tidy};

type Step = (&'static str, fn(&Repository) -> Result<()>);

const STEPS: [Step; 6] = [
    ("fmt", |repository| check::fmt(repository, true)),
    ("tidy", tidy::run),
    ("guests", |repository| guests::run(repository.root(), true)),
    ("lint", check::lint),
    ("test", |repository| test::run(repository, None)),
    ("demo", demo::run),
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
