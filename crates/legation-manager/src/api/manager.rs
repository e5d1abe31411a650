//! The manager itself: whether it leads, and who does. The one thing a standby answers.

use axum::{
    Json,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::{App, Problem};
use crate::leader::ManagerView;

/// Paths that a standby serves as well.
const FOR_ALL: [&str; 1] = ["/v1/manager"];

/// Whether this manager leads, who does, and how far it has read the journal.
#[utoipa::path(get, path = "/v1/manager", tag = "pool",
    responses((status = 200, body = ManagerView)))]
pub(crate) async fn show(State(app): State<App>) -> Json<ManagerView> {
    Json(app.leader.view())
}

/// Refuses everything else while another leads, and says where: `manager.standby`.
pub(crate) async fn only_leader(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    match app.leader.refusal() {
        Some(why) if !FOR_ALL.contains(&request.uri().path()) => Err(why.into()),
        _ => Ok(next.run(request).await),
    }
}
