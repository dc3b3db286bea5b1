//! Retry conditions: `connect`, `reset`, `timeout` or a status.

use std::fmt;
use std::str::FromStr;

/// One of `routes[].retry.when`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryWhen {
    /// No connection could be opened.
    Connect,
    /// The connection broke before the response head was complete.
    Reset,
    /// The backend sent nothing for longer than `timeouts.read`.
    Timeout,
    /// The backend responded with this status.
    Status(u16),
}

impl FromStr for RetryWhen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "connect" => Ok(Self::Connect),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            status => match status.parse() {
                Ok(status @ 400..=599) => Ok(Self::Status(status)),
                _ => Err(format!(
                    "`{text}` is no reason to retry; write `connect`, `reset`, `timeout` or a status from 400 to 599"
                )),
            },
        }
    }
}

impl fmt::Display for RetryWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}
