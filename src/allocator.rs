//! mimalloc, asked in the cheapest way: what every block of it is aligned to is not asked for, and a small one is always
//! had.
//!
//! The `mimalloc` crate asks for the alignment each time, which takes the slow way for most sizes. Where there is no memory
//! for a small block the process ends here, as it would a step later: so the compiler sees that boxing cannot fail. If it
//! could, it might unwind; what is boxed would have to be kept for its destructor, made on the stack and then copied, and a
//! request's future has 13 KiB.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// mimalloc.
pub struct Mimalloc;

/// As malloc(3) has it: what is at least that large is aligned to it.
const MIN_ALIGN: usize = 16;

/// Whoever asks for more, in bytes, may be told that there is none: a file to be read may say that it is larger than any memory.
const SURE: usize = 1 << 20;

/// Ends the process where there is no memory for a small block.
#[inline(always)]
fn sure(block: *mut libc::c_void, size: usize) -> *mut u8 {
    if block.is_null() && size <= SURE {
        out_of_memory();
    }
    block.cast()
}

/// Says so, and ends the process: a panic would allocate.
#[cold]
#[inline(never)]
extern "C" fn out_of_memory() -> ! {
    const WORDS: &[u8] = b"weir: out of memory\n";
    // SAFETY: the words are as long as they are.
    unsafe { libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len()) };
    std::process::abort()
}

fn is_usual(layout: Layout) -> bool {
    layout.align() <= MIN_ALIGN && layout.align() <= layout.size()
}

// SAFETY: mimalloc gives blocks of the size asked for, or null; `mi_free` and `mi_realloc` take those of each of its ways to
// allocate. Blocks of 16 bytes or more are aligned to 16, smaller ones to their size rounded down to a power of two
// (`MI_MAX_ALIGN_SIZE` in mimalloc's types.h), as `is_usual` asks for; others ask for their alignment.
unsafe impl GlobalAlloc for Mimalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout has a size above zero.
        let block = unsafe {
            if is_usual(layout) { mi_malloc(layout.size()) } else { mi_malloc_aligned(layout.size(), layout.align()) }
        };
        sure(block, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe {
            if is_usual(layout) { mi_zalloc(layout.size()) } else { mi_zalloc_aligned(layout.size(), layout.align()) }
        };
        sure(block, layout.size())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_larger_than_any_memory_is_refused_and_the_process_goes_on() {
        let sizes = [SURE + 1, 1 << 47].map(|size| Layout::array::<u8>(size).expect("a layout"));
        // SAFETY: the layouts have a size above zero; what was given goes back with the layout that it was asked for.
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
