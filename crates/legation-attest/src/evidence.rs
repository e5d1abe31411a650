//! Judges whole evidence: the report by its kind, and what the report binds.
//!
//! [`Judge::judge`] makes these checks, in this order:
//!
//! 1. `evidence.size`: all parts together are at most [`EVIDENCE_MAX`], endorsements at most [`ENDORSEMENTS_MAX`].
//! 2. `evidence.binding`, `evidence.configuration`: both parse, without unknown fields.
//! 3. `evidence.endorsements`: a leaf and at most one intermediate; never the root.
//! 4. `snp.*`: the report, by the list in [`crate::snp`], against the roots of its kind and no others.
//! 5. `evidence.report-data`: the report binds `SHA-512("legation-key-v1" || binding)`, over the bytes that travelled.
//! 6. `evidence.configuration`: the binding carries the SHA-256 of the configuration, over the bytes that travelled.
//! 7. `evidence.dates`: the binding's dates cover `at`.
//!
//! Whether the nonce in the binding is the one that was given out is for who gave it: [`crate::admit`].
//!
//! A new kind of machine is a module beside [`crate::snp`] and an arm in the table of kinds, `Judge::verify`.

use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{
        Claims, Configuration, ENDORSEMENTS_MAX, EVIDENCE_MAX, Evidence, EvidenceJudge, Judged, KeyBinding, TeeKind,
    },
    encoding,
};

use crate::snp::{self, ChainCache, Crl, Presented, RootSet, Roots};

/// Judges evidence against fixed roots. Shared freely: verified chains are remembered inside.
#[derive(Debug)]
pub struct Judge {
    roots: Roots,
    crls: Vec<Crl>,
    cache: ChainCache,
}

impl Judge {
    /// A judge without revocation lists.
    pub fn new(roots: Roots) -> Self {
        Self { roots, crls: Vec::new(), cache: ChainCache::default() }
    }

    /// Holds chains against these lists from now on, in place of earlier ones. A root without a list is not checked for
    /// revocation; a list that is not fresh refuses everything under its root.
    pub fn set_revocation_lists(&mut self, crls: Vec<Crl>) {
        self.crls = crls;
    }

    /// The roots it judges against.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The table of kinds.
    fn verify(&self, evidence: &Evidence, at: UnixTime) -> Result<Claims, Rejection> {
        match evidence.kind {
            TeeKind::SevSnp => self.snp(evidence, &self.roots.amd, at),
            TeeKind::DevSnp => self.snp(evidence, &self.roots.development, at),
        }
    }

    fn snp<R: RootSet>(&self, evidence: &Evidence, roots: &R, at: UnixTime) -> Result<Claims, Rejection> {
        let (leaf, intermediate) = match evidence.endorsements.as_slice() {
            [leaf] => (leaf, None),
            [leaf, intermediate] => (leaf, Some(intermediate.as_slice())),
            other => {
                return Err(Rejection::new("evidence.endorsements", "number of endorsements")
                    .expected("leaf, or leaf and intermediate")
                    .got(other.len())
                    .fix("send VCEK and ASK, or VLEK and ASVK; the root is never sent"));
            }
        };
        let presented = Presented { report: &evidence.report, leaf, intermediate, crls: &self.crls };
        snp::verify(&presented, roots, &self.cache, at)
    }
}

impl EvidenceJudge for Judge {
    fn judge(&self, evidence: &Evidence, at: UnixTime) -> Result<Judged, Rejection> {
        check_size(evidence)?;
        let binding: KeyBinding = parse("evidence.binding", "key binding", &evidence.binding)?;
        let configuration: Configuration = parse("evidence.configuration", "configuration", &evidence.configuration)?;
        let claims = self.verify(evidence, at)?;
        let bound = encoding::hex(&KeyBinding::report_data(&evidence.binding));
        if claims.report_data != bound {
            return Err(Rejection::new("evidence.report-data", "report data of the report")
                .expected(format!("{bound}, the hash of the key binding"))
                .got(&claims.report_data)
                .fix("ask the hardware for a report over this binding"));
        }
        let digest = Digest::of(&evidence.configuration);
        if binding.configuration != digest {
            return Err(Rejection::new("evidence.configuration", "configuration that the binding carries")
                .expected(digest)
                .got(binding.configuration)
                .fix("send the configuration that was measured"));
        }
        if at < binding.not_before || binding.not_after < at {
            return Err(Rejection::new("evidence.dates", "dates of the key binding")
                .expected(format!("{} to {}", binding.not_before, binding.not_after))
                .got(at)
                .fix("boot again: keys live as long as one boot binds them"));
        }
        Ok(Judged { claims, binding, configuration })
    }
}

fn check_size(evidence: &Evidence) -> Result<(), Rejection> {
    let (size, endorsements) = (evidence.size(), evidence.endorsements.len());
    if size > EVIDENCE_MAX || endorsements > ENDORSEMENTS_MAX {
        return Err(Rejection::new("evidence.size", "size of the evidence")
            .expected(format!("at most {EVIDENCE_MAX} bytes with {ENDORSEMENTS_MAX} endorsements"))
            .got(format!("{size} bytes with {endorsements}"))
            .fix("send the report and the certificates of its key alone"));
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(check: &str, what: &str, bytes: &[u8]) -> Result<T, Rejection> {
    serde_json::from_slice(bytes).map_err(|e| {
        Rejection::new(check, format!("form of the {what}"))
            .expected(format!("JSON of a {what} of this version"))
            .got(e)
            .fix("run agent and verifier of one version")
    })
}
