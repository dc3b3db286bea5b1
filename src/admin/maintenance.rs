//! The endpoint `/api/v1/routes/{r}/maintenance`: shows and switches the maintenance of a route.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde::Deserialize;

use super::api::MaintenanceReply;
use super::control::{ControlError, SharedControl};
use super::respond::{off_thread, refuse};

/// The body of a PUT request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaintenanceChange {
    on: bool,
}

/// Returns the maintenance of one route.
pub(super) async fn show(State(control): SharedControl, Path(route): Path<String>) -> Response {
    answer(control.maintenance(&route))
}

/// Switches the maintenance of one route. It may write a file.
pub(super) async fn change(State(control): SharedControl, Path(route): Path<String>, body: Bytes) -> Response {
    match serde_json::from_slice::<MaintenanceChange>(&body) {
        Ok(change) => off_thread(move || answer(control.set_maintenance(&route, change.on))).await,
        Err(error) if error.classify() == serde_json::error::Category::Data => {
            refuse(StatusCode::UNPROCESSABLE_ENTITY, &format!("{error}: write {{\"on\": true}} or {{\"on\": false}}"))
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, &format!("the body is not JSON: {error}")),
    }
}

fn answer(result: Result<MaintenanceReply, ControlError>) -> Response {
    match result {
        Ok(reply) => Json(reply).into_response(),
        Err(ControlError::NotThere(why)) => refuse(StatusCode::NOT_FOUND, &why),
        Err(ControlError::Impossible(why)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &why),
    }
}
