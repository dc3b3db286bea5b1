//! The new process of an upgrade, as the old process sees it: started, asked, and killed if it fails.

use std::collections::VecDeque;
use std::io::{self, BufRead, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use weir_fds::Passed;

use super::UpgradeError;
use super::frames::{FromNew, FromOld, MAX_BYTES, line};
use super::program::Program;

/// Lines of the new process's standard error that are kept, and bytes of each.
const KEPT_LINES: usize = 40;
const KEPT_BYTES: u64 = 1_000;

/// How long a process that has closed its channel may take to end by itself, and its last lines to arrive.
const END_TIMEOUT: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);

/// The new process. It is killed on drop, unless `release` was called.
#[derive(Debug)]
pub(super) struct Successor {
    child: ChildGuard,
    channel: BufReader<UnixStream>,
    messages: Messages,
}

/// Kills the process on drop.
#[derive(Debug)]
struct ChildGuard(Option<Child>);

/// The last lines of a standard error, and the thread that reads them.
#[derive(Debug)]
struct Messages {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: thread::JoinHandle<()>,
}

impl Successor {
    /// Starts the program with these sockets and these channels of older processes. It blocks. It needs the runtime
    /// that will use the channel.
    pub(super) fn start(
        program: &Program,
        sockets: Vec<(String, BorrowedFd<'_>)>,
        older: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let channel = BufReader::new(UnixStream::from_std(ours)?);
        let (stderr, stderr_of_child) = io::pipe()?;
        let messages = Messages::collect(stderr)?;
        let own_stderr = io::stderr();
        let others = [theirs.as_fd(), own_stderr.as_fd()].into_iter().chain(older.iter().copied()).collect();
        let passed = Passed { sockets, others };
        let child = weir_fds::spawn(program.path(), program.arguments(), &passed, stderr_of_child.into())?;
        Ok(Self { child: ChildGuard(Some(child)), channel, messages })
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.0.as_ref().map_or(0, Child::id)
    }

    pub(super) async fn send(&mut self, message: &FromOld) -> Result<(), UpgradeError> {
        let sent = self.channel.get_mut().write_all(&line(message)).await;
        sent.map_err(|_| UpgradeError::Ended)
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// The process has failed or ended, or its message cannot be read.
    pub(super) async fn receive(&mut self) -> Result<FromNew, UpgradeError> {
        let mut text = Vec::new();
        let read = (&mut self.channel).take(MAX_BYTES).read_until(b'\n', &mut text).await;
        if read.is_err() || !text.ends_with(b"\n") {
            return Err(UpgradeError::Ended);
        }
        match serde_json::from_slice(&text) {
            Ok(FromNew::Failed { error }) => Err(UpgradeError::Failed(error)),
            message => message.map_err(|_| UpgradeError::protocol()),
        }
    }

    /// Lets the process live on. Returns the channel to it.
    pub(super) fn release(mut self) -> UnixStream {
        self.child.0 = None;
        // The buffer is empty: the new process sends nothing more before the next stop signal.
        self.channel.into_inner()
    }

    /// Ends the process. Returns its exit status, if it has ended by itself, and its last messages. It blocks.
    pub(super) fn end(mut self) -> (Option<ExitStatus>, Vec<String>) {
        drop(self.channel);
        let status = self.child.0.take().and_then(|child| end(child, END_TIMEOUT));
        (status, self.messages.take())
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            end(child, Duration::ZERO);
        }
    }
}

/// Waits until the process has ended, then kills it. Returns the status if it has ended by itself.
fn end(mut child: Child, timeout: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + timeout;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            _ => break,
        }
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::warn!(%error, pid = child.id(), "the new process could not be killed");
    }
    None
}

impl Messages {
    /// Copies the new process's standard error to that of this process, until its end.
    fn collect(stderr: PipeReader) -> io::Result<Self> {
        let lines = Arc::<Mutex<VecDeque<String>>>::default();
        let into = Arc::clone(&lines);
        let read = move || {
            let (mut stderr, mut line) = (io::BufReader::new(stderr), Vec::new());
            while (&mut stderr).take(KEPT_BYTES).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let _ = io::stderr().write_all(&line);
                let mut lines = into.lock();
                lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                let excess = lines.len().saturating_sub(KEPT_LINES);
                lines.drain(..excess);
                line.clear();
            }
        };
        let reader = thread::Builder::new().name("weir-upgrade".into()).spawn(read)?;
        Ok(Self { lines, reader })
    }

    /// The last lines. A process that outlives the new one may hold the pipe, so the wait is limited.
    fn take(self) -> Vec<String> {
        let deadline = Instant::now() + END_TIMEOUT;
        while !self.reader.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        std::mem::take(&mut *self.lines.lock()).into()
    }
}
