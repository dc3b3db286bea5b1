//! Threads: some that carry requests, and one apart for control, so that probes, scrapes and signals never wait
//! behind traffic nor traffic behind them.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::config::schema::Server;

/// How long what is cut may take to end.
const CUT: Duration = Duration::from_millis(100);

/// The two runtimes.
pub(super) struct Runtimes {
    traffic: Traffic,
    control: Runtime,
    /// Threads that carry requests.
    pub(super) threads: usize,
}

/// Carries requests. One thread alone has nobody to steal from and needs no locks on its queue (docs/architecture.md
/// has the figures).
enum Traffic {
    Many(Runtime),
    One { handle: Handle, stop: oneshot::Sender<()>, thread: JoinHandle<()> },
}

impl Runtimes {
    /// Starts the threads.
    pub(super) fn start(server: &Server) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if server.threads == 0 { cores } else { server.threads };
        let control = Builder::new_multi_thread().worker_threads(1).thread_name("weir-control").enable_all().build()?;
        Ok(Self { traffic: Traffic::start(threads)?, control, threads })
    }

    /// Where requests are carried.
    pub(super) fn traffic(&self) -> &Handle {
        match &self.traffic {
            Traffic::Many(runtime) => runtime.handle(),
            Traffic::One { handle, .. } => handle,
        }
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
        match self.traffic {
            Traffic::Many(runtime) => runtime.shutdown_timeout(CUT),
            Traffic::One { stop, thread, .. } => {
                let _ = stop.send(());
                let _ = thread.join();
            }
        }
        between();
        self.control.shutdown_background();
    }
}

impl Traffic {
    fn start(threads: usize) -> io::Result<Self> {
        const NAME: &str = "weir-traffic";
        if threads > 1 {
            let mut builder = Builder::new_multi_thread();
            return Ok(Self::Many(builder.worker_threads(threads).thread_name(NAME).enable_all().build()?));
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(NAME.into()).spawn(move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(CUT);
        })?;
        Ok(Self::One { handle, stop, thread })
    }
}
