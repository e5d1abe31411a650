//! What is wrong in a policy: all of it at once, each with its place and what would be right.

use std::fmt;

use legation_core::Rejection;
use serde::{Deserialize, Serialize};

/// Most problems that are told at once.
pub const PROBLEMS_MAX: usize = 64;
/// Longest text of one problem, in bytes.
const TEXT_MAX: usize = 600;

/// One thing that is wrong, or doubtful.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Which check found it, such as `policy.schema`.
    pub check: String,
    /// Line, counted from 1; 0 where it is about no single line.
    pub line: usize,
    /// Column, counted from 1 in characters; 0 where it is about no single place.
    pub column: usize,
    /// The rule it is in, by its `@id`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub hint: String,
}

impl Problem {
    /// A problem with the text as a whole.
    pub(crate) fn new(check: &str, what: impl fmt::Display, hint: impl fmt::Display) -> Self {
        let (what, hint) = (cut(&what.to_string()), cut(&hint.to_string()));
        Self { check: check.to_owned(), line: 0, column: 0, rule: None, what, hint }
    }

    /// The place of byte `offset` in `text`.
    pub(crate) fn at(mut self, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        self.line = before.matches('\n').count() + 1;
        self.column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self
    }

    /// The rule it is in.
    pub(crate) fn rule(mut self, id: Option<&str>) -> Self {
        self.rule = id.map(cut);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if let Some(rule) = &self.rule {
            write!(f, "rule `{rule}`: ")?;
        }
        write!(f, "{} [{}]", self.what, self.check)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// A text that is no policy: everything found wrong in it, at least one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("policy `{name}` does not load: {}", list(.problems))]
pub struct PolicyError {
    /// Name of the policy.
    pub name: String,
    /// What is wrong, in the order of the text.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

impl PolicyError {
    pub(crate) fn new(name: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.truncate(PROBLEMS_MAX);
        Self { name: cut(name), problems }
    }

    /// The same as a refusal: named by its first problem.
    pub fn rejection(&self) -> Rejection {
        let first = self.problems.first();
        Rejection::new(first.map_or("policy.text", |p| &p.check), format!("policy `{}`", self.name))
            .expected("a text that the schema of appraisal policies admits")
            .got(self.problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))
            .fix(first.map_or("", |p| &p.hint))
    }
}

/// `text` up to a bound, on a character's border.
fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let rest = if end < text.len() { ".." } else { "" };
    format!("{}{rest}", text.get(..end).unwrap_or_default())
}
