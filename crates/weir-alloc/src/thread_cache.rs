//! Blocks that a thread has given back and will soon want again: the last one first, as it is in the processor's cache.
//!
//! A request has some eighty small blocks. Rust says how large a block is when it gives it back, so that nothing has to be
//! looked up for it; the allocator itself looks, and gives out last what came back last. It holds a bounded number of bytes,
//! and none on threads that have not asked for it.

use std::cell::Cell;
use std::ptr::NonNull;

/// Blocks up to this many bytes differ by `FINE`, larger ones by `COARSE`.
const SMALL: usize = 1024;
const FINE: usize = 16;
const COARSE: usize = 512;
/// Larger ones are not kept.
const LARGEST: usize = 4096;
const CLASSES: usize = SMALL / FINE + (LARGEST - SMALL) / COARSE;

/// The bytes of each class that a thread keeps, so 4.4 MiB in all.
const MOST: usize = 64 * 1024;

thread_local! {
    static STORE: Store = const { Store { classes: [const { Class::closed() }; CLASSES] } };
}

/// The kinds of blocks that stand for one another: those of one number of bytes, which is a multiple of `FINE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeClass(usize);

impl SizeClass {
    /// That of the smallest blocks with room for so many bytes; none if they are not kept.
    #[inline(always)]
    pub(super) fn of(size: usize) -> Option<Self> {
        match size {
            0 => None,
            1..=SMALL => Some(Self((size - 1) / FINE)),
            _ if size <= LARGEST => Some(Self(SMALL / FINE + (size - SMALL - 1) / COARSE)),
            _ => None,
        }
    }

    /// The bytes of such a block.
    #[inline(always)]
    pub(super) fn room(self) -> usize {
        match self.0.checked_sub(SMALL / FINE) {
            None => (self.0 + 1) * FINE,
            Some(coarse) => SMALL + (coarse + 1) * COARSE,
        }
    }
}

/// A block of this kind that the thread has kept, if it has one.
#[inline(always)]
pub(super) fn take(kind: SizeClass) -> Option<NonNull<u8>> {
    STORE.with(|store| store.classes[kind.0].take())
}

/// Keeps a block of this kind; whether it does.
///
/// # Safety
/// The block has `kind.room()` bytes and is aligned to a pointer, and nobody uses it from here on if it is kept.
#[inline(always)]
pub(super) unsafe fn put(block: NonNull<u8>, kind: SizeClass) -> bool {
    // SAFETY: the caller's.
    STORE.with(|store| unsafe { store.classes[kind.0].put(block) })
}

/// From here on the thread keeps blocks.
pub(super) fn open() {
    STORE.with(|store| {
        for (at, class) in store.classes.iter().enumerate() {
            class.left.set(MOST / SizeClass(at).room());
        }
    });
}

/// From here on it keeps none; those that it has go this way.
pub(super) fn close(give_back: impl Fn(NonNull<u8>)) {
    STORE.with(|store| {
        for class in &store.classes {
            while let Some(block) = class.take() {
                give_back(block);
            }
            class.left.set(0);
        }
    });
}

struct Store {
    classes: [Class; CLASSES],
}

/// A stack of blocks: each holds where the next one is.
struct Class {
    top: Cell<Option<NonNull<u8>>>,
    /// As many more are kept.
    left: Cell<usize>,
}

impl Class {
    const fn closed() -> Self {
        Self { top: Cell::new(None), left: Cell::new(0) }
    }

    #[inline(always)]
    fn take(&self) -> Option<NonNull<u8>> {
        let top = self.top.get()?;
        // SAFETY: it was put here with the next one written into it, and nobody has it meanwhile.
        self.top.set(unsafe { top.cast().read() });
        self.left.set(self.left.get() + 1);
        Some(top)
    }

    /// # Safety
    /// As for `put` above.
    #[inline(always)]
    unsafe fn put(&self, block: NonNull<u8>) -> bool {
        let Some(left) = self.left.get().checked_sub(1) else { return false };
        // SAFETY: the caller's block is ours, aligned, and has room for a pointer.
        unsafe { block.cast().write(self.top.get()) };
        self.top.set(Some(block));
        self.left.set(left);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_room_for_what_it_is_of_and_little_more() {
        let mut kinds = std::collections::BTreeSet::new();
        for size in 1..=LARGEST {
            let kind = SizeClass::of(size).expect("kept");
            let spare = kind.room() - size;
            assert!(spare < if size <= SMALL { FINE } else { COARSE }, "{size}");
            assert_eq!(SizeClass::of(kind.room()), Some(kind));
            kinds.insert(kind.0);
        }
        assert_eq!((kinds.len(), kinds.last()), (CLASSES, Some(&(CLASSES - 1))));
        assert_eq!((SizeClass::of(0), SizeClass::of(LARGEST + 1)), (None, None));
    }
}
