//! Threads: some that carry requests, and one apart for control, so that probes, scrapes and signals never wait
//! behind traffic nor traffic behind them.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use weir_alloc::ThreadCacheGuard;

use crate::config::schema::Server;

/// How long what is cut may take to end.
const CUT_AFTER_GRACE: Duration = Duration::from_millis(100);

/// All runtimes.
pub(super) struct Runtimes {
    /// Each with a thread, a reactor and timers of its own: what belongs to a connection is never woken on another
    /// core, and no queue needs a lock (docs/performance.md has the figures).
    traffic: Vec<Traffic>,
    control: Runtime,
}

/// A thread that carries requests.
struct Traffic {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Runtimes {
    /// How many threads are to carry requests.
    pub(super) fn wanted(server: &Server) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if server.threads == 0 { cores } else { server.threads }
    }

    /// Starts the threads.
    pub(super) fn start(server: &Server) -> io::Result<Self> {
        let threads = Self::wanted(server);
        let control = Builder::new_multi_thread().worker_threads(1).thread_name("weir-control").enable_all().build()?;
        let traffic = (0..threads).map(Traffic::start).collect::<io::Result<_>>()?;
        Ok(Self { traffic, control })
    }

    /// Where requests are carried.
    pub(super) fn traffic(&self) -> Vec<Handle> {
        self.traffic.iter().map(|traffic| traffic.handle.clone()).collect()
    }

    /// How many threads carry requests.
    pub(super) fn threads(&self) -> usize {
        self.traffic.len()
    }

    /// Signals, admin, probes, resolvers.
    pub(super) fn control(&self) -> &Handle {
        self.control.handle()
    }

    /// Runs this to its end, on the thread that calls.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.control.block_on(future)
    }

    /// Cuts what still runs; `between` runs when no request is left.
    pub(super) fn end<T>(self, between: impl FnOnce() -> T) {
        let stopping = self.traffic.into_iter().map(Traffic::stop).collect::<Vec<_>>();
        for thread in stopping {
            // A panic of the thread's has been told by the hook; there is nothing to add.
            let _ = thread.join();
        }
        between();
        self.control.shutdown_background();
    }
}

impl Traffic {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("weir-traffic-{number}")).spawn(move || {
            let _keeping = ThreadCacheGuard::new();
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(CUT_AFTER_GRACE);
        })?;
        Ok(Self { handle, stop, thread })
    }

    fn stop(self) -> JoinHandle<()> {
        let _ = self.stop.send(());
        self.thread
    }
}
