//! `server.pid_file`: written at the start, removed at the end.

use std::path::{Path, PathBuf};

use crate::config::Disk;

use super::StartError;

/// The file, as long as the process lives.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the process's id.
    pub(super) fn write(path: &Path) -> Result<Self, StartError> {
        let what = || format!("server.pid_file: {}", path.display());
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|source| StartError::File { what: what(), source })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let path = self.0.clone();
        let removed = Disk::default().run(&self.0, move || std::fs::remove_file(path));
        if let Err(error) = removed.and_then(|removed| removed) {
            tracing::debug!(%error, path = %self.0.display(), "the pid file could not be removed");
        }
    }
}
