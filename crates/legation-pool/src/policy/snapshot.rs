//! Policies in a snapshot: texts, versions and reference values. Policies are loaded again from their texts.

use std::{collections::BTreeMap, sync::Arc};

use legation_core::Seq;
use legation_policy::{Options, Policy, ReferenceValue, References, Scope};
use serde::{Deserialize, Serialize};

use super::{Kept, Policies, PolicyVersion, Remembered};

/// What a snapshot holds of them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoliciesImage {
    references: Vec<ReferenceValue>,
    /// Versions at hand, oldest first; the last one is in force.
    kept: BTreeMap<Scope, Vec<PolicyVersion>>,
    changed: Seq,
}

impl Policies {
    pub(crate) fn image(&self) -> PoliciesImage {
        PoliciesImage {
            references: self.references.iter().cloned().collect(),
            kept: self.kept.iter().map(|(scope, kept)| (scope.clone(), kept.versions.clone())).collect(),
            changed: self.changed,
        }
    }

    /// The policies of an image; why not, in words.
    pub(crate) fn of_image(image: PoliciesImage, allow_development: bool) -> Result<Self, String> {
        let references = Arc::new(References::new(image.references).map_err(|why| why.to_string())?);
        let mut kept = BTreeMap::new();
        for (scope, versions) in image.kept {
            let last = versions.last().ok_or_else(|| format!("policy {scope} has no version"))?;
            let options = Options::of(scope.clone(), allow_development);
            let policy = Policy::load(&scope.to_string(), &last.text, references.clone(), options)
                .map_err(|why| format!("policy {scope}: {why}"))?;
            kept.insert(scope, Kept { policy: Arc::new(policy), versions });
        }
        Ok(Self { references, kept, changed: image.changed, remembered: Remembered::default() })
    }
}
