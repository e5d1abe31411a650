//! Bytes of the manager's pool for each enclave: a process that loads many into its pool, and how much larger it is then.
//!
//! Each enclave attests with evidence, two lists of its vendor that all share, and a certificate of its own chip as collateral; it
//! arrives, and attests anew three times, so that as many proofs of it are kept as ever are of one verifier and an idle enclave. An agent's open channel is none of
//! this (`sockets` measures it), nor are tasks.

use std::process::Command as Process;

use legation::exit::Failure;
use legation_core::{EnclaveId, PublicKey, UnixTime, claims::CollateralItem, dsse::sign, statement::Passport};
use legation_pool::{Command, Limits, Pool};
use serde_json::{Value, json};

use crate::{count, failed, people::People, round};

/// How often each attests anew.
const RENEWALS: u64 = 3;
/// Seconds between two of its proofs.
const APART: u64 = 300;

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

/// A proof of enclave number `n`, which has this key, or a new one; and what of it travels and is journalled.
fn attested(
    people: &People,
    n: usize,
    key: Option<PublicKey>,
    issued: UnixTime,
) -> Result<(EnclaveId, PublicKey, Command, usize), Failure> {
    let (_, command) = people.attested(n)?;
    let Command::Attested { passport, appointment, evidence, .. } = command else { return Err(failed("no passport")) };
    let own: Passport = (**passport).clone();
    let key = key.unwrap_or(own.enclave);
    let id = key.enclave_id();
    let item = |name: String, bytes| CollateralItem { name, bytes: vec![7; bytes] };
    let chip = [id.to_string(), id.to_string()].concat();
    let collateral = vec![
        item("amd/milan/vcek/crl".into(), 2_100),
        item("amd/milan/chain".into(), 3_200),
        item(format!("vcek/{chip}"), 1_360),
    ];
    let mut digests: Vec<_> = collateral.iter().map(CollateralItem::digest).collect();
    digests.sort_unstable();
    let mut claims = own.claims.clone();
    claims.chip.value = chip;
    let expires = issued.plus(3600);
    let passport = Passport { enclave: key, issued, expires, claims, collateral: digests, ..own };
    let passport = Box::new(sign(passport, &people.verifier));
    let bytes = evidence.report.len()
        + evidence.endorsements.iter().map(Vec::len).sum::<usize>()
        + collateral.iter().map(|item| item.bytes.len()).sum::<usize>()
        + passport.envelope().payload().len();
    Ok((id, key, Command::Attested { passport, appointment, evidence, collateral }, bytes))
}

pub(crate) fn child(enclaves: usize) -> Result<Value, Failure> {
    let people = People::new()?;
    let mut pool = Pool::new(Limits { enclaves_max: enclaves, ..Limits::default() });
    let at = |turn: u64| people.now.plus(turn * APART);
    let apply = |pool: &mut Pool, command, turn| pool.apply(command, at(turn), &people.manager).map_err(failed);
    apply(&mut pool, people.begin_term(), 0)?;
    // What the first one brings with it is no enclave's own.
    let (_, first, command, _) = attested(&people, 0, None, at(0))?;
    apply(&mut pool, command, 0)?;
    let mut keys = vec![first; enclaves];
    let (before, begun) = (resident(), std::time::Instant::now());
    let mut travels = 0;
    for (n, kept) in keys.iter_mut().enumerate().skip(1) {
        let (enclave, key, command, bytes) = attested(&people, n, None, at(0))?;
        (*kept, travels) = (key, bytes);
        apply(&mut pool, command, 0)?;
        apply(&mut pool, Command::Arrived { enclave, running: Vec::new() }, 0)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let per_enclave = |bytes: usize| bytes / enclaves.max(1);
    let grown = || per_enclave(resident().saturating_sub(before));
    let fresh = grown();
    for turn in 1..=RENEWALS {
        for (n, key) in keys.iter().enumerate() {
            let (_, _, command, _) = attested(&people, n, Some(*key), at(turn))?;
            apply(&mut pool, command, turn)?;
        }
    }
    let parts: serde_json::Map<String, Value> =
        pool.footprint().into_iter().map(|part| (part.name.to_owned(), per_enclave(part.bytes).into())).collect();
    Ok(json!({
        "what": "growth of resident memory for each enclave: the pool's state, without channels and tasks",
        "enclaves": enclaves,
        "bytes_per_enclave": grown(),
        "bytes_per_enclave_before_renewals": fresh,
        "renewals_of_each": RENEWALS,
        "bytes_per_enclave_by_part_estimated": parts,
        "bytes_of_passport_evidence_and_collateral_of_one": travels,
        "attested_and_arrived_per_second": round(count(enclaves) / seconds),
        "aims": { "bytes_per_enclave": 1024 },
    }))
}
