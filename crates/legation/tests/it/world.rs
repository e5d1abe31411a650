//! A deployment that a test has for itself: copied from one that is made once for each build of the binary, because the keys of
//! a development root take seconds to make.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use legation::{
    client::Client,
    cloud::Cloud,
    home::Home,
    party::Trust,
    run::{Runner, now},
    setup::{self, AgentPlan, Deployment},
};
use legation_core::{Bytes, EnclaveId, Millicores, ProviderId, Region, TaskId, claims::Capacity, encoding::hex};
use legation_manager::ManagerConfig;
use legation_pool::TaskView;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The binary under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_legation");
/// How long anything may take that should take a moment.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// Between two looks at something that should happen.
const LOOK: Duration = Duration::from_millis(25);

/// Agents of every deployment: name (and provider), region, dollars for a core and for a GiB an hour.
const AGENTS: [(&str, &str, &str, &str); 4] = [
    ("aurora", "eu-north", "0.012", "0.002"),
    ("boreal", "eu-central", "0.018", "0.003"),
    ("cumulus", "us-east", "0.009", "0.0015"),
    ("dune", "af-south", "0.030", "0.004"),
];
/// Ports on a world's own address: the first is held while the world is.
const PORTS: [u16; 4] = [24_440, 24_441, 24_442, 24_443];

/// A deployment with its processes.
pub(crate) struct World {
    // Dropped in this order: processes end before their folder goes.
    pub(crate) cloud: Cloud,
    pub(crate) root: PathBuf,
    _address: TcpListener,
    _dir: TempDir,
}

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its standard output as text.
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// Fails the test unless it ended so and said all of this on standard error.
    #[track_caller]
    pub(crate) fn ended(self, code: i32, said: &[&str]) -> Self {
        let missing: Vec<_> = said.iter().filter(|words| !self.stderr.contains(**words)).collect();
        let all = || format!("stdout:\n{}\nstderr:\n{}", self.out(), self.stderr);
        assert!(self.code == Some(code), "ended with {:?}, not {code}\n{}", self.code, all());
        assert!(missing.is_empty(), "did not say {missing:?}\n{}", all());
        self
    }
}

/// Runs the binary to its end, in `folder`, with no home but the one given.
pub(crate) async fn program<S: AsRef<OsStr>>(folder: &Path, home: Option<&Path>, args: &[S]) -> Ran {
    let shown: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    end(spawn(folder, home, args), &format!("legation {}", shown.join(" ")), SOON).await
}

/// Starts the binary, in `folder`, with no home but the one given.
pub(crate) fn spawn<S: AsRef<OsStr>>(folder: &Path, home: Option<&Path>, args: &[S]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(args).current_dir(folder).env_remove("LEGATION_HOME").env_remove("LEGATION_LOG").env("HOME", folder);
    if let Some(home) = home {
        command.env("LEGATION_HOME", home);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// Waits for a process that was started.
pub(crate) async fn finish(child: Child) -> Ran {
    finish_within(child, SOON).await
}

/// As [`finish`], of one that may take so long.
pub(crate) async fn finish_within(child: Child, most: Duration) -> Ran {
    end(child, "the program", most).await
}

async fn end(child: Child, what: &str, most: Duration) -> Ran {
    let output = tokio::time::timeout(most, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("did not end in time: {what}")).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { code: output.status.code(), stdout: output.stdout, stderr }
}

/// Sends a signal.
pub(crate) async fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().await.unwrap();
    assert!(sent.success(), "signal {name} to {process}");
}

/// Waits until `look` gives something.
#[track_caller]
pub(crate) fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(started.elapsed() < within, "{caller}: not within {within:?}: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A committed guest module.
pub(crate) fn guest(name: &str) -> String {
    repository("guests").join(format!("{name}.wasm")).canonicalize().unwrap().to_str().unwrap().to_owned()
}

impl World {
    /// A deployment with these agents; nothing runs yet.
    pub(crate) fn new(agents: &[&str]) -> Self {
        Self::of("first", agents)
    }

    /// A deployment of the root named `root`: another one trusts nothing of the first.
    pub(crate) fn of(root: &str, agents: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        with_template(root, |template| copy(template, dir.path()));
        for (known, ..) in AGENTS {
            if !agents.contains(&known) {
                fs::remove_dir_all(dir.path().join("agents").join(known)).unwrap();
            }
        }
        Self::within(dir, agents)
    }

    /// A deployment of such agents, with a root of its own; nothing runs yet.
    pub(crate) fn planned(plans: &[AgentPlan]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        setup::development(dir.path(), plans, Path::new(PROGRAM), now()).unwrap();
        let names: Vec<_> = plans.iter().map(|plan| plan.name.as_str()).collect();
        Self::within(dir, &names)
    }

    /// The deployment in a folder, on an address of its own.
    fn within(dir: TempDir, agents: &[&str]) -> Self {
        let (held, [agents_at, api, admin]) = address();
        edit::<ManagerConfig>(&dir.path().join("manager/manager.toml"), |config| {
            (config.agents, config.api, config.admin) = (agents_at, api, admin);
        });
        for agent in agents {
            edit::<toml::Table>(&dir.path().join("agents").join(agent).join("agent.toml"), |table| {
                table.insert("managers".into(), vec![agents_at.to_string()].into());
                // A test does not wait a minute for an agent that was refused once.
                table.insert("reconnect".into(), toml::toml! { longest_s = 1 refused_s = 1 }.into());
            });
        }
        edit::<toml::Table>(&dir.path().join("client/client.toml"), |table| {
            table.insert("api".into(), api.to_string().into());
        });
        let deployment = setup::open(dir.path()).unwrap();
        let root = deployment.root.clone();
        Self { cloud: Cloud::new(deployment, Path::new(PROGRAM)).unwrap(), root, _address: held, _dir: dir }
    }

    /// A deployment whose manager and agents are up.
    pub(crate) async fn started(agents: &[&str]) -> Self {
        let mut world = Self::new(agents);
        world.start().await;
        world
    }

    /// Starts manager and agents and waits until all are here.
    pub(crate) async fn start(&mut self) {
        self.cloud.start().unwrap();
        self.ready(self.deployment().agents.len()).await;
    }

    /// Waits until this many enclaves are here.
    pub(crate) async fn ready(&mut self, enclaves: usize) {
        self.cloud.ready(enclaves, SOON, |_| ()).await.unwrap();
    }

    pub(crate) fn deployment(&self) -> &Deployment {
        self.cloud.deployment()
    }

    /// Changes the manager's configuration.
    pub(crate) fn manager_config(&self, change: impl FnOnce(&mut ManagerConfig)) {
        edit(&self.deployment().manager, change);
    }

    /// Changes an agent's configuration.
    pub(crate) fn agent_config(&self, name: &str, change: impl FnOnce(&mut toml::Table)) {
        edit(&self.agent_file(name), change);
    }

    pub(crate) fn agent_file(&self, name: &str) -> PathBuf {
        self.root.join("agents").join(name).join("agent.toml")
    }

    pub(crate) fn home(&self) -> Home {
        Home::open(&self.deployment().client).unwrap()
    }

    /// The tenant's client, which does not wait for an absent manager.
    pub(crate) fn client(&self) -> Client {
        let home = self.home();
        Client::new(&home.config.api, &home.config.token).unwrap().with_patience(Duration::ZERO)
    }

    /// The operator's client.
    pub(crate) fn operator(&self) -> Client {
        let home = self.home();
        let token = home.config.operator_token.unwrap();
        Client::new(&home.config.api, &token).unwrap().with_patience(Duration::ZERO)
    }

    pub(crate) fn runner(&self) -> Runner {
        let home = self.home();
        Runner {
            client: Client::new(&home.config.api, &home.config.token).unwrap(),
            party: Arc::new(home.party().unwrap()),
            tenant: home.config.tenant.clone(),
            trust: Arc::new(Trust::new(home.anchors).unwrap()),
            clock: legation_manager::system_clock(),
        }
    }

    /// Runs the binary as the tenant.
    pub(crate) async fn legation<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        program(&self.root, Some(&self.deployment().client), args).await
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.root.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    /// What a process has logged.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.root.join("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Waits until a process logs a line that has all of these words.
    #[track_caller]
    pub(crate) fn logs(&self, name: &str, words: &[&str], within: Duration) -> impl Future<Output = String> {
        let what = format!("a line of {name} with {words:?}");
        let (path, words) = (self.root.join("logs").join(format!("{name}.log")), words.to_vec());
        let caller = std::panic::Location::caller();
        async move {
            let started = Instant::now();
            loop {
                let log = fs::read_to_string(&path).unwrap_or_default();
                if let Some(line) = log.lines().find(|line| words.iter().all(|w| line.contains(w))) {
                    return line.to_owned();
                }
                assert!(started.elapsed() < within, "{caller}: not within {within:?}: {what}; the log is\n{log}");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// The enclave of an agent that has started.
    pub(crate) async fn enclave(&self, agent: &str) -> EnclaveId {
        let pem = fs::read(self.agent_file(agent).with_file_name("chip.pem")).unwrap();
        let chip = hex(&legation_attest::dev::Chip::from_pem(&pem).unwrap().spec().chip_id);
        let all = self.client().enclaves().await.unwrap();
        all.iter().find(|e| e.chip == chip).map(|e| e.enclave).unwrap()
    }

    /// Process of an agent that runs.
    pub(crate) fn process(&self, agent: &str) -> u32 {
        self.cloud.agent_processes().find(|(name, _)| *name == agent).map(|(_, id)| id).unwrap()
    }

    /// The task as it stands.
    pub(crate) async fn task(&self, task: TaskId) -> TaskView {
        self.client().task(task, 0).await.unwrap().view
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for log in fs::read_dir(self.root.join("logs")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            let last: Vec<_> = text.lines().rev().take(30).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            println!("--- end of {}\n{}", log.path().display(), last.join("\n"));
        }
    }
}

/// Changes a TOML file.
pub(crate) fn edit<T: serde::Serialize + serde::de::DeserializeOwned>(file: &Path, change: impl FnOnce(&mut T)) {
    let mut value: T = toml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    change(&mut value);
    fs::write(file, toml::to_string(&value).unwrap()).unwrap();
}

/// A loopback address that no other test has while the first of its ports is held, and three more ports of it. Connections go
/// out from another address, so nothing can take them meanwhile.
fn address() -> (TcpListener, [SocketAddr; 3]) {
    let (held, ip) = own_address();
    (held, [PORTS[1], PORTS[2], PORTS[3]].map(|port| SocketAddr::new(ip, port)))
}

/// A loopback address that no other test has while its listener lives.
pub(crate) fn own_address() -> (TcpListener, IpAddr) {
    for _ in 0..1000 {
        let mut bytes = [0; 3];
        legation_keys::Entropy::fill(&mut legation_net::OsEntropy, &mut bytes);
        let ip = IpAddr::V4(Ipv4Addr::new(127, bytes[0] | 1, bytes[1], bytes[2]));
        if let Ok(held) = TcpListener::bind((ip, PORTS[0])) {
            return (held, ip);
        }
    }
    panic!("no loopback address can be had");
}

/// Shows the deployment of `root` that this build of the binary made, making it first if need be. Tests run in threads of one
/// process or in processes of their own: a locked file lets one make it while the others wait.
pub(crate) fn with_template<T>(root: &str, show: impl FnOnce(&Path) -> T) -> T {
    let all = templates();
    let lock = File::create(all.join(format!("{root}.lock"))).unwrap();
    lock.lock().unwrap();
    let binary = fs::metadata(PROGRAM).unwrap();
    let built = binary.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let (folder, stamp) = (all.join(root), format!("{} bytes of {built}\n", binary.len()));
    if fs::read_to_string(folder.join("stamp")).ok().as_ref() != Some(&stamp) {
        let _ = fs::remove_dir_all(&folder);
        setup::development(&folder, &plans(), Path::new(PROGRAM), now()).unwrap();
        fs::write(folder.join("stamp"), &stamp).unwrap();
    }
    show(&folder)
}

/// Where deployments are kept between tests.
pub(crate) fn templates() -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deployments");
    fs::create_dir_all(&all).unwrap();
    all
}

fn plans() -> Vec<AgentPlan> {
    AGENTS
        .map(|(name, region, core_hour_usd, gib_hour_usd)| AgentPlan {
            name: name.to_owned(),
            provider: ProviderId::new(name).unwrap(),
            region: Region::new(region).unwrap(),
            capacity: Capacity { cpu: Millicores(1000), memory: Bytes::mib(512), slots: 4 },
            core_hour_usd,
            gib_hour_usd,
            lent: false,
        })
        .to_vec()
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
