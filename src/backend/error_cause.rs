//! Causes of a backend's errors: the values of the `cause` label.
//!
//! The logs and the status page have the cause in words. This is the bounded form for metrics and alerts.

/// Why an attempt at a backend was an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCause {
    /// The connection was refused.
    Refused,
    /// `timeouts.connect` expired, in TCP or in the TLS handshake.
    ConnectTimeout,
    /// Its name does not resolve.
    Unresolved,
    /// The connection could not be opened for another reason, such as no route to the host.
    Connect,
    /// The certificate is not valid for the name of the backend.
    TlsName,
    /// The certificate is of an unknown authority.
    TlsAuthority,
    /// The certificate has expired.
    TlsExpired,
    /// The TLS handshake failed for another reason.
    Tls,
    /// Another timeout expired.
    Timeout,
    /// The connection was reset or closed early.
    Reset,
    /// The response was not valid HTTP.
    Protocol,
    /// The status of the response was 500 to 599.
    Status5xx,
    /// The call of gRPC ended with UNKNOWN.
    GrpcUnknown,
    /// The call of gRPC ended with DEADLINE_EXCEEDED.
    GrpcDeadlineExceeded,
    /// The call of gRPC ended with INTERNAL.
    GrpcInternal,
    /// The call of gRPC ended with UNAVAILABLE.
    GrpcUnavailable,
    /// The call of gRPC ended with DATA_LOSS.
    GrpcDataLoss,
}

impl ErrorCause {
    /// All of them, in label order.
    pub const ALL: [Self; 17] = [
        Self::Refused,
        Self::ConnectTimeout,
        Self::Unresolved,
        Self::Connect,
        Self::TlsName,
        Self::TlsAuthority,
        Self::TlsExpired,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::Status5xx,
        Self::GrpcUnknown,
        Self::GrpcDeadlineExceeded,
        Self::GrpcInternal,
        Self::GrpcUnavailable,
        Self::GrpcDataLoss,
    ];

    /// The cause for a status of gRPC that is an error of the backend.
    pub const fn of_grpc_code(code: usize) -> Self {
        match code {
            4 => Self::GrpcDeadlineExceeded,
            13 => Self::GrpcInternal,
            14 => Self::GrpcUnavailable,
            15 => Self::GrpcDataLoss,
            _ => Self::GrpcUnknown,
        }
    }

    /// The value of the `cause` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::Unresolved => "unresolved",
            Self::Connect => "connect",
            Self::TlsName => "tls_name",
            Self::TlsAuthority => "tls_authority",
            Self::TlsExpired => "tls_expired",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Status5xx => "status_5xx",
            Self::GrpcUnknown => "grpc_unknown",
            Self::GrpcDeadlineExceeded => "grpc_deadline_exceeded",
            Self::GrpcInternal => "grpc_internal",
            Self::GrpcUnavailable => "grpc_unavailable",
            Self::GrpcDataLoss => "grpc_data_loss",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_label_of_its_own_at_its_index() {
        for (index, cause) in ErrorCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
            let same = ErrorCause::ALL.into_iter().filter(|other| other.label() == cause.label());
            assert_eq!(same.count(), 1, "{cause:?}");
        }
    }
}
