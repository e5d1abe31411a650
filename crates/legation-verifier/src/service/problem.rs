//! Errors on the wire: RFC 9457 `application/problem+json`, with the refusal's fields as extension members.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use legation_core::Rejection;
use serde::{Deserialize, Serialize};

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    why: Box<Rejection>,
    retry_after: Option<u16>,
}

/// Body of a refusal (RFC 9457): `type` names the check.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: format!("https://legation.dev/problems/{}", self.why.check),
            title: self.why.claim.clone(),
            status: self.status.as_u16(),
            detail: self.why.to_string(),
            check: self.why.check.clone(),
            expected: self.why.expected.clone(),
            got: self.why.got.clone(),
            fix: self.why.fix.clone(),
        };
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
