//! `log` and `access_log`: the two logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{LogTarget, Percent, Period};

/// `log`: the process log.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// The format of a line.
    pub format: LogFormat,
}

/// Severity levels of the process log. Each level includes the levels before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Problems that need an operator.
    Error,
    /// Suspicious events.
    Warn,
    /// Changes: starts, reloads, health.
    #[default]
    Info,
    /// Problems of single connections.
    Debug,
    /// Everything that Pingora logs.
    Trace,
}

/// Format of the process log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `access_log`: one line per request.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// `stdout`, `off` or a file.
    pub path: LogTarget,
    /// The format of a line.
    pub format: AccessLogFormat,
    /// The share of requests that are logged. Requests with a fault, with a status of 500 or more, and slow requests are
    /// always logged.
    pub sample: Percent,
    /// A request that takes this long is slow. 0s: none is.
    pub slow: Period,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        let (path, format) = Default::default();
        Self { path, format, sample: Percent::new(100.0), slow: Period::from_secs(1) }
    }
}

/// Format of the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// The Common Log Format, as Apache writes it.
    Common,
    /// The Combined Log Format: `common`, with `Referer` and `User-Agent`.
    Combined,
}
