//! A cache of freed blocks for each thread: one stack for each size class, in front of mimalloc.
//!
//! A request allocates and frees about 80 small blocks. Rust passes the size of a block to `dealloc`, so the cache
//! finds its stack by the size. mimalloc must look up the page of each block. The block that was freed last is reused
//! first, while it is in the CPU cache. Only threads with a [`ThreadCacheGuard`] have a cache, of a bounded size.
//!
//! The data belongs to one thread. A block that is allocated on one thread and freed on another goes into the cache of
//! the second thread. mimalloc does not detect a double free of a cached block.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::mimalloc::mi_free;

/// Classes up to this size differ by `FINE_STEP_BYTES`, larger ones by `COARSE_STEP_BYTES`.
const FINE_MAX_BYTES: usize = 1024;
const FINE_STEP_BYTES: usize = 16;
const COARSE_STEP_BYTES: usize = 512;
/// Larger blocks are not cached.
const CACHED_MAX_BYTES: usize = 4096;
const CLASSES: usize = FINE_MAX_BYTES / FINE_STEP_BYTES + (CACHED_MAX_BYTES - FINE_MAX_BYTES) / COARSE_STEP_BYTES;

/// Maximum number of bytes that a thread caches per class; 4.4 MiB for all classes. A block that was shrunk in place
/// may be larger than its class. It counts as a block of its class.
const CLASS_MAX_BYTES: usize = 64 * 1024;

thread_local! {
    static CACHE: ThreadCache =
        const { ThreadCache { classes: [const { FreeList::closed() }; CLASSES], guards: Cell::new(0) } };
}

/// While the guard lives, its thread caches freed blocks: up to 64 KiB per size class, and 4.4 MiB in total.
///
/// Several guards on one thread share its cache, which is emptied when the last guard is dropped. If a guard is leaked,
/// the cached blocks leak when its thread ends.
#[derive(Debug)]
pub struct ThreadCacheGuard {
    _not_send: PhantomData<*const ()>,
}

impl ThreadCacheGuard {
    /// Starts the cache of the calling thread.
    #[expect(clippy::new_without_default, reason = "it changes the state of the thread")]
    pub fn new() -> Self {
        CACHE.with(ThreadCache::open);
        Self { _not_send: PhantomData }
    }
}

impl Drop for ThreadCacheGuard {
    fn drop(&mut self) {
        CACHE.with(ThreadCache::close);
    }
}

/// The size to request from mimalloc, so that the block fits every size of its class. At least 16 bytes.
#[inline(always)]
pub(crate) fn class_size(size: usize) -> usize {
    SizeClass::of(size).map_or(size, SizeClass::size)
}

/// Removes a cached block of at least `class_size(size)` bytes, if there is one.
#[inline(always)]
pub(crate) fn take(size: usize) -> Option<NonNull<u8>> {
    let class = SizeClass::of(size)?;
    CACHE.with(|cache| cache.classes[class.0].pop())
}

/// Caches a block. Returns `false` if the block is not cached; the caller still owns it then.
///
/// # Safety
/// The block comes from mimalloc, has `class_size(size)` bytes and the alignment of a pointer, and is no longer used.
#[inline(always)]
pub(crate) unsafe fn put(block: NonNull<u8>, size: usize) -> bool {
    let Some(class) = SizeClass::of(size) else { return false };
    // SAFETY: the caller of `put` gives the same guarantee as `push` requires.
    CACHE.with(|cache| unsafe { cache.classes[class.0].push(block) })
}

/// A group of sizes that share blocks. The size of a class is a multiple of 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SizeClass(usize);

impl SizeClass {
    /// The smallest class for a size; `None` if such blocks are not cached.
    #[inline(always)]
    fn of(size: usize) -> Option<Self> {
        match size {
            0 => None,
            1..=FINE_MAX_BYTES => Some(Self((size - 1) / FINE_STEP_BYTES)),
            _ if size <= CACHED_MAX_BYTES => {
                Some(Self(FINE_MAX_BYTES / FINE_STEP_BYTES + (size - FINE_MAX_BYTES - 1) / COARSE_STEP_BYTES))
            }
            _ => None,
        }
    }

    /// The size of its blocks in bytes.
    #[inline(always)]
    fn size(self) -> usize {
        match self.0.checked_sub(FINE_MAX_BYTES / FINE_STEP_BYTES) {
            None => (self.0 + 1) * FINE_STEP_BYTES,
            Some(coarse) => FINE_MAX_BYTES + (coarse + 1) * COARSE_STEP_BYTES,
        }
    }
}

struct ThreadCache {
    classes: [FreeList; CLASSES],
    /// Number of guards on this thread.
    guards: Cell<usize>,
}

impl ThreadCache {
    fn open(&self) {
        self.guards.set(self.guards.get() + 1);
        if self.guards.get() == 1 {
            for (at, list) in self.classes.iter().enumerate() {
                list.room.set(CLASS_MAX_BYTES / SizeClass(at).size());
            }
        }
    }

    fn close(&self) {
        self.guards.set(self.guards.get() - 1);
        if self.guards.get() > 0 {
            return;
        }
        for list in &self.classes {
            while let Some(block) = list.pop() {
                // SAFETY: the block came from mimalloc, and the cache was its only owner.
                unsafe { mi_free(block.as_ptr().cast()) };
            }
            list.room.set(0);
        }
    }
}

/// A stack of free blocks. Each block contains the address of the next one.
struct FreeList {
    top: Cell<Option<NonNull<u8>>>,
    /// Number of further blocks that fit.
    room: Cell<usize>,
}

impl FreeList {
    const fn closed() -> Self {
        Self { top: Cell::new(None), room: Cell::new(0) }
    }

    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        let top = self.top.get()?;
        // SAFETY: `push` wrote the next address into this block, and the list has been its only owner since.
        self.top.set(unsafe { top.cast().read() });
        self.room.set(self.room.get() + 1);
        Some(top)
    }

    /// # Safety
    /// As for `put`.
    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>) -> bool {
        let Some(room) = self.room.get().checked_sub(1) else { return false };
        // SAFETY: the caller gives up the block, which is aligned to a pointer and has at least 16 bytes.
        unsafe { block.cast().write(self.top.get()) };
        self.top.set(Some(block));
        self.room.set(room);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};
    use std::sync::atomic::{AtomicPtr, Ordering};

    use super::*;
    use crate::Mimalloc;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).expect("a layout")
    }

    /// Allocates and frees `count` blocks. Returns their addresses.
    fn allocate_and_free(count: usize, layout: Layout) -> Vec<*mut u8> {
        // SAFETY: the layout has a size above zero, and each block is freed once with its layout.
        unsafe {
            let blocks: Vec<_> = (0..count).map(|_| Mimalloc.alloc(layout)).collect();
            blocks.iter().for_each(|block| Mimalloc.dealloc(*block, layout));
            blocks
        }
    }

    /// Frees all cached blocks of a size. Returns their number.
    fn drain(size: usize) -> usize {
        std::iter::from_fn(|| take(size))
            // SAFETY: the block came from mimalloc, and `take` has removed it from the cache.
            .map(|block| unsafe { mi_free(block.as_ptr().cast()) })
            .count()
    }

    #[test]
    fn the_last_freed_block_of_a_class_is_reused_first() {
        let _guard = ThreadCacheGuard::new();
        let mut freed = allocate_and_free(3, layout(1000));
        freed.reverse();
        // SAFETY: the layout has a size above zero.
        let reused = [(); 3].map(|()| unsafe { Mimalloc.alloc(layout(1008)) });
        assert_eq!(reused[..], freed);
        // SAFETY: each block is freed once, with its layout.
        reused.into_iter().for_each(|block| unsafe { Mimalloc.dealloc(block, layout(1008)) });
    }

    #[test]
    fn a_thread_without_a_guard_caches_nothing() {
        allocate_and_free(3, layout(1000));
        assert_eq!(take(1000), None);
        drop(ThreadCacheGuard::new());
        allocate_and_free(3, layout(1000));
        assert_eq!(take(1000), None);
    }

    #[test]
    fn a_dropped_guard_leaves_nothing_in_the_cache() {
        let guard = ThreadCacheGuard::new();
        allocate_and_free(3, layout(1000));
        drop(guard);
        assert_eq!(take(1000), None);
    }

    #[test]
    fn a_class_caches_64_kib_and_no_more() {
        let _guard = ThreadCacheGuard::new();
        allocate_and_free(100, layout(4096));
        assert_eq!(drain(4096), 16);
    }

    #[test]
    fn two_guards_on_one_thread_share_one_bound_and_the_last_one_empties_the_cache() {
        let first = ThreadCacheGuard::new();
        allocate_and_free(100, layout(4096));
        let second = ThreadCacheGuard::new();
        allocate_and_free(100, layout(4096));
        drop(first);
        assert_eq!(drain(4096), 16, "the second guard still caches, within the same bound");
        allocate_and_free(1, layout(4096));
        drop(second);
        assert_eq!(take(4096), None);
    }

    #[test]
    fn a_block_freed_on_another_thread_is_cached_there() {
        // SAFETY: the layout has a size above zero; the block is freed once.
        let block = AtomicPtr::new(unsafe { Mimalloc.alloc(layout(64)) });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = ThreadCacheGuard::new();
                // SAFETY: as above.
                unsafe { Mimalloc.dealloc(block.load(Ordering::Relaxed), layout(64)) };
                assert_eq!(drain(64), 1);
            });
        });
    }

    #[test]
    fn a_class_is_as_large_as_its_sizes_and_little_larger() {
        let mut classes = std::collections::BTreeSet::new();
        for size in 1..=CACHED_MAX_BYTES {
            let class = SizeClass::of(size).expect("cached");
            let spare = class.size() - size;
            assert!(spare < if size <= FINE_MAX_BYTES { FINE_STEP_BYTES } else { COARSE_STEP_BYTES }, "{size}");
            assert_eq!(SizeClass::of(class.size()), Some(class));
            classes.insert(class.0);
        }
        assert_eq!((classes.len(), classes.last()), (CLASSES, Some(&(CLASSES - 1))));
        assert_eq!((SizeClass::of(0), SizeClass::of(CACHED_MAX_BYTES + 1)), (None, None));
    }
}
