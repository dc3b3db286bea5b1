//! The routes of the admin API. Each handler calls `Control` and writes the result as a response.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::api::{ReloadReply, UpgradeOrder, UpgradeReply};
use super::auth;
use super::backends;
use super::caller::AuthLayer;
use super::control::{Control, ControlError, SharedControl};
use super::explain_endpoint;
use super::live::{self, LivePage};
use super::login;
use super::maintenance;
use super::metrics_endpoint;
use super::respond::{failed, off_thread, refuse};
use super::split_endpoint;
use super::status_page;

/// Maximum size of a document for a diff, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 16 << 20;

/// Maximum time until a body has arrived.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// All routes, with the authorization middleware.
pub(super) fn router(control: Arc<dyn Control>, live: Arc<LivePage>, guard: AuthLayer) -> Router {
    let sessions = Router::new()
        .route(login::LOGIN, get(login::form).post(login::log_in))
        .route(login::LOGOUT, post(login::log_out))
        .layer(DefaultBodyLimit::max(login::MAX_FORM_BYTES))
        .with_state(guard.clone());
    let pages = Router::new().route("/", get(status_page::show)).route("/live", get(live::events)).with_state(live);
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/api/v1/status", get(status))
        .route("/api/v1/limits", get(limits))
        .route("/api/v1/config", get(config))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/diff", post(diff))
        .route("/api/v1/upgrade", post(upgrade))
        .route("/api/v1/explain", get(explain_endpoint::explain))
        .route("/api/v1/upstreams/{upstream}/backends/{backend}", get(backends::show).put(backends::change))
        .route("/api/v1/routes/{route}/maintenance", get(maintenance::show).put(maintenance::change))
        .route("/api/v1/routes/{route}/split", get(split_endpoint::show).put(split_endpoint::change))
        .with_state(control)
        .merge(sessions)
        .merge(pages)
        .fallback(async || refuse(StatusCode::NOT_FOUND, "no such page"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(middleware::from_fn_with_state(guard, auth::check))
        .layer(middleware::map_response(harden))
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn status(State(control): SharedControl) -> Response {
    off_thread(move || Json(control.status()).into_response()).await
}

async fn limits(State(control): SharedControl) -> Response {
    off_thread(move || Json(control.limits()).into_response()).await
}

async fn config(State(control): SharedControl) -> Response {
    off_thread(move || Json(control.config()).into_response()).await
}

async fn metrics(State(control): SharedControl) -> Response {
    match metrics_endpoint::body(control.metrics()).await {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(broken) => failed(&broken),
    }
}

async fn readyz(State(control): SharedControl) -> Response {
    let readiness = control.ready();
    if readiness.ready {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", readiness.reason)).into_response()
    }
}

async fn reload(State(control): SharedControl) -> Response {
    off_thread(move || answer(control.reload())).await
}

async fn upgrade(State(control): SharedControl, order: Option<Json<UpgradeOrder>>) -> Response {
    let Json(order) = order.unwrap_or_default();
    match control.upgrade(order.timeout_ms.map(Duration::from_millis)).await {
        Ok(Ok(reply @ UpgradeReply::Ready { .. })) => Json(reply).into_response(),
        Ok(Ok(reply @ UpgradeReply::Failed { .. })) => (StatusCode::UNPROCESSABLE_ENTITY, Json(reply)).into_response(),
        Ok(Err(ControlError::Impossible(why) | ControlError::NotThere(why))) => refuse(StatusCode::CONFLICT, &why),
        Err(_) => refuse(StatusCode::CONFLICT, "the process is stopping"),
    }
}

async fn diff(State(control): SharedControl, headers: HeaderMap, body: Body) -> Response {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES) {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
    }
    let Ok(body) = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await else {
        return refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long");
    };
    let Ok(body) = body else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or was cut");
    };
    let Ok(yaml) = String::from_utf8(body.into()) else {
        return refuse(StatusCode::BAD_REQUEST, "the body is not UTF-8");
    };
    off_thread(move || answer(control.diff(&yaml))).await
}

fn answer(reply: ReloadReply) -> Response {
    let status = match reply {
        ReloadReply::Rejected { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        ReloadReply::Applied { .. } | ReloadReply::Valid { .. } => StatusCode::OK,
    };
    (status, Json(reply)).into_response()
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "login_tests.rs"]
mod login_tests;
