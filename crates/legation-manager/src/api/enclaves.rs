//! The pool and its enclaves.

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
};
use legation_core::{EnclaveId, Rejection};
use legation_pool::{Command, EnclaveView, PoolView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};

/// Why an enclave is revoked, in the operator's words.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Shown wherever the revocation is.
    pub why: String,
}

fn parse(id: &str) -> Result<EnclaveId, Problem> {
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

/// All enclaves.
#[utoipa::path(get, path = "/v1/enclaves", tag = "pool", security(("token" = [])),
    responses((status = 200, description = "The enclaves, by name", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    _caller: Extension<Caller>,
) -> Result<Json<Vec<EnclaveView>>, Problem> {
    Ok(Json(app.leader.ask(|pool| pool.enclave_views().collect()).await?))
}

/// One enclave.
#[utoipa::path(get, path = "/v1/enclaves/{id}", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")),
    responses((status = 200, description = "The enclave", body = Object),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    _caller: Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<EnclaveView>, Problem> {
    let id = parse(&id)?;
    Ok(Json(app.leader.ask(move |pool| pool.enclave_view(id)).await??))
}

/// Revokes an enclave: its channel closes, its leases end, its work moves.
#[utoipa::path(post, path = "/v1/enclaves/{id}/revoke", tag = "pool", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the enclave")), request_body = Revocation,
    responses((status = 200, description = "Revoked", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Json<Revocation>, JsonRejection>,
) -> Result<Json<EnclaveView>, Problem> {
    caller.operator()?;
    let (enclave, Json(Revocation { why })) = (parse(&id)?, body?);
    app.leader.apply(Command::Revoke { enclave, why }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.enclave_view(enclave)).await??))
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
    let enclave = parse(&id)?;
    app.leader.apply(Command::Drain { enclave }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.enclave_view(enclave)).await??))
}
