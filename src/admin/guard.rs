//! Who may ask: the bearer token, the Host header, the content type of changes. It answers those who may not, and
//! looks at nothing else of a request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};

use super::routes::refuse;

/// The bearer token; a reload may change it. Empty: none is asked for.
#[derive(Debug, Clone, Default)]
pub struct Token(Arc<ArcSwapOption<String>>);

impl Token {
    /// This token from the start.
    pub fn new(token: Option<String>) -> Self {
        let guard = Self::default();
        guard.set(token);
        guard
    }

    /// From now on this token.
    pub fn set(&self, token: Option<String>) {
        self.0.store(token.map(Arc::new));
    }
}

/// What the guard needs to know.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) token: Token,
    pub(super) loopback: bool,
}

/// Lets a request pass or refuses it.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    // Load balancers and kubelets have no token, and what they learn is no secret.
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    match guard.judge(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

impl Guard {
    // The refusal is a response: large, but made for few.
    #[allow(clippy::result_large_err)]
    fn judge(&self, request: &Request) -> Result<(), Response> {
        match &*self.token.0.load() {
            Some(token) if !has_token(request.headers(), token) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                return Err((challenge, refuse(StatusCode::UNAUTHORIZED, "a bearer token is needed")).into_response());
            }
            Some(_) => {}
            // Without a token loopback is the only wall, and a web page whose name resolves to 127.0.0.1 climbs it.
            // It cannot do so with an address as its host.
            None if self.loopback && !is_local(request.headers()) => {
                let what = "the Host must be `localhost` or an IP address here";
                return Err(refuse(StatusCode::FORBIDDEN, what));
            }
            None => {}
        }
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        // A browser sends JSON across sites only after asking, and nobody here answers that.
        if changes && request.uri().path() != "/api/v1/diff" && !is_json(request.headers()) {
            return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "changes need `Content-Type: application/json`"));
        }
        Ok(())
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown =
        value.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    shown.is_some_and(|(_, shown)| same(shown.trim().as_bytes(), token.as_bytes()))
}

/// Compares in a time that tells of the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    a.len() == b.len() && differences == 0
}

fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|value| value.to_str().ok()) else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn tokens_are_compared_whole() {
        for (value, good) in
            [("Bearer abc", true), ("bearer  abc", true), ("Bearer ab", false), ("Bearer abcd", false), ("abc", false)]
        {
            assert_eq!(has_token(&with(header::AUTHORIZATION, value), "abc"), good, "{value}");
        }
        assert!(!has_token(&HeaderMap::new(), "abc"));
    }

    #[test]
    fn a_name_that_is_not_localhost_is_not_local() {
        for (value, good) in [
            ("localhost", true),
            ("LOCALHOST:9180", true),
            ("127.0.0.1:9180", true),
            ("[::1]:9180", true),
            ("evil.example:9180", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(&with(header::HOST, value)), good, "{value}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }

    #[test]
    fn only_json_is_json() {
        assert!(is_json(&with(header::CONTENT_TYPE, "application/json; charset=utf-8")));
        assert!(!is_json(&with(header::CONTENT_TYPE, "text/plain")));
        assert!(!is_json(&HeaderMap::new()));
    }
}
