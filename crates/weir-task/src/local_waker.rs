//! A waker whose data is a task number instead of a reference count.
//!
//! Clone and drop are free, and a wake from the task's own thread takes no lock. A request clones, drops and wakes its
//! waker about a dozen times. With the runtime's waker each of these is an atomic operation. A wake from another thread
//! takes one process-wide mutex to find the runtime's waker.
//!
//! A waker does not keep its task alive. If it outlives the task, a wake does nothing, or wakes a later task with the
//! same number. The contract of `Waker` allows such a spurious wake.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr;
use std::rc::Rc;
use std::sync::PoisonError;
use std::task::{RawWaker, RawWakerVTable, Waker};

use slab::Slab;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard, shared_static, thread_local};

/// Number of low bits that are the task's index on its thread. The high bits are the thread's number.
const INDEX_BITS: u32 = usize::BITS / 2;

static VTABLE: RawWakerVTable = RawWakerVTable::new(|number| RawWaker::new(number, &VTABLE), wake, wake, |_| ());

shared_static! {
    /// The runtime's wakers by task number, for wakes from other threads.
    static REMOTE_WAKERS: Mutex<BTreeMap<usize, Waker>> = Mutex::new(BTreeMap::new());
}

shared_static! {
    /// The number of the next thread.
    static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);
}

thread_local! {
    static LOCAL_TASKS: LocalTasks = LocalTasks::new();
}

/// The number and the waker of one task. It belongs to the thread that registered it.
pub(crate) struct TaskSlot {
    number: usize,
    waker: Waker,
}

impl TaskSlot {
    /// Registers a task on this thread. `outer`: the runtime's waker of the task. `None` if all numbers are in use.
    pub(crate) fn register(outer: &Waker) -> Option<Self> {
        let number = LOCAL_TASKS.with(|tasks| tasks.add(outer.clone()))?;
        remote_wakers().insert(number, outer.clone());
        Some(Self { number, waker: waker(number) })
    }

    /// The waker to poll the task with.
    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether the slot wakes the same task as `outer`. `None` on a thread other than its own.
    pub(crate) fn will_wake(&self, outer: &Waker) -> Option<bool> {
        self.with_local(|task| task.outer.will_wake(outer))
    }

    /// Call before each poll. Clears earlier wakes.
    pub(crate) fn poll_started(&self) {
        self.with_local(|task| task.state.set(State::Polling));
    }

    /// Call after each pending poll. Returns `false` if the task's own thread woke it during the poll: then poll it
    /// again. Otherwise the task is idle. A wake from another thread goes to the runtime directly.
    pub(crate) fn poll_finished(&self) -> bool {
        let idle = self.with_local(|task| {
            let idle = task.state.get() != State::Woken;
            if idle {
                task.state.set(State::Idle);
            }
            idle
        });
        idle.unwrap_or(true)
    }

    fn with_local<T>(&self, look: impl FnOnce(&Rc<LocalTask>) -> T) -> Option<T> {
        LOCAL_TASKS.try_with(|tasks| tasks.get(self.number, look)).ok().flatten()
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        // Dropping a waker runs code of the runtime, so this happens without the lock.
        let remote = remote_wakers().remove(&self.number);
        let local = LOCAL_TASKS.try_with(|tasks| tasks.remove(self.number));
        drop((remote, local));
    }
}

/// Makes the waker of a task.
#[allow(unsafe_code, reason = "a waker without an `Arc` needs a vtable")]
fn waker(number: usize) -> Waker {
    // SAFETY: the data is a number, and no function of the vtable dereferences it. Each of them accepts any number, on
    // any thread, at any time: an unknown number wakes nothing. Clone and drop have nothing to do.
    unsafe { Waker::new(ptr::without_provenance(number), &VTABLE) }
}

/// The state of a task on its own thread.
struct LocalTask {
    outer: Waker,
    state: Cell<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Polling,
    /// Woken, and not polled since then.
    Woken,
}

/// The tasks of a thread. The runtime's wakers are never called while `tasks` is borrowed.
struct LocalTasks {
    thread: usize,
    tasks: RefCell<Slab<Rc<LocalTask>>>,
}

impl LocalTasks {
    fn new() -> Self {
        Self { thread: NEXT_THREAD.fetch_add(1, Ordering::Relaxed), tasks: RefCell::default() }
    }

    fn add(&self, outer: Waker) -> Option<usize> {
        let mut tasks = self.tasks.borrow_mut();
        let in_range = self.thread >> INDEX_BITS == 0 && tasks.vacant_key() >> INDEX_BITS == 0;
        let task = || Rc::new(LocalTask { outer, state: Cell::new(State::Idle) });
        in_range.then(|| self.thread << INDEX_BITS | tasks.insert(task()))
    }

    /// Reads one of this thread's tasks. `look` must not call a waker.
    fn get<T>(&self, number: usize, look: impl FnOnce(&Rc<LocalTask>) -> T) -> Option<T> {
        self.tasks.borrow().get(self.index(number)?).map(look)
    }

    fn remove(&self, number: usize) -> Option<Rc<LocalTask>> {
        let index = self.index(number)?;
        self.tasks.borrow_mut().try_remove(index)
    }

    /// The index of a task. `None` if the number belongs to another thread.
    fn index(&self, number: usize) -> Option<usize> {
        (number >> INDEX_BITS == self.thread).then_some(number & ((1 << INDEX_BITS) - 1))
    }
}

fn remote_wakers() -> MutexGuard<'static, BTreeMap<usize, Waker>> {
    REMOTE_WAKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the task. During a poll on this thread it only sets the state. Otherwise it calls the runtime's waker.
fn wake(data: *const ()) {
    let number = data.addr();
    // The task is cloned out of the slab first, because the runtime's waker may poll or drop the task synchronously.
    match LOCAL_TASKS.try_with(|tasks| tasks.get(number, Rc::clone)) {
        Ok(Some(task)) => {
            if task.state.replace(State::Woken) == State::Idle {
                task.outer.wake_by_ref();
            }
        }
        _ => {
            let outer = remote_wakers().get(&number).cloned();
            outer.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;
    use std::thread;

    use super::*;
    use crate::wake_counter::register;

    #[test]
    fn an_idle_task_is_woken_once_and_a_wake_during_a_poll_is_reported_at_its_end() {
        let (wakes, _, slot) = register(TaskSlot::register);
        let waker = slot.waker().clone();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(wakes.count(), 1);
        slot.poll_started();
        assert!(slot.poll_finished());
        slot.poll_started();
        waker.wake();
        assert_eq!((wakes.count(), slot.poll_finished()), (1, false));
        slot.poll_started();
        assert!(slot.poll_finished());
        slot.waker().wake_by_ref();
        assert_eq!(wakes.count(), 2);
    }

    #[test]
    fn a_wake_from_another_thread_goes_to_the_runtime_whatever_the_state_of_the_task() {
        let (wakes, outer, slot) = register(TaskSlot::register);
        assert_eq!(slot.will_wake(&outer), Some(true));
        assert_eq!(slot.will_wake(Waker::noop()), Some(false));
        slot.poll_started();
        let waker = slot.waker().clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                waker.wake_by_ref();
                waker.wake_by_ref();
                assert_eq!(slot.will_wake(&outer), None);
            });
        });
        assert_eq!((wakes.count(), slot.poll_finished()), (2, true));
    }

    #[test]
    fn a_waker_that_outlives_its_task_wakes_nothing_or_a_later_task_with_the_same_number() {
        let (wakes, _, slot) = register(TaskSlot::register);
        let waker = slot.waker().clone();
        drop(slot);
        waker.wake_by_ref();
        thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join()).unwrap();
        assert_eq!((wakes.count(), Arc::strong_count(&wakes)), (0, 1), "nothing of it is kept");
        let (later, _, slot) = register(TaskSlot::register);
        assert!(slot.waker().will_wake(&waker), "numbers are used again");
        waker.wake();
        assert_eq!((wakes.count(), later.count()), (0, 1));
    }

    #[test]
    fn each_thread_has_its_own_tasks() {
        let (wakes, _, slot) = register(TaskSlot::register);
        let (others, taken) = thread::scope(|scope| {
            scope
                .spawn(|| {
                    let (others, _, theirs) = register(TaskSlot::register);
                    assert!(!theirs.waker().will_wake(slot.waker()));
                    slot.waker().wake_by_ref();
                    theirs.waker().wake_by_ref();
                    (others, theirs)
                })
                .join()
                .unwrap()
        });
        assert_eq!((wakes.count(), others.count()), (1, 1));
        drop(taken);
        assert_eq!(Arc::strong_count(&others), 1, "its thread has ended, and nothing is kept");
    }

    /// A runtime waker that registers, wakes and drops tasks synchronously.
    struct Reentrant;

    impl Wake for Reentrant {
        fn wake(self: Arc<Self>) {
            let (wakes, _, slot) = register(TaskSlot::register);
            slot.waker().wake_by_ref();
            assert_eq!(wakes.count(), 1);
        }
    }

    impl Drop for Reentrant {
        fn drop(&mut self) {
            drop(register(TaskSlot::register));
        }
    }

    #[test]
    fn a_runtime_s_waker_may_wake_register_and_drop_tasks() {
        let outer = Waker::from(Arc::new(Reentrant));
        let slot = TaskSlot::register(&outer).unwrap();
        slot.waker().wake_by_ref();
        drop(outer);
        drop(slot);
    }
}
