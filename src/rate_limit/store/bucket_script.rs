//! The script of a bucket in the store: its arguments and its reply.

use std::time::Duration;

use redis::{Cmd, Value};

use crate::config::values::LimitRate;

/// The text of the script. Redis 7 and Valkey 9 run it.
pub(super) const TEXT: &str = include_str!("bucket.lua");

/// A call of the script.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BucketCall {
    /// The key of the bucket in the store.
    pub(super) key: String,
    pub(super) rate: LimitRate,
    pub(super) burst: u64,
    /// Tokens to take; negative: to give back.
    pub(super) tokens: f64,
    /// Whether the bucket may refuse.
    pub(super) may_refuse: bool,
}

/// The reply of the script.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BucketReply {
    pub(super) admitted: bool,
    /// The time after which the tokens would be there.
    pub(super) wait: Duration,
    /// The debt in tokens.
    pub(super) debt: f64,
}

impl BucketCall {
    /// The command that runs the script by its digest.
    pub(super) fn by_digest(&self, digest: &str) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(digest);
        self.arguments(command)
    }

    /// The command that sends the script itself, for a server that does not know it.
    pub(super) fn by_text(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(TEXT);
        self.arguments(command)
    }

    fn arguments(&self, mut command: Cmd) -> Cmd {
        command.arg(1).arg(&self.key).arg(self.rate.tokens());
        command.arg(u64::try_from(self.rate.period().as_micros()).unwrap_or(u64::MAX)).arg(self.burst);
        command.arg(self.tokens).arg(if self.may_refuse { "take" } else { "add" });
        command
    }
}

impl BucketReply {
    /// Reads the reply. `None`: it is none of this script.
    pub(super) fn of(value: Value) -> Option<Self> {
        let (admitted, wait, debt) = redis::from_redis_value::<(u8, u64, f64)>(value).ok()?;
        Some(Self { admitted: admitted == 1, wait: Duration::from_micros(wait), debt })
    }
}
