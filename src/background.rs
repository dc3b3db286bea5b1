//! Blocking pool for background work at low priority: reload, compile, scrape and drop of old snapshots.
//!
//! It never runs work that a request waits for. Its threads have a lower priority than the traffic threads, so that
//! they only use spare cores.

use std::io;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle, Runtime};

/// Nice value of the pool threads. Beside a busy thread at nice 0, they get a tenth of a core (setpriority(2),
/// sched(7)).
const NICE: i32 = 10;

/// Why background work has no result.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// It panicked.
    #[error("it broke off: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    /// The threads cannot be created.
    #[error("no thread for it: {0}")]
    NoThread(#[source] io::Error),
}

/// Runs `work` on the background pool. It may block, and it may spawn tasks on the caller's runtime.
///
/// # Errors
/// `work` panicked, or the pool cannot be created.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackgroundError> {
    let caller = Handle::current();
    let work = move || {
        let _on = caller.enter();
        work()
    };
    static POOL: Pool = Pool::new();
    Ok(POOL.get().map_err(BackgroundError::NoThread)?.spawn_blocking(work).await?)
}

/// The pool of the process. Its threads start on demand and end when idle.
struct Pool {
    made: OnceLock<Runtime>,
    /// Held while the runtime is built. A second runtime must never exist: tokio panics if a runtime is dropped in an
    /// async context.
    making: Mutex<()>,
}

impl Pool {
    const fn new() -> Self {
        Self { made: OnceLock::new(), making: Mutex::new(()) }
    }

    fn get(&self) -> io::Result<&Runtime> {
        if let Some(pool) = self.made.get() {
            return Ok(pool);
        }
        let _alone = self.making.lock();
        if let Some(pool) = self.made.get() {
            return Ok(pool);
        }
        // Only `spawn_blocking` runs on it, so it needs neither a reactor nor timers.
        let made = Builder::new_current_thread().thread_name("weir-background").on_thread_start(be_nice).build()?;
        Ok(self.made.get_or_init(|| made))
    }
}

fn be_nice() {
    // On Linux this changes the calling thread only.
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::debug!("chores have the priority of traffic: {error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[tokio::test]
    async fn work_runs_at_low_priority_and_spawns_on_the_runtime_of_the_caller() {
        let before = niceness();
        let (spawned, ran) = tokio::sync::oneshot::channel();
        let nice = run(move || {
            tokio::spawn(async move { spawned.send(niceness()) });
            niceness()
        });
        assert_eq!(nice.await.unwrap(), NICE.max(before));
        assert_eq!((ran.await.unwrap(), niceness()), (before, before));
    }

    #[test]
    fn concurrent_first_callers_get_the_same_pool() {
        for _ in 0..20 {
            let (pool, start) = (Pool::new(), std::sync::Barrier::new(8));
            let ask = || {
                let runtime = Builder::new_current_thread().build().unwrap();
                start.wait();
                runtime.block_on(async { std::ptr::from_ref(pool.get().unwrap()) as usize })
            };
            let got: Vec<usize> = std::thread::scope(|scope| {
                let threads = [(); 8].map(|()| scope.spawn(ask));
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(got.iter().all(|pool| *pool == got[0]));
        }
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_own_work() {
        let broken = run(|| -> () { panic!("as a test wants it") }).await;
        assert!(matches!(broken, Err(BackgroundError::Panicked(_))));
        assert_eq!(run(|| 7).await.unwrap(), 7);
    }
}
