//! Rate limit of member rebuilds for verdicts of probes and traffic: at once, but at most 10 % of the time.
//!
//! A build with thousands of backends takes milliseconds, and the first verdicts of all of them arrive together. A
//! build for each verdict would take minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;

use crate::upstream::task::Changed;

/// Length of the pause after a build, as a multiple of the duration of the build.
const PAUSE_FACTOR: u32 = 9;

/// Returns a callback that runs `build` at once. During the pause after a build, all its calls together cause one later
/// build on `runtime`.
pub(super) fn paced(runtime: Handle, build: impl Fn() + Send + Sync + 'static) -> Changed {
    let debounce = Arc::new(Debounce { build, runtime, state: Mutex::default() });
    Arc::new(move || debounce.ask(true))
}

/// As `paced`, but the callback never builds on the thread of its caller. Traffic threads call it. A build takes
/// milliseconds, and a lock that threads of low priority also take.
pub(super) fn paced_elsewhere(runtime: Handle, build: impl Fn() + Send + Sync + 'static) -> Changed {
    let debounce = Arc::new(Debounce { build, runtime, state: Mutex::default() });
    Arc::new(move || debounce.ask(false))
}

struct Debounce<F> {
    build: F,
    runtime: Handle,
    state: Mutex<DebounceState>,
}

#[derive(Default)]
struct DebounceState {
    /// No build before this time.
    free: Option<Instant>,
    /// A build is scheduled.
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
            // Reset before the build: later changes may not be part of it.
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
    async fn a_build_requested_by_traffic_runs_on_another_thread() {
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
    async fn the_first_build_is_immediate_and_later_requests_share_one() {
        let (asked, built) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (seen, builds) = (Arc::clone(&asked), Arc::clone(&built));
        let changed = paced(Handle::current(), move || {
            // The build takes time, so the other requests arrive while it runs.
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
