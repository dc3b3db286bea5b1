//! Prints problems: one line each; on a terminal in colours, with the line of the file and a caret below.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::say;
use crate::config::{self, Problem, Severity};

/// Longer lines are not shown.
const MAX_LINE_CHARS: usize = 300;

/// Every problem, then how many there are.
pub(super) fn list(problems: &[Problem]) {
    lines(problems);
    let warnings = problems.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let errors = count(problems.len() - warnings, "problem");
    say(if warnings == 0 { errors } else { format!("{errors}, {}", count(warnings, "warning")) });
}

/// Every problem.
pub(super) fn lines(problems: &[Problem]) {
    let terminal = std::io::stdout().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut files = HashMap::new();
    for problem in problems {
        if !terminal {
            say(problem);
            continue;
        }
        let text = files.entry(problem.file.clone()).or_insert_with(|| text_of(&problem.file));
        say(with_source(problem, text.as_deref(), colours));
    }
}

/// `1 problem`, `2 problems`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Standard input cannot be read again.
fn text_of(file: &PathBuf) -> Option<String> {
    if file == Path::new("-") { None } else { config::read_text(file).ok() }
}

/// The problem, and below it the line that it is in.
fn with_source(problem: &Problem, text: Option<&str>, colours: bool) -> String {
    let paint = |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let place = format!("{}:{}:{}", problem.file.display(), problem.line, problem.column);
    let (colour, word) = match problem.severity {
        Severity::Error => ("1;31", String::new()),
        Severity::Warning => ("1;33", format!("{}: ", paint("1;33", "warning"))),
    };
    let what = paint(colour, &format!("{}.", problem.what));
    let mut out = format!("{}: {word}{}: {what}", paint("1", &place), problem.path);
    if !problem.hint.is_empty() {
        out += &format!(" {}", paint("36", &problem.hint));
    }
    let line = text.and_then(|text| text.lines().nth(problem.line.checked_sub(1)?));
    if let Some(line) = line.filter(|line| !line.trim().is_empty() && line.chars().count() <= MAX_LINE_CHARS) {
        let number = problem.line.to_string();
        // A tab has the width that the terminal gives it, so the padding repeats it.
        let before = line.chars().take(problem.column.saturating_sub(1));
        let padding: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let shown: String = line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
        let (bar, gap) = (paint("34", "|"), " ".repeat(number.len()));
        out += &format!("\n  {} {bar} {shown}\n  {gap} {bar} {padding}{}", paint("34", &number), paint(colour, "^"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, column: usize) -> Problem {
        let (file, path) = ("w.yaml".into(), "log.level".into());
        let (severity, this_host) = (Severity::Error, false);
        let (what, hint) = ("`x` is none".into(), "Write `info`".into());
        Problem { severity, this_host, file, line, column, path, what, hint }
    }

    #[test]
    fn the_source_line_stands_below_the_problem_with_a_caret_at_the_column() {
        let shown = with_source(&problem(2, 11), Some("a: 1\nlog: { l: x }\n"), false);
        let expected = "w.yaml:2:11: log.level: `x` is none. Write `info`\n  2 | log: { l: x }\n    |           ^";
        assert_eq!(shown, expected);
        let tab = with_source(&problem(1, 2), Some("\tx"), false);
        assert!(tab.ends_with("\n  1 | \tx\n    | \t^"), "{tab:?}");
    }

    #[test]
    fn a_warning_says_so_before_the_path() {
        let shown = with_source(&problem(9, 1).into_warning(), None, false);
        assert_eq!(shown, "w.yaml:9:1: warning: log.level: `x` is none. Write `info`");
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let shown = with_source(&problem(1, 1), Some("x"), true);
        let mut plain = shown.clone();
        for code in ["\x1b[1;31m", "\x1b[1m", "\x1b[34m", "\x1b[36m", "\x1b[0m"] {
            assert!(shown.contains(code), "{code:?}");
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, with_source(&problem(1, 1), Some("x"), false));
    }

    #[test]
    fn without_the_line_the_problem_stands_alone() {
        for (line, text) in [(9, Some("x")), (1, None), (0, Some("x"))] {
            assert_eq!(with_source(&problem(line, 1), text, false).lines().count(), 1);
        }
    }
}
