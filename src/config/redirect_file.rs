//! The file of `routes[].redirects`: its lines, their look-up by path, and their problems.
//!
//! ```text
//! /old                 /new
//! /blog/*              https://blog.example.org/*   301
//! ```
//!
//! A FROM that ends with `/*` stands for this path and all paths below it. Then `*` at the end of TO stands for the rest
//! of the path. A whole path takes precedence over `/*`, and a longer `/*` over a shorter one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::path;

/// Maximum number of redirects in a file.
const MAX_LINES: usize = 100_000;

/// A browser gives up after this number of redirects.
const MAX_REDIRECTS: usize = 20;

/// The statuses of a redirect.
pub const REDIRECT_STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// One redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectLine {
    /// The line in the file, from 1.
    pub line: usize,
    /// A path or a URL, without its `*`.
    pub to: Box<str>,
    /// Whether the rest of the path is appended.
    pub appends_rest: bool,
    /// The status, if the line has one.
    pub status: Option<u16>,
}

/// A problem of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadRedirect {
    pub(super) line: usize,
    pub(super) what: String,
    pub(super) hint: &'static str,
}

type LinesByPath = HashMap<Box<str>, RedirectLine, foldhash::fast::RandomState>;

/// The redirects of a file. The cost of a look-up does not depend on their number.
#[derive(Debug, Clone, Default)]
pub struct RedirectTable {
    whole: LinesByPath,
    /// The length of the longest whole path. A longer path of a request is not hashed.
    longest: usize,
    /// Without the slash at their end.
    prefixes: LinesByPath,
    /// The lengths of the prefixes, descending, without duplicates. No other length is looked up, so that a path of a
    /// thousand segments costs no more than any other.
    lengths: Vec<usize>,
}

impl RedirectTable {
    /// Reads a file. Its problems have been reported before, so lines with problems are left out.
    pub fn read(bytes: &[u8]) -> Self {
        Self::parse(bytes).0
    }

    /// Reads a file, and returns the problems of its lines in their order.
    pub(super) fn checked(bytes: &[u8]) -> (Self, Vec<BadRedirect>) {
        let (table, mut bad) = Self::parse(bytes);
        bad.extend(table.loops());
        bad.sort_by_key(|bad| bad.line);
        (table, bad)
    }

    fn parse(bytes: &[u8]) -> (Self, Vec<BadRedirect>) {
        let (mut table, mut bad) = (Self::default(), Vec::new());
        let Ok(text) = std::str::from_utf8(bytes) else {
            let line = 1 + bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().matches('\n').count());
            let what = "the file is not UTF-8".to_owned();
            return (table, vec![BadRedirect { line, what, hint: "Percent-encode other characters" }]);
        };
        for (index, line) in text.lines().enumerate() {
            if let Err((what, hint)) = table.add(index + 1, line) {
                bad.push(BadRedirect { line: index + 1, what, hint });
            }
        }
        table.lengths = table.prefixes.keys().map(|prefix| prefix.len()).collect();
        table.lengths.sort_unstable_by(|a, b| b.cmp(a));
        table.lengths.dedup();
        table.longest = table.whole.keys().map(|path| path.len()).max().unwrap_or(0);
        (table, bad)
    }

    /// The number of redirects.
    pub fn len(&self) -> usize {
        self.whole.len() + self.prefixes.len()
    }

    /// Whether there is no redirect.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The redirect of a normalised path, and the rest of the path that `*` stands for, without a slash at its start.
    pub fn find<'p>(&self, path: &'p str) -> Option<(&RedirectLine, &'p str)> {
        if path.len() <= self.longest
            && let Some(found) = self.whole.get(path)
        {
            return Some((found, ""));
        }
        let from = self.lengths.partition_point(|length| *length > path.len());
        for &length in &self.lengths[from..] {
            // Whole segments only.
            if (length == path.len() || path.as_bytes()[length] == b'/')
                && let Some(found) = path.get(..length).and_then(|prefix| self.prefixes.get(prefix))
            {
                return Some((found, path[length..].trim_start_matches(['/', '\\'])));
            }
        }
        None
    }

    fn add(&mut self, line: usize, text: &str) -> Result<(), (String, &'static str)> {
        const FORM: &str = "Write `FROM TO [STATUS]`, such as `/old /new 301`";
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let mut parts = text.split_ascii_whitespace();
        let (Some(from), Some(to)) = (parts.next(), parts.next()) else {
            return Err((format!("`{text}` has no target"), FORM));
        };
        let status = parts.next();
        if let Some(more) = parts.next() {
            return Err((format!("`{more}` is too much"), FORM));
        }
        let is_prefix = from.ends_with("/*");
        let redirect = RedirectLine {
            line,
            appends_rest: is_prefix && to.ends_with('*'),
            to: target(to, is_prefix)?.into(),
            status: status.map(status_of).transpose()?,
        };
        let (paths, key) = match from.strip_suffix('*') {
            Some(front) if is_prefix => (&mut self.prefixes, path::configured_prefix(source(front)?)),
            _ => (&mut self.whole, path::configured(source(from)?)),
        };
        match paths.entry(key.into()) {
            Entry::Occupied(first) => {
                let first = first.get().line;
                Err((format!("`{from}` is in line {first} already"), "Keep one of them"))
            }
            Entry::Vacant(free) => {
                free.insert(redirect);
                if self.len() > MAX_LINES { Err((format!("more than {MAX_LINES} redirects"), "")) } else { Ok(()) }
            }
        }
    }

    /// The lines from which a browser would never arrive. Targets on other hosts are not followed.
    fn loops(&self) -> Vec<BadRedirect> {
        let whole = self.whole.iter().map(|(from, line)| (from.to_string(), line));
        // A rest that no line has as its own.
        let prefixes = self.prefixes.iter().map(|(from, line)| (format!("{from}/-rest-"), line));
        let loops = whole.chain(prefixes).filter_map(|(from, line)| {
            let through = self.endless(&from)?;
            let others: Vec<String> = through.iter().map(usize::to_string).collect();
            let what = format!("the redirect never ends; it passes line {}", others.join(", "));
            Some(BadRedirect {
                line: line.line,
                what,
                hint: "Let the last of them lead to a path that is not redirected",
            })
        });
        loops.collect()
    }

    /// The lines that a browser passes before it gives up. `None` if it arrives.
    fn endless(&self, from: &str) -> Option<Vec<usize>> {
        let (mut at, mut passed) = (from.to_owned(), Vec::new());
        for _ in 0..MAX_REDIRECTS {
            let (found, rest) = self.find(&at)?;
            if !passed.contains(&found.line) {
                passed.push(found.line);
            }
            let target = found.to.split(['?', '#']).next().filter(|to| to.starts_with('/'))?;
            at = path::configured(&format!("{target}{}", if found.appends_rest { rest } else { "" }));
        }
        Some(passed)
    }
}

/// FROM, if it is a path.
fn source(from: &str) -> Result<&str, (String, &'static str)> {
    if !from.starts_with('/') {
        return Err((format!("`{from}` is not a path"), "FROM begins with `/`"));
    }
    if from.contains(['?', '#']) {
        return Err((format!("`{from}` has a query or a fragment"), "FROM is a path only; the query is not compared"));
    }
    if from.contains('*') {
        return Err((
            format!("`{from}`: `*` stands only at the end, after `/`"),
            "Write `/old/*` for all paths below `/old`",
        ));
    }
    Ok(from)
}

/// TO without its `*`.
fn target(to: &str, is_prefix: bool) -> Result<&str, (String, &'static str)> {
    const FORM: &str = "TO is a path such as `/new`, or a URL such as `https://example.org/new`";
    let lower = to.to_ascii_lowercase();
    let host = ["https://", "http://"].iter().find_map(|scheme| lower.strip_prefix(scheme));
    let is_path = to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\");
    if !is_path && host.is_none_or(|host| host.is_empty() || host.starts_with(['/', '?', '#', '*'])) {
        return Err((format!("`{to}` is no target"), FORM));
    }
    if !to.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        return Err((format!("`{to}` has characters that a URL cannot contain"), "Percent-encode them"));
    }
    match to.strip_suffix('*') {
        None if to.contains('*') => Err((format!("`{to}`: `*` stands only at the end"), FORM)),
        None => Ok(to),
        Some(_) if !is_prefix => {
            Err((format!("`{to}` ends with `*`, and FROM does not"), "Write FROM as `/old/*` too"))
        }
        Some(front) if front.contains('*') || !front.ends_with('/') || front.contains(['?', '#']) => {
            Err((format!("`{to}`: `*` stands only at the end of the path, after `/`"), FORM))
        }
        Some(front) => Ok(front),
    }
}

fn status_of(text: &str) -> Result<u16, (String, &'static str)> {
    let status = text.parse().ok().filter(|status| REDIRECT_STATUSES.contains(status));
    status.ok_or_else(|| (format!("`{text}` is not a redirect's status"), "Write 301, 302, 303, 307 or 308"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "redirect_file_tests.rs"]
mod tests;
