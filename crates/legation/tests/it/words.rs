//! What the command line says of itself: help, exit codes, completions.

use std::process::Stdio;

use legation::{exit::Exit, run::parse_usd};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::world::program;

#[tokio::test]
async fn every_command_has_help() {
    let here = tempfile::tempdir().unwrap();
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = Vec::new();
    while let Some(command) = left.pop() {
        let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = program(here.path(), None, &args).await.ended(0, &[]).out();
        assert!(help.contains("Usage: legation"), "{command:?}: {help}");
        let listed = help.split("\nCommands:\n").nth(1).and_then(|t| t.split("\n\n").next()).unwrap_or_default();
        // A continued description is indented further than a name.
        let names = listed.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   "));
        for name in names.filter_map(|l| l.split_whitespace().next()).filter(|name| *name != "help") {
            left.push(command.iter().cloned().chain([name.to_owned()]).collect());
        }
        seen.push(command.join(" "));
    }
    for known in [
        "",
        "run",
        "task logs",
        "enclave revoke",
        "revoke",
        "revocations save",
        "verifier list",
        "key status",
        "receipt verify",
        "evidence verify",
        "completions",
    ] {
        assert!(seen.iter().any(|s| s == known), "no `{known}` in {seen:?}");
    }
}

#[tokio::test]
async fn exit_codes_are_documented() {
    let here = tempfile::tempdir().unwrap();
    let help = program(here.path(), None, &["--help"]).await.ended(0, &[]).out();
    let codes = help.split("Exit codes:").nth(1).expect("a list of exit codes");
    let codes = codes.split_whitespace().collect::<Vec<_>>().join(" ");
    for (exit, says) in [
        (Exit::Success, "as asked"),
        (Exit::Failure, "failure of this program or machine"),
        (Exit::Usage, "wrong usage"),
        (Exit::Refused, "refused"),
        (Exit::Attestation, "evidence not valid"),
        (Exit::NoEnclave, "no enclave in time"),
        (Exit::Receipt, "receipt not valid"),
        (Exit::Unreachable, "manager unreachable"),
        (Exit::TaskFailed, "the task failed in its own module"),
        (Exit::Unmet, "receipt valid, but not as its reader demands"),
        (Exit::Unreadable, "receipt cannot be read"),
        (Exit::OutOfReach, "a swarm key is out of reach"),
    ] {
        assert!(codes.contains(&format!("{} {says}", exit as u8)), "{exit:?} is not in: {codes}");
    }
    program::<&str>(here.path(), None, &[]).await.ended(2, &["Usage: legation"]);
    program(here.path(), None, &["no-such-command"]).await.ended(2, &["no-such-command"]);
    let version = program(here.path(), None, &["--version"]).await.ended(0, &[]).out();
    assert!(version.starts_with("legation "), "{version}");
}

#[tokio::test]
async fn completions_are_scripts_that_their_shells_read() {
    let here = tempfile::tempdir().unwrap();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = program(here.path(), None, &["completions", shell]).await.ended(0, &[]).out();
        for word in ["receipt", "completions", "production"] {
            assert!(script.contains(word), "{shell}: no `{word}`");
        }
        let read = Command::new(shell).arg(check).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let Ok(mut read) = read else {
            eprintln!("SKIPPED: {shell} is not here to read its completion script");
            continue;
        };
        read.stdin.take().unwrap().write_all(script.as_bytes()).await.unwrap();
        let read = read.wait_with_output().await.unwrap();
        assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
    }
    program(here.path(), None, &["completions", "cmd"]).await.ended(2, &["cmd", "possible values"]);
}

#[test]
fn dollars_are_read_exactly() {
    for (text, micro) in [
        ("0", Some(0)),
        ("1", Some(1_000_000)),
        ("0.10", Some(100_000)),
        ("0.000001", Some(1)),
        ("18446744073709.551615", Some(u64::MAX)),
        ("18446744073709.551616", None),
        ("0.0000001", None),
        ("1.", None),
        (".5", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("1,5", None),
        ("", None),
        (" 1", None),
    ] {
        assert_eq!(parse_usd(text).ok().map(|usd| usd.0), micro, "{text:?}");
    }
}
