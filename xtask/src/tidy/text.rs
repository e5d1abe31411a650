//! Rule 5: names, sizes and text of files.
//!
//! * No module is called after nothing in particular; no source file is a room for two families (tests aside).
//! * No lint is allowed away: `expect` with a reason says why, and goes when it is no longer needed.
//! * No tabs, no spaces at the end of a line in Rust, Markdown and TOML.
//! * No file past [`FILE_MAX`]; no path of the machine that somebody worked on.

use super::Finding;
use super::model::{File, Model};

/// Names that say nothing.
const NAMELESS: [&str; 3] = ["utils", "common", "helpers"];

/// Lines of a Rust file, without its tests.
const LINES_MAX: usize = 800;

/// Of a tracked file: 1 MiB.
const FILE_MAX: u64 = 1 << 20;

/// Absolute paths of machines. In pieces, or this file would break its own rule.
const FORBIDDEN: [&str; 3] = [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/")];

/// In pieces for the same reason.
const ALLOWS: [&str; 2] = [concat!("#[", "allow("), concat!("#![", "allow(")];

pub(super) fn check(model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &model.files {
        let at_file = |what: String, fix| Finding { place: file.path.clone(), what, fix };
        if file.size > FILE_MAX {
            findings.push(at_file(format!("{} bytes", file.size), "no tracked file is larger than 1 MiB"));
        }
        if is_rust(file) && file.path.split('/').any(|part| NAMELESS.contains(&part.trim_end_matches(".rs"))) {
            findings.push(at_file("a name that says nothing".to_owned(), "name the module after what it does"));
        }
        let Some(text) = &file.text else { continue };
        let lines = source_lines(file, text);
        if lines > LINES_MAX {
            findings.push(at_file(format!("{lines} lines"), "past 800 lines a file holds two ideas: split it"));
        }
        for (index, line) in text.lines().enumerate() {
            let at_line = |what: String, fix| Finding { place: format!("{}:{}", file.path, index + 1), what, fix };
            findings.extend(line_problem(file, line).map(|(what, fix)| at_line(what, fix)));
        }
    }
    findings
}

fn line_problem(file: &File, line: &str) -> Option<(String, &'static str)> {
    if let Some(path) = FORBIDDEN.iter().find(|path| names_path(line, path)) {
        return Some((format!("a path of somebody's machine, {path}"), "make it relative, or an argument"));
    }
    if is_rust(file) && !line.trim_start().starts_with("//") && ALLOWS.iter().any(|allow| line.contains(allow)) {
        return Some(("a lint is allowed away".to_owned(), "#[expect(lint, reason = \"...\")]"));
    }
    let kept_clean = [".rs", ".md", ".toml"].iter().any(|end| file.path.ends_with(end));
    if kept_clean && line.contains('\t') {
        return Some(("a tab".to_owned(), "spaces, or \\t in a text"));
    }
    if kept_clean && line.ends_with(char::is_whitespace) {
        return Some(("white space at the end of the line".to_owned(), "remove it"));
    }
    None
}

/// Is it an absolute path there? Not where something stands before it, as in `a/b` or `../b`.
fn names_path(line: &str, path: &str) -> bool {
    let continues =
        |before: char| before.is_alphanumeric() || matches!(before, '_' | '-' | '.' | '}' | '>' | ')' | '*');
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(continues))
}

fn is_rust(file: &File) -> bool {
    file.path.ends_with(".rs")
}

/// Lines of a Rust file up to its unit tests; none of a file that is all tests.
fn source_lines(file: &File, text: &str) -> usize {
    let tests = file.path.split('/').any(|part| part == "tests" || part == "tests.rs");
    if tests || !is_rust(file) {
        return 0;
    }
    let lines: Vec<&str> = text.lines().collect();
    let unit_tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {"));
    unit_tests.unwrap_or(lines.len())
}
