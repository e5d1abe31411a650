//! The command line: nouns and verbs, and what they do.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use legation::{
    client::Client,
    exit::{Exit, Failure},
    home::Home,
    party::Trust,
    run::Runner,
    setup,
};
use legation_core::{EnclaveId, TaskId, printable};
use serde::Serialize;

mod account;
mod collateral;
mod delegate;
mod detect;
mod dev;
mod distances;
mod estimate;
mod evidence;
mod explain;
mod interrupts;
mod key;
mod log;
mod manager;
mod policy;
mod pool;
mod proofs;
mod receipt;
mod reference;
mod reserve;
mod server;
mod swarm;
mod table;
mod task;
mod trust;
mod verifier;
mod wishes;

const AFTER: &str = "\
Exit codes:
  0  as asked
  1  failure of this program or machine
  2  wrong usage
  3  refused
  4  evidence not valid
  5  no enclave in time
  6  receipt not valid
  7  manager unreachable
  8  the task failed in its own module
  9  receipt valid, but not as its reader demands
  10 receipt cannot be read
  11 a swarm key is out of reach

First steps: `legation dev` starts a small cloud on this machine; what it prints shows the next commands.";

/// A secure cloud pooled from other people's enclaves.
#[derive(Parser)]
#[command(name = "legation", version, about, after_help = AFTER, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Folder with this client's keys, token and anchors.
    #[arg(long, global = true, env = "LEGATION_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// APIs of the pool's managers, apart by commas, instead of those in the client's folder. The one that leads is found.
    #[arg(long, global = true, env = "LEGATION_MANAGER", value_name = "URL,..")]
    manager: Option<String>,
    /// How results are printed: for people, or for programs.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a small cloud on this machine until Ctrl-C: a manager and nine DEVELOPMENT enclaves.
    Dev(dev::Dev),
    /// Makes a deployment: operator's root, manager, verifier, tenant, agents.
    Init(dev::Init),
    /// Runs a manager, says how managers stand, or moves a journal.
    Manager(manager::ManagerArgs),
    /// Runs an agent, or says what this machine could attest with.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Agent(server::AgentArgs),
    /// Runs a verifier, makes the files of one, or lists those of the pool.
    Verifier(verifier::VerifierArgs),
    /// What vendors publish about machines: how old it is here, and what is due.
    #[command(subcommand)]
    Collateral(collateral::CollateralCommand),
    /// Runs a module on an enclave and brings back the result and its receipt.
    Run(task::Run),
    /// Tasks.
    #[command(subcommand)]
    Task(task::Task),
    /// Swarms: who works together on a task.
    #[command(subcommand)]
    Swarm(swarm::Swarm),
    /// Enclaves.
    #[command(subcommand)]
    Enclave(pool::EnclaveCommand),
    /// Trusts something no longer, now and later: channels close, leases end, the work moves.
    Revoke(trust::Revoke),
    /// What is revoked.
    #[command(subcommand)]
    Revocations(trust::RevocationsCommand),
    /// The pool as a whole.
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Accounts: what tenants may spend, hold and ask for.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Reservations: seats on enclaves, set aside ahead of time.
    #[command(subcommand)]
    Reserve(reserve::ReserveCommand),
    /// Says why each fragment of a task is where it is, and why not elsewhere.
    Explain {
        /// The task, or the beginning of its name.
        task: String,
    },
    /// Reference values: what images measure, which firmware is current.
    #[command(subcommand)]
    Reference(reference::ReferenceCommand),
    /// Policies: what enclaves must be, for the pool or for one tenant.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Swarm keys: who has them, what is asked of custodians, and what to see to before it is too late.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// The transparency log: checkpoints, proofs for receipts, witnesses.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Receipts, offline.
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Attestation evidence, offline.
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What most commands need.
pub(crate) struct Context {
    home: Option<PathBuf>,
    manager: Option<String>,
    output: Output,
}

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> Result<Exit, Failure> {
    let context = Context { home: cli.home, manager: cli.manager, output: cli.output };
    match cli.command {
        Command::Dev(args) => dev::dev(&context, args).await,
        Command::Init(args) => dev::init(&context, &args),
        Command::Manager(args) => manager::manager(&context, args).await,
        Command::Agent(args) => server::agent(&context, args).await,
        Command::Verifier(args) => verifier::verifier(&context, args).await,
        Command::Collateral(command) => collateral::command(&context, command).await,
        Command::Run(args) => task::run(&context, args).await,
        Command::Task(command) => task::command(&context, command).await,
        Command::Swarm(command) => swarm::command(&context, command).await,
        Command::Enclave(command) => pool::enclave(&context, command).await,
        Command::Revoke(args) => trust::revoke(&context, args).await,
        Command::Revocations(command) => trust::revocations(&context, command).await,
        Command::Pool(command) => pool::pool(&context, command).await,
        Command::Account(command) => account::command(&context, command).await,
        Command::Reserve(command) => reserve::command(&context, command).await,
        Command::Explain { task } => explain::explain(&context, &task).await,
        Command::Reference(command) => reference::command(&context, command).await,
        Command::Policy(command) => policy::command(&context, command).await,
        Command::Key(command) => key::command(&context, command).await,
        Command::Log(command) => log::command(&context, command).await,
        Command::Receipt(command) => receipt::command(&context, command).await,
        Command::Evidence(command) => evidence::command(&context, command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "legation", &mut std::io::stdout());
            Ok(Exit::Success)
        }
    }
}

/// How long a command that has begun nothing waits for an absent manager: where there are several, another takes over.
fn patience(client: &Client) -> Duration {
    Duration::from_secs(if client.managers().count() > 1 { 15 } else { 3 })
}

impl Context {
    /// The client's home: `--home`, `LEGATION_HOME`, or `.legation/client` here or `~/.legation/client`.
    fn home(&self) -> Result<Home, Failure> {
        let mut home = self.home_as_it_is()?;
        if let Some(manager) = &self.manager {
            home.config.api.clone_from(manager);
        }
        Ok(home)
    }

    fn home_as_it_is(&self) -> Result<Home, Failure> {
        if let Some(path) = &self.home {
            return Home::open(path);
        }
        let near = PathBuf::from(".legation/client");
        let far = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".legation/client"));
        let found = [Some(near.clone()), far].into_iter().flatten().find(|p| p.join("client.toml").exists());
        Home::open(&found.unwrap_or(near))
    }

    fn client(&self) -> Result<(Home, Client), Failure> {
        let home = self.home()?;
        let client = Client::new(&home.config.api, &home.config.token)?;
        let patience = patience(&client);
        Ok((home, client.with_patience(patience)))
    }

    /// A client that shows the operator's token.
    fn operator(&self) -> Result<Client, Failure> {
        let home = self.home()?;
        let token = home.config.operator_token.as_deref().ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!("{} holds no operator token: only the operator may do this", home.path.display()),
            )
        })?;
        let client = Client::new(&home.config.api, token)?;
        let patience = patience(&client);
        Ok(client.with_patience(patience))
    }

    fn runner(&self) -> Result<Runner, Failure> {
        let home = self.home()?;
        let client = Client::new(&home.config.api, &home.config.token)?;
        let trust = Trust::new(home.anchors.clone()).map_err(|why| Failure::refused(Exit::Usage, &why))?;
        Ok(Runner {
            client,
            party: Arc::new(home.party()?),
            tenant: home.config.tenant.clone(),
            trust: Arc::new(trust),
            clock: legation_manager::system_clock(),
        })
    }

    /// Prints JSON for programs, or what `table` gives for people.
    fn print<T: Serialize>(&self, value: &T, table: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.output {
            Output::Json => say(&serde_json::to_string_pretty(value).map_err(|e| Failure::new(Exit::Failure, e))?),
            Output::Table => say(table().trim_end()),
        }
    }
}

/// Writes a line of data, in which nobody's words steer the terminal. A closed pipe is not an error: the reader has seen
/// enough.
fn say(text: &str) -> Result<(), Failure> {
    match writeln!(anstream::stdout(), "{}", printable::lines(text)) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::new(Exit::Failure, format!("stdout: {e}"))),
    }
}

/// Tells a person something while work goes on.
fn tell(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", printable::lines(text));
}

/// A progress line on a terminal; nothing where output is read by a program.
fn progress() -> indicatif::ProgressBar {
    if std::io::stderr().is_terminal() {
        let bar = indicatif::ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    } else {
        indicatif::ProgressBar::hidden()
    }
}

/// The task whose name begins with `text`.
async fn find_task(client: &Client, text: &str) -> Result<TaskId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let mut token = None;
    let mut found = Vec::new();
    loop {
        let page = client.tasks(token.as_deref()).await?;
        found.extend(page.tasks.iter().map(|t| t.task).filter(|id| id.to_string().starts_with(text)));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    one(&found, text, "task")
}

/// The enclave whose name begins with `text`.
async fn find_enclave(client: &Client, text: &str) -> Result<EnclaveId, Failure> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let all = client.enclaves().await?;
    let found: Vec<_> = all.iter().map(|e| e.enclave).filter(|id| id.to_string().starts_with(text)).collect();
    one(&found, text, "enclave")
}

fn one<T: Copy>(found: &[T], text: &str, noun: &str) -> Result<T, Failure> {
    match found {
        [one] => Ok(*one),
        [] => Err(Failure::new(Exit::Usage, format!("no {noun} begins with `{text}`; see `legation {noun} list`"))),
        many => {
            Err(Failure::new(Exit::Usage, format!("{} {noun}s begin with `{text}`: give more of the name", many.len())))
        }
    }
}
