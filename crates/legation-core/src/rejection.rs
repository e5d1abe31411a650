//! Refusals are data: which check, about what, expected, got, and what would make it pass.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::printable::one_line;

/// One refusal, the same in API answers, `explain`, logs and on the terminal. Holds no secret: build it from public values only.
/// What it quotes is a stranger's: it is built and shown on one line, with control characters escaped.
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
            check: shown(check),
            claim: shown(claim.into()),
            expected: String::new(),
            got: String::new(),
            fix: String::new(),
        }
    }

    /// Says what would have passed.
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.expected = shown(expected);
        self
    }

    /// Says what was found.
    pub fn got(mut self, got: impl fmt::Display) -> Self {
        self.got = shown(got);
        self
    }

    /// Says what to do.
    pub fn fix(mut self, fix: impl fmt::Display) -> Self {
        self.fix = shown(fix);
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may have come from elsewhere: what it was built with there is not for us to believe.
        write!(f, "{}: {}", one_line(&self.check), one_line(&self.claim))?;
        for (lead, text) in [("expected ", &self.expected), ("got ", &self.got), ("", &self.fix)] {
            if !text.is_empty() {
                write!(f, "; {lead}{}", one_line(text))?;
            }
        }
        Ok(())
    }
}

fn shown(text: impl fmt::Display) -> String {
    let text = text.to_string();
    match one_line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_words_stay_on_their_line() {
        let evil = "CN=a\u{1b}[2J\nvalid";
        let safe = "CN=a\\u{1b}[2J\\nvalid";
        let built = Rejection::new(evil, evil).expected(evil).got(evil).fix(evil);
        for part in [&built.check, &built.claim, &built.expected, &built.got, &built.fix] {
            assert_eq!(part, safe);
        }
        let word = || evil.to_owned();
        let come = Rejection { check: word(), claim: word(), expected: word(), got: word(), fix: word() };
        assert_eq!(come.to_string(), built.to_string());
        assert!(!come.to_string().chars().any(char::is_control));
    }
}
