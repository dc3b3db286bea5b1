//! `weir check` and `weir schema`: validation of a configuration file, and its JSON Schema. The configuration is never
//! run.

use std::path::Path;

use super::{exit, say};
use crate::config;

/// Validates the file. Prints one summary line if there is no problem.
pub(super) fn check(path: &Path) -> u8 {
    match config::load(path) {
        Ok(checked) => {
            let document = checked.document();
            let backends: usize = document.upstreams.values().map(|upstream| upstream.backends.len()).sum();
            say(format_args!(
                "{}: ok. {}, {}, {}, {}",
                path.display(),
                count(document.listeners.len(), "listener"),
                count(document.routes.len(), "route"),
                count(document.upstreams.len(), "upstream"),
                count(backends, "backend"),
            ));
            exit::DONE
        }
        Err(problems) => {
            list(&problems);
            exit::PROBLEMS
        }
    }
}

/// Prints each problem on its own line, then their number.
pub(super) fn list(problems: &[config::Problem]) {
    for problem in problems {
        say(problem);
    }
    say(count(problems.len(), "problem"));
}

/// Prints the JSON Schema.
pub(super) fn schema() -> u8 {
    say(format_args!("{:#}", config::json_schema()));
    exit::DONE
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
