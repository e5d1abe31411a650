//! Judges whole evidence: the report by its kind, devices, and what the report binds.
//!
//! [`Judge::judge`] makes these checks, in this order:
//!
//! 1. `evidence.size`: all parts together are at most [`EVIDENCE_MAX`], endorsements at most [`ENDORSEMENTS_MAX`], devices
//!    at most [`DEVICES_MAX`].
//! 2. `evidence.binding`, `evidence.configuration`: both parse, without unknown fields.
//! 3. `evidence.endorsements`: as many as the kind has.
//! 4. `collateral.missing`: the collateral that the kind cannot do without is at hand.
//! 5. the report, by the list of its kind's module, against the roots of its kind and no others.
//! 6. `evidence.report-data`: the report binds `SHA-512("legation-key-v1" || binding)`, over the bytes that travelled; or
//!    the first 32 bytes of it, where the hardware has no room for more.
//! 7. each device, by its kind's list, over the first 32 bytes of that hash; no two are one chip.
//! 8. `evidence.configuration`: the binding carries the SHA-256 of the configuration, over the bytes that travelled.
//! 9. `evidence.region`: where somebody but the provider says where the machine stands, the provider says the same.
//! 10. `evidence.dates`: the binding's dates cover `at`.
//!
//! Whether the nonce in the binding is the one that was given out is for who gave it: [`crate::admit`].
//!
//! Collateral is looked up by name, never fetched (the refusal for want of one names it): `intel/{tdx|sgx}/FMSPC/CA` is demanded, and
//! `vcek/PRODUCT/HWID/SVN` where a SEV-SNP report comes without certificates; revocation lists `amd/PRODUCT/...`,
//! `dev/ROOT/...` and `tpm/ROOT/...` are heeded where they are at hand. An item past its
//! next update is believed for the judge's grace and no longer; the claims say since when it is stale.

use std::{collections::BTreeSet, sync::Arc};

use legation_core::{
    Digest, PublicKey, Rejection, UnixTime,
    claims::{
        Anchors, Attested, Claims, CollateralItem, Configuration, DEVICES_MAX, DeviceKind, ENDORSEMENTS_MAX,
        EVIDENCE_MAX, Evidence, EvidenceJudge, Judged, KeyBinding, Shelf, TeeKind,
    },
    encoding,
};

use crate::{
    azure,
    cache::Bounded,
    dcap, nitro, nvidia,
    snp::{self, AmdRoots, DevelopmentRoots, RootSet},
    tpm::{self, DevelopmentTpmRoots, TpmRootSet, TpmRoots},
    x509,
};

/// Longest time for which anybody may believe collateral past its next update, in seconds: 30 days. Readers of receipts
/// grant it, since a passport says that its collateral was stale; a verifier grants less.
pub const GRACE_SECONDS_MAX: u64 = 30 * 86_400;
/// Most revocation lists that are held parsed.
const LISTS_MAX: usize = 256;

/// All that evidence may end in, by type.
#[derive(Clone, Debug)]
pub struct Roots {
    /// For `sev-snp` and `az-snp-vtpm`.
    pub amd: AmdRoots,
    /// For `tdx`, `sgx` and `az-tdx-vtpm`.
    pub intel: dcap::IntelRoot,
    /// For `tpm`.
    pub tpm: TpmRoots,
    /// For `dev-snp`.
    pub development: DevelopmentRoots,
    /// For `dev-tpm`.
    pub development_tpm: DevelopmentTpmRoots,
    /// Roots that appoint verifiers: their word is taken on attestation keys of TPMs.
    pub operators: Vec<PublicKey>,
}

impl Roots {
    /// The roots of AMD, Intel, AWS and NVIDIA, which are compiled in, and those of an anchor file.
    ///
    /// # Errors
    /// `roots.built-in`, `roots.development` or `roots.tpm`.
    pub fn new(anchors: &Anchors) -> Result<Self, Rejection> {
        Ok(Self {
            amd: AmdRoots::all()?,
            intel: dcap::IntelRoot::production(),
            tpm: TpmRoots::new(anchors)?,
            development: DevelopmentRoots::new(anchors)?,
            development_tpm: DevelopmentTpmRoots::new(anchors)?,
            operators: anchors.operators.clone(),
        })
    }
}

/// Judges evidence against fixed roots. Shared freely: verified chains and parsed collateral are remembered inside.
#[derive(Debug)]
pub struct Judge {
    roots: Roots,
    grace: u64,
    snp: snp::ChainCache,
    dcap: dcap::Cache,
    x509: x509::ChainCache,
    tpm: tpm::Cache,
    snp_lists: Lists<snp::Crl>,
    x509_lists: Lists<x509::Crl>,
}

/// Parsed revocation lists by the digest of their item.
#[derive(Debug)]
struct Lists<T>(Bounded<Arc<T>>);

impl<T: Clone> Lists<T> {
    fn new() -> Self {
        Self(Bounded::new(LISTS_MAX))
    }

    /// The lists under `prefix`, with the digests of their items.
    fn under(
        &self,
        shelf: &Shelf,
        prefix: &str,
        parse: impl Fn(&CollateralItem) -> Result<T, Rejection>,
    ) -> Result<Vec<(Digest, T)>, Rejection> {
        let mut lists = Vec::new();
        for (digest, item) in shelf.under(prefix) {
            let list = self.0.get_or(digest, || parse(item).map(Arc::new))?;
            lists.push((digest, T::clone(&list)));
        }
        Ok(lists)
    }
}

/// What a kind's verifier found, and the collateral it took into account.
type Found = (Claims, BTreeSet<Digest>);

impl Judge {
    /// A judge that grants stale collateral the longest grace, as readers of receipts do.
    pub fn new(roots: Roots) -> Self {
        Self::with_grace(roots, GRACE_SECONDS_MAX)
    }

    /// A judge that believes collateral past its next update for `grace` seconds, at most [`GRACE_SECONDS_MAX`].
    pub fn with_grace(roots: Roots, grace: u64) -> Self {
        Self {
            roots,
            grace: grace.min(GRACE_SECONDS_MAX),
            snp: snp::ChainCache::default(),
            dcap: dcap::Cache::default(),
            x509: x509::ChainCache::default(),
            tpm: tpm::Cache::default(),
            snp_lists: Lists::new(),
            x509_lists: Lists::new(),
        }
    }

    /// The roots it judges against.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The table of kinds.
    fn verify(&self, evidence: &Evidence, shelf: &Shelf, at: UnixTime) -> Result<Found, Rejection> {
        match evidence.kind {
            TeeKind::SevSnp => self.snp(evidence, &self.roots.amd, "amd/", shelf, at),
            TeeKind::DevSnp => self.snp(evidence, &self.roots.development, "dev/", shelf, at),
            TeeKind::AzSnpVtpm => self.azure_snp(evidence, shelf, at),
            TeeKind::Tdx | TeeKind::Sgx => {
                none(evidence)?;
                self.dcap(evidence.kind, &evidence.report, shelf, at)
            }
            TeeKind::AzTdxVtpm => self.azure_tdx(evidence, shelf, at),
            TeeKind::Nitro => {
                none(evidence)?;
                Ok((nitro::verify(&evidence.report, at, &self.x509)?, BTreeSet::new()))
            }
            TeeKind::Tpm => self.tpm(evidence, &self.roots.tpm, shelf, at),
            TeeKind::DevTpm => self.tpm(evidence, &self.roots.development_tpm, shelf, at),
        }
    }

    fn snp<R: RootSet>(
        &self,
        evidence: &Evidence,
        roots: &R,
        prefix: &str,
        shelf: &Shelf,
        at: UnixTime,
    ) -> Result<Found, Rejection> {
        let mut fetched = None;
        let (leaf, intermediate) = match evidence.endorsements.as_slice() {
            [] if R::KIND == TeeKind::SevSnp => {
                let (digest, item) =
                    demanded(shelf, snp::Vcek::of_report(&evidence.report)?.name(), "certificate of the chip")?;
                fetched = Some(digest);
                (item.bytes.as_slice(), None)
            }
            [leaf] => (leaf.as_slice(), None),
            [leaf, intermediate] => (leaf.as_slice(), Some(intermediate.as_slice())),
            other => return Err(endorsements("leaf, or leaf and intermediate", other.len())),
        };
        let lists = self.snp_lists.under(shelf, prefix, |item| snp::Crl::parse(&item.bytes))?;
        let crls: Vec<_> = lists.into_iter().map(|(_, list)| list).collect();
        let presented = snp::Presented { report: &evidence.report, leaf, intermediate, crls: &crls, grace: self.grace };
        let claims = snp::verify(&presented, roots, &self.snp, at)?;
        let used = amd_lists(&claims, prefix, shelf).chain(fetched).collect();
        Ok((claims, used))
    }

    fn azure_snp(&self, evidence: &Evidence, shelf: &Shelf, at: UnixTime) -> Result<Found, Rejection> {
        let lists = self.snp_lists.under(shelf, "amd/", |item| snp::Crl::parse(&item.bytes))?;
        let crls: Vec<_> = lists.into_iter().map(|(_, list)| list).collect();
        let (report, endorsements) = (&evidence.report, &evidence.endorsements);
        let claims = azure::verify_snp(report, endorsements, &self.roots.amd, &self.snp, &crls, self.grace, at)?;
        let used = amd_lists(&claims, "amd/", shelf).collect();
        Ok((claims, used))
    }

    fn azure_tdx(&self, evidence: &Evidence, shelf: &Shelf, at: UnixTime) -> Result<Found, Rejection> {
        let mut used = BTreeSet::new();
        let claims = azure::verify_tdx(&evidence.report, &evidence.endorsements, |quote| {
            let (claims, items) = self.dcap(TeeKind::AzTdxVtpm, quote, shelf, at)?;
            used = items;
            Ok(claims)
        })?;
        Ok((claims, used))
    }

    fn dcap(&self, kind: TeeKind, quote: &[u8], shelf: &Shelf, at: UnixTime) -> Result<Found, Rejection> {
        let name = self.dcap.collateral_name(quote)?;
        let (digest, item) = demanded(shelf, name, "collateral of the platform")?;
        let collateral = self.dcap.collateral(digest, &item.bytes)?;
        let presented = dcap::Presented { kind, quote, collateral: &collateral, grace_seconds: self.grace };
        let claims = dcap::verify(&presented, &self.roots.intel, &self.dcap, at)?;
        Ok((claims, BTreeSet::from([digest])))
    }

    fn tpm<R: TpmRootSet>(
        &self,
        evidence: &Evidence,
        roots: &R,
        shelf: &Shelf,
        at: UnixTime,
    ) -> Result<Found, Rejection> {
        let parse = |item: &CollateralItem| x509::Crl::parse("tpm.crl", &item.bytes);
        let lists = self.x509_lists.under(shelf, "tpm/", parse)?;
        let crls: Vec<_> = lists.into_iter().map(|(_, list)| list).collect();
        let presented = tpm::Presented {
            report: &evidence.report,
            endorsements: &evidence.endorsements,
            operators: &self.roots.operators,
            crls: &crls,
            grace: self.grace,
        };
        let claims = tpm::verify(&presented, roots, &self.tpm, at)?;
        let used = shelf.under(&format!("tpm/{}/", claims.anchor.name())).map(|(digest, _)| digest).collect();
        Ok((claims, used))
    }

    /// Check 7.
    fn devices(
        &self,
        evidence: &Evidence,
        claims: &mut Claims,
        bound: &[u8; 64],
        at: UnixTime,
    ) -> Result<(), Rejection> {
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&bound[..32]);
        for device in &evidence.devices {
            let found = match device.kind {
                DeviceKind::NvidiaGpu => nvidia::verify(&device.report, &device.endorsements, &nonce, at, &self.x509)?,
            };
            if claims.gpus.iter().any(|gpu| gpu.value.chip == found.gpu.chip) {
                return Err(Rejection::new("evidence.device", "chips of the machine's devices")
                    .expected("each once")
                    .got(format!("{} twice", found.gpu.chip))
                    .fix("send one report of each device"));
            }
            // The GPU signed what it is. That it is this machine's, only the driver in the guest says, which was measured.
            claims.gpus.push(Attested::measured(found.gpu));
        }
        Ok(())
    }
}

/// Check 4.
fn demanded<'s>(shelf: &'s Shelf, name: String, what: &str) -> Result<(Digest, &'s CollateralItem), Rejection> {
    shelf.get(&name).ok_or_else(|| {
        Rejection::new("collateral.missing", what)
            .expected(name)
            .got("none at hand")
            .fix("it is fetched when it is first missed: try again in a minute, or see `legation collateral status`")
    })
}

/// Lists of the product's (or development root's) own authority, among those that were at hand.
fn amd_lists(claims: &Claims, prefix: &str, shelf: &Shelf) -> impl Iterator<Item = Digest> {
    let whose = match prefix {
        "dev/" => claims.anchor.name(),
        _ => claims.product.value.as_str(),
    };
    let prefix = format!("{prefix}{whose}/");
    let lists: Vec<_> = shelf.under(&prefix).map(|(digest, _)| digest).collect();
    lists.into_iter()
}

fn endorsements(expected: &str, got: usize) -> Rejection {
    Rejection::new("evidence.endorsements", "number of endorsements")
        .expected(expected)
        .got(got)
        .fix("send the certificates of the report's key and nothing else; the root is never sent")
}

/// The report brings its own certificates.
fn none(evidence: &Evidence) -> Result<(), Rejection> {
    match evidence.endorsements.len() {
        0 => Ok(()),
        other => Err(endorsements(&format!("none beside evidence of kind {}", evidence.kind), other)),
    }
}

impl EvidenceJudge for Judge {
    fn grace_seconds(&self) -> u64 {
        self.grace
    }

    fn judge(&self, evidence: &Evidence, shelf: &Shelf, at: UnixTime) -> Result<Judged, Rejection> {
        check_size(evidence)?;
        let binding: KeyBinding = parse("evidence.binding", "key binding", &evidence.binding)?;
        let configuration: Configuration = parse("evidence.configuration", "configuration", &evidence.configuration)?;
        let (mut claims, used) = self.verify(evidence, shelf, at)?;
        let report_data = KeyBinding::report_data(&evidence.binding);
        let bound = encoding::hex(&report_data);
        if claims.report_data.len() < 64 || !bound.starts_with(&claims.report_data) {
            return Err(Rejection::new("evidence.report-data", "report data of the report")
                .expected(format!("{bound}, the hash of the key binding"))
                .got(&claims.report_data)
                .fix("ask the hardware for a report over this binding"));
        }
        self.devices(evidence, &mut claims, &report_data, at)?;
        let digest = Digest::of(&evidence.configuration);
        if binding.configuration != digest {
            return Err(Rejection::new("evidence.configuration", "configuration that the binding carries")
                .expected(digest)
                .got(binding.configuration)
                .fix("send the configuration that was measured"));
        }
        if let Some(region) = claims.region.as_ref().filter(|region| region.value != configuration.region) {
            return Err(Rejection::new("evidence.region", "region in the configuration")
                .expected(format!("{}, where its endorsements say it stands", region.value))
                .got(&configuration.region)
                .fix("set `region` in the agent's configuration to where the machine stands"));
        }
        if at < binding.not_before || binding.not_after < at {
            return Err(Rejection::new("evidence.dates", "dates of the key binding")
                .expected(format!("{} to {}", binding.not_before, binding.not_after))
                .got(at)
                .fix("boot again: keys live as long as one boot binds them"));
        }
        Ok(Judged { claims, binding, configuration, collateral: used.into_iter().collect() })
    }
}

fn check_size(evidence: &Evidence) -> Result<(), Rejection> {
    let (size, endorsements, devices) = (evidence.size(), evidence.endorsements.len(), evidence.devices.len());
    let most = evidence.devices.iter().map(|d| d.endorsements.len()).max().unwrap_or_default().max(endorsements);
    if size > EVIDENCE_MAX || most > ENDORSEMENTS_MAX || devices > DEVICES_MAX {
        return Err(Rejection::new("evidence.size", "size of the evidence")
            .expected(format!(
                "at most {EVIDENCE_MAX} bytes with {ENDORSEMENTS_MAX} endorsements and {DEVICES_MAX} devices"
            ))
            .got(format!("{size} bytes with {most} and {devices}"))
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
