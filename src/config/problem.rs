//! A problem: an error or a warning about a configuration, with its position and a hint.
//!
//! It never contains the value of an environment variable. Code that creates a problem must quote the text in the file.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::node::Position;
use crate::severity::Severity;

/// Maximum number of collected problems.
pub(super) const MAX_PROBLEMS: usize = 250;

/// One error or warning about a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it rejects the configuration.
    pub severity: Severity,
    /// It depends on this host or on the user that Weir runs as: on another host, the same file may have no problem.
    #[serde(skip)]
    pub this_host: bool,
    /// The file, as given by the caller.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The path of the key: `upstreams.api.backends[0].weight`; `document` if it concerns the whole file.
    pub path: String,
    /// The problem, without a full stop.
    pub what: String,
    /// The hint; may be empty.
    pub hint: String,
}

impl Problem {
    /// The same finding as a warning. A finding about this host says so.
    pub fn into_warning(mut self) -> Self {
        if self.this_host && self.severity == Severity::Error {
            self.what = format!("this host: {}", self.what);
        }
        self.severity = Severity::Warning;
        self
    }

    /// Marks it as a finding about this host.
    pub fn of_this_host(mut self) -> Self {
        self.this_host = true;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        write!(f, "{}: {}.", self.path, self.what)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " {}", self.hint) }
    }
}

/// The collected problems of one file.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl Problems {
    /// An empty collection.
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), problems: Vec::new() }
    }

    /// Adds a problem, up to `MAX_PROBLEMS`.
    pub(super) fn add(
        &mut self,
        mark: Position,
        path: impl fmt::Display,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.full() {
            return;
        }
        let path = Some(path.to_string()).filter(|p| !p.is_empty()).unwrap_or_else(|| "document".into());
        let problem = Problem {
            severity: Severity::Error,
            this_host: false,
            file: self.file.clone(),
            line: mark.line,
            column: mark.column,
            path: one_line(path),
            what: one_line(what.into()),
            hint: one_line(hint.into()),
        };
        // Several routes may have inherited it.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Adds a problem that depends on this host.
    pub(super) fn add_of_host(
        &mut self,
        mark: Position,
        path: impl fmt::Display,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let before = self.problems.len();
        self.add(mark, path, what, hint);
        self.problems[before..].iter_mut().for_each(|problem| problem.this_host = true);
    }

    /// Adds the problems of another file, up to `MAX_PROBLEMS`.
    pub(super) fn extend(&mut self, others: Vec<Problem>) {
        let free = MAX_PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(others.into_iter().take(free));
    }

    /// Whether `MAX_PROBLEMS` is reached.
    pub(super) fn full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// Whether there is no problem.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems so far.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// Sorted by position, without duplicates. Problems of other files come last.
    pub(super) fn sorted(mut self) -> Vec<Problem> {
        let own = self.file;
        let order = |problem: &Problem| {
            let Problem { file, line, column, path, what, hint, .. } = problem.clone();
            (file != own, file, line, column, path, what, hint)
        };
        self.problems.sort_by_cached_key(order);
        self.problems.dedup();
        self.problems
    }
}

/// A message may quote any text. This keeps it on one line of limited length, without control characters.
fn one_line(text: String) -> String {
    const MAX_MESSAGE_CHARS: usize = 400;
    if text.len() <= MAX_MESSAGE_CHARS && !text.contains(char::is_control) {
        return text;
    }
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.take(MAX_MESSAGE_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The most similar name in `known`; `None` if no name is similar enough.
pub(super) fn closest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |text: &str| text.to_lowercase().replace('-', "_");
    let written = normal(written);
    if written.len() > 128 {
        return None;
    }
    let far = (written.chars().count() / 3).clamp(1, 4);
    let distance = |name: &str| {
        let name = normal(name);
        let begins =
            written.len() >= 3 && name.len() >= 3 && (name.starts_with(&written) || written.starts_with(&name));
        if begins { 1 } else { strsim::damerau_levenshtein(&written, &name) }
    };
    let nearest = known.into_iter().map(|name| (distance(name), name)).filter(|(d, _)| *d <= far);
    nearest.min_by_key(|(d, _)| *d).map(|(_, name)| name)
}

/// The hint for an unknown name: the most similar known name, or the list of all known names.
pub(super) fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = closest(written, known.clone()) {
        return format!("Did you mean `{name}`?");
    }
    let names: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => String::new(),
        1 => format!("Known is {}", names[0]),
        2..=20 => format!("Known are {}", names.join(", ")),
        n => format!("Known are {} and {} more", names[..10].join(", "), n - 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line() {
        let mut problems = Problems::new(Path::new("weir.yaml"));
        problems.add(
            Position { line: 3, column: 5 },
            "log.level",
            "`loud` is none of its values",
            "Did you mean `info`?",
        );
        problems.add(Position { line: 1, column: 1 }, "", "is empty", "");
        let lines: Vec<String> = problems.sorted().iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "weir.yaml:1:1: document: is empty.");
        assert_eq!(lines[1], "weir.yaml:3:5: log.level: `loud` is none of its values. Did you mean `info`?");
    }

    #[test]
    fn the_hint_is_a_similar_name_or_the_list_of_names() {
        let known = ["round_robin", "weighted_round_robin", "least_connections"];
        assert_eq!(did_you_mean("least-conections", known), "Did you mean `least_connections`?");
        assert_eq!(did_you_mean("zzz", ["a", "b"]), "Known are `a`, `b`");
        assert_eq!(closest("warning", ["info", "warn"]), Some("warn"));
        assert_eq!(closest("api", ["web"]), None);
    }
}
