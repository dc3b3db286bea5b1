//! Synchronization primitives: those of the standard library, or loom's models under `--cfg loom`.

#[cfg(loom)]
pub(crate) use loom::{sync::atomic, thread_local};
#[cfg(not(loom))]
pub(crate) use std::{sync::atomic, thread_local};

#[cfg(feature = "local-waker")]
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(feature = "local-waker")]
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Declares a static. Under loom it is initialized again for each run of a model.
#[cfg(feature = "local-waker")]
macro_rules! shared_static {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(not(loom))]
        $(#[$doc])*
        static $name: $type = $value;
        #[cfg(loom)]
        loom::lazy_static! {
            $(#[$doc])*
            static ref $name: $type = $value;
        }
    };
}
#[cfg(feature = "local-waker")]
pub(crate) use shared_static;
