//! Whether a route is in maintenance: the state that requests read, and its metric.

use std::sync::atomic::{AtomicU64, Ordering};

/// The state of a route. It belongs to the name of the route, so it survives reloads.
#[derive(Debug, Default)]
pub struct MaintenanceState {
    /// When it was switched on, in milliseconds since the Unix epoch; 0: it is off.
    since_ms: AtomicU64,
}

impl MaintenanceState {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.since_ms.load(Ordering::Relaxed) != 0
    }

    /// When it was switched on, in milliseconds since the Unix epoch. `None`: it is off.
    pub fn since_ms(&self) -> Option<u64> {
        Some(self.since_ms.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    /// Switches it on at this time, or off. Returns whether that is a change. The time of an earlier switch stays.
    pub fn switch(&self, on: bool, now_ms: u64) -> bool {
        let wanted = if on { now_ms.max(1) } else { 0 };
        let changes = |since: u64| ((since != 0) != on).then_some(wanted);
        self.since_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_switch_to_the_same_side_is_no_change() {
        let state = MaintenanceState::default();
        assert!(!state.switch(false, 5) && !state.is_on());
        assert!(state.switch(true, 5) && !state.switch(true, 9));
        assert_eq!((state.since_ms(), state.is_on()), (Some(5), true));
        assert!(state.switch(false, 9) && state.since_ms().is_none());
    }
}
