//! The seam between judging and appraising: who decides whether claims are acceptable, and how the result is graded.
//!
//! It is *not* the policy: `legation-policy` implements [`Appraiser`] with rules that operators and tenants write. What
//! passes is graded by a trustworthiness vector (draft-ietf-rats-ar4si section 2.3.4), whose worst value is the [`status`].

use std::collections::BTreeMap;

use legation_core::{
    Rejection, UnixTime,
    claims::Judged,
    statement::{Ear, Tier},
};

/// Life of a passport unless the policy says otherwise, in seconds.
pub const PASSPORT_SECONDS_DEFAULT: u64 = 600;
/// Longest life of a passport, in seconds.
pub const PASSPORT_SECONDS_MAX: u64 = 3600;

/// Decides whether what was judged is acceptable. Pure; a policy implements it.
pub trait Appraiser: Send + Sync {
    /// Appraises what was judged, as of `at`.
    ///
    /// # Errors
    /// Why it is not acceptable.
    fn appraise(&self, judged: &Judged, at: UnixTime) -> Result<Ear, Rejection>;

    /// Life of a passport in seconds, at most [`PASSPORT_SECONDS_MAX`]: the shortest that the policy gives.
    fn passport_seconds(&self) -> u64;

    /// Appraises, and says how long a passport of this result lives, in seconds.
    ///
    /// # Errors
    /// Why it is not acceptable.
    fn appraise_for(&self, judged: &Judged, at: UnixTime) -> Result<(Ear, u64), Rejection> {
        Ok((self.appraise(judged, at)?, self.passport_seconds()))
    }
}

/// The worst tier of a vector (draft-ietf-rats-ar4si section 2.3.2). Values that make no claim (-1 to 1) warn: ours all
/// make one.
pub fn status(vector: &BTreeMap<String, i8>) -> Tier {
    let tier = |value: &i8| match value {
        2..=31 | -32..=-2 => Tier::Affirming,
        -1..=95 | -96..=-33 => Tier::Warning,
        _ => Tier::Contraindicated,
    };
    vector.values().map(tier).max().unwrap_or(Tier::Contraindicated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_value_is_the_status() {
        for (values, tier) in [
            (&[2, 3][..], Tier::Affirming),
            (&[2, 32], Tier::Warning),
            (&[2, 95, 31], Tier::Warning),
            (&[2, 0], Tier::Warning),
            (&[2, -32], Tier::Affirming),
            (&[2, -33], Tier::Warning),
            (&[2, 32, 96], Tier::Contraindicated),
            (&[2, -97], Tier::Contraindicated),
            (&[], Tier::Contraindicated),
        ] {
            let vector = values.iter().enumerate().map(|(i, v)| (i.to_string(), *v)).collect();
            assert_eq!(status(&vector), tier, "{values:?}");
        }
    }
}
