//! Swarm keys: who has each, what is to be seen to, and what lets a client check for itself who has the key. The operator sets charters,
//! which its root signs, and asks for another committee.

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
};
use legation_core::{Rejection, Signed, SwarmName, custody::Charter};
use legation_net::{custody::BoardNews, message::Peer};
use legation_pool::{Command, CustodyView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};
use crate::custody;

/// A charter that its operator's root signed.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCharter {
    /// The charter (DSSE envelope).
    #[schema(value_type = Object)]
    pub charter: Signed<Charter>,
}

/// What shows who has a swarm key. Nothing of it is to be believed but what is signed, by keys that the reader's own anchors lead to.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBundle {
    /// The newest charter.
    pub charter: Signed<Charter>,
    /// All that was said in the ceremony by which the committee came into force, with the charter that it was by; nothing where there
    /// is no committee yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<BoardNews>,
    /// Those of the committee, and of the one before, that the pool still knows, with their passports.
    pub peers: Vec<Peer>,
}

fn parse(name: &str) -> Result<SwarmName, Problem> {
    SwarmName::new(name).map_err(|e| {
        Problem::bad_request(
            Rejection::new("custody.name", "name of the swarm key").expected("a-z, 0-9 and `-`, as a DNS label").got(e),
        )
    })
}

/// The swarm keys: who has each, how many custodians may still be lost, and what to see to before it is too late.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", security(("token" = [])),
    responses((status = 200, description = "The swarm keys, by name", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    _caller: Extension<Caller>,
) -> Result<Json<Vec<CustodyView>>, Problem> {
    let now = (app.clock)();
    Ok(Json(app.leader.ask(move |pool| pool.custodies(now)).await?))
}

async fn view(app: &App, swarm: SwarmName) -> Result<Json<CustodyView>, Problem> {
    let now = (app.clock)();
    Ok(Json(app.leader.ask(move |pool| pool.custody(&swarm, now)).await??))
}

/// One swarm key.
#[utoipa::path(get, path = "/v1/keys/{swarm}", tag = "keys", security(("token" = [])),
    params(("swarm" = String, Path, description = "Name of the swarm key")),
    responses((status = 200, description = "The swarm key", body = Object),
        (status = 404, description = "There is no charter for it", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    _caller: Extension<Caller>,
    Path(swarm): Path<String>,
) -> Result<Json<CustodyView>, Problem> {
    view(&app, parse(&swarm)?).await
}

/// What shows who has a swarm key, to be checked offline: charter, call, all words of the ceremony, passports.
#[utoipa::path(get, path = "/v1/keys/{swarm}/roster", tag = "keys", security(("token" = [])),
    params(("swarm" = String, Path, description = "Name of the swarm key")),
    responses((status = 200, description = "The statements", body = Object),
        (status = 404, description = "There is no charter for it", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn roster(
    State(app): State<App>,
    _caller: Extension<Caller>,
    Path(swarm): Path<String>,
) -> Result<Json<KeyBundle>, Problem> {
    let swarm = parse(&swarm)?;
    // That of a large committee has some ten MB: it waits its turn among receipts.
    let _turn = app.receipts.clone().acquire_owned().await;
    let page = app.leader.ask(move |pool| custody::in_force(pool, &swarm)).await??;
    let peers = app.leader.archive().peers(&page.proofs).await?;
    Ok(Json(KeyBundle { charter: page.charter, board: page.past, peers }))
}

/// Sets the charter of a swarm key. The first has the key made; committees go by a later one from then on.
#[utoipa::path(put, path = "/v1/keys/{swarm}/charter", tag = "keys", security(("token" = [])),
    params(("swarm" = String, Path, description = "Name of the swarm key")), request_body = NewCharter,
    responses((status = 200, description = "In force", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Not one that may follow", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn set_charter(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(swarm): Path<String>,
    body: Result<Json<NewCharter>, JsonRejection>,
) -> Result<Json<CustodyView>, Problem> {
    caller.operator()?;
    let swarm = parse(&swarm)?;
    let Json(NewCharter { charter }) = body?;
    if charter.swarm != swarm {
        return Err(Rejection::new("custody.charter", "swarm key of the charter")
            .expected(&swarm)
            .got(&charter.swarm)
            .fix("send it to the swarm key that it names")
            .into());
    }
    app.leader.apply(Command::SetCharter { charter: Box::new(charter), author: caller.author() }).await?;
    view(&app, swarm).await
}

/// Has another committee called now: the key stays the same, and shares of the committee before are worth nothing.
#[utoipa::path(post, path = "/v1/keys/{swarm}/rotate", tag = "keys", security(("token" = [])),
    params(("swarm" = String, Path, description = "Name of the swarm key")),
    responses((status = 200, description = "Asked for", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no charter for it", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn rotate(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(swarm): Path<String>,
) -> Result<Json<CustodyView>, Problem> {
    caller.operator()?;
    let swarm = parse(&swarm)?;
    app.leader.apply(Command::RotateKey { swarm: swarm.clone(), author: caller.author() }).await?;
    view(&app, swarm).await
}
