//! How far a listener is on its way out. Only ever forward.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::sync::watch;

/// How far a listener is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ShutdownPhase {
    /// It accepts.
    Open,
    /// It is no longer configured: each connection ends with its next response.
    Closing,
    /// The process ends: connections without a request end now.
    Leaving,
    /// The grace period is over: requests end now as well.
    Aborting,
}

/// The side that decides.
#[derive(Debug)]
pub(super) struct ShutdownPhaseControl {
    phase: watch::Sender<ShutdownPhase>,
    /// Whether it is past `Open`, for those who look with every request: what is watched is locked for a look.
    ending: Arc<AtomicBool>,
    /// What Pingora understands: true once past `Open`.
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

    /// Whether a connection is left.
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

/// The side that looks.
#[derive(Debug, Clone)]
pub(super) struct ShutdownPhaseWatch {
    phase: watch::Receiver<ShutdownPhase>,
    ending: Arc<AtomicBool>,
    pub(super) pingora: watch::Receiver<bool>,
}

impl ShutdownPhaseWatch {
    /// Whether it is past `Open`.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Whether the process ends.
    pub(super) fn is_leaving(&self) -> bool {
        *self.phase.borrow() > ShutdownPhase::Closing
    }

    /// Returns once the phase is past this one; never if nobody is left to say so.
    pub(super) async fn past(&mut self, phase: ShutdownPhase) {
        past(&mut self.phase, phase).await;
    }

    /// For those who wait again and again.
    pub(super) fn next_change(&self) -> PhaseChange {
        PhaseChange::of(self.phase.clone())
    }
}

/// A wait for the next phase that lasts over many others: to go on with it is cheaper than to begin and end one a request.
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

    /// The phase, as far as `changed` has told.
    pub(super) fn now(&self) -> ShutdownPhase {
        self.now
    }

    /// From here on the task is woken by the next change, even if `changed` is not polled meanwhile.
    pub(super) async fn arm(&mut self) {
        if poll_fn(|cx| Poll::Ready(self.past.as_mut().poll(cx).is_ready())).await {
            *self = Self::of(self.phase.clone());
        }
    }

    /// Returns once the phase is another. May be dropped and called again.
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
