//! The page `docs/write-a-task.md`: its commands are run as it shows them, language by language, so that they stay true; and the guests in
//! Rust, Python and JavaScript are built by the same commands as the page's own tasks. That in Rust takes in the page's Rust that hands a
//! part on, so that this is run, too.
//!
//! It is no proof that the tasks do what they should: that the tests of the engine say, of the guests that lie in
//! `target/guests/components` afterwards. These are too large to be committed, and no two builds are the same bytes.
//!
//! 1. A block whose first line is a comment with a file's name becomes that file; a `console` block is run, line by line; but not what
//!    needs a deployment (`legation ...`).
//! 2. What a language needs is installed where we may. One whose tools are not here, or cannot be fetched, is skipped with one loud
//!    line. Any other failure is one.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::fresh;
use crate::{prerequisites, process};

const PAGE: &str = "docs/write-a-task.md";
/// What marks a command that fetches tools.
const FETCHES: [&str; 3] = ["rustup target add", "pip install", "npm install"];
/// The exit code of a script that could not fetch them: EX_TEMPFAIL of sysexits.h.
const NOT_FETCHED: i32 = 75;
/// Ends a file in a script.
const END: &str = "END OF THE FILE";

/// Something without which a language is not even tried.
struct Need {
    what: &'static str,
    /// For `sh`: ends well where it is here.
    check: &'static str,
    /// Debian's package that has it, if one does.
    package: Option<&'static str>,
}

const fn need(what: &'static str, check: &'static str, package: Option<&'static str>) -> Need {
    Need { what, check, package }
}

struct Language {
    /// Its section of the page.
    heading: &'static str,
    /// In this order: what follows a need that is not met is not installed.
    needs: &'static [Need],
    /// Its guest, which lies in `guests` and is built from there: source, and what it is built to. [`RUST`] is built by the page's script.
    guest: Option<(&'static str, &'static str)>,
}

const LANGUAGES: [Language; 4] = [
    Language {
        heading: "Rust",
        needs: &[need("rustup", "command -v rustup", None), need("cargo", "command -v cargo", None)],
        guest: None,
    },
    Language {
        heading: "C",
        needs: &[
            need("clang", "command -v clang", Some("clang")),
            need("wasm-ld", "command -v wasm-ld", Some("lld")),
            need("wasi-libc", "test -f /usr/include/wasm32-wasi/stdio.h", Some("wasi-libc")),
            need(
                "clang's library for WebAssembly",
                "test -f \"$(clang --target=wasm32-wasi -print-libgcc-file-name)\"",
                Some("libclang-rt-14-dev-wasm32"),
            ),
        ],
        guest: None,
    },
    Language {
        heading: "Python",
        needs: &[
            need("python3", "command -v python3", Some("python3")),
            need("python3-venv", "python3 -c 'import ensurepip'", Some("python3-venv")),
        ],
        guest: Some(("python/split.py", "python.wasm")),
    },
    Language {
        heading: "JavaScript",
        needs: &[
            // Debian 12 has 18, whose npm would bring hundreds of packages for nothing.
            need(
                "Node.js 20 or newer",
                "node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'",
                Some("nodejs"),
            ),
            need("npm", "command -v npm", Some("npm")),
        ],
        guest: Some(("js/split.js", "javascript.wasm")),
    },
];

/// Where the page shows Rust that hands a part on.
const HANDS_ON: &str = "Hand a part on";
/// The guest around that: its source, which lies in `guests`, and what it is built to.
const RUST: (&str, &str) = ("rust/split.rs", "rust.wasm");

/// What a section comes to.
#[derive(Debug, PartialEq, Eq)]
struct Steps {
    /// For `sh -e`.
    script: String,
    /// The last command before the task is run: the one that builds it.
    build: String,
}

/// Runs the page under `root`, and builds the guests.
///
/// # Errors
/// When the page has no such section, or one of its commands fails.
pub(super) fn run(root: &Path) -> Result<()> {
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("failed to read {PAGE}"))?;
    for language in &LANGUAGES {
        let mut steps = steps(&page, language.heading)?;
        if language.heading == "Rust" {
            let source = root.join("guests").join(RUST.0);
            let guest = fs::read_to_string(&source).with_context(|| format!("failed to read {}", source.display()))?;
            steps.script += &with_guest(&page, &guest, &steps.build, &built(root)?.join(RUST.1))?;
        }
        if let Some(lack) = language.needs.iter().find(|need| !have(need)) {
            process::skipped(&format!("{PAGE}, {}: {} is not here", language.heading, lack.what));
            continue;
        }
        follow(root, language, &steps).with_context(|| format!("{PAGE}, {}", language.heading))?;
    }
    Ok(())
}

/// Where the guests that are not committed go.
fn built(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target").join("guests").join("components");
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

/// What follows the page's commands for Rust: builds the guest, beside the page's Rust that hands a part on, and keeps it as `wasm`.
fn with_guest(page: &str, guest: &str, build: &str, wasm: &Path) -> Result<String> {
    let delegate = snippet(page, HANDS_ON, "rust")?;
    let file = |name: &str, text: &str| format!("cat > src/bin/split/{name} <<'{END}'\n{}\n{END}\n", text.trim_end());
    let (delegate, main) = (file("delegate.rs", &delegate), file("main.rs", guest));
    let keep = format!("cp target/wasm32-wasip1/release/split.wasm '{}'", wasm.display());
    Ok(format!("mkdir -p src/bin/split\n{delegate}{main}{build}\n{keep}\n"))
}

/// Is it here, or can be installed? That it could not is said by whoever asks.
fn have(need: &Need) -> bool {
    let here = || process::output(Command::new("sh").args(["-c", need.check])).is_ok();
    here() || need.package.is_some_and(|package| prerequisites::install(&[package]).is_ok() && here())
}

fn follow(root: &Path, language: &Language, steps: &Steps) -> Result<()> {
    let Some((source, wasm)) = language.guest else {
        // Elsewhere: `cargo new` would make what lies in a workspace a member of it.
        let folder = std::env::temp_dir().join(format!("legation-page-{}-{}", language.heading, std::process::id()));
        fresh(&folder)?;
        let done = shell(&folder, &steps.script);
        fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
        return said(language, done?);
    };
    let inputs = inputs(root, source, &steps.script)?;
    let built = built(root)?;
    let (stamp, wasm) = (built.join(format!("{wasm}.inputs")), built.join(wasm));
    if wasm.exists() && fs::read_to_string(&stamp).is_ok_and(|built_from| built_from == inputs) {
        println!("guests: {} is built from what is here", wasm.display());
        return Ok(());
    }
    // The tools stay: fetching them takes longer than building.
    let folder = root.join("target").join("guests").join("page").join(language.heading);
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let link = folder.join("guests");
    if !link.exists() {
        symlink(root.join("guests"), &link).with_context(|| format!("failed to link {}", link.display()))?;
    }
    if !shell(&folder, &steps.script)? {
        return said(language, false);
    }
    let source = root.join("guests").join(source);
    let name = source.file_name().context("a source without a name")?;
    fs::copy(&source, folder.join(name)).with_context(|| format!("failed to copy {}", source.display()))?;
    ensure!(shell(&folder, &steps.build.replace("words", "split"))?, "a build fetches nothing");
    fs::copy(folder.join("split.wasm"), &wasm).with_context(|| format!("failed to write {}", wasm.display()))?;
    fs::write(&stamp, inputs).with_context(|| format!("failed to write {}", stamp.display()))?;
    println!("guests: {} built", wasm.display());
    said(language, true)
}

fn said(language: &Language, done: bool) -> Result<()> {
    if done {
        println!("guests: {PAGE}, {}: its commands do what they say", language.heading);
    } else {
        process::skipped(&format!("{PAGE}, {}: its tools could not be fetched", language.heading));
    }
    Ok(())
}

/// All that a guest is built from, as one text.
fn inputs(root: &Path, source: &str, script: &str) -> Result<String> {
    let guests = root.join("guests");
    let pins = if source.starts_with("python/") { "python/requirements.txt" } else { "js/package-lock.json" };
    let mut inputs = script.to_owned();
    for path in [source, pins, "wit/task.wit"] {
        let path = guests.join(path);
        inputs += &fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    }
    Ok(inputs)
}

/// Runs a script in a folder; false where it could not fetch what it needs.
fn shell(folder: &Path, script: &str) -> Result<bool> {
    let mut command = Command::new("sh");
    // As somebody at a terminal would: not with the target folder of whoever runs us.
    command
        .args(["-e", "-c", script])
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    let out = command.output().context("failed to start sh")?;
    match out.status.code() {
        Some(0) => Ok(true),
        Some(NOT_FETCHED) => Ok(false),
        _ => bail!("`{}`: {}: {}", process::shown(&command), out.status, String::from_utf8_lossy(&out.stderr).trim()),
    }
}

/// The files and commands of a section of the page.
fn steps(page: &str, heading: &str) -> Result<Steps> {
    let mut lines = page.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading)).skip(1);
    let (mut script, mut build) = (String::new(), None);
    while let Some(line) = lines.next().filter(|line| !line.starts_with("## ")) {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if kind != "console" {
            let name = block.first().and_then(|first| file_name(first)).context("a block that says no file's name")?;
            writeln!(script, "cat > {name} <<'{END}'\n{}\n{END}", block.join("\n"))?;
            continue;
        }
        for line in block {
            let command = line.strip_prefix("$ ").with_context(|| format!("`{line}` is no command"))?;
            if command.starts_with("legation ") {
                continue;
            }
            if FETCHES.iter().any(|fetch| command.contains(fetch)) {
                writeln!(script, "{{ {command}\n}} || exit {NOT_FETCHED}")?;
            } else {
                writeln!(script, "{command}")?;
                build = Some(command.to_owned());
            }
        }
    }
    let build = build.with_context(|| format!("{PAGE} has no section `{heading}` with a command that builds"))?;
    Ok(Steps { script, build })
}

/// The first block of a kind in a section of the page.
fn snippet(page: &str, heading: &str, kind: &str) -> Result<String> {
    let section = page.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading)).skip(1);
    let mut lines = section.take_while(|line| !line.starts_with("## "));
    let found = lines.any(|line| line.strip_prefix("```") == Some(kind));
    ensure!(found, "{PAGE} has no section `{heading}` that shows {kind}");
    Ok(lines.take_while(|line| *line != "```").collect::<Vec<_>>().join("\n"))
}

/// `// src/main.rs`, `/* words.c */` and `# words.py` name files.
fn file_name(comment: &str) -> Option<&str> {
    let mut words = comment.split(' ');
    let marked = matches!(words.next(), Some("//" | "/*" | "#"));
    words.next().filter(|name| marked && name.contains('.') && !name.contains(['\'', '"', '$', '`']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_its_files_and_its_commands() {
        let page = "## A\n```console\n$ no\n```\n## B\ntext\n```console\n$ x && pip install y   # why\n```\n\
                    ```c\n/* words.c */\nint x;\n```\n```console\n$ cc words.c\n$ legation run words.wasm\n```\n## C\n";
        let script = "{ x && pip install y   # why\n} || exit 75\ncat > words.c <<'END OF THE FILE'\n/* words.c */\nint x;\n\
                      END OF THE FILE\ncc words.c\n";
        assert_eq!(steps(page, "B").unwrap(), Steps { script: script.to_owned(), build: "cc words.c".to_owned() });
        for (page, heading) in
            [(page, "C"), (page, "D"), ("## A\n```c\nint x;\n```\n", "A"), ("## A\n```console\nls\n```\n", "A")]
        {
            assert!(steps(page, heading).is_err(), "{heading}");
        }
    }

    #[test]
    fn the_page_has_every_language() {
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE)).unwrap();
        for (language, file) in LANGUAGES.iter().zip(["src/main.rs", "words.c", "words.py", "words.js"]) {
            let steps = steps(&page, language.heading).unwrap();
            assert!(steps.script.contains(&format!("cat > {file} <<")), "{steps:?}");
            assert!(!steps.script.contains("legation run"), "{steps:?}");
            if language.guest.is_some() {
                assert!(steps.build.contains("words.wasm") && steps.script.contains("exit 75"), "{steps:?}");
            }
        }
    }

    #[test]
    fn the_page_shows_rust_that_hands_a_part_on() {
        let page = "## A\n```js\nx\n```\n```rust\none\n```\n## B\n```rust\ntwo\nthree\n```\n";
        assert_eq!(snippet(page, "A", "rust").unwrap(), "one");
        assert_eq!(snippet(page, "B", "rust").unwrap(), "two\nthree");
        assert!(snippet(page, "B", "js").is_err() && snippet(page, "C", "rust").is_err());
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE)).unwrap();
        let shown = snippet(&page, HANDS_ON, "rust").unwrap();
        assert!(shown.contains("fn delegate(module: &[u8; 32], input: &[u8], options: &str)"), "{shown}");
    }

    #[test]
    fn the_guest_in_rust_is_built_around_what_the_page_shows() {
        let page = "## Hand a part on\n```rust\nfn delegate() {}\n```\n";
        let script = "mkdir -p src/bin/split\ncat > src/bin/split/delegate.rs <<'END OF THE FILE'\nfn delegate() {}\n\
                      END OF THE FILE\ncat > src/bin/split/main.rs <<'END OF THE FILE'\nfn main() {}\nEND OF THE FILE\n\
                      cargo build\ncp target/wasm32-wasip1/release/split.wasm '/x/rust.wasm'\n";
        assert_eq!(with_guest(page, "fn main() {}\n", "cargo build", Path::new("/x/rust.wasm")).unwrap(), script);
        assert!(with_guest("## Hand a part on\n", "", "", Path::new("")).is_err());
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
        let guest = fs::read_to_string(guests.join(RUST.0)).unwrap();
        assert!(guest.contains("include!(\"delegate.rs\");") && guest.contains("delegate(&module, "), "{guest}");
    }

    #[test]
    fn what_cannot_be_fetched_is_no_failure() {
        let folder = std::env::temp_dir();
        assert!(shell(&folder, "true").unwrap());
        assert!(!shell(&folder, "{ false; } || exit 75").unwrap());
        assert!(shell(&folder, "echo because >&2; false; true").unwrap_err().to_string().contains("because"));
        assert!(
            have(&need("a shell", "command -v sh", None))
                && !have(&need("nothing", "command -v no-such-program", None))
        );
    }
}
