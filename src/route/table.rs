//! The table of routes: the most specific one that a request matches, at a cost that does not grow with their number.
//!
//! Specificity, not order: exact host, then the longest wildcard, then any host; within those the exact path, then the
//! longest prefix, then regular expressions, then any path; within those more conditions (methods count as one, each
//! header as one); a route that names the listener comes before one that names none; the order in the file comes last.
//! What fails on a later test falls back to the next in that order, so the routes for `*.example.org` also serve
//! `a.example.org` where its own routes do not match.
//!
//! A route that names listeners does not exist on any other listener. It is skipped like one whose method differs, so it
//! never hides a less specific route.
//!
//! A prefix covers whole segments, and slashes at its end do not count: `/api` and `/api/` both match `/api`, `/api/`
//! and `/api/x`, not `/apix`. Paths are compared byte for byte, case and percent-encoding included, in the normal form of
//! `path`: those of the file are brought into it when the table is built.

use std::cmp::Reverse;
use std::iter;
use std::sync::Arc;

use http::{HeaderMap, Method};
use regex::Regex;

use super::longest_match::{ByText, LongestMatch};
use super::matcher::{Matcher, PathRule, covers};
pub use super::matcher::{Mismatch, OnListener};
use crate::config::schema::Match;
use crate::config::values::HostPattern;

/// Where a route stands in the file.
type Index = usize;

/// All routes, by what they match.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    rules: Vec<Matcher<T>>,
    /// Some route names listeners.
    names_listeners: bool,
    exact: ByText<Paths>,
    below: LongestMatch<Paths>,
    any: Paths,
}

/// The routes of one host; lists are in order of precedence.
#[derive(Debug, Clone, Default)]
struct Paths {
    exact: ByText<Vec<Index>>,
    prefix: LongestMatch<Vec<Index>>,
    regex: Vec<(Arc<Regex>, Index)>,
    any: Vec<Index>,
}

impl<T> RouteTable<T> {
    /// From the matches in the file's order and what they lead to.
    ///
    /// # Errors
    /// Says which path or header is none, or that a match has several paths.
    pub fn build<'m>(routes: impl Iterator<Item = (&'m Match, T)>) -> Result<Self, String> {
        let rules = routes.map(|(matches, target)| Matcher::compile(matches, target)).collect::<Result<Vec<_>, _>>()?;
        let mut order: Vec<Index> = (0..rules.len()).collect();
        // Stable: equals keep the order of the file.
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

    /// The route for a request. `host` is as `route::host::normalise` writes it, `path` without the query.
    pub fn find(
        &self,
        listener: OnListener<'_>,
        host: Option<&str>,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<&T> {
        let mut candidates = self.scopes(host).flat_map(|paths| paths.candidates(path)).map(|index| &self.rules[index]);
        let takes = |rule: &&Matcher<T>| rule.exists_on(listener) && rule.condition_failed(method, headers).is_none();
        candidates.find(takes).map(|rule| &rule.target)
    }

    /// Whether some route names the listeners that it is for. Without one, the listener's name does not matter.
    pub fn names_listeners(&self) -> bool {
        self.names_listeners
    }

    /// For each route in the file's order, what keeps the request from it; the first without is not always the one that
    /// `find` takes, as specificity decides. Looks at every route: for questions of operators, not for requests.
    pub fn mismatches<'a>(
        &'a self,
        listener: OnListener<'a>,
        host: Option<&'a str>,
        path: &'a str,
        method: &'a Method,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = (&'a T, Option<Mismatch<'a>>)> {
        self.rules.iter().map(move |rule| (&rule.target, rule.mismatch(listener, host, path, method, headers)))
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The groups of routes that may be for this host, the most specific first.
    fn scopes<'a>(&'a self, host: Option<&'a str>) -> impl Iterator<Item = &'a Paths> {
        let exact = host.and_then(|host| self.exact.get(host));
        let below = host.into_iter().flat_map(|host| {
            // At least one label stands before the dot; `*.example.org` is not for `example.org`.
            self.below.longest_first(host.len().saturating_sub(2), move |len| {
                let (front, name) = host.split_at_checked(host.len() - len)?;
                front.ends_with('.').then_some(name)
            })
        });
        exact.into_iter().chain(below).chain(iter::once(&self.any))
    }
}

impl Paths {
    /// Rules are put in by order of precedence. A route that has one host twice is in the list once.
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

    /// Those whose path matches, the most specific first.
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
