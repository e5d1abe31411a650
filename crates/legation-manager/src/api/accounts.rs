//! Accounts: what tenants may spend, hold and ask for. The operator sets them; a tenant sees its own.

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
};
use legation_core::{MicroUsd, Rejection, Seq, TenantId};
use legation_pool::{AccountTerms, AccountView, Command};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};

/// The terms of an account, whole.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTerms {
    /// `{"budget": .., "weight": .., "priority_max": .., "quota": {..}, "may_preempt": .., "preemptible": ..}`; what is left out
    /// is not limited, or as by default.
    #[schema(value_type = Object)]
    pub terms: AccountTerms,
    /// Only if the terms are still those of this record (`as_of` of the account): else it was changed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub as_of: Option<Seq>,
}

/// An amount that a budget is raised by.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    /// Millionths of a dollar.
    #[schema(value_type = u64)]
    pub amount: MicroUsd,
}

fn parse(name: &str) -> Result<TenantId, Problem> {
    TenantId::new(name).map_err(|e| {
        Problem::bad_request(
            Rejection::new("account.name", "name of the tenant").expected("a-z, 0-9 and `-`, as a DNS label").got(e),
        )
    })
}

/// The accounts of all tenants that have one of their own or ever asked for a task; a tenant sees its own.
#[utoipa::path(get, path = "/v1/accounts", tag = "accounts", security(("token" = [])),
    responses((status = 200, description = "The accounts, by name", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<AccountView>>, Problem> {
    Ok(Json(match caller {
        Caller::Operator => app.leader.ask(|pool| pool.accounts()).await?,
        Caller::Tenant(tenant) => vec![app.leader.ask(move |pool| pool.account(&tenant)).await?],
    }))
}

/// One account with its book.
#[utoipa::path(get, path = "/v1/accounts/{tenant}", tag = "accounts", security(("token" = [])),
    params(("tenant" = String, Path, description = "Name of the tenant")),
    responses((status = 200, description = "The account", body = Object),
        (status = 403, description = "Another tenant's", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<String>,
) -> Result<Json<AccountView>, Problem> {
    let tenant = parse(&tenant)?;
    if !caller.may_see(&tenant) {
        caller.operator()?;
    }
    Ok(Json(app.leader.ask(move |pool| pool.account(&tenant)).await?))
}

/// Sets an account: it counts once this is answered, and ends nothing that runs.
#[utoipa::path(put, path = "/v1/accounts/{tenant}", tag = "accounts", security(("token" = [])),
    params(("tenant" = String, Path, description = "Name of the tenant")), request_body = NewTerms,
    responses((status = 200, description = "In force", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Changed meanwhile", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "No such terms", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<String>,
    body: Result<Json<NewTerms>, JsonRejection>,
) -> Result<Json<AccountView>, Problem> {
    caller.operator()?;
    let tenant = parse(&tenant)?;
    let Json(NewTerms { terms, as_of }) = body?;
    let (author, of) = (caller.author(), tenant.clone());
    app.leader.apply(Command::SetAccount { tenant: Some(of), terms, as_of, author }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.account(&tenant)).await?))
}

/// Raises the budget of an account.
#[utoipa::path(post, path = "/v1/accounts/{tenant}/top-up", tag = "accounts", security(("token" = [])),
    params(("tenant" = String, Path, description = "Name of the tenant")), request_body = TopUp,
    responses((status = 200, description = "Raised", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It has no budget", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn top_up(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<String>,
    body: Result<Json<TopUp>, JsonRejection>,
) -> Result<Json<AccountView>, Problem> {
    caller.operator()?;
    let tenant = parse(&tenant)?;
    let Json(TopUp { amount }) = body?;
    let (author, of) = (caller.author(), tenant.clone());
    app.leader.apply(Command::TopUp { tenant: of, amount, author }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.account(&tenant)).await?))
}

/// The default account: of tenants without one of their own.
#[utoipa::path(get, path = "/v1/default-account", tag = "accounts", security(("token" = [])),
    responses((status = 200, description = "The account", body = Object)))]
pub(crate) async fn default(State(app): State<App>, _caller: Extension<Caller>) -> Result<Json<AccountView>, Problem> {
    Ok(Json(app.leader.ask(|pool| pool.default_account()).await?))
}

/// Sets the default account.
#[utoipa::path(put, path = "/v1/default-account", tag = "accounts", security(("token" = [])), request_body = NewTerms,
    responses((status = 200, description = "In force", body = Object),
        (status = 403, description = "Not the operator", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Changed meanwhile", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "No such terms", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn set_default(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<NewTerms>, JsonRejection>,
) -> Result<Json<AccountView>, Problem> {
    caller.operator()?;
    let Json(NewTerms { terms, as_of }) = body?;
    app.leader.apply(Command::SetAccount { tenant: None, terms, as_of, author: caller.author() }).await?;
    Ok(Json(app.leader.ask(|pool| pool.default_account()).await?))
}
