//! Builds what proves executions, outside the workspace: the program that is proven (for another machine, by another compiler), and
//! the prover around it. Nothing of the product's build or of its everyday tests needs any of it; the last step of `cargo xtask ci`
//! builds it and has one small execution proven.
//!
//! 1. `guest`: the program, built by Debian's compiler with std from source; keys; and what readers pin of both
//!    (`prover/guest/PINNED.json`), made by proving one empty execution. With `check`, the committed pin is only compared.
//! 2. `build`: `legation-prover`, for this very processor: the arithmetic of proofs vectorises.
//! 3. `test`: the program's library natively, then proofs, good and bad, with the program of 1.
//!
//! All of it lies in `target/prover`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

use crate::repository::Repository;
use crate::{prerequisites, process, test};

/// Debian's compiler for building browsers, which is newer than Debian's own and has its sources in a package.
const COMPILER: &str = "/usr/bin/rustc";
const VERSION: &str = "rustc 1.96.0";
const PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// Where `-Z build-std` looks for the sources.
const SOURCES: &str = "/usr/lib/rustlib/src/rust";
const TARGET: &str = "riscv32im-risc0-zkvm-elf";
/// What would change how the program is built.
const FOREIGN: [&str; 5] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];
/// Largest file that the repository takes.
const COMMITTED_MAX: u64 = 1 << 20;

/// What to do about proofs of execution.
#[derive(Subcommand)]
pub(crate) enum Prover {
    /// Builds the program that is proven, its keys, and what readers pin of it
    Guest {
        /// Only says whether the committed pin is of what the sources build
        #[arg(long)]
        check: bool,
    },
    /// Builds `legation-prover` for this processor
    Build,
    /// Tests the program, and proves and refuses executions: minutes, and about 6 GB of memory
    Test,
}

/// Does it.
///
/// # Errors
/// When the tool chain cannot be had, something does not compile, a test fails, or the committed pin is of something else.
pub(crate) fn run(repository: &Repository, what: &Prover) -> Result<()> {
    match what {
        Prover::Guest { check } => guest(repository, *check),
        Prover::Build => build(repository).map(drop),
        Prover::Test => test(repository),
    }
}

/// What a proof takes of memory, in KiB, and some to spare.
const MEMORY_MIN: u64 = 8 << 20;

/// Builds all of it, holds what readers pin against the committed pin, and has real processes prove one small execution.
///
/// # Errors
/// As for [`run`].
pub(crate) fn prove_one(repository: &Repository) -> Result<()> {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free = free.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
    if free.is_none_or(|free| free < MEMORY_MIN) {
        let gib = MEMORY_MIN >> 20;
        process::skipped(&format!("a proof needs {gib} GiB of memory that is free; nothing is proven here"));
        return Ok(());
    }
    if let Err(lack) = toolchain() {
        process::skipped(&format!("the program that is proven cannot be built, and nothing is proven here: {lack:#}"));
        return Ok(());
    }
    guest(repository, true)?;
    let made = folder(repository);
    let files = [
        ("LEGATION_PROVER", made.join("host/release/legation-prover")),
        ("LEGATION_PROVER_PROGRAM", made.join("legation-guest.elf")),
        ("LEGATION_PROVER_KEYS", made.join("keys")),
    ];
    test::with(repository, "handed::a_chain_of_four", &files)
}

/// Where all of it lies.
pub(crate) fn folder(repository: &Repository) -> PathBuf {
    repository.root().join("target/prover")
}

/// `--locked`, where there is a lock file: the first build of all makes it.
fn locked(workspace: &Path) -> &'static [&'static str] {
    if workspace.join("Cargo.lock").exists() { &["--locked"] } else { &[] }
}

fn guest(repository: &Repository, check: bool) -> Result<()> {
    let program = program(repository)?;
    let prover = build(repository)?;
    let (made, keys) = (folder(repository), folder(repository).join("keys"));
    let pinned = made.join("PINNED.json");
    process::run(
        Command::new(&prover).arg("keygen").arg("--keys").arg(&keys),
        "the keys could not be made; they need about 6 GB of memory",
    )?;
    process::run(
        Command::new(&prover)
            .arg("pin")
            .arg("--keys")
            .arg(&keys)
            .arg("--program")
            .arg(&program)
            .arg("--out")
            .arg(&pinned),
        "an empty execution could not be proven; see above",
    )?;
    let committed = repository.root().join("prover/guest/PINNED.json");
    let text = fs::read_to_string(&pinned).with_context(|| format!("failed to read {}", pinned.display()))?;
    if check {
        let same = fs::read_to_string(&committed).is_ok_and(|there| there == text);
        ensure!(same, "prover/guest/PINNED.json is not of what prover/guest builds; run `cargo xtask prover guest`");
        eprintln!("xtask: prover/guest/PINNED.json is of what prover/guest builds");
        return Ok(());
    }
    fs::write(&committed, text).with_context(|| format!("failed to write {}", committed.display()))?;
    let key = keys.join("verifying.key");
    let size = fs::metadata(&key).with_context(|| format!("failed to read {}", key.display()))?.len();
    if size <= COMMITTED_MAX {
        fs::copy(&key, repository.root().join("prover/guest/verifying.key"))
            .context("failed to copy the verifying key")?;
    } else {
        eprintln!("xtask: the verifying key has {size} bytes and is not committed: hand out {} too", key.display());
    }
    eprintln!("xtask: program {}, keys {}, pinned in prover/guest/PINNED.json", program.display(), keys.display());
    Ok(())
}

/// Builds the program that is proven.
///
/// # Errors
/// When its tool chain cannot be had, or it does not compile.
pub(crate) fn program(repository: &Repository) -> Result<PathBuf> {
    toolchain()?;
    let source = repository.root().join("prover/guest");
    let made = folder(repository).join("guest");
    let mut cargo = repository.cargo(&["build", "--release", "--bin", "legation-guest", "--target-dir"]);
    // In its own folder, because its configuration of cargo lies there.
    cargo.arg(&made).args(locked(&source)).current_dir(&source);
    // The path of whoever builds it must not get in: another file would be another program.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let home = home.context("there is neither CARGO_HOME nor HOME")?;
    let maps = [(home.as_path(), "cargo"), (repository.root(), "legation")];
    let flags: Vec<_> =
        maps.iter().map(|(from, to)| format!("'--remap-path-prefix={}=/{to}'", from.display())).collect();
    cargo.arg("--config").arg(format!("target.{TARGET}.rustflags=[{}]", flags.join(",")));
    cargo.env("RUSTC", COMPILER).env("RUSTC_BOOTSTRAP", "1").env("PATH", with_linker()?);
    for name in FOREIGN {
        cargo.env_remove(name);
    }
    process::run(&mut cargo, "the program that is proven does not compile; see above")?;
    let built = made.join(TARGET).join("release/legation-guest");
    let kept = folder(repository).join("legation-guest.elf");
    fs::copy(&built, &kept).with_context(|| format!("failed to copy {}", built.display()))?;
    Ok(kept)
}

/// The linker for that machine comes with the usual tool chain, in a folder that is not on PATH.
fn with_linker() -> Result<std::ffi::OsString> {
    let sysroot = process::output(Command::new("rustc").args(["--print", "sysroot"])).context("no rustc on PATH")?;
    let version = process::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let linker = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    ensure!(
        linker.join("rust-lld").exists(),
        "there is no rust-lld in {}: install the compiler with rustup (https://rustup.rs)",
        linker.display()
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(linker).chain(std::env::split_paths(&path));
    std::env::join_paths(all).context("a folder of PATH has a colon in its name")
}

/// Is the compiler of this file here, with its sources where it looks for them? Installs both where we may.
fn toolchain() -> Result<()> {
    if let Err(lack) = compiler() {
        prerequisites::install(&PACKAGES).context(lack)?;
        compiler().context("Debian 12 has it among its security updates")?;
    }
    if Path::new(SOURCES).join("library/Cargo.toml").exists() {
        return Ok(());
    }
    let Some(found) = sources()? else {
        prerequisites::install(&PACKAGES[1..]).context("the sources of the compiler's std are not here")?;
        let found = sources()?.context("rust-web-src is installed, and its sources are not in /usr/src")?;
        return link(&found);
    };
    link(&found)
}

fn compiler() -> Result<()> {
    match process::output(Command::new(COMPILER).arg("--version")) {
        Ok(version) if version.starts_with(VERSION) => Ok(()),
        Ok(version) => bail!("{COMPILER} is {:?}, and the pinned program is built by {VERSION}", version.trim()),
        Err(_) => bail!("{COMPILER} is not here: the pinned program is built by {VERSION}, Debian's rustc-web"),
    }
}

/// The sources that belong to the compiler, where Debian puts them.
fn sources() -> Result<Option<PathBuf>> {
    let number = VERSION.trim_start_matches("rustc ");
    for entry in fs::read_dir("/usr/src").context("failed to list /usr/src")? {
        let path = entry.context("failed to list /usr/src")?.path();
        let named = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("rust") && name.ends_with(number)
        });
        if named && path.join("library/Cargo.toml").exists() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn link(found: &Path) -> Result<()> {
    let advice = || format!("as root: mkdir -p /usr/lib/rustlib/src && ln -s {} {SOURCES}", found.display());
    fs::create_dir_all("/usr/lib/rustlib/src").with_context(advice)?;
    symlink(found, SOURCES).with_context(advice)
}

/// Builds the prover and says where it is.
fn build(repository: &Repository) -> Result<PathBuf> {
    prerequisites::to_build()?;
    let mut cargo = cargo(repository, &["build", "--release", "--package=legation-prover"]);
    process::run(&mut cargo, "the prover does not compile; see above")?;
    Ok(folder(repository).join("host/release/legation-prover"))
}

/// Cargo on the prover's workspace, for this very processor.
pub(crate) fn cargo(repository: &Repository, args: &[&str]) -> Command {
    let workspace = repository.root().join("prover");
    let mut cargo = repository.cargo(args);
    cargo.arg("--manifest-path").arg(workspace.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(folder(repository).join("host")).args(locked(&workspace));
    cargo.env("RUSTFLAGS", "-C target-cpu=native");
    cargo
}

fn test(repository: &Repository) -> Result<()> {
    let source = repository.root().join("prover/guest");
    let mut native = repository.cargo(&["test", "--manifest-path"]);
    native
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(folder(repository).join("native"))
        .args(locked(&source));
    process::run(&mut native, "the program does not behave as the engine; see above")?;

    guest(repository, true)?;
    let mut proofs = cargo(repository, &["test", "--release", "--workspace"]);
    proofs.env("LEGATION_PROVER_PROGRAM", folder(repository).join("legation-guest.elf"));
    proofs.env("LEGATION_PROVER_KEYS", folder(repository).join("keys"));
    process::run(&mut proofs, "see the failures above")
}
