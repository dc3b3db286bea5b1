//! The endpoint `/api/v1/upstreams/{u}/backends/{b}`: state of a backend and operator overrides.
//!
//! It only parses and checks the request body. `Control` decides whether the override is possible.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde::{Deserialize, Deserializer};

use super::api::BackendReply;
use super::control::{ControlError, SharedControl};
use super::respond::refuse;
use crate::backend::labels::AdminState;
use crate::upstream::admin_override::BackendOverride;

/// The body of a PUT request.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BackendChange {
    state: Option<AdminState>,
    /// Absent: unchanged. `null`: the configured weight.
    #[serde(deserialize_with = "written")]
    weight: Option<Option<u16>>,
}

fn written<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u16>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Returns the state of one backend.
pub(super) async fn show(State(control): SharedControl, Path((upstream, backend)): Path<(String, String)>) -> Response {
    answer(control.backend(&upstream, &backend))
}

/// Applies an operator override to one backend.
pub(super) async fn change(
    State(control): SharedControl,
    Path((upstream, backend)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    match parse(&body) {
        Ok(wanted) => answer(control.set_override(&upstream, &backend, wanted)),
        Err((status, why)) => refuse(status, &why),
    }
}

fn parse(body: &[u8]) -> Result<BackendOverride, (StatusCode, String)> {
    let body: BackendChange = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        _ => (StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")),
    })?;
    let wanted = BackendOverride { mark: body.state, weight: body.weight };
    if wanted == BackendOverride::default() {
        let why = "nothing to change: write `state` (ready, draining or disabled) or `weight` (0 to 256, or null)";
        return Err((StatusCode::UNPROCESSABLE_ENTITY, why.to_owned()));
    }
    Ok(wanted)
}

fn answer(result: Result<BackendReply, ControlError>) -> Response {
    match result {
        Ok(backend) => Json(backend).into_response(),
        Err(ControlError::NotThere(why)) => refuse(StatusCode::NOT_FOUND, &why),
        Err(ControlError::Impossible(why)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &why),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_parsed_strictly() {
        let of = |text: &str| parse(text.as_bytes()).map_err(|(status, _)| status.as_u16());
        let wanted = |mark, weight| Ok(BackendOverride { mark, weight });
        assert_eq!(of(r#"{"state":"draining"}"#), wanted(Some(AdminState::Draining), None));
        assert_eq!(of(r#"{"weight":7}"#), wanted(None, Some(Some(7))));
        assert_eq!(of(r#"{"weight":null,"state":"ready"}"#), wanted(Some(AdminState::Ready), Some(None)));
        for bad in [r#"{"state":"down"}"#, r#"{"weight":-1}"#, r#"{"weight":"7"}"#, r#"{"wait":1}"#, "{}", "[]", "7"] {
            let result = of(bad);
            assert_eq!(result, Err(422), "{bad}");
        }
        assert_eq!(of("{"), Err(400));
        assert_eq!(of(""), Err(400));
    }
}
