//! The upgrade in place: the old process starts the program on disk, hands its listening sockets over and drains.
//!
//! - `frames`: the messages between the two processes, with their order.
//! - `handover`: the steps of the old process. `successor` is the new process, as the old one sees it.
//! - `takeover`: the steps of the new process.
//! - `state`: the runtime state that passes. `old_processes`: the processes that still drain. `program`: what is started.
//!
//! Nothing changes in the old process before the new one serves. If the upgrade fails, the new process is killed.

mod frames;
mod handover;
mod old_processes;
mod program;
mod state;
mod successor;
mod takeover;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use crate::admin::api::UpgradeReply;
use crate::admin::control::ControlError;
use crate::telemetry::Metrics;

pub(super) use handover::{NewProcess, report_until_stopped, run};
pub(super) use old_processes::OldProcesses;
pub use program::Program;
pub(super) use takeover::Takeover;
pub use takeover::{FailureReport, Inheritance};

/// Maximum time until the new process serves.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of old processes that still drain.
const MAX_OLD_PROCESSES: usize = 8;

/// Why an upgrade failed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    /// The new process cannot be started.
    #[error("cannot start {}: {source}", .path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The new process reported a failure.
    #[error("{0}")]
    Failed(String),
    /// The new process has ended.
    #[error("the new process has ended before it was ready")]
    Ended,
    /// The new process was not ready in time.
    #[error("the new process was not ready within {0:?} and was killed")]
    TimedOut(Duration),
    /// The configuration was reloaded meanwhile, so the new process may have read the old one.
    #[error("the configuration was reloaded meanwhile; start the upgrade again")]
    Reloaded,
}

impl UpgradeError {
    fn protocol() -> Self {
        Self::Failed("the new process does not speak this version of the protocol".to_owned())
    }
}

/// The result of a request for an upgrade.
pub(super) type UpgradeResult = Result<UpgradeReply, ControlError>;

/// A request for an upgrade.
#[derive(Debug)]
pub(super) struct UpgradeRequest {
    timeout: Duration,
    /// `None`: a signal asks, and the log has the result.
    reply: Option<oneshot::Sender<UpgradeResult>>,
}

/// The state of upgrades of this process.
#[derive(Debug)]
pub(super) struct Upgrades {
    /// `None`: this process cannot be upgraded.
    program: Option<Program>,
    /// The processes before this one that still drain.
    pub(super) old: Arc<OldProcesses>,
    requests: mpsc::UnboundedSender<UpgradeRequest>,
    received: Mutex<Option<mpsc::UnboundedReceiver<UpgradeRequest>>>,
    admin: Mutex<Option<RunningAdmin>>,
    /// Tasks that only the main process runs.
    main_tasks: Mutex<Vec<AbortHandle>>,
    running: AtomicBool,
    handed_over: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The admin listener of this process.
#[derive(Debug)]
pub(super) struct RunningAdmin {
    /// A copy of its socket.
    pub(super) socket: OwnedFd,
    /// Its address in the configuration.
    pub(super) configured: String,
    /// Whether this process removes the socket's file.
    pub(super) removes_file: bool,
    /// Its drop ends the listener.
    pub(super) stop: Option<oneshot::Sender<()>>,
    /// Completes when the listener has stopped accepting.
    pub(super) closed: Option<oneshot::Receiver<()>>,
    pub(super) ended: JoinHandle<()>,
}

impl UpgradeRequest {
    pub(super) fn of_signal() -> Self {
        Self { timeout: TIMEOUT, reply: None }
    }

    /// Answers the request without an upgrade.
    pub(super) fn refuse(self, why: &str) {
        tracing::warn!("no upgrade: {why}");
        self.answer(Err(ControlError::Impossible(why.to_owned())));
    }

    fn answer(self, result: UpgradeResult) {
        if let Some(reply) = self.reply {
            // The client may have left.
            let _ = reply.send(result);
        }
    }
}

impl Upgrades {
    pub(super) fn new(program: Option<Program>, metrics: Arc<Metrics>) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        Self {
            program,
            old: Arc::new(OldProcesses::new(Arc::clone(&metrics))),
            requests,
            received: Mutex::new(Some(received)),
            admin: Mutex::default(),
            main_tasks: Mutex::default(),
            running: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            metrics,
        }
    }

    /// The requests, for the loop that handles signals. The second call returns a channel without requests.
    pub(super) fn requests(&self) -> mpsc::UnboundedReceiver<UpgradeRequest> {
        self.received.lock().take().unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Asks for an upgrade. The result comes when it has ended.
    pub(super) fn ask(&self, timeout: Option<Duration>) -> oneshot::Receiver<UpgradeResult> {
        let (reply, result) = oneshot::channel();
        let request = UpgradeRequest { timeout: timeout.unwrap_or(TIMEOUT), reply: Some(reply) };
        // Without a receiver, the request and its sender are dropped, and the caller sees that.
        let _ = self.requests.send(request);
        result
    }

    /// Whether a new process is starting.
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether another process has taken over.
    pub(super) fn has_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    pub(super) fn set_admin(&self, admin: RunningAdmin) {
        *self.admin.lock() = Some(admin);
    }

    /// Adds a task that ends when another process takes over.
    pub(super) fn add_main_task(&self, task: AbortHandle) {
        self.main_tasks.lock().push(task);
    }

    /// Stops accepting admin connections. A client that then connects reaches the new process.
    async fn close_admin(&self) {
        let closed = self.admin.lock().as_mut().and_then(|admin| {
            admin.stop = None;
            admin.closed.take()
        });
        if let Some(closed) = closed {
            // The sender is dropped, never used.
            let _ = closed.await;
        }
    }

    /// Ends all that only one process may do: the admin listener, orders of certificates, following older processes.
    pub(super) async fn leave_to_successor(&self) {
        self.main_tasks.lock().drain(..).for_each(|task| task.abort());
        self.old.forget();
        let admin = self.admin.lock().take();
        if let Some(RunningAdmin { socket, stop, ended, .. }) = admin {
            drop((socket, stop));
            let _ = ended.await;
        }
    }

    /// Why there can be no upgrade now.
    fn refusal(&self) -> Option<String> {
        let old = self.old.all().len();
        if self.program.is_none() {
            Some("this process was not started by `weir run`".to_owned())
        } else if std::process::id() == 1 {
            Some("this is process 1, and its end would end the container; start a new container".to_owned())
        } else if old >= MAX_OLD_PROCESSES {
            Some(format!("{old} old processes still drain; wait for one to end, or lower server.shutdown_grace"))
        } else {
            None
        }
    }
}
