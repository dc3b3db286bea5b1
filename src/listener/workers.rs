//! The threads that carry connections, and which of them gets the next one.
//!
//! A connection stays on its thread from the first byte to the last: nothing that a request touches is woken on another
//! core. It starts no thread: that is `server`'s.

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// One thread.
#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: TaskTracker,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Workers(Box<[Worker]>);

/// A place on a thread; the thread counts one less when this is dropped.
#[derive(Debug)]
pub(super) struct WorkerSlot {
    /// Which thread.
    pub(super) worker: usize,
    _entered: TaskTrackerToken,
}

impl Workers {
    /// One for each of these single-threaded runtimes.
    pub(super) fn new(runtimes: Vec<Handle>) -> Self {
        Self(runtimes.into_iter().map(|runtime| Worker { runtime, connections: TaskTracker::new() }).collect())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where something that is no connection runs.
    pub(super) fn runtime(&self, worker: usize) -> &Handle {
        &self.0[worker % self.0.len()].runtime
    }

    /// A place where the fewest connections are; `here`, where it is one of those.
    pub(super) fn place(&self, here: usize) -> WorkerSlot {
        let nearest = (0..self.len()).map(|step| (here + step) % self.len());
        let worker = nearest.min_by_key(|at| self.0[*at].connections.len()).unwrap_or(here);
        WorkerSlot { worker, _entered: self.0[worker].connections.token() }
    }
}
