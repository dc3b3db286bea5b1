//! A thin [`GlobalAlloc`] over mimalloc, for threads that allocate the same sizes for each request.
//!
//! - Alignments up to 16 use `mi_malloc`, because mimalloc aligns every block of 16 bytes or more to 16 anyway. The
//!   `mimalloc` crate passes the alignment each time, and mimalloc then takes a slower path for most sizes.
//! - A failed allocation of up to 1 MiB aborts the process instead of returning null. Rust would abort a step later in
//!   most cases. The compiler now knows that boxing cannot fail, so it builds a value directly in its box. Otherwise it
//!   builds the value on the stack, where a panic can drop it, and copies it. The future of a request has 13 KiB.
//! - A thread with a [`ThreadCacheGuard`] keeps freed blocks and reuses them (`thread_cache`).
//!
//! docs/performance.md has the measured gain of each.
#![allow(unsafe_code, reason = "an allocator hands out raw memory")]

mod mimalloc;
mod thread_cache;

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr::NonNull;

use mimalloc::{mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_zalloc, mi_zalloc_aligned};
pub use thread_cache::ThreadCacheGuard;
use thread_cache::class_size;

/// The allocator. Use it as the program's `#[global_allocator]`.
pub struct Mimalloc;

/// The alignment in bytes of each block that has at least this size.
const MIN_ALIGN: usize = 16;

/// The largest allocation that never returns null. A larger one may fail, because a file can claim a size beyond any
/// memory.
const INFALLIBLE_MAX_BYTES: usize = 1 << 20;

/// Aborts the process if an allocation of up to `INFALLIBLE_MAX_BYTES` failed.
#[inline(always)]
fn abort_if_null(block: *mut c_void, size: usize) -> *mut u8 {
    if block.is_null() && size <= INFALLIBLE_MAX_BYTES {
        out_of_memory();
    }
    block.cast()
}

/// Writes a message and aborts. A panic would allocate.
#[cold]
#[inline(never)]
extern "C" fn out_of_memory() -> ! {
    // There is no way to report that this failed.
    let _ = rustix::io::write(rustix::stdio::stderr(), b"weir: out of memory\n");
    std::process::abort()
}

/// Whether every block of `class_size` bytes is aligned for this layout.
fn has_min_align(layout: Layout) -> bool {
    layout.align() <= MIN_ALIGN
}

// SAFETY: mimalloc returns blocks of at least the size asked for, or null. `mi_free` and `mi_realloc` accept blocks of
// all its allocation functions, from any thread.
//
// Alignment: libmimalloc-sys 0.1.49 without its feature `v2` builds mimalloc v3.3.2, in which blocks of 16 bytes or
// more are aligned to 16. There are two reasons. The first block of a page is aligned to 16
// (`MI_PAGE_MIN_START_BLOCK_ALIGN` in types.h, `mi_page_block_start` in arena.c). The block sizes from 16 on are
// multiples of 16. Up to 64 bytes, `MI_ALIGN2W` in page-queue.c ensures this. Above 64 bytes, the steps of the bins
// ensure it. `class_size` is never less than 16. Layouts with a larger alignment ask for it. A test fails if the
// version of mimalloc changes: check both reasons again then.
//
// Size: a block of a layout with `has_min_align` has at least `class_size` bytes, because every function here asks for
// that many. A cached block therefore serves each layout of its class.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !has_min_align(layout) {
            // SAFETY: the caller's layout has a size above zero.
            return abort_if_null(unsafe { mi_malloc_aligned(layout.size(), layout.align()) }, layout.size());
        }
        if let Some(cached) = thread_cache::take(layout.size()) {
            return cached.as_ptr();
        }
        // SAFETY: as above.
        abort_if_null(unsafe { mi_malloc(class_size(layout.size())) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe {
            match has_min_align(layout) {
                true => mi_zalloc(class_size(layout.size())),
                false => mi_zalloc_aligned(layout.size(), layout.align()),
            }
        };
        abort_if_null(block, layout.size())
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if has_min_align(layout)
            && let Some(block) = NonNull::new(block)
            // SAFETY: the caller got the block from here, with this layout, and does not use it any longer.
            && unsafe { thread_cache::put(block, layout.size()) }
        {
            return;
        }
        // SAFETY: as above.
        unsafe { mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !has_min_align(layout) {
            // SAFETY: the caller of `realloc` gives the same guarantee as `move_block` requires.
            return unsafe { self.move_block(block, layout, size) };
        }
        if class_size(size) == class_size(layout.size()) {
            return block;
        }
        // SAFETY: the caller got the block from here, and the new size is above zero.
        unsafe { mi_realloc(block.cast(), class_size(size)).cast() }
    }
}

impl Mimalloc {
    /// Reallocates a block with an alignment above 16, which is rare.
    ///
    /// # Safety
    /// As for `GlobalAlloc::realloc`.
    unsafe fn move_block(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size, rounded up to the alignment, is in range. The old block has
        // `layout.size()` bytes, the new one `size` bytes, and they do not overlap.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Miri is about a thousand times slower, and allows no access to files.
    fn config() -> ProptestConfig {
        let mut config = ProptestConfig::default();
        if cfg!(miri) {
            (config.cases, config.failure_persistence) = (4, None);
        }
        config
    }

    #[test]
    #[cfg(not(miri))]
    fn the_alignment_was_checked_for_this_version_of_mimalloc() {
        unsafe extern "C" {
            safe fn mi_version() -> std::ffi::c_int;
        }
        assert_eq!(mi_version(), 30302, "check both reasons in the comment at `impl GlobalAlloc`");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Alloc { size: usize, align: usize, zeroed: bool },
        Grow(prop::sample::Index, usize),
        Free(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = || prop_oneof![1_usize..40, 900_usize..1200, 1_usize..6000];
        let alloc = (size(), 0_u32..8, any::<bool>());
        let alloc = alloc.prop_map(|(size, shift, zeroed)| Step::Alloc { size, align: 1 << shift, zeroed });
        let grow = (any::<prop::sample::Index>(), size()).prop_map(|(which, size)| Step::Grow(which, size));
        let free = any::<prop::sample::Index>().prop_map(Step::Free);
        proptest::collection::vec(prop_oneof![3 => alloc, 1 => grow, 3 => free], 1..200)
    }

    /// A block that is filled with its own number.
    struct Owned {
        block: *mut u8,
        layout: Layout,
        number: u8,
    }

    impl Owned {
        fn check(&self, len: usize) {
            // SAFETY: the block is owned here and has at least that many bytes.
            let bytes = unsafe { std::slice::from_raw_parts(self.block, len) };
            assert!(bytes.iter().all(|byte| *byte == self.number));
        }

        fn fill(self) -> Self {
            assert_eq!(self.block.align_offset(self.layout.align()), 0);
            // SAFETY: the block is owned here and has at least that many bytes.
            unsafe { self.block.write_bytes(self.number, self.layout.size()) };
            self
        }

        fn free(self) {
            self.check(self.layout.size());
            // SAFETY: the block is owned here and has this layout.
            unsafe { Mimalloc.dealloc(self.block, self.layout) };
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn no_two_blocks_overlap_and_each_has_its_size_and_alignment(steps in steps()) {
            let _guard = ThreadCacheGuard::new();
            let mut owned: Vec<Owned> = Vec::new();
            for (number, step) in (0_u8..=255).cycle().zip(steps) {
                match step {
                    Step::Alloc { size, align, zeroed } => {
                        let layout = Layout::from_size_align(size, align).expect("a layout");
                        // SAFETY: the layout has a size above zero.
                        let block = unsafe {
                            if zeroed { Mimalloc.alloc_zeroed(layout) } else { Mimalloc.alloc(layout) }
                        };
                        if zeroed {
                            Owned { block, layout, number: 0 }.check(size);
                        }
                        owned.push(Owned { block, layout, number }.fill());
                    }
                    Step::Grow(which, size) if !owned.is_empty() => {
                        let old = owned.swap_remove(which.index(owned.len()));
                        let layout = Layout::from_size_align(size, old.layout.align()).expect("a layout");
                        // SAFETY: the block is owned here and has the old layout.
                        let block = unsafe { Mimalloc.realloc(old.block, old.layout, size) };
                        Owned { block, layout, number: old.number }.check(size.min(old.layout.size()));
                        owned.push(Owned { block, layout, number }.fill());
                    }
                    Step::Free(which) if !owned.is_empty() => owned.swap_remove(which.index(owned.len())).free(),
                    Step::Grow(..) | Step::Free(_) => {}
                }
            }
            owned.into_iter().for_each(Owned::free);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri ends where there is no memory")]
    fn a_request_beyond_any_memory_returns_null_and_the_process_continues() {
        let sizes = [INFALLIBLE_MAX_BYTES + 1, 1 << 47].map(|size| Layout::array::<u8>(size).expect("a layout"));
        // SAFETY: the layouts have a size above zero; each block is freed with its layout.
        unsafe {
            let block = Mimalloc.alloc(sizes[0]);
            assert!(!block.is_null());
            assert!(Mimalloc.realloc(block, sizes[0], sizes[1].size()).is_null(), "the old block stays");
            Mimalloc.dealloc(block, sizes[0]);
            assert!(Mimalloc.alloc(sizes[1]).is_null());
            assert!(Mimalloc.alloc_zeroed(sizes[1]).is_null());
        }
    }
}
