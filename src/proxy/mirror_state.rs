//! The copy of a request for a mirror, in the context of the request until it is complete.

use std::sync::Arc;

use bytes::BytesMut;
use pingora::http::RequestHeader;

use crate::snapshot::Snapshot;
use crate::snapshot::mirror::Mirror;
use crate::telemetry::mirror_meters::{CopyInFlight, MirrorResult};

/// The state of the copy of a request.
#[derive(Debug, Default)]
pub(super) enum MirrorState {
    /// No attempt has begun.
    #[default]
    Open,
    /// The body is being collected.
    Collecting(Box<RequestCopy>),
    /// There is no copy, or it was sent.
    Done,
}

/// A copy that is not complete yet.
#[derive(Debug)]
pub(super) struct RequestCopy {
    pub(super) mirror: Arc<Mirror>,
    /// The header as the backend gets it.
    pub(super) request: Box<RequestHeader>,
    pub(super) body: BytesMut,
    guard: CopyInFlight,
    /// The mirror's upstream is a part of it. It is dropped last.
    snapshot: Option<Arc<Snapshot>>,
}

impl RequestCopy {
    pub(super) fn new(
        mirror: Arc<Mirror>,
        guard: CopyInFlight,
        request: Box<RequestHeader>,
        snapshot: Option<Arc<Snapshot>>,
    ) -> Self {
        Self { mirror, request, body: BytesMut::new(), guard, snapshot }
    }

    /// Ends the copy.
    pub(super) fn end(self, result: MirrorResult) {
        let Self { mirror, guard, snapshot, .. } = self;
        guard.end(result);
        drop(mirror);
        drop(snapshot);
    }
}
