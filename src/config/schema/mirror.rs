//! `routes[].mirror`: copies of requests for another upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::{Name, Percent, Period, Size};

/// `routes[].mirror`: a copy of each request goes to another upstream, and its response is discarded. The original
/// request never waits for the copy. WebSockets are not mirrored.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorSettings {
    /// The upstream that gets the copies.
    pub upstream: Name,
    /// The share of requests that are mirrored.
    #[serde(default = "all")]
    pub share: Percent,
    /// Maximum size of a request body, up to 1MiB. A request with a larger body is not mirrored.
    #[serde(default = "body")]
    pub body: Size,
    /// Maximum copies at one time, 1 to 10000. Further requests are not mirrored.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 10000))]
    pub in_flight: u32,
    /// Maximum time of a copy, from the end of the request to the end of its response; 100ms to 1m.
    #[serde(default = "timeout")]
    pub timeout: Period,
}

fn all() -> Percent {
    Percent::new(100.0)
}

fn body() -> Size {
    Size::kib(64)
}

fn in_flight() -> u32 {
    100
}

fn timeout() -> Period {
    Period::from_secs(5)
}
