//! What is trusted: revocations, verifiers, and who was refused.

use axum::{
    Extension, Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use legation_core::{Rejection, Revocable, Revocation};
use legation_pool::Command;
use legation_verifier::collateral::ItemStatus;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{App, Caller, Problem, enclaves::parse, problem::ProblemBody};
use crate::{Refusal, RevocationsView, SignedRevocations, VerifierView};

/// What is to be trusted no longer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// One of `enclave`, `chip`, `measurement`, `provider`, `verifier`, `anchor`, `grant`.
    pub kind: String,
    /// Its whole name, as `GET /v1/enclaves` shows it. It need not be known here.
    pub name: String,
    /// Why, shown wherever the revocation is.
    pub why: String,
}

/// A revocation, and what it did here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct RevocationMade {
    /// The record of it. When it was revoked before, that record.
    pub revocation: Revocation,
    /// Enclaves of this pool that fell with it.
    pub fell: usize,
}

/// Whose refusals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfWhom {
    /// Name of an enclave; of all without it.
    enclave: Option<String>,
}

/// Trusts something no longer, now and later: channels close, leases end, work moves, and it is refused when it comes back.
#[utoipa::path(post, path = "/v1/revocations", tag = "trust", security(("token" = [])), request_body = Revoke,
    responses((status = 200, description = "Revoked", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "No such name", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Revoke>, JsonRejection>,
) -> Result<Json<RevocationMade>, Problem> {
    caller.operator()?;
    let Json(Revoke { kind, name, why }) = body?;
    let what = Revocable::named(&kind, &name)?;
    app.leader.apply(Command::Revoke { what: what.clone(), why }).await?;
    let made = app.leader.ask(move |pool| {
        let revocation = pool.revoked().get(&what)?.clone();
        let fell = pool.fallen(revocation.epoch).len();
        Some(RevocationMade { revocation, fell })
    });
    let none = || Rejection::new("revocation.none", "the revocation").expected("in the books").got("none");
    Ok(Json(made.await?.ok_or_else(none)?))
}

/// Everything that is revoked, and how far the latest has come.
#[utoipa::path(get, path = "/v1/revocations", tag = "trust", security(("token" = [])),
    responses((status = 200, description = "The revocations, by epoch", body = Object)))]
pub(crate) async fn revocations(State(app): State<App>, _caller: Extension<Caller>) -> Json<RevocationsView> {
    Json(app.effects.revocations_view())
}

/// The same as the manager signed it: what verifies receipts offline.
#[utoipa::path(get, path = "/v1/revocations/signed", tag = "trust", security(("token" = [])),
    responses((status = 200, description = "The signed list and the manager's appointment", body = Object)))]
pub(crate) async fn signed_revocations(
    State(app): State<App>,
    _caller: Extension<Caller>,
) -> Result<Json<SignedRevocations>, Problem> {
    let none = || Rejection::new("revocation.none", "the signed list").expected("one").got("none yet");
    app.effects.signed_revocations().map(|signed| Json((*signed).clone())).ok_or_else(|| none().into())
}

/// The verifiers of this pool, and when each last answered.
#[utoipa::path(get, path = "/v1/verifiers", tag = "trust", security(("token" = [])),
    responses((status = 200, description = "The verifiers", body = Vec<Object>)))]
pub(crate) async fn verifiers(State(app): State<App>, _caller: Extension<Caller>) -> Json<Vec<VerifierView>> {
    Json(app.doors.views())
}

/// What vendors publish about machines, as this manager's verifier holds it: how old, and what is due.
#[utoipa::path(get, path = "/v1/collateral", tag = "trust", security(("token" = [])),
    responses((status = 200, description = "The items", body = Vec<Object>)))]
pub(crate) async fn collateral(State(app): State<App>, _caller: Extension<Caller>) -> Json<Vec<ItemStatus>> {
    Json(app.keeper.status())
}

/// The last refusals of attestation, newest first.
#[utoipa::path(get, path = "/v1/refusals", tag = "trust", security(("token" = [])), params(OfWhom),
    responses((status = 200, description = "The refusals", body = Vec<Object>),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn refusals(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<OfWhom>, QueryRejection>,
) -> Result<Json<Vec<Refusal>>, Problem> {
    caller.operator()?;
    let Query(OfWhom { enclave }) = query?;
    let enclave = enclave.as_deref().map(parse).transpose()?;
    Ok(Json(app.refusals.list(enclave)))
}
