//! mimalloc, asked in the cheapest way: what every block of it is aligned to is not asked for, and a small one is always
//! had. A thread that carries requests keeps blocks for the next (`thread_cache`).
//!
//! The `mimalloc` crate asks for the alignment each time, which takes the slow way for most sizes. Where there is no memory
//! for a small block the process ends here, as it would a step later: so the compiler sees that boxing cannot fail. If it
//! could, it might unwind; what is boxed would have to be kept for its destructor, made on the stack and then copied, and a
//! request's future has 13 KiB.

mod thread_cache;

use std::alloc::{GlobalAlloc, Layout};
use std::marker::PhantomData;
use std::ptr::NonNull;

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use thread_cache::SizeClass;

/// mimalloc.
pub struct Mimalloc;

/// As malloc(3) has it: what is at least that large is aligned to it.
const MIN_ALIGN: usize = 16;

/// Whoever asks for more, in bytes, may be told that there is none: a file to be read may say that it is larger than any memory.
const INFALLIBLE_MAX_BYTES: usize = 1 << 20;

/// Ends the process where there is no memory for a small block.
#[inline(always)]
fn abort_if_null(block: *mut libc::c_void, size: usize) -> *mut u8 {
    if block.is_null() && size <= INFALLIBLE_MAX_BYTES {
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

/// While it lives, its thread keeps blocks that it gives back, up to 4.4 MiB.
#[derive(Debug)]
pub struct ThreadCacheGuard(PhantomData<*const ()>);

impl ThreadCacheGuard {
    /// For a thread that has the same to do again and again.
    #[expect(clippy::new_without_default, reason = "it changes what the thread does")]
    pub fn new() -> Self {
        thread_cache::open();
        Self(PhantomData)
    }
}

impl Drop for ThreadCacheGuard {
    fn drop(&mut self) {
        // SAFETY: what is kept came from mimalloc, and nobody else has it.
        thread_cache::close(|block| unsafe { mi_free(block.as_ptr().cast()) });
    }
}

/// What is asked for, for so many bytes: the whole of what blocks of that kind have, so that they may stand for one another.
#[inline(always)]
fn room(size: usize) -> usize {
    SizeClass::of(size).map_or(size, SizeClass::room)
}

fn is_usual(layout: Layout) -> bool {
    layout.align() <= MIN_ALIGN
}

// SAFETY: mimalloc gives blocks of the size asked for, or null; `mi_free` and `mi_realloc` take those of each of its ways to
// allocate. Blocks of 16 bytes or more are aligned to 16 (`MI_MAX_ALIGN_SIZE` in mimalloc's types.h), and `room` is never less;
// `is_usual` layouts ask for no more, others ask for their alignment. A usual block of a kind always has that kind's room, so
// one that was kept serves any layout of its kind.
unsafe impl GlobalAlloc for Mimalloc {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_usual(layout) {
            // SAFETY: the caller's layout has a size above zero.
            return abort_if_null(unsafe { mi_malloc_aligned(layout.size(), layout.align()) }, layout.size());
        }
        if let Some(kept) = SizeClass::of(layout.size()).and_then(thread_cache::take) {
            return kept.as_ptr();
        }
        // SAFETY: as above.
        abort_if_null(unsafe { mi_malloc(room(layout.size())) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe {
            match is_usual(layout) {
                true => mi_zalloc(room(layout.size())),
                false => mi_zalloc_aligned(layout.size(), layout.align()),
            }
        };
        abort_if_null(block, layout.size())
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_usual(layout)
            && let (Some(block), Some(kind)) = (NonNull::new(block), SizeClass::of(layout.size()))
            // SAFETY: the caller's block is from here, with this layout, and given back.
            && unsafe { thread_cache::put(block, kind) }
        {
            return;
        }
        // SAFETY: as above.
        unsafe { mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_usual(layout) && room(size) == room(layout.size()) {
            return block;
        }
        // SAFETY: the caller's block is from here, and the new size is above zero.
        unsafe {
            match is_usual(layout) {
                true => mi_realloc(block.cast(), room(size)),
                false => mi_realloc_aligned(block.cast(), size, layout.align()),
            }
            .cast()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).expect("a layout")
    }

    #[test]
    fn a_thread_that_keeps_blocks_gives_the_last_one_out_first_and_others_keep_none() {
        let (small, same_kind) = (layout(1000), layout(1008));
        // SAFETY: each block goes back once, with the layout of its kind; addresses alone are compared.
        unsafe {
            let keeping = ThreadCacheGuard::new();
            let blocks = [(); 3].map(|()| Mimalloc.alloc(small));
            blocks.into_iter().for_each(|block| Mimalloc.dealloc(block, small));
            let again = [(); 3].map(|()| Mimalloc.alloc(same_kind));
            assert_eq!(again, [blocks[2], blocks[1], blocks[0]]);
            again.into_iter().for_each(|block| Mimalloc.dealloc(block, same_kind));
            drop(keeping);
            assert_eq!(SizeClass::of(1000).and_then(thread_cache::take), None, "nothing is left");
            let block = Mimalloc.alloc(small);
            Mimalloc.dealloc(block, small);
            assert_eq!(SizeClass::of(1000).and_then(thread_cache::take), None);
        }
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let _keeping = ThreadCacheGuard::new();
        let large = layout(4096);
        // SAFETY: each block goes back once, with its layout; those that are taken here go to mimalloc.
        unsafe {
            let blocks: Vec<_> = (0..100).map(|_| Mimalloc.alloc(large)).collect();
            blocks.into_iter().for_each(|block| Mimalloc.dealloc(block, large));
            let kept: Vec<_> = std::iter::from_fn(|| thread_cache::take(SizeClass::of(4096)?)).collect();
            assert_eq!(kept.len(), 16);
            kept.into_iter().for_each(|block| mi_free(block.as_ptr().cast()));
        }
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

    /// A block that is full of its own number.
    struct Held {
        block: *mut u8,
        layout: Layout,
        number: u8,
    }

    impl Held {
        fn check(&self, len: usize) {
            // SAFETY: the block is ours, and so long.
            let bytes = unsafe { std::slice::from_raw_parts(self.block, len) };
            assert!(bytes.iter().all(|byte| *byte == self.number));
        }

        fn fill(self) -> Self {
            assert_eq!(self.block.align_offset(self.layout.align()), 0);
            // SAFETY: the block is ours, and so long.
            unsafe { self.block.write_bytes(self.number, self.layout.size()) };
            self
        }

        fn free(self) {
            self.check(self.layout.size());
            // SAFETY: the block is ours and goes back with its layout.
            unsafe { Mimalloc.dealloc(self.block, self.layout) };
        }
    }

    proptest! {
        #[test]
        fn every_block_is_its_owners_alone_whatever_is_asked_for_and_given_back(steps in steps()) {
            let _keeping = ThreadCacheGuard::new();
            let mut held: Vec<Held> = Vec::new();
            for (number, step) in (0_u8..=255).cycle().zip(steps) {
                match step {
                    Step::Alloc { size, align, zeroed } => {
                        let layout = Layout::from_size_align(size, align).expect("a layout");
                        // SAFETY: the layout has a size above zero.
                        let block = unsafe {
                            if zeroed { Mimalloc.alloc_zeroed(layout) } else { Mimalloc.alloc(layout) }
                        };
                        if zeroed {
                            Held { block, layout, number: 0 }.check(size);
                        }
                        held.push(Held { block, layout, number }.fill());
                    }
                    Step::Grow(which, size) if !held.is_empty() => {
                        let old = held.swap_remove(which.index(held.len()));
                        let layout = Layout::from_size_align(size, old.layout.align()).expect("a layout");
                        // SAFETY: the block is ours and has the old layout.
                        let block = unsafe { Mimalloc.realloc(old.block, old.layout, size) };
                        Held { block, layout, number: old.number }.check(size.min(old.layout.size()));
                        held.push(Held { block, layout, number }.fill());
                    }
                    Step::Free(which) if !held.is_empty() => held.swap_remove(which.index(held.len())).free(),
                    Step::Grow(..) | Step::Free(_) => {}
                }
            }
            held.into_iter().for_each(Held::free);
        }
    }

    #[test]
    fn a_block_larger_than_any_memory_is_refused_and_the_process_goes_on() {
        let sizes = [INFALLIBLE_MAX_BYTES + 1, 1 << 47].map(|size| Layout::array::<u8>(size).expect("a layout"));
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
