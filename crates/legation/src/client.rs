//! The manager's API as functions. Connections are kept; what fails because the manager is away is tried again for a while,
//! which is safe since every call of ours may be repeated: each carries one `Idempotency-Key` through all its tries.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, StatusCode, header};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use legation_core::{Digest, EnclaveId, MicroUsd, Rejection, ReservationId, Seq, TaskId, TenantId};
use legation_manager::{
    ManagerView, Refusal, RevocationsView, SignedRevocations, VerifierView,
    api::{
        accounts::{NewTerms, TopUp},
        distances::NewDistances,
        enclaves::Reason,
        policies::PolicyText,
        references::{Expiry, NewReference},
        reservations::NewReservation,
        tasks::{Grants, ReceiptPieces, Submission, TaskNow, TaskPage},
        trust::{RevocationMade, Revoke},
    },
};
use legation_policy::{DryRun, PlaceQuestion, PolicyDiff, Scope};
use legation_pool::{
    AccountTerms, AccountView, EnclaveView, Estimate, Explanation, KnownRoundTrip, PolicyVersion, PolicyView, PoolView,
    ReferenceView, ReservationTerms, ReservationView, Retired, RoundTrip, TaskState,
};
use legation_verifier::collateral::ItemStatus;
use serde::{Serialize, de::DeserializeOwned};

use crate::exit::{Exit, Failure};

mod keys;
mod log;
mod managers;
mod tries;

pub use managers::MANAGERS_MAX;
use managers::Managers;

/// How long a connection may take where there are other managers.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// A client of the managers of one pool; cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    managers: Arc<Managers>,
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

impl Client {
    /// A client of the managers at `apis` (host:port, or URLs; several apart by commas) that shows `token`.
    ///
    /// # Errors
    /// An address is none, or the token cannot be sent in a header.
    pub fn new(apis: &str, token: &str) -> Result<Self, Failure> {
        let managers = Managers::parse(apis)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout((managers.apis.len() > 1).then_some(CONNECT_MAX));
        let http = Http::builder(TokioExecutor::new()).pool_max_idle_per_host(128).build(connector);
        let mut authorization = header::HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|e| Failure::new(Exit::Usage, format!("token cannot be sent: {e}")))?;
        authorization.set_sensitive(true);
        Ok(Self { http, managers: Arc::new(managers), authorization, patience: Duration::from_secs(60) })
    }

    /// Addresses of the managers it knows.
    pub fn managers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.managers.apis.iter().map(String::as_str)
    }

    /// Gives up on an absent manager after `patience`.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes, ClientError> {
        self.repeat(method, path, kind, body).await.0
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

    /// What a manager says of itself: the one that leads, if any of those given does.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn manager(&self) -> Result<ManagerView, ClientError> {
        self.get("/v1/manager").await
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

    /// Has nothing new placed on an enclave; what runs there goes on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cordon(&self, id: EnclaveId, why: &str) -> Result<EnclaveView, ClientError> {
        let why = why.to_owned();
        self.post(&format!("/v1/enclaves/{id}/cordon"), &Reason { why }).await
    }

    /// Takes a cordon back, or lets in again what was decommissioned; gives the enclave if it is in the pool.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn uncordon(&self, id: EnclaveId) -> Result<Option<EnclaveView>, ClientError> {
        self.post(&format!("/v1/enclaves/{id}/uncordon"), &()).await
    }

    /// Takes an enclave out: its work moves at once, and it stays out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn decommission(&self, id: EnclaveId, why: &str) -> Result<Option<Retired>, ClientError> {
        let why = why.to_owned();
        self.post(&format!("/v1/enclaves/{id}/decommission"), &Reason { why }).await
    }

    /// Enclaves that were decommissioned.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn retired(&self) -> Result<BTreeMap<EnclaveId, Retired>, ClientError> {
        self.get("/v1/retired").await
    }

    /// Sets seats aside.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reserve(&self, terms: &ReservationTerms) -> Result<ReservationView, ClientError> {
        self.post("/v1/reservations", &NewReservation { terms: terms.clone() }).await
    }

    /// The reservations that one may see.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reservations(&self) -> Result<Vec<ReservationView>, ClientError> {
        self.get("/v1/reservations").await
    }

    /// One reservation.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reservation(&self, id: ReservationId) -> Result<ReservationView, ClientError> {
        self.get(&format!("/v1/reservations/{id}")).await
    }

    /// Gives a reservation up.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel_reservation(&self, id: ReservationId) -> Result<ReservationView, ClientError> {
        self.post(&format!("/v1/reservations/{id}/cancel"), &()).await
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
        let body = serde_json::to_vec(new).map_err(|e| ClientError::Answer(e.to_string()))?;
        let (answer, doubtful) = self.repeat(Method::POST, "/v1/references", "application/json", body.into()).await;
        match answer {
            // The name is taken: perhaps by an earlier try of this very call.
            Err(ClientError::Refused { status, why }) if doubtful && why.check == "reference.name" => {
                let view = self.reference(&new.name).await?;
                let made = &view.reference;
                let own = made.owner == new.owner && made.expires == new.expires;
                let same = own && new.value.as_ref().is_none_or(|value| *value == made.value);
                if same { Ok(view) } else { Err(ClientError::Refused { status, why }) }
            }
            answer => serde_json::from_slice(&answer?).map_err(|e| ClientError::Answer(e.to_string())),
        }
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
        let body =
            serde_json::to_vec(&PolicyText { text, place: None }).map_err(|e| ClientError::Answer(e.to_string()))?;
        self.json(Method::PUT, &policy_path(scope, ""), body.into()).await
    }

    /// What a text would do to the enclaves in the pool; with work to place, which of them could take that.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn test_policy(
        &self,
        scope: &Scope,
        text: String,
        place: Option<PlaceQuestion>,
    ) -> Result<DryRun, ClientError> {
        self.post(&policy_path(scope, "/test"), &PolicyText { text, place }).await
    }

    /// What a text would change for the enclaves in the pool.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn diff_policy(&self, scope: &Scope, text: String) -> Result<PolicyDiff, ClientError> {
        self.post(&policy_path(scope, "/diff"), &PolicyText { text, place: None }).await
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

    /// What a submission would come to; nothing is changed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn estimate(&self, submission: &Submission) -> Result<Estimate, ClientError> {
        self.post("/v1/tasks/estimate", submission).await
    }

    /// Every round trip between regions that the pool knows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn distances(&self) -> Result<Vec<KnownRoundTrip>, ClientError> {
        self.get("/v1/distances").await
    }

    /// Gives the pool a whole table of round trips.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_distances(&self, rows: Vec<RoundTrip>) -> Result<Vec<KnownRoundTrip>, ClientError> {
        let body = serde_json::to_vec(&NewDistances { rows }).map_err(|e| ClientError::Answer(e.to_string()))?;
        self.json(Method::PUT, "/v1/distances", body.into()).await
    }

    /// The accounts that this token may see.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn accounts(&self) -> Result<Vec<AccountView>, ClientError> {
        self.get("/v1/accounts").await
    }

    /// The account of a tenant; the default account without one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn account(&self, tenant: Option<&TenantId>) -> Result<AccountView, ClientError> {
        self.get(&account_path(tenant)).await
    }

    /// Sets the account of a tenant, the default account without one, if its terms are still those of record `as_of`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_account(
        &self,
        tenant: Option<&TenantId>,
        terms: AccountTerms,
        as_of: Option<Seq>,
    ) -> Result<AccountView, ClientError> {
        let body = serde_json::to_vec(&NewTerms { terms, as_of }).map_err(|e| ClientError::Answer(e.to_string()))?;
        self.json(Method::PUT, &account_path(tenant), body.into()).await
    }

    /// Raises the budget of an account.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn top_up(&self, tenant: &TenantId, amount: MicroUsd) -> Result<AccountView, ClientError> {
        let body = serde_json::to_vec(&TopUp { amount }).map_err(|e| ClientError::Answer(e.to_string()))?;
        let answer = self.once(&format!("{}/top-up", account_path(Some(tenant))), body.into()).await?;
        serde_json::from_slice(&answer).map_err(|e| ClientError::Answer(e.to_string()))
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
        let path = format!("/v1/tasks/{id}/cancel");
        let (answer, doubtful) =
            self.repeat(Method::POST, &path, "application/json", Bytes::from_static(b"null")).await;
        match answer {
            // It has ended: perhaps by an earlier try of this very call.
            Err(ClientError::Refused { status, why }) if doubtful && why.check == "task.ended" => {
                let now = self.task(id, 0).await?;
                if now.view.state == TaskState::Cancelled { Ok(now) } else { Err(ClientError::Refused { status, why }) }
            }
            answer => serde_json::from_slice(&answer?).map_err(|e| ClientError::Answer(e.to_string())),
        }
    }

    /// Why each fragment is where it is, why not elsewhere, and what to ask instead.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn explain(&self, id: TaskId) -> Result<Vec<Explanation>, ClientError> {
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

fn account_path(tenant: Option<&TenantId>) -> String {
    tenant.map_or("/v1/default-account".to_owned(), |tenant| format!("/v1/accounts/{}", segment(tenant.as_str())))
}

fn policy_path(scope: &Scope, rest: &str) -> String {
    format!("/v1/policies/{}{rest}", segment(&scope.to_string()))
}

/// One segment of a path: what is no plain letter is escaped (RFC 3986 section 2.1).
fn segment(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
