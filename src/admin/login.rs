//! The browser login: a form that takes the token and opens a session. It needs no JavaScript.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Form;
use axum::extract::{FromRequest, Request, State};
use axum::response::{Html, IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, PreEscaped, html};
use serde::Deserialize;

use super::caller::{AuthLayer, Caller};
use super::origin;
use super::respond::refuse;
use super::token::SESSION_LIFETIME;

/// The path that receives the form.
pub(super) const LOGIN: &str = "/login";
/// The path that ends the session.
pub(super) const LOGOUT: &str = "/logout";

/// Maximum size of the form, in bytes.
pub(super) const MAX_FORM_BYTES: usize = 8 << 10;

/// Maximum time until the form has arrived. The client is not authenticated yet.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of the path to open after the login, in bytes.
const MAX_NEXT_BYTES: usize = 2048;

/// The Content-Security-Policy of the page: inline style, and a form to this origin. Framing is forbidden.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

const STYLE: &str = "
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:24rem;margin:20vh auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 1rem}label{display:block}
input,button{font:inherit;box-sizing:border-box;width:100%;padding:.5rem .7rem;margin:.3rem 0 .8rem}
.why{color:#c92a2a;min-height:1.5em;margin:0}
";

/// The client's IP address. `None` for a Unix socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerAddr(pub(super) Option<IpAddr>);

/// The fields of the form.
#[derive(Deserialize)]
struct Sent {
    token: String,
    #[serde(default)]
    next: String,
}

/// `GET /login`.
pub(super) async fn form(Extension(caller): Extension<Caller>) -> Response {
    if caller == Caller::Unknown { page(StatusCode::OK, "/", "") } else { go_to("/") }
}

/// `POST /login`.
pub(super) async fn log_in(State(guard): State<AuthLayer>, request: Request) -> Response {
    let headers = request.headers().clone();
    let peer = request.extensions().get::<PeerAddr>().and_then(|peer| peer.0);
    let Ok(form) = tokio::time::timeout(FORM_TIMEOUT, Form::<Sent>::from_request(request, &())).await else {
        return refuse(StatusCode::REQUEST_TIMEOUT, "the body took too long");
    };
    let Ok(Form(Sent { token, next })) = form else {
        return refuse(StatusCode::BAD_REQUEST, "the body is not a form with the field `token`");
    };
    let (next, now) = (safe(&next), Instant::now());
    if !guard.token.is_set() {
        return go_to(next);
    }
    if let Err(wait) = guard.attempts.count(peer, now) {
        let seconds = wait.as_secs().max(1);
        let why = format!("There were too many attempts. Try again in {seconds} s.");
        let refusal = failed(&headers, StatusCode::TOO_MANY_REQUESTS, next, &why);
        return ([(RETRY_AFTER, HeaderValue::from(seconds))], refusal).into_response();
    }
    match guard.token.log_in(token.trim(), now) {
        Ok(Some(id)) => {
            guard.attempts.succeeded(peer);
            tracing::info!(client = peer.map(tracing::field::display), "a browser logged in to the admin page");
            let secure = if origin::is_https(&headers) { "; Secure" } else { "" };
            with_cookie(&guard, &id, SESSION_LIFETIME, secure, go_to(next))
        }
        Ok(None) => {
            tracing::warn!(client = peer.map(tracing::field::display), "a login to the admin page failed");
            failed(&headers, StatusCode::UNAUTHORIZED, next, "This is not the token.")
        }
        Err(error) => {
            tracing::error!("a login to the admin page failed: no randomness: {error}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "no session can be opened; the log says why")
        }
    }
}

/// `POST /logout`.
pub(super) async fn log_out(State(guard): State<AuthLayer>, headers: HeaderMap) -> Response {
    if let Some(id) = guard.session(&headers) {
        guard.token.log_out(id);
    }
    with_cookie(&guard, "", Duration::ZERO, "", go_to("/"))
}

/// Whether the client accepts HTML.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.to_ascii_lowercase().contains("text/html"))
}

fn failed(headers: &HeaderMap, status: StatusCode, next: &str, why: &str) -> Response {
    if wants_html(headers) { page(status, next, why) } else { refuse(status, why) }
}

/// The login form. `next`: the path to open after the login. `why`: the error of the last attempt.
pub(super) fn page(status: StatusCode, next: &str, why: &str) -> Response {
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "Weir: log in" }
                meta name="viewport" content="width=device-width";
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Weir" }
                form method="post" action=(LOGIN) {
                    input type="hidden" name="next" value=(safe(next));
                    label for="token" { "Token of the admin API (" code { "admin.token_file" } ")" }
                    input #token name="token" type="password" autocomplete="current-password" required autofocus;
                    button { "Log in" }
                    p.why role="alert" { (why) }
                }
            }
        }
    };
    (status, [(CONTENT_SECURITY_POLICY, POLICY)], Html(html.into_string())).into_response()
}

/// Returns `next` if it is a path on this origin, else `/`. So the form cannot redirect to another site.
fn safe(next: &str) -> &str {
    let elsewhere =
        next.starts_with("//") || next.contains('\\') || next.starts_with(LOGIN) || next.starts_with(LOGOUT);
    let fits = next.starts_with('/') && next.len() <= MAX_NEXT_BYTES && next.bytes().all(|b| b.is_ascii_graphic());
    if fits && !elsewhere { next } else { "/" }
}

fn go_to(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

fn with_cookie(guard: &AuthLayer, id: &str, lifetime: Duration, secure: &str, response: Response) -> Response {
    let (name, seconds) = (&guard.cookie, lifetime.as_secs());
    let cookie = format!("{name}={id}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    match HeaderValue::try_from(cookie) {
        Ok(cookie) => ([(SET_COOKIE, cookie)], response).into_response(),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the session has no cookie"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_on_to_paths_of_this_address_only() {
        for path in ["/", "/api/v1/status?x=1", "/metrics"] {
            assert_eq!(safe(path), path);
        }
        let long = format!("/{}", "a".repeat(MAX_NEXT_BYTES));
        for path in ["", "//evil.example", "/\\evil.example", "http://evil.example", "/a\r\nb", "/ü", "/login", &long]
        {
            assert_eq!(safe(path), "/", "{path}");
        }
    }

    #[test]
    fn browsers_are_recognized_by_accept() {
        let accepts = |value: &str| wants_html(&HeaderMap::from_iter([(header::ACCEPT, value.parse().unwrap())]));
        assert!(accepts("text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(!accepts("*/*") && !accepts("application/json") && !wants_html(&HeaderMap::new()));
    }
}
