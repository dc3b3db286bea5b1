//! Until when connections in Pingora's pool may be used, where their backends announce it (`Keep-Alive: timeout=5`).
//!
//! Pingora takes the time that a connection is kept from the peer, which is chosen before the response comes. So a
//! connection that is reused is looked up here. A connection stays on the thread that opened it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

thread_local! {
    /// By descriptor. An entry goes when its connection is reused or its descriptor is a new connection's.
    static LIMITS: RefCell<HashMap<RawFd, Instant>> = RefCell::default();
}

/// The connection may wait no longer than this for its next request.
pub fn set(fd: RawFd, limit: Duration, now: Instant) {
    if let Some(until) = now.checked_add(limit) {
        LIMITS.with_borrow_mut(|limits| limits.insert(fd, until));
    }
}

/// A connection was taken for a request: whether the time that its backend announced is over.
pub fn take_is_over(fd: RawFd, now: Instant) -> bool {
    LIMITS.with_borrow_mut(|limits| !limits.is_empty() && limits.remove(&fd).is_some_and(|until| until <= now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_for_the_next_request_only() {
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
