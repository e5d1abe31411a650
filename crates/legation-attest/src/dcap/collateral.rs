//! What Intel publishes about a platform: TCB levels, the quoting enclave's identity, revocation lists, and chains.
//!
//! One JSON object, the form of the `dcap-qvl` crate and of the caches that serve it: lists and signatures in hex, the two
//! signed documents as text in the very bytes that are signed, chains in PEM. A PCK chain that came with it is ignored:
//! a quote brings its own.

use std::collections::BTreeSet;

use dcap_qvl::{QeIdentity, QuoteCollateralV3, TcbInfo};
use legation_core::{
    Digest, Rejection, UnixTime,
    claims::{COLLATERAL_MAX, TeeKind},
    encoding,
};
use serde::Deserialize;
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use super::{
    certificate::{self, Certificate},
    check::Check,
    freshness::{self, Dated, Freshness},
    pck::{self, Authority},
};
use crate::x509::{serial, time};

/// Most TCB levels, TDX modules, or levels of either or of a quoting enclave.
pub const LEVELS_MAX: usize = 256;
/// Most certificates in one revocation list.
pub const REVOKED_MAX: usize = 16 * 1024;
/// Versions the two documents have: levels by component arrays, identities of quoting enclaves.
const TCB_INFO_VERSION: u8 = 3;
const QE_IDENTITY_VERSIONS: [u8; 2] = [2, 3];

/// Parsed collateral. Its signatures are checked when it is used.
#[derive(Clone, Debug)]
pub struct Collateral {
    digest: Digest,
    kind: TeeKind,
    pub(crate) authority: Authority,
    fmspc: String,
    pub(crate) tcb_info: TcbInfo,
    pub(crate) qe_identity: QeIdentity,
    pub(crate) tcb_chain: Vec<Certificate>,
    pub(crate) qe_chain: Vec<Certificate>,
    /// Of the PCK authority, where it came with it; not needed.
    pub(crate) crl_chain: Vec<Certificate>,
    pub(crate) root_crl: Crl,
    pub(crate) pck_crl: Crl,
    freshness: Freshness,
    /// For the library, chains written anew.
    pub(crate) library: QuoteCollateralV3,
}

/// The JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    #[serde(default, rename = "pck_certificate_chain")]
    _pck_certificate_chain: Option<String>,
}

/// What is read of a revocation list; its signature is for the library.
#[derive(Clone, Debug)]
pub(crate) struct Crl {
    issuer: Vec<u8>,
    issuer_text: String,
    this_update: UnixTime,
    next_update: UnixTime,
    revoked: BTreeSet<Vec<u8>>,
}

impl Crl {
    fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, crl) = CertificateRevocationList::from_der(der).map_err(|e| format!("no list ({e})"))?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the list", rest.len()));
        }
        let tbs = &crl.tbs_cert_list;
        if tbs.revoked_certificates.len() > REVOKED_MAX {
            return Err(format!("{} entries, more than {REVOKED_MAX}", tbs.revoked_certificates.len()));
        }
        Ok(Self {
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_text: certificate::common_name(&tbs.issuer),
            this_update: time(tbs.this_update)?,
            next_update: time(tbs.next_update.ok_or("no next update")?)?,
            revoked: tbs.revoked_certificates.iter().map(|r| serial(r.raw_serial())).collect(),
        })
    }

    fn dated(&self, what: &str) -> Dated {
        Dated {
            what: what.to_owned(),
            from: self.this_update,
            until: self.next_update,
            // The library takes a list to be stale from its next update on, and other documents from the second after.
            last_good: self.next_update.minus(1),
        }
    }

    /// Refuses a certificate that the list names. Whether the list is the issuer's own word is for the library.
    pub(crate) fn check(&self, certificate: &Certificate) -> Result<(), Rejection> {
        if self.issuer == certificate.issuer && self.revoked.contains(&certificate.serial) {
            return Err(Check::Revocation
                .refuse(
                    format!("revocation list of {}", self.issuer_text),
                    format!("no entry for {}", certificate.subject_text),
                    format!("serial number {}", encoding::hex(&certificate.serial)),
                )
                .fix("Intel revoked this certificate: the platform needs to be recovered and certified anew"));
        }
        Ok(())
    }

    /// Name of the authority it is of.
    pub(crate) fn issuer_is(&self, subject: &[u8]) -> bool {
        self.issuer == subject
    }

    pub(crate) fn issuer_text(&self) -> &str {
        &self.issuer_text
    }
}

impl Collateral {
    /// Parses the JSON form. Bounded by [`COLLATERAL_MAX`]. Says nothing about signatures.
    ///
    /// # Errors
    /// `dcap.collateral-form`.
    pub fn parse(json: &[u8]) -> Result<Self, Rejection> {
        Self::read(json).map_err(|(what, why)| {
            Check::CollateralForm
                .refuse(format!("form of the collateral's {what}"), "as Intel's provisioning service publishes it", why)
                .fix("fetch the collateral of the platform again")
        })
    }

    fn read(json: &[u8]) -> Result<Self, (&'static str, String)> {
        if json.len() > COLLATERAL_MAX {
            return Err(("size", format!("{} bytes, more than {COLLATERAL_MAX}", json.len())));
        }
        let form: Form = serde_json::from_slice(json).map_err(|e| ("JSON", e.to_string()))?;
        let mut tcb_info: TcbInfo = serde_json::from_str(&form.tcb_info).map_err(|e| ("TCB info", e.to_string()))?;
        let kind = check_tcb_info(&tcb_info).map_err(|why| ("TCB info", why))?;
        sort(&mut tcb_info);
        let qe_identity: QeIdentity =
            serde_json::from_str(&form.qe_identity).map_err(|e| ("QE identity", e.to_string()))?;
        check_qe_identity(&qe_identity).map_err(|why| ("QE identity", why))?;

        let chain = |what: &'static str, text: &str| {
            certificate::chain(Check::CollateralForm, what, text.as_bytes()).map_err(|r| (what, r.got))
        };
        let tcb_chain = chain("TCB info issuer chain", &form.tcb_info_issuer_chain)?;
        let qe_chain = chain("QE identity issuer chain", &form.qe_identity_issuer_chain)?;
        let crl_chain = match form.pck_crl_issuer_chain.trim() {
            "" => Vec::new(),
            text => chain("PCK CRL issuer chain", text)?,
        };
        let bytes = |what: &'static str, text: &str| {
            encoding::unhex(&text.to_ascii_lowercase()).map_err(|e| (what, e.to_string()))
        };
        let signature = |what: &'static str, text: &str| {
            let bytes = bytes(what, text)?;
            if bytes.len() == 64 { Ok(bytes) } else { Err((what, format!("{} bytes", bytes.len()))) }
        };
        let (root_crl_der, pck_crl_der) = (bytes("root CRL", &form.root_ca_crl)?, bytes("PCK CRL", &form.pck_crl)?);
        let root_crl = Crl::read(&root_crl_der).map_err(|why| ("root CRL", why))?;
        let pck_crl = Crl::read(&pck_crl_der).map_err(|why| ("PCK CRL", why))?;

        let document = |what: &'static str, from: &str, until: &str| {
            let (Some(from), Some(until)) = (freshness::time(from), freshness::time(until)) else {
                return Err((what, format!("dates {from} to {until}")));
            };
            Ok(Dated { what: what.to_owned(), from, until, last_good: until })
        };
        let documents = vec![
            document("TCB info", &tcb_info.issue_date, &tcb_info.next_update)?,
            document("QE identity", &qe_identity.issue_date, &qe_identity.next_update)?,
            root_crl.dated("root CRL"),
            pck_crl.dated("PCK CRL"),
        ];
        let mut certificates: Vec<Dated> = Vec::new();
        for cert in tcb_chain.iter().chain(&qe_chain).chain(&crl_chain) {
            let (from, until) = (cert.not_before, cert.not_after);
            let dated = Dated { what: format!("certificate {}", cert.subject_text), from, until, last_good: until };
            if !certificates.contains(&dated) {
                certificates.push(dated);
            }
        }
        let library = QuoteCollateralV3 {
            pck_crl_issuer_chain: String::new(),
            root_ca_crl: root_crl_der,
            pck_crl: pck_crl_der,
            tcb_info_issuer_chain: certificate::to_pem(&tcb_chain),
            tcb_info: form.tcb_info,
            tcb_info_signature: signature("TCB info signature", &form.tcb_info_signature)?,
            qe_identity_issuer_chain: certificate::to_pem(&qe_chain),
            qe_identity: form.qe_identity,
            qe_identity_signature: signature("QE identity signature", &form.qe_identity_signature)?,
            pck_certificate_chain: None,
        };
        Ok(Self {
            digest: Digest::of(json),
            kind,
            authority: Authority::named(&pck_crl.issuer_text),
            fmspc: tcb_info.fmspc.to_ascii_lowercase(),
            tcb_info,
            qe_identity,
            tcb_chain,
            qe_chain,
            crl_chain,
            root_crl,
            pck_crl,
            freshness: Freshness { documents, certificates },
            library,
        })
    }

    /// SHA-256 of the JSON.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// SGX or TDX.
    pub fn kind(&self) -> TeeKind {
        self.kind
    }

    /// The platforms it is about: FMSPC, lower-case hex.
    pub fn fmspc(&self) -> &str {
        &self.fmspc
    }

    /// The name of the item it should be found under, by its contents: `intel/tdx/50806f000000/platform`.
    pub fn name(&self) -> String {
        pck::collateral_name(self.kind, &self.fmspc, self.authority)
    }

    /// Dates of everything in it.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }
}

/// Which kind the levels are for, when their shape is known.
fn check_tcb_info(info: &TcbInfo) -> Result<TeeKind, String> {
    if info.version != TCB_INFO_VERSION || info.tcb_type != 0 {
        return Err(format!("version {} of type {}", info.version, info.tcb_type));
    }
    let kind = match info.id.as_str() {
        "SGX" => TeeKind::Sgx,
        "TDX" => TeeKind::Tdx,
        other => return Err(format!("id {other}")),
    };
    let modules = &info.tdx_module_identities;
    let levels = modules.iter().map(|m| m.tcb_levels.len()).chain([info.tcb_levels.len(), modules.len()]);
    if levels.max() > Some(LEVELS_MAX) || info.tcb_levels.is_empty() {
        return Err(format!("{} levels, {} modules", info.tcb_levels.len(), modules.len()));
    }
    let hex = |text: &str| encoding::unhex(&text.to_ascii_lowercase()).map(|bytes| bytes.len());
    if hex(&info.fmspc) != Ok(6) || hex(&info.pce_id) != Ok(2) {
        return Err(format!("FMSPC {}, PCE {}", info.fmspc, info.pce_id));
    }
    let dates = info.tcb_levels.iter().map(|l| &l.tcb_date);
    let module_dates = modules.iter().flat_map(|m| &m.tcb_levels).map(|l| &l.tcb_date);
    match dates.chain(module_dates).find(|date| freshness::time(date).is_none()) {
        Some(date) => Err(format!("date of a level {date}")),
        None => Ok(kind),
    }
}

fn check_qe_identity(identity: &QeIdentity) -> Result<(), String> {
    if !QE_IDENTITY_VERSIONS.contains(&identity.version) || identity.tcb_levels.len() > LEVELS_MAX {
        return Err(format!("version {} with {} levels", identity.version, identity.tcb_levels.len()));
    }
    Ok(())
}

/// Levels from the highest down, whatever their order in the document: as Intel's library and dcap-qvl do.
fn sort(info: &mut TcbInfo) {
    let tdx = info.id == "TDX";
    info.tcb_levels.sort_by(|a, b| {
        let (a, b) = (&a.tcb, &b.tcb);
        let order = b.sgx_components.cmp(&a.sgx_components).then(b.pce_svn.cmp(&a.pce_svn));
        if tdx { order.then_with(|| b.tdx_components.cmp(&a.tdx_components)) } else { order }
    });
}
