//! `legation init` and `legation dev`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use legation::{cloud::Cloud, setup::HardwareRoot};
use legation_manager::config::{JournalConfig, Store};

use super::{Context, Exit, Failure, progress, say, setup, tell};

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
}

fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::new(Exit::Failure, format!("own program: {e}")))
}

fn make(dir: &std::path::Path, root: Root) -> Result<setup::Deployment, Failure> {
    let (hardware, what) = match root {
        Root::Chip => (HardwareRoot::Chips, "DEVELOPMENT hardware root, chips"),
        Root::Tpm if !cfg!(feature = "tpm") => {
            let text = "this program was built without feature `tpm`: cargo build --features tpm (Debian: libtss2-dev)";
            return Err(Failure::new(Exit::Usage, text));
        }
        Root::Tpm => (HardwareRoot::Tpm, "DEVELOPMENT authority, emulated TPMs"),
    };
    tell(&format!("making operator's root, {what} and keys ..."));
    setup::development_on(hardware, dir, &setup::nine_agents(), &program()?, legation::run::now())
}

pub(super) fn init(_: &Context, args: &Init) -> Result<Exit, Failure> {
    let wanted = journal(args)?;
    let mut made = make(&args.dir, args.root)?;
    if let Some(journal) = wanted {
        made = setup::several_managers(&made, args.managers, &journal, legation::run::now())?;
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
    let deployment = if fresh { make(&args.data, args.root)? } else { setup::open(&args.data)? };
    if !fresh {
        setup::refresh_measurement(&deployment, &program()?)?;
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
    say(&format!(
        "{wanted} DEVELOPMENT enclaves are here (they prove the protocol, never confidentiality).\n  \
         API   http://{api}\n  logs  {}\n\nIn another terminal:\n  \
         export LEGATION_HOME={}\n  legation enclave list\n  legation run guests/echo.wasm --input README.md --receipt receipt.json --out result\n  \
         legation receipt verify receipt.json\n\nCtrl-C stops everything.",
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
