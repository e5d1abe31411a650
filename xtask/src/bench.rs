//! Runs measurements and keeps their figures together with the machine they were taken on.
//!
//! A measurement is an example of a crate that prints JSON, and only that, on stdout; what it says to people goes to
//! stderr. With `--smoke` it uses small numbers, which say nothing but that it works.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::metadata::Metadata;
use crate::repository::Repository;
use crate::{prerequisites, process};

mod peers;
mod proof;

struct Bench {
    name: &'static str,
    package: &'static str,
    example: &'static str,
}

const BENCHES: [Bench; 11] = [
    Bench { name: "e2e", package: "legation", example: "e2e" },
    Bench { name: "attest", package: "legation", example: "attest" },
    Bench { name: "decide", package: "legation-pool", example: "decide" },
    Bench { name: "pool", package: "legation", example: "pool" },
    Bench { name: "openb", package: "legation-pool", example: "openb" },
    Bench { name: "log", package: "legation-log", example: "log" },
    Bench { name: "channel", package: "legation-net", example: "channel_bench" },
    Bench { name: "delegation", package: "legation", example: "delegation" },
    Bench { name: "meters", package: "legation-agent", example: "meters" },
    Bench { name: "nested", package: "legation-net", example: "nested" },
    Bench { name: "catch-up", package: "legation-manager", example: "catch_up" },
];

/// The one that is of another workspace.
const PROOF: &str = "proof";

/// Of which others one consists besides its own program.
const BESIDE: [(&str, &[&str]); 1] = [("delegation", &["meters", "nested", "log", "catch-up"])];

/// For `--help`.
pub(crate) const LIST: &str = "Measurements:
  e2e      tasks from end to end: manager, agents, client (legation, example e2e)
  attest   judging machines: kinds, appraisal, a verifier behind HTTP, 100 agents joining (legation, example attest)
  decide   one decision among 1k to 1M enclaves, beside other strategies (legation-pool, example decide)
  pool     the pool: durable and over sockets, memory, recovery (legation, example pool)
  openb    a real cluster's work through the pool, beside other strategies (legation-pool, example openb)
  log      the transparency log: appends, proofs out of tiles (legation-log, example log)
  channel  the attested channel: handshakes, throughput (legation-net, example channel_bench)
  delegation  handing work on: grants, a call from inside a module, a receipt of 1,000 statements (legation, example delegation);
              without arguments also meters, nested, log, catch-up, and biscuit-auth (bench/peers)
  meters   a running module: fuel, epochs, trace and monitor beside none of them (legation-agent, example meters)
  nested   a channel over a channel beside one alone (legation-net, example nested)
  catch-up  the transparency log following a journal (legation-manager, example catch_up)
  proof    a proof of execution: speed, memory, verification, by height of the trace (prover/host, example proof)";

/// Runs the measurement `name` with `args` and writes what it found: to `bench/results/NAME-DATE.json`, or, as a smoke
/// test, to `target/bench/NAME.json`. A second run on the same day replaces the first.
///
/// # Errors
/// When there is no such measurement, or it fails, or prints something that is not JSON.
pub(crate) fn run(repository: &Repository, name: &str, smoke: bool, args: &[String]) -> Result<()> {
    let metadata = Metadata::of_members(repository)?;
    prerequisites::to_build()?;
    let (command, own) = match name {
        PROOF => proof::measure(repository, smoke, args)?,
        _ => measure(repository, &metadata, find(name)?, smoke, args)?,
    };
    // Arguments are for one program: with any, nothing else is measured.
    let beside = BESIDE.iter().find(|(of, _)| *of == name && args.is_empty());
    let results = match beside {
        None => own,
        Some((_, others)) => {
            let mut all = Map::from_iter([(name.to_owned(), own)]);
            for other in *others {
                let (_, found) = measure(repository, &metadata, find(other)?, smoke, &[])?;
                all.insert((*other).to_owned(), found);
            }
            all.insert("peers".to_owned(), peers::measure(repository, smoke));
            Value::Object(all)
        }
    };

    let date = process::output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned();
    let (folder, file): (PathBuf, String) = if smoke {
        (metadata.target_directory.join("bench"), format!("{name}.json"))
    } else {
        (repository.root().join("bench").join("results"), format!("{name}-{date}.json"))
    };
    let report = json!({
        "measurement": name,
        "command": command,
        "date": date,
        "smoke": smoke,
        "machine": machine(repository)?,
        "results": results,
    });
    let text = serde_json::to_string_pretty(&report).context("failed to write JSON")?;
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let path = folder.join(file);
    fs::write(&path, format!("{text}\n")).with_context(|| format!("failed to write {}", path.display()))?;
    println!("{text}");
    eprintln!("xtask: written to {}", path.strip_prefix(repository.root()).unwrap_or(&path).display());
    Ok(())
}

fn find(name: &str) -> Result<&'static Bench> {
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        bail!("there is no measurement {name:?}\n{LIST}");
    };
    Ok(bench)
}

/// Builds and runs one program; gives the command and what it printed.
fn measure(
    repository: &Repository,
    metadata: &Metadata,
    bench: &Bench,
    smoke: bool,
    args: &[String],
) -> Result<(String, Value)> {
    let exists = metadata.members().filter(|package| package.name == bench.package).any(|package| {
        package.targets.iter().any(|target| target.name == bench.example && target.kind.contains(&"example".to_owned()))
    });
    ensure!(exists, "{} has no example {}, which measures {}", bench.package, bench.example, bench.name);

    let package = format!("--package={}", bench.package);
    // The programs that a measurement starts lie beside it, and running an example builds none of them: they would be missing,
    // or of another commit.
    let profile = if smoke { "--profile=dev" } else { "--profile=release" };
    let mut build = repository.cargo(&["build", &package, "--bins", "--example", bench.example, profile]);
    process::run(&mut build, "the measurement does not compile; see above")?;
    let mut command = repository.cargo(&["run", &package, "--example", bench.example, profile]);
    command.arg("--").args(smoke.then_some("--smoke")).args(args).stdout(Stdio::piped());
    process::announce(&command);
    let child = command.spawn().with_context(|| format!("failed to start `{}`", process::shown(&command)))?;
    let out = child.wait_with_output().context("failed to wait for the measurement")?;
    if !out.status.success() {
        return Err(process::Failed::new(&command, out.status, "the measurement says why above").into());
    }
    let text = String::from_utf8(out.stdout).context("the measurement printed no text")?;
    Ok((process::shown(&command), documents(&text)?))
}

/// One document as it is; several, one after the other, as a list.
fn documents(text: &str) -> Result<Value> {
    let found = serde_json::Deserializer::from_str(text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let mut found = found.context("the measurement printed something that is not JSON")?;
    ensure!(!found.is_empty(), "the measurement printed nothing");
    Ok(if found.len() == 1 { found.remove(0) } else { Value::Array(found) })
}

/// What the figures depend on, and nothing that names the machine.
fn machine(repository: &Repository) -> Result<Value> {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |path: &str, name: &str| {
        let text = text(path);
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let mut git = Command::new("git");
    git.current_dir(repository.root()).args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    Ok(json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().context("failed to count cores")?.get(),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": text("/proc/sys/kernel/osrelease").trim(),
        "rustc": process::output(Command::new("rustc").arg("--version"))?.trim(),
        "commit": process::output(&mut git).ok().map(|id| id.trim().to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_kept_and_lines_become_a_list() {
        assert_eq!(documents("{\"a\": 1}\n").unwrap(), json!({"a": 1}));
        assert_eq!(documents("{\"a\": 1}\n{\"a\": 2}\n").unwrap(), json!([{"a": 1}, {"a": 2}]));
        documents("").unwrap_err();
        documents("1 second").unwrap_err();
    }

    #[test]
    fn the_help_lists_every_measurement() {
        for bench in &BENCHES {
            assert!(
                LIST.contains(&format!("\n  {:<7}  ", bench.name)) && LIST.contains(bench.example),
                "{}",
                bench.name
            );
        }
    }

    #[test]
    fn what_is_measured_beside_another_is_a_measurement() {
        for (name, others) in BESIDE {
            find(name).unwrap();
            for other in others {
                find(other).unwrap();
            }
        }
    }
}
