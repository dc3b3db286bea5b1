//! Why a request was not served as asked: the one table from a fault to blame, status, label and gRPC's status.
//!
//! Nothing else in Weir maps a failure to a status. It never looks at a session or an error of Pingora's: the proxy
//! room classifies, this one decides what a class means.

use serde::Serialize;

/// Why a request was not served as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request is malformed (RFC 9112 section 2.2, 3, 6.3).
    BadRequest,
    /// No route matches.
    NoRoute,
    /// A policy of the route, or of Weir itself, refused it.
    RefusedPolicy,
    /// The body is larger than `routes[].limits.body`.
    BodyTooLarge,
    /// The header is larger than `listeners[].limits` allow.
    HeaderTooLarge,
    /// No backend may be tried.
    NoBackend,
    /// The queue of the upstream is full.
    QueueFull,
    /// Waited in the queue of the upstream for too long.
    QueueTimeout,
    /// No connection to a backend could be had.
    Connect,
    /// The TLS handshake with a backend failed.
    Tls,
    /// A deadline passed.
    Timeout,
    /// A backend broke the connection before its answer was complete.
    Reset,
    /// A backend's answer is not HTTP.
    Protocol,
    /// The client left first.
    ClientAbort,
    /// The process stops, and `server.shutdown_grace` is over.
    Shutdown,
    /// Weir's own failure.
    Internal,
}

/// Whose doing a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client's.
    Client,
    /// The configuration's, or the operator's.
    Operator,
    /// A backend's.
    Backend,
    /// Weir's.
    Weir,
}

impl Fault {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::NoRoute,
        Self::RefusedPolicy,
        Self::BodyTooLarge,
        Self::HeaderTooLarge,
        Self::NoBackend,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::ClientAbort,
        Self::Shutdown,
        Self::Internal,
    ];

    /// Label, status, blame, status of gRPC.
    const fn row(self) -> (&'static str, u16, Blame, u8) {
        match self {
            Self::BadRequest => ("bad_request", 400, Blame::Client, 13),
            Self::NoRoute => ("no_route", 404, Blame::Client, 12),
            Self::RefusedPolicy => ("refused_policy", 403, Blame::Client, 7),
            Self::BodyTooLarge => ("body_too_large", 413, Blame::Client, 8),
            Self::HeaderTooLarge => ("header_too_large", 431, Blame::Client, 8),
            Self::NoBackend => ("no_backend", 503, Blame::Operator, 14),
            Self::QueueFull => ("queue_full", 503, Blame::Operator, 14),
            Self::QueueTimeout => ("queue_timeout", 503, Blame::Operator, 14),
            Self::Connect => ("connect", 502, Blame::Backend, 14),
            Self::Tls => ("tls", 502, Blame::Backend, 14),
            Self::Timeout => ("timeout", 504, Blame::Backend, 4),
            Self::Reset => ("reset", 502, Blame::Backend, 14),
            Self::Protocol => ("protocol", 502, Blame::Backend, 13),
            Self::ClientAbort => ("client_abort", 499, Blame::Client, 1),
            Self::Shutdown => ("shutdown", 503, Blame::Operator, 14),
            Self::Internal => ("internal", 500, Blame::Weir, 13),
        }
    }

    /// The value of the `fault` label and of the log field.
    pub const fn label(self) -> &'static str {
        self.row().0
    }

    /// The status that the client gets; 499 is never sent. A policy may choose another for `RefusedPolicy`,
    /// and a long request target is 414 instead of 431.
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// The `grpc-status` that a gRPC client gets, whose HTTP status is always 200 (gRPC's statuscodes.md): what may be tried
    /// again is UNAVAILABLE (14), what took too long DEADLINE_EXCEEDED (4), what is nobody's to serve UNIMPLEMENTED (12).
    pub const fn grpc_status(self) -> u8 {
        self.row().3
    }

    /// Whose doing it is.
    pub const fn blame(self) -> Blame {
        self.row().2
    }
}
