//! A cache of freed blocks for each thread: one stack for each size class, in front of mimalloc.
//!
//! A request allocates and frees some eighty small blocks. Rust passes the size of a block to `dealloc`, so no look-up is
//! needed here; mimalloc looks up the page of each block. The block that was freed last is reused first, while it is in
//! the processor's cache. Only threads with a [`ThreadCacheGuard`] have a cache, of a bounded size.
//!
//! Everything here belongs to one thread. A block that one thread allocates and another one frees goes into the cache of
//! the thread that frees it. mimalloc does not detect that a cached block is freed twice.

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

/// The bytes that a thread caches for each class, and so 4.4 MiB for all of them. A block that was shrunk in place may be
/// larger than its class, and counts as one of its class.
const CLASS_MAX_BYTES: usize = 64 * 1024;

thread_local! {
    static CACHE: ThreadCache =
        const { ThreadCache { classes: [const { FreeList::closed() }; CLASSES], guards: Cell::new(0) } };
}

/// While it lives, its thread caches blocks that it frees: up to 64 KiB for each size class, and 4.4 MiB in all.
///
/// Several guards on one thread share its cache, which is emptied when the last one is dropped. A guard that is leaked
/// leaks the cached blocks when its thread ends.
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

/// The bytes to ask mimalloc for, so that the block serves each size of its class. At least 16.
#[inline(always)]
pub(crate) fn class_size(size: usize) -> usize {
    SizeClass::of(size).map_or(size, SizeClass::size)
}

/// A cached block of `class_size(size)` bytes or more, if there is one.
#[inline(always)]
pub(crate) fn take(size: usize) -> Option<NonNull<u8>> {
    let class = SizeClass::of(size)?;
    CACHE.with(|cache| cache.classes[class.0].pop())
}

/// Caches a block; `false` if it does not, and then the block is still the caller's.
///
/// # Safety
/// The block comes from mimalloc, has `class_size(size)` bytes, is aligned to a pointer, and is not used any longer.
#[inline(always)]
pub(crate) unsafe fn put(block: NonNull<u8>, size: usize) -> bool {
    let Some(class) = SizeClass::of(size) else { return false };
    // SAFETY: the caller's promise is passed on.
    CACHE.with(|cache| unsafe { cache.classes[class.0].push(block) })
}

/// Sizes whose blocks serve one another. The size of a class is a multiple of 16.
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

    /// The bytes of its blocks.
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
    /// The guards of this thread.
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

/// A stack of free blocks. Each block holds the address of the next one.
struct FreeList {
    top: Cell<Option<NonNull<u8>>>,
    /// How many more blocks it takes.
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

    /// Allocates so many blocks and frees them; their addresses.
    fn allocate_and_free(count: usize, layout: Layout) -> Vec<*mut u8> {
        // SAFETY: the layout has a size above zero, and each block is freed once with its layout.
        unsafe {
            let blocks: Vec<_> = (0..count).map(|_| Mimalloc.alloc(layout)).collect();
            blocks.iter().for_each(|block| Mimalloc.dealloc(*block, layout));
            blocks
        }
    }

    /// Takes all cached blocks of a size; how many there were.
    fn drain(size: usize) -> usize {
        std::iter::from_fn(|| take(size))
            // SAFETY: the block came from mimalloc, and the cache gave it away.
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
