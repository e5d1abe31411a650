//! The HTTP service of a verifier: JSON in, JSON out, errors as RFC 9457 problem details with the refusal's own fields.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /v1/challenge` | - | `{challenge}` |
//! | `POST /v1/verify` | `{evidence, challenges}` | [`Issued`] |
//! | `POST /v1/appraise` | `{evidence, nonce?}` | [`Appraised`]: what the evidence shows, check by check, and no passport |
//! | `POST /v1/activate` | [`TpmKeys`] | [`Activation`] |
//! | `POST /v1/attest-key` | `{keys, ticket, secret}` | a signed `KeyAttestation` |
//! | `GET /v1/status` | - | [`Status`] |
//! | `GET /livez`, `/readyz`, `/metrics` | - | text; no token |
//!
//! | status | what the caller does | what the operator does |
//! |---|---|---|
//! | 400, 413, 415, 422 | mends what was sent: the problem says what was expected | - |
//! | 401 | uses the right token | gives or withdraws tokens |
//! | 408 | sends the body at once | - |
//! | 503 | tries again after `Retry-After`, or asks another replica | looks at the load |
//!
//! Bounds: a body has at most [`BODY_MAX`] bytes and [`BODY_SECONDS`] to arrive; no more requests are worked on at once
//! than the configuration says, and whoever comes then is turned away at once rather than queued.

mod problem;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use legation_core::{
    Digest, KeyId, Rejection, Signed, UnixTime,
    claims::{Claims, EVIDENCE_MAX, Evidence, KeyBinding},
    encoding::b64,
    statement::{Appointment, Ear, KeyAttestation},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use problem::Problem;
pub use problem::ProblemBody;

use crate::{
    Activation, Current, Door, Issued, LocalVerifier,
    collateral::{ItemStatus, Keeper},
    door::TpmKeys,
};

/// Largest body, in bytes: evidence in base64, and slack for names and challenges.
pub const BODY_MAX: usize = EVIDENCE_MAX.div_ceil(3) * 4 + 16 * 1024;
/// How long a body may take to arrive, in seconds.
pub const BODY_SECONDS: u64 = 10;
/// Requests that are worked on at once, unless the configuration says otherwise.
pub const IN_FLIGHT_DEFAULT: usize = 256;

/// What `POST /v1/challenge` answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// To be answered within two minutes.
    pub challenge: Digest,
}

/// What `POST /v1/verify` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The evidence, over the join of `challenges`.
    pub evidence: Evidence,
    /// Challenges of all verifiers that are asked, in the order they were joined.
    pub challenges: Vec<Digest>,
}

/// What `POST /v1/appraise` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppraiseRequest {
    /// The evidence.
    pub evidence: Evidence,
    /// The nonce it should be over, if that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Digest>,
}

/// What `POST /v1/attest-key` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestKeyRequest {
    /// The keys, as they were sent to be activated.
    pub keys: TpmKeys,
    /// The ticket that came with the credential.
    #[serde(with = "b64")]
    pub ticket: Vec<u8>,
    /// The secret that the TPM read.
    pub secret: Digest,
}

/// One step of an appraisal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `judge`, `nonce` or `policy`.
    pub step: String,
    /// `passed`, `refused`, or `not made` when an earlier step refused.
    pub outcome: String,
    /// The check that refused: what it is about, expected, got, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Rejection>,
}

/// What evidence shows, and what this verifier would say of it. No passport: nobody is let in by this.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appraised {
    /// Whether a passport would have been issued, had the challenge been answered.
    pub acceptable: bool,
    /// As of when.
    pub at: UnixTime,
    /// The policy that was applied.
    pub policy: PolicyStatus,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What was attested; absent when the evidence does not hold.
    pub claims: Option<Claims>,
    /// The keys it binds.
    pub binding: Option<KeyBinding>,
    /// The appraisal; absent when the policy refuses.
    pub ear: Option<Ear>,
}

/// The policy in force.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStatus {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// Life of a passport, in seconds.
    pub passport_seconds: u64,
}

/// What a verifier says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// What people call it.
    pub name: String,
    /// Name of its key.
    pub key: KeyId,
    /// Its appointment: who trusts it, for which tenants and kinds of machines.
    pub appointment: Signed<Appointment>,
    /// The policy in force.
    pub policy: PolicyStatus,
    /// When it started.
    pub started: UnixTime,
    /// Its clock.
    pub now: UnixTime,
    /// Passports issued since then.
    pub issued: u64,
    /// When the last one was issued.
    pub last_success: Option<UnixTime>,
    /// Evidence refused since then, by check.
    pub refused: BTreeMap<String, u64>,
    /// Collateral that is kept or wanted.
    pub collateral: Vec<ItemStatus>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// What the handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Service {
    verifier: LocalVerifier,
    keeper: Option<Arc<Keeper>>,
    tokens: Arc<[Digest]>,
    in_flight: Arc<Semaphore>,
    started: UnixTime,
    /// Why the last change of a file was not taken up.
    troubles: Arc<Current<Vec<String>>>,
}

impl Service {
    /// A service of `verifier` that takes requests with one of `tokens` (by SHA-256), or any without a list, and works
    /// on `in_flight` at once.
    pub fn new(verifier: LocalVerifier, keeper: Option<Arc<Keeper>>, tokens: &[Digest], in_flight: usize) -> Self {
        let started = verifier.now();
        Self {
            verifier,
            keeper,
            tokens: tokens.into(),
            in_flight: Arc::new(Semaphore::new(in_flight)),
            started,
            troubles: Arc::default(),
        }
    }

    /// What operators are told until it is mended.
    pub(crate) fn set_troubles(&self, troubles: Vec<String>) {
        self.troubles.set(troubles);
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/challenge", post(challenge))
            .route("/v1/verify", post(verify))
            .route("/v1/appraise", post(appraise))
            .route("/v1/activate", post(activate))
            .route("/v1/attest-key", post(attest_key))
            .route("/v1/status", get(status))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .fallback(nowhere)
            .with_state(self)
    }

    /// Lets a request in: token, room, body.
    async fn admit<T: DeserializeOwned>(&self, request: Request) -> Result<(T, OwnedSemaphorePermit), Problem> {
        let permit = self.enter(request.headers())?;
        let body = read(request.into_body()).await?;
        let value = serde_json::from_slice(&body).map_err(|e| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                Rejection::new("api.body", "body of the request")
                    .expected("the JSON of docs/verifier.md")
                    .got(e)
                    .fix("run client and verifier of one version"),
            )
        })?;
        Ok((value, permit))
    }

    fn enter(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Problem> {
        self.authenticate(headers)?;
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| {
            self.verifier.metrics().overloaded();
            Problem::overloaded(
                Rejection::new("verifier.busy", "requests that are worked on at once")
                    .expected("room for one more")
                    .got("none")
                    .fix("try again in a second, or ask another replica"),
            )
        })
    }

    /// Tokens are compared by digest, in constant time.
    fn authenticate(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let refuse = |got: &str| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                Rejection::new("api.token", "token of the request")
                    .expected("`Authorization: Bearer TOKEN` with a token the verifier knows")
                    .got(got)
                    .fix("ask the verifier's operator for a token"),
            )
        };
        let value = headers.get(header::AUTHORIZATION).ok_or_else(|| refuse("none"))?;
        let token =
            value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(|| refuse("another scheme"))?;
        let digest = Digest::of(token.as_bytes());
        let same = |known: &Digest| {
            aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), digest.as_bytes()).is_ok()
        };
        if self.tokens.iter().any(same) { Ok(()) } else { Err(refuse("an unknown one")) }
    }

    fn collateral(&self) -> Vec<ItemStatus> {
        self.keeper.as_ref().map(|k| k.status()).unwrap_or_default()
    }

    fn policy(&self) -> PolicyStatus {
        let appraising = self.verifier.appraisers().get();
        PolicyStatus {
            name: appraising.name.clone(),
            digest: appraising.digest,
            passport_seconds: appraising.appraiser.passport_seconds(),
        }
    }

    fn warnings(&self, collateral: &[ItemStatus], now: UnixTime) -> Vec<String> {
        const SOON: u64 = 14 * 86_400;
        let mut warnings: Vec<_> = collateral.iter().filter_map(ItemStatus::warning).collect();
        warnings.extend(self.troubles.get().iter().cloned());
        let end = self.verifier.appointment().not_after;
        if end <= now.plus(SOON) {
            warnings.push(format!("the appointment of this verifier ends at {end}: have the operator renew it"));
        }
        warnings
    }
}

async fn read(body: Body) -> Result<bytes::Bytes, Problem> {
    let arrived = tokio::time::timeout(Duration::from_secs(BODY_SECONDS), axum::body::to_bytes(body, BODY_MAX)).await;
    let refuse = |status, claim: &str, expected: String, fix: &str| {
        Problem::new(status, Rejection::new("api.size", claim).expected(expected).fix(fix))
    };
    match arrived {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "size of the body",
            format!("at most {BODY_MAX} bytes, whole"),
            "send the report and the certificates of its key alone",
        )),
        Err(_) => Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "time for the body to arrive",
            format!("{BODY_SECONDS} seconds at most"),
            "send it at once",
        )),
    }
}

async fn challenge(State(service): State<Service>, headers: HeaderMap) -> Result<Json<Challenge>, Problem> {
    let _permit = service.enter(&headers)?;
    Ok(Json(Challenge { challenge: service.verifier.challenge().await? }))
}

async fn verify(State(service): State<Service>, request: Request) -> Result<Json<Issued>, Problem> {
    let (VerifyRequest { evidence, challenges }, _permit) = service.admit(request).await?;
    Ok(Json(service.verifier.verify(Arc::new(evidence), challenges).await?))
}

async fn appraise(State(service): State<Service>, request: Request) -> Result<Json<Appraised>, Problem> {
    let (AppraiseRequest { evidence, nonce }, _permit) = service.admit(request).await?;
    let at = service.verifier.now();
    let judged = service.verifier.judge(Arc::new(evidence)).await;
    let (mut claims, mut binding, mut ear) = (None, None, None);
    let (mut nonced, mut appraised) = (None, None);
    let judging = match judged {
        Ok(judged) => {
            nonced = Some(match nonce {
                Some(nonce) if nonce != judged.binding.nonce => {
                    Err(Rejection::new("admit.nonce", "nonce in the key binding")
                        .expected(nonce)
                        .got(judged.binding.nonce)
                        .fix("make evidence over this nonce"))
                }
                _ => Ok(()),
            });
            let appraiser = Arc::clone(&service.verifier.appraisers().get().appraiser);
            appraised = Some(appraiser.appraise(&judged, at).map(|result| ear = Some(result)));
            (claims, binding) = (Some(judged.claims), Some(judged.binding));
            Ok(())
        }
        Err(why) => Err(why),
    };
    let steps = vec![step("judge", Some(judging)), step("nonce", nonced), step("policy", appraised)];
    let acceptable = steps.iter().all(|s| s.outcome == "passed");
    Ok(Json(Appraised { acceptable, at, policy: service.policy(), steps, claims, binding, ear }))
}

fn step(name: &str, result: Option<Result<(), Rejection>>) -> Step {
    let (outcome, refusal) = match result {
        None => ("not made", None),
        Some(Ok(())) => ("passed", None),
        Some(Err(why)) => ("refused", Some(why)),
    };
    Step { step: name.to_owned(), outcome: outcome.to_owned(), refusal }
}

async fn activate(State(service): State<Service>, request: Request) -> Result<Json<Activation>, Problem> {
    let (keys, _permit) = service.admit::<TpmKeys>(request).await?;
    Ok(Json(service.verifier.activate(keys).await?))
}

async fn attest_key(State(service): State<Service>, request: Request) -> Result<Json<Signed<KeyAttestation>>, Problem> {
    let (AttestKeyRequest { keys, ticket, secret }, _permit) = service.admit(request).await?;
    Ok(Json(service.verifier.attest_key(keys, ticket, secret).await?))
}

async fn status(State(service): State<Service>, headers: HeaderMap) -> Result<Json<Status>, Problem> {
    service.authenticate(&headers)?;
    let (now, collateral) = (service.verifier.now(), service.collateral());
    let metrics = service.verifier.metrics();
    Ok(Json(Status {
        name: service.verifier.name().to_owned(),
        key: service.verifier.key(),
        appointment: service.verifier.appointment().clone(),
        policy: service.policy(),
        started: service.started,
        now,
        issued: metrics.count(),
        last_success: metrics.last_success(),
        refused: metrics.refusals(),
        warnings: service.warnings(&collateral, now),
        collateral,
    }))
}

/// Ready while a passport could be issued; with what an operator should look at.
async fn ready(State(service): State<Service>) -> Response {
    let now = service.verifier.now();
    let appointment = service.verifier.appointment();
    let appointed = appointment.not_before <= now && now <= appointment.not_after;
    let mut text = if appointed { "ok\n".to_owned() } else { format!("not appointed at {now}\n") };
    for warning in service.warnings(&service.collateral(), now) {
        text.push_str(&format!("warning: {warning}\n"));
    }
    let status = if appointed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, text).into_response()
}

async fn metrics(State(service): State<Service>) -> String {
    service.verifier.metrics().text(&service.collateral(), service.verifier.now())
}

async fn nowhere(request: Request) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        Rejection::new("api.path", "path of the request")
            .expected("one of docs/verifier.md")
            .got(format!("{} {}", request.method(), request.uri().path()))
            .fix("correct the path"),
    )
}
