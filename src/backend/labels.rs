//! Label enums of backends: conditions, outcomes of attempts, and reasons of picks, exclusions and retries.
//!
//! This module has no state: `state` and `meters` hold the counters.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// Verdict of the health check of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Health {
    /// Not probed yet.
    Unknown = 0,
    /// Passes its health check, or has none.
    Up = 1,
    /// Fails its health check.
    Down = 2,
}

/// Administrative state of a backend, set by an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AdminState {
    /// No override.
    Ready = 0,
    /// Takes no new requests; those in flight finish.
    Draining = 1,
    /// Takes no requests.
    Disabled = 2,
}

impl AdminState {
    /// The value in the admin API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}

/// The single condition that is shown for a backend. The variants are ordered by precedence, highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendCondition {
    /// Disabled by an operator.
    Disabled,
    /// Drained by an operator, or no longer a member of the upstream.
    Draining,
    /// Its name does not resolve.
    Unresolved,
    /// Ejected by outlier detection.
    Ejected,
    /// Fails its health check.
    Down,
    /// Up.
    Up,
    /// It has no health check. It takes requests like one that is up.
    Unchecked,
    /// Not probed yet.
    Unknown,
}

impl BackendCondition {
    /// In the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Disabled,
        Self::Draining,
        Self::Unresolved,
        Self::Ejected,
        Self::Down,
        Self::Up,
        Self::Unchecked,
        Self::Unknown,
    ];

    /// Whether a backend in this state takes its share of the requests.
    pub const fn is_serving(self) -> bool {
        matches!(self, Self::Up | Self::Unchecked)
    }

    /// Whether a backend in this state is never picked.
    pub const fn is_never_picked(self) -> bool {
        matches!(self, Self::Disabled | Self::Draining | Self::Unresolved)
    }

    /// The value of the `state` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Unresolved => "unresolved",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Up => "up",
            Self::Unchecked => "unchecked",
            Self::Unknown => "unknown",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// A complete response arrived, of any status.
    Ok,
    /// The connection could not be opened.
    ConnectError,
    /// The TLS handshake failed.
    TlsError,
    /// A timeout expired.
    Timeout,
    /// The connection was reset or closed early.
    Reset,
    /// The response was not valid HTTP.
    ProtocolError,
    /// The client disconnected first.
    ClientAbort,
}

impl Outcome {
    /// All variants, in label order.
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
    /// It was next in the rotation, or it had the lowest score.
    Next,
    /// Random choice, by weight or between two.
    Chance,
    /// The hash key of the request selects it.
    Key,
    /// Its tier takes over: the backends of the earlier tiers were tried or are full.
    Tier,
    /// Fail-open: the backend may be down, because none or too few of its tier are up.
    FailOpen,
    /// It was tried before; no other is left, or none had a free slot in time.
    Again,
    /// Its ejection time is over, and this request is its trial.
    Trial,
    /// The pooled connection was closed by the backend; the request is sent again on a new connection.
    FreshConnection,
    /// The affinity cookie names it.
    Sticky,
    /// The affinity cookie names a backend that is excluded or no longer exists.
    StickyOut,
    /// The affinity cookie names a backend that has reached `max_in_flight`.
    StickyFull,
    /// The affinity cookie names a backend that was tried before.
    StickyTried,
}

impl PickReason {
    /// All variants.
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
    /// An operator drains it: requests in flight finish.
    Draining,
    /// An operator disabled it.
    Disabled,
    /// Its weight is 0, so it takes no new requests.
    Weightless,
    /// Its name does not resolve.
    Unresolved,
    /// Outlier detection ejected it.
    Ejected,
    /// It fails its health check.
    Down,
    /// It has not been probed yet, while others are up.
    Unknown,
    /// It is eligible, but the current snapshot does not contain it yet.
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

/// Why an attempt was followed by a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The attempt failed.
    Fault(Fault),
    /// The response had a status that the route retries.
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
    /// Name of the backend.
    pub backend: Arc<str>,
    /// Reason of the exclusion.
    pub why: ExclusionReason,
}
