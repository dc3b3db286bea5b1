//! The conditions of one route, compiled. Each condition can be tested alone.
//!
//! It knows no other routes: the route table decides which of several matches is used.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderName, Method};
use regex::Regex;

use super::matched_parts::{MatchedParts, query_values};
use crate::config::NetworkSet;
use crate::config::schema::{Match, ValueMatch};
use crate::config::values::HostPattern;
use crate::message::cookie;
use crate::path;

/// The listener that accepted the request. It decides which routes can match the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnListener<'a> {
    /// Its name. If it has none, no route that names listeners can match.
    pub name: Option<&'a str>,
    /// It redirects to https, so only routes that name it can match.
    pub redirects: bool,
}

/// The first condition that a request fails, in the order of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// The listener is not in `listeners`.
    Listener,
    /// The listener redirects to https, and the route does not name it.
    Redirected,
    /// The host matches none of `hosts`.
    Host,
    /// The path does not match.
    Path,
    /// The method is not in `methods`.
    Method,
    /// The condition on this header does not hold.
    Header(&'a HeaderName, &'a ValueMatch),
    /// The condition on this query parameter does not hold.
    Query(&'a str, &'a ValueMatch),
    /// The condition on this cookie does not hold.
    Cookie(&'a str, &'a ValueMatch),
    /// No network of `client` contains the client's address.
    Client,
}

/// The conditions of one route, and its target.
#[derive(Debug, Clone)]
pub(super) struct Matcher<T> {
    /// Sorted names. Empty: any listener.
    listeners: Box<[Box<str>]>,
    /// Empty: any host.
    pub(super) hosts: Vec<HostPattern>,
    pub(super) path: PathRule,
    methods: Vec<Method>,
    headers: Vec<(HeaderName, ValueMatch)>,
    query: Vec<(String, ValueMatch)>,
    cookies: Vec<(String, ValueMatch)>,
    /// `None`: any client.
    client: Option<NetworkSet>,
    pub(super) target: T,
}

#[derive(Debug, Clone)]
pub(super) enum PathRule {
    Exact(Box<str>),
    /// Without trailing slashes.
    Prefix(Box<str>),
    /// Shared, because a clone of a `Regex` would have its own cache for each host.
    Regex(Arc<Regex>),
    Any,
}

/// Whether the first `len` bytes of the path are whole segments.
pub(super) fn covers(path: &str, len: usize) -> bool {
    path.starts_with('/') && (len == path.len() || path.as_bytes().get(len) == Some(&b'/'))
}

impl<T> Matcher<T> {
    pub(super) fn compile(matches: &Match, target: T) -> Result<Self, String> {
        let header = |(name, value): (&String, &ValueMatch)| {
            let parsed =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
            Ok::<_, String>((parsed, value.clone()))
        };
        let named = |(name, value): (&String, &ValueMatch)| (name.clone(), value.clone());
        let mut listeners: Vec<Box<str>> = matches.listeners.iter().map(|name| name.as_str().into()).collect();
        listeners.sort_unstable();
        Ok(Self {
            listeners: listeners.into(),
            hosts: matches.hosts.iter().map(canonical).collect(),
            path: PathRule::compile(matches)?,
            methods: matches.methods.iter().map(|method| method.as_http().clone()).collect(),
            headers: matches.headers.iter().map(header).collect::<Result<_, _>>()?,
            query: matches.query.iter().map(named).collect(),
            cookies: matches.cookies.iter().map(named).collect(),
            client: (!matches.client.is_empty()).then(|| NetworkSet::new(matches.client.iter().copied())),
            target,
        })
    }

    /// The number of conditions besides host and path.
    pub(super) fn conditions(&self) -> usize {
        let fields = self.headers.len() + self.query.len() + self.cookies.len();
        usize::from(!self.methods.is_empty()) + usize::from(self.client.is_some()) + fields
    }

    /// Whether the route names listeners.
    pub(super) fn names_listeners(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Whether the route exists on this listener.
    pub(super) fn exists_on(&self, listener: OnListener<'_>) -> bool {
        self.absent_on(listener).is_none()
    }

    /// Why the route does not exist on this listener.
    fn absent_on(&self, listener: OnListener<'_>) -> Option<Mismatch<'_>> {
        if self.listeners.is_empty() {
            return listener.redirects.then_some(Mismatch::Redirected);
        }
        let named = |name: &str| self.listeners.binary_search_by(|known| (**known).cmp(name)).is_ok();
        if listener.name.is_some_and(named) { None } else { Some(Mismatch::Listener) }
    }

    /// The first of all conditions that the request fails.
    pub(super) fn mismatch(
        &self,
        listener: OnListener<'_>,
        host: Option<&str>,
        path: &str,
        method: &Method,
        parts: MatchedParts<'_>,
    ) -> Option<Mismatch<'_>> {
        if let Some(absent) = self.absent_on(listener) {
            return Some(absent);
        }
        if !self.matches_host(host) {
            return Some(Mismatch::Host);
        }
        if !self.path.matches(path) {
            return Some(Mismatch::Path);
        }
        self.condition_failed(method, parts)
    }

    fn matches_host(&self, host: Option<&str>) -> bool {
        let matches = |pattern: &HostPattern| match (pattern, host) {
            (_, None) => false,
            (HostPattern::Exact(name), Some(host)) => name == host,
            (HostPattern::Below(name), Some(host)) => {
                host.strip_suffix(name.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
        };
        self.hosts.is_empty() || self.hosts.iter().any(matches)
    }

    /// Tests the conditions besides host and path. If a header, a parameter or a cookie occurs several times, one of its
    /// values must fulfil the condition.
    pub(super) fn condition_failed(&self, method: &Method, parts: MatchedParts<'_>) -> Option<Mismatch<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return Some(Mismatch::Method);
        }
        for (name, condition) in &self.headers {
            if !condition.holds(parts.headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes()))) {
                return Some(Mismatch::Header(name, condition));
            }
        }
        for (name, condition) in &self.query {
            if !condition.holds(query_values(parts.query, name)) {
                return Some(Mismatch::Query(name, condition));
            }
        }
        for (name, condition) in &self.cookies {
            if !condition.holds(cookie::values(parts.headers, name.as_bytes()).map(Cow::Borrowed)) {
                return Some(Mismatch::Cookie(name, condition));
            }
        }
        let elsewhere = |set: &NetworkSet| !parts.client.is_some_and(|client| set.contains(client));
        self.client.as_ref().is_some_and(elsewhere).then_some(Mismatch::Client)
    }
}

impl PathRule {
    fn compile(matches: &Match) -> Result<Self, String> {
        match (&matches.path, &matches.path_prefix, &matches.path_regex) {
            (Some(path), None, None) if path.starts_with('/') || path == "*" => {
                Ok(Self::Exact(path::configured(path).into()))
            }
            (None, Some(path), None) if path.starts_with('/') => Ok(Self::Prefix(path::configured_prefix(path).into())),
            (Some(path), None, None) | (None, Some(path), None) => Err(format!("`{path}`: a path begins with `/`")),
            (None, None, Some(pattern)) => Ok(Self::Regex(Arc::new(pattern.regex().clone()))),
            (None, None, None) => Ok(Self::Any),
            _ => Err("only one of path, path_prefix and path_regex".into()),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => path.starts_with(&**prefix) && covers(path, prefix.len()),
            Self::Regex(regex) => regex.is_match(path),
            Self::Any => true,
        }
    }
}

/// Writes IPv6 hosts in the form of `route::host::normalise`.
fn canonical(pattern: &HostPattern) -> HostPattern {
    match pattern {
        HostPattern::Exact(name) => {
            HostPattern::Exact(super::host::normalise(name.as_bytes()).map_or_else(|| name.clone(), Into::into))
        }
        HostPattern::Below(name) => HostPattern::Below(name.clone()),
    }
}
