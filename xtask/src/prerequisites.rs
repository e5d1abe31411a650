//! What the machine must have: found, installed where we may (root on Debian), or named exactly.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// The workspace's `rust-version`.
const RUST_NEEDED: &str = env!("CARGO_PKG_RUST_VERSION");

struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
    why: &'static str,
}

const COMPILER: Tool =
    Tool { program: "cc", packages: &["gcc", "libc6-dev"], why: "cryptography and SQLite are compiled from C" };

const FOR_TESTS: [Tool; 8] = [
    Tool { program: "openssl", packages: &["openssl"], why: "tests read our certificates and signatures with it" },
    Tool { program: "jq", packages: &["jq"], why: "tests run the documented commands, which use it" },
    Tool { program: "sqlite3", packages: &["sqlite3"], why: "tests look into the journal with it" },
    Tool { program: "pg_ctlcluster", packages: &["postgresql"], why: "tests start PostgreSQL clusters of their own" },
    Tool { program: "swtpm", packages: &["swtpm"], why: "tests attest with emulated TPMs" },
    Tool { program: "swtpm_setup", packages: &["swtpm-tools"], why: "it makes the emulated TPMs" },
    Tool { program: "tpm2_checkquote", packages: &["tpm2-tools"], why: "tests have it check our quotes" },
    Tool { program: "softhsm2-util", packages: &["softhsm2"], why: "tests keep an operator's root in its token" },
];

/// What the feature `tpm` is built with.
const FOR_TPM: [&str; 2] = ["libtss2-dev", "pkg-config"];

/// Features that every build of the workspace has here: `hsm` and `nitro` need nothing, `tpm` needs libtss2, which is installed where
/// we may.
/// All commands use the same, or one would compile our crates again for the other.
pub(crate) fn features() -> &'static str {
    static FOUND: std::sync::OnceLock<&str> = std::sync::OnceLock::new();
    FOUND.get_or_init(|| {
        let there = || {
            process::output(Command::new("pkg-config").args(["--exists", "tss2-sys", "tss2-esys", "tss2-mu"])).is_ok()
        };
        let lack = if there() { None } else { install(&FOR_TPM).err() };
        if there() {
            return "--features=legation/hsm,legation/nitro,legation/tpm";
        }
        let why = lack.map_or_else(|| "it is not found after it was installed".to_owned(), |lack| format!("{lack:#}"));
        process::skipped(&format!(
            "without libtss2 everything is built without feature `tpm`, and nothing of it is tested: {why}"
        ));
        "--features=legation/hsm,legation/nitro"
    })
}

/// Whatever is built needs this.
///
/// # Errors
/// When Rust is too old, or there is no C compiler and we cannot install one.
pub(crate) fn to_build() -> Result<()> {
    let version = process::output(Command::new("rustc").arg("--version"))
        .with_context(|| format!("install Rust {RUST_NEEDED} or newer from https://rustup.rs"))?;
    check_rust(&version, RUST_NEEDED)?;
    have(&[COMPILER]).map_err(|lack| lack.context("nothing can be built"))
}

/// Tests that lack one of these skip; that is said here, loudly, and again by the tests.
pub(crate) fn to_test() {
    if let Err(lack) = have(&FOR_TESTS) {
        process::skipped(&format!("tests that need what is missing will skip: {lack:#}"));
    }
}

/// The browser's check of receipts is tested with it.
///
/// # Errors
/// When it is not here, and we cannot install it.
pub(crate) fn node() -> Result<()> {
    have(&[Tool { program: "node", packages: &["nodejs"], why: "Node.js 18 or newer runs the page's check" }])
}

/// Installs Debian packages, if we may.
///
/// # Errors
/// When we are not root, this is not Debian, or apt-get fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let advice = || format!("install the Debian packages: apt-get install {}", packages.join(" "));
    let root = process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root || !on_path("apt-get") {
        bail!(advice());
    }
    eprintln!("xtask: apt-get install {}", packages.join(" "));
    let apt =
        |args: &[&str]| process::output(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    // The package lists may be absent or old; an install that succeeds anyway is fine.
    let updated = apt(&["update", "-q"]);
    let mut words = vec!["install", "-q", "-y", "--no-install-recommends"];
    words.extend(packages);
    apt(&words).or_else(|refused| updated.and(Err(refused))).with_context(advice)?;
    Ok(())
}

fn have(tools: &[Tool]) -> Result<()> {
    let missing = || tools.iter().filter(|tool| !on_path(tool.program));
    let packages: Vec<&str> = missing().flat_map(|tool| tool.packages).copied().collect();
    if packages.is_empty() {
        return Ok(());
    }
    let lack = missing().map(|tool| format!("no {} ({})", tool.program, tool.why)).collect::<Vec<_>>().join(", ");
    install(&packages).context(lack)?;
    let still: Vec<&str> = missing().map(|tool| tool.program).collect();
    ensure!(still.is_empty(), "installed {}, and there is still no {}", packages.join(" "), still.join(", "));
    Ok(())
}

/// Can a program of this name be started?
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|folder| folder.join(program).metadata().ok())
        .any(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// `version` is what `rustc --version` says: `rustc 1.95.0 (...)`.
fn check_rust(version: &str, needed: &str) -> Result<()> {
    fn parts(number: &str) -> Option<Vec<u32>> {
        number.split('-').next()?.split('.').map(|part| part.parse().ok()).collect()
    }
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let found = parts(number).with_context(|| format!("unknown Rust version {version:?}"))?;
    ensure!(
        Some(found) >= parts(needed),
        "Rust {number} is too old, {needed} is needed: `rustup update stable`, or see https://rustup.rs"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_must_be_new_enough() {
        let check = |version: &str| check_rust(version, "1.95").map_err(|error| error.to_string());
        for fine in ["rustc 1.95.0 (59807616e 2026-04-14)", "rustc 1.100.0", "rustc 2.0.0", "rustc 1.96.0-nightly (x)"]
        {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for old in ["rustc 1.94.1 (x)", "rustc 1.9.0", "rustc 0.99.0"] {
            assert!(check(old).unwrap_err().contains("rustup update"), "{old}");
        }
        assert!(check("gcc").unwrap_err().contains("unknown"));
    }

    #[test]
    fn programs_are_found_on_path() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-anywhere"));
    }
}
