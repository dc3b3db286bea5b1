//! The state of a call of gRPC. `stream_kind` sets it, and the record of the request reads it.

use crate::fault::Fault;
use crate::telemetry::grpc_status::GrpcStatus;

/// Whether a request is a call of gRPC, and how the call ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum GrpcCall {
    /// It is none.
    #[default]
    No,
    /// Its status has not come.
    Open,
    /// It has this status.
    Ended(GrpcStatus),
}

impl GrpcCall {
    /// The status that the client sees, once the request has ended.
    pub(super) fn status(self, fault: Option<Fault>) -> Option<GrpcStatus> {
        match (self, fault) {
            (Self::No, _) => None,
            (Self::Ended(status), _) => Some(status),
            (Self::Open, Some(fault)) => Some(GrpcStatus::of_code(fault.grpc_status())),
            (Self::Open, None) => Some(GrpcStatus::UNKNOWN),
        }
    }
}
