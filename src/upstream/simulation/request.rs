//! A request of the simulation: its properties, its stage, and the outcome of its attempts.
//!
//! It makes no decisions.

use std::sync::Arc;

use super::backends::Mood;
use super::reference_queue::Waiting;
use crate::backend::InFlight;
use crate::upstream::Upstream;
use crate::upstream::backend::Backend;
use crate::upstream::balance::Tried;
use crate::upstream::balance::rng::Prng;
use crate::upstream::outlier::AttemptObserver;
use crate::upstream::retry_policy::{self, Failed};

/// A request in progress.
pub struct Request {
    /// The generation in which it arrived.
    pub upstream: Arc<Upstream>,
    pub key: Option<u64>,
    pub tried: Tried,
    pub tries: u8,
    pub idempotent: bool,
    pub replayable: bool,
    pub stage: Stage,
}

/// The stage of a request.
pub enum Stage {
    /// Between two tries.
    Idle,
    Waiting(Box<Waiting>),
    Trying(Attempt),
}

impl Request {
    pub fn new(upstream: &Arc<Upstream>, rng: &mut Prng) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            key: (rng.below(8) > 0).then(|| rng.draw()),
            tried: Tried::default(),
            tries: 0,
            idempotent: rng.below(4) > 0,
            replayable: rng.below(10) > 0,
            stage: Stage::Idle,
        }
    }

    /// The request as the retry policy sees it.
    pub fn described(&self) -> retry_policy::Request {
        retry_policy::Request {
            tries: self.tries,
            idempotent: self.idempotent,
            replayable: self.replayable,
            response_begun: false,
            too_late: false,
        }
    }
}

/// One attempt at one backend.
pub struct Attempt {
    pub backend: Arc<Backend>,
    pub watching: Option<AttemptObserver>,
    pub outcome: Outcome,
    /// Held until the attempt is dropped.
    pub _guard: InFlight,
}

/// The outcome of an attempt and its duration.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub took_ms: u64,
    pub failed: Option<Failed>,
}

impl Outcome {
    pub fn draw(mood: Mood, rng: &mut Prng) -> Self {
        let kinds = [Failed::ToConnect, Failed::Reset, Failed::Timeout, Failed::Status(503), Failed::Status(500)];
        let fails = rng.below(100) < mood.fails;
        Self {
            took_ms: rng.below(2 * mood.latency_ms + 1),
            failed: fails.then(|| kinds[rng.below(kinds.len() as u64) as usize]),
        }
    }
}
