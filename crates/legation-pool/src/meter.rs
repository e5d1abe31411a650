//! Metering: what work used, in integers with units, beside what it is charged.
//!
//! 1. What the pool can know itself, it computes: bytes by the sizes of sealed objects, memory and accelerators by what was
//!    set aside, time by no more than the fragment asked for and no more than has passed on the manager's clock since the
//!    lease began, to the second that clock shows. An enclave's own word is taken for less, never for more.
//! 2. What it cannot know (fuel, time within those bounds) is the enclave's word, held to the demand, the grants and the limits.
//! 3. Sums stop at the largest number instead of beginning anew: never negative, never less.
//!
//! The price is that of cpu and memory *asked for*, by the time metered, and never more than the lease may cost.

use std::collections::BTreeMap;

use legation_core::{
    Bytes, Digest, Fuel, GpuMillis, MibMillis, MicroUsd, Millis, Seq, TenantId, UnixTime,
    statement::{Outcome, Report},
    task::{Fragment, Input},
};
use serde::{Deserialize, Serialize};

use crate::{lease::Lease, pool::Pool, task::Task};

/// Modules of tenants whose past runs are remembered; the ones that ran longest ago are forgotten first.
const PAST_MAX: usize = 16_384;

/// Most that a log has, in bytes: what agents keep of it, and what they add, several times over.
pub(crate) const LOG_MAX: Bytes = Bytes::mib(1);
/// Bytes that sealing adds to each begun segment of so many bytes (`legation-keys`, object format).
const SEALED: (u64, u64) = (16, 65_536);

/// Bytes of so many when they are sealed, at most.
pub(crate) fn sealed_max(plain: Bytes) -> Bytes {
    let segments = plain.0.div_ceil(SEALED.1).saturating_add(1);
    Bytes(plain.0.saturating_add(segments.saturating_mul(SEALED.0)))
}

/// What work used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metered {
    /// Work done by the engine.
    pub fuel: Fuel,
    /// Memory that was set aside, over time.
    pub memory_time: MibMillis,
    /// Bytes that went in: inputs, as they travelled.
    pub bytes_in: Bytes,
    /// Bytes that came out: outputs and logs, as they travelled.
    pub bytes_out: Bytes,
    /// Time in enclaves, in milliseconds.
    pub enclave_time: Millis,
    /// Accelerators that were set aside, over time.
    pub gpu_time: GpuMillis,
}

impl Metered {
    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            fuel: self.fuel.saturating_add(other.fuel),
            memory_time: self.memory_time.saturating_add(other.memory_time),
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            enclave_time: Millis(self.enclave_time.0.saturating_add(other.enclave_time.0)),
            gpu_time: self.gpu_time.saturating_add(other.gpu_time),
        }
    }
}

impl<'a> std::iter::Sum<&'a Metered> for Metered {
    fn sum<I: Iterator<Item = &'a Metered>>(iter: I) -> Self {
        iter.fold(Self::default(), |all, one| all.plus(one))
    }
}

/// What past runs of a module took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) runs: u64,
    micros: u64,
    last: Seq,
}

impl Past {
    /// The mean of them, in microseconds.
    pub(crate) fn mean_micros(&self) -> Option<u64> {
        self.micros.checked_div(self.runs)
    }
}

/// Past runs of modules, each tenant's its own: what one runs is no other's business.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct History {
    of: BTreeMap<(TenantId, Digest), Past>,
    order: BTreeMap<Seq, (TenantId, Digest)>,
}

impl History {
    pub(crate) fn of(&self, tenant: &TenantId, module: Digest) -> Option<&Past> {
        self.of.get(&(tenant.clone(), module))
    }

    pub(crate) fn note(&mut self, tenant: &TenantId, module: Digest, micros: u64, seq: Seq) {
        let key = (tenant.clone(), module);
        let past = self.of.entry(key.clone()).or_default();
        self.order.remove(&past.last);
        // The mean of more than fits is not worth keeping: it begins anew.
        *past = match past.micros.checked_add(micros) {
            Some(micros) => Past { runs: past.runs.saturating_add(1), micros, last: seq },
            None => Past { runs: 1, micros, last: seq },
        };
        self.order.insert(seq, key);
        if self.of.len() > PAST_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.of.remove(&oldest);
        }
    }
}

/// Microseconds that count of those that an enclave says: no more than asked for, no more than have passed.
pub(crate) fn counted_micros(report: &Report, lease: &Lease, now: UnixTime) -> u64 {
    let asked = lease.demand.time.0.saturating_mul(1000);
    // Both ends of a span on a clock of whole seconds may be off by one together.
    let passed = now.since(lease.from).saturating_add(1).saturating_mul(1_000_000);
    report.usage.micros.min(asked).min(passed)
}

/// What a report is metered as.
pub(crate) fn meter(report: &Report, lease: &Lease, task: &Task, spec: &Fragment, now: UnixTime) -> Metered {
    let millis = counted_micros(report, lease, now).div_ceil(1000);
    let over_time = |amount: u64| u64::try_from(u128::from(amount) * u128::from(millis)).unwrap_or(u64::MAX);
    let size = |input: &Input| match input {
        Input::Sealed(sealed) => sealed.size,
        Input::Output { fragment } => {
            let output = task.done(*fragment).and_then(|done| done.report.output.as_ref());
            output.map_or(Bytes::ZERO, |output| output.size)
        }
    };
    Metered {
        fuel: report.usage.fuel,
        memory_time: MibMillis(over_time(lease.demand.memory.0.div_ceil(1 << 20))),
        bytes_in: spec.inputs.iter().map(size).sum(),
        bytes_out: [&report.output, &report.log].into_iter().flatten().map(|left| left.size).sum(),
        enclave_time: Millis(millis),
        gpu_time: GpuMillis(over_time(lease.demand.gpus.0).div_ceil(1000)),
    }
}

impl Pool {
    /// What a report of a live lease is metered as and charged.
    pub(crate) fn bill(&self, report: &Report, now: UnixTime) -> (Metered, MicroUsd) {
        let bill = self.leases.get(&report.lease).and_then(|lease| {
            let task = self.tasks.get(&report.task)?;
            let spec = task.request.fragment(report.fragment)?;
            let rate = self.enclaves.get(&lease.enclave)?.rate();
            let micros = counted_micros(report, lease, now);
            let charged = rate.charge(lease.demand.cpu, lease.demand.memory, micros).min(lease.cost_max);
            Some((meter(report, lease, task, spec, now), charged))
        });
        bill.unwrap_or_default()
    }

    /// Notes how long a module ran that completed.
    pub(crate) fn note_run(&mut self, tenant: &TenantId, report: &Report, metered: &Metered, seq: Seq) {
        if report.outcome == Outcome::Completed {
            let micros = metered.enclave_time.0.saturating_mul(1000).min(report.usage.micros);
            self.history.note(tenant, report.module, micros, seq);
        }
    }
}
