//! Identifies the caller of the admin listener: by bearer token, by session cookie, or not at all.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, header};

use super::attempts::Attempts;
use super::token::AdminToken;

/// What the guard needs to know.
#[derive(Debug, Clone)]
pub(super) struct AuthLayer {
    pub(super) token: AdminToken,
    pub(super) attempts: Arc<Attempts>,
    /// Only this machine reaches the address, by a name or an IP address.
    pub(super) loopback: bool,
    /// The session cookie. It has the port in it, as browsers give cookies to all ports of a host.
    pub(super) cookie: Arc<str>,
}

/// By which right a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// There is no token, so none is asked for.
    Anyone,
    /// With the bearer token.
    Bearer,
    /// With the cookie of a session.
    Browser,
    /// By none.
    Unknown,
}

impl AuthLayer {
    pub(super) fn new(token: AdminToken, loopback: bool, port: u16) -> Self {
        Self { token, attempts: Arc::default(), loopback, cookie: format!("weir_admin_{port}").into() }
    }

    /// The id of the session that a request names.
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
