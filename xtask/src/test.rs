//! Builds and runs all tests.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::repository::Repository;
use crate::{prerequisites, process};

const ADVICE: &str = "see the failures above; one test again: `cargo xtask test NAME`";

/// Runs the tests with `filter` in their name, or all.
///
/// The runner's own summary comes last, whatever else there is to say.
///
/// # Errors
/// When something does not compile or a test fails; the exit code is the runner's.
pub(crate) fn run(repository: &Repository, filter: Option<&str>) -> Result<()> {
    prerequisites::to_build()?;
    prerequisites::to_test();
    let features = prerequisites::features();
    // The binaries too, because tests start them; with the tests in one go, or their dependencies would be built with
    // other features, twice. No test starts an example: the lints see that they compile.
    let mut build = repository.cargo(&["build", "--workspace", "--bins", "--tests", features]);
    process::run(&mut build, "the tests do not compile; see above")?;

    if !prerequisites::on_path("cargo-nextest") {
        // It runs the documentation's tests as well.
        let mut tests = repository.cargo(&["test", "--workspace", "--no-fail-fast", features]);
        return process::run(tests.args(filter), ADVICE);
    }
    let metadata = Metadata::of_members(repository)?;
    if documentation_has_tests(&metadata)? {
        let mut doc = repository.cargo(&["test", "--workspace", "--doc", "--no-fail-fast", features]);
        process::run(doc.args(filter), ADVICE)?;
    }
    nextest(repository, &metadata.target_directory, filter)
}

/// Runs the tests with `filter` in their name once more, with files that the usual run has not.
///
/// # Errors
/// As for [`run`].
pub(crate) fn with(repository: &Repository, filter: &str, files: &[(&str, PathBuf)]) -> Result<()> {
    let mut tests = if prerequisites::on_path("cargo-nextest") {
        repository.cargo(&["nextest", "run", "--workspace", "--lib", "--bins", "--tests", prerequisites::features()])
    } else {
        repository.cargo(&["test", "--workspace", prerequisites::features()])
    };
    tests.arg(filter).envs(files.iter().map(|(name, path)| (name, path)));
    process::run(&mut tests, ADVICE)
}

/// Runs nextest. It hides what passing tests say, also that they skipped: that is repeated from its record, and then its
/// summary again.
fn nextest(repository: &Repository, target: &Path, filter: Option<&str>) -> Result<()> {
    let record = target.join("nextest").join("default").join("junit.xml");
    if record.exists() {
        fs::remove_file(&record).with_context(|| format!("failed to remove {}", record.display()))?;
    }
    let color = if std::io::stderr().is_terminal() { "always" } else { "auto" };
    let mut command = repository.cargo(&["nextest", "run", "--workspace", "--lib", "--bins", "--tests"]);
    command.args([prerequisites::features(), "--color", color]).args(filter).stderr(Stdio::piped());
    process::announce(&command);
    let summary = run_and_keep_summary(&mut command, &mut std::io::stderr())?;
    let skips = fs::read_to_string(&record).map(|xml| skips(&xml)).unwrap_or_default();
    if !skips.is_empty() {
        eprintln!("xtask: tests that did less than they could: {}", skips.len());
        for skip in &skips {
            eprintln!("  {skip}");
            process::remember_skipped(skip);
        }
        summary.iter().for_each(|line| eprintln!("{line}"));
    }
    Ok(())
}

/// Passes the runner's stderr on to `to` as it comes and gives its summary line.
fn run_and_keep_summary(command: &mut Command, to: &mut impl Write) -> Result<Option<String>> {
    let mut child = command.spawn().with_context(|| format!("failed to start `{}`", process::shown(command)))?;
    let mut stderr = BufReader::new(child.stderr.take().context("the runner has no stderr")?);
    let (mut line, mut summary) = (Vec::new(), None);
    while stderr.read_until(b'\n', &mut line).context("failed to read from the runner")? > 0 {
        to.write_all(&line).context("failed to write to stderr")?;
        let text = String::from_utf8_lossy(&line);
        if text.contains("Summary") && text.contains(" run: ") {
            summary = Some(text.trim_end().to_owned());
        }
        line.clear();
    }
    let status = child.wait().context("failed to wait for the runner")?;
    if status.success() { Ok(summary) } else { Err(process::Failed::new(command, status, ADVICE).into()) }
}

/// What passing tests said about what they skipped, from nextest's record.
fn skips(xml: &str) -> Vec<String> {
    let mut test = "";
    let mut found = Vec::new();
    for line in xml.lines() {
        if let Some((_, rest)) = line.split_once("<testcase name=\"") {
            test = rest.split('"').next().unwrap_or_default();
        }
        if let Some(at) = line.find("SKIPPED") {
            let text = line[at..].split("</").next().unwrap_or_default();
            let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
            found.push(format!("{test}: {}", text.replace("&amp;", "&")));
        }
    }
    found
}

/// Does a library's documentation contain Rust that is tested? To ask rustdoc takes seconds a crate.
fn documentation_has_tests(metadata: &Metadata) -> Result<bool> {
    for target in metadata.members().flat_map(|package| &package.targets) {
        if target.kind.iter().any(|kind| kind == "lib") {
            let folder = target.src_path.parent().context("a library in no folder")?;
            let mut folders = vec![folder.to_path_buf()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(&folder).with_context(|| format!("failed to list {}", folder.display()))? {
                    let path = entry?.path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.extension().is_some_and(|extension| extension == "rs")
                        && has_doc_test(&fs::read_to_string(&path)?)
                    {
                        return Ok(true);
                    }
                }
            }
        }
    }
    Ok(false)
}

/// A fence in a documentation comment that opens Rust code which rustdoc compiles.
fn has_doc_test(source: &str) -> bool {
    let mut open = false;
    for line in source.lines() {
        let line = line.trim_start();
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else { continue };
        let Some(words) = text.trim_start().strip_prefix("```") else { continue };
        open = !open;
        let mut words = words.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
        let rust = |word| matches!(word, "rust" | "no_run" | "should_panic" | "compile_fail");
        if open && words.all(rust) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_tests_are_found() {
        let check = |source: &str, expect: bool| assert_eq!(has_doc_test(source), expect, "{source}");
        check("/// ```\n/// f();\n/// ```\n", true);
        check("    //! ```rust,no_run\n//! ```", true);
        check("/// ```text\n/// drawing\n/// ```\n", false);
        check("/// ```ignore\n/// ```\n/// ```json\n/// ```", false);
        check("/// ```text\n/// ```\n/// ```\n/// f();\n/// ```", true);
        check("let s = \"```\";\n// ```\n", false);
    }

    #[test]
    fn skips_are_repeated_with_the_name_of_their_test() {
        let xml = "<testcase name=\"it::traces\" classname=\"x\">\n<system-err>SKIPPED: no &lt;shared&gt; &amp;c.</system-err>\n\
                   </testcase>\n<testcase name=\"other\">\n<system-err>fine</system-err>";
        assert_eq!(skips(xml), ["it::traces: SKIPPED: no <shared> &c."]);
    }

    #[test]
    fn the_summary_is_kept_and_a_failure_is_one() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stderr(Stdio::piped());
            command
        };
        let script = "echo '   PASS x' >&2; echo '   Summary [ 0.1s] 2 tests run: 2 passed' >&2; exit ";
        let mut passed_on = Vec::new();
        let summary = run_and_keep_summary(&mut shell(&format!("{script}0")), &mut passed_on).unwrap();
        assert_eq!(summary.as_deref(), Some("   Summary [ 0.1s] 2 tests run: 2 passed"));
        assert!(passed_on.starts_with(b"   PASS x\n"));
        run_and_keep_summary(&mut shell(&format!("{script}100")), &mut passed_on).unwrap_err();
    }
}
