//! `GET /api/v1/explain`: reads the question from the query and returns the explanation as JSON.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;

use super::api_explain::Question;
use super::control::{Control, ControlError};
use super::respond::{off_thread, refuse};

pub(super) async fn explain(
    State(control): State<Arc<dyn Control>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Response {
    let mut question = Question { method: "GET".to_owned(), ..Question::default() };
    for (key, value) in pairs {
        match key.as_str() {
            "method" => question.method = value,
            "url" => question.url = value,
            "header" => question.headers.push(value),
            "listener" => question.listener = Some(value),
            "client" => question.client = Some(value),
            _ => return refuse(StatusCode::UNPROCESSABLE_ENTITY, &format!("unknown parameter `{key}`")),
        }
    }
    off_thread(move || match control.explain(&question) {
        Ok(explained) => Json(explained).into_response(),
        Err(ControlError::NotThere(why) | ControlError::Impossible(why)) => {
            refuse(StatusCode::UNPROCESSABLE_ENTITY, &why)
        }
    })
    .await
}
