//! Rebuilds the guest modules and compares them, byte for byte, with the committed ones. It is no general C build: the
//! list of modules, the flags and the toolchain are fixed here, because another of any of them gives other bytes.
//!
//! 1. The committed modules have the digests of `guests/DIGESTS`, and no module is there that is not built here.
//! 2. `guests/README.md` names the toolchain of this file.
//! 3. Two builds in two folders, from two copies of the sources, are the same bytes: no path or time gets in.
//! 4. The programs, compiled for this machine with undefined behaviour turned into traps, behave as `guests/cases.jsonl`
//!    says.
//! 5. The build is the committed bytes; or, without `check_only`, becomes them.
//!
//! Without the toolchain, 1 and 2 are still checked; 3 to 5 are skipped with one loud line.
//!
//! The guests in Rust, Python and JavaScript are built beside these ([`page`]): with other tools, not to the same bytes everywhere, and not
//! committed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::process::output;
use crate::{prerequisites, process};

mod page;

/// What `clang-14 --version` says first.
const CLANG_VERSION: &str = "Debian clang version 14.0.6";
/// What `wasm-ld-14 --version` says.
const LINKER_VERSION: &str = "Debian LLD 14.0.6";
/// Debian's version of wasi-libc; the library is linked into every module.
const LIBC_VERSION: &str = "0.0~git20220510.9886d3d-2";
const CLANG: &str = "clang-14";
const PACKAGES: [&str; 4] = ["clang-14", "lld-14", "wasi-libc", "libclang-rt-14-dev-wasm32"];

/// A module and its sources in `guests/src`.
const MODULES: [(&str, &[&str]); 6] = [
    ("echo", &["echo.c", "task.c"]),
    ("noop", &["noop.c"]),
    ("reduce", &["reduce.c", "linear.c", "task.c"]),
    ("relay", &["relay.c", "task.c"]),
    ("split", &["split.c", "task.c"]),
    ("train", &["train.c", "linear.c", "task.c"]),
];

const WARNINGS: [&str; 5] = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror"];

/// No contraction and no fast-math: the floating point of the source is the floating point of the module. The stack
/// comes first in memory, so that an overflow traps instead of running into data; memory stops at 64 MiB.
const WASM_FLAGS: [&str; 9] = [
    "--target=wasm32-wasi",
    "-Os",
    "-g0",
    "-ffp-contract=off",
    "-fno-ident",
    "-fuse-ld=lld",
    "-Wl,--strip-all,--gc-sections",
    "-Wl,-z,stack-size=65536",
    "-Wl,--stack-first,--max-memory=67108864",
];

/// Traps need no sanitizer library; an aborted program has no exit code and fails its case.
const NATIVE_FLAGS: [&str; 6] =
    ["-D_DEFAULT_SOURCE", "-O1", "-ffp-contract=off", "-fsanitize=undefined", "-fsanitize-trap=undefined", "-lm"];

/// Checks the committed modules under `root`, or rebuilds them; then runs the commands of `docs/write-a-task.md`, which builds the guests
/// that are not committed.
///
/// # Errors
/// When a check of the module documentation fails, when modules are to be rebuilt and the toolchain cannot be had, or when a
/// command of the page fails.
pub(crate) fn run(root: &Path, check_only: bool) -> Result<()> {
    modules(root, check_only)?;
    page::run(root)
}

fn modules(root: &Path, check_only: bool) -> Result<()> {
    let guests = root.join("guests");
    check_readme(&guests)?;
    if check_only {
        check_digests(&guests)?;
    }
    if let Err(lack) = toolchain() {
        if !check_only {
            return Err(lack);
        }
        process::skipped(&format!("the modules of guests/ were not rebuilt: {lack:#}"));
        return Ok(());
    }

    let scratch = root.join("target").join("guests");
    let first = build(&guests, &scratch.join("first"))?;
    let second = build(&guests, &scratch.join("a-second-folder"))?;
    for (name, _) in MODULES {
        let same = read(&module(&first, name))? == read(&module(&second, name))?;
        ensure!(same, "{name}.wasm: two builds in two folders differ");
    }
    let cases = run_cases(&guests, &scratch.join("native"))?;

    let mut different = Vec::new();
    for (name, _) in MODULES {
        let built = read(&module(&first, name))?;
        let committed = module(&guests, name);
        if fs::read(&committed).ok().as_ref() != Some(&built) {
            different.push(format!("{name}.wasm"));
            if !check_only {
                fs::write(&committed, &built).with_context(|| format!("failed to write {}", committed.display()))?;
            }
        }
    }
    if check_only {
        ensure!(different.is_empty(), "not what guests/src builds: {}; run `cargo xtask guests`", different.join(", "));
        println!("guests: {} modules rebuilt byte for byte, {cases} cases hold", MODULES.len());
    } else {
        let digests = digests(&guests)?;
        fs::write(guests.join("DIGESTS"), digests).context("failed to write guests/DIGESTS")?;
        check_digests(&guests)?;
        println!("guests: {} modules built, changed: [{}], {cases} cases hold", MODULES.len(), different.join(", "));
    }
    Ok(())
}

fn module(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wasm"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

fn check_readme(guests: &Path) -> Result<()> {
    let readme = fs::read_to_string(guests.join("README.md")).context("failed to read guests/README.md")?;
    for fact in [CLANG_VERSION, LINKER_VERSION, LIBC_VERSION].iter().chain(&PACKAGES) {
        ensure!(
            readme.contains(fact),
            "guests/README.md does not name {fact:?}, which xtask/src/guests.rs builds with"
        );
    }
    Ok(())
}

/// The lines of `guests/DIGESTS`, from the modules that lie there.
fn digests(guests: &Path) -> Result<String> {
    let names = MODULES.map(|(name, _)| format!("{name}.wasm"));
    output(Command::new("sha256sum").args(names).current_dir(guests))
}

fn check_digests(guests: &Path) -> Result<()> {
    let committed = fs::read_to_string(guests.join("DIGESTS")).context("failed to read guests/DIGESTS")?;
    ensure!(committed == digests(guests)?, "guests/DIGESTS is not what the committed modules hash to");
    for entry in fs::read_dir(guests).context("failed to list guests")? {
        let path = entry.context("failed to list guests")?.path();
        let known = MODULES.iter().any(|(name, _)| module(guests, name) == path);
        ensure!(known || path.extension().is_none_or(|e| e != "wasm"), "{} has no source here", path.display());
    }
    Ok(())
}

/// Is the toolchain of this file here? Installs it where that is possible: Debian, and we may.
fn toolchain() -> Result<()> {
    let Err(lack) = installed() else { return Ok(()) };
    prerequisites::install(&PACKAGES).context(lack)?;
    installed().context("Debian 12 has these versions")
}

fn installed() -> Result<()> {
    let expect = |found: Result<String>, what: &str, version: &str| match found {
        Ok(found) if found.lines().next().is_some_and(|line| line.trim_end().starts_with(version)) => Ok(()),
        Ok(found) => bail!("{what} is {:?}, not {version:?}", found.lines().next().unwrap_or_default()),
        Err(_) => bail!("{what} is not here"),
    };
    expect(output(Command::new(CLANG).arg("--version")), CLANG, CLANG_VERSION)?;
    expect(output(Command::new("wasm-ld-14").arg("--version")), "wasm-ld-14", LINKER_VERSION)?;
    expect(
        output(Command::new("dpkg-query").args(["-W", "-f=${Version}", "wasi-libc"])),
        "Debian's wasi-libc",
        LIBC_VERSION,
    )?;
    // Where the runtime library is, or would be.
    let runtime = output(Command::new(CLANG).args(["--target=wasm32-wasi", "-print-libgcc-file-name"]))?;
    ensure!(Path::new(runtime.trim()).exists(), "libclang-rt-14-dev-wasm32 is not here");
    Ok(())
}

/// An empty folder, whatever was there.
fn fresh(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))
}

/// Copies the sources into `folder` and builds every module there.
fn build(guests: &Path, folder: &Path) -> Result<PathBuf> {
    fresh(folder)?;
    for entry in fs::read_dir(guests.join("src")).context("failed to list guests/src")? {
        let path = entry.context("failed to list guests/src")?.path();
        let name = path.file_name().context("a source without a name")?;
        fs::copy(&path, folder.join(name)).with_context(|| format!("failed to copy {}", path.display()))?;
    }
    for (name, sources) in MODULES {
        let mut clang = Command::new(CLANG);
        clang.current_dir(folder).args(WARNINGS).args(WASM_FLAGS);
        clang.arg(format!("-ffile-prefix-map={}=.", folder.display()));
        clang.args(sources).arg("-o").arg(format!("{name}.wasm"));
        output(&mut clang).with_context(|| format!("failed to build {name}.wasm"))?;
    }
    Ok(folder.to_path_buf())
}

/// A line of `guests/cases.jsonl`: what a program does with its inputs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    program: String,
    args: Vec<String>,
    /// Each input is its pieces, one after the other.
    inputs: Vec<Vec<Piece>>,
    /// LEGATION_INPUTS, where it is not the inputs' lengths.
    lengths: Option<String>,
    exit: i32,
    /// All of stdout; nothing where the program refuses.
    stdout: Option<String>,
    /// What stderr contains.
    stderr: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Once(String),
    Times(String, usize),
}

impl Case {
    fn input_bytes(&self) -> Vec<Vec<u8>> {
        let text = |piece: &Piece| match piece {
            Piece::Once(text) => text.clone(),
            Piece::Times(text, times) => text.repeat(*times),
        };
        self.inputs.iter().map(|pieces| pieces.iter().map(text).collect::<String>().into_bytes()).collect()
    }

    fn check(&self, program: &Path) -> Result<()> {
        let inputs = self.input_bytes();
        let lengths: Vec<String> = inputs.iter().map(|input| input.len().to_string()).collect();
        let mut command = Command::new(program);
        command.args(&self.args).env("LEGATION_INPUTS", self.lengths.clone().unwrap_or_else(|| lengths.join(",")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("failed to run {}", program.display()))?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        let stdin_bytes = inputs.concat();
        // A program may refuse before it has read everything: a closed pipe is no failure. A thread, because a program
        // may also write before it has read everything.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&stdin_bytes)));
        let out = child.wait_with_output().context("failed to wait for it")?;
        ensure!(feeder.join().is_ok(), "failed to write its inputs");

        let stderr = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.code() == Some(self.exit), "{}, expected exit {}: {stderr}", out.status, self.exit);
        ensure!(stderr.contains(&self.stderr), "stderr is {stderr:?}, expected {:?} in it", self.stderr);
        let expected = self.stdout.as_deref().or((self.exit != 0).then_some(""));
        let stdout = String::from_utf8_lossy(&out.stdout);
        ensure!(expected.is_none_or(|text| text == stdout), "stdout is {stdout:?}, expected {expected:?}");
        Ok(())
    }
}

/// Builds the programs for this machine and runs every case; gives their number.
fn run_cases(guests: &Path, folder: &Path) -> Result<usize> {
    fresh(folder)?;
    for (name, sources) in MODULES {
        let mut clang = Command::new(CLANG);
        clang.current_dir(guests.join("src")).args(WARNINGS).args(sources).args(NATIVE_FLAGS);
        output(clang.arg("-o").arg(folder.join(name))).with_context(|| format!("failed to build {name}"))?;
    }
    let cases = fs::read_to_string(guests.join("cases.jsonl")).context("failed to read guests/cases.jsonl")?;
    for (index, line) in cases.lines().enumerate() {
        let case: Case =
            serde_json::from_str(line).with_context(|| format!("guests/cases.jsonl, line {}", index + 1))?;
        ensure!(MODULES.iter().any(|(name, _)| *name == case.program), "case {:?}: unknown program", case.name);
        case.check(&folder.join(&case.program)).with_context(|| format!("{}: case {:?}", case.program, case.name))?;
    }
    Ok(cases.lines().count())
}
