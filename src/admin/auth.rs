//! Authorization of admin requests: bearer token or session cookie, Host, Origin and Content-Type.
//!
//! It never reads anything else of a request. It answers the requests that it refuses.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};

use super::caller::{AuthLayer, Caller};
use super::login;
use super::origin::{self, Origin};
use super::respond::refuse;

/// The middleware that passes or refuses a request.
pub(super) async fn check(State(guard): State<AuthLayer>, mut request: Request, next: Next) -> Response {
    // Load balancers and kubelets have no token. The health endpoints reveal nothing secret.
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    let caller = guard.caller(request.headers());
    match judge(&guard, caller, &request) {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal,
    }
}

// The error is a large response, but refusals are rare.
#[allow(clippy::result_large_err)]
fn judge(guard: &AuthLayer, caller: Caller, request: &Request) -> Result<(), Response> {
    let (headers, method, path) = (request.headers(), request.method(), request.uri().path());
    if caller == Caller::Unknown && path != login::LOGIN {
        return Err(unauthorized(headers, method, request.uri()));
    }
    // Without a token, only the loopback address protects the API. DNS rebinding defeats this: a web page under a name
    // that resolves to 127.0.0.1 could send requests. Such a page cannot use an IP address or `localhost` as its host.
    if caller == Caller::Anyone && guard.loopback && !is_local(headers) {
        return Err(refuse(StatusCode::FORBIDDEN, "the Host must be `localhost` or an IP address here"));
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    match origin::of(headers) {
        Origin::Same => {}
        // Programs send no Origin. Browsers send it with every change, so a change with a cookie and without Origin is
        // refused.
        Origin::Missing if caller != Caller::Browser => {}
        Origin::Missing => return Err(refuse(StatusCode::FORBIDDEN, "a change by a browser needs an Origin")),
        Origin::Other(what) => return Err(refuse(StatusCode::FORBIDDEN, &what)),
    }
    // A browser sends JSON to another origin only after a CORS preflight, which this listener never grants.
    if !matches!(path, "/api/v1/diff" | login::LOGIN | login::LOGOUT) && !is_json(headers) {
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "changes need `Content-Type: application/json`"));
    }
    Ok(())
}

/// A browser that requests a page gets the login form. Programs get a JSON error.
fn unauthorized(headers: &HeaderMap, method: &Method, uri: &Uri) -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    if login::wants_html(headers) && matches!(*method, Method::GET | Method::HEAD) {
        let next = uri.path_and_query().map_or("/", |wanted| wanted.as_str());
        return (challenge, login::page(StatusCode::UNAUTHORIZED, next, "")).into_response();
    }
    (challenge, refuse(StatusCode::UNAUTHORIZED, "a bearer token is needed")).into_response()
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
    use std::time::Instant;

    use super::super::token::AdminToken;
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn tokens_are_compared_completely() {
        let guard = AuthLayer::new(AdminToken::new(Some("abc".into())), true, 1);
        for (value, good) in [
            ("Bearer abc", true),
            ("bearer  abc", true),
            ("Bearer ab", false),
            ("Bearer abcd", false),
            ("abc", false),
            ("Basic YWJjOmFiYw==", false),
        ] {
            let expected = if good { Caller::Bearer } else { Caller::Unknown };
            assert_eq!(guard.caller(&with(header::AUTHORIZATION, value)), expected, "{value}");
        }
        assert_eq!(guard.caller(&HeaderMap::new()), Caller::Unknown);
    }

    #[test]
    fn a_session_is_found_among_other_cookies_and_only_for_its_own_port() {
        let guard = AuthLayer::new(AdminToken::new(Some("abc".into())), true, 9180);
        let id = guard.token.log_in("abc", Instant::now()).unwrap().unwrap();
        for (value, good) in [
            (format!("weir_admin_9180={id}"), true),
            (format!("a=b; weir_admin_9180={id}; c"), true),
            (format!("weir_admin_9181={id}"), false),
            (format!("weir_admin_9180=x{id}"), false),
            ("weir_admin_9180=".to_owned(), false),
        ] {
            let expected = if good { Caller::Browser } else { Caller::Unknown };
            assert_eq!(guard.caller(&with(header::COOKIE, &value)), expected, "{value}");
        }
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
