//! Refusals are data: which check, about what, expected, got, and what would make it pass.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One refusal, the same in API answers, `explain`, logs and on the terminal. Holds no secret: build it from public values only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Which check refused, in a stable short form such as `snp.signature` or `grant.fuel`.
    pub check: String,
    /// What the check is about, in words.
    pub claim: String,
    /// What would have passed.
    pub expected: String,
    /// What was found.
    pub got: String,
    /// What to do.
    pub fix: String,
}

impl Rejection {
    /// A refusal by `check` about `claim`.
    pub fn new(check: &str, claim: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            claim: claim.into(),
            expected: String::new(),
            got: String::new(),
            fix: String::new(),
        }
    }

    /// Says what would have passed.
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.expected = expected.to_string();
        self
    }

    /// Says what was found.
    pub fn got(mut self, got: impl fmt::Display) -> Self {
        self.got = got.to_string();
        self
    }

    /// Says what to do.
    pub fn fix(mut self, fix: impl fmt::Display) -> Self {
        self.fix = fix.to_string();
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.claim)?;
        if !self.expected.is_empty() {
            write!(f, "; expected {}", self.expected)?;
        }
        if !self.got.is_empty() {
            write!(f, "; got {}", self.got)?;
        }
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}
