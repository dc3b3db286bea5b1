//! Helpers that make responses of the admin listener.

use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde_json::json;

use crate::background::{self, BackgroundError};

/// An error response with a JSON body.
pub(super) fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

/// Makes a response on a background thread, including its JSON. The work grows with the configuration, and the control
/// thread also serves health probes and signals.
pub(super) async fn off_thread(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    background::run(work).await.unwrap_or_else(|broken| failed(&broken))
}

pub(super) fn failed(broken: &BackgroundError) -> Response {
    tracing::error!("the admin listener cannot answer: {broken}");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "a bug in weir; its log says more")
}
