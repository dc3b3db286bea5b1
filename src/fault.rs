//! Classification of failed requests: one table from fault to blame, HTTP status, label and `grpc-status`.
//!
//! No other module maps a failure to a status. This module never inspects a session or a Pingora error: `proxy`
//! classifies the failure.

use serde::Serialize;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request is malformed (RFC 9112 section 2.2, 3, 6.3).
    BadRequest,
    /// No route matches.
    NoRoute,
    /// A policy of the route, or of Weir itself, refused the request.
    RefusedPolicy,
    /// An access policy refused the request.
    Unauthorized,
    /// An access policy cannot decide now: its keys or its authorization server are missing.
    AuthUnavailable,
    /// A rate limit refused the request.
    RateLimited,
    /// A rate limit needs its store, and the store does not answer.
    StoreUnavailable,
    /// The body is larger than `routes[].limits.body`.
    BodyTooLarge,
    /// The header is larger than `listeners[].limits` allow.
    HeaderTooLarge,
    /// The route is in maintenance.
    Maintenance,
    /// No backend is available.
    NoBackend,
    /// The queue of the upstream is full.
    QueueFull,
    /// The request waited too long in the queue of the upstream.
    QueueTimeout,
    /// No connection to a backend could be opened.
    Connect,
    /// The TLS handshake with a backend failed.
    Tls,
    /// A timeout expired.
    Timeout,
    /// A backend closed the connection before its response was complete.
    Reset,
    /// A backend's response violates HTTP.
    Protocol,
    /// The client closed the connection first.
    ClientAbort,
    /// The request has passed this process several times already.
    Loop,
    /// The process stops, and `server.shutdown_grace` is over.
    Shutdown,
    /// An internal error of Weir.
    Internal,
}

/// Which side causes a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client.
    Client,
    /// The configuration, or the operator.
    Operator,
    /// A backend.
    Backend,
    /// Weir itself.
    Weir,
}

impl Fault {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 22] = [
        Self::BadRequest,
        Self::NoRoute,
        Self::RefusedPolicy,
        Self::Unauthorized,
        Self::AuthUnavailable,
        Self::RateLimited,
        Self::StoreUnavailable,
        Self::BodyTooLarge,
        Self::HeaderTooLarge,
        Self::Maintenance,
        Self::NoBackend,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::ClientAbort,
        Self::Loop,
        Self::Shutdown,
        Self::Internal,
    ];

    /// Label, HTTP status, blame, `grpc-status`.
    const fn row(self) -> (&'static str, u16, Blame, u8) {
        match self {
            Self::BadRequest => ("bad_request", 400, Blame::Client, 13),
            Self::NoRoute => ("no_route", 404, Blame::Client, 12),
            Self::RefusedPolicy => ("refused_policy", 403, Blame::Client, 7),
            // UNAUTHENTICATED; with 403 PERMISSION_DENIED.
            Self::Unauthorized => ("unauthorized", 401, Blame::Client, 16),
            Self::AuthUnavailable => ("auth_unavailable", 503, Blame::Operator, 14),
            // RESOURCE_EXHAUSTED.
            Self::RateLimited => ("rate_limited", 429, Blame::Client, 8),
            Self::StoreUnavailable => ("store_unavailable", 503, Blame::Operator, 14),
            Self::BodyTooLarge => ("body_too_large", 413, Blame::Client, 8),
            Self::HeaderTooLarge => ("header_too_large", 431, Blame::Client, 8),
            Self::Maintenance => ("maintenance", 503, Blame::Operator, 14),
            Self::NoBackend => ("no_backend", 503, Blame::Operator, 14),
            Self::QueueFull => ("queue_full", 503, Blame::Operator, 14),
            Self::QueueTimeout => ("queue_timeout", 503, Blame::Operator, 14),
            Self::Connect => ("connect", 502, Blame::Backend, 14),
            Self::Tls => ("tls", 502, Blame::Backend, 14),
            Self::Timeout => ("timeout", 504, Blame::Backend, 4),
            Self::Reset => ("reset", 502, Blame::Backend, 14),
            Self::Protocol => ("protocol", 502, Blame::Backend, 13),
            Self::ClientAbort => ("client_abort", 499, Blame::Client, 1),
            Self::Loop => ("loop", 508, Blame::Operator, 13),
            Self::Shutdown => ("shutdown", 503, Blame::Operator, 14),
            Self::Internal => ("internal", 500, Blame::Weir, 13),
        }
    }

    /// The value of the `fault` label and of the log field.
    pub const fn label(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status for the client; 499 is never sent. A policy may choose another status for `RefusedPolicy`. For a
    /// request target that is too long the status is 414 instead of 431.
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// The `grpc-status` for a gRPC client, whose HTTP status is always 200 (gRPC's statuscodes.md). UNAVAILABLE (14)
    /// means that a retry is possible, DEADLINE_EXCEEDED (4) a timeout, UNIMPLEMENTED (12) that no route matches.
    pub const fn grpc_status(self) -> u8 {
        self.row().3
    }

    /// The `grpc-status` for a fault with this HTTP status.
    pub const fn grpc_status_with(self, status: u16) -> u8 {
        match (self, status) {
            (Self::Unauthorized, 403) => Self::RefusedPolicy.grpc_status(),
            _ => self.grpc_status(),
        }
    }

    /// Which side causes it.
    pub const fn blame(self) -> Blame {
        self.row().2
    }
}
