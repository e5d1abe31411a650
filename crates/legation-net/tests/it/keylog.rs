//! `SSLKEYLOGFILE` in the environment gives nobody the keys.

use std::{path::Path, process::Command};

use rustls::KeyLog;

/// Runs one test of this binary in a process of its own with the variable set; says whether the file was written.
fn logged(test: &str, file: &Path) -> bool {
    let _ = std::fs::remove_file(file);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored"])
        .env("SSLKEYLOGFILE", file)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
    std::fs::metadata(file).is_ok_and(|m| m.len() > 0)
}

#[test]
fn keys_are_not_logged() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = |name: &str| dir.join(format!("keylog-{name}-{}", std::process::id()));
    assert!(!logged("opening::mutual_channels_agree", &file("channel")));
    // The same way of looking does see a log where there is one.
    assert!(logged("keylog::what_a_log_looks_like", &file("control")));
    let _ = std::fs::remove_file(file("control"));
}

#[test]
#[ignore = "run by keys_are_not_logged in a process of its own"]
fn what_a_log_looks_like() {
    rustls::KeyLogFile::new().log("CLIENT_RANDOM", &[1; 32], &[2; 48]);
}
