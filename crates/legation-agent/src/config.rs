//! What steers an agent, read from one TOML file.
//!
//! ```toml
//! managers = ["pool.example.org:7443"]      # all managers of the pool: one of them leads, and is found
//! provider = "alder"                        # who owns this machine
//! region = "eu-north"                       # where it stands
//! operators = ["11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]   # roots whose appointments are obeyed
//! slot = 0                                  # optional: which of the enclaves of its chip this is
//! listen = "0.0.0.0:7444"                   # optional, with the next: where other agents may hand work to it
//! advertise = "198.51.100.7:7444"           # where they reach it; measured, and public in its passport
//!
//! [rate]                                    # US dollars, as texts, at most six decimals
//! core_hour_usd = "0.04"
//! gib_hour_usd = "0.005"
//!
//! [capacity]                                # all optional: how much of the machine is offered
//! cpu_millicores = 2000
//! memory_mib = 1024
//! slots = 32
//!
//! [attester]                                # all optional: what proves what runs here
//! kind = "auto"                             # or sev-snp, tdx, nitro, tpm, dev-snp, dev-tpm: that one or none
//! vcek = "vcek.pem"                         # sev-snp: certificate of the chip's key, where the host gives none
//!
//! [tpm]                                     # optional: which TPM, where it is not /dev/tpmrm0
//! tcti = "device:/dev/tpmrm0"               # or "swtpm:host=127.0.0.1,port=2321"
//! registers = [8, 9]                        # quoted besides 0 to 7; not 16 and 23, which any program may reset
//! key = "rsa-2048"                          # or ecc-p256, ecc-p384: kind of its endorsement key, as anchor files name it
//! chain = "ek-chain.pem"                    # intermediate certificates of its maker that it does not hold itself
//!
//! [development]                             # a machine without a TEE: proves the protocol, never confidentiality
//! chip = "chip.pem"                         # relative to this file; or, instead of it, an emulated TPM:
//! # tpm = "swtpm:host=127.0.0.1,port=2321"
//! # tpm_chain = "issuer.pem"
//!
//! [reconnect]                               # all optional
//! first_ms = 250
//! longest_s = 30
//! refused_s = 60
//!
//! [drain]                                   # optional
//! longest_s = 60
//! ```
//! `[prover]` is in [`prover`], `[custody]` in [`custody`], and `[state]`, where a custodian keeps what it needs after a restart, in
//! [`StateConfig`].
//! Nothing is guessed: an unknown key, a number out of range or a price that is not exact is an error that names file, key, what
//! is expected and what to do.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use legation_attest::tpm::RESETTABLE;
use legation_core::{
    MicroUsd, Millicores, ProviderId, PublicKey, Region,
    claims::{ADVERTISE_MAX, Rate, TeeKind, TpmKey},
    unit::Bytes,
};
use toml::{Table, Value};

use crate::{attester::detection::ORDER, state::StateConfig};

pub mod custody;
pub mod prover;

pub use custody::CustodyConfig;
pub use prover::ProverConfig;

/// Largest configuration file, in bytes.
pub const CONFIG_MAX: u64 = 64 * 1024;
/// Most managers that one agent tries.
pub const MANAGERS_MAX: usize = 16;
/// Most fragments at once: each may hold one of the 512 threads that tokio has for blocking work.
pub const SLOTS_MAX: u32 = 384;
/// Most operators that one agent obeys.
pub const OPERATORS_MAX: usize = 16;
/// Most registers of a TPM quoted besides 0 to 7.
pub const REGISTERS_MAX: usize = 16;
/// Highest register of a TPM (PC Client Platform TPM Profile: 24 of them).
pub const REGISTER_MAX: u8 = 23;
const TCTI: &str = "the place of a TPM: \"device:/dev/tpmrm0\" or \"swtpm:host=127.0.0.1,port=2321\"";
/// Highest price of a core or a GiB for an hour: a million dollars.
pub const PRICE_MAX: MicroUsd = MicroUsd(1_000_000_000_000);

/// What steers an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentConfig {
    /// Addresses of all managers of the pool (`host:port`), in the order in which they are tried; at least one. One of them
    /// leads at a time, and is found among these alone.
    pub managers: Vec<String>,
    /// Who owns the machine.
    pub provider: ProviderId,
    /// Where it stands.
    pub region: Region,
    /// Roots whose appointments this agent obeys; at least one.
    pub operators: Vec<PublicKey>,
    /// How much of the machine is offered.
    pub capacity: CapacityCaps,
    /// What it costs.
    pub rate: Rate,
    /// Which of the enclaves of its chip this is: a chip may hold several, each in a slot of its own.
    pub slot: u16,
    /// Where channels of other agents are taken, so that this enclave can be lent to them; nowhere without it.
    pub listen: Option<String>,
    /// Where they reach it: in its passport, for everybody to see. There exactly when `listen` is.
    pub advertise: Option<String>,
    /// What it proves executions with; nothing where it proves none.
    pub prover: Option<ProverConfig>,
    /// Which swarm key it helps to keep; none where it is no custodian.
    pub custody: Option<CustodyConfig>,
    /// Where a custodian keeps what it needs after a restart; without it, a restart loses its share.
    pub state: Option<StateConfig>,
    /// What proves what runs here.
    pub attester: AttesterConfig,
    /// Which TPM, where it is not the kernel's first.
    pub tpm: Option<TpmConfig>,
    /// What attests on a machine without confidential hardware: for development.
    pub development: Option<Development>,
    /// How the agent comes back after it lost its manager.
    pub reconnect: Reconnect,
    /// How long running work may take after the agent was asked to stop.
    pub drain: Duration,
}

/// What proves what runs here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AttesterConfig {
    /// Which kind.
    pub kind: Choice,
    /// Certificate of the chip's key (SEV-SNP), where the host gives none with the report.
    pub vcek: Option<PathBuf>,
}

/// Which attester is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// The first in [`crate::attester::detection::ORDER`] that this machine has.
    #[default]
    Auto,
    /// This one or none.
    Only(TeeKind),
}

impl Choice {
    /// Whether `kind` is wanted.
    pub fn admits(self, kind: TeeKind) -> bool {
        match self {
            Self::Auto => true,
            Self::Only(only) => only == kind,
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Only(kind) => kind.name(),
        })
    }
}

/// Which TPM, and what of it is quoted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TpmConfig {
    /// Where it is.
    pub tcti: Tcti,
    /// Registers quoted besides 0 to 7.
    pub registers: Vec<u8>,
    /// Kind of the endorsement key by which it is known.
    pub key: TpmKey,
    /// File of intermediate certificates of its maker that it does not hold itself.
    pub chain: Option<PathBuf>,
}

/// Where a TPM is, in the words of the TPM software stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tcti {
    /// A device of this machine.
    Device(PathBuf),
    /// An emulator: `port` takes commands, and the port above it controls.
    Swtpm {
        /// IP address or name.
        host: String,
        /// Port of the commands.
        port: u16,
    },
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
        }
    }
}

/// What attests for development: it proves the protocol, never confidentiality.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Development {
    /// File of a development chip.
    Chip(PathBuf),
    /// An emulated TPM.
    Tpm(TpmConfig),
}

/// How much of the machine is offered; nothing is as much as there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CapacityCaps {
    /// Compute.
    pub cpu: Option<Millicores>,
    /// Memory for tasks.
    pub memory: Option<Bytes>,
    /// Fragments at once.
    pub slots: Option<u32>,
}

/// How an agent comes back after it lost its manager: the pauses double from `first` to `longest`, each drawn at random between
/// half of it and all of it; after a refusal, which time alone seldom mends, `refused` is the shortest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconnect {
    /// First pause.
    pub first: Duration,
    /// Longest pause after a failure of the network.
    pub longest: Duration,
    /// Shortest pause after a refusal.
    pub refused: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), longest: Duration::from_secs(30), refused: Duration::from_secs(60) }
    }
}

/// How long running work may take by default after the agent was asked to stop.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(60);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; expected a TOML file of at most {CONFIG_MAX} bytes", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not TOML.
    #[error("{}: not TOML: {why}", file.display())]
    Toml {
        /// The file.
        file: PathBuf,
        /// What and where.
        why: String,
    },
    /// A key is unknown, missing, or has a value that it cannot have.
    #[error("{}: {key}: expected {expected}, got {got}; {fix}", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key, such as `rate.core_hour_usd`.
        key: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        got: String,
        /// What to do.
        fix: String,
    },
}

impl AgentConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { file: file.to_owned(), source };
        let size = fs::metadata(file).map_err(failed)?.len();
        if size > CONFIG_MAX {
            return Err(failed(io::Error::other(format!("it has {size} bytes"))));
        }
        Self::parse(&fs::read_to_string(file).map_err(failed)?, file)
    }

    /// Reads the text of `file`; paths in it are relative to the folder of `file`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let table = text
            .parse::<Table>()
            .map_err(|e| ConfigError::Toml { file: file.to_owned(), why: e.to_string().trim_end().to_owned() })?;
        let mut root = Section { file, path: "", table };

        let mut rate = root.section("rate", true)?;
        let price = "a price in dollars as a text, with at most six decimals, such as \"0.04\"";
        let rates = Rate {
            core_hour: rate.text("core_hour_usd", price, micro_usd)?,
            gib_hour: rate.text("gib_hour_usd", price, micro_usd)?,
        };
        rate.end(&["core_hour_usd", "gib_hour_usd"])?;

        let mut caps = root.section("capacity", false)?;
        let capacity = CapacityCaps {
            cpu: caps.number("cpu_millicores", 1, 1_000_000)?.map(Millicores),
            memory: caps.number("memory_mib", 1, 1 << 24)?.map(Bytes::mib),
            slots: caps.number("slots", 1, SLOTS_MAX.into())?.and_then(|n| u32::try_from(n).ok()),
        };
        caps.end(&["cpu_millicores", "memory_mib", "slots"])?;

        let folder = file.parent().unwrap_or(Path::new(""));
        let attester = attester(root.section("attester", false)?, folder)?;
        let tpm = tpm(root.section("tpm", false)?, folder)?;
        let development = development(root.section("development", false)?, folder)?;
        let prover = prover::read(root.section("prover", false)?, folder)?;
        let custody = custody::read(root.section("custody", false)?)?;
        let state = state(root.section("state", false)?, folder)?;

        let mut again = root.section("reconnect", false)?;
        let default = Reconnect::default();
        let reconnect = Reconnect {
            first: again.number("first_ms", 1, 60_000)?.map_or(default.first, Duration::from_millis),
            longest: again.number("longest_s", 1, 3600)?.map_or(default.longest, Duration::from_secs),
            refused: again.number("refused_s", 1, 86_400)?.map_or(default.refused, Duration::from_secs),
        };
        again.end(&["first_ms", "longest_s", "refused_s"])?;

        let mut drain = root.section("drain", false)?;
        let longest = drain.number("longest_s", 0, 86_400)?.map_or(DRAIN_DEFAULT, Duration::from_secs);
        drain.end(&["longest_s"])?;

        let place = "an address such as \"198.51.100.7:7444\"";
        let listen = root.optional_text("listen", place, address)?;
        let advertise = root.optional_text("advertise", place, address)?;
        let (lone, other) = if listen.is_some() { ("listen", "advertise") } else { ("advertise", "listen") };
        if listen.is_some() != advertise.is_some() {
            let fix = "say both where it listens and where others reach it, or neither";
            return Err(root.wrong(lone, &format!("`{other}` beside it"), "none", fix));
        }
        if prover.is_some() && listen.is_none() {
            let fix = "say where it listens, or remove `[prover]`";
            let expected = "`listen` and `advertise` beside it: calls come from other agents";
            return Err(root.wrong("prover", expected, "none", fix));
        }
        if custody.is_some() && listen.is_none() {
            let fix = "say where it listens, or remove `[custody]`";
            let expected = "`listen` and `advertise` beside it: custodians are asked by other agents";
            return Err(root.wrong("custody", expected, "none", fix));
        }
        if state.is_some() && custody.is_none() {
            let fix = "say of which swarm key it is a custodian, or remove `[state]`";
            return Err(root.wrong("state", "`[custody]` beside it: nobody else keeps state", "none", fix));
        }
        if advertise.as_ref().is_some_and(|address| address.len() > ADVERTISE_MAX) {
            let expected = format!("at most {ADVERTISE_MAX} bytes");
            return Err(root.wrong("advertise", &expected, "more", "use a shorter name, or an address"));
        }

        let name = "1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit";
        let config = Self {
            managers: root.list("managers", MANAGERS_MAX, "addresses such as \"pool.example.org:7443\"", address)?,
            provider: root.text("provider", name, |t| ProviderId::new(t).map_err(|e| e.to_string()))?,
            region: root.text("region", name, |t| Region::new(t).map_err(|e| e.to_string()))?,
            operators: root.list("operators", OPERATORS_MAX, "public keys, base64 of 32 bytes", |t| {
                t.parse::<PublicKey>().map_err(|e| e.to_string())
            })?,
            capacity,
            rate: rates,
            slot: root.number("slot", 0, u16::MAX.into())?.and_then(|n| u16::try_from(n).ok()).unwrap_or_default(),
            listen,
            advertise,
            prover,
            custody,
            state,
            attester,
            tpm,
            development,
            reconnect,
            drain: longest,
        };
        root.end(&[
            "managers",
            "provider",
            "region",
            "operators",
            "slot",
            "listen",
            "advertise",
            "rate",
            "capacity",
            "attester",
            "tpm",
            "development",
            "prover",
            "custody",
            "state",
            "reconnect",
            "drain",
        ])?;
        Ok(config)
    }
}

fn attester(mut section: Section<'_>, folder: &Path) -> Result<AttesterConfig, ConfigError> {
    let kinds = ORDER.map(TeeKind::name).join(", ");
    let kind = section.optional_text("kind", &format!("auto, or one of {kinds}"), |text| match text {
        "auto" => Ok(Choice::Auto),
        other => ORDER.into_iter().find(|kind| kind.name() == other).map(Choice::Only).ok_or(format!("`{other}`")),
    })?;
    let vcek = section.optional_text("vcek", "the path of a file of certificates", path)?;
    section.end(&["kind", "vcek"])?;
    Ok(AttesterConfig { kind: kind.unwrap_or_default(), vcek: vcek.map(|p| folder.join(p)) })
}

fn tpm(mut section: Section<'_>, folder: &Path) -> Result<Option<TpmConfig>, ConfigError> {
    let present = section.present();
    let found = section.optional_text("tcti", TCTI, tcti)?;
    let registers = section.numbers("registers", REGISTERS_MAX, u64::from(REGISTER_MAX))?;
    let kinds = TpmKey::ALL.map(TpmKey::name).join(", ");
    let key = section.optional_text("key", &format!("one of {kinds}"), |t| TpmKey::named(t).ok_or(format!("`{t}`")))?;
    let chain = section.optional_text("chain", "the path of a file of certificates", path)?.map(|p| folder.join(p));
    if let Some(register) = registers.iter().find(|r| RESETTABLE.iter().any(|barred| u64::from(*barred) == **r)) {
        let fix = "measure into a register that only a restart resets, such as 14";
        return Err(section.wrong("registers", "none that any program may reset", register, fix));
    }
    if present && found.is_none() {
        return Err(section.missing("tcti", TCTI));
    }
    section.end(&["tcti", "registers", "key", "chain"])?;
    let registers = registers.into_iter().filter_map(|r| u8::try_from(r).ok()).collect();
    Ok(found.map(|tcti| TpmConfig { tcti, registers, key: key.unwrap_or_default(), chain }))
}

fn development(mut section: Section<'_>, folder: &Path) -> Result<Option<Development>, ConfigError> {
    let present = section.present();
    let chip = section.optional_text("chip", "the path of a development chip file", path)?;
    let tpm = section.optional_text("tpm", TCTI, tcti)?;
    let chain = section.optional_text("tpm_chain", "the path of a file of certificates", path)?;
    let found = match (chip, tpm) {
        (Some(chip), None) if chain.is_none() => Some(Development::Chip(folder.join(chip))),
        (None, Some(tcti)) => {
            let chain = chain.map(|p| folder.join(p));
            // The kind that an emulator makes quickest.
            Some(Development::Tpm(TpmConfig { tcti, registers: Vec::new(), key: TpmKey::EccP384, chain }))
        }
        (None, None) if !present => None,
        (None, None) => return Err(section.missing("chip", "the path of a development chip file, or `tpm`")),
        (Some(_), _) => {
            let expected = "either `chip`, or `tpm` and perhaps `tpm_chain`";
            return Err(section.wrong("chip", expected, "both", "remove one of them"));
        }
    };
    section.end(&["chip", "tpm", "tpm_chain"])?;
    Ok(found)
}

fn state(section: Section<'_>, folder: &Path) -> Result<Option<StateConfig>, ConfigError> {
    if !section.present() {
        return Ok(None);
    }
    let Section { file, table, .. } = section;
    let read = StateConfig::read(table, folder).map_err(|got| {
        let root = Section { file, path: "", table: Table::new() };
        root.wrong("state", StateConfig::EXPECTED, got, "correct the section")
    })?;
    Ok(Some(read))
}

/// One table of the file. What was read is taken out, so that what is left is unknown.
struct Section<'a> {
    file: &'a Path,
    path: &'static str,
    table: Table,
}

impl<'a> Section<'a> {
    fn wrong(&self, key: &str, expected: &str, got: impl fmt::Display, fix: &str) -> ConfigError {
        let key = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        // A file may hold anything: what is shown of it is short.
        let got: String = got.to_string().chars().take(160).collect();
        ConfigError::Key { file: self.file.to_owned(), key, expected: expected.to_owned(), got, fix: fix.to_owned() }
    }

    fn missing(&self, key: &str, expected: &str) -> ConfigError {
        self.wrong(key, expected, "nothing", "add the key")
    }

    fn present(&self) -> bool {
        !self.table.is_empty()
    }

    fn section(&mut self, key: &'static str, needed: bool) -> Result<Section<'a>, ConfigError> {
        let table = match self.table.remove(key) {
            Some(Value::Table(table)) => table,
            Some(other) => return Err(self.wrong(key, "a table", kind(&other), &format!("write it as `[{key}]`"))),
            None if needed => return Err(self.missing(key, "a table")),
            None => Table::new(),
        };
        Ok(Section { file: self.file, path: key, table })
    }

    fn text<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional_text(key, expected, read)?.ok_or_else(|| self.missing(key, expected))
    }

    fn optional_text<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => {
                read(&text).map(Some).map_err(|why| self.wrong(key, expected, why, "correct the value"))
            }
            Some(other) => Err(self.wrong(key, expected, kind(&other), "put the value in quotes")),
        }
    }

    fn list<T>(
        &mut self,
        key: &str,
        most: usize,
        expected: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let expected = format!("a list of 1 to {most} {expected}");
        let values = match self.table.remove(key) {
            None => return Err(self.missing(key, &expected)),
            Some(Value::Array(values)) => values,
            Some(other) => return Err(self.wrong(key, &expected, kind(&other), "put the value in brackets")),
        };
        if values.is_empty() || values.len() > most {
            return Err(self.wrong(key, &expected, format!("{} of them", values.len()), "correct the list"));
        }
        let read_one = |value: &Value| match value {
            Value::String(text) => read(text).map_err(|why| self.wrong(key, &expected, why, "correct the list")),
            other => Err(self.wrong(key, &expected, kind(other), "put each value in quotes")),
        };
        values.iter().map(read_one).collect()
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(key, "true or false", kind(&other), "write it without quotes")),
        }
    }

    fn number(&mut self, key: &str, least: u64, most: u64) -> Result<Option<u64>, ConfigError> {
        let expected = format!("a whole number from {least} to {most}");
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Integer(n)) => match u64::try_from(n).ok().filter(|n| (least..=most).contains(n)) {
                Some(n) => Ok(Some(n)),
                None => Err(self.wrong(key, &expected, n, "set it within the range")),
            },
            Some(other) => Err(self.wrong(key, &expected, kind(&other), "write a number without quotes")),
        }
    }

    fn numbers(&mut self, key: &str, most: usize, largest: u64) -> Result<Vec<u64>, ConfigError> {
        let expected = format!("a list of at most {most} whole numbers from 0 to {largest}");
        let values = match self.table.remove(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(other) => return Err(self.wrong(key, &expected, kind(&other), "put the value in brackets")),
        };
        if values.len() > most {
            return Err(self.wrong(key, &expected, format!("{} of them", values.len()), "correct the list"));
        }
        let number = |value: &Value| {
            let number = value.as_integer().and_then(|n| u64::try_from(n).ok()).filter(|n| *n <= largest);
            number.ok_or_else(|| self.wrong(key, &expected, value, "correct the list"))
        };
        values.iter().map(number).collect()
    }

    fn end(self, known: &[&str]) -> Result<(), ConfigError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => {
                let expected = format!("one of {}", known.join(", "));
                Err(self.wrong(key, &expected, "an unknown key", "remove it or correct its name"))
            }
        }
    }
}

fn kind(value: &Value) -> String {
    format!("a value of type {}", value.type_str())
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("nothing".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// Reads where a TPM is. The TPM library reaches emulators by TCP alone, so Unix sockets are refused here, with the reason.
fn tcti(text: &str) -> Result<Tcti, String> {
    let bad = || format!("`{text}`");
    if let Some(device) = text.strip_prefix("device:") {
        return if device.starts_with('/') { Ok(Tcti::Device(PathBuf::from(device))) } else { Err(bad()) };
    }
    let place = text.strip_prefix("swtpm:").ok_or_else(bad)?;
    if place.starts_with("path=") {
        return Err(format!("`{text}`: the TPM library reaches an emulator by host and port only"));
    }
    let (host, port) = place.strip_prefix("host=").and_then(|rest| rest.split_once(",port=")).ok_or_else(bad)?;
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    // The port above is the emulator's control.
    let port = port.parse().ok().filter(|port| (1..u16::MAX).contains(port)).ok_or_else(bad)?;
    if host.is_empty() || host.len() > 253 || !host.bytes().all(good) {
        return Err(bad());
    }
    Ok(Tcti::Swtpm { host: host.to_owned(), port })
}

fn address(text: &str) -> Result<String, String> {
    let good = text.len() <= 260
        && !text.contains(char::is_whitespace)
        && text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if good { Ok(text.to_owned()) } else { Err(format!("`{text}`, which is not `host:port`")) }
}

/// Reads dollars exactly: digits, then perhaps a point and one to six more.
fn micro_usd(text: &str) -> Result<MicroUsd, String> {
    let bad = || format!("`{text}`");
    let (whole, part) = match text.split_once('.') {
        Some((_, "")) => return Err(bad()),
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 12 || part.len() > 6 || !digits(whole) || !digits(part) {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| bad())?;
    whole
        .checked_mul(1_000_000)
        .and_then(|micro| micro.checked_add(part))
        .map(MicroUsd)
        .filter(|price| *price <= PRICE_MAX)
        .ok_or_else(|| format!("{} dollars, more than {PRICE_MAX}", text))
}
