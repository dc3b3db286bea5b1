//! Shutdown phase of a listener: open, closing, leaving. It only moves forward.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::sync::watch;

/// The shutdown phase of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ShutdownPhase {
    /// The listener accepts connections.
    Open,
    /// The listener was removed from the configuration. Each connection ends after its next response.
    Closing,
    /// The process ends. Connections without a request end now.
    Leaving,
    /// The grace period is over: requests end now as well.
    Aborting,
}

/// Sets the phase of one listener.
#[derive(Debug)]
pub(super) struct ShutdownPhaseControl {
    phase: watch::Sender<ShutdownPhase>,
    /// Whether the phase is past `Open`. It is a separate atomic because it is read for every request, and a read of a
    /// watch channel takes a lock.
    ending: Arc<AtomicBool>,
    /// Pingora's shutdown signal: true once the phase is past `Open`.
    pingora: watch::Sender<bool>,
}

impl ShutdownPhaseControl {
    pub(super) fn new() -> Self {
        Self {
            phase: watch::Sender::new(ShutdownPhase::Open),
            ending: Arc::default(),
            pingora: watch::Sender::new(false),
        }
    }

    pub(super) fn advance(&self, to: ShutdownPhase) {
        self.ending.fetch_or(to > ShutdownPhase::Open, Ordering::AcqRel);
        self.phase.send_if_modified(|phase| {
            let forward = to > *phase;
            *phase = to.max(*phase);
            forward
        });
        self.pingora.send_replace(true);
    }

    /// Whether a connection or the accept loop still watches the phase.
    pub(super) fn is_watched(&self) -> bool {
        self.phase.receiver_count() > 0
    }

    pub(super) fn watch(&self) -> ShutdownPhaseWatch {
        ShutdownPhaseWatch {
            phase: self.phase.subscribe(),
            ending: Arc::clone(&self.ending),
            pingora: self.pingora.subscribe(),
        }
    }
}

/// Watches the phase of one listener.
#[derive(Debug, Clone)]
pub(super) struct ShutdownPhaseWatch {
    phase: watch::Receiver<ShutdownPhase>,
    ending: Arc<AtomicBool>,
    pub(super) pingora: watch::Receiver<bool>,
}

impl ShutdownPhaseWatch {
    /// Whether the phase is past `Open`.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Whether the process ends.
    pub(super) fn is_leaving(&self) -> bool {
        *self.phase.borrow() > ShutdownPhase::Closing
    }

    /// Completes when the phase is past this one. Never completes if the control is dropped before.
    pub(super) async fn past(&mut self, phase: ShutdownPhase) {
        past(&mut self.phase, phase).await;
    }

    /// A reusable wait for the next phase, for callers that wait repeatedly.
    pub(super) fn next_change(&self) -> PhaseChange {
        PhaseChange::of(self.phase.clone())
    }
}

/// A wait for the next phase, reused over many requests. Reuse is cheaper than a new wait for each request.
pub(super) struct PhaseChange {
    phase: watch::Receiver<ShutdownPhase>,
    now: ShutdownPhase,
    past: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl PhaseChange {
    fn of(phase: watch::Receiver<ShutdownPhase>) -> Self {
        let now = *phase.borrow();
        let mut waiting = phase.clone();
        Self { phase, now, past: Box::pin(async move { past(&mut waiting, now).await }) }
    }

    /// The phase, as of the last `changed`.
    pub(super) fn now(&self) -> ShutdownPhase {
        self.now
    }

    /// From here on the task is woken by the next change, even if `changed` is not polled meanwhile.
    pub(super) async fn arm(&mut self) {
        if poll_fn(|cx| Poll::Ready(self.past.as_mut().poll(cx).is_ready())).await {
            *self = Self::of(self.phase.clone());
        }
    }

    /// Completes when the phase has changed. It is cancel-safe.
    pub(super) async fn changed(&mut self) {
        self.past.as_mut().await;
        *self = Self::of(self.phase.clone());
    }
}

async fn past(watched: &mut watch::Receiver<ShutdownPhase>, phase: ShutdownPhase) {
    if watched.wait_for(|now| *now > phase).await.is_err() {
        std::future::pending::<()>().await;
    }
}
