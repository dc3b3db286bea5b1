//! The new process of an upgrade: takes the sockets and the runtime state over, and reports to the old process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use weir_fds::NamedFd;

use super::frames::{FromNew, FromOld, HandedSocket, Hello, MAX_BYTES, OlderProcess, line};
use super::old_processes::OldProcesses;
use super::state;
use crate::clock;
use crate::listener::{Handed, InheritedSocket, InheritedSockets};
use crate::snapshot::Snapshot;
use crate::upstream::manager::UpstreamManager;

/// How long a message of the old process may take that it sends without waiting for anything.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two looks whether all backends have been checked.
const READY_POLL: Duration = Duration::from_millis(10);

/// The descriptors that this process was started with, by the process before it or by systemd.
#[derive(Debug, Default)]
pub struct Inheritance {
    pub(in crate::server) sockets: InheritedSockets,
    pub(in crate::server) takeover: Option<Takeover>,
}

/// The channel to the old process.
#[derive(Debug)]
pub(in crate::server) struct Takeover {
    channel: BufReader<UnixStream>,
    hello: Hello,
    /// The standard error of the old process. Until the end of the start, that of this process is a pipe.
    stderr: Option<OwnedFd>,
    older: Vec<(OlderProcess, OwnedFd)>,
}

/// Reports the failure of the start to the old process.
#[derive(Debug)]
pub struct FailureReport(UnixStream);

impl Inheritance {
    /// Takes the inherited descriptors. Call it first in `main`: the numbers must not be in use for anything else.
    ///
    /// # Errors
    /// The variables are malformed, or the old process does not say what it hands over.
    pub fn take() -> io::Result<Self> {
        let inherited = weir_fds::inherited()?;
        let takeover = Takeover::receive(inherited.others)?;
        let configured = takeover.as_ref().map(|takeover| takeover.hello.sockets.as_slice());
        let sockets = InheritedSockets::new(with_addresses(inherited.sockets, configured));
        Ok(Self { sockets, takeover })
    }

    /// The way to report a failure; `None` if no other process waits for this one.
    pub fn failure_report(&self) -> Option<FailureReport> {
        let channel = self.takeover.as_ref()?.channel.get_ref().try_clone().ok()?;
        Some(FailureReport(channel))
    }
}

impl FailureReport {
    /// Sends the reason.
    pub fn send(mut self, error: &str) {
        // Without the old process, there is nothing to report to.
        let _ = self.0.write_all(&line(&FromNew::Failed { error: error.trim_end().to_owned() }));
    }
}

/// Adds the configured addresses, which only the process before an upgrade knows.
fn with_addresses(sockets: Vec<NamedFd>, handed: Option<&[HandedSocket]>) -> Vec<InheritedSocket> {
    let add = |(at, NamedFd { name, fd }): (usize, NamedFd)| match handed.and_then(|handed| handed.get(at)) {
        Some(HandedSocket { name, configured, admin }) => {
            let handed = Handed { configured: configured.clone(), admin: *admin };
            InheritedSocket { name: name.clone(), handed: Some(handed), fd }
        }
        None => InheritedSocket { name, handed: None, fd },
    };
    sockets.into_iter().enumerate().map(add).collect()
}

impl Takeover {
    fn receive(others: Vec<OwnedFd>) -> io::Result<Option<Self>> {
        let mut others = others.into_iter();
        let Some(channel) = others.next() else { return Ok(None) };
        let mut channel = BufReader::new(UnixStream::from(channel));
        let Ok(FromOld::Hello(hello)) = receive(&mut channel, MESSAGE_TIMEOUT) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the old process does not say what it hands over"));
        };
        let stderr = others.next();
        let older = hello.older.iter().cloned().zip(others).collect();
        Ok(Some(Self { channel, hello, stderr, older }))
    }

    /// Whether this process removes the file of the admin socket when it ends.
    pub(in crate::server) fn removes_admin_file(&self) -> bool {
        self.hello.removes_admin_file
    }

    /// Waits until this process is as ready as the old one, and adopts its runtime state. After it, this process accepts.
    ///
    /// # Errors
    /// This process does not become ready in time, or the old process has ended or gone on by itself.
    pub(in crate::server) fn take_over(
        &mut self,
        snapshot: &Snapshot,
        manager: &UpstreamManager,
        not_ready: impl Fn() -> Option<String>,
    ) -> Result<(), String> {
        // The old process must hear the reason before its own deadline.
        let deadline = Instant::now() + Duration::from_millis(self.hello.timeout_ms) * 9 / 10;
        while let Some(reason) = not_ready().filter(|_| self.hello.ready) {
            if Instant::now() > deadline {
                return Err(format!("not ready in time: {reason}"));
            }
            thread::sleep(READY_POLL);
        }
        self.send(&FromNew::Prepared).map_err(|error| ended(&error))?;
        match receive(&mut self.channel, MESSAGE_TIMEOUT) {
            Ok(FromOld::Take { state }) => state::adopt(state, snapshot, manager),
            Ok(_) => return Err("the old process does not speak this version of the protocol".to_owned()),
            Err(error) => return Err(ended(&error)),
        }
        Ok(())
    }

    /// Reports that this process serves, and waits until it is the main process. The old processes are in `old` then.
    /// Needs a runtime.
    pub(in crate::server) fn finish(mut self, old: &Arc<OldProcesses>) {
        // If the old process has ended since `take_over`, this one serves all the same.
        let told = self.send(&FromNew::Ready { version: crate::VERSION.to_owned() });
        let told = told.and_then(|()| receive(&mut self.channel, MESSAGE_TIMEOUT));
        if let Err(error) = told {
            tracing::warn!(%error, "the old process has ended before the end of the upgrade");
        }
        if let Some(Err(error)) = self.stderr.map(rustix::stdio::dup2_stderr) {
            tracing::warn!(%error, "the standard error of the old process is not usable");
        }
        let Hello { pid, version, .. } = self.hello;
        let parent = OlderProcess { pid, version, since_unix_ms: clock::unix_ms(), connections: 0 };
        let channel = OwnedFd::from(self.channel.into_inner());
        for (about, channel) in self.older.into_iter().chain([(parent, channel)]) {
            let pid = about.pid;
            if let Err(error) = old.add(about, channel) {
                tracing::warn!(%error, pid, "an old process cannot be followed");
            }
        }
    }

    fn send(&mut self, message: &FromNew) -> io::Result<()> {
        self.channel.get_mut().write_all(&line(message))
    }
}

fn ended(error: &io::Error) -> String {
    format!("the old process has gone on without this one: {error}")
}

fn receive(channel: &mut BufReader<UnixStream>, timeout: Duration) -> io::Result<FromOld> {
    channel.get_ref().set_read_timeout(Some(timeout))?;
    let mut text = Vec::new();
    channel.take(MAX_BYTES).read_until(b'\n', &mut text)?;
    if !text.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&text).map_err(io::Error::other)
}
