//! The HTTP API: JSON in, JSON out, errors as RFC 9457 problem details with the refusal's own fields.
//!
//! | status | what the user does | what the operator does |
//! |---|---|---|
//! | 400, 422 | mends the request: the problem says what was expected | - |
//! | 401, 403 | uses the right token | gives or withdraws tokens |
//! | 404 | checks the name; ended tasks are forgotten after a while | raises `ended_tasks_kept` |
//! | 409 | the thing changed meanwhile: reads it again | - |
//! | 413 | sends less at once | raises the limit |
//! | 429, 503 | tries again in a moment; at the leader, if the problem names one | looks at load and journal |
//! | 507 | tries again later | frees disk space |

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use legation_core::{Digest, Rejection, TenantId};
use legation_pool::CustodyView;
use utoipa::OpenApi;

use crate::{
    Clock, config::ManagerConfig, doors::Doors, effects::Effects, leader::Leader, log::Log, metrics::Metrics,
    objects::Objects, refusals::Refusals,
};

pub mod accounts;
pub mod distances;
pub mod enclaves;
pub mod keys;
pub mod log;
pub mod manager;
mod objects;
pub mod policies;
mod problem;
pub mod references;
pub mod reservations;
mod schema;
pub mod tasks;
pub mod trust;

pub use problem::Problem;
use schema::Security;

/// Largest JSON body, in bytes.
pub const BODY_MAX: usize = 4 << 20;

/// What every handler works with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) leader: Leader,
    pub(crate) objects: Arc<Objects>,
    pub(crate) config: Arc<ManagerConfig>,
    pub(crate) effects: Effects,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    /// Dry runs of policies at once.
    pub(crate) trials: Arc<tokio::sync::Semaphore>,
    /// Receipts put together at once.
    pub(crate) receipts: Arc<tokio::sync::Semaphore>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) keeper: Arc<legation_verifier::collateral::Keeper>,
    /// How far proofs of executions are.
    pub(crate) proving: crate::proving::Proving,
    /// The transparency log, where one is kept.
    pub(crate) log: Option<Log>,
    /// Whose turn it is to look into it.
    pub(crate) turns: log::Turns,
}

/// Who calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// Runs the pool: sees everything, revokes, drains.
    Operator,
    /// Runs tasks: sees its own.
    Tenant(TenantId),
}

impl Caller {
    pub(crate) fn operator(&self) -> Result<(), Problem> {
        match self {
            Self::Operator => Ok(()),
            Self::Tenant(tenant) => Err(Problem::forbidden(
                Rejection::new("api.operator", "who may do this")
                    .expected("the operator's token")
                    .got(format!("the token of tenant {tenant}")),
            )),
        }
    }

    /// Who it is, as the journal writes it.
    pub(crate) fn author(&self) -> String {
        match self {
            Self::Operator => "operator".to_owned(),
            Self::Tenant(tenant) => format!("tenant {tenant}"),
        }
    }

    pub(crate) fn may_see(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Operator => true,
            Self::Tenant(own) => own == tenant,
        }
    }
}

/// The specification of the API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Legation manager", version = "1", description = "Tasks on a cloud pooled from other people's enclaves. \
        Statements are DSSE envelopes signed by their makers; the manager sees ciphertext and metadata only."),
    paths(
        tasks::submit, tasks::estimate, tasks::list, tasks::show, tasks::grant, tasks::cancel, tasks::explain, tasks::receipt,
        manager::show, enclaves::pool, enclaves::list, enclaves::show, enclaves::drain, enclaves::reattest,
        enclaves::cordon, enclaves::uncordon, enclaves::decommission, enclaves::retired,
        trust::revoke, trust::revocations, trust::signed_revocations, trust::verifiers, trust::collateral, trust::refusals,
        references::list, references::add, references::show, references::expire,
        policies::list, policies::show, policies::set, policies::versions, policies::test, policies::diff,
        distances::list, distances::set, accounts::list, accounts::show, accounts::set, accounts::top_up, accounts::default, accounts::set_default,
        reservations::create, reservations::list, reservations::show, reservations::cancel,
        keys::list, keys::show, keys::roster, keys::set_charter, keys::rotate,
        objects::store, objects::fetch, objects::look
    ),
    modifiers(&Security)
)]
pub struct Specification;

/// The specification as the committed file has it.
///
/// # Errors
/// Never in practice: the specification is plain data.
pub fn specification() -> Result<String, serde_json::Error> {
    Specification::openapi().to_pretty_json().map(|mut text| {
        text.push('\n');
        text
    })
}

pub(crate) fn router(app: App) -> Router {
    let json = Router::new()
        .route("/v1/manager", get(manager::show))
        .route("/v1/pool", get(enclaves::pool))
        .route("/v1/enclaves", get(enclaves::list))
        .route("/v1/enclaves/{id}", get(enclaves::show))
        .route("/v1/enclaves/{id}/reattest", post(enclaves::reattest))
        .route("/v1/revocations", get(trust::revocations).post(trust::revoke))
        .route("/v1/revocations/signed", get(trust::signed_revocations))
        .route("/v1/verifiers", get(trust::verifiers))
        .route("/v1/collateral", get(trust::collateral))
        .route("/v1/refusals", get(trust::refusals))
        .route("/v1/enclaves/{id}/drain", post(enclaves::drain))
        .route("/v1/enclaves/{id}/cordon", post(enclaves::cordon))
        .route("/v1/enclaves/{id}/uncordon", post(enclaves::uncordon))
        .route("/v1/enclaves/{id}/decommission", post(enclaves::decommission))
        .route("/v1/retired", get(enclaves::retired))
        .route("/v1/references", get(references::list).post(references::add))
        .route("/v1/references/{name}", get(references::show))
        .route("/v1/references/{name}/expire", post(references::expire))
        .route("/v1/policies", get(policies::list))
        .route("/v1/policies/{name}", get(policies::show).put(policies::set))
        .route("/v1/policies/{name}/versions", get(policies::versions))
        .route("/v1/policies/{name}/test", post(policies::test))
        .route("/v1/policies/{name}/diff", post(policies::diff))
        .route("/v1/distances", get(distances::list).put(distances::set))
        .route("/v1/accounts", get(accounts::list))
        .route("/v1/accounts/{tenant}", get(accounts::show).put(accounts::set))
        .route("/v1/accounts/{tenant}/top-up", post(accounts::top_up))
        .route("/v1/default-account", get(accounts::default).put(accounts::set_default))
        .route("/v1/reservations", get(reservations::list).post(reservations::create))
        .route("/v1/reservations/{id}", get(reservations::show))
        .route("/v1/reservations/{id}/cancel", post(reservations::cancel))
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/{swarm}", get(keys::show))
        .route("/v1/keys/{swarm}/roster", get(keys::roster))
        .route("/v1/keys/{swarm}/charter", put(keys::set_charter))
        .route("/v1/keys/{swarm}/rotate", post(keys::rotate))
        .route("/v1/tasks/estimate", post(tasks::estimate))
        .route("/v1/tasks", post(tasks::submit).get(tasks::list))
        .route("/v1/tasks/{id}", get(tasks::show))
        .route("/v1/tasks/{id}/grants", post(tasks::grant))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/v1/tasks/{id}/explain", get(tasks::explain))
        .route("/v1/tasks/{id}/receipt", get(tasks::receipt))
        .layer(DefaultBodyLimit::max(BODY_MAX));
    let bytes = Router::new()
        .route("/v1/objects/{digest}", put(objects::store).get(objects::fetch).head(objects::look))
        .layer(DefaultBodyLimit::disable());
    json.merge(bytes)
        .layer(middleware::from_fn_with_state(app.clone(), manager::only_leader))
        .layer(middleware::from_fn_with_state(app.clone(), authenticate))
        .route("/v1/openapi.json", get(openapi))
        .merge(log::router().layer(DefaultBodyLimit::max(log::BODY_MAX)))
        .fallback(nowhere)
        .method_not_allowed_fallback(otherwise)
        .with_state(app)
}

/// Liveness, readiness and metrics: on a listener of their own, without tokens and without anything about tasks.
pub(crate) fn admin(app: App) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
}

async fn openapi() -> Response {
    match specification() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(e) => Problem::internal(&e).into_response(),
    }
}

async fn nowhere(request: Request) -> Problem {
    Problem::not_found(
        Rejection::new("api.path", "path of the request").expected("one of /v1/openapi.json").got(format!(
            "{} {}",
            request.method(),
            request.uri().path()
        )),
    )
}

async fn otherwise(request: Request) -> Problem {
    Problem::method_not_allowed(
        Rejection::new("api.method", "method of the request").expected("one of /v1/openapi.json").got(format!(
            "{} {}",
            request.method(),
            request.uri().path()
        )),
    )
}

async fn ready(State(app): State<App>) -> Result<String, Problem> {
    let now = (app.clock)();
    let (view, keys) = app.leader.ask(move |pool| (pool.view(), pool.custodies(now))).await?;
    let verifiers = app.doors.views();
    let silent: Vec<_> = verifiers.iter().filter(|v| v.silent).map(|v| v.name.as_str()).collect();
    let silent = if silent.is_empty() { String::new() } else { format!(" silent={}", silent.join(",")) };
    let (term, seq) = (view.term.0, view.seq.0);
    let here = view.enclaves_here;
    let of_key = |key: &CustodyView| {
        let swarm = key.swarm.clone();
        key.warnings.iter().map(move |warning| format!("WARNING swarm key `{swarm}`: {warning}\n")).collect::<String>()
    };
    let mut warnings: String = app.keeper.warnings().iter().map(|warning| format!("WARNING {warning}\n")).collect();
    warnings.extend(keys.iter().map(of_key));
    Ok(format!("ok term={term} seq={seq} enclaves={here} verifiers={}{silent}\n{warnings}", verifiers.len()))
}

async fn metrics(State(app): State<App>) -> String {
    app.metrics.channels(app.effects.open());
    app.metrics.standing(&app.leader.view());
    let now = (app.clock)();
    // A manager that does not lead has nothing to say of them.
    app.metrics.custody(&app.leader.ask(move |pool| pool.custodies(now)).await.unwrap_or_default());
    app.metrics.text()
}

/// Tokens are compared by digest, in constant time.
async fn authenticate(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let caller = identify(request.headers(), &app.config)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

fn identify(headers: &HeaderMap, config: &ManagerConfig) -> Result<Caller, Problem> {
    let refuse = |got: &str| {
        Problem::unauthorized(
            Rejection::new("api.token", "token of the request")
                .expected("`Authorization: Bearer TOKEN` with a token the manager knows")
                .got(got)
                .fix("set LEGATION_HOME to the folder with your `client.toml`, or ask the operator for a token"),
        )
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| refuse("none"))?;
    let token = value.to_str().ok().and_then(|v| v.strip_prefix("Bearer ")).ok_or_else(|| refuse("another scheme"))?;
    let digest = Digest::of(token.as_bytes());
    let is =
        |known: &Digest| aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), digest.as_bytes()).is_ok();
    if is(&config.operator_token_sha256) {
        return Ok(Caller::Operator);
    }
    let tenant = config.tenants.iter().find(|t| is(&t.token_sha256));
    tenant.map(|t| Caller::Tenant(t.name.clone())).ok_or_else(|| refuse("an unknown one"))
}
