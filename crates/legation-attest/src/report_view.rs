//! Evidence in files, with what endorses it: what `legation evidence verify` shows.
//!
//! There is no binding, configuration or nonce here: it says whether a report is genuine and acceptable on its own, not
//! whether anybody may be admitted by it. Every check is listed, so that a script or a reader sees what was looked at.

use legation_core::{
    Rejection, UnixTime,
    claims::{Claims, Gpu, TcbStatus, TeeKind},
    encoding,
};
use serde::Serialize;

use crate::{
    Roots, azure,
    check::Trail,
    dcap, nitro, nvidia, pem,
    snp::{self, Certificate, ChainCache, Check, Presented, RootSet, VMPL_MAX},
    tpm, x509,
};

/// What is acceptable in a genuine report, beyond the checks of its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilePolicy {
    /// Whether the host may debug the guest.
    pub debug: bool,
    /// Highest privilege level number the report may be asked from.
    pub vmpl_max: u32,
    /// What the vendor may say of the security version.
    pub tcb: Vec<TcbStatus>,
}

impl Default for FilePolicy {
    /// What production takes: no debugging, any level of the guest, nothing that the vendor says is behind.
    fn default() -> Self {
        Self { debug: false, vmpl_max: VMPL_MAX, tcb: vec![TcbStatus::UpToDate, TcbStatus::Unknown] }
    }
}

/// Whether everything passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every check passed.
    Valid,
    /// A check refused.
    Invalid,
}

/// How one check went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// It passed.
    Pass,
    /// It refused.
    Refused,
    /// An earlier one refused.
    NotReached,
}

/// One check and how it went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckLine {
    /// Stable short form, such as `snp.signature`.
    pub check: String,
    /// What passes it.
    pub about: String,
    /// How it went.
    pub outcome: CheckOutcome,
    /// Why it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
}

/// The verdict on a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verdict {
    /// Whether everything passed.
    pub verdict: Outcome,
    /// Kind of evidence it was taken for.
    pub kind: &'static str,
    /// As of when.
    pub at: UnixTime,
    /// What the report shows, once it is known to be genuine, also when the policy refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// What the report of a device shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Every check, in order.
    pub checks: Vec<CheckLine>,
}

impl Verdict {
    /// The check that refused, if one did.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.checks.iter().find_map(|line| line.rejection.as_ref())
    }
}

/// What is in files, and what kind of evidence it is to be taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filed<'a> {
    /// A SEV-SNP report, of a vendor's or of a development chip. `certificates` is a leaf in DER, or PEM with the leaf
    /// first and, optionally, its intermediate and the root (as AMD's service gives chains); a root there is ignored,
    /// since roots are pinned.
    Snp {
        /// Whether it is held against development roots.
        development: bool,
        /// The report.
        report: &'a [u8],
        /// Certificates of its key.
        certificates: &'a [u8],
    },
    /// An Intel quote with the collateral of its platform, JSON.
    Dcap {
        /// `tdx` or `sgx`.
        kind: TeeKind,
        /// The quote.
        quote: &'a [u8],
        /// The collateral.
        collateral: &'a [u8],
    },
    /// A document of AWS Nitro's security module, also with other bytes before it.
    Nitro {
        /// The document.
        document: &'a [u8],
    },
    /// A TPM's report in JSON, with its endorsements in PEM, or in JSON lines (key attestation, appointment).
    Tpm {
        /// Whether it is held against development roots.
        development: bool,
        /// The report.
        report: &'a [u8],
        /// Its endorsements.
        endorsements: &'a [Vec<u8>],
    },
    /// A bare TPM quote under an attestation key that the caller trusts.
    TpmQuote {
        /// `TPMS_ATTEST`.
        quote: &'a [u8],
        /// `TPMT_SIGNATURE`.
        signature: &'a [u8],
        /// The key: SubjectPublicKeyInfo, PEM or DER.
        key: &'a [u8],
        /// The nonce it must be over.
        nonce: &'a [u8],
    },
    /// The report of an Azure VM on SEV-SNP: ours in JSON, or that of the Trustee project.
    AzureSnp {
        /// The report.
        report: &'a [u8],
    },
    /// The report of an Azure VM on TDX, with the collateral of its platform.
    AzureTdx {
        /// The report.
        report: &'a [u8],
        /// The collateral.
        collateral: &'a [u8],
    },
    /// An NVIDIA GPU's measurement transcript.
    NvidiaGpu {
        /// The transcript.
        report: &'a [u8],
        /// Certificates of its key, leaf first, root last, DER.
        certificates: &'a [Vec<u8>],
        /// The nonce it must be over; the one in it without.
        nonce: Option<&'a [u8; 32]>,
    },
}

/// What a kind's verifier makes of it.
enum Shown {
    Machine(Box<Claims>),
    Device(Gpu),
    Nothing,
}

/// Verifies what is filed as of `at`. Any failure is in the verdict.
pub fn verify_file(filed: &Filed<'_>, roots: &Roots, policy: &FilePolicy, at: UnixTime) -> Verdict {
    let (kind, checks) = table(filed);
    let mut passed: Vec<&'static str> = Vec::new();
    let shown = show(filed, roots, at, &mut |check| passed.push(check));
    let (claims, gpu, mut rejection) = match shown {
        Ok(Shown::Machine(claims)) => (Some(*claims), None, None),
        Ok(Shown::Device(gpu)) => (None, Some(gpu), None),
        Ok(Shown::Nothing) => (None, None, None),
        Err(why) => (None, None, Some(why)),
    };
    if let Some(claims) = &claims {
        rejection = apply(policy, claims, &mut passed).err();
    }
    let mut listed: Vec<(&str, &str)> = checks;
    if claims.is_some() || (rejection.is_some() && gpu.is_none()) {
        let of_machine = !matches!(filed, Filed::NvidiaGpu { .. } | Filed::TpmQuote { .. });
        listed.extend(POLICY.iter().filter(|_| of_machine));
    }
    // A check of another room, such as the form of a file, is shown where it refused.
    if let Some(other) = rejection.as_ref().filter(|why| listed.iter().all(|(check, _)| why.check != *check)) {
        listed.insert(0, (&other.check, "what the file must be before it can be checked"));
    }
    let lines = listed.iter().map(|(check, about)| {
        let refused = rejection.as_ref().filter(|why| why.check == *check).cloned();
        let outcome = match &refused {
            Some(_) => CheckOutcome::Refused,
            None if passed.contains(check) => CheckOutcome::Pass,
            None => CheckOutcome::NotReached,
        };
        CheckLine { check: (*check).to_owned(), about: (*about).to_owned(), outcome, rejection: refused }
    });
    let checks = lines.collect();
    Verdict {
        verdict: if rejection.is_none() { Outcome::Valid } else { Outcome::Invalid },
        kind,
        at,
        claims,
        gpu,
        checks,
    }
}

/// Checks that follow those of a machine's kind.
const POLICY: [(&str, &str); 3] = [
    ("policy.debug", "the host may not debug the guest"),
    ("policy.vmpl", "the report was asked for from a level the policy takes"),
    ("policy.tcb", "what the vendor says of the security version is acceptable"),
];

fn apply(policy: &FilePolicy, claims: &Claims, passed: &mut Vec<&'static str>) -> Result<(), Rejection> {
    if claims.debug.value && !policy.debug {
        return Err(Rejection::new(POLICY[0].0, "debugging of the guest")
            .expected("not permitted")
            .got("permitted: the host may read and write its memory")
            .fix("launch the guest with a policy that forbids debugging"));
    }
    passed.push(POLICY[0].0);
    if let Some(vmpl) = claims.vmpl.as_ref().filter(|vmpl| vmpl.value > policy.vmpl_max) {
        return Err(Rejection::new(POLICY[1].0, "privilege level of the report")
            .expected(format!("at most {}", policy.vmpl_max))
            .got(vmpl.value)
            .fix("ask for the report from a more privileged level"));
    }
    passed.push(POLICY[1].0);
    let tcb = &claims.tcb.value;
    if !policy.tcb.contains(&tcb.status) {
        let taken: Vec<_> = policy.tcb.iter().map(|status| status.name()).collect();
        let behind: Vec<_> =
            tcb.shortfall.iter().map(ToString::to_string).chain(tcb.advisories.iter().cloned()).collect();
        return Err(Rejection::new(POLICY[2].0, "status of the security version")
            .expected(taken.join(" or "))
            .got(format!("{} ({})", tcb.status, behind.join(", ")))
            .fix("update the machine's firmware; or accept the status, knowing the advisories"));
    }
    passed.push(POLICY[2].0);
    Ok(())
}

/// Name and checks of a kind.
fn table(filed: &Filed<'_>) -> (&'static str, Vec<(&'static str, &'static str)>) {
    macro_rules! all {
        ($($of:path),+) => {{
            let mut lines = Vec::new();
            $(lines.extend(<$of>::ALL.iter().map(|check| (check.id(), check.about())));)+
            lines
        }};
    }
    match filed {
        Filed::Snp { development: false, .. } => (TeeKind::SevSnp.name(), all![Check]),
        Filed::Snp { development: true, .. } => (TeeKind::DevSnp.name(), all![Check]),
        Filed::Dcap { kind, .. } => (kind.name(), all![dcap::Check]),
        Filed::Nitro { .. } => (TeeKind::Nitro.name(), all![nitro::Check]),
        Filed::Tpm { development: false, .. } => (TeeKind::Tpm.name(), all![tpm::Check]),
        Filed::Tpm { development: true, .. } => (TeeKind::DevTpm.name(), all![tpm::Check]),
        Filed::TpmQuote { .. } => ("tpm-quote", QUOTE.to_vec()),
        Filed::AzureSnp { .. } => (TeeKind::AzSnpVtpm.name(), all![azure::Check, Check]),
        Filed::AzureTdx { .. } => (TeeKind::AzTdxVtpm.name(), all![azure::Check, dcap::Check]),
        Filed::NvidiaGpu { .. } => ("nvidia-gpu", all![nvidia::Check]),
    }
}

/// Checks of a bare quote.
const QUOTE: [(&str, &str); 3] = [
    ("tpm-quote.form", "quote, signature and key are well-formed"),
    ("tpm-quote.signature", "the key signed the quote"),
    ("tpm-quote.nonce", "the quote is over the nonce"),
];

fn show(filed: &Filed<'_>, roots: &Roots, at: UnixTime, passed: Trail<'_>) -> Result<Shown, Rejection> {
    let machine = |claims: Claims| Shown::Machine(Box::new(claims));
    match *filed {
        Filed::Snp { development: false, report, certificates } => {
            snp_file(report, certificates, &roots.amd, at, passed).map(machine)
        }
        Filed::Snp { development: true, report, certificates } => {
            snp_file(report, certificates, &roots.development, at, passed).map(machine)
        }
        Filed::Dcap { kind, quote, collateral } => dcap_file(kind, quote, collateral, roots, at, passed).map(machine),
        Filed::Nitro { document } => {
            nitro::verify_on(nitro::find_document(document), at, &x509::ChainCache::new(0), passed).map(machine)
        }
        Filed::Tpm { development, report, endorsements } => {
            let presented = tpm::Presented { report, endorsements, operators: &roots.operators, crls: &[], grace: 0 };
            let cache = tpm::Cache::new(0);
            let claims = match development {
                false => tpm::verify_on(&presented, &roots.tpm, &cache, at, passed),
                true => tpm::verify_on(&presented, &roots.development_tpm, &cache, at, passed),
            };
            claims.map(machine)
        }
        Filed::TpmQuote { quote, signature, key, nonce } => quote_file(quote, signature, key, nonce, passed),
        Filed::AzureSnp { report } => {
            let (report, endorsements) = azure_file(report)?;
            let cache = ChainCache::new(0);
            let trust = azure::AmdTrust { roots: &roots.amd, cache: &cache, crls: &[], grace: 0 };
            azure::verify_snp_on(&report, &endorsements, &trust, at, passed).map(machine)
        }
        Filed::AzureTdx { report, collateral } => {
            let (report, endorsements) = azure_file(report)?;
            let mut inner = Vec::new();
            let claims = azure::verify_tdx_on(
                &report,
                &endorsements,
                |quote| dcap_file(TeeKind::AzTdxVtpm, quote, collateral, roots, at, &mut |check| inner.push(check)),
                passed,
            );
            inner.into_iter().for_each(passed);
            claims.map(machine)
        }
        Filed::NvidiaGpu { report, certificates, nonce } => {
            let own = nvidia::Transcript::parse(report).map(|t| t.nonce);
            let nonce = nonce.copied().map_or(own, Ok)?;
            let cache = x509::ChainCache::new(0);
            nvidia::verify_on(report, certificates, &nonce, at, &cache, passed).map(|found| Shown::Device(found.gpu))
        }
    }
}

fn snp_file<R: RootSet>(
    report: &[u8],
    certificates: &[u8],
    roots: &R,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let ders = split(certificates, roots)?;
    let presented = Presented {
        report,
        leaf: ders.first().map(Vec::as_slice).unwrap_or_default(),
        intermediate: ders.get(1).map(Vec::as_slice),
        crls: &[],
        grace: 0,
    };
    snp::verify_on(&presented, roots, &ChainCache::new(0), at, passed)
}

fn dcap_file(
    kind: TeeKind,
    quote: &[u8],
    collateral: &[u8],
    roots: &Roots,
    at: UnixTime,
    passed: Trail<'_>,
) -> Result<Claims, Rejection> {
    let collateral = dcap::Collateral::parse(collateral)?;
    let presented = dcap::Presented { kind, quote, collateral: &collateral, grace_seconds: 0 };
    dcap::verify_on(&presented, &roots.intel, &dcap::Cache::new(0), at, passed)
}

/// Our report with no endorsements beside it, or the Trustee project's, which brings them.
fn azure_file(report: &[u8]) -> Result<(Vec<u8>, Vec<Vec<u8>>), Rejection> {
    match azure::Report::parse(report) {
        Ok(_) => Ok((report.to_vec(), Vec::new())),
        Err(ours) => azure::from_trustee_json(report)
            .map(|(report, endorsements)| (report.encode(), endorsements))
            .map_err(|theirs| if ours.got.len() > theirs.got.len() { ours } else { theirs }),
    }
}

fn quote_file(quote: &[u8], signature: &[u8], key: &[u8], nonce: &[u8], passed: Trail<'_>) -> Result<Shown, Rejection> {
    let bad = |what: &str, why: &dyn std::fmt::Display| {
        Rejection::new(QUOTE[0].0, format!("form of the {what}"))
            .expected("as the TPM wrote it")
            .got(why)
            .fix("give the bytes of TPMS_ATTEST and TPMT_SIGNATURE, and the key as SubjectPublicKeyInfo")
    };
    let parsed = tpm::Quote::parse(quote).map_err(|e| bad("quote", &e))?;
    let signed = tpm::Signature::parse(signature).map_err(|e| bad("signature", &e))?;
    let blocks = pem::read(key).ok().and_then(|blocks| blocks.first().map(|b| b.der.to_vec()));
    let spki = blocks.unwrap_or_else(|| key.to_vec());
    let key = tpm::Key::from_spki(&spki).map_err(|e| bad("key", &e))?;
    passed(QUOTE[0].0);
    signed.verify(&key, quote).map_err(|e| {
        Rejection::new(QUOTE[1].0, "signature of the quote")
            .expected("by the key that was given")
            .got(e)
            .fix("give the quote and signature as the TPM wrote them, and the key that signed")
    })?;
    passed(QUOTE[1].0);
    if parsed.extra_data != nonce {
        return Err(Rejection::new(QUOTE[2].0, "qualifying data of the quote")
            .expected(encoding::hex(nonce))
            .got(encoding::hex(&parsed.extra_data))
            .fix("have the TPM quote over this nonce"));
    }
    passed(QUOTE[2].0);
    Ok(Shown::Nothing)
}

/// Adds to a lone leaf the certificate among `candidates` (DER or PEM) that signed it, if there is one. Where candidates come
/// from does not matter: roots are pinned, so a stranger's certificate only makes a chain that is refused.
pub fn with_intermediate(certificates: &[u8], candidates: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let blocks = |bytes: &[u8]| match bytes.first() {
        Some(0x30) => vec![bytes.to_vec()],
        _ => pem::read(bytes).map(|all| all.iter().map(|b| b.der.to_vec()).collect()).unwrap_or_default(),
    };
    let own = blocks(certificates);
    let [leaf] = own.as_slice() else { return certificates.to_vec() };
    let Ok(parsed) = Certificate::parse("the leaf", leaf) else { return certificates.to_vec() };
    let signed = |der: &Vec<u8>| {
        Certificate::parse("a candidate", der).is_ok_and(|c| c.der != parsed.der && parsed.signed_by(&c))
    };
    match candidates.into_iter().flat_map(|c| blocks(&c)).find(signed) {
        Some(issuer) => pem::write(&[("CERTIFICATE", leaf), ("CERTIFICATE", &issuer)]).to_vec(),
        None => certificates.to_vec(),
    }
}

/// The certificates in a file, in DER or PEM, in their order.
///
/// # Errors
/// `file.certificates` when there are none.
pub fn certificates(file: &[u8]) -> Result<Vec<Vec<u8>>, Rejection> {
    if file.first() == Some(&0x30) {
        return Ok(vec![file.to_vec()]);
    }
    let refuse = |got: String| {
        Rejection::new("file.certificates", "certificates in the file")
            .expected("certificates in DER or PEM")
            .got(got)
            .fix("give the chain as the vendor's tools write it, leaf first")
    };
    let blocks = pem::read(file).map_err(|e| refuse(e.to_string()))?;
    match blocks.iter().find(|b| b.label != "CERTIFICATE") {
        Some(other) => Err(refuse(format!("a block `{}`", other.label))),
        None if blocks.is_empty() => Err(refuse("nothing".to_owned())),
        None => Ok(blocks.iter().map(|b| b.der.to_vec()).collect()),
    }
}

/// Leaf and, where there is one, intermediate.
fn split<R: RootSet>(certificates: &[u8], roots: &R) -> Result<Vec<Vec<u8>>, Rejection> {
    let refuse = |got: String| {
        Check::Certificate
            .refuse("certificates in the file", "a leaf, or a leaf and its intermediate, in DER or PEM", got)
            .fix("give the VCEK or VLEK, followed by ASK or ASVK")
    };
    // DER of a certificate begins with a SEQUENCE; PEM is text.
    if certificates.first() == Some(&0x30) {
        return Ok(vec![certificates.to_vec()]);
    }
    let blocks = pem::read(certificates).map_err(|e| refuse(e.to_string()))?;
    if let Some(other) = blocks.iter().find(|b| b.label != "CERTIFICATE") {
        return Err(refuse(format!("a block `{}`", other.label)));
    }
    let is_root = |der: &[u8]| roots.roots().iter().any(|root| root.ark.der == der);
    let ders: Vec<_> = blocks.iter().map(|b| b.der.to_vec()).filter(|der| !is_root(der)).collect();
    if (1..=2).contains(&ders.len()) { Ok(ders) } else { Err(refuse(format!("{} certificates", ders.len()))) }
}
