//! What wakes a task, by number: who holds it is not counted, and nothing is locked where a task's own thread wakes it.
//!
//! The parts of a request hand a waker on a dozen times; each time the runtime's own is counted, which locks the memory it
//! counts in. It keeps no task alive: one that is held for longer than its task wakes nobody, or a later task for nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{RawWaker, RawWakerVTable, Waker};

use slab::Slab;

/// The bits that a task's place among those of its thread takes; those above are the thread's.
const PLACE: u32 = usize::BITS / 2;

static VTABLE: RawWakerVTable = RawWakerVTable::new(|bell| RawWaker::new(bell, &VTABLE), wake, wake, |_| ());

/// The runtime's wakers, for threads that are not the task's own.
static REMOTE_WAKERS: Mutex<BTreeMap<usize, Waker>> = Mutex::new(BTreeMap::new());

thread_local! {
    static HERE: Here = Here::new();
}

/// A task's bell. It belongs to the thread on which it was hung.
pub(super) struct TaskSlot {
    number: usize,
    waker: Waker,
}

impl TaskSlot {
    /// A bell of this thread for the task that the runtime wakes by `outer`; none where numbers have run out.
    pub(super) fn register(outer: &Waker) -> Option<Self> {
        let number = HERE.with(|here| here.add(outer))?;
        far().insert(number, outer.clone());
        // SAFETY: what hangs on the pointer is a number, which nobody reads through, and every function of the table
        // takes any number from any thread.
        let waker = unsafe { Waker::new(ptr::without_provenance(number), &VTABLE) };
        Some(Self { number, waker })
    }

    /// What the task is polled with.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether it rings for this one; nothing on a thread that is not its own.
    pub(super) fn is_for(&self, outer: &Waker) -> Option<bool> {
        self.near(|task| task.outer.will_wake(outer))
    }

    /// The task runs; that it was rung for before is forgotten.
    pub(super) fn runs(&self) {
        self.near(|task| task.state.set(State::Runs));
    }

    /// Whether the task waits now: not if it was rung for since it runs.
    pub(super) fn rests(&self) -> bool {
        let rests = self.near(|task| {
            let rests = task.state.get() != State::Rung;
            if rests {
                task.state.set(State::Waits);
            }
            rests
        });
        rests.unwrap_or(true)
    }

    fn near<T>(&self, look: impl FnOnce(&LocalTask) -> T) -> Option<T> {
        HERE.try_with(|here| here.near(self.number, look)).ok().flatten()
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        let far = far().remove(&self.number);
        let near = HERE.try_with(|here| here.remove(self.number));
        drop((far, near));
    }
}

/// A task, for its own thread.
struct LocalTask {
    outer: Waker,
    state: Cell<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Runs,
    /// And not polled since.
    Rung,
}

/// A thread's tasks.
struct Here {
    thread: usize,
    tasks: RefCell<Slab<LocalTask>>,
}

impl Here {
    fn new() -> Self {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        Self { thread: THREADS.fetch_add(1, Ordering::Relaxed), tasks: RefCell::default() }
    }

    fn add(&self, outer: &Waker) -> Option<usize> {
        let mut tasks = self.tasks.borrow_mut();
        let in_range = self.thread >> PLACE == 0 && tasks.vacant_key() >> PLACE == 0;
        in_range.then(|| {
            self.thread << PLACE | tasks.insert(LocalTask { outer: outer.clone(), state: Cell::new(State::Waits) })
        })
    }

    fn near<T>(&self, number: usize, look: impl FnOnce(&LocalTask) -> T) -> Option<T> {
        let (thread, place) = (number >> PLACE, number & ((1 << PLACE) - 1));
        (thread == self.thread).then(|| self.tasks.borrow().get(place).map(look)).flatten()
    }

    fn remove(&self, number: usize) -> Option<LocalTask> {
        let place = number & ((1 << PLACE) - 1);
        let own = number >> PLACE == self.thread;
        own.then(|| self.tasks.borrow_mut().try_remove(place)).flatten()
    }
}

fn far() -> MutexGuard<'static, BTreeMap<usize, Waker>> {
    REMOTE_WAKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the task: here while it runs, by the runtime while it waits.
fn wake(bell: *const ()) {
    let number = bell.addr();
    let near = HERE.try_with(|here| {
        here.near(number, |task| {
            if task.state.replace(State::Rung) == State::Waits {
                task.outer.wake_by_ref();
            }
        })
    });
    if !matches!(near, Ok(Some(()))) {
        let outer = far().get(&number).cloned();
        outer.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;
    use std::thread;

    use super::*;

    /// Counts how often the runtime would poll.
    #[derive(Default)]
    struct Calls(AtomicU32);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hung() -> (Arc<Calls>, Waker, TaskSlot) {
        let calls = Arc::new(Calls::default());
        let outer = Waker::from(Arc::clone(&calls));
        let bell = TaskSlot::register(&outer).unwrap();
        (calls, outer, bell)
    }

    fn count(calls: &Calls) -> u32 {
        calls.0.load(Ordering::Relaxed)
    }

    #[test]
    fn a_task_that_waits_is_woken_once_and_one_that_runs_hears_of_it_at_its_end() {
        let (calls, _, bell) = hung();
        let waker = bell.waker().clone();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count(&calls), 1);
        bell.runs();
        assert!(bell.rests());
        bell.runs();
        waker.wake();
        assert_eq!((count(&calls), bell.rests()), (1, false));
        bell.runs();
        assert!(bell.rests());
        bell.waker().wake_by_ref();
        assert_eq!(count(&calls), 2);
    }

    #[test]
    fn from_another_thread_the_runtime_is_asked_whatever_the_task_does() {
        let (calls, outer, bell) = hung();
        assert_eq!(bell.is_for(&outer), Some(true));
        assert_eq!(bell.is_for(Waker::noop()), Some(false));
        bell.runs();
        let waker = bell.waker().clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                waker.wake_by_ref();
                waker.wake_by_ref();
                assert_eq!(bell.is_for(&outer), None);
            });
        });
        assert_eq!((count(&calls), bell.rests()), (2, true));
    }

    #[test]
    fn a_bell_that_was_taken_down_rings_for_nobody_or_for_who_has_its_number_now() {
        let (calls, _, bell) = hung();
        let waker = bell.waker().clone();
        drop(bell);
        waker.wake_by_ref();
        thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join()).unwrap();
        assert_eq!((count(&calls), Arc::strong_count(&calls)), (0, 1), "nothing of it is kept");
        let (later, _, bell) = hung();
        assert!(bell.waker().will_wake(&waker), "numbers are used again");
        waker.wake();
        assert_eq!((count(&calls), count(&later)), (0, 1));
    }

    #[test]
    fn each_thread_has_bells_of_its_own() {
        let (calls, _, bell) = hung();
        let (others, taken) = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let (others, _, theirs) = hung();
                    assert!(!theirs.waker().will_wake(bell.waker()));
                    bell.waker().wake_by_ref();
                    theirs.waker().wake_by_ref();
                    (others, theirs)
                })
                .join()
                .unwrap()
        });
        assert_eq!((count(&calls), count(&others)), (1, 1));
        drop(taken);
        assert_eq!(Arc::strong_count(&others), 1, "its thread has ended, and nothing is kept");
    }
}
