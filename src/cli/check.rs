//! `weir check` and `weir schema`: validation of a configuration file, and its JSON Schema. The configuration is never
//! run.

use super::config_file::ConfigArgument;
use super::problem_list::{self, count};
use super::{exit, say};
use crate::config;

/// Validates the file. Prints one summary line if there is no problem.
pub(super) fn check(file: &ConfigArgument) -> u8 {
    let path = match file.find() {
        Ok(path) => path,
        Err(none) => {
            say(format_args!("weir: {none}"));
            return exit::PROBLEMS;
        }
    };
    match config::load(&path) {
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
            config::without_effect(document).iter().for_each(|what| say(format_args!("warning: {what}")));
            exit::DONE
        }
        Err(problems) => {
            problem_list::list(&problems);
            exit::PROBLEMS
        }
    }
}

/// Prints the JSON Schema.
pub(super) fn schema() -> u8 {
    say(format_args!("{:#}", config::json_schema()));
    exit::DONE
}
