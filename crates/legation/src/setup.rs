//! Makes a deployment in a folder: operator's root, manager, verifier, tenant, and (in development) chips and agents.
//!
//! ```text
//! DIR/operator.key                  the root that appoints: keep it offline; or DIR/operator.hsm.toml: see [`crate::root`]
//! DIR/anchors.json                  what clients and receipts trust: give it to everyone. Written last: with it, the rest is whole
//! DIR/manager/manager.toml ...      start with `legation manager --config`
//! DIR/manager/log.key               signs the transparency log; all managers of a journal have it
//! DIR/manager-2/manager.toml ...    further managers of the same journal: see [`several_managers`]
//! DIR/agents/NAME/agent.toml ...    start with `legation agent --config`
//! DIR/tpm-ca, DIR/agents/NAME/tpm   with emulated TPMs: see [`crate::emulator`]
//! DIR/client/client.toml ...        use with LEGATION_HOME
//! ```

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use legation_agent::{attester, config::MANAGERS_MAX};
use legation_attest::{
    dev::{ChipSpec, DevelopmentRoot},
    snp::{Product, TcbVersion},
};
use legation_core::{
    Bytes, Digest, Millicores, ProviderId, PublicKey, Region, Signer, TenantId, UnixTime,
    claims::{Anchors, Capacity, LogAnchor, TeeKind},
    encoding,
    statement::{Appointment, Office},
};
use legation_keys::{Entropy, IdentityKey, SealingKey};
use legation_manager::{Addresses, JournalConfig, LogConfig, ManagerConfig, Tenant, config::Store};
use legation_net::OsEntropy;
use legation_policy::{ReferenceKind, ReferenceValue, THIS_BUILD, starter};

use crate::{
    emulator::{self, Authority},
    exit::{Exit, Failure},
    home::{ClientConfig, write_secret},
    root::{self, Root},
    run::now,
};

/// How long appointments hold, in seconds: a year.
const APPOINTMENT_SECONDS: u64 = 365 * 86_400;

/// Security version of development chips: what a patched Milan reported in 2026.
const TCB: TcbVersion = TcbVersion { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
/// The manager's policy and reference values, in its folder.
const POLICY: &str = "appraisal.cedar";
const REFERENCES: &str = "references.json";
/// Key of the transparency log, in the same place, and the log's name.
const LOG_KEY: &str = "log.key";
const LOG_ORIGIN: &str = "legation.local/log";

/// What is in a deployment's folder when it is whole, and its name until then.
const ANCHORS: &str = "anchors.json";
const ANCHORS_PART: &str = "anchors.json.part";
/// What else is made in a deployment's folder, beside its root and before its anchors.
const PARTS: [&str; 5] = ["agents", "client", MANAGER, "tpm-ca", ANCHORS_PART];

/// What the enclaves of a development deployment attest with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HardwareRoot {
    /// Development chips: byte-exact reports of SEV-SNP under a root of the deployment.
    #[default]
    Chips,
    /// Emulated TPMs under an authority of the deployment. Needs swtpm, and agents with feature `tpm`.
    Tpm,
}

/// What makes the hardware of one deployment.
enum Maker {
    Chips(Box<DevelopmentRoot>),
    Tpm(Authority, emulator::Addresses),
}

/// One agent of a development deployment.
#[derive(Clone, Debug)]
pub struct AgentPlan {
    /// Folder name.
    pub name: String,
    /// Its owner.
    pub provider: ProviderId,
    /// Its place.
    pub region: Region,
    /// What it offers.
    pub capacity: Capacity,
    /// Price of a core for an hour, in dollars.
    pub core_hour_usd: &'static str,
    /// Price of a GiB for an hour, in dollars.
    pub gib_hour_usd: &'static str,
    /// Whether others may hand parts of their work to it: it listens to them on loopback.
    pub lent: bool,
}

/// A deployment that was made.
pub struct Deployment {
    /// Its folder.
    pub root: PathBuf,
    /// Configuration of the manager; of several, of the first.
    pub manager: PathBuf,
    /// Configurations of all managers, by name.
    pub managers: Vec<(String, PathBuf)>,
    /// Configurations of the agents, by name.
    pub agents: Vec<(String, PathBuf)>,
    /// Home of the tenant's client.
    pub client: PathBuf,
    /// Where the manager will listen; of several, the first.
    pub addresses: Addresses,
}

/// Name of the first manager, and of its folder; the others' begin with it.
const MANAGER: &str = "manager";
/// The configuration in a manager's folder.
const MANAGER_FILE: &str = "manager.toml";

/// Providers of the small cloud.
pub const PROVIDERS: u16 = 3;
/// The swarm key that [`custodians`] keep.
pub const SWARM: &str = "main";

/// The nine agents of the small cloud: three providers, three regions, three prices.
///
/// # Panics
/// Never: the names are constants that are names.
pub fn nine_agents() -> Vec<AgentPlan> {
    let providers = [
        ("aurora", "eu-north", "0.012", "0.0020"),
        ("boreal", "eu-central", "0.018", "0.0030"),
        ("cumulus", "us-east", "0.009", "0.0015"),
    ];
    let mut plans = Vec::new();
    for (provider, region, core_hour_usd, gib_hour_usd) in providers {
        for number in 1..=3 {
            let (Ok(owner), Ok(place)) = (ProviderId::new(provider), Region::new(region)) else { continue };
            plans.push(AgentPlan {
                name: format!("{provider}-{number}"),
                provider: owner,
                region: place,
                capacity: Capacity { cpu: Millicores(1000), memory: Bytes::mib(512), slots: 4 },
                core_hour_usd,
                gib_hour_usd,
                lent: true,
            });
        }
    }
    plans
}

/// Makes a development deployment in `root`, which must not hold one yet, with development chips.
///
/// # Errors
/// The folder is in use, the disk failed, or a key cannot be made.
pub fn development(root: &Path, plans: &[AgentPlan], image: &Path, now: UnixTime) -> Result<Deployment, Failure> {
    development_on(HardwareRoot::Chips, root, plans, image, now)
}

/// Makes a development deployment in `root`, which must not hold one yet, with such hardware, and the operator's root in a file.
///
/// # Errors
/// The folder is in use, the disk failed, a key or a TPM cannot be made, or programs are missing.
pub fn development_on(
    hardware: HardwareRoot,
    root: &Path,
    plans: &[AgentPlan],
    image: &Path,
    now: UnixTime,
) -> Result<Deployment, Failure> {
    development_under(|folder| Root::make_file(folder, None, &mut OsEntropy), hardware, root, plans, image, now)
}

/// As [`development_on`], with an operator's root that is made in the deployment's folder, before anything rests on it. What fails on
/// the way is removed, so that it can be tried again; of a root in a token, what describes it stays, and the next attempt takes it.
///
/// # Errors
/// As [`development_on`], there is no such root, or a part of a deployment is left in the folder by somebody who was killed.
pub fn development_under(
    operator: impl FnOnce(&Path) -> Result<Root, Failure>,
    hardware: HardwareRoot,
    root: &Path,
    plans: &[AgentPlan],
    image: &Path,
    now: UnixTime,
) -> Result<Deployment, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failure, format!("deployment cannot be made: {e}"));
    if root.join(ANCHORS).exists() {
        let text = format!("{} holds a deployment already; use it, or choose another folder", root.display());
        return Err(Failure::new(Exit::Usage, text));
    }
    let left: Vec<_> = PARTS.into_iter().filter(|name| root.join(name).exists()).collect();
    if !left.is_empty() {
        let text = format!(
            "{} holds a part of a deployment that was never finished: {}. Nothing rests on it: remove it, or choose another folder",
            root.display(),
            left.join(", "),
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    std::fs::create_dir_all(root).map_err(|e| failed(&e))?;
    let root = root.canonicalize().map_err(|e| failed(&e))?;
    let operator = operator(&root)?;
    let made = fill(&operator, hardware, &root, plans, image, now);
    if made.is_err() {
        abandon(&root);
    }
    made
}

/// Removes a deployment that its maker could not finish: all of it was made just now, and nobody was given any. What describes a
/// root in a token stays.
pub fn abandon(root: &Path) {
    let gone = |name: &str| {
        let path = root.join(name);
        // What is not there needs no removing; what cannot be removed, the next attempt names.
        let _gone = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    };
    [ANCHORS, root::KEY_FILE].into_iter().chain(PARTS).for_each(gone);
    for n in 2..=MANAGERS_MAX {
        gone(&format!("{MANAGER}-{n}"));
    }
}

/// Makes all of a deployment but its root.
fn fill(
    operator: &Root,
    hardware: HardwareRoot,
    root: &Path,
    plans: &[AgentPlan],
    image: &Path,
    now: UnixTime,
) -> Result<Deployment, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failure, format!("deployment cannot be made: {e}"));
    let folder = |path: PathBuf| std::fs::create_dir_all(&path).map(|()| path).map_err(|e| failed(&e));
    let write = |path: PathBuf, text: &str| std::fs::write(&path, text).map_err(|e| failed(&e));
    let maker = match hardware {
        HardwareRoot::Chips => Maker::Chips(Box::new(DevelopmentRoot::generate("local", now).map_err(|e| failed(&e))?)),
        HardwareRoot::Tpm => Maker::Tpm(Authority::prepare(&root.join("tpm-ca"))?, emulator::Addresses::draw()),
    };
    // Hardware first: the root of the TPMs' authority comes with the first of them.
    let mut equipment = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        let path = folder(root.join("agents").join(&plan.name))?;
        equipment.push(equip(&maker, number, &path, now)?);
    }
    let mut anchors = Anchors { operators: vec![operator.public_key()], ..Anchors::default() };
    match &maker {
        Maker::Chips(root) => anchors.development.push(root.anchor()),
        Maker::Tpm(authority, _) => anchors.tpm.push(authority.anchor()?),
    }
    let log = IdentityKey::generate(&mut OsEntropy);
    anchors.logs.push(LogAnchor {
        origin: LOG_ORIGIN.to_owned(),
        key: log.public_key(),
        witnesses: Vec::new(),
        quorum: 0,
    });
    let anchors_text = serde_json::to_string_pretty(&anchors).map_err(|e| failed(&e))?;

    let addresses = free_addresses().map_err(|e| failed(&e))?;
    let client = folder(root.join("client"))?;
    let identity = IdentityKey::generate(&mut OsEntropy);
    write_secret(&client.join("identity.key"), &identity.to_pem())?;
    write_secret(&client.join("sealing.key"), &SealingKey::generate(&mut OsEntropy).to_text())?;
    write(client.join("anchors.json"), &anchors_text)?;
    let (token, operator_token) = (token(), token());
    let tenant = TenantId::new("demo").map_err(|e| failed(&e))?;
    let config = ClientConfig {
        api: addresses.api.to_string(),
        tenant: tenant.clone(),
        token: token.clone(),
        operator_token: Some(operator_token.clone()),
    };
    write_secret(&client.join("client.toml"), &toml::to_string(&config).map_err(|e| failed(&e))?)?;

    let manager = folder(root.join("manager"))?;
    offices(&manager, operator, now)?;
    let config = ManagerConfig {
        agents: addresses.agents,
        api: addresses.api,
        admin: addresses.admin,
        api_behind_proxy: false,
        data: "data".into(),
        key: "manager.key".into(),
        appointment: "manager.appointment.json".into(),
        verifier_key: "verifier.key".into(),
        verifier_appointment: "verifier.appointment.json".into(),
        anchors: "../anchors.json".into(),
        operator_token_sha256: Digest::of(operator_token.as_bytes()),
        tenants: vec![Tenant { name: tenant, key: identity.public_key(), token_sha256: Digest::of(token.as_bytes()) }],
        policy: POLICY.into(),
        references: REFERENCES.into(),
        allow_development: true,
        collateral: None,
        verifiers: Vec::new(),
        object_max_bytes: Bytes::gib(4),
        agent_connections_max: 1000,
        slots_per_chip: 1,
        alarms_max: 0,
        dissents_max: 0,
        region: None,
        name: None,
        advertise: None,
        journal: JournalConfig::default(),
        log: Some(LogConfig { origin: LOG_ORIGIN.to_owned(), key: LOG_KEY.into() }),
    };
    write_secret(&manager.join(LOG_KEY), &log.to_pem())?;
    write(manager.join(POLICY), &starter(THIS_BUILD))?;
    let reference = this_build(hardware, image, now).map_err(|e| failed(&e))?;
    write(manager.join(REFERENCES), &serde_json::to_string_pretty(&[reference]).map_err(|e| failed(&e))?)?;
    let manager_config = manager.join(MANAGER_FILE);
    write(manager_config.clone(), &toml::to_string(&config).map_err(|e| failed(&e))?)?;

    let mut agents = Vec::new();
    let mut held = Vec::new();
    for (plan, equipment) in plans.iter().zip(equipment) {
        let path = root.join("agents").join(&plan.name);
        let file = path.join("agent.toml");
        let listener = plan.lent.then(free_port).transpose().map_err(|e| failed(&e))?;
        let listen = listener.as_ref().map(TcpListener::local_addr).transpose().map_err(|e| failed(&e))?;
        // Until all are drawn, so that each is another's.
        held.extend(listener);
        write(file.clone(), &(agent_toml(plan, addresses.agents, operator.public_key(), listen) + &equipment))?;
        agents.push((plan.name.clone(), file));
    }
    let part = root.join(ANCHORS_PART);
    write(part.clone(), &anchors_text)?;
    std::fs::rename(&part, root.join(ANCHORS)).map_err(|e| failed(&e))?;
    let root = root.to_owned();
    let managers = vec![(MANAGER.to_owned(), manager_config.clone())];
    Ok(Deployment { root, manager: manager_config, managers, agents, client, addresses })
}

/// Makes keys in a manager's folder, and the operator's appointments of them.
fn offices(folder: &Path, operator: &Root, now: UnixTime) -> Result<(), Failure> {
    for (name, office) in [("manager", Office::Manager), ("verifier", Office::Verifier)] {
        let key = IdentityKey::generate(&mut OsEntropy);
        write_secret(&folder.join(format!("{name}.key")), &key.to_pem())?;
        let path = folder.join(format!("{name}.appointment.json"));
        let text = appoint(operator, key.public_key(), office, now)?;
        std::fs::write(&path, text).map_err(|e| unwritten(&path, &e))?;
    }
    Ok(())
}

fn unwritten(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, format!("cannot write {}: {error}", path.display()))
}

/// Gives a deployment with one manager, which never ran, so many with one journal in PostgreSQL: each with keys and appointments
/// of its own, and all of them known to agents and clients. The operator's root must be in its folder, and within reach.
///
/// # Errors
/// The number or the journal will not do, the deployment has several managers, files cannot be read or written, or the root is not
/// within reach.
pub fn several_managers(
    deployment: &Deployment,
    number: usize,
    journal: &JournalConfig,
    now: UnixTime,
) -> Result<Deployment, Failure> {
    let root = &deployment.root;
    let usage = |text: String| Failure::new(Exit::Usage, text);
    if !(2..=MANAGERS_MAX).contains(&number) || journal.store != Store::Postgres || journal.url.is_none() {
        let text = format!("{number} managers: expected 2 to {MANAGERS_MAX}, with their journal in PostgreSQL");
        return Err(usage(text));
    }
    if deployment.managers.len() > 1 {
        return Err(usage(format!("{} has several managers already", root.display())));
    }
    let operator = Root::of(root)?;
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
        text.map_err(|e| usage(format!("cannot read {}: {e}", path.display())))
    };
    let first = root.join(MANAGER);
    let config: ManagerConfig =
        toml::from_str(&read(&first.join(MANAGER_FILE))?).map_err(|e| usage(format!("manager.toml: {e}")))?;
    let (mut managers, mut agents, mut apis) = (Vec::new(), Vec::new(), Vec::new());
    // One journal has one log, whoever of them signs for it.
    let log_key = config.log.is_some().then(|| read(&first.join(LOG_KEY))).transpose()?;
    for n in 1..=number {
        let name = if n == 1 { MANAGER.to_owned() } else { format!("{MANAGER}-{n}") };
        let folder = root.join(&name);
        let mut own = ManagerConfig { name: Some(name.clone()), journal: journal.clone(), ..config.clone() };
        if n > 1 {
            std::fs::create_dir(&folder).map_err(|e| unwritten(&folder, &e))?;
            offices(&folder, &operator, now)?;
            log_key.iter().try_for_each(|key| write_secret(&folder.join(LOG_KEY), key))?;
            for file in [POLICY, REFERENCES] {
                std::fs::copy(first.join(file), folder.join(file)).map_err(|e| unwritten(&folder.join(file), &e))?;
            }
            let free = free_addresses().map_err(|e| unwritten(&folder, &e))?;
            (own.agents, own.api, own.admin) = (free.agents, free.api, free.admin);
        }
        agents.push(format!("\"{}\"", own.agents));
        apis.push(own.api.to_string());
        let path = folder.join(MANAGER_FILE);
        let text = toml::to_string(&own).map_err(|e| unwritten(&path, &e))?;
        std::fs::write(&path, text).map_err(|e| unwritten(&path, &e))?;
        managers.push((name, path));
    }
    let line = format!("managers = [{}]", agents.join(", "));
    for (_, path) in &deployment.agents {
        let text = read(path)?;
        let of_managers = |l: &&str| l.trim_start().starts_with("managers");
        let old = text.lines().find(of_managers).ok_or_else(|| usage(format!("{}: no managers", path.display())))?;
        std::fs::write(path, text.replacen(old, &line, 1)).map_err(|e| unwritten(path, &e))?;
    }
    let path = deployment.client.join("client.toml");
    let mut client: ClientConfig =
        toml::from_str(&read(&path)?).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    client.api = apis.join(",");
    let text = toml::to_string(&client).map_err(|e| unwritten(&path, &e))?;
    // Its mode stays: only its owner may read it.
    std::fs::write(&path, text).map_err(|e| unwritten(&path, &e))?;
    open(root)
}

/// Sets agents of a deployment up as custodians of the swarm key [`SWARM`], with sealed state in their own folders: those that other agents
/// reach. Who is one already stays as it is. They run modules as before. What they are set up for is measured: where they run, they are
/// started anew.
///
/// # Errors
/// Files cannot be read or written.
pub fn custodians(deployment: &Deployment) -> Result<(), Failure> {
    for (_, path) in &deployment.agents {
        let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", path.display()));
        let mut text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
        let table: toml::Table = toml::from_str(&text).map_err(|e| wrong(&e.message()))?;
        if table.contains_key("custody") || !table.contains_key("advertise") {
            continue;
        }
        text.push_str(&format!("\n[custody]\nswarm = \"{SWARM}\"\n"));
        if !table.contains_key("state") {
            text.push_str("\n[state]\ndir = \"state\"\n");
        }
        std::fs::write(path, text).map_err(|e| unwritten(path, &e))?;
    }
    Ok(())
}

/// Makes the hardware of the agent with this number in its folder; what its configuration says of it. The kind is named, so that a
/// machine with hardware of its own runs a development deployment all the same.
fn equip(maker: &Maker, number: usize, folder: &Path, now: UnixTime) -> Result<String, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failure, format!("hardware cannot be made: {e}"));
    match maker {
        Maker::Chips(root) => {
            let mut chip_id = [0; 64];
            OsEntropy.fill(&mut chip_id);
            let chip =
                root.issue(&ChipSpec { product: Product::Milan, chip_id, tcb: TCB }, now).map_err(|e| failed(&e))?;
            let pem = chip.to_pem().map_err(|e| failed(&e))?;
            write_secret(&folder.join("chip.pem"), &String::from_utf8_lossy(&pem))?;
            Ok("[attester]\nkind = \"dev-snp\"\n\n[development]\nchip = \"chip.pem\"\n".to_owned())
        }
        Maker::Tpm(authority, addresses) => {
            authority.manufacture(&folder.join("tpm"))?;
            let (host, port) = addresses.of(number).ok_or_else(|| failed(&"too many emulated TPMs"))?;
            Ok(format!(
                "[attester]\nkind = \"dev-tpm\"\n\n[development]\ntpm = \"swtpm:host={host},port={port}\"\n\
                 tpm_chain = \"../../tpm-ca/{}\"\n",
                emulator::INTERMEDIATE,
            ))
        }
    }
}

/// Opens a deployment that [`development`] made.
///
/// # Errors
/// It is not one.
pub fn open(root: &Path) -> Result<Deployment, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", root.display()));
    let root = root.canonicalize().map_err(|e| wrong(&e))?;
    let manager = root.join(MANAGER).join(MANAGER_FILE);
    let config = ManagerConfig::load(&manager).map_err(|e| Failure::refused(Exit::Usage, &e))?;
    let mut managers = vec![(MANAGER.to_owned(), manager.clone())];
    for n in 2..=MANAGERS_MAX {
        let name = format!("{MANAGER}-{n}");
        let file = root.join(&name).join(MANAGER_FILE);
        if file.is_file() {
            managers.push((name, file));
        }
    }
    let mut agents = Vec::new();
    let folder = root.join("agents");
    // A deployment may have none.
    let entries = folder.is_dir().then(|| std::fs::read_dir(&folder)).transpose().map_err(|e| wrong(&e))?;
    for entry in entries.into_iter().flatten() {
        let entry = entry.map_err(|e| wrong(&e))?;
        agents.push((entry.file_name().to_string_lossy().into_owned(), entry.path().join("agent.toml")));
    }
    agents.sort();
    let addresses = Addresses { agents: config.agents, api: config.api, admin: config.admin };
    Ok(Deployment { client: root.join("client"), root, manager, managers, agents, addresses })
}

/// Makes the manager accept the image as it is now: a rebuilt binary has another measurement. The manager takes the reference
/// value in at its next start.
///
/// # Errors
/// The reference values cannot be read or written.
pub fn refresh_measurement(deployment: &Deployment, image: &Path) -> Result<(), Failure> {
    deployment.managers.iter().try_for_each(|(_, manager)| refresh(manager, image))
}

fn refresh(manager: &Path, image: &Path) -> Result<(), Failure> {
    let config = ManagerConfig::load(manager).map_err(|e| Failure::refused(Exit::Usage, &e))?;
    let file = &config.references;
    let wrong = |e: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("{}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| wrong(&e))?;
    let mut values: Vec<ReferenceValue> = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
    let mut changed = false;
    for value in values.iter_mut().filter(|v| v.name == THIS_BUILD) {
        let emulated = matches!(&value.value, ReferenceKind::Image { tees, .. } if tees.contains(&TeeKind::DevTpm));
        let hardware = if emulated { HardwareRoot::Tpm } else { HardwareRoot::Chips };
        let fresh = this_build(hardware, image, now()).map_err(|e| wrong(&e))?;
        if value.value != fresh.value {
            // Later than before, whatever the clock says: the manager takes in what is newer.
            let made = fresh.made.max(value.made.plus(1));
            *value = ReferenceValue { made, ..fresh };
            changed = true;
        }
    }
    if !changed {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&values).map_err(|e| wrong(&e))?;
    std::fs::write(file, text).map_err(|e| wrong(&e))
}

/// The reference value of the binary that a development deployment runs.
fn this_build(hardware: HardwareRoot, image: &Path, made: UnixTime) -> std::io::Result<ReferenceValue> {
    let (measurement, tee, source) = match hardware {
        HardwareRoot::Chips => {
            (measure(image)?, TeeKind::DevSnp, "file of the legation binary, as a development chip measures it")
        }
        HardwareRoot::Tpm => (
            emulator::measurement(image)?,
            TeeKind::DevTpm,
            "file of the legation binary, as an emulated TPM measures it",
        ),
    };
    Ok(ReferenceValue {
        name: THIS_BUILD.to_owned(),
        value: ReferenceKind::Image { measurement, registers: BTreeMap::new(), tees: [tee].into() },
        owner: "local".to_owned(),
        made,
        expires: None,
        source: source.to_owned(),
    })
}

fn appoint(operator: &Root, key: PublicKey, office: Office, now: UnixTime) -> Result<String, Failure> {
    let appointment = Appointment {
        operator: operator.public_key(),
        key,
        office,
        scope: None,
        not_before: now.minus(60),
        not_after: now.plus(APPOINTMENT_SECONDS),
    };
    Ok(operator.appoint(appointment)?.envelope().to_json())
}

fn agent_toml(plan: &AgentPlan, manager: SocketAddr, operator: PublicKey, listen: Option<SocketAddr>) -> String {
    let listen = listen.map(|at| format!("listen = \"{at}\"\nadvertise = \"{at}\"\n")).unwrap_or_default();
    format!(
        "# What this agent says of itself is measured into its evidence.\n\
         managers = [\"{manager}\"]\n\
         provider = \"{}\"\n\
         region = \"{}\"\n\
         operators = [\"{operator}\"]\n\
         {listen}\n\
         [capacity]\n\
         cpu_millicores = {}\n\
         memory_mib = {}\n\
         slots = {}\n\n\
         [rate]\n\
         core_hour_usd = \"{}\"\n\
         gib_hour_usd = \"{}\"\n\n",
        plan.provider,
        plan.region,
        plan.capacity.cpu.0,
        plan.capacity.memory.0 / Bytes::mib(1).0,
        plan.capacity.slots,
        plan.core_hour_usd,
        plan.gib_hour_usd,
    )
}

/// A token of 32 random bytes.
fn token() -> String {
    let mut bytes = [0; 32];
    OsEntropy.fill(&mut bytes);
    encoding::hex(&bytes)
}

/// How a development chip measures an agent's image: SHA-384 of the file's SHA-256, in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn measure(image: &Path) -> std::io::Result<String> {
    let digest = attester::image(std::fs::File::open(image)?)?;
    Ok(encoding::hex(&attester::development::measurement(digest)))
}

/// A loopback address that nobody uses now, as long as it is held.
fn free_port() -> std::io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// Three loopback addresses that nobody uses now.
fn free_addresses() -> std::io::Result<Addresses> {
    let held = [free_port()?, free_port()?, free_port()?];
    let [agents, api, admin] = [held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?];
    Ok(Addresses { agents, api, admin })
}
