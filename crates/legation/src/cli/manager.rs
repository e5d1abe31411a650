//! `legation manager`: runs a manager, says how managers stand, and moves a journal to another store.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use legation::client::Client;
use legation_keys::Entropy;
use legation_manager::{
    ManagerView, copy_objects,
    journal::{
        migrate::{Migrated, migrate},
        postgres::{PostgresJournal, PostgresSettings},
        sqlite::SqliteJournal,
    },
};
use legation_net::OsEntropy;
use serde::Serialize;

use super::{
    Context, Exit, Failure,
    server::{self, Logs},
    table::table,
};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct ManagerArgs {
    #[command(subcommand)]
    command: Option<ManagerCommand>,
    /// Configuration file; `legation init` makes one.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: Logs,
}

#[derive(Subcommand)]
enum ManagerCommand {
    /// Says of each manager whether it leads, who does, and how far it has read the journal. Exit code 7 when nobody leads.
    Status(Status),
    /// Copies the journal of a manager that is stopped into an empty PostgreSQL database, and compares both; then the objects
    /// in the same folder.
    Migrate(Migrate),
}

#[derive(Args)]
struct Status {
    /// Address of a manager's API; several times for several. Default: those of the home, or of --manager.
    #[arg(long, value_name = "ADDRESS")]
    api: Vec<String>,
}

#[derive(Args)]
struct Migrate {
    /// The journal: `data/journal.sqlite` of a manager that is stopped.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The database: `postgres://ROLE@HOST:PORT/DATABASE`, without a password.
    #[arg(long, value_name = "URL")]
    to: String,
    /// File with the role's password. Default: LEGATION_JOURNAL_PASSWORD of the environment.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// PEM file of the authorities of the server's certificate. Default: the system's.
    #[arg(long, value_name = "FILE")]
    authorities: Option<PathBuf>,
}

/// Runs the command.
pub(super) async fn manager(context: &Context, args: ManagerArgs) -> Result<Exit, Failure> {
    match (args.command, args.config) {
        (Some(ManagerCommand::Status(args)), _) => status(context, &args).await,
        (Some(ManagerCommand::Migrate(args)), _) => {
            let objects = objects_of(&args)?;
            let copied = tokio::task::spawn_blocking(move || copy(&args)).await;
            let copied = copied.map_err(|e| Failure::new(Exit::Failure, e))??;
            let (data, settings) = objects;
            let objects = copy_objects(&data, settings).await.map_err(|why| Failure::refused(Exit::Failure, &why))?;
            shown(context, &copied, objects)
        }
        (None, Some(config)) => {
            args.logs.start()?;
            server::manager(&config).await
        }
        (None, None) => Err(Failure::new(Exit::Usage, "name a configuration file with --config")),
    }
}

/// A manager that was asked.
#[derive(Serialize)]
struct Asked {
    api: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    manager: Option<ManagerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

async fn status(context: &Context, args: &Status) -> Result<Exit, Failure> {
    let home = context.home()?;
    // Each is asked for itself.
    let of_home =
        || Client::new(&home.config.api, &home.config.token).map(|c| c.managers().map(str::to_owned).collect());
    let apis = if args.api.is_empty() { of_home()? } else { args.api.clone() };
    let mut asked = Vec::new();
    for api in apis {
        let token = home.config.operator_token.as_deref().unwrap_or(&home.config.token);
        let answer = Client::new(&api, token)?.with_patience(std::time::Duration::ZERO).manager().await;
        let (manager, failure) = match answer {
            Ok(view) => (Some(view), None),
            Err(why) => (None, Some(why.to_string())),
        };
        asked.push(Asked { api, manager, failure });
    }
    let columns = ["API", "NAME", "ROLE", "TERM", "LEADER", "SEQ", "LAG", "LAG MS", "STORE", "SNAPSHOT", "TROUBLE"];
    context.print(&asked, || table(columns, asked.iter().map(row)))?;
    let led = asked.iter().filter_map(|a| a.manager.as_ref()).any(|m| m.leader.is_some());
    Ok(if led { Exit::Success } else { Exit::Unreachable })
}

fn row(asked: &Asked) -> [String; 11] {
    let none = || "-".to_owned();
    let Some(view) = &asked.manager else {
        let trouble = asked.failure.clone().unwrap_or_default();
        let [name, role, term, leader, seq, lag, lag_ms, store, snapshot] = std::array::from_fn(|_| none());
        return [asked.api.clone(), name, role, term, leader, seq, lag, lag_ms, store, snapshot, trouble];
    };
    [
        asked.api.clone(),
        view.name.clone(),
        view.role.clone(),
        view.term.to_string(),
        view.leader.as_ref().map_or_else(none, |leader| format!("{} {}", leader.name, leader.api)),
        view.seq.to_string(),
        view.lag_records.to_string(),
        view.lag_ms.to_string(),
        view.store.clone(),
        view.snapshot.map_or_else(none, |seq| seq.to_string()),
        view.trouble.clone().unwrap_or_else(none),
    ]
}

/// Where the objects are, and where they are to be.
fn objects_of(args: &Migrate) -> Result<(PathBuf, PostgresSettings), Failure> {
    let data = args.from.parent().unwrap_or(std::path::Path::new("")).to_owned();
    Ok((data, settings(args)?))
}

fn settings(args: &Migrate) -> Result<PostgresSettings, Failure> {
    let settings = PostgresSettings::new(&args.to, args.password_file.as_deref(), args.authorities.as_deref());
    settings.map_err(|why| Failure::refused(Exit::Usage, &why))
}

fn copy(args: &Migrate) -> Result<Migrated, Failure> {
    if !args.from.is_file() {
        return Err(Failure::new(Exit::Usage, format!("{} is no file", args.from.display())));
    }
    let settings = settings(args)?;
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failure, e);
    let mut from = SqliteJournal::open(&args.from).map_err(|e| failed(&e))?;
    let mut to = PostgresJournal::open(settings).map_err(|e| failed(&e))?;
    let mut instance = [0; 8];
    OsEntropy.fill(&mut instance);
    let mut told = |_| {};
    migrate(&mut from, &mut to, u64::from_le_bytes(instance), &mut told).map_err(|e| failed(&e))
}

fn shown(context: &Context, migrated: &Migrated, (objects, bytes): (u64, u64)) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Shown {
        records: u64,
        digest: String,
        already_there: u64,
        snapshot: Option<u64>,
        objects: u64,
        object_bytes: u64,
    }
    let Migrated { sum, had, snapshot } = migrated;
    let snapshot = snapshot.map(|seq| seq.0);
    let shown = Shown {
        records: sum.records,
        digest: sum.digest.to_string(),
        already_there: *had,
        snapshot,
        objects,
        object_bytes: bytes,
    };
    context.print(&shown, || {
        let snapshot = snapshot.map_or("none".to_owned(), |seq| format!("of record {seq}"));
        let journal = format!("{} records in both, {had} of them before; digest {}", sum.records, sum.digest);
        format!("{journal}; snapshot {snapshot}; {objects} objects of {bytes} bytes")
    })?;
    Ok(Exit::Success)
}
