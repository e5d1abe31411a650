//! Which of Intel's TCB levels a platform reaches, and what it lacks for the newest.
//!
//! The rules are Intel's (`tcbStatus`, *Intel SGX and TDX Provisioning Certification Service API*, section "Enumeration of
//! TCB status"): levels from the highest down; the first whose every component is met is the platform's; status of TDX
//! module and quoting enclave are converged with it. The library finds the same status on its own, and [`super::verify`]
//! holds the two against each other; levels are matched here as well because the library says nothing of a shortfall,
//! and refuses without a name.

use dcap_qvl::{
    SvnComponent, SvnShortfall, TcbInfo, TcbLevel, TcbStatus as IntelStatus, TcbStatusWithAdvisory,
    intel::PckExtension, tcb_info::TdxModuleTcbLevel,
};
use legation_core::{
    Rejection,
    claims::{Shortfall, Tcb, TcbStatus},
    encoding,
};

use super::{
    check::Check,
    collateral::Collateral,
    quote::{Body, EnclaveReport},
};

/// TEE_TCB_SVN.
type Svns<'a> = &'a [u8; 16];

/// What the collateral says of a platform.
pub(crate) fn evaluate(
    collateral: &Collateral,
    body: &Body<'_>,
    pck: &PckExtension,
    qe: &EnclaveReport<'_>,
) -> Result<Tcb, Rejection> {
    let info = &collateral.tcb_info;
    let (launch, now) = match body {
        Body::Sgx(_) => (None, None),
        Body::Td(report) => (Some(report.tee_tcb_svn), report.later.as_ref().map(|later| later.tee_tcb_svn2)),
    };
    let reached = Reached::find(info, pck, launch)?;
    let qe_level = collateral.qe_identity.tcb_levels.iter().find(|level| qe.isv_svn >= level.tcb.isvsvn);
    let Some(qe_level) = qe_level else {
        let known: Vec<_> = collateral.qe_identity.tcb_levels.iter().map(|l| l.tcb.isvsvn.to_string()).collect();
        return Err(Check::Tcb
            .refuse(
                "security version of the quoting enclave",
                format!("at least one of {}", known.join(", ")),
                qe.isv_svn,
            )
            .fix("update the quoting enclave (Intel's DCAP packages) of the platform"));
    };
    let qe_status = TcbStatusWithAdvisory::new(qe_level.tcb_status, qe_level.advisory_ids.clone());
    let merged = reached.status.merge(&qe_status);
    // What runs now may be newer than what the domain was launched on; it must be a known level all the same.
    let now_status = now.map(|svns| Reached::find(info, pck, Some(svns))).transpose()?;
    let now_status = now_status.map(|now| now.status.merge(&qe_status).status);
    if merged.status == IntelStatus::Revoked || now_status == Some(IntelStatus::Revoked) {
        return Err(Check::Tcb
            .refuse("TCB level of the platform", "a level that Intel stands by", "Revoked")
            .fix("the platform's keys are compromised: recover its TCB with Intel, or use another machine"));
    }
    Ok(Tcb {
        version: version(pck, launch, now, qe.isv_svn),
        status: status(merged.status),
        shortfall: shortfall(collateral, pck, launch, qe.isv_svn)?,
        advisories: advisories(merged.advisory_ids),
        level: Some(reached.date.chars().take(10).collect()),
    })
}

/// The level of a platform, its TDX module counted in.
struct Reached {
    status: TcbStatusWithAdvisory,
    date: String,
}

impl Reached {
    fn find(info: &TcbInfo, pck: &PckExtension, svns: Option<Svns<'_>>) -> Result<Self, Rejection> {
        let mut found: Option<&TcbLevel> = None;
        for level in &info.tcb_levels {
            if lacks(level, pck, svns)?.is_empty() {
                found = Some(level);
                break;
            }
        }
        let Some(level) = found else {
            let short = info.tcb_levels.last().map(|lowest| lacks(lowest, pck, svns)).transpose()?.unwrap_or_default();
            let short: Vec<_> = short.into_iter().map(|s| name(s).to_string()).collect();
            return Err(Check::Tcb
                .refuse("TCB level of the platform", "one of Intel's levels", format!("none: {}", short.join(", ")))
                .fix("update firmware and microcode of the platform: it is below every level Intel knows"));
        };
        let status = TcbStatusWithAdvisory::new(level.tcb_status, level.advisory_ids.clone());
        let Some(module) = module(info, svns)? else { return Ok(Self { status, date: level.tcb_date.clone() }) };
        let module_status = TcbStatusWithAdvisory::new(module.tcb_status, module.advisory_ids.clone());
        // Dates of one form compare as text; a level is as old as its oldest part.
        let date = level.tcb_date.as_str().min(&module.tcb_date);
        Ok(Self { status: status.merge(&module_status), date: date.to_owned() })
    }
}

/// The level of the TDX module, which versions from 1 on have of their own.
fn module<'c>(info: &'c TcbInfo, svns: Option<Svns<'_>>) -> Result<Option<&'c TdxModuleTcbLevel>, Rejection> {
    let Some(svns) = svns else { return Ok(None) };
    let refuse = |got: String| {
        Check::Tcb
            .refuse("TCB level of the TDX module", "a module and version that Intel knows", got)
            .fix("update the TDX module of the platform, or fetch the collateral again")
    };
    let identity = info.tdx_module_identity(svns).map_err(|e| refuse(format!("{e:#}")))?;
    let Some(identity) = identity else { return Ok(None) };
    let level = identity.tcb_levels.iter().find(|level| level.shortfall(svns).is_none());
    level.map(Some).ok_or_else(|| refuse(format!("{} version {}", identity.id, svns[0])))
}

fn lacks(level: &TcbLevel, pck: &PckExtension, svns: Option<Svns<'_>>) -> Result<Vec<SvnShortfall>, Rejection> {
    level.shortfalls(&pck.cpu_svn, pck.pce_svn, svns).map_err(|e| {
        Check::Tcb.refuse("components of a TCB level", "16 of each", format!("{e:#}")).fix("fetch the collateral again")
    })
}

/// What is below the newest level: platform, TDX module and quoting enclave.
fn shortfall(
    collateral: &Collateral,
    pck: &PckExtension,
    svns: Option<Svns<'_>>,
    qe_svn: u16,
) -> Result<Vec<Shortfall>, Rejection> {
    let info = &collateral.tcb_info;
    let mut short = info.tcb_levels.first().map(|newest| lacks(newest, pck, svns)).transpose()?.unwrap_or_default();
    if let Some(svns) = svns
        && let Ok(Some(identity)) = info.tdx_module_identity(svns)
    {
        let newest = identity.tcb_levels.iter().max_by_key(|level| level.tcb.isvsvn);
        short.extend(newest.and_then(|level| level.shortfall(svns)));
    }
    let mut out: Vec<_> = short.into_iter().map(name).collect();
    let newest_qe = collateral.qe_identity.tcb_levels.iter().map(|level| level.tcb.isvsvn).max().unwrap_or_default();
    if qe_svn < newest_qe {
        out.push(Shortfall { component: "qe-svn".to_owned(), has: qe_svn.into(), needs: newest_qe.into() });
    }
    Ok(out)
}

/// Components counted from 1, as the PCK certificate's extension counts them.
fn name(short: SvnShortfall) -> Shortfall {
    let component = match short.component {
        SvnComponent::Sgx(i) => format!("sgx-svn-{}", u16::from(i) + 1),
        SvnComponent::Tdx(i) => format!("tdx-svn-{}", u16::from(i) + 1),
        SvnComponent::PceSvn => "pce-svn".to_owned(),
        SvnComponent::TdxModuleIsvSvn => "tdx-module-svn".to_owned(),
    };
    Shortfall { component, has: short.have.into(), needs: short.needs.into() }
}

/// Security versions in Intel's names: `cpuSvn=..&pceSvn=11&teeTcbSvn=..&qeSvn=6`.
fn version(pck: &PckExtension, launch: Option<Svns<'_>>, now: Option<Svns<'_>>, qe_svn: u16) -> String {
    let mut text = format!("cpuSvn={}&pceSvn={}", encoding::hex(&pck.cpu_svn), pck.pce_svn);
    for (name, svns) in [("teeTcbSvn", launch), ("teeTcbSvn2", now)] {
        if let Some(svns) = svns {
            text += &format!("&{name}={}", encoding::hex(svns));
        }
    }
    text + &format!("&qeSvn={qe_svn}")
}

/// Ascending, each once.
pub(crate) fn advisories(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids.dedup();
    ids
}

/// Every status the library knows. A domain that should be launched again, because only what runs now is up to date, was
/// launched on what is out of date.
const STATUSES: [(IntelStatus, TcbStatus); 9] = [
    (IntelStatus::UpToDate, TcbStatus::UpToDate),
    (IntelStatus::SWHardeningNeeded, TcbStatus::SwHardeningNeeded),
    (IntelStatus::ConfigurationNeeded, TcbStatus::ConfigurationNeeded),
    (IntelStatus::ConfigurationAndSWHardeningNeeded, TcbStatus::ConfigurationAndSwHardeningNeeded),
    (IntelStatus::OutOfDate, TcbStatus::OutOfDate),
    (IntelStatus::OutOfDateConfigurationNeeded, TcbStatus::OutOfDateConfigurationNeeded),
    (IntelStatus::TDRelaunchAdvised, TcbStatus::OutOfDate),
    (IntelStatus::TDRelaunchAdvisedConfigurationNeeded, TcbStatus::OutOfDateConfigurationNeeded),
    (IntelStatus::Revoked, TcbStatus::Revoked),
];

/// Intel's word in ours.
fn status(status: IntelStatus) -> TcbStatus {
    STATUSES.iter().find(|(theirs, _)| *theirs == status).map_or(TcbStatus::Unknown, |(_, ours)| *ours)
}

/// The word as the library writes it, in ours.
pub(crate) fn status_named(name: &str) -> Option<TcbStatus> {
    STATUSES.iter().find(|(theirs, _)| theirs.to_string() == name).map(|(_, ours)| *ours)
}
