//! Policies: the pool's (`appraisal`) and the tenants' (`tenant/NAME`, in a path `tenant%2FNAME`).
//!
//! The operator reads and sets all of them; a tenant reads the pool's and reads and sets its own. Dry runs look at the
//! proofs of the enclaves that are in the pool, beside the leader and not on its thread.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
};
use legation_core::{Rejection, UnixTime};
use legation_policy::{DryRun, Options, PlaceQuestion, Policy, PolicyDiff, References, Scope, Subject};
use legation_pool::{Brief, Command, PolicyVersion, PolicyView, Pool};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};

/// Dry runs at once: each may take seconds on a large pool.
const TRIALS_MAX: usize = 2;

/// The turns of dry runs.
pub(crate) fn trials() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(TRIALS_MAX))
}

/// A policy's text.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// Cedar.
    pub text: String,
    /// For a dry run: work that the rules of placement are held against, `{"tenant": .., "data": {..}, "demand": {..}, ..}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub place: Option<PlaceQuestion>,
}

/// What is in the pool, as of one moment.
struct Snapshot {
    references: Arc<References>,
    current: Option<String>,
    /// What a policy can read of each enclave is in its proof in brief.
    proofs: Vec<(String, Brief)>,
}

impl Snapshot {
    fn of(pool: &Pool, scope: &Scope) -> Self {
        let trusted = pool.enclaves().iter().filter(|(_, enclave)| enclave.revoked().is_none());
        Self {
            references: pool.references().clone(),
            current: pool.policy(scope).map(|policy| policy.text().to_owned()),
            proofs: trusted.map(|(id, enclave)| (id.short(), enclave.proof().clone())).collect(),
        }
    }

    fn load(&self, scope: &Scope, text: &str, allow_development: bool) -> Result<Policy, Rejection> {
        let options = Options::of(scope.clone(), allow_development);
        Policy::load(&scope.to_string(), text, self.references.clone(), options).map_err(|e| e.rejection())
    }

    /// As [`Self::load`], a text that somebody may want to set.
    fn load_new(&self, scope: &Scope, text: &str, allow_development: bool, now: UnixTime) -> Result<Policy, Rejection> {
        let policy = self.load(scope, text, allow_development)?;
        policy.check_images(now).map_err(|e| e.rejection())?;
        Ok(policy)
    }

    fn subjects(&self) -> impl Iterator<Item = (String, Subject<'_>)> {
        self.proofs.iter().map(|(name, proof)| (name.clone(), proof.typical().into()))
    }
}

fn parse(name: &str) -> Result<Scope, Problem> {
    name.parse().map_err(|e| {
        let why = Rejection::new("policy.name", "name of the policy");
        Problem::bad_request(why.expected("`appraisal` or `tenant/NAME`").got(e))
    })
}

impl Caller {
    fn may_read(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Pool => true,
            Scope::Tenant(tenant) => self.may_see(tenant),
        }
    }

    fn reads(&self, scope: &Scope) -> Result<(), Problem> {
        // What another tenant has, or whether it has any, is not told.
        if self.may_read(scope) { Ok(()) } else { self.operator() }
    }

    fn sets(&self, scope: &Scope) -> Result<(), Problem> {
        match scope {
            Scope::Tenant(tenant) if self.may_see(tenant) => Ok(()),
            _ => self.operator(),
        }
    }
}

/// The policies in force that the caller may read.
#[utoipa::path(get, path = "/v1/policies", tag = "policy", security(("token" = [])),
    responses((status = 200, description = "The policies in force", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<PolicyView>>, Problem> {
    let now = (app.clock)();
    let all = app.leader.ask(move |pool| pool.policy_views(now)).await?;
    let may = |view: &PolicyView| view.name.parse().is_ok_and(|scope| caller.may_read(&scope));
    Ok(Json(all.into_iter().filter(may).collect()))
}

/// A policy in force.
#[utoipa::path(get, path = "/v1/policies/{name}", tag = "policy", security(("token" = [])),
    params(("name" = String, Path, description = "`appraisal`, or `tenant/NAME` with its slash escaped")),
    responses((status = 200, description = "The policy", body = Object),
        (status = 404, description = "None was set", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<PolicyView>, Problem> {
    let scope = parse(&name)?;
    caller.reads(&scope)?;
    let now = (app.clock)();
    Ok(Json(app.leader.ask(move |pool| pool.policy_view(&scope, now)).await??))
}

/// The versions of a policy that are at hand, newest first.
#[utoipa::path(get, path = "/v1/policies/{name}/versions", tag = "policy", security(("token" = [])),
    params(("name" = String, Path, description = "`appraisal`, or `tenant/NAME` with its slash escaped")),
    responses((status = 200, description = "Its versions", body = Vec<Object>),
        (status = 404, description = "None was set", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn versions(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Vec<PolicyVersion>>, Problem> {
    let scope = parse(&name)?;
    caller.reads(&scope)?;
    Ok(Json(app.leader.ask(move |pool| pool.policy_versions(&scope)).await??))
}

/// Sets a policy: it is in force once this is answered.
#[utoipa::path(put, path = "/v1/policies/{name}", tag = "policy", security(("token" = [])),
    params(("name" = String, Path, description = "`appraisal`, or `tenant/NAME` with its slash escaped")),
    request_body = PolicyText,
    responses((status = 200, description = "In force", body = Object),
        (status = 403, description = "Not the caller's to set", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It does not load", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn set(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<PolicyText>, JsonRejection>,
) -> Result<Json<PolicyView>, Problem> {
    let scope = parse(&name)?;
    caller.sets(&scope)?;
    let Json(PolicyText { text, .. }) = body?;
    let (author, now) = (caller.author(), (app.clock)());
    app.leader.apply(Command::SetPolicy { scope: scope.clone(), text, author }).await?;
    Ok(Json(app.leader.ask(move |pool| pool.policy_view(&scope, now)).await??))
}

/// What a text would do to the enclaves in the pool, were it this policy.
#[utoipa::path(post, path = "/v1/policies/{name}/test", tag = "policy", security(("token" = [])),
    params(("name" = String, Path, description = "`appraisal`, or `tenant/NAME` with its slash escaped")),
    request_body = PolicyText,
    responses((status = 200, description = "What it would admit and refuse, and why", body = Object),
        (status = 422, description = "It does not load", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn test(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<PolicyText>, JsonRejection>,
) -> Result<Json<DryRun>, Problem> {
    let scope = parse(&name)?;
    caller.reads(&scope)?;
    let Json(PolicyText { text, place }) = body?;
    trial(&app, scope, move |snapshot, scope, development, now| {
        let policy = snapshot.load_new(scope, &text, development, now)?;
        Ok(match &place {
            Some(place) => legation_policy::place_dry_run(&policy, place, snapshot.subjects(), now),
            None => legation_policy::dry_run(&policy, snapshot.subjects(), now),
        })
    })
    .await
}

/// What would change for the enclaves in the pool, were a text this policy.
#[utoipa::path(post, path = "/v1/policies/{name}/diff", tag = "policy", security(("token" = [])),
    params(("name" = String, Path, description = "`appraisal`, or `tenant/NAME` with its slash escaped")),
    request_body = PolicyText,
    responses((status = 200, description = "Enclaves whose verdict changes", body = Object),
        (status = 404, description = "None was set", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It does not load", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn diff(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Result<Json<PolicyText>, JsonRejection>,
) -> Result<Json<PolicyDiff>, Problem> {
    let scope = parse(&name)?;
    caller.reads(&scope)?;
    let Json(PolicyText { text, .. }) = body?;
    trial(&app, scope, move |snapshot, scope, development, now| {
        let current = snapshot.current.as_deref().ok_or_else(|| {
            Rejection::new("policy.unknown", format!("policy `{scope}`")).expected("one in force").got("none")
        })?;
        let old = snapshot.load(scope, current, development)?;
        let new = snapshot.load_new(scope, &text, development, now)?;
        Ok(legation_policy::diff(&old, &new, snapshot.subjects(), now))
    })
    .await
}

/// Runs `work` over a snapshot, on a thread of its own, when it is its turn.
async fn trial<T: Send + 'static>(
    app: &App,
    scope: Scope,
    work: impl FnOnce(&Snapshot, &Scope, bool, UnixTime) -> Result<T, Rejection> + Send + 'static,
) -> Result<Json<T>, Problem> {
    let _turn = app.trials.clone().acquire_owned().await;
    let asked = scope.clone();
    let snapshot = app.leader.ask(move |pool| Snapshot::of(pool, &asked)).await?;
    let (development, now) = (app.config.allow_development, (app.clock)());
    let done = tokio::task::spawn_blocking(move || work(&snapshot, &scope, development, now)).await;
    Ok(Json(done.map_err(|e| Problem::internal(&e))??))
}
