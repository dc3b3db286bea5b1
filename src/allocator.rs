//! mimalloc, asked in the cheapest way: what every block of it is aligned to is not asked for.
//!
//! The `mimalloc` crate asks for the alignment each time, which takes the slow way for most sizes.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// mimalloc.
pub struct Mimalloc;

/// As malloc(3) has it: what is at least that large is aligned to it.
const MIN_ALIGN: usize = 16;

fn is_usual(layout: Layout) -> bool {
    layout.align() <= MIN_ALIGN && layout.align() <= layout.size()
}

// SAFETY: mimalloc gives blocks of the size asked for, or null; `mi_free` and `mi_realloc` take those of each of its ways to
// allocate. Blocks of 16 bytes or more are aligned to 16, smaller ones to their size rounded down to a power of two
// (`MI_MAX_ALIGN_SIZE` in mimalloc's types.h), as `is_usual` asks for; others ask for their alignment.
unsafe impl GlobalAlloc for Mimalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout has a size above zero.
        unsafe {
            if is_usual(layout) { mi_malloc(layout.size()) } else { mi_malloc_aligned(layout.size(), layout.align()) }
                .cast()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            if is_usual(layout) { mi_zalloc(layout.size()) } else { mi_zalloc_aligned(layout.size(), layout.align()) }
                .cast()
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller's block is from here.
        unsafe { mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's block is from here, and the new size is above zero.
        unsafe {
            if layout.align() <= MIN_ALIGN && layout.align() <= size {
                mi_realloc(block.cast(), size)
            } else {
                mi_realloc_aligned(block.cast(), size, layout.align())
            }
            .cast()
        }
    }
}
