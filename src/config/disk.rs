//! File reads that never block their caller: regular files only, on a separate thread, with a timeout.
//!
//! A network file system that does not respond can block a thread without limit, and no signal interrupts it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// Timeout of one file operation.
pub const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a file that a configuration names, in bytes.
const MAX_NAMED_BYTES: u64 = 4 << 20;

/// Files whose file system has not responded yet. Each occupies one thread, however often it is requested.
static HUNG: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

type Job = Box<dyn FnOnce() + Send>;

/// Runs the file operations of one task, such as one reload. After one operation has timed out, all others fail at
/// once, so that the whole task takes about one timeout.
#[derive(Debug)]
pub struct Disk {
    timeout: Duration,
    hung: Cell<bool>,
    worker: RefCell<Option<Sender<Job>>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self::with_timeout(FILE_TIMEOUT)
    }
}

impl Disk {
    fn with_timeout(timeout: Duration) -> Self {
        Self { timeout, hung: Cell::new(false), worker: RefCell::default() }
    }

    /// Runs an operation on this file that may block.
    ///
    /// # Errors
    /// `TimedOut`: it did not end in time, and continues in the background. Other errors: there is no thread for it.
    pub fn run<T: Send + 'static>(&self, path: &Path, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        if self.hung.get() {
            return Err(timed_out("not tried, as the file system of another file does not answer".into()));
        }
        if hung().contains(path) {
            return Err(timed_out("its file system does not answer".into()));
        }
        let (result, done) = mpsc::channel();
        // Each side sets the flag when it stops. The side that sets it second knows that the other one has stopped
        // before.
        let (left, key) = (Arc::new(AtomicBool::new(false)), path.to_owned());
        let theirs = Arc::clone(&left);
        self.hand_over(Box::new(move || {
            let _ = result.send(work());
            if theirs.swap(true, Ordering::AcqRel) {
                hung().remove(&key);
            }
        }))?;
        match done.recv_timeout(self.timeout) {
            Ok(value) => Ok(value),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("a bug in weir; its log says more")),
            Err(RecvTimeoutError::Timeout) => {
                let mut hung = hung();
                if !left.swap(true, Ordering::AcqRel) {
                    hung.insert(path.to_owned());
                }
                self.hung.set(true);
                self.worker.take();
                Err(timed_out(format!("its file system did not answer within {:?}", self.timeout)))
            }
        }
    }

    /// Reads a file that a configuration names: a regular file of limited size.
    ///
    /// # Errors
    /// The file does not exist, is not a regular file, is too long, or cannot be read in time.
    pub fn read_named(&self, path: &Path) -> io::Result<Vec<u8>> {
        let whole = path.to_owned();
        self.run(path, move || read_regular(&whole))?
    }

    /// Reads the configuration file itself, which may also be a pipe on standard input.
    pub(super) fn read_main(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let (whole, open) = (
            path.to_owned(),
            if is_own_stream(path) { open_any } else { open_regular as fn(&Path) -> io::Result<File> },
        );
        self.run(path, move || read_bounded(open(&whole)?, max_bytes))?
    }

    fn hand_over(&self, job: Job) -> io::Result<()> {
        let mut worker = self.worker.borrow_mut();
        let jobs = match &*worker {
            Some(jobs) => jobs,
            None => worker.insert(start_worker()?),
        };
        jobs.send(job).map_err(|_| io::Error::other("the thread that reads files is gone"))
    }
}

/// Reads one file that a configuration names.
///
/// # Errors
/// As for `Disk::read_named`.
pub fn read_named(path: &Path) -> io::Result<Vec<u8>> {
    Disk::default().read_named(path)
}

/// Reads a file that a configuration names, on the calling thread.
pub(super) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(open_regular(path)?, MAX_NAMED_BYTES)
}

fn open_any(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Opens a regular file. The type is checked before opening, because opening a FIFO or a device can block or have an
/// effect.
///
/// # Errors
/// It cannot be opened, or is not a regular file.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    must_be_regular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    must_be_regular(&file.metadata()?)?;
    Ok(file)
}

/// Rejects a FIFO, a device, a folder and a socket.
///
/// # Errors
/// The type of the file, if it is one of these.
pub fn must_be_regular(about: &Metadata) -> io::Result<()> {
    let kind = about.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let is = if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {is}, not a regular file")))
}

/// The rest of the file, up to `max_bytes`.
pub(super) fn read_bounded(file: File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if read as u64 > max_bytes { Err(io::Error::other("it is too long")) } else { Ok(bytes) }
}

/// Whether the path names a descriptor that the process inherited.
fn is_own_stream(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path.starts_with(folder))
}

fn start_worker() -> io::Result<Sender<Job>> {
    let (jobs, next) = mpsc::channel::<Job>();
    thread::Builder::new().name("weir-files".into()).spawn(move || next.into_iter().for_each(|job| job()))?;
    Ok(jobs)
}

fn timed_out(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

fn hung() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HUNG.lock()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    fn fifo(folder: &Path) -> PathBuf {
        let path = folder.join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
        path
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_else_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let cases = [
            (fifo(folder.path()), "a FIFO"),
            (folder.path().to_owned(), "a folder"),
            (folder.path().join("socket"), "a socket"),
            ("/dev/null".into(), "a device"),
        ];
        for (path, kind) in cases {
            let error = read_named(&path).unwrap_err();
            assert_eq!(error.to_string(), format!("it is {kind}, not a regular file"));
        }
        fs::write(folder.path().join("f"), "text").unwrap();
        assert_eq!(read_named(&folder.path().join("f")).unwrap(), b"text");
        let too_long = read_bounded(open_regular(&folder.path().join("f")).unwrap(), 3);
        assert_eq!(too_long.unwrap_err().to_string(), "it is too long");
    }

    #[test]
    fn a_file_that_blocks_costs_one_timeout_and_one_thread_until_it_responds() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let open = |disk: &Disk| {
            let path = path.clone();
            disk.run(&path.clone(), move || File::open(path).map(drop))
        };
        let disk = Disk::with_timeout(Duration::from_millis(50));
        assert_eq!(open(&disk).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let began = Instant::now();
        for _ in 0..100 {
            assert_eq!(open(&Disk::default()).unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(disk.read_named(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert!(began.elapsed() < LONG, "known to hang");
        assert_eq!(read_named(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let _answer = File::options().read(true).write(true).open(&path).unwrap();
        while hung().contains(&path) {
            assert!(began.elapsed() < LONG);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(open(&Disk::default()).unwrap().is_ok());
    }
}
