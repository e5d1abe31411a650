//! The shape of the workspace, checked without compiling it. The rules are pure functions over a small [`Model`], so that
//! tests can break each of them; reading the model is [`Model::read`].
//!
//! 1. Arrows between crates run only as `shape::ARROWS` says (ARCHITECTURE.md draws them).
//! 2. No pure crate reaches an async runtime, sockets or the file system through its dependencies.
//! 3. Pure crates deny the bans of `clippy.toml`.
//! 4. Every crate inherits the workspace's lints and licence; its folder has its name.
//! 5. Names, sizes and text of files: see `text`.
//! 6. Every dependency has a licence that we accept: see `licence`.

use std::fmt;

use anyhow::{Result, bail};

use crate::repository::Repository;

mod licence;
mod model;
mod shape;
#[cfg(test)]
mod tests;
mod text;

use model::Model;

/// Something that must not be.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// A crate, or a file with its line.
    place: String,
    what: String,
    /// What to do about it.
    fix: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.fix)
    }
}

/// Checks all rules.
///
/// # Errors
/// When one is broken: all findings are printed first.
pub(crate) fn run(repository: &Repository) -> Result<()> {
    let model = Model::read(repository)?;
    let findings = findings(&model);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("tidy found {} broken rules; each says above what to do", findings.len());
    }
    let Model { members, packages, files } = model;
    eprintln!("tidy: {} crates, {} packages, {} files: all rules hold", members.len(), packages.len(), files.len());
    Ok(())
}

fn findings(model: &Model) -> Vec<Finding> {
    let mut findings = shape::arrows(model);
    findings.extend(shape::purity(model));
    findings.extend(shape::manifests(model));
    findings.extend(licence::check(model));
    findings.extend(text::check(model));
    findings
}
