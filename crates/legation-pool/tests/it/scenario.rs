//! Scenario scripts with golden output: `scenarios/*.txt` at the repository's root are played against a real pool, and what it
//! did and says is compared, letter by letter, with the `.out` beside each. A reviewer sees decisions change in the diff.
//!
//! `UPDATE_EXPECT=1` writes the outputs anew. docs/scenarios.md describes the language.

use std::{
    fs,
    path::{Path, PathBuf},
};

mod script;
mod stage;
mod words;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

/// What a script does, or where and why it cannot be played.
fn play(text: &str) -> Result<String, script::Mistake> {
    let mut stage = stage::Stage::default();
    let mut out = String::new();
    for line in script::lines(text)? {
        out.push_str(&line.shown);
        out.push('\n');
        let said = stage.play(line)?;
        out.push_str(&said.lines().map(|l| format!("    {l}\n")).collect::<String>());
    }
    stage.end()?;
    Ok(out)
}

/// The first line that differs, with the one before it.
fn difference(wanted: &str, got: &str) -> String {
    let (wanted, got): (Vec<_>, Vec<_>) = (wanted.lines().collect(), got.lines().collect());
    let at = (0..wanted.len().max(got.len())).find(|n| wanted.get(*n) != got.get(*n)).unwrap_or(0);
    let show = |lines: &[&str]| lines.get(at).map_or("(the end)".to_owned(), |l| (*l).to_owned());
    format!("line {}\n  was {}\n  is  {}", at + 1, show(&wanted), show(&got))
}

#[test]
fn scenarios_come_out_as_they_did() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut scripts: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    scripts.sort();
    assert!(scripts.len() >= 12, "only {} scenarios in {}", scripts.len(), folder().display());
    let mut wrong = Vec::new();
    for path in scripts {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let got = match play(&fs::read_to_string(&path).unwrap()) {
            Ok(got) => got,
            Err(mistake) => {
                wrong.push(format!("scenarios/{name}:{mistake}"));
                continue;
            }
        };
        let beside = path.with_extension("out");
        if update {
            fs::write(&beside, got).unwrap();
            continue;
        }
        let wanted = fs::read_to_string(&beside).unwrap_or_default();
        if got != wanted {
            wrong.push(format!("scenarios/{name}: {}", difference(&wanted, &got)));
        }
    }
    assert!(wrong.is_empty(), "{}\n(UPDATE_EXPECT=1 writes the outputs anew)", wrong.join("\n"));
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    for (text, wanted) in [
        ("enclave a\nfly a", "2:1: no command `fly`; there are "),
        ("enclave a colour=red", "1:11: `enclave` knows no `colour`"),
        ("enclave a cpu=two", "1:11: `cpu` wants a number of cores"),
        ("enclave a cpu=1 cpu=2", "1:17: `cpu` is said twice"),
        ("  enclave", "1:3: `enclave` wants a name"),
        ("submit t require=\"region = x\"", "1:10: `require` is not understood: column 8: "),
        ("submit t require=\"region", "1:18: text without a closing quote"),
        ("lose nobody", "1:6: no enclave `nobody`"),
        ("explain nothing", "1:9: no task `nothing`"),
        ("tick 5", "1:6: `tick` wants +SECONDS"),
        ("enclave a\nexpect refusal pool.chip\ntick +1", "3:1: not refused, but `pool.chip` was expected"),
        ("expect refusal pool.chip", "1:1: nothing follows"),
        ("enclave a tee=abacus", "1:11: `tee` wants one of sev-snp, "),
        ("policy pool\nforbid (", "1:1: the text of the policy does not end with a line `end`"),
        ("enclave a\nenclave a", "2:9: there is an `a` already"),
        ("cancel t extra", "1:8: no task `t`"),
        ("enclave a\nlose a extra", "2:8: `extra` has no meaning here"),
    ] {
        let mistake = play(text).map(|out| panic!("{text:?} was played: {out}")).unwrap_err().to_string();
        assert!(mistake.starts_with(wanted), "{text:?}: {mistake}");
    }
}
