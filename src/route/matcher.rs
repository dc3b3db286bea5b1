//! One route's conditions: compiled, and asked one at a time.
//!
//! It never knows of other routes: which of several wins is the table's.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::Regex;

use crate::config::schema::Match;
use crate::config::values::HostPattern;
use crate::path;

/// The listener that a request came in on. It decides which routes exist for the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnListener<'a> {
    /// Its name. Without one, no route that names listeners exists.
    pub name: Option<&'a str>,
    /// It redirects to https: only routes that name it exist.
    pub redirects: bool,
}

/// The first condition that a request fails, in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// None of `listeners`.
    Listener,
    /// The listener redirects to https, and the route does not name it.
    Redirected,
    /// None of `hosts`.
    Host,
    /// Not the path.
    Path,
    /// None of `methods`.
    Method,
    /// This header is missing or has another value.
    Header(&'a HeaderName),
}

/// One route's conditions, and what it leads to.
#[derive(Debug, Clone)]
pub(super) struct Matcher<T> {
    /// Names in order; empty: any.
    listeners: Box<[Box<str>]>,
    /// Empty: any.
    pub(super) hosts: Vec<HostPattern>,
    pub(super) path: PathRule,
    methods: Vec<Method>,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) target: T,
}

#[derive(Debug, Clone)]
pub(super) enum PathRule {
    Exact(Box<str>),
    /// Without slashes at its end.
    Prefix(Box<str>),
    /// Shared: a clone of a `Regex` would bring a cache of its own for each host.
    Regex(Arc<Regex>),
    Any,
}

/// Whether the path's first `len` bytes are whole segments of it.
pub(super) fn covers(path: &str, len: usize) -> bool {
    path.starts_with('/') && (len == path.len() || path.as_bytes().get(len) == Some(&b'/'))
}

impl<T> Matcher<T> {
    pub(super) fn compile(matches: &Match, target: T) -> Result<Self, String> {
        let header = |(name, value): (&String, &String)| {
            let parsed =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
            let value =
                HeaderValue::from_str(value).map_err(|_| format!("`{value}` cannot be the value of {parsed}"))?;
            Ok::<_, String>((parsed, value))
        };
        let mut listeners: Vec<Box<str>> = matches.listeners.iter().map(|name| name.as_str().into()).collect();
        listeners.sort_unstable();
        Ok(Self {
            listeners: listeners.into(),
            hosts: matches.hosts.iter().map(canonical).collect(),
            path: PathRule::compile(matches)?,
            methods: matches.methods.iter().map(|method| method.as_http().clone()).collect(),
            headers: matches.headers.iter().map(header).collect::<Result<_, _>>()?,
            target,
        })
    }

    /// How many there are besides host and path.
    pub(super) fn conditions(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    /// Whether it names the listeners that it is for.
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

    /// The first condition of all that the request fails.
    pub(super) fn mismatch(
        &self,
        listener: OnListener<'_>,
        host: Option<&str>,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Mismatch<'_>> {
        if let Some(absent) = self.absent_on(listener) {
            return Some(absent);
        }
        if !self.takes_host(host) {
            return Some(Mismatch::Host);
        }
        if !self.path.takes(path) {
            return Some(Mismatch::Path);
        }
        self.condition_failed(method, headers)
    }

    fn takes_host(&self, host: Option<&str>) -> bool {
        let takes = |pattern: &HostPattern| match (pattern, host) {
            (_, None) => false,
            (HostPattern::Exact(name), Some(host)) => name == host,
            (HostPattern::Below(name), Some(host)) => {
                host.strip_suffix(name.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
            }
        };
        self.hosts.is_empty() || self.hosts.iter().any(takes)
    }

    /// Methods and headers: what is left to test once host and path fit. A header that comes several times has to have
    /// the value once.
    pub(super) fn condition_failed(&self, method: &Method, headers: &HeaderMap) -> Option<Mismatch<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return Some(Mismatch::Method);
        }
        let fails = |(name, value): &&(HeaderName, HeaderValue)| !headers.get_all(name).iter().any(|has| has == value);
        self.headers.iter().find(fails).map(|(name, _)| Mismatch::Header(name))
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

    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => path.starts_with(&**prefix) && covers(path, prefix.len()),
            Self::Regex(regex) => regex.is_match(path),
            Self::Any => true,
        }
    }
}

/// IPv6 hosts in the one writing that `route::host::normalise` has for them.
fn canonical(pattern: &HostPattern) -> HostPattern {
    match pattern {
        HostPattern::Exact(name) => {
            HostPattern::Exact(super::host::normalise(name.as_bytes()).map_or_else(|| name.clone(), Into::into))
        }
        HostPattern::Below(name) => HostPattern::Below(name.clone()),
    }
}
