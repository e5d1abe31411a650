//! How current a machine's firmware is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the vendor says of a security version, best first. The names are Intel's (DCAP, `tcbStatus`); other vendors' words
/// are told in them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcbStatus {
    /// Nothing better is known to the vendor.
    UpToDate,
    /// Up to date, if the software inside has the mitigations the advisories name.
    SwHardeningNeeded,
    /// Up to date, if the platform is configured as the advisories say.
    ConfigurationNeeded,
    /// Both of those.
    ConfigurationAndSwHardeningNeeded,
    /// An update exists that closes a known hole.
    OutOfDate,
    /// Out of date, and not configured well either.
    OutOfDateConfigurationNeeded,
    /// The vendor no longer stands by it.
    Revoked,
    /// Nobody at hand says anything about it.
    Unknown,
}

impl TcbStatus {
    /// Every status, best first.
    pub const ALL: [Self; 8] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::Revoked,
        Self::Unknown,
    ];

    /// Name in policies, requirements and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "up-to-date",
            Self::SwHardeningNeeded => "sw-hardening-needed",
            Self::ConfigurationNeeded => "configuration-needed",
            Self::ConfigurationAndSwHardeningNeeded => "configuration-and-sw-hardening-needed",
            Self::OutOfDate => "out-of-date",
            Self::OutOfDateConfigurationNeeded => "out-of-date-configuration-needed",
            Self::Revoked => "revoked",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A security version and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcb {
    /// As the vendor writes it.
    pub version: String,
    /// What the vendor, or whoever stands in for it, says of it.
    pub status: TcbStatus,
    /// Components that are behind the newest known version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortfall: Vec<Shortfall>,
    /// Advisories that apply to it, such as `INTEL-SA-00615`, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisories: Vec<String>,
    /// Day of the vendor's level it has reached, `2024-03-13`; where the vendor dates levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

impl Tcb {
    /// A version of which nobody at hand says anything.
    pub fn unknown(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            status: TcbStatus::Unknown,
            shortfall: Vec::new(),
            advisories: Vec::new(),
            level: None,
        }
    }
}

/// A component that is behind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shortfall {
    /// Which, as the vendor calls it, such as `microcode` or `sgx-svn-5`.
    pub component: String,
    /// Its version.
    pub has: u64,
    /// The newest version known.
    pub needs: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} below {}", self.component, self.has, self.needs)
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.status)
    }
}
