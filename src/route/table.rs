//! The route table: finds the most specific route that a request matches. The cost does not grow with the number of
//! routes.
//!
//! Specificity decides, not order:
//! - Host: an exact host first, then the longest wildcard, then any host.
//! - Path: an exact path first, then the longest prefix, then regular expressions, then any path.
//! - More conditions first. Methods count as one condition, each header, query parameter and cookie as one,
//!   `client` as one.
//! - A route that names the listener comes before one that names none.
//! - Last, the order in the file.
//!
//! If a later test fails, the next route in this order is tested. So the routes for `*.example.org` also serve
//! `a.example.org` if its own routes do not match.
//!
//! A route that names listeners never matches on another listener. It is skipped like a route with another method, so
//! it never hides a less specific route.
//!
//! A prefix covers whole segments, and its trailing slashes do not count: `/api` and `/api/` both match `/api`, `/api/`
//! and `/api/x`, but not `/apix`. Paths are compared byte by byte, including case and percent-encoding, in the normal
//! form of `path`. Configured paths are normalised when the table is built.

use std::cmp::Reverse;
use std::iter;
use std::sync::Arc;

use http::Method;
use regex::Regex;

use super::longest_match::{ByText, LongestMatch};
pub use super::matched_parts::MatchedParts;
use super::matcher::{Matcher, PathRule, covers};
pub use super::matcher::{Mismatch, OnListener};
use crate::config::schema::Match;
use crate::config::values::HostPattern;

/// The position of a route in the file.
type Index = usize;

/// All routes, by their hosts and paths.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    rules: Vec<Matcher<T>>,
    /// Whether a route names listeners.
    names_listeners: bool,
    exact: ByText<Paths>,
    below: LongestMatch<Paths>,
    any: Paths,
}

/// The routes of one host. Lists are in order of precedence.
#[derive(Debug, Clone, Default)]
struct Paths {
    exact: ByText<Vec<Index>>,
    prefix: LongestMatch<Vec<Index>>,
    regex: Vec<(Arc<Regex>, Index)>,
    any: Vec<Index>,
}

impl<T> RouteTable<T> {
    /// Builds the table from the matches in the file's order, with their targets.
    ///
    /// # Errors
    /// A path or a header is not valid, or a match has several paths.
    pub fn build<'m>(routes: impl Iterator<Item = (&'m Match, T)>) -> Result<Self, String> {
        let rules = routes.map(|(matches, target)| Matcher::compile(matches, target)).collect::<Result<Vec<_>, _>>()?;
        let mut order: Vec<Index> = (0..rules.len()).collect();
        // The sort is stable, so equal routes keep the order of the file.
        order.sort_by_key(|&index| (Reverse(rules[index].conditions()), Reverse(rules[index].names_listeners())));
        let mut table = Self {
            rules: Vec::new(),
            names_listeners: rules.iter().any(Matcher::names_listeners),
            exact: ByText::default(),
            below: LongestMatch::default(),
            any: Paths::default(),
        };
        for index in order {
            let rule = &rules[index];
            if rule.hosts.is_empty() {
                table.any.insert(&rule.path, index);
            }
            for host in &rule.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => table.exact.entry(name.as_str().into()).or_default(),
                    HostPattern::Below(name) => table.below.entry(name),
                };
                paths.insert(&rule.path, index);
            }
        }
        table.below.finish();
        table
            .exact
            .values_mut()
            .chain(table.below.values_mut())
            .chain([&mut table.any])
            .for_each(|p| p.prefix.finish());
        table.rules = rules;
        Ok(table)
    }

    /// The route for a request. `host` must be normalised by `route::host::normalise`, and `path` is without the query.
    pub fn find<'r>(
        &self,
        listener: OnListener<'_>,
        host: Option<&str>,
        path: &str,
        method: &Method,
        parts: impl Into<MatchedParts<'r>>,
    ) -> Option<&T> {
        let parts = parts.into();
        let mut candidates = self.scopes(host).flat_map(|paths| paths.candidates(path)).map(|index| &self.rules[index]);
        let matches = |rule: &&Matcher<T>| rule.exists_on(listener) && rule.condition_failed(method, parts).is_none();
        candidates.find(matches).map(|rule| &rule.target)
    }

    /// Whether a route names listeners. If none does, the listener's name does not matter.
    pub fn names_listeners(&self) -> bool {
        self.names_listeners
    }

    /// For each route in the file's order, the first condition that the request fails. The first route without a
    /// failure is not always the one that `find` returns, because specificity decides. It tests every route, so it is
    /// for operators and not for requests.
    pub fn mismatches<'a>(
        &'a self,
        listener: OnListener<'a>,
        host: Option<&'a str>,
        path: &'a str,
        method: &'a Method,
        parts: impl Into<MatchedParts<'a>>,
    ) -> impl Iterator<Item = (&'a T, Option<Mismatch<'a>>)> {
        let parts = parts.into();
        self.rules.iter().map(move |rule| (&rule.target, rule.mismatch(listener, host, path, method, parts)))
    }

    /// The targets, in the file's order.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.rules.iter().map(|rule| &rule.target)
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The groups of routes that may match this host, the most specific first.
    fn scopes<'a>(&'a self, host: Option<&'a str>) -> impl Iterator<Item = &'a Paths> {
        let exact = host.and_then(|host| self.exact.get(host));
        let below = host.into_iter().flat_map(|host| {
            // At least one label precedes the dot: `*.example.org` does not match `example.org`.
            self.below.longest_first(host.len().saturating_sub(2), move |len| {
                let (front, name) = host.split_at_checked(host.len() - len)?;
                front.ends_with('.').then_some(name)
            })
        });
        exact.into_iter().chain(below).chain(iter::once(&self.any))
    }
}

impl Paths {
    /// Adds a route. Routes must be added in order of precedence. A route that has the same host twice is added once.
    fn insert(&mut self, path: &PathRule, index: Index) {
        let list = match path {
            PathRule::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathRule::Prefix(prefix) => self.prefix.entry(prefix),
            PathRule::Any => &mut self.any,
            PathRule::Regex(regex) => return self.regex.push((regex.clone(), index)),
        };
        if list.last() != Some(&index) {
            list.push(index);
        }
    }

    /// The routes whose path matches, the most specific first.
    fn candidates<'a>(&'a self, path: &'a str) -> impl Iterator<Item = Index> {
        let exact = self.exact.get(path).into_iter().flatten();
        let prefix =
            self.prefix.longest_first(path.len(), move |len| covers(path, len).then(|| &path[..len])).flatten();
        let regex = self.regex.iter().filter(move |(regex, _)| regex.is_match(path)).map(|(_, index)| index);
        exact.chain(prefix).chain(regex).chain(&self.any).copied()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
