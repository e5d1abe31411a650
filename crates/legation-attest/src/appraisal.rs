//! Claims held against a policy: what an operator accepts, and how the result is graded.
//!
//! [`appraise`] makes these checks, in this order:
//!
//! 1. `appraisal.policy`: the policy itself is well-formed.
//! 2. `appraisal.anchor`: development evidence needs a policy that says `development`.
//! 3. `appraisal.debug`: a guest its host may debug needs a policy that says `debug`.
//! 4. `appraisal.vmpl`: the privilege level is at most the policy's.
//! 5. `appraisal.tcb`: no component of the security version is below the policy's minimum for the product.
//! 6. `appraisal.measurement`: the measurement is a reference value of the policy.
//! 7. `appraisal.expired`: that reference value has not expired.
//!
//! What passes is graded by a trustworthiness vector (draft-ietf-rats-ar4si section 2.3.4), whose worst value is the
//! status. Development hardware and debuggable guests get warnings: a policy admits them, nothing makes them good.

use std::collections::BTreeMap;

use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{Claims, Judged},
    encoding,
    statement::{Ear, Tier},
};
use serde::{Deserialize, Serialize};

use crate::snp::{Product, TcbVersion, VMPL_MAX};

/// Life of a passport unless the policy says otherwise, in seconds.
pub const PASSPORT_SECONDS_DEFAULT: u64 = 600;
/// Longest life of a passport, in seconds.
pub const PASSPORT_SECONDS_MAX: u64 = 3600;
/// Most reference values in one policy.
pub const REFERENCE_VALUES_MAX: usize = 1024;
/// Longest name of a policy, reference value or owner, in bytes.
pub const NAME_MAX: usize = 128;
/// Bytes of a SEV-SNP launch measurement.
const MEASUREMENT: usize = 48;

/// What an operator accepts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppraisalPolicy {
    /// Its name, in every result.
    pub name: String,
    /// Whether development evidence is accepted.
    #[serde(default)]
    pub development: bool,
    /// Whether guests are accepted that their host may debug.
    #[serde(default)]
    pub debug: bool,
    /// Highest privilege level number (least privileged) a report may be asked from, 0 to 3.
    #[serde(default)]
    pub vmpl_max: u32,
    /// Lowest security versions, each for a product; a product without one is not held against any.
    #[serde(default)]
    pub minimum_tcb: Vec<MinimumTcb>,
    /// Measurements of images that are accepted.
    #[serde(default)]
    pub measurements: Vec<ReferenceValue>,
    /// Life of a passport in seconds, at most [`PASSPORT_SECONDS_MAX`].
    #[serde(default = "passport_seconds")]
    pub passport_seconds: u64,
}

fn passport_seconds() -> u64 {
    PASSPORT_SECONDS_DEFAULT
}

/// The lowest security version accepted of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimumTcb {
    /// The product.
    pub product: Product,
    /// Each component is at least this.
    pub tcb: TcbVersion,
}

/// The measurement of an image, with who answers for it and for how long.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceValue {
    /// What people call the image.
    pub name: String,
    /// Launch measurement, 96 lower-case hexadecimal digits.
    pub measurement: String,
    /// Who put it here.
    pub owner: String,
    /// Last second it is accepted; for ever without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixTime>,
}

impl AppraisalPolicy {
    /// A policy of this name that accepts nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            development: false,
            debug: false,
            vmpl_max: 0,
            minimum_tcb: Vec::new(),
            measurements: Vec::new(),
            passport_seconds: PASSPORT_SECONDS_DEFAULT,
        }
    }

    /// Checks what the types do not say: lengths, ranges, and that nothing is said twice.
    ///
    /// # Errors
    /// `appraisal.policy`.
    pub fn check(&self) -> Result<(), Rejection> {
        let refuse = |claim: String, expected: String, got: String| {
            Err(Rejection::new("appraisal.policy", claim)
                .expected(expected)
                .got(got)
                .fix("correct the appraisal policy"))
        };
        let named = |name: &str| (1..=NAME_MAX).contains(&name.len());
        let length = || format!("1 to {NAME_MAX} bytes");
        if !named(&self.name) {
            return refuse("name of the policy".to_owned(), length(), format!("{} bytes", self.name.len()));
        }
        if self.vmpl_max > VMPL_MAX {
            return refuse("vmpl_max".to_owned(), format!("0 to {VMPL_MAX}"), self.vmpl_max.to_string());
        }
        if !(1..=PASSPORT_SECONDS_MAX).contains(&self.passport_seconds) {
            let expected = format!("1 to {PASSPORT_SECONDS_MAX}");
            return refuse("passport_seconds".to_owned(), expected, self.passport_seconds.to_string());
        }
        if self.measurements.len() > REFERENCE_VALUES_MAX {
            let expected = format!("at most {REFERENCE_VALUES_MAX}");
            return refuse("number of measurements".to_owned(), expected, self.measurements.len().to_string());
        }
        for (i, minimum) in self.minimum_tcb.iter().enumerate() {
            let product = minimum.product;
            if self.minimum_tcb[..i].iter().any(|m| m.product == product) {
                return refuse(format!("minimum_tcb of {product}"), "once".to_owned(), "twice".to_owned());
            }
            if minimum.tcb.fmc.is_some() && product != Product::Turin {
                return refuse(
                    format!("minimum_tcb of {product}"),
                    "no fmc: only Turin has one".to_owned(),
                    "fmc".to_owned(),
                );
            }
        }
        for value in &self.measurements {
            if !named(&value.name) || !named(&value.owner) {
                return refuse("name and owner of a measurement".to_owned(), length(), format!("`{}`", value.name));
            }
            if encoding::unhex_array::<MEASUREMENT>(&value.measurement).is_err() {
                let claim = format!("measurement `{}`", value.name);
                return refuse(claim, "96 lower-case hexadecimal digits".to_owned(), value.measurement.clone());
            }
        }
        Ok(())
    }
}

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

impl Appraiser for AppraisalPolicy {
    fn appraise(&self, judged: &Judged, at: UnixTime) -> Result<Ear, Rejection> {
        appraise(judged, self, at)
    }

    fn passport_seconds(&self) -> u64 {
        self.passport_seconds
    }
}

/// Holds what was judged against a policy as of `at`.
///
/// # Errors
/// The first check of the module's list that refuses.
pub fn appraise(judged: &Judged, policy: &AppraisalPolicy, at: UnixTime) -> Result<Ear, Rejection> {
    policy.check()?;
    let claims = &judged.claims;
    let refuse = |check: &str, claim: &str| Rejection::new(check, format!("{claim} under policy `{}`", policy.name));
    if claims.anchor.is_development() && !policy.development {
        return Err(refuse("appraisal.anchor", "anchor of the evidence")
            .expected("a hardware vendor's root")
            .got(&claims.anchor)
            .fix("use real hardware, or set `development = true` in a policy that protects nothing"));
    }
    if claims.debug.value && !policy.debug {
        return Err(refuse("appraisal.debug", "debugging of the guest")
            .expected("not permitted")
            .got("permitted: the host may read and write its memory")
            .fix("launch the guest with a policy that forbids debugging"));
    }
    if let Some(vmpl) = &claims.vmpl
        && vmpl.value > policy.vmpl_max
    {
        return Err(refuse("appraisal.vmpl", "privilege level of the report")
            .expected(format!("at most {}", policy.vmpl_max))
            .got(vmpl.value)
            .fix("ask for the report from a more privileged level, or raise `vmpl_max`"));
    }
    check_tcb(claims, policy)?;
    check_measurement(claims, policy, at)?;
    Ok(grade(claims, policy))
}

fn check_tcb(claims: &Claims, policy: &AppraisalPolicy) -> Result<(), Rejection> {
    let refuse = || Rejection::new("appraisal.tcb", format!("security version under policy `{}`", policy.name));
    let product: Product = claims.product.value.parse().map_err(|e| refuse().got(e))?;
    let Some(minimum) = policy.minimum_tcb.iter().find(|m| m.product == product) else { return Ok(()) };
    let tcb: TcbVersion = claims.tcb.value.version.parse().map_err(|e| refuse().got(e))?;
    if tcb.at_least(&minimum.tcb) {
        return Ok(());
    }
    Err(refuse()
        .expected(format!("at least {} on {product}", minimum.tcb))
        .got(tcb)
        .fix("update the machine's firmware and microcode, and commit them"))
}

fn check_measurement(claims: &Claims, policy: &AppraisalPolicy, at: UnixTime) -> Result<(), Rejection> {
    let matching = || policy.measurements.iter().filter(|v| v.measurement == claims.measurement.value);
    if matching().any(|v| v.expires.is_none_or(|end| at <= end)) {
        return Ok(());
    }
    if let Some((value, end)) = matching().find_map(|v| v.expires.map(|end| (v, end))) {
        return Err(Rejection::new("appraisal.expired", format!("reference value `{}`", value.name))
            .expected(format!("in use until {end}"))
            .got(at)
            .fix(format!("update the enclave, or have {} renew the reference value", value.owner)));
    }
    const SHOWN: usize = 8;
    let mut names: Vec<_> = policy.measurements.iter().map(|v| v.name.as_str()).take(SHOWN).collect();
    if policy.measurements.len() > SHOWN {
        names.push("..");
    }
    let names = if names.is_empty() { "none: the policy lists no measurement".to_owned() } else { names.join(", ") };
    Err(Rejection::new("appraisal.measurement", format!("measurement under policy `{}`", policy.name))
        .expected(names)
        .got(&claims.measurement.value)
        .fix("run one of these images, or make a reference value of this one"))
}

/// The vector's values (draft-ietf-rats-ar4si section 2.3.4): 2 and 3 affirm, 32 warns.
fn grade(claims: &Claims, policy: &AppraisalPolicy) -> Ear {
    let development = claims.anchor.is_development();
    let warn_if = |bad: bool| if bad { 32 } else { 2 };
    let vector: BTreeMap<String, i8> = [
        // Recognised, by a key the vendor (or a development root) certified.
        ("instance-identity", 2),
        ("configuration", warn_if(claims.debug.value)),
        // Approved executables were loaded during boot; a launch measurement says nothing of what came after.
        ("executables", 3),
        ("hardware", warn_if(development)),
        // Memory is encrypted against the host; software that signs like a chip encrypts nothing.
        ("runtime-opaque", warn_if(development || claims.debug.value)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let text = serde_json::to_vec(policy).unwrap_or_default();
    let images = policy.measurements.iter().filter(|v| v.measurement == claims.measurement.value);
    let images: std::collections::BTreeSet<_> = images.map(|v| v.name.clone()).collect();
    Ear {
        status: status(&vector),
        vector,
        policy: policy.name.clone(),
        policy_digest: Digest::of(&text),
        tcb: claims.tcb.value.clone(),
        images: images.into_iter().collect(),
        grace: None,
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

    #[test]
    fn a_policy_that_makes_no_sense_is_refused() {
        let tcb = TcbVersion { fmc: None, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
        let milan = MinimumTcb { product: Product::Milan, tcb };
        let value = |name: &str, measurement: String| ReferenceValue {
            name: name.to_owned(),
            measurement,
            owner: "me".to_owned(),
            expires: None,
        };
        type Change = Box<dyn Fn(&mut AppraisalPolicy)>;
        let table: Vec<(&str, Change)> = vec![
            ("name", Box::new(|p| p.name.clear())),
            ("vmpl_max", Box::new(|p| p.vmpl_max = 4)),
            ("passport_seconds", Box::new(|p| p.passport_seconds = 0)),
            ("passport_seconds", Box::new(|p| p.passport_seconds = PASSPORT_SECONDS_MAX + 1)),
            ("minimum_tcb", Box::new(move |p| p.minimum_tcb = vec![milan, milan])),
            (
                "minimum_tcb",
                Box::new(move |p| {
                    p.minimum_tcb = vec![MinimumTcb { tcb: TcbVersion { fmc: Some(1), ..tcb }, ..milan }];
                }),
            ),
            ("measurement", Box::new(move |p| p.measurements = vec![value("short", "00".to_owned())])),
            ("measurement", Box::new(move |p| p.measurements = vec![value("upper", "AB".repeat(48))])),
            ("name and owner", Box::new(move |p| p.measurements = vec![value("", "00".repeat(48))])),
            (
                "number",
                Box::new(move |p| p.measurements = vec![value("many", "00".repeat(48)); REFERENCE_VALUES_MAX + 1]),
            ),
        ];
        AppraisalPolicy::new("good").check().unwrap();
        for (claim, change) in table {
            let mut policy = AppraisalPolicy::new("bad");
            change(&mut policy);
            let refusal = policy.check().unwrap_err();
            assert!(refusal.check == "appraisal.policy" && refusal.claim.contains(claim), "{claim}: {refusal}");
        }
    }
}
