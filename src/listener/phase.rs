//! How far a listener is on its way out. Only ever forward.

use tokio::sync::watch;

/// How far a listener is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It accepts.
    Open,
    /// It is no longer configured: each connection ends with its next response.
    Closing,
    /// The process ends: connections without a request end now.
    Leaving,
}

/// The side that decides.
#[derive(Debug)]
pub(super) struct PhaseControl {
    phase: watch::Sender<Phase>,
    /// What Pingora understands: true once past `Open`.
    pingora: watch::Sender<bool>,
}

impl PhaseControl {
    pub(super) fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Open), pingora: watch::Sender::new(false) }
    }

    pub(super) fn advance(&self, to: Phase) {
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

    pub(super) fn watch(&self) -> PhaseWatch {
        PhaseWatch { phase: self.phase.subscribe(), pingora: self.pingora.subscribe() }
    }
}

/// The side that looks.
#[derive(Debug, Clone)]
pub(super) struct PhaseWatch {
    phase: watch::Receiver<Phase>,
    pub(super) pingora: watch::Receiver<bool>,
}

impl PhaseWatch {
    pub(super) fn get(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns once the phase is past this one; never if nobody is left to say so.
    pub(super) async fn past(&mut self, phase: Phase) {
        if self.phase.wait_for(|now| *now > phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
