//! Errors on the wire: RFC 9457 `application/problem+json`, with the refusal's fields as extension members.

use axum::{
    extract::rejection::{JsonRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use legation_core::Rejection;
pub(crate) use legation_verifier::service::ProblemBody;

use crate::objects::ObjectError;

/// A refusal on its way out.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    why: Box<Rejection>,
    /// Seconds after which it is worth trying again, if that is known.
    retry_after: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, why: Rejection) -> Self {
        Self { status, why: Box::new(why), retry_after: None }
    }

    /// Says when it is worth trying again.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    pub(crate) fn bad_request(why: Rejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    pub(crate) fn unauthorized(why: Rejection) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, why)
    }

    pub(crate) fn forbidden(why: Rejection) -> Self {
        Self::new(StatusCode::FORBIDDEN, why)
    }

    pub(crate) fn not_found(why: Rejection) -> Self {
        Self::new(StatusCode::NOT_FOUND, why)
    }

    pub(crate) fn method_not_allowed(why: Rejection) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, why)
    }

    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Rejection::new("api.defect", "this program").got(error))
    }
}

/// A refusal by the pool or its surroundings: the check decides the status.
impl From<Rejection> for Problem {
    fn from(why: Rejection) -> Self {
        let status = match why.check.as_str() {
            "task.unknown"
            | "pool.enclave"
            | "revocation.none"
            | "reference.unknown"
            | "policy.unknown"
            | "reservation.unknown"
            | "custody.unknown"
            | "log.unknown" => StatusCode::NOT_FOUND,
            "task.ended" | "idempotency.reused" | "revocation" | "pool.away" | "receipt.nothing" | "reference.name"
            | "reference.used" | "account.changed" | "task.known" | "reservation.name" => StatusCode::CONFLICT,
            "pool.full" | "pool.queue" | "revocation.full" | "manager.busy" | "log.busy" => {
                StatusCode::TOO_MANY_REQUESTS
            }
            "manager.stopping" | "manager.standby" | "archive.store" | "log.store" | "log.journal" | "log.mark" => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            "journal.append" | "manager.unsettled" => StatusCode::INSUFFICIENT_STORAGE,
            "pool.defect" | "archive.record" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, why)
    }
}

impl From<ObjectError> for Problem {
    fn from(error: ObjectError) -> Self {
        let status = match &error {
            ObjectError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ObjectError::WrongDigest { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            e if e.is_full() => StatusCode::INSUFFICIENT_STORAGE,
            ObjectError::Database { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ObjectError::Disk { .. } | ObjectError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.refusal())
    }
}

impl From<JsonRejection> for Problem {
    fn from(error: JsonRejection) -> Self {
        let status = error.status();
        let why = if status == StatusCode::PAYLOAD_TOO_LARGE {
            Rejection::new("api.size", "size of the body")
                .expected(format!("at most {} bytes", super::BODY_MAX))
                .fix("put data into objects; the body holds statements only")
        } else {
            Rejection::new("api.body", "body of the request")
                .expected("the JSON of /v1/openapi.json, `Content-Type: application/json`")
                .got(error.body_text())
        };
        Self::new(status, why)
    }
}

impl From<QueryRejection> for Problem {
    fn from(error: QueryRejection) -> Self {
        Self::bad_request(
            Rejection::new("api.query", "query of the request")
                .expected("the parameters of /v1/openapi.json")
                .got(error.body_text()),
        )
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
