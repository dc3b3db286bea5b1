//! `weir run`: serves in the foreground.

use std::io;

use super::config_file::{ConfigArgument, NoFile};
use super::{exit, problem_list, say};
use crate::config::{self, Problem};
use crate::server::{self, Inheritance, Program, RunOutcome, Signals, StartError, Upgradable};

/// Why the start failed.
pub(super) enum StartFailure {
    NoFile(NoFile),
    Problems(Vec<Problem>),
    Start(StartError),
}

/// Loads the file and runs until a signal ends the process. A failure of the start goes to stdout, or to the old process
/// if this is the new process of an upgrade.
pub(super) fn run(file: &ConfigArgument, signals: &Signals, inheritance: io::Result<Option<Inheritance>>) -> u8 {
    let program = Program::of_process();
    let inheritance = match inheritance {
        Ok(inheritance) => inheritance.unwrap_or_default(),
        Err(error) => {
            say(format_args!("weir: the inherited descriptors cannot be used: {error}"));
            return exit::FAILED;
        }
    };
    let report = inheritance.failure_report();
    let path = file.find().map_err(StartFailure::NoFile);
    let checked = path.and_then(|path| config::load(&path).map_err(StartFailure::Problems));
    let ended = checked.and_then(|checked| {
        let upgradable = Upgradable { inheritance, program: Some(program) };
        server::run(checked, signals, upgradable, |_| {}).map_err(StartFailure::from)
    });
    match (ended, report) {
        (Ok(outcome), _) => status(outcome),
        (Err(failure), Some(report)) => {
            report.send(&failure.text());
            failure.code()
        }
        (Err(failure), None) => failure.print(),
    }
}

/// The exit status of a finished run. Prints why a start failed.
pub(super) fn finish(ended: Result<RunOutcome, StartError>) -> u8 {
    ended.map_or_else(|error| StartFailure::from(error).print(), status)
}

fn status(outcome: RunOutcome) -> u8 {
    match outcome {
        RunOutcome::Clean => exit::DONE,
        RunOutcome::Cut | RunOutcome::Now => exit::FAILED,
    }
}

impl From<StartError> for StartFailure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(problems) => Self::Problems(problems),
            error => Self::Start(error),
        }
    }
}

impl StartFailure {
    fn code(&self) -> u8 {
        match self {
            Self::NoFile(_) | Self::Problems(_) => exit::PROBLEMS,
            Self::Start(_) => exit::FAILED,
        }
    }

    fn print(&self) -> u8 {
        match self {
            Self::NoFile(none) => say(format_args!("weir: {none}")),
            Self::Problems(problems) => problem_list::list(problems),
            Self::Start(error) => say(format_args!("weir: {error}")),
        }
        self.code()
    }

    /// One line for each problem.
    fn text(&self) -> String {
        match self {
            Self::NoFile(none) => none.to_string(),
            Self::Problems(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
            Self::Start(error) => error.to_string(),
        }
    }
}
