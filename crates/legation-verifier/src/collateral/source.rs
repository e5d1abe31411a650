//! Where collateral comes from, and what is asked there.
//!
//! | source | asked for `intel/..` | asked for `amd/..` | anything else |
//! |---|---|---|---|
//! | `files` | the file of the item's name | the same | the same |
//! | `intel` | provisioning certification service, v4: `tcb`, `qe/identity`, `pckcrl`, `rootcacrl` | - | - |
//! | `amd` | - | key distribution service: `crl`, or the chip's certificate | - |
//! | `mirror` | base URL and the item's name | the same | the same |
//!
//! Nothing that a source answers is believed: every answer goes through the [`Checker`](super::Checker).

use std::path::{Path, PathBuf};

use hyper::{Method, StatusCode, header};
use legation_attest::snp::Product;
use legation_core::claims::COLLATERAL_MAX;
use serde::{Deserialize, Serialize};

use super::{
    check::leaf_path,
    intel::Answers,
    name::{CollateralName, IntelTee},
    store::read_bounded,
};
use crate::http::{Http, Reply};

/// Where Intel's own service is.
pub(super) const INTEL_URL: &str = "https://api.trustedservices.intel.com";
/// Where Intel publishes the list of its root, which its own service does not serve.
pub(super) const INTEL_ROOT_LIST: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
/// Where AMD's service is.
pub(super) const AMD_URL: &str = "https://kdsintf.amd.com";
/// Most endpoints of one source.
pub(super) const ENDPOINTS_MAX: usize = 16;

/// A source as a configuration file names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What is asked there.
    pub kind: SourceKind,
    /// Base URLs, in the order they are tried; Intel's and AMD's own without any.
    #[serde(default)]
    pub urls: Vec<String>,
    /// Folder of a `files` source, such as `legation collateral export` makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Where an `intel` source has the root's list from, when its endpoints serve none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_list: Option<String>,
}

/// What is asked at a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A folder.
    Files,
    /// Intel's service, or a caching service that speaks like it.
    Intel,
    /// AMD's service, or one that speaks like it.
    Amd,
    /// A web server over a folder that `legation collateral export` made.
    Mirror,
}

impl SourceKind {
    /// Name in configurations and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Intel => "intel",
            Self::Amd => "amd",
            Self::Mirror => "mirror",
        }
    }

    /// Whether it may have such an item.
    pub const fn serves(self, name: &CollateralName) -> bool {
        match self {
            Self::Files | Self::Mirror => true,
            Self::Intel => matches!(name, CollateralName::Intel { .. }),
            Self::Amd => matches!(name, CollateralName::AmdList { .. } | CollateralName::Vcek(_)),
        }
    }
}

/// An answer that is none.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) why: String,
    /// Seconds for which the endpoint asked to be left alone.
    pub(super) retry_after: Option<u64>,
    /// Whether the endpoint is to blame, and not this item there. Whoever asks for items that do not exist must not
    /// make us turn from a vendor.
    pub(super) endpoint: bool,
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self { why, retry_after: None, endpoint: false }
    }
}

/// How AMD writes a product in URLs and certificates.
pub(super) const fn kds_name(product: Product) -> &'static str {
    match product {
        Product::Milan => "Milan",
        Product::Genoa => "Genoa",
        Product::Turin => "Turin",
    }
}

/// Asks one endpoint for one item.
pub(super) async fn fetch(
    http: &Http,
    kind: SourceKind,
    base: &str,
    root_list: Option<&str>,
    name: &CollateralName,
) -> Result<Vec<u8>, Failed> {
    let base = base.trim_end_matches('/');
    match (kind, name) {
        (SourceKind::Files, _) => {
            let path = Path::new(base).join(name.to_string());
            let read = tokio::task::spawn_blocking(move || {
                read_bounded(&path, COLLATERAL_MAX as u64).map_err(|e| format!("{}: {e}", path.display()))
            });
            Ok(read.await.map_err(|e| e.to_string())??)
        }
        (SourceKind::Mirror, _) => Ok(get(http, &format!("{base}/{name}")).await?.body.into()),
        (SourceKind::Intel, CollateralName::Intel { tee, fmspc, authority }) => {
            intel(http, base, root_list, *tee, fmspc, authority.name()).await
        }
        (SourceKind::Amd, CollateralName::AmdList { product, leaf }) => {
            let url = format!("{base}/{}/v1/{}/crl", leaf_path(*leaf), kds_name(*product));
            Ok(get(http, &url).await?.body.into())
        }
        (SourceKind::Amd, CollateralName::Vcek(vcek)) => {
            Ok(get(http, &format!("{base}/{}", vcek.path())).await?.body.into())
        }
        (kind, name) => Err(format!("{name} is not asked for at a source of kind {}", kind.name()).into()),
    }
}

async fn intel(
    http: &Http,
    base: &str,
    root_list: Option<&str>,
    tee: IntelTee,
    fmspc: &str,
    authority: &str,
) -> Result<Vec<u8>, Failed> {
    let tee = tee.name();
    let fmspc = fmspc.to_ascii_uppercase();
    let tcb = get(http, &format!("{base}/{tee}/certification/v4/tcb?fmspc={fmspc}")).await?;
    let tcb_chain = chain(&tcb, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"])?;
    let identity = get(http, &format!("{base}/{tee}/certification/v4/qe/identity")).await?;
    let identity_chain = chain(&identity, &["SGX-Enclave-Identity-Issuer-Chain"])?;
    let pck = get(http, &format!("{base}/sgx/certification/v4/pckcrl?ca={authority}&encoding=der")).await?;
    let pck_chain = chain(&pck, &["SGX-PCK-CRL-Issuer-Chain"])?;
    let root = match (get(http, &format!("{base}/sgx/certification/v4/rootcacrl")).await, root_list) {
        (Ok(reply), _) => reply,
        (Err(_), Some(url)) => get(http, url).await?,
        (Err(failed), None) => return Err(failed),
    };
    let answers = Answers {
        tcb: (tcb.body.into(), tcb_chain),
        identity: (identity.body.into(), identity_chain),
        pck_crl: (pck.body.into(), pck_chain),
        root_crl: root.body.into(),
    };
    Ok(answers.assemble()?)
}

async fn get(http: &Http, url: &str) -> Result<Reply, Failed> {
    let answer = http.send(Method::GET, url, &[], bytes::Bytes::new(), COLLATERAL_MAX).await;
    let reply = answer.map_err(|e| Failed { why: e.to_string(), retry_after: None, endpoint: true })?;
    if reply.status.is_success() {
        return Ok(reply);
    }
    let endpoint = reply.status == StatusCode::TOO_MANY_REQUESTS || reply.status.is_server_error();
    let asked = reply.headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let why = format!("{url}: status {}", reply.status.as_u16());
    Err(Failed { why, retry_after: asked.filter(|_| endpoint), endpoint })
}

/// A chain in a header: PEM, percent-encoded.
fn chain(reply: &Reply, names: &[&str]) -> Result<String, String> {
    let value = names.iter().find_map(|name| reply.headers.get(*name)).ok_or_else(|| format!("no {}", names[0]))?;
    percent_decoded(value.as_bytes()).ok_or_else(|| format!("{} is not percent-encoded text", names[0]))
}

fn percent_decoded(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<&u8>| char::from(*b?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        out.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_reads_as_it_was_written() {
        for (text, read) in [
            ("", Some("")),
            ("a%20b%0A", Some("a b\n")),
            ("%2b+%2B", Some("+++")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(percent_decoded(text.as_bytes()).as_deref(), read, "{text}");
        }
    }
}
