//! Reference values: what images measure, which firmware is current.

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
};
use legation_core::{EnclaveId, Rejection, UnixTime};
use legation_policy::{ReferenceKind, ReferenceValue};
use legation_pool::{Command, ReferenceView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};

/// A reference value to be made.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReference {
    /// Its name.
    pub name: String,
    /// Of a running enclave: what it measures, on its kind of machine, with the registers that are of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub enclave: Option<EnclaveId>,
    /// Or a value: `{"kind": "image", "measurement": .., "registers": {..}, "tees": [..]}` or `{"kind": "firmware", "product": .., "minimum": ..}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<ReferenceKind>,
    /// Who answers for it.
    pub owner: String,
    /// Last second it counts, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub expires: Option<UnixTime>,
    /// Where a value comes from.
    #[serde(default)]
    pub source: String,
    /// Whether it may take the place of one that still counts.
    #[serde(default)]
    pub replace: bool,
}

/// The end of a reference value.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// Last second it counts, Unix seconds; it ends now without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub end: Option<UnixTime>,
    /// Even if a policy in force uses it.
    #[serde(default)]
    pub force: bool,
}

/// All reference values, with the policies that use each.
#[utoipa::path(get, path = "/v1/references", tag = "policy", security(("token" = [])),
    responses((status = 200, description = "The reference values, by name", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    _caller: Extension<Caller>,
) -> Result<Json<Vec<ReferenceView>>, Problem> {
    let now = (app.clock)();
    Ok(Json(app.leader.ask(move |pool| pool.reference_views(now)).await?))
}

/// One reference value.
#[utoipa::path(get, path = "/v1/references/{name}", tag = "policy", security(("token" = [])),
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The reference value", body = Object),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    _caller: Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<ReferenceView>, Problem> {
    let now = (app.clock)();
    Ok(Json(app.leader.ask(move |pool| pool.reference_view(&name, now)).await??))
}

/// Makes a reference value, of a running enclave or of a given value.
#[utoipa::path(post, path = "/v1/references", tag = "policy", security(("token" = [])), request_body = NewReference,
    responses((status = 200, description = "Made", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "No such value", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn add(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<NewReference>, JsonRejection>,
) -> Result<Json<ReferenceView>, Problem> {
    caller.operator()?;
    let Json(new) = body?;
    let now = (app.clock)();
    let (value, source) = match (new.enclave, new.value) {
        (Some(id), None) => {
            let value = app.leader.ask(move |pool| pool.image_of(id)).await??;
            (value, format!("enclave {}", id.short()))
        }
        (None, Some(value)) => (value, new.source),
        _ => {
            let why = Rejection::new("reference.value", "what the reference value is made of")
                .expected("either `enclave` or `value`")
                .fix("give one of the two");
            return Err(Problem::bad_request(why));
        }
    };
    let name = new.name.clone();
    let value = ReferenceValue { name: new.name, value, owner: new.owner, made: now, expires: new.expires, source };
    let (author, replace) = (caller.author(), new.replace);
    app.leader.apply(Command::AddReference { value: Box::new(value), author, replace }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.reference_view(&name, now)).await??))
}

/// Ends a reference value.
#[utoipa::path(post, path = "/v1/references/{name}/expire", tag = "policy", security(("token" = [])),
    params(("name" = String, Path, description = "Its name")), request_body = Expiry,
    responses((status = 200, description = "Ended", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "A policy in force uses it", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn expire(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<Expiry>, JsonRejection>,
) -> Result<Json<ReferenceView>, Problem> {
    caller.operator()?;
    let Json(Expiry { end, force }) = body?;
    let (author, now) = (caller.author(), (app.clock)());
    app.leader.apply(Command::ExpireReference { name: name.clone(), end, author, force }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.reference_view(&name, now)).await??))
}
