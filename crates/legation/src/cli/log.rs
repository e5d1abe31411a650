//! `legation log`: the transparency log, for those who look at it.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand};
use legation::{
    client::Client,
    exit::{Exit, Failure},
    home::read_anchors,
    log::{
        anchor, fork_by_tiles, key, open, prove,
        witness::{Running, State},
    },
    verify::read_receipt,
};
use legation_core::{Receipt, claims::Anchors, receipt::Invalid};
use legation_keys::IdentityKey;
use legation_log::Fork;
use serde_json::json;

use super::{Context, say, server::terminated, tell};

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// Fetches the log's latest checkpoint and checks that it continues the one in a file, which it then replaces.
    Checkpoint(Checkpoint),
    /// Gives a receipt the proofs that its results, and all of its statements that the log has, are in the log.
    Prove(Prove),
    /// Checks a saved checkpoint, or evidence that a log has forked. Exit code 6 when it is not what it says.
    Verify(Verify),
    /// Watches logs: signs each checkpoint that continues the one before, and nothing else.
    Witness(WitnessArgs),
}

/// What to trust, and which log of it.
#[derive(Args)]
struct Which {
    /// Anchors that name the log. Default: `anchors.json` here, or that of your home.
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
    /// The log, where the anchors name several.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
}

#[derive(Args)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    which: Which,
    /// The last checkpoint seen; made when it is not there.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Prove {
    /// The receipt.
    file: PathBuf,
    #[command(flatten)]
    which: Which,
    /// A checkpoint that witnesses cosigned, to prove in front of: what `GET /checkpoint?origin=NAME` of a witness gives.
    #[arg(long, value_name = "FILE")]
    cosigned: Option<PathBuf>,
    /// Where the receipt with the proofs goes. Default: it replaces the receipt.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Verify {
    /// A signed checkpoint, or evidence as a witness or an agent gave it.
    file: PathBuf,
    #[command(flatten)]
    which: Which,
}

#[derive(Args)]
pub(super) struct WitnessArgs {
    #[command(flatten)]
    which: Which,
    /// The name of its key, like a URL without its scheme.
    #[arg(long)]
    name: String,
    /// Its own key, Ed25519 in PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where it remembers what it signed.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Begins a new witness: the state file must not be there.
    #[arg(long)]
    begin: bool,
    /// Address on which it takes requests and serves what it signed.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
    /// Seconds between two looks at the log.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// Looks once and ends.
    #[arg(long)]
    once: bool,
}

pub(super) async fn command(context: &Context, command: LogCommand) -> Result<Exit, Failure> {
    match command {
        LogCommand::Checkpoint(args) => checkpoint(context, &args).await,
        LogCommand::Prove(args) => prove_receipt(context, &args).await,
        LogCommand::Verify(args) => verify(context, &args),
        LogCommand::Witness(args) => witness(context, args).await,
    }
}

fn anchors(context: &Context, file: Option<&Path>) -> Result<Anchors, Failure> {
    match file {
        Some(path) => read_anchors(path),
        None if Path::new("anchors.json").exists() => read_anchors(Path::new("anchors.json")),
        None => Ok(context.home()?.anchors),
    }
}

/// A client for what needs no token: `--manager` alone will do.
pub(super) fn client(context: &Context) -> Result<Client, Failure> {
    match &context.manager {
        Some(manager) => Client::new(manager, "none"),
        None => Ok(context.client()?.1),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|e| Failure::new(Exit::Failure, format!("cannot write {}: {e}", path.display())))
}

/// Writes a receipt: what was in the file is there until the new one is whole, and who may read it stays; a new file is its owner's
/// alone. What is no file, such as a pipe, is written to as it is.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let known = fs::metadata(path).ok();
    if known.as_ref().is_some_and(|known| !known.is_file()) {
        return write(path, text);
    }
    // Behind a link the file is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut aside = path.clone().into_os_string();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    exchange(&path, &aside, text, known.as_ref().map(fs::Metadata::permissions)).map_err(|e| {
        // Half of a receipt is of no use to anybody.
        let _ = fs::remove_file(&aside);
        Failure::new(Exit::Failure, format!("cannot write {}: {e}", path.display()))
    })
}

fn exchange(path: &Path, aside: &Path, text: &str, rights: Option<Permissions>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(aside)?;
    if let Some(rights) = rights {
        file.set_permissions(rights)?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(aside, path)?;
    File::open(folder)?.sync_all()
}

async fn checkpoint(context: &Context, args: &Checkpoint) -> Result<Exit, Failure> {
    let anchors = anchors(context, args.which.anchors.as_deref())?;
    let key = key(anchor(&anchors, args.which.origin.as_deref())?)?;
    let client = client(context)?;
    let latest = open(&client.log_checkpoint(None).await?, &key)?;
    let before = args.save.as_deref().filter(|path| path.exists()).map(read).transpose()?;
    let before = before.map(|text| open(&text, &key)).transpose()?;
    let forked = match &before {
        Some(before) => fork_by_tiles(&client, before, &latest).await?,
        None => None,
    };
    let (tree, note) = (latest.checkpoint(), latest.note().to_string());
    if let Some(fork) = forked {
        let text = serde_json::to_string_pretty(&fork).map_err(|e| Failure::new(Exit::Failure, e))?;
        say(&text)?;
        let text = format!("the log {} has FORKED: what was printed is evidence for anybody", tree.origin);
        return Err(Failure::new(Exit::Receipt, text));
    }
    if let Some(path) = &args.save {
        write(path, &note)?;
    }
    let value = json!({
        "origin": tree.origin, "size": tree.size, "root": tree.root, "checkpoint": note,
        "since": before.map(|before| before.checkpoint().size),
    });
    context.print(&value, || note.clone())?;
    Ok(Exit::Success)
}

async fn prove_receipt(context: &Context, args: &Prove) -> Result<Exit, Failure> {
    let anchors = anchors(context, args.which.anchors.as_deref())?;
    let anchor = anchor(&anchors, args.which.origin.as_deref())?;
    let cosigned = args.cosigned.as_deref().map(read).transpose()?;
    let invalid = |e: Invalid| Failure::new(Exit::Receipt, e);
    let text = read_receipt(&args.file)?;
    let mut receipt = text.and_then(|text| Receipt::from_text(&text)).map_err(invalid)?;
    prove(&client(context)?, &mut receipt, anchor, cosigned.as_deref()).await?;
    let to = args.to.as_deref().unwrap_or(&args.file);
    let text = receipt.to_text();
    // A receipt that is full has no room for the proofs, and nobody would read it with them.
    Receipt::check_size(u64::try_from(text.len()).unwrap_or(u64::MAX)).map_err(invalid)?;
    replace(to, &text)?;
    let proved = receipt.log.iter().flat_map(|log| &log.proofs).flatten().count();
    let all = receipt.envelopes.len();
    tell(&format!("{proved} of {all} statements proved to be in the log {}: {}", anchor.origin, to.display()));
    Ok(Exit::Success)
}

fn verify(context: &Context, args: &Verify) -> Result<Exit, Failure> {
    let anchors = anchors(context, args.which.anchors.as_deref())?;
    let key = key(anchor(&anchors, args.which.origin.as_deref())?)?;
    let text = read(&args.file)?;
    if let Ok(fork) = serde_json::from_str::<Fork>(&text) {
        fork.verify(&key)
            .map_err(|e| Failure::new(Exit::Receipt, format!("no evidence against the log {}: {e}", key.name())))?;
        let line =
            format!("the log {} has FORKED: it signed two checkpoints that do not continue each other", key.name());
        context.print(&json!({"verdict": "forked", "origin": key.name()}), || line)?;
        return Ok(Exit::Success);
    }
    let opened = open(&text, &key)?;
    let tree = opened.checkpoint();
    let value = json!({"verdict": "checkpoint", "origin": tree.origin, "size": tree.size, "root": tree.root});
    context.print(&value, || {
        format!("checkpoint of the log {}: {} entries, root {}", tree.origin, tree.size, tree.root)
    })?;
    Ok(Exit::Success)
}

async fn witness(context: &Context, args: WitnessArgs) -> Result<Exit, Failure> {
    let anchors = anchors(context, args.which.anchors.as_deref())?;
    let key = key(anchor(&anchors, args.which.origin.as_deref())?)?;
    let pem = zeroize::Zeroizing::new(read(&args.key)?);
    let signer =
        IdentityKey::from_pem(&pem).map_err(|e| Failure::new(Exit::Usage, format!("{}: {e}", args.key.display())))?;
    let state = if args.begin { State::begin(&args.state)? } else { State::open(&args.state)? };
    let running =
        Running::new(&args.name, Arc::new(signer), vec![key.clone()], state, legation::run::now, tell).map(Arc::new)?;
    if let Some(known) = running.key() {
        tell(&format!("witness {known}"));
    }
    let client = client(context)?;
    if args.once {
        let size = running.poll(&client, &key).await?;
        say(&size.to_string())?;
        return Ok(Exit::Success);
    }
    let served = match args.listen {
        Some(address) => {
            let failed = |e| Failure::new(Exit::Failure, format!("cannot listen on {address}: {e}"));
            let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
            tell(&format!("listening on {}", listener.local_addr().map_err(failed)?));
            let router = running.router();
            Some(tokio::spawn(async move { axum::serve(listener, router).await }))
        }
        None => None,
    };
    let looking = tokio::spawn(async move {
        loop {
            if let Err(why) = running.poll(&client, &key).await {
                tell(&why.to_string());
            }
            tokio::time::sleep(Duration::from_secs(args.every)).await;
        }
    });
    terminated().await?;
    looking.abort();
    served.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(Exit::Success)
}
