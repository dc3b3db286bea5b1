//! The words that say how a backend is and how attempts at it end. Labels and nothing else: `backend_state` keeps the cells.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// What probes say of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Health {
    /// Not probed yet.
    Unknown = 0,
    /// Serves, or is not probed at all.
    Up = 1,
    /// Fails its probes.
    Down = 2,
}

/// What an operator wants of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AdminState {
    /// Nothing special.
    Ready = 0,
    /// No new requests; those under way finish.
    Draining = 1,
    /// No requests.
    Disabled = 2,
}

impl AdminState {
    /// As the admin API has it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// The one state that is shown of a backend, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendCondition {
    /// By an operator.
    Disabled,
    /// By an operator, or no longer a member.
    Draining,
    /// By outlier detection.
    Ejected,
    /// By its probes.
    Down,
    /// Serves.
    Up,
    /// Not probed yet.
    Unknown,
}

impl BackendCondition {
    /// In the order of the contract.
    pub const ALL: [Self; 6] = [Self::Disabled, Self::Draining, Self::Ejected, Self::Down, Self::Up, Self::Unknown];

    /// The value of the `state` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Up => "up",
            Self::Unknown => "unknown",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// A whole response came, whatever its status.
    Ok,
    /// No connection.
    ConnectError,
    /// No TLS session.
    TlsError,
    /// A deadline passed.
    Timeout,
    /// The connection broke.
    Reset,
    /// What came was not HTTP.
    ProtocolError,
    /// The client left first.
    ClientAbort,
}

impl Outcome {
    /// In the order of the contract.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::ConnectError,
        Self::TlsError,
        Self::Timeout,
        Self::Reset,
        Self::ProtocolError,
        Self::ClientAbort,
    ];

    /// The value of the `outcome` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ConnectError => "connect_error",
            Self::TlsError => "tls_error",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::ProtocolError => "protocol_error",
            Self::ClientAbort => "client_abort",
        }
    }
}

/// Why an attempt went to its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickReason {
    /// Its turn, or the lowest score.
    Next,
    /// Chance, by weight or between two.
    Chance,
    /// The request's key.
    Key,
    /// Its tier takes over: those before it have been tried or are full.
    Tier,
    /// It is down, or among such, and nothing better is there.
    FailOpen,
    /// It was tried already; no other is left, or has a place in time.
    Again,
    /// Its ejection is over, and this request is its trial.
    Trial,
    /// The kept connection to it was closed: again on a fresh one.
    FreshConnection,
    /// The client's cookie names it.
    Sticky,
    /// The cookie names one that is out, or gone.
    StickyOut,
    /// The cookie names one that has `max_in_flight`.
    StickyFull,
    /// The cookie names one that was tried already.
    StickyTried,
}

impl PickReason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Next,
        Self::Chance,
        Self::Key,
        Self::Tier,
        Self::FailOpen,
        Self::Again,
        Self::Trial,
        Self::FreshConnection,
        Self::Sticky,
        Self::StickyOut,
        Self::StickyFull,
        Self::StickyTried,
    ];

    /// The value of the log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Chance => "chance",
            Self::Key => "key",
            Self::Tier => "tier",
            Self::FailOpen => "fail_open",
            Self::Again => "again",
            Self::Trial => "trial",
            Self::FreshConnection => "fresh_connection",
            Self::Sticky => "sticky",
            Self::StickyOut => "sticky_out",
            Self::StickyFull => "sticky_full",
            Self::StickyTried => "sticky_tried",
        }
    }
}

/// Why a backend cannot be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExclusionReason {
    /// By an operator: what it has finishes.
    Draining,
    /// By an operator.
    Disabled,
    /// Weight 0 takes no new requests.
    Weightless,
    /// Its name does not resolve.
    Unresolved,
    /// By outlier detection.
    Ejected,
    /// By its probes.
    Down,
    /// Not probed yet, while others are up.
    Unknown,
    /// It is on its way in.
    Changing,
    /// It has `max_in_flight` requests.
    Full,
}

impl ExclusionReason {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Draining,
        Self::Disabled,
        Self::Weightless,
        Self::Unresolved,
        Self::Ejected,
        Self::Down,
        Self::Unknown,
        Self::Changing,
        Self::Full,
    ];

    /// The value of the log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Disabled => "disabled",
            Self::Weightless => "weight_0",
            Self::Unresolved => "unresolved",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Changing => "changing",
            Self::Full => "full",
        }
    }
}

/// Why an attempt was followed by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// It failed.
    Fault(Fault),
    /// It answered a status that the route retries.
    Status(u16),
}

impl fmt::Display for RetryReason {
    /// The value of the `reason` label and of the log field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => f.write_str(fault.label()),
            Self::Status(status) => status.fmt(f),
        }
    }
}

/// A backend that could not be picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Its name.
    pub backend: Arc<str>,
    /// Why not.
    pub why: ExclusionReason,
}
