//! Expiry times of connections in Pingora's pool, for backends that announce an idle timeout (`Keep-Alive: timeout=5`).
//!
//! It never closes a connection. Pingora takes the idle timeout from the peer, which is chosen before the response
//! arrives. So the announced time is checked here when a connection is reused. A connection stays on the thread that
//! opened it, so a thread-local map is enough.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

thread_local! {
    /// By file descriptor. An entry is removed when its connection is reused, and replaced when the descriptor is used
    /// again.
    static LIMITS: RefCell<HashMap<RawFd, Instant>> = RefCell::default();
}

/// Sets the expiry of an idle connection: `limit` after `now`.
pub fn set(fd: RawFd, limit: Duration, now: Instant) {
    if let Some(until) = now.checked_add(limit) {
        LIMITS.with_borrow_mut(|limits| limits.insert(fd, until));
    }
}

/// Removes the entry of a connection that is reused. Returns whether its announced idle timeout has passed.
pub fn take_is_over(fd: RawFd, now: Instant) -> bool {
    LIMITS.with_borrow_mut(|limits| !limits.is_empty() && limits.remove(&fd).is_some_and(|until| until <= now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_limit_applies_to_the_next_request_only() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert!(!take_is_over(7, start), "none is known");
        set(7, second, start);
        assert!(!take_is_over(7, start) && !take_is_over(7, start + second), "it was in time");
        set(7, second, start);
        assert!(take_is_over(7, start + second));
        set(7, second, start);
        set(7, second * 3, start);
        assert!(!take_is_over(7, start + second * 2), "the last response counts");
    }
}
