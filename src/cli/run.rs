//! `weir run`: serves in the foreground.

use std::path::Path;

use super::{check, exit, say};
use crate::config;
use crate::server::{self, RunOutcome, Signals, StartError};

/// Loads the file and runs until a signal ends the process.
pub(super) fn run(path: &Path, signals: &Signals) -> u8 {
    let checked = match config::load(path) {
        Ok(checked) => checked,
        Err(problems) => {
            check::list(&problems);
            return exit::PROBLEMS;
        }
    };
    finish(server::run(checked, signals, |_| {}))
}

/// The exit status of a finished run.
pub(super) fn finish(ended: Result<RunOutcome, StartError>) -> u8 {
    match ended {
        Ok(RunOutcome::Clean) => exit::DONE,
        Ok(RunOutcome::Cut | RunOutcome::Now) => exit::FAILED,
        Err(StartError::Config(problems)) => {
            check::list(&problems);
            exit::PROBLEMS
        }
        Err(error) => {
            say(format_args!("weir: {error}"));
            exit::FAILED
        }
    }
}
