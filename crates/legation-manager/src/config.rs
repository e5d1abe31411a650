//! Configuration of a manager: one TOML file. Unknown keys are errors; every error names the file and the key.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use legation_core::{Bytes, Digest, PublicKey, Region, Rejection, TenantId};
use legation_policy::reference::{NAME_RULE, is_name};
use legation_verifier::config::CollateralConfig;
use serde::{Deserialize, Serialize};

use crate::journal::Advertised;

/// A manager's configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerConfig {
    /// Where agents connect. Attested channels: may face the network.
    pub agents: SocketAddr,
    /// Where clients connect. Plain HTTP: loopback only, unless a TLS proxy stands before it (`api_behind_proxy`).
    pub api: SocketAddr,
    /// Where health and metrics are served. Loopback only.
    pub admin: SocketAddr,
    /// Says that a proxy which speaks TLS stands before the API.
    #[serde(default)]
    pub api_behind_proxy: bool,
    /// Journal and objects. Relative paths are relative to this file.
    pub data: PathBuf,
    /// The manager's key (PEM) and its appointment (JSON).
    pub key: PathBuf,
    /// See `key`.
    pub appointment: PathBuf,
    /// The verifier's key (PEM) and its appointment (JSON).
    pub verifier_key: PathBuf,
    /// See `verifier_key`.
    pub verifier_appointment: PathBuf,
    /// What is trusted: operators' roots and development roots.
    pub anchors: PathBuf,
    /// SHA-256 of the operator's token.
    pub operator_token_sha256: Digest,
    /// Who may submit tasks.
    #[serde(default, rename = "tenant")]
    pub tenants: Vec<Tenant>,
    /// What enclaves must be: the Cedar text that the journal begins with (docs/policy.md). Later ones are set by
    /// `legation policy set`.
    pub policy: PathBuf,
    /// Reference values: a JSON list. At every start, those that are new or newer than the journal's are taken in.
    pub references: PathBuf,
    /// Whether this manager's verifier admits development enclaves, where the policy does. No policy can say so.
    #[serde(default)]
    pub allow_development: bool,
    /// What vendors publish about machines: where it is kept and fetched from (docs/collateral.md). Without it, a folder
    /// `collateral` in `data`, into which `legation collateral import` puts items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<CollateralConfig>,
    /// Further verifiers that are asked beside this manager's own.
    #[serde(default, rename = "verifier", skip_serializing_if = "Vec::is_empty")]
    pub verifiers: Vec<RemoteVerifierConfig>,
    /// Largest object.
    #[serde(default = "object_max")]
    pub object_max_bytes: Bytes,
    /// Most connections of agents.
    #[serde(default = "connections_max")]
    pub agent_connections_max: usize,
    /// Enclaves that one chip may hold at once, each in a slot of its own.
    #[serde(default = "slots_per_chip")]
    pub slots_per_chip: u16,
    /// Reports of an enclave with an alarm of its runtime monitor after which it is cordoned; 0 never.
    #[serde(default)]
    pub alarms_max: u32,
    /// Dissents of an enclave (answers that the majority of replicas contradicts) after which it is cordoned, those in tasks of one
    /// tenant as two at most; 0 never.
    #[serde(default)]
    pub dissents_max: u32,
    /// Where this manager is. With it, round trips to agents are measured and say how far their regions are from here, where the
    /// operator's table says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// What people call this manager: needed where several have one journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where agents and clients reach it, as other managers tell them; without it, where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<Advertised>,
    /// Where the journal is: a file in `data` without it.
    #[serde(default, skip_serializing_if = "JournalConfig::is_default")]
    pub journal: JournalConfig,
    /// The transparency log of the journal's statements (docs/log.md): none is kept without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogConfig>,
}

/// The transparency log. Managers of one journal have the same origin and key.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// First line of its checkpoints, and the name of its key (c2sp.org/tlog-checkpoint): like a URL without its scheme.
    pub origin: String,
    /// The log's own key (PEM).
    pub key: PathBuf,
}

/// Kinds of stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// `journal.sqlite` in the data folder: one manager.
    #[default]
    Sqlite,
    /// A PostgreSQL server: several managers.
    Postgres,
}

/// Where the journal is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// In what.
    #[serde(default)]
    pub store: Store,
    /// Of PostgreSQL: `postgres://ROLE@HOST:PORT/DATABASE`, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File with the role's password; without it, `LEGATION_JOURNAL_PASSWORD` of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// PEM file of the authorities of the server's certificate; the system's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// Records between two snapshots.
    #[serde(default = "snapshot_every")]
    pub snapshot_every: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            store: Store::Sqlite,
            url: None,
            password_file: None,
            authorities: None,
            snapshot_every: snapshot_every(),
        }
    }
}

impl JournalConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn snapshot_every() -> u64 {
    50_000
}

/// A verifier behind HTTP.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteVerifierConfig {
    /// What people call it.
    pub name: String,
    /// Base URLs of its replicas, in the order they are tried: `https://`, or `http://` on loopback.
    pub urls: Vec<String>,
    /// The operator's appointment of its key (JSON).
    pub appointment: PathBuf,
    /// File with the token it wants, if it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// PEM file of the authorities of its certificates; the system's without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
}

/// A tenant as the operator registered it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// The key that signs its requests.
    pub key: PublicKey,
    /// SHA-256 of its token.
    pub token_sha256: Digest,
}

fn object_max() -> Bytes {
    Bytes::gib(4)
}

fn slots_per_chip() -> u16 {
    1
}

fn connections_max() -> usize {
    10_000
}

impl ManagerConfig {
    /// What people call this manager.
    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or("manager")
    }

    fn check_journal(&self, at: impl Fn(&str) -> Rejection) -> Result<(), Rejection> {
        let postgres = self.journal.store == Store::Postgres;
        if postgres && (self.journal.url.is_none() || self.name.is_none()) {
            return Err(at("`[journal]` in")
                .expected("with `store = \"postgres\"`, its `url`, and a `name` of this manager")
                .got("one of them is missing")
                .fix("see docs/operate.md, \"Several managers\""));
        }
        if !postgres && self.journal.url.is_some() {
            return Err(at("`[journal] url` in")
                .expected("with `store = \"postgres\"` alone")
                .got("store = \"sqlite\"")
                .fix("set the store, or leave the URL out"));
        }
        if self.name.as_ref().is_some_and(|name| !is_name(name)) {
            return Err(at("`name` in").expected(NAME_RULE).got(self.called()).fix("choose another"));
        }
        if self.journal.snapshot_every == 0 {
            return Err(at("`[journal] snapshot_every` in")
                .expected("1 or more")
                .got(0)
                .fix("leave it out for 50,000"));
        }
        Ok(())
    }

    /// Where collateral is kept and comes from.
    pub fn collateral(&self) -> CollateralConfig {
        self.collateral.clone().unwrap_or_else(|| CollateralConfig::folder(self.data.join("collateral")))
    }

    /// Reads and checks a file; relative paths in it become relative to its folder.
    ///
    /// # Errors
    /// What is wrong in it, and where.
    pub fn load(path: &Path) -> Result<Self, Rejection> {
        let at = |claim: &str| Rejection::new("config.manager", format!("{claim} {}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| {
            at("configuration file").expected("a readable file").got(e).fix("see `legation init --help`")
        })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|e| at("content of").expected("the keys of a manager's configuration").got(e))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in [
            &mut config.data,
            &mut config.key,
            &mut config.appointment,
            &mut config.verifier_key,
            &mut config.verifier_appointment,
            &mut config.anchors,
            &mut config.policy,
            &mut config.references,
        ] {
            *file = folder.join(&*file);
        }
        let near = |file: &mut PathBuf| *file = folder.join(&*file);
        for verifier in &mut config.verifiers {
            near(&mut verifier.appointment);
            verifier.token_file.iter_mut().chain(&mut verifier.authorities).for_each(near);
        }
        if let Some(log) = &mut config.log {
            near(&mut log.key);
            if !legation_log::note::is_name(&log.origin) {
                return Err(at("`[log] origin` in")
                    .expected("1 to 255 bytes without spaces, controls and `+`")
                    .got(&log.origin)
                    .fix("choose one like log.example.org/pool"));
            }
        }
        config.journal.password_file.iter_mut().chain(&mut config.journal.authorities).for_each(near);
        if let Some(collateral) = &mut config.collateral {
            near(&mut collateral.dir);
            collateral.authorities.iter_mut().for_each(near);
            collateral.sources.iter_mut().filter_map(|source| source.dir.as_mut()).for_each(near);
        }
        if !config.api.ip().is_loopback() && !config.api_behind_proxy {
            return Err(at("`api` in")
                .expected("a loopback address: the API speaks plain HTTP")
                .got(config.api)
                .fix("put a TLS proxy before it and say `api_behind_proxy = true`"));
        }
        config.check_journal(at)?;
        if config.slots_per_chip == 0 {
            return Err(at("`slots_per_chip` in")
                .expected("1 or more")
                .got(0)
                .fix("leave it out for one enclave a chip"));
        }
        if !config.admin.ip().is_loopback() {
            return Err(at("`admin` in").expected("a loopback address").got(config.admin));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("manager.toml");
        let text = format!(
            r#"
            agents = "127.0.0.1:1"
            api = "127.0.0.1:2"
            admin = "127.0.0.1:3"
            data = "data"
            key = "manager.key"
            appointment = "manager.json"
            verifier_key = "verifier.key"
            verifier_appointment = "verifier.json"
            anchors = "../anchors.json"
            operator_token_sha256 = "{}"
            policy = "appraisal.cedar"
            references = "references.json"

            [collateral]
            dir = "collateral"
            authorities = "authorities.pem"

            [[collateral.source]]
            kind = "files"
            dir = "mirror"

            [[verifier]]
            name = "second"
            urls = ["http://127.0.0.1:4"]
            appointment = "second.json"
            token_file = "second.token"
            authorities = "second.pem"
            "#,
            Digest::of(b"token"),
        );
        std::fs::write(&file, text).unwrap();
        let config = ManagerConfig::load(&file).unwrap();
        let (collateral, second) = (config.collateral.unwrap(), config.verifiers.into_iter().next().unwrap());
        let paths = [config.data, config.key, config.appointment, config.verifier_key, config.verifier_appointment];
        let optional =
            [collateral.authorities, collateral.sources[0].dir.clone(), second.token_file, second.authorities];
        let others = [config.anchors, config.policy, config.references, collateral.dir, second.appointment];
        for path in paths.into_iter().chain(optional.into_iter().flatten()).chain(others) {
            assert!(path.starts_with(dir.path()), "{}", path.display());
        }
    }
}
