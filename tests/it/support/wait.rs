//! Waiting. A test waits for a condition, with a deadline; or it says that nothing may happen, and for how long; or a peer
//! that it plays is slow on purpose. Only this module sleeps.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a condition may take to come true on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The time between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What a condition gives: whether it holds, or the value that is waited for.
pub trait Condition {
    type Value;

    fn met(self) -> Option<Self::Value>;
}

impl Condition for bool {
    type Value = ();

    fn met(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn met(self) -> Option<T> {
        self
    }
}

/// Waits until the condition is met.
pub fn eventually<C: Condition>(what: &str, mut condition: impl FnMut() -> C) -> C::Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().met() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(POLL_INTERVAL);
    }
}

/// Waits until the condition holds, and lets other tasks of the test go on.
pub async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        delayed(POLL_INTERVAL).await;
    }
}

/// Waits this long; the condition must hold all the time.
pub fn stays(what: &str, time: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    loop {
        assert!(condition(), "no longer: {what}");
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(POLL_INTERVAL));
    }
}

/// A pause that belongs to the scenario: a peer of Weir that is slow or silent on purpose. Never a wait for Weir.
pub fn delay(time: Duration) {
    sleep(time);
}

/// The same in a task.
pub async fn delayed(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A fixed rate: it does not get slower by what is done between two ticks.
pub struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    pub fn every(interval: Duration) -> Self {
        Self { interval, next: Instant::now() + interval }
    }

    /// Waits for the next tick, if it has not passed yet.
    pub fn tick(&mut self) {
        sleep(self.next.saturating_duration_since(Instant::now()));
        self.next += self.interval;
    }
}
