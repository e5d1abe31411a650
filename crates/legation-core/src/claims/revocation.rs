//! Whether anybody looked up that a chain's authorities still stand by it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether revocation lists were held against the chain of a report's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationCheck {
    /// No: no list of its authorities was at hand, or not of all of them.
    #[default]
    Unchecked,
    /// Yes: the lists of all its authorities that publish one.
    Checked,
}

impl RevocationCheck {
    /// By whether all lists that are needed were at hand.
    pub const fn of(at_hand: bool) -> Self {
        if at_hand { Self::Checked } else { Self::Unchecked }
    }

    /// Whether everything that can be looked up was.
    pub const fn is_done(self) -> bool {
        !matches!(self, Self::Unchecked)
    }

    /// As serialised.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Checked => "checked",
        }
    }
}

impl fmt::Display for RevocationCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
