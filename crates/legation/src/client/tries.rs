//! One call through all its tries.
//!
//! Of several managers one leads. Calls go to the one that led last; one that stands by names the leader, which is asked next if
//! it is among those given; otherwise they are asked in turn, each round after a pause. While an answer is awaited from one of
//! several, it is looked at every second whether that one still answers and leads: one that is frozen or cut off takes
//! connections and says nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::atomic::Ordering,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use legation_core::{Rejection, encoding};
use legation_keys::Entropy;
use legation_manager::ManagerView;
use legation_net::OsEntropy;
use serde::Deserialize;

use super::{Client, ClientError};

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

/// Between two looks at whether a manager that has not answered yet still answers and leads.
const LOOK: Duration = Duration::from_secs(1);
/// How long the answer to such a look may take.
const LOOK_MAX: Duration = Duration::from_millis(1500);
/// The check by which a manager says that it stands by.
const STANDBY: &str = "manager.standby";
/// The check by which a manager says that it could not write to the journal.
const UNWRITTEN: &str = "journal.append";

/// One call, through all its tries.
struct Call<'a> {
    method: Method,
    path: &'a str,
    kind: &'a str,
    /// Its `Idempotency-Key`, where it changes something.
    name: Option<String>,
    body: Bytes,
    /// Whether it does no more when it is carried out twice.
    repeatable: bool,
}

/// Why a try gave nothing.
enum Missed {
    /// The manager could not be reached, or went away before its answer was here.
    Away {
        why: String,
        /// Whether it may have heard the call.
        sent: bool,
    },
    /// Its answer is a refusal, or none.
    Answered(ClientError),
}

/// Whether the manager that says this of itself leads.
fn leads(body: &[u8]) -> bool {
    serde_json::from_slice::<ManagerView>(body).is_ok_and(|view| view.role == "leads")
}

fn name_of_a_try() -> String {
    let mut bytes = [0; 16];
    OsEntropy.fill(&mut bytes);
    encoding::hex(&bytes)
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
    /// Sends a call until it is answered or patience is over. Beside the result: whether an earlier try may have been carried
    /// out, its answer lost.
    pub(super) async fn repeat(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> (Result<Bytes, ClientError>, bool) {
        let changes = matches!(method, Method::POST | Method::PUT);
        let call = Call { method, path, kind, name: changes.then(name_of_a_try), body, repeatable: true };
        self.try_for_a_while(&call).await
    }

    /// Posts what would do more if it were carried out twice: it is not tried again once it may have been heard.
    pub(super) async fn once(&self, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let name = Some(name_of_a_try());
        let call = Call { method: Method::POST, path, kind: "application/json", name, body, repeatable: false };
        self.try_for_a_while(&call).await.0
    }

    async fn try_for_a_while(&self, call: &Call<'_>) -> (Result<Bytes, ClientError>, bool) {
        let started = std::time::Instant::now();
        let mut pauses = BACKOFF.iter().chain(std::iter::repeat(&BACKOFF[BACKOFF.len() - 1]));
        let mut doubtful = false;
        loop {
            let failed = match self.round(call, &mut doubtful).await {
                Ok(result) => return (result, doubtful),
                Err(failed) => failed,
            };
            if started.elapsed() > self.patience {
                return (Err(failed), doubtful);
            }
            tokio::time::sleep(pauses.next().copied().unwrap_or_default()).await;
        }
    }

    /// Asks each manager once, beginning with the one that led last: the first answer that counts, or what was wrong with the
    /// last of them.
    async fn round(&self, call: &Call<'_>, doubtful: &mut bool) -> Result<Result<Bytes, ClientError>, ClientError> {
        let (all, first) = (self.managers.apis.len(), self.managers.leader());
        let mut queue: VecDeque<usize> = (0..all).map(|n| (first + n) % all).collect();
        let (mut named, mut failed) = (BTreeSet::new(), None);
        while let Some(manager) = queue.pop_front() {
            match self.send_once(manager, call).await {
                Err(Missed::Away { why, sent: true }) if !call.repeatable => {
                    let why = format!("{why}; it may have been done all the same: look before you try again");
                    return Ok(Err(ClientError::Unreachable { base: self.base(manager), why }));
                }
                Err(Missed::Away { why, sent }) => {
                    *doubtful |= sent;
                    failed = Some(ClientError::Unreachable { base: self.base(manager), why });
                }
                Err(Missed::Answered(ClientError::Refused { status, why })) if self.is_passing(status, &why) => {
                    *doubtful |= why.check == UNWRITTEN;
                    // Once in a round: two that stand by may name each other.
                    if let Some(leader) = self.managers.named(&why).filter(|leader| named.insert(*leader)) {
                        queue.retain(|waiting| *waiting != leader);
                        queue.push_front(leader);
                    }
                    // What another has to say tells more than that this one stands by.
                    if why.check != STANDBY || failed.is_none() {
                        failed = Some(ClientError::Refused { status, why });
                    }
                }
                other => {
                    self.managers.leader.store(manager, Ordering::Relaxed);
                    return Ok(other.map_err(|missed| match missed {
                        Missed::Answered(error) => error,
                        Missed::Away { why, .. } => ClientError::Unreachable { base: self.base(manager), why },
                    }));
                }
            }
        }
        Err(failed.unwrap_or_else(|| ClientError::Answer("no manager is known".to_owned())))
    }

    /// Whether a manager says that it did not do what was asked, and that it, or another, may in a moment.
    fn is_passing(&self, status: StatusCode, why: &Rejection) -> bool {
        matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
            // One of several that cannot write is about to be replaced.
            || (why.check == UNWRITTEN && self.managers.apis.len() > 1)
    }

    fn base(&self, manager: usize) -> String {
        let api = self.managers.apis.get(manager).map_or("", String::as_str);
        format!("http://{api}")
    }

    async fn send_once(&self, manager: usize, call: &Call<'_>) -> Result<Bytes, Missed> {
        if self.managers.apis.len() == 1 {
            return self.ask(manager, call).await;
        }
        tokio::select! {
            biased;
            answer = self.ask(manager, call) => answer,
            why = self.watch(manager) => Err(Missed::Away { why: why.to_owned(), sent: true }),
        }
    }

    /// Ends when a manager no longer answers, or no longer leads.
    async fn watch(&self, manager: usize) -> &'static str {
        let look = Call {
            method: Method::GET,
            path: "/v1/manager",
            kind: "application/json",
            name: None,
            body: Bytes::new(),
            repeatable: true,
        };
        let mut silent = false;
        loop {
            if !silent {
                tokio::time::sleep(LOOK).await;
            }
            let answer = tokio::time::timeout(LOOK_MAX, self.ask(manager, &look)).await;
            match answer {
                Ok(Ok(body)) if !leads(&body) => return "it no longer leads",
                Ok(Ok(_) | Err(Missed::Answered(_))) => silent = false,
                Err(_) | Ok(Err(Missed::Away { .. })) if silent => return "it does not answer",
                Err(_) | Ok(Err(Missed::Away { .. })) => silent = true,
            }
        }
    }

    async fn ask(&self, manager: usize, call: &Call<'_>) -> Result<Bytes, Missed> {
        let Call { method, path, kind, name, body, .. } = call;
        let defect = |e: &dyn std::fmt::Display| Missed::Answered(ClientError::Answer(e.to_string()));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base(manager)))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, *kind);
        if let Some(name) = name {
            request = request.header("idempotency-key", name);
        }
        let request = request.body(Full::new(body.clone())).map_err(|e| defect(&e))?;
        let response = self.http.request(request).await.map_err(|e| {
            let mut why = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(inner) = source {
                why = format!("{why}: {inner}");
                source = inner.source();
            }
            Missed::Away { why, sent: !e.is_connect() }
        })?;
        let status = response.status();
        let cut = |e: Box<dyn std::error::Error + Send + Sync>| Missed::Away { why: e.to_string(), sent: true };
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(cut)?;
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(Problem { title, check, expected, got, fix }) => {
                let why = Rejection { check, claim: title, expected, got, fix };
                Err(Missed::Answered(ClientError::Refused { status, why }))
            }
            Err(_) => Err(defect(&format!("status {status} without a problem document"))),
        }
    }
}
