//! Objects by digest: ciphertexts and modules.

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use legation_core::{Digest, Rejection};

use super::{App, Caller, Problem, problem::ProblemBody};
use crate::objects::{ObjectError, Outgoing};

fn parse(digest: &str) -> Result<Digest, Problem> {
    digest.parse().map_err(|e| {
        Problem::bad_request(
            Rejection::new("object.name", "name of the object").expected("64 lower-case hex digits").got(e),
        )
    })
}

fn missing(digest: &Digest) -> Problem {
    Problem::not_found(Rejection::new("object.unknown", "the object").expected("one that was stored").got(digest))
}

/// Stores an object under its SHA-256.
#[utoipa::path(put, path = "/v1/objects/{digest}", tag = "objects", security(("token" = [])),
    params(("digest" = String, Path, description = "SHA-256 of the bytes, lower-case hex")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "Stored durably"), (status = 200, description = "Was there already"),
        (status = 413, description = "Too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The bytes have another digest", body = ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The disk is full", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn store(
    State(app): State<App>,
    _caller: Extension<Caller>,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode, Problem> {
    use futures_core::Stream;
    let digest = parse(&digest)?;
    if app.objects.has(&digest).await? {
        return Ok(StatusCode::OK);
    }
    let mut incoming = app.objects.begin(digest).await?;
    let mut stream = std::pin::pin!(body.into_data_stream());
    while let Some(chunk) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        let cut = |e| Problem::bad_request(Rejection::new("object.body", "body of the request").got(e));
        incoming.write(&chunk.map_err(cut)?).await?;
    }
    let size = incoming.finish().await?;
    app.metrics.stored(size);
    Ok(StatusCode::CREATED)
}

/// An object's bytes.
#[utoipa::path(get, path = "/v1/objects/{digest}", tag = "objects", security(("token" = [])),
    params(("digest" = String, Path, description = "SHA-256 of the bytes, lower-case hex")),
    responses((status = 200, description = "The bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "Not there", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn fetch(
    State(app): State<App>,
    _caller: Extension<Caller>,
    Path(digest): Path<String>,
) -> Result<Response, Problem> {
    let digest = parse(&digest)?;
    let object = app.objects.read(&digest).await?.ok_or_else(|| missing(&digest))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, object.size().to_string()),
    ];
    Ok((headers, Body::from_stream(Pieces::Next(object))).into_response())
}

/// Whether an object is there.
#[utoipa::path(head, path = "/v1/objects/{digest}", tag = "objects", security(("token" = [])),
    params(("digest" = String, Path, description = "SHA-256 of the bytes, lower-case hex")),
    responses((status = 200, description = "It is there"), (status = 404, description = "Not there")))]
pub(crate) async fn look(
    State(app): State<App>,
    _caller: Extension<Caller>,
    Path(digest): Path<String>,
) -> Result<StatusCode, Problem> {
    let found = app.objects.has(&parse(&digest)?).await?;
    Ok(if found { StatusCode::OK } else { StatusCode::NOT_FOUND })
}

type Reading = std::pin::Pin<Box<dyn Future<Output = (Outgoing, Result<Option<Bytes>, ObjectError>)> + Send>>;

/// An object in pieces, one in memory at a time.
enum Pieces {
    Next(Outgoing),
    Reading(Reading),
    Over,
}

impl futures_core::Stream for Pieces {
    type Item = Result<Bytes, ObjectError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::task::Poll;
        let mut reading: Reading = match std::mem::replace(&mut *self, Self::Over) {
            Self::Over => return Poll::Ready(None),
            Self::Reading(reading) => reading,
            Self::Next(mut object) => Box::pin(async move {
                let read = object.next().await;
                (object, read)
            }),
        };
        match reading.as_mut().poll(cx) {
            Poll::Pending => {
                *self = Self::Reading(reading);
                Poll::Pending
            }
            Poll::Ready((object, read)) => {
                if let Ok(Some(_)) = &read {
                    *self = Self::Next(object);
                }
                Poll::Ready(read.transpose())
            }
        }
    }
}
