//! How a connection's task is polled and woken on a current-thread runtime.

mod flush_batch;
mod inline_repoll;
mod local_waker;

pub use flush_batch::YieldOnce;
pub use inline_repoll::InlineRepoll;
