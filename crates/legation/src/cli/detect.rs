//! `legation agent detect`: what this machine could attest with, and, when asked, one piece of evidence of it.

use std::path::PathBuf;

use clap::Args;
use legation::run::now;
use legation_agent::{AgentConfig, attester, resources::Machine};
use legation_core::{
    Digest, Signer,
    claims::{KeyBinding, Role},
};
use legation_keys::{Entropy, IdentityKey, SealingKey};
use legation_net::OsEntropy;

use super::{Context, Exit, Failure, table::table, tell};

/// How long the keys that `--attest` binds would hold, in seconds. They are thrown away at once.
const BINDING_SECONDS: u64 = 600;

#[derive(Args)]
pub(super) struct Detect {
    /// Configuration file of an agent.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Makes one piece of evidence with what is taken, over keys that are thrown away, and writes it to this file as JSON. The
    /// evidence of a TPM lacks a verifier's word on its attestation key, which an agent gets when it joins.
    #[arg(long, value_name = "FILE")]
    attest: Option<PathBuf>,
    /// What the evidence is to be over, 64 hexadecimal digits; drawn when absent.
    #[arg(long, requires = "attest")]
    nonce: Option<Digest>,
}

pub(super) fn detect(context: &Context, args: &Detect) -> Result<Exit, Failure> {
    let config = AgentConfig::read(&args.config).map_err(|e| Failure::new(Exit::Usage, e))?;
    let found = attester::Detection::of(&config);
    let mark = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    context.print(&found, || {
        let row = |f: &attester::detection::Finding| {
            let taken = mark(found.chosen == Some(f.kind));
            [f.kind.to_string(), f.place.clone(), mark(f.found), mark(f.usable), taken, f.why.clone()]
        };
        table(["KIND", "PLACE", "FOUND", "USABLE", "TAKEN", "WHY"], found.findings.iter().map(row))
    })?;
    let Some(file) = &args.attest else {
        return Ok(if found.chosen.is_some() { Exit::Success } else { Exit::Refused });
    };
    let attester = attester::choose(&config).map_err(|e| Failure::new(Exit::Refused, e))?;
    let configuration = Machine::measure().offer(&config).map_err(|why| Failure::refused(Exit::Usage, &why))?.encode();
    let mut drawn = [0; 32];
    OsEntropy.fill(&mut drawn);
    let now = now();
    let binding = KeyBinding {
        role: Role::Agent,
        identity: IdentityKey::generate(&mut OsEntropy).public_key(),
        sealing: SealingKey::generate(&mut OsEntropy).public().clone(),
        image: attester.image(),
        configuration: Digest::of(&configuration),
        not_before: now,
        not_after: now.plus(BINDING_SECONDS),
        nonce: args.nonce.unwrap_or(Digest::from_bytes(drawn)),
    };
    let evidence = attester.attest(&binding.encode(), &configuration).map_err(|e| Failure::new(Exit::Failure, e))?;
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Failure, format!("{}: {e}", file.display()));
    let text = serde_json::to_string(&evidence).map_err(|e| wrong(&e))?;
    std::fs::write(file, text).map_err(|e| wrong(&e))?;
    tell(&format!("evidence of {} with {} bytes in {}", evidence.kind, evidence.size(), file.display()));
    Ok(Exit::Success)
}
