//! `routes[].timeouts`: timeouts towards backends.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::Period;

/// `routes[].timeouts`: timeouts towards backends. 0s: no timeout.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTimeouts {
    /// Time to open a connection, including TLS.
    pub connect: Period,
    /// Time from the end of the request to the first byte of the response body, including the response header; for each
    /// attempt. Default: the value of `read`.
    pub first_byte: Option<Period>,
    /// Maximum wait for the next bytes from a backend, after the first byte of the response body.
    pub read: Period,
    /// Maximum wait until a backend accepts the next bytes.
    pub write: Period,
    /// Time for the whole request, including retries and bodies.
    pub request: Period,
    /// Replaces `read` and `write` after an upgrade (WebSocket), in both directions.
    pub tunnel: Period,
}

impl Default for RouteTimeouts {
    fn default() -> Self {
        Self {
            connect: Period::from_secs(3),
            first_byte: None,
            read: Period::from_secs(60),
            write: Period::from_secs(60),
            request: Period::ZERO,
            tunnel: Period::from_secs(3600),
        }
    }
}

impl RouteTimeouts {
    /// The effective value of `first_byte`. `None`: no timeout.
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.unwrap_or(self.read).limit()
    }
}
