//! Reservations: seats on enclaves, set aside for a tenant from one second to another. A tenant reserves for itself, the operator for
//! anybody.

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::JsonRejection},
};
use legation_core::{Rejection, ReservationId};
use legation_pool::{Command, Pool, ReservationTerms, ReservationView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, Caller, Problem, problem::ProblemBody};

/// A reservation that is asked for.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReservation {
    /// `{"tenant": .., "name": .., "seats": .., "demand": {..}, "require": "any", "prefer": {..}, "data": {..}, "from": ..,
    /// "until": ..}`; safe to repeat: one name of a tenant is one reservation until that ends.
    #[schema(value_type = Object)]
    pub terms: ReservationTerms,
}

fn parse(id: &str) -> Result<ReservationId, Problem> {
    id.parse().map_err(|e| {
        Problem::bad_request(
            Rejection::new("reservation.id", "name of the reservation").expected("as in `reservation-42`").got(e),
        )
    })
}

fn unknown(id: ReservationId) -> Problem {
    Problem::not_found(Rejection::new("reservation.unknown", id.to_string()).expected("one of yours").got("none"))
}

/// The reservation, if the caller may see it.
async fn visible(app: &App, caller: &Caller, id: ReservationId) -> Result<ReservationView, Problem> {
    let now = (app.clock)();
    let found = app.leader.ask(move |pool| pool.reservation(id, now)).await?;
    found.filter(|view| caller.may_see(&view.booking.terms.tenant)).ok_or_else(|| unknown(id))
}

/// Sets seats aside.
#[utoipa::path(post, path = "/v1/reservations", tag = "reservations", security(("token" = [])), request_body = NewReservation,
    responses((status = 200, description = "Set aside", body = Object),
        (status = 403, description = "For another tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It cannot be held, or not paid", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<NewReservation>, JsonRejection>,
) -> Result<Json<ReservationView>, Problem> {
    let Json(NewReservation { terms }) = body?;
    if !caller.may_see(&terms.tenant) {
        caller.operator()?;
    }
    let (now, asked) = ((app.clock)(), terms.clone());
    app.leader.apply(Command::Reserve { terms: Box::new(terms), author: caller.author() }).await?;
    let made = app.leader.ask(move |pool| {
        let view = pool.reservation(pool.reservation_called(&asked.tenant, &asked.name)?, now)?;
        (view.booking.terms == asked).then_some(view)
    });
    made.await?.map(Json).ok_or_else(|| {
        Problem::not_found(Rejection::new("reservation.unknown", "the reservation").got("it has ended already"))
    })
}

/// Reservations that have not ended, and those that did lately; a tenant sees its own.
#[utoipa::path(get, path = "/v1/reservations", tag = "reservations", security(("token" = [])),
    responses((status = 200, description = "By name", body = Vec<Object>)))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<ReservationView>>, Problem> {
    let now = (app.clock)();
    let seen = move |pool: &Pool| pool.reservations(|tenant| caller.may_see(tenant), now).collect::<Vec<_>>();
    Ok(Json(app.leader.ask(seen).await?))
}

/// One reservation with its seats.
#[utoipa::path(get, path = "/v1/reservations/{id}", tag = "reservations", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the reservation")),
    responses((status = 200, description = "The reservation", body = Object),
        (status = 404, description = "Unknown, or another tenant's", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<ReservationView>, Problem> {
    Ok(Json(visible(&app, &caller, parse(&id)?).await?))
}

/// Gives a reservation up: what runs in its seats goes on, what waits for them fails.
#[utoipa::path(post, path = "/v1/reservations/{id}/cancel", tag = "reservations", security(("token" = [])),
    params(("id" = String, Path, description = "Name of the reservation")),
    responses((status = 200, description = "Given up", body = Object),
        (status = 404, description = "Unknown, or another tenant's", body = ProblemBody, content_type = "application/problem+json")))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<ReservationView>, Problem> {
    let reservation = parse(&id)?;
    visible(&app, &caller, reservation).await?;
    app.leader.apply(Command::CancelReservation { reservation, author: caller.author() }).await?;
    Ok(Json(visible(&app, &caller, reservation).await?))
}
