//! How the task of a connection is polled and woken on a current-thread runtime.
//!
//! - [`YieldOnce`] batches flushes: a task that wants to write lets the ready tasks run first, so that the thread reads for
//!   many connections and then writes for many.
//! - [`InlineRepoll`] polls a task again at once if it woke itself, at most four times in a row.
//!
//! docs/performance.md has the measured gain of each. The crate knows nothing about the tasks.

mod flush_batch;
mod inline_repoll;
#[cfg(all(test, loom))]
mod loom_tests;
mod shared_waker;
mod sync;
#[cfg(test)]
mod wake_counter;

pub use flush_batch::YieldOnce;
pub use inline_repoll::InlineRepoll;
