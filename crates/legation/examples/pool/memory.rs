//! Bytes of the manager for each enclave: a process that loads many into its pool, and how much larger it is then.

use std::process::Command as Process;

use legation::exit::Failure;
use legation_pool::{Command, Limits, Pool};
use serde_json::{Value, json};

use crate::{count, failed, people::People, round};

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// In a process of its own: the memory of those before is none of this.
pub(crate) fn measure(enclaves: usize) -> Result<Value, Failure> {
    eprintln!("pool: memory of {enclaves} enclaves");
    let own = std::env::current_exe().map_err(failed)?;
    let out = Process::new(own).args(["--child", "memory", "--enclaves", &enclaves.to_string()]).output();
    let out = out.map_err(failed)?;
    if !out.status.success() {
        return Err(failed(String::from_utf8_lossy(&out.stderr)));
    }
    serde_json::from_slice(&out.stdout).map_err(failed)
}

pub(crate) fn child(enclaves: usize) -> Result<Value, Failure> {
    let people = People::new()?;
    let mut pool = Pool::new(Limits { enclaves_max: enclaves, ..Limits::default() });
    let apply = |pool: &mut Pool, command| pool.apply(command, people.now, &people.manager).map_err(failed);
    apply(&mut pool, people.begin_term())?;
    // What the first one brings with it is no enclave's own.
    apply(&mut pool, people.attested(0)?.1)?;
    let (before, begun) = (resident(), std::time::Instant::now());
    let mut evidence = 0;
    for n in 1..enclaves {
        let (enclave, command) = people.attested(n)?;
        if let Command::Attested { passport, evidence: given, .. } = &command {
            evidence = given.report.len() + given.endorsements.iter().map(Vec::len).sum::<usize>();
            evidence += passport.envelope().payload().len();
        }
        apply(&mut pool, command)?;
        apply(&mut pool, Command::Arrived { enclave, running: Vec::new() })?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = resident().saturating_sub(before);
    Ok(json!({
        "what": "growth of resident memory, passports and evidence as they are",
        "enclaves": enclaves, "mib": bytes >> 20, "bytes_per_enclave": bytes / enclaves.max(1),
        "bytes_of_evidence_and_passport_of_one": evidence,
        "attested_and_arrived_per_second": round(count(enclaves) / seconds),
        "aims": { "bytes_per_enclave": 1024 },
    }))
}
