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
use legation_manager::{
    Refusal, RevocationsView, SignedRevocations, VerifierView,
    api::{
        policies::PolicyText,
        references::{Expiry, NewReference},
        tasks::{Grants, ReceiptPieces, Submission, TaskNow, TaskPage},
        trust::{RevocationMade, Revoke},
    },
};
use legation_policy::{DryRun, PolicyDiff, Scope};
use legation_pool::{EnclaveView, PolicyVersion, PolicyView, PoolView, ReferenceView};
use legation_verifier::collateral::ItemStatus;
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

    /// Revokes what is of `kind` and has this name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke(&self, kind: &str, name: &str, why: &str) -> Result<RevocationMade, ClientError> {
        let body = Revoke { kind: kind.to_owned(), name: name.to_owned(), why: why.to_owned() };
        self.post("/v1/revocations", &body).await
    }

    /// Everything that is revoked.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revocations(&self) -> Result<RevocationsView, ClientError> {
        self.get("/v1/revocations").await
    }

    /// The same, signed by the manager.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn signed_revocations(&self) -> Result<SignedRevocations, ClientError> {
        self.get("/v1/revocations/signed").await
    }

    /// What vendors publish about machines, as the manager's verifier holds it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn collateral(&self) -> Result<Vec<ItemStatus>, ClientError> {
        self.get("/v1/collateral").await
    }

    /// The verifiers of the pool.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn verifiers(&self) -> Result<Vec<VerifierView>, ClientError> {
        self.get("/v1/verifiers").await
    }

    /// The last refusals of attestation, of one enclave or of all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn refusals(&self, enclave: Option<EnclaveId>) -> Result<Vec<Refusal>, ClientError> {
        let of = enclave.map_or(String::new(), |id| format!("?enclave={id}"));
        self.get(&format!("/v1/refusals{of}")).await
    }

    /// Has an enclave attest again now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reattest(&self, id: EnclaveId) -> Result<EnclaveView, ClientError> {
        self.post(&format!("/v1/enclaves/{id}/reattest"), &()).await
    }

    /// Lets an enclave finish and take no more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn drain(&self, id: EnclaveId) -> Result<EnclaveView, ClientError> {
        self.post(&format!("/v1/enclaves/{id}/drain"), &()).await
    }

    /// All reference values.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn references(&self) -> Result<Vec<ReferenceView>, ClientError> {
        self.get("/v1/references").await
    }

    /// One reference value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reference(&self, name: &str) -> Result<ReferenceView, ClientError> {
        self.get(&format!("/v1/references/{}", segment(name))).await
    }

    /// Makes a reference value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_reference(&self, new: &NewReference) -> Result<ReferenceView, ClientError> {
        self.post("/v1/references", new).await
    }

    /// Ends a reference value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn expire_reference(&self, name: &str, expiry: &Expiry) -> Result<ReferenceView, ClientError> {
        self.post(&format!("/v1/references/{}/expire", segment(name)), expiry).await
    }

    /// The policies in force that this token may read.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn policies(&self) -> Result<Vec<PolicyView>, ClientError> {
        self.get("/v1/policies").await
    }

    /// A policy in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn policy(&self, scope: &Scope) -> Result<PolicyView, ClientError> {
        self.get(&policy_path(scope, "")).await
    }

    /// The versions of a policy, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn policy_versions(&self, scope: &Scope) -> Result<Vec<PolicyVersion>, ClientError> {
        self.get(&policy_path(scope, "/versions")).await
    }

    /// Sets a policy.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_policy(&self, scope: &Scope, text: String) -> Result<PolicyView, ClientError> {
        let body = serde_json::to_vec(&PolicyText { text }).map_err(|e| ClientError::Answer(e.to_string()))?;
        self.json(Method::PUT, &policy_path(scope, ""), body.into()).await
    }

    /// What a text would do to the enclaves in the pool.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn test_policy(&self, scope: &Scope, text: String) -> Result<DryRun, ClientError> {
        self.post(&policy_path(scope, "/test"), &PolicyText { text }).await
    }

    /// What a text would change for the enclaves in the pool.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn diff_policy(&self, scope: &Scope, text: String) -> Result<PolicyDiff, ClientError> {
        self.post(&policy_path(scope, "/diff"), &PolicyText { text }).await
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

fn policy_path(scope: &Scope, rest: &str) -> String {
    format!("/v1/policies/{}{rest}", segment(&scope.to_string()))
}

/// One segment of a path: what is no plain letter is escaped (RFC 3986 section 2.1).
fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
