//! Work that takes its time and that no request waits for: reading and compiling a configuration, taking one apart, writing down a
//! scrape. It runs on threads of its own, of lower priority than those that carry requests, so that where cores are scarce
//! it takes what they leave.
//!
//! It knows nothing of what is done.

use std::io;
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Handle, Runtime};

/// How nice these threads are: beside a busy thread of the usual niceness they get a tenth of a core (setpriority(2), sched(7)).
const NICE: i32 = 10;

/// Why a chore has no result.
#[derive(Debug, thiserror::Error)]
pub enum BackgroundError {
    /// It panicked.
    #[error("it broke off: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    /// The threads could not be had.
    #[error("no thread for it: {0}")]
    NoThread(#[source] io::Error),
}

/// Does this apart from the threads that carry requests. It may block, and spawn on the runtime that it was asked for on.
///
/// # Errors
/// It panicked, or there is no thread for it.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackgroundError> {
    let asked_on = Handle::current();
    let work = move || {
        let _on = asked_on.enter();
        work()
    };
    static POOL: Pool = Pool::new();
    Ok(POOL.get().map_err(BackgroundError::NoThread)?.spawn_blocking(work).await?)
}

/// One for the process, whose threads come and go with the work.
struct Pool {
    made: OnceLock<Runtime>,
    /// Held by whoever makes it. A second one could not be dropped where it is asked for: tokio panics there.
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
        // Nothing runs on it but what is spawned as blocking, so it needs neither a reactor nor timers.
        let made = Builder::new_current_thread().thread_name("weir-background").on_thread_start(be_nice).build()?;
        Ok(self.made.get_or_init(|| made))
    }
}

fn be_nice() {
    // On Linux this is about the calling thread alone.
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
    async fn a_chore_is_nicer_than_who_asked_for_it_and_spawns_there() {
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
    fn who_asks_first_at_the_same_time_gets_the_same_threads() {
        for _ in 0..20 {
            let (pool, start) = (Pool::new(), std::sync::Barrier::new(8));
            let ask = || {
                let asking = Builder::new_current_thread().build().unwrap();
                start.wait();
                asking.block_on(async { std::ptr::from_ref(pool.get().unwrap()) as usize })
            };
            let got: Vec<usize> = std::thread::scope(|scope| {
                let asked = [(); 8].map(|()| scope.spawn(ask));
                asked.into_iter().map(|asked| asked.join().unwrap()).collect()
            });
            assert!(got.iter().all(|pool| *pool == got[0]));
        }
    }

    #[tokio::test]
    async fn a_panic_is_its_end_alone() {
        let broken = run(|| -> () { panic!("as a test wants it") }).await;
        assert!(matches!(broken, Err(BackgroundError::Panicked(_))));
        assert_eq!(run(|| 7).await.unwrap(), 7);
    }
}
