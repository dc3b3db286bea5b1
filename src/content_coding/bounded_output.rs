//! The output of a decoder, with a bound on the ratio of decoded to coded bytes.

use std::io;

/// Up to this many decoded bytes, the ratio is not checked.
const ALWAYS_ALLOWED: u64 = 1 << 20;
/// Decoded bytes for each coded byte above that.
const MAX_RATIO: u64 = 100;

/// Collects decoded bytes. A write beyond the bound fails.
#[derive(Debug, Default)]
pub(super) struct BoundedOutput {
    bytes: Vec<u8>,
    decoded: u64,
    coded: u64,
    exceeded: bool,
}

impl BoundedOutput {
    /// Adds coded bytes, which allow more decoded ones.
    pub(super) fn add_coded(&mut self, bytes: usize) {
        self.coded += bytes as u64;
    }

    /// Whether a write failed because of the bound.
    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Takes the bytes that were decoded since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl io::Write for BoundedOutput {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.decoded += data.len() as u64;
        if self.decoded > ALWAYS_ALLOWED.max(self.coded.saturating_mul(MAX_RATIO)) {
            self.exceeded = true;
            return Err(io::Error::other("too many decoded bytes"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
