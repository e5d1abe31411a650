//! The transparency log over HTTP: the resources of c2sp.org/tlog-tiles, and proofs for those who do not make them out of tiles.
//!
//! | path under `/log/v1` | what |
//! |---|---|
//! | `checkpoint` | the latest signed checkpoint; with `?size=N`, the one of that size |
//! | `key` | the log's key as a vkey |
//! | `tile/L/N`, `tile/entries/N`, each with `.p/W` | hashes, and entries |
//! | `proof/inclusion?digest=D&size=N` | that the envelope with this digest is an entry |
//! | `proof/consistency?old=M&new=N` | that the log has only grown |
//! | `proof/receipt`, POST `{"digests":[..],"size":N}` | the `log` section of a receipt |
//! | `receipt?digest=D` | a COSE receipt (RFC 9942) |
//!
//! No token is asked for, and a standby answers as well: there is nothing but digests here, and a log is there to be looked at. So
//! whoever asks has little to hold this manager up with: few are answered at once, and few lists of digests are read at once. A turn
//! begins when the list is there: how slowly it comes holds up nobody's turn.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRequest as _, Path, Query, Request, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use legation_core::{Digest, Rejection, logged::Logged};
use legation_log::{Consistency, Inclusion, TilePath, cose};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{App, Problem};
use crate::log::{Log, PROOFS_MAX};

/// Largest list of digests that is read, in bytes: that of the largest receipt fits.
pub(super) const BODY_MAX: usize = PROOFS_MAX * 68 + 1024;
/// Sections made at once: of each, body, proofs and answer may have some 50 MB together.
const SECTIONS_MAX: usize = 2;
/// Lists of digests that are read, or wait for their turn, at once: each may have some 7 MB.
const LISTS_MAX: usize = 32;
/// Other looks into the log's file at once.
const LOOKS_MAX: usize = 8;
/// How long a look waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// How long the body of a request for a section may take.
const BODY_WAIT: Duration = Duration::from_secs(10);
/// Tiles never change: whoever has one may keep it.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Checkpoints do.
const FOR_NOW: &str = "public, max-age=1";

/// Who may look into the log's file.
#[derive(Clone)]
pub(crate) struct Turns {
    lists: Arc<Semaphore>,
    sections: Arc<Semaphore>,
    looks: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let [lists, sections, looks] = [LISTS_MAX, SECTIONS_MAX, LOOKS_MAX].map(|most| Arc::new(Semaphore::new(most)));
        Self { lists, sections, looks }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfSize {
    size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfDigest {
    digest: Digest,
    size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfLatest {
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    old: u64,
    new: Option<u64>,
}

/// Which statements are to be proved.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ToProve {
    /// Digests of envelopes, in the order of the receipt.
    pub digests: Vec<Digest>,
    /// In front of the checkpoint of this many entries; the latest without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A proof with the checkpoint that it leads to.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Proven<P> {
    /// The proof.
    pub proof: P,
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// The resources of the log.
pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/log/v1/checkpoint", get(checkpoint))
        .route("/log/v1/key", get(key))
        .route("/log/v1/tile/{*path}", get(tile))
        .route("/log/v1/proof/inclusion", get(inclusion))
        .route("/log/v1/proof/consistency", get(consistency))
        .route("/log/v1/proof/receipt", post(section))
        .route("/log/v1/receipt", get(receipt))
}

fn log(app: &App) -> Result<Log, Problem> {
    app.log.clone().ok_or_else(|| {
        Problem::not_found(
            Rejection::new("log.none", "the transparency log")
                .expected("one that this manager keeps")
                .got("none")
                .fix("the operator gives the manager `[log]` with `origin` and `key`"),
        )
    })
}

fn busy() -> Problem {
    let why = Rejection::new("log.busy", "looks into the transparency log at once");
    Problem::from(why.expected("a turn").got("all taken").fix("try again in a moment")).retry_after(1)
}

/// Asks the log, when there is a turn.
async fn ask<T: Send + 'static>(
    app: &App,
    ask: impl FnOnce(&Log) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Problem> {
    let log = log(app)?;
    let turn = timeout(TURN_WAIT, app.turns.looks.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(busy()) };
    run(log, turn, ask).await
}

/// Asks it on a thread that may block; the turn is over when that is, whether or not anybody still waits for the answer.
async fn run<T: Send + 'static>(
    log: Log,
    turn: OwnedSemaphorePermit,
    ask: impl FnOnce(&Log) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Problem> {
    let answer = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        ask(&log)
    });
    Ok(answer.await.map_err(|e| Problem::internal(&e))??)
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, FOR_NOW)], body).into_response()
}

async fn checkpoint(State(app): State<App>, query: Result<Query<OfSize>, QueryRejection>) -> Result<Response, Problem> {
    let Query(OfSize { size }) = query?;
    let note = match size {
        Some(size) => ask(&app, move |log| log.checkpoint_at(size)).await?.note().to_string(),
        None => log(&app)?.checkpoint()?.note().to_string(),
    };
    Ok(text(note))
}

async fn key(State(app): State<App>) -> Result<Response, Problem> {
    Ok(text(format!("{}\n", log(&app)?.key())))
}

async fn tile(State(app): State<App>, Path(path): Path<String>) -> Result<Response, Problem> {
    let wrong = |got: String| {
        Problem::not_found(
            Rejection::new("log.tile", "tile of the transparency log")
                .expected("one of c2sp.org/tlog-tiles in the tree of a checkpoint, such as tile/0/000.p/5")
                .got(got),
        )
    };
    let path: TilePath = format!("tile/{path}").parse().map_err(|_| wrong(path.clone()))?;
    let bytes = ask(&app, move |log| log.tile(path)).await?.ok_or_else(|| wrong(path.to_string()))?;
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, FOR_EVER)];
    Ok((headers, bytes).into_response())
}

async fn inclusion(
    State(app): State<App>,
    query: Result<Query<OfDigest>, QueryRejection>,
) -> Result<Json<Proven<Inclusion>>, Problem> {
    let Query(OfDigest { digest, size }) = query?;
    let proven = ask(&app, move |log| {
        let proof = log.inclusion(&digest, size)?;
        Ok(Proven { checkpoint: log.checkpoint_at(proof.size)?.note().to_string(), proof })
    });
    Ok(Json(proven.await?))
}

async fn consistency(
    State(app): State<App>,
    query: Result<Query<Between>, QueryRejection>,
) -> Result<Json<Proven<Consistency>>, Problem> {
    let Query(Between { old, new }) = query?;
    let proven = ask(&app, move |log| {
        let proof = log.consistency(old, new)?;
        Ok(Proven { checkpoint: log.checkpoint_at(proof.new)?.note().to_string(), proof })
    });
    Ok(Json(proven.await?))
}

async fn section(State(app): State<App>, request: Request) -> Result<Json<Logged>, Problem> {
    let log = log(&app)?;
    let list = app.turns.lists.clone().try_acquire_owned().map_err(|_| busy())?;
    let body = timeout(BODY_WAIT, Json::<ToProve>::from_request(request, &())).await.map_err(|_| {
        let why = Rejection::new("api.body", "body of the request");
        Problem::bad_request(why.expected(format!("within {BODY_WAIT:?}")).got("less than all of it"))
    })?;
    let Json(ToProve { digests, size }) = body?;
    let turn = timeout(TURN_WAIT, app.turns.sections.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = turn else { return Err(busy()) };
    drop(list);
    Ok(Json(run(log, turn, move |log| log.section(&digests, size)).await?))
}

async fn receipt(State(app): State<App>, query: Result<Query<OfLatest>, QueryRejection>) -> Result<Response, Problem> {
    let Query(OfLatest { digest }) = query?;
    let bytes = ask(&app, move |log| log.cose(&digest)).await?;
    Ok(([(header::CONTENT_TYPE, cose::CONTENT_TYPE)], bytes).into_response())
}
