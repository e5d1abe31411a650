//! Runs a deployment on this machine: every manager and every agent a process of its own, with its log in a file; an agent with an
//! emulated TPM has that started before it, and it outlives the agent as hardware does. When the [`Cloud`] is dropped, all are
//! killed; [`Cloud::stop`] lets them end by themselves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use legation_agent::{
    AgentConfig,
    config::{Development, Tcti, TpmConfig},
};
use tokio::process::{Child, Command};

use crate::{
    client::Client,
    emulator,
    exit::{Exit, Failure},
    home::Home,
    setup::Deployment,
};

/// How long processes have to end after SIGTERM.
const END: Duration = Duration::from_secs(10);

/// Name of the first manager.
const FIRST: &str = "manager";

/// Processes of a deployment.
pub struct Cloud {
    program: PathBuf,
    logs: PathBuf,
    /// What the processes log; what they log by themselves without it.
    filter: Option<String>,
    deployment: Deployment,
    managers: BTreeMap<String, Child>,
    agents: BTreeMap<String, Child>,
    emulators: BTreeMap<String, Child>,
}

impl Cloud {
    /// Prepares to run `deployment` with the binary `program`; logs go to `DIR/logs`.
    ///
    /// # Errors
    /// The folder for logs cannot be made.
    pub fn new(deployment: Deployment, program: &Path) -> Result<Self, Failure> {
        let logs = deployment.root.join("logs");
        std::fs::create_dir_all(&logs).map_err(|e| failed("logs", &e))?;
        Ok(Self {
            program: program.to_owned(),
            logs,
            filter: None,
            deployment,
            managers: BTreeMap::new(),
            agents: BTreeMap::new(),
            emulators: BTreeMap::new(),
        })
    }

    /// Has processes that are started from now on log what `filter` says, such as `info,legation_agent=debug`.
    pub fn logging(mut self, filter: &str) -> Self {
        self.filter = Some(filter.to_owned());
        self
    }

    /// What runs.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    fn spawn(&self, name: &str, role: &str, config: &Path) -> Result<Child, Failure> {
        let path = self.logs.join(format!("{name}.log"));
        let log = std::fs::File::options().create(true).append(true).open(&path).map_err(|e| failed(name, &e))?;
        let copy = log.try_clone().map_err(|e| failed(name, &e))?;
        Command::new(&self.program)
            .arg(role)
            .arg("--config")
            .arg(config)
            .args(self.filter.iter().flat_map(|filter| ["--log", filter]))
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(log)
            .kill_on_drop(true)
            // A Ctrl-C at the terminal is for us; we end them in order.
            .process_group(0)
            .spawn()
            .map_err(|e| failed(name, &e))
    }

    /// Starts the manager; of several, the first.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start_manager(&mut self) -> Result<(), Failure> {
        self.start_manager_of(FIRST)
    }

    /// Starts one of several managers by name.
    ///
    /// # Errors
    /// There is no such manager, or its process cannot be started.
    pub fn start_manager_of(&mut self, name: &str) -> Result<(), Failure> {
        let found = self.deployment.managers.iter().find(|(known, _)| known == name).cloned();
        let (name, config) = found.ok_or_else(|| Failure::new(Exit::Usage, format!("there is no manager `{name}`")))?;
        let child = self.spawn(&name, "manager", &config)?;
        self.managers.insert(name, child);
        Ok(())
    }

    /// Starts one agent by name.
    ///
    /// # Errors
    /// There is no such agent, or its process cannot be started.
    pub fn start_agent(&mut self, name: &str) -> Result<(), Failure> {
        let found = self.deployment.agents.iter().find(|(known, _)| known == name).cloned();
        let (name, config) = found.ok_or_else(|| Failure::new(Exit::Usage, format!("there is no agent `{name}`")))?;
        self.start_emulator(&name, &config)?;
        let child = self.spawn(&name, "agent", &config)?;
        self.agents.insert(name, child);
        Ok(())
    }

    /// Starts the emulated TPM of an agent, where it has one that does not run.
    fn start_emulator(&mut self, name: &str, file: &Path) -> Result<(), Failure> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let runs = |child: &mut Child| matches!(child.try_wait(), Ok(None));
        if !folder.join("tpm").is_dir() || self.emulators.get_mut(name).is_some_and(runs) {
            return Ok(());
        }
        let config = AgentConfig::read(file).map_err(|e| Failure::new(Exit::Usage, e))?;
        if let Some(Development::Tpm(TpmConfig { tcti: Tcti::Swtpm { host, port }, .. })) = config.development {
            let log = self.logs.join(format!("{name}.tpm.log"));
            self.emulators.insert(name.to_owned(), emulator::start(folder, &host, port, &log)?);
        }
        Ok(())
    }

    /// Starts everything.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn start(&mut self) -> Result<(), Failure> {
        let names: Vec<_> = self.deployment.managers.iter().map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.start_manager_of(name))?;
        let names: Vec<_> = self.deployment.agents.iter().map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.start_agent(name))
    }

    /// Waits until `wanted` enclaves are here; `progress` hears how many are.
    ///
    /// # Errors
    /// They are not here in time, or a process ended: its log's last lines are in the error.
    pub async fn ready(
        &mut self,
        wanted: usize,
        within: Duration,
        mut progress: impl FnMut(usize),
    ) -> Result<Client, Failure> {
        let home = Home::open(&self.deployment.client)?;
        let token = home.config.operator_token.as_deref().unwrap_or(&home.config.token);
        let client = Client::new(&home.config.api, token)?.with_patience(Duration::ZERO);
        let started = Instant::now();
        loop {
            self.check()?;
            let up = client.pool().await.map(|pool| pool.enclaves_here).ok();
            let here = up.unwrap_or(0);
            progress(here);
            if up.is_some_and(|here| here >= wanted) {
                return Client::new(&home.config.api, &home.config.token);
            }
            if started.elapsed() > within {
                let text = format!(
                    "{here} of {wanted} enclaves are here after {within:?}; see the logs in {}",
                    self.logs.display()
                );
                return Err(Failure::new(Exit::NoEnclave, text));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether everything that was started still runs.
    fn check(&mut self) -> Result<(), Failure> {
        let logs = self.logs.clone();
        for (name, child) in self.managers.iter_mut().chain(&mut self.agents) {
            if let Ok(Some(status)) = child.try_wait() {
                let text = std::fs::read_to_string(logs.join(format!("{name}.log"))).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(5).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n  ");
                return Err(Failure::new(Exit::Failure, format!("{name} ended ({status}); its last words:\n  {tail}")));
            }
        }
        Ok(())
    }

    /// Kills an agent with SIGKILL: it gets no chance to say anything.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_agent(&mut self, name: &str) -> Result<(), Failure> {
        let mut child = self
            .agents
            .remove(name)
            .ok_or_else(|| Failure::new(Exit::Usage, format!("agent `{name}` does not run")))?;
        child.kill().await.map_err(|e| failed(name, &e))
    }

    /// Kills the manager with SIGKILL; of several, the first.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_manager(&mut self) -> Result<(), Failure> {
        self.kill_manager_of(FIRST).await
    }

    /// Kills one of several managers with SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_manager_of(&mut self, name: &str) -> Result<(), Failure> {
        let gone = || Failure::new(Exit::Usage, format!("manager `{name}` does not run"));
        let mut child = self.managers.remove(name).ok_or_else(gone)?;
        child.kill().await.map_err(|e| failed(name, &e))
    }

    /// Process of the manager, while it runs; of several, the first's.
    pub fn manager_process(&self) -> Option<u32> {
        self.managers.get(FIRST).and_then(Child::id)
    }

    /// Processes of the managers that run, by name.
    pub fn manager_processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.managers.iter().filter_map(|(name, child)| Some((name.as_str(), child.id()?)))
    }

    /// Processes of the agents that run, by name.
    pub fn agent_processes(&self) -> impl Iterator<Item = (&str, u32)> {
        self.agents.iter().filter_map(|(name, child)| Some((name.as_str(), child.id()?)))
    }

    /// Lets everything end by itself: agents drain, then managers close their journal.
    pub async fn stop(mut self) {
        let mut agents: Vec<_> = std::mem::take(&mut self.agents).into_values().collect();
        end(&mut agents).await;
        let mut managers: Vec<_> = std::mem::take(&mut self.managers).into_values().collect();
        end(&mut managers).await;
        for emulator in self.emulators.values_mut() {
            let _ = emulator.kill().await;
        }
    }
}

async fn end(children: &mut [Child]) {
    for child in children.iter() {
        if let Some(id) = child.id() {
            // `kill` is in every POSIX system; a signal through it needs no unsafe code here.
            let _ = Command::new("kill").arg("-TERM").arg(id.to_string()).stderr(Stdio::null()).status().await;
        }
    }
    let deadline = tokio::time::Instant::now() + END;
    for child in children {
        if tokio::time::timeout_at(deadline, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

fn failed(name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, format!("{name} cannot be started: {error}"))
}
