//! Reads a configuration from standard input, for `-c -`. It can be read once: a reload has nothing to read.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

static WAS_READ: AtomicBool = AtomicBool::new(false);

/// Reads standard input to its end.
///
/// # Errors
/// It was read before, it cannot be read, or it is longer than `max_bytes`.
pub(super) fn read(max_bytes: u64) -> io::Result<Vec<u8>> {
    if WAS_READ.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("standard input was read at the start, so there is nothing to read again"));
    }
    let mut bytes = Vec::new();
    io::stdin().lock().take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes { Err(io::Error::other("it is too long")) } else { Ok(bytes) }
}
