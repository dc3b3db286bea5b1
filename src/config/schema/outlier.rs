//! `upstreams.*.outlier`: passive outlier detection, enabled by default. `off` disables it.

use std::borrow::Cow;
use std::fmt;

use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::values::{Percent, Period};

/// The value that disables outlier detection.
const OFF: &str = "off";

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
        struct SectionOrOff;
        impl<'de> Visitor<'de> for SectionOrOff {
            type Value = OutlierDetection;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping or `off`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OutlierDetection, A::Error> {
                Outlier::deserialize(MapAccessDeserializer::new(map)).map(OutlierDetection::On)
            }
            /// A key without a value is treated as an absent key.
            fn visit_unit<E: Error>(self) -> Result<OutlierDetection, E> {
                Ok(OutlierDetection::default())
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OutlierDetection, E> {
                if text == OFF {
                    return Ok(OutlierDetection::Off);
                }
                Err(E::custom(format!("`{text}` where a mapping or `off` belongs; write `off`, or leave the key out")))
            }
        }
        deserializer.deserialize_any(SectionOrOff)
    }
}

impl Serialize for OutlierDetection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::On(rules) => rules.serialize(serializer),
            Self::Off => serializer.serialize_str(OFF),
        }
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
        json_schema!({ "anyOf": [generator.subschema_for::<Outlier>(), { "const": OFF }] })
    }
}
