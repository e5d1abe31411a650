//! The HTTP client of this crate: bounded answers, one deadline for each request, plain text to this machine only.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, header::HeaderName, header::HeaderValue};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use legation_core::Rejection;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Most connections kept open to one host.
const IDLE_MAX: usize = 64;

/// Whose certificates are taken.
#[derive(Clone, Debug)]
pub enum Authorities {
    /// Those that the operating system trusts.
    System,
    /// These, PEM.
    Given(Vec<u8>),
}

/// Which TLS is spoken.
#[derive(Clone, Copy, Debug)]
pub enum Tls {
    /// 1.3, with ours.
    Ours,
    /// 1.2 as well, with vendors': what they send is signed, and TLS protects nothing of it.
    Vendors,
}

/// A client; cheap to clone.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL or a header cannot be sent.
    #[error("{url}: not a request: {why}")]
    Request {
        /// Where.
        url: String,
        /// Why not.
        why: String,
    },
    /// Nobody answered, or not to the end.
    #[error("{url}: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        why: String,
    },
}

impl Http {
    /// A client whose every request ends within `timeout`. Authorities are read only when one of `urls` needs them.
    ///
    /// # Errors
    /// `http.authorities` when there are none; `http.url` for a URL that [`check_url`] refuses.
    pub fn new(authorities: &Authorities, tls: Tls, urls: &[String], timeout: Duration) -> Result<Self, Rejection> {
        urls.iter().try_for_each(|url| check_url(url))?;
        let needed = urls.iter().any(|url| url.starts_with("https:"));
        let config = tls_of(if needed { roots(authorities)? } else { RootCertStore::empty() }, tls)?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT.min(timeout)));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build(connector);
        Ok(Self { client, timeout })
    }

    /// Sends one request and reads an answer of at most `max` bytes. Redirects are not followed.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        max: usize,
    ) -> Result<Reply, HttpError> {
        let unreachable = |why: String| HttpError::Unreachable { url: url.to_owned(), why };
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| HttpError::Request { url: url.to_owned(), why: e.to_string() })?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| unreachable(with_causes(&e)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, max).collect().await.map_err(|e| unreachable(with_causes(e.as_ref())))?;
            Ok(Reply { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(format!("no answer within {} s", self.timeout.as_secs_f32()))),
        }
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http({:?})", self.timeout)
    }
}

fn roots(authorities: &Authorities) -> Result<RootCertStore, Rejection> {
    let refuse = |got: String| {
        Rejection::new("http.authorities", "certificate authorities for HTTPS")
            .expected("at least one certificate")
            .got(got)
            .fix("install the system's certificates (ca-certificates), or name a PEM file")
    };
    let mut store = RootCertStore::empty();
    match authorities {
        Authorities::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(refuse(found.errors.first().map_or("none".to_owned(), ToString::to_string)));
            }
        }
        Authorities::Given(pem) => {
            for cert in CertificateDer::pem_slice_iter(pem) {
                let cert = cert.map_err(|e| refuse(e.to_string()))?;
                store.add(cert).map_err(|e| refuse(e.to_string()))?;
            }
            if store.is_empty() {
                return Err(refuse("none in the file".to_owned()));
            }
        }
    }
    Ok(store)
}

/// TLS of a client that takes certificates of these authorities, for other protocols than HTTP.
///
/// # Errors
/// `http.authorities` when there are none.
pub fn tls_config(authorities: &Authorities, tls: Tls) -> Result<ClientConfig, Rejection> {
    tls_of(roots(authorities)?, tls)
}

fn tls_of(roots: RootCertStore, tls: Tls) -> Result<ClientConfig, Rejection> {
    let both: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let versions = match tls {
        Tls::Ours => &both[..1],
        Tls::Vendors => both,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = builder
        .with_protocol_versions(versions)
        .map_err(|e| Rejection::new("http.tls", "TLS of the client").got(e).fix("rebuild this program"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Whether a URL may be asked: `https`, or `http` on this machine.
///
/// # Errors
/// `http.url`.
pub fn check_url(url: &str) -> Result<(), Rejection> {
    let refuse = |got: String| {
        Err(Rejection::new("http.url", format!("URL `{url}`"))
            .expected("https://.., or http:// with a loopback address")
            .got(got)
            .fix("use https"))
    };
    let uri: Uri = match url.parse() {
        Ok(uri) => uri,
        Err(e) => return refuse(format!("{e}")),
    };
    let host = uri.host().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if local => Ok(()),
        Some("http") => refuse(format!("plain http to `{host}`")),
        _ => refuse("another".to_owned()),
    }
}

/// An error with what it rests on: the outermost alone says too little.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine() {
        for good in [
            "https://vendor.example/x",
            "http://127.0.0.1:80",
            "http://127.8.8.8/",
            "http://[::1]:1/a",
            "http://localhost",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "http://vendor.example",
            "http://10.0.0.1",
            "http://127.0.0.1.example/",
            "ftp://127.0.0.1",
            "127.0.0.1:80",
            "",
        ] {
            assert_eq!(check_url(bad).unwrap_err().check, "http.url", "{bad}");
        }
    }
}
