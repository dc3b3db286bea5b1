//! The threads and tokio runtimes: traffic threads, and one control thread. Health checks, scrapes and signals never
//! delay traffic, and traffic never delays them.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use weir_alloc::ThreadCacheGuard;

use crate::config::schema::Server;

/// Timeout of the shutdown of a traffic runtime.
const CUT_AFTER_GRACE: Duration = Duration::from_millis(100);

/// All runtimes.
pub(super) struct Runtimes {
    /// Each has its own thread, reactor and timers. A connection's tasks are never woken on another core, and no task
    /// queue needs a lock (docs/performance.md has the figures).
    traffic: Vec<Traffic>,
    control: Runtime,
}

/// A traffic thread.
struct Traffic {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Runtimes {
    /// The number of traffic threads according to the configuration.
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

    /// The runtimes of the traffic threads.
    pub(super) fn traffic(&self) -> Vec<Handle> {
        self.traffic.iter().map(|traffic| traffic.handle.clone()).collect()
    }

    /// The number of traffic threads.
    pub(super) fn threads(&self) -> usize {
        self.traffic.len()
    }

    /// The runtime for signals, admin API, health checks and resolvers.
    pub(super) fn control(&self) -> &Handle {
        self.control.handle()
    }

    /// Runs the future to completion on the calling thread.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.control.block_on(future)
    }

    /// Stops all runtimes and aborts their tasks. `between` runs when no request is left.
    pub(super) fn end<T>(self, between: impl FnOnce() -> T) {
        let stopping = self.traffic.into_iter().map(Traffic::stop).collect::<Vec<_>>();
        for thread in stopping {
            // The panic hook has already logged a panic of the thread.
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
            let _cache_guard = ThreadCacheGuard::new();
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
