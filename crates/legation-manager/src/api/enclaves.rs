//! The pool and its enclaves.

use std::collections::BTreeMap;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
};
use legation_core::{EnclaveId, Rejection};
use legation_pool::{Command, EnclaveView, PoolView, Retired};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};

pub(super) fn parse(id: &str) -> Result<EnclaveId, Problem> {
    id.parse().map_err(|e| {
        Problem::bad_request(
            Rejection::new("enclave.name", "name of the enclave").expected("64 lower-case hex digits").got(e),
        )
    })
}

/// The pool in a few numbers.
#[utoipa::path(get, path = "/v1/pool", tag = "pool", security(("token" = [])),
    responses((status = 200, description = "The pool", body = Object)))]
pub(crate) async fn pool(State(app): State<App>, _caller: Extension<Caller>) -> Result<Json<PoolView>, Problem> {
    Ok(Json(app.leader.ask(legation_pool::Pool::view).await?))
}

/// What of an enclave is told to a caller.
fn shown(caller: &Caller, view: EnclaveView) -> EnclaveView {
    if *caller == Caller::Operator { view } else { view.discreet() }
}

/// All enclaves.
#[utoipa::path(get, path = "/v1/enclaves", tag = "pool", security(("token" = [])),
    responses((status = 200, description = "The enclaves, by name", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<EnclaveView>>, Problem> {
    let now = (app.clock)();
    let views = app.leader.ask(move |pool| pool.enclave_views(now).map(|view| shown(&caller, view)).collect());
    Ok(Json(views.await?))
}

/// One enclave.
#[utoipa::path(get, path = "/v1/enclaves/{id}", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")),
    responses((status = 200, description = "The enclave", body = Object),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<EnclaveView>, Problem> {
    let (id, now) = (parse(&id)?, (app.clock)());
    let view = app.leader.ask(move |pool| pool.enclave_view(id, now)).await??;
    Ok(Json(shown(&caller, view)))
}

/// Lets an enclave finish what it has and take no more.
#[utoipa::path(post, path = "/v1/enclaves/{id}/drain", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")),
    responses((status = 200, description = "Draining", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn drain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<EnclaveView>, Problem> {
    caller.operator()?;
    let (enclave, now) = (parse(&id)?, (app.clock)());
    app.leader.apply(Command::Drain { enclave }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.enclave_view(enclave, now)).await??))
}

/// Why an enclave is cordoned or decommissioned.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// In words.
    pub why: String,
}

/// Has nothing new placed on an enclave; what runs there goes on.
#[utoipa::path(post, path = "/v1/enclaves/{id}/cordon", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")), request_body = Reason,
    responses((status = 200, description = "Cordoned", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn cordon(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<Reason>, JsonRejection>,
) -> Result<Json<EnclaveView>, Problem> {
    caller.operator()?;
    let (enclave, now, Json(Reason { why })) = (parse(&id)?, (app.clock)(), body?);
    app.leader.apply(Command::Cordon { enclave, why, author: caller.author() }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.enclave_view(enclave, now)).await??))
}

/// Takes a cordon back, or lets in again what was decommissioned: it must attest anew.
#[utoipa::path(post, path = "/v1/enclaves/{id}/uncordon", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")),
    responses((status = 200, description = "The enclave; null when it is not in the pool", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn uncordon(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Option<EnclaveView>>, Problem> {
    caller.operator()?;
    let (enclave, now) = (parse(&id)?, (app.clock)());
    app.leader.apply(Command::Uncordon { enclave, author: caller.author() }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.enclave_view(enclave, now).ok()).await?))
}

/// Takes an enclave out: its work moves at once, it is forgotten, and it stays out until that is lifted.
#[utoipa::path(post, path = "/v1/enclaves/{id}/decommission", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")), request_body = Reason,
    responses((status = 200, description = "Taken out", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn decommission(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<Reason>, JsonRejection>,
) -> Result<Json<Option<Retired>>, Problem> {
    caller.operator()?;
    let (enclave, Json(Reason { why })) = (parse(&id)?, body?);
    app.leader.apply(Command::Decommission { enclave, why, author: caller.author() }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.retired().get(&enclave).cloned()).await?))
}

/// Enclaves that were decommissioned.
#[utoipa::path(get, path = "/v1/retired", tag = "pool", security(("token" = [])),
    responses((status = 200, description = "By name", body = Object)))]
pub(crate) async fn retired(
    State(app): State<App>,
    _caller: Extension<Caller>,
) -> Result<Json<BTreeMap<EnclaveId, Retired>>, Problem> {
    Ok(Json(app.leader.ask(|pool| pool.retired().clone()).await?))
}

/// Has an enclave attest again now; what comes of it shows in its proofs.
#[utoipa::path(post, path = "/v1/enclaves/{id}/reattest", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")),
    responses((status = 200, description = "Asked to attest again", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Away", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn reattest(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<EnclaveView>, Problem> {
    caller.operator()?;
    let (enclave, now) = (parse(&id)?, (app.clock)());
    let view = app.leader.ask(move |pool| pool.enclave_view(enclave, now)).await??;
    if !app.effects.reattest(enclave, "the operator asked for it") {
        return Err(Rejection::new("pool.away", format!("enclave {}", enclave.short()))
            .expected("an open channel")
            .got("none")
            .fix("it attests by itself when it comes back")
            .into());
    }
    Ok(Json(view))
}
