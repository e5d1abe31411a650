//! `legation collateral`: what vendors publish about machines, and how old it is here.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use legation::home::read_anchors;
use legation_attest::Roots;
use legation_core::{UnixTime, claims::Anchors};
use legation_manager::ManagerConfig;
use legation_verifier::{
    collateral::{Checker, CollateralName, ItemState, ItemStatus, Keeper},
    config::{CollateralConfig, VerifierConfig},
    http::{Authorities, Http, Tls},
    remote, service, system_clock,
};

use super::{Context, Exit, Failure, say, table::table, tell};

/// Largest status read, in bytes.
const STATUS_MAX: usize = 8 << 20;
/// Deadline of a status.
const STATUS_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

#[derive(Subcommand)]
pub(super) enum CollateralCommand {
    /// Shows each item: where it came from, how old it is, when the next is due, and how it stands.
    Status {
        #[command(flatten)]
        place: Place,
        /// A running verifier, instead of a folder.
        #[arg(long, value_name = "URL", conflicts_with_all = ["dir", "config"])]
        url: Option<String>,
        /// Certificates that the verifier's TLS ends in, PEM; the system's without it.
        #[arg(long, value_name = "FILE", requires = "url")]
        authorities: Option<PathBuf>,
        /// Token of a verifier that asks for one.
        #[arg(long, env = "LEGATION_VERIFIER_TOKEN", hide_env_values = true)]
        token: Option<String>,
    },
    /// Fetches items now, from the sources of a configuration.
    Fetch {
        #[command(flatten)]
        place: Place,
        /// Names, such as `intel/tdx/50806f000000/platform` or `amd/milan/vcek/crl`.
        #[arg(required = true)]
        names: Vec<CollateralName>,
    },
    /// Takes files in, checked as if they had been fetched.
    Import {
        #[command(flatten)]
        place: Place,
        /// A file for each name, or folders that `export` made.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// What each file is, in the order of the files; without it, files must be folders.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<CollateralName>,
    },
    /// Writes every item to a folder, as `files` and `mirror` sources read it.
    Export {
        #[command(flatten)]
        place: Place,
        /// The folder.
        to: PathBuf,
    },
}

/// Which folder of collateral.
#[derive(Args)]
pub(super) struct Place {
    /// Configuration of the verifier, or of the manager for the verifier in it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder itself; nothing can be fetched then.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
    /// Anchor file, for items of development roots beside `--dir`.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    anchors: Option<PathBuf>,
}

impl Place {
    /// Whether neither a configuration nor a folder was named: the pool's manager is asked.
    fn is_nowhere(&self) -> bool {
        self.config.is_none() && self.dir.is_none()
    }

    fn open(&self) -> Result<Keeper, Failure> {
        let usage = |why| Failure::refused(Exit::Usage, &why);
        let (collateral, anchors) = match (&self.config, &self.dir) {
            (Some(path), _) => {
                if is_of_manager(path) {
                    let config = ManagerConfig::load(path).map_err(usage)?;
                    (config.collateral(), Some(config.anchors))
                } else {
                    let config = VerifierConfig::load(path).map_err(usage)?;
                    (config.collateral, Some(config.anchors))
                }
            }
            (None, Some(dir)) if dir.is_dir() => (CollateralConfig::folder(dir.clone()), self.anchors.clone()),
            (None, Some(dir)) => return Err(Failure::new(Exit::Usage, format!("{} is no folder", dir.display()))),
            (None, None) => {
                return Err(Failure::new(
                    Exit::Usage,
                    "name the verifier's configuration with --config, or a folder with --dir",
                ));
            }
        };
        let anchors = anchors.map_or_else(|| Ok(Anchors::default()), |path| read_anchors(&path))?;
        let checker = Checker::new(Roots::new(&anchors).map_err(usage)?);
        Keeper::open(collateral.keeper().map_err(usage)?, checker, system_clock()).map_err(usage)
    }
}

/// Whether a configuration is a manager's: a verifier has no address for agents.
fn is_of_manager(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.contains_key("agents"))
}

/// Runs the command.
pub(super) async fn command(context: &Context, command: CollateralCommand) -> Result<Exit, Failure> {
    match command {
        CollateralCommand::Status { place, url, authorities, token } => {
            let (items, now) = match url {
                Some(url) => ask(&url, authorities.as_deref(), token.as_deref()).await?,
                None if place.is_nowhere() => (context.client()?.1.collateral().await?, system_clock()()),
                None => (place.open()?.status(), system_clock()()),
            };
            show(context, &items, now)
        }
        CollateralCommand::Fetch { place, names } => {
            let keeper = place.open()?;
            for name in &names {
                keeper.fetch(name).await.map_err(|why| Failure::refused(Exit::Refused, &why))?;
                tell(&format!("{name} is here"));
            }
            Ok(Exit::Success)
        }
        CollateralCommand::Import { place, files, names } => import(&place.open()?, &files, &names).await,
        CollateralCommand::Export { place, to } => {
            let shelf = place.open()?.shelf().get();
            let mut count = 0_usize;
            for item in shelf.items() {
                let path = to.join(&item.name);
                let failed = |e: std::io::Error| Failure::new(Exit::Failure, format!("{}: {e}", path.display()));
                std::fs::create_dir_all(path.parent().unwrap_or(&to)).map_err(failed)?;
                std::fs::write(&path, &item.bytes).map_err(failed)?;
                count += 1;
            }
            say(&format!("{count} items in {}", to.display()))?;
            Ok(Exit::Success)
        }
    }
}

async fn ask(
    url: &str,
    authorities: Option<&Path>,
    token: Option<&str>,
) -> Result<(Vec<ItemStatus>, UnixTime), Failure> {
    let usage = |why| Failure::refused(Exit::Usage, &why);
    let authorities = match authorities {
        Some(path) => remote::authorities(Some(path)).map_err(usage)?,
        None => Authorities::System,
    };
    let http = Http::new(&authorities, Tls::Ours, &[url.to_owned()], STATUS_DEADLINE).map_err(usage)?;
    let mut headers = Vec::new();
    if let Some(token) = token {
        let value = hyper::header::HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|e| Failure::new(Exit::Usage, format!("token cannot be sent: {e}")))?;
        value.set_sensitive(true);
        headers.push((hyper::header::AUTHORIZATION, value));
    }
    let path = format!("{}/v1/status", url.trim_end_matches('/'));
    let reply = http.send(hyper::Method::GET, &path, &headers, bytes::Bytes::new(), STATUS_MAX).await;
    let reply = reply.map_err(|e| Failure::new(Exit::Unreachable, e))?;
    if !reply.status.is_success() {
        return Err(match serde_json::from_slice::<service::ProblemBody>(&reply.body) {
            Ok(problem) => Failure::refused(Exit::Refused, &problem.rejection()),
            Err(_) => Failure::new(Exit::Failure, format!("{path}: status {}", reply.status.as_u16())),
        });
    }
    let status: service::Status = serde_json::from_slice(&reply.body).map_err(|e| Failure::new(Exit::Failure, e))?;
    Ok((status.collateral, status.now))
}

fn show(context: &Context, items: &[ItemStatus], now: UnixTime) -> Result<Exit, Failure> {
    context.print(&items, || {
        if items.is_empty() {
            return "nothing is kept and nothing is wanted".to_owned();
        }
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let rows = items.iter().map(|item| {
            [
                item.name.clone(),
                item.state.to_string(),
                text(item.days_left(now).map(|days| days.to_string())),
                text(item.next_update.map(|at| at.to_string())),
                text(item.issued.map(|at| at.to_string())),
                text(item.fetched.map(|at| if at.0 == 0 { "?".to_owned() } else { age(now.since(at)) })),
                text(item.source.clone().or_else(|| item.problem.clone())),
            ]
        });
        table(["NAME", "STATE", "DAYS LEFT", "NEXT UPDATE", "ISSUED", "SEEN AGO", "SOURCE"], rows)
    })?;
    for warning in items.iter().filter_map(ItemStatus::warning) {
        tell(&format!("warning: {warning}"));
    }
    let expired = items.iter().any(|item| item.state == ItemState::Expired);
    Ok(if expired { Exit::Refused } else { Exit::Success })
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

async fn import(keeper: &Keeper, files: &[PathBuf], names: &[CollateralName]) -> Result<Exit, Failure> {
    let mut pairs: Vec<(CollateralName, PathBuf)> = Vec::new();
    if names.is_empty() {
        for dir in files {
            if !dir.is_dir() {
                return Err(Failure::new(Exit::Usage, format!("{}: say what it is with --name", dir.display())));
            }
            walk(dir, dir, &mut pairs)?;
        }
    } else if names.len() == files.len() {
        pairs.extend(names.iter().cloned().zip(files.iter().cloned()));
    } else {
        return Err(Failure::new(Exit::Usage, format!("{} files and {} names", files.len(), names.len())));
    }
    let mut refused = 0_usize;
    for (name, path) in &pairs {
        let bytes = std::fs::read(path).map_err(|e| Failure::new(Exit::Usage, format!("{}: {e}", path.display())))?;
        match keeper.import(name, bytes, &format!("import {}", path.display())).await {
            Ok(()) => tell(&format!("{name} is here")),
            Err(why) => {
                refused += 1;
                tell(&legation::exit::lay_out(&why));
            }
        }
    }
    Ok(if refused == 0 { Exit::Success } else { Exit::Refused })
}

/// Files of a folder whose path in it is a name; others are passed over, aloud.
fn walk(base: &Path, dir: &Path, pairs: &mut Vec<(CollateralName, PathBuf)>) -> Result<(), Failure> {
    const DEPTH_MAX: usize = 5;
    let failed = |e: std::io::Error| Failure::new(Exit::Usage, format!("{}: {e}", dir.display()));
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let below = path.strip_prefix(base).unwrap_or(&path);
        if path.is_dir() && below.components().count() < DEPTH_MAX {
            walk(base, &path, pairs)?;
        } else if let Ok(name) = below.to_string_lossy().parse() {
            pairs.push((name, path));
        } else {
            tell(&format!("{} is passed over: its path is no name of collateral", path.display()));
        }
    }
    Ok(())
}
