//! A part of a response body that opens the stream's window again when it is dropped, not when it is read.
//!
//! The window then bounds all bytes of a response that the client has not taken, wherever they wait.

use bytes::Bytes;
use h2::FlowControl;

struct BodyPiece {
    bytes: Bytes,
    flow: FlowControl,
}

impl AsRef<[u8]> for BodyPiece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BodyPiece {
    fn drop(&mut self) {
        // An error means that the stream has ended.
        let _ = self.flow.release_capacity(self.bytes.len());
    }
}

/// The bytes, which release their capacity when they are dropped.
pub(super) fn holding(bytes: Bytes, flow: &FlowControl) -> Bytes {
    Bytes::from_owner(BodyPiece { bytes, flow: flow.clone() })
}
