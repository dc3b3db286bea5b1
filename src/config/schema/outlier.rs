//! `upstreams.*.outlier`: passive outlier detection, enabled by default. `off` disables it.

use std::borrow::Cow;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::{Percent, Period};
use super::section_or_off::{self, SectionOrOff};

/// `upstreams.*.outlier`: the settings, or `off`.
#[derive(Debug, Clone, PartialEq)]
pub enum OutlierDetection {
    /// Failing backends are ejected according to these settings.
    On(Outlier),
    /// No backend is ejected.
    Off,
}

impl OutlierDetection {
    /// The settings; `None` if outlier detection is off.
    pub fn rules(&self) -> Option<&Outlier> {
        match self {
            Self::On(rules) => Some(rules),
            Self::Off => None,
        }
    }

    /// Whether backends can be ejected.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self::On(Outlier::default())
    }
}

/// `upstreams.*.outlier`: ejects backends whose requests fail. `outlier: off` disables it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outlier {
    /// Number of consecutive failed attempts (connect, TLS, reset, timeout, protocol) that ejects a backend; 0: never.
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive: u32,
    /// Number of consecutive responses of 500 or more that ejects a backend. At least one other backend of its tier
    /// must have answered below 500 meanwhile. 0: never.
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_5xx: u32,
    /// Share of failed attempts and responses of 500 or more within `window` that ejects a backend; 0%: never.
    pub error_ratio: Percent,
    /// Time window of `error_ratio`.
    pub window: Period,
    /// Minimum number of requests within `window` for `error_ratio` to apply.
    #[schemars(range(min = 1, max = 1000000))]
    pub min_requests: u32,
    /// Duration of the first ejection. Each further ejection lasts twice as long as the one before.
    pub eject: Period,
    /// Maximum duration of an ejection. After this time without an ejection, a backend starts with `eject` again.
    pub max_eject: Period,
    /// Maximum share of ejected backends among those that take requests, rounded down. One backend may always be
    /// ejected, unless it is the only one.
    pub max_ejected: Percent,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive: 5,
            consecutive_5xx: 8,
            error_ratio: Percent::new(0.0),
            window: Period::from_secs(10),
            min_requests: 20,
            eject: Period::from_secs(10),
            max_eject: Period::from_secs(300),
            max_ejected: Percent::new(50.0),
        }
    }
}

impl<'de> Deserialize<'de> for OutlierDetection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match SectionOrOff::deserialize(deserializer)? {
            SectionOrOff::On(settings) => Self::On(settings),
            SectionOrOff::Off => Self::Off,
            SectionOrOff::Empty => Self::default(),
        })
    }
}

impl Serialize for OutlierDetection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        section_or_off::serialize(self.rules(), serializer)
    }
}

impl JsonSchema for OutlierDetection {
    fn schema_name() -> Cow<'static, str> {
        "OutlierDetection".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        section_or_off::json_schema::<Outlier>(generator)
    }
}
