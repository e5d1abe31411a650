//! Reads the policy of a verifier (Cedar text) and its reference values (JSON) from files.

use std::{path::Path, sync::Arc};

use legation_attest::{Appraiser, appraisal::PASSPORT_SECONDS_MAX};
use legation_core::{Rejection, UnixTime, claims::Judged, statement::Ear};
use legation_policy::{Options, Policy, References, Scope};

use crate::{Appraising, collateral::read_bounded};

/// Largest policy file and reference file, in bytes.
pub const FILE_MAX: u64 = 4 << 20;

/// What the verifier's own configuration says about any policy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whether a policy may accept development machines.
    pub development: bool,
    /// Life of a passport in seconds, in place of the policy's where that is longer.
    pub passport_seconds: Option<u64>,
}

/// A policy whose passports live no longer than the configuration says.
struct Limited {
    policy: Policy,
    seconds: u64,
}

impl Appraiser for Limited {
    fn appraise(&self, judged: &Judged, at: UnixTime) -> Result<Ear, Rejection> {
        self.policy.appraise(judged, at)
    }

    fn passport_seconds(&self) -> u64 {
        self.policy.passport_seconds().min(self.seconds)
    }

    fn appraise_for(&self, judged: &Judged, at: UnixTime) -> Result<(Ear, u64), Rejection> {
        let (ear, seconds) = self.policy.appraise_for(judged, at)?;
        Ok((ear, seconds.min(self.seconds)))
    }
}

/// Reads a policy and the reference values that it may name. The policy goes by the name of its file.
///
/// # Errors
/// `config.policy` when a file cannot be read; what [`Policy::load`] and [`References::from_json`] refuse.
pub fn load(policy: &Path, references: Option<&Path>, limits: Limits) -> Result<Appraising, Rejection> {
    let wrong = |path: &Path, got: String| {
        Rejection::new("config.policy", format!("file {}", path.display()))
            .expected("a file of the form in docs/policy.md")
            .got(got)
            .fix("correct the file; the policy in force stays until then")
    };
    let read = |path: &Path| -> Result<String, Rejection> {
        let bytes = read_bounded(path, FILE_MAX).map_err(|e| wrong(path, e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| wrong(path, e.to_string()))
    };
    let seconds = limits.passport_seconds.unwrap_or(PASSPORT_SECONDS_MAX);
    if !(1..=PASSPORT_SECONDS_MAX).contains(&seconds) {
        return Err(Rejection::new("config.policy", "`passport_seconds` of the configuration")
            .expected(format!("1 to {PASSPORT_SECONDS_MAX}"))
            .got(seconds)
            .fix("correct the configuration"));
    }
    let values = match references {
        Some(path) => References::from_json(&read(path)?)?,
        None => References::default(),
    };
    let options = Options::of(Scope::Pool, limits.development);
    let name = policy.file_stem().map_or("policy".into(), |stem| stem.to_string_lossy());
    let policy = Policy::load(&name, &read(policy)?, Arc::new(values), options).map_err(|e| e.rejection())?;
    for warning in policy.warnings(UnixTime(0)) {
        tracing::debug!(%warning, "of the policy");
    }
    let (name, digest) = (policy.name().to_owned(), policy.digest());
    Ok(Appraising { name, digest, appraiser: Arc::new(Limited { policy, seconds }) })
}
