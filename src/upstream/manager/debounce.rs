//! How often members are built anew for verdicts of probes and of traffic: at once, but never for more than a tenth of the time.
//!
//! With thousands of backends in one upstream a build takes milliseconds, and their first verdicts come all together: a build
//! for each would take minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;

use crate::upstream::task::Changed;

/// How many times as long as a build took there is none.
const PAUSE_FACTOR: u32 = 9;

/// Calls `build` at once, or once later for all who ask until then. `runtime`: where later is.
pub(super) fn paced(runtime: Handle, build: impl Fn() + Send + Sync + 'static) -> Changed {
    let pace = Arc::new(Debounce { build, runtime, state: Mutex::default() });
    Arc::new(move || pace.ask(true))
}

/// The same, but never on the caller's thread: traffic asks, and a build takes milliseconds and a lock that threads of low
/// priority take too.
pub(super) fn paced_elsewhere(runtime: Handle, build: impl Fn() + Send + Sync + 'static) -> Changed {
    let pace = Arc::new(Debounce { build, runtime, state: Mutex::default() });
    Arc::new(move || pace.ask(false))
}

struct Debounce<F> {
    build: F,
    runtime: Handle,
    state: Mutex<DebounceState>,
}

#[derive(Default)]
struct DebounceState {
    /// No build before this.
    free: Option<Instant>,
    /// One will be then.
    coming: bool,
}

impl<F: Fn() + Send + Sync + 'static> Debounce<F> {
    fn ask(self: &Arc<Self>, may_build: bool) {
        let mut turn = self.lock();
        if turn.coming {
            return;
        }
        let rest = turn.free.map_or(Duration::ZERO, |free| free.saturating_duration_since(Instant::now()));
        if rest.is_zero() && may_build {
            drop(turn);
            return self.build();
        }
        turn.coming = true;
        drop(turn);
        let same = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(rest).await;
            // First: what changes from here on may not be in it.
            same.lock().coming = false;
            same.build();
        });
    }

    fn build(&self) {
        let began = Instant::now();
        (self.build)();
        self.lock().free = Some(Instant::now() + began.elapsed() * PAUSE_FACTOR);
    }

    fn lock(&self) -> MutexGuard<'_, DebounceState> {
        self.state.lock()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_traffic_asks_for_is_built_on_another_thread() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let (built, seen) = tokio::sync::oneshot::channel();
        let built = Mutex::new(Some(built));
        let changed = paced_elsewhere(runtime.handle().clone(), move || {
            let thread = std::thread::current().id();
            built.lock().take().into_iter().for_each(|built| built.send(thread).unwrap());
        });
        changed();
        assert_ne!(seen.await.unwrap(), std::thread::current().id());
        runtime.shutdown_background();
    }

    #[tokio::test]
    async fn the_first_is_at_once_and_many_that_follow_are_one() {
        let (asked, built) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (seen, builds) = (Arc::clone(&asked), Arc::clone(&built));
        let changed = paced(Handle::current(), move || {
            // A build that takes time, so that the others come while it runs.
            std::thread::sleep(Duration::from_millis(20));
            builds.lock().push(seen.load(Ordering::Relaxed));
        });
        for _ in 0..1000 {
            asked.fetch_add(1, Ordering::Relaxed);
            changed();
        }
        assert_eq!(*built.lock(), [1], "at once");
        let deadline = Instant::now() + Duration::from_secs(10);
        while built.lock().len() < 2 {
            assert!(Instant::now() < deadline, "the others were forgotten");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(*built.lock(), [1, 1000], "one for all of them, with the last in it");
    }
}
