//! Identifies the caller of the admin listener: by bearer token, by session cookie, or not at all.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, header};

use super::attempts::Attempts;
use super::token::AdminToken;

/// The state of the authorization middleware.
#[derive(Debug, Clone)]
pub(super) struct AuthLayer {
    pub(super) token: AdminToken,
    pub(super) attempts: Arc<Attempts>,
    /// Whether the listener's address is a loopback address, which only local clients reach.
    pub(super) loopback: bool,
    /// The name of the session cookie. It contains the port, because browsers share cookies among all ports of a host.
    pub(super) cookie: Arc<str>,
}

/// How a request is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// No token is configured, so every request is allowed.
    Anyone,
    /// By the bearer token.
    Bearer,
    /// By a session cookie.
    Browser,
    /// Not authenticated.
    Unknown,
}

impl AuthLayer {
    pub(super) fn new(token: AdminToken, loopback: bool, port: u16) -> Self {
        Self { token, attempts: Arc::default(), loopback, cookie: format!("weir_admin_{port}").into() }
    }

    /// The session id in the request's cookie.
    pub(super) fn session<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let fields = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == &*self.cookie).map(|(_, id)| id)
    }

    pub(super) fn caller(&self, headers: &HeaderMap) -> Caller {
        if !self.token.is_set() {
            Caller::Anyone
        } else if bearer(headers).is_some_and(|shown| self.token.is(shown)) {
            Caller::Bearer
        } else if self.session(headers).is_some_and(|id| self.token.has_session(id, Instant::now())) {
            Caller::Browser
        } else {
            Caller::Unknown
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, shown) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| shown.trim())
}
