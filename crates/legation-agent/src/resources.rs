//! How much machine there is: cores and memory, as the kernel and its control groups give them to this process.
//!
//! What is offered becomes part of the measured [`Configuration`], so it is found once, at the start. Asking for more than there
//! is, is an error with both numbers: an agent that promises what it lacks fails its tasks later, on somebody's account.

use std::{fs, path::Path, thread};

use legation_core::{
    Millicores, Rejection,
    claims::{Capacity, Configuration},
    unit::Bytes,
};

use crate::config::{AgentConfig, CustodyConfig};

/// What the agent keeps for itself of the memory, at least: its own code, the engine's, and what is on the wire.
pub const RESERVE_MIN: Bytes = Bytes::mib(128);
/// The share of the memory that the agent keeps for itself by default: one part in this many.
const RESERVE_SHARE: u64 = 8;
/// Fragments at once for each core by default: most of them wait for their inputs or are short.
const SLOTS_PER_CORE: u64 = 16;
/// Least and most slots by default.
const SLOTS_DEFAULT: (u64, u64) = (16, 256);
/// Largest file of the kernel read here, in bytes.
const FILE_MAX: usize = 64 * 1024;

/// What this process may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Compute.
    pub cpu: Millicores,
    /// Memory.
    pub memory: Bytes,
}

impl Machine {
    /// Asks the system.
    pub fn measure() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        Self::within(Millicores(cores * 1000), Path::new("/"))
    }

    /// As [`Self::measure`], with `cores` found otherwise and the kernel's files under `root`.
    ///
    /// Read are `proc/meminfo`, `proc/self/cgroup`, and `cpu.max` and `memory.max` of the control group (version 2) named there
    /// and of those it is in. What is absent does not bind.
    pub fn within(cores: Millicores, root: &Path) -> Self {
        let read = |path: &Path| {
            let text = fs::read_to_string(path).ok()?;
            (text.len() <= FILE_MAX).then_some(text)
        };
        let mut machine = Self {
            cpu: cores,
            memory: read(&root.join("proc/meminfo")).and_then(|t| memory_total(&t)).unwrap_or(Bytes(u64::MAX)),
        };
        let groups = root.join("sys/fs/cgroup");
        let own = read(&root.join("proc/self/cgroup")).and_then(|t| own_group(&t)).unwrap_or_default();
        for group in Path::new(&own).ancestors() {
            let folder = groups.join(group);
            if let Some(memory) = read(&folder.join("memory.max")).and_then(|t| t.trim().parse().ok()) {
                machine.memory = machine.memory.min(Bytes(memory));
            }
            if let Some(cpu) = read(&folder.join("cpu.max")).and_then(|t| cpu_quota(&t)) {
                machine.cpu = machine.cpu.min(cpu);
            }
        }
        machine
    }

    /// What is offered of it under `config`: as much as there is, less what the agent needs, unless the configuration says less.
    ///
    /// # Errors
    /// The configuration asks for more than there is.
    pub fn offer(&self, config: &AgentConfig) -> Result<Configuration, Rejection> {
        let caps = &config.capacity;
        let more = |key: &str, there: String, asked: String| {
            Rejection::new("agent.capacity", format!("capacity.{key} of the configuration"))
                .expected(format!("at most {there}, which is what this machine has to offer"))
                .got(asked)
                .fix(format!("lower capacity.{key}, leave it out, or use a larger machine"))
        };
        if let Some(cpu) = caps.cpu.filter(|cpu| *cpu > self.cpu) {
            return Err(more("cpu_millicores", self.cpu.to_string(), cpu.to_string()));
        }
        // What proves is beside what is offered.
        let proving = config.prover.as_ref().map_or(Bytes::ZERO, |prover| prover.memory);
        let reserve = Bytes((self.memory.0 / RESERVE_SHARE).max(RESERVE_MIN.0)).saturating_add(proving);
        let spare = self.memory.saturating_sub(RESERVE_MIN).saturating_sub(proving);
        if let Some(memory) = caps.memory.filter(|memory| *memory > spare) {
            return Err(more("memory_mib", spare.to_string(), memory.to_string()));
        }
        let cpu = caps.cpu.unwrap_or(self.cpu);
        let memory = caps.memory.unwrap_or_else(|| self.memory.saturating_sub(reserve));
        if cpu.0 == 0 || memory < Bytes::mib(1) {
            return Err(Rejection::new("agent.capacity", "what this machine has to offer")
                .expected("some compute and at least 1 MiB of memory")
                .got(format!("{cpu}, {memory}"))
                .fix(format!(
                    "use a larger machine: {RESERVE_MIN} of memory are kept for the agent, {proving} for its prover"
                )));
        }
        let slots = (cpu.0 * SLOTS_PER_CORE / 1000).clamp(SLOTS_DEFAULT.0, SLOTS_DEFAULT.1);
        Ok(Configuration {
            provider: config.provider.clone(),
            region: config.region.clone(),
            capacity: Capacity {
                cpu,
                memory,
                slots: caps.slots.unwrap_or_else(|| u32::try_from(slots).unwrap_or(u32::MAX)),
            },
            rate: config.rate,
            slot: config.slot,
            operators: config.operators.clone(),
            advertise: config.advertise.clone(),
            // Known when its files were read.
            prover: None,
            custody: config.custody.as_ref().map(CustodyConfig::claim),
        })
    }
}

/// `MemTotal` of `/proc/meminfo`.
fn memory_total(meminfo: &str) -> Option<Bytes> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

/// Path of the version 2 control group in `/proc/self/cgroup`, without its leading slash.
fn own_group(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Outside this namespace's root it says `/..`: then only the root itself can be read here.
    Some(if path.split('/').any(|part| part == "..") { String::new() } else { path.to_owned() })
}

/// `cpu.max`: quota and period in microseconds, or `max`.
fn cpu_quota(text: &str) -> Option<Millicores> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(1000)?.checked_div(period).map(|milli| Millicores(milli.max(1)))
}
