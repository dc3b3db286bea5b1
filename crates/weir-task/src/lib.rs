//! Polling and waking of connection tasks on a current-thread runtime.
//!
//! - [`YieldOnce`] batches flushes: a task lets the ready tasks run before it writes. So the thread reads from many
//!   connections and then writes to many.
//! - [`InlineRepoll`] polls a task again at once if it woke itself, at most four times in a row.
//!
//! docs/performance.md has the measured gain of each. The crate never depends on what a task does.

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
