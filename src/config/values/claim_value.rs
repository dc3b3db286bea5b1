//! A value of a claim: text, a number or a truth value.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that a claim is compared with, as text: `true` and `"true"` are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimValue(String);

impl ClaimValue {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ClaimValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = ClaimValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a whole number, `true` or `false`")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<ClaimValue, E> {
                Ok(ClaimValue(value.to_string()))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<ClaimValue, E> {
                Ok(ClaimValue(value.to_string()))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<ClaimValue, E> {
                Ok(ClaimValue(value.to_string()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ClaimValue, E> {
                Ok(ClaimValue(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

impl Serialize for ClaimValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl JsonSchema for ClaimValue {
    fn schema_name() -> Cow<'static, str> {
        "ClaimValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer", "boolean"] })
    }
}
