//! Coverage-guided fuzzing with libFuzzer, on the toolchain that builds everything else: the instrumentation is asked of
//! LLVM directly. Crashes are kept in target/fuzz/artifacts, what was learned in target/fuzz/corpus.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::repository::Repository;
use crate::{prerequisites, process};

/// Every target of fuzz/src/main.rs.
const TARGETS: [&str; 44] = [
    "snp-report",
    "snp-certificate",
    "snp-vcek",
    "snp-crl",
    "x509-certificate",
    "x509-crl",
    "dcap-quote",
    "dcap-collateral",
    "nitro-document",
    "nvidia-transcript",
    "nvidia-firmware",
    "pem",
    "tpm-certificate",
    "tpm-quote",
    "tpm-signature",
    "tpm-public",
    "tpm-report",
    "tpm-eventlog",
    "azure-report",
    "azure-hcl",
    "azure-runtime",
    "evidence",
    "evidence-parts",
    "statements",
    "references",
    "envelope",
    "receipt",
    "requirement",
    "policy",
    "log-note",
    "log-tile",
    "log-cose",
    "log-proof",
    "store-manifest",
    "store-checkpoint",
    "store-list",
    "store-piece",
    "swarm-dealing",
    "swarm-roster",
    "swarm-share",
    "swarm-partial",
    "swarm-sealed",
    "custody-word",
    "custody-policy",
];

/// Instrumentation as `cargo fuzz` asks for it, without what only a nightly compiler takes.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
];

/// Builds the targets and runs `names` (all without one) for `seconds` each; stops at the first that crashes.
///
/// # Errors
/// When there is no such target, it cannot be built, or a target crashed: the error says how to repeat it.
pub(crate) fn run(repository: &Repository, names: &[String], seconds: u64) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !TARGETS.contains(&name.as_str())) {
        bail!("there is no target {unknown:?}; there are {}", TARGETS.join(" "));
    }
    prerequisites::to_build()?;
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let folder = repository.root().join("target/fuzz");
    let mut build = repository.cargo(&["build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    // With a target named, build scripts and macros are not instrumented.
    build.args(["--target", host]).arg("--target-dir").arg(&folder);
    build.env("RUSTFLAGS", FLAGS.join(" "));
    process::run(&mut build, "the fuzz targets do not compile")?;
    let program = folder.join(host).join("release/legation-fuzz");

    let samples = repository.root().join("../shared/evidence");
    let chosen = TARGETS.iter().filter(|name| names.is_empty() || names.iter().any(|n| n == *name));
    for name in chosen {
        let (corpus, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts"));
        // A development root and the evidence under it; the program writes its seeds there before it reads them.
        let world = folder.join("world");
        let seeds = world.join("seeds");
        for made in [&corpus, &artifacts, &seeds] {
            fs::create_dir_all(made).with_context(|| format!("failed to create {}", made.display()))?;
        }
        let mut command = Command::new(&program);
        command.env("LEGATION_FUZZ_TARGET", name).env("LEGATION_FUZZ_WORLD", &world).arg(&corpus).arg(&seeds);
        if samples.is_dir() {
            command.arg(&samples);
        }
        command.args(["-max_len=65536", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"]);
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
        let out = command.output().with_context(|| format!("failed to start {}", program.display()))?;
        let said = String::from_utf8_lossy(&out.stderr);
        let runs = said.lines().find_map(|l| l.strip_prefix("stat::number_of_executed_units:")).unwrap_or("?").trim();
        eprintln!("xtask: {name:<18} {seconds:>4} s {runs:>12} runs");
        ensure!(
            out.status.success(),
            "target {name} failed ({}); repeat it with LEGATION_FUZZ_TARGET={name} {} FILE, the file is in {}\n{}",
            out.status,
            program.display(),
            artifacts.display(),
            said.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_the_binary_can_be_asked_for() {
        let source = include_str!("../../fuzz/src/main.rs");
        let there: Vec<_> = source
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("(\"")?.split_once("\", |data|").map(|(name, _)| name))
            .collect();
        assert_eq!(there, TARGETS);
    }
}
