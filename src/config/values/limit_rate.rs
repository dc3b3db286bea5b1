//! `rate_limits.*.rate`: a number of tokens in a time.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Period;

/// A rate: `100/1m`. The number is 1 to 1,000,000,000, the time 1 ms to a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRate {
    tokens: u64,
    period: Period,
}

/// The largest number of a rate, a burst or a cost.
pub const MAX_TOKENS: u64 = 1_000_000_000;

impl LimitRate {
    /// The number of tokens in a period.
    pub fn tokens(self) -> u64 {
        self.tokens
    }

    /// The period.
    pub fn period(self) -> Duration {
        self.period.get()
    }
}

impl FromStr for LimitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a rate; write a number and a time, such as `100/1m` or `5/1s`");
        let (tokens, period) = text.split_once('/').ok_or_else(wrong)?;
        let tokens: u64 = tokens.trim().parse().map_err(|_| wrong())?;
        let period: Period = period.trim().parse().map_err(|why: String| match why.contains("year") {
            true => why,
            false => wrong(),
        })?;
        if !(1..=MAX_TOKENS).contains(&tokens) {
            return Err(format!("`{text}` is out of range; write a number from 1 to {MAX_TOKENS} before the `/`"));
        }
        if period.limit().is_none() {
            return Err(format!("`{text}` has no time; write a time of at least `1ms` behind the `/`"));
        }
        Ok(Self { tokens, period })
    }
}

impl fmt::Display for LimitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tokens, self.period)
    }
}

text_value!(LimitRate, "LimitRate", r"^\d+/\d+(ms|s|m|h)$", "a rate such as `100/1m`");

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_of_at_least_one_in_at_most_a_year() {
        let rate: LimitRate = "100/1m".parse().unwrap();
        assert_eq!((rate.tokens(), rate.period(), rate.to_string()), (100, Duration::from_secs(60), "100/1m".into()));
        assert!("1/8760h".parse::<LimitRate>().is_ok());
        for bad in ["", "100", "0/1s", "-1/1s", "1/0s", "1/8761h", "1.5/1s", "1/s", "a/1s", "2000000000/1s"] {
            assert!(bad.parse::<LimitRate>().is_err(), "{bad}");
        }
    }
}
