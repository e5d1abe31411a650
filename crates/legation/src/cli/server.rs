//! Running a manager, and `legation agent`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use legation_agent::{Agent, AgentConfig, Shutdown, attester};
use legation_manager::{Manager, ManagerConfig, system_clock};
use tracing_subscriber::EnvFilter;

use super::{Context, Exit, Failure, detect};

#[derive(Args)]
pub(super) struct AgentArgs {
    #[command(subcommand)]
    command: Option<AgentCommand>,
    /// Configuration file; `legation init` makes one.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    logs: Logs,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Says what this machine could attest with, and what an agent would take. Exit code 3 when it is nothing.
    Detect(detect::Detect),
}

#[derive(Args)]
pub(super) struct Logs {
    /// What is logged, such as `info` or `legation_agent=debug`. Secrets and plaintexts never are.
    #[arg(long, env = "LEGATION_LOG", default_value = "info")]
    log: String,
    /// Logs as JSON lines.
    #[arg(long)]
    log_json: bool,
}

impl Logs {
    pub(super) fn start(&self) -> Result<(), Failure> {
        let filter = EnvFilter::try_new(&self.log)
            .map_err(|e| Failure::new(Exit::Usage, format!("--log `{}` is not a filter: {e}", self.log)))?;
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        if self.log_json {
            logs.json().init()
        } else {
            logs.with_ansi(false).init()
        }
        Ok(())
    }
}

pub(super) async fn terminated() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| Failure::new(Exit::Failure, format!("signals: {e}")))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

pub(super) async fn manager(config: &Path) -> Result<Exit, Failure> {
    let config = ManagerConfig::load(config).map_err(|why| Failure::refused(Exit::Usage, &why))?;
    let manager = Manager::start(config, system_clock()).await.map_err(|e| Failure::new(Exit::Failure, e))?;
    terminated().await?;
    manager.stop().await;
    Ok(Exit::Success)
}

pub(super) async fn agent(context: &Context, args: AgentArgs) -> Result<Exit, Failure> {
    if let Some(AgentCommand::Detect(args)) = &args.command {
        return detect::detect(context, args);
    }
    args.logs.start()?;
    let file = args.config.ok_or_else(|| Failure::new(Exit::Usage, "an agent needs --config FILE"))?;
    let config = AgentConfig::read(&file).map_err(|e| Failure::new(Exit::Usage, e))?;
    let attester = attester::choose(&config).map_err(|e| Failure::new(Exit::Usage, e))?;
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(|e| Failure::new(Exit::Failure, format!("signals: {e}")))?;
    let agent = Agent::start(config, attester, shutdown).map_err(|e| Failure::new(Exit::Failure, e))?;
    agent.run().await;
    Ok(Exit::Success)
}
