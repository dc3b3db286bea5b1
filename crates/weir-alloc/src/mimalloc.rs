//! The mimalloc functions that this crate calls. Miri cannot run C code, so it uses the system allocator instead.

#[cfg(not(miri))]
pub(crate) use libmimalloc_sys::{mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_zalloc, mi_zalloc_aligned};
#[cfg(miri)]
pub(crate) use system::{mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_zalloc, mi_zalloc_aligned};

/// Each function has the contract of its namesake. This includes the alignment to 16 of blocks of 16 bytes or more.
#[cfg(miri)]
#[allow(clippy::undocumented_unsafe_blocks, reason = "each call passes on the contract of its namesake")]
mod system {
    use std::ffi::c_void;
    use std::ptr;

    pub(crate) unsafe fn mi_malloc(size: usize) -> *mut c_void {
        unsafe { libc::malloc(size) }
    }

    pub(crate) unsafe fn mi_zalloc(size: usize) -> *mut c_void {
        unsafe { libc::calloc(1, size) }
    }

    pub(crate) unsafe fn mi_malloc_aligned(size: usize, align: usize) -> *mut c_void {
        let mut block = ptr::null_mut();
        let failed = unsafe { libc::posix_memalign(&raw mut block, align, size) };
        if failed == 0 { block } else { ptr::null_mut() }
    }

    pub(crate) unsafe fn mi_zalloc_aligned(size: usize, align: usize) -> *mut c_void {
        let block = unsafe { mi_malloc_aligned(size, align) };
        if !block.is_null() {
            unsafe { block.cast::<u8>().write_bytes(0, size) };
        }
        block
    }

    pub(crate) unsafe fn mi_realloc(block: *mut c_void, size: usize) -> *mut c_void {
        unsafe { libc::realloc(block, size) }
    }

    pub(crate) unsafe fn mi_free(block: *mut c_void) {
        unsafe { libc::free(block) }
    }
}
