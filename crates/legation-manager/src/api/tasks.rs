//! Tasks: submit, watch, grant, cancel, explain, receipt.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use legation_core::{
    Digest, Envelope, Rejection, RevocationEpoch, Signed, TaskId, TenantId,
    claims::{CollateralItem, Evidence},
    encoding,
    proven::{PROOF_MAX, ProofItem},
    statement::{ExecutionProof, Grant, Request},
    task::WrappedKey,
};
use legation_pool::{Command, Estimate, Explanation, IdempotencyKey, Needs, Pool, ReceiptParts, TaskState, TaskView};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

use super::{App, Caller, Problem, problem::ProblemBody};
use crate::objects::{ObjectError, Objects};

/// Longest wait for a change, in seconds.
pub const WAIT_MAX: u64 = 60;
/// Tasks on one page.
const PAGE: usize = 100;
/// Receipts put together at once: with the proofs of one task each may take well over a hundred MiB for a moment.
const RECEIPTS_MAX: usize = 4;

/// The turns of receipts.
pub(crate) fn receipts() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(RECEIPTS_MAX))
}

/// A submission.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// The signed request (DSSE envelope).
    #[schema(value_type = Object)]
    pub request: Signed<Request>,
    /// Grants given beforehand: policy grants, for fragments without inputs.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub grants: Vec<Signed<Grant>>,
}

/// Grants with the keys they release.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// Each grant with its keys.
    pub grants: Vec<GrantWithKeys>,
}

/// A grant with the keys it releases.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantWithKeys {
    /// The signed grant (DSSE envelope).
    #[schema(value_type = Object)]
    pub grant: Signed<Grant>,
    /// Keys of the objects it releases, wrapped to the enclave.
    #[schema(value_type = Vec<Object>)]
    pub keys: Vec<WrappedKey>,
}

/// A task as it stands.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct TaskNow {
    /// Journal position of the answer.
    pub version: u64,
    /// The task.
    #[schema(value_type = Object)]
    pub view: TaskView,
    /// What its clients must grant now.
    #[schema(value_type = Vec<Object>)]
    pub needs: Vec<Needs>,
}

/// A page of tasks.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct TaskPage {
    /// The tasks, newest first.
    #[schema(value_type = Vec<Object>)]
    pub tasks: Vec<TaskView>,
    /// Token of the next page, if there is one.
    pub next: Option<String>,
}

/// What the manager has for the receipt of a task; what the request builds on is in the receipts of earlier tasks.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct ReceiptPieces {
    /// The task.
    #[schema(value_type = String)]
    pub task: TaskId,
    /// As of which revocation.
    #[schema(value_type = u64)]
    pub revocations: RevocationEpoch,
    /// Statements that give the results.
    #[schema(value_type = Vec<String>)]
    pub roots: Vec<Digest>,
    /// Statements (DSSE envelopes).
    #[schema(value_type = Vec<Object>)]
    pub envelopes: Vec<Envelope>,
    /// Evidence behind the passports.
    #[schema(value_type = Vec<Object>)]
    pub evidence: Vec<Evidence>,
    /// Collateral behind the passports.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub collateral: Vec<CollateralItem>,
    /// Proofs of executions that were to be proven, ascending by report, as far as they are made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub proofs: Vec<ProofItem>,
}

/// How to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Answer at once when the task ended or needs grants; else wait this many seconds for it, 60 at most.
    #[serde(default)]
    pub wait: u64,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Token of the page, from the page before.
    pub page_token: Option<String>,
}

fn parse(id: &str) -> Result<TaskId, Problem> {
    id.parse().map_err(|e| {
        Problem::bad_request(
            Rejection::new("task.name", "name of the task").expected("64 lower-case hex digits").got(e),
        )
    })
}

/// The task, if the caller may see it; a stranger learns nothing, not even that it exists.
async fn visible<T: Send + 'static>(
    app: &App,
    caller: &Caller,
    id: TaskId,
    ask: impl FnOnce(&Pool) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Problem> {
    let caller = caller.clone();
    let answer = app.leader.ask(move |pool| {
        let seen = pool.tasks().get(&id).is_some_and(|t| caller.may_see(&t.request.tenant));
        if seen { ask(pool) } else { Err(Rejection::new("task.unknown", "the task").expected("one of yours").got(id)) }
    });
    Ok(answer.await??)
}

/// Submits a task. Safe to repeat: the task's name is the digest of its request.
#[utoipa::path(post, path = "/v1/tasks", tag = "tasks", security(("token" = [])), params(Wait,
        ("Idempotency-Key" = Option<String>, Header, description = "Your name for this try: with another body it is refused")),
    request_body = Submission,
    responses((status = 200, description = "The task as it stands", body = TaskNow),
        (status = 403, description = "Another tenant's request", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The idempotency key was used with another body", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The request breaks a rule", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The pool has too many tasks, or too much waits: `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn submit(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    wait: Result<Query<Wait>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Json<Submission>, JsonRejection>,
) -> Result<Json<TaskNow>, Problem> {
    let (Query(wait), Json(Submission { request, grants })) = (wait?, body?);
    let tenant = own_request(&app, &caller, &request)?;
    let idempotency = match headers.get("idempotency-key").map(|v| v.to_str()) {
        None => None,
        Some(Ok(key)) => {
            let mut body = request.digest().to_string();
            grants.iter().for_each(|g| body.push_str(&g.digest().to_string()));
            Some(IdempotencyKey { key: format!("{tenant}/{key}"), body: Digest::of(body.as_bytes()) })
        }
        Some(Err(e)) => {
            let why = Rejection::new("idempotency.key", "idempotency key").expected("visible ASCII").got(e);
            return Err(Problem::bad_request(why));
        }
    };
    for fragment in &request.fragments {
        let wanted = fragment.sealed_inputs().map(|i| i.ciphertext).chain([fragment.module]);
        for digest in wanted {
            if !app.objects.has(&digest).await? {
                return Err(Rejection::new(
                    "object.unknown",
                    format!("an object that fragment `{}` needs", fragment.name),
                )
                .expected("stored before the task is submitted")
                .got(digest)
                .fix("PUT it to /v1/objects/DIGEST first")
                .into());
            }
        }
    }
    let id = TaskId::new(request.digest());
    let changes = app.leader.watch(id);
    let submitted = app.leader.apply(Command::Submit { request: Box::new(request), grants, idempotency }).await;
    if let Err(why) = submitted {
        return Err(busy(&app, why).await);
    }
    settled(&app, &caller, id, changes, wait.wait).await.map(Json)
}

/// A refusal of a submission; of a pool that is full, with the time after which to try again.
async fn busy(app: &App, why: Rejection) -> Problem {
    let full = matches!(why.check.as_str(), "pool.queue" | "pool.full");
    let problem = Problem::from(why);
    if !full {
        return problem;
    }
    let now = (app.clock)();
    match app.leader.ask(move |pool| pool.retry_after(now)).await {
        Ok(seconds) => problem.retry_after(seconds),
        Err(_) => problem,
    }
}

/// The tenant whose request it is, if the caller is that tenant and the client its own.
fn own_request(app: &App, caller: &Caller, request: &Request) -> Result<TenantId, Problem> {
    let Some(tenant) = app.config.tenants.iter().find(|t| t.name == request.tenant && t.key == request.client) else {
        return Err(Problem::forbidden(
            Rejection::new("request.client", "client of the request")
                .expected(format!("the key of tenant {}", request.tenant))
                .got(request.client.id())
                .fix("ask the operator to register this key for the tenant"),
        ));
    };
    if !matches!(caller, Caller::Tenant(name) if *name == tenant.name) {
        return Err(Problem::forbidden(
            Rejection::new("api.tenant", "token of the request").expected(format!("that of tenant {}", tenant.name)),
        ));
    }
    Ok(tenant.name.clone())
}

/// What a submission of this would come to now: where each fragment would go and what it would cost, or why it would wait.
/// Nothing is changed, and no object needs to be stored.
#[utoipa::path(post, path = "/v1/tasks/estimate", tag = "tasks", security(("token" = [])), request_body = Submission,
    responses((status = 200, description = "Fragment by fragment", body = Object),
        (status = 403, description = "Another tenant's request", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It was submitted before", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "What the submission would be refused for", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The pool has too many tasks, or too much waits: `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn estimate(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<Submission>, JsonRejection>,
) -> Result<Json<Estimate>, Problem> {
    let Json(Submission { request, grants }) = body?;
    own_request(&app, &caller, &request)?;
    let now = (app.clock)();
    match app.leader.estimate(request, grants, now).await {
        Ok(estimate) => Ok(Json(estimate)),
        Err(why) => Err(busy(&app, why).await),
    }
}

/// What of a task is told to a caller who may see it.
fn shown(caller: &Caller, view: TaskView) -> TaskView {
    if *caller == Caller::Operator { view } else { view.discreet() }
}

/// Waits until the task ended or needs something of its clients, or the time is over.
async fn settled(
    app: &App,
    caller: &Caller,
    id: TaskId,
    mut changes: tokio::sync::watch::Receiver<u64>,
    seconds: u64,
) -> Result<TaskNow, Problem> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds.min(WAIT_MAX));
    loop {
        changes.mark_unchanged();
        let (now, who) = ((app.clock)(), caller.clone());
        let (seq, view, needs) = visible(app, caller, id, move |pool| {
            Ok((pool.seq(), shown(&who, pool.task_view(id)?), pool.needs(id, now)?))
        })
        .await?;
        let settled = view.state != TaskState::Live || !needs.is_empty() || seconds == 0;
        if settled || tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
            let mut view = view;
            app.proving.tell(&mut view);
            return Ok(TaskNow { version: seq.0, view, needs: app.leader.archive().needs(needs).await? });
        }
    }
}

/// Tasks, newest first.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", security(("token" = [])), params(Page),
    responses((status = 200, description = "A page of tasks", body = TaskPage)))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<TaskPage>, Problem> {
    let Query(page) = page?;
    let after = match page.page_token.as_deref().map(decode_token) {
        None => None,
        Some(Some(position)) => Some(position),
        Some(None) => {
            let why = Rejection::new("page.token", "page token").expected("`next` of the page before");
            return Err(Problem::bad_request(why));
        }
    };
    let page = app.leader.ask(move |pool| {
        let mut order: Vec<_> = pool
            .tasks()
            .iter()
            .filter(|(_, t)| caller.may_see(&t.request.tenant))
            .map(|(id, t)| (std::cmp::Reverse(t.request.created), *id))
            .filter(|position| after.is_none_or(|after| *position > after))
            .collect();
        order.sort_unstable();
        let next = (order.len() > PAGE).then(|| order.get(PAGE - 1).map(encode_token)).flatten();
        let tasks = order.into_iter().take(PAGE).filter_map(|(_, id)| pool.task_line(id));
        let tasks = tasks.map(|view| shown(&caller, view)).collect();
        TaskPage { tasks, next }
    });
    Ok(Json(page.await?))
}

type Position = (std::cmp::Reverse<legation_core::UnixTime>, TaskId);

fn encode_token((created, id): &Position) -> String {
    encoding::hex(format!("{}:{id}", created.0.0).as_bytes())
}

fn decode_token(token: &str) -> Option<Position> {
    let text = String::from_utf8(encoding::unhex(token).ok()?).ok()?;
    let (created, id) = text.split_once(':')?;
    Some((std::cmp::Reverse(legation_core::UnixTime(created.parse().ok()?)), id.parse().ok()?))
}

/// One task, at once or when it ended or needs grants.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", security(("token" = [])),
    params(Wait, ("id" = String, Path, description = "Name of the task")),
    responses((status = 200, description = "The task as it stands", body = TaskNow),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
) -> Result<Json<TaskNow>, Problem> {
    let (id, Query(wait)) = (parse(&id)?, wait?);
    let changes = app.leader.watch(id);
    settled(&app, &caller, id, changes, wait.wait).await.map(Json)
}

/// Grants: lets the enclaves that were promised run, and releases keys to them.
#[utoipa::path(post, path = "/v1/tasks/{id}/grants", tag = "tasks", security(("token" = [])),
    params(Wait, ("id" = String, Path, description = "Name of the task")), request_body = Grants,
    responses((status = 200, description = "The task as it stands", body = TaskNow),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The task has ended", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A grant exceeds its request", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn grant(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
    body: Result<Json<Grants>, JsonRejection>,
) -> Result<Json<TaskNow>, Problem> {
    let (id, Query(wait), Json(Grants { grants })) = (parse(&id)?, wait?, body?);
    visible(&app, &caller, id, |_| Ok(())).await?;
    let changes = app.leader.watch(id);
    for GrantWithKeys { grant, keys } in grants {
        if grant.task != id {
            return Err(Rejection::new("grant.task", "task of the grant").expected(id).got(grant.task).into());
        }
        app.leader.apply(Command::Grant { grant: Box::new(grant), keys }).await?;
    }
    settled(&app, &caller, id, changes, wait.wait).await.map(Json)
}

/// Gives a task up: what runs is stopped.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the task")),
    responses((status = 200, description = "Cancelled", body = TaskNow),
        (status = 409, description = "It has ended", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<TaskNow>, Problem> {
    let id = parse(&id)?;
    visible(&app, &caller, id, |_| Ok(())).await?;
    let changes = app.leader.watch(id);
    app.leader.apply(Command::Cancel { task: id }).await?;
    settled(&app, &caller, id, changes, 0).await.map(Json)
}

/// Why each fragment is where it is, why not elsewhere, and what could be asked instead: classes of enclaves alike, with how many
/// could take it now and what rules out the others; the best of those that could; changes of the request, each tried, by which it
/// would be placed now.
#[utoipa::path(get, path = "/v1/tasks/{id}/explain", tag = "tasks", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the task")),
    responses((status = 200, description = "Fragment by fragment", body = Vec<Object>),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn explain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Explanation>>, Problem> {
    let (id, now) = (parse(&id)?, (app.clock)());
    let who = caller.clone();
    let explained = visible(&app, &caller, id, move |pool| {
        let all = pool.explain(id, now)?;
        Ok(match who {
            Caller::Operator => all,
            Caller::Tenant(own) => all.into_iter().map(|one| one.discreet(&own)).collect(),
        })
    });
    explained.await.map(Json)
}

/// What the manager has for the receipt of a task that ended.
#[utoipa::path(get, path = "/v1/tasks/{id}/receipt", tag = "tasks", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the task")),
    responses((status = 200, description = "Pieces of the receipt", body = ReceiptPieces),
        (status = 409, description = "There is no result yet", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn receipt(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = parse(&id)?;
    let outline = visible(&app, &caller, id, move |pool| Ok((pool.revocations(), pool.receipt_outline(id)?)));
    let (revocations, outline) = outline.await?;
    // Until the body is there, and only then: how fast it is read is for whoever asked to say.
    let _turn = app.receipts.clone().acquire_owned().await;
    let ReceiptParts { roots, envelopes, evidence, collateral, executions } =
        app.leader.archive().receipt(outline).await?;
    let proofs = proofs(&app.objects, executions).await?;
    let pieces = ReceiptPieces { task: id, revocations, roots, envelopes, evidence, collateral, proofs };
    let body = serde_json::to_vec(&pieces).map_err(|e| Problem::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// These statements about proofs, each with its proof. Nothing rests on a proof: one that is lost takes neither the others nor the
/// receipt with it.
///
/// # Errors
/// The database does not answer: it will, and then nothing is missing.
async fn proofs(objects: &Objects, statements: Vec<Envelope>) -> Result<Vec<ProofItem>, Problem> {
    let mut proofs = Vec::with_capacity(statements.len());
    for statement in statements {
        let digest = statement.digest();
        let why = match proof(objects, statement).await {
            Ok(Ok(proof)) => {
                proofs.push(proof);
                continue;
            }
            Ok(Err(why)) => why,
            Err(error @ ObjectError::Database { .. }) => return Err(error.into()),
            Err(error) => error.refusal(),
        };
        warn!(statement = %digest, %why, "a receipt goes without a proof of execution");
    }
    Ok(proofs)
}

/// A statement about a proof, with the proof; or why there is none.
async fn proof(objects: &Objects, statement: Envelope) -> Result<Result<ProofItem, Rejection>, ObjectError> {
    let named = |got: String| {
        Rejection::new("object.unknown", "a proof of execution that the journal names")
            .expected("among the objects of the pool")
            .got(got)
            .fix("restore the objects from a backup")
    };
    let said = match statement.peek::<ExecutionProof>() {
        Ok(said) => said,
        Err(why) => return Ok(Err(named(why.to_string()))),
    };
    let Some(mut object) = objects.read(&said.proof).await? else { return Ok(Err(named(said.proof.to_string()))) };
    if object.size() != said.size.0 || said.size.0 > PROOF_MAX as u64 {
        return Ok(Err(named(format!("{} bytes", object.size()))));
    }
    let mut proof = Vec::with_capacity(usize::try_from(object.size()).unwrap_or_default());
    while let Some(piece) = object.next().await? {
        proof.extend_from_slice(&piece);
    }
    Ok(Ok(ProofItem { statement, proof }))
}

#[cfg(test)]
mod tests {
    use legation_core::{Bytes, Signer as _, UnixTime, dsse, statement::ExecutionClaim};
    use legation_keys::IdentityKey;

    use super::*;

    #[tokio::test]
    async fn a_proof_that_is_lost_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::in_folder(dir.path(), Bytes::mib(1)).await.unwrap();
        let key = IdentityKey::from_seed([1; 32]);
        let said = |size: u64, proof: &[u8]| {
            let names = ["report", "module", "args", "seed", "program"];
            let [report, module, args, seed, program] = names.map(|name| Digest::of(name.as_bytes()));
            let claim = ExecutionClaim { module, args, seed, clock: UnixTime(0), inputs: Vec::new(), output: None };
            let (prover, proof) = (key.public_key(), Digest::of(proof));
            let (size, made, prev) = (Bytes(size), UnixTime(1), vec![report]);
            let said = ExecutionProof { prover, report, claim, program, proof, size, made, prev };
            dsse::sign(said, &key).envelope().clone()
        };
        let kept = b"a proof";
        let mut incoming = objects.begin(Digest::of(kept)).await.unwrap();
        incoming.write(kept).await.unwrap();
        incoming.finish().await.unwrap();
        // One that is gone, one that is there, and one of another size than was said.
        let found = proofs(&objects, vec![said(4, b"lost"), said(7, kept), said(8, kept)]).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|item| (item.statement, item.proof)).collect();
        assert_eq!(found, [(said(7, kept), kept.to_vec())]);
    }
}
