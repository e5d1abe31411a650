//! Distances: measured round trips between regions. The operator gives the whole table; everybody may read it.

use axum::{
    Extension, Json,
    extract::{State, rejection::JsonRejection},
};
use legation_pool::{Command, KnownRoundTrip, RoundTrip};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};

/// A table of round trips, whole: those before no longer count.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDistances {
    /// `[{"from": "eu-1", "to": "us-1", "ms": 80}, ..]`; one direction stands for both where the other is not given.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<RoundTrip>,
}

/// Every round trip that is known.
#[utoipa::path(get, path = "/v1/distances", tag = "pool", security(("token" = [])),
    responses((status = 200, description = "The round trips", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    _caller: Extension<Caller>,
) -> Result<Json<Vec<KnownRoundTrip>>, Problem> {
    Ok(Json(app.leader.ask(|pool| pool.distances()).await?))
}

/// Sets the table of round trips.
#[utoipa::path(put, path = "/v1/distances", tag = "pool", security(("token" = [])), request_body = NewDistances,
    responses((status = 200, description = "In force", body = Vec<Object>),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "No such table", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<NewDistances>, JsonRejection>,
) -> Result<Json<Vec<KnownRoundTrip>>, Problem> {
    caller.operator()?;
    let Json(NewDistances { rows }) = body?;
    app.leader.apply(Command::SetDistances { rows, author: caller.author() }).await?;
    Ok(Json(app.leader.ask(|pool| pool.distances()).await?))
}
