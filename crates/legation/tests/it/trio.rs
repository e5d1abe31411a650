//! Three managers on one PostgreSQL, each behind a little proxy of its own, with agents, and clients that never stop submitting and
//! note what they were told. Whatever happened to them: in the end the whole journal is read, and held against all of it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use legation::{
    client::{Client, ClientError},
    cloud::Cloud,
    home::Home,
    party::Trust,
    run::{Job, Outcome, Runner, now},
    setup,
};
use legation_core::{EnclaveId, LeaseId, Rejection, Seq, Term};
use legation_manager::{
    ManagerConfig,
    config::{JournalConfig, Store},
    leader::ManagerView,
};
use legation_pool::{Acknowledged, Event, HistoryFacts, Obeyed, Record, TaskState, check_history};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener as Listener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use crate::{
    postgres::Postgres,
    slow,
    world::{PROGRAM, Ran, SOON, copy, edit, eventually, own_address, program, signal, with_template},
};

/// The managers.
pub(crate) const MANAGERS: [&str; 3] = ["manager", "manager-2", "manager-3"];
/// The agents.
pub(crate) const AGENTS: [&str; 3] = ["aurora", "boreal", "cumulus"];
/// Clients that submit at once.
const CLIENTS: usize = 3;
/// Far more than a failover takes; a test that waits so long fails.
pub(crate) const FAILOVER_MAX: Duration = Duration::from_secs(15);

/// What a proxy does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// Passes everything on.
    Passes,
    /// Takes everything and says nothing: as if packets were lost.
    Silent,
    /// Ends every connection.
    Drops,
}

/// A line to PostgreSQL that can be cut.
struct Proxy {
    line: watch::Sender<Line>,
    task: AbortHandle,
}

impl Proxy {
    async fn start(at: SocketAddr, to: SocketAddr) -> Self {
        let (line, listener) = (watch::Sender::new(Line::Passes), Listener::bind(at).await.unwrap());
        let lines = line.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, to, lines.subscribe()));
            }
        });
        Self { line, task: task.abort_handle() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection. What a silent line took is lost for good, like its connection: what comes later finds it broken.
async fn carry(mut near: TcpStream, to: SocketAddr, mut line: watch::Receiver<Line>) {
    let _ = line.wait_for(|line| *line != Line::Silent).await;
    if *line.borrow() == Line::Drops {
        return;
    }
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        _ = line.wait_for(|line| *line != Line::Passes) => {}
    }
    if *line.borrow() == Line::Silent {
        let _ = line.wait_for(|line| *line != Line::Silent).await;
    }
}

/// The deployment with all that runs.
pub(crate) struct Trio {
    pub(crate) cloud: Cloud,
    pub(crate) home: Home,
    proxies: BTreeMap<&'static str, Proxy>,
    pub(crate) postgres: Postgres,
    _address: TcpListener,
    dir: TempDir,
}

fn addresses(ip: IpAddr, n: usize) -> [SocketAddr; 4] {
    let port = 24_450 + 10 * u16::try_from(n).unwrap();
    [0, 1, 2, 3].map(|offset| SocketAddr::new(ip, port + offset))
}

impl Trio {
    /// All of it, up and ready; nothing where PostgreSQL is not installed, which is said.
    pub(crate) async fn start() -> Option<Self> {
        let postgres = Postgres::start()?;
        let dir = tempfile::tempdir().unwrap();
        with_template("first", |template| copy(template, dir.path()));
        std::fs::remove_dir_all(dir.path().join("agents/dune")).unwrap();
        let journal = JournalConfig {
            store: Store::Postgres,
            url: Some(postgres.tcp_url()),
            password_file: Some(postgres.password_file()),
            ..JournalConfig::default()
        };
        let deployment = setup::open(dir.path()).unwrap();
        let deployment = setup::several_managers(&deployment, MANAGERS.len(), &journal, now()).unwrap();
        let (held, ip) = own_address();
        let server = postgres.tcp_url();
        let server: SocketAddr = server.rsplit('@').next().unwrap().split('/').next().unwrap().parse().unwrap();
        let mut proxies = BTreeMap::new();
        for (n, name) in MANAGERS.into_iter().enumerate() {
            let [agents, api, admin, line] = addresses(ip, n);
            proxies.insert(name, Proxy::start(line, server).await);
            edit::<ManagerConfig>(&dir.path().join(name).join("manager.toml"), |config| {
                (config.agents, config.api, config.admin) = (agents, api, admin);
                config.journal.url = Some(postgres.tcp_url().replace(&server.to_string(), &line.to_string()));
            });
        }
        let all = |of: usize| (0..MANAGERS.len()).map(|n| addresses(ip, n)[of].to_string()).collect::<Vec<_>>();
        for agent in AGENTS {
            edit::<toml::Table>(&dir.path().join("agents").join(agent).join("agent.toml"), |table| {
                table.insert("managers".into(), all(0).into());
            });
        }
        edit::<toml::Table>(&dir.path().join("client/client.toml"), |table| {
            table.insert("api".into(), all(1).into());
        });
        let home = Home::open(&deployment.client).unwrap();
        let cloud = Cloud::new(deployment, Path::new(PROGRAM)).unwrap().logging("info,legation_agent=debug");
        let mut trio = Self { cloud, home, proxies, postgres, _address: held, dir };
        trio.cloud.start().unwrap();
        trio.cloud.ready(AGENTS.len(), SOON, |_| ()).await.unwrap();
        Some(trio)
    }

    pub(crate) fn runner(&self) -> Runner {
        Runner {
            client: Client::new(&self.home.config.api, &self.home.config.token).unwrap(),
            party: Arc::new(self.home.party().unwrap()),
            tenant: self.home.config.tenant.clone(),
            trust: Arc::new(Trust::new(self.home.anchors.clone()).unwrap()),
            clock: legation_manager::system_clock(),
        }
    }

    /// A client of one manager alone, which waits for nobody.
    pub(crate) fn only(&self, manager: &str) -> Client {
        let at = MANAGERS.iter().position(|name| *name == manager).unwrap();
        let api = self.home.config.api.split(',').nth(at).unwrap();
        Client::new(api, &self.home.config.token).unwrap().with_patience(Duration::ZERO)
    }

    /// What a manager says of itself, if it answers within a second.
    pub(crate) async fn view(&self, manager: &str) -> Option<ManagerView> {
        let client = self.only(manager);
        tokio::time::timeout(Duration::from_secs(1), client.manager()).await.ok()?.ok()
    }

    /// Who leads by its own word, among these; waits for somebody to.
    pub(crate) async fn leader_of(&self, among: &[&'static str]) -> &'static str {
        let leads = eventually("somebody leads", FAILOVER_MAX, async || {
            for name in among {
                if self.view(name).await.is_some_and(|view| view.role == "leads") {
                    return Some(*name);
                }
            }
            None
        });
        leads.await
    }

    pub(crate) fn process(&self, manager: &str) -> u32 {
        self.cloud.manager_processes().find(|(name, _)| *name == manager).map(|(_, id)| id).unwrap()
    }

    pub(crate) async fn signal(&self, manager: &str, name: &str) {
        signal(self.process(manager), name).await;
    }

    pub(crate) fn line(&self, manager: &str, line: Line) {
        self.proxies[manager].line.send_replace(line);
    }

    /// Waits until all agents are with `manager`; how long that took.
    pub(crate) async fn agents_are_with(&self, manager: &'static str) -> Duration {
        let (began, client) = (Instant::now(), self.only(manager));
        let here = eventually("all agents are back", FAILOVER_MAX, async || {
            client.pool().await.ok().filter(|pool| pool.enclaves_here == AGENTS.len())
        });
        here.await;
        began.elapsed()
    }

    /// Runs the binary as the tenant.
    pub(crate) async fn legation(&self, args: &[&str]) -> Ran {
        program(self.dir.path(), Some(&self.cloud.deployment().client), args).await
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The whole journal.
    fn records(&self) -> Vec<Record> {
        let rows = self.postgres.query(
            "select json_build_object('version', version, 'seq', seq, 'term', term, 'at', at, 'event', record::json) \
             from journal order by seq",
        );
        rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
    }

    /// The last position of the journal.
    pub(crate) fn end(&self) -> Seq {
        Seq(self.postgres.query("select max(seq) from journal").trim().parse().unwrap())
    }

    /// What an agent obeyed, in order, as it said.
    fn obeyed(&self, agent: &str) -> Vec<Obeyed> {
        let field = |line: &str, name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            value.trim_start_matches("lease-").parse::<u64>().ok()
        };
        let offer = |line: &str| {
            let (lease, term, seq) = (field(line, "lease")?, field(line, "term")?, field(line, "seq")?);
            Some(Obeyed { lease: LeaseId(lease), term: Term(term), seq: Seq(seq) })
        };
        self.log(agent).lines().filter(|line| line.contains(" offer ")).map(|l| offer(l).unwrap()).collect()
    }

    /// The enclave that an agent is, as the journal has it.
    fn enclave(&self, agent: &str, records: &[Record]) -> EnclaveId {
        let log = self.log(agent);
        let started = log.lines().find(|line| line.contains(" started ")).unwrap();
        let short = started.split_whitespace().find_map(|word| word.strip_prefix("enclave=")).unwrap();
        let known = records.iter().find_map(|record| match record.event {
            Event::Arrived { enclave } if enclave.to_string().starts_with(short) => Some(enclave),
            _ => None,
        });
        known.unwrap()
    }

    /// Holds the whole journal against its rules, and against what clients were told and agents obeyed.
    pub(crate) fn audit(&self, told: &[Acknowledged]) -> HistoryFacts {
        // What was obeyed before the journal is read must be in it, while work goes on.
        let offers: Vec<_> = AGENTS.into_iter().map(|agent| (agent, self.obeyed(agent))).collect();
        let records = self.records();
        let facts = check_history(&records).unwrap_or_else(|why| panic!("the journal does not hold: {why}"));
        for one in told {
            facts.check_acknowledged(one).unwrap_or_else(|why| panic!("{why}"));
        }
        let mut obeyed = 0;
        for (agent, offers) in offers {
            obeyed += offers.len();
            facts.check_obeyed(self.enclave(agent, &records), offers).unwrap_or_else(|why| panic!("{agent}: {why}"));
        }
        assert!(!told.is_empty() && obeyed > 0, "nothing happened: {} told, {obeyed} obeyed", told.len());
        println!(
            "audit: {} records, {} terms, {} tasks, {} promises; {} acknowledgements and {obeyed} obeyed offers hold",
            records.len(),
            facts.terms().len(),
            facts.tasks().len(),
            facts.leases().len(),
            told.len()
        );
        facts
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for name in MANAGERS.iter().chain(&AGENTS) {
            let log = self.log(name);
            let last: Vec<_> = log.lines().rev().take(25).collect();
            println!("--- end of the log of {name}");
            last.iter().rev().for_each(|line| println!("{}", line.chars().take(300).collect::<String>()));
        }
    }
}

/// Clients that submit all the time. Each waits for the end of its task before it submits the next.
pub(crate) struct Load {
    told: Arc<Mutex<Vec<(Instant, Acknowledged)>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) async fn start(trio: &Trio) -> Self {
        let (told, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let (runner, told, stop) = (trio.runner(), told.clone(), stop.clone());
            clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    one(&runner, &told).await;
                }
            }));
        }
        let load = Self { told, stop, clients };
        load.next(Instant::now(), Seq(0)).await;
        load
    }

    /// Waits for the next submission that is acknowledged after `since`, by an answer that rests on more than the journal had up
    /// to `end`; how long it took.
    pub(crate) async fn next(&self, since: Instant, end: Seq) -> Duration {
        let next = eventually("a submission is acknowledged", FAILOVER_MAX, async || {
            assert!(self.clients.iter().all(|client| !client.is_finished()), "a client gave up");
            let told = self.told.lock().unwrap();
            let new = |(at, one): &&(Instant, Acknowledged)| *at > since && one.version > end && !one.completed;
            told.iter().find(new).map(|(at, _)| *at)
        });
        next.await.duration_since(since)
    }

    /// Waits for a task that completes after `since`.
    pub(crate) async fn completes(&self, since: Instant) {
        let next = eventually("a task completes", FAILOVER_MAX, async || {
            let told = self.told.lock().unwrap();
            told.iter().any(|(at, one)| *at > since && one.completed).then_some(())
        });
        next.await;
    }

    /// Everything the clients were told so far.
    pub(crate) fn told(&self) -> Vec<Acknowledged> {
        self.told.lock().unwrap().iter().map(|(_, one)| *one).collect()
    }

    /// Lets the clients finish what they are at; what they were told.
    pub(crate) async fn stop(self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            tokio::time::timeout(SOON, client).await.expect("a client does not end").unwrap();
        }
        let told = self.told.lock().unwrap();
        told.iter().map(|(_, one)| *one).collect()
    }
}

/// One task, from its submission to its end. A task may be lost with its enclave over and over, but it is never forgotten.
async fn one(runner: &Runner, told: &Mutex<Vec<(Instant, Acknowledged)>>) {
    let submitted = runner.submit(slow::idle(runner).await, &[]).await.unwrap();
    let task = submitted.task;
    let note = |version: u64, completed| {
        let one = Acknowledged { task, version: Seq(version), completed };
        told.lock().unwrap().push((Instant::now(), one));
    };
    note(submitted.version(), false);
    loop {
        let now = runner.client.task(task, 20).await.unwrap();
        match now.view.state {
            TaskState::Live => {}
            TaskState::Completed => break note(now.version, true),
            other => panic!("a task of nothing ended so: {other:?}"),
        }
    }
}

/// A job that is followed in the background, as a client does that waits for it.
pub(crate) struct Following(JoinHandle<Result<Outcome, legation::exit::Failure>>);

impl Following {
    pub(crate) async fn start(runner: Runner, job: Job) -> Self {
        let submitted = runner.submit(job, &[]).await.unwrap();
        Self(tokio::spawn(async move { runner.follow(submitted, |_| {}).await }))
    }

    pub(crate) async fn completes(self) -> Outcome {
        let ended = tokio::time::timeout(SOON, self.0).await;
        ended.expect("the job did not end in time").unwrap().unwrap_or_else(|e| panic!("{e}"))
    }
}

/// The refusal of a call.
pub(crate) fn refusal<T>(result: Result<T, ClientError>) -> Rejection {
    match result {
        Err(ClientError::Refused { why, .. }) => why,
        Err(other) => panic!("not refused: {other}"),
        Ok(_) => panic!("not refused"),
    }
}
