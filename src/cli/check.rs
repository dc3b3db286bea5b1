//! `weir check` and `weir schema`: validation of a configuration file, and its JSON Schema. The configuration is never
//! run.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::config_file::ConfigArgument;
use super::problem_list::{self, count};
use super::{exit, say};
use crate::config::{self, Inspection, Problem, Severity, ValidatedConfig};
use crate::server;

/// The arguments of `weir check`.
#[derive(Debug, Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    file: ConfigArgument,
    /// Warnings fail the check as well
    #[arg(long)]
    strict: bool,
    /// Print the effective configuration as well: with all defaults, and without secrets
    #[arg(long)]
    effective: bool,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Validates the file and compares it with this host. Prints the problems and one summary line.
pub(super) fn check(options: &CheckOptions) -> u8 {
    let path = match options.file.find() {
        Ok(path) => path,
        Err(none) => {
            say(format_args!("weir: {none}"));
            return exit::PROBLEMS;
        }
    };
    let Inspection { mut problems, config } = config::inspect(&path);
    if let Some(config) = &config {
        problems.extend(server::preflight(config));
        problems.sort_by_key(|problem| (problem.file != path, problem.line, problem.column));
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let failed = errors > 0 || (options.strict && !problems.is_empty());
    let document = config.as_ref().filter(|_| options.effective).map(ValidatedConfig::document);
    let effective = document.and_then(|document| config::masked(document).ok());
    if options.json {
        print_json(&path, &problems, errors, effective.as_ref());
    } else if errors > 0 {
        problem_list::list(&problems);
    } else {
        problem_list::lines(&problems);
        say(summary(&path, config.as_ref(), problems.len(), failed));
        if let Some(document) = effective {
            say(format_args!("{document:#}"));
        }
    }
    if failed { exit::PROBLEMS } else { exit::DONE }
}

fn print_json(path: &Path, problems: &[Problem], errors: usize, effective: Option<&Value>) {
    let warnings = problems.len() - errors;
    let mut result = json!({ "file": path, "errors": errors, "warnings": warnings, "problems": problems });
    if let Some(document) = effective {
        result["effective"] = document.clone();
    }
    say(result);
}

fn summary(path: &Path, config: Option<&ValidatedConfig>, warnings: usize, failed: bool) -> String {
    let verdict = match (warnings, failed) {
        (0, _) => "ok".to_owned(),
        (warnings, false) => format!("ok, {}", count(warnings, "warning")),
        (warnings, true) => format!("{}, and --strict allows none", count(warnings, "warning")),
    };
    let mut text = format!("{}: {verdict}", path.display());
    if let Some(document) = config.map(ValidatedConfig::document) {
        let backends: usize = document.upstreams.values().map(|upstream| upstream.backends.len()).sum();
        text += &format!(
            ". {}, {}, {}, {}",
            count(document.listeners.len(), "listener"),
            count(document.routes.len(), "route"),
            count(document.upstreams.len(), "upstream"),
            count(backends, "backend"),
        );
    }
    text
}

/// Prints the JSON Schema.
pub(super) fn schema() -> u8 {
    say(format_args!("{:#}", config::json_schema()));
    exit::DONE
}
