//! Configuration of a manager: one TOML file. Unknown keys are errors; every error names the file and the key.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use legation_attest::AppraisalPolicy;
use legation_core::{Bytes, Digest, PublicKey, Rejection, TenantId};
use serde::{Deserialize, Serialize};

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
    /// What enclaves must be.
    pub appraisal: AppraisalPolicy,
    /// Largest object.
    #[serde(default = "object_max")]
    pub object_max_bytes: Bytes,
    /// Most connections of agents.
    #[serde(default = "connections_max")]
    pub agent_connections_max: usize,
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

fn connections_max() -> usize {
    10_000
}

impl ManagerConfig {
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
        ] {
            *file = folder.join(&*file);
        }
        if !config.api.ip().is_loopback() && !config.api_behind_proxy {
            return Err(at("`api` in")
                .expected("a loopback address: the API speaks plain HTTP")
                .got(config.api)
                .fix("put a TLS proxy before it and say `api_behind_proxy = true`"));
        }
        if !config.admin.ip().is_loopback() {
            return Err(at("`admin` in").expected("a loopback address").got(config.admin));
        }
        Ok(config)
    }
}
