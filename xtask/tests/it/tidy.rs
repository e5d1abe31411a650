//! Tidy refuses a workspace that was really edited, with cargo's own view of it and no model of ours in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The manifests, the lock and the heads of all crates; other sources are empty, for cargo only asks whether they exist.
fn copy_of_the_workspace() -> TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let copy = TempDir::new().unwrap();
    let put = |path: &Path, bytes: &[u8]| {
        let to = copy.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    };
    for name in ["Cargo.toml", "Cargo.lock"] {
        put(Path::new(name), &fs::read(root.join(name)).unwrap());
    }
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    for folder in crates.chain([root.join("demo"), root.join("xtask")]) {
        for path in files_below(&folder) {
            let kept = path.ends_with("Cargo.toml") || path.ends_with("src/lib.rs");
            let bytes = if kept { fs::read(&path).unwrap() } else { Vec::new() };
            put(path.strip_prefix(root).unwrap(), &bytes);
        }
    }
    copy
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// Whether tidy passes in `workspace`, and all it said.
fn tidy(workspace: &TempDir) -> (bool, String) {
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    xtask.arg("tidy").current_dir(workspace.path()).env("CARGO_NET_OFFLINE", "true");
    let out = xtask.output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Replaces the first `old` of a file, which must be there.
fn edit(workspace: &TempDir, path: &str, old: &str, new: &str) {
    let path = workspace.path().join(path);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{} has no {old:?}", path.display());
    fs::write(path, text.replacen(old, new, 1)).unwrap();
}

#[test]
fn an_edit_that_breaks_a_rule_is_refused() {
    let (_, said_before) = tidy(&copy_of_the_workspace());
    assert!(said_before.contains("tidy:"), "{said_before}");
    let core = "crates/legation-core/Cargo.toml";
    let needs = "[dependencies]\n";
    for (path, old, new, expect) in [
        (
            core,
            needs,
            "[dependencies]\ntokio.workspace = true\n",
            "legation-core: reaches tokio by legation-core -> tokio",
        ),
        (core, needs, "[dependencies]\ntempfile.workspace = true\n", "legation-pool: reaches tempfile by"),
        (core, "[lints]\nworkspace = true\n", "", "legation-core: its Cargo.toml has no `workspace = true` in [lints]"),
        (core, "license.workspace = true", "license = \"MIT\"", "legation-core 0.0.0: its licence is MIT"),
        (
            "crates/legation-keys/Cargo.toml",
            needs,
            "[dependencies]\nlegation-attest.workspace = true\n",
            "legation-keys: depends on legation-attest",
        ),
        (
            "crates/legation-pool/src/lib.rs",
            "#![deny(clippy::disallowed_methods, clippy::disallowed_types)]",
            "",
            "legation-pool: its lib.rs does not deny",
        ),
        (
            "crates/legation-keys/src/lib.rs",
            "//!",
            concat!("#![", "allow(dead_code)]\n//!"),
            "lib.rs:1: a lint is allowed",
        ),
    ] {
        let workspace = copy_of_the_workspace();
        edit(&workspace, path, old, new);
        let (passes, said) = tidy(&workspace);
        assert!(!passes, "{path} with {new:?} passed: {said}");
        assert!(!said_before.contains(expect), "{expect:?} was true before: {said_before}");
        assert!(said.contains(expect), "{path} with {new:?}: expected {expect:?}, tidy said {said}");
    }
}
