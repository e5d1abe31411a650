//! A report in a file, with the certificate of its key: what `legation evidence verify` shows.
//!
//! There is no binding, configuration or nonce here: it says whether a report is genuine and acceptable on its own, not
//! whether anybody may be admitted by it. Every check is listed, so that a script or a reader sees what was looked at.

use legation_core::{
    Rejection, UnixTime,
    claims::{Claims, TeeKind},
};
use serde::Serialize;

use crate::{
    pem,
    snp::{self, Certificate, ChainCache, Check, Crl, Presented, RootSet, Roots, VMPL_MAX},
};

/// What is acceptable in a genuine report, beyond [`crate::snp`]'s checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilePolicy {
    /// Whether the host may debug the guest.
    pub debug: bool,
    /// Highest privilege level number the report may be asked from.
    pub vmpl_max: u32,
}

impl Default for FilePolicy {
    /// What production takes: no debugging, any level of the guest.
    fn default() -> Self {
        Self { debug: false, vmpl_max: VMPL_MAX }
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
    pub kind: TeeKind,
    /// As of when.
    pub at: UnixTime,
    /// What the report shows, once it is known to be genuine, also when the policy refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// Every check, in order.
    pub checks: Vec<CheckLine>,
}

impl Verdict {
    /// The check that refused, if one did.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.checks.iter().find_map(|line| line.rejection.as_ref())
    }
}

/// Verifies a report of `kind` with the certificates in `certificates` as of `at`.
///
/// `certificates` is a leaf in DER, or PEM with the leaf first and, optionally, its intermediate and the root (as AMD's
/// service gives chains); a root there is ignored, since roots are pinned. Any failure is in the verdict.
pub fn verify_snp_file(
    kind: TeeKind,
    report: &[u8],
    certificates: &[u8],
    crls: &[Crl],
    roots: &Roots,
    policy: &FilePolicy,
    at: UnixTime,
) -> Verdict {
    match kind {
        TeeKind::SevSnp => verify_under(report, certificates, crls, &roots.amd, policy, at),
        TeeKind::DevSnp => verify_under(report, certificates, crls, &roots.development, policy, at),
    }
}

/// Checks that follow [`Check::ALL`].
const POLICY: [(&str, &str); 2] = [
    ("policy.debug", "the host may not debug the guest"),
    ("policy.vmpl", "the report was asked for from a level the policy takes"),
];

fn verify_under<R: RootSet>(
    report: &[u8],
    certificates: &[u8],
    crls: &[Crl],
    roots: &R,
    policy: &FilePolicy,
    at: UnixTime,
) -> Verdict {
    let mut passed: Vec<&str> = Vec::new();
    let mut claims = None;
    let result = split(certificates, roots).and_then(|ders| {
        let presented = Presented {
            report,
            leaf: ders.first().map(Vec::as_slice).unwrap_or_default(),
            intermediate: ders.get(1).map(Vec::as_slice),
            crls,
        };
        let found = snp::verify_on(&presented, roots, &ChainCache::new(0), at, &mut |check| passed.push(check.id()))?;
        let found = claims.insert(found);
        if found.debug.value && !policy.debug {
            return Err(Rejection::new(POLICY[0].0, "debugging of the guest")
                .expected("not permitted")
                .got("permitted: the host may read and write its memory")
                .fix("launch the guest with a policy that forbids debugging"));
        }
        passed.push(POLICY[0].0);
        if found.vmpl.value > policy.vmpl_max {
            return Err(Rejection::new(POLICY[1].0, "privilege level of the report")
                .expected(format!("at most {}", policy.vmpl_max))
                .got(found.vmpl.value)
                .fix("ask for the report from a more privileged level"));
        }
        passed.push(POLICY[1].0);
        Ok(())
    });
    let rejection = result.err();
    let all = Check::ALL.iter().map(|c| (c.id(), c.about())).chain(POLICY);
    let checks = all.map(|(check, about)| {
        let refused = rejection.as_ref().filter(|r| r.check == check).cloned();
        let outcome = match &refused {
            Some(_) => CheckOutcome::Refused,
            None if passed.contains(&check) => CheckOutcome::Pass,
            None => CheckOutcome::NotReached,
        };
        CheckLine { check: check.to_owned(), about: about.to_owned(), outcome, rejection: refused }
    });
    Verdict {
        verdict: if rejection.is_none() { Outcome::Valid } else { Outcome::Invalid },
        kind: R::KIND,
        at,
        claims,
        checks: checks.collect(),
    }
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
