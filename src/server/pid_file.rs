//! `server.pid_file`: written at start, removed at the end.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Disk, must_be_regular};

use super::StartError;

/// The pid file. It is removed on drop.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the process id.
    pub(super) fn write(path: &Path) -> Result<Self, StartError> {
        let what = || format!("server.pid_file: {}", path.display());
        let whole = path.to_owned();
        let written = Disk::default().run(path, move || write_regular(&whole));
        written.and_then(|written| written).map_err(|source| StartError::File { what: what(), source })?;
        Ok(Self(path.to_owned()))
    }
}

/// Whether an existing pid file can be written, for a process that writes it later. It stays as it is.
pub(super) fn check(path: &Path) -> Result<(), StartError> {
    let what = || format!("server.pid_file: {}", path.display());
    let whole = path.to_owned();
    let opened = Disk::default().run(path, move || match std::fs::metadata(&whole) {
        Ok(about) => must_be_regular(&about).and_then(|()| OpenOptions::new().write(true).open(&whole).map(drop)),
        Err(_) => Ok(()),
    });
    opened.and_then(|opened| opened).map_err(|source| StartError::File { what: what(), source })
}

fn own_line() -> String {
    format!("{}\n", std::process::id())
}

/// Only a regular file is opened. Opening a FIFO can block, and the end of the process would remove a device file.
fn write_regular(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(about) => must_be_regular(&about)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::fs::write(path, own_line())
}

/// Removes the file only if it still contains this process's id. A newer process may have overwritten it.
fn remove_own(path: &Path) -> io::Result<()> {
    must_be_regular(&std::fs::metadata(path)?)?;
    if std::fs::read(path)? == own_line().as_bytes() { std::fs::remove_file(path) } else { Ok(()) }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let path = self.0.clone();
        let removed = Disk::default().run(&self.0, move || remove_own(&path));
        if let Err(error) = removed.and_then(|removed| removed) {
            tracing::debug!(%error, path = %self.0.display(), "the pid file could not be removed");
        }
    }
}
