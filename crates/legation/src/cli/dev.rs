//! `legation init` and `legation dev`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use legation::{
    client::{Client, ClientError},
    cloud::Cloud,
    home::Home,
    root::{self, Root as OperatorRoot},
    setup::HardwareRoot,
};
use legation_core::{Requirement, SwarmName, custody::Threshold};
use legation_manager::config::{JournalConfig, Store};
use legation_net::OsEntropy;

use super::{
    Context, Exit, Failure,
    key::{Terms, set_charter},
    progress, say, setup, tell,
};

#[derive(Args)]
pub(super) struct Init {
    /// Folder to make it in.
    #[arg(default_value = ".legation")]
    dir: PathBuf,
    /// What its enclaves attest with.
    #[arg(long, value_enum, default_value_t = Root::Chip)]
    root: Root,
    /// How many managers share the journal: one leads, the others take over when it fails. More than one need --journal.
    #[arg(long, default_value_t = 1, value_name = "N")]
    managers: usize,
    /// PostgreSQL database of the journal and the objects, such as `postgres://legation@127.0.0.1:5432/legation`.
    #[arg(long, value_name = "URL")]
    journal: Option<String>,
    /// File with the password of the URL's role.
    #[arg(long, value_name = "FILE", requires = "journal")]
    journal_password_file: Option<PathBuf>,
    /// Makes the operator's root in a hardware security module instead of a file: its PKCS#11 module, such as
    /// `/usr/lib/softhsm/libsofthsm2.so`.
    #[arg(long, value_name = "MODULE", requires = "token")]
    hsm: Option<PathBuf>,
    /// Label of the module's token.
    #[arg(long, value_name = "LABEL", requires = "hsm")]
    token: Option<String>,
    /// Serial number of the token, where several have the label.
    #[arg(long, value_name = "SERIAL", requires = "hsm")]
    token_serial: Option<String>,
    /// File with the token's PIN, which only its owner may read; without it, the PIN is in LEGATION_HSM_PIN.
    #[arg(long, value_name = "FILE", requires = "hsm")]
    pin_file: Option<PathBuf>,
    /// Label of the root's key in the token.
    #[arg(long, value_name = "LABEL", default_value = root::KEY_LABEL, requires = "hsm")]
    root_key: String,
    /// Takes the key of that label that is in the token, instead of making one.
    #[arg(long, requires = "hsm")]
    root_exists: bool,
    /// Seals the root's file by the passphrase in this file, which only its owner may read: at least 12 bytes, drawn by chance.
    #[arg(long, value_name = "FILE", conflicts_with = "hsm")]
    passphrase_file: Option<PathBuf>,
    /// Sets its enclaves up as custodians of the swarm key `main`, which `legation key charter` then has made.
    #[arg(long)]
    custody: bool,
}

/// What development enclaves attest with.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Root {
    /// Development chips.
    Chip,
    /// Emulated TPMs (swtpm).
    Tpm,
}

#[derive(Args)]
pub(super) struct Dev {
    /// Folder of the deployment; made when it is not there, kept for the next time.
    #[arg(long, default_value = ".legation")]
    data: PathBuf,
    /// What its enclaves attest with, when it is made.
    #[arg(long, value_enum, default_value_t = Root::Chip)]
    root: Root,
    /// Has its enclaves keep the swarm key `main`: T of N open, as in `5/9`. See `legation key --help`.
    #[arg(long, value_name = "T/N", value_parser = super::key::threshold)]
    custody: Option<Threshold>,
}

fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::new(Exit::Failure, format!("own program: {e}")))
}

fn make(
    dir: &Path,
    root: Root,
    operator: impl FnOnce(&Path) -> Result<OperatorRoot, Failure>,
) -> Result<setup::Deployment, Failure> {
    let (hardware, what) = match root {
        Root::Chip => (HardwareRoot::Chips, "DEVELOPMENT hardware root, chips"),
        Root::Tpm if !cfg!(feature = "tpm") => {
            let text = "this program was built without feature `tpm`: cargo build --features tpm (Debian: libtss2-dev)";
            return Err(Failure::new(Exit::Usage, text));
        }
        Root::Tpm => (HardwareRoot::Tpm, "DEVELOPMENT authority, emulated TPMs"),
    };
    tell(&format!("making operator's root, {what} and keys ..."));
    setup::development_under(operator, hardware, dir, &setup::nine_agents(), &program()?, legation::run::now())
}

fn in_file(folder: &Path) -> Result<OperatorRoot, Failure> {
    OperatorRoot::make_file(folder, None, &mut OsEntropy)
}

/// The root where `--hsm` says, or in a file, of which people are warned.
#[cfg(feature = "hsm")]
fn operator(args: &Init, folder: &Path) -> Result<OperatorRoot, Failure> {
    let (Some(module), Some(token)) = (args.hsm.clone(), args.token.clone()) else {
        return warned(args, folder);
    };
    let address = legation::hsm::Address::new(module, token, args.token_serial.clone(), args.root_key.clone())?;
    OperatorRoot::make_token(folder, &address, args.pin_file.as_deref(), args.root_exists, &mut OsEntropy)
}

#[cfg(not(feature = "hsm"))]
fn operator(args: &Init, folder: &Path) -> Result<OperatorRoot, Failure> {
    let named = [&args.token, &args.token_serial].into_iter().any(Option::is_some) || args.root_key != root::KEY_LABEL;
    if args.hsm.is_some() || args.pin_file.is_some() || args.root_exists || named {
        return Err(Failure::new(Exit::Usage, root::WITHOUT_HSM));
    }
    warned(args, folder)
}

fn warned(args: &Init, folder: &Path) -> Result<OperatorRoot, Failure> {
    let made = OperatorRoot::make_file(folder, args.passphrase_file.as_deref(), &mut OsEntropy)?;
    let (who, instead) = match args.passphrase_file {
        Some(_) => ("sealed by a passphrase: whoever has both", ""),
        None => ("IN THE CLEAR: whoever reads it", ", or seal it (--passphrase-file)"),
    };
    tell(&format!(
        "WARNING: the operator's root is a file, {}, {who} can appoint managers and verifiers that all clients and agents of this \
         deployment obey. Keep it offline{instead}, or make the root in a hardware security module: legation init --hsm",
        folder.join(root::KEY_FILE).display(),
    ));
    Ok(made)
}

pub(super) fn init(_: &Context, args: &Init) -> Result<Exit, Failure> {
    let wanted = journal(args)?;
    let mut made = make(&args.dir, args.root, |folder| operator(args, folder))?;
    if let Some(journal) = wanted {
        let more = setup::several_managers(&made, args.managers, &journal, legation::run::now());
        // One manager is not what was asked for, and the next attempt would find it.
        made = more.inspect_err(|_| setup::abandon(&made.root))?;
    }
    if args.custody {
        setup::custodians(&made).inspect_err(|_| setup::abandon(&made.root))?;
    }
    let mut managers = String::new();
    for (n, (_, file)) in made.managers.iter().enumerate() {
        let what = if n == 0 { "manager" } else { "" };
        managers.push_str(&format!("  {what:<9} legation manager --config {}\n", file.display()));
    }
    say(&format!(
        "deployment in {root}\n{managers}  agents    legation agent --config {root}/agents/NAME/agent.toml\n  client    export LEGATION_HOME={client}\n\
         These are DEVELOPMENT enclaves: they prove the protocol, never confidentiality.",
        root = made.root.display(),
        client = made.client.display(),
    ))?;
    Ok(Exit::Success)
}

/// The journal that several managers share; nothing for one with its own.
fn journal(args: &Init) -> Result<Option<JournalConfig>, Failure> {
    let usage = |text: &str| Err(Failure::new(Exit::Usage, text));
    let Some(url) = args.journal.clone() else {
        return match args.managers {
            1 => Ok(None),
            _ => usage("several managers need one journal: --journal postgres://ROLE@HOST:PORT/DATABASE"),
        };
    };
    if args.managers < 2 {
        return usage("--journal is for several managers: say how many with --managers");
    }
    // It is written into every manager's folder.
    let file = args.journal_password_file.as_ref().map(|path| {
        path.canonicalize().map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
    });
    let journal = JournalConfig { store: Store::Postgres, url: Some(url), ..JournalConfig::default() };
    Ok(Some(JournalConfig { password_file: file.transpose()?, ..journal }))
}

pub(super) async fn dev(_: &Context, args: Dev) -> Result<Exit, Failure> {
    let fresh = !args.data.join("anchors.json").exists();
    let deployment = if fresh { make(&args.data, args.root, in_file)? } else { setup::open(&args.data)? };
    if !fresh {
        setup::refresh_measurement(&deployment, &program()?)?;
    }
    if args.custody.is_some() {
        setup::custodians(&deployment)?;
    }
    let wanted = deployment.agents.len();
    let (client, api, root) = (deployment.client.clone(), deployment.addresses.api, deployment.root.clone());
    let mut cloud = Cloud::new(deployment, &program()?)?;
    cloud.start()?;
    let bar = progress();
    let ready = cloud.ready(wanted, Duration::from_secs(60), |here| {
        bar.set_message(format!("{here} of {wanted} enclaves are here"))
    });
    tokio::select! {
        ready = ready => { ready?; }
        _ = tokio::signal::ctrl_c() => {
            bar.finish_and_clear();
            return Ok(Exit::Success);
        }
    }
    bar.finish_and_clear();
    let mut more = "";
    if let Some(of) = args.custody {
        chartered(&client, &root, of).await?;
        more = "\n  legation key status --watch";
    }
    say(&format!(
        "{wanted} DEVELOPMENT enclaves are here (they prove the protocol, never confidentiality).\n  \
         API   http://{api}\n  logs  {}\n\nIn another terminal:\n  \
         export LEGATION_HOME={}\n  legation enclave list\n  legation run guests/echo.wasm --input README.md --receipt receipt.json --out result\n  \
         legation receipt verify receipt.json{more}\n\nCtrl-C stops everything.",
        root.join("logs").display(),
        client.display(),
    ))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|e| Failure::new(Exit::Failure, format!("signals: {e}")))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tell("stopping ...");
    cloud.stop().await;
    Ok(Exit::Success)
}

/// Signs the first charter of the swarm key, where there is none: no more of it with one provider than there must be.
async fn chartered(home: &Path, folder: &Path, of: Threshold) -> Result<(), Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", home.display()));
    let config = Home::open(home)?.config;
    let token = config.operator_token.as_deref().ok_or_else(|| wrong(&"no operator token"))?;
    let client = Client::new(&config.api, token)?;
    let swarm = SwarmName::new(setup::SWARM).map_err(|e| wrong(&e))?;
    match client.key(&swarm).await {
        Err(ClientError::Refused { why, .. }) if why.check == "custody.unknown" => {}
        known => return Ok(known.map(drop)?),
    }
    let terms = Terms {
        swarm,
        threshold: of,
        provider_max: Some(of.members().div_ceil(setup::PROVIDERS)),
        epoch_seconds: 86_400,
        require: Requirement::any(),
        not_after: None,
    };
    set_charter(&client, &OperatorRoot::of(folder)?, terms).await.map(drop)
}
