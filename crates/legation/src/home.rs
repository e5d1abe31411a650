//! A client's home: a folder with its keys, its token and its anchors.
//!
//! `client.toml` (api: one address, or a list of those of all managers; tenant, token), `identity.key` (signs requests and grants), `sealing.key` (results are sealed to it),
//! `anchors.json` (what it trusts). Secrets are files of mode 0600.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use legation_core::{TenantId, claims::Anchors};
use legation_keys::{IdentityKey, SealingKey};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::{
    exit::{Exit, Failure},
    party::Party,
};

/// What `client.toml` holds.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Address of the manager's API, such as `127.0.0.1:7441`; of several managers, apart by commas or as a list.
    #[serde(deserialize_with = "one_or_several")]
    pub api: String,
    /// On whose account.
    pub tenant: TenantId,
    /// Tells the manager who calls.
    pub token: String,
    /// The operator's token, where the operator works from this home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_token: Option<String>,
}

fn one_or_several<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address, or a list of addresses")]
    enum Api {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Api::deserialize(d)? {
        Api::One(api) => api,
        Api::Several(apis) => apis.join(","),
    })
}

/// A client's home.
pub struct Home {
    /// Where it is.
    pub path: PathBuf,
    /// Its configuration.
    pub config: ClientConfig,
    /// What it trusts.
    pub anchors: Anchors,
}

impl Home {
    /// Reads the home at `path`.
    ///
    /// # Errors
    /// Which file is missing or wrong.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let config_path = path.join("client.toml");
        let text = read(&config_path)?;
        let config = toml::from_str(&text).map_err(|e| wrong(&config_path, e))?;
        let anchors = read_anchors(&path.join("anchors.json"))?;
        Ok(Self { path: path.to_owned(), config, anchors })
    }

    /// The client's keys.
    ///
    /// # Errors
    /// A key file is missing or wrong.
    pub fn party(&self) -> Result<Party, Failure> {
        let identity = self.path.join("identity.key");
        let identity = IdentityKey::from_pem(&read(&identity)?).map_err(|e| wrong(&identity, e))?;
        let sealing = self.path.join("sealing.key");
        let sealing = SealingKey::from_text(read(&sealing)?.trim_end()).map_err(|e| wrong(&sealing, e))?;
        Ok(Party::new(identity, sealing))
    }
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Home({}, api {})", self.path.display(), self.config.api)
    }
}

/// Reads an anchor file.
///
/// # Errors
/// Missing, or not an anchor file.
pub fn read_anchors(path: &Path) -> Result<Anchors, Failure> {
    serde_json::from_str(&read(path)?).map_err(|e| wrong(path, e))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    fs::read_to_string(path).map(Zeroizing::new).map_err(|e| {
        let hint = "set LEGATION_HOME or --home to a folder made by `legation init` or `legation dev`";
        Failure::new(Exit::Usage, format!("cannot read {}: {e}; {hint}", path.display()))
    })
}

fn wrong(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, format!("{} is not what it should be: {error}", path.display()))
}

/// Writes a file that only its owner may read; refuses to replace one.
///
/// # Errors
/// It exists, or the disk failed.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e| Failure::new(Exit::Failure, format!("cannot write {}: {e}", path.display()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
