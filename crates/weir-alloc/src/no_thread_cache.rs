//! A replacement for the thread cache without the feature `thread-cache`. It caches nothing. For measurements only.

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
/// There is no requirement: the function never uses the block.
#[inline(always)]
pub(crate) unsafe fn put(_block: NonNull<u8>, _size: usize) -> bool {
    false
}
