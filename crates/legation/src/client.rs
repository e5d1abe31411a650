//! The manager's API as functions. Connections are kept; what fails because the manager is away is tried again for a while,
//! which is safe since every call of ours may be repeated.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use legation_core::{Digest, EnclaveId, Rejection, TaskId};
use legation_manager::api::{
    enclaves::Revocation,
    tasks::{Grants, ReceiptPieces, Submission, TaskNow, TaskPage},
};
use legation_pool::{EnclaveView, PoolView};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::exit::{Exit, Failure};

/// Largest answer, in bytes.
const ANSWER_MAX: usize = 256 << 20;
/// Pauses between tries.
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// A client of one manager; cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
    authorization: header::HeaderValue,
    patience: Duration,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The manager refused.
    #[error("{why}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Its reason.
        why: Rejection,
    },
    /// The manager could not be reached.
    #[error("manager at {base} cannot be reached: {why}; is it running? (`legation dev` starts a local one)")]
    Unreachable {
        /// Where.
        base: String,
        /// Why not.
        why: String,
    },
    /// The answer was not what the API says.
    #[error("answer of the manager is not understood: {0}")]
    Answer(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Refused { why, .. } => Self::refused(Exit::Refused, why),
            ClientError::Unreachable { .. } => Self::new(Exit::Unreachable, error),
            ClientError::Answer(_) => Self::new(Exit::Failure, error),
        }
    }
}

/// What of a problem document (RFC 9457) this client reads.
#[derive(Deserialize)]
struct Problem {
    title: String,
    check: String,
    expected: String,
    got: String,
    fix: String,
}

impl Client {
    /// A client of the manager at `api` (host:port) that shows `token`.
    ///
    /// # Errors
    /// The token cannot be sent in a header.
    pub fn new(api: &str, token: &str) -> Result<Self, Failure> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Http::builder(TokioExecutor::new()).pool_max_idle_per_host(128).build(connector);
        let mut authorization = header::HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|e| Failure::new(Exit::Usage, format!("token cannot be sent: {e}")))?;
        authorization.set_sensitive(true);
        Ok(Self { http, base: format!("http://{api}"), authorization, patience: Duration::from_secs(60) })
    }

    /// Gives up on an absent manager after `patience`.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let started = std::time::Instant::now();
        let mut pauses = BACKOFF.iter().chain(std::iter::repeat(&BACKOFF[BACKOFF.len() - 1]));
        loop {
            let failed = match self.send_once(&method, path, kind, body.clone()).await {
                Err(ClientError::Unreachable { base, why }) => ClientError::Unreachable { base, why },
                // Said by a manager that is overloaded or on its way out: nothing happened.
                Err(ClientError::Refused { status, why })
                    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) =>
                {
                    ClientError::Refused { status, why }
                }
                other => return other,
            };
            if started.elapsed() > self.patience {
                return Err(failed);
            }
            tokio::time::sleep(pauses.next().copied().unwrap_or_default()).await;
        }
    }

    async fn send_once(&self, method: &Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let away = |why: String| ClientError::Unreachable { base: self.base.clone(), why };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|e| ClientError::Answer(e.to_string()))?;
        let response = self.http.request(request).await.map_err(|e| {
            let mut why = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(inner) = source {
                why = format!("{why}: {inner}");
                source = inner.source();
            }
            away(why)
        })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(|e| away(e.to_string()))?;
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(Problem { title, check, expected, got, fix }) => {
                Err(ClientError::Refused { status, why: Rejection { check, claim: title, expected, got, fix } })
            }
            Err(_) => Err(ClientError::Answer(format!("status {status} without a problem document"))),
        }
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, ClientError> {
        let answer = self.send(method, path, "application/json", body).await?;
        serde_json::from_slice(&answer).map_err(|e| ClientError::Answer(e.to_string()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Answer(e.to_string()))?;
        self.json(Method::POST, path, body.into()).await
    }

    /// The pool in a few numbers.
    ///
    /// # Errors
    /// See [`ClientError`]; so for all calls below.
    pub async fn pool(&self) -> Result<PoolView, ClientError> {
        self.get("/v1/pool").await
    }

    /// All enclaves.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn enclaves(&self) -> Result<Vec<EnclaveView>, ClientError> {
        self.get("/v1/enclaves").await
    }

    /// One enclave.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn enclave(&self, id: EnclaveId) -> Result<EnclaveView, ClientError> {
        self.get(&format!("/v1/enclaves/{id}")).await
    }

    /// Revokes an enclave.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke(&self, id: EnclaveId, why: &str) -> Result<EnclaveView, ClientError> {
        self.post(&format!("/v1/enclaves/{id}/revoke"), &Revocation { why: why.to_owned() }).await
    }

    /// Lets an enclave finish and take no more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn drain(&self, id: EnclaveId) -> Result<EnclaveView, ClientError> {
        self.post(&format!("/v1/enclaves/{id}/drain"), &()).await
    }

    /// Stores an object unless it is there; returns its digest.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_object(&self, bytes: Bytes) -> Result<Digest, ClientError> {
        let digest = Digest::of(&bytes);
        let path = format!("/v1/objects/{digest}");
        match self.send(Method::HEAD, &path, "application/octet-stream", Bytes::new()).await {
            Ok(_) => return Ok(digest),
            Err(ClientError::Answer(_) | ClientError::Refused { .. }) => {}
            Err(away) => return Err(away),
        }
        self.send(Method::PUT, &path, "application/octet-stream", bytes).await?;
        Ok(digest)
    }

    /// Fetches an object and checks its digest.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_object(&self, digest: &Digest) -> Result<Bytes, ClientError> {
        let bytes = self.send(Method::GET, &format!("/v1/objects/{digest}"), "application/json", Bytes::new()).await?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(ClientError::Answer(format!("object {digest} came with other bytes")))
        }
    }

    /// Submits a task; waits up to `wait` seconds until it ended or needs grants.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn submit(&self, submission: &Submission, wait: u64) -> Result<TaskNow, ClientError> {
        self.post(&format!("/v1/tasks?wait={wait}"), submission).await
    }

    /// One task; waits up to `wait` seconds until it ended or needs grants.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn task(&self, id: TaskId, wait: u64) -> Result<TaskNow, ClientError> {
        self.get(&format!("/v1/tasks/{id}?wait={wait}")).await
    }

    /// A page of tasks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tasks(&self, token: Option<&str>) -> Result<TaskPage, ClientError> {
        match token {
            Some(token) => self.get(&format!("/v1/tasks?page_token={token}")).await,
            None => self.get("/v1/tasks").await,
        }
    }

    /// Grants.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn grant(&self, id: TaskId, grants: &Grants, wait: u64) -> Result<TaskNow, ClientError> {
        self.post(&format!("/v1/tasks/{id}/grants?wait={wait}"), grants).await
    }

    /// Gives a task up.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel(&self, id: TaskId) -> Result<TaskNow, ClientError> {
        self.post(&format!("/v1/tasks/{id}/cancel"), &()).await
    }

    /// Why each fragment is where it is: JSON, for people.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn explain(&self, id: TaskId) -> Result<serde_json::Value, ClientError> {
        self.get(&format!("/v1/tasks/{id}/explain")).await
    }

    /// Pieces of a task's receipt.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn receipt(&self, id: TaskId) -> Result<ReceiptPieces, ClientError> {
        self.get(&format!("/v1/tasks/{id}/receipt")).await
    }
}
