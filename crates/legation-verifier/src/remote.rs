//! A verifier behind HTTP: one [`Door`], several replicas.
//!
//! Replicas are tried in the order they are named, those that failed a moment ago last. Every call may be repeated, so a
//! call goes on to the next replica when one does not answer, is overloaded or defective; a refusal is an answer and ends
//! it. What comes back is believed no more than the verifier's key: passports and words on keys must be signed by it.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{
    Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use legation_core::{
    Digest, Rejection, Signed,
    claims::{COLLATERAL_MAX, Evidence},
    statement::{Appointment, KeyAttestation, Office},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    door::{Activation, Answer, Door, Issued, TpmKeys},
    http::{Authorities, Http, HttpError, Tls},
    service::{AttestKeyRequest, Challenge, ProblemBody, VerifyRequest},
};

/// Largest answer, in bytes: a passport with a few pieces of collateral.
pub const ANSWER_MAX: usize = 4 * COLLATERAL_MAX;
/// Most replicas of one verifier.
pub const REPLICAS_MAX: usize = 16;
/// Deadline of one try.
const TRY: Duration = Duration::from_secs(10);
/// Deadline of a call over all replicas.
const CALL: Duration = Duration::from_secs(30);
/// Pause before all replicas are asked once more.
const PAUSE: Duration = Duration::from_millis(250);
/// First and longest time for which a replica that failed is asked last.
const DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Where a verifier is and who it is.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// What people call it.
    pub name: String,
    /// Base URLs of its replicas, in the order they are tried.
    pub urls: Vec<String>,
    /// Its appointment.
    pub appointment: Signed<Appointment>,
    /// Shown as a bearer token, where there is one.
    pub token: Option<zeroize::Zeroizing<String>>,
    /// Whose certificates the replicas show.
    pub authorities: Authorities,
}

#[derive(Debug, Default, Clone, Copy)]
struct Health {
    failures: u32,
    down_until: Option<Instant>,
}

/// A verifier behind HTTP.
pub struct RemoteVerifier {
    name: String,
    urls: Vec<String>,
    appointment: Signed<Appointment>,
    authorization: Option<HeaderValue>,
    http: Http,
    health: Mutex<Vec<Health>>,
}

/// How a try at one replica ended without an answer.
struct Away(String);

impl RemoteVerifier {
    /// A door to the verifier. Nothing is asked yet.
    ///
    /// # Errors
    /// `verifier.config` or `http.*` for a configuration that makes no sense.
    pub fn new(config: RemoteConfig) -> Result<Self, Rejection> {
        let refuse = |claim: &str, expected: String| {
            Rejection::new("verifier.config", format!("{claim} of verifier `{}`", config.name))
                .expected(expected)
                .fix("correct the configuration")
        };
        if config.urls.is_empty() || config.urls.len() > REPLICAS_MAX {
            return Err(refuse("number of URLs", format!("1 to {REPLICAS_MAX}")));
        }
        if config.appointment.office != Office::Verifier {
            return Err(refuse("appointment", "one of a verifier".to_owned()));
        }
        let authorization = match &config.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.as_str()))
                    .map_err(|_| refuse("token", "one that can be sent in a header".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let http = Http::new(&config.authorities, Tls::Ours, &config.urls, TRY)?;
        let urls: Vec<_> = config.urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        let health = Mutex::new(vec![Health::default(); urls.len()]);
        Ok(Self { name: config.name, urls, appointment: config.appointment, authorization, http, health })
    }

    /// What the first replica that answers says of itself.
    ///
    /// # Errors
    /// `verifier.unreachable`, or the refusal.
    pub async fn status(&self) -> Result<crate::service::Status, Rejection> {
        self.call(Method::GET, "/v1/status", Bytes::new()).await
    }

    /// Replicas in the order to try them: those not known to be down first.
    fn order(&self) -> Vec<usize> {
        let now = Instant::now();
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<_> = (0..self.urls.len()).collect();
        order.sort_by_key(|i| health.get(*i).and_then(|h| h.down_until).filter(|until| now < *until));
        order
    }

    fn note(&self, index: usize, answered: bool) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(health) = health.get_mut(index) else { return };
        if answered {
            *health = Health::default();
        } else {
            let pause = DOWN.0.saturating_mul(1 << health.failures.min(10)).min(DOWN.1);
            *health =
                Health { failures: health.failures.saturating_add(1), down_until: Instant::now().checked_add(pause) };
        }
    }

    async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, Rejection> {
        let body = serde_json::to_vec(body)
            .map_err(|e| Rejection::new("verifier.request", "request to the verifier").got(e).fix("report it"))?;
        self.call(Method::POST, path, body.into()).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Rejection> {
        let mut said = Vec::new();
        let rounds = async {
            // Two rounds: a replica that restarts is back in a moment.
            for round in 0..2 {
                if round > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                said.clear();
                for index in self.order() {
                    let Some(url) = self.urls.get(index) else { continue };
                    match self.try_one(&method, &format!("{url}{path}"), body.clone()).await {
                        Ok(answer) => {
                            self.note(index, true);
                            return Some(answer);
                        }
                        Err(Away(why)) => {
                            self.note(index, false);
                            said.push(why);
                        }
                    }
                }
            }
            None
        };
        let answer = tokio::time::timeout(CALL, rounds).await;
        match answer {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(Rejection::new("verifier.unreachable", format!("verifier `{}`", self.name))
                .expected(format!("an answer of one of its {} replicas", self.urls.len()))
                .got(said.join("; "))
                .fix("see whether the verifier runs; work goes on while other verifiers answer")),
        }
    }

    async fn try_one<T: DeserializeOwned>(
        &self,
        method: &Method,
        url: &str,
        body: Bytes,
    ) -> Result<Result<T, Rejection>, Away> {
        let mut headers: Vec<(HeaderName, HeaderValue)> =
            vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        headers.extend(self.authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        let reply = match self.http.send(method.clone(), url, &headers, body, ANSWER_MAX).await {
            Ok(reply) => reply,
            Err(e @ (HttpError::Request { .. } | HttpError::Unreachable { .. })) => return Err(Away(e.to_string())),
        };
        let status = reply.status;
        if status.is_success() {
            let answer =
                serde_json::from_slice(&reply.body).map_err(|e| Away(format!("{url}: answer not understood: {e}")))?;
            return Ok(Ok(answer));
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
        {
            return Err(Away(format!("{url}: status {}", status.as_u16())));
        }
        match serde_json::from_slice::<ProblemBody>(&reply.body) {
            Ok(problem) => Ok(Err(problem.rejection())),
            Err(_) => Err(Away(format!("{url}: status {} without a problem document", status.as_u16()))),
        }
    }

    fn check_signer(&self, what: &str, key: legation_core::PublicKey) -> Result<(), Rejection> {
        if key == self.appointment.key {
            return Ok(());
        }
        Err(Rejection::new("verifier.answer", format!("signer of {what} of verifier `{}`", self.name))
            .expected(self.appointment.key.id())
            .got(key.id())
            .fix("correct the URLs: another verifier answers there"))
    }
}

impl Door for RemoteVerifier {
    fn name(&self) -> &str {
        &self.name
    }

    fn appointment(&self) -> &Signed<Appointment> {
        &self.appointment
    }

    fn challenge(&self) -> Answer<'_, Digest> {
        Box::pin(async move {
            let Challenge { challenge } = self.call(Method::POST, "/v1/challenge", Bytes::new()).await?;
            Ok(challenge)
        })
    }

    fn verify(&self, evidence: Arc<Evidence>, challenges: Vec<Digest>) -> Answer<'_, Issued> {
        Box::pin(async move {
            let body = VerifyRequest { evidence: Arc::unwrap_or_clone(evidence), challenges };
            let issued: Issued = self.post("/v1/verify", &body).await?;
            self.check_signer("the passport", issued.passport.verifier)?;
            self.check_signer("the appointment's key", issued.appointment.key)?;
            Ok(issued)
        })
    }

    fn activate(&self, keys: TpmKeys) -> Answer<'_, Activation> {
        Box::pin(async move { self.post("/v1/activate", &keys).await })
    }

    fn attest_key(&self, keys: TpmKeys, ticket: Vec<u8>, secret: Digest) -> Answer<'_, Signed<KeyAttestation>> {
        Box::pin(async move {
            let word: Signed<KeyAttestation> =
                self.post("/v1/attest-key", &AttestKeyRequest { keys, ticket, secret }).await?;
            self.check_signer("the word on the key", word.verifier)?;
            Ok(word)
        })
    }
}

impl std::fmt::Debug for RemoteVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteVerifier({}, {} replicas)", self.name, self.urls.len())
    }
}

/// A PEM file of authorities, or the system's without one.
///
/// # Errors
/// `http.authorities` when the file cannot be read.
pub fn authorities(path: Option<&Path>) -> Result<Authorities, Rejection> {
    const PEM_MAX: u64 = 4 << 20;
    let Some(path) = path else { return Ok(Authorities::System) };
    crate::collateral::read_bounded(path, PEM_MAX).map(Authorities::Given).map_err(|e| {
        Rejection::new("http.authorities", format!("file {}", path.display()))
            .expected("certificates, PEM")
            .got(e)
            .fix("correct the path")
    })
}
