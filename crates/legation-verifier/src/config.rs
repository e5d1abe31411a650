//! Configuration of `legation verifier`: one TOML file. Unknown keys are errors; every error names the file and the key.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use legation_core::{Digest, Rejection, encoding};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    collateral::{KeeperConfig, SourceConfig, read_bounded},
    remote,
    service::IN_FLIGHT_DEFAULT,
};

/// Largest configuration, key, appointment or anchor file, in bytes.
pub const FILE_MAX: u64 = 1 << 20;
/// Most requests worked on at once that may be configured: each may hold a body of
/// [`BODY_MAX`](crate::service::BODY_MAX).
pub const IN_FLIGHT_MAX: usize = 4096;

/// A verifier's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierConfig {
    /// What people call it.
    pub name: String,
    /// Where it listens. Plain HTTP: loopback only, unless a TLS proxy stands before it (`behind_proxy`).
    pub listen: SocketAddr,
    /// Says that a proxy which speaks TLS stands before it.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Its key, PEM. Replicas share it.
    pub key: PathBuf,
    /// The operator's appointment of that key, JSON.
    pub appointment: PathBuf,
    /// What replicas recognise their challenges by: 64 hexadecimal digits. Replicas share it.
    pub challenge_secret: PathBuf,
    /// What is trusted: operators' roots, development roots, roots of TPM makers.
    pub anchors: PathBuf,
    /// What is accepted; read again when it changes.
    pub policy: PathBuf,
    /// More reference values; read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<PathBuf>,
    /// Whether development machines may be accepted. Without it, their roots are not even looked at.
    #[serde(default)]
    pub allow_development: bool,
    /// Life of a passport in seconds, in place of the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passport_seconds: Option<u64>,
    /// SHA-256 of tokens; anybody may ask without any.
    #[serde(default)]
    pub token_sha256: Vec<Digest>,
    /// Requests worked on at once; the next is told to come back.
    #[serde(default = "in_flight")]
    pub in_flight_max: usize,
    /// Collateral.
    pub collateral: CollateralConfig,
}

fn in_flight() -> usize {
    IN_FLIGHT_DEFAULT
}

/// What a configuration says about collateral.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralConfig {
    /// Folder.
    pub dir: PathBuf,
    /// How many days past its next update an item is still taken; 0 for none.
    #[serde(default = "grace_days")]
    pub grace_days: u64,
    /// Most hours until an item is looked for again.
    #[serde(default = "refresh_hours")]
    pub refresh_hours: u64,
    /// Fewest minutes until the same item is asked for again.
    #[serde(default = "minimum_minutes")]
    pub minimum_minutes: u64,
    /// Items that are kept whether evidence asks for them or not.
    #[serde(default)]
    pub keep: Vec<String>,
    /// PEM file of the authorities of sources over HTTPS; the system's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// Where items come from, in the order they are tried. Without any, nothing is fetched.
    #[serde(default, rename = "source")]
    pub sources: Vec<SourceConfig>,
}

fn grace_days() -> u64 {
    7
}

fn refresh_hours() -> u64 {
    24
}

fn minimum_minutes() -> u64 {
    60
}

impl CollateralConfig {
    /// Longest grace, in days: judges and readers of receipts give no longer one.
    pub const GRACE_DAYS_MAX: u64 = legation_attest::evidence::GRACE_SECONDS_MAX / 86_400;

    /// A folder that is looked at: nothing is fetched.
    pub fn folder(dir: PathBuf) -> Self {
        Self {
            dir,
            grace_days: grace_days(),
            refresh_hours: refresh_hours(),
            minimum_minutes: minimum_minutes(),
            keep: Vec::new(),
            authorities: None,
            sources: Vec::new(),
        }
    }

    /// As the keeper takes it.
    ///
    /// # Errors
    /// A number out of range, or `http.authorities`.
    pub fn keeper(&self) -> Result<KeeperConfig, Rejection> {
        for (key, value, range) in [
            ("grace_days", self.grace_days, 0..=Self::GRACE_DAYS_MAX),
            ("refresh_hours", self.refresh_hours, 1..=31 * 24),
            ("minimum_minutes", self.minimum_minutes, 1..=31 * 24 * 60),
        ] {
            if !range.contains(&value) {
                return Err(Rejection::new("config.collateral", format!("`collateral.{key}`"))
                    .expected(format!("{} to {}", range.start(), range.end()))
                    .got(value)
                    .fix("correct the configuration"));
            }
        }
        Ok(KeeperConfig {
            dir: self.dir.clone(),
            grace_seconds: self.grace_days.saturating_mul(86_400),
            refresh_seconds: self.refresh_hours.saturating_mul(3600),
            minimum_seconds: self.minimum_minutes.saturating_mul(60),
            sources: self.sources.clone(),
            keep: self.keep.clone(),
            authorities: remote::authorities(self.authorities.as_deref())?,
        })
    }
}

impl VerifierConfig {
    /// Reads and checks a file; relative paths in it become relative to its folder.
    ///
    /// # Errors
    /// What is wrong in it, and where.
    pub fn load(path: &Path) -> Result<Self, Rejection> {
        let at = |claim: &str| Rejection::new("config.verifier", format!("{claim} {}", path.display()));
        let text = read_text(path, "configuration file")?;
        let mut config: Self = toml::from_str(&text).map_err(|e| {
            at("configuration file").expected("the keys of docs/verifier.md").got(e).fix("correct the file")
        })?;
        if !config.listen.ip().is_loopback() && !config.behind_proxy {
            return Err(at("`listen` in")
                .expected("a loopback address, or `behind_proxy = true`")
                .got(config.listen)
                .fix("put a proxy that speaks TLS before the verifier"));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&config.in_flight_max) {
            return Err(at("`in_flight_max` in")
                .expected(format!("1 to {IN_FLIGHT_MAX}"))
                .got(config.in_flight_max)
                .fix("correct the file"));
        }
        let base = path.parent().unwrap_or(Path::new("."));
        let near = |path: &mut PathBuf| *path = base.join(&*path);
        let paths = [
            &mut config.key,
            &mut config.appointment,
            &mut config.challenge_secret,
            &mut config.anchors,
            &mut config.policy,
            &mut config.collateral.dir,
        ];
        paths.into_iter().for_each(near);
        config.references.iter_mut().for_each(near);
        config.collateral.authorities.iter_mut().for_each(near);
        config.collateral.sources.iter_mut().filter_map(|s| s.dir.as_mut()).for_each(near);
        Ok(config)
    }
}

/// A text file of at most [`FILE_MAX`] bytes.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<Zeroizing<String>, Rejection> {
    let refuse = |got: String| {
        Rejection::new("config.verifier", format!("{what} {}", path.display()))
            .expected(format!("a readable text of at most {FILE_MAX} bytes"))
            .got(got)
            .fix("see `legation verifier init --help`")
    };
    let bytes = read_bounded(path, FILE_MAX).map_err(|e| refuse(e.to_string()))?;
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|_| refuse("no text".to_owned()))
}

/// Reads a challenge secret: 64 hexadecimal digits.
///
/// # Errors
/// It is none.
pub fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, Rejection> {
    let text = read_text(path, "challenge secret")?;
    encoding::unhex_array::<32>(text.trim()).map(Zeroizing::new).map_err(|_| {
        Rejection::new("config.verifier", format!("challenge secret {}", path.display()))
            .expected("64 lower-case hexadecimal digits")
            .got("another text")
            .fix("make one with `openssl rand -hex 32`, and give it to every replica")
    })
}
