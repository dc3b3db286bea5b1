//! The HTML status page: the document around `page_markup`, and its Content-Security-Policy.
//!
//! It loads nothing. `maud` escapes every value, because names come from the operator and reasons may contain text of a
//! backend.

use std::sync::{Arc, LazyLock};

use axum::Extension;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::caller::Caller;
use super::live::LivePage;
use super::login::LOGOUT;
use super::page_elements::TimeStyle;
use super::page_markup;
use super::page_model::ViewQuery;
use super::respond::off_thread;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page's own style and script by hash, and requests to this origin. Nothing else runs or is loaded.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// `GET /`.
pub(super) async fn show(
    State(live): State<Arc<LivePage>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ViewQuery>,
) -> Response {
    off_thread(move || {
        let page = live.render(query, |model| document(page_markup::main(model, TimeStyle::Age), caller).into_string());
        ([(header::CONTENT_SECURITY_POLICY, POLICY.clone())], Html(page)).into_response()
    })
    .await
}

fn document(main: Markup, caller: Caller) -> Markup {
    let host = page_markup::host_name();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Weir on " (host) }
                meta name="viewport" content="width=device-width, initial-scale=1";
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Weir on " (host) }
                    p #link .dim role="status" { "Reload the page to see changes." }
                }
                (main)
                footer {
                    p.dim {
                        a href="/metrics" { "metrics" } " · " a href="/api/v1/status" { "status" } " · "
                        a href="/api/v1/config" { "configuration" }
                    }
                    @if caller == Caller::Browser {
                        form method="post" action=(LOGOUT) { button { "Log out" } }
                    }
                }
                dialog #confirm aria-labelledby="question" {
                    form method="dialog" {
                        p #question { }
                        label #weight-label for="weight" {
                            "Weight"
                            input #weight type="number" min="0" max="256" value="1";
                        }
                        p #answer role="alert" { }
                        button #yes { "Confirm" } " "
                        button #no type="button" { "Cancel" }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}
