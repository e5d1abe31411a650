//! `docs/check-receipt.sh` against receipts of `vectors/`: what it says of good ones and of lies about what was handed on; what it and
//! `docs/check-log.sh` do with files that are too large; and the steps that their pages show.
//!
//! The evidence in those files is made up (`"judge":"believe"`), and the script judges evidence. It is run in a copy in which that one
//! function takes evidence at its word; everything else is the script as it is.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use crate::world::repository;

/// Takes evidence at its word: its report is JSON of the claims.
const BELIEVE: &str = r#"
check_evidence() {
    local p=$1 e=$2
    for part in report binding configuration; do
        decode "$(field "$e" ".$part")" "$tmp/$part" || { echo "$part is not base64"; return; }
    done
    jq -ne --slurpfile passport "$p" --slurpfile claims "$tmp/report" --slurpfile binding "$tmp/binding" \
        --slurpfile configuration "$tmp/configuration" --arg digest "$(sha256sum <"$tmp/configuration" | cut -c1-64)" '
        $passport[0].predicate as $p | $binding[0] as $b | $claims == [$p.claims] and $configuration == [$p.configuration]
        and $b.identity == $p.enclave and $b.sealing == $p.sealing and $b.role == "agent" and $b.configuration == $digest
        and $b.not_before <= $p.issued and $p.expires <= $b.not_after' >/dev/null || echo "the evidence says something else"
}
"#;
/// Where the script has all functions that judge evidence, and is about to use them.
const JUDGES: &str = "for ((i = 0; i < count; i++)); do\n    [ \"${kind[i]}\" = passport ]";

/// The receipt of a case in its one spelling: envelopes and evidence stand in the file by digest, spelled as they stand there.
const RECEIPT: &str = ". as $all | .cases[] | select(.name == $name) | .receipt | .envelopes |= map($all.envelopes[.]) \
     | .evidence |= map($all.evidence[.])";

/// File, name of a case there, and what the script says of it.
const CASES: [(&str, &str, &str); 12] = [
    ("receipts-delegation", "good: three replicas, and four levels", "receipt valid"),
    ("receipts-proofs", "good: proofs are awaited", "receipt valid"),
    ("receipts-single", "good: limits that are met", "receipt valid"),
    ("receipts-swarm", "good: as it is", "receipt valid"),
    ("receipts-delegation", "loan: longer than its borrower", "it does not lie within its borrower's"),
    (
        "receipts-delegation",
        "loan: with limits that the call exceeds",
        "it asks for more than the limits of its placement",
    ),
    (
        "receipts-delegation",
        "grant: more fuel together with what it passes on",
        "it allows more fuel or cost than may be passed on",
    ),
    (
        "receipts-delegation",
        "grant: without the holder of the model",
        "the owner, or a holder of an input, did not let it be passed on",
    ),
    ("receipts-delegation-calls", "call: by another", "its loan is another, or somebody else's"),
    (
        "receipts-delegation-calls",
        "call: proven, of confidential data",
        "it asks for a proof of data that it may not show",
    ),
    ("receipts-delegation-calls", "answer: with more fuel", "it used more than its call may"),
    ("receipts-delegation-calls", "vote: the dissenter is not named", "it does not name exactly those that disagreed"),
];

/// All that the steps of a page may need: bash, openssl, jq, grep, sed, and of coreutils what is used.
const TOOLS: [&str; 14] =
    ["bash", "openssl", "jq", "grep", "sed", "base64", "basenc", "cat", "cut", "head", "sha256sum", "tail", "tr", "wc"];

/// Follows the steps that a page shows for one envelope, in a folder with `receipt.json` and `anchors.json`, by [`TOOLS`] alone; what
/// they print, or nothing where a tool is not here, which is said.
pub(crate) fn followed(page: &str, folder: &Path) -> Option<String> {
    let text = fs::read_to_string(repository(page)).unwrap();
    let (_, steps) = text.split_once("for one envelope (here").expect("the page shows steps");
    let (_, steps) = steps.split_once("```bash\n").expect("the steps are commands");
    let (steps, _) = steps.split_once("```").expect("the steps end");
    let (tools, path) = (tempfile::tempdir().unwrap(), std::env::var_os("PATH").unwrap_or_default());
    for tool in TOOLS {
        let Some(found) = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file())
        else {
            eprintln!("SKIPPED: {tool} is not here, by which {page} checks a receipt");
            return None;
        };
        symlink(found, tools.path().join(tool)).unwrap();
    }
    let mut command = Command::new(tools.path().join("bash"));
    command.args(["-e", "-o", "pipefail", "-c", steps]).env("PATH", tools.path()).current_dir(folder);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{page}: {status}\n{said}{wrong}");
    Some(said)
}

#[test]
fn the_scripts_refuse_unread_what_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, size: u64| {
        let path = folder.path().join(name);
        fs::File::create(&path).unwrap().set_len(size).unwrap();
        path
    };
    // Files that take no room, and one without an end, which is none to them.
    let (small, large, list) = (file("small", 0), file("large", 1 << 30), file("list", (4 << 20) + 1));
    let endless = Path::new("/dev/zero").to_owned();
    for (script, word) in [("docs/check-receipt.sh", "receipt INVALID"), ("docs/check-log.sh", "log INVALID")] {
        for (receipt, anchors, code, expected) in [
            (&large, &small, 1, "has 1073741824 bytes, and may have at most 67108864"),
            (&small, &list, 1, "the anchors have 4194305 bytes, and may have at most 4194304"),
            (&endless, &small, 2, "it is no plain file"),
        ] {
            let ended = match Command::new("bash").arg(repository(script)).args([receipt, anchors]).output() {
                Ok(ended) => ended,
                Err(error) => {
                    eprintln!("SKIPPED: bash is not here: {error}");
                    return;
                }
            };
            let (said, wrong) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
            if wrong.contains(": needs ") {
                eprintln!("SKIPPED: {wrong}");
                return;
            }
            assert_eq!(ended.status.code(), Some(code), "{script}:\n{said}{wrong}");
            let text = if code == 1 { &said } else { &wrong };
            assert!(text.contains(expected) && (code == 2 || text.starts_with(word)), "{script}: {text}");
        }
    }
}

#[test]
fn the_script_tells_good_receipts_from_those_in_which_somebody_with_a_key_lies() {
    let folder = tempfile::tempdir().unwrap();
    let script = fs::read_to_string(repository("docs/check-receipt.sh")).unwrap();
    assert_eq!(script.matches(JUDGES).count(), 1, "where evidence is judged");
    let copy = folder.path().join("check-receipt.sh");
    fs::write(&copy, script.replace(JUDGES, &format!("{BELIEVE}{JUDGES}"))).unwrap();

    let started: Option<Vec<Child>> = (0..)
        .zip(CASES)
        .map(|(at, (file, name, _))| {
            let vectors = repository(&format!("vectors/{file}.json"));
            let (receipt, anchors) =
                (folder.path().join(format!("{at}.json")), folder.path().join(format!("{at}.anchors")));
            for (program, to) in [(RECEIPT, &receipt), (".anchors", &anchors)] {
                let made =
                    Command::new("jq").args(["-c", "--arg", "name", name, program]).arg(&vectors).output().ok()?;
                assert!(made.status.success() && !made.stdout.is_empty(), "{name} of {file}: {made:?}");
                fs::write(to, made.stdout).unwrap();
            }
            let mut command = Command::new("bash");
            command
                .arg(&copy)
                .args([receipt, anchors])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().ok()
        })
        .collect();
    let Some(started) = started else {
        eprintln!("SKIPPED: bash or jq is not here");
        return;
    };
    for (child, (file, name, expected)) in started.into_iter().zip(CASES) {
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        if status.code() == Some(2) && wrong.contains(": needs ") {
            eprintln!("SKIPPED: {wrong}");
            continue;
        }
        let code = i32::from(expected != "receipt valid");
        assert_eq!(status.code(), Some(code), "{name} of {file}:\n{said}{wrong}");
        assert!(
            said.lines().next_back().is_some_and(|line| line.contains(expected)),
            "{name} of {file}: not `{expected}`:\n{said}"
        );
    }
}
