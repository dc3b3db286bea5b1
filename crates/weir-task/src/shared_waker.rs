//! A waker that knows whether its task is being polled: a wake during a poll does not go to the runtime.
//!
//! It works on any thread.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::sync::atomic::{AtomicU8, Ordering};

const IDLE: u8 = 0;
const POLLING: u8 = 1;
/// Woken, and not polled since then.
const WOKEN: u8 = 2;

/// The waker of one task.
pub(crate) struct TaskSlot {
    task: Arc<Task>,
    waker: Waker,
}

struct Task {
    /// The runtime's waker.
    outer: Waker,
    state: AtomicU8,
}

impl TaskSlot {
    /// A slot for the task that the runtime wakes by `outer`.
    pub(crate) fn register(outer: &Waker) -> Self {
        let task = Arc::new(Task { outer: outer.clone(), state: AtomicU8::new(IDLE) });
        let waker = Waker::from(Arc::clone(&task));
        Self { task, waker }
    }

    /// The waker to poll the task with.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether it wakes the same task as `outer`.
    pub(crate) fn will_wake(&self, outer: &Waker) -> bool {
        self.task.outer.will_wake(outer)
    }

    /// Call before each poll. Clears earlier wakes.
    pub(crate) fn poll_started(&self) {
        self.task.state.swap(POLLING, Ordering::AcqRel);
    }

    /// Call after each pending poll. Returns `false` if the task was woken during the poll: then poll it again.
    pub(crate) fn poll_finished(&self) -> bool {
        self.task.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == IDLE {
            self.outer.wake_by_ref();
        }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wake_counter::{WakeCounter, register};

    #[test]
    fn an_idle_task_is_woken_once_until_its_next_poll() {
        let (wakes, _, slot) = register(TaskSlot::register);
        let waker = slot.waker().clone();
        waker.wake_by_ref();
        waker.wake();
        assert_eq!(wakes.count(), 1);
        slot.poll_started();
        assert!(slot.poll_finished());
        slot.waker().wake_by_ref();
        assert_eq!(wakes.count(), 2);
    }

    #[test]
    fn a_wake_during_a_poll_is_reported_at_its_end_and_not_to_the_runtime() {
        let (wakes, _, slot) = register(TaskSlot::register);
        slot.poll_started();
        slot.waker().wake_by_ref();
        assert!(!slot.poll_finished());
        assert_eq!(wakes.count(), 0);
    }

    #[test]
    fn a_slot_recognizes_and_releases_the_runtime_waker() {
        let (wakes, outer, slot) = register(TaskSlot::register);
        assert!(slot.will_wake(&outer));
        assert!(!slot.will_wake(&WakeCounter::waker().1));
        drop((slot, outer));
        assert_eq!(Arc::strong_count(&wakes), 1);
    }
}
