//! Release policies: what an owner says of who may open an object, in a text whose digest is in the object's label.
//!
//! A text has one spelling: it is read strictly, and must be what [`ReleasePolicy::write`] writes of what was read. Whoever releases has the
//! text with the request, hashes it as it came, and judges by it. Checks ([`ReleaseRules::admit`]):
//! 1. `release.dates`: the policy is not over;
//! 2. `release.tenant`, 3. `release.module`, 4. `release.purpose`: the work is of one of these; a purpose that is not said is none of them;
//! 5. `release.kind`, then `require.*`: the enclave is of one of these kinds, and satisfies the requirement;
//! 6. `release.privacy`: the work spends no more than one reading may, and what it spends is said.
//!
//! Nothing is allowed by leaving it out: every field is there, and `any` is a word.

use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    claims::TeeKind,
    digest::Digest,
    encoding::{self, Text},
    id::TenantId,
    key::PublicKey,
    objects,
    rejection::Rejection,
    requirement::{Candidate, Requirement},
    time::UnixTime,
};

/// What the text of this version says it is.
pub const RELEASE_VERSION: &str = "legation-release/v1";
/// Largest text, in bytes.
pub const RELEASE_TEXT_MAX: usize = 32 << 10;
/// Most tenants, modules or purposes that are named.
pub const RELEASE_NAMES_MAX: usize = 64;
/// Longest name of a purpose, in bytes.
pub const PURPOSE_MAX: usize = 63;
/// Smallest and largest delta, as a power of ten.
pub const DELTA_LOG10: std::ops::RangeInclusive<i16> = -30..=-1;

/// What data is used for, such as `fraud-detection`: a word that owners and clients agree on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Purpose(Arc<str>);

/// Why a text is no purpose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not a purpose: use 1 to {PURPOSE_MAX} of a-z, 0-9, `-`, `.`, beginning with a letter or digit")]
pub struct PurposeError {
    got: String,
}

impl Purpose {
    /// Checks and wraps a purpose.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &str) -> Result<Self, PurposeError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (1..=PURPOSE_MAX).contains(&text.len())
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || b == b'-' || b == b'.');
        if ok { Ok(Self(text.into())) } else { Err(PurposeError { got: text.chars().take(80).collect() }) }
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Purpose {
    type Err = PurposeError;

    fn from_str(text: &str) -> Result<Self, PurposeError> {
        Self::new(text)
    }
}

impl Serialize for Purpose {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Purpose {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        encoding::from_text(d)
    }
}

/// Zero-concentrated differential privacy (Bun and Steinke, TCC 2016), in billionths of rho.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoRho(pub u64);

impl fmt::Display for NanoRho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} rho", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// What one reading may say about anybody, or says at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacyBound {
    /// At most.
    pub rho_max: NanoRho,
    /// With which delta it is told as epsilon: the power of ten, such as -6.
    pub delta_log10: i16,
}

/// Which of a kind of thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Only<T> {
    /// All of them.
    Any,
    /// These, ascending.
    Only(Vec<T>),
}

impl<T: Ord> Only<T> {
    /// Whether this is one of them.
    pub fn has(&self, one: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => list.contains(one),
        }
    }

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => (1..=RELEASE_NAMES_MAX).contains(&list.len()) && list.is_sorted_by(|a, b| a < b),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Only<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Only(list) => {
                let shown: Vec<_> = list.iter().take(8).map(ToString::to_string).collect();
                write!(f, "{}{}", shown.join(", "), if list.len() > shown.len() { ", .." } else { "" })
            }
        }
    }
}

/// Which work may read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFor {
    /// Of these tenants, ascending.
    pub tenants: Vec<TenantId>,
    /// By these modules, by SHA-256.
    pub modules: Only<Digest>,
    /// For these purposes.
    pub purposes: Only<Purpose>,
}

/// What a release policy says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRules {
    /// Always [`RELEASE_VERSION`].
    pub version: Version,
    /// Whose object it is.
    pub tenant: TenantId,
    /// Whose grant releases it.
    pub owner: PublicKey,
    /// Which work may read it.
    #[serde(rename = "for")]
    pub work: ReleaseFor,
    /// On which kinds of machines.
    pub kinds: Only<TeeKind>,
    /// What the enclave must satisfy beside that.
    pub require: Requirement,
    /// What one reading may spend at most; nothing where what is read may be told as it is.
    pub privacy: Option<PrivacyBound>,
    /// Nothing is released after.
    pub not_after: UnixTime,
}

/// The one version there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(RELEASE_VERSION)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Text(text) = Text::deserialize(d)?;
        if text == RELEASE_VERSION {
            return Ok(Self);
        }
        Err(serde::de::Error::custom(format_args!("not `{RELEASE_VERSION}`")))
    }
}

/// Who asks for an object, for what.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// On whose account the work is.
    pub tenant: &'a TenantId,
    /// The module that reads.
    pub module: Digest,
    /// What for, if that is said.
    pub purpose: Option<&'a Purpose>,
    /// The enclave that asks.
    pub candidate: Candidate<'a>,
    /// What the reading spends, if that is accounted for.
    pub privacy: Option<PrivacyBound>,
}

impl ReleaseRules {
    /// What they must satisfy in themselves.
    ///
    /// # Errors
    /// `release.form`.
    pub fn validate(&self) -> Result<(), Rejection> {
        let bad = |claim: &str| {
            Rejection::new("release.form", claim).expected(format!("1 to {RELEASE_NAMES_MAX}, each once, ascending"))
        };
        let ReleaseFor { tenants, modules, purposes } = &self.work;
        if !(1..=RELEASE_NAMES_MAX).contains(&tenants.len()) || !tenants.is_sorted_by(|a, b| a < b) {
            return Err(bad("tenants of a release policy").got(tenants.len()));
        }
        if !modules.is_well_formed() {
            return Err(bad("modules of a release policy"));
        }
        if !purposes.is_well_formed() {
            return Err(bad("purposes of a release policy"));
        }
        if !self.kinds.is_well_formed() {
            return Err(bad("kinds of machines of a release policy"));
        }
        match self.privacy {
            Some(PrivacyBound { rho_max, delta_log10 }) if rho_max.0 == 0 || !DELTA_LOG10.contains(&delta_log10) => {
                Err(Rejection::new("release.form", "privacy of a release policy")
                    .expected(format!(
                        "more than nothing, and a delta of 1e{} to 1e{}",
                        DELTA_LOG10.start(),
                        DELTA_LOG10.end()
                    ))
                    .got(format!("{rho_max}, 1e{delta_log10}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether they let this be released `at`: the checks of this module. Whose grant it is, and whether the object still exists, is for the
    /// caller.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn admit(&self, asking: &Asking<'_>, at: UnixTime) -> Result<(), Rejection> {
        let refuse = |check: &str, claim: &str| {
            Rejection::new(check, claim).fix("ask the owner for a release policy that allows it")
        };
        if at > self.not_after {
            return Err(refuse("release.dates", "time of a release")
                .expected(format!("until {}", self.not_after))
                .got(at));
        }
        let ReleaseFor { tenants, modules, purposes } = &self.work;
        if !tenants.contains(asking.tenant) {
            let names: Vec<_> = tenants.iter().take(8).map(ToString::to_string).collect();
            return Err(refuse("release.tenant", "tenant whose work reads")
                .expected(names.join(", "))
                .got(asking.tenant));
        }
        if !modules.has(&asking.module) {
            return Err(refuse("release.module", "module that reads").expected(modules).got(asking.module));
        }
        let said = match (purposes, asking.purpose) {
            (Only::Any, _) => true,
            (Only::Only(_), None) => false,
            (Only::Only(list), Some(purpose)) => list.contains(purpose),
        };
        if !said {
            let got = asking.purpose.map_or_else(|| "none was said".to_owned(), ToString::to_string);
            return Err(refuse("release.purpose", "purpose of the work").expected(purposes).got(got));
        }
        let kind = asking.candidate.passport.claims.tee.value;
        if !self.kinds.has(&kind) {
            return Err(refuse("release.kind", "kind of the machine that reads").expected(&self.kinds).got(kind));
        }
        self.require.check(&asking.candidate)?;
        self.check_privacy(asking.privacy)
    }

    fn check_privacy(&self, spent: Option<PrivacyBound>) -> Result<(), Rejection> {
        let Some(most) = self.privacy else { return Ok(()) };
        let shown = |b: PrivacyBound| format!("{} with delta 1e{}", b.rho_max, b.delta_log10);
        match spent {
            Some(spent) if spent.rho_max <= most.rho_max && spent.delta_log10 <= most.delta_log10 => Ok(()),
            other => Err(Rejection::new("release.privacy", "what the reading spends of privacy")
                .expected(format!("{} at most", shown(most)))
                .got(other.map_or_else(|| "nobody accounts for it".to_owned(), shown))
                .fix("ask for less, in a fragment that says what it spends")),
        }
    }
}

/// A release policy: its text, and what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct ReleasePolicy {
    text: Arc<str>,
    digest: Digest,
    rules: ReleaseRules,
}

impl ReleasePolicy {
    /// Writes rules as a policy.
    ///
    /// # Errors
    /// `release.form` or `release.size`.
    pub fn write(rules: ReleaseRules) -> Result<Self, Rejection> {
        rules.validate()?;
        // Plain data with string keys: writing it cannot fail.
        let text = serde_json::to_string(&rules).unwrap_or_default();
        check_size(text.len())?;
        Ok(Self { digest: Digest::of(text.as_bytes()), text: text.into(), rules })
    }

    /// Reads a policy.
    ///
    /// # Errors
    /// `release.size`, `release.form`, or `release.spelling`: another text says the same.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        check_size(text.len())?;
        let rules: ReleaseRules = objects::from_slice(text.as_bytes())
            .map_err(|e| Rejection::new("release.form", "text of a release policy").got(e))?;
        let written = Self::write(rules)?;
        if *written.text != *text {
            return Err(Rejection::new("release.spelling", "text of a release policy")
                .expected("its one spelling: no white space, fields in their order, nothing left out")
                .fix("let the client write it"));
        }
        Ok(written)
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text: what labels name.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

fn check_size(got: usize) -> Result<(), Rejection> {
    if got <= RELEASE_TEXT_MAX {
        return Ok(());
    }
    Err(Rejection::new("release.size", "text of a release policy")
        .expected(format!("{RELEASE_TEXT_MAX} bytes at most"))
        .got(got))
}

impl Deref for ReleasePolicy {
    type Target = ReleaseRules;

    fn deref(&self) -> &ReleaseRules {
        &self.rules
    }
}

impl fmt::Debug for ReleasePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleasePolicy({} of {})", self.digest.short(), self.rules.tenant)
    }
}
