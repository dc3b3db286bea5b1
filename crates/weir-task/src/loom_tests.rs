//! Models of the waker with a second thread, run by loom in every order: `make loom`.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use crate::shared_waker::TaskSlot;
use crate::wake_counter::register;

#[test]
fn a_wake_from_another_thread_is_never_lost() {
    loom::model(|| {
        let (wakes, _, slot) = register(TaskSlot::register);
        let ready = Arc::new(AtomicBool::new(false));
        let waking = thread::spawn({
            let (ready, waker) = (Arc::clone(&ready), slot.waker().clone());
            move || {
                ready.store(true, Ordering::Relaxed);
                waker.wake();
            }
        });
        slot.poll_started();
        let mut seen = ready.load(Ordering::Relaxed);
        if !slot.poll_finished() {
            slot.poll_started();
            seen |= ready.load(Ordering::Relaxed);
            assert!(seen, "a poll after a wake sees what the wake is about");
            slot.poll_finished();
        }
        waking.join().unwrap();
        assert!(seen || wakes.count() > 0);
    });
}

#[test]
fn the_poll_that_a_wake_causes_sees_what_the_wake_is_about() {
    loom::model(|| {
        let (wakes, _, slot) = register(TaskSlot::register);
        let ready = Arc::new(AtomicBool::new(false));
        let waking = thread::spawn({
            let (ready, waker) = (Arc::clone(&ready), slot.waker().clone());
            move || {
                ready.store(true, Ordering::Relaxed);
                waker.wake();
            }
        });
        if wakes.count() > 0 {
            slot.poll_started();
            assert!(ready.load(Ordering::Relaxed));
            assert!(slot.poll_finished(), "there was one wake");
        }
        waking.join().unwrap();
        assert_eq!(wakes.count(), 1);
    });
}

#[test]
fn a_wake_may_race_with_the_end_of_the_task() {
    loom::model(|| {
        let (wakes, outer, slot) = register(TaskSlot::register);
        let waking = thread::spawn({
            let waker = slot.waker().clone();
            move || waker.wake()
        });
        assert!(slot.will_wake(&outer));
        drop(slot);
        waking.join().unwrap();
        assert!(wakes.count() <= 1);
        drop(outer);
        assert_eq!(Arc::strong_count(&wakes), 1, "the runtime's waker is let go");
    });
}

#[test]
fn tasks_of_two_threads_wake_each_other() {
    loom::model(|| {
        let (wakes, _, slot) = register(TaskSlot::register);
        let waker = slot.waker().clone();
        let other = thread::spawn(move || {
            let (wakes, _, slot) = register(TaskSlot::register);
            assert!(!slot.waker().will_wake(&waker));
            waker.wake();
            slot.waker().wake_by_ref();
            assert_eq!(wakes.count(), 1);
        });
        slot.poll_started();
        slot.poll_finished();
        other.join().unwrap();
        assert!(wakes.count() <= 1);
    });
}
