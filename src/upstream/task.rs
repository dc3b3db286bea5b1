//! Background tasks of an upstream: health checkers, resolvers, discovery.

use std::sync::Arc;

/// Callback after a change that members depend on.
pub type Changed = Arc<dyn Fn() + Send + Sync>;
