//! Errors on the wire: RFC 9457 `application/problem+json`, with the refusal's fields as extension members.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use legation_core::Rejection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    why: Box<Rejection>,
    retry_after: Option<u16>,
}

/// Body of a refusal (RFC 9457): `type` names the check.
// Every service of a pool answers with it, and the manager's describes it in OpenAPI.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// `https://legation.dev/problems/CHECK`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the check is about.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Everything in one line.
    pub detail: String,
    /// Short name of the check.
    pub check: String,
    /// What would have passed.
    pub expected: String,
    /// What was found.
    pub got: String,
    /// What to do.
    pub fix: String,
}

impl ProblemBody {
    /// What is told of a refusal.
    pub fn new(status: StatusCode, why: Rejection) -> Self {
        Self {
            kind: format!("https://legation.dev/problems/{}", why.check),
            status: status.as_u16(),
            detail: why.to_string(),
            title: why.claim,
            check: why.check,
            expected: why.expected,
            got: why.got,
            fix: why.fix,
        }
    }

    /// The refusal it tells of.
    pub fn rejection(self) -> Rejection {
        Rejection { check: self.check, claim: self.title, expected: self.expected, got: self.got, fix: self.fix }
    }
}

impl Problem {
    pub(crate) fn new(status: StatusCode, why: Rejection) -> Self {
        Self { status, why: Box::new(why), retry_after: None }
    }

    /// Too much to do: nothing happened, try again.
    pub(crate) fn overloaded(why: Rejection) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, why) }
    }
}

/// A refusal of evidence: the check decides the status.
impl From<Rejection> for Problem {
    fn from(why: Rejection) -> Self {
        let status = match why.check.as_str() {
            "verifier.defect" | "verifier.randomness" | "passport.verifier" => StatusCode::INTERNAL_SERVER_ERROR,
            "verifier.unreachable" => StatusCode::BAD_GATEWAY,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, why)
    }
}

impl IntoResponse for ProblemBody {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = ProblemBody::new(self.status, *self.why).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
