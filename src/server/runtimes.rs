//! Threads: some that carry requests, and one apart for control, so that probes, scrapes and signals never wait
//! behind traffic nor traffic behind them.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::config::schema::Server;

/// The two runtimes.
pub(super) struct Runtimes {
    /// Carries requests.
    pub(super) traffic: Runtime,
    /// Signals, admin, probes, resolvers.
    pub(super) control: Runtime,
    /// Threads of `traffic`.
    pub(super) threads: usize,
}

impl Runtimes {
    /// Starts the threads.
    pub(super) fn start(server: &Server) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if server.threads == 0 { cores } else { server.threads };
        let traffic =
            Builder::new_multi_thread().worker_threads(threads).thread_name("weir-traffic").enable_all().build()?;
        let control = Builder::new_multi_thread().worker_threads(1).thread_name("weir-control").enable_all().build()?;
        Ok(Self { traffic, control, threads })
    }

    /// Cuts what still runs; `between` runs when no request is left.
    pub(super) fn end<T>(self, between: impl FnOnce() -> T) {
        self.traffic.shutdown_timeout(Duration::from_millis(100));
        between();
        self.control.shutdown_background();
    }
}
