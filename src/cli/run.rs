//! `weir run`: serves in the foreground.

use super::config_file::ConfigArgument;
use super::{exit, problem_list, say};
use crate::config;
use crate::server::{self, RunOutcome, Signals, StartError};

/// Loads the file and runs until a signal ends the process.
pub(super) fn run(file: &ConfigArgument, signals: &Signals) -> u8 {
    let path = match file.find() {
        Ok(path) => path,
        Err(none) => {
            say(format_args!("weir: {none}"));
            return exit::PROBLEMS;
        }
    };
    let checked = match config::load(&path) {
        Ok(checked) => checked,
        Err(problems) => {
            problem_list::list(&problems);
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
            problem_list::list(&problems);
            exit::PROBLEMS
        }
        Err(error) => {
            say(format_args!("weir: {error}"));
            exit::FAILED
        }
    }
}
