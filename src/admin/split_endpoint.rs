//! The endpoint `/api/v1/routes/{r}/split`: the shares of a split, and weights of run time.
//!
//! It only parses the request body. `Control` decides whether the weights are possible.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use serde::{Deserialize, Deserializer};

use super::api::SplitReply;
use super::control::{ControlError, SharedControl};
use super::respond::{off_thread, refuse};

/// The body of a PUT request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitChange {
    /// Weights by upstream. `null`: the configured weights.
    #[serde(deserialize_with = "required")]
    weights: Option<BTreeMap<String, u16>>,
}

/// The key must be written, because an empty body would undo the weights.
fn required<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeMap<String, u16>>, D::Error> {
    Option::deserialize(from)
}

/// Returns the split of a route.
pub(super) async fn show(State(control): SharedControl, Path(route): Path<String>) -> Response {
    answer(control.split(&route))
}

/// Sets the weights of a split.
pub(super) async fn change(State(control): SharedControl, Path(route): Path<String>, body: Bytes) -> Response {
    match parse(&body) {
        Ok(weights) => off_thread(move || answer(control.set_split(&route, weights.as_ref()))).await,
        Err((status, why)) => refuse(status, &why),
    }
}

fn parse(body: &[u8]) -> Result<Option<BTreeMap<String, u16>>, (StatusCode, String)> {
    let body: SplitChange = serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        _ => (StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")),
    })?;
    if body.weights.as_ref().is_some_and(BTreeMap::is_empty) {
        let why = "nothing to change: write `weights` by upstream, such as {\"v1\": 90, \"v2\": 10}, or null";
        return Err((StatusCode::UNPROCESSABLE_ENTITY, why.to_owned()));
    }
    Ok(body.weights)
}

fn answer(result: Result<SplitReply, ControlError>) -> Response {
    match result {
        Ok(split) => Json(split).into_response(),
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
        assert_eq!(of(r#"{"weights":{"a":9,"b":0}}"#).unwrap().unwrap(), [("a".into(), 9), ("b".into(), 0)].into());
        assert_eq!(of(r#"{"weights":null}"#), Ok(None));
        for bad in
            [r#"{"weights":{}}"#, r#"{"weights":{"a":-1}}"#, r#"{"weights":{"a":70000}}"#, r#"{"a":1}"#, "{}", "7"]
        {
            assert_eq!(of(bad), Err(422), "{bad}");
        }
        assert_eq!(of("{"), Err(400));
        assert_eq!(of(""), Err(400));
    }
}
