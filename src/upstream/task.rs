//! Background tasks of an upstream: health checkers, resolvers, discovery.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Called after a change that members depend on.
pub type Changed = Arc<dyn Fn() + Send + Sync>;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Owned(AbortHandle);

impl Owned {
    /// Starts a task on a runtime.
    pub fn spawn(handle: &Handle, task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(handle.spawn(task).abort_handle())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
