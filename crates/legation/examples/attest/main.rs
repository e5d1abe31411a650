//! `cargo xtask bench attest`: what judging machines costs. Verifications per kind beside the bare libraries, appraisal by a
//! policy of 20 rules, a verifier behind HTTP as a process of its own, 100 agents from their start until all are placed, and
//! a revocation until the last of 50 agents has heeded it.
//!
//! Prints one JSON object. `-- kinds`, `-- appraisal`, `-- service`, `-- joining`, `-- revocation` measure one of them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use legation::exit::Failure;
use serde_json::json;

mod appraisal;
mod joining;
mod kinds;
mod service;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let smoke = args.iter().any(|a| a == "--smoke");
    let wanted = |part: &str| args.iter().all(|a| a.starts_with("--")) || args.iter().any(|a| a == part);
    let mut report = json!({ "bench": "attest" });
    if wanted("kinds") {
        let seconds = if smoke { 0.01 } else { 0.5 };
        let rows = tokio::task::spawn_blocking(move || kinds::measure(seconds)).await;
        report["kinds_cpu_time_of_one_core"] =
            rows.map_err(|e| Failure::new(legation::exit::Exit::Failure, e))??.into();
    }
    if wanted("appraisal") {
        report["appraisal"] = appraisal::measure(if smoke { 100 } else { 20_000 })?;
    }
    if wanted("service") {
        report["service"] = service::measure(if smoke { 200 } else { 10_000 }).await?;
    }
    if wanted("joining") {
        let agents = if smoke { 3 } else { 100 };
        report["joining"] = joining::measure(agents, joining::Run::Here).await?;
        report["joining_as_processes"] = joining::measure(agents, joining::Run::Processes).await?;
    }
    if wanted("revocation") {
        report["revocation"] = joining::revocation(if smoke { 3 } else { 50 }).await?;
    }
    println!("{report}");
    Ok(())
}
