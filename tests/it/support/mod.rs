//! A running weir, scripted origins, raw clients. Everything waits for conditions with a deadline.

pub mod client;
pub mod origin;
pub mod weir;

use std::time::{Duration, Instant};

pub use client::{Client, Response, exchange};
pub use origin::{Origin, Reply};
pub use weir::Weir;

/// How long a condition may take to come true on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until the condition gives something.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
