//! The output of a log: stdout, stderr, a file or none. Only the writer thread uses it.
//!
//! It never returns an error to its caller and never buffers lines. A write error is logged once, and the number of
//! lost lines is returned.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, thread};

use crate::config::values::LogTarget;

/// Retries, and the pause between them, for a full non-blocking pipe.
const FULL_PIPE_TRIES: u32 = 1000;
const FULL_PIPE_PAUSE: Duration = Duration::from_millis(1);

/// The output of a log.
pub struct Sink {
    /// The name of the log, for messages.
    log: &'static str,
    path: Option<PathBuf>,
    out: Option<Box<dyn Write + Send>>,
    // The last write failed. The error is not logged again until a write succeeds.
    failing: bool,
    // The last write ended inside a line.
    torn: bool,
}

impl Sink {
    /// Opens the output. A configuration with a file that cannot be opened is rejected before it becomes active.
    pub fn open(target: &LogTarget) -> io::Result<Self> {
        match target {
            LogTarget::Off => Ok(Self::off()),
            LogTarget::Stdout => Ok(Self::to(Box::new(unbuffered(&io::stdout())?))),
            LogTarget::File(path) => Ok(Self { path: Some(path.clone()), ..Self::to(Box::new(open_file(path)?)) }),
        }
    }

    /// The process log, to stderr.
    pub(super) fn stderr() -> io::Result<Self> {
        // Not a copy of the descriptor: at the end of an upgrade, the new process replaces its standard error.
        Ok(Self { log: "process log", ..Self::to(Box::new(StandardError)) })
    }

    /// No output.
    pub fn off() -> Self {
        Self { log: "access log", path: None, out: None, failing: false, torn: false }
    }

    /// Writes to this writer.
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self { out: Some(out), ..Self::off() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.out.is_some()
    }

    /// Reopens the file. If that fails, the open file stays in use.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(file) => {
                self.out = Some(Box::new(file));
                self.torn = false;
            }
            Err(error) => tracing::error!("the {} {} cannot be reopened: {error}", self.log, path.display()),
        }
    }

    /// Writes `count` complete lines. Returns the number of lost lines.
    pub(super) fn write(&mut self, lines: &[u8], count: usize) -> u64 {
        let Some(out) = self.out.as_mut().filter(|_| count > 0) else { return 0 };
        // Ends the incomplete line first, so that it does not corrupt the next one.
        let mended = if self.torn { write_some(out, b"\n").1 } else { Ok(()) };
        let (written, result) = match mended {
            Ok(()) => {
                let (written, result) = write_some(out, lines);
                self.torn = written > 0 && lines.get(written - 1) != Some(&b'\n');
                (written, result)
            }
            Err(error) => (0, Err(error)),
        };
        self.report(result);
        lines.get(written..).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() as u64
    }

    fn report(&mut self, result: io::Result<()>) {
        let failed = result.is_err();
        match (std::mem::replace(&mut self.failing, failed), result) {
            (false, Err(error)) => {
                tracing::error!("the {} cannot be written, its lines are dropped and counted: {error}", self.log);
            }
            (true, Ok(())) => tracing::info!("the {} is written again", self.log),
            _ => {}
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("path", &self.path).field("on", &self.is_on()).finish_non_exhaustive()
    }
}

/// The standard error, without the lock of `io::stderr()`.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Duplicates the descriptor. `io::stdout()` and `io::stderr()` use a lock, and `io::stdout()` buffers by line.
fn unbuffered(stream: &impl AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

/// Opens the file with mode 0640, because a log may contain private data of clients.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

/// Like `write_all`, but also returns how many bytes were written before an error.
fn write_some(out: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let (mut written, mut tries) = (0, 0);
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(n) => (written, tries) = (written + n, 0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && tries < FULL_PIPE_TRIES => {
                tries += 1;
                thread::sleep(FULL_PIPE_PAUSE);
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, out.flush())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Accepts a number of bytes, then fails until the number is raised.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = disk.0.min(bytes.len());
            if n == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            disk.0 -= n;
            disk.1.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let disk = Disk::default();
        let mut sink = Sink::to(Box::new(disk.clone()));
        disk.0.lock().unwrap().0 = 5;
        assert_eq!(sink.write(b"one\ntwo\nthree\n", 3), 2);
        assert_eq!(sink.write(b"four\n", 1), 1);
        disk.0.lock().unwrap().0 = 100;
        assert_eq!(sink.write(b"five\n", 1), 0);
        assert_eq!(disk.0.lock().unwrap().1, b"one\nt\nfive\n");
    }

    #[test]
    fn off_accepts_all_lines_and_reports_no_loss() {
        let mut sink = Sink::open(&LogTarget::Off).unwrap();
        assert!(!sink.is_on());
        assert_eq!(sink.write(b"x\n", 1), 0);
    }
}
