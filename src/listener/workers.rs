//! The traffic threads, and the choice of the thread for a new connection.
//!
//! A connection stays on one thread, so no task of a request is woken on another core. This module starts no thread:
//! `server` does.

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// One thread and its connections.
#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: TaskTracker,
}

/// All traffic threads.
#[derive(Debug)]
pub(super) struct Workers(Box<[Worker]>);

/// A connection slot on a thread. Its drop lowers the thread's count.
#[derive(Debug)]
pub(super) struct WorkerSlot {
    /// The index of the thread.
    pub(super) worker: usize,
    _entered: TaskTrackerToken,
}

impl Workers {
    /// Creates one worker for each of these single-threaded runtimes.
    pub(super) fn new(runtimes: Vec<Handle>) -> Self {
        Self(runtimes.into_iter().map(|runtime| Worker { runtime, connections: TaskTracker::new() }).collect())
    }

    /// The number of threads.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The runtime of a thread, for tasks that are not connections.
    pub(super) fn runtime(&self, worker: usize) -> &Handle {
        &self.0[worker % self.0.len()].runtime
    }

    /// Takes a slot on the thread with the fewest connections. Among equals it prefers `here`, the thread of the
    /// caller.
    pub(super) fn place(&self, here: usize) -> WorkerSlot {
        let nearest = (0..self.len()).map(|step| (here + step) % self.len());
        let worker = nearest.min_by_key(|at| self.0[*at].connections.len()).unwrap_or(here);
        WorkerSlot { worker, _entered: self.0[worker].connections.token() }
    }
}
