//! Whether bytes are what a name says, signed by whom the name says, and when. Pure but for nothing: time is an argument.

use legation_attest::{
    Roots,
    snp::{Crl, LeafKind, Product, Vcek},
    tpm::TpmRootSet,
    x509,
};
use legation_core::{Rejection, UnixTime, claims::COLLATERAL_MAX};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

use super::{intel, name::CollateralName};

/// How far ahead of this clock a date of issue may be, in seconds: clocks differ.
pub const FUTURE_SECONDS_MAX: u64 = 300;
/// Longest time between two updates that is believed, in seconds: ten years, the life of a chip's certificate and more.
const LIFE_SECONDS_MAX: u64 = 30 * 366 * 86_400;

/// One dated part of an item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// What it is, such as `TCB info`.
    pub what: &'static str,
    /// When it was issued.
    pub issued: UnixTime,
    /// When the vendor promises the next.
    pub next_update: UnixTime,
    /// Number of the vendor's evaluation, where there is one: it never goes down.
    pub evaluation: u64,
}

/// When an item was issued and when it is due: the dates of its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dates {
    /// At least one.
    pub parts: Vec<Part>,
}

impl Dates {
    /// When the youngest part was issued.
    pub fn issued(&self) -> UnixTime {
        self.parts.iter().map(|p| p.issued).max().unwrap_or_default()
    }

    /// When the first part is due.
    pub fn next_update(&self) -> UnixTime {
        self.parts.iter().map(|p| p.next_update).min().unwrap_or_default()
    }

    /// A part that is older than the same part of `held`: an item never goes back, in no part of it.
    pub fn older_than(&self, held: &Self) -> Option<&Part> {
        self.parts.iter().find(|part| {
            held.parts.iter().any(|h| h.what == part.what && (part.issued < h.issued || part.evaluation < h.evaluation))
        })
    }
}

/// Checks items against pinned roots.
#[derive(Clone, Debug)]
pub struct Checker {
    roots: Roots,
}

pub(super) fn refuse(check: &str, name: &CollateralName, claim: &str) -> Rejection {
    Rejection::new(check, format!("{claim} of `{name}`"))
}

const FIX: &str = "fetch the item again from its vendor";

impl Checker {
    /// Checks against AMD's and Intel's roots, which are compiled in, and the development and TPM roots in `roots`.
    pub fn new(roots: Roots) -> Self {
        Self { roots }
    }

    /// Checks 2 to 6 of the module's list.
    ///
    /// # Errors
    /// The first that refuses.
    pub fn check(&self, name: &CollateralName, bytes: &[u8], now: UnixTime) -> Result<Dates, Rejection> {
        if bytes.is_empty() || bytes.len() > COLLATERAL_MAX {
            return Err(refuse("collateral.size", name, "size")
                .expected(format!("1 to {COLLATERAL_MAX} bytes"))
                .got(bytes.len())
                .fix(FIX));
        }
        let dates = match name {
            CollateralName::Intel { tee, fmspc, authority } => intel::check(name, *tee, fmspc, *authority, bytes)?,
            CollateralName::AmdList { product, .. } => self.list(name, bytes, Some(*product))?,
            CollateralName::DevelopmentList { .. } => self.list(name, bytes, None)?,
            CollateralName::TpmList { root } => self.tpm_list(name, root, bytes)?,
            CollateralName::Vcek(of) => self.vcek(name, of, bytes, now)?,
        };
        if let Some(part) = dates.parts.iter().find(|p| now.plus(FUTURE_SECONDS_MAX) < p.issued) {
            return Err(refuse("collateral.future", name, part.what)
                .expected(format!("issued by {now}"))
                .got(part.issued)
                .fix("check this machine's clock"));
        }
        let odd = |p: &&Part| p.next_update <= p.issued || p.next_update.since(p.issued) > LIFE_SECONDS_MAX;
        if let Some(part) = dates.parts.iter().find(odd) {
            return Err(refuse("collateral.form", name, part.what)
                .expected("a next update after the date of issue")
                .got(format!("{} to {}", part.issued, part.next_update))
                .fix(FIX));
        }
        Ok(dates)
    }

    /// The chain is verified here too: a forged certificate must not stand where the true one would be fetched to.
    fn vcek(&self, name: &CollateralName, of: &Vcek, bytes: &[u8], now: UnixTime) -> Result<Dates, Rejection> {
        let dates = dates_of(name, bytes)?;
        let found = Vcek::of_certificate(bytes, &self.roots.amd, now)
            .map_err(|why| refuse("collateral.signature", name, "chain").expected("AMD's").got(why).fix(FIX))?;
        if found == *of {
            return Ok(dates);
        }
        Err(refuse("collateral.subject", name, "chip and security version")
            .expected(name)
            .got(found.name())
            .fix("store it under its own name"))
    }

    /// Lists of roots alone: of an authority below one there is no certificate here that could say whose a list is.
    fn tpm_list(&self, name: &CollateralName, root: &str, bytes: &[u8]) -> Result<Dates, Rejection> {
        let list = x509::Crl::parse("collateral.form", bytes)?;
        let signer = self.roots.tpm.issuer_of(&list).or_else(|| self.roots.development_tpm.issuer_of(&list));
        signed_by(
            name,
            signer,
            root,
            "name this root with its certificate under `tpm` in the anchor file; a list of an authority below it is not kept",
        )?;
        let (issued, next_update) = list.dates();
        Ok(Dates { parts: vec![Part { what: "revocation list", issued, next_update, evaluation: 0 }] })
    }

    fn list(&self, name: &CollateralName, bytes: &[u8], product: Option<Product>) -> Result<Dates, Rejection> {
        let crl = Crl::parse(bytes).map_err(|why| refuse("collateral.form", name, "form").got(why).fix(FIX))?;
        let (signer, wanted) = match (product, name) {
            (Some(product), _) => (crl.signed_under(&self.roots.amd), format!("amd-{product}")),
            (None, CollateralName::DevelopmentList { root }) => {
                (crl.signed_under(&self.roots.development), root.clone())
            }
            (None, _) => (None, String::new()),
        };
        signed_by(name, signer, &wanted, FIX)?;
        let (issued, next_update) = crl.dates();
        Ok(Dates { parts: vec![Part { what: "revocation list", issued, next_update, evaluation: 0 }] })
    }
}

/// Refuses a list that another root signed than its name says, or none.
fn signed_by(name: &CollateralName, signer: Option<&str>, wanted: &str, fix: &str) -> Result<(), Rejection> {
    match signer {
        None => Err(refuse("collateral.signature", name, "signature")
            .expected(format!("by root `{wanted}`"))
            .got("by no root that is trusted here")
            .fix(fix)),
        Some(signer) if signer != wanted => Err(refuse("collateral.subject", name, "issuer")
            .expected(format!("root `{wanted}`"))
            .got(format!("root `{signer}`"))
            .fix("store the list under the name of its own root")),
        Some(_) => Ok(()),
    }
}

fn dates_of(name: &CollateralName, der: &[u8]) -> Result<Dates, Rejection> {
    let form = |got: String| refuse("collateral.form", name, "form").expected("a VCEK, DER").got(got).fix(FIX);
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| form(e.to_string()))?;
    let validity = cert.validity();
    let (issued, next_update) = (time(validity.not_before), time(validity.not_after));
    Ok(Dates { parts: vec![Part { what: "certificate", issued, next_update, evaluation: 0 }] })
}

/// Dates before 1970 are the first second of it: nothing of ours is that old.
pub(super) fn time(at: ASN1Time) -> UnixTime {
    UnixTime(u64::try_from(at.timestamp()).unwrap_or_default())
}

/// How a leaf is called in AMD's URLs.
pub(super) const fn leaf_path(leaf: LeafKind) -> &'static str {
    match leaf {
        LeafKind::Chip => "vcek",
        LeafKind::Provider => "vlek",
    }
}
