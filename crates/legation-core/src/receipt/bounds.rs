//! Check 5 for what a report says in numbers: times, work, memory, cost.

use super::{Allocation, Grant, Outcome, Passport, Rejection, Report, Request, Signed};
use crate::{task::Fragment, unit::MicroUsd};

/// A statement may be dated this much before one it rests on was, in seconds: clocks of different machines.
pub(crate) const SKEW: u64 = 60;
/// An execution may last this much longer than it should, in microseconds: its end is noticed at the engine's next tick.
pub(crate) const GRACE_MICROS: u64 = 1_000_000;

/// What a report rests on.
pub(super) struct Rests<'a> {
    pub(super) allocation: &'a Signed<Allocation>,
    pub(super) passport: &'a Signed<Passport>,
    pub(super) grants: Vec<Signed<Grant>>,
    /// Of fragments whose outputs it read.
    pub(super) reports: Vec<&'a Signed<Report>>,
}

/// The execution lies within request, lease and passport, and after those it reads from.
pub(super) fn in_time(report: &Report, request: &Request, rests: &Rests<'_>) -> Result<(), Rejection> {
    let bad = |claim: &str| Rejection::new("receipt.report", claim.to_owned());
    let (allocation, passport) = (rests.allocation, rests.passport);
    let in_time = report.started <= report.finished
        && report.started >= allocation.from.minus(SKEW)
        && report.finished <= allocation.until.plus(SKEW)
        && report.finished <= request.expires.plus(SKEW)
        && passport.issued.minus(SKEW) <= report.finished
        && report.finished <= passport.expires;
    if !in_time {
        return Err(bad("time of the execution")
            .expected(format!(
                "within the lease ({} to {}), under a passport ({} to {}), before the request ends ({})",
                allocation.from, allocation.until, passport.issued, passport.expires, request.expires
            ))
            .got(format!("{} to {}", report.started, report.finished)));
    }
    match rests.reports.iter().find(|up| up.finished > report.started.plus(SKEW)) {
        Some(late) => Err(bad("begin of the execution")
            .expected(format!("after the end of fragment {}, {}", late.fragment, late.finished))
            .got(report.started)),
        None => Ok(()),
    }
}

/// What was used lies within what the fragment demands and every grant allows; gives what it cost.
pub(super) fn within(report: &Report, fragment: &Fragment, rests: &Rests<'_>) -> Result<MicroUsd, Rejection> {
    let bad = |claim: &str| Rejection::new("receipt.report", claim.to_owned());
    let (used, demand) = (&report.usage, &fragment.demand);
    if used.fuel > demand.fuel || used.memory_peak > demand.memory {
        return Err(bad("fuel and memory used")
            .expected(format!("{}, {}", demand.fuel, demand.memory))
            .got(format!("{}, {}", used.fuel, used.memory_peak)));
    }
    if let Some(limits) = &rests.allocation.limits {
        limits.check_work(demand)?;
        limits.check_report(report)?;
    }
    let completed = report.outcome == Outcome::Completed;
    let micros_max = demand.time.0.saturating_mul(1000);
    if completed && used.micros > micros_max.saturating_add(GRACE_MICROS) {
        return Err(bad("time used")
            .expected(format!("{} ms", demand.time.0))
            .got(format!("{} ms", used.micros / 1000)));
    }
    let rate = &rests.passport.configuration.rate;
    let charge = |micros| rate.charge(demand.cpu, demand.memory, micros);
    for grant in rests.grants.iter().filter(|g| report.started <= g.expires) {
        if used.fuel > grant.fuel {
            return Err(bad("fuel used").expected(format!("{}, as granted", grant.fuel)).got(used.fuel));
        }
        let cost = charge(used.micros.saturating_sub(GRACE_MICROS));
        if completed && cost > grant.budget {
            return Err(bad("cost of the execution").expected(format!("{}, as granted", grant.budget)).got(cost));
        }
    }
    // Nobody is charged for more time than was asked for.
    Ok(charge(used.micros.min(micros_max)))
}
