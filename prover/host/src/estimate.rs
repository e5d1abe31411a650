//! What a proof costs, before it is made. A dry execution counts instructions; the rest is arithmetic on what this machine did.

use std::{fs, path::Path};

use legation_core::proven::PROOF_MAX;
use serde::Serialize;

/// Instructions proven in a second where this machine has not proven yet: two cores with AVX-512 (measured).
pub const DEFAULT_RATE: f64 = 12_500.0;
/// Seconds that a proof takes beside its instructions: reading keys, committing to the program.
pub const SETUP_SECONDS: f64 = 10.0;
/// Where the rate of this machine is kept, beside its keys.
pub const RATE_FILE: &str = "rate";

/// What a proof would cost.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Estimate {
    /// Instructions of the machine that is proven, counted.
    pub instructions: u64,
    /// Segments: each is proven by itself and adds to the size of the proof.
    pub segments: usize,
    /// How large the proof is, at most, in bytes.
    pub bytes: usize,
    /// How many instructions this machine proves in a second.
    pub rate: f64,
    /// How long a proof takes, about.
    pub seconds: f64,
}

/// What a job may cost.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// Most instructions.
    pub instructions: u64,
    /// Most seconds.
    pub seconds: f64,
}

impl Estimate {
    /// From what a dry execution counted, at `rate` instructions in a second.
    pub fn of(instructions: u64, segments: usize, bytes: usize, rate: f64) -> Self {
        let rate = if rate.is_finite() && rate > 0.0 { rate } else { DEFAULT_RATE };
        Self { instructions, segments, bytes, rate, seconds: SETUP_SECONDS + instructions as f64 / rate }
    }

    /// Why a job is refused, with the figures; nothing where it is not.
    pub fn over(&self, limits: &Limits) -> Option<String> {
        let Self { instructions, segments, bytes, seconds, rate } = self;
        if *instructions > limits.instructions {
            let most = limits.instructions;
            return Some(format!("{instructions} instructions are to be proven, at most {most} are"));
        }
        if *bytes > PROOF_MAX {
            return Some(format!(
                "the proof of {instructions} instructions, in {segments} segments, has up to {bytes} bytes, at most {PROOF_MAX} are taken"
            ));
        }
        (*seconds > limits.seconds).then(|| {
            let most = limits.seconds;
            format!("the proof of {instructions} instructions takes about {seconds:.0} s at {rate:.0} a second, at most {most:.0} s are given")
        })
    }
}

/// Most bytes that a segment adds to the proof, under keys of this height: measured, and a twentieth.
pub(crate) fn segment_bytes(stacked_height: usize) -> usize {
    if stacked_height < 22 { 950_000 } else { 650_000 }
}

/// The rate of this machine, as it was at its last proof.
pub(crate) fn rate(keys: &Path) -> f64 {
    let kept = fs::read_to_string(keys.join(RATE_FILE)).ok();
    kept.and_then(|text| text.trim().parse().ok())
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .unwrap_or(DEFAULT_RATE)
}

/// Keeps the rate of a proof. An estimate that cannot be kept is no reason to lose a proof.
pub(crate) fn keep_rate(keys: &Path, instructions: u64, seconds: f64) {
    if seconds > 0.0 {
        fs::write(keys.join(RATE_FILE), format!("{:.0}\n", instructions as f64 / seconds)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_refused_with_the_figure() {
        let estimate = Estimate::of(1_000_000, 1, 600_000, 10_000.0);
        assert_eq!(estimate.seconds, SETUP_SECONDS + 100.0);
        let limits = |instructions, seconds| Limits { instructions, seconds };
        assert_eq!(estimate.over(&limits(1_000_000, 110.0)), None);
        let why = estimate.over(&limits(999_999, 1e9)).unwrap();
        assert!(why.contains("1000000") && why.contains("999999"), "{why}");
        let why = estimate.over(&limits(u64::MAX, 109.0)).unwrap();
        assert!(why.contains("about 110 s") && why.contains("at most 109 s"), "{why}");
    }

    #[test]
    fn a_proof_that_nobody_would_take_is_refused_before_it_is_made() {
        let limits = Limits { instructions: u64::MAX, seconds: f64::MAX };
        assert_eq!(Estimate::of(1_000_000, 12, PROOF_MAX, 10_000.0).over(&limits), None);
        let why = Estimate::of(1_000_000, 13, PROOF_MAX + 1, 10_000.0).over(&limits).unwrap();
        assert!(why.contains("13 segments") && why.contains(&PROOF_MAX.to_string()), "{why}");
        for height in crate::STACKED_HEIGHTS {
            assert!(PROOF_MAX / segment_bytes(height) >= 8, "a proof under keys of {height} has room for few segments");
        }
    }

    #[test]
    fn a_rate_that_is_none_is_not_believed() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Estimate::of(1, 1, 1, rate).rate, DEFAULT_RATE);
        }
    }
}
