//! The older processes that still drain after an upgrade.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::frames::{FromNew, FromOld, OlderProcess, line};
use crate::telemetry::Metrics;

/// The older processes of this process.
#[derive(Debug)]
pub(in crate::server) struct OldProcesses {
    all: Mutex<Vec<Arc<OldProcess>>>,
    followers: Mutex<Vec<AbortHandle>>,
    /// One has ended.
    ended: Notify,
    metrics: Arc<Metrics>,
}

/// An older process.
#[derive(Debug)]
pub(in crate::server) struct OldProcess {
    pub(in crate::server) about: OlderProcess,
    connections: AtomicU64,
    channel: UnixStream,
}

impl OldProcess {
    /// Its open connections, as it last said.
    pub(in crate::server) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The channel to it.
    pub(super) fn channel(&self) -> &UnixStream {
        &self.channel
    }

    /// Reads what it says, until it ends.
    async fn follow(&self) {
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        while self.channel.readable().await.is_ok() {
            match self.channel.try_read(&mut piece) {
                Ok(0) => return,
                Ok(length) => text.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                // The process before this one may have read the first part of a line.
                if let Ok(FromOld::Draining { connections }) = serde_json::from_slice(&line) {
                    self.connections.store(connections, Ordering::Relaxed);
                }
            }
        }
    }
}

impl OldProcesses {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { all: Mutex::default(), followers: Mutex::default(), ended: Notify::new(), metrics }
    }

    /// The processes that still drain, the oldest first.
    pub(in crate::server) fn all(&self) -> Vec<Arc<OldProcess>> {
        self.all.lock().clone()
    }

    /// Follows a process until it ends. Needs a runtime.
    pub(super) fn add(self: &Arc<Self>, about: OlderProcess, channel: OwnedFd) -> std::io::Result<()> {
        let channel = StdStream::from(channel);
        channel.set_nonblocking(true)?;
        let channel = UnixStream::from_std(channel)?;
        let connections = AtomicU64::new(about.connections);
        let process = Arc::new(OldProcess { about, connections, channel });
        self.change(|all| all.push(Arc::clone(&process)));
        let same = Arc::clone(self);
        let follower = tokio::spawn(async move {
            process.follow().await;
            tracing::info!(pid = process.about.pid, "an old process has ended");
            same.change(|all| all.retain(|other| !Arc::ptr_eq(other, &process)));
            same.ended.notify_waiters();
        });
        let mut followers = self.followers.lock();
        followers.retain(|follower| !follower.is_finished());
        followers.push(follower.abort_handle());
        Ok(())
    }

    /// Forgets all of them: another process follows them from now on.
    pub(super) fn forget(&self) {
        self.followers.lock().drain(..).for_each(|follower| follower.abort());
        self.change(Vec::clear);
        self.ended.notify_waiters();
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<OldProcess>>)) {
        let mut all = self.all.lock();
        change(&mut all);
        self.metrics.set_old_processes(all.len() as u64);
    }

    /// Completes when no old process is left.
    pub(in crate::server) async fn none_left(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.all.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Ends all of them at once.
    pub(in crate::server) fn stop(&self) {
        for process in self.all() {
            // The channel is empty, so a short message is never cut. A process that has ended needs none.
            let _ = process.channel.try_write(&line(&FromNew::Stop));
        }
    }
}
