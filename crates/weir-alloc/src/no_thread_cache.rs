//! Stands in for the thread cache where the feature `thread-cache` is off: nothing is cached. For measuring only.

use std::ptr::NonNull;

use crate::MIN_ALIGN;

/// Does nothing.
#[derive(Debug)]
pub struct ThreadCacheGuard;

impl ThreadCacheGuard {
    /// Does nothing.
    #[expect(clippy::new_without_default, reason = "as the real one")]
    pub fn new() -> Self {
        Self
    }
}

/// At least 16 bytes, which mimalloc aligns to 16.
#[inline(always)]
pub(crate) fn class_size(size: usize) -> usize {
    size.max(MIN_ALIGN)
}

#[inline(always)]
pub(crate) fn take(_size: usize) -> Option<NonNull<u8>> {
    None
}

/// # Safety
/// None is needed: the block is never taken.
#[inline(always)]
pub(crate) unsafe fn put(_block: NonNull<u8>, _size: usize) -> bool {
    false
}
