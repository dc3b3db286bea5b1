//! Opens the access log and the process log at start, and switches them on a reload.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use crate::config::Disk;
use crate::config::schema::Document;
use crate::config::values::LogTarget;
use crate::reload::Logs;
use crate::telemetry::process_log::{self, ProcessLog};
use crate::telemetry::{AccessLog, AccessRules, Metrics, Sink};

/// Both logs.
#[derive(Debug, Clone)]
pub(super) struct BothLogs {
    pub(super) access: Arc<AccessLog>,
    /// `None` if another global tracing subscriber was installed before.
    process: Option<ProcessLog>,
    /// Base directory of relative paths in the configuration.
    folder: PathBuf,
}

impl BothLogs {
    pub(super) fn open(document: &Document, folder: &Path, metrics: &Metrics) -> Result<Self, StartError> {
        process_log::start()?;
        let process = ProcessLog::init(&document.log).ok();
        let what = format!("access_log.path: {}", document.access_log.path);
        let sink = open(within(folder, &document.access_log.path));
        let access = sink.and_then(|sink| AccessLog::start(sink, metrics.log_dropped()));
        let access = access.map_err(|source| StartError::File { what, source })?;
        access.set_rules(AccessRules::of(&document.access_log));
        Ok(Self { access: Arc::new(access), process, folder: folder.to_owned() })
    }
}

impl Logs for BothLogs {
    fn prepare(&self, before: &Document, after: &Document) -> Result<Box<dyn FnOnce() + '_>, String> {
        let changed = before.access_log.path != after.access_log.path;
        let sink = changed.then(|| open(within(&self.folder, &after.access_log.path))).transpose();
        let sink = sink.map_err(|error| format!("cannot be opened: {error}"))?;
        let (settings, rules) = (after.log.clone(), AccessRules::of(&after.access_log));
        Ok(Box::new(move || {
            if let Some(sink) = sink {
                self.access.switch(sink);
            }
            self.access.set_rules(rules);
            if let Some(Err(error)) = self.process.as_ref().map(|log| log.set(&settings)) {
                tracing::warn!(error, "the log's level stays as it was");
            }
        }))
    }
}

/// Opens the log with a timeout: opening a FIFO without a reader blocks.
fn open(target: LogTarget) -> io::Result<Sink> {
    let path = if let LogTarget::File(path) = &target { path.clone() } else { PathBuf::new() };
    Disk::default().run(&path, move || Sink::open(&target))?
}

fn within(folder: &Path, target: &LogTarget) -> LogTarget {
    match target {
        LogTarget::File(path) => LogTarget::File(folder.join(path)),
        other => other.clone(),
    }
}
