//! `weir run`: the real thing, in the foreground.

use std::path::Path;

use super::{check, exit, say};
use crate::config;
use crate::server::{self, Ended};

/// Loads the file and runs until a signal ends it.
pub(super) fn run(path: &Path) -> u8 {
    let checked = match config::load_to_run(path) {
        Ok(checked) => checked,
        Err(problems) => {
            check::list(&problems);
            return exit::PROBLEMS;
        }
    };
    finish(server::run(checked, |_| {}))
}

/// What a run that has ended means for the exit status.
pub(super) fn finish(ended: Result<Ended, server::StartError>) -> u8 {
    match ended {
        Ok(Ended::Clean) => exit::DONE,
        Ok(Ended::Cut(connections)) => {
            tracing::warn!(connections, "the grace is over: what was still open was cut");
            exit::FAILED
        }
        Ok(Ended::Now) => exit::FAILED,
        Err(error) => {
            say(format_args!("weir: {error}"));
            exit::FAILED
        }
    }
}
