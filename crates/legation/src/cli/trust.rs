//! `legation revoke`, `legation revocations` and `legation verifier`: what is trusted, and what no longer.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Subcommand, ValueEnum};
use legation::client::Client;
use legation_core::{RevocationEpoch, UnixTime};
use legation_manager::{RevocationsView, api::trust::RevocationMade};
use serde::Serialize;

use super::{Context, Exit, Failure, table::table, tell};

/// How long a command waits for agents to heed it.
const HEED_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at who has.
const LOOK: Duration = Duration::from_millis(25);
/// Shortest beginning of a name that is completed.
const BEGINNING_MIN: usize = 6;

/// What is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Kind {
    /// One boot of an enclave.
    Enclave,
    /// A chip: every enclave on it, now and later.
    Chip,
    /// An image, by its measurement.
    Measurement,
    /// An owner of machines.
    Provider,
    /// A verifier's key: every passport it signed.
    Verifier,
    /// A root, by its name: everything that rests on it.
    Anchor,
    /// A grant, by its whole digest: it, and every grant that passes it on.
    Grant,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Enclave => "enclave",
            Self::Chip => "chip",
            Self::Measurement => "measurement",
            Self::Provider => "provider",
            Self::Verifier => "verifier",
            Self::Anchor => "anchor",
            Self::Grant => "grant",
        }
    }
}

#[derive(clap::Args)]
pub(super) struct Revoke {
    /// What kind of thing.
    kind: Kind,
    /// Its name; of an enclave, chip, measurement or verifier that the pool knows, the beginning of it is enough.
    name: String,
    /// Even if the pool knows nothing of this name: it is revoked in advance. The name must then be whole.
    #[arg(long)]
    unknown: bool,
    /// Why, shown wherever the revocation is.
    #[arg(long)]
    why: String,
}

#[derive(Subcommand)]
pub(super) enum RevocationsCommand {
    /// Everything that is revoked, and how far the latest has come.
    List,
    /// Saves the signed list, for `legation receipt verify --revocations`.
    Save {
        /// Where to.
        file: PathBuf,
    },
}

/// What a revocation came to, for programs.
#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    made: RevocationMade,
    heeded_by: usize,
    of: usize,
    ms: Option<f64>,
}

/// Names of this kind that the pool knows.
async fn known(client: &Client, kind: Kind) -> Result<Vec<String>, Failure> {
    if kind == Kind::Verifier {
        return Ok(client.verifiers().await?.into_iter().map(|v| v.key.to_string()).collect());
    }
    let enclaves = client.enclaves().await?.into_iter();
    Ok(match kind {
        Kind::Enclave => enclaves.map(|e| e.enclave.to_string()).collect(),
        Kind::Chip => enclaves.flat_map(|e| e.gpus.into_iter().map(|gpu| gpu.chip).chain([e.chip])).collect(),
        Kind::Measurement => enclaves.map(|e| e.measurement).collect(),
        Kind::Provider => enclaves.map(|e| e.provider.to_string()).collect(),
        Kind::Anchor => enclaves.flat_map(|e| e.gpus.into_iter().map(|gpu| gpu.anchor).chain([e.anchor])).collect(),
        Kind::Verifier | Kind::Grant => Vec::new(),
    })
}

/// The whole name of what is meant. A name of which the pool knows nothing revokes nothing now: it is a mistake, unless
/// `unknown` says that it is meant for later.
async fn complete(client: &Client, kind: Kind, name: &str, unknown: bool) -> Result<String, Failure> {
    if kind == Kind::Verifier
        && let Some(named) = client.verifiers().await?.iter().find(|v| v.name == name)
    {
        return Ok(named.key.to_string());
    }
    // Those that enclaves passed on the pool never sees: a grant is given whole.
    if kind == Kind::Grant {
        return Ok(name.to_owned());
    }
    let mut known = known(client, kind).await?;
    known.sort();
    known.dedup();
    // `enclave show` prints roots as `production(NAME)`; both are taken.
    let bare = |known: &str| known.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')) == Some(name);
    if let Some(whole) = known.iter().find(|known| *known == name || (kind == Kind::Anchor && bare(known))) {
        return Ok(whole.clone());
    }
    // Names that people chose are given whole.
    let completed = !matches!(kind, Kind::Provider | Kind::Anchor);
    let found: Vec<_> = known.into_iter().filter(|known| completed && known.starts_with(name)).collect();
    let wrong = |why: String| Err(Failure::new(Exit::Usage, why));
    match found.as_slice() {
        _ if unknown => Ok(name.to_owned()),
        [_, ..] if name.len() < BEGINNING_MIN => {
            wrong(format!("`{name}` is too short for the beginning of a name: give {BEGINNING_MIN} characters or more"))
        }
        [one] => Ok(one.clone()),
        [] => wrong(format!(
            "the pool knows no {} `{name}`: check the name, or revoke it in advance with --unknown and its whole name",
            kind.name()
        )),
        many => wrong(format!("{} names of this kind begin with `{name}`: give more of the name", many.len())),
    }
}

/// Waits until every agent that was present has heeded `epoch`, or for a while.
async fn heeded(client: &Client, epoch: RevocationEpoch) -> Result<RevocationsView, Failure> {
    let until = Instant::now() + HEED_PATIENCE;
    loop {
        let view = client.revocations().await?;
        let all = view.epoch >= epoch && view.heeded_by >= view.of;
        if all || Instant::now() >= until {
            return Ok(view);
        }
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) async fn revoke(context: &Context, args: Revoke) -> Result<Exit, Failure> {
    let Revoke { kind, name, unknown, why } = args;
    let client = context.operator()?;
    let name = complete(&client, kind, &name, unknown).await?;
    revoke_named(context, &client, kind, &name, &why).await
}

/// Revokes one enclave by its whole name.
pub(super) async fn revoke_enclave(context: &Context, name: &str, why: &str) -> Result<Exit, Failure> {
    let client = context.operator()?;
    revoke_named(context, &client, Kind::Enclave, name, why).await
}

async fn revoke_named(context: &Context, client: &Client, kind: Kind, name: &str, why: &str) -> Result<Exit, Failure> {
    let made = client.revoke(kind.name(), name, why).await?;
    let view = heeded(client, made.revocation.epoch).await?;
    let late = view.of.saturating_sub(view.heeded_by);
    if late > 0 {
        tell(&format!("{late} agents have not heeded it yet; their channels end when their passports lapse"));
    }
    let outcome = Outcome { made, heeded_by: view.heeded_by, of: view.of, ms: view.last_heeded_ms };
    context.print(&outcome, || {
        let (revocation, fell) = (&outcome.made.revocation, outcome.made.fell);
        let enclaves = if fell == 1 { "1 enclave".to_owned() } else { format!("{fell} enclaves") };
        let took = outcome.ms.map_or(String::new(), |ms| format!(" within {ms:.1} ms"));
        format!(
            "{} is revoked: {}\nepoch {}; {enclaves} fell; heeded by {} of {} agents{took}",
            revocation.what, revocation.why, revocation.epoch.0, outcome.heeded_by, outcome.of
        )
    })?;
    Ok(Exit::Success)
}

pub(super) async fn revocations(context: &Context, command: RevocationsCommand) -> Result<Exit, Failure> {
    let client = context.client()?.1;
    match command {
        RevocationsCommand::List => {
            let view = client.revocations().await?;
            context.print(&view, || {
                let rows = view
                    .entries
                    .iter()
                    .map(|r| [r.epoch.0.to_string(), r.what.to_string(), r.at.to_string(), r.why.clone()]);
                let took = view.last_heeded_ms.map_or(String::new(), |ms| format!(", within {ms:.1} ms"));
                let heeded = format!("latest heeded by {} of {} agents{took}", view.heeded_by, view.of);
                format!("{}\n{heeded}", table(["EPOCH", "WHAT", "SINCE", "WHY"], rows))
            })?;
        }
        RevocationsCommand::Save { file } => {
            let signed = client.signed_revocations().await?;
            let text = serde_json::to_string(&signed).map_err(|e| Failure::new(Exit::Failure, e))?;
            std::fs::write(&file, text + "\n")
                .map_err(|e| Failure::new(Exit::Usage, format!("cannot write {}: {e}", file.display())))?;
            tell(&format!("saved {} revocations, epoch {}", signed.list.revocations.len(), signed.list.epoch.0));
        }
    }
    Ok(Exit::Success)
}

/// The verifiers that the manager asks.
pub(super) async fn verifiers(context: &Context) -> Result<Exit, Failure> {
    let all = context.client()?.1.verifiers().await?;
    context.print(&all, || {
        let rows = all.iter().map(|v| {
            let names = |list: Option<Vec<String>>| list.map_or("all".to_owned(), |l| l.join(" "));
            let scope = v.scope.clone();
            let tenants = scope.as_ref().and_then(|s| s.tenants.as_ref());
            let kinds = scope.as_ref().and_then(|s| s.kinds.as_ref());
            let answered = |at: Option<UnixTime>| at.map_or("never".to_owned(), |_| format!("{} s ago", v.age_seconds));
            let state = match (v.silent, &v.failure) {
                _ if v.revoked.is_some() => "REVOKED".to_owned(),
                (true, _) => "SILENT".to_owned(),
                (false, Some(why)) if v.last_failure > v.last_success => format!("failing: {}", why.check),
                (false, None) if v.last_success.is_none() => "not asked yet".to_owned(),
                _ => "answers".to_owned(),
            };
            [
                v.name.clone(),
                v.key.short(),
                names(tenants.map(|t| t.iter().map(ToString::to_string).collect())),
                names(kinds.map(|k| k.iter().map(ToString::to_string).collect())),
                state,
                answered(v.last_success),
                v.appointed_until.to_string(),
            ]
        });
        table(["VERIFIER", "KEY", "TENANTS", "KINDS", "STATE", "ANSWERED", "APPOINTED UNTIL"], rows)
    })?;
    Ok(Exit::Success)
}
