//! The threads that hash passwords, with a bounded queue. Equal credentials share one hash.
//!
//! A job whose requests were all dropped is skipped if it has not started.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::{Condvar, Mutex};
use rustix::process::setpriority_process;
use tokio::sync::watch;

use super::verified::CredentialDigest;

/// Maximum number of jobs that wait. Another one is refused.
const MAX_QUEUE: usize = 64;
/// Nice value of the threads. Hashes for an attacker then take less than half of the time of a traffic thread.
const NICE: i32 = 5;

/// Hashes a password; `true` if it is the right one.
pub(super) type HashJob = Box<dyn FnOnce() -> bool + Send>;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueFull;

/// The pool. Its threads end after it is dropped.
pub(super) struct HashingPool {
    shared: Arc<PoolState>,
}

#[derive(Default)]
struct PoolState {
    jobs: Mutex<HashJobs>,
    arrived: Condvar,
    started: AtomicU64,
}

/// Jobs that wait or run.
#[derive(Default)]
struct HashJobs {
    queue: VecDeque<(CredentialDigest, HashJob)>,
    /// Where the result of each job goes: to all requests with the same credentials.
    results: HashMap<CredentialDigest, watch::Sender<Option<bool>>>,
    is_closed: bool,
}

/// The result to come of a job.
pub(super) struct HashResult(watch::Receiver<Option<bool>>);

impl HashResult {
    /// Waits for the result; `None` if the job failed.
    pub(super) async fn wait(mut self) -> Option<bool> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|result| *result)
    }
}

impl HashingPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be created.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let pool = Self { shared: Arc::default() };
        for _ in 0..threads {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name("weir-passwords".to_owned()).spawn(move || {
                // The priority is a courtesy to the traffic threads. On Linux it applies to this thread only.
                let _ = setpriority_process(None, NICE);
                shared.work();
            })?;
        }
        Ok(pool)
    }

    /// The result of the job with this digest. If there is none yet, `job` makes it.
    ///
    /// # Errors
    /// The queue is full.
    pub(super) fn submit(
        &self,
        digest: CredentialDigest,
        job: impl FnOnce() -> HashJob,
    ) -> Result<HashResult, QueueFull> {
        let mut jobs = self.shared.jobs.lock();
        if let Some(result) = jobs.results.get(&digest) {
            return Ok(HashResult(result.subscribe()));
        }
        if jobs.queue.len() >= MAX_QUEUE {
            jobs.remove_unwanted();
        }
        if jobs.queue.len() >= MAX_QUEUE {
            return Err(QueueFull);
        }
        let (sender, receiver) = watch::channel(None);
        jobs.results.insert(digest, sender);
        jobs.queue.push_back((digest, job()));
        drop(jobs);
        self.shared.arrived.notify_one();
        Ok(HashResult(receiver))
    }

    /// Number of jobs that were started since the pool exists.
    pub(super) fn started(&self) -> u64 {
        self.shared.started.load(Ordering::Relaxed)
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        self.shared.jobs.lock().is_closed = true;
        self.shared.arrived.notify_all();
    }
}

impl PoolState {
    /// Runs jobs until the pool is dropped.
    fn work(&self) {
        while let Some((digest, job)) = self.next() {
            self.started.fetch_add(1, Ordering::Relaxed);
            // A panic is a bug. The requests that wait get no result, and the thread goes on.
            let result = catch_unwind(AssertUnwindSafe(job));
            let sender = self.jobs.lock().results.remove(&digest);
            if let (Some(sender), Ok(result)) = (sender, result) {
                let _ = sender.send(Some(result));
            }
        }
    }

    /// The next job that a request waits for; `None` after the pool was dropped.
    fn next(&self) -> Option<(CredentialDigest, HashJob)> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.is_closed {
                return None;
            }
            match jobs.queue.pop_front() {
                Some((digest, job)) if jobs.is_wanted(&digest) => return Some((digest, job)),
                Some((digest, _)) => drop(jobs.results.remove(&digest)),
                None => self.arrived.wait(&mut jobs),
            }
        }
    }
}

impl HashJobs {
    /// Whether a request waits for the result of the job.
    fn is_wanted(&self, digest: &CredentialDigest) -> bool {
        self.results.get(digest).is_some_and(|result| result.receiver_count() > 0)
    }

    /// Removes the jobs that no request waits for any more.
    fn remove_unwanted(&mut self) {
        for (digest, job) in std::mem::take(&mut self.queue) {
            if self.is_wanted(&digest) {
                self.queue.push_back((digest, job));
            } else {
                self.results.remove(&digest);
            }
        }
    }
}

#[cfg(test)]
#[path = "password_hashing_tests.rs"]
mod tests;
